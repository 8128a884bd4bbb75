"""What single engines write otherwise: with a switch as bytes and events in every cut, without one by recording.

The recordings that a switch changes are in test_recordings.py; docs/quirks.md is the page to all of it.
"""

from __future__ import annotations

import pathlib
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attachproto import (
    CLIENT,
    NEED_DATA,
    SERVER,
    Accepted,
    Attach,
    AttachOptions,
    Connection,
    ExecStart,
    FrameDecoder,
    Framing,
    LocalProtocolError,
    Logs,
    OutputClosed,
    Quirk,
    RawOutput,
    Rejected,
    RemoteProtocolError,
    Stderr,
    Stdin,
    StdinClosed,
    Stdout,
    StreamRequest,
    Systemerr,
    demux,
)
from tests.helpers import EOF, H101R, H200R, check_every_cut, client, cut_at, frame, joined, read_all
from tests.replay.expectations import Exchange, read_expectations
from tests.replay.replayer import Replay, replay

NEWLINE = Quirk.NEWLINE_OUTSIDE_FRAME
DETACHED_TEXT = Quirk.DETACHED_TEXT
TEXT = b"Error: detached from container\n"
WORDS = frame(2, TEXT)
UNKNOWN = "unknown stream type"
RAW_STREAM = "application/vnd.docker.raw-stream"
HEADERS = (("content-type", RAW_STREAM), ("connection", "Upgrade"), ("upgrade", "tcp"))

Case = tuple[bytes, list[Any], str | None]


def line(kind: int, text: bytes) -> bytes:
    """A line as Podman 4.3 replays it."""
    return frame(kind, text) + b"\n"


def decoder(*quirks: Quirk) -> Callable[[], FrameDecoder]:
    return lambda: FrameDecoder(quirks=quirks)


# ---- the switches ----


def test_nothing_is_switched_on_by_itself() -> None:
    assert read_all(FrameDecoder(), [frame(1, b"a") + WORDS, EOF]) == (
        [Stdout(b"a"), Stderr(TEXT), OutputClosed()],
        None,
    )
    events, error = read_all(FrameDecoder(), [line(1, b"a")])
    assert events == [Stdout(b"a")]
    assert str(error).endswith("a replay of logs by Podman before 4.4, which Quirk.NEWLINE_OUTSIDE_FRAME reads")


def test_only_where_it_helps_the_error_names_the_quirk() -> None:
    for data, quirks in (
        (frame(1, b"a") + b"\x0b", ()),
        (b"\n# ", ()),
        (b"\n" * 8, ()),
        (b"\n", (NEWLINE,)),
        (line(1, b"a") + b"\n", (NEWLINE,)),
    ):
        _, error = read_all(FrameDecoder(quirks=quirks), [data])
        assert str(error).endswith("or the engine's frames are wrong")


@pytest.mark.parametrize(
    "wrong", [["newline-outside-frame"], "DETACHED_TEXT", [None], [NEWLINE, 1], NEWLINE, None, [[]]]
)
def test_what_is_no_quirk_is_a_type_error(wrong: Any) -> None:
    for make in (
        lambda: FrameDecoder(quirks=wrong),
        lambda: Connection(CLIENT, quirks=wrong),
        lambda: demux(b"", quirks=wrong),
    ):
        with pytest.raises(TypeError):
            make()


def test_any_iterable_of_quirks_will_do() -> None:
    assert demux(line(1, b"a"), quirks=Quirk) == (b"a\n", b"")
    assert demux(line(1, b"a"), quirks=iter([NEWLINE, NEWLINE])) == (b"a\n", b"")
    assert repr(NEWLINE) == "Quirk.NEWLINE_OUTSIDE_FRAME"


def test_demux_with_quirks() -> None:
    assert demux(line(1, b"a") + line(2, b"") + line(1, b"b"), quirks=[NEWLINE]) == (b"a\nb\n", b"\n")
    with pytest.raises(RemoteProtocolError, match=f"{UNKNOWN} 10"):
        demux(line(1, b"a"))
    with pytest.raises(RemoteProtocolError, match="the engine reports: 'Error: detached from container'"):
        demux(frame(1, b"a") + WORDS, quirks=[DETACHED_TEXT])
    assert demux(frame(1, b"a") + WORDS) == (b"a", TEXT)


def test_a_server_has_no_quirks() -> None:
    with pytest.raises(TypeError, match="quirks belongs to the role CLIENT"):
        Connection(SERVER, quirks=Quirk)
    server = Connection(SERVER)
    server.receive_data(Connection(CLIENT).send(Attach("web", AttachOptions(stdin=True))))
    assert isinstance(server.next_event(), Attach)
    server.send(Accepted(Framing.RAW))
    server.receive_data(TEXT)
    assert list(server.events()) == [Stdin(TEXT)]
    server.receive_data(EOF)
    assert list(server.events()) == [StdinClosed()]


# ---- newlines outside of frames ----

