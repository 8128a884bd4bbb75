"""Frames: the eight-byte header that tells stdout from stderr, and what reads and writes it.

On the wire a frame is ``type 0 0 0 length(4, big endian)`` and then the payload (moby ``api/pkg/stdcopy``; engines
write zeros for the padding, and every reader ignores it).

Strategy: a frame may announce 4 GiB, and dockerd frames each read of a log line by itself. So payload is handed out
as it comes, and neighbouring frames of one stream are joined as long as they came in one chunk. Only a header that
was cut in two is ever kept. The cost is one slice for each frame, and one join and one event for up to 64 KiB.
Quirks are filters of the source (``_quirks``), so that they cost nothing where there are none.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Final, Literal

from attachproto._errors import LocalProtocolError, Reason, RemoteProtocolError, excerpt
from attachproto._events import Framing, Output, OutputClosed, RawOutput, Stderr, Stdin, StdinClosed, Stdout, Systemerr
from attachproto._inbox import Inbox, Take
from attachproto._quirks import Quirk, checked, filtered
from attachproto._signals import NEED_DATA, Signal

if TYPE_CHECKING:
    from typing_extensions import Buffer

_HEADER: Final = struct.Struct(">BxxxL")

# So many bytes of a chunk become events at once. No event is larger than a window: that bounds what a flood of small
# frames makes at a time, and what is joined (joining without a bound was measured 17 times slower, because every piece
# then goes through memory that no cache holds).
_WINDOW: Final = 64 * 1024

_LENGTH_MAX: Final = 2**32 - 1

# It stands where a type should without Quirk.NEWLINE_OUTSIDE_FRAME.
_NEWLINE: Final = 10

FrameEvent = Stdout | Stderr | Systemerr

# Type 0 is stdin in moby's stdcopy, which writes it to stdout; so do Podman's bindings.
_BY_TYPE: Final[tuple[type[FrameEvent], ...]] = (Stdout, Stdout, Stderr, Systemerr)
_TYPE_OF: Final[dict[type[Output], int]] = {Stdout: 1, Stderr: 2, Systemerr: 3}


def encode_frame(event: Output) -> bytes:
    """Write one frame.

    Args:
        event: ``Stdout``, ``Stderr`` or ``Systemerr``, with at most 4 GiB - 1 bytes.

    Raises:
        LocalProtocolError: it is no event that travels in frames, or too long for one.
    """
    number = _TYPE_OF.get(type(event))
    if number is None:
        raise LocalProtocolError(f"{type(event).__name__} does not travel in frames: only Stdout, Stderr and Systemerr")
    data = as_bytes(event.data)
    length = len(data)
    if length > _LENGTH_MAX:
        raise LocalProtocolError(f"a frame holds at most {_LENGTH_MAX} bytes, not {length}")
    return _HEADER.pack(number, length) + data


def as_bytes(data: Buffer) -> bytes:
    """Payload as bytes, copied if it is another buffer; ``TypeError`` if it is none."""
    return data if isinstance(data, bytes) else bytes(memoryview(data))


class FrameReader:
    """Reads frames from a source of chunks.

    Strategy: all events of one window of a chunk are made in one loop, into a list that ``next_event`` then pops from.
    What comes at the end of a window (an unknown type, a header that is cut, the next chunk) is only looked at when the
    list is empty, so an error never overtakes an event.
    """

    def __init__(self, take: Take, quirks: frozenset[Quirk] = frozenset()) -> None:
        self._quirks = quirks
        self._take, self._closed = filtered(take, Framing.MULTIPLEXED, quirks, self._is_between_frames)
        # Events that were made and not yet given, the next one last: popping from the end of a list is cheap.
        self._ready: list[FrameEvent] = []
        self._chunk = b""
        self._at = 0
        self._header = b""
        self._kind = 0
        # Of the frame that began last; negative before the first.
        self._length = -1
        self._left = 0
        self._failure: tuple[str, Reason] | None = None
        self._over = False

    def next_event(self) -> FrameEvent | OutputClosed | Literal[Signal.NEED_DATA]:
        """The next event, or ``NEED_DATA``.

        Output of one stream comes joined, up to 64 KiB, never across two calls of ``receive_data``.

        Raises:
            RemoteProtocolError: an unknown stream type, or an end inside a frame; what came before was delivered.
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
                if chunk is None:
                    return NEED_DATA
                if not chunk:
                    if missing := self._missing("the stream ended "):
                        raise self._failed(missing, Reason.CUT_IN_FRAME)
                    event = self._closed()
                    self._over = isinstance(event, OutputClosed)
                    return event
                self._chunk = chunk
                self._at = 0
            if not self._left and (self._header or len(self._chunk) - self._at < _HEADER.size):
                self._complete_header()
            else:
                self._decode_window()
        return self._ready.pop()

    def events(self) -> Iterator[FrameEvent | OutputClosed]:
        """All events that can be had now; after the last one it simply stops. Raises as ``next_event`` does."""
        while not self._over:
            event = self.next_event()
            if event is NEED_DATA:
                return
            yield event

    def _complete_header(self) -> None:
        """Read a header that does not lie in one chunk."""
        take = _HEADER.size - len(self._header)
        self._header += self._chunk[self._at : self._at + take]
        self._at = min(self._at + take, len(self._chunk))
        # The type is judged by its first byte: a terminal's bytes read as frames must not wait for seven more.
        if self._header[0] >= len(_BY_TYPE):
            raise self._unknown_type(self._header[0])
        if len(self._header) == _HEADER.size:
            self._kind, self._length = _HEADER.unpack(self._header)
            self._left = self._length
            self._header = b""

    def _decode_window(self) -> None:
        """Make the events of the next window of the chunk, which begins inside a frame or with a whole header.

        Raises:
            RemoteProtocolError: it begins with an unknown stream type.
        """
        chunk, at, end = self._chunk, self._at, len(self._chunk)
        stop = min(at + _WINDOW, end)
        kind, length, left = self._kind, self._length, self._left
        unpack, last_header = _HEADER.unpack_from, min(stop - 1, end - _HEADER.size)
        events: list[FrameEvent] = []
        pieces: list[bytes] = []
        while True:
            if left:
                piece_end = at + left
                if piece_end > stop:
                    piece_end = stop
                pieces.append(chunk[at:piece_end])
                left -= piece_end - at
                at = piece_end
            if at > last_header:
                break
            number, announced = unpack(chunk, at)
            if number != kind:
                if number >= 4:
                    if pieces or events:
                        break
                    raise self._unknown_type(number)
                if pieces:
                    events.append(_BY_TYPE[kind](pieces[0] if len(pieces) == 1 else b"".join(pieces)))
                    pieces = []
                kind = number
            length = left = announced
            at += 8
            if at >= stop:
                break
        if pieces:
            events.append(_BY_TYPE[kind](pieces[0] if len(pieces) == 1 else b"".join(pieces)))
        self._at, self._kind, self._length, self._left = at, kind, length, left
        events.reverse()
        self._ready = events

    def _is_between_frames(self) -> bool:
        return not self._left and not self._header

    def _unknown_type(self, number: int) -> RemoteProtocolError:
        wrong = "the engine's frames are wrong"
        if number == _NEWLINE and self._length >= 0 and Quirk.NEWLINE_OUTSIDE_FRAME not in self._quirks:
            wrong = "Podman before 4.4 replays its logs, which is read with Quirk.NEWLINE_OUTSIDE_FRAME"
        return self._failed(
            f"unknown stream type {number} where a frame begins (engines send 0 to 3): either these are "
            f"the raw bytes of a TTY and the request should say tty=True, or {wrong}",
            Reason.UNKNOWN_STREAM_TYPE,
        )

    def _missing(self, prefix: str) -> str:
        """What an end here would cut; empty at a boundary."""
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


