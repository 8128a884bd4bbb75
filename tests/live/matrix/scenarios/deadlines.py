"""Deadlines and cancellation: what is ended in the container, and what the error has."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable

import pytest
import trio

from attachproto_adapters import CommandTimeout
from tests.adapters.frameworks import Asyncio, Trio
from tests.live import engines
from tests.live.engine_api import wait_until
from tests.live.matrix.scenarios.run import gone, label
from tests.live.matrix.scene import Group, Scene, late

scenario = Group("Deadlines and cancellation")


NUMBERS = itertools.count(70_000)


def marker() -> str:
    """Seconds to sleep that no other command has, so that the process list shows whose it is."""
    return str(next(NUMBERS))


def lists(scene: Scene, container: str, words: str) -> bool:
    return any(words in line for line in scene.engine.processes(container))


async def run_exec_is_late(scene: Scene, script: str, printed: bytes = b"out\n", **options: object) -> None:
    container = await scene.aside(scene.shared.sleeper)
    mark = ""

    async def call(seconds: float) -> object:
        nonlocal mark
        mark = marker()
        return await scene.run_exec(container, script.replace("{n}", mark), timeout=seconds, **options)

    error = await late(call, printed)
    assert error.stdout.startswith(printed)
    assert error.ended
    assert not await scene.aside(lists, scene, container, mark)


@scenario("`run(timeout=)`: `CommandTimeout` with the output so far, and the container is gone")
async def run_is_late(scene: Scene) -> None:
    name = label()

    async def call(seconds: float) -> object:
        return await scene.run("echo out; exec sleep 600", name=name, timeout=seconds)

    error = await late(call, b"out\n")
    assert (error.stdout, error.ended) == (b"out\n", True)
    await gone(scene, name)


@scenario("`run(timeout=)` of a command that never stops printing, and ignores SIGTERM")
async def run_prints_on(scene: Scene) -> None:
    name = label()

    async def call(seconds: float) -> object:
        return await scene.run("trap '' TERM; while :; do echo y; sleep 0.01; done", name=name, timeout=seconds)

    error = await late(call, b"y\n")
    assert error.ended
    await gone(scene, name)


@scenario("`run_exec(timeout=)` of a command that waits")
async def exec_is_late(scene: Scene) -> None:
    await run_exec_is_late(scene, "echo out; exec sleep {n}")


@scenario("`run_exec(timeout=)` of one that ignores SIGTERM")
async def exec_ignores_sigterm(scene: Scene) -> None:
    await run_exec_is_late(scene, "trap '' TERM; sleep {n} & echo out; while :; do sleep {n}; done")


@scenario("`run_exec(timeout=)` of one with children in the background and a pipeline")
async def exec_has_children(scene: Scene) -> None:
    await run_exec_is_late(scene, "echo out; sleep {n} & (sleep {n} & sleep {n}) & sleep {n} | cat")


@scenario("`run_exec(timeout=)` with a TTY")
async def exec_tty_is_late(scene: Scene) -> None:
    await run_exec_is_late(scene, "echo out; sleep {n} & wait", b"out\r\n", tty=True)


@scenario("`run_exec(timeout=)` with 5 MB of input that is not read")
async def exec_reads_nothing(scene: Scene) -> None:
    await run_exec_is_late(scene, "echo out; exec sleep {n}", input=bytes(5_000_000))


@scenario("`run_exec(timeout=)` in a container without a shell: the error says that the command may go on")
async def no_shell(scene: Scene) -> None:
    if scene.embedded:
        scene.differs("no_root_of_its_own")
        return
    image = await scene.aside(engines.ensure_bare_image, scene.engine.socket)
    container = await scene.aside(scene.engine.create, "sleep", "600", image=image)
    await scene.aside(scene.engine.start, container)
    async with scene.client() as client:
        assert (await client.run_exec(container, ["echo", "out"])).stdout == b"out\n"
        for seconds in (1.5, 6.0, 20.0):  # on a busy machine it may not have been started by then
            with pytest.raises(CommandTimeout) as caught:
                await client.run_exec(container, ["sleep", "600"], timeout=seconds)
            if "may go on" in str(caught.value):
                assert not caught.value.ended
                return
    raise AssertionError(str(caught.value))


async def cancelled_when(scene: Scene, call: Callable[[], Awaitable[object]], ready: Callable[[], None]) -> None:
    """Cancels a call once `ready`, which blocks, has returned. The blocking adapter has deadlines in its place."""
    if isinstance(scene.framework, Asyncio):
        task = asyncio.ensure_future(call())
        await scene.aside(ready)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    else:
        assert isinstance(scene.framework, Trio)

        async def main() -> None:
            await call()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(main)
            await scene.aside(ready)
            nursery.cancel_scope.cancel()


@scenario("a cancelled `run_exec` (asyncio, trio; blocking: a deadline): the command is gone")
async def cancelled_exec(scene: Scene) -> None:
    if scene.framework.name == "blocking":
        await run_exec_is_late(scene, "echo out; sleep {n} & wait")
        return
    container, mark = await scene.aside(scene.shared.sleeper), marker()
    words = f"sleep {mark}"
    await cancelled_when(
        scene,
        lambda: scene.run_exec(container, f"{words} & {words} & wait"),
        lambda: wait_until(lambda: lists(scene, container, words), "it runs", scene.framework.bound),
    )
    assert not await scene.aside(lists, scene, container, words)


@scenario("a cancelled `run` (asyncio, trio; blocking: a deadline): the container is gone")
async def cancelled_run(scene: Scene) -> None:
    name = label()
    if scene.framework.name == "blocking":
        with pytest.raises(CommandTimeout):
            await scene.run(["sleep", "600"], name=name, timeout=1.5)
    else:

        def runs() -> bool:
            status, said = engines.request(scene.engine.socket, "GET", f"/containers/{name}/json")
            return status == 200 and b'"Running":true' in said.replace(b" ", b"")

        await cancelled_when(
            scene,
            lambda: scene.run(["sleep", "600"], name=name),
            lambda: wait_until(runs, "it runs", scene.framework.bound),
        )
    await gone(scene, name)
