"""The session and the dialer of the trio adapter."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Iterable
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, TypeVar, cast

import trio

from attachproto import Quirk
from attachproto_adapters._errors import AttachmentClosed
from attachproto_adapters._transport._async_base import AsyncSession
from attachproto_adapters._transport._async_dialer import AsyncDialer
from attachproto_adapters._transport._async_socket import AsyncSocketSession
from attachproto_adapters._transport._async_stream import AsyncStreamSession
from attachproto_adapters._transport._schemes import NonTcpHost, TcpHost
from attachproto_adapters._transport._sockets import READ_SIZE, prepare_tcp

if TYPE_CHECKING:
    from attachproto_adapters._transport._ssh import SshChild
    from attachproto_adapters._transport._tls import TlsLayer

T = TypeVar("T")


class TrioSession(AsyncSession):
    """What both kinds of trio's connections share."""

    errors = (trio.BrokenResourceError,)
    failures = (OSError, trio.BrokenResourceError, AttachmentClosed)
    busy = trio.BusyResourceError

    @staticmethod
    def caller() -> Hashable:
        return trio.lowlevel.current_task()

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


class SocketSession(TrioSession, AsyncSocketSession):
    """A connected socket of our own."""

    checkpoint_if_cancelled = staticmethod(trio.lowlevel.checkpoint_if_cancelled)

    async def wait_readable(self) -> None:
        with contextlib.suppress(trio.ClosedResourceError):
            await trio.lowlevel.wait_readable(self.sock)

    async def wait_writable(self) -> None:
        with contextlib.suppress(trio.ClosedResourceError):
            await trio.lowlevel.wait_writable(self.sock)

    async def close_transport(self) -> None:
        if self.sock.fileno() != -1:
            trio.lowlevel.notify_closing(self.sock)
        self.shut_down()
        self.sock.close()
        await trio.lowlevel.checkpoint()


class StreamSession(TrioSession, AsyncStreamSession):
    """The caller's stream, if it is not a socket."""

    library: ClassVar[ModuleType] = trio
    stream_errors = (OSError, trio.ClosedResourceError)
    _stream: trio.abc.Stream

    @property
    def family(self) -> int | None:
        return None

    @property
    def can_half_close(self) -> bool:
        return isinstance(self._stream, trio.abc.HalfCloseableStream)

    @staticmethod
    def cancelled() -> type[BaseException]:
        return trio.Cancelled

    async def stream_receive(self) -> bytes:
        return bytes(await self._stream.receive_some(READ_SIZE))

    async def stream_send(self, data: bytes) -> None:
        await self._stream.send_all(data)


@trio.lowlevel.enable_ki_protection  # a KeyboardInterrupt between the two calls would leak the descriptor
def _taken_out(stream: trio.SocketStream) -> socket.socket:
    return socket.socket(fileno=stream.socket.detach())


def session_over(stream: trio.abc.Stream, quirks: Iterable[Quirk]) -> TrioSession:
    """A session over the caller's stream. A socket is detached from its stream, so that nothing else reads it."""
    if isinstance(stream, trio.SocketStream):
        return SocketSession(_taken_out(stream), quirks=quirks)
    return StreamSession(stream, quirks=quirks)


class Dialer(AsyncDialer[TrioSession]):
    """Makes connections to one engine."""

    failures = (*AsyncDialer.failures, *TrioSession.errors)
    sleep = staticmethod(TrioSession.sleep)
    within = staticmethod(TrioSession.within)

    @staticmethod
    @trio.lowlevel.enable_ki_protection
    async def shielded(seconds: float, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        async def bounded() -> T:
            with trio.move_on_after(seconds):
                return await call()
            raise TimeoutError(f"timed out: it has not ended within {seconds:g} s")

        with trio.CancelScope(shield=True):
            return await Dialer.finished(seconds, bounded)
        raise AssertionError("nobody cancels this scope")

    # KeyboardInterrupt is raised in the main task where it waits, so the call is made in another one.
    @staticmethod
    @trio.lowlevel.enable_ki_protection
    async def finished(grace: float, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        scope, done = trio.CancelScope(shield=True), trio.Event()
        interruption: BaseException | None = None
        outcome: T | Exception | None = None

        @trio.lowlevel.enable_ki_protection
        async def finish() -> None:
            nonlocal outcome
            try:
                with scope:
                    outcome = await call()
            except Exception as exc:
                outcome = exc  # raised inside the nursery, it would come out as an ExceptionGroup
            finally:
                done.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(finish)
            while not done.is_set():
                try:
                    with trio.CancelScope(shield=interruption is not None):
                        await done.wait()
                except (trio.Cancelled, KeyboardInterrupt) as exc:
                    if interruption is None:
                        interruption, scope.deadline = exc, trio.current_time() + grace
        if interruption is not None:
            raise interruption
        if isinstance(outcome, Exception):
            raise outcome
        return cast("T", outcome)

    async def open_tcp(self, host: TcpHost) -> socket.socket:
        sock = _taken_out(await trio.open_tcp_stream(host.name, host.port))
        prepare_tcp(sock)
        return sock

    async def open_non_tcp(self, host: NonTcpHost) -> tuple[socket.socket, SshChild | None]:
        await trio.lowlevel.checkpoint()
        return await super().open_non_tcp(host)

    def make_session(
        self, sock: socket.socket, quirks: Iterable[Quirk], tls: TlsLayer | None, child: SshChild | None
    ) -> TrioSession:
        return SocketSession(sock, self.host, quirks=quirks, tls=tls, child=child)
