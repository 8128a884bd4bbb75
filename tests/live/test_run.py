"""`run` on every engine that is up and on the embedded one: its results, and that nothing is left.

Whatever ends a run, the last assertion of a test is that the engine has none of its containers. With all repetitions,
each test is made with all three adapters, otherwise with one of them, which differs from test to test.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import random
import signal
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import attrs
import pytest
import trio

from attachproto_adapters import (
    CommandTimeout,
    CompletedRun,
    ImageNotFound,
    OutputTooLarge,
    RequestRejected,
)
from attachproto_adapters import asyncio as asyncio_adapter
from attachproto_adapters import blocking as blocking_adapter
from attachproto_adapters import trio as trio_adapter
from tests.adapters.frameworks import ASYNCIO, BLOCKING, FRAMEWORKS, Client, Framework
from tests.live import engines
from tests.live.engine_api import Engine, wait_until

pytestmark = pytest.mark.live

SCRIPT = ["sh", "-c", "echo out; echo err >&2; exit 3"]
RESULT = CompletedRun(3, b"out\n", b"err\n")

Count = Callable[..., None]
Times = Callable[[int], int]


@attrs.frozen
class Runs:
    """What every run of one test has in common.

    Attributes:
        engine: runs them.
        label: all of their containers have it.
        frameworks: the test is made with each of them.
    """

    engine: Engine
    label: str
    frameworks: tuple[Framework, ...]

    @property
    def how(self) -> dict[str, Any]:
        """Arguments of ``run``."""
        return {"config": {"HostConfig": self.engine.host_config({}), "Labels": {self.label: "1"}}}

    def left(self) -> list[str]:
        return self.engine.labelled(self.label)


@pytest.fixture
def runs(engine: Engine, times: Times, request: pytest.FixtureRequest) -> Iterator[Runs]:
    """It removes what a failed test has left."""
    one = FRAMEWORKS[zlib.crc32(request.node.name.encode()) % len(FRAMEWORKS)]
    frameworks = FRAMEWORKS if times(1) else (one,)
    found = Runs(engine, f"attachproto.test-{os.urandom(6).hex()}", frameworks)
    yield found
    for each in found.left():
        engines.request(engine.socket, "DELETE", f"/containers/{each.split()[0].strip('/')}?force=1&v=1")


def with_client(runs: Runs, body: Callable[[Client], Any]) -> None:
    for framework in runs.frameworks:
        framework.run_with_client(runs.engine.host, body)
        assert runs.left() == []


# -- results ----------------------------------------------------------------------------------------------------------


def test_run_often(runs: Runs, times: Times, count: Count) -> None:
    """A third by each adapter, together."""
    total, wrong = times(150), []

    def share(framework: Framework) -> int:
        results = []

        async def body(client: Client) -> None:
            for _ in range(total // 3):
                results.append(await client.run(engines.IMAGE, SCRIPT, **runs.how))

        with_no_bound(framework, runs, body)
        wrong.extend([(str(framework), result) for result in results if result != RESULT])
        return len(results)

    with ThreadPoolExecutor(len(FRAMEWORKS)) as pool:
        done = sum(pool.map(share, FRAMEWORKS))
    count("run, both streams and 3", runs.engine, done - len(wrong), total // 3 * 3)
    assert wrong == []
    assert runs.left() == []


def with_no_bound(framework: Framework, runs: Runs, body: Callable[[Client], Any]) -> None:
    async def scenario() -> None:
        async with framework.client(runs.engine.host) as client:
            await body(client)

    if framework is BLOCKING:
        framework.run(scenario)
    elif framework is ASYNCIO:
        asyncio.run(scenario())
    else:
        trio.run(scenario)


def test_ten_megabytes_through_cat(runs: Runs) -> None:
    data = random.Random(1).randbytes(10_000_000)

    async def body(client: Client) -> None:
        result = await client.run(engines.IMAGE, ["cat"], input=data, **runs.how)
        assert (result.exit_code, result.stdout == data, result.stderr) == (0, True, b"")
        result = await client.run(engines.IMAGE, ["sha256sum"], input=data, encoding="ascii", **runs.how)
        assert result.stdout.split()[0] == hashlib.sha256(data).hexdigest()
        assert await client.run(engines.IMAGE, ["cat"], input=b"", **runs.how) == CompletedRun(0, b"", b"")

    with_client(runs, body)


def test_a_terminal_and_its_size(runs: Runs) -> None:
    async def body(client: Client) -> None:
        assert (await client.run(engines.IMAGE, SCRIPT, tty=True, **runs.how)) == CompletedRun(
            3, b"out\r\nerr\r\n", b""
        )
        # dockerd before 23.0 has the size just after the start.
        late = runs.engine.name == "docker" and runs.engine.version.startswith("20.")
        script = ["sh", "-c", f"sleep {0.5 if late else 0}; stty size"]
        result = await client.run(engines.IMAGE, script, tty=True, console_size=(33, 77), **runs.how)
        assert result.stdout == b"33 77\r\n"

    with_client(runs, body)


def test_how_the_command_runs(runs: Runs) -> None:
    async def body(client: Client) -> None:
        script = ["sh", "-c", 'echo "$WORD"; pwd']
        result = await client.run(engines.IMAGE, script, env={"WORD": "a b=c"}, workdir="/bin", **runs.how)
        assert result == CompletedRun(0, b"a b=c\n/bin\n", b"")

    with_client(runs, body)


def test_auto_remove_harms_nothing(runs: Runs) -> None:
    config = {**runs.how["config"], "HostConfig": runs.engine.host_config({"AutoRemove": True})}

    async def body(client: Client) -> None:
        for _ in range(3):
            assert await client.run(engines.IMAGE, SCRIPT, config=config) == RESULT

    with_client(runs, body)


def test_one_that_is_kept(runs: Runs) -> None:
    engine, names = runs.engine, [f"{runs.label}-{number}" for number in range(2)]

    async def body(client: Client) -> None:
        assert await client.run(engines.IMAGE, SCRIPT, name=names[0], remove=False, **runs.how) == RESULT
        with pytest.raises(CommandTimeout) as caught:
            await client.run(engines.IMAGE, ["sleep", "60"], name=names[1], remove=False, timeout=2, **runs.how)
        assert caught.value.ended
        assert not engine.inspect(names[1])["State"]["Running"]
        for name in names:
            await client.remove(name)

    with_client(runs, body)


# -- what goes wrong --------------------------------------------------------------------------------------------------


def test_what_is_refused(runs: Runs) -> None:
    engine, name = runs.engine, runs.label
    taken = engine.create("true")

    async def body(client: Client) -> None:
        with pytest.raises(RequestRejected, match="nosuchprogram"):
            await client.run(engines.IMAGE, ["nosuchprogram"], name=name, **runs.how)
        mine = await client.create(engines.IMAGE, ["true"], name=name, config={"HostConfig": engine.host_config({})})
        with pytest.raises(RequestRejected):
            await client.run(engines.IMAGE, ["true"], name=name, **runs.how)
        assert engine.status(mine) == "created"  # the run did not touch it
        await client.remove(name)
        if not engine.label.startswith("embedded"):
            with pytest.raises(ImageNotFound, match="docker pull nosuch/image:3") as caught:
                await client.run("nosuch/image:3", **runs.how)
            assert caught.value.image == "nosuch/image:3"
        with pytest.raises(OutputTooLarge) as much:
            await client.run(engines.IMAGE, ["yes"], max_output=4, **runs.how)
        assert much.value.stdout == b"y\ny\n"

    with_client(runs, body)
    assert engine.status(taken) == "created"


LATE: list[tuple[list[str], bytes | None, bytes]] = [
    (["sh", "-c", "echo silent; exec sleep 60"], None, b"silent\n"),
    (["sh", "-c", "echo deaf; trap '' TERM; while :; do sleep 1; done"], None, b"deaf\n"),
    (["yes"], None, b"y\ny\n"),
    (["sh", "-c", "echo never reads; exec sleep 60"], b"x" * 50_000_000, b"never reads\n"),
]


def test_deadlines(runs: Runs, count: Count) -> None:
    async def late(framework: Framework, command: list[str], input: bytes | None, output: bytes) -> None:
        began = time.monotonic()
        async with framework.client(runs.engine.host) as client:
            with pytest.raises(CommandTimeout) as caught:
                await client.run(engines.IMAGE, command, input=input, timeout=2, **runs.how)
        seconds = time.monotonic() - began - 2
        assert caught.value.ended
        assert caught.value.stdout.startswith(output)
        count(f"deadline, {output[:-1]!r}", runs.engine, 1, 1, f"{framework}: the error came {seconds:.2f} s after it")
        # dockerd kills a container that prints all the time only when it has written what it had.
        assert seconds < 10

    for framework in runs.frameworks:
        framework.run(lambda: framework.together(*(late(framework, *each) for each in LATE)))  # noqa: B023
        assert runs.left() == []


# -- cancelled at random moments --------------------------------------------------------------------------------------

COMMANDS: list[tuple[list[str], bytes | None]] = [(SCRIPT, None), (["sleep", "1"], None), (["cat"], b"x" * 100_000)]


@attrs.define
class Tally:
    """How the runs of a test have ended."""

    done: int = 0
    cancelled: int = 0
    slowest: float = 0.0  # how many seconds a cancelled run took to end
    wrong: list[str] = attrs.field(factory=list)

    def ended(self, seconds: float, exc: BaseException) -> None:
        self.cancelled += 1
        self.slowest = max(self.slowest, seconds)
        self.wrong += getattr(exc, "__notes__", [])


def moments(total: int) -> list[float | None]:
    """When each run is cancelled, in seconds from its start; two of three are not. Most take half a second in all."""
    chance = random.Random(total)
    return [chance.uniform(0, 0.8) if number % 3 == 0 else None for number in range(total)]


def cancelled_in_asyncio(runs: Runs, total: int) -> Tally:
    tally, room = Tally(), asyncio.Semaphore(4)

    async def one(number: int, at: float | None) -> None:
        command, input = COMMANDS[number % 3 - number // 3 % 3]
        async with room:
            call = asyncio_adapter.run(engines.IMAGE, command, input=input, host=runs.engine.host, **runs.how)
            task = asyncio.create_task(call)
            if at is not None:
                await asyncio.wait({task}, timeout=at)
            began = time.monotonic()
            if at is not None:
                task.cancel()
            try:
                await task
                tally.done += 1
            except asyncio.CancelledError as exc:
                tally.ended(time.monotonic() - began, exc)
            except Exception as exc:
                tally.wrong.append(repr(exc))

    async def main() -> None:
        await asyncio.gather(*(one(number, at) for number, at in enumerate(moments(total))))
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())
    return tally


def cancelled_in_trio(runs: Runs, total: int) -> Tally:
    tally, room = Tally(), trio.CapacityLimiter(4)

    async def one(number: int, at: float | None) -> None:
        command, input = COMMANDS[number % 3 - number // 3 % 3]
        async with room:
            began = time.monotonic()
            with trio.move_on_after(float("inf") if at is None else at):
                try:
                    await trio_adapter.run(engines.IMAGE, command, input=input, host=runs.engine.host, **runs.how)
                    tally.done += 1
                except trio.Cancelled as exc:
                    tally.ended(time.monotonic() - began - (at or 0), exc)
                    raise
                except Exception as exc:
                    tally.wrong.append(repr(exc))

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for number, at in enumerate(moments(total)):
                nursery.start_soon(one, number, at)

    trio.run(main)
    return tally


def interrupted(runs: Runs, total: int) -> Tally:
    """``KeyboardInterrupt`` by a real signal, in the blocking adapter; one run at a time, because it has one thread."""
    tally, armed = Tally(), False

    def handle(*_: object) -> None:
        nonlocal armed
        if armed:
            armed = False
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, handle)
    try:
        for number, at in enumerate(moments(total)):
            command, input = COMMANDS[number % 3 - number // 3 % 3]
            began = time.monotonic()
            try:
                armed = at is not None
                signal.setitimer(signal.ITIMER_REAL, 0.0 if at is None else at + 1e-6)
                blocking_adapter.run(engines.IMAGE, command, input=input, host=runs.engine.host, **runs.how)
                armed = False
                tally.done += 1
            except KeyboardInterrupt as exc:
                tally.ended(time.monotonic() - began - (at or 0), exc)
            except Exception as exc:
                tally.wrong.append(repr(exc))
            armed = False
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    return tally


@pytest.mark.parametrize("cancelled", [cancelled_in_asyncio, cancelled_in_trio, interrupted])
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # an interrupt between a socket's creation and the next line
def test_a_third_is_cancelled_at_random_moments(
    runs: Runs, cancelled: Callable[[Runs, int], Tally], times: Times, count: Count
) -> None:
    """1,000 by the three adapters together: no container, thread or task is left."""
    total = times(1000) // 3 + 1 if times(1) else 9
    threads = threading.active_count()
    tally = cancelled(runs, total)
    left = runs.left()
    count(
        f"run, {cancelled.__name__}",
        runs.engine,
        total - len(left),
        total,
        f"{tally.cancelled} cancelled, the slowest end took {tally.slowest:.2f} s",
    )
    assert left == []
    assert tally.wrong == []
    assert tally.done + tally.cancelled == total
    with contextlib.suppress(TimeoutError):
        wait_until(lambda: threading.active_count() <= threads, "its threads have ended", 5)
    assert threading.active_count() <= threads
