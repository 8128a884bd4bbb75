"""Writing HTTP/1.1 around the stream: requests by h11, answers by an encoder of our own.

h11 would rewrite what engines say: it adds ``Transfer-Encoding: chunked`` to a ``200`` or a refusal without a length,
which are a stream and a text that end with the connection. So heads of answers are written as they are said, and what
would not be understood at the other end is refused here.
"""

from __future__ import annotations

from typing import Final

import h11

from attachproto._errors import LocalProtocolError
from attachproto._events import Accepted, Framing, Rejected, Response, ResponseHead
from attachproto._headers import MULTIPLEXED_STREAM, RAW_STREAM, Headers, check_headers, field
from attachproto._requests import Request

# What shapes a connection. In a request it is ours to write: with another value the connection would not be what the
# state machine takes it for.
_SHAPING: Final = ("host", "connection", "upgrade", "content-length", "transfer-encoding")

_BODILESS: Final = (204, 304)

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
    if taken := sorted({name for name, _ in request.headers} & set(_SHAPING)):
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


def _checked(status_code: int, headers: Headers, lowest: int) -> None:
    """What holds for every answer of a server."""
    if type(status_code) is not int or not lowest <= status_code <= 599:
        raise LocalProtocolError(f"the status of this answer is {lowest} to 599, not {status_code!r}")
    for name in ("content-type", *_SHAPING):
        if sum(key == name for key, _ in headers) > 1:
            raise LocalProtocolError(f"an answer has one {name}")


def encode_accepted(event: Accepted, *, upgrade: bool, http_version: str, wants_stdin: bool) -> bytes:
    """Write the head that opens a stream, as dockerd writes it.

    Raises:
        LocalProtocolError: it would not be understood by the client that asked.
    """
    _checked(event.status_code, event.headers, 101)
    if event.framing is None:
        raise LocalProtocolError("a server knows the framing of what it sends: Accepted needs one")
    headers = dict(event.headers)
    default_type = MULTIPLEXED_STREAM if event.framing is Framing.MULTIPLEXED else RAW_STREAM
    first: Headers = (("content-type", headers.get("content-type", default_type)),)
    if "content-length" in headers:
        raise LocalProtocolError("a stream has no Content-Length")
    if event.status_code == 101:
        if not upgrade:
            raise LocalProtocolError("the client did not ask for an upgrade: accept with status_code=200")
        if "transfer-encoding" in headers:
            raise LocalProtocolError("an upgraded connection has no Transfer-Encoding")
        if headers.get("connection", "upgrade").lower() != "upgrade":
            raise LocalProtocolError(f"the Connection of a 101 is Upgrade, not {headers['connection']!r}")
        first += (("connection", headers.get("connection", "Upgrade")), ("upgrade", headers.get("upgrade", "tcp")))
    elif event.status_code != 200:
        raise LocalProtocolError(f"a stream is accepted with 101 or 200, not {event.status_code}")
    elif wants_stdin and (is_chunked(event) or "close" in headers.get("connection", "").lower()):
        raise LocalProtocolError(
            "a chunked answer, or one with Connection: close, ends the request, and this client wants to send stdin"
        )
    elif is_chunked(event):
        if headers["transfer-encoding"] != "chunked":
            raise LocalProtocolError(f"a stream can be chunked, and nothing else: {headers['transfer-encoding']!r}")
        if http_version == "1.0":
            raise LocalProtocolError("an HTTP/1.0 client reads no chunks")
        first += (("connection", "close"),)
    said = {name for name, _ in first}
    rest = tuple((name, value) for name, value in event.headers if name not in said)
    return encode_head(status_line(event.status_code), first + rest)


def is_chunked(event: Accepted) -> bool:
    """Whether the stream travels in HTTP chunks."""
    return field(event.headers, "transfer-encoding") is not None


class ResponseWriter:
    """Writes a refusal, or a plain call's answer: in one piece or its head first, with ``Connection: close``."""

    def __init__(self, *, method: str, http_version: str) -> None:
        self._head_only = method == "HEAD"
        self._old = http_version == "1.0"
        self._head: ResponseHead | None = None

    def head(self, event: ResponseHead) -> bytes:
        """The head alone; the body then comes in one chunk, unless its length is among the header fields."""
        headers = self._complete(event.status_code, event.headers)
        if not (self._old or self._bodiless(event.status_code) or field(headers, "content-length") is not None):
            headers += (("transfer-encoding", "chunked"),)
        data = encode_head(status_line(event.status_code), headers)
        self._head = event
        return data

    def response(self, event: Response) -> bytes:
        """The whole answer, or what is left of it when its head is out."""
        headers = self._complete(event.status_code, event.headers)
        counted = field(headers, "content-length") is not None
        if self._head_only:
            # Its length is that of the body which a GET would get; the caller may know it without having the body.
            body = b""
        elif event.status_code in _BODILESS:
            if event.body:
                raise LocalProtocolError(f"an answer with status {event.status_code} has no body")
            body = b""
        else:
            _check_length(headers, event.body)
            body = event.body
        if self._head is not None:
            if (event.status_code, event.headers) != (self._head.status_code, self._head.headers):
                raise LocalProtocolError("the answer's status and headers differ from those of its ResponseHead")
            bare = self._old or counted or self._bodiless(event.status_code)
            return body if bare else chunk(body) + LAST_CHUNK
        if not counted and event.status_code not in _BODILESS:
            headers += (("content-length", str(len(event.body))),)
        return encode_head(status_line(event.status_code), headers) + body

    def rejected(self, event: Rejected) -> bytes:
        """A refusal, as it is said: without a ``content-length`` its text ends with the connection, as dockerd's does.

        Raises:
            LocalProtocolError: the status is none of a refusal, or the header fields do not fit the body.
        """
        _checked(event.status_code, event.headers, 400)
        if field(event.headers, "transfer-encoding") is not None:
            raise LocalProtocolError("the text of a refusal is written as it is, without a Transfer-Encoding")
        _check_length(event.headers, event.body)
        head = encode_head(status_line(event.status_code), event.headers)
        return head if self._head_only else head + event.body

    def _bodiless(self, status_code: int) -> bool:
        return self._head_only or status_code in _BODILESS

    def _complete(self, status_code: int, headers: Headers) -> Headers:
        _checked(status_code, headers, 200)
        if field(headers, "transfer-encoding") is not None or field(headers, "connection") is not None:
            raise LocalProtocolError("Transfer-Encoding and Connection of an answer are the connection's to write")
        if status_code == 204 and field(headers, "content-length") is not None:
            raise LocalProtocolError("an answer with status 204 has no Content-Length")
        return (*headers, ("connection", "close"))


def _check_length(headers: Headers, body: bytes) -> None:
    length = field(headers, "content-length")
    if length is not None and length != str(len(body)):
        raise LocalProtocolError(f"content-length says {length}, and the body has {len(body)} bytes")
