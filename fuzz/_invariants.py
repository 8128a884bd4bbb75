"""What the targets share: cutting a stream, counting steps, counting what is held, and comparing two readings."""

from __future__ import annotations

import gc
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import BuiltinFunctionType, CodeType, FrameType, FunctionType, ModuleType
from typing import Any

import attrs

from attachproto import NEED_DATA, LocalProtocolError, RemoteProtocolError

EVENT_MAX = 64 * 1024
"""No event of framed output is larger, in bytes."""


def pieces_of(data: bytes, seed: int) -> list[bytes]:
    """Cut a stream. A seed of 0 gives single bytes; any other gives pieces of 1 to 64 bytes, the same for each run."""
    if seed == 0:
        return [data[at : at + 1] for at in range(len(data))]
    pieces, at = [], 0
    while at < len(data):
        seed = (seed * 1103515245 + 12345) % 2**31
        size = 1 + (seed >> 16) % (64 if seed & 4096 else 4)
        pieces.append(data[at : at + size])
        at += size
    return pieces


@attrs.define
class Steps:
    """How many calls of functions were made, of Python's and of C's."""

    count: int = 0


def is_counted(data: bytes) -> bool:
    """Whether steps and held bytes are counted for this input: for one of four, because that takes most of the time."""
    return zlib.crc32(data) % 4 == 0


@contextmanager
def counted(data: bytes) -> Iterator[Steps]:
    """Count the calls that are made inside. A clock would depend on the machine, and this number does not.

    Args:
        data: the whole input; if it ``is_counted``.
    """
    steps = Steps()
    if not is_counted(data):
        yield steps
        return

    def profile(frame: FrameType, event: str, arg: object) -> None:
        if event in ("call", "c_call"):
            steps.count += 1

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        yield steps
    finally:
        sys.setprofile(before)


def check_linear(steps: Steps, size: int, pieces: int, *, per_byte: int = 40, per_piece: int = 400) -> None:
    """Check that the number of steps is bounded by a line through the input's size and the number of its pieces.

    The slopes are about ten times what the costliest input needs, because atheris adds calls of its own. Anything that
    grows with the square of an input of 4 KiB is above them.
    """
    most = 30_000 + per_byte * size + per_piece * pieces
    assert steps.count <= most, f"{steps.count} calls for {size} bytes in {pieces} pieces, at most {most} expected"


_UNFOLLOWED = (type, ModuleType, BuiltinFunctionType, CodeType)


def held_bytes(*roots: object) -> int:
    """How many bytes and characters these objects hold, with all that they refer to.

    Classes, modules and the globals of functions are left out, because all connections share them.
    """
    seen: set[int] = set()
    todo: list[Any] = list(roots)
    held = 0
    while todo:
        value = todo.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, bytes | bytearray | str):
            held += len(value)
        elif isinstance(value, memoryview):
            held += value.nbytes
        elif isinstance(value, FunctionType):
            todo += value.__closure__ or ()
        elif not isinstance(value, _UNFOLLOWED):
            todo += gc.get_referents(value)
    return held


@attrs.define
class Reading:
    """What came of a stream.

    Attributes:
        events: in order.
        error: what was raised, if anything.
    """

    events: list[Any] = attrs.Factory(list)
    error: RemoteProtocolError | None = None


Check = Callable[[Any], object]


def read(reader: Any, pieces: Sequence[bytes], *, eof: bool, after: Check, parsed: Check = lambda _: None) -> Reading:
    """Read a stream to its last event, its error, or ``NEED_DATA``, and check what holds of every reader.

    Args:
        reader: a ``Connection`` or a ``FrameDecoder``.
        pieces: what is received.
        eof: whether the end of file follows.
        after: called with each event.
        parsed: called with the reader when all that was received has been parsed.
    """
    reading = Reading()
    for piece in (*pieces, *((b"",) if eof else ())):
        reader.receive_data(piece)
        while True:
            try:
                event = reader.next_event()
            except RemoteProtocolError as error:
                reading.error = error
                _check_raised_again(reader, error)
                return reading
            except LocalProtocolError:
                # The last event was given, so ``events`` stops too.
                assert list(reader.events()) == []
                return reading
            if event is NEED_DATA:
                assert piece, "NEED_DATA after the end of file"
                parsed(reader)
                break
            reading.events.append(event)
            after(event)
    return reading


def _check_raised_again(reader: Any, error: RemoteProtocolError) -> None:
    try:
        reader.next_event()
    except RemoteProtocolError as again:
        assert (str(again), again.reason) == (str(error), error.reason)
    else:
        raise AssertionError(f"an event after {error!r}")


def payload_size(events: Iterable[Any]) -> int:
    """How many bytes of payload these events have. Each payload must be bytes, and not empty."""
    total = 0
    for event in events:
        data = getattr(event, "data", None)
        if data is not None:
            assert type(data) is bytes
            assert data
            total += len(data)
    return total
