"""One stream of output as lines: what was decoded and not returned yet, and the bytes it was decoded from."""

from __future__ import annotations

import bisect
import codecs
import contextlib
import re
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from attachproto import DataEvent
from attachproto_adapters._flows._line import Line

if TYPE_CHECKING:
    from attachproto_adapters._flows._line_times import TimeReader

_LINE_END = re.compile("[\r\n]")


class _Chunk:
    """The bytes of one event. A character that is cut at its end is in the next chunk instead.

    Attributes:
        number: the number of the event.
        state: the state of the decoder before these bytes.
        data: the bytes.
        size: how many characters they are.
    """

    __slots__ = ("data", "number", "size", "state")

    def __init__(self, number: int, state: int, data: bytes) -> None:
        self.number = number
        self.state = state
        self.data = data
        self.size = 0


class LineStream:
    """One stream: the text that was not returned yet, and the bytes from which it was decoded.

    Text is kept in pieces until it holds a line or is too long, so each character is copied once.

    Attributes:
        chunks: those bytes.
    """

    def __init__(
        self,
        kind: type[DataEvent],
        new_decoder: Callable[[], codecs.IncrementalDecoder],
        max_length: int,
        times: TimeReader | None,
    ) -> None:
        self._kind = kind
        self._new_decoder = new_decoder
        self._decoder = new_decoder()
        self._max_length = max_length
        self._times = times
        self._reset()

    def _reset(self) -> None:
        self._text = ""
        self._at = 0
        self._pieces: list[str] = []
        self._size = 0
        self.chunks: deque[_Chunk] = deque()
        # How many characters of the chunks come before the text.
        self._before = 0
        self._ended = False
        self._error: UnicodeError | None = None
        if self._times is not None:
            self._times.forget()

    def add(self, data: bytes, number: int) -> None:
        begun, state = self._decoder.getstate()
        if begun and self.chunks:
            self.chunks[-1].data = self.chunks[-1].data[: -len(begun)]
        chunk = _Chunk(number, state, begun + data)
        self.chunks.append(chunk)
        chunk.size = self._decode(data)
        while len(self.chunks) > 1 and self.chunks[0].size <= self._before + self._at:
            self._before -= self.chunks.popleft().size

    def end(self) -> None:
        size = self._decode(b"", final=True)
        if self.chunks:
            self.chunks[-1].size += size
        self._ended = True
        self._join()

    def _decode(self, data: bytes, *, final: bool = False) -> int:
        try:
            piece = self._decoder.decode(data, final)
        except UnicodeError as exc:  # UTF-16 without a byte order mark raises UnicodeError
            self._error = exc
            return 0
        self._pieces.append(piece)
        self._size += len(piece)
        # One more than the limit, because a \r before the \n does not count.
        if self._ends_in(piece) or self._size > self._max_length + 1:
            self._join()
        return len(piece)

    def _ends_in(self, piece: str) -> bool:
        """Whether a line may end in what has come now."""
        return "\n" in piece

    def _join(self) -> None:
        self._text = "".join((self._text[self._at :], *self._pieces))
        self._before += self._at
        self._at, self._pieces, self._size = 0, [], len(self._text)

    def next_line(self) -> Line | None:
        text, at, most = self._text, self._at, self._max_length
        # The search is limited: to search the whole text for each short piece would take quadratic time.
        end = text.find("\n", at, at + most + 2)
        stop = end - 1 if end > at and text[end - 1] == "\r" else end
        if end >= 0 and stop - at <= most:
            return self._give(stop, end + 1)
        left = len(text) - at
        if left > most + 1 or (self._ended and left > most):
            return self._give(at + most, at + most, ended=False)
        if self._error is not None:
            raise self._error
        if self._ended and left:
            return self._give(len(text), len(text), ended=False)
        return None

    def _give(self, stop: int, end: int, *, ended: bool = True, progress: bool = False) -> Line:
        line = Line(self._text[self._at : stop], self._kind, ended, progress)
        self._size -= end - self._at
        self._at = end
        return line if self._times is None else self._times.timed(line)

    def take_back(self) -> Iterator[tuple[int, type[DataEvent], bytes]]:
        """The number and the rest of the bytes of each event. Only the decoder's state is kept."""
        chunks, given = self.chunks, self._before + self._at
        _, state = self._decoder.getstate()
        self._reset()
        for index, chunk in enumerate(chunks):
            data = chunk.data
            if given:
                data, state = self._rest(chunk, given)
                given -= min(given, chunk.size)
            elif index == 0:
                state = chunk.state
            if data:
                yield chunk.number, self._kind, data
        self._decoder.setstate((b"", state))

    def _rest(self, chunk: _Chunk, given: int) -> tuple[bytes, int]:
        """The bytes of a chunk behind its first ``given`` characters, and the decoder's state there."""

        def decoded(size: int) -> int:
            decoder.setstate((b"", chunk.state))
            return len(decoder.decode(chunk.data[:size]))

        decoder = self._new_decoder()
        size = bisect.bisect_left(range(len(chunk.data)), given, key=decoded)
        found = decoded(size)
        begun, state = decoder.getstate()
        if found < given:  # the last of these characters came with the next chunk, or at the end
            return b"", state
        if found == given:
            return chunk.data[size - len(begun) :], state
        # The last of these bytes ended an invalid sequence, so it gave more than one character. Bytes whose characters
        # were not all returned are taken back: a character may come twice then, but none is lost.
        found = decoded(size - 1)
        begun, state = decoder.getstate()
        with contextlib.suppress(UnicodeError):
            if found + len(decoder.decode(b"", True)) <= given:
                begun = b""
        return chunk.data[size - 1 - len(begun) :], state


class ProgressStream(LineStream):
    """A stream in which a carriage return ends a line too."""

    def _ends_in(self, piece: str) -> bool:
        return "\n" in piece or "\r" in piece or self._text.endswith("\r")

    def next_line(self) -> Line | None:
        text, at, most = self._text, self._at, self._max_length
        if found := _LINE_END.search(text, at, at + most + 1):
            end = found.start()
            behind = text[end + 1 : end + 2]
            if text[end] == "\n":
                return self._give(end, end + 1)
            if behind == "\n":
                return self._give(end, end + 2)
            if behind or self._ended:
                return self._give(end, end + 1, progress=True)
            # The first half of \r\n may have come alone.
        elif len(text) - at > most:
            return self._give(at + most, at + most, ended=False)
        if self._error is not None:
            raise self._error
        if self._ended and len(text) > at:
            return self._give(len(text), len(text), ended=False)
        return None
