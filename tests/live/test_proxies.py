"""The adapters through real proxies in front of a real dockerd; docs/proxies.md has the table of what was seen.

    ATTACHPROTO_PROXIES=write python -m pytest tests/live/test_proxies.py        writes the table and configurations

Every cell is right, or an error of the library in time: never a success with output missing, never a hang.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import pytest

from tests.live import engines
from tests.live.engine_api import Engine
from tests.live.proxies import page, servers
from tests.live.proxies.cells import ADAPTERS, COLUMNS, HANG, RIGHT, WRONG, Column, Outcome, Scene, play
from tests.live.proxies.configurations import WAYS, Program, Way

pytestmark = pytest.mark.live

WRITE = os.environ.get("ATTACHPROTO_PROXIES") == "write"
FULL = os.environ.get("ATTACHPROTO_LIVE_COUNTS") == "full"

# Most of a cell's time is waiting; more at once only make the engine slow.
AT_ONCE = 16

PROGRAMS = {way.program.name: way.program for way in WAYS}
RECOMMENDED = ("haproxy, `mode tcp`", "nginx `stream`, `proxy_half_close on`", "Apache, `upgrade=ANY`")


@dataclass
class Seen:
    """What a run has seen.

    Attributes:
        missing: why a program could not be had.
        versions: what each program calls itself.
        outcomes: by way and column: what was played, and what came of it.
    """

    missing: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    outcomes: dict[tuple[str, str], dict[str, Outcome]] = field(default_factory=dict)

    def row(self, way: Way) -> dict[str, dict[str, Outcome]]:
        return {column.name: self.outcomes[way.name, column.name] for column in COLUMNS}


@dataclass(frozen=True)
class Play:
    way: Way
    column: Column
    title: str
    run: Callable[[], Outcome]


def _plays(engine: Engine, hosts: servers.Hosts, ways: list[Way]) -> Iterator[Play]:
    """Starting a container costs much: where a play does, one adapter plays it, in turn, unless all counts are full."""
    sleeper = engine.create("sleep", "600")
    engine.start(sleeper)
    finished = engine.finish(engine.shell("echo out; echo err >&2; exit 3"))
    for number, column in enumerate(COLUMNS):
        for way in ways:
            turn = ADAPTERS[(number + WAYS.index(way)) % len(ADAPTERS)]
            for adapter in (turn,) if column.starts and not FULL else ADAPTERS:
                scene = Scene(adapter, engine, hosts[way.name, column.variant], sleeper, finished)
                for scenario in column.scenarios:
                    title = f"{scenario.__name__} by {adapter.name}"
                    yield Play(way, column, title, partial(play, scenario, scene))


@pytest.fixture(scope="module")
def seen(docker: Engine) -> Seen:
    """All cells, played side by side."""
    seen = Seen()
    paths: dict[str, str] = {}
    for name, program in PROGRAMS.items():
        try:
            paths[name] = servers.find(program)
            seen.versions[name] = servers.version(program, paths[name])
        except engines.EngineUnavailable as why:
            seen.missing[name] = str(why)
    ways = [way for way in WAYS if way.program.name in paths]
    with servers.up(docker.socket, paths) as hosts, ThreadPoolExecutor(AT_ONCE) as pool:
        plays = list(_plays(docker, hosts, ways))
        for each, outcome in zip(plays, pool.map(lambda each: each.run(), plays), strict=True):
            seen.outcomes.setdefault((each.way.name, each.column.name), {})[each.title] = outcome
    return seen


@pytest.fixture
def has(seen: Seen, lacking: Callable[[str, object], None]) -> Callable[[Program], None]:
    """Skips, or fails where everything is required, without a program."""

    def check(program: Program) -> None:
        if why := seen.missing.get(program.name):
            lacking(program.name, why)

    return check


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
def test_right_or_an_error_in_time(way: Way, seen: Seen, has: Callable[[Program], None]) -> None:
    has(way.program)
    bad = {
        f"{column}, {title}": outcome.detail
        for column, outcomes in seen.row(way).items()
        for title, outcome in outcomes.items()
        if outcome.kind in (WRONG, HANG)
    }
    assert bad == {}


@pytest.mark.parametrize("name", RECOMMENDED)
def test_what_the_page_recommends_is_right(name: str, seen: Seen, has: Callable[[Program], None]) -> None:
    (way,) = [way for way in WAYS if way.name == name]
    has(way.program)
    row = seen.row(way)
    wrong = {
        f"{column.name}, {title}": outcome
        for column in COLUMNS
        if column.variant == "open"
        for title, outcome in row[column.name].items()
        if outcome.kind != RIGHT
    }
    assert wrong == {}


def test_the_page_says_what_was_seen(docker: Engine, seen: Seen, has: Callable[[Program], None]) -> None:
    for program in PROGRAMS.values():
        has(program)
    cells = {key: [outcome.kind for outcome in outcomes.values()] for key, outcomes in seen.outcomes.items()}
    versions = [
        f"- {line}"
        for line in (f"dockerd {docker.version}", *(f"{name} {number}" for name, number in seen.versions.items()))
    ]
    text = page.PAGE.read_text()
    if WRITE:
        text = page.rewritten(text, cells, versions)
        page.PAGE.write_text(text)
    assert {way.name: page.configuration(text, way) for way in WAYS} == {
        way.name: way.site(page.EXAMPLE) for way in WAYS
    }
    if page.read_versions(text) != versions:
        pytest.skip(f"the page's table is of other versions than these: {', '.join(versions)}")
    said = page.read_table(text)
    assert said.keys() == cells.keys()
    # By chance of timing a cell may show fewer of its errors than the page names, and never another one.
    assert {key: set(kinds) - said[key] for key, kinds in cells.items() if set(kinds) - said[key]} == {}
