"""Other people's readers of frames beside ours, on the same bytes: Go's stdcopy, and the two of aiodocker.

On a whole stream of stdout and stderr all agree (``test_whole_streams``). Elsewhere they do not, and each row here is
asserted in ``CASES``, and on arbitrary streams below:

| in the stream | ours | stdcopy | aiodocker, attach and exec | aiodocker, logs |
| --- | --- | --- | --- | --- |
| type 0 | stdout | stdout | a message of stream 0 | payload |
| type 3 | ``Systemerr``; it goes on | an error; the rest is lost | a message of stream 3 | payload |
| an unknown type | an error behind what came | an error | a message of that stream | payload |
| the first byte of an unknown type, then the end | an error | an end | an end | an end |
| the end inside a header | an error | an end | an end | an end |
| the end inside a payload | the part that came, an error | an end; the part is lost | likewise | likewise |
| padding that is not zero | ignored | ignored | ignored | ignored |
| an empty frame | no event | nothing | a message without data | nothing |
| a frame that announces 4 GiB | 8 bytes are held | allocates 4 GiB | waits for all of it | waits for all of it |

The last row is not run here: ``tests/core/test_bounds.py`` shows ours, and stdcopy would allocate. The payloads of
aiodocker's logs have no stream: stdout and stderr cannot be told apart.

Why ours differs: the engine ends a stream with a frame of type 3 by itself, so who stops there loses what comes before
that end. And an end inside a frame is a cut connection. A program that takes it for the end of the output is wrong.
"""

from __future__ import annotations

import asyncio
import base64
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attachproto import FrameDecoder, OutputClosed, Reason, Stderr, Stdout, Systemerr
from tests.helpers import EOF, counts, cut_at, frame, read_all
from tests.peers import programs
from tests.peers.go_programs import GoProgram, running

pytestmark = pytest.mark.peers

CASES_PER_TEST = counts(150, 5000)


@attrs.frozen
class Read:
    """What a reader has made of a stream.

    Attributes:
        stdout, stderr: the bytes of each.
        error: the text of the error; empty if there was none.
    """

    stdout: bytes
    stderr: bytes
    error: str = ""


class Stdcopy:
    """The program of ``stdcopy.go``."""

    def __init__(self, program: GoProgram) -> None:
        self._program = program

    def read(self, stream: bytes) -> Read:
        found = self._program.ask(stream)
        stdout, stderr = (base64.b64decode(found[name] or "") for name in ("Stdout", "Stderr"))
        return Read(stdout, stderr, found["Error"])


@pytest.fixture(scope="module")
def stdcopy(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stdcopy]:
    with running(pytestconfig, "Go's stdcopy", programs.stdcopy, tmp_path_factory.mktemp("stdcopy")) as program:
        yield Stdcopy(program)


class Queue:
    """In place of aiodocker's queue, which needs a connection."""

    def __init__(self) -> None:
        self.messages: list[Any] = []
        self.ended = False

    def feed_data(self, message: Any, size: int) -> None:
        assert size == len(message.data)
        self.messages.append(message)

    def feed_eof(self) -> None:
        self.ended = True


def read_by_attach(aiodocker: Any, pieces: Iterable[bytes]) -> list[tuple[int, bytes]]:
    """The messages of the parser that aiodocker puts into the connection of an attach or exec."""
    queue = Queue()
    parser = aiodocker.stream._ExecParser(queue)
    for piece in pieces:
        parser.feed_data(piece)
    parser.feed_eof()
    assert queue.ended
    return [(message.stream, message.data) for message in queue.messages]


def read_by_logs(aiodocker: Any, pieces: Iterable[bytes]) -> list[bytes]:
    """The payloads of the reader that aiodocker puts around the body of the answer to ``/logs``."""
    from aiohttp import StreamReader
    from aiohttp.base_protocol import BaseProtocol

    class Answer:
        content: StreamReader

        async def release(self) -> None:
            pass

    async def read() -> list[bytes]:
        loop = asyncio.get_running_loop()
        answer = Answer()
        answer.content = StreamReader(BaseProtocol(loop), 2**16, loop=loop)
        for piece in pieces:
            answer.content.feed_data(piece)
        answer.content.feed_eof()
        return [data async for data in aiodocker.multiplexed.MultiplexedResult(answer, raw=False)]

    return asyncio.run(read())


def ours(pieces: Sequence[bytes]) -> tuple[Read, bytes, Reason | None]:
    """Our reading: stdout and stderr with the error, what came as type 3, and the reason of the error."""
    events, error = read_all(FrameDecoder(), [*pieces, EOF])
    found = {kind: b"".join(e.data for e in events if type(e) is kind) for kind in (Stdout, Stderr, Systemerr)}
    assert (error is None) == (events[-1:] == [OutputClosed()])
    reason = None if error is None else error.reason
    return Read(found[Stdout], found[Stderr], str(error or "")), found[Systemerr], reason


