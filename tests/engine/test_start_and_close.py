"""Starting and closing an engine in each framework. conftest.py checks after each test that nothing is left."""

from __future__ import annotations

import asyncio
import pathlib
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import trio

from attachproto import AttachOptions
from attachproto_adapters.blocking import attach
from attachproto_engine import Engine
from benchmarks import engine as benchmark
from tests.adapters.scripted import Task
from tests.engine.client import TIMEOUT, attached, call, create, dial, read_until, shell, start


@pytest.fixture
def running_engine() -> Iterator[Engine]:
    with Engine() as engine:
        yield engine


def test_as_a_fixture(running_engine: Engine) -> None:
    assert call(running_engine, "GET", "/_ping").body == b"OK"


def test_under_asyncio() -> None:
    async def use() -> bytes:
        async with Engine() as engine:
            return (await asyncio.to_thread(call, engine, "GET", "/_ping")).body

    assert asyncio.run(use()) == b"OK"


def test_under_asyncio_when_cancelled() -> None:
    async def use() -> None:
        async with asyncio.timeout(0.1):
            async with Engine() as engine:
                shell(engine, "web", "sleep 100")
                start(engine, "web")
                await asyncio.sleep(100)

    with pytest.raises(TimeoutError):
        asyncio.run(use())


def test_under_trio() -> None:
    async def use() -> bytes:
        with trio.move_on_after(0.2):
            async with Engine() as engine:
                shell(engine, "web", "sleep 100")
                start(engine, "web")
                answer = await trio.to_thread.run_sync(call, engine, "GET", "/_ping")
                await trio.sleep(100)
        return answer.body

    assert trio.run(use) == b"OK"


def test_the_socket_is_its_users_only() -> None:
    with Engine() as engine:
        path = pathlib.Path(engine.host.removeprefix("unix://"))
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert not path.parent.exists()


def test_a_given_path(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("p") / "s"
    host = f"unix://{path}"
    with Engine(host) as engine:
        assert engine.host == host
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with pytest.raises(OSError, match="in use"):
            Engine(host).start()
        with pytest.raises(RuntimeError, match="runs already"):
            engine.start()
    assert not path.exists()
    path.write_text("mine")
    with pytest.raises(OSError, match="in use"):
        Engine(host).start()
    assert path.read_text() == "mine"


@pytest.mark.parametrize(
    "arguments",
    [
        {"host": 5},
        {"host": b"unix:///tmp/engine.sock"},
        {"api_version": 1.41},
        {"images": 5},
        {"images": "alpine"},
        {"images": [5]},
        {"faults": 5},
        {"faults": {"web": 5}},
        {"faults": {5: []}, "host": 5},
    ],
)
def test_an_argument_of_the_wrong_type(arguments: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        Engine(**arguments)


@pytest.mark.parametrize("version", ["", "x", "1.41.x", "1", "1.40", "1.52", "\u0661.41"])
def test_a_version_that_no_engine_speaks(version: str) -> None:
    with pytest.raises(ValueError, match=r"an engine speaks API 1\.41 to 1\.51, not '"):
        Engine(api_version=version)


def test_a_path_where_no_socket_can_be_is_named(tmp_path: pathlib.Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nosuch/engine\.sock"):
        Engine(f"unix://{tmp_path}/nosuch/engine.sock").start()


def test_it_can_be_started_again() -> None:
    engine = Engine()
    for _ in range(2):
        with pytest.raises(RuntimeError, match="does not run"):
            _ = engine.host
        with engine:
            assert call(engine, "GET", "/_ping").status == 200
        engine.close()


def test_closed_while_everything_runs() -> None:
    # Without ``with``, which would close it again, and wait, after a close() that hangs.
    engine = Engine()
    engine.start()
    shell(engine, "talks", "trap '' TERM HUP; while :; do echo x; done")
    shell(engine, "tty", "set -m; sleep 100 & sleep 100", Tty=True, OpenStdin=True)
    create(engine, "cat", "cat", OpenStdin=True)
    for name in ("talks", "tty", "cat"):
        start(engine, name)
    call(engine, "POST", "/containers/cat/pause")
    exec_id = call(engine, "POST", "/containers/tty/exec", {"Cmd": ["sleep", "100"]}).json["Id"]
    assert call(engine, "POST", f"/exec/{exec_id}/start", {"Detach": True}).status == 200
    waiting, half = dial(engine), dial(engine)
    waiting.sendall(b"POST /containers/cat/wait HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
    read_until(waiting, b"\r\n\r\n")
    half.sendall(b"POST /containers/cat/wa")
    with attached(engine, "talks") as stalled, attached(engine, "tty", "stream=1&stdin=1&stdout=1") as tty:
        stalled.recv(1)
        closing = Task(engine.close)
        assert closing.finished(5), "close() has to be prompt"
        closing.result()
        assert tty.fileno() > 0
    waiting.close()
    half.close()


def test_a_tenth_of_the_crowd(capsys: pytest.CaptureFixture[str]) -> None:
    benchmark.crowds(20, 10_000_000)
    printed = capsys.readouterr().out
    assert printed.count("20 right hashes") == 2
    assert "descriptors {}, processes []" in printed
    lines = printed.splitlines()
    for line in lines[:2]:
        before, peak = (float(line.split(word)[0].split()[-1]) for word in (" MiB before", " at most"))
        assert peak - before < 30


def test_a_tenth_of_the_kills(capsys: pytest.CaptureFixture[str]) -> None:
    benchmark.kills(100)
    assert "left behind: descriptors and tasks {}, processes [], threads 0" in capsys.readouterr().out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_served(tmp_path_factory: pytest.TempPathFactory, number: int) -> None:
    path = tmp_path_factory.mktemp("p") / "s"
    engine = subprocess.Popen(
        [sys.executable, "-c", benchmark.ENGINE, f"unix://{path}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert engine.stdout is not None
    assert str(path) in engine.stdout.readline()
    benchmark.create(str(path), "web", "echo hello")
    with attach("web", AttachOptions(), host=f"unix://{path}", start=True, timeout=TIMEOUT) as attachment:
        assert attachment.communicate() == (b"hello\n", b"")
    benchmark.create(str(path), "left", "sleep 100")
    assert benchmark.call(str(path), "POST", "/containers/left/start")[0] == 204
    engine.send_signal(number)
    _, errors = engine.communicate(timeout=TIMEOUT)
    assert engine.returncode == 0
    assert "not a sandbox" in errors
    assert not path.exists()
