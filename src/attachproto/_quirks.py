"""What some engines write otherwise than the protocol has it: names for it, and how it is read.

Strategy: a stream does not tell who wrote it, so nothing here is ever found out by looking at one. The caller knows its
engine (Podman says its version in the header ``Libpod-Api-Version``) and names what has to be read otherwise; without
a name the stream is read as the protocol has it, and at the same cost.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Callable, Iterable
from typing import Final

from attachproto._errors import RemoteProtocolError
from attachproto._events import Framing, OutputClosed, Systemerr
from attachproto._inbox import Take


class Quirk(enum.Enum):
    """What one engine writes in the output of an attach or exec, and no other does. For clients; logs have none."""

    NEWLINE_OUTSIDE_FRAME = "newline-outside-frame"
    """Podman before 4.4, where an attach with ``logs=True`` to a container without a TTY replays lines.

    The newline behind a line is not counted by the line's frame: ``01 00 00 00 00 00 00 04`` and then ``out1\\n``.
    Pieces of a long line have none, and frames of live output, which may follow, are right.
    (podman 1424f0958f mended it for 4.4.0: podman#16856. Recorded of 4.3.1.)

    Reading: where a frame would begin, one byte 10 is data of the stream whose frame came last. That is exact, because
    no frame begins with 10. A second one, or one before any frame, is an error as ever; an end where a newline might
    have come is a clean one.
    """

    DETACHED_TEXT = "detached-text"
    """Podman before 5.4, when the detach keys came: its last words are ``Error: detached from container\\n``.

    They come as a frame of stderr, or bare on a TTY; then the stream ends.
    (podman f0ef791808, picked for 5.4.0 as 9e2e7f2a77, leaves them away. Recorded of 4.3.1.)

    Reading: exactly this text, with a clean end right behind it, is a ``Systemerr`` and no output; as frame it must
    be one of its own, of type 2. To know, what may be its beginning is held back until more comes or the end, never
    more than the text itself: so a TTY's output that stops in ``E`` shows it later. Where the text goes otherwise, or
    the end is an error, what was held comes as the output that it is. A transport that is reset brings no end: give
    ``b""`` to have what is held.
    """

    def __repr__(self) -> str:
        return f"Quirk.{self.name}"


DETACHED: Final = b"Error: detached from container\n"


def checked(quirks: Iterable[Quirk]) -> frozenset[Quirk]:
    """The quirks that were named; ``TypeError`` for what is none."""
    found = frozenset(quirks)
    for quirk in found:
        if not isinstance(quirk, Quirk):
            raise TypeError(f"quirks are members of Quirk, and {quirk!r} is none")
    return found


_FRAME_HEADER: Final = struct.Struct(">BxxxL")
_STDERR: Final = 2
_NEWLINE: Final = ord("\n")


def filtered(
    take: Take, framing: Framing, quirks: frozenset[Quirk], between_frames: Callable[[], bool]
) -> tuple[Take, Callable[[], Systemerr | OutputClosed]]:
    """Put the filters of these quirks between a source of chunks and its reader, which then needs to know none of them.

    Args:
        take: the source.
        framing: of the output.
        quirks: the quirks; without any, the source itself comes back.
        between_frames: whether the reader, which has read all that it took, is between two frames.

    Returns:
        The source for the reader, and what the end of that source means.
    """
    closed: Callable[[], Systemerr | OutputClosed] = OutputClosed
    framed = framing is Framing.MULTIPLEXED
    if framed and Quirk.NEWLINE_OUTSIDE_FRAME in quirks:
        take = NewlineFilter(take).take
    if Quirk.DETACHED_TEXT in quirks:
        header = _FRAME_HEADER.pack(_STDERR, len(DETACHED)) if framed else b""
        words = LastWords(take, header + DETACHED, between_frames)
        take, closed = words.take, words.closed
    return take, closed


class NewlineFilter:
    """A source of chunks that gives a newline outside of the frames a frame of its own.

    Args:
        take: the source, which begins with a frame.
    """

    def __init__(self, take: Take) -> None:
        self._take = take
        self._header = b""
        # Payload of the present frame that has not come yet.
        self._left = 0
        # The type of the frame before; None where no newline may come: at the beginning, and behind such a newline.
        self._kind: int | None = None

    def take(self) -> bytes | None:
        """As the source's."""
        chunk = self._take()
        if not chunk:
            return chunk
        pieces: list[bytes] = []
        copied = at = 0
        while at < len(chunk):
            if self._left:
                step = min(self._left, len(chunk) - at)
                self._left -= step
                at += step
            elif chunk[at] == _NEWLINE and not self._header and self._kind is not None:
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


class LastWords:
    """A source of chunks that keeps ``DETACHED`` out of a stream, if it is the last that comes.

    Strategy: a reader that takes chunks here, and says its end with ``closed``, needs to know no more of this. The
    words begin with a byte that does not come again in them, so a chunk has one place where they may begin. What is
    held is not joined with the next chunk: what one read brought is not mixed with the next.

    Args:
        take: the source.
        wire: the words as they come, with their header if they have one.
        may_begin: whether they may begin where the reader is, which has read all that it took.
    """

    def __init__(self, take: Take, wire: bytes, may_begin: Callable[[], bool]) -> None:
        self._take = take
        self._wire = wire
        self._may_begin = may_begin
        self._held = b""
        self._next = b""
        self._spoken = False

    def take(self) -> bytes | None:
        """As the source's; raises what it raises, after what is held."""
        while True:
            if self._held and not self._may_begin():
                return self._release()
            try:
                chunk, self._next = self._next or self._take(), b""
            except RemoteProtocolError:
                if self._held:
                    return self._release()
                raise
            if chunk is None:
                return None
            if not chunk:
                self._spoken = self._held == self._wire
                return b"" if self._spoken else self._release()
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

    def closed(self) -> Systemerr | OutputClosed:
        """What the end is that ``take`` gave. Behind the words there is another one."""
        if self._spoken:
            self._held = b""
            return Systemerr(DETACHED)
        return OutputClosed()

    def _release(self) -> bytes:
        held, self._held = self._held, b""
        return held
