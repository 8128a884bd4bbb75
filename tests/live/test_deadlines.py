"""Commands that are ended, on every engine that is up and on the embedded one.

A row of the table at the end is a case on an engine. It tells for each adapter after how many seconds from the deadline
the container's process list no longer shows the command. It has two seconds. Where three execs at a time take long to
start, because the machine has much to do, it has longer.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import attrs
import pytest
import trio

from attachproto_adapters import CommandTimeout, ExecResult
from attachproto_adapters import blocking as blocking_adapter
from tests.adapters.frameworks import ASYNCIO, FRAMEWORKS, TRIO, Framework
from tests.live import engines
from tests.live.conftest import EMBEDDED, FULL, Lacking
from tests.live.engine_api import Engine, wait_until

pytestmark = pytest.mark.live

Count = Callable[..., None]

GONE_WITHIN = 2.0

# The process of the container. It does not wait for its children, so that some stay as zombies.
IDLE = ("sleep", "600")

SHELLS = ("busybox", "bash", "dash")


@attrs.frozen
class Case:
    """A command, and how it is run. ``{n}`` is a number that no other command has, for the process list."""

    script: str
    options: dict[str, Any] = attrs.field(factory=dict)
    shell: str = "busybox"
    printed: bytes = b"out\n"
    host_config: dict[str, Any] = attrs.field(factory=dict)


IN_BACKGROUND = "echo out; sleep {n} & (sleep {n} & sleep {n}) & wait"

CASES = {
    "sleep": Case("echo out; exec sleep {n}"),
    "children in the background": Case(IN_BACKGROUND),
    "children in the background, bash": Case(IN_BACKGROUND, shell="bash"),
    "children in the background, dash": Case(IN_BACKGROUND, shell="dash"),
    "children in the background, TTY": Case(IN_BACKGROUND, {"tty": True}, printed=b"out\r\n"),
    "a pipeline": Case("echo out; sleep {n} | cat | cat"),
    "ignores SIGTERM": Case("trap '' TERM; sleep {n} & echo out; while :; do sleep {n}; done"),
    "ignores SIGTERM, bash": Case("trap '' TERM; echo out; while :; do sleep {n}; done", shell="bash"),
    "never stops printing": Case("echo out; exec yes {n}"),
    "never reads 100 MB of stdin" if FULL else "never reads 10 MB of stdin": Case(
        "echo out; exec sleep {n}", {"input": bytes(100_000_000 if FULL else 10_000_000)}
    ),
    "another user": Case(IN_BACKGROUND, {"user": "1000"}),
    "another user, root has no CAP_KILL": Case(IN_BACKGROUND, {"user": "1000"}, host_config={"CapDrop": ["ALL"]}),
}


_exec_seconds: dict[str, float] = {}


def exec_seconds(engine: Engine, container: str) -> float:
    """How long a command takes that does nothing, if three adapters run one at the same time."""
    if engine.label not in _exec_seconds:

        def run(framework: Framework) -> None:
            async def scenario() -> None:
                for _ in range(2):
                    await framework.run_exec(container, ["true"], host=engine.host)

            framework.run(scenario)

        began = time.monotonic()
        with ThreadPoolExecutor(len(FRAMEWORKS)) as pool:
            list(pool.map(run, FRAMEWORKS))
        _exec_seconds[engine.label] = (time.monotonic() - began) / 2
    return _exec_seconds[engine.label]


# The embedded engine runs local processes, so that a container's process list is that of the machine.
ON_EMBEDDED = ("sleep", "never stops printing")


def idle(engine: Engine, lacking: Lacking, shell: str, **options: Any) -> str:
    """A running container whose /bin/sh is this shell."""
    image = engines.IMAGE
    if shell != "busybox":
        if engine.label in EMBEDDED:
            pytest.skip("the embedded engine has the shell of this machine")
        try:
            image = engines.ensure_shell_image(engine.socket, shell)
        except engines.EngineUnavailable as why:
            lacking(shell, why)
    container = engine.create(*IDLE, image=image, **options)
    engine.start(container)
    return container


@pytest.mark.parametrize("name", CASES)
def test_a_command_is_gone_soon_after_its_deadline(engine: Engine, lacking: Lacking, count: Count, name: str) -> None:
    """By the three adapters in the same container at the same time: each ends its own."""
    case = CASES[name]
    if engine.label in EMBEDDED and not (FULL or name in ON_EMBEDDED):
        pytest.skip("most cases run on the embedded engine only with all repetitions")
    container = idle(engine, lacking, case.shell, host_config=case.host_config)
    seconds = exec_seconds(engine, container)
    timeout, bound = max(0.6, 4 * seconds), max(GONE_WITHIN, 8 * seconds)

    def run(framework: Framework, n: str) -> tuple[CommandTimeout, float]:
        caught: list[CommandTimeout] = []
        gone: list[float] = []
        began = time.monotonic()

        def watch() -> None:
            while [line for line in engine.processes(container) if n in line]:
                time.sleep(0.02)
            gone.append(time.monotonic() - began - timeout)

        async def scenario() -> None:
            with pytest.raises(CommandTimeout) as info:
                await framework.run_exec(
                    container,
                    ["sh", "-c", case.script.replace("{n}", n)],
                    host=engine.host,
                    timeout=timeout,
                    **case.options,
                )
            caught.append(info.value)

        watcher = threading.Timer(timeout, watch)
        watcher.start()
        framework.run(scenario)
        assert not [line for line in engine.processes(container) if n in line]
        watcher.join()
        return caught[0], gone[0]

    with ThreadPoolExecutor(len(FRAMEWORKS)) as pool:
        results = list(pool.map(run, FRAMEWORKS, ("70001", "70002", "70003")))
    good = [error.ended and error.stdout.startswith(case.printed) and late < bound for error, late in results]
    remark = ", ".join(f"{framework} {late:.2f} s" for framework, (_, late) in zip(FRAMEWORKS, results, strict=True))
    count(f"gone after its deadline: {name}", engine, sum(good), len(good), remark)
    assert all(good), (remark, [(str(error), error.stdout[:100]) for error, _ in results])
    assert engine.processes(container) == [" ".join(IDLE)]


SAME: dict[str, tuple[list[str], dict[str, Any]]] = {
    "environment": (["cat", "/proc/self/environ"], {"env": {"A": "é b", "x.y": "1", "PWD": "/q"}}),
    "environment of the container": (["cat", "/proc/self/environ"], {}),
    "arguments": (["printf", "<%s>", "", "a b", "*", "$HOME", "'\"\\"], {}),
    "binary": (["sh", "-c", "printf '\\000\\377\\n\\r'; printf '\\200' >&2; exit 9"], {}),
    "stdin": (["cat"], {"input": bytes(range(256)) * 4000}),
    "tty": (["sh", "-c", "stty -a | head -n 1; exit 4"], {"tty": True}),
    "signal": (["sh", "-c", "echo x; kill -9 $$"], {}),
    "descriptors": (["sh", "-c", "echo /proc/$$/fd/*"], {}),
    "user and directory": (["sh", "-c", "pwd; echo > /bin/no; exit 5"], {"user": "1000", "workdir": "/tmp"}),
    "no such command": (["no-such-command"], {}),
    "no such file": (["/no/such/file"], {}),
    "not executable": (["/proc/version"], {}),
}


@pytest.mark.parametrize("shell", SHELLS)
def test_with_the_shell_it_is_the_same_as_without(engine: Engine, lacking: Lacking, count: Count, shell: str) -> None:
    plain = idle(engine, lacking, shell, env={"B": "2"})
    odd = idle(engine, lacking, shell, env={"discovery.type": "one", "SHLVL": "3", "B": "2"})
    different = {}
    for name, (command, options) in SAME.items():
        container = odd if name == "environment of the container" else plain
        results = [
            blocking_adapter.run_exec(container, command, host=engine.host, kill=kill, **options)
            for kill in (True, False)
        ]
        if "environment" in name:  # the order means nothing
            results = [ExecResult(each.exit_code, _sorted(each.stdout), each.stderr) for each in results]
        if "no such" in name or "not exec" in name:  # Podman adds a line at some times
            results = [ExecResult(each.exit_code, each.stdout, each.stderr.split(b"\n")[0]) for each in results]
        if "descriptors" in name:
            results = [ExecResult(each.exit_code, _numbers(each.stdout), each.stderr) for each in results]
        if results[0] != results[1]:
            different[name] = results
    count(f"the same behind {shell}", engine, len(SAME) - len(different), len(SAME))
    assert different == {}


def _sorted(environment: bytes) -> bytes:
    return b"\0".join(sorted(environment.split(b"\0")))


def _numbers(paths: bytes) -> bytes:
    return b" ".join(path.rpartition(b"/")[2] for path in paths.split())


@pytest.mark.parametrize("framework", [ASYNCIO, TRIO], ids=str)
def test_a_cancelled_command_is_gone(engine: Engine, lacking: Lacking, framework: Framework) -> None:
    container = idle(engine, lacking, "busybox")

    async def call() -> None:
        await framework.run_exec(container, ["sh", "-c", IN_BACKGROUND.replace("{n}", "70004")], host=engine.host)

    def runs() -> None:
        wait_until(lambda: any(line.startswith("sleep 70004") for line in engine.processes(container)), "it runs")

    async def with_asyncio() -> None:
        task = asyncio.create_task(call())
        await framework.aside(runs)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def with_trio() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            await framework.aside(runs)
            nursery.cancel_scope.cancel()

    framework.run(with_asyncio if framework is ASYNCIO else with_trio)
    assert engine.processes(container) == [" ".join(IDLE)]


def test_ctrl_c_ends_the_command(engine: Engine, lacking: Lacking) -> None:
    container = idle(engine, lacking, "busybox")

    def interrupt() -> None:
        # Seen several times, so that its first line was read: an interruption in the middle of that read loses it.
        for _ in range(10):
            wait_until(lambda: any(line.startswith("sleep 70005") for line in engine.processes(container)), "it runs")
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            blocking_adapter.run_exec(container, ["sleep", "70005"], host=engine.host)
    finally:
        signal.signal(signal.SIGINT, before)
        thread.join()
    assert engine.processes(container) == [" ".join(IDLE)]


def test_in_a_paused_container_nothing_can_be_ended(engine: Engine, lacking: Lacking) -> None:
    container = idle(engine, lacking, "busybox")
    timeout = max(0.6, 4 * exec_seconds(engine, container))

    def pause() -> None:
        wait_until(lambda: any(line.startswith("sleep 70006") for line in engine.processes(container)), "it runs")
        engine.pause(container)

    thread = threading.Thread(target=pause)
    thread.start()
    try:
        with pytest.raises(CommandTimeout, match="may go on") as caught:
            blocking_adapter.run_exec(container, ["sleep", "70006"], host=engine.host, timeout=timeout)
    finally:
        thread.join()
        engine.unpause(container)
    assert not caught.value.ended
