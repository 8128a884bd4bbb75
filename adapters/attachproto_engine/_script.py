"""What an engine writes in place of an answer that has faults, as pure code.

Strategy: a script is fed the bytes that a faultless engine would write, one event at a time, and yields what is to be
done instead: bytes, pauses, an end. It has two stages. The first changes the content (the head, the frames); the
second decides when the bytes go out, and how far. So the order in which faults were given does not matter, and the
offsets of the second stage count the bytes that really go out.
"""

from __future__ import annotations

import http.client
from collections.abc import Iterable, Iterator
from typing import Final, TypeVar

from attachproto import Stdout, encode_frame
from attachproto._http_writer import LAST_CHUNK, encode_chunk
from attachproto_engine._faults import (
    Chunked,
    Counted,
    EndEarly,
    Fault,
    Garbage,
    HeldHead,
    IdleCut,
    LongFrame,
    NoAnswer,
    NoHalfClose,
    NoUpgrade,
    ProxyAnswer,
    SetHeader,
    UnknownStream,
)
from attachproto_engine._timing import Action, End, Timing

_END_OF_HEAD: Final = b"\r\n\r\n"

F = TypeVar("F", bound=Fault)


class Script:
    """The faults of one answer.

    Attributes:
        idle_seconds: after how long without output the connection is closed; ``None`` for never.
        no_half_close: whether the client's half-close closes the connection.
    """

    def __init__(self, faults: Iterable[Fault]) -> None:
        self._faults = tuple(faults)
        self.idle_seconds = min((fault.seconds for fault in self._of(IdleCut)), default=None)
        self.no_half_close = self._has(NoHalfClose)
        self._frames_left = min((fault.frames for fault in self._of(EndEarly)), default=None)
        self._head: bytes | None = None
        self._head_out = False
        self._framing = b""
        self._counted: bytearray | None = None
        self._timing = Timing(self._faults)

    def proxy_answer(self) -> bytes | None:
        """The whole answer where a proxy gives it and the engine never sees the request; else ``None``."""
        for fault in self._of(ProxyAnswer):
            phrase = http.client.responses.get(fault.status_code, "Unknown")
            fields = [*fault.headers, ("Content-Length", str(len(fault.body))), ("Connection", "close")]
            lines = [f"HTTP/1.1 {fault.status_code} {phrase}", *(f"{name}: {value}" for name, value in fields)]
            return "\r\n".join(lines).encode("latin-1") + _END_OF_HEAD + fault.body
        return None

    def feed(self, data: bytes) -> Iterator[Action]:
        """What is done in place of writing ``data``, the bytes of one event. The first begins with the whole head."""
        for piece in self._output(data) if self._head is not None else self._begin(data):
            yield from self._timing.write(piece)

    def finish(self) -> Iterator[Action]:
        """What is done in place of the half-close at the end."""
        for piece in self._end():
            yield from self._timing.write(piece)

    def _of(self, kind: type[F]) -> list[F]:
        return [fault for fault in self._faults if isinstance(fault, kind)]

    def _has(self, kind: type[Fault]) -> bool:
        return bool(self._of(kind))

    # ---- the first stage: the content ----

    def _begin(self, data: bytes) -> Iterator[bytes | End]:
        head, _, rest = data.partition(_END_OF_HEAD)
        self._head = self._changed(head)
        if self._has(NoAnswer):
            yield End.SILENCE
        for garbage in self._of(Garbage):
            yield garbage.data
        if not self._has(HeldHead) and self._counted is None:
            yield from self._write_head()
        for unknown in self._of(UnknownStream):
            frame = encode_frame(Stdout(unknown.data))
            yield from self._body(bytes([unknown.kind]) + frame[1:])
        for long in self._of(LongFrame):
            yield from self._body(b"\x01\0\0\0" + long.announced.to_bytes(4, "big") + long.data)
            yield from self._end_now()
        if self._frames_left == 0:
            yield from self._end_now()
        if rest:
            yield from self._output(rest)

    def _changed(self, head: bytes) -> bytes:
        """The head as the faults make it, without the empty line; and notes how the body is framed."""
        lines = head.split(b"\r\n")
        self._framing = _value(lines, b"transfer-encoding") or _value(lines, b"content-length")
        reframed = (self._has(Chunked) or self._has(Counted)) and not self._framing
        if reframed or self._has(NoUpgrade):
            lines = [
                b"HTTP/1.1 200 OK",
                *(line for line in lines[1:] if _name(line) not in (b"connection", b"upgrade")),
            ]
        if self._has(NoUpgrade):
            lines = [line.replace(b"multiplexed-stream", b"raw-stream") for line in lines]
        if reframed and self._has(Counted):
            self._counted = bytearray()
        elif reframed:
            self._framing = b"added"
            lines += [b"Connection: close", b"Transfer-Encoding: chunked"]
        for field in self._of(SetHeader):
            name = field.name.encode("latin-1")
            lines = [lines[0], *(line for line in lines[1:] if _name(line) != name.lower())]
            if field.value is not None:
                lines.append(name + b": " + field.value.encode("latin-1"))
        return b"\r\n".join(lines)

    def _write_head(self) -> Iterator[bytes]:
        if not self._head_out:
            self._head_out = True
            assert self._head is not None
            yield self._head + _END_OF_HEAD

    def _output(self, data: bytes) -> Iterator[bytes | End]:
        yield from self._body(data)
        if self._frames_left:
            self._frames_left -= 1
            if not self._frames_left:
                yield from self._end_now()

    def _body(self, data: bytes) -> Iterator[bytes]:
        if self._counted is not None:
            self._counted += data
            return
        yield from self._write_head()
        yield encode_chunk(data) if self._framing == b"added" else data

    def _end_now(self) -> Iterator[bytes | End]:
        """The end of the answer, before the engine has ended it."""
        if self._framing == b"chunked":
            yield LAST_CHUNK
        yield from self._end()

    def _end(self) -> Iterator[bytes | End]:
        if self._head is not None and self._counted is not None:
            self._head += b"\r\nContent-Length: %d" % len(self._counted)
            yield from self._write_head()
            yield bytes(self._counted)
        elif self._head is not None:
            yield from self._write_head()
        if self._framing == b"added":
            yield LAST_CHUNK
        yield End.EOF


def _name(line: bytes) -> bytes:
    return line.partition(b":")[0].lower()


def _value(lines: Iterable[bytes], name: bytes) -> bytes:
    return next((line.partition(b":")[2].strip().lower() for line in lines if _name(line) == name), b"")