NEWLINE_CASES: dict[str, Case] = {
    "four lines": (
        line(1, b"out1") + line(2, b"err1") + line(1, b"out2") + line(2, b"err2"),
        [Stdout(b"out1\n"), Stderr(b"err1\n"), Stdout(b"out2\n"), Stderr(b"err2\n"), OutputClosed()],
        None,
    ),
    "a long line comes in pieces, without newlines but the last": (
        frame(1, b"x" * 20) + frame(1, b"x" * 20) + line(1, b"xxx") + frame(1, b"tail"),
        [Stdout(b"x" * 43 + b"\ntail"), OutputClosed()],
        None,
    ),
    "an empty line": (line(1, b""), [Stdout(b"\n"), OutputClosed()], None),
    "empty lines of both streams": (
        line(1, b"") + line(1, b"") + line(2, b"") + line(1, b""),
        [Stdout(b"\n\n"), Stderr(b"\n"), Stdout(b"\n"), OutputClosed()],
        None,
    ),
    "an empty frame without a newline": (
        frame(1, b"") + line(2, b"") + frame(1, b""),
        [Stderr(b"\n"), OutputClosed()],
        None,
    ),
    "replay, then live": (
        line(1, b"before1") + line(2, b"before2") + frame(1, b"after1\n") + frame(1, b"after2\n") + frame(2, b"\n\n"),
        [Stdout(b"before1\n"), Stderr(b"before2\n"), Stdout(b"after1\nafter2\n"), Stderr(b"\n\n"), OutputClosed()],
        None,
    ),
    "replay, then an error of the engine's": (
        line(1, b"a") + WORDS,
        [Stdout(b"a\n"), Stderr(TEXT), OutputClosed()],
        None,
    ),
    "types 0 and 3": (
        line(0, b"in") + line(3, b"boom"),
        [Stdout(b"in\n"), Systemerr(b"boom\n"), OutputClosed()],
        None,
    ),
    "payload that looks like frames and newlines": (
        line(1, b"\n\n" + frame(2, b"x") + b"\n") + line(2, b"\n"),
        [Stdout(b"\n\n" + frame(2, b"x") + b"\n\n"), Stderr(b"\n\n"), OutputClosed()],
        None,
    ),
    "lengths with a byte 10": (
        line(1, b"a") + frame(1, b"x" * 10) + frame(2, b"y" * 0x10A) + line(2, b"z" * 0xA0A),
        [Stdout(b"a\n" + b"x" * 10), Stderr(b"y" * 0x10A + b"z" * 0xA0A + b"\n"), OutputClosed()],
        None,
    ),
    "right frames only": (
        frame(1, b"a\n") + frame(1, b"b") + frame(2, b"c\n"),
        [Stdout(b"a\nb"), Stderr(b"c\n"), OutputClosed()],
        None,
    ),
    "no newline behind the last": (
        line(1, b"a") + frame(2, b"b"),
        [Stdout(b"a\n"), Stderr(b"b"), OutputClosed()],
        None,
    ),
    "a newline before any frame": (b"\n" + line(1, b"a"), [], f"{UNKNOWN} 10 "),
    "nothing but a newline": (b"\n", [], f"{UNKNOWN} 10 "),
    "two newlines": (line(1, b"a") + b"\n" + frame(1, b"b"), [Stdout(b"a\n")], f"{UNKNOWN} 10 "),
    "two newlines behind an empty frame": (line(2, b"") + b"\n", [Stderr(b"\n")], f"{UNKNOWN} 10 "),
    "another byte": (line(1, b"a") + b"\r\n", [Stdout(b"a\n")], f"{UNKNOWN} 13 "),
    "cut behind a newline, in a header": (
        line(1, b"a") + b"\x01\0\0",
        [Stdout(b"a\n")],
        "inside a frame's header: 3 of its 8 bytes came",
    ),
    "cut in a payload": (
        line(1, b"a") + frame(2, b"bc", length=9),
        [Stdout(b"a\n"), Stderr(b"bc")],
        "inside a Stderr frame of 9 bytes: 7 are missing",
    ),
    "cut before a payload": (line(1, b"a") + frame(2, b"", length=1), [Stdout(b"a\n")], "of 1 bytes: 1 are missing"),
}


@pytest.mark.parametrize("name", NEWLINE_CASES)
def test_newlines_in_every_cut(name: str) -> None:
    data, events, error = NEWLINE_CASES[name]
    check_every_cut(decoder(NEWLINE), data, events, error)
    ask = Attach("web", AttachOptions(logs=True), tty=False)
    accepted = Accepted(Framing.MULTIPLEXED, headers=HEADERS)
    check_every_cut(lambda: client(ask, quirks=[NEWLINE]), H101R + data, [accepted, *events], error)


def test_a_newline_is_joined_with_its_line() -> None:
    reader = FrameDecoder(quirks=[NEWLINE])
    reader.receive_data(line(1, b"a") + line(1, b"") + line(1, b"b") + line(2, b"c") + frame(1, b"d"))
    assert list(reader.events()) == [Stdout(b"a\n\nb\n"), Stderr(b"c\n"), Stdout(b"d")]


