"""aiodocker against the engine. It has no half-close: closing ends reading too, so what it feeds reads by the line."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.peers.conftest import CALL_TIMEOUT, SIZED, TICKS, Engine

pytestmark = pytest.mark.peers

Names = Callable[[], str]
Work = Callable[[Any], Awaitable[None]]
Drive = Callable[[Work], None]


@pytest.fixture
def drive(aiodocker: Any, engine: Engine) -> Drive:
    """Runs a test's coroutine function with a client."""

    async def run(work: Work) -> None:
        async with asyncio.timeout(CALL_TIMEOUT), aiodocker.Docker(url=engine.host) as client:
            await work(client)

    return lambda work: asyncio.run(run(work))


@pytest.fixture
def configuration(engine: Engine) -> Callable[..., dict[str, Any]]:
    """What to create: a container that runs a shell script."""

    def configuration(script: str, **options: Any) -> dict[str, Any]:
        command = ["sh", "-c", script]
        return {"Image": engine.image, "Cmd": command, "HostConfig": engine.host_config, **options}

    return configuration


STDIN = {"OpenStdin": True, "StdinOnce": True, "AttachStdin": True}
Configuration = Callable[..., dict[str, Any]]


async def read_all(stream: Any) -> tuple[bytes, bytes]:
    """Stdout and stderr up to the end."""
    out, err = bytearray(), bytearray()
    while (message := await stream.read_out()) is not None:
        assert message.stream in (1, 2)
        if message.stream == 1:
            out += message.data
        else:
            err += message.data
    return bytes(out), bytes(err)


async def read_until(stream: Any, mark: bytes) -> bytes:
    """Stdout up to a mark at its end."""
    seen = b""
    while not seen.endswith(mark):
        message = await stream.read_out()
        assert message is not None, seen
        seen += message.data
    return seen


def test_it_finds_the_engine(drive: Drive, engine: Engine) -> None:
    async def work(client: Any) -> None:
        assert (await client.version())["Version"] == engine.version
        assert (await client.system.info())["OSType"] == "linux"

    drive(work)


def test_attach_before_start(drive: Drive, name: Names, configuration: Configuration) -> None:
    async def work(client: Any) -> None:
        container = await client.containers.create(configuration("echo out; echo err >&2; exit 3"), name=name())
        async with container.attach(stdout=True, stderr=True) as stream:
            await container.start()
            assert await read_all(stream) == (b"out\n", b"err\n")
        assert (await container.wait())["StatusCode"] == 3

    drive(work)


def test_attach_with_stdin(drive: Drive, name: Names, configuration: Configuration) -> None:
    async def work(client: Any) -> None:
        script = 'while read line; do echo "<$line>"; done; exit 4'
        container = await client.containers.create(configuration(script, **STDIN), name=name())
        async with container.attach(stdin=True, stdout=True, stderr=True) as stream:
            await container.start()
            for line in (b"one", b"two"):
                await stream.write_in(line + b"\n")
                assert await read_until(stream, b"\n") == b"<" + line + b">\n"
        # With its connection its stdin has ended.
        assert (await container.wait())["StatusCode"] == 4

    drive(work)


def test_attach_with_5_mb_in_both_directions(drive: Drive, name: Names, configuration: Configuration) -> None:
    async def work(client: Any) -> None:
        data = random.Random(6).randbytes(5_000_000)
        script = f"head -c {len(data)}; echo err >&2; exit 5"
        container = await client.containers.create(configuration(script, **STDIN), name=name())
        async with container.attach(stdin=True, stdout=True, stderr=True) as stream:
            await container.start()

            async def feed() -> None:
                for start in range(0, len(data), 65536):
                    await stream.write_in(data[start : start + 65536])

            feeding = asyncio.create_task(feed())
            out, err = await read_all(stream)
            await feeding
        assert (out == data, err) == (True, b"err\n")
        assert (await container.wait())["StatusCode"] == 5

    drive(work)


def test_attach_with_logs(drive: Drive, name: Names, configuration: Configuration, engine: Engine) -> None:
    async def work(client: Any) -> None:
        container = await client.containers.create(configuration(f"echo first; {TICKS}"), name=name())
        await container.start()
        async with container.attach(stdout=True, stderr=True) as stream:
            await read_until(stream, b"tick\n")
        async with container.attach(stdout=True, stderr=True, logs=True) as stream:
            seen = await read_until(stream, b"tick\n")
            assert seen.startswith(b"first\n")
            await container.kill(signal="USR1")
            out, err = await read_all(stream)
        assert (out.splitlines()[-1], err) == (b"told", b"apart\n")
        assert (await container.wait())["StatusCode"] == 6

    drive(work)


