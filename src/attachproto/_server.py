"""The server's side: how a request is read, and how answers and output are written.

Strategy: encoding changes nothing. After each event that was sent or received, ``after`` remembers what later events
depend on, and returns the reader that follows: none until the answer is sent, then one of stdin.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, Final, Literal

from attachproto._errors import excerpt
from attachproto._events import (
    Accepted,
    Continue,
    Event,
    Framing,
    OutputClosed,
    RawOutput,
    Rejected,
    Response,
    ResponseHead,
    Stderr,
    Stdin,
    StdinClosed,
    Stdout,
    Systemerr,
)
from attachproto._frames import encode_frame
from attachproto._headers import field
from attachproto._http_reader import HttpReader
from attachproto._http_writer import (
    LAST_CHUNK,
    ResponseEncoder,
    encode_accepted,
    encode_chunk,
    encode_head,
    is_chunked,
    status_line,
)
from attachproto._raw import RawReader, encode_raw
from attachproto._readers import Reader, read_nothing
from attachproto._receive_buffer import ReceiveBuffer
from attachproto._requests import Request
from attachproto._signals import SEND_EOF, Signal
from attachproto._state import Trigger
from attachproto._stream_base import StreamRequest
from attachproto._stream_requests import recognise

# A server may answer even a request whose head it cannot read.
_UNREADABLE: Final = ResponseEncoder(method="", http_version="1.1")


class Server:
    """What a server reads, and what it writes."""

    __slots__ = (
        "_buffer",
        "_encode_output",
        "_keep_alive",
        "_output_end",
        "_request",
        "_responses",
        "_sent_head",
        "keeps_connection",
        "max_head",
        "max_request_body",
    )

    def __init__(self, buffer: ReceiveBuffer, max_head: int, max_request_body: int, *, keep_alive: bool) -> None:
        self._buffer = buffer
        self.max_head = max_head
        self.max_request_body = max_request_body
        self._keep_alive = keep_alive
        self.keeps_connection = False
        self._request: Request | StreamRequest | None = None
        self._responses = _UNREADABLE
        self._sent_head: ResponseHead | None = None
        # Each of the two encoders refuses the events of the other.
        self._encode_output: Callable[[Any], bytes] = encode_frame
        self._output_end: bytes | Literal[Signal.SEND_EOF] = SEND_EOF

    @property
    def keeps_rest(self) -> bool:
        """Whether what comes behind the request is kept for the next exchange."""
        return self._responses.keep_alive

    def first_reader(self) -> Reader:
        """The reader before any event."""
        return self._read_request().__next__

    def encode(self, event: Event) -> bytes | Literal[Signal.SEND_EOF]:
        """Write an event that the table allows a server. Nothing is changed.

        Raises:
            LocalProtocolError: the event cannot be written.
        """
        match event:
            case Stdout() | Stderr() | RawOutput() | Systemerr():
                return self._encode_output(event)
            case OutputClosed():
                return self._output_end
            case Continue():
                return encode_head(status_line(100), ())
            case Accepted():
                return self._encode_accepted(event)
            case Rejected():
                return self._responses.rejected(event)
            case ResponseHead():
                return self._responses.head(event)
            case _:
                assert isinstance(event, Response)
                return self._responses.response(event, self._sent_head)

    def after(self, event: Event) -> Reader | None:
        """The reader that follows an event, sent or received; ``None`` if the present one goes on."""
        match event:
            case Request() | StreamRequest():
                self._request = event
                return read_nothing
            case ResponseHead():
                self._sent_head = event
                return None
            case Response() | Rejected():
                self.keeps_connection = self._responses.keeps_connection(event)
                return None
            case Accepted():
                write: Callable[[Any], bytes] = encode_frame if event.framing is Framing.MULTIPLEXED else encode_raw
                self._encode_output = write
                if is_chunked(event):
                    self._encode_output = lambda output: encode_chunk(write(output))
                    self._output_end = LAST_CHUNK
                # Stdin that came with the request is still in the buffer, and is delivered. Podman delivers it too.
                return RawReader(self._buffer.take, Stdin, StdinClosed).next_event
            case _:
                return None

    def _read_request(self) -> Generator[Event | Trigger | Literal[Signal.NEED_DATA], None, None]:
        """Read the request. It comes as one event, with its body; a body is never stdin."""
        http = HttpReader.for_request(self._buffer, max_head=self.max_head)
        head = yield from http.head()
        self._responses = ResponseEncoder(head.method, head.http_version)
        # A client that speaks HTTP/1.0 does not wait for 100, whatever it sends (RFC 9110).
        if (
            head.http_version != "1.0"
            and head.delimited
            and (field(head.headers, "expect") or "").lower() == "100-continue"
        ):
            yield Trigger.EXPECT_CONTINUE
        name = f"the request {excerpt(f'{head.method} {head.target}')}"
        body = yield from http.body(self.max_request_body, "max_request_body", name)
        request = recognise(Request.received(head.method, head.target, head.headers, body))
        if self._keep_alive and head.keeps_connection and not isinstance(request, StreamRequest):
            self._responses.keep_alive = True
        yield request

    def _encode_accepted(self, event: Accepted) -> bytes:
        request = self._request
        assert isinstance(request, StreamRequest)  # the table allows Accepted only after one
        return encode_accepted(
            event,
            upgrade=field(request.headers, "upgrade") is not None,
            http_version=self._responses.http_version,
            wants_stdin=request.wants_stdin and request.stdin_is_in_request,
        )
