"""Measures this library beside the other clients, all reading the same prepared bytes from one replay server.

    python -m benchmarks.compare [--quick] [--only WORKLOAD ...] [--clients CLIENT ...] [--rounds 3] [--write]

Each round runs each client once, in a process of its own. The figures are medians. A client that has not read exactly
what was sent gets no time. ``--write`` puts the tables and the plots into ``docs/performance.md``, with what else it
says: memory, imports, and many open attachments. Each target that the run has a figure for is printed as reached or
missed (``comparison/targets.py``). ``--quick`` runs each client once on a few workloads, with small sizes: it shows
that everything works, and its figures mean nothing. The exit status is 1 if one of our own clients is wrong.

The extra ``bench`` has the Python packages. Go's stdcopy takes part where Debian's ``golang-go`` and
``golang-github-docker-docker-dev`` are, the docker CLI where it is on the PATH, dockerode where Node.js and npm are.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Final

from benchmarks.comparison import certificates, imports, page, scale, targets
from benchmarks.comparison.measuring import Comparison
from benchmarks.comparison.programs import clients
from benchmarks.comparison.replay import Replay
from benchmarks.comparison.tables import Run, printed
from benchmarks.comparison.workloads import workloads

OURS: Final = {"core", "blocking", "asyncio", "uvloop", "trio"}

# One of each kind; over TLS, because that is built on Unix sockets' code too.
QUICK: Final = ("alternating", "tty", "tls-32k", "cat", "keystrokes", "attach-unix", "exec-tls")

SCALE: Final = (1_000, 2_000, 5_000, 10_000)


def main() -> bool:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", nargs="+", help="workloads", default=[])
    parser.add_argument("--clients", nargs="+", default=[])
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    rounds = given.rounds if given.rounds is not None else (0 if given.quick else 3)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        taking_part = clients(directory, print)
        if given.clients:
            taking_part = [client for client in taking_part if client.name in given.clients]
        replay = Replay(directory, certificates.make(directory))
        run = Run.now(taking_part)
        with replay.serving():
            comparison = Comparison(taking_part, replay, directory, print)
            for workload in workloads(quick=given.quick):
                if workload.name in (given.only or (QUICK if given.quick else [workload.name])):
                    results = comparison.run(workload, rounds)
                    run.rows.append((workload, results))
                    print(printed(workload, results), flush=True)
    if not given.only or "imports" in given.only:
        run.imports = imports.measure(1 if given.quick else 9)
        print("imports (ms):", json.dumps(run.imports))
    if not given.only or "scale" in given.only:
        run.scale = scale.measure((20,) if given.quick else SCALE)
    if not given.quick:
        for target in targets.targets(run):
            if target.found is not None:
                print(target)
    if given.write:
        page.write(run)
    return not any(result.wrong for _, results in run.rows for name, result in results.items() if name in OURS)


if __name__ == "__main__":
    sys.exit(not main())
