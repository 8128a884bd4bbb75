"""An embedded engine in a process of its own, and the command beside it, for the tests of the command."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

from attachproto_adapters.cli._main import main
from attachproto_engine import Engine
from tests.adapters.scripted import BOUND
from tests.engine.client import call

Process = subprocess.Popen[bytes]
Start = Callable[..., Process]
Main = Callable[..., tuple[int, bytes, bytes]]


class Served:
    """An embedded engine in a process of its own: this one is watched for descriptors that are left open."""

    def __init__(self, host: str) -> None:
        self.host = host


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    host = f"unix://{tmp_path_factory.mktemp('e')}/s"
    command = [sys.executable, "-m", "attachproto_adapters", "engine", "--host", host]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline()
        yield cast("Engine", Served(host))
        child.terminate()


@pytest.fixture
def embedded(running: Engine) -> Iterator[Engine]:
    yield running
    for each in call(running, "GET", "/containers/json?all=1").json:
        call(running, "DELETE", f"/containers/{each['Id']}?force=1")


@pytest.fixture
def command(embedded: Engine, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Main:
    """Runs the command in this process: exit status, stdout, stderr."""
    monkeypatch.setenv("DOCKER_HOST", embedded.host)

    def command(*arguments: str) -> tuple[int, bytes, bytes]:
        status = main(arguments)
        return status, *capfdbinary.readouterr()

    return command


@pytest.fixture
def start(embedded: Engine) -> Iterator[Start]:
    """Starts the command in a process of its own."""
    processes: list[Process] = []

    def start(*arguments: str, **streams: Any) -> Process:
        given = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
        command = [sys.executable, "-X", "dev", "-m", "attachproto_adapters", *arguments]
        process = subprocess.Popen(command, env=os.environ | {"DOCKER_HOST": embedded.host}, **given)
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate(timeout=BOUND)


def create(engine: Engine, name: str, script: str, **more: Any) -> None:
    body = {"Image": "busybox", "Cmd": ["sh", "-c", script], **more}
    assert call(engine, "POST", f"/containers/create?name={name}", body).status == 201


def started(engine: Engine, name: str, script: str = "sleep 600", **more: Any) -> str:
    create(engine, name, script, **more)
    assert call(engine, "POST", f"/containers/{name}/start").status == 204
    return name


def exists(engine: Engine, name: str) -> bool:
    return bool(call(engine, "GET", f"/containers/{name}/json").status == 200)
