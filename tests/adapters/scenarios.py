"""The table: what an attachment does, whatever the adapter and whatever carries its bytes. test_scenarios.py runs it.

Strategy: a scenario is written once, for the face in frameworks.py. Its act is the engine's side, and says what it must
see there. How often the client half-closes is part of every expectation: never, unless a row says otherwise.
"""

from __future__ import annotations

import itertools
import select
import socket
import threading
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

import attrs
import pytest

from attachproto import (
    Accepted,
    Attach,
    Framing,
    LocalProtocolError,
    OutputClosed,
    Quirk,
    RawOutput,
    RemoteProtocolError,
    Stderr,
    Stdin,
    StdinClosed,
    Stdout,
    Systemerr,
    encode_frame,
)
from attachproto_adapters import (
    AttachError,
    AttachmentClosed,
    EngineReportedError,
    Line,
    OutputTooLarge,
    RequestRejected,
)
from tests.adapters.frameworks import WITH_STDIN, Attachment, Opener, Way, connected
from tests.adapters.scripted import (
    BOUND,
    Act,
    Peer,
    Task,
    accept,
    accepts,
    close,
    echo,
    peek,
    read_some,
    rejects,
    reset,
    say,
    stays,
    then,
    until_closed,
    write,
)
from tests.helpers import joined

MEGABYTE = 1024 * 1024

# More than an ordinary buffer holds.
MUCH = 2 * MEGABYTE

# More than the kernel takes for a peer that does not read; for TCP that is some 10 MB.
TOO_MUCH = 32 * MEGABYTE

# So often that both orders of two events are met.
RACES = 5


