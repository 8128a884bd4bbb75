"""Readers of stdout, as a stream of bytes without events: for protocols whose messages have a length or an end mark.

Strategy: ``StdoutBuffer`` decides what a read takes. The classes here add an event when it needs one, and keep the
rules of ``Guard``. They know an attachment only as ``Source``. The reader of asyncio and trio is in
``_async_stdout_reader``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

from attachproto import OutputEvent
from attachproto_adapters._flows._output import ReadAhead
from attachproto_adapters._flows._stdout_buffer import StdoutBuffer
from attachproto_adapters._read_ahead import store
from attachproto_adapters._transport._guard import Guard

OnStderr = Callable[[bytes], object]


class AnySource(Protocol):
    """What a reader needs of an attachment, in every framework."""

    def _take_back(self, reader: ReadAhead | None = None) -> None: ...


class Source(AnySource, Protocol):
    """A blocking attachment."""

    def _next(self) -> OutputEvent: ...


class ReaderBase:
    """The part of a reader that is the same in every framework."""

    def __init__(self, reading: Guard) -> None:
        self._buffer = StdoutBuffer()
        self._reading = reading
        self._on_stderr: OnStderr | None = None

    def _set(self, on_stderr: OnStderr | None, limit: int) -> None:
        if limit < 1:
            raise ValueError(f"limit is at least 1, not {limit}")
        self._on_stderr = on_stderr
        self._buffer.limit = limit

    @property
    def stderr(self) -> bytes:
        """The last 64 KiB of what has come on stderr, whether or not there is a callback."""
        return self._buffer.stderr

    def _ask(self, ask: Callable[[], bytes | None]) -> bytes | None:
        """The bytes, if they are there. Then it starts a step of reading, which the caller finishes."""
        self._reading.begin()
        try:
            data = ask()
        except Exception:  # what it takes is in the error
            self._reading.finish()
            raise
        if data is None:
            self._reading.finish()
        return data

    def _add(self, event: OutputEvent) -> None:
        stderr = store(event, self._buffer.add, self._reading)
        if stderr and self._on_stderr is not None:
            self._on_stderr(stderr)


class StdoutReader(ReaderBase):
    """The stdout of an attachment, or its raw output, as a stream of bytes; ``Attachment.stdout_reader`` makes it.

    Reading raises what ``Attachment.receive`` raises. After a timeout nothing is lost: make the call again.
    """

    def __init__(self, source: Source, reading: Guard) -> None:
        super().__init__(reading)
        self._source = source

    def read(self, n: int = -1) -> bytes:
        """Up to ``n`` bytes, and at least one; without ``n`` all up to the end. At the end ``b""``.

        Raises:
            EngineReportedError: the output has ended, and the engine put an error of its own into it.
        """
        return self._read(partial(self._buffer.read, n))

    def readexactly(self, n: int) -> bytes:
        """``n`` bytes.

        Raises:
            IncompleteRead: the output has ended before; what has come is in the error.
            EngineReportedError: it has, and the engine put an error of its own into it. Nothing was taken.
        """
        return self._read(partial(self._buffer.readexactly, n))

    def readuntil(self, separator: bytes = b"\n") -> bytes:
        """All bytes up to the separator, and the separator itself.

        Raises:
            IncompleteRead, EngineReportedError: as for ``readexactly``.
            SeparatorNotFound: more than ``limit`` bytes came without it. Nothing was taken.
        """
        return self._read(partial(self._buffer.readuntil, separator))

    def readline(self) -> bytes:
        r"""A line with its ``\n``; at the end of the output what is left, and then ``b""``.

        Raises:
            EngineReportedError, SeparatorNotFound: as for ``readuntil``.
        """
        return self._read(self._buffer.readline)

    def _read(self, ask: Callable[[], bytes | None]) -> bytes:
        reading = self._reading
        reading.enter()
        try:
            self._source._take_back(self._buffer)
            while (data := self._ask(ask)) is None:
                self._add(self._source._next())
        except BaseException:
            reading.leave()
            raise
        return reading.hand_over(data)
