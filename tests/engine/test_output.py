"""The output log: lines cut from records, and the last lines without reading all of it."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attachproto import demux
from attachproto_engine import Engine
from attachproto_engine._lines import Lines
from attachproto_engine._output import STDERR, STDOUT, OutputLog, Record
from tests.engine.client import attached, call, read_all, shell, start

PIECES = st.lists(
    st.tuples(
        st.sampled_from([STDOUT, STDERR]),
        st.lists(st.sampled_from([b"a", b"\n", b"\r", b"word", b"x" * 9000]), min_size=1, max_size=3).map(b"".join),
    ),
    max_size=30,
)


def naive(pieces: list[tuple[int, bytes]], stream: int) -> list[bytes]:
    found = []
    for line in b"".join(data for kind, data in pieces if kind == stream).split(b"\n"):
        text = line + b"\n"
        while len(text) > 16384:
            found.append(text[:16384])
            text = text[16384:]
        found.append(text)
    last = found.pop()[:-1]
    return found + ([last] if last else [])


@given(PIECES)
def test_lines(pieces: list[tuple[int, bytes]]) -> None:
    lines = Lines()
    found = list(lines.feed(Record(stream, 0, data) for stream, data in pieces)) + list(lines.flush())
    for stream in (STDOUT, STDERR):
        assert [line.data for line in found if line.stream == stream] == naive(pieces, stream)


@settings(max_examples=30)
@given(PIECES, st.integers(1, 40), st.integers(0, 50))
def test_the_tail_is_the_end_of_the_whole(pieces: list[tuple[int, bytes]], times: int, count: int) -> None:
    async def check() -> None:
        log = OutputLog()
        for stream, data in pieces * times:
            log.append(stream, data, 0)
        log.end_run(0)

        def read(position: int) -> list[Record]:
            lines = Lines()
            found: list[Record] = []
            while position < log.size:
                records, position = log.read(position, log.size)
                found += lines.feed(records)
            return found

        whole, tail = read(0), read(log.tail(count))
        # The wanted lines are there and whole; the caller skips the others.
        wanted = min(count, len(whole))
        assert tail[len(tail) - wanted :] == whole[len(whole) - wanted :]
        log.release()

    asyncio.run(check())


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    bound = 2 * 1024 * 1024
    monkeypatch.setattr("attachproto_engine._output._FILE_MAX", bound)
    with Engine() as engine:
        shell(engine, "web", "seq 1 800000")
        with attached(engine, "web", "stream=1&stdout=1") as sock:
            start(engine, "web")
            # A client that is attached holds the container back, and gets every byte.
            whole = demux(read_all(sock))[0]
        assert whole == b"".join(b"%d\n" % number for number in range(1, 800_001))
        kept = demux(call(engine, "GET", "/containers/web/logs?stdout=1").body)[0]
        assert whole.endswith(kept)
        assert bound < len(kept) < 2 * bound + 200_000
        tail = demux(call(engine, "GET", "/containers/web/logs?stdout=1&tail=3").body)[0]
        assert tail == b"799998\n799999\n800000\n"


def test_a_reader_that_is_too_far_behind_goes_on_at_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attachproto_engine._output._FILE_MAX", 1000)

    async def check() -> None:
        log = OutputLog()
        cursor = log.follow(0, gates=False)
        for number in range(1000):
            log.append(STDOUT, b"%04d\n" % number, 0)
        cursor.stop()
        found = []
        while records := await cursor.records():
            found += [int(record.data) for record in records]
        assert found == list(range(found[0], 1000))
        assert 50 < len(found) < 150
        cursor.close()
        log.release()

    asyncio.run(check())
