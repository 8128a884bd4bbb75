"""aiodocker, as its documentation uses it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import aiodocker
from aiodocker.stream import Stream

from benchmarks.comparison.clients._outcome import Outcome


async def _read(stream: Stream, outcome: Outcome) -> None:
    sizes, digests = outcome.sizes, outcome.digests
    while (message := await stream.read_out()) is not None:
        is_stderr = message.stream == 2
        sizes[is_stderr] += len(message.data)
        if digests:
            digests[is_stderr].update(message.data)


class Aiodocker:
    """One client object for all calls."""

    def _run(self, work: Callable[[aiodocker.Docker], Awaitable[None]]) -> None:
        async def main() -> None:
            async with aiodocker.Docker() as client:
                await work(client)

        asyncio.run(main())

    def output(self, outcome: Outcome, *, tty: bool) -> None:
        async def work(client: aiodocker.Docker) -> None:
            async with client.containers.container("web").attach(stdout=True, stderr=True) as stream:
                await _read(stream, outcome)

        self._run(work)

    def beside(self, outcome: Outcome) -> None:
        async def work(client: aiodocker.Docker) -> None:
            async with client.containers.container("web").attach(stdout=True, stderr=True) as stream:
                other = asyncio.create_task(outcome.take_turns(asyncio.sleep))
                await _read(stream, outcome)
                other.cancel()

        self._run(work)

    def keystrokes(self, outcome: Outcome, count: int) -> None:
        async def work(client: aiodocker.Docker) -> None:
            container = client.containers.container("web")
            async with container.attach(stdin=True, stdout=True, stderr=True) as stream:
                began = time.perf_counter()
                for _ in range(count):
                    await stream.write_in(b"x")
                    message = await stream.read_out()
                    assert message is not None
                    outcome.add(False, message.data)
                outcome.seconds = time.perf_counter() - began

        self._run(work)

    def cat(self, outcome: Outcome, data: bytes) -> None:
        async def work(client: aiodocker.Docker) -> None:
            container = client.containers.container("web")
            async with container.attach(stdin=True, stdout=True, stderr=True) as stream:

                async def write() -> None:
                    for at in range(0, len(data), 65536):
                        await stream.write_in(data[at : at + 65536])

                async with asyncio.TaskGroup() as group:
                    group.create_task(write())
                    await _read(stream, outcome)

        self._run(work)

    def attach(self, outcome: Outcome, count: int) -> None:
        async def work(client: aiodocker.Docker) -> None:
            began = time.perf_counter()
            for _ in range(count):
                async with client.containers.container("web").attach(stdout=True, stderr=True) as stream:
                    await _read(stream, outcome)
            outcome.seconds = time.perf_counter() - began

        self._run(work)

    def exec(self, outcome: Outcome, count: int) -> None:
        async def work(client: aiodocker.Docker) -> None:
            began = time.perf_counter()
            for _ in range(count):
                command = await client.containers.container("web").exec(["true"])
                async with command.start() as stream:
                    await _read(stream, outcome)
                assert (await command.inspect())["ExitCode"] == 0
            outcome.seconds = time.perf_counter() - began

        self._run(work)
