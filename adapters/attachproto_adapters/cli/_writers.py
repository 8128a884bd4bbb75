"""Writes the output: as it is, as lines with a prefix, or as JSON."""

from __future__ import annotations

import argparse
import base64
import json
import os
import sys
from typing import TextIO

from attachproto import DataEvent, RawOutput, Stdout
from attachproto_adapters._flows._lines import LINE_MAX
from attachproto_adapters.cli._statuses import ReaderGone

_COLOURS = {"stdout": b"\x1b[32m", "stderr": b"\x1b[31m"}
_PLAIN = b"\x1b[0m"


class Writer:
    """Writes each event's bytes to the stream that it belongs to, at once.

    Attributes:
        is_plain: the bytes are written as they are, as a terminal needs them.
    """

    is_plain = True

    def write(self, event: DataEvent) -> None:
        """Write an event.

        Raises:
            ReaderGone: nobody reads it any more.
        """
        put(sys.stdout if isinstance(event, Stdout | RawOutput) else sys.stderr, event.data)

    def finish(self, how: str, code: int | None = None) -> None:
        """Write what is left, and how it has ended: ``exit``, ``end``, ``detached`` or ``timeout``."""


class PrefixWriter(Writer):
    """Begins each line with its stream. A line is written when it is whole, so that lines never mix.

    A line of more than 1 MiB is written in pieces of this length, each as a line, as ``lines()`` returns it. So little
    is held, and each byte is looked at once.
    """

    is_plain = False

    def __init__(self) -> None:
        self._begun = {"stdout": _Line(), "stderr": _Line()}

    def write(self, event: DataEvent) -> None:
        name = "stdout" if isinstance(event, Stdout | RawOutput) else "stderr"
        if lines := self._begun[name].add(event.data):
            self._write(name, lines)

    def finish(self, how: str, code: int | None = None) -> None:
        for name, begun in self._begun.items():
            if line := begun.take():
                self._write(name, [line])

    @staticmethod
    def _write(name: str, lines: list[bytes]) -> None:
        stream = sys.stdout if name == "stdout" else sys.stderr
        prefix = f"{name} | ".encode()
        if stream is not None and stream.isatty() and "NO_COLOR" not in os.environ:
            prefix = _COLOURS[name] + prefix + _PLAIN
        put(stream, b"".join(prefix + line + b"\n" for line in lines))


class _Line:
    """The line of a stream that has begun."""

    def __init__(self) -> None:
        self._begun = bytearray()

    def add(self, data: bytes) -> list[bytes]:
        """Add bytes. Returns the lines that end in them, and the full pieces of longer ones."""
        lines: list[bytes] = []
        *ends, begin = data.split(b"\n")
        for end in ends:
            self._put(end, lines)
            lines.append(self.take())
        self._put(begin, lines)
        return lines

    def take(self) -> bytes:
        """The beginning of the line, which is dropped here."""
        line = bytes(self._begun)
        self._begun.clear()
        return line

    def _put(self, data: bytes, lines: list[bytes]) -> None:
        while len(self._begun) + len(data) > LINE_MAX:
            room = LINE_MAX - len(self._begun)
            self._begun += data[:room]
            lines.append(self.take())
            data = data[room:]
        self._begun += data


class JsonWriter(Writer):
    """One object a line, all on stdout. Bytes that are not UTF-8 are in ``base64`` in place of ``data``."""

    is_plain = False

    def write(self, event: DataEvent) -> None:
        document: dict[str, object] = {"event": _NAMES[type(event).__name__]}
        try:
            document["data"] = event.data.decode()
        except UnicodeDecodeError:
            document["base64"] = base64.b64encode(event.data).decode()
        self._write(document)

    def finish(self, how: str, code: int | None = None) -> None:
        self._write({"event": how} if code is None else {"event": how, "code": code})

    @staticmethod
    def _write(document: dict[str, object]) -> None:
        put(sys.stdout, json.dumps(document, ensure_ascii=False).encode() + b"\n")


_NAMES = {"Stdout": "stdout", "Stderr": "stderr", "RawOutput": "output", "Systemerr": "systemerr"}


def make_writer(arguments: argparse.Namespace) -> Writer:
    """The writer that the options ask for."""
    if arguments.json:
        return JsonWriter()
    return PrefixWriter() if arguments.prefix else Writer()


def put(stream: TextIO | None, data: bytes) -> None:
    """Write bytes to stdout or stderr, at once."""
    if stream is None:  # closed at our start
        raise ReaderGone
    try:
        stream.buffer.write(data)
        stream.buffer.flush()
    except BrokenPipeError:
        raise ReaderGone from None
