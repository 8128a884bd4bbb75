"""How a container may be named, which API versions are spoken, and what is refused."""

from __future__ import annotations

import pytest

from attachproto_adapters import ApiVersionRejected, RequestRejected
from tests.live import engines
from tests.live.matrix.scenarios.run import label
from tests.live.matrix.scene import LOGS, PRINTS, Group, Scene

scenario = Group("Names, API versions and refusals")


@scenario("by ID, by the ID's first 12 characters, and by name")
async def names(scene: Scene) -> None:
    container = await scene.aside(scene.shared.finished)
    name = (await scene.aside(scene.engine.inspect, container))["Name"].lstrip("/")
    for each in (container, container[:12], name):
        async with await scene.logs(each) as attachment:
            assert await attachment.communicate() == (b"out1\nout2\ntail", b"err1\n")
        async with await scene.attach(each, LOGS) as attachment:
            assert await attachment.wait() == 3


@scenario("a name of 120 characters")
async def long_name(scene: Scene) -> None:
    name = f"{label()}_.-{'x' * 100}"[:120]
    async with scene.client() as client:
        config = {"HostConfig": scene.engine.host_config({})}
        await client.create(engines.IMAGE, ["sh", "-c", PRINTS], name=name, config=config)
        try:
            async with await client.attach(name, start=True) as attachment:
                assert await attachment.communicate() == (b"out\n", b"err\n")
                assert await attachment.wait() == 3
        finally:
            await client.remove(name, force=True)


def versions(scene: Scene) -> list[str]:
    """The API versions that the engine speaks, from 1.24 on: older ones are of 2016."""
    said = scene.engine.call("GET", "/version")
    oldest, newest = (int(said[key].split(".")[1]) for key in ("MinAPIVersion", "ApiVersion"))
    return [f"1.{minor}" for minor in range(max(24, oldest), newest + 1)]


@scenario("every API version that the engine speaks, from 1.24 on: attach with logs, and logs")
async def api_versions(scene: Scene) -> None:
    container = await scene.aside(scene.shared.finished)
    for version in await scene.aside(versions, scene):
        async with await scene.attach(container, LOGS, api_version=version) as attachment:
            assert await attachment.communicate() == (b"out1\nout2\ntail", b"err1\n"), version
        async with await scene.logs(container, api_version=version) as attachment:
            assert await attachment.communicate() == (b"out1\nout2\ntail", b"err1\n"), version


@scenario("the oldest and the newest of them: attach to a new container, with a TTY and without, and exec")
async def api_versions_live(scene: Scene) -> None:
    sleeper = await scene.aside(scene.shared.sleeper)
    spoken = await scene.aside(versions, scene)
    for version, tty in ((spoken[0], True), (spoken[-1], False)):
        container = await scene.aside(scene.engine.shell, PRINTS, tty=tty)
        async with await scene.start(container, api_version=version) as attachment:
            wanted = (b"out\r\nerr\r\n", b"") if tty else (b"out\n", b"err\n")
            assert await attachment.communicate() == wanted
            assert await attachment.wait() == 3
        assert (await scene.run_exec(sleeper, PRINTS, tty=tty, api_version=version)).exit_code == 3


@scenario("an API version that does not exist: `ApiVersionRejected`")
async def no_such_version(scene: Scene) -> None:
    container = await scene.aside(scene.shared.finished)
    if scene.engine.name == "podman":
        scene.differs("any_version")
        async with await scene.logs(container, api_version="1.99") as attachment:
            assert await attachment.communicate() == (b"out1\nout2\ntail", b"err1\n")
        return
    with pytest.raises(ApiVersionRejected) as caught:
        await scene.logs(container, api_version="1.99")
    assert (caught.value.status_code, caught.value.newest) == (400, scene.engine.api_version)


@scenario("no such container: attach, logs and exec are refused with 404")
async def no_such_container(scene: Scene) -> None:
    for opening in (scene.attach("nosuch"), scene.logs("nosuch"), scene.run_exec("nosuch", ["true"])):
        with pytest.raises(RequestRejected) as caught:
            await opening
        assert caught.value.status_code == 404
        assert caught.value.not_found
        assert "nosuch" in caught.value.message


@scenario("no such exec: refused with 404")
async def no_such_exec(scene: Scene) -> None:
    with pytest.raises(RequestRejected) as caught:
        await scene.framework.exec_start("0" * 64, host=scene.host)
    assert caught.value.status_code == 404


@scenario("a configuration that is not valid: refused with 400, in the engine's words")
async def not_valid(scene: Scene) -> None:
    async with scene.client() as client:
        with pytest.raises(RequestRejected) as caught:
            await client.create(engines.IMAGE, ["true"], config={"Cmd": {"not": "a list"}})
    scene.either(caught.value.status_code, 400, podman_500=500, wrong_type_500=500)
    assert caught.value.message


@scenario("a signal to a container that has exited: refused with 409")
async def kill_is_refused(scene: Scene) -> None:
    container = await scene.aside(scene.shared.finished)
    async with scene.client() as client:
        with pytest.raises(RequestRejected) as caught:
            await client.kill(container)
    scene.either(caught.value.status_code, 409, podman_500=500)
