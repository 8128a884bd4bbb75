"""What an answer means to the client that reads it.

How output is framed is decided here, by what engines were seen to send. ``multiplexed-stream`` means frames, always
(moby ``postContainersAttach`` since API 1.42, Podman since 4.7). ``raw-stream`` means nothing: every API below 1.42,
every ``200`` of dockerd and every Podman without a version in the path send frames under that label. Then only the
caller's ``tty`` can tell; nothing is ever guessed from the bytes.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Final, Literal

from attachproto._errors import Reason, RemoteProtocolError, excerpt
from attachproto._events import Accepted, Framing, Rejected, Response, ResponseHead
from attachproto._headers import MULTIPLEXED_STREAM, RAW_STREAM, field, media_type
from attachproto._reading import Head, HttpReader
from attachproto._requests import Request
from attachproto._signals import Signal
from attachproto._streams import StreamRequest

_STREAM_TYPES: Final = (MULTIPLEXED_STREAM, RAW_STREAM)

# The longest registered media type has some 80 characters.
_SHOWN_TYPE: Final = 100

Answer = Accepted | Rejected | ResponseHead | Response


def read_response(
    reader: HttpReader, request: Request, *, max_body: int
) -> Generator[Answer | Literal[Signal.NEED_DATA], None, None]:
    """Read the answer to a plain call: its head when it is there, and the whole of it."""
    head = yield from reader.head()
    yield ResponseHead(head.status_code, head.headers)
    name = f"the answer to {excerpt(f'{request.method} {request.target}')}"
    body = yield from reader.body(max_body, "max_body", name)
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
        text, reason = problem
        # A page with a length tells what it is in a moment. Without one it may go on for ever, as a stream does.
        if head.length:
            body = yield from reader.body(max_refusal, "max_refusal", text)
            text += f": {excerpt(body)}"
        raise RemoteProtocolError(text, reason)
    elif request.wants_stdin and head.ends_request:
        raise RemoteProtocolError(
            "the answer is no upgrade, and its head says that it ends by itself (chunked, Content-Length or "
            "Connection: close): a proxy between us and the engine has ended the request, so stdin cannot be sent. "
            "Let the proxy pass Upgrade through, or connect to the engine without it",
            Reason.STDIN_IMPOSSIBLE,
        )
    else:
        yield Accepted(_framing(request, head), head.status_code, head.headers)


def _unusable(request: StreamRequest, head: Head) -> tuple[str, Reason] | None:
    """Why this answer opens no stream; ``None`` if it does."""
    # h11 has refused a 101 that nobody asked for. What it is an upgrade to means nothing: dockerd says tcp whatever
    # was asked, Podman repeats what it was asked.
    if head.status_code == 101:
        return None
    kind = media_type(field(head.headers, "content-type") or "")
    # Of logs, engines label some raw or multiplexed, some octet-stream or text/plain (what Go takes the first bytes
    # for), and most not at all. A page is still a page.
    if head.status_code == 200 and (kind in _STREAM_TYPES or (not request.upgrades and kind != "text/html")):
        return None
    seen = f"the answer is {head.status_code} {kind[:_SHOWN_TYPE] or 'without a Content-Type'}"
    if 300 <= head.status_code < 400:
        location = excerpt(field(head.headers, "location") or "")
        return f"{seen}, a redirect to {location}: engines redirect no valid path", Reason.REDIRECTED
    return (
        f"{seen}, no stream of an engine; is there a proxy or another service at this address?",
        Reason.NOT_A_STREAM,
    )


def _framing(request: StreamRequest, head: Head) -> Framing | None:
    kinds = {media_type(value) for name, value in head.headers if name == "content-type"}
    if len(kinds) > 1:
        raise RemoteProtocolError(
            f"the answer has more than one Content-Type: {excerpt(', '.join(sorted(kinds)))}",
            Reason.FRAMING_CONTRADICTED,
        )
    if MULTIPLEXED_STREAM in kinds:
        if request.tty:
            raise RemoteProtocolError(
                "the engine sends multiplexed-stream, which it never does for a TTY, and the request said tty=True",
                Reason.FRAMING_CONTRADICTED,
            )
        return Framing.MULTIPLEXED
    if request.tty is None:
        return None
    return Framing.RAW if request.tty else Framing.MULTIPLEXED
