"""Interruptions in each framework: a deadline, a cancellation, and a close from elsewhere."""

from __future__ import annotations

import abc
import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, ClassVar, TypeVar, cast

import anyio
import trio

from attachproto_adapters import anyio as anyio_adapter
from tests.adapters.frameworks import (
    ASYNCIO,
    TRIO,
    Attachment,
    Client,
    LiftedAttachment,
    LiftedClient,
    finish,
)
from tests.soak import stacks

T = TypeVar("T")
Call = Callable[[], Awaitable[T]]
Main = Callable[[], Coroutine[Any, Any, None]]

# For one wait of the blocking adapter, where no other deadline is drawn.
WAIT_SECONDS = 30.0


class WasCancelled(Exception):
    """The job was cancelled, and the cancellation has come out of it."""


class Hooks(abc.ABC):
    """What differs between the frameworks.

    Attributes:
        broken: what the framework raises for a broken connection, in addition to ``OSError``.
    """

    name: ClassVar[str]
    broken: ClassVar[tuple[type[Exception], ...]] = ()

    @abc.abstractmethod
    def client(self, host: str, **named: Any) -> Client: ...

    @abc.abstractmethod
    def run(self, mains: list[Main]) -> None:
        """Run all of them side by side, and wait for their ends."""

    @abc.abstractmethod
    async def aside(self, call: Callable[[], T]) -> T:
        """Make a blocking call without blocking an event loop."""

    @abc.abstractmethod
    async def idle(self, seconds: float) -> None: ...

    @abc.abstractmethod
    def tasks(self) -> int:
        """How many tasks of the framework have not ended, with the caller's own; without an event loop none."""

    @abc.abstractmethod
    def stacks(self) -> Iterable[str]:
        """Where the tasks that ``run`` has started stand; any thread may ask."""

    @abc.abstractmethod
    async def within(self, seconds: float, attachment: Attachment | None, call: Call[T]) -> T:
        """Raise ``TimeoutError`` if it takes longer (in the blocking adapter: if one of its waits does)."""

    async def whole_within(self, seconds: float, call: Call[T]) -> T:
        """Raise ``TimeoutError`` if it takes longer. The blocking adapter's client has this limit for each wait."""
        return await self.within(seconds, None, call)

    @abc.abstractmethod
    async def cancelled_after(self, seconds: float, call: Call[T]) -> T:
        """Cancel it then.

        Raises:
            WasCancelled: the cancellation has come out of it.
        """

    @abc.abstractmethod
    async def closing_after(self, seconds: float, attachment: Attachment, call: Call[T]) -> T:
        """Close the attachment then, from another thread or task."""


class BlockingHooks(Hooks):
    name = "blocking"

    def client(self, host: str, **named: Any) -> Client:
        return cast("Client", LiftedClient(host, **{"timeout": WAIT_SECONDS, **named}))

    def run(self, mains: list[Main]) -> None:
        threads = [threading.Thread(target=lambda main=main: finish(main())) for main in mains]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    async def aside(self, call: Callable[[], T]) -> T:
        return call()

    async def idle(self, seconds: float) -> None:
        threading.Event().wait(seconds)

    def tasks(self) -> int:
        return 0

    def stacks(self) -> Iterable[str]:
        return ()

    async def within(self, seconds: float, attachment: Attachment | None, call: Call[T]) -> T:
        if attachment is None:
            return await call()
        inner = self._inner(attachment)
        inner.settimeout(seconds)
        try:
            return await call()
        finally:
            inner.settimeout(WAIT_SECONDS)

    async def cancelled_after(self, seconds: float, call: Call[T]) -> T:
        raise NotImplementedError("nothing cancels a blocking call")

    async def closing_after(self, seconds: float, attachment: Attachment, call: Call[T]) -> T:
        timer = threading.Timer(seconds, self._inner(attachment).close)
        timer.start()
        try:
            return await call()
        finally:
            timer.cancel()
            timer.join()

    @staticmethod
    def _inner(attachment: Attachment) -> Any:
        return cast("LiftedAttachment", attachment)._attachment


