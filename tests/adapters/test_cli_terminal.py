"""The command in a real terminal, on the embedded engine. `tests/live/test_terminal.py` runs the same on real ones."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from attachproto_engine import Engine
from tests.adapters.panes import Pane, open_pane
from tests.adapters.terminal_cases import CASES, COMPARED, PRINTS, Case, enter_script, name_of, started
from tests.engine.client import call


class Embedded:
    """An embedded engine in a process of its own."""

    image = "busybox"
    run_options = ""

    def __init__(self, host: str, process: subprocess.Popen[bytes]) -> None:
        self.host = host
        self.process = process

    def call(self, method: str, target: str, body: object = None) -> Any:
        return call(cast("Engine", self), method, target, body)

    def create(self, script: str, *, tty: bool) -> str:
        config = {"Image": "busybox", "Cmd": ["sh", "-c", script], "Tty": tty, "OpenStdin": True}
        return str(self.call("POST", "/containers/create", config).json["Id"])

    def start(self, container: str) -> None:
        assert self.call("POST", f"/containers/{container}/start").status == 204

    def kill(self, container: str) -> None:
        self.call("POST", f"/containers/{container}/kill")

    def is_running(self, container: str) -> bool:
        return bool(self.call("GET", f"/containers/{container}/json").json["State"]["Running"])


@pytest.fixture(scope="module")
def tmux() -> str:
    found = shutil.which("tmux")
    if found is None:
        if os.environ.get("ATTACHPROTO_LIVE") == "required":
            from tests.live.engines import program

            return program("tmux", "tmux")
        pytest.skip("no tmux")
    return found


@pytest.fixture
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedded]:
    host = f"unix://{tmp_path_factory.mktemp('e')}/s"
    command = [sys.executable, "-m", "attachproto_adapters", "engine", "--host", host]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline()
        yield Embedded(host, child)
        child.terminate()


@pytest.fixture
def pane(tmux: str, target: Embedded) -> Iterator[Pane]:
    with open_pane(tmux, target.host) as pane:
        yield pane


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_terminal(pane: Pane, target: Embedded, case: Case) -> None:
    case(pane, target, "attachproto")


def test_restored_after_the_end_of_the_engine(pane: Pane, target: Embedded) -> None:
    container = started(target)
    before = pane.mode()
    enter_script(pane, f"attachproto exec -it {container[:12]}", PRINTS)
    pane.until_has("ready")
    target.process.send_signal(signal.SIGKILL)
    pane.until_prompt()
    assert pane.mode() == before


PROGRAM = """
import sys
from attachproto_adapters.blocking import attach
from attachproto import AttachOptions
from attachproto_adapters.terminal import interact
def write(event):
    sys.stdout.buffer.write(event.data)
    sys.stdout.flush()
    {then}
with attach(sys.argv[1], AttachOptions(stdin=True)) as attachment:
    interact(attachment, redraw=True, write=write)
"""


@pytest.mark.parametrize(
    ("then", "number"),
    [
        ("raise LookupError('of the program')", None),
        ("sys.exit(3)", None),
        ("print('shown', flush=True)", signal.SIGTERM),
        ("print('shown', flush=True)", signal.SIGHUP),
        ("print('shown', flush=True)", signal.SIGINT),
    ],
)
def test_restored_whatever_ends_a_program(pane: Pane, target: Embedded, then: str, number: int | None) -> None:
    container = started(target, PRINTS, tty=True)
    before = pane.mode()
    Path(pane.folder, "program.py").write_text(PROGRAM.format(then=then))
    pane.enter(f"clear; {sys.executable} program.py {container[:12]}")
    if number is not None:
        pane.until_has("shown")
        os.kill(pane.child(), number)
    pane.press_until_prompt("Enter")  # its echo is output, if the container prints nothing by itself
    assert pane.mode() == before
    assert target.is_running(container)


@pytest.mark.parametrize("case", COMPARED, ids=name_of)
def test_the_screen_is_that_of_the_docker_cli(tmux: str, target: Embedded, case: Case) -> None:
    """The same case, in a pane each."""
    if shutil.which("docker") is None:
        pytest.skip("no docker CLI")
    screens = []
    for program in ("attachproto", "docker"):
        with open_pane(tmux, target.host) as pane:
            case(pane, target, program)
            screens.append(pane.screen())
    assert screens[0] == screens[1]
