"""Writes the answers of a server, and the chunks of a stream.

Strategy: every function here turns an event into bytes and changes nothing. Heads are written by one small encoder of
our own, because h11 would rewrite them: it adds ``Transfer-Encoding: chunked`` to a ``200`` or a refusal without a
length, which engines end by closing the connection. Answers that the client could not read are refused.
"""

from __future__ import annotations

from typing import Final

from attachproto._errors import LocalProtocolError
from attachproto._events import Accepted, Framing, Rejected, Response, ResponseHead
from attachproto._headers import CONNECTION_HEADERS, MULTIPLEXED_STREAM, RAW_STREAM, Headers, check_headers, field

_BODILESS: Final = (204, 304)

_REASONS: Final = {
    100: "Continue",
    101: "UPGRADED",  # as dockerd writes it; readers only look at the number
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
    """Write a head. No header field is added.

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


def encode_chunk(data: bytes) -> bytes:
    """Write output as one HTTP chunk. Empty output is written as nothing, because an empty chunk is the last one."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


LAST_CHUNK: Final = b"0\r\n\r\n"


def is_chunked(event: Accepted) -> bool:
    """Whether the stream travels in HTTP chunks."""
    return field(event.headers, "transfer-encoding") is not None


def encode_accepted(event: Accepted, *, upgrade: bool, http_version: str, wants_stdin: bool) -> bytes:
    """Write the head that opens a stream, as dockerd writes it.

    Args:
        event: the answer.
        upgrade: whether the request asks for an upgrade.
        http_version: of the request.
        wants_stdin: whether the request says that stdin will be sent.

    Raises:
        LocalProtocolError: the client that sent the request could not read this answer.
    """
    _check(event.status_code, event.headers, 101)
    if event.framing is None:
        raise LocalProtocolError("a server must say the framing of its output: Accepted(framing=None) cannot be sent")
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
        raise LocalProtocolError(f"the status of Accepted is 101 or 200, not {event.status_code}")
    elif wants_stdin and (is_chunked(event) or "close" in headers.get("connection", "").lower()):
        raise LocalProtocolError(
            "a chunked answer, or one with Connection: close, ends the request, and this client wants to send stdin"
        )
    elif is_chunked(event):
        if headers["transfer-encoding"] != "chunked":
            raise LocalProtocolError(
                f"the Transfer-Encoding of a stream is chunked, not {headers['transfer-encoding']!r}"
            )
        if http_version == "1.0":
            raise LocalProtocolError("a client that speaks HTTP/1.0 cannot read chunks")
        first += (("connection", "close"),)
    written = {name for name, _ in first}
    rest = tuple((name, value) for name, value in event.headers if name not in written)
    return encode_head(status_line(event.status_code), first + rest)


class ResponseEncoder:
    """Writes the answers to one request that open no stream.

    Attributes:
        method: of the request.
        http_version: of the request.
        keep_alive: whether the connection may carry another exchange after a plain answer. Set when the request is
            whole.
    """

    __slots__ = ("http_version", "keep_alive", "method")

    def __init__(self, method: str, http_version: str) -> None:
        self.method = method
        self.http_version = http_version
        self.keep_alive = False

    def rejected(self, event: Rejected) -> bytes:
        """Write a refusal: without a ``content-length`` it ends with the connection.

        No header field is added, but for a ``Connection: close`` where a client could take the connection for open
        (RFC 9112, 9.6). Without a length dockerd adds none either (moby ``postContainersAttach``).

        Raises:
            LocalProtocolError: the status is below 400, or the header fields do not fit the body.
        """
        _check(event.status_code, event.headers, 400)
        if field(event.headers, "transfer-encoding") is not None:
            raise LocalProtocolError("the body of Rejected is written without a Transfer-Encoding")
        _check_length(event.headers, event.body)
        _check_connection(event.headers)
        headers = self._with_close(event.headers) if self._tells_end(event.headers) else event.headers
        head = encode_head(status_line(event.status_code), headers)
        return head if self.method == "HEAD" else head + event.body

    def head(self, event: ResponseHead) -> bytes:
        """Write the head alone. The body then comes as one chunk, unless its length is among the header fields."""
        headers = self._headers(event.status_code, event.headers)
        if not self._is_bare(event):
            headers += (("transfer-encoding", "chunked"),)
        return encode_head(status_line(event.status_code), headers)

    def response(self, event: Response, head: ResponseHead | None) -> bytes:
        """Write the whole answer, or the rest of it if its ``head`` was sent."""
        headers = self._headers(event.status_code, event.headers)
        counted = field(headers, "content-length") is not None
        if self.method == "HEAD":
            # The length is that of the body for a GET. The caller may know it without having the body.
            body = b""
        elif event.status_code in _BODILESS:
            if event.body:
                raise LocalProtocolError(f"an answer with status {event.status_code} has no body")
            body = b""
        else:
            _check_length(headers, event.body)
            body = event.body
        if head is not None:
            if (event.status_code, event.headers) != (head.status_code, head.headers):
                raise LocalProtocolError("the status or headers of this Response differ from those of its ResponseHead")
            return body if self._is_bare(head) else encode_chunk(body) + LAST_CHUNK
        if not counted and event.status_code not in _BODILESS:
            headers += (("content-length", str(len(event.body))),)
        return encode_head(status_line(event.status_code), headers) + body

    def keeps_connection(self, event: Response | Rejected) -> bool:
        """Whether the connection may carry another exchange after this answer."""
        if not self.keep_alive or field(event.headers, "connection") is not None:
            return False
        return isinstance(event, Response) or self._tells_end(event.headers)

    def _tells_end(self, headers: Headers) -> bool:
        """Whether the client of a refusal with these header fields knows its end before the connection ends."""
        return self.method == "HEAD" or field(headers, "content-length") is not None

    def _is_bare(self, head: ResponseHead) -> bool:
        """Whether the body behind this head has no chunks around it."""
        return (
            self.http_version == "1.0"
            or self.method == "HEAD"
            or head.status_code in _BODILESS
            or field(head.headers, "content-length") is not None
        )

    def _headers(self, status_code: int, headers: Headers) -> Headers:
        _check(status_code, headers, 200)
        if field(headers, "transfer-encoding") is not None:
            raise LocalProtocolError("the Transfer-Encoding of an answer is written by Connection: leave it out")
        _check_connection(headers)
        if status_code == 204 and field(headers, "content-length") is not None:
            raise LocalProtocolError("an answer with status 204 has no Content-Length")
        return self._with_close(headers)

    def _with_close(self, headers: Headers) -> Headers:
        """The header fields of a plain answer, which say so if no other exchange can follow."""
        if self.keep_alive or field(headers, "connection") is not None:
            return headers
        return (*headers, ("connection", "close"))


def _check(status_code: int, headers: Headers, lowest: int) -> None:
    """What holds for every answer of a server."""
    if type(status_code) is not int or not lowest <= status_code <= 599:
        raise LocalProtocolError(f"the status of this answer is {lowest} to 599, not {status_code!r}")
    for name in ("content-type", *CONNECTION_HEADERS):
        if sum(key == name for key, _ in headers) > 1:
            raise LocalProtocolError(f"an answer has {name} at most once")


def _check_connection(headers: Headers) -> None:
    """What holds for every answer that opens no stream."""
    connection = field(headers, "connection")
    if connection not in (None, "close"):
        raise LocalProtocolError(f"the connection field of this answer is close, or left out, not {connection!r}")


def _check_length(headers: Headers, body: bytes) -> None:
    length = field(headers, "content-length")
    if length is not None and length != str(len(body)):
        raise LocalProtocolError(f"content-length is {length}, and the body has {len(body)} bytes")