def test_a_newline_does_not_wait() -> None:
    """It is delivered with the read that brought it."""
    reader = FrameDecoder(quirks=[NEWLINE])
    for data, event in (
        (frame(2, b"a"), Stderr(b"a")),
        (b"\n", Stderr(b"\n")),
        (frame(1, b""), None),
        (b"\n", Stdout(b"\n")),
    ):
        reader.receive_data(data)
        assert list(reader.events()) == ([event] if event else [])


def test_a_line_of_40_kb() -> None:
    """As Podman 4.3 replayed it: pieces of 8192 bytes, a rest with its newline outside, and a line without its end."""
    wire = frame(1, b"x" * 8192) * 4 + line(1, b"x" * 7232) + frame(1, b"tail")
    assert len(wire) == 40053
    pieces = [wire[at : at + 1000] for at in range(0, len(wire), 1000)]
    events = [Stdout(b"x" * 40000 + b"\ntail"), OutputClosed()]
    check_every_cut(decoder(NEWLINE), wire, events, after=[[wire], pieces, [wire[:-13], wire[-13:]]])


@pytest.mark.parametrize("size", [65534, 65535, 65536, 65537, 131072])
def test_newlines_keep_the_bound_of_an_event(size: int) -> None:
    reader = FrameDecoder(quirks=[NEWLINE])
    reader.receive_data(line(1, bytes(size)) + line(1, b"x") + EOF)
    reader.receive_data(EOF)
    events = list(reader.events())
    assert joined(events) == [Stdout(bytes(size) + b"\nx\n"), OutputClosed()]
    assert max(len(event.data) for event in events if isinstance(event, Stdout)) <= 65536


KINDS = {0: Stdout, 1: Stdout, 2: Stderr, 3: Systemerr}
payloads = st.one_of(st.binary(max_size=20), st.text(alphabet="\0\1\2\3\nE", max_size=20).map(str.encode))
written_lines = st.lists(st.tuples(st.sampled_from([0, 1, 2, 3]), payloads, st.booleans()), max_size=12)


@given(written_lines, st.sampled_from([(NEWLINE,), tuple(Quirk)]), st.data())
def test_any_lines_as_podman_4_3_writes_them(
    lines: list[tuple[int, bytes, bool]], quirks: tuple[Quirk, ...], data: st.DataObject
) -> None:
    """A full line has its newline outside of its frame; pieces of lines and live output have none there."""
    wire = b"".join(line(kind, text) if full else frame(kind, text) for kind, text, full in lines)
    said = [KINDS[kind](text + b"\n" * full) for kind, text, full in lines if text or full]
    pieces = cut_at(wire, data.draw(st.lists(st.integers(0, len(wire)))))
    events, error = read_all(FrameDecoder(quirks=quirks), [*pieces, EOF])
    assert error is None
    assert joined(events) == [*joined(said), OutputClosed()]


@given(st.lists(st.tuples(st.integers(0, 3), st.binary(max_size=40)), max_size=12), st.data())
def test_right_frames_are_read_alike(frames: list[tuple[int, bytes]], data: st.DataObject) -> None:
    wire = b"".join(frame(kind, payload) for kind, payload in frames)
    pieces = cut_at(wire, data.draw(st.lists(st.integers(0, len(wire)))))
    assert read_all(FrameDecoder(quirks=[NEWLINE]), [*pieces, EOF]) == read_all(FrameDecoder(), [*pieces, EOF])


# ---- the last words of a Podman that was detached from ----

