"""What the targets share: cutting a stream, counting steps, counting what is held, and comparing two readings."""

from __future__ import annotations

import gc
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import BuiltinFunctionType, CodeType, FrameType, FunctionType, ModuleType
from typing import Any

import attrs

from attachproto import NEED_DATA, LocalProtocolError, RemoteProtocolError
from tests.helpers import frame

EVENT_MAX = 64 * 1024
"""No event of framed output is larger, in bytes."""

COUNTED_OF = 4
"""Of so many inputs one has its steps and its held bytes counted, because that takes most of the time."""

FLOOD_SIZE = 64 * 1024
"""How many bytes follow an input, at the least, before it is counted what is held. Each bound is far below it."""

FLOOD_PIECE = 16 * 1024
"""The largest piece of a flood, in bytes."""

_REPEATED = 4 * 1024


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
    """Whether steps and held bytes are counted for this input: of ``COUNTED_OF`` inputs for one."""
    return zlib.crc32(data) % COUNTED_OF == 0


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

    The line is several times above what the costliest input needs, because atheris adds calls of its own. A call for
    each pair of bytes, or for each pair of pieces, is above it where the input has 4 KiB. In a short input it is below.
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


def flood_of(stream: bytes) -> Iterator[bytes]:
    """What is received behind an input: its own bytes again and again, then bytes that fit into each kind of stream.

    The byte 1 is raw output and stdin. Between frames it begins a frame of stdout with 16 MiB, and it goes on with the
    payload or the header of any other frame.
    """
    if stream:
        yield stream * (1 + _REPEATED // len(stream))
    # Each is an object of its own, because an object that is held twice counts once.
    for _ in range(FLOOD_SIZE // FLOOD_PIECE):
        yield b"\1" * FLOOD_PIECE


def frames_of(payload: bytes) -> Iterator[bytes]:
    """``FLOOD_SIZE`` bytes of valid frames, from whose beginning a reader can read: some small ones, and large ones."""
    small = (frame(1, b"x") + frame(2, b"y") + frame(1, b"")) * 32
    yield small + frame(2, payload or b"z")
    for _ in range(FLOOD_SIZE // FLOOD_PIECE):
        yield frame(1, bytes(FLOOD_PIECE))


def drain(reader: Any, pieces: Iterable[bytes], after: Callable[[Any], object] = lambda _: None) -> None:
    """Receive these and take all that comes of them. An error ends nothing: what follows it must not be held either."""
    for piece in pieces:
        reader.receive_data(piece)
        with suppress(RemoteProtocolError, LocalProtocolError):
            while (event := reader.next_event()) is not NEED_DATA:
                after(event)


def check_held(reader: Any, empty: int, most: int, when: str) -> None:
    """Check that a reader holds no more than ``most`` bytes beyond the ``empty`` ones that it held at first."""
    held = held_bytes(reader) - empty
    assert held <= most, f"{held} bytes are held {when}, at most {most} expected"


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
