"""What a container printed: one file, and readers that each go through it at their own pace.

Strategy: output is appended to a temporary file that has no name, and everybody reads from there: who attaches, who
wants the logs, who replays first and follows then. So the place between replay and stream is exact, a reader costs a
position and no buffer, and memory does not grow with output or readers. A reader that gates holds the container
back: while it is more than ``_LAG`` behind, ``room()`` waits, which is what stops a container whose client does not
read (dockerd does so at about the same distance).

A record in the file is what one read of the process brought, with its time. Lines, which is what logs are made of,
are cut out when they are read.
"""

from __future__ import annotations

import asyncio
import bisect
import contextlib
import os
import struct
import tempfile
from collections.abc import Iterable, Iterator
from typing import Final

import attrs

STDOUT: Final = 1
STDERR: Final = 2
_RUN_ENDED: Final = 0

_RECORD: Final = struct.Struct(">BQL")

# dockerd's copy buffer, and with it its largest frame.
PIECE: Final = 32 * 1024

# Holds one record at least; more would be memory for each reader that waits.
_BLOCK: Final = _RECORD.size + PIECE

# dockerd holds about 1 MB for each client that does not read.
_LAG: Final = 1024 * 1024

# How large the file of a container gets whose output is not kept.
_UNKEPT: Final = 4 * 1024 * 1024

# So often a place is remembered from where the last lines can be read.
_LANDMARK: Final = 64 * 1024

# What dockerd's json-file driver cuts a longer line into.
_LINE: Final = 16 * 1024


@attrs.frozen
class Record:
    """What one read of a process brought.

    Attributes:
        stream: ``STDOUT`` or ``STDERR``; a terminal's output is ``STDOUT``. Another one ends a run.
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
        size: how much there is, where a reader that has read it all stands.
        broken: it cannot be stored any more; readers come to an end.
    """

    def __init__(self, *, keep: bool = True) -> None:
        """Make it.

        Args:
            keep: for who comes later. Without, only what somebody still has to read is on the disk.
        """
        self._keep = keep
        self._base = 0
        self.broken = False
        self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  # ours until release()
        self.size = 0
        self._cursors: set[Cursor] = set()
        self._moved = asyncio.Event()
        self._gated = True
        self._released = False
        # Of each landmark how many lines had ended there, and where reading must begin to have all after them whole.
        self._landmarks = [(0, 0)]
        self._landmark = 0
        self._newlines = 0
        self._begins: dict[int, int] = {}

    def append(self, stream: int, data: bytes, time: int) -> None:
        """Store output, and wake who waits for it."""
        if not self._keep:
            if stream != _RUN_ENDED and not self._cursors:
                return
            if all(cursor.position == self.size for cursor in self._cursors):
                os.ftruncate(self._file.fileno(), 0)
                self._base = self.size
        record = memoryview(_RECORD.pack(stream, time, len(data)) + data)
        written = 0
        try:
            while written < len(record):
                written += os.pwrite(self._file.fileno(), record[written:], self.size - self._base + written)
        except OSError:
            self.broken = True
            for cursor in self._cursors:
                cursor.more.set()
            raise
        self._note_lines(stream, data)
        self.size += written
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

    def tail(self, lines: int) -> int:
        """A position from where at least so many of the last lines can be read, after at most a few cut ones."""
        wanted = self._newlines - lines
        at = bisect.bisect_right(self._landmarks, wanted, key=lambda landmark: landmark[0]) - 1
        return self._landmarks[max(0, at)][1]

    def end_run(self, time: int) -> None:
        """Mark the end of a run: who attached to it comes to the end of its stream here."""
        with contextlib.suppress(OSError):  # then they come to it without a mark
            self.append(_RUN_ENDED, b"", time)

    def gate(self, closed: bool) -> None:
        """Say whether slow readers hold the container back. When its process is gone there is no one to hold."""
        self._gated = closed
        self._moved.set()

    async def room(self) -> None:
        """Wait until no reader that gates is too far behind."""
        # Where nothing is kept, now and then all of it must have been read, so that the file can begin anew.
        lag = _LAG if self._keep or self.size - self._base < _UNKEPT else 0
        while self._gated and any(self.size - cursor.position > lag for cursor in self._cursors if cursor.gates):
            self._moved.clear()
            await self._moved.wait()

    def read(self, position: int, end: int) -> tuple[list[Record], int]:
        """The next records from ``position`` on that begin before ``end``, and the position behind them."""
        block = os.pread(self._file.fileno(), _BLOCK, position - self._base)
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
        """A reader, from ``position`` on. Close it."""
        cursor = Cursor(self, position, gates=gates)
        self._cursors.add(cursor)
        return cursor

    def forget(self, cursor: Cursor) -> None:
        """Remove a reader."""
        self._cursors.discard(cursor)
        self._moved.set()
        if self._released and not self._cursors:
            self._file.close()

    def moved(self) -> None:
        """A reader has moved."""
        self._moved.set()

    def release(self) -> None:
        """Give the file back when its last reader has left."""
        self._released = True
        if not self._cursors:
            self._file.close()


class Cursor:
    """One reader's place in the log."""

    def __init__(self, log: OutputLog, position: int, *, gates: bool) -> None:
        self._log = log
        self.position = position
        self.gates = gates
        self.more = asyncio.Event()
        self._end: int | None = None

    async def records(self) -> list[Record]:
        """The next records, when there are some; none at the end."""
        while self._end is None and self.position == self._log.size:
            if self._log.broken:
                return []
            self.more.clear()
            await self.more.wait()
        end = self._log.size if self._end is None else self._end
        if self.position >= end:
            return []
        found, self.position = self._log.read(self.position, end)
        self._log.moved()
        return found

    def stop(self) -> None:
        """End at what is there now."""
        if self._end is None:
            self._end = self._log.size
            self.more.set()

    def close(self) -> None:
        """End here."""
        self._end = self.position
        self.more.set()
        self._log.forget(self)


class Lines:
    """Cuts records into lines, as dockerd's log has them: up to their newline, or 16 KiB."""

    def __init__(self) -> None:
        self._begun: dict[int, tuple[int, bytearray]] = {}

    def feed(self, records: Iterable[Record]) -> Iterator[Record]:
        """The lines that these records complete. The end of a run completes what it left open."""
        for record in records:
            if record.ends_run:
                yield from self.flush()
                continue
            for piece in record.data.splitlines(keepends=True) if _plain(record.data) else _cut(record.data):
                time, line = self._begun.pop(record.stream, (record.time, bytearray()))
                line += piece
                while len(line) > _LINE:
                    yield Record(record.stream, time, bytes(line[:_LINE]))
                    del line[:_LINE]
                if line.endswith(b"\n"):
                    yield Record(record.stream, time, bytes(line))
                elif line:
                    self._begun[record.stream] = (time, line)

    def flush(self) -> Iterator[Record]:
        """What has begun and not ended."""
        for stream, (time, line) in sorted(self._begun.items()):
            yield Record(stream, time, bytes(line))
        self._begun.clear()


def _plain(data: bytes) -> bool:
    # bytes.splitlines also splits at a lone carriage return.
    return b"\r" not in data


def _cut(data: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(data):
        end = data.find(b"\n", at) + 1 or len(data)
        yield data[at:end]
        at = end
