"""Our three adapters; asyncio also under uvloop."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

import trio

from attachproto import AttachOptions, Stderr
from attachproto_adapters import asyncio as asyncio_adapter
from attachproto_adapters import blocking
from attachproto_adapters import trio as trio_adapter
from benchmarks.comparison.clients._outcome import Outcome

STDIN = AttachOptions(stdin=True)


def _feed(attachment: blocking.Attachment, data: bytes) -> None:
    attachment.send_stdin(data)
    attachment.close_stdin()


class Blocking:
    """``attachproto_adapters.blocking``."""

    def output(self, outcome: Outcome, *, tty: bool) -> None:
        sizes, digests = outcome.sizes, outcome.digests
        with blocking.attach("web") as attachment:
            for event in attachment:
                is_stderr = type(event) is Stderr
                sizes[is_stderr] += len(event.data)
                if digests:
                    digests[is_stderr].update(event.data)

    def keystrokes(self, outcome: Outcome, count: int) -> None:
        with blocking.attach("web", STDIN) as attachment:
            began = time.perf_counter()
            for _ in range(count):
                attachment.send_stdin(b"x")
                outcome.add(False, attachment.receive().data)  # type: ignore[union-attr]
            outcome.seconds = time.perf_counter() - began

    def cat(self, outcome: Outcome, data: bytes) -> None:
        with blocking.attach("web", STDIN) as attachment:
            writer = threading.Thread(target=_feed, args=(attachment, data))
            writer.start()
            for event in attachment:
                outcome.add(type(event) is Stderr, event.data)
            writer.join()

    def attach(self, outcome: Outcome, count: int) -> None:
        with blocking.Client() as client:
            began = time.perf_counter()
            for _ in range(count):
                with client.attach("web") as attachment:
                    for is_stderr, output in enumerate(attachment.communicate()):
                        outcome.add(bool(is_stderr), output)
            outcome.seconds = time.perf_counter() - began

    def exec(self, outcome: Outcome, count: int) -> None:
        with blocking.Client() as client:
            began = time.perf_counter()
            for _ in range(count):
                result = client.run_exec("web", ["true"])
                outcome.add(False, result.stdout)
                outcome.add(True, result.stderr)
            outcome.seconds = time.perf_counter() - began


class Async:
    """An asynchronous adapter: the same code for asyncio and trio."""

    def __init__(self, adapter: Any, run: Callable[[Callable[[], Awaitable[None]]], None]) -> None:
        self._adapter = adapter
        self._run = run

    async def _read(self, outcome: Outcome) -> None:
        sizes, digests = outcome.sizes, outcome.digests
        async with await self._adapter.attach("web") as attachment:
            async for event in attachment:
                is_stderr = type(event) is Stderr
                sizes[is_stderr] += len(event.data)
                if digests:
                    digests[is_stderr].update(event.data)

    def output(self, outcome: Outcome, *, tty: bool) -> None:
        self._run(lambda: self._read(outcome))

    def beside(self, outcome: Outcome) -> None:
        sleep = trio.sleep if self._adapter is trio_adapter else asyncio.sleep

        async def main() -> None:
            async with self._alongside(functools.partial(outcome.take_turns, sleep)):
                await self._read(outcome)

        self._run(main)

    def keystrokes(self, outcome: Outcome, count: int) -> None:
        async def main() -> None:
            async with await self._adapter.attach("web", STDIN) as attachment:
                began = time.perf_counter()
                for _ in range(count):
                    await attachment.send_stdin(b"x")
                    outcome.add(False, (await attachment.receive()).data)
                outcome.seconds = time.perf_counter() - began

        self._run(main)

    def cat(self, outcome: Outcome, data: bytes) -> None:
        async def feed(attachment: Any) -> None:
            await attachment.send_stdin(data)
            await attachment.close_stdin()

        async def main() -> None:
            async with (
                await self._adapter.attach("web", STDIN) as attachment,
                self._alongside(functools.partial(feed, attachment)),
            ):
                async for event in attachment:
                    outcome.add(type(event) is Stderr, event.data)

        self._run(main)

    @contextlib.asynccontextmanager
    async def _alongside(self, other: Callable[[], Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
        """Another task that runs beside this block."""
        if self._adapter is trio_adapter:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(other)
                yield
                nursery.cancel_scope.cancel()
        else:
            task = asyncio.create_task(other())
            yield
            task.cancel()

    def attach(self, outcome: Outcome, count: int) -> None:
        async def main() -> None:
            async with self._adapter.Client() as client:
                began = time.perf_counter()
                for _ in range(count):
                    async with await client.attach("web") as attachment:
                        for is_stderr, output in enumerate(await attachment.communicate()):
                            outcome.add(bool(is_stderr), output)
                outcome.seconds = time.perf_counter() - began

        self._run(main)

    def exec(self, outcome: Outcome, count: int) -> None:
        async def main() -> None:
            async with self._adapter.Client() as client:
                began = time.perf_counter()
                for _ in range(count):
                    result = await client.run_exec("web", ["true"])
                    outcome.add(False, result.stdout)
                    outcome.add(True, result.stderr)
                outcome.seconds = time.perf_counter() - began

        self._run(main)


def with_asyncio() -> Async:
    return Async(asyncio_adapter, lambda main: asyncio.run(main()))  # type: ignore[arg-type]


def with_uvloop() -> Async:
    import uvloop

    return Async(asyncio_adapter, lambda main: uvloop.run(main()))


def with_trio() -> Async:
    return Async(trio_adapter, trio.run)
