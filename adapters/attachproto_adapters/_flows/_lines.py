"""Splits output into lines of text, each stream by itself."""

from __future__ import annotations

import bisect
import codecs
import contextlib
import itertools
import operator
from collections import deque
from collections.abc import Callable, Iterator

import attrs

from attachproto import OutputClosed
from attachproto_adapters._flows._output import DataEvent, OutputEvent

# What a log driver keeps of a line is 16 KiB (moby); a JSON document printed on one line fits here.
LINE_MAX = 1024 * 1024


@attrs.frozen
class Line:
    r"""A line of text.

    Attributes:
        text: without its end (``\n`` or ``\r\n``).
        kind: the class of the events it came in: ``Stdout``, ``Stderr``, ``RawOutput`` or ``Systemerr``.
        ended: whether its end was there. If not, it is the last of its stream, or a piece of a line that is too long.
    """

    text: str
    kind: type[DataEvent]
    ended: bool = True


class LineSplitter:
    """Turns events into lines. Bytes that were not returned as a line can be taken back.

    Args:
        encoding: the encoding of the text; Python must have an incremental decoder for it.
        errors: what to do with bytes that cannot be decoded, as for ``bytes.decode``.
        max_length: how many characters a line may have. A longer line comes in pieces of this length, so nothing is
            lost and memory is limited.

    Attributes:
        ended: the last event was ``OutputClosed``.

    Raises:
        LookupError: there is no such encoding.
        ValueError: ``max_length`` is below 1.
    """

    def __init__(self, encoding: str = "utf-8", errors: str = "replace", max_length: int = LINE_MAX) -> None:
        if max_length < 1:
            raise ValueError(f"max_length is at least 1, not {max_length}")
        b" ".decode(encoding, "ignore")  # raises for codecs that do not make text of bytes, such as hex
        decoder = codecs.getincrementaldecoder(encoding)
        codecs.lookup_error(errors)
        self.ended = False
        self._new_decoder: Callable[[], codecs.IncrementalDecoder] = lambda: decoder(errors)
        self._max_length = max_length
        self._streams: dict[type[DataEvent], _Stream] = {}
        self._numbers = itertools.count()
        # The streams that may have a line: that of the last event, or all of them at the end.
        self._ready: deque[_Stream] = deque()

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
            self._streams[kind] = _Stream(kind, self._new_decoder, self._max_length)
        stream = self._streams[kind]
        stream.add(event.data, next(self._numbers))
        self._ready.append(stream)

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


@attrs.define
class _Chunk:
    """The bytes of one event. A character that is cut at its end is in the next chunk instead.

    Attributes:
        number: the number of the event.
        state: the state of the decoder before these bytes.
        data: the bytes.
        size: how many characters they are.
    """

    number: int
    state: int
    data: bytes
    size: int


class _Stream:
    """One stream: the text that was not returned yet, and the bytes from which it was decoded.

    Text is kept in pieces until it holds a line or is too long, so each character is copied once.

    Attributes:
        chunks: those bytes.
    """

    def __init__(
        self, kind: type[DataEvent], new_decoder: Callable[[], codecs.IncrementalDecoder], max_length: int
    ) -> None:
        self._kind = kind
        self._new_decoder = new_decoder
        self._decoder = new_decoder()
        self._max_length = max_length
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

    def add(self, data: bytes, number: int) -> None:
        begun, state = self._decoder.getstate()
        if begun and self.chunks:
            self.chunks[-1].data = self.chunks[-1].data[: -len(begun)]
        chunk = _Chunk(number, state, begun + data, 0)
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
        if "\n" in piece or self._size > self._max_length + 1:
            self._join()
        return len(piece)

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

    def _give(self, stop: int, end: int, *, ended: bool = True) -> Line:
        line = Line(self._text[self._at : stop], self._kind, ended)
        self._size -= end - self._at
        self._at = end
        return line

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
