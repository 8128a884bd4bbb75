"""A recorded stream, read from a file that ``--record`` has written, or from one of ``tests/vectors``."""

from __future__ import annotations

import json

import attrs

from attachproto_adapters.cli._recording import decode_payload


@attrs.frozen
class Recorded:
    """One recorded stream.

    Attributes:
        name: the engine, the scenario and the label.
        tty: whether the output is raw, as that of a TTY; ``None`` if it is not known.
        request: what was sent first.
        events: their kinds and bytes, in order; the request is a ``send``.
        times: of each event, in seconds since the request; empty if they were not recorded.
    """

    name: str
    tty: bool | None
    request: bytes
    events: tuple[tuple[str, bytes], ...]
    times: tuple[float, ...]

    @classmethod
    def from_line(cls, text: str) -> Recorded:
        """Read one line of a file.

        Raises:
            ValueError: it is no recorded stream.
        """
        try:
            line = json.loads(text)
            request = line["request"].encode("latin-1")
            events = []
            for kind, *rest in line["events"]:
                payload = decode_payload(rest[0]) if kind in ("send", "recv") else b""
                events.append(("send", request) if kind == "request" else (kind, payload))
            name = " ".join(str(line[key]) for key in ("engine", "version", "scenario", "label"))
            return cls(name, line["tty"], request, tuple(events), tuple(line.get("times", ())))
        except (LookupError, TypeError, AttributeError, ValueError) as exc:
            raise ValueError(f"this is no recorded stream: {exc!r}") from None


def read_file(path: str) -> list[Recorded]:
    """All streams of a file.

    Raises:
        OSError: it cannot be read.
        ValueError: one of its lines is no recorded stream.
    """
    found = []
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                found.append(Recorded.from_line(line))
            except ValueError as exc:
                raise ValueError(f"{path}, line {number}: {exc}") from None
    return found