FRAMED_CASES: dict[str, Case] = {
    "the words": (WORDS, [Systemerr(TEXT), OutputClosed()], None),
    "output, then the words": (
        frame(1, b"echo one\n") + WORDS,
        [Stdout(b"echo one\n"), Systemerr(TEXT), OutputClosed()],
        None,
    ),
    "behind stderr": (frame(2, b"e") + WORDS, [Stderr(b"e"), Systemerr(TEXT), OutputClosed()], None),
    "behind an empty frame": (frame(2, b"") + WORDS, [Systemerr(TEXT), OutputClosed()], None),
    "twice": (WORDS + WORDS, [Stderr(TEXT), Systemerr(TEXT), OutputClosed()], None),
    "more behind them": (WORDS + frame(1, b"on"), [Stderr(TEXT), Stdout(b"on"), OutputClosed()], None),
    "an empty frame behind them": (WORDS + frame(1, b""), [Stderr(TEXT), OutputClosed()], None),
    "an unknown type behind them": (WORDS + b"\x07", [Stderr(TEXT)], f"{UNKNOWN} 7 "),
    "a newline behind them": (WORDS + b"\n", [Stderr(TEXT)], f"{UNKNOWN} 10 "),
    "half a header behind them": (WORDS + b"\x02\0\0", [Stderr(TEXT)], "inside a frame's header: 3 of its 8"),
    "on stdout": (frame(1, TEXT), [Stdout(TEXT), OutputClosed()], None),
    "of type 3": (frame(3, TEXT), [Systemerr(TEXT), OutputClosed()], None),
    "with padding": (b"\x02\1\0\0" + WORDS[4:], [Stderr(TEXT), OutputClosed()], None),
    "with more in the frame": (frame(2, TEXT + b"x"), [Stderr(TEXT + b"x"), OutputClosed()], None),
    "with more before them in the frame": (frame(2, b"x" + TEXT), [Stderr(b"x" + TEXT), OutputClosed()], None),
    "in two frames": (frame(2, TEXT[:7]) + frame(2, TEXT[7:]), [Stderr(TEXT), OutputClosed()], None),
    "without the newline": (frame(2, TEXT[:-1]), [Stderr(TEXT[:-1]), OutputClosed()], None),
    "another text of that length": (
        frame(2, b"Error: detached from containers"),
        [Stderr(b"Error: detached from containers"), OutputClosed()],
        None,
    ),
    "as payload of a frame": (frame(1, WORDS), [Stdout(WORDS), OutputClosed()], None),
    "as the end of a payload": (frame(2, b"x" * 9 + WORDS), [Stderr(b"x" * 9 + WORDS), OutputClosed()], None),
    "as a payload that is cut": (
        frame(2, b"x" + WORDS, length=90),
        [Stderr(b"x" + WORDS)],
        "inside a Stderr frame of 90 bytes: 50 are missing",
    ),
    "a payload that ends as they begin": (
        frame(1, b"a\x02") + frame(2, b"\x02\0\0"),
        [Stdout(b"a\x02"), Stderr(b"\x02\0\0"), OutputClosed()],
        None,
    ),
    "a payload that ends as they begin, then the words": (
        frame(1, b"\x02\0\0\0\0\0\0\x1fErr") + WORDS,
        [Stdout(b"\x02\0\0\0\0\0\0\x1fErr"), Systemerr(TEXT), OutputClosed()],
        None,
    ),
    "a header that is cut": (frame(1, b"a") + WORDS[:5], [Stdout(b"a")], "inside a frame's header: 5 of its 8 bytes"),
    "a header and no text": (WORDS[:8], [], "inside a Stderr frame of 31 bytes: 31 are missing"),
    "half of the text": (WORDS[:15], [Stderr(b"Error: ")], "inside a Stderr frame of 31 bytes: 24 are missing"),
    "all but one byte": (WORDS[:-1], [Stderr(TEXT[:-1])], "inside a Stderr frame of 31 bytes: 1 are missing"),
    "other frames of that length": (frame(2, b"\0" * 31) * 2, [Stderr(b"\0" * 62), OutputClosed()], None),
    "nothing": (b"", [OutputClosed()], None),
}

RAW_CASES: dict[str, Case] = {
    "the words": (TEXT, [Systemerr(TEXT), OutputClosed()], None),
    "output, then the words": (b"/ # " + TEXT, [RawOutput(b"/ # "), Systemerr(TEXT), OutputClosed()], None),
    "twice": (TEXT + TEXT, [RawOutput(TEXT), Systemerr(TEXT), OutputClosed()], None),
    "more behind them": (TEXT + b"\r\n", [RawOutput(TEXT + b"\r\n"), OutputClosed()], None),
    "as a TTY would write them": (TEXT[:-1] + b"\r\n", [RawOutput(TEXT[:-1] + b"\r\n"), OutputClosed()], None),
    "without the newline": (b"a" + TEXT[:-1], [RawOutput(b"a" + TEXT[:-1]), OutputClosed()], None),
    "beginnings": (b"EErErrEError: dError: Error", [RawOutput(b"EErErrEError: dError: Error"), OutputClosed()], None),
    "beginnings, then the words": (
        b"EErrError: detached from" + TEXT,
        [RawOutput(b"EErrError: detached from"), Systemerr(TEXT), OutputClosed()],
        None,
    ),
    "framed they are output": (WORDS[:8], [RawOutput(WORDS[:8]), OutputClosed()], None),
    "nothing": (b"", [OutputClosed()], None),
}


@pytest.mark.parametrize("quirks", [(DETACHED_TEXT,), tuple(Quirk)])
@pytest.mark.parametrize("name", FRAMED_CASES)
def test_framed_last_words_in_every_cut(name: str, quirks: tuple[Quirk, ...]) -> None:
    data, events, error = FRAMED_CASES[name]
    if name == "a newline behind them" and NEWLINE in quirks:
        events, error = [Stderr(TEXT + b"\n"), OutputClosed()], None
    check_every_cut(decoder(*quirks), data, events, error)


def tty_client(*quirks: Quirk, request: StreamRequest | None = None, head: bytes = H101R) -> Connection:
    """A client of a terminal, behind the head of the answer."""
    connection = client(request or Attach("web", tty=True), quirks=quirks)
    connection.receive_data(head)
    assert isinstance(connection.next_event(), Accepted)
    return connection


