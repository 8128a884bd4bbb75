"""The input of a ``communicate``: what it gives to a transport, and what is refused before anything is sent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attachproto import SEND_EOF, LocalProtocolError, State, Stdin, StdinClosed
from attachproto_adapters import HalfCloseEndsAttach, HalfCloseUnsupported, InspectedContainer, InspectedExec
from attachproto_adapters._flows._life import InputState
from attachproto_adapters._flows._stdin import WRITE_SIZE, Feed, Sendable, as_bytes, check_input, slices


class Outgoing:
    """What makes bytes of the input. With TLS they are others, and more, and the end is bytes, too.

    Attributes:
        said: what was to be sent.
    """

    def __init__(self, *, tls: bool = False) -> None:
        self.said: list[Stdin | StdinClosed] = []
        self._tls = tls

    def __call__(self, event: Stdin | StdinClosed) -> Sendable:
        self.said.append(event)
        if isinstance(event, StdinClosed):
            return b"close_notify" if self._tls else SEND_EOF
        return b"<" + event.data + b">" if self._tls else event.data


def state(feed: Feed) -> InputState:
    """It changes behind mypy's back."""
    return feed.state


def taken(feed: Feed, most: int) -> bytes:
    """All that it gives to a transport that takes no more than so much at once; ``!`` is a half-close."""
    sent = b""
    while (data := feed.next()) is not None:
        if data is SEND_EOF:
            sent += b"!"
            feed.sent(0)
        else:
            assert data
            sent += data[:most]
            feed.sent(len(data[:most]))
    return sent


@pytest.mark.parametrize("most", [1, WRITE_SIZE - 1, WRITE_SIZE, 10 * WRITE_SIZE])
@pytest.mark.parametrize("size", [0, 1, WRITE_SIZE, WRITE_SIZE + 1, 3 * WRITE_SIZE])
def test_all_of_it_in_slices_and_then_the_end(size: int, most: int) -> None:
    if size > 1 and most == 1:
        most = 1000
    input, outgoing = bytes(range(256)) * (size // 256) + bytes(size % 256), Outgoing()
    feed = Feed(input, outgoing)
    assert state(feed) is InputState.SENDING
    assert taken(feed, most) == input + b"!"
    assert state(feed) is InputState.SENT
    assert feed.next() is None
    slices = [event.data for event in outgoing.said if isinstance(event, Stdin)]
    assert b"".join(slices) == input
    assert all(len(each) == WRITE_SIZE for each in slices[:-1])
    assert outgoing.said[-1:] == [StdinClosed()]
    assert outgoing.said.count(StdinClosed()) == 1


def test_with_tls_the_end_is_bytes_and_may_be_cut_as_well() -> None:
    feed = Feed(b"x" * (WRITE_SIZE + 1), Outgoing(tls=True))
    assert taken(feed, 5) == b"<" + b"x" * WRITE_SIZE + b"><x>close_notify"
    assert state(feed) is InputState.SENT


@given(st.lists(st.integers(0, 9)))
def test_what_was_not_taken_comes_again_and_is_not_encoded_again(sizes: list[int]) -> None:
    """So an interrupted one goes on where it was, also in the middle of what TLS has made."""
    input, outgoing = b"some input for it", Outgoing(tls=True)
    feed = Feed(input, outgoing)
    sent = b""
    for size in sizes:
        data = feed.next()
        assert data is not SEND_EOF
        if data is None:
            break
        assert feed.next() == data
        sent += data[:size]
        feed.sent(len(data[:size]))
    assert sent + taken(feed, 100) == b"<" + input + b">close_notify"
    assert outgoing.said == [Stdin(input), StdinClosed()]


@pytest.mark.parametrize("before", [0, 1, 3])
def test_failed_it_gives_nothing_more(before: int) -> None:
    feed = Feed(b"x" * WRITE_SIZE * 2, Outgoing())
    for _ in range(before):
        data = feed.next()
        if data is not None and data is not SEND_EOF:
            feed.sent(len(data) - 1)
    feed.move(InputState.REFUSED)
    assert feed.next() is None
    assert state(feed) is InputState.REFUSED


def test_a_broken_pipe_that_is_known_before_anything_is_sent_fails_it() -> None:
    def outgoing(event: Stdin | StdinClosed) -> Sendable:
        raise BrokenPipeError

    feed = Feed(b"x", outgoing)
    assert feed.next() is None
    assert state(feed) is InputState.REFUSED


def test_lost_it_is_not_over() -> None:
    """Who calls again is told so first, and may then give it up."""
    feed = Feed(b"x", Outgoing())
    feed.next()
    feed.move(InputState.LOST)
    assert state(feed) is InputState.LOST


# ---- what is refused ----

CAT = InspectedContainer(tty=False, open_stdin=True, stdin_once=True, status="running", exit_code=0, podman=None)


def check_stdin_input(
    state: State,
    inspected: InspectedContainer | InspectedExec | None,
    *,
    asked: bool = True,
    can_half_close: bool = True,
) -> None:
    check_input(state, inspected, asked=asked, can_half_close=can_half_close, intermediary=None)


@pytest.mark.parametrize("state", [state for state in State if state is not State.STREAMING])
def test_without_stdin_nothing_can_be_sent(state: State) -> None:
    with pytest.raises(LocalProtocolError, match=r"stdin cannot be used any more|was ended before"):
        check_stdin_input(state, CAT)


@pytest.mark.parametrize("inspected", [None, CAT, InspectedExec(tty=False, open_stdin=True, podman=None)])
def test_where_it_can_be_sent(inspected: InspectedContainer | InspectedExec | None) -> None:
    check_stdin_input(State.STREAMING, inspected)
    with pytest.raises(HalfCloseUnsupported):
        check_stdin_input(State.STREAMING, inspected, can_half_close=False)


def test_an_exec_without_stdin() -> None:
    with pytest.raises(LocalProtocolError, match="AttachStdin"):
        check_stdin_input(State.STREAMING, InspectedExec(tty=False, open_stdin=False, podman=None))


def test_stdin_that_was_not_asked_for_is_told_how_to_ask() -> None:
    with pytest.raises(LocalProtocolError, match=r"AttachOptions\(stdin=True\).*input="):
        check_stdin_input(State.DONE, CAT, asked=False)


def test_a_str_is_told_how_to_become_bytes() -> None:
    for call in (as_bytes, lambda data: b"".join(slices(data))):
        with pytest.raises(TypeError, match=r"not str: .*text\.encode\(\)"):
            call("text")
        with pytest.raises(TypeError, match="takes bytes, not int"):
            call(5)  # type: ignore[arg-type]
        assert call(bytearray(b"abc")) == b"abc"  # type: ignore[arg-type]


def test_what_is_sent_comes_in_slices() -> None:
    data = bytes(range(256)) * 1024
    assert [len(piece) for piece in slices(data[: 2 * WRITE_SIZE + 1])] == [WRITE_SIZE, WRITE_SIZE, 1]
    assert b"".join(slices(memoryview(data).cast("I"))) == data  # type: ignore[arg-type]
    assert list(slices(data[:WRITE_SIZE])) == [data[:WRITE_SIZE]]
    assert not any(slices(b""))


def test_where_a_half_close_ends_the_attach() -> None:
    inspected = InspectedContainer(
        tty=False, open_stdin=True, stdin_once=False, status="running", exit_code=0, podman=None
    )
    with pytest.raises(HalfCloseEndsAttach, match="StdinOnce"):
        check_stdin_input(State.STREAMING, inspected)
