"""`attachproto engine COMMAND`: a command with an engine of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from attachproto_adapters.cli._engine import _run
from attachproto_adapters.cli._statuses import Signalled
from tests.adapters.scripted import BOUND

COMMAND = [sys.executable, "-m", "attachproto_adapters"]
ENGINE = [*COMMAND, "engine"]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environ = os.environ | {"DOCKER_CONTEXT": "none", "DOCKER_TLS_VERIFY": "1", "DOCKER_HOST": "unix:///nowhere"}
    return subprocess.run([*ENGINE, *arguments], env=environ, capture_output=True, text=True, timeout=BOUND)


def test_the_command_finds_the_engine_and_its_status_is_ours() -> None:
    done = run(*COMMAND, "run", "--rm", "alpine", "sh", "-c", "echo out; echo err >&2; exit 3")
    assert (done.returncode, done.stdout) == (3, "out\n")
    notice, *rest = done.stderr.splitlines()
    assert "sandbox" in notice
    assert rest == ["err"]


def test_its_options_are_its_own() -> None:
    done = run("sh", "-c", 'echo "$@" $DOCKER_HOST; kill -TERM $$', "--host", "--emulate")
    words = done.stdout.split()
    assert words[0] == "--emulate"
    assert words[1].startswith("unix:///")
    assert not Path(words[1].removeprefix("unix://")).exists()  # the engine has ended
    assert done.returncode == 128 + signal.SIGTERM


def test_what_cannot_be_run() -> None:
    done = run("no-such-program")
    assert (done.returncode, done.stderr.splitlines()[-1]) == (
        127,
        "attachproto: no-such-program: no such file or directory",
    )
    assert run("/").returncode == 126


def test_neither_an_address_nor_a_command() -> None:
    done = run()
    assert done.returncode == 125
    assert done.stderr == "attachproto: engine needs --host, or a command to run with an engine of its own\n"


def test_ctrl_c_is_the_commands() -> None:
    """Both get it from a terminal. The engine goes on as long as the command does."""
    script = "trap 'echo interrupted; exit 7' INT; echo ready; while :; do sleep 0.1; done"
    with subprocess.Popen(
        [*ENGINE, "sh", "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        os.killpg(child.pid, signal.SIGINT)
        assert child.communicate(timeout=BOUND)[0] == "interrupted\n"
    assert child.returncode == 7


def test_a_signal_while_the_command_is_started_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []

    def popen(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        started.append(real(*arguments, **options))
        signal.raise_signal(signal.SIGTERM)  # before the caller knows of the child
        return started[0]

    def end(number: int, frame: object) -> None:
        raise Signalled(number)

    real = subprocess.Popen
    monkeypatch.setattr("attachproto_adapters.cli._engine.subprocess.Popen", popen)
    before = signal.signal(signal.SIGTERM, end)
    try:
        with pytest.raises(Signalled):
            _run(["sleep", "1000"], "unix:///nowhere")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert started[0].returncode == -signal.SIGTERM


def test_sigterm_ends_the_command_too() -> None:
    with subprocess.Popen(
        [*ENGINE, "sh", "-c", "trap 'echo ended; exit' TERM; echo ready; while :; do sleep 0.1; done"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        child.terminate()
        assert child.communicate(timeout=BOUND)[0] == "ended\n"
    assert child.returncode == 128 + signal.SIGTERM
