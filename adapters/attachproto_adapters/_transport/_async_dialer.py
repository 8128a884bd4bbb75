"""Makes connections, and calls on them: what asyncio and trio share.

The file has more than 250 lines, and ``AsyncDialer`` more than 15 methods, because it also declares what a framework's
module has to provide.
"""

from __future__ import annotations

import abc
import contextlib
import functools
import socket
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

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
from attachproto_adapters._transport._address import CONNECT_ERRORS, Address
from attachproto_adapters._transport._async_base import AsyncSession
from attachproto_adapters._transport._async_socket import AsyncSocketSession
from attachproto_adapters._transport._idle import Hold, IdleConnection, Use, discard, is_repeatable, unless_idle_timeout
from attachproto_adapters._transport._log import LoggedCall
from attachproto_adapters._transport._open import open_non_tcp
from attachproto_adapters._transport._schemes import NonTcpHost, TcpHost
from attachproto_adapters._transport._socket_session import SocketSession
from attachproto_adapters._transport._sockets import half_close, join_with_half_close

if TYPE_CHECKING:
    from attachproto_adapters._transport._ssh import SshChild
    from attachproto_adapters._transport._tls import TlsLayer

L = TypeVar("L", bound=AsyncSession)
T = TypeVar("T")


class AsyncDialer(abc.ABC, Generic[L]):
    """Makes the connections of one job or one attachment to its engine.

    Attributes:
        failures: the exceptions that mean that the engine cannot be reached.
    """

    failures: ClassVar[tuple[type[Exception], ...]] = CONNECT_ERRORS

    def __init__(self, address: Address) -> None:
        self.host = address.host
        self._address = address
        # All open connections, so that one call can close all that an interrupted flow has opened.
        self._sessions: list[L] = []
        # Idle connections that were taken out of the slot, and have no session yet.
        self._taken: list[IdleConnection] = []
        self._closings = 0

    @staticmethod
    @abc.abstractmethod
    async def sleep(seconds: float) -> None:
        """Sleep."""

    @staticmethod
    @abc.abstractmethod
    async def within(seconds: float, call: Callable[[], Awaitable[T]]) -> T | None:
        """The call's result; ``None`` if it has none within this time. Then it is cancelled."""

    @staticmethod
    @abc.abstractmethod
    async def shielded(seconds: float, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The call's result. A cancellation does not reach the call, and goes on when it has ended.

        Raises:
            TimeoutError: it has no result within this time. Then it is cancelled.
        """

    @staticmethod
    @abc.abstractmethod
    async def finished(grace: float, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The call's result. After a cancellation the call may go on for ``grace`` seconds, and is awaited.

        Then it is cancelled. The cancellation goes on when the call has ended, whatever its result is.
        """

    @abc.abstractmethod
    async def open_tcp(self, host: TcpHost) -> socket.socket:
        """A TCP connection."""

    @abc.abstractmethod
    def make_session(
        self, sock: socket.socket, quirks: Iterable[Quirk], tls: TlsLayer | None, child: SshChild | None
    ) -> L:
        """A session over a connected socket."""

    async def open_non_tcp(self, host: NonTcpHost) -> tuple[socket.socket, SshChild | None]:
        """Open a connection that is not TCP. If it is cancelled, nothing stays open."""
        with contextlib.closing(open_non_tcp(host)) as steps:
            while True:
                try:
                    pause = next(steps)
                except StopIteration as opened:
                    sock, child = opened.value
                    return sock, child
                await self.sleep(pause)

    async def dial(self, quirks: Iterable[Quirk] = ()) -> L:
        """A new connection."""
        host, child = self.host, None
        with self._address.reached(self.failures):
            tls = self._address.tls()
            if isinstance(host, TcpHost):
                sock = await self.open_tcp(host)
            else:
                sock, child = await self.open_non_tcp(host)
            session = self._session(sock, quirks, tls, child)
            if tls is not None:
                try:
                    await session.handshake(tls)
                except BaseException:
                    await session.aclose()
                    raise
            return session

    def _session(self, sock: socket.socket, quirks: Iterable[Quirk], tls: TlsLayer | None, child: SshChild | None) -> L:
        for each in [each for each in self._sessions if each.closed or each.released]:
            discard(self._sessions, each)
        session = self.make_session(sock, quirks, tls, child)
        self._sessions.append(session)
        return session

    async def ask(self, request: Request) -> L:
        """Make a plain call on a connection of its own; the caller reads its answer."""
        session = await self.dial()
        try:
            await session.ask(request)
        except BaseException:
            await session.aclose()
            raise
        return session

    async def call(self, request: Request) -> Response:
        """Make a plain call, and wait for its whole answer. See ``_blocking_dialer`` for which connection it uses."""
        closings = self._closings
        with LoggedCall(request) as logged:
            response = None
            if (session := await self._idle_session(request, closings)) is not None:
                broken: tuple[type[Exception], ...] = (RemoteProtocolError, *session.errors)
                try:
                    response = unless_idle_timeout(request, await self._exchange(session, request, closings))
                except broken:
                    if session.heard or not is_repeatable(request):
                        raise
            if response is None:
                response = await self._exchange(await self.dial(), request, closings)
            logged.answered(response.status_code)
        return response

    async def _exchange(self, session: L, request: Request, closings: int) -> Response:
        """Make a call on this connection, which is then kept or closed."""
        async with contextlib.aclosing(session):
            await session.ask(request)
            if self._closings != closings:  # another task has closed all connections before this one was opened
                await session.aclose()
            response = await whole_response(session)
            assert isinstance(session, SocketSession)  # every connection of a dialer is one
            session.keep_for_next_call(self._address.idle)
        discard(self._sessions, session)  # an attachment keeps its dialer, and would keep this
        return response

    async def _idle_session(self, request: Request, closings: int) -> L | None:
        """The idle connection, if this call may be made on it."""
        if (idle := self._address.idle.take(self._taken)) is None:
            return None
        use = idle.use_for(request, connects_slowly=self._address.connects_slowly)
        if use is Use.NOT:
            await self._end_idle(idle)
            discard(self._taken, idle)
            return None
        session = self._session_over(idle)
        if use is Use.AT_ONCE:
            return session
        broken: tuple[type[Exception], ...] = (RemoteProtocolError, *session.errors)
        try:
            await self._exchange(session, PING, closings)
        except broken:
            return None
        return None if (idle := self._address.idle.take(self._taken)) is None else self._session_over(idle)

    def _session_over(self, idle: IdleConnection) -> L:
        session = self._session(idle.sock, (), idle.tls, idle.child)
        session.kept = True
        discard(self._taken, idle)
        return session

    def hold(self) -> Hold:
        """Let the address keep a connection until ``let_go``."""
        return self._address.idle.hold()

    async def let_go(self, hold: Hold) -> None:
        """End a hold. The connection is closed if that was the last one."""
        if (idle := hold.release()) is not None:
            await self._end_idle(idle)

    async def _end_idle(self, idle: IdleConnection) -> None:
        with contextlib.closing(idle.end()) as pauses:
            for seconds in pauses:
                await self.sleep(seconds)

    async def passes_half_close(self) -> bool:
        """The result of the step ``TryHalfClose``."""
        if not self._address.can_try_half_close:
            return True
        async with contextlib.aclosing(await self.dial()) as session:
            assert isinstance(session, SocketSession)  # every connection of a dialer is one
            join_with_half_close(session.sock)
            await session.ask(PING)
            with contextlib.suppress(OSError):  # the next read shows why
                half_close(session.sock)
            try:
                await session.within(HEAD_SECONDS, session.next_event)
            except RemoteProtocolError as exc:
                return exc.reason is not Reason.NOTHING_CAME
            except session.errors:
                return False
        return True  # also if no answer has come yet

    async def aclose(self) -> None:
        """Close all connections. Every task that waits for an answer is woken."""
        self._closings += 1
        async with contextlib.AsyncExitStack() as stack:
            for idle in list(self._taken):
                stack.push_async_callback(self._end_idle, idle)
            for session in list(self._sessions):
                stack.push_async_callback(session.aclose)


async def whole_response(session: AsyncSession) -> Response:
    """The whole answer to the call that was made on this connection."""
    while not isinstance(event := await session.next_event(), Response):
        pass
    return event


async def response_within(session: AsyncSession, seconds: float) -> Response | None:
    """The whole answer to the call that was made on this connection, if it comes within this time.

    What has arrived is read first, so that an answer which is there is found, however long other tasks have run.
    """
    assert isinstance(session, AsyncSocketSession)  # every connection of a dialer is one
    while (event := await session.arrived_event()) is not None:
        if isinstance(event, Response):
            return event
    return await session.within(seconds, functools.partial(whole_response, session))


async def open_stream(
    session: AsyncSession, request: StreamRequest, seconds: float | None = None
) -> Accepted | Rejected:
    """Send a request for a stream and return its answer, which must come within ``seconds``, if they are given."""
    with LoggedCall(request) as logged:
        await session.ask(request)
        event = await (session.next_event() if seconds is None else session.within(seconds, session.next_event))
        if event is None:
            assert seconds is not None
            raise session.head_held_back(seconds)
        assert isinstance(event, Accepted | Rejected)  # nothing else comes first
        logged.answered(event.status_code)
        return event
