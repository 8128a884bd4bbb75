"""The reader of stdout that asyncio and trio share: see ``_stdout_reader``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

from attachproto import OutputEvent
from attachproto_adapters._stdout_reader import AnySource, ReaderBase
from attachproto_adapters._transport._guard import Guard


class Source(AnySource, Protocol):
    """An attachment of asyncio or trio."""

    async def _next(self) -> OutputEvent: ...


class StdoutReader(ReaderBase):
    """The stdout of an attachment as a stream of bytes. Errors are those of ``blocking.StdoutReader``.

    A read that is cancelled has taken nothing: make it again.
    """

    def __init__(self, source: Source, reading: Guard) -> None:
        super().__init__(reading)
        self._source = source

    async def read(self, n: int = -1) -> bytes:
        """Up to ``n`` bytes, and at least one; without ``n`` all up to the end. At the end ``b""``."""
        return await self._read(partial(self._buffer.read, n))

    async def readexactly(self, n: int) -> bytes:
        """``n`` bytes; raises ``IncompleteRead`` if the output has ended before."""
        return await self._read(partial(self._buffer.readexactly, n))

    async def readuntil(self, separator: bytes = b"\n") -> bytes:
        """All bytes up to the separator, and the separator itself; raises ``SeparatorNotFound`` beyond the limit."""
        return await self._read(partial(self._buffer.readuntil, separator))

    async def readline(self) -> bytes:
        r"""A line with its ``\n``; at the end of the output what is left, and then ``b""``."""
        return await self._read(self._buffer.readline)

    async def _read(self, ask: Callable[[], bytes | None]) -> bytes:
        reading = self._reading
        reading.check()
        self._source._take_back(self._buffer)
        while (data := self._ask(ask)) is None:
            with reading:
                self._add(await self._source._next())
        return reading.hand_over(data)
