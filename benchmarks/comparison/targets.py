"""What this library wants to reach, and whether a run has reached it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import attrs

from benchmarks.comparison.measuring import Result
from benchmarks.comparison.tables import ADAPTERS, Run, table

# By workload: the least rate, in times that of a client.
RATES: Final = {
    "lines": {"go": 0.85, "aiodocker": 5.0},
    "alternating": {"go": 0.38, "aiodocker": 2.0},
    "build-log": {"go": 0.8, "aiodocker": 2.0},
    "32k": {"go": 0.9, "aiodocker": 1.0, "docker-py": 1.0},
    "tty": {"go": 1.4, "aiodocker": 1.0, "docker-py": 1.0},
    "exec-tls": {"docker-py": 1.0},
}

# The longest round trip of a keystroke, in times that of the bare loop of the same framework.
ROUND_TRIP: Final = 1.3
BARE: Final = {"blocking": "drain", "asyncio": "drain-asyncio", "trio": "drain-trio"}

# The longest import, in times that of another client.
IMPORTS: Final = {
    "attachproto_adapters.blocking": ("docker", 0.8),
    "attachproto_adapters.asyncio": ("aiodocker", 0.6),
}

# The largest memory of an attachment that waits, in KiB.
IDLE: Final = {"core": 3.0, "blocking": 5.0, "asyncio": 7.0, "trio": 10.0}


@attrs.frozen
class Target:
    """One thing to reach.

    Attributes:
        what: what is measured.
        who: the adapter.
        bound: the least or the largest value.
        least: whether ``bound`` is the least.
        found: the value; ``None`` if this run has not measured it.
    """

    what: str
    who: str
    bound: float
    least: bool
    found: float | None

    @property
    def outcome(self) -> str:
        """``reached``, ``missed``, or ``not measured``."""
        if self.found is None:
            return "not measured"
        return "reached" if (self.found >= self.bound if self.least else self.found <= self.bound) else "missed"

    @property
    def wanted(self) -> str:
        """The bound in words."""
        return f"at {'least' if self.least else 'most'} {self.bound:g}"

    def __str__(self) -> str:
        found = "" if self.found is None else f"{self.found:.2f}, "
        return f"target {self.what}, {self.who}: {found}{self.wanted}: {self.outcome}"


def _times(mine: Result | None, other: Result | None) -> float | None:
    """How many times as fast as the other client this one is."""
    if mine is None or other is None or mine.seconds is None or other.seconds is None:
        return None
    return other.seconds / mine.seconds


def targets(run: Run) -> Iterator[Target]:
    """Every target, with what this run has found."""
    rows = {workload.name: (workload.title, results) for workload, results in run.rows}
    for name, peers in RATES.items():
        title, results = rows.get(name, (name, {}))
        for peer, least in peers.items():
            for adapter in ADAPTERS:
                yield Target(
                    f"{title}: times {peer}", adapter, least, True, _times(results.get(adapter), results.get(peer))
                )
    title, results = rows.get("keystrokes", ("keystrokes", {}))
    for adapter, bare in BARE.items():
        times = _times(results.get(bare), results.get(adapter))
        yield Target(f"{title}: times the bare loop's time", adapter, ROUND_TRIP, False, times)
    for module, (peer, most) in IMPORTS.items():
        mine, other = run.imports.get(module), run.imports.get(peer)
        adapter = module.rpartition(".")[2]
        yield Target(f"import: times {peer}'s time", adapter, most, False, mine and other and mine / other)
    for framework, most in IDLE.items():
        found = run.scale.get(framework)
        # Of the most attachments: with few of them, what is shared counts more.
        yield Target("KiB of an idle attachment", framework, most, False, found[-1]["bytes"] / 1024 if found else None)


def as_table(run: Run) -> str:
    """The targets as a table for the page."""
    return table(
        ["target", "adapter", "wanted", "found", ""],
        [
            [each.what, each.who, each.wanted, "–" if each.found is None else f"{each.found:.2f}", each.outcome]
            for each in targets(run)
        ],
    )
