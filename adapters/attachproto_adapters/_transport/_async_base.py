"""Sessions and dialers: what asyncio and trio share.

Strategy: ``AsyncSession`` and ``AsyncDialer`` hold what asyncio and trio have in common, and name what they have not. A
framework's module says how bytes are received and sent there, and what its errors are.
"""

from __future__ import annotations

import abc
import contextlib
import functools
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable
from typing import ClassVar, Generic, NoReturn, TypeVar

from attachproto import (
    NEED_DATA,
    SEND_EOF,
    Accepted,
    Event,
    LocalProtocolError,
    Quirk,
    Rejected,
    Request,
    Response,
    StreamRequest,
)
from attachproto_adapters._errors import AttachmentClosed
from attachproto_adapters._flows._life import InputState
from attachproto_adapters._flows._stdin import Feed
from attachproto_adapters._transport._address import Address
from attachproto_adapters._transport._open import open_non_tcp
from attachproto_adapters._transport._schemes import Host, NonTcpHost
from attachproto_adapters._transport._session import Session, SocketSession
from attachproto_adapters._transport._sockets import half_close
from attachproto_adapters._transport._ssh import SshChild
from attachproto_adapters._transport._tls import TlsLayer

T = TypeVar("T")


class AsyncSession(Session):
    """A transport and the state machine that speaks on it. It moves bytes and signals, and knows nothing more.

    Attributes:
        drops_unread: the framework drops what is unread when the connection breaks; no clean end may hide that.
    """

    caller_kind = "task"
    drops_unread: ClassVar[bool] = False

    failures: ClassVar[tuple[type[Exception], ...]] = (OSError,)
    """What may come out of the transport before it is raised as one of ``errors``."""

    @abc.abstractmethod
    async def receive_some(self) -> bytes:
        """What came; ``b""`` at the end. It starts a step of reading. Cancelled, it has taken nothing."""

    @abc.abstractmethod
    async def send_all(self, data: bytes) -> None:
        """Send all of it. Cancelled, it may have sent some."""

    @abc.abstractmethod
    async def half_close(self) -> None:
        """End our direction."""

    async def feed_some(self, feed: Feed) -> None:
        """Send some of this input. Cancelled, this one has lost what it was sending."""
        self.sending.begin()
        try:
            data = feed.next()
            if data is SEND_EOF:
                await self.half_close()
                feed.sent(0)
            elif data is not None:
                await self.send_all(bytes(data))
                feed.sent(len(data))
        except self.failures as exc:  # reading tells what it means for the output
            self.send_failed(exc)
            feed.move(InputState.REFUSED)
        except BaseException:
            self.connection.send_failed()
            feed.move(InputState.LOST)
            self.sending.finish()
            raise
        self.sending.finish()

    @abc.abstractmethod
    async def close_transport(self) -> None:
        """Close it, and wake whoever waits."""

    @abc.abstractmethod
    def let_go(self) -> None:
        """In a forked child: close what can be closed without a word to the peer."""

    @staticmethod
    @abc.abstractmethod
    async def sleep(seconds: float) -> None:
        """Let time pass."""

    @staticmethod
    @abc.abstractmethod
    async def within(seconds: float, call: Callable[[], Awaitable[T]]) -> T | None:
        """What the call gives; ``None`` if it does not within this time, and is cancelled."""

    @abc.abstractmethod
    def raise_broken(self, why: BaseException) -> NoReturn:
        """Raise again what has broken the connection."""
        raise NotImplementedError

    async def ask(self, request: Request | StreamRequest) -> None:
        """Send a request. If nobody takes it any more, reading tells why: who refuses may close before it has read."""
        with contextlib.suppress(*self.errors):
            await self.send(request)

    async def send(self, event: Event) -> None:
        self.sending.begin()
        try:
            data = self.outgoing(event)
            if data is SEND_EOF:
                await self.half_close()
            else:
                await self.send_all(data)
        except LocalProtocolError:  # nothing has changed
            self.sending.finish()
            raise
        except BaseException as exc:
            # Cancelled, too: it is not known then how much has left.
            self.send_failed(exc)
            self.sending.finish()
            if isinstance(exc, self.failures):
                self.check_not_closed("sending")
            if isinstance(exc, OSError):
                self.raise_broken(exc)
            raise
        self.sending.finish()

    def send_failed(self, exc: BaseException | None) -> None:
        super().send_failed(exc and _cause(exc))

    async def next_event(self) -> Event:
        """The next event. It is the caller's only use of this connection, so that no step is left open."""
        while (event := self.take_event()) is NEED_DATA:
            await self.read()
        self.reading.finish()
        return event

    async def read(self) -> None:
        """Read once, and give it to the state machine. Cancelled, it has taken nothing."""
        if self.broken is not None:
            self.raise_broken(self.broken)
        if self.closed:
            raise AttachmentClosed("the attachment is closed: nothing more can be read")
        try:
            data = await self.receive_some()
        except self.failures as exc:
            self.reading.finish()
            self.check_not_closed("being read")
            if (why := self.failed(cause := _cause(exc))) is not cause or isinstance(exc, OSError):
                self.raise_broken(why)
            raise
        if not data:  # it comes again, if this is cancelled
            self.reading.finish()
            # Our own close looks like the peer's end, and must not pass for it.
            self.check_not_closed("being read")
            for seconds in self.ending():
                await self.sleep(seconds)
            if self.broken is not None:
                self.raise_broken(self.broken)
            self.reading.begin()
        # From the transport to here nothing waits: what was read cannot be lost.
        self.incoming(data)

    def check_not_closed(self, what: str) -> None:
        if self.closed:
            raise AttachmentClosed(f"the attachment was closed while it was {what}") from None

    async def handshake(self, tls: TlsLayer) -> None:
        """Agree on keys."""
        steps = tls.handshake()
        try:
            await self.send_all(next(steps))
            while True:
                data = await self.receive_some()
                self.reading.finish()
                await self.send_all(steps.send(data))
        except StopIteration as last:
            await self.send_all(last.value)
        except ssl.SSLError:
            with contextlib.suppress(*self.failures):
                await self.send_all(tls.alert)
            raise

    async def aclose(self) -> None:
        self.closed = True
        if self.forked:
            self.let_go()
            if self._child is not None:
                self._child.let_go()
            return
        try:
            await self.close_transport()
        finally:
            if self._child is not None:
                with contextlib.closing(self._child.end()) as pauses:
                    for seconds in pauses:
                        await self.sleep(seconds)


