"""Recorded connections of real engines, as the files of tests/vectors hold them."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

Json = dict[str, Any]
Wire = tuple[str, bytes | int | str | None]

VECTORS = Path(__file__).parents[1] / "vectors"


@dataclass(frozen=True)
class Recording:
    """One connection to one engine.

    `request` is the first thing that was sent, whole unless `request_cut` bytes of it were left out. `tty` is what the
    bytes obey: the container's Tty, for exec the one of its start (dockerd) or of its creation (Podman); None where
    there is no container. `events` are `(kind, payload)`: bytes for `send` and `recv`, a number for `send-cut` and
    `recv-cut`, text or None for the others.
    """

    engine: str
    version: str
    scenario: str
    label: str
    tty: bool | None
    request: bytes
    request_cut: int
    events: tuple[Wire, ...]
    expect: Json = field(hash=False)

    @classmethod
    def from_line(cls, line: Json) -> Recording:
        """Read one line of a vectors file (tests/vectors/README.md has the format)."""
        request = line["request"].encode("latin-1")
        events: list[Wire] = []
        for kind, *rest in line["events"]:
            if kind == "request":
                events.append(("send", request))
            elif kind in ("send", "recv"):
                events.append((kind, decode_payload(rest[0])))
            else:
                events.append((kind, rest[0] if rest else None))
        return cls(
            engine=line["engine"],
            version=line["version"],
            scenario=line["scenario"],
            label=line["label"],
            tty=line["tty"],
            request=request,
            request_cut=line.get("request_cut", 0),
            events=tuple(events),
            expect=line["expect"],
        )

    @property
    def name(self) -> str:
        """A short name for messages and test ids."""
        return f"{self.engine}-{self.version}/{self.scenario}[{self.label}]"

    @property
    def family(self) -> str:
        """The leading number of the scenario, `01` to `41`."""
        return self.scenario[:2]

    @property
    def end(self) -> str:
        """How the connection ended: `eof`, `rst` or `open`."""
        end: str = self.expect["end"]
        return end

    @cached_property
    def cut(self) -> bool:
        """Whether the recorder left out received bytes."""
        return any(kind == "recv-cut" for kind, _ in self.events)

    @cached_property
    def segments(self) -> tuple[bytes, ...]:
        """What each recv() returned, up to the first place where bytes were left out."""
        found = []
        for kind, payload in self.events:
            if kind == "recv-cut":
                break
            if kind == "recv" and isinstance(payload, bytes):
                found.append(payload)
        return tuple(found)

    @cached_property
    def received(self) -> bytes:
        """All `segments` in one."""
        return b"".join(self.segments)

    @cached_property
    def sent(self) -> bytes:
        """What the client sent, up to the first place where bytes were left out."""
        found = []
        for kind, payload in self.events:
            if kind == "send-cut":
                break
            if kind == "send" and isinstance(payload, bytes):
                found.append(payload)
        return b"".join(found)


_PLAIN = re.compile(rb"[\t\r\n -~]*")


def encode_payload(data: bytes) -> str | Json:
    """Bytes as a vectors line has them: text where it can be read, else base64."""
    if _PLAIN.fullmatch(data):
        return data.decode("ascii")
    return {"base64": base64.b64encode(data).decode("ascii")}


def decode_payload(payload: str | Json) -> bytes:
    """The bytes of a payload."""
    if isinstance(payload, str):
        return payload.encode("ascii")
    return base64.b64decode(payload["base64"], validate=True)


def read_vectors(directory: Path = VECTORS, engine: str = "*") -> Iterator[Recording]:
    """Read every connection of the vectors folder, or those of one engine such as `docker-28.5.2`."""
    for path in sorted(directory.glob(f"{engine}.jsonl")):
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                yield Recording.from_line(json.loads(line))