@pytest.mark.parametrize("name", RAW_CASES)
def test_raw_last_words_in_every_cut(name: str) -> None:
    data, events, error = RAW_CASES[name]
    check_every_cut(lambda: tty_client(DETACHED_TEXT), data, events, error)
    plain = [RawOutput(data), OutputClosed()] if data else [OutputClosed()]
    check_every_cut(tty_client, data, plain)


def test_last_words_that_come_with_the_head() -> None:
    connection = client(Attach("web", tty=True), quirks=[DETACHED_TEXT])
    connection.receive_data(H101R + b"a" + TEXT)
    connection.receive_data(EOF)
    assert list(connection.events())[1:] == [RawOutput(b"a"), Systemerr(TEXT), OutputClosed()]


def test_the_last_event_comes_once() -> None:
    reader = FrameDecoder(quirks=[DETACHED_TEXT])
    reader.receive_data(WORDS)
    assert reader.next_event() is NEED_DATA
    reader.receive_data(EOF)
    assert reader.next_event() == Systemerr(TEXT)
    assert reader.next_event() == OutputClosed()
    with pytest.raises(LocalProtocolError, match="OutputClosed was the last event"):
        reader.next_event()
    connection = tty_client(DETACHED_TEXT)
    connection.receive_data(TEXT)
    assert connection.next_event() is NEED_DATA
    connection.receive_data(EOF)
    assert connection.next_event() == Systemerr(TEXT)
    assert connection.next_event() == OutputClosed()
    with pytest.raises(LocalProtocolError, match="the exchange is over"):
        connection.next_event()


def test_use_framing_knows_the_quirks() -> None:
    for framing, data in ((Framing.RAW, b"a" + TEXT), (Framing.MULTIPLEXED, frame(1, b"a") + WORDS)):
        connection = client(Attach("web"), quirks=Quirk)
        connection.receive_data(H101R + data)
        connection.receive_data(EOF)
        assert connection.next_event() == Accepted(None, headers=HEADERS)
        connection.use_framing(framing)
        assert [type(event) for event in connection.events()][1:] == [Systemerr, OutputClosed]


def test_exec_has_the_quirk_and_logs_have_none() -> None:
    connection = tty_client(*Quirk, request=ExecStart("abc", tty=True))
    assert read_all(connection, [TEXT, EOF]) == ([Systemerr(TEXT), OutputClosed()], None)
    head = b"HTTP/1.1 200 OK\r\n\r\n"
    connection = tty_client(*Quirk, request=Logs("web", tty=True), head=head)
    assert read_all(connection, [TEXT, EOF]) == ([RawOutput(TEXT), OutputClosed()], None)
    connection = tty_client(*Quirk, request=Logs("web", tty=False), head=head)
    assert read_all(connection, [WORDS, EOF]) == ([Stderr(TEXT), OutputClosed()], None)
    connection = tty_client(*Quirk, request=Logs("web", tty=False), head=head)
    assert f"{UNKNOWN} 10" in str(read_all(connection, [line(1, b"a")])[1])


@pytest.mark.parametrize("tty", [True, False])
@pytest.mark.parametrize("counted", [True, False])
def test_a_body_that_is_cut_has_no_last_words(tty: bool, counted: bool) -> None:
    """What was held comes as output, and then the error."""
    data = TEXT if tty else WORDS
    body = data if counted else b"%x\r\n%b\r\n" % (len(data), data)
    length = b"Content-Length: %d\r\n\r\n" % len(data) if counted else b"Transfer-Encoding: chunked\r\n\r\n"

    def make() -> Connection:
        return tty_client(DETACHED_TEXT, request=Attach("web", tty=tty), head=H200R[:-2] + length)

    check_every_cut(make, body if counted else body + b"0\r\n\r\n", [Systemerr(TEXT), OutputClosed()], eof=False)
    if not counted:
        output = RawOutput(TEXT) if tty else Stderr(TEXT)
        check_every_cut(make, body, [output], "the body was cut or is malformed")
        check_every_cut(make, body + b"zz\r\n", [output], "the body was cut or is malformed")
    kept = body[:-10] if counted else body[:-12]
    output = RawOutput(TEXT[:-10]) if tty else Stderr(TEXT[:-10])
    check_every_cut(make, kept, [output], "the body was cut or is malformed")


@pytest.mark.parametrize("head", [b"", b"some output"])
def test_no_more_is_held_than_may_be_the_words(head: bytes) -> None:
    connection, reader = tty_client(DETACHED_TEXT), FrameDecoder(quirks=[DETACHED_TEXT])
    framed = (frame(1, head) if head else b"") + WORDS
    given, came = b"", 0
    for byte in head + TEXT[:-1] + b"?":
        connection.receive_data(bytes([byte]))
        given += bytes([byte])
        came += sum(len(event.data) for event in connection.events() if isinstance(event, RawOutput))
        held = given[len(head) :] if len(given) > len(head) and byte != ord("?") else b""
        assert came == len(given) - len(held)
    events: list[Any] = []
    for byte in framed:
        reader.receive_data(bytes([byte]))
        events += reader.events()
    assert joined(events) == ([Stdout(head)] if head else [])
    reader.receive_data(frame(1, b"x"))
    assert list(reader.events()) == [Stderr(TEXT), Stdout(b"x")]


