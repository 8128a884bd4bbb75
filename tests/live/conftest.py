"""Finds or starts the real engines, clears up after each test, and says at the end what ran and what could not.

ATTACHPROTO_LIVE_DOCKER, ATTACHPROTO_LIVE_PODMAN   a unix:// URL each: engines that run already
ATTACHPROTO_LIVE_MORE                              LABEL=unix:///PATH[,...]: more of them, for the fixture `engine`
ATTACHPROTO_LIVE=required                          a missing engine is a failure, not a skip
ATTACHPROTO_LIVE_COUNTS=full                       all repetitions instead of a tenth
ATTACHPROTO_LIVE_REPORT=FILE                       the table of counts is also written there, as JSON

A session that started an engine ends it, whoever else has found it meanwhile: give sessions that run side by side an
ATTACHPROTO_LIVE_DIR each.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import pytest

from tests.adapters.frameworks import FRAMEWORKS, Framework
from tests.live import engines
from tests.live import sshd as ssh_server
from tests.live.engine_api import Engine, Route

REQUIRED = os.environ.get("ATTACHPROTO_LIVE") == "required"
FULL = os.environ.get("ATTACHPROTO_LIVE_COUNTS") == "full"
# Ours, each in a process of its own: whatever is true of a real engine is to be true of them.
EMBEDDED = {"embedded": "dockerd", "embedded-podman": "podman"}

Lacking = Callable[[str, object], NoReturn]
ROUTES = ("docker-unix", "docker-tcp", "docker-tls", "docker-ssh", "podman-unix", "podman-tcp")


def _named_engines() -> dict[str, tuple[str, str]]:
    """Engines that run already: {label: (URL, the variable that names it)}."""
    named = {}
    for label in engines.NAMES:
        variable = f"ATTACHPROTO_LIVE_{label.upper()}"
        if url := os.environ.get(variable):
            named[label] = (url, variable)
    for item in filter(None, os.environ.get("ATTACHPROTO_LIVE_MORE", "").split(",")):
        label, _, url = item.strip().partition("=")
        if not url or label in named or label in (*engines.LABELS, *EMBEDDED, ssh_server.NAME):
            raise pytest.UsageError(f"ATTACHPROTO_LIVE_MORE takes LABEL=unix:///PATH, each label once: not {item!r}")
        named[label] = (url, "ATTACHPROTO_LIVE_MORE")
    return named


NAMED = _named_engines()


@dataclass
class Session:
    found: dict[str, Engine] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    counts: list[tuple[str, str, int, int, str]] = field(default_factory=list)


SESSION = pytest.StashKey[Session]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash.setdefault(SESSION, Session())


@pytest.fixture(scope="session")
def lacking(pytestconfig: pytest.Config) -> Lacking:
    """Ends a test that does not get what it needs: what, and why."""

    def end(what: str, why: object) -> NoReturn:
        pytestconfig.stash[SESSION].missing[what] = str(why)
        if REQUIRED:
            pytest.fail(f"no {what}: {why}", pytrace=False)
        pytest.skip(f"no {what}: {why}")

    return end


# -- the engines ------------------------------------------------------------------------------------------------------


@contextmanager
def _embedded(label: str) -> Iterator[engines.Running]:
    with tempfile.TemporaryDirectory(prefix="attachproto-") as directory:
        path = Path(directory, "engine.sock")
        command = [sys.executable, "-m", "attachproto_adapters", "engine", "--host", f"unix://{path}"]
        command += ["--emulate", EMBEDDED[label]]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as child:
            try:
                assert child.stdout is not None
                if not child.stdout.readline():
                    raise engines.EngineUnavailable("the embedded engine does not start")
                yield engines.identify(label, path)
            finally:
                child.terminate()


def _find(label: str) -> engines.Running:
    if label not in NAMED:
        return engines.up(label)
    url, variable = NAMED[label]
    scheme, _, path = url.partition("://")
    if scheme != "unix":
        raise engines.EngineUnavailable(f"{variable} has {url!r}, where only unix:///PATH will do")
    if not engines.answers(path):
        raise engines.EngineUnavailable(f"nothing answers on {url}, which {variable} names")
    engines.ensure_image(path)
    return engines.identify(label, Path(path))


@pytest.fixture(scope="session")
def find_engine(pytestconfig: pytest.Config, lacking: Lacking) -> Iterator[Callable[[str], Engine]]:
    """Gives the engine of a label, which it starts when it is asked for the first time."""
    session = pytestconfig.stash[SESSION]
    with ExitStack() as stack:

        def find(label: str) -> Engine:
            if label not in session.found:
                try:
                    if label in session.missing:
                        raise engines.EngineUnavailable(session.missing[label])
                    running = stack.enter_context(_embedded(label)) if label in EMBEDDED else _find(label)
                except (engines.EngineUnavailable, OSError) as why:
                    lacking(label, why)
                session.found[label] = Engine(running)
                if running.started_here:
                    stack.callback(engines.down, label)
            return session.found[label]

        yield find


@pytest.fixture(scope="session")
def docker(find_engine: Callable[[str], Engine]) -> Engine:
    """A real dockerd."""
    return find_engine("docker")


@pytest.fixture(scope="session")
def podman(find_engine: Callable[[str], Engine]) -> Engine:
    """A real podman service."""
    return find_engine("podman")


@pytest.fixture(scope="session")
def docker_tls(find_engine: Callable[[str], Engine]) -> Engine:
    """A real dockerd with `tls_host`, which asks for a client certificate, and `certificates` for it."""
    return find_engine("docker-tls")


@pytest.fixture(params=[*engines.NAMES, *EMBEDDED, *(label for label in NAMED if label not in engines.NAMES)])
def engine(request: pytest.FixtureRequest, find_engine: Callable[[str], Engine]) -> Engine:
    """Each of those that are up in turn."""
    return find_engine(request.param)


# -- ways to them -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def sshd(lacking: Lacking) -> Iterator[ssh_server.Sshd]:
    """A real sshd that lets the user in who runs the tests."""
    try:
        running = ssh_server.up(docker_host=NAMED["docker"][0] if "docker" in NAMED else None)
    except (engines.EngineUnavailable, OSError) as why:
        lacking(ssh_server.NAME, why)
    try:
        yield running
    finally:
        if running.started_here:
            ssh_server.down()


@pytest.fixture(scope="session")
def plain_tcp(pytestconfig: pytest.Config) -> Callable[[Engine], str]:
    """Gives an engine's `tcp_host`, or skips: of an engine that ran already only the Unix socket is known."""

    def find(engine: Engine) -> str:
        if engine.tcp_host is None:
            what, why = f"TCP port of {engine.label}", f"only {engine.host} is known of it, because it ran already"
            pytestconfig.stash[SESSION].missing[what] = why
            pytest.skip(f"no {what}: {why}")
        return engine.tcp_host

    return find


