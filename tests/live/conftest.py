"""Finds or starts the real engines, clears up after each test, and says at the end what ran and what could not.

ATTACHPROTO_LIVE_DOCKER, ATTACHPROTO_LIVE_PODMAN   a unix:// URL each: engines that run already
ATTACHPROTO_LIVE=required                          a missing engine is a failure, not a skip
ATTACHPROTO_LIVE_COUNTS=full                       all repetitions instead of a tenth

A session that started an engine ends it, whoever else has found it meanwhile: give sessions that run side by side an
ATTACHPROTO_LIVE_DIR each.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.live import engines
from tests.live.engine_api import Engine

REQUIRED = os.environ.get("ATTACHPROTO_LIVE") == "required"
FULL = os.environ.get("ATTACHPROTO_LIVE_COUNTS") == "full"


@dataclass
class Session:
    found: dict[str, Engine] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    counts: list[tuple[str, str, int, int, str]] = field(default_factory=list)


SESSION = pytest.StashKey[Session]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash.setdefault(SESSION, Session())


def _find(name: str) -> engines.Running:
    variable = f"ATTACHPROTO_LIVE_{name.upper()}"
    url = os.environ.get(variable)
    if not url:
        return engines.up(name)
    scheme, _, path = url.partition("://")
    if scheme != "unix":
        raise engines.EngineUnavailable(f"{variable} is {url!r}, where only unix:///PATH will do")
    if not engines.answers(path):
        raise engines.EngineUnavailable(f"nothing answers on {url}, which {variable} names")
    engines.ensure_image(path)
    return engines.identify(name, Path(path))


def _engine(config: pytest.Config, name: str) -> Iterator[Engine]:
    session = config.stash[SESSION]
    try:
        running = _find(name)
    except (engines.EngineUnavailable, OSError) as error:
        session.missing[name] = str(error)
        if REQUIRED:
            pytest.fail(f"no {name}: {error}", pytrace=False)
        pytest.skip(f"no {name}: {error}")
    session.found[name] = engine = Engine(running)
    try:
        yield engine
    finally:
        if running.started_here:
            engines.down(name)


@pytest.fixture(scope="session")
def docker(pytestconfig: pytest.Config) -> Iterator[Engine]:
    """A real dockerd."""
    yield from _engine(pytestconfig, "docker")


@pytest.fixture(scope="session")
def podman(pytestconfig: pytest.Config) -> Iterator[Engine]:
    """A real podman service."""
    yield from _engine(pytestconfig, "podman")


@pytest.fixture(params=engines.NAMES)
def engine(request: pytest.FixtureRequest) -> Engine:
    """Each of the two in turn."""
    found: Engine = request.getfixturevalue(request.param)
    return found


@pytest.fixture(autouse=True)
def _no_containers_left(pytestconfig: pytest.Config) -> Iterator[None]:
    yield
    for engine in pytestconfig.stash[SESSION].found.values():
        engine.remove_all()


@pytest.fixture
def times() -> Callable[[int], int]:
    """How often to repeat what is repeated so many times in full."""
    return lambda full: full if FULL else full // 10


@pytest.fixture
def count(pytestconfig: pytest.Config) -> Callable[..., None]:
    """Puts a line into the table at the end: what, on which engine, how many of how many, and a remark."""

    def put(what: str, engine: Engine, good: int, total: int, remark: str = "") -> None:
        pytestconfig.stash[SESSION].counts.append((what, f"{engine.name} {engine.version}", good, total, remark))

    return put


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    session = config.stash.get(SESSION, Session())
    write = terminalreporter.write_line
    if session.counts:
        terminalreporter.section(f"live counts ({'full' if FULL else 'a tenth'})")
        what = max(len(row[0]) for row in session.counts)
        where = max(len(row[1]) for row in session.counts)
        for name, engine, good, total, remark in session.counts:
            write(f"{name:<{what}}  {engine:<{where}}  {good:>5} of {total:<5} {remark}".rstrip())
    if session.missing:
        terminalreporter.section("live engines")
        for name, why in session.missing.items():
            reports = terminalreporter.stats.get("error" if REQUIRED else "skipped", [])
            lost = sum(f"no {name}: " in str(report.longrepr) for report in reports)
            write(f"There was no {name}: {why}.")
            write(f"{lost} tests against a real {name} did NOT run.")
