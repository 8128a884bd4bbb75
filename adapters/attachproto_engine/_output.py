"""The output of a container: one log, which each reader reads at its own speed.

Strategy: output is appended to a temporary file without a name. Attach, logs, and replay followed by output all read
from there. So the boundary between replay and new output is exact, a reader costs one position and no buffer, and
memory does not grow with output or readers. A reader with ``gates`` slows the container down: while it is more than
``_LAG`` bytes behind, ``room()`` waits, and the process's pipe fills. dockerd does so at about the same distance.

What is kept is bounded. A reader without ``gates`` that is too far behind goes on where the oldest output begins.

A record holds what one read from the process returned, and its time. Lines, for logs, are cut when they are
read.
"""

from __future__ import annotations

import asyncio
import bisect
import contextlib
import struct
from typing import Final

import attrs

from attachproto_engine._errors import ContainerRemoved
from attachproto_engine._log_files import LogFiles

STDOUT: Final = 1
STDERR: Final = 2
_RUN_ENDED: Final = 0

_RECORD: Final = struct.Struct(">BQL")

# The size of dockerd's copy buffer, and so of its largest frame.
PIECE: Final = 32 * 1024

# Large enough for one record. A larger block would cost memory for each waiting reader.
_BLOCK: Final = _RECORD.size + PIECE

# dockerd holds about 1 MB for each client that does not read.
_LAG: Final = 1024 * 1024

# The largest file of a container whose output is not kept (log driver none).
_UNKEPT: Final = 4 * 1024 * 1024

# Of output that is kept. dockerd's json-file driver has no bound unless it is asked for one, and fills the disk.
_FILE_MAX: Final = 512 * 1024 * 1024

# After so many bytes a landmark is stored: a position from where the last lines can be read.
_LANDMARK: Final = 64 * 1024


@attrs.frozen
class Record:
    """What one read from a process returned.

    Attributes:
        stream: ``STDOUT`` or ``STDERR``; a terminal's output is ``STDOUT``. Any other value marks the end of a run.
        time: when it was read, in nanoseconds since the epoch.
        data: at most ``PIECE`` bytes.
    """

    stream: int
    time: int
    data: bytes

    @property
    def ends_run(self) -> bool:
        """Whether it is the mark between two runs of the container."""
        return self.stream == _RUN_ENDED


