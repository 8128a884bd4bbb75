"""The session and the dialer of the trio adapter."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Awaitable, Callable, Iterable
from typing import NoReturn, TypeVar

import trio

from attachproto import Quirk
from attachproto_adapters._errors import AttachmentClosed
from attachproto_adapters._transport._async_base import AsyncDialer, AsyncSession
from attachproto_adapters._transport._schemes import Host, TcpHost
from attachproto_adapters._transport._sockets import READ_SIZE, prepare_tcp
from attachproto_adapters._transport._ssh import SshChild
from attachproto_adapters._transport._tls import TlsLayer

T = TypeVar("T")


class StreamSession(AsyncSession):
    """A stream and the state machine that speaks on it."""

    errors = (trio.BrokenResourceError,)

    def __init__(
        self,
        stream: trio.abc.Stream,
        host: Host | None = None,
        *,
        quirks: Iterable[Quirk] = (),
        tls: TlsLayer | None = None,
        child: SshChild | None = None,
    ) -> None:
        super().__init__(host, quirks=quirks, tls=tls, child=child)
        self.stream = stream
        # Of a socket it can be said; of other streams, which only send all, it cannot.
        self.cancel_safe_send = isinstance(stream, trio.SocketStream)

    @property
    def family(self) -> int | None:
        return self.stream.socket.family if isinstance(self.stream, trio.SocketStream) else None

    @property
    def can_half_close(self) -> bool:
        return isinstance(self.stream, trio.abc.HalfCloseableStream)

    async def receive_some(self) -> bytes:
        try:
            return bytes(await self.stream.receive_some(READ_SIZE))
        except trio.ClosedResourceError:
            raise AttachmentClosed("the attachment was closed while it was being read") from None

    async def send_some(self, data: memoryview) -> int:
        try:
            if isinstance(self.stream, trio.SocketStream):
                return await self.stream.socket.send(data)
            await self.stream.send_all(data)
        except (OSError, trio.ClosedResourceError) as exc:
            self.check_not_closed("sending")
            raise trio.BrokenResourceError(f"the engine has closed the connection: {exc}") from exc
        return len(data)

    async def send_eof(self) -> None:
        assert isinstance(self.stream, trio.abc.HalfCloseableStream)
        try:
            if isinstance(self.stream, trio.SocketStream):
                # Its own send_eof() may be cancelled before it has done anything.
                self.stream.socket.shutdown(socket.SHUT_WR)
            else:
                await self.stream.send_eof()
        except (OSError, trio.ClosedResourceError) as exc:
            self.check_not_closed("sending")
            raise trio.BrokenResourceError(f"the engine has closed the connection: {exc}") from exc

    async def close_transport(self) -> None:
        if isinstance(self.stream, trio.SocketStream):
            # Whoever else has this socket (a child of ours that forked) would keep the connection open.
            with contextlib.suppress(OSError):
                self.stream.socket.shutdown(socket.SHUT_RDWR)
        await self.stream.aclose()

    @staticmethod
    async def sleep(seconds: float) -> None:
        await trio.sleep(seconds)

    @staticmethod
    async def within(seconds: float, call: Callable[[], Awaitable[T]]) -> T | None:
        with trio.move_on_after(seconds):
            return await call()
        return None

    def raise_broken(self, why: BaseException) -> NoReturn:
        raise trio.BrokenResourceError(f"the connection is broken: {why}") from why


class Dialer(AsyncDialer[StreamSession]):
    """Makes connections to one engine."""

    failures = (*AsyncDialer.failures, *StreamSession.errors)
    sleep = staticmethod(StreamSession.sleep)

    async def connect(self, quirks: Iterable[Quirk], tls: TlsLayer | None) -> StreamSession:
        host, child = self.host, None
        if isinstance(host, TcpHost):
            stream = await trio.open_tcp_stream(host.name, host.port)
            prepare_tcp(stream.socket)
        else:
            await trio.lowlevel.checkpoint()
            sock, child = await self.open_non_tcp(host)
            stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
        return StreamSession(stream, host, quirks=quirks, tls=tls, child=child)