@pytest.fixture(params=ROUTES)
def route(request: pytest.FixtureRequest) -> Route:
    """Each way to each engine in turn."""
    name, transport = request.param.split("-")
    found: Engine = request.getfixturevalue("docker_tls" if transport == "tls" else name)
    if transport == "tcp":
        return Route(found, transport, request.getfixturevalue("plain_tcp")(found))
    if transport == "tls":
        assert found.tls_host is not None
        variables = {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(found.cert_path)}
        return Route(found, transport, found.tls_host, variables)
    if transport == "ssh":
        server: ssh_server.Sshd = request.getfixturevalue("sshd")
        return Route(found, transport, server.url(found.socket), server.environment)
    return Route(found, transport, found.host)


@pytest.fixture(scope="session")
def docker_cli(lacking: Lacking) -> str:
    """The path of the docker CLI."""
    try:
        return engines.docker_cli()
    except engines.EngineUnavailable as why:
        lacking("docker CLI", why)


@pytest.fixture(params=FRAMEWORKS, ids=str)
def framework(request: pytest.FixtureRequest) -> Framework:
    """Each adapter in turn."""
    found: Framework = request.param
    return found


# -- after each test, and at the end ----------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _no_containers_left(pytestconfig: pytest.Config) -> Iterator[None]:
    yield
    for engine in pytestconfig.stash[SESSION].found.values():
        engine.remove_all()
        engine.end_conmons()


@pytest.fixture
def times() -> Callable[[int], int]:
    """How often to repeat what is repeated so many times in full."""
    return lambda full: full if FULL else full // 10


@pytest.fixture
def count(pytestconfig: pytest.Config) -> Callable[..., None]:
    """Puts a line into the table at the end: what, on which engine, how many of how many, and a remark."""

    def put(what: str, engine: Engine, good: int, total: int, remark: str = "") -> None:
        pytestconfig.stash[SESSION].counts.append((what, f"{engine.label} {engine.version}", good, total, remark))

    return put


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    session = config.stash.get(SESSION, Session())
    write = terminalreporter.write_line
    if report := os.environ.get("ATTACHPROTO_LIVE_REPORT"):
        Path(report).write_text(json.dumps(session.counts))
    if session.counts:
        terminalreporter.section(f"live counts ({'full' if FULL else 'a tenth'})")
        left = max(len(row[0]) for row in session.counts)
        right = max(len(row[1]) for row in session.counts)
        for name, engine, good, total, remark in session.counts:
            write(f"{name:<{left}}  {engine:<{right}}  {good:>5} of {total:<5} {remark}".rstrip())
    if session.missing:
        terminalreporter.section("live engines")
        reports = [*terminalreporter.stats.get("error", []), *terminalreporter.stats.get("skipped", [])]
        for what, why in session.missing.items():
            lost = sum(f"no {what}: " in str(report.longrepr) for report in reports)
            write(f"There was no {what}: {why}. {lost} tests with it did NOT run.")
