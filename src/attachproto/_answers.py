"""What an answer means to the client that reads it.

How output is framed is decided here, by what engines were seen to send. ``multiplexed-stream`` means frames, always
(moby ``postContainersAttach`` since API 1.42, Podman since 4.7). ``raw-stream`` means nothing: every API below 1.42,
every ``200`` of dockerd and every Podman without a version in the path send frames under that label. Then only the
caller's ``tty`` can tell; nothing is ever guessed from the bytes.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Final, Literal

from attachproto._errors import RemoteProtocolError
from attachproto._events import Accepted, Framing, Rejected, Response, ResponseHead
from attachproto._headers import MULTIPLEXED_STREAM, RAW_STREAM, field, media_type
from attachproto._reading import Head, HttpReader, excerpt
from attachproto._requests import Request
from attachproto._signals import Signal
from attachproto._streams import StreamRequest

_STREAM_TYPES: Final = (MULTIPLEXED_STREAM, RAW_STREAM)

Answer = Accepted | Rejected | ResponseHead | Response


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
