"""Lines of text from output: decoded piece by piece, each stream by itself, in the order in which lines end."""

from __future__ import annotations

import codecs
from collections.abc import Iterator

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
    """Events in, lines out.

    Args:
        encoding: of the text; one of Python's, with an incremental decoder.
        errors: what to do with bytes that are no text, as for ``bytes.decode``.
        max_length: most characters of one line. A longer one comes in pieces of this length, so that nothing is lost
            and memory is bounded.

    Raises:
        LookupError: there is no such encoding.
        ValueError: ``max_length`` is below 1.
    """

    def __init__(self, encoding: str = "utf-8", errors: str = "replace", max_length: int = LINE_MAX) -> None:
        if max_length < 1:
            raise ValueError(f"max_length is at least 1, not {max_length}")
        # Python's codecs are not all of text, as hex is not, and only decoding tells.
        b" ".decode(encoding, "ignore")
        self._decoder = codecs.getincrementaldecoder(encoding)
        codecs.lookup_error(errors)
        self._errors = errors
        self._max_length = max_length
        self._streams: dict[type[DataEvent], _Stream] = {}

    def feed(self, event: OutputEvent) -> list[Line]:
        """The lines that this event ends; at the end of the output, what is left without an end.

        Raises:
            UnicodeDecodeError: bytes are no text, with ``errors="strict"``; they are in the error.
        """
        if isinstance(event, OutputClosed):
            return [line for kind, stream in self._streams.items() for line in stream.split(kind, b"", final=True)]
        kind = type(event)
        stream = self._streams.get(kind)
        if stream is None:
            stream = self._streams[kind] = _Stream(self._decoder(self._errors), self._max_length)
        return stream.split(kind, event.data)


class _Stream:
    """One stream, and what it has of a line that has not ended: in pieces, so that its length is copied once."""

    def __init__(self, decoder: codecs.IncrementalDecoder, max_length: int) -> None:
        self._decoder = decoder
        self._max_length = max_length
        self._pieces: list[str] = []
        self._size = 0

    def split(self, kind: type[DataEvent], data: bytes, *, final: bool = False) -> list[Line]:
        piece = self._decoder.decode(data, final)
        self._pieces.append(piece)
        self._size += len(piece)
        # One more than the bound, because the \r of a line's end is not of its length.
        if not final and "\n" not in piece and self._size <= self._max_length + 1:
            return []
        *whole, rest = "".join(self._pieces).split("\n")
        lines = [line for text in whole for line in self._bounded(text.removesuffix("\r"), kind)]
        while len(rest) > self._max_length + 1 or (final and len(rest) > self._max_length):
            lines.append(Line(rest[: self._max_length], kind, ended=False))
            rest = rest[self._max_length :]
        if final and rest:
            lines.append(Line(rest, kind, ended=False))
            rest = ""
        self._pieces, self._size = [rest], len(rest)
        return lines

    def _bounded(self, text: str, kind: type[DataEvent]) -> Iterator[Line]:
        while len(text) > self._max_length:
            yield Line(text[: self._max_length], kind, ended=False)
            text = text[self._max_length :]
        yield Line(text, kind)
