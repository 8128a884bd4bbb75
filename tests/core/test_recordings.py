"""Six real engines, recorded, against both roles of the core.

The recordings are in tests/vectors, what must come out is in tests/replay/expected, and each folder has a README.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache

import pytest

from attachproto import SERVER, Attach, Connection, ExecStart, Logs, Quirk, RemoteProtocolError, Request, StreamRequest
from tests.replay.expectations import Exchange, Expectation, read_expectations
from tests.replay.outcomes import Run
from tests.replay.recordings import VECTORS
from tests.replay.replayer import judge, judge_both_ways, judge_shortened, replay
from tests.replay.requests import OTHERS
from tests.replay.server import SERVER_DIFFERENCES, judge_server, judge_written

ENGINES = sorted(path.stem for path in VECTORS.glob("*.jsonl"))
SMALL = 1200


@cache
def expectations(engine: str) -> tuple[Expectation, ...]:
    return tuple(read_expectations(engine))


@cache
def replayed(engine: str) -> tuple[Exchange, ...]:
    return tuple(exchange for expectation in expectations(engine) for exchange in expectation.exchanges)


def streams(engine: str) -> Iterator[Exchange]:
    return (exchange for exchange in replayed(engine) if isinstance(exchange.event, StreamRequest))


def unlike(found: Iterable[Exchange]) -> Iterator[Exchange]:
    """The exchanges whose answers differ in more than numbers: a date or an identifier needs no second look."""
    seen = set()
    for exchange in found:
        head = re.sub(rb"[0-9a-f]", b"0", exchange.received[: exchange.head_size])
        has_body = len(exchange.received) > exchange.head_size
        key = (type(exchange.event), exchange.recording.tty, exchange.end, has_body, head)
        if key not in seen:
            seen.add(key)
            yield exchange


def report(problems: Iterable[str | None]) -> None:
    found = [problem for problem in problems if problem]
    assert not found, f"{len(found)} differences, the first: " + "\n".join(found[:3])


@pytest.mark.parametrize("engine", ENGINES)
def test_whole(engine: str) -> None:
    report(judge(exchange, [exchange.received]) for exchange in replayed(engine))


@pytest.mark.parametrize("engine", ENGINES)
def test_as_recorded(engine: str) -> None:
    report(judge(exchange) for exchange in replayed(engine))


@pytest.mark.parametrize("engine", ENGINES)
def test_both_directions_in_recorded_order(engine: str) -> None:
    report(judge_both_ways(exchange) for exchange in replayed(engine))


@pytest.mark.parametrize("tty", [True, False])
@pytest.mark.parametrize("engine", ENGINES)
def test_tty_said_right_or_wrong(engine: str, tty: bool) -> None:
    report(judge(exchange, [exchange.received], tty) for exchange in streams(engine))


@pytest.mark.parametrize("engine", ENGINES)
def test_tty_not_said(engine: str) -> None:
    # An exec start always says it.
    unsaid = (exchange for exchange in streams(engine) if not isinstance(exchange.event, ExecStart))
    report(judge(exchange, [exchange.received], None) for exchange in unsaid)


def test_every_split_of_the_head() -> None:
    def problems() -> Iterator[str]:
        for exchange in unlike(exchange for engine in ENGINES for exchange in replayed(engine)):
            data = exchange.received
            for at in range(min(len(data), exchange.head_size + 24) + 1):
                if problem := judge(exchange, [piece for piece in (data[:at], data[at:]) if piece]):
                    yield f"cut at {at}: {problem}"

    report(problems())


@pytest.mark.parametrize("end", ["eof", "open"])
def test_every_end_behind_the_head(end: str) -> None:
    # Also between and inside chunks: an end is an error there, and a silence is none.
    report(
        judge_shortened(exchange, size, end)
        for engine in ENGINES
        for exchange in streams(engine)
        for size in exchange.shortened_sizes[:80]
    )


@pytest.mark.parametrize("engine", ENGINES)
def test_byte_by_byte(engine: str) -> None:
    small = (exchange for exchange in replayed(engine) if len(exchange.received) <= SMALL)
    report(judge(exchange, [bytes([byte]) for byte in exchange.received]) for exchange in small)


@pytest.mark.parametrize("engine", ENGINES)
def test_random_cuts(engine: str) -> None:
    rng = random.Random(engine)

    def pieces(data: bytes) -> list[bytes]:
        cuts = sorted(rng.choices(range(len(data) + 1), k=rng.randint(1, 12)))
        return [piece for at, to in zip([0, *cuts], [*cuts, len(data)], strict=True) if (piece := data[at:to])]

    report(judge(exchange, pieces(exchange.received)) for exchange in replayed(engine) for _ in range(3))


@pytest.mark.parametrize("engine", ENGINES)
def test_more_answers_than_one_are_no_error(engine: str) -> None:
    # An exchange is over with its answer. What an engine says to a pipelined request, or to stdin that was glued to a
    # refused attach, is nobody's.
    for exchange in replayed(engine):
        if len(exchange.recording.expect["responses"]) > 1 and not exchange.number:
            assert judge(exchange, [exchange.recording.received]) == ""


@pytest.mark.parametrize("other", ["Attach with stdin", "Attach", "ExecStart", "Logs"])
@pytest.mark.parametrize("engine", ENGINES)
def test_other_answer_in_place_of_a_stream(engine: str, other: str) -> None:
    # The answer to HEAD has no body, and an attach would take the 101 of a WebSocket: these two are left out.
    crossed = [
        exchange
        for exchange in replayed(engine)
        if isinstance(exchange.event, Request | Logs) and exchange.mode not in ("none", "websocket")
    ]
    for tty in (True, False):
        report(
            judge(exchange, pieces, tty, other=other) for exchange in crossed for pieces in ([exchange.received], None)
        )


@pytest.mark.parametrize("other", ["Request", "Logs"])
@pytest.mark.parametrize("engine", ENGINES)
def test_stream_in_place_of_another_answer(engine: str, other: str) -> None:
    crossed = [exchange for exchange in streams(engine) if not isinstance(exchange.event, type(OTHERS[other]))]
    report(judge(exchange, pieces, other=other) for exchange in crossed for pieces in ([exchange.received], None))


@pytest.mark.parametrize("step", [None, 1])
@pytest.mark.parametrize("engine", ENGINES)
def test_server_reads_every_request(engine: str, step: int | None) -> None:
    report(judge_server(expectation, step) for expectation in expectations(engine))


@pytest.mark.parametrize("engine", ENGINES)
def test_server_writes_what_the_engine_wrote(engine: str) -> None:
    report(judge_written(exchange) for exchange in replayed(engine))


@pytest.mark.parametrize(
    ("query", "stdout", "stderr"),
    [
        ("stdout=1&stdout=0&stderr=0&stderr=1", True, False),  # the first of two stands
        ("stdout=0&stderr=off", False, True),  # dockerd has five words for false, and this is none of them
    ],
)
@pytest.mark.parametrize("line", ["POST /containers/web/attach", "GET /containers/web/logs"])
def test_server_and_queries_that_were_not_recorded(line: str, query: str, stdout: bool, stderr: bool) -> None:
    server = Connection(SERVER)
    server.receive_data(f"{line}?{query} HTTP/1.1\r\nHost: docker\r\n\r\n".encode())
    event = server.next_event()
    assert isinstance(event, Attach | Logs)
    options = event.options if isinstance(event, Attach) else event
    assert (options.stdout, options.stderr) == (stdout, stderr)


@pytest.mark.parametrize("label", ["16 KiB query", "64 KiB header", "1.2 MiB header"])
def test_server_and_huge_heads(label: str) -> None:
    # Scenario 32b, whose bytes were not kept: engines take 64 KiB and answer 431 to 1.2 MiB; we take max_head.
    line = b"POST /containers/web/attach?stream=1&stdout=1"
    sizes = {"16 KiB query": 16 * 1024, "64 KiB header": 64 * 1024, "1.2 MiB header": 1_200_000}
    padding = b"x" * sizes[label]
    head = line + (b"&pad=" + padding if "query" in label else b"") + b" HTTP/1.1\r\nHost: docker\r\n"
    head += (b"X-Pad: " + padding + b"\r\n" if "header" in label else b"") + b"\r\n"
    server = Connection(SERVER)
    server.receive_data(head)
    if label == "16 KiB query":
        assert isinstance(server.next_event(), Attach)
    else:
        with pytest.raises(RemoteProtocolError, match="max_head"):
            server.next_event()
        server = Connection(SERVER, max_head=2**20)
        server.receive_data(head)
        if label == "64 KiB header":
            assert isinstance(server.next_event(), Attach)
        else:
            with pytest.raises(RemoteProtocolError, match="max_head"):
                server.next_event()


# ---- nothing is left out in silence ----


def test_selection() -> None:
    assert len(ENGINES) == 6
    families = {expectation.recording.family for engine in ENGINES for expectation in expectations(engine)}
    # 35 was never recorded.
    assert families == {f"{number:02}" for number in range(1, 42)} - {"35"}
    assert sum(path.stat().st_size for path in VECTORS.glob("*.jsonl")) < 2_000_000


def test_every_recording_is_replayed() -> None:
    ways: Counter[str] = Counter()
    for engine in ENGINES:
        for expectation in expectations(engine):
            ways.update([exchange.way for exchange in expectation.exchanges] or ["skipped"])
    # The star is a stand-in; skipped would be a connection without any answer, and there is none.
    assert ways == {
        "Attach": 896,
        "Attach*": 231,
        "ExecStart": 99,
        "ExecStart*": 45,
        "Logs": 76,
        "Logs*": 10,
        "Request": 197,
        "Request*": 75,
    }


def test_reasons_for_stand_ins() -> None:
    reasons = Counter(exchange.reason for engine in ENGINES for exchange in replayed(engine) if exchange.reason)
    assert reasons == {
        "GET HTTP/1.0": 12,
        "POST HTTP/1.0": 5,
        "POST HTTP/1.0, other upgrade headers": 6,
        "POST HTTP/1.2": 3,
        "PRI HTTP/2.0": 2,
        "a body": 22,
        "a name that the client refuses": 27,
        "a path that the client refuses": 6,
        "a tail that the client refuses": 2,
        "an absolute target": 3,
        "an odd head": 7,
        "another body": 12,
        "another path": 4,
        "bytes glued to the head": 28,
        "detach keys that the client refuses": 24,
        "options that the client refuses": 4,
        "other upgrade headers": 113,
        "other upgrade headers, a body": 4,
        "other upgrade headers, bytes glued to the head": 4,
        "post HTTP/1.1": 2,
        "the answer is to bytes that are no request": 5,
        "the request was not kept whole": 12,
        "upgrade headers on a plain call": 54,
    }


def test_what_comes_out() -> None:
    ends = Counter(
        (type(exchange.event).__name__, exchange.expected(exchange.recording.tty).end)
        for engine in ENGINES
        for exchange in replayed(engine)
    )
    assert ends == {
        ("Attach", "over"): 797,
        ("Attach", "more"): 320,  # still open when the recording stopped, or cut
        ("Attach", "error"): 10,  # Podman 4.3.1's wrong frames; redirects of names that no engine allows
        ("ExecStart", "over"): 135,
        ("ExecStart", "more"): 9,
        ("Logs", "over"): 86,
        ("Request", "over"): 251,
        ("Request", "more"): 7,
        ("Request", "error"): 14,  # a WebSocket: a 101 that nobody asked for
    }


def test_every_request_is_served() -> None:
    served = [expectation.served for engine in ENGINES for expectation in expectations(engine)]
    assert Counter(each.kind if each else "skipped" for each in served) == {
        "Attach": 1039,
        "ExecStart": 141,
        "Logs": 82,
        "Request": 320,
        "error": 16,
        "skipped": 12,
    }
    differences = Counter(each.difference for each in served if each and each.difference)
    assert differences == {
        "bytes above 127 in the target": 2,
        "a bad percent-escape": 2,
        "a Host with a slash": 2,
        "a body that is announced and not there": 12,
        "an exec start without a body": 2,
        "a tail that is no number": 1,
    }
    assert set(differences) == set(SERVER_DIFFERENCES)


def test_written_answers() -> None:
    compared = Counter(judge_written(exchange) is not None for engine in ENGINES for exchange in streams(engine))
    # Not compared: logs, redirects, and Go's own words in the status line.
    assert compared == {True: 1263, False: 94}


# ---- quirks ----

FOUR_LINES = (("Stdout", b"out1\n"), ("Stderr", b"err1\n"), ("Stdout", b"out2\n"), ("Stderr", b"err2\n"))
DETACHED = ("Systemerr", b"Error: detached from container\n")

# What a quirk makes of recordings of Podman 4.3.1: what comes out, of a TTY its last bytes.
QUIRKY: dict[Quirk, dict[str, tuple[Run, ...]]] = {
    Quirk.NEWLINE_OUTSIDE_FRAME: {
        "06-logs-finished": FOUR_LINES,
        "06-logs-finished@noprefix": FOUR_LINES,
        "06f-logs-finished-one-stream": FOUR_LINES,  # only stderr was asked for: Podman does not mind
        "07c-logs-stream-finished": FOUR_LINES,
    },
    Quirk.DETACHED_TEXT: {
        "14i-tty-detach-ctrl-x-x-split": (("RawOutput", b"/ # \x1b[6n"), DETACHED),
        "14j-notty-detach-split": (("Stdout", b"echo one\n"), DETACHED),
        "14k-tty-detach-single-key": (("RawOutput", b"/ # \x1b[6n"), DETACHED),
    },
}
SETS = [(Quirk.NEWLINE_OUTSIDE_FRAME,), (Quirk.DETACHED_TEXT,), tuple(Quirk)]


def quirky(quirk: Quirk) -> Iterator[Exchange]:
    scenarios = QUIRKY[quirk]
    for exchange in streams("podman-4.3.1"):
        if exchange.recording.scenario in scenarios and exchange.recording.label == "A":
            yield exchange


@pytest.mark.parametrize("quirk", Quirk)
def test_with_its_quirk_podman_4_3_is_read_right(quirk: Quirk) -> None:
    found = list(quirky(quirk))
    assert {exchange.recording.scenario for exchange in found} == set(QUIRKY[quirk])
    for exchange in found:
        outcome = replay(exchange, exchange.segments, exchange.recording.tty, [quirk])
        assert outcome.end == "over"
        wanted = QUIRKY[quirk][exchange.recording.scenario]
        assert len(outcome.runs) == len(wanted)
        for (name, data), (wanted_name, end) in zip(outcome.runs, wanted, strict=True):
            assert name == wanted_name
            assert data.endswith(end) if name == "RawOutput" else data == end


def test_without_a_quirk_the_replay_is_an_error_and_the_text_is_output() -> None:
    for exchange in quirky(Quirk.NEWLINE_OUTSIDE_FRAME):
        outcome = replay(exchange, exchange.segments, False)
        assert (outcome.runs, outcome.end) == ((("Stdout", b"out1"),), "error")
    for exchange in quirky(Quirk.DETACHED_TEXT):
        outcome = replay(exchange, exchange.segments, exchange.recording.tty)
        assert (outcome.runs[-1][0], outcome.end) == ("RawOutput" if exchange.recording.tty else "Stderr", "over")
        assert outcome.runs[-1][1].endswith(DETACHED[1])


@pytest.mark.parametrize("quirks", SETS)
def test_every_split_with_quirks(quirks: tuple[Quirk, ...]) -> None:
    def problems() -> Iterator[str]:
        for exchange in (*quirky(Quirk.NEWLINE_OUTSIDE_FRAME), *quirky(Quirk.DETACHED_TEXT)):
            data = exchange.received
            for at in range(1, len(data)):
                yield judge(exchange, [data[:at], data[at:]], quirks=quirks)
            yield judge(exchange, [bytes([byte]) for byte in data], quirks=quirks)
            for size in range(exchange.head_size, len(data)):
                for end in ("eof", "open"):
                    yield judge_shortened(exchange, size, end, quirks)

    report(problems())


@pytest.mark.parametrize("quirks", SETS)
@pytest.mark.parametrize("engine", ENGINES)
def test_quirks_on_any_engine(engine: str, quirks: tuple[Quirk, ...]) -> None:
    report(
        judge(exchange, pieces, quirks=quirks)
        for exchange in replayed(engine)
        for pieces in ([exchange.received], None)
    )


def test_quirks_change_nothing_else() -> None:
    changed = {
        (engine, exchange.recording.scenario)
        for engine in ENGINES
        for exchange in streams(engine)
        if replay(exchange, exchange.segments, exchange.recording.tty, tuple(Quirk))
        != replay(exchange, exchange.segments, exchange.recording.tty)
    }
    assert changed == {("podman-4.3.1", scenario) for scenarios in QUIRKY.values() for scenario in scenarios}


# ---- the judge has teeth ----


def test_the_judge_sees_a_difference() -> None:
    exchange = next(
        exchange for exchange in replayed("docker-28.5.2") if exchange.recording.scenario == "01-before-start"
    )
    data = exchange.received
    assert judge(exchange, [data]) == ""
    assert "'Accepted'" in judge(exchange, [data.replace(b"101", b"200", 1)])
    assert "'Accepted'" in judge(exchange, [data.replace(b"tcp", b"TCP", 1)])
    assert "'Stderr'" in judge(exchange, [data[:-1] + b"?"])
    assert "'Stderr'" in judge(exchange, [data[:-1]])
    assert "'Stdout', b'x'" in judge(exchange, [data + b"\x01\0\0\0\0\0\0\x01x"])
    assert "'RemoteProtocolError'" in judge(exchange, [data + b"\x01"])
