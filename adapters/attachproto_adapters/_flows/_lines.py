"""Splits output into lines of text, each stream by itself."""

from __future__ import annotations

import codecs
import itertools
import operator
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from attachproto import DataEvent, OutputClosed, OutputEvent
from attachproto_adapters._flows._line import Line
from attachproto_adapters._flows._line_stream import LineStream, ProgressStream

if TYPE_CHECKING:
    from attachproto_adapters._flows._line_times import TimeReader

# What a log driver keeps of a line is 16 KiB (moby); a JSON document printed on one line fits here.
LINE_MAX = 1024 * 1024


class LineSplitter:
    r"""Turns events into lines. Bytes that were not returned as a line can be taken back.

    Args:
        encoding: the encoding of the text; Python must have an incremental decoder for it.
        errors: what to do with bytes that cannot be decoded, as for ``bytes.decode``.
        max_length: how many characters a line may have. A longer line comes in pieces of this length, so nothing is
            lost and memory is limited.
        progress: whether a ``\r`` without ``\n`` behind it ends a line too.
        timestamps: whether each line begins with a time.

    Attributes:
        ended: the last event was ``OutputClosed``.

    Raises:
        LookupError: there is no such encoding.
        ValueError: ``max_length`` is below 1.
    """

    def __init__(
        self,
        encoding: str = "utf-8",
        errors: str = "replace",
        max_length: int = LINE_MAX,
        progress: bool = False,
        timestamps: bool = False,
    ) -> None:
        if max_length < 1:
            raise ValueError(f"max_length is at least 1, not {max_length}")
        b" ".decode(encoding, "ignore")  # raises for codecs that do not make text of bytes, such as hex
        decoder = codecs.getincrementaldecoder(encoding)
        codecs.lookup_error(errors)
        self.ended = False
        self._new_decoder: Callable[[], codecs.IncrementalDecoder] = lambda: decoder(errors)
        self._max_length = max_length
        self._stream_class = ProgressStream if progress else LineStream
        self._timestamps = timestamps
        self._streams: dict[type[DataEvent], LineStream] = {}
        self._numbers = itertools.count()
        # The streams that may have a line: that of the last event, or all of them at the end.
        self._ready: deque[LineStream] = deque()

    def add(self, event: OutputEvent) -> None:
        """Add an event. Call it only after ``next_line`` has returned ``None``."""
        if isinstance(event, OutputClosed):
            self.ended = True
            for each in self._streams.values():
                each.end()
            self._ready.extend(self._streams.values())
            return
        kind = type(event)
        if kind not in self._streams:
            self._streams[kind] = self._stream_class(kind, self._new_decoder, self._max_length, self._time_reader())
        stream = self._streams[kind]
        stream.add(event.data, next(self._numbers))
        self._ready.append(stream)

    def _time_reader(self) -> TimeReader | None:
        if not self._timestamps:
            return None
        from attachproto_adapters._flows._line_times import TimeReader  # late: it loads datetime

        return TimeReader()

    def next_line(self) -> Line | None:
        """The next line; ``None`` if another event is needed. At the end of the output also an unfinished line.

        Raises:
            UnicodeDecodeError: bytes cannot be decoded, and ``errors`` is ``"strict"``. They are in the error. Each
                further call raises it again, and ``take_back`` returns the bytes.
        """
        while self._ready:
            if (line := self._ready[0].next_line()) is not None:
                return line
            self._ready.popleft()
        return None

    @property
    def holds_bytes(self) -> bool:
        """Whether ``take_back`` may return something."""
        return any(stream.chunks for stream in self._streams.values())

    def take_back(self) -> list[DataEvent]:
        """Remove and return the bytes that were not returned as lines, in the order in which they came."""
        self._ready.clear()
        self.ended = False
        unread = [each for stream in self._streams.values() for each in stream.take_back()]
        return [kind(data) for _, kind, data in sorted(unread, key=operator.itemgetter(0))]