# ---- one row after the other ----

UNKNOWN, CUT = Reason.UNKNOWN_STREAM_TYPE, Reason.CUT_IN_FRAME
A, E = frame(1, b"a"), frame(2, b"e")

Ours = tuple[bytes, bytes, bytes, Reason | None]
Messages = list[tuple[int, bytes]]

# name: (stream, ours, stdcopy, aiodocker's attach, aiodocker's logs)
CASES: dict[str, tuple[bytes, Ours, Read, Messages, list[bytes]]] = {
    "nothing": (b"", (b"", b"", b"", None), Read(b"", b""), [], []),
    "stdout and stderr": (
        A + E + A,
        (b"aa", b"e", b"", None),
        Read(b"aa", b"e"),
        [(1, b"a"), (2, b"e"), (1, b"a")],
        [b"a", b"e", b"a"],
    ),
    "type 0": (
        frame(0, b"in") + A,
        (b"ina", b"", b"", None),
        Read(b"ina", b""),
        [(0, b"in"), (1, b"a")],
        [b"in", b"a"],
    ),
    "type 3": (
        A + frame(3, b"boom") + E,
        (b"a", b"e", b"boom", None),
        Read(b"a", b"", "error from daemon in stream: boom"),
        [(1, b"a"), (3, b"boom"), (2, b"e")],
        [b"a", b"boom", b"e"],
    ),
    "an unknown type": (
        A + frame(4, b"x") + E,
        (b"a", b"", b"", UNKNOWN),
        Read(b"a", b"", "Unrecognized input header: 4"),
        [(1, b"a"), (4, b"x"), (2, b"e")],
        [b"a", b"x", b"e"],
    ),
    "the first byte of an unknown type": (A + b"\xff", (b"a", b"", b"", UNKNOWN), Read(b"a", b""), [(1, b"a")], [b"a"]),
    "an end inside a header": (A + E[:7], (b"a", b"", b"", CUT), Read(b"a", b""), [(1, b"a")], [b"a"]),
    "an end behind a header": (A + E[:8], (b"a", b"", b"", CUT), Read(b"a", b""), [(1, b"a")], [b"a"]),
    "an end inside a payload": (
        A + frame(2, b"err", length=9),
        (b"a", b"err", b"", CUT),
        Read(b"a", b""),
        [(1, b"a")],
        [b"a"],
    ),
    "padding that is not zero": (
        b"\x01\x01\x02\x03\0\0\0\x01a",
        (b"a", b"", b"", None),
        Read(b"a", b""),
        [(1, b"a")],
        [b"a"],
    ),
    "empty frames": (
        frame(1, b"") + frame(2, b"") + A,
        (b"a", b"", b"", None),
        Read(b"a", b""),
        [(1, b""), (2, b""), (1, b"a")],
        [b"a"],
    ),
    "an empty frame of type 3": (
        A + frame(3, b"") + E,
        (b"a", b"e", b"", None),
        Read(b"a", b"", "error from daemon in stream: "),
        [(1, b"a"), (3, b""), (2, b"e")],
        [b"a", b"e"],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_where_they_differ(name: str, stdcopy: Stdcopy, aiodocker: Any) -> None:
    stream, (stdout, stderr, systemerr, reason), by_stdcopy, by_attach, by_logs = CASES[name]
    read, reported, found = ours([stream])
    assert (read.stdout, read.stderr, reported, found) == (stdout, stderr, systemerr, reason)
    assert stdcopy.read(stream) == by_stdcopy
    for pieces in [stream], [stream[at : at + 1] for at in range(len(stream))]:
        assert read_by_attach(aiodocker, pieces) == by_attach
        assert read_by_logs(aiodocker, pieces) == by_logs


# ---- arbitrary streams ----

# Announced lengths are small, because stdcopy allocates what is announced.
payloads = st.binary(max_size=30)
kinds_of_output = st.sampled_from([1, 2])
paddings = st.binary(min_size=3, max_size=3)


def written(frames: Iterable[tuple[int, bytes, bytes]]) -> bytes:
    return b"".join(bytes([kind]) + padding + struct.pack(">L", len(data)) + data for kind, data, padding in frames)


def by_kind(messages: Iterable[tuple[int, bytes]], *kinds: int) -> bytes:
    return b"".join(data for kind, data in messages if kind in kinds)


@given(st.lists(st.tuples(kinds_of_output, payloads, paddings), max_size=12), st.data())
@settings(max_examples=CASES_PER_TEST)
def test_whole_streams(
    stdcopy: Stdcopy, aiodocker: Any, frames: list[tuple[int, bytes, bytes]], data: st.DataObject
) -> None:
    stream = written(frames)
    pieces = cut_at(stream, data.draw(st.lists(st.integers(0, len(stream)))))
    expected = Read(by_kind([f[:2] for f in frames], 1), by_kind([f[:2] for f in frames], 2))
    assert ours(pieces) == (expected, b"", None)
    assert stdcopy.read(stream) == expected
    messages = read_by_attach(aiodocker, pieces)
    assert Read(by_kind(messages, 1), by_kind(messages, 2)) == expected
    assert read_by_logs(aiodocker, pieces) == [payload for _, payload, _ in frames if payload]


@given(st.lists(st.tuples(st.integers(0, 2), payloads, paddings), min_size=1, max_size=6), st.data())
@settings(max_examples=CASES_PER_TEST)
def test_streams_that_are_cut(
    stdcopy: Stdcopy, aiodocker: Any, frames: list[tuple[int, bytes, bytes]], data: st.DataObject
) -> None:
    """The others have all frames that are whole, and no error. Ours has the rest, and one error if a frame was cut."""
    stream = written(frames)
    cut = stream[: data.draw(st.integers(0, len(stream)))]
    pieces = cut_at(cut, data.draw(st.lists(st.integers(0, len(cut)))))
    read, _, reason = ours(pieces)
    theirs, messages = stdcopy.read(cut), read_by_attach(aiodocker, pieces)
    assert theirs.error == ""
    assert (by_kind(messages, 0, 1), by_kind(messages, 2)) == (theirs.stdout, theirs.stderr)
    assert read_by_logs(aiodocker, pieces) == [payload for _, payload in messages if payload]
    assert read.stdout.startswith(theirs.stdout)
    assert read.stderr.startswith(theirs.stderr)
    whole = len(written((kind, payload, b"\0\0\0") for kind, payload in messages))
    rest = max(0, len(cut) - whole - 8)
    assert len(read.stdout + read.stderr) == len(theirs.stdout + theirs.stderr) + rest
    assert reason is (None if whole == len(cut) else CUT)


@given(st.lists(st.tuples(st.integers(0, 6), payloads, paddings), max_size=8))
@settings(max_examples=CASES_PER_TEST)
def test_streams_with_other_types(stdcopy: Stdcopy, aiodocker: Any, frames: list[tuple[int, bytes, bytes]]) -> None:
    """Up to the first frame of another type all agree; what each does then is in the table."""
    stream = written(frames)
    read, systemerr, reason = ours([stream])
    theirs, messages = stdcopy.read(stream), read_by_attach(aiodocker, [stream])
    assert messages == [(kind, payload) for kind, payload, _ in frames]
    assert read_by_logs(aiodocker, [stream]) == [payload for _, payload, _ in frames if payload]
    until_unknown = list(_until(messages, 4))
    assert (read.stdout, read.stderr) == (by_kind(until_unknown, 0, 1), by_kind(until_unknown, 2))
    assert systemerr == by_kind(until_unknown, 3)
    assert reason is (None if until_unknown == messages else UNKNOWN)
    until_error = list(_until(messages, 3))
    assert (theirs.stdout, theirs.stderr) == (by_kind(until_error, 0, 1), by_kind(until_error, 2))
    if until_error == messages:
        assert theirs.error == ""
    else:
        kind, payload = messages[len(until_error)]
        if kind == 3:
            assert theirs.error.startswith("error from daemon in stream: ")
            assert payload.isascii() is False or theirs.error.endswith(payload.decode())
        else:
            assert theirs.error == f"Unrecognized input header: {kind}"


def _until(messages: Iterable[tuple[int, bytes]], kind: int) -> Iterator[tuple[int, bytes]]:
    for message in messages:
        if message[0] >= kind:
            return
        yield message


@given(st.binary(max_size=60))
@settings(max_examples=CASES_PER_TEST)
def test_any_bytes(stdcopy: Stdcopy, stream: bytes) -> None:
    """Bytes that are no frames: what stdcopy gives out before it stops, ours gives out too."""
    tame = bytearray(stream)
    at = 0
    while at + 8 <= len(tame):
        tame[at + 4 : at + 6] = b"\0\0"  # so that no frame announces more than 64 KiB
        at += 8 + int.from_bytes(tame[at + 4 : at + 8], "big")
    read, _, reason = ours([bytes(tame)])
    theirs = stdcopy.read(bytes(tame))
    assert read.stdout.startswith(theirs.stdout)
    assert read.stderr.startswith(theirs.stderr)
    if theirs.error.startswith("Unrecognized"):
        assert reason is UNKNOWN
