"""Judge the core by all recordings of a directory in the recorder's own format.

Usage: check_recordings.py RECORDINGS_DIR

RECORDINGS_DIR holds one folder per engine (`docker-28.5.2`), and in it one file per scenario. Each connection is
replayed whole, as recorded, in both directions, with the TTY said, not said and said wrong, cut in two at every place
of the head, in random cuts, and byte by byte where it is short; every request is read, and every answer to an attach or
exec start is written, by the server role. Exit status 1 says that something differed.

In the table, `Attach`, `ExecStart`, `Logs` and `Request` are exchanges that our client would make as they were
recorded; with a star it makes another one that gets the same answer (below the table is why). `served` counts requests
that the server role read, `unlike` those of them that it deliberately takes otherwise than the engine did.
"""

from __future__ import annotations

import random
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from attachproto import ExecStart, Request
from scripts.second_opinion.audit import audit
from scripts.second_opinion.expectations import Writer
from scripts.second_opinion.raw import read_raw
from tests.replay.expectations import Exchange, Expectation
from tests.replay.replayer import judge, judge_both_ways
from tests.replay.server import SERVER_DIFFERENCES, judge_server, judge_written

WAYS = tuple(kind + star for kind in ("Attach", "ExecStart", "Logs", "Request") for star in ("", "*"))
COLUMNS = ("connections", *WAYS, "skipped", "served", "unlike", "failures")
SMALL = 4096
SHOWN = 20


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    return [piece for at, to in zip([0, *cuts], [*cuts, len(data)], strict=True) if (piece := data[at:to])]


def problems_of(exchange: Exchange) -> Iterator[str]:
    data = exchange.received
    rng = random.Random(exchange.name)
    yield judge(exchange, [data])
    yield judge(exchange)
    yield judge_both_ways(exchange)
    yield judge_written(exchange) or ""
    if not isinstance(exchange.event, Request):
        yield judge(exchange, [data], True)
        yield judge(exchange, [data], False)
        if not isinstance(exchange.event, ExecStart):  # which always says it
            yield judge(exchange, [data], None)
    for at in range(min(len(data), exchange.head_size + 24) + 1):
        if problem := judge(exchange, pieces(data, [at])):
            yield f"cut at {at}: {problem}"
    for _ in range(5):
        cuts = sorted(rng.choices(range(len(data) + 1), k=rng.randint(1, 12)))
        if problem := judge(exchange, pieces(data, cuts)):
            yield f"cut at {cuts}: {problem}"
    if len(data) <= SMALL:
        yield judge(exchange, pieces(data, list(range(1, len(data)))))


def check(expectation: Expectation, counts: Counter[str], reasons: Counter[str]) -> Iterator[str]:
    counts["connections"] += 1
    recording = expectation.recording
    for problem in audit(recording):
        yield f"{recording.name}: the data: {problem}"
    counts["skipped"] += not expectation.exchanges
    for exchange in expectation.exchanges:
        counts[exchange.way] += 1
        if exchange.reason:
            reasons[f"{exchange.way} {exchange.reason}"] += 1
        yield from problems_of(exchange)
    served = expectation.served
    if served is None:
        reasons["not served: the request was not kept whole"] += 1
        return
    counts["served"] += 1
    if served.difference:
        counts["unlike"] += 1
        reasons[f"unlike: {served.difference} ({SERVER_DIFFERENCES[served.difference]})"] += 1
    for step in (None, 1, 7):
        yield judge_server(expectation, step)


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print(__doc__)
        return 2
    table: dict[str, Counter[str]] = defaultdict(Counter)
    reasons: Counter[str] = Counter()
    failures: list[str] = []
    writer = Writer()
    for recording in read_raw(Path(arguments[0])):
        expectation = Expectation.from_line(recording, writer.line(recording))
        counts = table[f"{recording.engine}-{recording.version}"]
        found = [problem for problem in check(expectation, counts, reasons) if problem]
        counts["failures"] += len(found)
        failures += found
    if not table:
        print(f"no recordings in {arguments[0]}")
        return 2
    print(f"{'engine':16}" + "".join(f"{column:>12}" for column in COLUMNS))
    total = sum(table.values(), Counter[str]())
    for name, counts in [*sorted(table.items()), ("all", total)]:
        print(f"{name:16}" + "".join(f"{counts[column]:12}" for column in COLUMNS))
    print()
    for reason, count in sorted(reasons.items()):
        print(f"{count:6} {reason}")
    for problem in failures[:SHOWN]:
        print(f"\n{problem}")
    if len(failures) > SHOWN:
        print(f"\nand {len(failures) - SHOWN} more")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
