"""What an answer means: the client's reading of heads, and the server's writing of them.

How output is framed is decided here, by what engines were seen to send. ``multiplexed-stream`` means frames, always
(moby ``postContainersAttach`` since API 1.42, Podman since 4.7). ``raw-stream`` means nothing: every API below 1.42,
every ``200`` of dockerd and every Podman without a version in the path send frames under that label. Then only the
caller's ``tty`` can tell; nothing is ever guessed from the bytes.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Final, Literal

from attachproto._errors import LocalProtocolError, RemoteProtocolError
from attachproto._events import Accepted, Framing, Rejected, Response, ResponseHead
from attachproto._headers import Headers, field, media_type
from attachproto._http import LAST_CHUNK, Head, HttpReader, chunk, encode_head, excerpt, status_line
from attachproto._requests import Request
from attachproto._signals import Signal
from attachproto._streams import StreamRequest

MULTIPLEXED_STREAM: Final = "application/vnd.docker.multiplexed-stream"
RAW_STREAM: Final = "application/vnd.docker.raw-stream"
_STREAM_TYPES: Final = (MULTIPLEXED_STREAM, RAW_STREAM)

Answer = Accepted | Rejected | ResponseHead | Response

# ---- the client reads ----


def read_response(
    reader: HttpReader, request: Request, *, max_body: int
) -> Generator[Answer | Literal[Signal.NEED_DATA], None, None]:
    """Read the answer to a plain call: its head when it is there, and the whole of it."""
    head = yield from reader.head()
    yield ResponseHead(head.status_code, head.headers)
    body = yield from reader.body(max_body, "max_body", f"the answer to {request.method} {request.target}")
    yield Response(head.status_code, head.headers, body)


def read_answer(
    reader: HttpReader, request: StreamRequest, *, max_refusal: int
) -> Generator[Answer | Literal[Signal.NEED_DATA], None, None]:
    """Read the answer to a stream request: ``Accepted``, or ``Rejected``, or an error that says what came instead."""
    head = yield from reader.head()
    if head.status_code >= 400:
        body = yield from reader.body(max_refusal, "max_refusal", f"the refusal ({head.status_code})")
        yield Rejected(head.status_code, head.headers, body)
    elif problem := _unusable(request, head):
        # A page with a length tells what it is in a moment. Without one it may go on for ever, as a stream does.
        if head.length:
            body = yield from reader.body(max_refusal, "max_refusal", problem)
            problem += f": {excerpt(body)}"
        raise RemoteProtocolError(problem)
    elif request.wants_stdin and head.delimited:
        raise RemoteProtocolError(
            "the answer's body has an end of its own (Content-Length or chunked), so something between us and the "
            "engine has ended the request already: stdin cannot be sent on this connection"
        )
    else:
        yield Accepted(_framing(request, head), head.status_code, head.headers)


def _unusable(request: StreamRequest, head: Head) -> str:
    """Why this answer opens no stream; empty if it does."""
    # h11 has refused a 101 that nobody asked for. What it is an upgrade to means nothing: dockerd says tcp whatever
    # was asked, Podman repeats what it was asked.
    if head.status_code == 101:
        return ""
    kind = media_type(field(head.headers, "content-type") or "")
    # Of logs, engines label some raw or multiplexed, some octet-stream or text/plain (what Go takes the first bytes
    # for), and most not at all. A page is still a page.
    if head.status_code == 200 and (kind in _STREAM_TYPES or (not request.upgrades and kind != "text/html")):
        return ""
    seen = f"the answer is {head.status_code} {kind or 'without a Content-Type'}"
    if 300 <= head.status_code < 400:
        return f"{seen}, a redirect to {excerpt(field(head.headers, 'location') or '')}: engines redirect no valid path"
    return f"{seen}, no stream of an engine; is there a proxy or another service at this address?"


def _framing(request: StreamRequest, head: Head) -> Framing | None:
    kinds = {media_type(value) for name, value in head.headers if name == "content-type"}
    if len(kinds) > 1:
        raise RemoteProtocolError(f"the answer has more than one Content-Type: {', '.join(sorted(kinds))}")
    if MULTIPLEXED_STREAM in kinds:
        if request.tty:
            raise RemoteProtocolError(
                "the engine sends multiplexed-stream, which it never does for a TTY, and the request said tty=True"
            )
        return Framing.MULTIPLEXED
    if request.tty is None:
        return None
    return Framing.RAW if request.tty else Framing.MULTIPLEXED


# ---- the server writes ----


def encode_accepted(event: Accepted, *, upgrade: bool, http_version: str, wants_stdin: bool) -> bytes:
    """Write the head that opens a stream, as dockerd writes it.

    Raises:
        LocalProtocolError: it would not be understood by the client that asked.
    """
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
        first += (("connection", headers.get("connection", "Upgrade")), ("upgrade", headers.get("upgrade", "tcp")))
    elif event.status_code != 200:
        raise LocalProtocolError(f"a stream is accepted with 101 or 200, not {event.status_code}")
    elif is_chunked(event):
        if wants_stdin:
            raise LocalProtocolError("a chunked answer ends the request, and this client wants to send stdin")
        if http_version == "1.0":
            raise LocalProtocolError("an HTTP/1.0 client reads no chunks")
        first += (("connection", "close"),)
    said = {name for name, _ in first}
    rest = tuple((name, value) for name, value in event.headers if name not in said)
    return encode_head(status_line(event.status_code), first + rest)


def is_chunked(event: Accepted) -> bool:
    """Whether the stream travels in HTTP chunks."""
    return field(event.headers, "transfer-encoding") == "chunked"


def encode_rejected(event: Rejected) -> bytes:
    """Write a refusal. Without a ``content-length`` of the caller's its text ends with the connection, as dockerd's.

    Raises:
        LocalProtocolError: the status is none of a refusal, or the length is wrong.
    """
    if event.status_code < 400:
        raise LocalProtocolError(f"a refusal has a status of 400 or above, not {event.status_code}")
    _check_length(event.headers, event.body)
    return encode_head(status_line(event.status_code), event.headers) + event.body


class ResponseWriter:
    """Writes a plain call's answer, in one piece or its head first. It carries ``Connection: close``."""

    def __init__(self, *, method: str, http_version: str) -> None:
        self._head_only = method == "HEAD"
        self._old = http_version == "1.0"
        self._head: ResponseHead | None = None

    def head(self, event: ResponseHead) -> bytes:
        """The head alone; the body then comes in one chunk, unless its length is among the header fields."""
        headers = self._checked(event.status_code, event.headers)
        if not (self._old or self._bodiless(event.status_code) or field(headers, "content-length")):
            headers += (("transfer-encoding", "chunked"),)
        data = encode_head(status_line(event.status_code), headers)
        self._head = event
        return data

    def response(self, event: Response) -> bytes:
        """The whole answer, or what is left of it when its head is out."""
        if self._bodiless(event.status_code) and not self._head_only and event.body:
            raise LocalProtocolError(f"an answer with status {event.status_code} has no body")
        _check_length(event.headers, event.body)
        body = b"" if self._head_only else event.body
        if self._head is None:
            headers = self._checked(event.status_code, event.headers)
            if field(headers, "content-length") is None and (self._head_only or not self._bodiless(event.status_code)):
                headers += (("content-length", str(len(event.body))),)
            return encode_head(status_line(event.status_code), headers) + body
        if (event.status_code, event.headers) != (self._head.status_code, self._head.headers):
            raise LocalProtocolError("the answer's status and headers differ from those of its ResponseHead")
        if self._old or self._bodiless(event.status_code) or field(event.headers, "content-length"):
            return body
        return chunk(body) + LAST_CHUNK

    def _bodiless(self, status_code: int) -> bool:
        return self._head_only or status_code in (204, 304)

    def _checked(self, status_code: int, headers: Headers) -> Headers:
        if not 200 <= status_code <= 599:
            raise LocalProtocolError(f"an answer has a status of 200 to 599, not {status_code}")
        if field(headers, "transfer-encoding") or field(headers, "connection"):
            raise LocalProtocolError("Transfer-Encoding and Connection of an answer are the connection's to write")
        return (*headers, ("connection", "close"))


def _check_length(headers: Headers, body: bytes) -> None:
    length = field(headers, "content-length")
    if length is not None and length != str(len(body)):
        raise LocalProtocolError(f"content-length says {length}, and the body has {len(body)} bytes")
