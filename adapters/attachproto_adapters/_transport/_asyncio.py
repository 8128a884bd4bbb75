"""Sessions and the dialer of the asyncio adapter.

Strategy: on sockets of our own nothing but waiting is asyncio's: a task waits until the socket is ready, and then reads
or sends by itself. So a cancelled wait has taken and sent nothing. ``loop.sock_recv`` loses what it has read if the
task is cancelled before it runs on, and asyncio's transports drop unread output when a write fails.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Hashable, Iterable
from typing import NoReturn, TypeVar

from attachproto import Quirk
from attachproto_adapters._flows._stdin import WRITE_SIZE
from attachproto_adapters._transport._async_base import AsyncDialer, AsyncSession, AsyncSocketSession
from attachproto_adapters._transport._schemes import Host, TcpHost
from attachproto_adapters._transport._sockets import READ_SIZE, prepare_tcp
from attachproto_adapters._transport._ssh import SshChild
from attachproto_adapters._transport._tls import TlsLayer

# The other end of a TLS connection takes what is on its way, and says its own end, within a round trip or two.
_TLS_CLOSE_SECONDS = 1.0

T = TypeVar("T")


class AsyncioSession(AsyncSession):
    """What the two kinds of connection have in common."""

    @staticmethod
    def caller() -> Hashable:
        return asyncio.current_task()

    @staticmethod
    async def sleep(seconds: float) -> None:
        await asyncio.sleep(seconds)

    @staticmethod
    async def within(seconds: float, call: Callable[[], Awaitable[T]]) -> T | None:
        try:
            async with asyncio.timeout(seconds) as scope:
                return await call()
        except TimeoutError:
            if not scope.expired():  # the connection's own
                raise
        return None

    def raise_broken(self, why: BaseException) -> NoReturn:
        raise type(why)(*why.args)


class SocketSession(AsyncioSession, AsyncSocketSession):
    """A connected socket of our own."""

    def __init__(
        self,
        sock: socket.socket,
        host: Host,
        *,
        quirks: Iterable[Quirk] = (),
        tls: TlsLayer | None = None,
        child: SshChild | None = None,
    ) -> None:
        super().__init__(sock, host, quirks=quirks, tls=tls, child=child)
        self._loop = asyncio.get_running_loop()
        self._receiving: asyncio.Future[None] | None = None
        self._sending: asyncio.Future[None] | None = None

    async def wait_readable(self) -> None:
        self._receiving = self._loop.create_future()
        try:
            # By its number: asyncio looks a socket up by its repr, which asks the kernel for both names.
            self._loop.add_reader(self.sock.fileno(), _wake, self._receiving)
            await self._receiving
        finally:
            self._receiving = None
            self._forget(self._loop.remove_reader)

    async def wait_writable(self) -> None:
        self._sending = self._loop.create_future()
        try:
            self._loop.add_writer(self.sock.fileno(), _wake, self._sending)
            await self._sending
        finally:
            self._sending = None
            self._forget(self._loop.remove_writer)

    def _forget(self, remove: Callable[[int], object]) -> None:
        # Once it is closed, its number may be another's.
        if (number := self.sock.fileno()) != -1:
            remove(number)

    async def close_transport(self) -> None:
        for waiting, remove in ((self._receiving, self._loop.remove_reader), (self._sending, self._loop.remove_writer)):
            if waiting is not None:
                self._forget(remove)
                _wake(waiting)
        self.shut_down()
        self.sock.close()


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class StreamsSession(AsyncioSession):
    """A pair of the caller's. What asyncio's transport has taken may leave later, or never."""

    drops_unread = True

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, quirks: Iterable[Quirk] = ()
    ) -> None:
        super().__init__(quirks=quirks)
        self._reader = reader
        self._writer = writer
        # Else drain() would come back while 64 KiB still wait, and who closes then would lose them. TLS never wakes who
        # waits for a limit of 0; and of what waits below it no limit is known, so it is closed with patience.
        self._is_tls = writer.get_extra_info("ssl_object") is not None
        writer.transport.set_write_buffer_limits(high=1 if self._is_tls else 0, low=0)
        self._unsent = False

    @property
    def family(self) -> int | None:
        return getattr(self._writer.get_extra_info("socket"), "family", None)

    @property
    def can_half_close(self) -> bool:
        return self._writer.can_write_eof()

    async def receive_some(self) -> bytes:
        self.reading.begin()
        try:
            data = await self._reader.read(READ_SIZE)
        except asyncio.CancelledError:
            self.reading.finish()
            raise
        if not data:
            self._check_end()
        return data

    async def send_all(self, data: bytes) -> None:
        self._unsent = True
        for at in range(0, len(data), WRITE_SIZE):
            self._writer.write(data[at : at + WRITE_SIZE])
            await self._writer.drain()
        self._unsent = False

    async def half_close(self) -> None:
        self._writer.write_eof()

    def let_go(self) -> None:
        # asyncio has no call that closes a transport and leaves the connection alone.
        pass

    async def close_transport(self) -> None:
        try:
            self._writer.close()
            if self._is_tls and not self._unsent:
                with contextlib.suppress(OSError):
                    async with asyncio.timeout(_TLS_CLOSE_SECONDS):
                        await self._writer.wait_closed()
        finally:
            # What a cancelled send has left would keep it open for as long as nobody reads; and TLS, which has said
            # its close_notify by now, would wait half a minute for the other end's.
            self._writer.transport.abort()


class Dialer(AsyncDialer[AsyncioSession]):
    """Makes connections to one engine."""

    sleep = staticmethod(AsyncioSession.sleep)

    async def connect(self, quirks: Iterable[Quirk], tls: TlsLayer | None) -> AsyncioSession:
        host, child = self.host, None
        if isinstance(host, TcpHost):
            sock = await _open_tcp(host)
        else:
            sock, child = await self.open_non_tcp(host)
        return SocketSession(sock, host, quirks=quirks, tls=tls, child=child)


async def _open_tcp(host: TcpHost) -> socket.socket:
    """The first address of the name that takes us, as ``socket.create_connection`` does."""
    loop = asyncio.get_running_loop()
    failure = OSError(f"{host.name} has no address")
    for family, kind, protocol, _, address in await loop.getaddrinfo(host.name, host.port, type=socket.SOCK_STREAM):
        with contextlib.ExitStack() as undo:
            try:
                sock = undo.enter_context(socket.socket(family, kind, protocol))
                sock.setblocking(False)
                await loop.sock_connect(sock, address)
            except OSError as exc:
                failure = exc
                continue
            prepare_tcp(sock)
            undo.pop_all()
            return sock
    raise failure