def test_attach_to_a_terminal(drive: Drive, name: Names, configuration: Configuration) -> None:
    async def work(client: Any) -> None:
        script = SIZED + 'read line; echo "<$line>"; exit 7'
        settings = configuration(script, Tty=True, OpenStdin=True)
        container = await client.containers.create(settings, name=name())
        async with container.attach(stdin=True, stdout=True) as stream:
            await container.start()
            await container.resize(h=33, w=111)
            await stream.write_in(b"a line\n")
            assert await read_all(stream) == (b"a line\r\n<a line>\r\n", b"")
        assert (await container.wait())["StatusCode"] == 7

    drive(work)


def test_exec_then_inspect(drive: Drive, name: Names, configuration: Configuration) -> None:
    async def work(client: Any) -> None:
        container = await client.containers.create(configuration("sleep 600"), name=name())
        await container.start()
        command = ["sh", "-c", 'echo "$WHO in $PWD"; echo err >&2; exit 3']
        run = await container.exec(command, environment={"WHO": "me"}, workdir="/tmp")
        before = await run.inspect()
        assert (before["Running"], before["ExitCode"], before["Pid"]) == (False, None, 0)
        async with run.start() as stream:
            assert await read_all(stream) == (b"me in /tmp\n", b"err\n")
        after = await run.inspect()
        assert (after["Running"], after["ExitCode"]) == (False, 3)
        assert (after["ID"], after["ContainerID"]) == (run.id, container.id)
        assert after["ProcessConfig"]["entrypoint"] == "sh"

    drive(work)


def test_exec_with_stdin(drive: Drive, name: Names, configuration: Configuration) -> None:
    async def work(client: Any) -> None:
        container = await client.containers.create(configuration("sleep 600"), name=name())
        await container.start()
        run = await container.exec(["sh", "-c", 'read line; echo "<$line>"; head -c 3; exit 4'], stdin=True)
        async with run.start() as stream:
            await stream.write_in(b"one\nabc")
            assert await read_all(stream) == (b"<one>\nabc", b"")
        assert (await run.inspect())["ExitCode"] == 4

    drive(work)


def test_exec_in_a_terminal(drive: Drive, name: Names, configuration: Configuration) -> None:
    async def work(client: Any) -> None:
        container = await client.containers.create(configuration("sleep 600"), name=name())
        await container.start()
        script = f"echo ready; {SIZED} echo sized; exit 5"
        run = await container.exec(["sh", "-c", script], stdin=True, tty=True)
        async with run.start() as stream:
            await read_until(stream, b"ready\r\n")
            await run.resize(h=33, w=111)
            assert await read_all(stream) == (b"sized\r\n", b"")
        assert (await run.inspect())["ExitCode"] == 5

    drive(work)


def test_exec_detached(drive: Drive, name: Names, configuration: Configuration) -> None:
    async def work(client: Any) -> None:
        container = await client.containers.create(configuration("sleep 600"), name=name())
        await container.start()
        run = await container.exec(["sh", "-c", "sleep 600"])
        assert await run.start(detach=True) == b""
        assert (await run.inspect())["Running"] is True

    drive(work)


def test_logs_follow(drive: Drive, name: Names, configuration: Configuration) -> None:
    async def work(client: Any) -> None:
        container = await client.containers.create(configuration(TICKS), name=name())
        await container.start()
        lines: list[str] = []
        async for piece in container.log(stdout=True, stderr=True, follow=True):
            if not lines:
                await container.kill(signal="USR1")
            lines.append(piece)
        assert set(lines[:-2]) == {"tick\n"}
        assert sorted(lines[-2:]) == ["apart\n", "told\n"]
        assert "".join(await container.log(stdout=True)) == "".join(line for line in lines if line != "apart\n")
        assert (await container.wait())["StatusCode"] == 6

    drive(work)


def test_wait_kill_delete(drive: Drive, name: Names, configuration: Configuration, aiodocker: Any) -> None:
    async def work(client: Any) -> None:
        container = await client.containers.run(configuration("sleep 600"), name=name())
        waiting = asyncio.create_task(container.wait())
        with pytest.raises(aiodocker.DockerError) as caught:
            await container.delete()
        assert caught.value.status == 409
        await container.kill()
        assert (await waiting)["StatusCode"] == 137
        await container.delete()
        with pytest.raises(aiodocker.DockerError, match=f"No such container: {container.id}") as caught:
            await container.show()
        assert caught.value.status == 404

    drive(work)


def test_list(drive: Drive, name: Names, configuration: Configuration) -> None:
    async def work(client: Any) -> None:
        container = await client.containers.run(configuration("sleep 600"), name=name())
        assert container.id in {one.id for one in await client.containers.list()}
        await container.kill()
        await container.wait()
        assert container.id not in {one.id for one in await client.containers.list()}
        assert container.id in {one.id for one in await client.containers.list(all=True)}

    drive(work)


def test_refusal_of_an_exec(drive: Drive, name: Names, configuration: Configuration, aiodocker: Any) -> None:
    async def work(client: Any) -> None:
        container = await client.containers.create(configuration("true"), name=name())
        with pytest.raises(aiodocker.DockerError, match="is not running") as caught:
            await container.exec("true")
        assert caught.value.status == 409

    drive(work)
