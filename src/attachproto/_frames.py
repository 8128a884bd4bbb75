"""Frames: the eight-byte header that tells stdout from stderr, how frames are read, and how one is written.

On the wire a frame is ``type 0 0 0 length(4, big endian)``, then the payload (moby ``api/pkg/stdcopy``; engines write
zeros for the padding, and every reader ignores it).

Strategy: a frame may announce 4 GiB, and dockerd makes a frame of each read of a log line. So payload is handed out as
it comes, and neighbouring frames of one stream are joined if they came in one chunk. Only a header that was cut in two
is ever kept. The events of a chunk are made in one loop, into a list from which they are taken.
Quirks are filters of the source (``_quirks``), so that they cost nothing where there are none.

The file has more than 250 lines, because that loop runs once for each frame and so calls no function of ours.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, Literal

from attachproto._errors import LocalProtocolError, Reason, RemoteProtocolError
from attachproto._events import FrameEvent, Framing, OutputClosed, Stderr, Stdout, Systemerr, set_data
from attachproto._quirks import NEWLINE, Quirk, filter_source
from attachproto._receive_buffer import END, ChunkSource
from attachproto._signals import NEED_DATA, Signal

if TYPE_CHECKING:
    from typing_extensions import Buffer

_HEADER: Final = struct.Struct(">BxxxL")

# The size of the largest event, with the headers of its frames. It limits how much is joined: joining all was 17 times
# slower, because it does not fit into the cache.
_WINDOW: Final = 64 * 1024

# How many windows, and about how many events, are made at once: each call costs time, but CPython's garbage collector
# starts at 700 new objects by default.
_WINDOWS: Final = 2
_EVENTS: Final = 512

# From which length, in bytes, a view of a payload costs less than a copy.
_LARGE: Final = 2048

_LENGTH_MAX: Final = 2**32 - 1

# Type 0 is stdin in moby's stdcopy, which writes it to stdout. Podman's bindings do the same.
_BY_TYPE: Final[tuple[type[FrameEvent], ...]] = (Stdout, Stdout, Stderr, Systemerr)
_TYPE_OF: Final[dict[type[FrameEvent], int]] = {Stdout: 1, Stderr: 2, Systemerr: 3}
_TYPES: Final = len(_BY_TYPE)


def encode_frame(event: FrameEvent) -> bytes:
    """Write one frame.

    Args:
        event: what to write, with at most 4 GiB - 1 bytes.

    Raises:
        LocalProtocolError: the event is of another class, or too long for a frame.
    """
    number = _TYPE_OF.get(type(event))
    if number is None:
        raise LocalProtocolError(f"{type(event).__name__} has no frame: only Stdout, Stderr and Systemerr have one")
    data = as_bytes(event.data)
    length = len(data)
    if length > _LENGTH_MAX:
        raise LocalProtocolError(f"a frame holds at most {_LENGTH_MAX} bytes, not {length}")
    return _HEADER.pack(number, length) + data


def as_bytes(data: Buffer) -> bytes:
    """The payload as bytes: copied if it is another buffer, ``TypeError`` if it is not a buffer."""
    return data if isinstance(data, bytes) else bytes(memoryview(data))


class FrameReader:
    """Reads frames from a source of chunks.

    An unknown type, a cut header, the next chunk and the end are only looked at when no event is left over. So an error
    never overtakes an event.

    Args:
        take: the source.
        quirks: known bugs of the engine to work around.
        ready: is filled with the events decoded after the returned one, in reverse order. Whoever passed the list may
            pop from it too.
    """

    def __init__(
        self, take: ChunkSource, quirks: frozenset[Quirk] = frozenset(), ready: list[FrameEvent] | None = None
    ) -> None:
        self._quirks = quirks
        self._take, self._end_event = filter_source(take, Framing.MULTIPLEXED, quirks, self._is_between_frames)
        self._ready: list[FrameEvent] = [] if ready is None else ready
        self._chunk = b""
        self._at = 0
        # The bytes of a header that was cut, until it is whole.
        self._header = b""
        # The type and the length of the frame that began last, and how much of it has not come. -1 before the first.
        self._kind = 0
        self._length = -1
        self._left = 0
        self._failure: tuple[str, Reason] | None = None
        self._over = False

    def next_event(self) -> FrameEvent | OutputClosed | Literal[Signal.NEED_DATA]:
        """The next event, or ``NEED_DATA``.

        Output of one stream comes joined, up to 64 KiB, never across two calls of ``receive_data``.

        Raises:
            RemoteProtocolError: an unknown stream type, or an end inside a frame. Everything before it was delivered.
            LocalProtocolError: ``OutputClosed`` was given already.
        """
        if self._ready:
            return self._ready.pop()
        if self._failure is not None:
            raise RemoteProtocolError(*self._failure)
        if self._over:
            raise LocalProtocolError("OutputClosed was the last event of this stream")
        while not self._ready:
            if self._at == len(self._chunk):
                try:
                    chunk = self._take()
                except RemoteProtocolError as exc:
                    raise self._failed(f"{exc}{self._missing(' and ')}", exc.reason) from None
                if chunk is NEED_DATA:
                    # An attachment may be idle for days, and must not keep its last chunk meanwhile.
                    self._chunk, self._at = b"", 0
                    return NEED_DATA
                if chunk is END:
                    if missing := self._missing("the stream ended "):
                        raise self._failed(missing, Reason.CUT_IN_FRAME)
                    event = self._end_event()
                    self._over = isinstance(event, OutputClosed)
                    return event
                self._chunk = chunk
                self._at = 0
            if not self._left and (self._header or len(self._chunk) - self._at < _HEADER.size):
                self._complete_header()
            else:
                self._decode()
        return self._ready.pop()

    def events(self) -> Iterator[FrameEvent | OutputClosed]:
        """The events that can be had now. It stops after the last one, and raises as ``next_event`` does."""
        while not self._over:
            event = self.next_event()
            if event is NEED_DATA:
                return
            yield event

    def _complete_header(self) -> None:
        """Add bytes of this chunk to a header whose first bytes came in an earlier one."""
        take = _HEADER.size - len(self._header)
        self._header += self._chunk[self._at : self._at + take]
        self._at = min(self._at + take, len(self._chunk))
        # The type is the first byte. Raw bytes of a TTY are refused at once, without waiting for seven bytes more.
        if self._header[0] >= _TYPES:
            raise self._unknown_type(self._header[0])
        if len(self._header) == _HEADER.size:
            self._kind, self._length = _HEADER.unpack(self._header)
            self._left = self._length
            self._header = b""

    def _decode(self) -> None:
        """Make the events of what comes next in the chunk. It begins inside a frame or with a whole header.

        Raises:
            RemoteProtocolError: it begins with an unknown stream type.
        """
        # The inner loop runs once for each frame: locals, and an event without its __init__, which would take as long
        # as the rest. The frame that is read has its payload in chunk[begin:at]; ``pieces`` are those of its stream
        # that come before it, of which most frames have none.
        chunk, at, size = self._chunk, self._at, len(self._chunk)
        kind, length, left = self._kind, self._length, self._left
        unpack, join, new = _HEADER.unpack_from, b"".join, object.__new__
        events: list[FrameEvent] = []
        for _ in range(_WINDOWS):
            stop = min(at + _WINDOW, size)
            last_header = min(stop - 1, size - _HEADER.size)
            if left:
                begin, at = at, at + left
            elif at > last_header:
                break
            else:
                number, length = unpack(chunk, at)
                if number >= _TYPES:
                    if events:
                        break
                    if at > self._at:
                        self._length = length  # empty frames came before it
                    raise self._unknown_type(number)
                kind = number
                begin = at + 8
                at = begin + length
            # Large pieces are views, so that only the join copies them.
            source = chunk if length < _LARGE else memoryview(chunk)
            pieces: list[bytes | memoryview] = []
            while at <= last_header:
                number, announced = unpack(chunk, at)
                if number == kind:
                    pieces.append(source[begin:at])
                elif number < _TYPES and len(events) < _EVENTS:
                    if pieces:
                        pieces.append(source[begin:at])
                        data = join(pieces)
                        pieces = []
                    else:
                        data = chunk[begin:at]
                    if data:
                        event = new(_BY_TYPE[kind])
                        set_data(event, data)
                        events.append(event)
                    kind = number
                else:
                    break
                length = announced
                begin = at + 8
                at = begin + length
            end = min(at, max(begin, stop))
            if pieces:
                pieces.append(source[begin:end])
                data = join(pieces)
            else:
                data = chunk[begin:end]
            if data:
                event = new(_BY_TYPE[kind])
                set_data(event, data)
                events.append(event)
            at, left = end, at - end
            if len(events) >= _EVENTS:
                break
        if at == size:  # the next read can have its memory
            self._chunk, at = b"", 0
        self._at, self._kind, self._length, self._left = at, kind, length, left
        events.reverse()
        self._ready[:] = events

    def _is_between_frames(self) -> bool:
        return not self._left and not self._header

    def _unknown_type(self, number: int) -> RemoteProtocolError:
        cause = "the engine's frames are wrong"
        if number == NEWLINE and self._length >= 0 and Quirk.NEWLINE_OUTSIDE_FRAME not in self._quirks:
            cause = "this is a replay of logs by Podman before 4.4, which Quirk.NEWLINE_OUTSIDE_FRAME reads"
        return self._failed(
            f"unknown stream type {number} where a frame begins (engines send 0 to 3): either these are "
            f"the raw bytes of a TTY and the request should say tty=True, or {cause}",
            Reason.UNKNOWN_STREAM_TYPE,
        )

    def _missing(self, prefix: str) -> str:
        """What would be missing if the stream ended here; empty between two frames."""
        if self._header:
            return (
                f"{prefix}inside a frame's header: {len(self._header)} of its {_HEADER.size} bytes came, "
                f"{_HEADER.size - len(self._header)} are missing"
            )
        if self._left:
            return (
                f"{prefix}inside a {_BY_TYPE[self._kind].__name__} frame of {self._length} bytes: "
                f"{self._left} are missing"
            )
        return ""

    def _failed(self, message: str, reason: Reason) -> RemoteProtocolError:
        self._failure = (message, reason)
        self._chunk, self._at = b"", 0
        return RemoteProtocolError(message, reason)
