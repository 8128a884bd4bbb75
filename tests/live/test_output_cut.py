"""Output that something between a client and a real engine has cut: never a result, and never a false alarm."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from attachproto_adapters import ExecResult, OutputCut
from tests.adapters.frameworks import FRAMEWORKS, WITH_STDIN, Framework
from tests.live.cutting import CuttingBridge
from tests.live.engine_api import Engine

pytestmark = pytest.mark.live

Count = Callable[..., None]
Times = Callable[[int], int]

# It outlives every grace, and does not keep the engine long.
GOES_ON = "cat; sleep 30; echo done"


@pytest.fixture
def bridged(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., str]]:
    """Makes a bridge to the engine, and gives its address."""
    with contextlib.ExitStack() as stack:

        def make(**how: object) -> str:
            bridge = CuttingBridge(engine.socket, tmp_path_factory.mktemp("b") / "s", **how)  # type: ignore[arg-type]
            stack.callback(bridge.close)
            return bridge.host

        yield make


def test_a_half_close_that_ends_an_exec(framework: Framework, engine: Engine, bridged: Callable[..., str]) -> None:
    container = engine.create("sleep", "600")
    engine.start(container)
    host = bridged(half_close_closes=True)

    async def scenario() -> None:
        with pytest.raises(OutputCut):
            await framework.run_exec(container, ["sh", "-c", GOES_ON], input=b"x", host=host)
        assert await framework.run_exec(container, ["echo", "x"], host=host) == ExecResult(0, b"x\n", b"")

    framework.run(scenario)


def test_a_half_close_that_ends_an_attach(framework: Framework, engine: Engine, bridged: Callable[..., str]) -> None:
    container = engine.shell(GOES_ON, open_stdin=True, stdin_once=True)
    host = bridged(half_close_closes=True)

    async def scenario() -> None:
        async with await framework.attach(container, WITH_STDIN, host=host, start=True) as attachment:
            with pytest.raises(OutputCut):
                await attachment.communicate(b"x")

    framework.run(scenario)


# A start takes up to 1.5 s on a loaded machine, while the attach is silent.
IDLE = 1.5


def test_an_idle_limit(framework: Framework, engine: Engine, bridged: Callable[..., str]) -> None:
    """It cuts the wait as well as the output."""
    container = engine.shell("echo half; sleep 30; echo done")
    host = bridged(idle=IDLE)

    async def scenario() -> None:
        async with await framework.attach(container, host=host, start=True) as attachment:
            with pytest.raises(OutputCut) as caught:
                await attachment.communicate()
            assert caught.value.stdout == b"half\n"
            with pytest.raises(OutputCut):
                await attachment.wait()

    framework.run(scenario)


def test_an_idle_limit_of_an_exec(framework: Framework, engine: Engine, bridged: Callable[..., str]) -> None:
    running = engine.create("sleep", "600")
    engine.start(running)
    host = bridged(idle=IDLE)

    async def scenario() -> None:
        with pytest.raises(OutputCut) as caught:
            await framework.run_exec(running, ["sh", "-c", "echo half; sleep 30"], host=host)
        assert caught.value.stdout == b"half\n"

    framework.run(scenario)


def test_an_exit_code_of_dockerds_own_is_no_result(
    framework: Framework, engine: Engine, bridged: Callable[..., str]
) -> None:
    """dockerd 20.10 and 26.1 report 126 if they could not send the rest. The command may end before an inspect."""
    container = engine.create("sleep", "600")
    engine.start(container)
    host = bridged(idle=0.8)

    async def scenario() -> None:
        with contextlib.suppress(OutputCut):
            command = ["sh", "-c", "echo half; sleep 1; echo done; exit 5"]
            assert (await framework.run_exec(container, command, host=host)).exit_code == 5
        for code in 126, 5:
            result = await framework.run_exec(container, ["sh", "-c", f"exit {code}"], host=engine.host)
            assert result == ExecResult(code, b"", b"")

    framework.run(scenario)


# A process that ends by itself so many seconds after the cut. Not less, because it must run at the first inspect.
ENDS_AFTER = 0.3, 0.6, 0.9


@pytest.mark.parametrize("seconds", ENDS_AFTER)
def test_a_command_that_ends_soon_after_the_cut(
    framework: Framework, engine: Engine, bridged: Callable[..., str], seconds: float
) -> None:
    container = engine.create("sleep", "600")
    engine.start(container)
    host = bridged(cut_behind=b"half\n")

    async def scenario() -> None:
        with pytest.raises(OutputCut) as caught:
            await framework.run_exec(container, ["sh", "-c", f"echo half; sleep {seconds}; echo done"], host=host)
        assert caught.value.stdout == b"half\n"

    framework.run(scenario)


@pytest.mark.parametrize("seconds", ENDS_AFTER)
def test_a_container_that_ends_soon_after_the_cut(
    framework: Framework, engine: Engine, bridged: Callable[..., str], seconds: float
) -> None:
    container = engine.shell(f"echo half; sleep {seconds}; echo done; exit 3")
    host = bridged(cut_behind=b"half\n")

    async def scenario() -> None:
        async with await framework.attach(container, host=host, start=True) as attachment:
            with pytest.raises(OutputCut) as caught:
                await attachment.communicate()
            assert caught.value.stdout == b"half\n"
            engine.wait_for(container, "exited")
            assert await attachment.wait() == 3

    framework.run(scenario)


def test_a_wait_that_was_cut_alone(framework: Framework, engine: Engine, bridged: Callable[..., str]) -> None:
    """The container prints often enough for its own connection."""
    container = engine.shell("for i in 1 2 3 4 5 6 7 8; do sleep 0.5; echo $i; done; exit 3")
    host = bridged(idle=2.5)

    async def scenario() -> None:
        async with await framework.attach(container, host=host, start=True) as attachment:
            assert await attachment.communicate() == (b"1\n2\n3\n4\n5\n6\n7\n8\n", b"")
            assert await attachment.wait() == 3

    framework.run(scenario)


def test_a_container_that_is_restarted(framework: Framework, engine: Engine) -> None:
    """Engines end the attach with the run. That it runs again is no cut."""
    container = engine.shell("echo out; cat; exit 3", open_stdin=True, stdin_once=True)

    async def scenario() -> None:
        async with await framework.attach(container, WITH_STDIN, host=engine.host, start=True) as attachment:
            await attachment.close_stdin()
            assert [event async for event in attachment]
            assert await attachment.wait() == 3
            engine.start(container)
            assert await attachment.communicate() == (b"", b"")

    framework.run(scenario)


def test_no_end_of_an_exec_is_taken_for_a_cut(engine: Engine, times: Times, count: Count) -> None:
    """200 commands, half of which close their own output and go on for a moment; by the three adapters, together."""
    total = times(200)
    wrong: list[object] = []
    container = engine.create("sleep", "600")
    engine.start(container)

    def run(framework: Framework, share: int) -> int:
        async def scenario(script: str) -> None:
            try:
                result = await framework.run_exec(container, ["sh", "-c", script], host=engine.host)
                if result != ExecResult(3, b"out\n", b""):
                    wrong.append(result)
            except Exception as exc:
                wrong.append(exc)

        for index in range(share):
            quiet = "exec >&- 2>&-; sleep 0.1;" * (index % 2)
            framework.run(functools.partial(scenario, f"echo out; {quiet} exit 3"))
        return share

    shares = [total // 3 + (index < total % 3) for index in range(3)]
    with ThreadPoolExecutor(len(FRAMEWORKS)) as pool:
        done = sum(pool.map(run, FRAMEWORKS, shares))
    count("run_exec, output and 3", engine, done - len(wrong), total)
    assert wrong == []


def test_no_end_is_taken_for_a_cut(engine: Engine, times: Times, count: Count) -> None:
    """200 containers that close their own output and go on for a moment; by the three adapters, together."""
    total = times(200)
    wrong: list[object] = []

    def run(framework: Framework, share: int) -> int:
        async def scenario() -> None:
            container = engine.shell("echo out; exec >&- 2>&-; sleep 0.1; exit 3")
            try:
                async with await framework.attach(container, host=engine.host, start=True) as attachment:
                    outcome = (await attachment.communicate(), await attachment.wait())
                    if outcome != ((b"out\n", b""), 3):
                        wrong.append(outcome)
            except Exception as exc:
                wrong.append(exc)
            await framework.aside(lambda: engine.remove(container))

        for _ in range(share):
            framework.run(scenario)
        return share

    shares = [total // 3 + (index < total % 3) for index in range(3)]
    with ThreadPoolExecutor(len(FRAMEWORKS)) as pool:
        done = sum(pool.map(run, FRAMEWORKS, shares))
    count("communicate and wait, output and 3", engine, done - len(wrong), total)
    assert wrong == []