def test_what_was_held_is_not_joined_with_the_next_read() -> None:
    connection = tty_client(DETACHED_TEXT)
    connection.receive_data(b"abcErr")
    assert list(connection.events()) == [RawOutput(b"abc")]
    connection.receive_data(b"and on, Error")
    connection.receive_data(b": d")
    assert list(connection.events()) == [RawOutput(b"Err"), RawOutput(b"and on, ")]
    connection.receive_data(EOF)
    assert list(connection.events()) == [RawOutput(b"Error: d"), OutputClosed()]


def test_chunks_that_are_no_words_are_passed_on_uncopied() -> None:
    connection = tty_client(DETACHED_TEXT)
    chunk = bytes(65536)
    connection.receive_data(chunk)
    event = connection.next_event()
    assert isinstance(event, RawOutput)
    assert event.data is chunk


def test_the_words_begin_with_a_byte_of_their_own() -> None:
    """So there is one place in a chunk where they may begin."""
    assert (TEXT.count(TEXT[:1]), WORDS.count(WORDS[:1])) == (1, 1)


parts = st.one_of(
    st.binary(max_size=5),
    st.integers(0, len(TEXT)).map(lambda size: TEXT[:size]),
    st.integers(0, len(TEXT)).map(lambda size: TEXT[size:]),
    st.just(TEXT),
)
terminal = st.lists(parts, max_size=6).map(b"".join)


def unfinished(data: bytes, words: bytes) -> int:
    """How many of the last bytes are a beginning of the words."""
    return max(size for size in range(len(words) + 1) if data.endswith(words[:size]))


@given(terminal, st.booleans(), st.data())
def test_any_terminals_output(data: bytes, at_end: bool, drawn: st.DataObject) -> None:
    data += TEXT * at_end
    pieces = cut_at(data, drawn.draw(st.lists(st.integers(0, len(data)))))
    connection = tty_client(DETACHED_TEXT)
    shown, came = b"", b""
    for piece in pieces:
        connection.receive_data(piece)
        shown += piece
        for event in connection.events():
            assert isinstance(event, RawOutput)
            assert event.data
            came += event.data
        assert came == shown[: len(shown) - unfinished(shown, TEXT)]
    connection.receive_data(EOF)
    *events, last = connection.events()
    assert last == OutputClosed()
    assert came + b"".join(event.data for event in events) == data  # type: ignore[union-attr]
    assert [type(event) for event in events] == (
        [Systemerr] if data.endswith(TEXT) else [RawOutput] if len(came) < len(data) else []
    )


wires = st.lists(
    st.one_of(
        st.binary(max_size=3),
        st.builds(frame, st.integers(0, 3), st.one_of(parts, st.just(WORDS))),
        st.integers(0, len(WORDS)).map(lambda size: WORDS[:size]),
        st.integers(0, len(WORDS)).map(lambda size: WORDS[size:]),
    ),
    max_size=6,
).map(b"".join)


@given(wires, st.booleans(), st.sampled_from([(), (NEWLINE,)]), st.data())
def test_any_frames_or_bytes(wire: bytes, at_end: bool, others: tuple[Quirk, ...], drawn: st.DataObject) -> None:
    """Nothing is changed but the very last frame, if it has these 39 bytes and the end is clean."""
    wire += WORDS * at_end
    pieces = cut_at(wire, drawn.draw(st.lists(st.integers(0, len(wire)))))
    found, raised = read_all(FrameDecoder(quirks=[DETACHED_TEXT, *others]), [*pieces, EOF])
    plain, error = read_all(FrameDecoder(quirks=others), [wire, EOF] if wire else [EOF])
    assert str(raised) == str(error)
    before, cut = read_all(FrameDecoder(quirks=others), [wire[: -len(WORDS)], EOF] if wire[: -len(WORDS)] else [EOF])
    if wire.endswith(WORDS) and error is None and cut is None:
        assert joined(found) == joined([*before[:-1], Systemerr(TEXT), OutputClosed()])
    else:
        assert joined(found) == joined(plain)


# ---- what needs no switch, by recording ----

ENGINES = ("docker-20.10.24", "docker-26.1.5", "docker-28.5.2", "podman-4.3.1", "podman-5.4.2", "podman-5.8.6")
DOCKERS, PODMANS = ENGINES[:3], ENGINES[3:]


@cache
def replayed(engine: str) -> tuple[Exchange, ...]:
    return tuple(exchange for expectation in read_expectations(engine) for exchange in expectation.exchanges)


def recorded(engines: Iterable[str], *scenarios: str, label: str | None = None) -> Iterator[Exchange]:
    """The stream requests of these engines in these scenarios; each scenario is there at least once."""
    for scenario in scenarios:
        found = [
            exchange
            for engine in engines
            for exchange in replayed(engine)
            if exchange.recording.scenario == scenario
            and isinstance(exchange.event, StreamRequest)
            and label in (None, exchange.recording.label)
        ]
        assert found, scenario
        yield from found