class AsyncSocketSession(AsyncSession, SocketSession):
    """A connected socket of our own. Only waiting is the framework's, so that it never holds what was read."""

    @abc.abstractmethod
    async def wait_readable(self) -> None:
        """Wait until the socket is readable, or closed. It takes nothing."""

    @abc.abstractmethod
    async def wait_writable(self) -> None:
        """Wait until the socket is writable, or closed. It sends nothing."""

    async def receive_some(self) -> bytes:
        # A container that prints as fast as we read must not keep the loop from everybody else.
        await self.sleep(0)
        while (data := self.receive_now()) is None:
            await self.wait_readable()
            self.check_not_closed("being read")
        return data

    async def send_all(self, data: bytes) -> None:
        await self.sleep(0)
        view = memoryview(data)
        while view:
            sent = self.send_now(view)
            view = view[sent:]
            if not sent:
                await self.wait_writable()

    async def half_close(self) -> None:
        half_close(self.sock)

    async def feed_some(self, feed: Feed) -> None:
        """Send some of this input. Cancelled, it has sent nothing."""
        await self.sleep(0)
        if not self.feed_now(feed):
            await self.wait_writable()

    def let_go(self) -> None:
        self.sock.close()


def _cause(exc: BaseException) -> BaseException:
    """What the kernel said, where a framework has put its own error around it."""
    return exc if isinstance(exc, OSError) else exc.__cause__ or exc


L = TypeVar("L", bound=AsyncSession)


class AsyncDialer(Address, abc.ABC, Generic[L]):
    """Makes connections to one engine."""

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        # All that are open. Whoever opens several and is interrupted has them closed by one call.
        self._sessions: set[L] = set()
        self._closings = 0

    @staticmethod
    @abc.abstractmethod
    async def sleep(seconds: float) -> None:
        """Let time pass."""

    @abc.abstractmethod
    async def connect(self, quirks: Iterable[Quirk], tls: TlsLayer | None) -> L:
        """A connection of the transport, before any handshake."""

    async def open_non_tcp(self, host: NonTcpHost) -> tuple[socket.socket, SshChild | None]:
        """Open a connection that is not TCP. Cancelled, it has left nothing open."""
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
        with self.reached():
            tls = self.tls()
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
        """Make a plain call on a connection of its own; its answer is still to be read."""
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
        async with contextlib.aclosing(await self.ask(request)) as session:
            if self._closings != closings:  # it was not there yet
                await session.aclose()
            return await whole_response(session)

    async def aclose(self) -> None:
        """Close all connections, which wakes whoever waits for a call's answer."""
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
    """The whole answer to the call that was made on this connection, if it comes within this time."""
    return await session.within(seconds, functools.partial(whole_response, session))


async def open_stream(session: AsyncSession, request: StreamRequest) -> Accepted | Rejected:
    """Ask for a stream; what it was answered."""
    await session.ask(request)
    event = await session.next_event()
    assert isinstance(event, Accepted | Rejected)  # nothing else comes first
    return event
