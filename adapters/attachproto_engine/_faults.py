"""Faults in an engine's answer to an attach, said in advance: the same script gives the same bytes.

Strategy: a script is pure. It is fed the bytes that a faultless engine would write, and gives what is to be done in
their place: bytes, pauses, an end. First come the faults that change what is said (the head, frames, garbage), then
those that change when and how far it goes out; so it does not matter in which order they were given, and the offsets
of the latter count the bytes that really go out, from the first of the head on.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from typing import Final

import attrs
from attrs.validators import ge, instance_of

from attachproto import Stdout, encode_frame

_END_OF_HEAD: Final = b"\r\n\r\n"


@attrs.frozen
class Fault:
    """What all faults have in common. Not to be built by itself."""


_OFFSET: Final = (instance_of(int), ge(0))


@attrs.frozen
class Split(Fault):
    """The answer goes out in pieces, each a write of its own; the next follows when the client has read it.

    On TCP nothing tells when the client has read, so there the next follows a moment after.

    Attributes:
        at: the offsets to cut at.
        every: also after each so many bytes; 0 for none.
    """

    at: tuple[int, ...] = attrs.field(default=(), converter=tuple[int, ...])
    every: int = attrs.field(default=0, validator=ge(0))


@attrs.frozen
class Delay(Fault):
    """A pause of so many seconds before the byte at this offset."""

    at: int = attrs.field(validator=_OFFSET)
    seconds: float = attrs.field(validator=ge(0))


@attrs.frozen
class Cut(Fault):
    """The connection is closed before the byte at this offset."""

    at: int = attrs.field(validator=_OFFSET)


@attrs.frozen
class Reset(Fault):
    """The connection is reset before the byte at this offset: the client reads what came before it, and ECONNRESET."""

    at: int = attrs.field(validator=_OFFSET)


@attrs.frozen
class WrongMediaType(Fault):
    """The answer has this Content-Type."""

    media_type: str = "text/html"


@attrs.frozen
class NoUpgrade(Fault):
    """The answer is dockerd's 200 where it should be 101."""


@attrs.frozen
class Chunked(Fault):
    """The answer is 200 and its body is chunked, as from a proxy that takes it for an ordinary one."""


@attrs.frozen
class Garbage(Fault):
    """These bytes come before the head."""

    data: bytes = b"\x00garbage\r\n"


@attrs.frozen
class UnknownStream(Fault):
    """The first frame is of a type that no engine sends."""

    kind: int = attrs.field(default=9, validator=[ge(0), attrs.validators.lt(256)])
    data: bytes = b"?"


@attrs.frozen
class LongFrame(Fault):
    """The first frame announces more than comes: behind its ``data`` the answer ends."""

    announced: int = attrs.field(default=100, validator=[ge(0), attrs.validators.lt(2**32)])
    data: bytes = b"cut"


@attrs.frozen
class NoAnswer(Fault):
    """Nothing comes, and the connection stays open."""


class End(enum.Enum):
    """How a script ends the answer."""

    EOF = "EOF"
    """As without faults: a half-close."""

    CUT = "CUT"
    RESET = "RESET"
    SILENCE = "SILENCE"


@attrs.frozen
class Pause:
    """Wait before the next bytes. ``seconds`` is ``None`` where the client should have read what came."""

    seconds: float | None


Action = bytes | Pause | End


