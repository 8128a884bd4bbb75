"""Lines: the splitter by itself, and its iterators where a read is cut short."""

from __future__ import annotations

import codecs
import itertools
import re
import socket
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import FrameType
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from attachproto import Attach, DataEvent, OutputClosed, OutputEvent, RawOutput, Stderr, Stdout, Systemerr
from attachproto_adapters import Line, LogTime
from attachproto_adapters._flows._lines import LINE_MAX, LineSplitter
from attachproto_adapters.blocking import open_attachment
from tests.adapters.scripted import BOUND, Peer, Task
from tests.helpers import cut_at, cuts


def feed(splitter: LineSplitter, event: OutputEvent) -> list[Line]:
    splitter.add(event)
    return list(iter(splitter.next_line, None))


def split(splitter: LineSplitter, events: list[OutputEvent]) -> list[Line]:
    return [line for event in [*events, OutputClosed()] for line in feed(splitter, event)]


def piece(text: str, kind: Any = Stdout) -> Line:
    return Line(text, kind, ended=False)


# ---- one stream, in every split ----

LINES: list[tuple[bytes, list[Line]]] = [
    (b"", []),
    (b"\n", [Line("", Stdout)]),
    (b"\r\n", [Line("", Stdout)]),
    (b"\n\n\r\n", [Line("", Stdout)] * 3),
    (b"one\ntwo\n", [Line("one", Stdout), Line("two", Stdout)]),
    (b"one\r\ntwo\r\n", [Line("one", Stdout), Line("two", Stdout)]),
    (b"one\ntwo", [Line("one", Stdout), piece("two")]),
    (b"10%\r20%\rdone\n", [Line("10%\r20%\rdone", Stdout)]),
    (b"one\r\r\n", [Line("one\r", Stdout)]),
    (b"one\r", [piece("one\r")]),
    (b"\r", [piece("\r")]),
    # str.splitlines() would end a line at each of these.
    ("a\vb\fc\x1cd\x85e\u2028f\n".encode(), [Line("a\vb\fc\x1cd\x85e\u2028f", Stdout)]),
    ("Grüße, 世界 🐳\r\n".encode(), [Line("Grüße, 世界 🐳", Stdout)]),
    (b"\xff\xfe caf\xc3\n", [Line("\ufffd\ufffd caf\ufffd", Stdout)]),
    (b"cut \xf0\x9f\x90", [piece("cut \ufffd")]),
]


@pytest.mark.parametrize(("data", "lines"), LINES)
def test_lines_in_every_split(data: bytes, lines: list[Line]) -> None:
    for pieces in cuts(data):
        assert split(LineSplitter(), [Stdout(each) for each in pieces]) == lines, pieces


BOUNDED: list[tuple[bytes, list[Line]]] = [
    (b"abcd\n", [Line("abcd", Stdout)]),
    (b"abcd\r\n", [Line("abcd", Stdout)]),
    (b"abcd", [piece("abcd")]),
    (b"abcd\r", [piece("abcd"), piece("\r")]),
    (b"abcd\rx\n", [piece("abcd"), Line("\rx", Stdout)]),
    (b"abcde\n", [piece("abcd"), Line("e", Stdout)]),
    (b"abcde\r\n", [piece("abcd"), Line("e", Stdout)]),
    (b"abcde", [piece("abcd"), piece("e")]),
    (b"abc\r\n", [Line("abc", Stdout)]),
    (b"abc\r\r\n", [Line("abc\r", Stdout)]),
    (b"abcdefgh\r\nij", [piece("abcd"), Line("efgh", Stdout), piece("ij")]),
    (b"abcdefghi\r\n", [piece("abcd"), piece("efgh"), Line("i", Stdout)]),
    ("ÄÖÜßäöü\n".encode(), [piece("ÄÖÜß"), Line("äöü", Stdout)]),
]


