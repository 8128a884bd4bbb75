"""HTTP/1.1 around the stream: h11 reads, on both sides; what h11 would rewrite, we write.

Strategy: h11 is given one head at a time, cut out by us. So it never holds a byte that belongs to the stream (what
comes behind an answer stays in the inbox, and there is nothing to hand over and to lose), and the limit of a head is
counted by us, over all 1xx heads together: h11 looks at its own only when a head is not complete yet, so the same
bytes would pass in one piece and fail in two.

Reading is written as generators that yield ``NEED_DATA`` where they wait, because a head is then read top to bottom.
They do not survive an exception; the connection keeps the failure.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from typing import Final, Literal, TypeVar

import attrs
import h11

from attachproto._errors import LocalProtocolError, RemoteProtocolError
from attachproto._headers import Headers, check_headers, field
from attachproto._inbox import Inbox, Take
from attachproto._requests import Request
from attachproto._signals import NEED_DATA, Signal

T = TypeVar("T")
Reading = Generator[Literal[Signal.NEED_DATA], None, T]

# Ours to write: with another value the connection would not be what the state machine takes it for.
RESERVED: Final = frozenset({"host", "connection", "upgrade", "content-length", "transfer-encoding"})

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

# Enough to recognise a page or a protocol in an error's text.
_EXCERPT: Final = 120

_REASONS: Final = {
    100: "Continue",
    101: "UPGRADED",  # dockerd's own word; readers go by the number
    200: "OK",
    201: "Created",
    204: "No Content",
    301: "Moved Permanently",
    304: "Not Modified",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Conflict",
    413: "Content Too Large",
    417: "Expectation Failed",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    503: "Service Unavailable",
}


def excerpt(data: bytes | str) -> str:
    """The beginning of what a peer said, as it may stand in an error's text."""
    return repr(data) if len(data) <= _EXCERPT else f"{data[:_EXCERPT]!r}..."


# ---- writing ----


def encode_head(start: str, headers: Headers) -> bytes:
    """Write a head as it is said, with nothing added.

    Raises:
        LocalProtocolError: a header field cannot be written.
    """
    try:
        check_headers(headers)
    except ValueError as exc:
        raise LocalProtocolError(str(exc)) from None
    lines = [start, *(f"{name.title()}: {value}" for name, value in headers), "", ""]
    return "\r\n".join(lines).encode("latin-1")


def status_line(status_code: int) -> str:
    """The first line of an answer."""
    return f"HTTP/1.1 {status_code} {_REASONS.get(status_code, '')}".rstrip()


def encode_request(request: Request, *, upgrade: bool, host: str, user_agent: str) -> tuple[bytes, h11.Connection]:
    """Write a request, whole.

    Returns:
        The bytes, and the h11 connection that expects the answer.

    Raises:
        LocalProtocolError: the request holds header fields that are the connection's to write, or h11 refuses it.
    """
    if taken := sorted({name for name, _ in request.headers} & RESERVED):
        raise LocalProtocolError(f"the connection writes these header fields itself, take them out: {', '.join(taken)}")
    headers: list[tuple[str, str]] = [("Host", host)]
    if field(request.headers, "user-agent") is None:
        headers.append(("User-Agent", user_agent))
    if request.body or request.method not in ("GET", "HEAD"):
        headers.append(("Content-Length", str(len(request.body))))
    # Podman compares the whole value of Connection, so "keep-alive, Upgrade" would not do. A plain call has its
    # connection to itself.
    headers += [("Connection", "Upgrade"), ("Upgrade", "tcp")] if upgrade else [("Connection", "close")]
    headers += [(name.title(), value) for name, value in request.headers]
    http = h11.Connection(h11.CLIENT)
    try:
        data = http.send(
            h11.Request(
                method=request.method,
                target=request.target,
                headers=[(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers],
            )
        )
        body = http.send(h11.Data(data=request.body)) if request.body else b""
        http.send(h11.EndOfMessage())
    except (h11.LocalProtocolError, UnicodeEncodeError) as exc:
        raise LocalProtocolError(f"this request cannot be written: {exc}") from None
    return (data or b"") + (body or b""), http


def chunk(data: bytes) -> bytes:
    """Wrap output as one HTTP chunk. Nothing stays nothing: an empty chunk would be the last."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


LAST_CHUNK: Final = b"0\r\n\r\n"


# ---- reading ----


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
        """Whether the body says itself where it ends."""
        return self.chunked or self.length is not None


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
            self._drained()  # h11 tells of an empty body without a byte
            return head
        raise RemoteProtocolError(f"more than {_INFORMATIONAL_MAX} heads of status 1xx came in place of an answer")

    def _one_head(self, size: int) -> Reading[bytes]:
        data = bytearray()
        what = "answer" if self._answers else "request"
        while True:
            piece = self._inbox.take()
            if piece is None:
                yield NEED_DATA
                continue
            if not piece:
                raise RemoteProtocolError(
                    f"the connection ended inside the {what}'s head, after {excerpt(bytes(data))}"
                    if data
                    else f"the connection ended before any {what} came"
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
                    f"it begins {excerpt(bytes(data))}"
                )
            if found:
                self._inbox.put_back(bytes(data[end:]))
                return bytes(data[:end])

    def _check_start(self, data: bytearray) -> None:
        if self._answers:
            if not _ANSWER.startswith(data[: len(_ANSWER)]):
                raise RemoteProtocolError(f"this is no HTTP answer: {excerpt(bytes(data))}")
        elif not _METHOD_BYTE.match(data):
            raise RemoteProtocolError(f"this is no HTTP request: {excerpt(bytes(data))}")

    def _parsed(self, data: bytes) -> h11.Request | h11.InformationalResponse | h11.Response:
        try:
            self._http.receive_data(data)
            event = self._http.next_event()
        except h11.RemoteProtocolError as exc:
            if _SWITCH.match(data) and not self._upgrades:
                raise RemoteProtocolError("the answer is 101, a switch of protocols, which nobody asked for") from None
            # h11 may quote a whole line, of any length.
            raise RemoteProtocolError(f"a bad head: {str(exc)[:_EXCERPT]} (it begins {excerpt(data)})") from None
        assert isinstance(event, h11.Request | h11.InformationalResponse | h11.Response)  # it was a whole head
        return event

    def stream(self) -> Take:
        """The source of the stream behind the head: h11's, if the body says itself where it ends."""
        return self.take_body if self._delimited else self._inbox.take

    def take_body(self) -> bytes | None:
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
            if data := self._drained():
                return data
        return b""

    def _drained(self) -> bytes:
        """What h11 makes of the bytes that it has."""
        data = []
        try:
            while isinstance(event := self._http.next_event(), h11.Data):
                data.append(event.data)
        except h11.RemoteProtocolError as exc:
            # Raised later: what came before it is delivered first.
            self._cut = RemoteProtocolError(f"the body was cut or is malformed: {exc}")
        else:
            self._ended = isinstance(event, h11.EndOfMessage)
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
                piece = self.take_body()
            except RemoteProtocolError as exc:
                raise RemoteProtocolError(f"{exc}; so far {of} said {excerpt(bytes(data))}") from None
            if piece is None:
                yield NEED_DATA
                continue
            if not piece:
                return bytes(data)
            data += piece
            if len(data) > limit:
                raise RemoteProtocolError(
                    f"the body of {of} is larger than {limit} bytes ({name}); it begins {excerpt(bytes(data))}"
                )