def pattern(size: int) -> bytes:
    """Bytes in which a lost, doubled or swapped piece shows, whatever its length."""
    return b"".join(number.to_bytes(4, "big") for number in range(size // 4 + 1))[:size]


def frames(data: bytes) -> bytes:
    """Stdout in frames as large as dockerd's."""
    return b"".join(encode_frame(Stdout(data[at : at + 32768])) for at in range(0, len(data), 32768))


HALVED = encode_frame(Stdout(b"halved"))[:-3]


@attrs.frozen
class Row:
    """A scenario with the values of its parameters.

    Attributes:
        half_closes: how often the client does it; ``None`` if that is left to a race.
        needs: what the way must offer.
    """

    name: str
    call: Callable[..., Coroutine[Any, Any, None]]
    values: dict[str, Any]
    half_closes: int | None
    needs: tuple[str, ...]

    def __str__(self) -> str:
        return self.name

    def fits(self, way: Way) -> bool:
        return all(getattr(way, need) for need in self.needs)


Written = Callable[..., Coroutine[Any, Any, None]]


class Table(list[Row]):
    """Scenarios, and their rows."""

    def scenario(
        self, *, half_closes: int | None = 0, needs: tuple[str, ...] = (), **cases: Iterable[Any]
    ) -> Callable[[Written], Written]:
        """Take a scenario: one row for each combination of the values that are given for its parameters."""

        def add(call: Written) -> Written:
            for number, values in enumerate(itertools.product(*cases.values())):
                name = f"{call.__name__}-{number}" if cases else call.__name__
                self.append(Row(name, call, dict(zip(cases, values, strict=True)), half_closes, needs))
            return call

        return add


TABLE = Table()
scenario = TABLE.scenario


async def everything(attachment: Attachment) -> list[Any]:
    return joined([event async for event in attachment])


# ---- receiving ----


@scenario()
async def output_apart(opened: Opener) -> None:
    output: list[Any] = [Stdout(b"one\n"), Stderr(b"two\n"), Stdout(b"three\n")]
    assert await everything(await opened(accepts(*output))) == output


@scenario()
async def output_of_a_terminal(opened: Opener) -> None:
    attachment = await opened(accepts(RawOutput(b"\x01\0\0\0\0\0\0\x01$ "), framing=Framing.RAW), tty=True)
    assert await everything(attachment) == [RawOutput(b"\x01\0\0\0\0\0\0\x01$ ")]


@scenario(status_code=[101, 200])
async def output_in_one_segment_with_the_answer(opened: Opener, status_code: int) -> None:
    """Where docker-py loses it: everything up to the end is there before the first read."""
    everything = accepts(Stdout(b"first"), Stderr(b"second"), status_code=status_code)
    for _ in range(RACES):
        assert await (await opened(everything)).communicate() == (b"first", b"second")


@scenario(status_code=[101, 200])
async def answer_byte_by_byte(opened: Opener, status_code: int) -> None:
    def drip(peer: Peer) -> None:
        if peer.sock.family != socket.AF_UNIX:
            peer.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for event in (Accepted(Framing.MULTIPLEXED, status_code), Stdout(b"out"), Stderr(b"err")):
            said = peer.connection.send(event)
            assert isinstance(said, bytes)
            for at in range(len(said)):
                peer.write(said[at : at + 1])
        peer.send(OutputClosed())
        peer.until_closed()

    assert await (await opened(drip)).communicate() == (b"out", b"err")


@scenario()
async def large_output_is_whole(opened: Opener) -> None:
    data = pattern(MUCH)
    stderr = frames(data).replace(b"\x01\0\0\0\0\0\x80\0", b"\x02\0\0\0\0\0\x80\0")
    attachment = await opened(then(accept, write(frames(data) + stderr), say(OutputClosed()), until_closed))
    assert await attachment.communicate() == (data, data)


@scenario()
async def the_end_comes_again_and_again_and_closes(opened: Opener) -> None:
    attachment = await opened(accepts(Stdout(b"x")))  # the act waits for the close
    assert await attachment.receive() == Stdout(b"x")
    assert [await attachment.receive() for _ in range(3)] == [OutputClosed()] * 3
    await opened.served()
    assert await everything(attachment) == []
    assert await attachment.communicate() == (b"", b"")


@scenario()
async def iteration_goes_on_where_it_was_left(opened: Opener) -> None:
    attachment = await opened(accepts(Stdout(b"a"), Stderr(b"b"), Stdout(b"c")))
    async for event in attachment:
        assert event == Stdout(b"a")
        break
    assert await everything(attachment) == [Stderr(b"b"), Stdout(b"c")]


@scenario()
async def a_cut_inside_a_frame_is_told_after_what_came(opened: Opener) -> None:
    attachment = await opened(then(accept, write(encode_frame(Stderr(b"whole")) + HALVED)))
    assert await attachment.receive() == Stderr(b"whole")
    assert await attachment.receive() == Stdout(b"hal")
    for _ in range(2):
        with pytest.raises(RemoteProtocolError, match="3 are missing"):
            await attachment.receive()


@scenario()
async def communicate_tells_of_a_cut(opened: Opener) -> None:
    attachment = await opened(then(accept, write(HALVED)))
    for _ in range(2):
        with pytest.raises(RemoteProtocolError, match="3 are missing"):
            await attachment.communicate()


@scenario()
async def garbage_is_told_after_what_came(opened: Opener) -> None:
    attachment = await opened(then(accept, write(encode_frame(Stdout(b"good")) + b"\x09garbage"), until_closed))
    assert await attachment.receive() == Stdout(b"good")
    with pytest.raises(RemoteProtocolError, match="unknown stream type 9"):
        await attachment.receive()


@scenario(needs=("breaks",))
async def a_reset_is_the_frameworks_error_and_comes_after_what_came(opened: Opener) -> None:
    read = threading.Event()

    def act(peer: Peer) -> None:
        peer.send(Accepted(Framing.MULTIPLEXED), Stdout(b"before"))
        assert read.wait(BOUND)
        peer.reset()

    attachment = await opened(act, WITH_STDIN)
    await attachment.send_stdin(b"never read")
    assert await attachment.receive() == Stdout(b"before")
    read.set()
    with pytest.raises(opened.framework.broken):
        await attachment.receive()


@scenario(needs=("breaks",))
async def a_reset_never_becomes_a_clean_end(opened: Opener) -> None:
    """Linux tells of a reset once, and from then on of an end."""
    attachment = await opened(then(accept, peek, reset), WITH_STDIN)
    await attachment.send_stdin(b"never read")
    for _ in range(3):
        with pytest.raises(opened.framework.broken):
            await attachment.receive()
    with pytest.raises(opened.framework.broken):
        await attachment.communicate()


# ---- lines ----


@scenario()
async def lines_of_each_stream_in_the_order_in_which_they_end(opened: Opener) -> None:
    output = (Stdout(b"one\ntw"), Stderr(b"three\r\nfo"), Stdout(b"o\n"), Stderr("ür".encode()), Systemerr(b"five"))
    attachment = await opened(accepts(*output))
    assert [line async for line in attachment.lines()] == [
        Line("one", Stdout),
        Line("three", Stderr),
        Line("two", Stdout),
        Line("foür", Stderr, ended=False),
        Line("five", Systemerr, ended=False),
    ]


@scenario()
async def lines_of_a_terminal(opened: Opener) -> None:
    attachment = await opened(accepts(RawOutput(b"$ exit\r\nbye"), framing=Framing.RAW), tty=True)
    lines = [line async for line in attachment.lines("latin-1", max_length=4)]
    assert lines == [
        Line("$ ex", RawOutput, ended=False),
        Line("it", RawOutput),
        Line("bye", RawOutput, ended=False),
    ]


@scenario()
async def lines_and_then_the_error(opened: Opener) -> None:
    attachment = await opened(then(accept, write(encode_frame(Stdout(b"good\n")) + HALVED)))
    lines = attachment.lines()
    assert await anext(lines) == Line("good", Stdout)
    with pytest.raises(RemoteProtocolError, match="3 are missing"):
        await anext(lines)


@scenario()
async def lines_in_no_encoding_at_all(opened: Opener) -> None:
    attachment = await opened(accepts(Stdout(b"x")))
    with pytest.raises(LookupError):
        attachment.lines("no such encoding")
    with pytest.raises(ValueError, match="max_length"):
        attachment.lines(max_length=0)
    assert await attachment.communicate() == (b"x", b"")


# ---- sending ----


@scenario(half_closes=1)
async def stdin_and_its_end(opened: Opener) -> None:
    """The engine answers only once stdin has ended, so a half-close it is, and output comes after it."""
    attachment = await opened(echo, WITH_STDIN)
    await attachment.send_stdin(b"one ")
    await attachment.send_stdin(b"")
    await attachment.send_stdin(b"two")
    await attachment.close_stdin()
    assert await attachment.communicate() == (b"one two", b"")


@scenario()
async def nothing_half_closes_unasked(opened: Opener) -> None:
    def act(peer: Peer) -> None:
        peer.accept()
        assert peer.read_stdin(5) == b"12345"
        peer.send(Stdout(b"x"), OutputClosed())
        assert peer.until_closed() == b""

    attachment = await opened(act, WITH_STDIN)
    await attachment.send_stdin(b"12345")
    assert await attachment.communicate() == (b"x", b"")


@scenario()
async def what_was_sent_has_left(opened: Opener) -> None:
    """Who closes once a send has come back loses nothing of it."""
    data = pattern(MUCH)
    arrived: list[bytes] = []

    def act(peer: Peer) -> None:
        peer.accept()
        while piece := peer.sock.recv(4096):  # so that it lags behind
            arrived.append(piece)

    attachment = await opened(act, WITH_STDIN)
    await attachment.send_stdin(data)
    await attachment.aclose()
    await opened.served()
    assert b"".join(arrived) == data


@scenario()
async def sending_what_was_not_attached(opened: Opener) -> None:
    def act(peer: Peer) -> None:
        peer.accept()
        assert peer.until_closed() == b""

    attachment = await opened(act)
    for call in (
        lambda: attachment.send_stdin(b"x"),
        attachment.close_stdin,
        lambda: attachment.communicate(b"x"),
    ):
        with pytest.raises(
            LocalProtocolError, match=r"was not asked for: attach with AttachOptions\(stdin=True\).*input="
        ):
            await call()


@scenario(half_closes=1)
async def sending_after_the_end_of_stdin(opened: Opener) -> None:
    attachment = await opened(then(echo), WITH_STDIN)
    await attachment.close_stdin()
    for call in (
        lambda: attachment.send_stdin(b"x"),
        attachment.close_stdin,
        lambda: attachment.communicate(b"x"),
    ):
        with pytest.raises(LocalProtocolError, match="stdin was ended before"):
            await call()
    assert await attachment.communicate() == (b"", b"")


@scenario()
async def sending_after_the_end_of_output(opened: Opener) -> None:
    attachment = await opened(accepts(Stdout(b"x")), WITH_STDIN)
    assert await everything(attachment) == [Stdout(b"x")]
    with pytest.raises(opened.framework.broken):
        await attachment.send_stdin(b"x")
    with pytest.raises(opened.framework.broken):
        await attachment.close_stdin()
    with pytest.raises(opened.framework.broken):
        await attachment.communicate(b"too late")


@scenario(needs=("breaks", "keeps_output"))
async def a_broken_pipe_while_sending_leaves_the_output(opened: Opener) -> None:
    gone = threading.Event()

    def act(peer: Peer) -> None:
        peer.accept()
        peer.read_stdin(1)
        peer.send(Stdout(b"last words"))
        peer.send(OutputClosed())
        peer.sock.shutdown(socket.SHUT_RD)
        peer.close()
        gone.set()

    attachment = await opened(act, WITH_STDIN)
    await attachment.send_stdin(b"x")
    await opened.framework.until(gone)
    with pytest.raises(opened.framework.broken):
        await attachment.send_stdin(bytes(TOO_MUCH))  # TCP hears of it by what it has sent
    with pytest.raises(LocalProtocolError):
        await attachment.send_stdin(b"x")
    assert await attachment.receive() == Stdout(b"last words")
    assert await attachment.receive() == OutputClosed()


@scenario(half_closes=1)
async def one_sends_while_another_receives(opened: Opener) -> None:
    data = pattern(MUCH)
    received: list[bytes] = []
    arrived: list[bytes] = []

    def act(peer: Peer) -> None:
        peer.accept()
        printing = Task(lambda: peer.write(frames(data)))
        arrived.append(peer.stdin_to_end())
        printing.result()
        peer.send(OutputClosed())
        peer.until_closed()

    attachment = await opened(act, WITH_STDIN)

    async def send() -> None:
        for at in range(0, len(data), 100_000):
            await attachment.send_stdin(data[at : at + 100_000])
        await attachment.close_stdin()

    async def receive() -> None:
        received.extend([event.data async for event in attachment])

    await opened.framework.together(send(), receive())
    assert b"".join(received) == data
    assert arrived == [data]


# ---- communicate ----


@scenario()
async def communicate_with_none_sends_nothing_and_leaves_stdin_open(opened: Opener) -> None:
    def act(peer: Peer) -> None:
        peer.accept()
        peer.send(Stdout(b"x"), OutputClosed())
        assert peer.until_closed() == b""

    assert await (await opened(act, WITH_STDIN)).communicate() == (b"x", b"")


@scenario(half_closes=1, input=[b"", b"SELECT 1;\n", bytearray(b"mutable"), memoryview(b"a view")])
async def communicate_half_closes(opened: Opener, input: bytes) -> None:
    def act(peer: Peer) -> None:
        peer.accept()
        peer.send(Stdout(b"got "), Stdout(peer.stdin_to_end()), Stderr(b"bye"), OutputClosed())
        peer.until_closed()

    assert await (await opened(act, WITH_STDIN)).communicate(input) == (b"got " + bytes(input), b"bye")


@scenario(half_closes=1)
async def communicate_with_much_in_both_directions(opened: Opener) -> None:
    """A `cat` that reads only when it has printed: whoever sends first and reads later hangs here."""

    def cat(peer: Peer) -> None:
        peer.accept()
        while isinstance(event := peer.next_event(), Stdin):
            peer.send(Stdout(event.data), Stderr(event.data[:1]))
        assert event == StdinClosed()
        peer.send(OutputClosed())
        peer.until_closed()

    data = pattern(MUCH)
    stdout, stderr = await (await opened(cat, WITH_STDIN)).communicate(data)
    assert stdout == data
    assert stderr


@scenario(needs=("breaks",))
async def communicate_with_a_container_that_never_reads(opened: Opener) -> None:
    data = pattern(MUCH)
    ended = threading.Event()

    def act(peer: Peer) -> None:
        peer.accept()
        peer.write(frames(data))
        peer.send(OutputClosed())
        assert ended.wait(BOUND)

    attachment = await opened(act, WITH_STDIN)
    assert await attachment.communicate(bytes(TOO_MUCH)) == (data, b"")
    ended.set()
    # Ended is ended, though the input never went out.
    assert await attachment.communicate(bytes(TOO_MUCH)) == (data, b"")
    with pytest.raises(opened.framework.broken):
        await attachment.send_stdin(b"x")


@scenario(needs=("breaks", "keeps_output", "unix"))
async def communicate_goes_on_reading_after_a_broken_pipe(opened: Opener) -> None:
    data = pattern(100_000)

    def act(peer: Peer) -> None:
        peer.accept()
        peer.read_stdin(1)
        peer.sock.shutdown(socket.SHUT_RD)  # what is sent from here on breaks the pipe
        peer.send(Stdout(data))
        peer.send(OutputClosed())
        peer.close()

    assert await (await opened(act, WITH_STDIN)).communicate(bytes(TOO_MUCH)) == (data, b"")


@scenario(needs=("breaks",))
async def a_reset_between_frames_once_our_write_failed_is_an_end(opened: Opener) -> None:
    """So Podman ends where somebody still sends to a container that is gone."""
    act = then(accept, read_some, say(Stdout(b"out"), Stderr(b"err")), reset)
    for _ in range(RACES):
        attachment = await opened(act, WITH_STDIN)
        if not opened.way.keeps_output:
            # It is an end that may have cost output.
            with pytest.raises(opened.framework.broken):
                await attachment.communicate(bytes(TOO_MUCH))
            continue
        output = await attachment.communicate(bytes(TOO_MUCH))
        # TCP may throw away what has not been read when the reset comes.
        assert output == (b"out", b"err") or opened.way.network == "tcp"


@scenario(needs=("breaks", "keeps_output"))
async def a_reset_inside_a_frame_is_no_end(opened: Opener) -> None:
    act = then(accept, read_some, write(HALVED), reset)
    for _ in range(RACES):
        attachment = await opened(act, WITH_STDIN)
        with pytest.raises((RemoteProtocolError, *opened.framework.broken)):
            await attachment.communicate(bytes(TOO_MUCH))


@scenario(needs=("breaks", "keeps_output", "tcp"), half_closes=None, input=[b"", b"x"])
async def a_reset_before_stdin_could_be_sent(opened: Opener, input: bytes) -> None:
    """A write or a half-close that fails, whichever way it is told of first, ends stdin and not the reading."""
    gone = threading.Event()

    def act(peer: Peer) -> None:
        peer.send(Accepted(Framing.MULTIPLEXED), Stdout(b"out"))
        peer.reset()
        gone.set()

    attachment = await opened(act, WITH_STDIN)
    await opened.framework.until(gone)
    assert await attachment.communicate(input) == (b"out", b"")


@scenario(needs=("breaks",), half_closes=1)
async def a_reset_without_a_write_that_failed_is_an_error(opened: Opener) -> None:
    ended = threading.Event()

    def act(peer: Peer) -> None:
        peer.send(Accepted(Framing.MULTIPLEXED), Stdout(b"out"))
        assert ended.wait(BOUND)
        peer.reset()

    attachment = await opened(act, WITH_STDIN)
    await attachment.send_stdin(b"never read")
    await attachment.close_stdin()
    assert await attachment.receive() == Stdout(b"out")
    ended.set()
    with pytest.raises(opened.framework.broken):
        await attachment.communicate()


@scenario(needs=("breaks",), half_closes=1)
async def a_reset_once_all_input_has_left_is_an_error(opened: Opener) -> None:
    def act(peer: Peer) -> None:
        peer.accept()
        poll = select.poll()
        poll.register(peer.sock, select.POLLRDHUP)
        assert poll.poll(BOUND * 1000), "the client has not ended stdin"
        peer.reset()

    attachment = await opened(act, WITH_STDIN)
    for _ in range(2):
        with pytest.raises(opened.framework.broken):
            await attachment.communicate(b"never read")


@scenario(half_closes=1)
async def communicate_after_its_end_gives_the_same(opened: Opener) -> None:
    attachment = await opened(echo, WITH_STDIN)
    for _ in range(3):
        assert await attachment.communicate(b"x") == (b"x", b"")
    assert await attachment.communicate() == (b"x", b"")
    with pytest.raises(ValueError, match="other input"):
        await attachment.communicate(b"y")


@scenario()
async def communicate_gives_what_receive_has_not(opened: Opener) -> None:
    attachment = await opened(accepts(Stdout(b"first"), Stderr(b"second")))
    assert await attachment.receive() == Stdout(b"first")
    assert await attachment.communicate() == (b"", b"second")


@scenario()
async def communicate_with_a_terminal(opened: Opener) -> None:
    attachment = await opened(accepts(RawOutput(b"$ exit\r\n"), framing=Framing.RAW), tty=True)
    assert await attachment.communicate() == (b"$ exit\r\n", b"")


@scenario(half_closes=1)
async def input_of_the_wrong_type_changes_nothing(opened: Opener) -> None:
    attachment = await opened(echo, WITH_STDIN)
    with pytest.raises(TypeError, match=r"text\.encode\(\)"):
        await attachment.communicate("text")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"text\.encode\(\)"):
        await attachment.send_stdin("text")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="max_output is an int"):
        await attachment.communicate(b"abc", max_output="7")  # type: ignore[arg-type]
    assert await attachment.communicate(b"abc") == (b"abc", b"")