@pytest.mark.parametrize(("data", "lines"), BOUNDED)
def test_long_lines_come_in_pieces_and_the_split_is_of_no_matter(data: bytes, lines: list[Line]) -> None:
    for pieces in cuts(data):
        assert split(LineSplitter(max_length=4), [Stdout(each) for each in pieces]) == lines, pieces


def model(text: str, max_length: int) -> Iterator[Line]:
    """What the lines are, without any thought of pieces."""
    *ended, rest = text.split("\n")
    for line, is_ended in [*((line.removesuffix("\r"), True) for line in ended), *([(rest, False)] if rest else [])]:
        pieces = [line[at : at + max_length] for at in range(0, len(line), max_length)] or [""]
        for number, each in enumerate(pieces, 1):
            yield Line(each, Stdout, ended=is_ended and number == len(pieces))


@given(
    text=st.text("ab\r\né世🐳", max_size=40),
    encoding=st.sampled_from(["utf-8", "utf-16", "utf-32-be", "gb18030"]),
    max_length=st.integers(1, 7),
    places=st.lists(st.integers(0, 170)),
)
@example(text="a" * 20, encoding="utf-8", max_length=1, places=[])
def test_lines_are_those_of_the_whole_text(text: str, encoding: str, max_length: int, places: list[int]) -> None:
    events: list[OutputEvent] = [Stdout(each) for each in cut_at(text.encode(encoding), places)]
    assert split(LineSplitter(encoding, max_length=max_length), events) == list(model(text, max_length))


@given(data=st.binary(max_size=60), places=st.lists(st.integers(0, 60)), errors=st.sampled_from(["replace", "ignore"]))
def test_any_bytes_are_decoded_as_if_whole(data: bytes, places: list[int], errors: str) -> None:
    events: list[OutputEvent] = [Stdout(each) for each in cut_at(data, places)]
    assert split(LineSplitter(errors=errors), events) == list(model(data.decode(errors=errors), LINE_MAX))


class Counted(str):
    """A text that counts the characters which are searched, and which are copied out of it."""

    searched = 0
    copied = 0

    def __getitem__(self, key: Any) -> str:
        found = super().__getitem__(key)
        Counted.copied += len(found)
        return found

    def find(self, part: str, start: Any = None, end: Any = None) -> int:
        Counted.searched += min(end, len(self)) - start
        return super().find(part, start, end)


@pytest.mark.parametrize("size", [1, 7, 1000, 5000])
def test_a_long_line_is_searched_and_copied_once_whatever_the_size_of_its_pieces(size: int) -> None:
    splitter = LineSplitter(max_length=size)
    splitter.add(Stdout(b"x" * 2000))
    splitter.add(OutputClosed())
    stream = splitter._streams[Stdout]
    stream._text = Counted(stream._text)
    Counted.searched = Counted.copied = 0
    assert "".join(line.text for line in iter(splitter.next_line, None)) == "x" * 2000
    assert Counted.searched <= 2000 + 2 * 2001  # and up to two more for each piece, where a line's end may be
    assert Counted.copied <= 2 * 2000  # the second for the one character before the end, which may be a \r


# ---- progress ----


def progress(text: str) -> Line:
    return Line(text, Stdout, progress=True)


PROGRESS: list[tuple[bytes, list[Line]]] = [
    (b"10%\r20%\rdone\n", [progress("10%"), progress("20%"), Line("done", Stdout)]),
    (b"\r10%\r20%", [progress(""), progress("10%"), piece("20%")]),
    (b"10%\r", [progress("10%")]),
    (b"one\r\ntwo\n", [Line("one", Stdout), Line("two", Stdout)]),
    (b"one\r\r\n", [progress("one"), Line("", Stdout)]),
    (b"\r\n\n\r", [Line("", Stdout), Line("", Stdout), progress("")]),
]


