"""dockerode, on Node.js, against the engine: `dockerode.cjs` does the work, and what it saw is judged here."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import random
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.peers.conftest import CALL_TIMEOUT, SIZED, TICKS, Engine
from tests.peers.programs import Node

pytestmark = pytest.mark.peers

Names = Callable[[], str]
Task = Callable[..., dict[str, Any]]
Create = Callable[..., dict[str, Any]]

SCRIPT = Path(__file__).with_name("dockerode.cjs")
STDIN = {"OpenStdin": True, "StdinOnce": True, "AttachStdin": True}
BYTES = ("out", "err", "again")


@pytest.fixture
def task(node: Node, engine: Engine) -> Task:
    """Runs one task of the script; gives what it printed."""

    def task(kind: str, **options: Any) -> dict[str, Any]:
        variables = {key: value for key, value in os.environ.items() if not key.startswith("DOCKER_")}
        done = subprocess.run(
            [node.program, str(SCRIPT), kind],
            env=variables | {"DOCKER_HOST": engine.host, "NODE_PATH": str(node.modules)},
            input=json.dumps(options).encode(),
            capture_output=True,
            timeout=CALL_TIMEOUT,
        )
        assert (done.returncode, done.stderr.decode()) == (0, "")
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer | {key: base64.b64decode(answer[key]) for key in BYTES if key in answer}

    return task


@pytest.fixture
def create(engine: Engine, name: Names) -> Create:
    """What to create: a container that runs a shell script."""

    def create(script: str, **options: Any) -> dict[str, Any]:
        settings = {"name": name(), "Image": engine.image, "Cmd": ["sh", "-c", script]}
        return settings | {"HostConfig": engine.host_config} | options

    return create


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def test_it_finds_the_engine(task: Task, engine: Engine) -> None:
    assert task("version") == {"version": engine.version, "ping": "OK"}


def test_attach_hijacked_with_stdin_and_its_end(task: Task, create: Create) -> None:
    settings = create("cat; echo after; echo err >&2; exit 3", **STDIN)
    seen = task("attach", create=settings, stdin=encoded(b"one\ntwo\n"))
    assert seen == {"out": b"one\ntwo\nafter\n", "err": b"err\n", "code": 3}


def test_attach_hijacked_brings_5_mb_back(task: Task, create: Create) -> None:
    data = random.Random(7).randbytes(5_000_000)
    seen = task("attach", create=create("cat; exit 4", **STDIN), stdin=encoded(data))
    assert (len(seen["out"]), seen["err"], seen["code"]) == (len(data), b"", 4)
    assert hashlib.sha256(seen["out"]).digest() == hashlib.sha256(data).digest()


def test_attach_hijacked_to_a_terminal(task: Task, create: Create) -> None:
    script = SIZED + 'read line; echo "<$line>"; exit 5'
    seen = task("attach", create=create(script, Tty=True, OpenStdin=True), stdin=encoded(b"a line\n"))
    assert seen == {"out": b"a line\r\n<a line>\r\n", "err": b"", "code": 5}


def test_attach_without_an_upgrade(task: Task, create: Create) -> None:
    seen = task("attachPlain", create=create("echo out; echo err >&2; exit 6"))
    assert seen == {"out": b"out\n", "err": b"err\n", "code": 6}


def test_run(task: Task, create: Create, engine: Engine) -> None:
    settings = create("")
    del settings["Cmd"]
    command = ["sh", "-c", "echo out; echo err >&2; exit 7"]
    seen = task("run", image=engine.image, command=command, create=settings | {"Tty": False})
    assert (seen["out"], seen["err"], seen["code"]) == (b"out\n", b"err\n", 7)
    assert engine.state(seen["id"]) == ("exited", 7)


def test_exec_hijacked_with_stdin_and_its_end(task: Task, create: Create) -> None:
    command = ["sh", "-c", "cat; echo after; echo err >&2; exit 8"]
    seen = task("exec", create=create("sleep 600"), command=command, tty=False, stdin=encoded(b"in\n"))
    assert seen == {"out": b"in\nafter\n", "err": b"err\n", "code": 8, "running": False}


def test_exec_hijacked_in_a_terminal(task: Task, create: Create) -> None:
    script = SIZED + 'read line; echo "<$line>"; exit 9'
    command = ["sh", "-c", script]
    seen = task("exec", create=create("sleep 600"), command=command, tty=True, stdin=encoded(b"a line\n"))
    assert seen == {"out": b"a line\r\n<a line>\r\n", "err": b"", "code": 9, "running": False}


def test_logs_followed_and_again(task: Task, create: Create) -> None:
    seen = task("logs", create=create(TICKS), signal="SIGUSR1")
    assert (seen["out"].splitlines()[-1], seen["err"], seen["code"]) == (b"told", b"apart\n", 6)
    assert len(seen["again"]) > len(seen["out"])  # frames, and what had been said before it followed


def test_wait_kill_remove(task: Task, create: Create) -> None:
    seen = task("lifecycle", create=create("sleep 600"))
    assert seen["missing"] == [404, f"No such container: {seen.pop('id')}"]
    del seen["missing"]
    assert seen == {"listed": True, "refused": 409, "code": 137, "status": "exited"}