class AsyncioHooks(Hooks):
    name = "asyncio"

    def client(self, host: str, **named: Any) -> Client:
        return ASYNCIO.client(host, **named)

    def run(self, mains: list[Main]) -> None:
        async def together() -> None:
            self._loop = asyncio.get_running_loop()
            async with asyncio.TaskGroup() as group:
                for main in mains:
                    group.create_task(uncancelled(main))

        async def uncancelled(main: Main) -> None:
            try:
                await main()
            except asyncio.CancelledError as exc:  # the group would take it for an ordinary end
                raise RuntimeError("the cancellation of a call has ended the worker") from exc

        asyncio.run(together())

    async def aside(self, call: Callable[[], T]) -> T:
        return await asyncio.to_thread(call)

    async def idle(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def tasks(self) -> int:
        return len(asyncio.all_tasks())

    def stacks(self) -> Iterable[str]:
        return stacks.of_asyncio(self._loop)

    async def within(self, seconds: float, attachment: Attachment | None, call: Call[T]) -> T:
        async with asyncio.timeout(seconds):
            return await call()

    async def cancelled_after(self, seconds: float, call: Call[T]) -> T:
        async def body() -> T:
            return await call()

        task = asyncio.create_task(body())
        asyncio.get_running_loop().call_later(seconds, task.cancel)
        try:
            return await task
        except asyncio.CancelledError:
            raise WasCancelled from None

    async def closing_after(self, seconds: float, attachment: Attachment, call: Call[T]) -> T:
        async def close() -> None:
            await asyncio.sleep(seconds)
            await attachment.aclose()

        task = asyncio.create_task(close())
        try:
            return await call()
        finally:
            task.cancel()
            await asyncio.wait([task])


class TrioHooks(Hooks):
    name = "trio"
    broken = (trio.BrokenResourceError,)

    def client(self, host: str, **named: Any) -> Client:
        return TRIO.client(host, **named)

    def run(self, mains: list[Main]) -> None:
        async def together() -> None:
            self._root = trio.lowlevel.current_task()
            async with trio.open_nursery() as nursery:
                for main in mains:
                    nursery.start_soon(main)

        trio.run(together)

    async def aside(self, call: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(call)

    async def idle(self, seconds: float) -> None:
        await trio.sleep(seconds)

    def tasks(self) -> int:
        return trio.lowlevel.current_statistics().tasks_living

    def stacks(self) -> Iterable[str]:
        return stacks.of_trio(self._root)

    async def within(self, seconds: float, attachment: Attachment | None, call: Call[T]) -> T:
        try:
            with trio.fail_after(seconds):
                return await call()
        except trio.TooSlowError:
            raise TimeoutError from None

    async def cancelled_after(self, seconds: float, call: Call[T]) -> T:
        with trio.move_on_after(seconds):
            return await call()
        raise WasCancelled

    async def closing_after(self, seconds: float, attachment: Attachment, call: Call[T]) -> T:
        outcome: list[T] = []
        failed: list[Exception] = []

        async def operate() -> None:
            try:
                outcome.append(await call())
            except Exception as exc:
                failed.append(exc)
            nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(operate)
            await trio.sleep(seconds)
            await attachment.aclose()
        if failed:
            raise failed[0]
        return outcome[0]


class AnyioHooks(Hooks):
    """The anyio adapter, in one of the frameworks that it runs in."""

    def __init__(self, below: Hooks) -> None:
        self._below = below
        self.name = f"anyio-{below.name}"  # type: ignore[misc]
        self.broken = below.broken  # type: ignore[misc]

    def client(self, host: str, **named: Any) -> Client:
        return cast("Client", anyio_adapter.Client(host, **named))

    def run(self, mains: list[Main]) -> None:
        self._below.run(mains)

    async def aside(self, call: Callable[[], T]) -> T:
        return await anyio.to_thread.run_sync(call)

    async def idle(self, seconds: float) -> None:
        await anyio.sleep(seconds)

    def tasks(self) -> int:
        return self._below.tasks()

    def stacks(self) -> Iterable[str]:
        return self._below.stacks()

    async def within(self, seconds: float, attachment: Attachment | None, call: Call[T]) -> T:
        with anyio.fail_after(seconds):
            return await call()

    async def cancelled_after(self, seconds: float, call: Call[T]) -> T:
        with anyio.move_on_after(seconds):
            return await call()
        raise WasCancelled

    async def closing_after(self, seconds: float, attachment: Attachment, call: Call[T]) -> T:
        return await self._below.closing_after(seconds, attachment, call)


FRAMEWORKS: tuple[Hooks, ...] = (
    BlockingHooks(),
    AsyncioHooks(),
    TrioHooks(),
    AnyioHooks(AsyncioHooks()),
    AnyioHooks(TrioHooks()),
)