class Script:
    """Faults as they are played, for one answer."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self._faults = tuple(faults)
        self._head_seen = False
        self._chunked = self._has(Chunked)
        self._over = False
        self._sent = 0
        self._every = min(
            (fault.every for fault in self._faults if isinstance(fault, Split) and fault.every), default=0
        )
        self._marks = _marks(self._faults)

    def feed(self, data: bytes) -> Iterator[Action]:
        """What is done in place of writing ``data``. The first that is fed is the head, whole."""
        for piece in self._changed(data):
            yield from self._timed(piece)

    def finish(self) -> Iterator[Action]:
        """What is done in place of the half-close at the end."""
        if not self._over and self._chunked:
            yield from self._timed(b"0\r\n\r\n")
        yield from self._end(End.EOF)

    def _has(self, kind: type[Fault]) -> bool:
        return any(isinstance(fault, kind) for fault in self._faults)

    def _end(self, how: End) -> Iterator[Action]:
        if not self._over:
            self._over = True
            yield how

    # ---- what is said ----

    def _changed(self, data: bytes) -> Iterator[bytes | End]:
        if self._head_seen:
            yield self._body(data)
            return
        self._head_seen = True
        if self._has(NoAnswer):
            yield End.SILENCE
        for fault in self._faults:
            if isinstance(fault, Garbage):
                yield fault.data
        yield self._head(data)
        for fault in self._faults:
            if isinstance(fault, UnknownStream):
                frame = encode_frame(Stdout(fault.data))
                yield self._body(bytes([fault.kind]) + frame[1:])
        for fault in self._faults:
            if isinstance(fault, LongFrame):
                yield self._body(b"\x01\0\0\0" + fault.announced.to_bytes(4, "big") + fault.data)
                if self._chunked:
                    yield b"0\r\n\r\n"
                yield End.EOF

    def _head(self, data: bytes) -> bytes:
        lines = data.removesuffix(_END_OF_HEAD).split(b"\r\n")
        if self._chunked or self._has(NoUpgrade):
            lines = [b"HTTP/1.1 200 OK", *(line for line in lines[1:] if not _of_upgrade(line))]
        if self._has(NoUpgrade):
            lines = [line.replace(b"multiplexed-stream", b"raw-stream") for line in lines]
        if self._chunked:
            lines += [b"Connection: close", b"Transfer-Encoding: chunked"]
        for fault in self._faults:
            if isinstance(fault, WrongMediaType):
                value = f"Content-Type: {fault.media_type}".encode("latin-1")
                lines = [value if line.lower().startswith(b"content-type:") else line for line in lines]
        return b"\r\n".join(lines) + _END_OF_HEAD

    def _body(self, data: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(data), data) if self._chunked and data else data

    # ---- when, and how far ----

    def _timed(self, piece: bytes | End) -> Iterator[Action]:
        if self._over:
            return
        if isinstance(piece, End):
            yield from self._end(piece)
            return
        at = 0
        while not self._over:
            while self._marks and self._marks[0][0] <= self._sent:
                action = self._marks.pop(0)[1]
                if isinstance(action, End):
                    yield from self._end(action)
                    return
                yield action
            if at == len(piece):
                return
            stop = len(piece)
            if self._marks:
                stop = min(stop, at + self._marks[0][0] - self._sent)
            if self._every:
                stop = min(stop, at + self._every - self._sent % self._every)
            yield piece[at:stop]
            self._sent += stop - at
            at = stop
            if self._every and self._sent % self._every == 0:
                yield Pause(None)


def _marks(faults: Iterable[Fault]) -> list[tuple[int, Pause | End]]:
    """What happens at which offset, in its order; at one offset pauses come before an end."""
    found: list[tuple[int, Pause | End]] = []
    for fault in faults:
        match fault:
            case Split(at=offsets):
                found += [(offset, Pause(None)) for offset in offsets]
            case Delay(at=offset, seconds=seconds):
                found.append((offset, Pause(seconds)))
            case Cut(at=offset):
                found.append((offset, End.CUT))
            case Reset(at=offset):
                found.append((offset, End.RESET))
            case _:
                pass
    return sorted(found, key=lambda mark: (mark[0], isinstance(mark[1], End)))


def _of_upgrade(line: bytes) -> bool:
    return line.lower().startswith((b"connection:", b"upgrade:"))


class FaultBook:
    """Which faults belong to which attach: by the container's name, and which of its attaches it is."""

    def __init__(self) -> None:
        self._always: dict[str, tuple[Fault, ...]] = {}
        self._once: dict[tuple[str, int], tuple[Fault, ...]] = {}
        self._counts: dict[str, int] = {}

    def add(self, container: str, faults: Iterable[Fault], attach: int | None) -> None:
        """Note faults; they replace what was noted for the same."""
        if attach is None:
            self._always[container] = tuple(faults)
        else:
            self._once[container, attach] = tuple(faults)

    def script(self, container: str) -> Script | None:
        """Count an attach; its script, if it has faults."""
        self._counts[container] = count = self._counts.get(container, 0) + 1
        faults = self._once.get((container, count), self._always.get(container, ()))
        return Script(faults) if faults else None

    @property
    def resets(self) -> bool:
        """Whether any attach may be reset."""
        return any(
            isinstance(fault, Reset) for known in (self._always, self._once) for f in known.values() for fault in f
        )