@scenario(half_closes=None, input=[None, b"x"])
async def max_output(opened: Opener, input: bytes | None) -> None:
    attachment = await opened(then(accept, say(Stdout(b"12345"), Stderr(b"678")), until_closed), WITH_STDIN)
    with pytest.raises(OutputTooLarge, match="more than 7 bytes") as caught:
        await attachment.communicate(input, max_output=7)
    assert (caught.value.stdout, caught.value.stderr) == (b"12345", b"67")


@scenario()
async def max_output_that_is_just_reached(opened: Opener) -> None:
    attachment = await opened(accepts(Stdout(b"12345"), Stderr(b"678")))
    assert await attachment.communicate(max_output=8) == (b"12345", b"678")


@scenario()
async def max_output_counts_what_a_former_call_read(opened: Opener) -> None:
    attachment = await opened(accepts(Stdout(b"12345"), Stderr(b"678"), Stdout(b"9")))
    with pytest.raises(OutputTooLarge):
        await attachment.communicate(max_output=4)
    with pytest.raises(OutputTooLarge) as caught:
        await attachment.communicate(max_output=7)
    assert (caught.value.stdout, caught.value.stderr) == (b"12345", b"67")
    assert await attachment.communicate() == (b"123459", b"678")


@scenario()
async def max_output_bounds_what_the_engine_reports_too(opened: Opener) -> None:
    attachment = await opened(accepts(*(Systemerr(b"e" * 1000), Stdout(b"o")) * 100))
    with pytest.raises(OutputTooLarge):
        await attachment.communicate(max_output=10_000)


