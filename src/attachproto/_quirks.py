"""Quirks: opt-in workarounds for known bugs of single engines.

Strategy: a stream does not say who wrote it, so a quirk is never detected from the bytes. The caller knows the engine
(Podman sends its version in the header ``Libpod-Api-Version``) and names the quirks. Each quirk is a filter between
the source of chunks and its reader. Without quirks there is no filter, and no cost.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Callable, Iterable
from typing import Final

from attachproto._errors import RemoteProtocolError
from attachproto._events import Framing, OutputClosed, Systemerr
from attachproto._receive_buffer import END, Chunk, ChunkSource
from attachproto._signals import NEED_DATA


class Quirk(enum.Enum):
    """A known bug of an engine in the output of an attach or exec. For clients only; ``Logs`` ignores quirks."""

    NEWLINE_OUTSIDE_FRAME = "newline-outside-frame"
    """Podman before 4.4 puts the newline of a replayed line behind the line's frame.

    It does so in an attach with ``logs=True`` to a container without a TTY. The length in the header does not count the
    newline: ``01 00 00 00 00 00 00 04``, then ``out1\\n``. Pieces of a long line have no newline. Frames of live
    output, which may follow, are right.
    (Fixed by podman 1424f0958f in 4.4.0: podman#16856. Recorded from 4.3.1.)

    With the quirk, one byte 10 where a frame would begin is data of the stream whose frame came last. This is exact,
    because no frame begins with 10. A second such byte, or one before the first frame, is an error as without the
    quirk. The stream may end where a newline could have come.
    """

    DETACHED_TEXT = "detached-text"
    """Podman before 5.4 sends ``Error: detached from container\\n`` when it has seen the detach keys.

    The text is a frame of stderr, or bare on a TTY. Then the stream ends.
    (Removed by podman f0ef791808, in 5.4.0 as 9e2e7f2a77. Recorded from 4.3.1.)

    With the quirk, this text with a clean end right behind it is a ``Systemerr``, not output. Where output is
    framed, it must be the whole of a frame of type 2. Bytes that may be its beginning are held back until more bytes or
    the end come, so a TTY's output that stops in ``E`` is delivered later. No more than the text is held. If other
    bytes follow, or the end is an error, the held bytes are delivered as output. If the transport fails, give ``b""``
    to get the held bytes.
    """

    def __repr__(self) -> str:
        return f"Quirk.{self.name}"


NEWLINE: Final = ord("\n")
_DETACHED: Final = b"Error: detached from container\n"
_FRAME_HEADER: Final = struct.Struct(">BxxxL")
_STDERR: Final = 2

EndEvent = Callable[[], Systemerr | OutputClosed]
"""Makes the event for the end of a source."""


def check_quirks(quirks: Iterable[Quirk]) -> frozenset[Quirk]:
    """The quirks as a set; ``TypeError`` if they are no iterable, or a member is not a ``Quirk``."""
    if not isinstance(quirks, Iterable):
        raise TypeError(f"quirks are members of Quirk, not {quirks!r}: give them in a list")
    found = tuple(quirks)
    for quirk in found:
        if not isinstance(quirk, Quirk):
            raise TypeError(f"quirks are members of Quirk, not {quirk!r}")
    return frozenset(found)


def filter_source(
    take: ChunkSource, framing: Framing, quirks: frozenset[Quirk], between_frames: Callable[[], bool]
) -> tuple[ChunkSource, EndEvent]:
    """Put the filters of these quirks between a source of chunks and its reader.

    Args:
        take: the source.
        framing: of the output.
        quirks: the quirks. Without any, the source itself is returned.
        between_frames: whether the reader, which has read all chunks that it took, is between two frames.

    Returns:
        The source for the reader, and what makes the event for the end of that source.
    """
    end_event: EndEvent = OutputClosed
    framed = framing is Framing.MULTIPLEXED
    if framed and Quirk.NEWLINE_OUTSIDE_FRAME in quirks:
        take = NewlineFilter(take).take
    if Quirk.DETACHED_TEXT in quirks:
        header = _FRAME_HEADER.pack(_STDERR, len(_DETACHED)) if framed else b""
        detached = DetachTextFilter(take, header + _DETACHED, between_frames)
        take, end_event = detached.take, detached.end_event
    return take, end_event


class NewlineFilter:
    """A source of chunks that puts a newline outside of a frame into a frame of its own.

    Args:
        take: the source. It begins with a frame.
    """

    def __init__(self, take: ChunkSource) -> None:
        self._take = take
        self._header = b""
        # How much payload of the present frame has not come yet.
        self._left = 0
        # The type of the frame before. None where no newline may come: at the beginning, and behind such a newline.
        self._kind: int | None = None

    def take(self) -> Chunk:
        """The next chunk of the source, with a header before each newline that has none."""
        chunk = self._take()
        if not isinstance(chunk, bytes):
            return chunk
        pieces: list[bytes] = []
        copied = at = 0
        while at < len(chunk):
            if self._left:
                step = min(self._left, len(chunk) - at)
                self._left -= step
                at += step
            elif chunk[at] == NEWLINE and not self._header and self._kind is not None:
                pieces += (chunk[copied:at], _FRAME_HEADER.pack(self._kind, 1))
                copied = at
                at += 1
                self._kind = None
            else:
                step = min(_FRAME_HEADER.size - len(self._header), len(chunk) - at)
                self._header += chunk[at : at + step]
                at += step
                if len(self._header) == _FRAME_HEADER.size:
                    self._kind, self._left = _FRAME_HEADER.unpack(self._header)
                    self._header = b""
        return b"".join((*pieces, chunk[copied:])) if pieces else chunk


class DetachTextFilter:
    """A source of chunks that removes the detach text from the end of a stream.

    Strategy: the text begins with a byte that does not come again in it, so a chunk has one place where the text may
    begin. Held bytes are not joined with the next chunk, because an event never holds bytes of two reads.

    Args:
        take: the source.
        wire: the text as it comes on the wire, with its header if it has one.
        may_begin: whether the text may begin where the reader is, which has read all chunks that it took.
    """

    def __init__(self, take: ChunkSource, wire: bytes, may_begin: Callable[[], bool]) -> None:
        self._take = take
        self._wire = wire
        self._may_begin = may_begin
        self._held = b""
        self._next = b""
        self._detached = False

    def take(self) -> Chunk:
        """The next chunk of the source, without the text. An error of the source comes after the held bytes."""
        while True:
            if self._held and not self._may_begin():
                return self._release()
            try:
                chunk: Chunk = self._next or self._take()
            except RemoteProtocolError:
                if self._held:
                    return self._release()
                raise
            self._next = b""
            if chunk is NEED_DATA:
                return NEED_DATA
            if chunk is END:
                self._detached = self._held == self._wire
                return self._release() if self._held and not self._detached else END
            if self._wire.startswith(self._held + chunk):
                self._held += chunk
            elif self._held:
                self._next = chunk
                return self._release()
            else:
                at = chunk.rfind(self._wire[:1], -len(self._wire))
                if at < 0 or not self._wire.startswith(chunk[at:]):
                    return chunk
                self._held = chunk[at:]
                return chunk[:at]

    def end_event(self) -> Systemerr | OutputClosed:
        """The event for the ``END`` that ``take`` returned. A ``Systemerr`` is followed by another ``END``."""
        if self._detached:
            self._held = b""
            return Systemerr(_DETACHED)
        return OutputClosed()

    def _release(self) -> bytes:
        held, self._held = self._held, b""
        return held