def opened(engines: Iterable[str]) -> Iterator[Exchange]:
    """All attaches and execs of these engines that were accepted."""
    for exchange in (exchange for engine in engines for exchange in replayed(engine)):
        accepted = exchange.status < 300 and exchange.mode in ("hijacked stream", "until EOF")
        if isinstance(exchange.event, Attach | ExecStart) and accepted:
            yield exchange


def rejected(exchange: Exchange) -> Rejected:
    """The refusal that a recorded answer is."""
    reader = client(exchange.event)
    events, error = read_all(reader, [*exchange.segments, *([EOF] if exchange.end == "eof" else [])])
    assert error is None, exchange.name
    assert len(events) == 1, exchange.name
    assert isinstance(events[0], Rejected), exchange.name
    return events[0]


@pytest.mark.parametrize("engine", ["docker-20.10.24", "podman-4.3.1"])
def test_older_engines_say_raw_stream_for_everything(engine: str) -> None:
    """dockerd before 23.0, Podman before 4.7: only the TTY tells how to read it."""
    found = list(opened([engine]))
    assert {exchange.media_type for exchange in found} == {RAW_STREAM}
    assert {exchange.recording.tty for exchange in found} >= {True, False}
    for exchange in found:
        for tty, framing in ((True, Framing.RAW), (False, Framing.MULTIPLEXED)):
            assert replay(exchange, exchange.segments, tty).framing is framing
        if isinstance(exchange.event, Attach):
            connection = client(Attach("web"))
            connection.receive_data(exchange.received)
            event = connection.next_event()
            assert isinstance(event, Accepted)
            assert event.framing is None


def test_a_200_of_dockerd_is_raw_stream_always() -> None:
    found = [exchange for exchange in opened(DOCKERS) if exchange.status == 200]
    assert {exchange.recording.tty for exchange in found} == {True, False}
    assert {exchange.media_type for exchange in found} == {RAW_STREAM}


def test_podman_does_not_upgrade_for_a_list_of_words() -> None:
    """A proxy's `Connection: keep-alive, Upgrade` gets 200, and the same stream behind it."""
    for exchange in recorded(PODMANS, "40-proxy-like-heads", label="A"):
        outcome = replay(exchange, exchange.segments, False)
        assert outcome.status == 200
        assert sorted({name for name, _ in outcome.runs}) == ["Stderr", "Stdout"]


def test_podman_delivers_streams_that_were_not_asked_for() -> None:
    for engines, names in ((DOCKERS, {"Stderr"}), (PODMANS, {"Stdout", "Stderr"})):
        for exchange in recorded(engines, "08b-stderr-only"):
            assert {name for name, _ in replay(exchange, exchange.segments, False).runs} == names


def test_podman_frames_an_exec_as_it_was_created() -> None:
    """Whatever its start says: an exec without a TTY, started with one. dockerd obeys the start."""
    said = {}
    for exchange in recorded(ENGINES, "21f-exec-errors", label="Tty true on a non-TTY exec"):
        body = exchange.received[exchange.head_size :]
        said[exchange.recording.engine] = body
        assert replay(exchange, exchange.segments, exchange.recording.tty).end == "over"
    assert said == {"docker": b"hi\n", "podman": frame(1, b"hi\n")}


def test_dockerd_refuses_an_attach_with_text_that_it_labels_raw_stream() -> None:
    texts = {
        "12-no-such-container": "No such container: nosuch",
        "11-paused": "is paused, unpause the container before attach",
        "11c-restarting": "is restarting, wait until the container is running",
        "13-bad-detach-keys": "Invalid detach keys (",
    }
    for scenario, text in texts.items():
        for exchange in recorded(DOCKERS, scenario):
            if exchange.status < 300:
                continue  # 13: keys that are not bad
            rejection = rejected(exchange)
            assert rejection.headers == (("content-type", RAW_STREAM),)
            assert text in rejection.message
            assert rejection.body == rejection.message.encode() + b"\r\n"
            assert exchange.end == "eof"


def test_a_refusals_text_may_hold_any_byte() -> None:
    found = [exchange for exchange in replayed("docker-28.5.2") if exchange.recording.label == "attach name %00"]
    assert [rejected(exchange).message for exchange in found] == ["No such container: a\0b"]


def test_podman_refuses_with_json_and_keeps_the_connection() -> None:
    texts = {
        "12-no-such-container": (404, 'no container with name or ID "nosuch" found: no such container'),
        "11-paused": (500, "currently in state paused: container state improper"),
        "06d-logs0-stream0": (400, "at least one of Logs or Stream must be set"),
    }
    for scenario, (status, text) in texts.items():
        for exchange in recorded(PODMANS, scenario):
            rejection = rejected(exchange)
            assert rejection.status_code == status
            assert ("content-type", "application/json") in rejection.headers
            assert text in rejection.message
            assert rejection.body.startswith(b'{"cause":')
            assert exchange.end == "open"


