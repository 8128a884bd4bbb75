"""Makes the lines of tests/replay/expected: what both roles of the core must make of each recording."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from attachproto import ExecStart, Logs, Quirk, Request
from scripts.second_opinion.outcomes import Planned, exchanges, expected, takes_stdin
from scripts.second_opinion.served import served_document
from tests.replay.expectations import case_of, prefix_of
from tests.replay.outcomes import Outcome
from tests.replay.recordings import Json, Recording, read_vectors
from tests.replay.requests import OTHERS, encode_request

QUIRKS = ((Quirk.NEWLINE_OUTSIDE_FRAME,), (Quirk.DETACHED_TEXT,), tuple(Quirk))
ENDS = ("eof", "open")

# Of answers that differ only in numbers one is enough, and of its body the beginning.
PREFIX = 80

# The status lines that the core writes too. Engines have words of their own for some others.
STATUS_LINES = (
    "HTTP/1.1 101 UPGRADED",
    "HTTP/1.1 200 OK",
    "HTTP/1.1 400 Bad Request",
    "HTTP/1.1 404 Not Found",
    "HTTP/1.1 409 Conflict",
    "HTTP/1.1 500 Internal Server Error",
)


class Writer:
    """Writes the lines of one set of recordings, in order; it remembers which answers it has seen."""

    def __init__(self) -> None:
        self._seen: set[tuple[object, ...]] = set()

    def line(self, recording: Recording) -> Json:
        """The expectation of one recording, as it is stored."""
        return {
            "scenario": recording.scenario,
            "label": recording.label,
            "exchanges": [self._exchange(exchange) for exchange in exchanges(recording)],
            "served": served_document(recording),
        }

    def _exchange(self, exchange: Planned) -> Json:
        answer = exchange.answer
        outcomes = _outcomes(exchange)
        document: Json = {"request": encode_request(exchange.event)}
        if exchange.reason:
            document["reason"] = exchange.reason
        document |= {
            "start": answer.start,
            "stop": answer.stop,
            "head_size": exchange.head_size,
            "end": exchange.end,
            "outcomes": [],
        }
        if _is_writable(exchange):
            document["writable"] = True
        found = list(outcomes)
        if prefixes := self._prefixes(exchange, found):
            document["prefixes"] = prefixes
        if steps := _both_ways(exchange):
            document["both_ways"] = steps
        document["outcomes"] = [{"for": outcomes.get(each, []), "events": each.to_json()} for each in found]
        return document

    def _prefixes(self, exchange: Planned, outcomes: list[Outcome]) -> Json:
        if isinstance(exchange.event, Request):
            return {}
        size, tty = len(exchange.received), exchange.recording.tty
        if any(expected(exchange, tty, quirks) != outcomes[0] for quirks in QUIRKS):
            # Where a quirk changes what comes out, every prefix counts, with each set of quirks.
            sizes = range(exchange.head_size, size)
            sets: Iterable[tuple[Quirk, ...]] = ((), *QUIRKS)
        elif self._is_new(exchange):
            sizes = range(exchange.head_size, min(size, exchange.head_size + PREFIX))
            sets = ((),)
        else:
            return {}
        return {
            prefix_of(end, quirks): _packed(_shortened(exchange, sizes, end, quirks), outcomes)
            for quirks in sets
            for end in ENDS
            if sizes
        }

    def _is_new(self, exchange: Planned) -> bool:
        """Whether no answer was seen that differs from this one only in numbers, such as a date or an identifier."""
        head = re.sub(rb"[0-9a-f]", b"0", exchange.received[: exchange.head_size])
        has_body = len(exchange.received) > exchange.head_size
        key = (type(exchange.event), exchange.recording.tty, exchange.end, has_body, head)
        new = key not in self._seen
        self._seen.add(key)
        return new


def _outcomes(exchange: Planned) -> dict[Outcome, list[str]]:
    """Each outcome, and the cases in which it comes; the first is that of the recording itself."""
    event, recorded = exchange.event, exchange.recording.tty
    found: dict[Outcome, list[str]] = {}

    def add(case: str, outcome: Outcome) -> None:
        cases = found.setdefault(outcome, [])
        if case not in cases:
            cases.append(case)

    add(case_of(event, recorded), expected(exchange, recorded))
    if not isinstance(event, Request):
        for tty in (True, False) if isinstance(event, ExecStart) else (True, False, None):
            add(case_of(event, tty), expected(exchange, tty))
    usual = next(iter(found))
    for quirks in QUIRKS:
        if (outcome := expected(exchange, recorded, quirks)) != usual:
            add(case_of(event, recorded, quirks=quirks), outcome)
    for name, other in OTHERS.items():
        # The answer to HEAD has no body, and an attach would take the 101 of a WebSocket: these two are left out.
        if isinstance(event, Request | Logs) and not isinstance(other, Request):
            ttys: tuple[bool | None, ...] = (True, False) if exchange.answer.mode not in ("none", "websocket") else ()
        elif not isinstance(event, Request) and isinstance(other, Request | Logs):
            ttys = (recorded,)
        else:
            continue
        for tty in ttys:
            add(case_of(other, tty, name), expected(replace(exchange, event=other), tty))
    return found


def _is_writable(exchange: Planned) -> bool:
    """Whether the core writes the same bytes. It does not for logs, whose media type it always writes."""
    outcome = expected(exchange, exchange.recording.tty)
    kind = outcome.rows[0][0] if outcome.rows else ""
    if isinstance(exchange.event, Request) or exchange.answer.status_line not in STATUS_LINES:
        return False
    return kind == "Rejected" or (kind == "Accepted" and not isinstance(exchange.event, Logs))


def _shortened(exchange: Planned, sizes: range, end: str, quirks: Iterable[Quirk]) -> Iterator[Outcome]:
    for size in sizes:
        yield expected(exchange.shortened(size, end), exchange.recording.tty, tuple(quirks))


def _packed(wanted: Iterable[Outcome], outcomes: list[Outcome]) -> list[list[Any]]:
    """The outcomes of growing answers, as beginnings of other outcomes; what is none is added to these."""
    rows: list[list[Any]] = []
    for outcome in wanted:
        size = sum(len(data) for _, data in outcome.runs)
        fits = (index for index, whole in enumerate(outcomes) if whole.beginning(size, outcome.end) == outcome)
        if (number := next(fits, None)) is None:
            if outcome not in outcomes:
                outcomes.append(outcome)
            number = outcomes.index(outcome)
            if rows and rows[-1][1:] == [number]:
                rows[-1][0] += 1
            else:
                rows.append([1, number])
            continue
        last = rows[-1] if rows else []
        if len(last) == 5 and (last[1], last[4]) == (number, outcome.end):
            count, _, first, step, _ = last
            if count == 1 and size - first in (0, 1):
                step = last[3] = size - first
            if size == first + count * step:
                last[0] += 1
                continue
        rows.append([1, number, size, 0, outcome.end])
    return rows


def _both_ways(exchange: Planned) -> list[int | bool | None]:
    """What must happen at each event of the recording, if it is a stream's and there is no other answer."""
    recording = exchange.recording
    if isinstance(exchange.event, Request) or exchange.number or len(recording.expect["responses"]) > 1:
        return []
    opens = any(row[0] == "Accepted" for row in expected(exchange, recording.tty).rows)
    may_send = takes_stdin(exchange.event)
    sent_request = sent_all = False
    size = 0
    steps: list[int | bool | None] = []
    for kind, payload in recording.events:
        step: int | bool | None = None
        accepted = opens and size >= exchange.head_size
        if kind == "send" and not sent_request:
            sent_request = payload == recording.request
            sent_all = sent_all or not sent_request  # the head went out in pieces: it is not told from stdin here
        elif kind == "send" and not sent_all:
            step = accepted and may_send
        elif kind == "shut_wr":
            if sent_request and not sent_all:
                step = accepted and may_send
            may_send = False
        elif kind == "recv":
            assert isinstance(payload, bytes)
            size += len(payload)
            step = 0
            if opens and size >= exchange.head_size:
                so_far = expected(exchange.shortened(size, "open"), recording.tty)
                step = sum(len(data) for _, data in so_far.runs)
        elif kind == "recv-cut":
            break
        steps.append(step)
    return steps


def write_expectations(vectors: Path, directory: Path) -> None:
    """Write the expectations of all vectors: the same vectors give the same bytes."""
    for path in sorted(vectors.glob("*.jsonl")):
        (directory / path.name).write_text(expectations_of(path), "ascii", newline="\n")


def expectations_of(path: Path) -> str:
    """The content of the expectations file for a vectors file."""
    writer = Writer()
    lines = (writer.line(recording) for recording in read_vectors(path.parent, path.stem))
    return "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