@pytest.mark.parametrize(("data", "lines"), [*PROGRESS, *(row for row in LINES if b"\r" not in row[0])])
def test_progress_in_every_split(data: bytes, lines: list[Line]) -> None:
    for pieces in cuts(data):
        assert split(LineSplitter(progress=True), [Stdout(each) for each in pieces]) == lines, pieces


def test_a_carriage_return_waits_for_the_next_byte_only() -> None:
    splitter = LineSplitter(progress=True)
    assert feed(splitter, Stdout(b"10%\r")) == []
    assert feed(splitter, Stdout(b"2")) == [progress("10%")]
    assert splitter.take_back() == [Stdout(b"2")]


def progress_model(text: str, max_length: int) -> Iterator[Line]:
    found = re.findall(r"([^\r\n]*)(\r\n|\n|\r|\Z)", text)
    for line, end in found[:-1] if found[-1] == ("", "") else found:
        pieces = [line[at : at + max_length] for at in range(0, len(line), max_length)] or [""]
        for number, each in enumerate(pieces, 1):
            last = number == len(pieces)
            yield Line(each, Stdout, ended=last and end != "", progress=last and end == "\r")


@given(
    text=st.text("ab\r\né🐳", max_size=40),
    encoding=st.sampled_from(["utf-8", "utf-16", "gb18030"]),
    max_length=st.integers(1, 7),
    places=st.lists(st.integers(0, 170)),
)
def test_progress_is_that_of_the_whole_text(text: str, encoding: str, max_length: int, places: list[int]) -> None:
    events: list[OutputEvent] = [Stdout(each) for each in cut_at(text.encode(encoding), places)]
    lines = split(LineSplitter(encoding, max_length=max_length, progress=True), events)
    assert lines == list(progress_model(text, max_length))


@pytest.mark.parametrize("pieces", [1_000, 10_000])
def test_many_steps_of_progress_take_time_as_their_length(pieces: int) -> None:
    """What is copied is counted: in one event, and in an event for each."""
    splitter = LineSplitter(progress=True)
    assert len(feed(splitter, Stdout(b"10%\r" * pieces))) == pieces - 1
    splitter = LineSplitter(progress=True)
    assert joins(splitter, pieces, b"10%\r") <= pieces
    assert len(splitter._streams[Stdout]._text) <= 8


# ---- times ----

AT = "2026-11-23T14:35:51.021368037Z"
NANOSECONDS = 1795444551_021368037


def test_the_time_of_each_line() -> None:
    later = AT.replace("037Z", "038Z")
    lines = split(
        LineSplitter(timestamps=True), [Stdout(f"{AT} a\r\n".encode()), Stderr(f"{later} \n{AT}  b".encode())]
    )
    assert lines == [
        Line("a", Stdout, time=LogTime(NANOSECONDS, AT)),
        Line("", Stderr, time=LogTime(NANOSECONDS + 1, later)),
        Line(" b", Stderr, ended=False, time=LogTime(NANOSECONDS, AT)),
    ]
    assert [str(line.time) for line in lines] == [AT, later, AT]


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        (AT, NANOSECONDS),
        ("2026-11-23T15:35:51.021368037+01:00", NANOSECONDS),
        ("2026-11-23T09:05:51.021368037-05:30", NANOSECONDS),
        ("2026-11-23T14:35:51Z", 1795444551_000000000),  # Podman 4.3
        ("2026-11-23T14:35:51.5Z", 1795444551_500000000),
        ("1969-12-31T23:59:59.999999999Z", -1),
    ],
)
def test_times_as_engines_print_them(text: str, nanoseconds: int) -> None:
    (line,) = split(LineSplitter(timestamps=True), [Stdout(f"{text} a b\n".encode())])
    assert line == Line("a b", Stdout, time=LogTime(nanoseconds, text))
    assert line.time is not None
    assert line.time.text == text
    assert line.time.datetime == datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=nanoseconds // 1000)


