"""Exec often, and long logs, by the three adapters, on every engine that is up and on the embedded one.

What one exec and one log do is in the scenarios that `tests/live/test_matrix.py` plays.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from attachproto import Stdout
from attachproto_adapters import ExecResult
from tests.adapters.frameworks import BLOCKING, FRAMEWORKS, Framework
from tests.live.engine_api import Engine

pytestmark = pytest.mark.live

SCRIPT = ["sh", "-c", "echo out; echo err >&2; exit 3"]
LINE = "x" * 99


Count = Callable[..., None]
Times = Callable[[int], int]


def sleeper(engine: Engine) -> str:
    container = engine.create("sleep", "600")
    engine.start(container)
    return container


# -- exec -------------------------------------------------------------------------------------------------------------


def test_run_exec_often(engine: Engine, times: Times, count: Count) -> None:
    """1,000 on dockerd, 300 on Podman, where each leaves two processes behind; a third by each adapter, together."""
    total = times(300 if engine.name == "podman" else 1000)
    container = sleeper(engine)
    wrong: list[object] = []

    def run(framework: Framework, share: int) -> int:
        results: list[ExecResult] = []

        async def scenario() -> None:
            results.append(await framework.run_exec(container, SCRIPT, host=engine.host))

        for _ in range(share):
            framework.run(scenario)
        wrong.extend((str(framework), result) for result in results if result != ExecResult(3, b"out\n", b"err\n"))
        return len(results)

    shares = [total // 3 + (index < total % 3) for index in range(3)]
    with ThreadPoolExecutor(len(FRAMEWORKS)) as pool:
        done = sum(pool.map(run, FRAMEWORKS, shares))
    count("run_exec, both streams and 3", engine, done - len(wrong), total)
    assert wrong == []
    assert done == total


# -- logs -------------------------------------------------------------------------------------------------------------


def test_100_megabytes_of_logs(engine: Engine, count: Count, times: Times) -> None:
    """dockerd while they are written, Podman once they are: 4.3 ends a followed log early, and cleanly.

    dockerd 20.10 does so too, now and then, when the machine is busy: also for a bare ``http.client``. Then what came
    before is whole, and another container is tried.
    """
    lines = times(1_000_000)
    written = f"{LINE}\n".encode() * lines
    follow = engine.name == "docker"

    def read() -> tuple[int, str]:
        container = engine.shell(f"yes {LINE} | head -n {lines}")
        if follow:
            engine.start(container)
        else:
            engine.finish(container)
        seen = hashlib.sha256()
        length = 0

        async def scenario() -> None:
            nonlocal length
            async with await BLOCKING.logs(container, follow=follow, host=engine.host) as attachment:
                async for event in attachment:
                    assert isinstance(event, Stdout)
                    seen.update(event.data)
                    length += len(event.data)

        BLOCKING.run(scenario)  # the others would bound the whole of it
        return length, seen.hexdigest()

    for _ in range(5 if engine.version.startswith("20.") else 1):
        length, digest = read()
        assert digest == hashlib.sha256(memoryview(written)[:length]).hexdigest()
        if length == len(written):
            break
    what = f"{len(written) // 1_000_000} MB of logs, {'followed' if follow else 'after the end'}"
    count(what, engine, length == len(written), 1)
    assert length == len(written)


def test_podman_ends_followed_logs_early(podman: Engine, count: Count, times: Times) -> None:
    """Nothing in it tells that it is not all: the body ends as a whole one does."""
    lines = times(1_000_000)
    container = podman.shell(f"yes {LINE} | head -n {lines}")
    podman.start(container)
    length = 0

    async def scenario() -> None:
        nonlocal length
        async with await BLOCKING.logs(container, follow=True, host=podman.host) as attachment:
            out, err = await attachment.communicate()
            assert set(out) <= set(b"x\n")
            assert err == b""
            length = len(out)

    BLOCKING.run(scenario)
    count("bytes of a followed log that come", podman, length, lines * (len(LINE) + 1))
