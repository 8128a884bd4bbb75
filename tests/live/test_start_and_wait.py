"""`start` and `wait` on every engine that is up: what they do in each state of a container."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from attachproto_adapters import ContainerNotRunning, RequestRejected, blocking
from tests.adapters.frameworks import EACH_FRAMEWORK, Client, Framework
from tests.adapters.scripted import BOUND
from tests.live.engine_api import Engine

pytestmark = pytest.mark.live

Count = Callable[..., None]
Times = Callable[[int], int]


def scenario_with(framework: Framework, engine: Engine, body: Callable[[Client], Awaitable[None]]) -> None:
    async def scenario() -> None:
        async with framework.client(engine.host) as client:
            await body(client)

    framework.run(scenario)


@EACH_FRAMEWORK
def test_a_service_from_its_start_to_its_end(framework: Framework, engine: Engine) -> None:
    async def body(client: Client) -> None:
        container = engine.shell("exec sleep 600")
        with pytest.raises(ContainerNotRunning):
            await client.wait(container)
        await client.start(container)
        await client.start(container)
        assert (await client.run_exec(container, ["echo", "x"])).stdout == b"x\n"
        codes: list[int] = []

        async def wait() -> None:
            codes.append(await client.wait(container))

        async def kill() -> None:
            await client.kill(container)

        await framework.together(wait(), kill())
        assert [*codes, await client.wait(container)] == [137, 137]
        await client.remove(container)
        for call in (client.start, client.wait):
            with pytest.raises(RequestRejected) as caught:
                await call(container)
            assert caught.value.not_found

    scenario_with(framework, engine, body)


def test_the_exit_code_of_what_is_removed_at_its_end(engine: Engine) -> None:
    container = engine.shell("sleep 2; exit 4", host_config={"AutoRemove": True})
    with blocking.Client(engine.host, timeout=BOUND) as client:
        client.start(container)
        assert client.wait(container) == 4


def test_one_that_ends_while_the_wait_is_made(engine: Engine, times: Times, count: Count) -> None:
    """Podman's wait may miss that exit, and then never answers."""
    total = times(60)
    with blocking.Client(engine.host, timeout=BOUND) as client:
        for turn in range(total):
            container = engine.shell(f"sleep 0.{turn % 20:02}; exit 9")
            client.start(container)
            assert client.wait(container) == 9
            client.remove(container)
    count("start and wait", engine, total, total)
