"""A connection in every framework: the core's ``Connection``, with TLS or ``ssh`` below it.

Strategy: an adapter's session adds the transport, and does nothing but move bytes between it and these methods.
It has more than 250 lines, and ``Session`` more than 15 methods: sending, receiving and the end of ``ssh`` all use what
is known of how it ended.
"""

from __future__ import annotations

import abc
import errno
import os
import threading
from collections.abc import Generator, Hashable, Iterable
from typing import TYPE_CHECKING, ClassVar, Final, Literal

from attachproto import CLIENT, NEED_DATA, SEND_EOF, Connection, Event, ProtocolError, Quirk, Signal, State
from attachproto_adapters._errors import AttachmentClosed, unreachable
from attachproto_adapters._flows._stdin import Sendable, stdin_lost
from attachproto_adapters._transport._address import failure_reason
from attachproto_adapters._transport._guard import Guard
from attachproto_adapters._transport._health import BROKEN, RESET_HEARD, SOUND, Health
from attachproto_adapters._transport._schemes import Host, TcpHost
from attachproto_adapters._transport._sockets import is_unix

if TYPE_CHECKING:
    from attachproto_adapters._transport._ssh import SshChild
    from attachproto_adapters._transport._tls import TlsLayer

# How the TLS record of an alert begins: type 21, version 3 (RFC 8446, 5.1). A TLS server sends one for plain HTTP.
_TLS_ALERT: Final = b"\x15\x03"


