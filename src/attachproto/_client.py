"""The client's side: how its events are written, and how the answer of an engine is read.

Strategy: encoding changes nothing. After each event that was sent or received, ``after`` returns the reader that
follows: of a plain response, of the answer to a stream request, then of the output.

How output is framed follows from what engines were seen to send. ``multiplexed-stream`` always means frames (moby
``postContainersAttach`` since API 1.42, Podman since 4.7). ``raw-stream`` means nothing: every API below 1.42, every
``200`` of dockerd, and every Podman without a version in the path send frames as ``raw-stream``. Then only the ``tty``
of the request can tell. Framing is never guessed from the bytes.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Final, Literal, NamedTuple

from attachproto._errors import Reason, RemoteProtocolError, excerpt
from attachproto._events import (
    Accepted,
    Event,
    FrameEvent,
    Framing,
    RawOutput,
    Rejected,
    Response,
    ResponseHead,
    Stdin,
    StdinClosed,
)
from attachproto._frames import FrameReader, as_bytes
from attachproto._headers import MULTIPLEXED_STREAM, RAW_STREAM, check_headers, field, lower_names, media_type
from attachproto._http_head import Head
from attachproto._http_reader import HttpReader
from attachproto._quirks import Quirk, check_quirks, filter_source
from attachproto._raw import RawReader
from attachproto._readers import Reader, read_unasked
from attachproto._receive_buffer import ReceiveBuffer
from attachproto._request_writer import common_headers, encode_base_path, encode_request
from attachproto._requests import Request
from attachproto._signals import SEND_EOF, Signal
from attachproto._stream_base import StreamRequest

_STREAM_TYPES: Final = (MULTIPLEXED_STREAM, RAW_STREAM)

# The longest registered media type has some 80 characters.
_SHOWN_TYPE: Final = 100

Reading = Generator[Event | Literal[Signal.NEED_DATA], None, None]


class Client:
    """What a client writes, and what it reads.

    Args:
        buffer: what it reads from.
        ready: takes events that were decoded ahead, the next one last.
        host, user_agent, headers, base_path, quirks, max_head, max_refusal, max_body: as for ``Connection``.
    """

    keeps_rest: Final = False
    """What comes behind the answer is never read."""

    __slots__ = (
        "_asked",
        "_base_path",
        "_buffer",
        "_headers",
        "_host",
        "_max_body",
        "_max_head",
        "_max_refusal",
        "_plain",
        "_quirks",
        "_ready",
        "_user_agent",
    )

    def __init__(
        self,
        buffer: ReceiveBuffer,
        ready: list[FrameEvent],
        host: str,
        user_agent: str,
        headers: Iterable[tuple[str, str]],
        base_path: Iterable[str],
        quirks: Iterable[Quirk],
        max_head: int,
        max_refusal: int,
        max_body: int,
    ) -> None:
        check_headers(lower_names((("host", host), ("user-agent", user_agent))))
        self._buffer = buffer
        self._ready = ready
        self._max_head = max_head
        self._max_refusal = max_refusal
        self._max_body = max_body
        self._host = host
        self._user_agent = user_agent
        self._headers = common_headers(headers)
        self._base_path = encode_base_path(base_path)
        self._quirks = check_quirks(quirks)
        # Set by a stream request, and used when its output begins.
        self._asked: tuple[StreamRequest, HttpReader] | None = None
        # The reader of the answer to a plain request.
        self._plain: HttpReader | None = None

    @property
    def reusable(self) -> bool:
        """Whether the answer, which is whole, leaves the connection open for another request."""
        return self._plain is not None and self._plain.kept_open

    def first_reader(self) -> Reader:
        """The reader before any event."""
        return read_unasked

    def encode(self, event: Event) -> bytes | Literal[Signal.SEND_EOF]:
        """Write an event that the table allows a client. Nothing is changed.

        Raises:
            LocalProtocolError: the event cannot be written.
        """
        match event:
            case Stdin(data=data):
                return as_bytes(data)
            case StdinClosed():
                return SEND_EOF
            case StreamRequest():
                request, upgrade = event.to_request(), event.upgrade
            case _:
                assert isinstance(event, Request)
                request, upgrade = event, None
        return encode_request(
            request,
            upgrade=upgrade,
            host=self._host,
            user_agent=self._user_agent,
            headers=self._headers,
            base_path=self._base_path,
        )

    def after(self, event: Event) -> Reader | None:
        """The reader that follows an event, sent or received; ``None`` if the present one goes on."""
        match event:
            case Request():
                self._plain = http = HttpReader.for_answer(self._buffer, event.method, max_head=self._max_head)
                return read_response(http, event, max_body=self._max_body).__next__
            case StreamRequest():
                method, upgrades = event.to_request().method, event.upgrade is not None
                http = HttpReader.for_answer(self._buffer, method, max_head=self._max_head, upgrades=upgrades)
                self._asked = (event, http)
                return read_answer(http, event, max_refusal=self._max_refusal).__next__
            case Accepted(framing=Framing() as framing):
                return self.output_reader(framing)
            case _:
                return None

    def output_reader(self, framing: Framing) -> Reader:
        """The reader of the output, after ``Accepted``."""
        assert self._asked is not None  # the table allows Accepted only after a stream request
        request, http = self._asked
        # An attachment may stay open for days. Behind an upgrade nothing needs h11 any more.
        self._asked = None
        # Logs does not upgrade. Its answers come from other code of the engine, and that has none of these bugs.
        quirks = self._quirks if request.upgrade is not None else frozenset()
        if framing is Framing.MULTIPLEXED:
            return FrameReader(http.stream(), quirks, self._ready).next_event
        take, end_event = filter_source(http.stream(), framing, quirks, lambda: True)
        return RawReader(take, RawOutput, end_event).next_event


def read_response(http: HttpReader, request: Request, *, max_body: int) -> Reading:
    """Read the answer to a plain request: its head as soon as it is there, then the whole of it."""
    head = yield from http.head()
    yield ResponseHead(head.status_code, head.headers)
    name = f"the answer to {excerpt(f'{request.method} {request.target}')}"
    body = yield from http.body(max_body, "max_body", name)
    yield Response(head.status_code, head.headers, body)


def read_answer(http: HttpReader, request: StreamRequest, *, max_refusal: int) -> Reading:
    """Read the answer to a stream request: ``Accepted``, ``Rejected``, or an error that says what came instead."""
    head = yield from http.head()
    if head.status_code >= 400:
        body = yield from http.body(max_refusal, "max_refusal", f"the refusal ({head.status_code})")
        yield Rejected(head.status_code, head.headers, body)
    elif problem := _not_a_stream(request, head):
        # A body with a length is read, so that the error can quote it. A body without one may never end.
        if head.length:
            body = yield from http.body(max_refusal, "max_refusal", problem.text)
            problem = problem._replace(text=f"{problem.text}: {excerpt(body)}")
        raise RemoteProtocolError(problem.text, problem.reason)
    elif request.wants_stdin and head.ends_request:
        raise RemoteProtocolError(
            "the answer is not an upgrade, and its head ends the request (it is chunked, or has a Content-Length or "
            "Connection: close), which no engine does: there is a proxy between. Stdin cannot be sent. Configure the "
            "proxy to pass Upgrade on, or connect to the engine without it",
            Reason.STDIN_IMPOSSIBLE,
        )
    else:
        yield Accepted(_framing(request, head), head.status_code, head.headers)


class _Problem(NamedTuple):
    text: str
    reason: Reason


def _not_a_stream(request: StreamRequest, head: Head) -> _Problem | None:
    """Why this answer opens no stream; ``None`` if it does."""
    # h11 has refused a 101 that was not asked for. The value of Upgrade means nothing: dockerd always sends tcp,
    # Podman repeats the value of the request.
    if head.status_code == 101:
        return None
    kind = media_type(field(head.headers, "content-type") or "")
    # Engines send logs as raw-stream, multiplexed-stream, octet-stream or text/plain (a guess of Go's from the first
    # bytes), most of them without a Content-Type. HTML is never a stream.
    if head.status_code == 200 and (kind in _STREAM_TYPES or (request.upgrade is None and kind != "text/html")):
        return None
    seen = f"the answer is {head.status_code} {kind[:_SHOWN_TYPE] or 'without a Content-Type'}"
    if 300 <= head.status_code < 400:
        location = excerpt(field(head.headers, "location") or "")
        return _Problem(f"{seen}, a redirect to {location}: engines redirect no valid path", Reason.REDIRECTED)
    return _Problem(
        f"{seen}, which is not a stream of an engine: is there a proxy or another service at this address?",
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
                "the answer is a multiplexed-stream, which engines never send for a TTY, and the request has tty=True",
                Reason.FRAMING_CONTRADICTED,
            )
        return Framing.MULTIPLEXED
    if request.tty is None:
        return None
    return Framing.RAW if request.tty else Framing.MULTIPLEXED