@scenario()
async def an_error_of_the_engines_comes_at_the_end_with_both_outputs(opened: Opener) -> None:
    output = (Stdout(b"out"), Systemerr(b"disk "), Stderr(b"err"), Systemerr(b"is full\n"), Stdout(b"more"))
    attachment = await opened(accepts(*output))
    with pytest.raises(EngineReportedError, match=r"the engine reports: disk is full$") as caught:
        await attachment.communicate()
    assert caught.value.message == "disk is full"
    assert (caught.value.stdout, caught.value.stderr) == (b"outmore", b"err")


@scenario()
async def an_error_of_the_engines_is_an_event_like_the_others(opened: Opener) -> None:
    output: list[Any] = [Stdout(b"out"), Systemerr(b"disk is full\n"), Stdout(b"more")]
    assert await everything(await opened(accepts(*output))) == output


# ---- closing ----


@scenario()
async def close_wakes_who_receives(opened: Opener) -> None:
    for _ in range(RACES):
        attachment = await opened(stays())

        async def receive(attachment: Attachment = attachment) -> None:
            with pytest.raises(AttachmentClosed):
                await attachment.receive()

        await opened.framework.together(receive(), attachment.aclose())


@scenario(needs=("breaks",), half_closes=0, call=["send_stdin", "communicate"])
async def close_wakes_who_sends(opened: Opener, call: str) -> None:
    for _ in range(RACES):
        begun, woken = threading.Event(), threading.Event()

        def act(peer: Peer, begun: threading.Event = begun, woken: threading.Event = woken) -> None:
            peer.accept()
            peer.read_stdin(1)
            begun.set()
            assert woken.wait(BOUND)  # and nothing is read meanwhile

        attachment = await opened(act, WITH_STDIN)

        async def send(attachment: Attachment = attachment) -> None:
            with pytest.raises(AttachmentClosed):
                await getattr(attachment, call)(bytes(TOO_MUCH))

        async def leave(attachment: Attachment = attachment, begun: threading.Event = begun) -> None:
            await opened.framework.until(begun)
            await attachment.aclose()

        await opened.framework.together(send(), leave())
        woken.set()


