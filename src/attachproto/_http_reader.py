"""Reads the heads and bodies of HTTP/1.1 that stand before a stream, with h11.

Strategy: we cut each head out of the receive buffer and give h11 no byte behind it. So h11 never holds a byte of the
stream: what follows an answer is still in the buffer, and nothing has to be handed over. It also lets us count the
limit of a head, over all 1xx heads together. h11 tests its own limit only while a head is incomplete, so the same bytes
would pass in one piece and fail in two. The same holds of the header of an HTTP chunk and of trailers: h11 limits them
to 16 KiB, which no engine comes near. So of a chunked body h11 gets no more bytes at once than up to its limit.

Reading is written as generators that yield ``NEED_DATA`` where they need more bytes, so the code follows the order of
the bytes. A generator ends with its first exception; ``Connection`` keeps the error and raises it again.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from typing import Final, Literal, Self, TypeVar

import h11

from attachproto._errors import Reason, RemoteProtocolError, excerpt
from attachproto._http_head import Head
from attachproto._receive_buffer import END, Chunk, ChunkSource, ReceiveBuffer
from attachproto._signals import NEED_DATA, Signal

T = TypeVar("T")
Reading = Generator[Literal[Signal.NEED_DATA], None, T]

# A server may send 100, 102 and 103 before its answer. Engines send at most one 100. Without a
# limit, a peer that sends 1xx heads for ever would keep the client waiting for ever.
_INFORMATIONAL_MAX: Final = 16

_BLANK_LINE: Final = re.compile(rb"\n\r?\n")

# h11 raises for a 101 where no upgrade was asked for, as it does for a bad head. We tell the two apart.
_SWITCH: Final = re.compile(rb"HTTP/1\.[01] 101[ \r\n]")

# h11 takes "3, 3" for 3; Go and llhttp refuse it. The field's lines, with those that continue it.
_LENGTH_FIELD: Final = re.compile(rb"\ncontent-length:[^\n]*(?:\n[ \t][^\n]*)*", re.IGNORECASE)

# An answer begins with this, a request with a method. Each byte is tested when it comes, so that a peer that speaks
# another protocol (TLS, SSH, frames without a head) is refused at once and not waited for.
_ANSWER: Final = b"HTTP/"
_METHOD_BYTE: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]")

# What h11 keeps of a chunk's header or trailers that are incomplete. With one byte more it raises.
_H11_INCOMPLETE_MAX: Final = 16 * 1024

# h11's message about a bad head or chunk may quote a whole line.
_H11_TEXT_MAX: Final = 120


class HttpReader:
    """Reads one head of the peer from a receive buffer, and the body behind it."""

    def __init__(self, buffer: ReceiveBuffer, http: h11.Connection, *, max_head: int, upgrades: bool = False) -> None:
        self._buffer = buffer
        self._http = http
        self._max_head = max_head
        self._upgrades = upgrades
        self._answers = http.our_role is h11.CLIENT
        self._delimited = False
        self._chunked = False
        self._keeps_connection = False
        self._ended = False
        self._cut: tuple[str, Reason] | None = None

    @classmethod
    def for_request(cls, buffer: ReceiveBuffer, *, max_head: int) -> Self:
        """A reader of a request."""
        return cls(buffer, h11.Connection(h11.SERVER), max_head=max_head)

    @classmethod
    def for_answer(cls, buffer: ReceiveBuffer, method: str, *, max_head: int, upgrades: bool = False) -> Self:
        """A reader of the answer to a request with this method."""
        http = h11.Connection(h11.CLIENT)
        # h11 must know the method and the upgrade: they decide which answers are valid, and which have a body.
        upgrade = [("Connection", "Upgrade"), ("Upgrade", "tcp")] if upgrades else []
        http.send(h11.Request(method=method, target="/", headers=[("Host", ""), *upgrade]))
        http.send(h11.EndOfMessage())
        return cls(buffer, http, max_head=max_head, upgrades=upgrades)

    def head(self) -> Reading[Head]:
        """Read the head of a request or of the final answer. 1xx heads before it are skipped."""
        size = 0
        for _ in range(_INFORMATIONAL_MAX + 1):
            data = yield from self._one_head(size)
            size += len(data)
            event = self._parse_head(data)
            headers = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in event.headers)
            version = event.http_version.decode()
            if isinstance(event, h11.Request):
                head = Head(0, event.method.decode(), event.target.decode("latin-1"), headers, version)
            elif event.status_code == 101 or event.status_code >= 200:
                head = Head(event.status_code, "", "", headers, version)
            else:
                continue
            self._delimited, self._chunked = head.delimited, head.chunked
            self._keeps_connection = head.keeps_connection
            self._check_version(head)
            self._parse_body(at_end=False)  # h11 reports the end of an empty body without any byte
            return head
        raise RemoteProtocolError(
            f"more than {_INFORMATIONAL_MAX} heads with a status of 1xx came, and no answer", Reason.BAD_HEAD
        )

    def _check_version(self, head: Head) -> None:
        """Refuse what h11 takes and other readers do not, or read otherwise."""
        # Go gives its handlers this one, the beginning of HTTP/2, and engines answer it with 301 (recorded).
        is_preface = (head.method, head.target) == ("PRI", "*")
        if not head.http_version.startswith("1.") and not is_preface:
            raise RemoteProtocolError(f"the peer speaks HTTP/{head.http_version}, not HTTP/1.1", Reason.BAD_HEAD)
        # Go ignores the field then, and takes the chunks for what follows the request (RFC 9112, 6.1: faulty).
        if head.http_version == "1.0" and head.chunked and not self._answers:
            raise RemoteProtocolError("a request of HTTP/1.0 has a Transfer-Encoding", Reason.BAD_HEAD)

    def _one_head(self, size: int) -> Reading[bytes]:
        data = bytearray()
        what = "answer" if self._answers else "request"
        while True:
            piece = self._buffer.take()
            if piece is NEED_DATA:
                yield NEED_DATA
                continue
            if piece is END:
                if not data:
                    raise RemoteProtocolError(f"the connection ended before any {what} came", Reason.NOTHING_CAME)
                raise RemoteProtocolError(
                    f"the connection ended inside the {what}'s head, after {excerpt(bytes(data))}", Reason.CUT_IN_HEAD
                )
            # The blank line may have been cut: up to two of its bytes are in ``data`` already.
            searched = max(0, len(data) - 2)
            data += piece
            self._check_start(data)
            found = _BLANK_LINE.search(data, searched)
            end = found.end() if found else len(data)
            if size + end > self._max_head:
                raise RemoteProtocolError(
                    f"the {what}'s head is larger than {self._max_head} bytes (max_head); "
                    f"it begins {excerpt(bytes(data))}",
                    Reason.HEAD_TOO_LARGE,
                )
            if found:
                self._buffer.put_back(bytes(data[end:]))
                return bytes(data[:end])

    def _check_start(self, data: bytearray) -> None:
        if self._answers:
            if not _ANSWER.startswith(data[: len(_ANSWER)]):
                raise RemoteProtocolError(f"the answer is not HTTP: it begins {excerpt(bytes(data))}", Reason.NOT_HTTP)
        elif not _METHOD_BYTE.match(data):
            raise RemoteProtocolError(f"the request is not HTTP: it begins {excerpt(bytes(data))}", Reason.NOT_HTTP)

    def _parse_head(self, data: bytes) -> h11.Request | h11.InformationalResponse | h11.Response:
        try:
            self._http.receive_data(data)
            event = self._http.next_event()
        except h11.RemoteProtocolError as exc:
            if _SWITCH.match(data) and not self._upgrades:
                raise RemoteProtocolError(
                    "the answer is 101 Switching Protocols, and the request did not ask for an upgrade",
                    Reason.UNASKED_UPGRADE,
                ) from None
            raise RemoteProtocolError(
                f"a bad head: {str(exc)[:_H11_TEXT_MAX]} (it begins {excerpt(data)})", Reason.BAD_HEAD
            ) from None
        if any(b"," in each for each in _LENGTH_FIELD.findall(data)):
            raise RemoteProtocolError(f"a bad head: the Content-Length is a list in {excerpt(data)}", Reason.BAD_HEAD)
        assert isinstance(event, h11.Request | h11.InformationalResponse | h11.Response)  # because it was a whole head
        return event

    @property
    def kept_open(self) -> bool:
        """Whether the body was read whole, and the peer keeps the connection open behind it."""
        return self._ended and self._cut is None and self._keeps_connection

    def stream(self) -> ChunkSource:
        """The source of the stream behind the head: the receive buffer, or h11 if the body says where it ends."""
        return self._take_body if self._delimited else self._buffer.take

    def _take_body(self) -> Chunk:
        """The next chunk of the body, without the framing of HTTP. One chunk of the buffer gives at most one.

        Raises:
            RemoteProtocolError: the body ended before its announced end, or its chunks are malformed.
        """
        while not self._ended:
            if self._cut is not None:
                raise RemoteProtocolError(*self._cut)
            piece = self._buffer.take()
            if piece is NEED_DATA:
                return NEED_DATA
            if data := self._feed(b"" if piece is END else piece):
                return data
        return END

    def _feed(self, piece: bytes) -> bytes:
        """Give h11 a piece of the body, or the end of file, and return the data in it."""
        data = []
        at = 0
        while True:
            room = len(piece) - at
            if self._chunked:
                room = min(room, _H11_INCOMPLETE_MAX + 1 - len(self._http.trailing_data[0]))
            self._http.receive_data(piece[at : at + room])
            at += room
            data.append(self._parse_body(at_end=not piece))
            if self._ended:
                self._buffer.put_back(self._http.trailing_data[0] + piece[at:])
            if self._ended or self._cut is not None or at == len(piece):
                return b"".join(data)

    def _parse_body(self, *, at_end: bool) -> bytes:
        """The part of the body in the bytes that h11 has."""
        data = []
        try:
            while isinstance(event := self._http.next_event(), h11.Data):
                data.append(event.data)
        except h11.RemoteProtocolError as exc:
            # Raised by the next call, because what came before it is delivered first.
            reason = Reason.CUT_IN_BODY if at_end else Reason.BAD_CHUNKS
            # Not the error itself: its traceback would keep the frames that hold what was read.
            self._cut = f"the body was cut or is malformed: {str(exc)[:_H11_TEXT_MAX]}", reason
        else:
            # h11 pauses after a 101, where the connection is not HTTP any more. Then there is no body either.
            self._ended = event is h11.PAUSED or isinstance(event, h11.EndOfMessage)
        return b"".join(data)

    def body(self, limit: int, name: str, of: str) -> Reading[bytes]:
        """Read a whole body.

        Args:
            limit: in bytes.
            name: of the limit, for the error.
            of: what the body belongs to, for the error.

        Raises:
            RemoteProtocolError: the body is larger than the limit, cut, or malformed.
        """
        data = bytearray()
        while True:
            try:
                piece = self._take_body()
            except RemoteProtocolError as exc:
                raise RemoteProtocolError(f"{exc}; what came of {of} is {excerpt(bytes(data))}", exc.reason) from None
            if piece is NEED_DATA:
                yield NEED_DATA
                continue
            if piece is END:
                return bytes(data)
            data += piece
            if len(data) > limit:
                raise RemoteProtocolError(
                    f"the body of {of} is larger than {limit} bytes ({name}); it begins {excerpt(bytes(data))}",
                    Reason.BODY_TOO_LARGE,
                )
