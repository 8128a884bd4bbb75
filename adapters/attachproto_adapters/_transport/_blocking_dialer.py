"""Makes the blocking adapter's connections, and the calls on them.

It has more than 250 lines, and ``Dialer`` more than 15 methods, because all connections of a job share its timeout, its
deadline and its end.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from attachproto import (
    Accepted,
    Quirk,
    Reason,
    Rejected,
    RemoteProtocolError,
    Request,
    Response,
    StreamRequest,
)
from attachproto_adapters._flows._api_calls import PING
from attachproto_adapters._flows._steps import HEAD_SECONDS
from attachproto_adapters._transport._address import Address
from attachproto_adapters._transport._blocking import BlockingSession, is_own_timeout
from attachproto_adapters._transport._idle import Hold, IdleConnection, Use, discard, is_repeatable, unless_idle_timeout
from attachproto_adapters._transport._log import LoggedCall
from attachproto_adapters._transport._open import open_non_tcp
from attachproto_adapters._transport._schemes import NonTcpHost, TcpHost
from attachproto_adapters._transport._sockets import connect_tcp, half_close, join_with_half_close, prepare_tcp

if TYPE_CHECKING:
    from attachproto_adapters._transport._ssh import SshChild
    from attachproto_adapters._transport._tls import TlsLayer


class Dialer:
    """Makes the connections of one job or one attachment to its engine."""

    def __init__(self, address: Address, timeout: float | None) -> None:
        self.host = address.host
        self.timeout = timeout
        self._deadline: float | None = None
        self._address = address
        # All open connections, so that one call can close all that an interrupted flow has opened.
        self._sessions: list[BlockingSession] = []
        # Idle connections that were taken out of the slot, and have no session yet.
        self._taken: list[IdleConnection] = []
        self._closings = 0

    @property
    def deadline(self) -> float | None:
        """When all waiting ends with ``TimeoutError``, in the time of ``time.monotonic``; ``None`` for never.

        It holds for every connection that is open, or is opened later.
        """
        return self._deadline

    @deadline.setter
    def deadline(self, deadline: float | None) -> None:
        self._deadline = deadline
        for session in list(self._sessions):
            session.deadline = deadline

    def until_deadline(self, seconds: float | None) -> float | None:
        """This bound, or what is left until the deadline if that is shorter.

        Raises:
            TimeoutError: the deadline has passed.
        """
        if self._deadline is None:
            return seconds
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"timed out: the deadline has passed: {self.host}")
        return left if seconds is None else min(seconds, left)

    def at_most(self, seconds: float) -> float:
        """This bound, or the timeout if that is shorter."""
        return seconds if self.timeout is None else min(seconds, self.timeout)

    def unless_sooner(self, seconds: float | None) -> float | None:
        """``seconds``; ``None`` if the timeout is shorter, because the timeout then ends the wait first."""
        return seconds if seconds is None or self.timeout is None or seconds < self.timeout else None

    def settimeout(self, timeout: float | None) -> None:
        """Set how many seconds each connect, read or write may take from now on."""
        self.timeout = timeout

    def dial(self, quirks: Iterable[Quirk] = ()) -> BlockingSession:
        """A new connection."""
        host, child = self.host, None
        with self._address.reached(), self._in_time():
            tls = self._address.tls()
            if isinstance(host, TcpHost):
                sock = self._open_tcp(host)
            else:
                sock, child = self._open_non_tcp(host)
            session = self._session(sock, quirks, tls, child)
            try:
                if tls is not None:
                    session.handshake(tls)
            except BaseException:
                session.close()
                raise
            return session

    def _session(
        self, sock: socket.socket, quirks: Iterable[Quirk], tls: TlsLayer | None, child: SshChild | None
    ) -> BlockingSession:
        for each in [each for each in self._sessions if each.closed or each.released]:
            discard(self._sessions, each)
        session = BlockingSession(sock, self.host, quirks=quirks, tls=tls, child=child)
        self._sessions.append(session)
        session.settimeout(self.timeout)
        session.deadline = self._deadline
        return session

    @contextlib.contextmanager
    def _in_time(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError as exc:
            if not is_own_timeout(exc):
                raise
            within = "before the deadline" if self.timeout is None else f"within {self.timeout:g} s"
            raise TimeoutError(f"no connection {within}") from exc

    def _open_non_tcp(self, host: NonTcpHost) -> tuple[socket.socket, SshChild | None]:
        waited = 0.0
        with contextlib.closing(open_non_tcp(host)) as steps:
            while True:
                try:
                    pause = next(steps)
                except StopIteration as opened:
                    sock, child = opened.value
                    return sock, child
                if self.timeout is not None and waited >= self.timeout:
                    raise TimeoutError
                time.sleep(self.until_deadline(pause) or 0)
                waited += pause

    def _open_tcp(self, host: TcpHost) -> socket.socket:
        """Connect to the first address of the name that accepts.

        The timeout is one for each address, the deadline one for all of them. Neither holds for the lookup of the name:
        the C library does not return from it before it has an answer, or has given up.
        """
        failure = OSError(f"{host.name} has no address")
        for family, kind, protocol, _, address in socket.getaddrinfo(host.name, host.port, type=socket.SOCK_STREAM):
            timeout = self.until_deadline(self.timeout)
            with contextlib.ExitStack() as undo:
                try:
                    sock = undo.enter_context(socket.socket(family, kind, protocol))
                    connect_tcp(sock, address, timeout)
                except OSError as exc:
                    failure = exc
                    continue
                prepare_tcp(sock)
                undo.pop_all()
                return sock
        try:
            raise failure
        finally:
            del failure  # its traceback refers to this frame

    def ask(self, request: Request) -> BlockingSession:
        """Make a plain call on a connection of its own; the caller reads its answer."""
        session = self.dial()
        try:
            session.ask(request)
        except BaseException:
            session.close()
            raise
        return session

    def call(self, request: Request) -> Response:
        """Make a plain call, and wait for its whole answer.

        It uses the idle connection of the address if there is one, and leaves one behind if somebody holds the slot. A
        call whose idle connection has ended unanswered is made again on a new one if that is harmless.

        Raises:
            RemoteProtocolError: among others, a call that is not made again got no answer. It is not known whether the
                engine has got it.
        """
        closings = self._closings
        with LoggedCall(request) as logged:
            response = None
            if (session := self._idle_session(request, closings)) is not None:
                try:
                    response = unless_idle_timeout(request, self._exchange(session, request, closings))
                except (RemoteProtocolError, OSError) as exc:
                    if session.heard or is_own_timeout(exc) or not is_repeatable(request):
                        raise
            if response is None:
                response = self._exchange(self.dial(), request, closings)
            logged.answered(response.status_code)
        return response

    def _exchange(self, session: BlockingSession, request: Request, closings: int) -> Response:
        """Make a call on this connection, which is then kept or closed."""
        with contextlib.closing(session):
            session.ask(request)
            if self._closings != closings:  # another thread has closed all connections before this one was opened
                session.close()
            response = whole_response(session)
            session.keep_for_next_call(self._address.idle)
        discard(self._sessions, session)  # an attachment keeps its dialer, and would keep this
        return response

    def _idle_session(self, request: Request, closings: int) -> BlockingSession | None:
        """The idle connection, if this call may be made on it."""
        if (idle := self._address.idle.take(self._taken)) is None:
            return None
        use = idle.use_for(request, connects_slowly=self._address.connects_slowly)
        if use is Use.NOT:
            end_idle(idle)
            discard(self._taken, idle)
            return None
        session = self._session_over(idle)
        if use is Use.AT_ONCE:
            return session
        try:
            self._exchange(session, PING, closings)
        except (RemoteProtocolError, OSError) as exc:
            if is_own_timeout(exc):
                raise
            return None
        return None if (idle := self._address.idle.take(self._taken)) is None else self._session_over(idle)

    def _session_over(self, idle: IdleConnection) -> BlockingSession:
        session = self._session(idle.sock, (), idle.tls, idle.child)
        session.kept = True
        discard(self._taken, idle)
        return session

    def hold(self) -> Hold:
        """Let the address keep a connection until ``let_go``."""
        return self._address.idle.hold()

    @staticmethod
    def let_go(hold: Hold) -> None:
        """End a hold. The connection is closed if that was the last one."""
        end_idle(hold.release())

    def passes_half_close(self) -> bool:
        """The result of the step ``TryHalfClose``."""
        if not self._address.can_try_half_close:
            return True
        with contextlib.closing(self.dial()) as session:
            join_with_half_close(session.sock)
            session.ask(PING)
            with contextlib.suppress(OSError):  # the next read shows why
                half_close(session.sock)
            try:
                session.next_event_within(self.at_most(HEAD_SECONDS))
            except RemoteProtocolError as exc:
                return exc.reason is not Reason.NOTHING_CAME
            except OSError as exc:
                if is_own_timeout(exc):  # the deadline says nothing of what is in between
                    raise
                return False
        return True  # also if no answer has come yet

    def close(self) -> None:
        """Close all connections. Every thread that waits for an answer is woken."""
        self._closings += 1
        with contextlib.ExitStack() as stack:
            for idle in list(self._taken):
                stack.callback(end_idle, idle)
            for session in list(self._sessions):
                stack.callback(session.close)


def end_idle(idle: IdleConnection | None) -> None:
    """Close an idle connection."""
    if idle is not None:
        with contextlib.closing(idle.end()) as pauses:
            for pause in pauses:
                time.sleep(pause)


def whole_response(session: BlockingSession) -> Response:
    """The whole answer to the call that was made on this connection."""
    while not isinstance(event := session.next_event(), Response):
        pass
    return event


def response_within(session: BlockingSession, seconds: float) -> Response | None:
    """The whole answer to the call that was made on this connection, if it comes within this time."""
    until = time.monotonic() + seconds
    while (event := session.next_event_within(until - time.monotonic())) is not None:
        if isinstance(event, Response):
            return event
    return None


def open_stream(session: BlockingSession, request: StreamRequest, seconds: float | None = None) -> Accepted | Rejected:
    """Send a request for a stream and return its answer, which must come within ``seconds``, if they are given."""
    with LoggedCall(request) as logged:
        session.ask(request)
        event = session.next_event() if seconds is None else session.next_event_within(seconds)
        if event is None:
            assert seconds is not None
            raise session.head_held_back(seconds)
        assert isinstance(event, Accepted | Rejected)  # nothing else comes first
        logged.answered(event.status_code)
        return event
