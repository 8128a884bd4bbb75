"""`start` and `wait` on every engine that is up: what they do in each state of a container."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from attachproto_adapters import blocking
from tests.adapters import engine_scenarios
from tests.adapters.frameworks import EACH_FRAMEWORK, Client, Framework
from tests.adapters.scripted import BOUND
from tests.live.engine_api import Engine

pytestmark = pytest.mark.live

Count = Callable[..., None]
Times = Callable[[int], int]


@EACH_FRAMEWORK
def test_a_service_from_its_start_to_its_end(framework: Framework, engine: Engine) -> None:
    async def body(client: Client) -> None:
        await engine_scenarios.a_service(framework, client, engine.shell("exec sleep 600"), "KILL", 137)

    framework.run_with_client(engine.host, body)


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
