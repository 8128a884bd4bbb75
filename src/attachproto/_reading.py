"""Reading HTTP/1.1 around the stream: heads and bodies of the peer, by h11.

Strategy: h11 is given one head at a time, cut out by us. So it never holds a byte that belongs to the stream (what
comes behind an answer stays in the inbox, and there is nothing to hand over and to lose), and the limit of a head is
counted by us, over all 1xx heads together: h11 looks at its own only when a head is not complete yet, so the same
bytes would pass in one piece and fail in two. (One such limit is left to h11: 16 KiB for what it cannot use yet of a
chunk's header or of trailers. Nobody sends such a thing; it is there so that nobody can fill memory with it.)

Reading is written as generators that yield ``NEED_DATA`` where they wait, because a head is then read top to bottom.
They do not survive an exception; the connection keeps the failure.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from typing import Final, Literal, TypeVar

import attrs
import h11

from attachproto._errors import Reason, RemoteProtocolError, excerpt
from attachproto._headers import Headers, field
from attachproto._inbox import Inbox, Take
from attachproto._signals import NEED_DATA, Signal

T = TypeVar("T")
Reading = Generator[Literal[Signal.NEED_DATA], None, T]

# A server may send 100, 102 and 103 before its answer; engines send 100 at most, once. More is no answer but a way
# to keep a client busy.
_INFORMATIONAL_MAX: Final = 16

_BLANK_LINE: Final = re.compile(rb"\n\r?\n")

# h11 takes it for a bad head where no upgrade was proposed, and says so in words of its own.
_SWITCH: Final = re.compile(rb"HTTP/1\.[01] 101[ \r\n]")

# What an answer begins with; a request begins with a method. Judged byte by byte, so that a peer that speaks another
# protocol (TLS, SSH, frames without a head) is told from a slow one at once.
_ANSWER: Final = b"HTTP/"
_METHOD_BYTE: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]")

# What h11 says of a bad head or chunk may quote a whole line.
_H11_TEXT_MAX: Final = 120


@attrs.frozen
class Head:
    """A head as it came: an answer's has a status code, a request's a method and a target."""

    status_code: int
    method: str
    target: str
    headers: Headers
    http_version: str

    @property
    def chunked(self) -> bool:
        """Whether the body comes in chunks."""
        return field(self.headers, "transfer-encoding") is not None

    @property
    def length(self) -> int | None:
        """The announced length of the body; chunks make it void."""
        length = field(self.headers, "content-length")
        return None if length is None or self.chunked else int(length)

    @property
    def delimited(self) -> bool:
        """Whether the body says itself where it ends. That of a 101 cannot: RFC 9110 knows no body there."""
        return self.status_code != 101 and (self.chunked or self.length is not None)

    @property
    def ends_request(self) -> bool:
        """Whether whoever wrote this answer reads no more of the request: no engine's own stream says such a thing."""
        options = {
            option.strip().lower()
            for name, value in self.headers
            if name == "connection"
            for option in value.split(",")
        }
        return self.delimited or (self.status_code != 101 and "close" in options)