@scenario()
async def closed_is_closed(opened: Opener) -> None:
    attachment = await opened(stays(), WITH_STDIN)
    await attachment.aclose()
    await attachment.aclose()
    for misuse in (
        attachment.receive,
        lambda: everything(attachment),
        lambda: attachment.send_stdin(b"x"),
        attachment.close_stdin,
        attachment.communicate,
        lambda: attachment.communicate(b""),
        lambda: attachment.communicate(b"x"),
    ):
        with pytest.raises(AttachmentClosed):
            await misuse()


@scenario(call=["aclose", "detach"])
async def the_engine_sees_the_close(opened: Opener, call: str) -> None:
    attachment = await opened(stays(), WITH_STDIN)
    await getattr(attachment, call)()
    await opened.served()


@scenario(error=[None, KeyError, KeyboardInterrupt])
async def leaving_the_block_closes(opened: Opener, error: type[BaseException] | None) -> None:
    attachment = await opened(stays())

    async def use() -> None:
        async with attachment as same:
            assert same is attachment
            if error is not None:
                raise error

    if error is None:
        await use()
    else:
        with pytest.raises(error):
            await use()
    await opened.served()


@scenario()
async def what_was_read_before_the_close_is_still_delivered(opened: Opener) -> None:
    attachment = await opened(stays(Stdout(b"a"), Stderr(b"b")))
    assert await attachment.receive() == Stdout(b"a")
    await attachment.aclose()
    assert await attachment.receive() == Stderr(b"b")
    with pytest.raises(AttachmentClosed, match="the attachment is closed"):
        await attachment.receive()


