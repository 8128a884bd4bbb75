"""Makes connections, and calls on them: what asyncio and trio share."""

from __future__ import annotations

import abc
import contextlib
import functools
import socket
from collections.abc import Callable, Coroutine, Iterable
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
from attachproto_adapters._transport._log import LoggedCall
from attachproto_adapters._transport._open import open_non_tcp
from attachproto_adapters._transport._schemes import NonTcpHost
from attachproto_adapters._transport._socket_session import SocketSession
from attachproto_adapters._transport._sockets import half_close, join_with_half_close
from attachproto_adapters._transport._ssh import SshChild

if TYPE_CHECKING:
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
        self._sessions: set[L] = set()
        self._closings = 0

    @staticmethod
    @abc.abstractmethod
    async def sleep(seconds: float) -> None:
        """Sleep."""

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
    async def connect(self, quirks: Iterable[Quirk], tls: TlsLayer | None) -> L:
        """A connection of the transport, before any handshake."""

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
        self._sessions.difference_update([each for each in self._sessions if each.closed])
        with self._address.reached(self.failures):
            tls = self._address.tls()
            session = await self.connect(quirks, tls)
            self._sessions.add(session)
            if tls is not None:
                try:
                    await session.handshake(tls)
                except BaseException:
                    await session.aclose()
                    raise
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
        """Make a plain call on a connection of its own, and wait for its whole answer."""
        closings = self._closings
        with LoggedCall(request) as logged:
            async with contextlib.aclosing(await self.ask(request)) as session:
                if self._closings != closings:  # another task has closed all connections before this one was opened
                    await session.aclose()
                response = await whole_response(session)
            logged.answered(response.status_code)
        self._sessions.discard(session)  # an attachment keeps its dialer, and would keep this
        return response

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