@pytest.mark.parametrize(
    "text",
    ["", "a", AT, f"{AT}\t", AT[:-1], f" {AT} a", "2026-02-31T14:35:51Z a", "0000-01-01T00:00:00Z a", AT[1:] + " a"],
)
def test_a_line_without_a_time_stays_as_it_is(text: str) -> None:
    assert split(LineSplitter(timestamps=True), [Stdout(text.encode() + b"\n")]) == [Line(text, Stdout)]


def test_times_are_compared_as_moments() -> None:
    one, same, later = LogTime(1, "a"), LogTime(1, "b"), LogTime(2, "a")
    assert one == same != later
    assert one < later
    assert len({one, same, later}) == 2


def test_what_continues_a_line_has_its_time() -> None:
    time = LogTime(NANOSECONDS, AT)
    data = f"{AT} 10%\r{AT} 20%\n{AT} {'x' * 60}\nnone\n".encode()
    lines = split(LineSplitter(progress=True, timestamps=True, max_length=60), [Stdout(data)])
    assert lines == [
        Line("10%", Stdout, progress=True, time=time),
        Line(f"{AT} 20%", Stdout, time=time),  # engines put one time before a whole line
        Line("x" * 29, Stdout, ended=False, time=time),
        Line("x" * 31, Stdout, time=time),
        Line("none", Stdout),
    ]


def test_a_time_in_every_split() -> None:
    data = f"{AT} a\r\n".encode()
    for pieces in cuts(data):
        lines = split(LineSplitter(timestamps=True), [Stdout(each) for each in pieces])
        assert lines == [Line("a", Stdout, time=LogTime(NANOSECONDS, AT))]


def test_what_is_taken_back_has_its_time_again() -> None:
    splitter = LineSplitter(timestamps=True, max_length=40)
    data = f"{AT} {'x' * 20}\n{AT} b\n".encode()
    splitter.add(Stdout(data))
    assert splitter.next_line() == Line("x" * 9, Stdout, ended=False, time=LogTime(NANOSECONDS, AT))
    (rest,) = splitter.take_back()
    assert rest.data == data[40:]
    # Somebody else may have read the rest of the line.
    assert feed(splitter, Stdout(f"{AT} b\n".encode())) == [Line("b", Stdout, time=LogTime(NANOSECONDS, AT))]


# ---- what was not given out ----

ANY_EVENT = st.builds(
    lambda kind, data: kind(data), st.sampled_from([Stdout, Stderr, Systemerr]), st.binary(min_size=1, max_size=12)
)


@given(
    events=st.lists(ANY_EVENT, max_size=6),
    encoding=st.sampled_from(["utf-8", "utf-16-le", "latin-1"]),
    max_length=st.integers(1, 5),
    count=st.integers(0, 30),
    progress=st.booleans(),
)
def test_the_rest_comes_back_byte_for_byte(
    events: list[DataEvent], encoding: str, max_length: int, count: int, progress: bool
) -> None:
    """The characters that were given out, and the bytes that come back, are the whole."""
    splitter = LineSplitter(encoding, max_length=max_length, progress=progress)
    lines: list[Line] = []
    fed: list[DataEvent] = []
    for event in events:
        splitter.add(event)
        fed.append(event)
        while len(lines) < count and (line := splitter.next_line()) is not None:
            lines.append(line)
        if len(lines) == count:
            break
    rest = splitter.take_back()
    for kind in (Stdout, Stderr, Systemerr):
        whole = b"".join(event.data for event in fed if type(event) is kind)
        left = b"".join(event.data for event in rest if type(event) is kind)
        assert whole.endswith(left)
        text = codecs.getincrementaldecoder(encoding)("replace").decode(whole[: len(whole) - len(left)], True)
        given_out = "".join(
            line.text + ("\r" if line.progress else "\n" * line.ended) for line in lines if line.kind is kind
        )
        assert text.replace("\r\n", "\n") == given_out.replace("\r\n", "\n")
    assert splitter.next_line() is None
    assert splitter.take_back() == []


