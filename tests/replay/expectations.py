"""Stored expectations: what the core must make of each recorded connection.

Each file of `tests/replay/expected` has a line for each line of the vectors file of the same name, in the same order
(tests/replay/README.md has the format). `scripts/make_vectors.py` wrote the files, with a parser that shares no code
with the core. Here they are only read.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from attachproto import Quirk, Request, StreamRequest
from tests.replay.outcomes import Headers, Outcome
from tests.replay.recordings import VECTORS, Json, Recording, decode_payload, read_vectors
from tests.replay.requests import OTHERS, decode_request

EXPECTED = Path(__file__).parent / "expected"


def case_of(request: Request | StreamRequest, tty: bool | None, other: str = "", quirks: Collection[Quirk] = ()) -> str:
    """The name under which an outcome is stored."""
    words = [other] if other else []
    if not isinstance(request, Request):
        words.append(f"tty={tty}")
    return " ".join(words + sorted(quirk.name for quirk in quirks)) or "whatever the tty"


def prefix_of(end: str, quirks: Collection[Quirk] = ()) -> str:
    """The name under which the outcomes of shortened answers are stored."""
    return " ".join([end, *sorted(quirk.name for quirk in quirks)])


@dataclass(frozen=True)
class Exchange:
    """One request and its answer, ready to be replayed, and what must come out.

    `reason` says why the request only stands for what was recorded; empty if it is what was recorded. `start` and
    `stop` are the answer's place in the received bytes. `end` is how they end: `eof`, `rst`, `open`, or `cut` where the
    recorder left out what follows. `mode` is the way of the body, as in the vectors. `both_ways` has an item for each
    event of the recording: after a read how many bytes of output must have come out, for input whether it is taken,
    None for what is not judged; it is empty where the two directions are not replayed together.
    """

    recording: Recording
    number: int
    event: Request | StreamRequest
    reason: str
    start: int
    stop: int
    head_size: int
    end: str
    mode: str
    status: int
    headers: Headers
    writable: bool
    outcomes: tuple[Outcome, ...]
    cases: dict[str, int]
    prefixes: dict[str, tuple[tuple[Any, ...], ...]]
    both_ways: tuple[int | bool | None, ...]

    @property
    def name(self) -> str:
        """A short name for messages."""
        return f"{self.recording.name}#{self.number}"

    @property
    def way(self) -> str:
        """The request's class, with `*` if it is a stand-in."""
        return type(self.event).__name__ + "*" * bool(self.reason)

    @cached_property
    def segments(self) -> tuple[bytes, ...]:
        """The bytes of the answer, as they were read."""
        found = []
        at = 0
        for segment in self.recording.segments:
            if piece := segment[max(0, self.start - at) : max(0, self.stop - at)]:
                found.append(piece)
            at += len(segment)
        return tuple(found)

    @cached_property
    def received(self) -> bytes:
        """The bytes of the answer."""
        return b"".join(self.segments)

    @property
    def media_type(self) -> str:
        """The media type of the answer, without parameters; empty if there is none."""
        return dict(self.headers).get("content-type", "").partition(";")[0].strip().lower()

    def expected(self, tty: bool | None, quirks: Collection[Quirk] = (), other: str = "") -> Outcome:
        """What must come out if the request says this about the TTY, with these quirks, or if `other` was asked."""
        event = OTHERS[other] if other else self.event
        usual = self.cases[case_of(event, tty, other)]
        if not quirks:
            return self.outcomes[usual]
        if other or tty != self.recording.tty:
            raise LookupError(f"{self.name}: with quirks only the outcome of the recording itself is stored")
        # A quirk changes few recordings: only these are stored.
        return self.outcomes[self.cases.get(case_of(event, tty, quirks=quirks), usual)]

    def expected_after(self, size: int, end: str, quirks: Collection[Quirk] = ()) -> Outcome:
        """What must come out if the answer ends so, `eof` or `open`, after `size` bytes, its head among them."""
        at = self.head_size
        for count, outcome, *beginning in self.prefixes[prefix_of(end, quirks)]:
            if size < at + count:
                whole: Outcome = self.outcomes[outcome]
                if not beginning:
                    return whole
                delivered, step, last = beginning
                return whole.beginning(delivered + step * (size - at), last)
            at += count
        raise LookupError(f"{self.name}: no outcome is stored for {size} bytes")

    @property
    def shortened_sizes(self) -> range:
        """The sizes for which `expected_after` has outcomes."""
        counts = {sum(row[0] for row in rows) for rows in self.prefixes.values()}
        return range(self.head_size, self.head_size + (counts.pop() if counts else 0))


@dataclass(frozen=True)
class Served:
    """What `Connection(SERVER)` must make of a recorded request.

    `request` is in the form of `encode_served`; None where an error must come. Where there is a `body`, it is sent
    last, and nothing may come before it. `stdin` was glued to the request, and must come after an answer with this
    `status`. `difference` is a key of `SERVER_DIFFERENCES`, or empty where the engine did the same.
    """

    request: Json | None
    body: bytes = b""
    status: int = 0
    stdin: bytes = b""
    difference: str = ""

    @property
    def kind(self) -> str:
        """The request's class, or `error`."""
        return next(iter(self.request)) if self.request else "error"


@dataclass(frozen=True)
class Expectation:
    """What must become of one recording, by both roles. `served` is None if its request was not kept whole."""

    recording: Recording
    exchanges: tuple[Exchange, ...]
    served: Served | None

    @classmethod
    def from_line(cls, recording: Recording, line: Json) -> Expectation:
        """Read one line of an expectations file."""
        if (recording.scenario, recording.label) != (line["scenario"], line["label"]):
            raise ValueError(f"the expectation of {line['scenario']}[{line['label']}] stands beside {recording.name}")
        served = line["served"]
        if served is not None:
            served = Served(**served | {key: decode_payload(served[key]) for key in ("body", "stdin") if key in served})
        return cls(recording, tuple(_exchanges(recording, line["exchanges"])), served)


def _exchanges(recording: Recording, documents: Iterable[Json]) -> Iterator[Exchange]:
    for number, document in enumerate(documents):
        answer = recording.expect["responses"][number]
        status = int(answer["status_line"].split(" ")[1])
        headers = tuple((name.lower(), value) for name, value in answer["headers"])
        outcomes = document["outcomes"]
        yield Exchange(
            recording=recording,
            number=number,
            event=decode_request(document["request"]),
            reason=document.get("reason", ""),
            start=document["start"],
            stop=document["stop"],
            head_size=document["head_size"],
            end=document["end"],
            mode=answer["body_mode"],
            status=status,
            headers=headers,
            writable=document.get("writable", False),
            outcomes=tuple(Outcome.from_json(each["events"], status, headers) for each in outcomes),
            cases={case: number for number, each in enumerate(outcomes) for case in each["for"]},
            prefixes={key: tuple(map(tuple, rows)) for key, rows in document.get("prefixes", {}).items()},
            both_ways=tuple(document.get("both_ways", ())),
        )


def read_expectations(engine: str, vectors: Path = VECTORS, directory: Path = EXPECTED) -> Iterator[Expectation]:
    """Read the recordings of an engine, such as `docker-28.5.2`, with what must become of them."""
    lines = (directory / f"{engine}.jsonl").read_text("ascii").splitlines()
    for recording, line in zip(read_vectors(vectors, engine), lines, strict=True):
        yield Expectation.from_line(recording, json.loads(line))
