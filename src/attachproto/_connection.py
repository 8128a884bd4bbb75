"""``Connection``: one exchange on one connection, for either role.

Strategy: the table (``_state``) judges every event, ours and the peer's. The role (``_client``, ``_server``) encodes
events and chooses the next reader. All readers share one receive buffer, so nothing is handed over between them.

Sending uses our state and the encoder; receiving uses the peer's state, the buffer and the reader. After ``Accepted``
the two share nothing, so one thread may send while another receives.

The file has more than 250 lines, because it is the public interface of the core with its documentation in one place.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from typing import TYPE_CHECKING, Final, Literal, overload

from attachproto._client import Client
from attachproto._errors import LocalProtocolError, Reason, RemoteProtocolError
from attachproto._events import Event, EventInBytes, FrameEvent, Framing, OutputClosed, StdinClosed
from attachproto._quirks import Quirk
from attachproto._readers import DISCARD_STATES, SILENT_STATES, check_can_come, move_peer
from attachproto._receive_buffer import ReceiveBuffer
from attachproto._server import Server
from attachproto._signals import CLIENT, NEED_DATA, SERVER, Role, Signal
from attachproto._state import UNMOVING_EVENTS, State, StateMachine, Trigger, trigger_of
from attachproto._validators import check_flag, check_limit
from attachproto._version import __version__

if TYPE_CHECKING:
    from typing_extensions import Buffer

# CPython 3.11 takes 0.2 microseconds to find a member on its enum, as long as it takes to decode a small frame.
_STREAMING: Final = State.STREAMING

_HOST: Final = "localhost"
_USER_AGENT: Final = f"attachproto/{__version__}"


class Connection:
    """The attach protocol for one exchange, without I/O.

    Give it the bytes that you read and take events; give it events and take the bytes to write. After ``Accepted`` one
    thread may send while another receives, without a lock. Before that, use it from one thread at a time.

    A limit is at least 1. Either role takes and checks all four, so that both ends can be made with the same limits.
    The other arguments belong to one role, and the other role refuses them.

    Args:
        our_role: ``CLIENT`` or ``SERVER``.
        max_head: limit of the peer's head, with all 1xx heads before it, in bytes. Engines' heads have about 500.
        max_refusal: on a client, limit of the body of a refused stream, in bytes. moby's client stops reading there.
        max_body: on a client, limit of the body of a plain answer, in bytes. A list of thousands of containers fits.
        max_request_body: on a server, limit of a request's body, in bytes: it is the JSON of create and exec.
        host: on a client, the value of the ``Host`` header.
        user_agent: on a client, the value of the ``User-Agent`` header.
        headers: on a client, more header fields of every request. Those of the request itself win.
        base_path: on a client, segments of a path that stand before the version in the target of every request. A proxy
            may serve an engine at ``("api", "endpoints", "1", "docker")``.
        quirks: on a client, known bugs of the engine to work around.
        keep_alive: on a server, let the connection carry more exchanges after a plain answer; see ``next_exchange``.
            Then ``Connection: close`` is written only where the request or the headers of the answer say so.

    Raises:
        ValueError: a limit is below 1, or a value cannot be written into a header or a path.
        TypeError: an argument is of another type, or belongs to the other role.
    """

    def __init__(
        self,
        our_role: Role,
        *,
        max_head: int = 64 * 1024,
        max_refusal: int = 1024 * 1024,
        max_body: int = 16 * 1024 * 1024,
        max_request_body: int = 4 * 1024 * 1024,
        host: str = _HOST,
        user_agent: str = _USER_AGENT,
        headers: Iterable[tuple[str, str]] = (),
        base_path: Iterable[str] = (),
        quirks: Iterable[Quirk] = (),
        keep_alive: bool = False,
    ) -> None:
        if not isinstance(our_role, Role):
            raise TypeError(f"our_role is CLIENT or SERVER, not {our_role!r}")
        check_limit("max_head", max_head)
        check_limit("max_refusal", max_refusal)
        check_limit("max_body", max_body)
        check_limit("max_request_body", max_request_body)
        check_flag("keep_alive", keep_alive)
        self._our_role = our_role
        self._their_role = our_role.other
        self._machine = StateMachine()
        self._buffer = ReceiveBuffer()
        # Output that was decoded together with the last event, the next one last. It moves no state.
        self._ready: list[FrameEvent] = []
        self._failure: tuple[str, Reason] | None = None
        self._side: Client | Server
        if our_role is CLIENT:
            if keep_alive:
                raise TypeError(
                    "keep_alive belongs to the role SERVER, leave it out for CLIENT: whether the engine keeps the "
                    "connection open is in Connection.reusable"
                )
            self._side = Client(
                self._buffer, self._ready, host, user_agent, headers, base_path, quirks, max_head, max_refusal, max_body
            )
        else:
            _refuse_client_only(host, user_agent, headers, base_path, quirks)
            self._side = Server(self._buffer, max_head, max_request_body, keep_alive=keep_alive)
        self._read_next = self._side.first_reader()

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
        """Our state. It says which events may be sent now."""
        return self._machine.states[self._our_role]

    @property
    def their_state(self) -> State:
        """The peer's state. It says which events may come now."""
        return self._machine.states[self._their_role]

    @property
    def reusable(self) -> bool:
        """On a client, whether the transport may carry another exchange, with a new ``Connection``.

        It may after a plain call whose answer is whole, if the answer told its end by a length or by chunks, is of
        HTTP/1.1 and has no ``Connection: close``, and if nothing came behind it, not even the end of file. It never may
        after a request for a stream.
        """
        side = self._side
        done = self.our_state is State.DONE and self.their_state is State.DONE
        return done and isinstance(side, Client) and side.reusable and self._buffer.clean

    def receive_data(self, data: Buffer) -> None:
        """Store what was read: any buffer, or ``b""`` for end of file. The bytes are parsed by ``next_event``.

        Raises:
            LocalProtocolError: data after end of file.
        """
        self._buffer.put(data)
        if self._machine.states[self._their_role] in DISCARD_STATES and not self._side.keeps_rest:
            self._buffer.clear()

    def next_event(self) -> Event | Literal[Signal.NEED_DATA]:
        """The peer's next event, or ``NEED_DATA`` if more must be read first (never after end of file).

        Framed output of one stream comes joined, up to 64 KiB; raw output as it was read. No event holds bytes of two
        calls of ``receive_data``.

        Raises:
            RemoteProtocolError: the peer broke the rules, or stopped in the middle. All before it was delivered. Each
                further call raises it again.
            LocalProtocolError: the last event was given; or you must first send something, or call ``use_framing()``.
        """
        if self._ready:
            return self._ready.pop()
        role = self._their_role
        state = self._machine.states[role]
        if state is not _STREAMING:
            check_can_come(state, self._failure, at_end=self._buffer.eof)
        try:
            event = self._read_next()
            if event is NEED_DATA or (state is _STREAMING and type(event) in UNMOVING_EVENTS[role]):
                return event  # type: ignore[return-value]  # a Trigger is not among them
            while isinstance(event, Trigger):
                move_peer(self._machine, role, event)
                event = self._read_next()
            if event is not NEED_DATA:
                move_peer(self._machine, role, trigger_of(event))
        except RemoteProtocolError as exc:
            self._failure = (str(exc), exc.reason)
            self._machine.move(role, Trigger.FAIL)
            self._buffer.clear()
            raise
        if event is not NEED_DATA and (reader := self._side.after(event)) is not None:
            self._read_next = reader
        return event

    def next_events(self) -> list[Event]:
        """What ``next_event`` would return, one by one, for the bytes that it has looked at: the next event last.

        For callers to whom one call per event is too slow. The caller may change the list.

        Returns:
            One event, or several events of output: about 500, of at most 128 KiB of frames. None for ``NEED_DATA``.

        Raises:
            RemoteProtocolError, LocalProtocolError: as ``next_event`` does.
        """
        event = self.next_event()
        if event is NEED_DATA:
            return []
        if not (ready := self._ready):
            return [event]
        events: list[Event] = [*ready, event]
        ready.clear()
        return events

    def events(self) -> Iterator[Event]:
        """The events that can be had now. It stops after the last one, and raises as ``next_event`` does."""
        ready = self._ready
        while self._machine.states[self._their_role] not in SILENT_STATES:
            event = self.next_event()
            if event is NEED_DATA:
                return
            yield event
            while ready:
                yield ready.pop()

    def use_framing(self, framing: Framing) -> None:
        """Say how output is framed, after an ``Accepted`` whose ``framing`` is ``None``. Allowed once, and only then.

        Raises:
            LocalProtocolError: the framing is known already, or there is no stream.
        """
        self._machine.check(self._their_role, Trigger.USE_FRAMING)
        assert isinstance(self._side, Client)  # no server's peer is ever in a state that allows this
        self._read_next = self._side.output_reader(Framing(framing))
        self._machine.move(self._their_role, Trigger.USE_FRAMING)

    @overload
    def send(self, event: StdinClosed) -> Literal[Signal.SEND_EOF]: ...
    @overload
    def send(self, event: OutputClosed) -> bytes | Literal[Signal.SEND_EOF]: ...
    @overload
    def send(self, event: EventInBytes) -> bytes: ...
    @overload
    def send(self, event: Event) -> bytes | Literal[Signal.SEND_EOF]: ...

    def send(self, event: Event) -> bytes | Literal[Signal.SEND_EOF]:
        """Turn one of our events into what must be done to the transport.

        Write what is returned before the next call. If the write fails, call ``send_failed``.

        Returns:
            The bytes to write (there may be none), or ``SEND_EOF``: half-close the transport. That comes only for the
            ``StdinClosed`` of a client and the ``OutputClosed`` of a server.

        Raises:
            LocalProtocolError, TypeError: it is not allowed now, cannot be written, or is no event. Nothing changed.
        """
        role = self._our_role
        if type(event) in UNMOVING_EVENTS[role] and self._machine.states[role] is _STREAMING:
            return self._side.encode(event)
        trigger = trigger_of(event)
        try:
            self._machine.check(role, trigger)
        except LocalProtocolError:
            if not isinstance(event, Event):
                raise TypeError(f"send() takes an event, not {type(event).__name__}") from None
            raise
        data = self._side.encode(event)
        self._machine.move(role, trigger)
        if (reader := self._side.after(event)) is not None:
            self._read_next = reader
        return data

    def send_failed(self) -> None:
        """Report that not all bytes of the last ``send`` were written. Nothing more can be sent; receiving goes on."""
        self._machine.move(self._our_role, Trigger.FAIL)

    def next_exchange(self) -> Connection | None:
        """The connection's next exchange, on a server with ``keep_alive`` after its answer to a plain request.

        Whatever the client has sent behind its request belongs to it. Call it once, and use this object no more.

        Returns:
            A server with the limits of this one; ``None`` where the connection carries no more exchanges: the request
            or the answer said ``Connection: close``, the answer was a ``Rejected`` without a ``content-length``, the
            request was for a stream, or a side failed. Then close it.
        """
        side = self._side
        if not isinstance(side, Server) or self.our_state is not State.DONE or not side.keeps_connection:
            return None
        following = Connection(SERVER, max_head=side.max_head, max_request_body=side.max_request_body, keep_alive=True)
        while isinstance(chunk := self._buffer.take(), bytes):
            following.receive_data(chunk)
        if self._buffer.eof:
            following.receive_data(b"")
        return following


def _refuse_client_only(host: object, user_agent: object, headers: object, base_path: object, quirks: object) -> None:
    """Raise ``TypeError`` if an argument was given that only a client has. Its default, or an empty one, is allowed."""
    texts = (("host", host, _HOST), ("user_agent", user_agent, _USER_AGENT))
    given = [name for name, value, default in texts if value != default]
    many = (("headers", headers), ("base_path", base_path), ("quirks", quirks))
    given += [name for name, value in many if not isinstance(value, Sized) or len(value)]
    if given:
        raise TypeError(f"{given[0]} belongs to the role CLIENT and means nothing here: leave it out for SERVER")