def test_the_rest_in_the_order_in_which_it_came() -> None:
    splitter = LineSplitter()
    assert feed(splitter, Stdout(b"a\nbegun ")) == [Line("a", Stdout)]
    splitter.add(Stderr(b"one\ntwo\n\xf0\x9f"))
    assert splitter.next_line() == Line("one", Stderr)
    assert splitter.take_back() == [Stdout(b"begun "), Stderr(b"two\n\xf0\x9f")]
    assert feed(splitter, Stderr(b"\xf0\x9f\x90\xb3\n")) == [Line("🐳", Stderr)]


def test_an_encoding_goes_on_behind_what_was_taken_back() -> None:
    splitter = LineSplitter("utf-16")
    splitter.add(Stdout(b"\xfe\xff" + "one\ntwo\n".encode("utf-16-be")))
    assert splitter.next_line() == Line("one", Stdout)
    assert splitter.take_back() == [Stdout("two\n".encode("utf-16-be"))]
    assert feed(splitter, Stdout("three\n".encode("utf-16-be"))) == [Line("three", Stdout)]


@pytest.mark.parametrize(
    ("encoding", "errors", "data"),
    [
        ("utf-8", "surrogateescape", b"\xf0\xa5\xf0ab"),
        ("utf-8", "backslashreplace", b"\xf0\xa5\xf0ab"),
        ("utf-7", "strict", "日日日".encode("utf-7") + b"ab"),
    ],
)
def test_bytes_that_give_several_characters_are_never_lost(encoding: str, errors: str, data: bytes) -> None:
    """They become characters together. If only the first was given out, all of them come back."""
    splitter = LineSplitter(encoding, errors, max_length=1)
    splitter.add(Stdout(data))
    assert splitter.next_line() is not None
    assert b"".join(event.data for event in splitter.take_back()) == data


def test_bytes_that_are_no_text_can_be_had_as_bytes() -> None:
    splitter = LineSplitter(errors="strict")
    assert feed(splitter, Stdout(b"good\nbegun \xf0\x9f")) == [Line("good", Stdout)]
    splitter.add(Stdout(b"bad\n"))
    for _ in range(2):
        with pytest.raises(UnicodeDecodeError):
            splitter.next_line()
    assert b"".join(event.data for event in splitter.take_back()) == b"begun \xf0\x9fbad\n"
    assert feed(splitter, Stdout(b"better\n")) == [Line("better", Stdout)]


# ---- several streams ----


def test_streams_are_split_apart_and_come_in_the_order_in_which_lines_end() -> None:
    events: list[OutputEvent] = [
        Stdout(b"out begins, "),
        Stderr(b"err begins, "),
        Systemerr(b"engine\n"),
        Stderr(b"err ends\r"),
        Stdout(b"out ends\r\nlast out"),
        Stderr(b"\nlast err"),
    ]
    assert split(LineSplitter(), events) == [
        Line("engine", Systemerr),
        Line("out begins, out ends", Stdout),
        Line("err begins, err ends", Stderr),
        piece("last out", Stdout),
        piece("last err", Stderr),
    ]


def test_a_character_is_whole_though_another_stream_comes_between() -> None:
    first, second = "🐳".encode()[:2], "🐳".encode()[2:]
    events: list[OutputEvent] = [Stdout(first), Stderr(first), Stdout(second), Stderr(second + b"\n"), Stdout(b"\n")]
    assert split(LineSplitter(), events) == [Line("🐳", Stderr), Line("🐳", Stdout)]


def test_a_terminal_has_one_stream() -> None:
    assert split(LineSplitter(), [RawOutput(b"$ ls\r"), RawOutput(b"\n")]) == [Line("$ ls", RawOutput)]


# ---- encodings ----


