"""Sessions and the dialer of the asyncio adapter.

Strategy: on our own sockets asyncio only waits. A task waits until the socket is ready, and then calls ``recv`` or
``send`` itself. So a cancelled wait has read and sent nothing. ``loop.sock_recv`` loses what it has read if the task is
cancelled before it resumes. asyncio's transports drop unread data when a write fails.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import functools
import socket
import sys
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Iterable
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from attachproto import Quirk, State
from attachproto_adapters._errors import unreachable
from attachproto_adapters._flows._stdin import WRITE_SIZE
from attachproto_adapters._transport._async_base import AsyncSession
from attachproto_adapters._transport._async_dialer import AsyncDialer
from attachproto_adapters._transport._async_socket import AsyncSocketSession
from attachproto_adapters._transport._schemes import Host, TcpHost
from attachproto_adapters._transport._sockets import READ_SIZE, prepare_tcp

if TYPE_CHECKING:
    from attachproto_adapters._transport._ssh import SshChild
    from attachproto_adapters._transport._tls import TlsLayer

# The peer of a TLS connection answers close_notify within a round trip or two.
_TLS_CLOSE_SECONDS = 1.0

# asyncio.sleep(0) waits for no future. If anyio cancels the task there, and a time limit of ours does so too in the
# same turn of the loop, the exception has no message, and anyio does not know its own cancellation. With any delay it
# waits for a future, which keeps the message of the first request. This delay is over in the next turn.
_NEXT_TURN = 1e-9

T = TypeVar("T")


class AsyncioSession(AsyncSession):
    """What both kinds of asyncio's connections share."""

    @staticmethod
    def caller() -> Hashable:
        return asyncio.current_task()

    @staticmethod
    async def sleep(seconds: float) -> None:
        await asyncio.sleep(seconds or _NEXT_TURN)

    @staticmethod
    async def within(seconds: float, call: Callable[[], Awaitable[T]]) -> T | None:
        deadline = asyncio.timeout(seconds)
        try:
            async with deadline:
                return await call()
        except TimeoutError:
            if not deadline.expired():  # the connection's own
                raise
        return None

    def raise_broken(self, why: BaseException) -> NoReturn:
        raise copy.copy(why)


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
        self._loop = asyncio.get_running_loop()
        # Given the loop, asyncio does not look for it. In CPython 3.11 that is a system call, getpid().
        self.caller = functools.partial(asyncio.current_task, self._loop)  # type: ignore[method-assign]
        super().__init__(sock, host, quirks=quirks, tls=tls, child=child)
        self._receiving: asyncio.Future[None] | None = None
        self._sending: asyncio.Future[None] | None = None

    @staticmethod
    async def checkpoint_if_cancelled() -> None:
        # Another task's cancel() is raised where this one waits.
        pass

    async def wait_readable(self) -> None:
        self._receiving = self._loop.create_future()
        try:
            # By descriptor: given a socket, asyncio makes its repr(), which costs two system calls.
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
        # After the socket is closed, another file may have its descriptor.
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
    """The caller's pair of streams. asyncio's transport may send what it was given later, or never."""

    drops_unread = True

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, quirks: Iterable[Quirk] = ()
    ) -> None:
        super().__init__(quirks=quirks)
        self._reader = reader
        self._writer = writer
        # By default drain() returns while 64 KiB are still unsent, and closing would then lose them. With a limit of 0
        # asyncio's TLS never wakes a task in drain(). TLS buffers more below, so close_transport() waits for a while.
        self._is_tls = writer.get_extra_info("ssl_object") is not None
        writer.transport.set_write_buffer_limits(high=1 if self._is_tls else 0, low=0)

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
        for at in range(0, len(data), WRITE_SIZE):
            self._writer.write(data[at : at + WRITE_SIZE])
            await self._writer.drain()

    async def half_close(self) -> None:
        self._writer.write_eof()

    def let_go(self) -> None:
        # asyncio cannot close a transport without ending its connection.
        pass

    async def close_transport(self) -> None:
        try:
            self._writer.close()
            # While a send goes on, or after one that has failed, there are bytes that the peer may never read.
            if self._is_tls and not self.sending.unfinished and self.connection.our_state is not State.ERROR:
                with contextlib.suppress(OSError):
                    async with asyncio.timeout(_TLS_CLOSE_SECONDS):
                        await self._writer.wait_closed()
        finally:
            # Unsent data of a cancelled send would keep the connection open until the peer reads it. TLS has sent its
            # close_notify, and would wait 30 seconds for the peer's.
            self._writer.transport.abort()


class Dialer(AsyncDialer[AsyncioSession]):
    """Makes connections to one engine."""

    sleep = staticmethod(AsyncioSession.sleep)
    within = staticmethod(AsyncioSession.within)

    @staticmethod
    async def shielded(seconds: float, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        async def bounded() -> T:
            async with asyncio.timeout(seconds):
                return await call()

        return await Dialer.finished(seconds, bounded)

    @staticmethod
    async def finished(grace: float, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        clock = asyncio.get_running_loop().time
        cancelled: asyncio.CancelledError | None = None
        end: float | None = None
        task = asyncio.create_task(call())
        with contextlib.ExitStack() as shield:
            while not task.done():
                try:
                    await asyncio.wait({task}, timeout=None if end is None else max(0.0, end - clock()))
                except asyncio.CancelledError as exc:
                    if cancelled is None:
                        cancelled, end = exc, clock() + grace
                        # A cancelled scope of anyio cancels its task again in each turn of the loop.
                        if (anyio := sys.modules.get("anyio")) is not None:
                            shield.enter_context(anyio.CancelScope(shield=True))
                else:
                    if not task.done():
                        task.cancel()
                        end = None
        if cancelled is not None:
            if not task.cancelled():
                task.exception()  # else asyncio reports that nobody has asked for it
            raise cancelled
        return task.result()

    async def open_tcp(self, host: TcpHost) -> socket.socket:
        loop = asyncio.get_running_loop()
        if type(loop).add_reader is asyncio.AbstractEventLoop.add_reader:
            why = f"a {type(loop).__name__} cannot watch sockets: on Windows give asyncio.Runner a SelectorEventLoop"
            raise unreachable(host, why)
        return await _open_tcp(loop, host)

    def make_session(
        self, sock: socket.socket, quirks: Iterable[Quirk], tls: TlsLayer | None, child: SshChild | None
    ) -> AsyncioSession:
        return SocketSession(sock, self.host, quirks=quirks, tls=tls, child=child)


async def _open_tcp(loop: asyncio.AbstractEventLoop, host: TcpHost) -> socket.socket:
    """Connect to the first address of the name that accepts, as ``socket.create_connection`` does."""
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
    try:
        raise failure
    finally:
        del failure  # its traceback refers to this frame
