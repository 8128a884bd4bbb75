"""The session over a stream of anyio, in either framework."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Hashable, Iterable, Iterator
from typing import NoReturn, TypeVar

import anyio
from anyio.abc import ByteStream, SocketAttribute
from anyio.streams.tls import TLSStream

from attachproto import Quirk
from attachproto_adapters._errors import AttachmentClosed
from attachproto_adapters._transport._async_base import AsyncSession
from attachproto_adapters._transport._sockets import READ_SIZE

T = TypeVar("T")


class ByteStreamSession(AsyncSession):
    """The caller's stream. In asyncio it may send what it was given later, or never."""

    errors = (anyio.BrokenResourceError,)
    failures = (OSError, anyio.BrokenResourceError, AttachmentClosed)
    busy = anyio.BusyResourceError
    drops_unread = True  # asyncio's transport does; a stream does not tell what is below it

    def __init__(self, stream: ByteStream, *, quirks: Iterable[Quirk] = ()) -> None:
        super().__init__(quirks=quirks)
        self._stream = stream
        self._send_over = anyio.Event()
        self._send_over.set()

    @staticmethod
    def caller() -> Hashable:
        return anyio.get_current_task().id

    @staticmethod
    async def sleep(seconds: float) -> None:
        await anyio.sleep(seconds)

    @staticmethod
    async def within(seconds: float, call: Callable[[], Awaitable[T]]) -> T | None:
        with anyio.move_on_after(seconds):
            return await call()
        return None

    def raise_broken(self, why: BaseException) -> NoReturn:
        raise anyio.BrokenResourceError(f"the connection is broken: {why}") from why

    @property
    def family(self) -> int | None:
        return self._stream.extra(SocketAttribute.family, None)

    @property
    def can_half_close(self) -> bool:
        return not isinstance(self._stream, TLSStream)

    async def receive_some(self) -> bytes:
        self.reading.begin()
        try:
            data = await self._stream.receive(READ_SIZE)
        except anyio.get_cancelled_exc_class():
            self.reading.finish()
            raise
        except anyio.ClosedResourceError:
            self.reading.finish()
            raise AttachmentClosed("the attachment was closed while it was being read") from None
        except anyio.EndOfStream:
            await self._end_send()
            self._check_end()
            return b""
        return data

    async def _end_send(self) -> None:
        """At end of file: end a send of another task, and wait for it, because it may report a reset.

        The attachment is closed at the end of its output anyway.
        """
        if not self._send_over.is_set():
            with anyio.CancelScope(shield=True):
                await anyio.aclose_forcefully(self._stream)
                await self._send_over.wait()

    async def send_all(self, data: bytes) -> None:
        self._send_over = anyio.Event()
        try:
            with self._named_errors():
                await self._stream.send(data)
        finally:
            self._send_over.set()

    async def half_close(self) -> None:
        with self._named_errors():
            await self._stream.send_eof()

    @contextlib.contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError) as exc:
            self.check_not_closed("sending")
            raise anyio.BrokenResourceError(f"the engine has closed the connection: {exc}") from exc

    async def close_transport(self) -> None:
        await self._stream.aclose()

    def let_go(self) -> None:
        # anyio cannot close a stream without ending its connection.
        pass
