"""The matrix: every scenario on every engine with every adapter. Writes docs/compatibility.md.

    python -m tests.live.matrix --up --write
    python -m tests.live.matrix --engine docker-28.5=unix:///PATH --part scenarios --only exec --adapter trio

The exit status is 1 if anything has failed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from attachproto_adapters import AttachWarning
from tests.live import engines
from tests.live.matrix import page, roots
from tests.live.matrix.play import FRAMEWORKS, Played, cells, play_all
from tests.live.matrix.scenarios import SCENARIOS
from tests.live.matrix.scene import Scenario

PARTS = ("scenarios", "terminal", "proxies")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.live.matrix", description="The matrix of docs/compatibility.md.")

    def option(name: str, text: str, **how: Any) -> None:
        parser.add_argument(name, help=text, **(how or {"action": "store_true"}))

    option("--up", "bring up the engines of three Debian releases; needs root")
    option("--engine", "one that runs already", action="append", default=[], metavar="LABEL=unix:///PATH")
    option("--only", "scenarios with this in group or name", action="append", default=[], metavar="WORD")
    option("--adapter", "with this alone", action="append", default=[], choices=[str(each) for each in FRAMEWORKS])
    option("--part", "this alone; terminal and proxies are tests/live/test_*.py", action="append", choices=PARTS)
    option("--write", "write docs/compatibility.md, or the part of it that was run")
    given = parser.parse_args()
    if not given.up and not given.engine:
        parser.error("name engines with --engine, or bring them up with --up")
    if given.write and (given.only or given.adapter):
        parser.error("the page is written by a whole run")
    given.part = given.part or PARTS
    return given


@contextlib.contextmanager
def found(given: argparse.Namespace) -> Iterator[list[engines.Running]]:
    running = []
    for item in given.engine:
        label, _, url = item.partition("=")
        path = Path(url.removeprefix("unix://"))
        engines.ensure_image(path)
        running.append(engines.identify(label, path))
    with contextlib.ExitStack() as stack:
        yield [*(stack.enter_context(roots.all_up()) if given.up else []), *running]


def environment(up: Sequence[engines.Running]) -> dict[str, str]:
    """By which the live tests find these engines: the last of each kind by the name of the kind."""
    last = {each.name: each for each in up}
    more = [f"{each.label}={each.host}" for each in up if each is not last[each.name]]
    named = {f"ATTACHPROTO_LIVE_{name.upper()}": each.host for name, each in last.items()}
    return os.environ | named | {"ATTACHPROTO_LIVE": "required", "ATTACHPROTO_LIVE_MORE": ",".join(more)}


def run_tests(path: str, variables: Mapping[str, str]) -> int:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", path]
    return subprocess.run(command, env=dict(variables), cwd=page.PAGE.parents[1]).returncode


def terminal(up: Sequence[engines.Running]) -> tuple[int, str]:
    """Runs the cases of the terminal on these engines: the exit status, and the table."""
    labels = {each.version: each.label for each in up}
    with tempfile.NamedTemporaryFile() as file:
        status = run_tests("tests/live/test_terminal.py", environment(up) | {"ATTACHPROTO_LIVE_REPORT": file.name})
        counts = json.loads(file.read() or b"[]")
    rows = [
        (what, labels.get(engine.split()[-1], engine.split()[0]), good, total)
        for what, engine, good, total, _ in counts
    ]
    return status, page.terminal_table(rows)


def named(words: Sequence[str]) -> list[Scenario]:
    """The scenarios that have one of these words in their group or name; all of them without words."""
    return [each for each in SCENARIOS if not words or any(word in f"{each.group} {each}" for word in words)]


def main() -> int:
    given = arguments()
    warnings.simplefilter("ignore", AttachWarning)  # some scenarios do what it warns of
    chosen = named(given.only)
    adapters = [each for each in FRAMEWORKS if not given.adapter or each.name in given.adapter]
    lock = threading.Lock()
    failed_once: list[Played] = []

    def report(played: Played) -> None:
        with lock:
            failed_once.extend([played] if played.failure else [])
            mark = "FAILS" if played.failure else ", ".join(played.differences) or "passes"
            print(f"{played.engine} {played.scenario} {played.adapter} {played.seconds:.2f} {mark}", flush=True)
            if played.failure:
                print(played.failure, flush=True)

    began = time.monotonic()
    with found(given) as up:
        print(f"up after {time.monotonic() - began:.0f} s: {', '.join(f'{each.label} {each.version}' for each in up)}")
        played = play_all(chosen, up, report, adapters) if "scenarios" in given.part else []
        bad = [each for each in played if each.failure]
        status, table = terminal(up) if "terminal" in given.part else (0, "")
        if "proxies" in given.part:
            # On the dockerd of this machine, as in CI, which compares its page with what it sees.
            variables = os.environ | {"ATTACHPROTO_LIVE": "required", "ATTACHPROTO_PROXIES": "write"}
            status |= run_tests("tests/live/test_proxies.py", variables)
    seconds = time.monotonic() - began
    repeated = len(failed_once) - len(bad)
    print(
        f"{len(chosen)} scenarios x {len(up)} engines x {len(adapters)} adapters: {len(played)} plays, "
        f"{len(bad)} failed, {repeated} passed at the second attempt; {seconds / 60:.1f} minutes in all"
    )
    if given.write:
        text = page.PAGE.read_text()
        text = with_plays(text, up, played, repeated, seconds) if played else text
        page.PAGE.write_text(page.marked(text, "terminal", table) if table else text)
    return int(bool(bad or status))


def with_plays(
    text: str, up: Sequence[engines.Running], played: Sequence[Played], repeated: int, seconds: float
) -> str:
    """The page with what the scenarios have shown."""
    names = [each.label for each in up]
    seen = cells(played)
    again = f" {repeated} of them failed at first, and passed when they were played again." if repeated else ""
    lines = [
        f"{len(SCENARIOS)} scenarios × {len(up)} engines × {len(FRAMEWORKS)} adapters: {len(played):,} plays on "
        f"{datetime.now(UTC):%Y-%m-%d}, in {seconds / 60:.0f} minutes.{again}",
        "",
        *(f"- {each.label}: {page.PRODUCTS[each.name]} {each.version}, API {each.api_version}" for each in up),
    ]
    text = page.marked(text, "run", "\n".join(lines))
    text = page.marked(text, "tables", page.tables(SCENARIOS, names, seen))
    return page.marked(text, "differences", page.notes(page.numbers(SCENARIOS, names, seen)))


if __name__ == "__main__":
    sys.exit(main())
