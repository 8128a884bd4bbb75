"""Makes the blocking adapter's connections, and the calls on them."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterable, Iterator

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
from attachproto_adapters._transport._log import LoggedCall
from attachproto_adapters._transport._open import open_non_tcp
from attachproto_adapters._transport._schemes import NonTcpHost, TcpHost
from attachproto_adapters._transport._sockets import half_close, join_with_half_close, prepare_tcp
from attachproto_adapters._transport._ssh import SshChild


def check_timeout(timeout: float | None) -> None:
    """Raise ``TypeError`` or ``ValueError`` for a timeout that sockets do not take, or with which they do not wait."""
    if timeout is not None and (isinstance(timeout, bool) or not isinstance(timeout, int | float)):
        raise TypeError(f"a timeout is a number of seconds or None, not {timeout!r}")
    if timeout is not None and not 0 < timeout <= threading.TIMEOUT_MAX:
        raise ValueError(
            f"a timeout is None or above 0 seconds and at most {threading.TIMEOUT_MAX:g}, not {timeout}: a socket that "
            "does not block cannot wait, and None has no limit"
        )


class Dialer:
    """Makes the connections of one job or one attachment to its engine."""

    def __init__(self, address: Address, timeout: float | None) -> None:
        self.host = address.host
        self.timeout = timeout
        self._deadline: float | None = None
        self._address = address
        # All open connections, so that one call can close all that an interrupted flow has opened.
        self._sessions: set[BlockingSession] = set()
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
        """This bound; ``None`` if the timeout is shorter, which bounds every wait by itself."""
        return seconds if seconds is None or self.timeout is None or seconds < self.timeout else None

    def settimeout(self, timeout: float | None) -> None:
        """Set how many seconds each connect, read or write may take from now on."""
        self.timeout = timeout

    def dial(self, quirks: Iterable[Quirk] = ()) -> BlockingSession:
        """A new connection."""
        host, child = self.host, None
        self._sessions.difference_update([each for each in self._sessions if each.closed])
        with self._address.reached(), self._in_time():
            tls = self._address.tls()
            if isinstance(host, TcpHost):
                sock = self._open_tcp(host)
            else:
                sock, child = self._open_non_tcp(host)
            session = BlockingSession(sock, host, quirks=quirks, tls=tls, child=child)
            self._sessions.add(session)
            session.deadline = self._deadline
            try:
                session.settimeout(self.timeout)
                if tls is not None:
                    session.handshake(tls)
            except BaseException:
                session.close()
                raise
            return session

    @contextlib.contextmanager
    def _in_time(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError as exc:
            if not is_own_timeout(exc):
                raise
            raise TimeoutError(f"no connection within {self.timeout:g} s") from exc

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
        with contextlib.ExitStack() as undo:
            sock = undo.enter_context(
                socket.create_connection((host.name, host.port), self.until_deadline(self.timeout))
            )
            prepare_tcp(sock)
            undo.pop_all()
            return sock

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
        """Make a plain call on a connection of its own, and wait for its whole answer."""
        closings = self._closings
        with LoggedCall(request) as logged:
            with contextlib.closing(self.ask(request)) as session:
                if self._closings != closings:  # another thread has closed all connections before this one was opened
                    session.close()
                response = whole_response(session)
            logged.answered(response.status_code)
        self._sessions.discard(session)  # an attachment keeps its dialer, and would keep this
        return response

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
            except OSError:
                return False
        return True  # also if no answer has come yet

    def close(self) -> None:
        """Close all connections. Every thread that waits for an answer is woken."""
        self._closings += 1
        with contextlib.ExitStack() as stack:
            for session in list(self._sessions):
                stack.callback(session.close)


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
