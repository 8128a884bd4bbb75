"""benchmarks/compare.py works: its server, its clients, its judgement and its page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from attachproto import FrameDecoder, Stderr, Stdout
from benchmarks.comparison import certificates, page, programs, scale, tables, targets, workloads
from benchmarks.comparison.measuring import Comparison, Result
from benchmarks.comparison.programs import Client
from benchmarks.comparison.replay import Replay
from benchmarks.comparison.workloads import Body, Workload

ALL = {workload.name: workload for workload in workloads.workloads(quick=True)}
FRAMED = [workload for workload in ALL.values() if workload.body is not None and not workload.tty]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compare")


@pytest.fixture(scope="module")
def replay(directory: Path) -> Iterator[Replay]:
    replay = Replay(directory, certificates.make(directory))
    with replay.serving():
        yield replay


@pytest.fixture(scope="module")
def clients(directory: Path) -> list[Client]:
    """Those that need no other package, program or download."""
    names = {"drain", "drain-asyncio", "drain-trio", "core", "blocking", "asyncio", "trio"}
    return [client for client in programs.python_clients(print) if client.name in names]


@pytest.mark.parametrize("workload", FRAMED, ids=lambda workload: workload.name)
def test_a_body_holds_what_a_client_must_have_read(workload: Workload) -> None:
    body = workload.body
    assert body is not None
    decoder = FrameDecoder()
    decoder.receive_data(body.head + body.block * body.count)
    decoder.receive_data(b"")
    read = {Stdout: b"", Stderr: b""}
    for event in decoder.events():
        if isinstance(event, Stdout | Stderr):
            read[type(event)] += event.data
    assert read == {Stdout: body.stdout * body.count, Stderr: body.stderr * body.count}


@pytest.mark.parametrize("name", ["tls-32k", "keystrokes", "exec-unix"])
def test_our_clients_read_what_is_sent(
    name: str, clients: list[Client], replay: Replay, directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = Comparison(clients, replay, directory, print).run(ALL[name], 0)
    assert results.keys() >= {"drain-trio"} if name == "keystrokes" else {"blocking", "asyncio", "trio"}
    assert {client: result.wrong for client, result in results.items()} == dict.fromkeys(results, "")
    assert all(result.seconds for result in results.values())
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("lost", ["a byte", "the stream", "another byte"])
def test_a_client_that_loses_a_byte_is_wrong(
    lost: str, clients: list[Client], replay: Replay, directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The server sends something else than the client is judged by."""
    workload = ALL["lines"]
    body = workload.body
    assert body is not None

    def changed(body: Body) -> Body:
        match lost:
            case "a byte":
                return attrs.evolve(body, stdout=body.stdout + b"x")
            case "the stream":
                return attrs.evolve(body, stdout=body.stdout[:-64] + b"", stderr=body.stderr + body.stdout[-64:])
            case _:
                return attrs.evolve(body, stdout=b"X" + body.stdout[1:])

    core = [client for client in clients if client.name == "core"]
    wrong = attrs.evolve(workload, body=changed(body))
    result = Comparison(core, replay, directory, print).run(wrong, 1)["core"]
    assert result.wrong.startswith("read ")
    assert result.seconds is None
    assert tables.figure(wrong, result) == "wrong"
    assert "core is wrong" in capsys.readouterr().out


def test_a_client_that_fails_is_wrong(clients: list[Client], replay: Replay, directory: Path) -> None:
    broken = attrs.evolve(clients[0], command=lambda *_: ["sh", "-c", "echo no such thing >&2; exit 3"])
    (result,) = Comparison([broken], replay, directory, lambda _: None).run(ALL["lines"], 1).values()
    assert result.wrong == "no such thing"


@pytest.mark.parametrize("framework", scale.FRAMEWORKS)
def test_many_attachments_are_read_to_their_ends(framework: str) -> None:
    (row,) = scale.measure((3,), (framework,))[framework]
    assert row["count"] == 3
    assert row["seconds"] > 0
    assert row["megabytes"] > 0


def test_the_page_has_a_place_for_every_table(clients: list[Client]) -> None:
    run = tables.Run.now(clients)
    for workload in ALL.values():
        run.rows.append((workload, {client.name: Result([0.5], "", 2**20) for client in clients}))
    run.rows[0][1]["blocking"].wrong = "read other bytes"
    run.imports = {"": 8.0, "h11": 27.0}
    run.scale = {"core": [{"count": 3, "bytes": 2048.0, "seconds": 0.5, "megabytes": 1.0}]}
    parts = tables.sections(run) | {"targets": targets.as_table(run)}
    written = page.replaced(page.PAGE.read_text(), parts)
    assert all(part in written for part in parts.values())
    assert page.replaced(written, parts) == written
    assert "| wrong |" in parts["throughput"]
    with pytest.raises(ValueError, match="has 0 parts"):
        page.replaced("nothing", parts)


def test_each_target_is_reached_missed_or_not_measured(clients: list[Client]) -> None:
    run = tables.Run.now(clients)
    seconds = {"go": 1.0, "blocking": 2.5, "asyncio": 3.0}
    run.rows.append((ALL["alternating"], {name: Result([each]) for name, each in seconds.items()}))
    run.rows.append((ALL["keystrokes"], {"drain": Result([1.0]), "blocking": Result([1.3])}))
    run.scale = {"core": [{"bytes": 9999.0}, {"bytes": 3072.0}], "blocking": [{"bytes": 5121.0}]}
    found = [(each.who, each.bound, each.outcome) for each in targets.targets(run) if each.found is not None]
    assert found == [
        ("blocking", 0.38, "reached"),
        ("asyncio", 0.38, "missed"),
        ("blocking", 1.3, "reached"),
        ("core", 3.0, "reached"),
        ("blocking", 5.0, "missed"),
    ]
    assert {each.outcome for each in targets.targets(tables.Run.now(clients))} == {"not measured"}
