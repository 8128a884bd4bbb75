"""The session over a stream of the caller's own, as trio and anyio share it.

Strategy: trio and anyio have the same names for what is needed of them: ``Event``, ``CancelScope``, the errors of a
resource. A subclass names its framework in ``library``, and reads and sends in its way.
"""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Any, ClassVar

from attachproto import Quirk
from attachproto_adapters._errors import AttachmentClosed
from attachproto_adapters._transport._async_base import AsyncSession


class AsyncStreamSession(AsyncSession):
    """A stream that the caller has connected. Only one task reads from it, and only one sends."""

    library: ClassVar[ModuleType]
    """``trio`` or ``anyio``."""

    stream_errors: ClassVar[tuple[type[Exception], ...]]
    """What a send may raise in place of a ``BrokenResourceError`` that names its cause."""

    def __init__(self, stream: Any, *, quirks: Iterable[Quirk] = ()) -> None:
        super().__init__(quirks=quirks)
        self._stream = stream
        self._send_over = self.library.Event()
        self._send_over.set()

    @staticmethod
    @abc.abstractmethod
    def cancelled() -> type[BaseException]:
        """The exception of a cancelled call."""

    @abc.abstractmethod
    async def stream_receive(self) -> bytes:
        """What came; ``b""`` at the end."""

    @abc.abstractmethod
    async def stream_send(self, data: bytes) -> None:
        """Send all of it."""

    async def receive_some(self) -> bytes:
        self.reading.begin()
        try:
            data = await self.stream_receive()
        except self.cancelled():
            self.reading.finish()
            raise
        except self.library.ClosedResourceError:
            self.reading.finish()
            raise AttachmentClosed("the attachment was closed while it was being read") from None
        if not data:
            await self._end_send()
            self._check_end()
        return data

    async def _end_send(self) -> None:
        """At end of file: end a send of another task, and wait for it, because it may report a reset.

        The attachment is closed at the end of its output anyway.
        """
        if not self._send_over.is_set():
            with self.library.CancelScope(shield=True):
                await self.library.aclose_forcefully(self._stream)
                await self._send_over.wait()

    async def send_all(self, data: bytes) -> None:
        self._send_over = self.library.Event()
        try:
            with self._named_errors():
                await self.stream_send(data)
        finally:
            self._send_over.set()

    async def half_close(self) -> None:
        with self._named_errors():
            await self._stream.send_eof()

    @contextlib.contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except self.stream_errors as exc:
            self.check_not_closed("sending")
            raise self.library.BrokenResourceError(f"the engine has closed the connection: {exc}") from exc

    async def close_transport(self) -> None:
        await self._stream.aclose()

    def let_go(self) -> None:
        # Neither framework can close a stream without ending its connection.
        pass