# ---- opening ----


@scenario()
async def a_refusal_has_the_engines_words(opened: Opener) -> None:
    with pytest.raises(RequestRejected) as caught:
        await opened(rejects(409, "container web is paused"))
    assert (caught.value.status_code, caught.value.message) == (409, "container web is paused")
    assert str(caught.value) == "container web is paused (409 to POST /containers/web/attach)"


@scenario(needs=("own", "breaks", "keeps_output"))
async def a_refusal_that_comes_before_the_request(opened: Opener) -> None:
    """Who refuses may close before it has read; what it says is told, and not that nobody reads."""
    client, server = connected(opened.way.network)
    with server:
        server.sendall(b"HTTP/1.1 503 Busy\r\nContent-Length: 5\r\n\r\nbusy\n")
    assert opened.way.own is not None
    stream = await opened.way.own(client)
    with pytest.raises(RequestRejected, match=r"busy \(503"):
        await opened.framework.open_attachment(stream, Attach("web", tty=False))


NO_STREAM: list[tuple[Act, type[Exception], str]] = [
    (write(b"SSH-2.0-OpenSSH_9.2\r\n"), RemoteProtocolError, "not HTTP.*SSH"),
    (write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html>"), RemoteProtocolError, "200 text/html"),
    (write(b"HTTP/1.1 301 Moved Permanently\r\nLocation: /x\r\n\r\n"), RemoteProtocolError, "redirect"),
    (then(write(b"HTTP/1.1 101 UPGR"), close), RemoteProtocolError, "ended inside"),
    (close, RemoteProtocolError, "before any answer"),
]


@scenario(what=NO_STREAM)
async def what_opens_no_stream(opened: Opener, what: tuple[Act, type[Exception], str]) -> None:
    act, error, match = what
    with pytest.raises(error, match=match):
        await opened(act)
    await opened.served()


@scenario(needs=("own",))
async def an_answer_that_does_not_tell_the_framing(opened: Opener) -> None:
    with pytest.raises(LocalProtocolError, match="tty="):
        await opened(accepts(framing=Framing.RAW), tty=None)
    await opened.served()


@scenario()
async def an_answer_that_tells_the_framing_by_itself(opened: Opener) -> None:
    attachment = await opened(accepts(Stdout(b"x")), tty=None)
    assert attachment.accepted.framing is Framing.MULTIPLEXED
    assert await attachment.communicate() == (b"x", b"")


@scenario(needs=("own",))
async def who_was_given_a_connection_knows_no_engine(opened: Opener) -> None:
    attachment = await opened(accepts(Stdout(b"x")), WITH_STDIN)
    assert attachment.inspected is None
    assert attachment.can_half_close
    assert not attachment.half_close_ends_attach
    with pytest.raises(AttachError, match=r"wait.*open_attachment"):
        await attachment.wait()
    with pytest.raises(AttachError, match=r"resize.*open_attachment"):
        await attachment.resize(1, 2)
    assert await attachment.communicate() == (b"x", b"")


@scenario()
async def quirks_are_those_that_were_named(opened: Opener) -> None:
    words = b"Error: detached from container\n"
    for quirks, last in (None, Stderr(words)), ([Quirk.DETACHED_TEXT], Systemerr(words)):
        attachment = await opened(accepts(Stdout(b"x"), Stderr(words)), WITH_STDIN, quirks=quirks)
        assert await everything(attachment) == [Stdout(b"x"), last]