class FrameDecoder(FrameReader):
    """Decodes frames by themselves, for those who have an HTTP client already.

    Feed it with ``receive_data`` and pull from ``next_event`` or ``events``, as with a ``Connection``.

    Args:
        quirks: what the engine that wrote the frames is known for.

    Raises:
        TypeError: what is named is no ``Quirk``.
    """

    def __init__(self, *, quirks: Iterable[Quirk] = ()) -> None:
        self._inbox = Inbox()
        super().__init__(self._inbox.take, checked(quirks))

    def receive_data(self, data: Buffer) -> None:
        """Store what was read. ``b""`` is the end of the stream. Never raises for what is in it.

        Raises:
            LocalProtocolError: data after the end.
        """
        self._inbox.put(data)
        if self._failure is not None:
            self._inbox.clear()


class RawReader:
    """The bytes of one direction as they come: a terminal's output, or stdin. Chunks are passed on uncopied."""

    def __init__(
        self,
        take: Take,
        data: type[RawOutput] | type[Stdin],
        closed: Callable[[], OutputClosed | StdinClosed | Systemerr],
    ) -> None:
        self._take = take
        self._data = data
        self._closed = closed

    def next_event(self) -> RawOutput | Stdin | OutputClosed | StdinClosed | Systemerr | Literal[Signal.NEED_DATA]:
        """The next event, or ``NEED_DATA``; raises what its source raises."""
        chunk = self._take()
        if chunk is None:
            return NEED_DATA
        return self._data(chunk) if chunk else self._closed()


def output_reader(take: Take, framing: Framing, quirks: frozenset[Quirk]) -> FrameReader | RawReader:
    """What reads a container's output."""
    if framing is Framing.MULTIPLEXED:
        return FrameReader(take, quirks)
    take, closed = filtered(take, Framing.RAW, quirks, lambda: True)
    return RawReader(take, RawOutput, closed)


def demux(data: Buffer, *, quirks: Iterable[Quirk] = ()) -> tuple[bytes, bytes]:
    """Split a whole body of frames, such as that of ``/logs``, into what went to stdout and to stderr.

    Args:
        data: the body.
        quirks: what the engine that wrote the frames is known for.

    Returns:
        stdout and stderr.

    Raises:
        TypeError: what is named is no ``Quirk``.
        RemoteProtocolError: the body is cut or holds no frames, or the engine reports an error in it (type 3).
            Use ``FrameDecoder`` to have what came before it.
    """
    decoder = FrameDecoder(quirks=quirks)
    decoder.receive_data(data)
    decoder.receive_data(b"")
    stdout, stderr = [], []
    for event in decoder.events():
        if isinstance(event, Stdout):
            stdout.append(event.data)
        elif isinstance(event, Stderr):
            stderr.append(event.data)
        elif isinstance(event, Systemerr):
            text = event.data.decode("utf-8", "replace").strip()
            raise RemoteProtocolError(f"the engine reports: {excerpt(text)}", Reason.ENGINE_ERROR)
    return b"".join(stdout), b"".join(stderr)