def test_utf_16_of_each_stream_with_its_own_mark() -> None:
    out, err = "größer\n".encode("utf-16-be"), "kleiner\n".encode("utf-16-le")
    events: list[OutputEvent] = [Stdout(b"\xfe\xff" + out), Stderr(b"\xff\xfe" + err)]
    assert split(LineSplitter("utf-16"), events) == [Line("größer", Stdout), Line("kleiner", Stderr)]


def test_strict_errors_have_the_bytes() -> None:
    splitter = LineSplitter(errors="strict")
    assert feed(splitter, Stdout(b"good\nbegun \xf0\x9f")) == [Line("good", Stdout)]
    with pytest.raises(UnicodeDecodeError) as info:
        feed(splitter, Stdout(b"bad\n"))
    assert info.value.object == b"\xf0\x9fbad\n"


def test_strict_errors_at_the_end() -> None:
    splitter = LineSplitter(errors="strict")
    assert feed(splitter, Stdout(b"cut \xf0\x9f")) == []
    with pytest.raises(UnicodeDecodeError):
        feed(splitter, OutputClosed())


@pytest.mark.parametrize(
    ("encoding", "errors"), [("utf-9", "strict"), ("hex", "strict"), ("rot13", "strict"), ("utf-8", "lenient")]
)
def test_what_is_no_encoding_is_told_at_once(encoding: str, errors: str) -> None:
    with pytest.raises(LookupError):
        LineSplitter(encoding, errors)


@pytest.mark.parametrize("max_length", [0, -1])
def test_a_line_has_room_for_one_character(max_length: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        LineSplitter(max_length=max_length)


# ---- time and memory ----


def joins(splitter: LineSplitter, pieces: int, piece: bytes) -> int:
    """How often the pieces of one long line are put together: it is all that copies more than the piece that came."""
    count = 0

    def profile(frame: FrameType, event: str, function: Any) -> None:
        nonlocal count
        count += event == "c_call" and function.__name__ == "join"

    sys.setprofile(profile)
    try:
        for _ in range(pieces):
            feed(splitter, Stdout(piece))
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("pieces", [1_000, 10_000])
def test_a_long_line_in_many_pieces_takes_time_as_its_length(pieces: int) -> None:
    """Each join copies no more than one line and one piece."""
    splitter = LineSplitter()
    assert joins(splitter, pieces, b"x" * 10) == 0
    assert feed(splitter, Stdout(b"\n")) == [Line("x" * pieces * 10, Stdout)]
    assert joins(LineSplitter(max_length=1000), pieces, b"x" * 10) <= pieces * 10 // 1000


def test_a_line_without_end_is_held_up_to_the_bound_only() -> None:
    splitter, given_out = LineSplitter(max_length=100), 0
    for count in itertools.count(1):
        given_out += sum(len(line.text) for line in feed(splitter, Stdout(b"x" * 30)))
        assert count * 30 - given_out <= 101
        if count == 1000:
            break


# ---- the blocking iterator; test_cancellation.py has the others ----


def test_lines_go_on_after_a_timeout() -> None:
    ours, theirs = socket.socketpair()
    go = threading.Event()

    def serve() -> None:
        with theirs:
            peer = Peer(theirs)
            peer.read_request()
            peer.accept()
            peer.send(Stdout(b"one\ntwo, bef"), Stderr(b"three \xf0\x9f"))
            assert go.wait(BOUND)
            peer.send(Stderr(b"\x90\xb3\n"), Stdout(b"ore and after\nfour"), OutputClosed())
            peer.until_closed()

    serving = Task(serve)
    ours.settimeout(BOUND)
    with open_attachment(ours, Attach("web", tty=False)) as attachment:
        lines = attachment.lines()
        assert next(lines) == Line("one", Stdout)
        attachment.settimeout(0.05)
        with pytest.raises(TimeoutError):
            next(lines)
        attachment.settimeout(BOUND)
        go.set()
        assert list(lines) == [Line("three 🐳", Stderr), Line("two, before and after", Stdout), piece("four")]
        assert list(lines) == []
    serving.result()
