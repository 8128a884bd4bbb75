"""Runs fuzz targets as processes of their own, some at a time, and adds up what they report."""

from __future__ import annotations

import argparse
import concurrent.futures
import importlib
import importlib.util
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import attrs

from fuzz.targets import TARGETS

ROOT = Path(__file__).resolve().parents[1]

# Longer inputs make each run slower, and show nothing that shorter ones do not: the limits in the targets are small.
_MAX_LENGTH = 4096

# An input of 4 KiB that takes a minute hangs, however busy the machine is.
_HANGS_SECONDS = 60


@attrs.frozen
class Result:
    """What one target has reported.

    Attributes:
        target: its name.
        executions: how many inputs were run.
        covered: branches and other features of the code that were reached.
        features: the same, with how often they were reached.
        added: inputs that reached something new.
        status: of the process; 0 if nothing was found.
        log: all that it has printed.
    """

    target: str
    executions: int
    covered: int
    features: int
    added: int
    status: int
    log: str


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the targets that were named, or all. Returns 1 if one has found something."""
    parser = argparse.ArgumentParser(prog="fuzz/run", description="Run fuzz targets of attachproto with atheris.")
    parser.add_argument("seconds", type=int, help="how long each target runs")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"one of {', '.join(TARGETS)}; all by default")
    parser.add_argument("--jobs", type=int, default=2, help="how many targets run at a time (default: 2)")
    parser.add_argument("--corpus", type=Path, help="keeps the inputs that reach something new, for the next run")
    parser.add_argument("--found", type=Path, default=ROOT / "fuzz" / "found", help="where reproducing inputs go")
    given = parser.parse_args(arguments)
    if unknown := set(given.targets) - set(TARGETS):
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    if importlib.util.find_spec("atheris") is None:
        parser.error("atheris is missing: pip install '.[fuzz]'")
    given.found.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="attachproto-fuzz-") as temporary:
        corpus = given.corpus or Path(temporary, "corpus")
        with concurrent.futures.ThreadPoolExecutor(given.jobs) as pool:
            running = [
                pool.submit(_run, target, given.seconds, corpus / target, Path(temporary, target), given.found)
                for target in given.targets or TARGETS
            ]
            results = [_shown(done.result(), given.found) for done in concurrent.futures.as_completed(running)]
    failed = sorted(result.target for result in results if result.status)
    print(
        f"{len(results)} targets, {sum(result.executions for result in results):,} executions, "
        f"{sum(result.added for result in results):,} new inputs, "
        + (f"findings in {', '.join(failed)}" if failed else "no finding")
    )
    return 1 if failed else 0


def _run(target: str, seconds: int, corpus: Path, seeds: Path, found: Path) -> Result:
    for folder in (corpus, seeds):
        folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(importlib.import_module(f"fuzz.targets.{target}").seeds()):
        (seeds / f"{number:05}").write_bytes(seed)
    command = [
        *(sys.executable, "-m", "fuzz", target, str(corpus.resolve()), str(seeds)),
        f"-max_total_time={seconds}",
        f"-max_len={_MAX_LENGTH}",
        f"-timeout={_HANGS_SECONDS}",
        f"-report_slow_units={_HANGS_SECONDS}",
        f"-artifact_prefix={found.resolve()}/{target}-",
        "-print_final_stats=1",
    ]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    log = done.stdout.decode("utf-8", "replace")

    def last(pattern: str) -> int:
        return int((re.findall(pattern, log) or ["0"])[-1])

    executions = last(r"stat::number_of_executed_units: +(\d+)")
    return Result(
        target,
        executions,
        last(r" cov: (\d+)"),
        last(r" ft: (\d+)"),
        last(r"stat::new_units_added: +(\d+)"),
        # A target that could not be started has found nothing, and has failed all the same.
        done.returncode or int(not executions),
        log,
    )


def _shown(result: Result, found: Path) -> Result:
    print(
        f"{result.target}: {result.executions:,} executions, {result.covered:,} branches and {result.features:,} "
        f"features reached, {result.added:,} new inputs, {'a FINDING' if result.status else 'no finding'}",
        flush=True,
    )
    if result.status:
        print(result.log[-6000:])
        for path in sorted(found.glob(f"{result.target}-*")):
            print(f"run it alone: python -m fuzz {result.target} {path}", flush=True)
    return result