class OutputLog:
    """The output of a container, over all of its runs.

    Attributes:
        size: the position behind the last record.
        broken: output cannot be written to the file any more; readers then get an end.
        released: the container was removed.
    """

    def __init__(self, *, keep: bool = True) -> None:
        """Make it.

        Args:
            keep: keep output for later readers. If false, the file holds only what a present reader has not read.
        """
        self._keep = keep
        self.broken = False
        self._files = LogFiles(_FILE_MAX)
        self.size = 0
        self._cursors: set[Cursor] = set()
        self._moved = asyncio.Event()
        self._gated = True
        self.released = False
        # Each landmark: how many lines had ended there, and from where to read so that all later lines are whole.
        self._landmarks = [(0, 0)]
        self._landmark = 0
        self._newlines = 0
        self._begins: dict[int, int] = {}

    def append(self, stream: int, data: bytes, time: int) -> None:
        """Append output, and wake the readers that wait for it. Of a removed container nobody can read it any more."""
        if self._files.closed:
            return
        if not self._keep:
            if stream != _RUN_ENDED and not self._cursors:
                return
            if all(cursor.position == self.size for cursor in self._cursors):
                self._files.forget(self.size)
        record = memoryview(_RECORD.pack(stream, time, len(data)) + data)
        try:
            self._files.write(record, self.size)
        except OSError:
            self.broken = True
            for cursor in self._cursors:
                cursor.more.set()
            raise
        self._note_lines(stream, data)
        self.size += len(record)
        for cursor in self._cursors:
            cursor.more.set()

    def _note_lines(self, stream: int, data: bytes) -> None:
        if newlines := data.count(b"\n"):
            self._newlines += newlines
            self._begins.pop(stream, None)
        if stream == _RUN_ENDED:
            self._begins.clear()
        if data and not data.endswith(b"\n"):
            self._begins.setdefault(stream, self.size)
        if self.size - self._landmark > _LANDMARK:
            self._landmark = self.size
            self._landmarks.append((self._newlines, min(self._begins.values(), default=self.size)))
            # The last one before what is kept stays, for the lines between it and the next one.
            dropped = bisect.bisect_right(self._landmarks, self._files.oldest, key=lambda landmark: landmark[1]) - 1
            del self._landmarks[: max(0, dropped)]

    def tail(self, lines: int) -> int:
        """A position from where at least so many of the last lines can be read. A few cut lines may come first."""
        wanted = self._newlines - lines
        at = bisect.bisect_right(self._landmarks, wanted, key=lambda landmark: landmark[0]) - 1
        return self._landmarks[max(0, at)][1]

    def end_run(self, time: int) -> None:
        """Mark the end of a run. The stream of every client that is attached ends here."""
        with contextlib.suppress(OSError):  # broken readers end without the mark
            self.append(_RUN_ENDED, b"", time)

    def gate(self, closed: bool) -> None:
        """Set whether slow readers slow the container down. After its process has ended, nothing is slowed down."""
        self._gated = closed
        self._moved.set()

    async def room(self) -> None:
        """Wait until no reader with ``gates`` is too far behind."""
        # If nothing is kept, the file can start again only when everything has been read.
        lag = _LAG if self._keep or self.size - self._files.begin < _UNKEPT else 0
        while self._gated and any(self.size - cursor.position > lag for cursor in self._cursors if cursor.gates):
            self._moved.clear()
            await self._moved.wait()

    def read(self, position: int, end: int) -> tuple[list[Record], int]:
        """Read records that begin between ``position`` and ``end``. Returns them, and the position behind them.

        There are none where output is not kept any more; the position is then that of the oldest which is kept. Where
        the container was removed it is the end: a client that has half-closed has no cursor, and may still be reading.
        """
        if self._files.closed:
            return [], end
        if position < self._files.oldest:
            return [], self._files.oldest
        block = self._files.read(position, _BLOCK)
        records = []
        at = 0
        while position + at < end and at + _RECORD.size <= len(block):
            stream, time, length = _RECORD.unpack_from(block, at)
            if at + _RECORD.size + length > len(block):
                break
            at += _RECORD.size
            records.append(Record(stream, time, block[at : at + length]))
            at += length
        return records, position + at

    def follow(self, position: int, *, gates: bool) -> Cursor:
        """A new reader that starts at ``position``. The caller closes it."""
        cursor = Cursor(self, position, gates=gates)
        self._cursors.add(cursor)
        return cursor

    def forget(self, cursor: Cursor) -> None:
        """Remove a reader."""
        self._cursors.discard(cursor)
        self._moved.set()
        if self.released and not self._cursors:
            self._files.close()

    def moved(self) -> None:
        """A reader has moved."""
        self._moved.set()

    def release(self) -> None:
        """Close the files once their last reader is closed."""
        self.released = True
        for cursor in self._cursors:
            cursor.more.set()
        if not self._cursors:
            self._files.close()


class Cursor:
    """One reader, and its position in the log."""

    def __init__(self, log: OutputLog, position: int, *, gates: bool) -> None:
        self._log = log
        self.position = position
        self.gates = gates
        self.more = asyncio.Event()
        self._end: int | None = None

    async def records(self) -> list[Record]:
        """Wait for the next records; an empty list at the end.

        Raises:
            ContainerRemoved: there are no more, because the container was removed while it did not run.
        """
        while self._end is None and self.position == self._log.size:
            if self._log.broken:
                return []
            if self._log.released:
                raise ContainerRemoved
            self.more.clear()
            await self.more.wait()
        end = self._log.size if self._end is None else self._end
        found: list[Record] = []
        while not found and self.position < end:
            found, self.position = self._log.read(self.position, end)
            self._log.moved()
        return found

    def stop(self) -> None:
        """End behind the last record that is there now."""
        if self._end is None:
            self._end = self._log.size
            self.more.set()

    def close(self) -> None:
        """End at the present position."""
        self._end = self.position
        self.more.set()
        self._log.forget(self)