class HttpReader:
    """Reads heads and bodies of the peer from an inbox, by h11."""

    def __init__(self, inbox: Inbox, http: h11.Connection, *, max_head: int, upgrades: bool = False) -> None:
        self._inbox = inbox
        self._http = http
        self._max_head = max_head
        self._upgrades = upgrades
        self._answers = http.our_role is h11.CLIENT
        self._delimited = False
        self._ended = False
        self._cut: RemoteProtocolError | None = None

    def head(self) -> Reading[Head]:
        """Read the head of a request or of the final answer; 1xx heads before it are skipped.

        Raises:
            RemoteProtocolError: it is no head, is cut, or too large.
        """
        size = 0
        for _ in range(_INFORMATIONAL_MAX + 1):
            data = yield from self._one_head(size)
            size += len(data)
            event = self._parsed(data)
            headers = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in event.headers)
            version = event.http_version.decode()
            if isinstance(event, h11.Request):
                head = Head(0, event.method.decode(), event.target.decode("latin-1"), headers, version)
            elif event.status_code == 101 or event.status_code >= 200:
                head = Head(event.status_code, "", "", headers, version)
            else:
                continue
            self._delimited = head.delimited
            self._drained(at_end=False)  # h11 tells of an empty body without a byte
            return head
        raise RemoteProtocolError(
            f"more than {_INFORMATIONAL_MAX} heads of status 1xx came in place of an answer", Reason.BAD_HEAD
        )

    def _one_head(self, size: int) -> Reading[bytes]:
        data = bytearray()
        what = "answer" if self._answers else "request"
        while True:
            piece = self._inbox.take()
            if piece is None:
                yield NEED_DATA
                continue
            if not piece:
                if not data:
                    raise RemoteProtocolError(f"the connection ended before any {what} came", Reason.NOTHING_CAME)
                raise RemoteProtocolError(
                    f"the connection ended inside the {what}'s head, after {excerpt(bytes(data))}", Reason.CUT_IN_HEAD
                )
            # A blank line may have been cut: two bytes of it can lie behind us.
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
                self._inbox.put_back(bytes(data[end:]))
                return bytes(data[:end])

    def _check_start(self, data: bytearray) -> None:
        if self._answers:
            if not _ANSWER.startswith(data[: len(_ANSWER)]):
                raise RemoteProtocolError(f"this is no HTTP answer: {excerpt(bytes(data))}", Reason.NOT_HTTP)
        elif not _METHOD_BYTE.match(data):
            raise RemoteProtocolError(f"this is no HTTP request: {excerpt(bytes(data))}", Reason.NOT_HTTP)

    def _parsed(self, data: bytes) -> h11.Request | h11.InformationalResponse | h11.Response:
        try:
            self._http.receive_data(data)
            event = self._http.next_event()
        except h11.RemoteProtocolError as exc:
            if _SWITCH.match(data) and not self._upgrades:
                raise RemoteProtocolError(
                    "the answer is 101, a switch of protocols, which nobody asked for", Reason.UNASKED_UPGRADE
                ) from None
            raise RemoteProtocolError(
                f"a bad head: {str(exc)[:_H11_TEXT_MAX]} (it begins {excerpt(data)})", Reason.BAD_HEAD
            ) from None
        assert isinstance(event, h11.Request | h11.InformationalResponse | h11.Response)  # it was a whole head
        return event

    def stream(self) -> Take:
        """The source of the stream behind the head: h11's, if the body says itself where it ends."""
        return self._take_body if self._delimited else self._inbox.take

    def _take_body(self) -> bytes | None:
        """The next piece of the body, without its HTTP framing: a source like ``Inbox.take``.

        What one chunk of the inbox brought comes as one piece.

        Raises:
            RemoteProtocolError: the body ended before its announced end, or its chunks are malformed.
        """
        while not self._ended:
            if self._cut is not None:
                raise self._cut
            piece = self._inbox.take()
            if piece is None:
                return None
            self._http.receive_data(piece)
            if data := self._drained(at_end=not piece):
                return data
        return b""

    def _drained(self, *, at_end: bool) -> bytes:
        """What h11 makes of the bytes that it has."""
        data = []
        try:
            while isinstance(event := self._http.next_event(), h11.Data):
                data.append(event.data)
        except h11.RemoteProtocolError as exc:
            # Raised later: what came before it is delivered first.
            reason = Reason.CUT_IN_BODY if at_end else Reason.BAD_CHUNKS
            self._cut = RemoteProtocolError(f"the body was cut or is malformed: {str(exc)[:_H11_TEXT_MAX]}", reason)
        else:
            # h11 pauses where the connection is no longer HTTP's; there is no more body then.
            self._ended = event is h11.PAUSED or isinstance(event, h11.EndOfMessage)
            if self._ended:
                self._inbox.put_back(self._http.trailing_data[0])
        return b"".join(data)

    def body(self, limit: int, name: str, of: str) -> Reading[bytes]:
        """Read a whole body.

        Args:
            limit: in bytes.
            name: the limit's name, for the error.
            of: whose body it is, for the error.

        Raises:
            RemoteProtocolError: it is larger than the limit, or cut.
        """
        data = bytearray()
        while True:
            try:
                piece = self._take_body()
            except RemoteProtocolError as exc:
                raise RemoteProtocolError(f"{exc}; so far {of} said {excerpt(bytes(data))}", exc.reason) from None
            if piece is None:
                yield NEED_DATA
                continue
            if not piece:
                return bytes(data)
            data += piece
            if len(data) > limit:
                raise RemoteProtocolError(
                    f"the body of {of} is larger than {limit} bytes ({name}); it begins {excerpt(bytes(data))}",
                    Reason.BODY_TOO_LARGE,
                )
