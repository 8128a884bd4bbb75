"""How a container's process ends, and what `wait()` makes of it."""

from __future__ import annotations

import pytest

from attachproto_adapters import ContainerNotRunning, ExitCodeUnknown, RequestRejected
from tests.live.matrix.scene import Group, Scene, read_all, read_until

scenario = Group("Exit codes, kill and remove")


async def running(scene: Scene, script: str = "echo ready; exec sleep 600") -> str:
    return await scene.aside(scene.engine.shell, script)


@scenario("0 and 255, asked for twice")
async def exit_codes(scene: Scene) -> None:
    for code in (0, 255):
        container = await running(scene, f"exit {code}")
        async with await scene.start(container) as attachment:
            assert await read_all(attachment) == (b"", b"")
            assert [await attachment.wait(), await attachment.wait()] == [code, code]


@scenario("killed (SIGKILL): the output ends, 137")
async def killed(scene: Scene) -> None:
    container = await running(scene)
    async with await scene.start(container) as attachment:
        await read_until(attachment, b"ready\n")
        await attachment.kill()
        assert await attachment.communicate() == (b"", b"")
        assert await attachment.wait() == 137


@scenario("a signal that the process handles: its last words and its own exit code")
async def handled_signal(scene: Scene) -> None:
    container = await running(scene, "trap 'echo bye; exit 5' TERM; echo ready; while :; do sleep 0.1; done")
    async with await scene.start(container) as attachment:
        await read_until(attachment, b"ready\n")
        await attachment.kill("TERM")
        assert await attachment.communicate() == (b"bye\n", b"")
        assert await attachment.wait() == 5


@scenario("`wait()` before the output is read")
async def wait_first(scene: Scene) -> None:
    container = await running(scene, "echo out; exit 6")
    async with await scene.start(container) as attachment:
        assert await attachment.wait() == 6
        assert await attachment.communicate() == (b"out\n", b"")


@scenario("`Client.start` and `Client.wait` without an attachment; a wait of what was never started is refused")
async def without_an_attachment(scene: Scene) -> None:
    container = await running(scene, "sleep 0.5; exit 7")
    async with scene.client() as client:
        with pytest.raises(ContainerNotRunning):
            await client.wait(container)
        await client.start(container)
        await client.start(container)  # it runs already: no error
        assert [await client.wait(container), await client.wait(container)] == [7, 7]


@scenario("removed by force while attached: the output ends, and `wait()` tells 137 or that it is not known")
async def removed_while_attached(scene: Scene) -> None:
    container = await running(scene)
    async with await scene.start(container) as attachment, scene.client() as client:
        await read_until(attachment, b"ready\n")
        await client.remove(container, force=True, volumes=True)
        assert await read_all(attachment) == (b"", b"")
        try:
            assert await attachment.wait() == 137
        except ExitCodeUnknown:
            scene.differs("no_exit_code_after_removal")


@scenario("`remove(force=True)` of a process that ignores SIGTERM: gone, without the ten seconds of a stop")
async def remove_by_force(scene: Scene) -> None:
    container = await running(scene, "trap '' TERM; while :; do sleep 1; done")
    await scene.aside(scene.engine.start, container)
    async with scene.client() as client:
        await client.remove(container, force=True)
        with pytest.raises(RequestRejected) as caught:
            await client.remove(container)
    assert caught.value.not_found


@scenario("`remove()` of a running container: refused, and it goes on")
async def remove_is_refused(scene: Scene) -> None:
    container = await running(scene)
    await scene.aside(scene.engine.start, container)
    async with scene.client() as client:
        with pytest.raises(RequestRejected) as caught:
            await client.remove(container)
    scene.either(caught.value.status_code, 409, podman_500=500)
    assert await scene.aside(scene.engine.status, container) == "running"


@scenario("`AutoRemove`: output and exit code of a container that is gone at its end")
async def auto_remove(scene: Scene) -> None:
    result = await scene.run("echo out; exit 3", host_config={"AutoRemove": True})
    assert (result.exit_code, result.stdout, result.stderr) == (3, b"out\n", b"")