class Session(abc.ABC):
    """The state machine of one connection, and the layer under it.

    Attributes:
        connection: the state machine.
        lock: held by whoever uses the transport or enters a guard.
        reading: the guard of what comes in.
        sending: the guard of what goes out.
        closed: whether we have closed it.
        kept: it was used for a call before. So its end does not mean that the engine cannot be reached.
        released: its transport is kept for the next call, and is not to be closed with it.
        asked: the call that was made on it, for errors.
    """

    errors: ClassVar[tuple[type[Exception], ...]] = (OSError,)
    """What the transport raises for a connection that is broken."""

    busy: ClassVar[type[Exception]] = RuntimeError
    """The error for a second caller where only one is allowed at a time."""

    caller_kind: ClassVar[str]
    """What calls: a thread, or a task."""

    def __init__(
        self,
        host: Host | None = None,
        *,
        quirks: Iterable[Quirk] = (),
        tls: TlsLayer | None = None,
        child: SshChild | None = None,
    ) -> None:
        if host is None:
            self.connection = Connection(CLIENT, quirks=quirks)
        else:
            self.connection = Connection(
                CLIENT, host=host.header, headers=host.headers, base_path=host.base_path, quirks=quirks
            )
        # One for all that has to be locked here, because a lock takes 100 bytes. Nothing waits while it holds it. It is
        # reentrant: a signal's handler may send or close while its thread reads.
        self.lock = threading.RLock()
        self.reading = Guard(self.caller, self.busy, self.caller_kind, "receiving", self.lock, _reading_lost)
        self.sending = Guard(self.caller, self.busy, self.caller_kind, "sending", self.lock, stdin_lost)
        self.closed = False
        self.kept = False
        self.released = False
        self.asked = ""
        self._health = Health()
        self._host = host
        self._tls = tls
        self._child = child
        self._silent = True
        self._process = os.getpid()

    @property
    def broken(self) -> BaseException | None:
        """The error that has broken the connection. Nothing more can be read."""
        return self._health.why if self._health.state is BROKEN else None

    @staticmethod
    @abc.abstractmethod
    def caller() -> Hashable:
        """The thread or the task that runs."""

    @property
    def forked(self) -> bool:
        """Whether this is a copy in a child process, which must leave the connection to its parent."""
        return os.getpid() != self._process

    @property
    @abc.abstractmethod
    def family(self) -> int | None:
        """The family of its socket, if it is known."""

    @property
    @abc.abstractmethod
    def can_half_close(self) -> bool:
        """Whether the transport can end our direction and go on with the other."""

    @property
    def heard(self) -> bool:
        """Whether anything has come."""
        return not self._silent

    def timed_out(self, what: str, seconds: float) -> TimeoutError:
        """The error for what did not happen within this time; it names the call and the address."""
        host = "" if self._host is None else str(self._host)
        where = " at ".join(filter(None, (self.asked, host)))
        return TimeoutError(f"timed out: {what} within {seconds:g} s" + (f": {where}" if where else ""))

    def head_held_back(self, seconds: float) -> TimeoutError:
        """The error for a stream whose head has not come. An engine sends it at once."""
        return self.timed_out("no answer came, which something between here and the engine may hold back,", seconds)

    def awaited(self) -> str:
        """What has not come, for an error, if nothing more comes."""
        match self.connection.their_state:
            case State.STREAMING:
                return "no output came"
            case State.RESPONDING:
                return "the rest of the answer did not come"
            case _:
                return "no answer came"

    def take_event(self) -> Event | Literal[Signal.NEED_DATA]:
        """The next event of what was read. An event leaves a step of reading open, which the caller finishes."""
        self.reading.begin()
        try:
            event = self.connection.next_event()
        except ProtocolError:  # the state machine raises it again
            self.reading.finish()
            raise
        if event is NEED_DATA:
            self.reading.finish()
        return event

    def take_events(self) -> list[Event]:
        """The next events of what was read, the next one last; none if more must be read. As ``take_event``."""
        self.reading.begin()
        try:
            events = self.connection.next_events()
        except ProtocolError:
            self.reading.finish()
            raise
        if not events:
            self.reading.finish()
        return events

    def take_or_read(self) -> list[Event]:
        """As ``take_events``, but if nothing is left of what was read, a session may read what has arrived."""
        return self.take_events()

    def check_sending(self) -> None:
        """Note a send that was interrupted in its middle."""
        if self.sending.interrupted:
            self.connection.send_failed()
            if self._health.state is SOUND and not is_unix(self.family):
                # That send may have been told of a reset.
                text = "a send was interrupted, so that a reset cannot be told from the end of the output"
                self._health.move(RESET_HEARD, ConnectionAbortedError(errno.ECONNABORTED, text))
            self.sending.finish()

    def outgoing(self, event: Event) -> Sendable:
        """What goes to the transport for this event: bytes, or ``SEND_EOF`` for a half-close.

        Raises:
            BrokenPipeError: what was read has ended TLS, in both directions.
        """
        data = self.connection.send(event)
        if self._tls is None:
            return data
        try:
            return self._tls.end() if data is SEND_EOF else self._tls.encrypt(data)
        except OSError as exc:  # ssl.SSLError is an OSError
            self.send_failed(None)
            raise BrokenPipeError(errno.EPIPE, f"TLS is broken: {failure_reason(self._tls.failure or exc)}") from exc

    def incoming(self, data: bytes) -> None:
        """Take what came from the transport, and finish the step of reading; ``b""`` is its end."""
        self._take_in(data)
        self.reading.finish()

    def _take_in(self, data: bytes) -> None:
        try:
            if self._silent or self._tls is not None or not data:
                self._take(data)
            else:
                self.connection.receive_data(data)
        except Exception as exc:
            self._health.move(BROKEN, exc)
            self.reading.finish()
            raise

    def _take(self, data: bytes) -> None:
        if self._tls is None:
            if not data:
                self._check_child()
            if self._is_unreached and self._host is not None and data.startswith(_TLS_ALERT):
                raise unreachable(
                    self._host, "the port speaks TLS: set DOCKER_TLS_VERIFY, and DOCKER_CERT_PATH to the certificates"
                )
            self._silent = self._silent and not data
            self.connection.receive_data(data)
            return
        if plain := self._tls.decrypt(data):
            self._silent = False
            self.connection.receive_data(plain)
        if self._tls.ended:
            self.connection.receive_data(b"")
        elif (failure := self._tls.failure) is not None:
            # With TLS 1.3 the peer's refusal of our certificate comes here, and not in the handshake.
            if self._is_unreached:
                sent = "ALERT" not in (failure.reason or "")
                raise unreachable(self._host, failure_reason(failure), sent=sent) from failure
            self._health.move(BROKEN, failure)

    @property
    def _is_unreached(self) -> bool:
        return self._silent and not self.kept

    def failed(self, exc: BaseException) -> BaseException:
        """Record an error of reading. Returns the error to raise, which may say more.

        For ``ssh`` it quotes what it has printed. A server that expects TLS may only reset a plain connection.
        """
        plain_tcp = isinstance(self._host, TcpHost) and self._tls is None
        if plain_tcp and self._is_unreached and isinstance(exc, ConnectionResetError):
            exc = ConnectionResetError(
                errno.ECONNRESET,
                f"the connection was reset before any answer came: {self._host}; if the port speaks TLS, set "
                "DOCKER_TLS_VERIFY, and DOCKER_CERT_PATH to the certificates, or give an SSLContext",
            )
        self._health.move(BROKEN, exc)
        if isinstance(exc, Exception) and self._child is not None:  # and not Ctrl-C
            self._check_child()
            return self._child_failed("has died")
        return exc

    def send_failed(self, exc: BaseException | None) -> None:
        """Note an error of the transport's while sending."""
        self.connection.send_failed()
        self._note_reset(exc)

    def _note_reset(self, exc: BaseException | None) -> None:
        # Also if keepalive has given up. Over TCP the kernel has dropped the unread bytes. A Unix socket still has all
        # that was sent to us.
        if isinstance(exc, OSError) and not isinstance(exc, BrokenPipeError) and not is_unix(self.family):
            self._health.move(RESET_HEARD, exc)

    def _check_end(self) -> None:
        """At end of file: raise the reset that a send has reported."""
        if self._health.state is RESET_HEARD and self._health.why is not None:
            raise self._health.why

    def end_at_reset(self) -> bool:
        """Take a reset for the end of the output, if that is what has broken the connection."""
        if not isinstance(self.broken, ConnectionResetError):
            return False
        self.connection.receive_data(b"")
        self._health.move(SOUND, None)
        return True

    def ending(self) -> Generator[float, None, None]:
        """At end of file: wait for the program below; each value is how long to sleep before going on.

        The connection is broken afterwards if the program has not ended well.
        """
        if self._child is not None and not self._silent:
            status = yield from self._child.ended()
            if status != 0:
                self._child_failed("does not end" if status is None else f"has ended with status {status}")

    def _child_failed(self, how: str) -> ConnectionAbortedError:
        # Not a reset, which may count as an end: it is not known how much of the output is missing.
        said = self._child.complaint() if self._child is not None else ""
        why = ConnectionAbortedError(errno.ECONNABORTED, f"ssh {how}: {said or 'it has printed nothing'}")
        self._health.move(BROKEN, why)
        return why

    def _check_child(self) -> None:
        if self._is_unreached and self._child is not None:
            raise unreachable(self._host, self._child.complaint() or "ssh ended and printed nothing") from self.broken


def _reading_lost() -> AttachmentClosed:
    return AttachmentClosed(
        "a read was interrupted, and what it had taken is lost: the rest of the output cannot be read"
    )
