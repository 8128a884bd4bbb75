"""What one run has found, and its tables."""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, Self

import attrs

from benchmarks.comparison.measuring import Result
from benchmarks.comparison.programs import Client
from benchmarks.comparison.workloads import Workload

ADAPTERS: Final = ("blocking", "asyncio", "trio")
PEERS: Final = ("go", "aiodocker", "docker-py")
UNITS: Final = {"output": "MB/s", "cat": "MB/s", "beside": "ms", "keystrokes": "µs", "attach": "ms", "exec": "ms"}


@attrs.define
class Run:
    """What one run has found.

    Attributes:
        machine: what it ran on.
        date: when.
        clients: who took part, by name.
        load: how many processes ran at its start.
        rows: the workloads, with each client's result by its name.
        imports: milliseconds by module.
        scale: by framework, a row for each count.
    """

    machine: str
    date: str
    clients: dict[str, Client]
    load: float
    rows: list[tuple[Workload, dict[str, Result]]] = attrs.Factory(list)
    imports: dict[str, float] = attrs.Factory(dict)
    scale: dict[str, list[dict[str, float]]] = attrs.Factory(dict)

    @classmethod
    def now(cls, clients: Iterable[Client]) -> Self:
        """An empty run on this machine."""
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())
        machine = f"{model}, {os.cpu_count()} cores, Linux {platform.release()}, CPython {platform.python_version()}"
        date = datetime.date.today().isoformat()
        return cls(machine, date, {client.name: client for client in clients}, os.getloadavg()[0])


def figure(workload: Workload, result: Result | None) -> str:
    """A cell: megabytes a second, microseconds of a keystroke, or milliseconds of a job."""
    if result is None:
        return "–"
    if result.wrong:
        return result.wrong if result.wrong.startswith("over ") else "wrong"
    value = rate(workload, result)
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}" if value < 10 else f"{value:.1f}"


def rate(workload: Workload, result: Result) -> float:
    """The figure of a result that is right, in the unit of ``UNITS``."""
    assert result.seconds is not None
    match workload.kind:
        case "output" | "cat":
            return workload.size / result.seconds / 1e6
        case "keystrokes":
            return result.seconds * 1e6
        case _:
            return result.seconds * 1e3


def printed(workload: Workload, results: dict[str, Result]) -> str:
    """A row as one line of text."""
    cells = "  ".join(f"{name} {figure(workload, result)}" for name, result in results.items())
    return f"{workload.name} ({UNITS[workload.kind]}): {cells}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _figures(run: Run, kinds: Sequence[str], unit: str) -> str:
    """A row for each workload of these kinds, a column for each client that can do one of them."""
    rows = [(workload, results) for workload, results in run.rows if workload.kind in kinds]
    names = [name for name in run.clients if any(name in results for _, results in rows)]
    return table(
        [unit, *[run.clients[name].title for name in names]],
        [[workload.title, *[figure(workload, results.get(name)) for name in names]] for workload, results in rows],
    )


def ratios(run: Run) -> str:
    """How many times as fast as each peer our adapters are; under 1 the peer is faster."""
    lines = []
    for workload, results in run.rows:
        if workload.kind not in ("output", "cat"):
            continue
        cells = []
        for peer in PEERS:
            other = results.get(peer)
            if other is None or other.seconds is None:
                cells.append("–")
                continue
            ours = [results[name].seconds for name in ADAPTERS]
            cells.append(", ".join("–" if mine is None else f"{other.seconds / mine:.2f}" for mine in ours))
        lines.append([workload.title, *cells])
    titles = [f"of {run.clients[peer].title}" if peer in run.clients else f"of {peer}" for peer in PEERS]
    return table(["times the rate (blocking, asyncio, trio)", *titles], lines)


def _memory(run: Run) -> str:
    row = next(((workload, results) for workload, results in run.rows if workload.name == "one-frame"), None)
    if row is None:
        return ""
    return table(
        ["MiB at most", row[0].title],
        [
            [run.clients[name].title, f"{result.peak / 2**20:,.0f}"]
            for name, result in row[1].items()
            if result.peak and not result.wrong
        ],
    )


def _imports(run: Run) -> str:
    bare = "the interpreter alone"
    return table(["import", "ms"], [[f"`{name}`" if name else bare, f"{ms:.0f}"] for name, ms in run.imports.items()])


def _scale(run: Run) -> str:
    lines = []
    for framework, rows in run.scale.items():
        for row in rows:
            opened, read = f"{row['count'] / row['seconds']:,.0f}", f"{row['megabytes']:,.0f}"
            lines.append([framework, f"{row['count']:,.0f}", f"{row['bytes'] / 1024:.1f}", opened, read])
    return table(["", "open", "KiB each", "opened per second", "MB/s of all together"], lines)


def _machine(run: Run) -> str:
    versions = [client.version for client in run.clients.values() if client.version]
    named = [
        f"{run.clients[name].title} {run.clients[name].version}"
        for name in ("go", "cli", "dockerode")
        if name in run.clients
    ]
    python = [version for version in versions if version.split()[0] in ("uvloop", "docker", "aiodocker")]
    return (
        f"{run.date}, {run.machine}. Beside this run, {run.load:.1f} processes were running when it began. "
        f"The others: {', '.join(python + named)}."
    )


def sections(run: Run) -> dict[str, str]:
    """The generated parts of the page that this run has figures for."""
    found = {"machine": _machine(run)}
    if any(workload.kind == "output" for workload, _ in run.rows):
        found |= {
            "throughput": _figures(run, ("output", "cat"), "MB/s"),
            "ratios": ratios(run),
            "latency": _figures(run, ("keystrokes",), "µs"),
            "beside": _figures(run, ("beside",), "ms"),
            "jobs": _figures(run, ("attach", "exec"), "ms"),
            "memory": _memory(run),
        }
    if run.imports:
        found["imports"] = _imports(run)
    if run.scale:
        found["scale"] = _scale(run)
    return found
