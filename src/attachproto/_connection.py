"""One exchange on one connection, from either end: the parts joined, and judged by the table.

Strategy: what is read next is a callable, ``_pull``, and it changes with the phase: nothing asked, the generator that
reads a request or an answer, a decoder. All of them draw from one inbox, so that at a change of phase nothing has to
be carried over: what lies behind a head is simply still there. What is written next is a callable too, once the
stream is open. Both are chosen when a state moves, and what a state says is not kept a second time.

Sending touches the sender's state and the writer; receiving touches the receiver's state, the inbox and ``_pull``.
From ``Accepted`` on these are apart, so one thread may send while another receives.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from typing import TYPE_CHECKING, Final, Literal, assert_never, overload

import h11

from attachproto._answers import read_answer, read_response
from attachproto._errors import LocalProtocolError, Reason, RemoteProtocolError, excerpt
from attachproto._events import (
    Accepted,
    Continue,
    Framing,
    Output,
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
from attachproto._frames import RawReader, as_bytes, encode_frame, output_reader
from attachproto._headers import check_headers, field
from attachproto._inbox import Inbox
from attachproto._quirks import Quirk, checked
from attachproto._reading import HttpReader
from attachproto._requests import Request
from attachproto._signals import CLIENT, NEED_DATA, SEND_EOF, SERVER, Role, Signal
from attachproto._state import CARRIED, Cue, State, StateMachine, What
from attachproto._streams import StreamRequest, recognise
from attachproto._version import __version__
from attachproto._writing import (
    LAST_CHUNK,
    ResponseWriter,
    chunk,
    encode_accepted,
    encode_head,
    encode_request,
    is_chunked,
    status_line,
)

if TYPE_CHECKING:
    from typing_extensions import Buffer

Event = (
    Request
    | StreamRequest
    | Continue
    | Accepted
    | Rejected
    | ResponseHead
    | Response
    | Stdin
    | StdinClosed
    | Output
    | OutputClosed
)
"""Everything that is said on a connection."""

# Engines' heads have some 500 bytes, and Go's servers accept 1 MiB; this is room for what proxies add, and for a
# name that an engine echoes.
_MAX_HEAD: Final = 64 * 1024

# What moby's own client reads of an error's body before it stops.
_MAX_REFUSAL: Final = 1024 * 1024

# Inspect of one container has some 10 KiB; a list of thousands of them is the largest answer that anybody needs.
_MAX_BODY: Final = 16 * 1024 * 1024

# The bodies that come to an engine here are JSON of create and exec.
_MAX_REQUEST_BODY: Final = 4 * 1024 * 1024

# Nothing can come from a client in one of these before the server has answered.
_WAITING: Final = (State.CALLED, State.ASKED_OUTPUT, State.ASKED_BOTH)

# What still comes from a side in one of these is nobody's.
_DEAF: Final = (State.DONE, State.ERROR, State.CALLED, State.ASKED_OUTPUT)


class Connection:
    """The attach protocol for one exchange, without I/O.

    Give it the bytes that you read, take events; give it events, take the bytes to write. It holds no clock, no
    socket and no thread. After ``Accepted`` one thread may send while another receives, without a lock; apart from
    that, one at a time.

    Args:
        our_role: ``CLIENT`` or ``SERVER``.
        max_head: most bytes of the peer's head, all 1xx heads before it included.
        max_refusal: most bytes of the body of a refused stream.
        max_body: most bytes of the body of a plain call's answer.
        max_request_body: most bytes of a request's body, for a server.
        host: the value of the ``Host`` header that a client sends.
        user_agent: the value of its ``User-Agent`` header.
        quirks: what the engine is known for, for a client that knows its engine. A server has none.

    Raises:
        ValueError: ``host`` or ``user_agent`` cannot be written into a header.
        TypeError: ``our_role`` is no role, or one of ``quirks`` is no ``Quirk``.
    """

    def __init__(
        self,
        our_role: Role,
        *,
        max_head: int = _MAX_HEAD,
        max_refusal: int = _MAX_REFUSAL,
        max_body: int = _MAX_BODY,
        max_request_body: int = _MAX_REQUEST_BODY,
        host: str = "localhost",
        user_agent: str = f"attachproto/{__version__}",
        quirks: Iterable[Quirk] = (),
    ) -> None:
        if not isinstance(our_role, Role):
            raise TypeError(f"our_role is CLIENT or SERVER, not {our_role!r}")
        check_headers((("host", host), ("user-agent", user_agent)))
        self._our_role = our_role
        self._their_role = our_role.other
        self._max_head = max_head
        self._max_refusal = max_refusal
        self._max_body = max_body
        self._max_request_body = max_request_body
        self._host = host
        self._user_agent = user_agent
        self._quirks = checked(quirks)
        self._machine = StateMachine()
        self._inbox = Inbox()
        self._failure: tuple[str, Reason] | None = None
        self._reader: HttpReader
        # The request: for a client what it asked, for a server what it answers, and how.
        self._request: Request | StreamRequest | None = None
        self._http_version = "1.1"
        self._response = ResponseWriter(method="", http_version="1.1")
        self._write_output: Callable[[Output], bytes] = encode_frame
        self._output_end: bytes | Literal[Signal.SEND_EOF] = SEND_EOF
        self._pull: Callable[[], Event | Cue | Literal[Signal.NEED_DATA]]
        if our_role is SERVER:
            self._reader = HttpReader(self._inbox, h11.Connection(h11.SERVER), max_head=max_head)
            self._pull = self._read_request().__next__

    @property
    def our_role(self) -> Role:
        """The role that was given."""
        return self._our_role

    @property
    def their_role(self) -> Role:
        """The peer's role."""
        return self._their_role

    @property
    def our_state(self) -> State:
        """What we may say now."""
        return self._machine.states[self._our_role]

    @property
    def their_state(self) -> State:
        """What the peer may say now."""
        return self._machine.states[self._their_role]

    # ---- receiving ----

    def receive_data(self, data: Buffer) -> None:
        """Store what was read from the transport. Any buffer will do; ``b""`` means end of file.

        Never raises for what is in it: ``next_event`` does.

        Raises:
            LocalProtocolError: data after end of file.
        """
        self._inbox.put(data)
        if self.their_state in _DEAF:
            self._inbox.clear()

    def next_event(self) -> Event | Literal[Signal.NEED_DATA]:
        """The next event, or ``NEED_DATA`` if more must be read first (never after end of file).

        Returns:
            One of the peer's events. Framed output of one stream comes joined, up to 64 KiB, raw output as it was
            read; never across two calls of ``receive_data``. Where a chunk ends means nothing.

        Raises:
            RemoteProtocolError: the peer broke the rules, or stopped in the middle. Everything before it was
                delivered. Asking again raises it again.
            LocalProtocolError: the last event was given; or nothing can come before you have said something: a
                request, ``use_framing()``, or as a server at end of file the answer.
        """
        state = self._machine.states[self._their_role]
        if state is not State.STREAMING:
            self._check_can_come(state)
        try:
            event = self._pull()
            if state is State.STREAMING and type(event) in CARRIED[self._their_role]:
                return event  # type: ignore[return-value]  # which Cue is not among
            while isinstance(event, Cue):
                self._machine.move(self._their_role, event)
                event = self._pull()
        except RemoteProtocolError as exc:
            self._failure = (str(exc), exc.reason)
            self._machine.move(self._their_role, Cue.FAIL)
            self._inbox.clear()
            raise
        if event is not NEED_DATA:
            self._machine.move(self._their_role, _what(event))
            if state is not State.STREAMING:
                self._change_phase(event)
        return event

    def events(self) -> Iterator[Event]:
        """The events that can be had now. After the last one it simply stops; it raises as ``next_event`` does."""
        while self.their_state is not State.DONE and self.their_state not in _WAITING:
            event = self.next_event()
            if event is NEED_DATA:
                return
            yield event

    def use_framing(self, framing: Framing) -> None:
        """Say how output is framed, after an ``Accepted`` whose ``framing`` is ``None``. Allowed once, and only then.

        Raises:
            LocalProtocolError: it is known already, or there is no stream.
        """
        self._machine.check(self._their_role, Cue.USE_FRAMING)
        self._read_stream(Framing(framing))
        self._machine.move(self._their_role, Cue.USE_FRAMING)

    def _check_can_come(self, state: State) -> None:
        if state is State.ERROR:
            assert self._failure is not None
            raise RemoteProtocolError(*self._failure)
        if state is State.DONE:
            raise LocalProtocolError("the exchange is over: the peer's last event was given")
        if state is State.FRAMING_UNKNOWN:
            raise LocalProtocolError(
                "neither the engine's answer nor the request tells whether the output is framed: look at the "
                "container's Config.Tty (inspect) and call use_framing(), or give tty= with the request"
            )
        if self._our_role is CLIENT and self._request is None:
            raise LocalProtocolError("nothing was asked yet: send a request first")
        if state in _WAITING and self._inbox.eof:
            raise LocalProtocolError("the client waits for the answer to its request: send that first")

    def _change_phase(self, event: Event) -> None:
        """The peer has said this: choose what reads and writes from here on."""
        match event:
            case Accepted(framing=Framing() as framing):
                self._read_stream(framing)
            case Request() | StreamRequest():
                self._request = event
                self._pull = _nothing
            case _:
                pass

    def _read_stream(self, framing: Framing) -> None:
        assert isinstance(self._request, StreamRequest)  # the table has seen to it
        # Logs, which do not upgrade, come from code of the engine's that has no quirks.
        quirks = self._quirks if self._request.upgrades else frozenset()
        self._pull = output_reader(self._reader.stream(), framing, quirks).next_event
        # An attachment may be open for days: behind an upgrade nothing needs h11 any more.
        del self._reader

    def _read_answer(self, request: Request | StreamRequest, http: h11.Connection) -> None:
        self._request = request
        upgrades = isinstance(request, StreamRequest) and request.upgrades
        self._reader = HttpReader(self._inbox, http, max_head=self._max_head, upgrades=upgrades)
        if isinstance(request, Request):
            self._pull = read_response(self._reader, request, max_body=self._max_body).__next__
        else:
            self._pull = read_answer(self._reader, request, max_refusal=self._max_refusal).__next__

    def _read_request(self) -> Generator[Event | Cue | Literal[Signal.NEED_DATA], None, None]:
        head = yield from self._reader.head()
        self._http_version = head.http_version
        self._response = ResponseWriter(method=head.method, http_version=head.http_version)
        # RFC 9110: of an HTTP/1.0 client it is ignored.
        if (
            head.http_version != "1.0"
            and head.delimited
            and (field(head.headers, "expect") or "").lower() == "100-continue"
        ):
            yield Cue.EXPECT_CONTINUE
        name = f"the request {excerpt(f'{head.method} {head.target}')}"
        body = yield from self._reader.body(self._max_request_body, "max_request_body", name)
        yield recognise(Request.received(head.method, head.target, head.headers, body))

    # ---- sending ----

    @overload
    def send(self, event: StdinClosed) -> Literal[Signal.SEND_EOF]: ...
    @overload
    def send(self, event: OutputClosed) -> bytes | Literal[Signal.SEND_EOF]: ...
    @overload
    def send(
        self,
        event: Request
        | StreamRequest
        | Continue
        | Accepted
        | Rejected
        | ResponseHead
        | Response
        | Stdin
        | Stdout
        | Stderr
        | RawOutput
        | Systemerr,
    ) -> bytes: ...
    @overload
    def send(self, event: Event) -> bytes | Literal[Signal.SEND_EOF]: ...

    def send(self, event: Event) -> bytes | Literal[Signal.SEND_EOF]:
        """Turn one of our events into what must be done to the transport.

        Write what is returned before the next call of ``send``; if that fails in the middle, call ``send_failed``.

        Returns:
            The bytes to write (they may be none), or ``SEND_EOF``: half-close the transport. That comes only for
            ``StdinClosed`` of a client and for ``OutputClosed`` of a server.

        Raises:
            LocalProtocolError: it may not be said now, or cannot be written. Nothing has changed.
            TypeError: it is no event.
        """
        if type(event) in CARRIED[self._our_role] and self._machine.states[self._our_role] is State.STREAMING:
            return self._encode(event)
        what = _what(event)
        try:
            self._machine.check(self._our_role, what)
        except LocalProtocolError:
            if not isinstance(event, Event):
                raise TypeError(f"send() takes an event, and {type(event).__name__} is no event") from None
            raise
        data = self._encode(event)
        self._machine.move(self._our_role, what)
        return data

    def send_failed(self) -> None:
        """Say that the bytes of the last ``send`` did not all leave. Sending is over; receiving goes on."""
        self._machine.move(self._our_role, Cue.FAIL)

    def _encode(self, event: Event) -> bytes | Literal[Signal.SEND_EOF]:
        match event:
            case Stdin(data=data):
                return as_bytes(data)
            case Stdout() | Stderr() | RawOutput() | Systemerr():
                return self._write_output(event)
            case StdinClosed():
                return SEND_EOF
            case OutputClosed():
                return self._output_end
            case Request():
                data, http = encode_request(event, upgrade=False, host=self._host, user_agent=self._user_agent)
                self._read_answer(event, http)
                return data
            case StreamRequest():
                data, http = encode_request(
                    event.to_request(), upgrade=event.upgrades, host=self._host, user_agent=self._user_agent
                )
                self._read_answer(event, http)
                return data
            case Continue():
                return encode_head(status_line(100), ())
            case Accepted():
                return self._accept(event)
            case Rejected():
                return self._response.rejected(event)
            case ResponseHead():
                return self._response.head(event)
            case Response():
                return self._response.response(event)
        assert_never(event)

    def _accept(self, event: Accepted) -> bytes:
        request = self._request
        assert isinstance(request, StreamRequest)  # the table has seen to it
        data = encode_accepted(
            event,
            upgrade=field(request.headers, "upgrade") is not None,
            http_version=self._http_version,
            wants_stdin=request.wants_stdin and request.stdin_is_in_request,
        )
        write = encode_frame if event.framing is Framing.MULTIPLEXED else _raw
        if is_chunked(event):
            self._write_output = lambda output: chunk(write(output))
            self._output_end = LAST_CHUNK
        else:
            self._write_output = write
        # Stdin that came with the request is still in the inbox, and is the container's: Podman delivers it too.
        self._pull = RawReader(self._inbox.take, Stdin, StdinClosed).next_event
        return data


def _what(event: Event) -> What:
    """How the table calls it."""
    if isinstance(event, Request):
        return Cue.CALL
    if isinstance(event, StreamRequest):
        return Cue.ASK_BOTH if event.wants_stdin else Cue.ASK_OUTPUT
    if isinstance(event, Accepted) and event.framing is None:
        return Cue.ACCEPTED_UNFRAMED
    return type(event)


def _raw(event: Output) -> bytes:
    if not isinstance(event, RawOutput):
        raise LocalProtocolError(f"{type(event).__name__} does not travel on a raw stream: only RawOutput does")
    return as_bytes(event.data)


def _nothing() -> Literal[Signal.NEED_DATA]:
    return NEED_DATA
