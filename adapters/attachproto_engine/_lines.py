"""Lines, which logs are made of, cut out of a container's output."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from attachproto_engine._output import Record

# dockerd's json-file driver cuts longer lines into pieces of this size.
_LINE: Final = 16 * 1024


class Lines:
    """Cuts records into lines as dockerd's log does: each ends with its newline, or after 16 KiB."""

    def __init__(self) -> None:
        self._begun: dict[int, tuple[int, bytearray]] = {}

    def feed(self, records: Iterable[Record]) -> Iterator[Record]:
        """The lines that these records complete. The end of a run completes every open line."""
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
        """The lines that have begun and have no newline yet."""
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
