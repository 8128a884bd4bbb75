"""The buffer of a reader of stdout, by itself: each kind of read in every split, its errors, and its time."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attachproto import OutputClosed, OutputEvent, RawOutput, Stderr, Stdout, Systemerr
from attachproto_adapters import EngineReportedError, IncompleteRead, SeparatorNotFound
from attachproto_adapters._flows._stdout_buffer import StdoutBuffer
from tests.helpers import cut_at, cuts

Ask = Callable[[StdoutBuffer], bytes | None]
Outcome = bytes | tuple[str, bytes]


def read(buffer: StdoutBuffer, events: list[OutputEvent], ask: Ask) -> bytes:
    """What a reader does: it adds an event only if one is needed."""
    while (data := ask(buffer)) is None:
        buffer.add(events.pop(0) if events else OutputClosed())
    return data


def outcome(buffer: StdoutBuffer, events: list[OutputEvent], ask: Ask) -> Outcome:
    try:
        return read(buffer, events, ask)
    except IncompleteRead as exc:
        return "incomplete", exc.partial
    except SeparatorNotFound:
        return "not found", b""


def exactly(n: int) -> Ask:
    return lambda buffer: buffer.readexactly(n)


def until(separator: bytes) -> Ask:
    return lambda buffer: buffer.readuntil(separator)


def line(buffer: StdoutBuffer) -> bytes | None:
    return buffer.readline()


def everything(buffer: StdoutBuffer) -> bytes | None:
    return buffer.read()


MESSAGES = b"Content-Length: 5\r\n\r\nhelloContent-Length: 0\r\n\r\n\r\nlast"
READS: list[tuple[Ask, Outcome]] = [
    (until(b"\r\n\r\n"), b"Content-Length: 5\r\n\r\n"),
    (exactly(0), b""),
    (exactly(5), b"hello"),
    (line, b"Content-Length: 0\r\n"),
    (line, b"\r\n"),
    (until(b"\n"), b"\r\n"),
    (exactly(5), ("incomplete", b"last")),
    (exactly(1), ("incomplete", b"")),
    (line, b""),
    (everything, b""),
]


def test_reads_in_every_split() -> None:
    for pieces in cuts(MESSAGES):
        buffer, events = StdoutBuffer(), [Stdout(each) for each in pieces]
        assert [outcome(buffer, events, ask) for ask, _ in READS] == [expected for _, expected in READS], pieces  # type: ignore[arg-type]


Step = tuple[str, Any]


def ask_of(step: Step) -> Ask:
    kind, value = step
    if kind == "exactly":
        return exactly(value)
    return {"until": until(value), "line": line, "all": everything}[kind]


def model(data: bytes, step: Step, limit: int) -> tuple[Outcome, bytes]:
    """What a read gives of this output, and what it leaves, without any thought of pieces."""
    kind, value = step
    if kind == "all":
        return data, b""
    if kind == "exactly":
        return (data[:value], data[value:]) if len(data) >= value else (("incomplete", data), b"")
    separator = b"\n" if kind == "line" else value
    at = data.find(separator)
    if at > limit or (at < 0 and len(data) + 1 - len(separator) > limit):
        return ("not found", b""), data
    if at >= 0:
        return data[: at + len(separator)], data[at + len(separator) :]
    return (data if kind == "line" else ("incomplete", data)), b""


STEPS = st.one_of(
    st.tuples(st.just("exactly"), st.integers(0, 12)),
    st.tuples(st.just("until"), st.sampled_from([b"\n", b"\r\n", b"\r\n\r\n", b"aab"])),
    st.tuples(st.sampled_from(["line", "all"]), st.none()),
)


@given(
    data=st.text("ab\r\n", max_size=40).map(str.encode),
    places=st.lists(st.integers(0, 40)),
    steps=st.lists(STEPS, max_size=8),
    limit=st.integers(1, 12),
)
def test_reads_are_those_of_the_whole_output(data: bytes, places: list[int], steps: list[Step], limit: int) -> None:
    buffer = StdoutBuffer()
    buffer.limit = limit
    events: list[OutputEvent] = [Stdout(each) for each in cut_at(data, places)]
    for step in steps:
        expected, data = model(data, step, limit)
        assert outcome(buffer, events, ask_of(step)) == expected


@given(data=st.binary(max_size=40), places=st.lists(st.integers(0, 40)), n=st.integers(1, 10))
def test_read_gives_what_is_there(data: bytes, places: list[int], n: int) -> None:
    buffer = StdoutBuffer()
    events: list[OutputEvent] = [Stdout(each) for each in cut_at(data, places)]
    found = []
    while piece := read(buffer, events, lambda buffer: buffer.read(n)):
        assert len(piece) <= n
        found.append(piece)
    assert b"".join(found) == data


def test_read_of_nothing_needs_nothing() -> None:
    assert StdoutBuffer().read(0) == b""


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda buffer: buffer.readexactly(-1), ValueError),
        (lambda buffer: buffer.readexactly(1.0), TypeError),
        (lambda buffer: buffer.read("1"), TypeError),
        (lambda buffer: buffer.read(None), TypeError),
        (lambda buffer: buffer.readuntil("\n"), TypeError),
        (lambda buffer: buffer.readuntil(b""), ValueError),
    ],
)
def test_arguments_are_checked_before_anything_is_taken(call: Ask, error: type[Exception]) -> None:
    buffer = StdoutBuffer()
    buffer.add(Stdout(b"data"))
    with pytest.raises(error):
        call(buffer)
    assert buffer.take_back() == [Stdout(b"data")]


@pytest.mark.parametrize("n", ["x", None, 1.5, True])
def test_a_number_of_bytes_that_is_none_is_named(n: Any) -> None:
    with pytest.raises(TypeError, match=f"^n is an int, not {n!r}$"):
        StdoutBuffer().read(n)


# ---- errors ----


def test_an_incomplete_read_says_what_came() -> None:
    buffer = StdoutBuffer()
    with pytest.raises(EOFError, match="after 2 bytes, before 3 bytes") as info:
        read(buffer, [Stdout(b"ab")], exactly(3))
    for error in (info.value, pickle.loads(pickle.dumps(info.value)), copy.copy(info.value)):
        assert isinstance(error, IncompleteRead)
        assert (error.partial, error.expected) == (b"ab", 3)
    with pytest.raises(IncompleteRead, match="after 0 bytes, before the separator") as caught:
        read(buffer, [], until(b"\n"))
    assert (caught.value.partial, caught.value.expected) == (b"", None)


def test_beyond_the_limit_nothing_is_taken() -> None:
    buffer = StdoutBuffer()
    buffer.limit = 4
    events: list[OutputEvent] = [Stdout(b"abcde\nf")]
    for _ in range(2):
        with pytest.raises(SeparatorNotFound, match="the first 4 bytes"):
            read(buffer, events, line)
    buffer.limit = 5
    assert read(buffer, events, line) == b"abcde\n"
    assert buffer.take_back() == [Stdout(b"f")]


def test_an_error_of_the_engine_comes_at_the_end() -> None:
    buffer = StdoutBuffer()
    events: list[OutputEvent] = [Stdout(b"ab"), Stderr(b"err"), Systemerr(b"disk full\n"), Stdout(b"c\nd")]
    assert read(buffer, events, line) == b"abc\n"
    for ask in (exactly(2), until(b"\n"), line):
        with pytest.raises(EngineReportedError, match="disk full") as info:
            read(buffer, events, ask)
        assert info.value.stderr == b"err"
    assert read(buffer, events, everything) == b"d"
    with pytest.raises(EngineReportedError):
        read(buffer, events, everything)


# ---- what is not stdout, and what is given back ----


def test_stderr_is_returned_and_its_end_is_kept() -> None:
    buffer = StdoutBuffer()
    assert buffer.add(Stderr(b"begin")) == b"begin"
    assert buffer.add(Stdout(b"out")) == b""
    assert buffer.stderr == b"begin"
    for number in range(100):
        buffer.add(Stderr(bytes([number]) * 10_000))
        assert len(buffer._stderr) <= 2 * 65536
    assert buffer.stderr == (b"".join(bytes([number]) * 10_000 for number in range(100)))[-65536:]
    assert buffer.take_back() == [Stdout(b"out")]


def test_what_is_given_back_is_not_read_again() -> None:
    buffer = StdoutBuffer()
    assert not buffer.holds_bytes
    assert read(buffer, [RawOutput(b"one\ntwo")], line) == b"one\n"
    assert buffer.holds_bytes
    assert buffer.take_back() == [RawOutput(b"two")]
    assert not buffer.holds_bytes
    assert read(buffer, [RawOutput(b"three")], everything) == b"three"
    assert buffer.take_back() == []


# ---- time ----


class Counted(bytearray):
    """Bytes that count how many of them are searched."""

    searched = 0

    def find(self, part: Any, start: Any = 0, end: Any = None) -> int:
        Counted.searched += len(self) - start
        return super().find(part, start)


@pytest.mark.parametrize("pieces", [100, 10_000])
def test_a_separator_behind_many_events_is_searched_in_linear_time(pieces: int) -> None:
    buffer = StdoutBuffer()
    buffer._data = Counted()
    buffer.limit = 10 * pieces
    Counted.searched = 0
    events: list[OutputEvent] = [Stdout(b"x" * 10) for _ in range(pieces)]
    data = read(buffer, [*events, Stdout(b"\r\n\r\n")], until(b"\r\n\r\n"))
    assert len(data) == 10 * pieces + 4
    assert Counted.searched <= 10 * pieces + 4 + 4 * (pieces + 1)  # three bytes may be the beginning of the separator
