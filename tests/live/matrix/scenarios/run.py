"""`run`: a container for one command, and nothing left of it."""

from __future__ import annotations

import os

import pytest

from attachproto_adapters import CompletedRun, ImageNotFound, OutputTooLarge, RequestRejected
from tests.live import engines
from tests.live.matrix.scene import PRINTS, Group, Scene

scenario = Group("Run")


def label() -> str:
    """A name that no other container has."""
    return f"attachproto-matrix-{os.urandom(6).hex()}"


async def gone(scene: Scene, name: str) -> None:
    """Checks that the engine has no container of this name."""
    status, _ = await scene.aside(engines.request, scene.engine.socket, "GET", f"/containers/{name}/json")
    assert status == 404


@scenario("both streams and the exit code; then it is gone")
async def run_result(scene: Scene) -> None:
    name = label()
    assert await scene.run(PRINTS, name=name) == CompletedRun(3, b"out\n", b"err\n")
    await gone(scene, name)


@scenario("64 KiB of input, as text")
async def run_with_input(scene: Scene) -> None:
    text = "grüße 世界 🦊\n" * 2600
    assert await scene.run(["cat"], input=text, encoding="utf-8") == CompletedRun(0, text, "")


@scenario("environment, directory and user")
async def run_environment(scene: Scene) -> None:
    script = 'echo "$WORD"; pwd; while read -r name id rest; do [ "$name" = Uid: ] && echo $id; done </proc/self/status'
    user = None if scene.embedded else "1000"
    result = await scene.run(f"{script}; exit 0", env={"WORD": "ü 世界"}, workdir="/tmp", user=user)
    *lines, uid = result.stdout.decode().splitlines()
    assert (lines, result.exit_code) == (["ü 世界", "/tmp"], 0)
    assert scene.embedded or uid == "1000"


@scenario("a program that does not exist: `RequestRejected`, and the container is removed")
async def run_not_found(scene: Scene) -> None:
    name = label()
    with pytest.raises(RequestRejected, match="nosuchprogram") as caught:
        await scene.run(["nosuchprogram"], name=name)
    if caught.value.status_code != 400:
        scene.differs("attach_prepares")
        assert caught.value.status_code in (409, 500)
    await gone(scene, name)


@scenario("an image that is missing: `ImageNotFound`")
async def image_missing(scene: Scene) -> None:
    if scene.embedded:
        scene.differs("any_image")
        return
    async with scene.client() as client:
        with pytest.raises(ImageNotFound, match="docker pull nosuch/image:3") as caught:
            await client.run("nosuch/image:3")
    assert caught.value.image == "nosuch/image:3"


@scenario("a name that is taken: refused with 409, and the other container is left alone")
async def name_taken(scene: Scene) -> None:
    name = label()
    async with scene.client() as client:
        config = {"HostConfig": scene.engine.host_config({})}
        mine = await client.create(engines.IMAGE, ["true"], name=name, config=config)
        with pytest.raises(RequestRejected) as caught:
            await client.run(engines.IMAGE, ["true"], name=name, config=config)
        assert await scene.aside(scene.engine.status, mine) == "created"
        await client.remove(name)
    scene.either(caught.value.status_code, 409, podman_500=500)


@scenario("`remove=False`: it is kept, has ended, and can be removed")
async def kept(scene: Scene) -> None:
    name = label()
    assert await scene.run(PRINTS, name=name, remove=False) == CompletedRun(3, b"out\n", b"err\n")
    async with scene.client() as client:
        assert not (await scene.aside(scene.engine.inspect, name))["State"]["Running"]
        await client.remove(name)
    await gone(scene, name)


@scenario("more output than `max_output`: `OutputTooLarge`, and it is gone")
async def too_much_output(scene: Scene) -> None:
    name = label()
    with pytest.raises(OutputTooLarge) as caught:
        await scene.run(["yes"], max_output=4, name=name)
    assert caught.value.stdout == b"y\ny\n"
    await gone(scene, name)
