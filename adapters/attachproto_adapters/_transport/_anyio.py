"""The session over a stream of anyio, in either framework."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from types import ModuleType
from typing import ClassVar, NoReturn, TypeVar

import anyio
from anyio.abc import ByteStream, SocketAttribute
from anyio.streams.tls import TLSStream

from attachproto_adapters._errors import AttachmentClosed
from attachproto_adapters._transport._async_stream import AsyncStreamSession
from attachproto_adapters._transport._sockets import READ_SIZE

T = TypeVar("T")


class ByteStreamSession(AsyncStreamSession):
    """The caller's stream. In asyncio it may send what it was given later, or never."""

    errors = (anyio.BrokenResourceError,)
    failures = (OSError, anyio.BrokenResourceError, AttachmentClosed)
    busy = anyio.BusyResourceError
    drops_unread = True  # asyncio's transport does; a stream does not tell what is below it

    library: ClassVar[ModuleType] = anyio
    stream_errors = (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError)
    _stream: ByteStream

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

    @staticmethod
    def cancelled() -> type[BaseException]:
        return anyio.get_cancelled_exc_class()

    async def stream_receive(self) -> bytes:
        try:
            return await self._stream.receive(READ_SIZE)
        except anyio.EndOfStream:
            return b""

    async def stream_send(self, data: bytes) -> None:
        await self._stream.send(data)
