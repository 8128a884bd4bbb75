"""The output log: lines cut from records, and the last lines without reading all of it."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from attachproto_engine._lines import Lines
from attachproto_engine._output import STDERR, STDOUT, OutputLog, Record

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


@settings(max_examples=30, deadline=None)
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
