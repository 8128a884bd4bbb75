"""What the adapters hold, and how many steps they make, for output that is made to exceed every bound."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from attachproto import RemoteProtocolError, Response, Stderr, Stdout, Systemerr
from attachproto_adapters import EngineReportedError, SeparatorNotFound
from attachproto_adapters._flows._exec_events import exec_died
from attachproto_adapters._flows._inspect import read_json
from attachproto_adapters._flows._lines import LineSplitter
from attachproto_adapters._flows._marker import Marker, MarkerState, name_of_shell
from attachproto_adapters._flows._stdout_buffer import LIMIT, StdoutBuffer
from attachproto_adapters.cli import _writers
from fuzz import _invariants
from fuzz._invariants import counted, held_bytes
from tests.helpers import counts

MANY = counts(10_000, 1_000_000)


@pytest.fixture(autouse=True)
def _counted_always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_invariants, "is_counted", lambda data: True)


def steps_of(call: Callable[[], object]) -> int:
    with counted(b"") as steps:
        call()
    return steps.count


def check_linear(call: Callable[[int], object], count: int) -> None:
    """Twice as much takes at most twice the steps."""
    half, whole = (steps_of(functools.partial(call, size)) for size in (count // 2, count // 2 * 2))
    assert whole <= 2 * half + 2000, (half, whole)


def lines_of(splitter: LineSplitter, events: Iterator[Stdout]) -> int:
    found = 0
    for event in events:
        splitter.add(event)
        while splitter.next_line() is not None:
            found += 1
    return found


@pytest.mark.parametrize("progress", [False, True])
@pytest.mark.parametrize("timestamps", [False, True])
def test_a_million_lines_in_one_event(progress: bool, timestamps: bool) -> None:
    def read(count: int) -> None:
        splitter = LineSplitter(progress=progress, timestamps=timestamps)
        assert lines_of(splitter, iter([Stdout(b"\n" * count)])) == count

    check_linear(read, MANY)
    splitter = LineSplitter(progress=progress, timestamps=timestamps)
    for _ in range(3):
        lines_of(splitter, iter([Stdout(b"\n" * 50_000)]))
        assert held_bytes(splitter) < 101_000, "bytes and text of the last event, and nothing of those before"


@pytest.mark.parametrize("progress", [False, True])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_line_without_an_end(progress: bool, encoding: str) -> None:
    """It comes in pieces, and no more of it is held than one piece and the event."""
    longest = 1000

    def read(count: int) -> None:
        splitter = LineSplitter(encoding, max_length=longest, progress=progress)
        assert lines_of(splitter, iter([Stdout("x".encode(encoding))] * count)) <= 2 * count // longest

    check_linear(read, MANY)
    splitter = LineSplitter(encoding, max_length=longest, progress=progress)
    for _ in range(5 * longest // 100):
        lines_of(splitter, iter([Stdout("x".encode(encoding))] * 100))
        # Of each character both the text and the bytes.
        assert held_bytes(splitter) <= 6 * (longest + 102)


@pytest.mark.parametrize("size", [1, 7, 64, 10_000])
def test_a_line_with_a_prefix_without_an_end(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command's ``--prefix``: pieces of one length, however the bytes are cut."""
    monkeypatch.setattr(_writers, "LINE_MAX", 1000)
    data = b"begun\n" + b"x" * 1000 + b"\n" + b"y" * 2500 + b"\n\n" + b"z" * 1001
    line, lines = _writers._Line(), list[bytes]()
    for at in range(0, len(data), size):
        lines += line.add(data[at : at + size])
        assert held_bytes(line) <= 1000
    assert [*lines, line.take()] == [
        b"begun",
        b"x" * 1000,
        *(b"y" * 1000, b"y" * 1000, b"y" * 500),
        b"",
        *(b"z" * 1000, b"z"),
    ]
    assert line.take() == b""

    def read(count: int) -> None:
        line = _writers._Line()
        for _ in range(count):
            line.add(b"x" * 64)

    check_linear(read, MANY)


def test_a_separator_that_does_not_come() -> None:
    buffer = StdoutBuffer()
    empty = held_bytes(buffer)

    def read(count: int) -> None:
        for _ in range(count):
            buffer.add(Stdout(b"x" * 64))
            try:
                assert buffer.readline() is None
            except SeparatorNotFound:
                assert held_bytes(buffer) - empty <= LIMIT + 2 * 64
                buffer.read(10**9)

    check_linear(read, MANY)


@pytest.mark.parametrize("kind", [Stderr, Systemerr])
def test_what_nobody_reads_is_held_to_a_bound(kind: type[Stderr] | type[Systemerr]) -> None:
    """Of stderr the end, of the engine's own errors the beginning. Found by counting: the errors had no bound."""
    buffer = StdoutBuffer()
    empty = held_bytes(buffer)
    for _ in range(100):
        buffer.add(kind(bytes(10_000)))
    buffer.add(kind(b"last"))
    assert held_bytes(buffer) - empty <= 2 * 64 * 1024 + 4
    assert buffer.stderr.endswith(b"last") == (kind is Stderr)


def test_the_beginning_of_a_long_error_is_what_is_raised() -> None:
    buffer = StdoutBuffer()
    buffer.add(Systemerr(b"no space left"))
    buffer.add(Systemerr(b"x" * 10**6))
    buffer.ended = True
    with pytest.raises(EngineReportedError, match="no space left") as caught:
        buffer.read()
    assert len(caught.value.message) == 64 * 1024


@pytest.mark.parametrize("size", [1, 100, 10**6])
@pytest.mark.parametrize("begin", [b"", name_of_shell("ab12").encode() + b" "])
def test_a_first_line_without_an_end(begin: bytes, size: int) -> None:
    """A command whose output looks like the marker's line, and never ends it, or does not have it."""
    marker = Marker("ab12")
    empty = held_bytes(marker)
    data = begin + b"x" * max(size, 10_000)
    given = 0
    for at in range(0, len(data), size):
        given += len(marker.feed(data[at : at + size]))
        assert held_bytes(marker) - empty <= 2048 + size * (size < 10**6)
    assert marker.state is MarkerState.MISSED
    assert given == len(data)


def test_a_flood_of_events_in_an_answer() -> None:
    line = json.dumps({"Actor": {"Attributes": {"execID": "other", "exitCode": "0"}}}).encode() + b"\n"
    check_linear(lambda count: exec_died(Response(200, (), line * count), "e1"), MANY // 10)
    check_linear(lambda count: exec_died(Response(200, (), b"\n" * count), "e1"), MANY // 10)


@pytest.mark.parametrize("body", [b"[" * 100_000, b"1" * 100_000, b'{"a":' * 50_000, b'"' + b"\\u0041" * 50_000 + b'"'])
def test_a_document_that_is_made_to_cost_much(body: bytes) -> None:
    """Deep nesting and long numbers are refused, and the rest is read in so many steps as it is long."""

    def read() -> Any:
        with contextlib.suppress(RemoteProtocolError):
            read_json(Response(200, (), body))

    assert steps_of(read) < 1000