def test_dockerds_errors_on_an_open_stream_are_stdout() -> None:
    for exchange in recorded(["docker-20.10.24", "docker-28.5.2"], "41-open-60-s", label="log driver none"):
        outcome = replay(exchange, exchange.segments, False)
        assert [name for name, _ in outcome.runs] == ["Stdout"]
        assert outcome.runs[0][1].startswith(b"Error attaching: failed to get logging factory: ")
        assert outcome.end == "over"
    for exchange in recorded(DOCKERS, "21g-exec-no-such-command"):
        outcome = replay(exchange, exchange.segments, exchange.recording.tty)
        assert [name for name, _ in outcome.runs] == ["RawOutput" if exchange.recording.tty else "Stdout"]
        assert outcome.runs[0][1].startswith(b"OCI runtime exec failed: ")
        assert outcome.runs[0][1].endswith(b"\r\n")
        assert outcome.end == "over"


def test_podmans_errors_on_an_open_stream_are_stderr() -> None:
    for exchange in recorded(PODMANS, "07d-logs-none-driver", label="A"):
        outcome = replay(exchange, exchange.segments, False, tuple(Quirk))
        assert [name for name, _ in outcome.runs] == ["Stderr"]
        assert outcome.runs[0][1].startswith(b"Error: this container is using the 'none' log driver")
        assert outcome.end == "over"
    for exchange in recorded(PODMANS, "21g-exec-no-such-command"):
        outcome = replay(exchange, exchange.segments, exchange.recording.tty, tuple(Quirk))
        assert [name for name, _ in outcome.runs] == ["RawOutput" if exchange.recording.tty else "Stderr"]
        assert outcome.runs[0][1].startswith(b"Error: ")
        assert outcome.end == "over"


def test_podman_resets_while_a_client_still_sends() -> None:
    """The core is told of bytes and of ends, and a reset is neither: what came is delivered, and nothing is closed."""
    for exchange in recorded(PODMANS, "31e-stdin-not-read-exit"):
        assert exchange.end == "rst"
        outcome = replay(exchange, exchange.segments, False)
        assert outcome.runs[0] == ("Stdout", b"hello\n")
        assert outcome.runs[1][0] == "Stderr"
        assert re.fullmatch(rb"Error: write .*: connection reset by peer\n", outcome.runs[1][1])
        assert outcome.end == "more"


def test_dockerd_half_closes_and_podman_closes() -> None:
    """What is sent behind the end of output is taken by dockerd. The core refuses it for neither."""
    for exchange in recorded(ENGINES, "18g-write-after-exit"):
        kinds = [kind for kind, _ in exchange.recording.events]
        behind = kinds[kinds.index("eof") + 1 :]
        assert ("send-error" in behind) == (exchange.recording.engine == "podman")
        run = Replay(exchange, False)
        for data in (*exchange.segments, EOF):
            run.receive(data)
        assert run.outcome().end == "over"
        assert run.connection.send(Stdin(b"late\n")) == b"late\n"


def test_the_head_of_an_exec_comes_in_pieces() -> None:
    found = [exchange for exchange in opened(DOCKERS) if isinstance(exchange.event, ExecStart)]
    cut = [exchange for exchange in found if len(exchange.segments[0]) < exchange.head_size]
    assert len(cut) > len(found) / 4
    for exchange in cut:
        assert replay(exchange, exchange.segments, exchange.recording.tty) == replay(
            exchange, [exchange.received], exchange.recording.tty
        )


def test_logs_have_any_label_or_none() -> None:
    labels: dict[str, set[str]] = {}
    for engine in ENGINES:
        for exchange in recorded([engine], "22-logs-follow", "22c-logs-tty"):
            labels.setdefault(engine, set()).add(exchange.media_type)
            outcome = replay(exchange, exchange.segments, exchange.recording.tty)
            assert outcome.framing is (Framing.RAW if exchange.recording.tty else Framing.MULTIPLEXED)
            assert outcome.end == "over"
    assert labels == {
        "docker-20.10.24": {""},
        "docker-26.1.5": {"application/vnd.docker.multiplexed-stream", RAW_STREAM},
        "docker-28.5.2": {"application/vnd.docker.multiplexed-stream", RAW_STREAM},
        "podman-4.3.1": {"application/octet-stream", "text/plain"},  # sniffed from the first bytes
        "podman-5.4.2": {""},
        "podman-5.8.6": {""},
    }


# ---- the page ----

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "quirks.md"


def test_the_page_names_every_quirk_and_tests_that_exist() -> None:
    page = PAGE.read_text()
    for quirk in Quirk:
        assert f"`{quirk.name}`" in page
    named = re.findall(r"`(?:(adapters|live)/)?(test_\w+\.py)::(test_\w+)`", page)
    assert len(named) > len(Quirk)
    for folder, file, test in named:
        source = pathlib.Path(__file__).parents[1] / (folder or "core") / file
        assert f"\ndef {test}(" in source.read_text(), (folder, file, test)
