"""What a reader of stdout has read ahead, and which bytes of it each kind of read takes.

Strategy: a method returns the bytes, or ``None`` if another event is needed; the framework's reader then adds one and
asks again. The bytes are in one ``bytearray``: CPython deletes from its beginning without moving the rest. A search
goes on where the last one has ended, so that a separator behind many small events is found in linear time.
"""

from __future__ import annotations

from typing import Final

from attachproto import DataEvent, OutputClosed, OutputEvent, RawOutput, Stderr, Stdout, Systemerr
from attachproto_adapters._errors import EngineReportedError, IncompleteRead, SeparatorNotFound
from attachproto_adapters._flows._arguments import check_count, check_int

# As many bytes as asyncio's StreamReader takes before a separator by default.
LIMIT: Final = 64 * 1024

_STDERR_KEPT: Final = 64 * 1024

# Of what the engine reports in frames of type 3. It is a sentence; a hostile engine may send it for ever.
_SYSTEMERR_KEPT: Final = 64 * 1024


class StdoutBuffer:
    """The bytes of stdout that were read and not taken, and the last of stderr.

    Attributes:
        limit: how many bytes may come before a separator.
        ended: the output has ended.
    """

    def __init__(self) -> None:
        self.limit = LIMIT
        self.ended = False
        self._kind: type[Stdout | RawOutput] = Stdout
        self._data = bytearray()
        self._separator = b""
        self._searched = 0
        self._stderr = bytearray()
        self._systemerr = bytearray()

    def add(self, event: OutputEvent) -> bytes:
        """Add an event. Returns its bytes if they are stderr, else ``b""``."""
        match event:
            case Stdout(data=data) | RawOutput(data=data):
                self._kind = type(event)
                self._data += data
            case Stderr(data=data):
                self._stderr += data
                if len(self._stderr) > 2 * _STDERR_KEPT:
                    del self._stderr[:-_STDERR_KEPT]
                return data
            case Systemerr(data=data):
                self._systemerr += data[: _SYSTEMERR_KEPT - len(self._systemerr)]
            case OutputClosed():
                self.ended = True
        return b""

    @property
    def stderr(self) -> bytes:
        """The last 64 KiB of stderr."""
        return bytes(self._stderr[-_STDERR_KEPT:])

    @property
    def holds_bytes(self) -> bool:
        """Whether ``take_back`` may return something."""
        return bool(self._data)

    def take_back(self) -> list[DataEvent]:
        """Remove and return the bytes of stdout that were not taken."""
        self.ended = False  # it will come again
        return [self._kind(self._take(len(self._data)))] if self._data else []

    def read(self, n: int = -1) -> bytes | None:
        """Up to ``n`` bytes; all up to the end if it is negative; ``b""`` at the end."""
        check_int("n", n)
        if n == 0 or (n > 0 and self._data) or self.ended:
            if self.ended and n != 0 and not self._data:
                self._raise_reported()
            return self._take(len(self._data) if n < 0 else n)
        return None

    def readexactly(self, n: int) -> bytes | None:
        """``n`` bytes.

        Raises:
            IncompleteRead: the output has ended before; it has the bytes, and they are taken.
        """
        check_count("n", n)
        if len(self._data) >= n:
            return self._take(n)
        if self.ended:
            self._raise_incomplete(n)
        return None

    def readuntil(self, separator: bytes = b"\n") -> bytes | None:
        """The bytes up to and with the separator.

        Raises:
            IncompleteRead: the output has ended before; it has the bytes, and they are taken.
            SeparatorNotFound: it is not within the limit. Nothing is taken.
        """
        if not isinstance(separator, bytes):
            raise TypeError(f"a separator is bytes such as b'\\r\\n', not {separator!r}")
        if not separator:
            raise ValueError("the separator is empty")
        if separator != self._separator:
            self._separator, self._searched = separator, 0
        at = self._data.find(separator, self._searched)
        # Where it may begin, if it comes at all.
        start = at if at >= 0 else max(0, len(self._data) + 1 - len(separator))
        if start > self.limit:
            raise SeparatorNotFound(
                f"the first {self.limit} bytes have no {separator!r}: read them with read(), or raise the limit"
            )
        if at >= 0:
            return self._take(at + len(separator))
        self._searched = start
        if self.ended:
            self._raise_incomplete(None)
        return None

    def readline(self) -> bytes | None:
        """The bytes up to and with the next newline; what is left at the end; ``b""`` if nothing is.

        Raises:
            SeparatorNotFound: it is not within the limit. Nothing is taken.
        """
        try:
            return self.readuntil()
        except IncompleteRead as exc:
            return exc.partial

    def _take(self, size: int) -> bytes:
        self._searched = 0
        with memoryview(self._data) as view, view[:size] as part:
            taken = bytes(part)
        del self._data[:size]
        return taken

    def _raise_incomplete(self, expected: int | None) -> None:
        self._raise_reported()
        partial = self._take(len(self._data))
        wanted = "the separator" if expected is None else f"{expected} bytes"
        raise IncompleteRead(f"the output has ended after {len(partial)} bytes, before {wanted}", partial, expected)

    def _raise_reported(self) -> None:
        if self._systemerr:
            raise EngineReportedError(self._systemerr.decode("utf-8", "replace").strip(), b"", self.stderr)
