"""Cancels a call at its n-th wait: while it waits, or after the awaited thing has happened and before the task runs.

Strategy: every wait of the call and of the tasks that it starts is counted: in asyncio by a coroutine around that of
each task, in trio by an instrument. So the moment is exact, and no test depends on time.
"""

from __future__ import annotations

import abc
import asyncio
import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Generic, TypeVar

import attrs
import trio

from tests.adapters.frameworks import ASYNCIO, TRIO, Framework

T = TypeVar("T")
Operation = Callable[[], Coroutine[Any, Any, T]]


@attrs.frozen
class Done(Generic[T]):
    """The call returned, whether it was cancelled or not."""

    value: T


@attrs.frozen
class Outcome(Generic[T]):
    """The outcome of a call.

    Attributes:
        done: its result; ``None`` if it was cancelled.
        reached: it has waited often enough to be cancelled.
    """

    done: Done[T] | None
    reached: bool


def nothing() -> None:
    """The default for `waits`: do nothing."""


class Canceller(abc.ABC):
    """Cancels calls in one framework, at one kind of moment."""

    framework: Framework

    def __init__(self, moment: str) -> None:
        self.moment = moment

    def __str__(self) -> str:
        return f"{self.framework}-{self.moment}"

    @abc.abstractmethod
    async def __call__(self, operation: Operation[T], at: int, waits: Callable[[], None] = nothing) -> Outcome[T]:
        """Make the call, and cancel it at this wait, counted from 1.

        Args:
            operation: the call.
            at: the wait.
            waits: called at each wait of the call; the engine's side can act there.
        """


class AsyncioCanceller(Canceller):
    """The moments: ``waiting``; ``ready``: the future has its result and the task has not run yet; ``both``: as
    ``ready``, and a task that the call has started is cancelled too.
    """

    framework = ASYNCIO

    async def __call__(self, operation: Operation[T], at: int, waits: Callable[[], None] = nothing) -> Outcome[T]:
        loop = asyncio.get_running_loop()
        count = 0

        def waiting(future: asyncio.Future[Any] | None) -> None:
            nonlocal count
            count += 1
            waits()
            if count != at:
                return
            task = asyncio.current_task()
            assert task is not None
            if future is None or self.moment == "waiting":
                # Runs before the next select(), so nothing can have happened yet.
                loop.call_soon(main.cancel)
                return
            # Added before the task's own callback, so it runs first.
            future.add_done_callback(lambda _: main.cancel())
            if self.moment == "both" and task is not main:
                future.add_done_callback(lambda _: task.cancel())

        @types.coroutine
        def watched(coroutine: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
            try:
                future = coroutine.send(None)
                while True:
                    waiting(future)
                    try:
                        yield future
                    except BaseException as exc:
                        future = coroutine.throw(exc)
                    else:
                        future = coroutine.send(None)
            except StopIteration as last:
                value: T = last.value
                return value

        def watched_task(
            loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, T], **options: Any
        ) -> asyncio.Task[T]:
            async def run() -> T:
                return await watched(coroutine)

            return asyncio.Task(run(), loop=loop, **options)

        loop.set_task_factory(watched_task)  # type: ignore[arg-type]  # it is told for any type of result
        try:
            main = loop.create_task(operation())
            await asyncio.wait([main])
        finally:
            loop.set_task_factory(None)
        return Outcome(None if main.cancelled() else Done(main.result()), count >= at)


class TrioCanceller(Canceller):
    """The moments: ``waiting``; ``ready``: the task is scheduled because its wait is over, and has not run yet."""

    framework = TRIO

    async def __call__(self, operation: Operation[T], at: int, waits: Callable[[], None] = nothing) -> Outcome[T]:
        done: Done[T] | None = None
        with trio.CancelScope() as scope:
            watch = Watch(trio.lowlevel.current_task(), self.moment, at, scope, waits)
            trio.lowlevel.add_instrument(watch)
            try:
                done = Done(await operation())
            finally:
                trio.lowlevel.remove_instrument(watch)
        return Outcome(done, watch.count >= at)


class Watch(trio.abc.Instrument):
    """Counts the waits of a task and of the tasks that it has started."""

    def __init__(
        self, main: trio.lowlevel.Task, moment: str, at: int, scope: trio.CancelScope, waits: Callable[[], None]
    ) -> None:
        self.count = 0
        self._main = main
        self._moment = moment
        self._at = at
        self._scope = scope
        self._waits = waits

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if self._belongs(task):
            self._waits()
            if self._moment == "waiting":
                self._step()

    def task_scheduled(self, task: trio.lowlevel.Task) -> None:
        if self._moment == "ready" and self._belongs(task):
            self._step()

    def _belongs(self, task: trio.lowlevel.Task) -> bool:
        nursery = task.parent_nursery
        return task is self._main or (nursery is not None and nursery.parent_task is self._main)

    def _step(self) -> None:
        self.count += 1
        if self.count == self._at:
            self._scope.cancel()


CANCELLERS: tuple[Canceller, ...] = (
    *map(AsyncioCanceller, ("waiting", "ready", "both")),
    *map(TrioCanceller, ("waiting", "ready")),
)
