"""The command in a real terminal, on real engines: the cases of `tests/adapters/terminal_cases.py`, in tmux.

The table at the end of the run has a line for each case and engine, and says what the docker CLI shows beside ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.adapters.panes import Pane, open_pane
from tests.adapters.terminal_cases import CASES, COMPARED, Case, name_of
from tests.live import engines
from tests.live.conftest import Lacking
from tests.live.engine_api import Engine

pytestmark = pytest.mark.live


class Live:
    """A real engine, as the cases see it."""

    image = engines.IMAGE

    def __init__(self, engine: Engine) -> None:
        self.host = engine.host
        # As the live tests create their containers.
        limits = " ".join(f"--ulimit {name}=1024" for name in ("nofile", "nproc"))
        self.run_options = "--network none" + (f" {limits}" if engine.name == "podman" else "")
        self._engine = engine
        self.start = engine.start
        self.kill = engine.kill

    def create(self, script: str, *, tty: bool) -> str:
        return self._engine.shell(script, tty=tty, open_stdin=True)

    def is_running(self, container: str) -> bool:
        return self._engine.status(container) == "running"


@pytest.fixture(scope="session")
def tmux(lacking: Lacking) -> str:
    try:
        return engines.program("tmux", "tmux")
    except engines.EngineUnavailable as why:
        lacking("tmux", why)


@pytest.fixture
def pane(tmux: str, engine: Engine) -> Iterator[Pane]:
    with open_pane(tmux, engine.host) as pane:
        yield pane


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_terminal(pane: Pane, engine: Engine, case: Case, count: Callable[..., None]) -> None:
    good = False
    try:
        case(pane, Live(engine), "attachproto")
        good = True
    finally:
        count(f"terminal: {name_of(case)}", engine, int(good), 1)


@pytest.mark.parametrize("case", COMPARED, ids=name_of)
def test_the_docker_cli_shows_the_same(
    tmux: str, engine: Engine, docker_cli: str, case: Case, count: Callable[..., None]
) -> None:
    screens = []
    for program in ("attachproto", docker_cli):
        with open_pane(tmux, engine.host) as pane:
            case(pane, Live(engine), program)
            screens.append(pane.screen())
    count(f"terminal: {name_of(case)}, as the docker CLI", engine, int(screens[0] == screens[1]), 1)
    assert screens[0] == screens[1]
