"""Where the output of a container is stored: a temporary file without a name, or two of them, so that it is bounded.

When the newer file is full, the older one is closed and another one begins. Positions count all bytes that were ever
written, so that they stay valid.
"""

from __future__ import annotations

import os
import tempfile
from io import FileIO

from attachproto_engine._forks import close_in_forked_child


class LogFiles:
    """Bytes at positions, of which the last ones are kept.

    Attributes:
        begin: where the newer file begins.
        oldest: the first position that is kept.
    """

    def __init__(self, limit: int) -> None:
        """Make it.

        Args:
            limit: a file of this size in bytes is full. Twice as many are kept at most.

        Raises:
            OSError: a file cannot be made.
        """
        self._limit = limit
        self.begin = self.oldest = 0
        self._file = _new_file()
        self._older = self._file

    def write(self, data: memoryview, position: int) -> None:
        """Write behind what was written before.

        Raises:
            OSError: they cannot be written.
        """
        if position - self.begin > self._limit:
            file = _new_file()
            if self._older is not self._file:
                self._older.close()
            self._older, self._file = self._file, file
            self.oldest, self.begin = self.begin, position
        written = 0
        while written < len(data):
            written += os.pwrite(self._file.fileno(), data[written:], position - self.begin + written)

    def forget(self, position: int) -> None:
        """Keep nothing before the end, which is at this position."""
        os.ftruncate(self._file.fileno(), 0)
        self.begin = self.oldest = position

    def read(self, position: int, size: int) -> bytes:
        """Up to so many bytes. They must be kept."""
        if position < self.begin:
            return os.pread(self._older.fileno(), min(size, self.begin - position), position - self.oldest)
        return os.pread(self._file.fileno(), size, position - self.begin)

    @property
    def closed(self) -> bool:
        """Whether the files are closed, so that nothing can be read or written any more."""
        return self._file.closed

    def close(self) -> None:
        """Close the files."""
        self._older.close()
        self._file.close()


def _new_file() -> FileIO:
    # Open in a forked child, it would take up its space on the disk after the engine's end.
    return close_in_forked_child(tempfile.TemporaryFile(buffering=0), FileIO.close)
