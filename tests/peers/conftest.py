"""One engine for all foreign clients, its containers cleared up after each test; at the end, who took part.

ATTACHPROTO_PEERS_HOST    a unix:// URL: a real engine instead of the embedded one (its containers get no network)
ATTACHPROTO_PEERS_IMAGE   an image that it has, with a shell and the usual small programs; needed with a real engine
ATTACHPROTO_PEERS         `required`: a client that cannot be had is a failure, not a skip
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import itertools
import json
import os
import secrets
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import pytest

from tests.live import engines
from tests.peers import programs

REQUIRED = os.environ.get("ATTACHPROTO_PEERS") == "required"
TEST_TIMEOUT = 60.0
CALL_TIMEOUT = 30.0

# A container that says so on each tick that it lives, and ends when it is told to.
TICKS = (
    "trap 'echo told; echo apart >&2; exit 6' USR1; trap 'echo asked; exit 7' TERM; "
    "while :; do echo tick; sleep 0.1; done"
)
# Waits for a window of 33 lines and 111 columns; a terminal without a size makes some versions of stty complain.
SIZED = 'until [ "$(stty size 2>/dev/null)" = "33 111" ]; do sleep 0.05; done; '


@dataclass
class Session:
    present: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


SESSION = pytest.StashKey[Session]()


@dataclass(frozen=True)
class Engine:
    """The engine under the clients."""

    host: str
    image: str
    embedded: bool
    version: str
    api_version: str

    @property
    def socket(self) -> str:
        return self.host.removeprefix("unix://")

    @property
    def network(self) -> str | None:
        """The network mode to ask for; a real engine in a test machine often has no bridge."""
        return None if self.embedded else "none"

    @property
    def host_config(self) -> dict[str, Any]:
        return {} if self.network is None else {"NetworkMode": self.network}

    def inspect(self, container: str) -> dict[str, Any]:
        """What the engine tells of a container, without any of the clients; empty if there is none."""
        status, body = engines.request(self.socket, "GET", f"/containers/{container}/json", timeout=CALL_TIMEOUT)
        answer: dict[str, Any] = {} if status == 404 else json.loads(body)
        return answer

    def state(self, container: str) -> tuple[str, int]:
        """Status and exit code."""
        state = self.inspect(container)["State"]
        return state["Status"], state["ExitCode"]

    def remove(self, container: str) -> None:
        status, body = engines.request(
            self.socket, "DELETE", f"/containers/{container}?force=1&v=1", timeout=CALL_TIMEOUT
        )
        if status not in (204, 404, 409):  # 409: it is being removed, as `--rm` asked
            pytest.fail(f"{container} is not removed: {status} {body.decode(errors='replace').strip()}")


def pytest_configure(config: pytest.Config) -> None:
    config.stash.setdefault(SESSION, Session())


def lacking(config: pytest.Config, what: str, why: object) -> NoReturn:
    """Ends the test: a client is not to be had."""
    config.stash[SESSION].missing[what] = str(why)
    if REQUIRED:
        pytest.fail(f"no {what}: {why}", pytrace=False)
    pytest.skip(f"no {what}: {why}")


# -- the engine -------------------------------------------------------------------------------------------------------


def _identify(host: str, image: str, embedded: bool) -> Engine:
    status, body = engines.request(host.removeprefix("unix://"), "GET", "/version", timeout=CALL_TIMEOUT)
    assert status == 200, body
    version = json.loads(body)
    return Engine(host, image, embedded, version["Version"], version["ApiVersion"])


@pytest.fixture(scope="session")
def engine(pytestconfig: pytest.Config) -> Iterator[Engine]:
    """The embedded engine, or the one that ATTACHPROTO_PEERS_HOST names."""
    present = pytestconfig.stash[SESSION].present
    image = os.environ.get("ATTACHPROTO_PEERS_IMAGE")
    if host := os.environ.get("ATTACHPROTO_PEERS_HOST"):
        if not host.startswith("unix://") or not image:
            pytest.fail("ATTACHPROTO_PEERS_HOST takes unix:///PATH, and ATTACHPROTO_PEERS_IMAGE beside it")
        found = _identify(host, image, embedded=False)
        present["engine"] = f"{found.version}, API {found.api_version}, at {host}"
        yield found
        return
    from attachproto_engine import Engine as Embedded

    mark = secrets.token_hex(16)
    os.environ["ATTACHPROTO_PEERS_MARK"] = mark  # every container and every client inherits it
    with Embedded() as embedded:
        found = _identify(embedded.host, image or "alpine", embedded=True)
        present["engine"] = f"the embedded one, {found.version}, API {found.api_version}"
        yield found
    assert _marked(mark) == []


def _marked(mark: str) -> list[str]:
    """The command lines of processes that have this in their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark.encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_text(errors="replace").replace("\0", " "))
    return found


@pytest.fixture
def name(engine: Engine) -> Iterator[Callable[[], str]]:
    """Gives names for containers, which are removed after the test."""
    given: list[str] = []

    def new() -> str:
        given.append(f"peers-{os.getpid()}-{next(_numbers)}")
        return given[-1]

    yield new
    for container in given:
        engine.remove(container)


_numbers = itertools.count(1)


@pytest.fixture(autouse=True)
def _no_hang() -> Iterator[None]:
    """Foreign clients block without a timeout of their own: an alarm ends whatever the test waits for."""

    def expire(number: int, frame: FrameType | None) -> NoReturn:
        raise TimeoutError(f"the test did not end within {TEST_TIMEOUT:.0f} s")

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, TEST_TIMEOUT)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


# -- the clients ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def docker_cli(pytestconfig: pytest.Config) -> str:
    """The docker CLI's path."""
    try:
        found = programs.docker()
        pytestconfig.stash[SESSION].present["docker CLI"] = f"{programs.docker_version(found)}, {found}"
    except programs.Unavailable as why:
        lacking(pytestconfig, "docker CLI", why)
    return found


@pytest.fixture(scope="session")
def node(pytestconfig: pytest.Config) -> programs.Node:
    """Node.js with dockerode."""
    try:
        found = programs.dockerode(Path(pytestconfig.rootpath, ".pytest_cache", "peers"))
    except (programs.Unavailable, OSError) as why:
        lacking(pytestconfig, "dockerode", why)
    pytestconfig.stash[SESSION].present["dockerode"] = f"{found.dockerode_version} on Node.js {found.version}"
    return found


def _module(config: pytest.Config, module: str, distribution: str, label: str) -> Any:
    try:
        found = importlib.import_module(module)
    except ImportError as why:
        lacking(config, label, f"{why}; `pip install {distribution}` brings it")
    config.stash[SESSION].present[label] = importlib.metadata.version(distribution)
    return found


@pytest.fixture(scope="session")
def docker_py(pytestconfig: pytest.Config) -> Any:
    """The module `docker`."""
    return _module(pytestconfig, "docker", "docker", "docker-py")


@pytest.fixture(scope="session")
def aiodocker(pytestconfig: pytest.Config) -> Any:
    """The module `aiodocker`."""
    return _module(pytestconfig, "aiodocker", "aiodocker", "aiodocker")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    session = config.stash.get(SESSION, Session())
    write = terminalreporter.write_line
    if session.present or session.missing:
        terminalreporter.section("foreign clients")
    for what, version in session.present.items():
        write(f"{what}: {version}")
    for what, why in session.missing.items():
        reports = terminalreporter.stats.get("error" if REQUIRED else "skipped", [])
        lost = sum(f"no {what}: " in str(report.longrepr) for report in reports)
        write(f"There was no {what}: {why}. {lost} tests with it did NOT run.")
