"""What comes out of an exchange, as rows that can be stored and compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from attachproto import Framing
from tests.replay.recordings import decode_payload
from tests.replay.requests import as_lists

Headers = tuple[tuple[str, str], ...]
Run = tuple[str, bytes]
Row = tuple[Any, ...]

OUTPUT = ("Stdout", "Stderr", "RawOutput", "Systemerr")
_WITH_HEAD = ("Accepted", "ResponseHead", "Response", "Rejected")
_WITH_BODY = ("Response", "Rejected")
_ENDS = {"OutputClosed": "over", "Response": "over", "Rejected": "over", "RemoteProtocolError": "error"}
_LAST: dict[str, tuple[Row, ...]] = {"over": (("OutputClosed",),), "error": (("RemoteProtocolError",),), "more": ()}


@dataclass(frozen=True)
class Outcome:
    """What comes out of an exchange, in a shape that does not depend on how the bytes are cut.

    Each event is a row: its class and what it carries. Neighbouring payloads of one stream are joined.

        ("Accepted", 101, headers, "RAW")   the framing is None where the answer does not tell; then comes
        ("use_framing", "RAW")              what the replay says
        ("Stdout", b"one\\n")               so are Stderr, RawOutput, Systemerr
        ("Rejected", 404, headers, message, body)
        ("ResponseHead", 200, headers)
        ("Response", 200, headers, message, body)
        ("OutputClosed",)
        ("RemoteProtocolError",)
    """

    rows: tuple[Row, ...] = ()

    @property
    def runs(self) -> tuple[Run, ...]:
        """The output in order."""
        return tuple((row[0], row[1]) for row in self.rows if row[0] in OUTPUT)

    @property
    def end(self) -> str:
        """`over` (the last event came), `error`, or `more` (more bytes are needed)."""
        return _ENDS.get(self.rows[-1][0], "more") if self.rows else "more"

    @property
    def status(self) -> int | None:
        """The status code of the answer, if an event told it."""
        return next((row[1] for row in self.rows if row[0] in _WITH_HEAD), None)

    @property
    def framing(self) -> Framing | None:
        """The framing of the stream, told by the answer or said by the replay."""
        names = [row[-1] for row in self.rows if row[0] in ("Accepted", "use_framing") and row[-1]]
        return Framing[names[0]] if names else None

    def beginning(self, size: int, end: str) -> Outcome:
        """The opening of the stream and the first `size` bytes of output, and then this end."""
        rows: list[Row] = []
        for row in self.rows:
            if row[0] in ("Accepted", "use_framing"):
                rows.append(row)
            elif row[0] in OUTPUT and size > 0:
                rows.append((row[0], row[1][:size]))
                size -= len(row[1])
        return Outcome((*rows, *_LAST[end]))

    def to_json(self) -> list[list[Any]]:
        """As it is stored: without the head, which the vectors have; a message that is the whole body is null."""
        found = []
        for name, *values in self.rows:
            if name in _WITH_HEAD:
                del values[:2]
            if name in _WITH_BODY and values[0] == _text(values[1]):
                values[0] = None
            found.append([name, *as_lists(tuple(values))])
        return found

    @classmethod
    def from_json(cls, rows: list[list[Any]], status: int, headers: Headers) -> Outcome:
        """The outcome of `to_json`."""
        found = []
        for name, *values in rows:
            if name in OUTPUT or name in _WITH_BODY:
                values[-1] = decode_payload(values[-1])
            if name in _WITH_BODY and values[0] is None:
                values[0] = _text(values[1])
            found.append((name, *((status, headers) if name in _WITH_HEAD else ()), *values))
        return cls(tuple(found))


def _text(body: bytes) -> str:
    return body.decode("utf-8", "replace").strip()
