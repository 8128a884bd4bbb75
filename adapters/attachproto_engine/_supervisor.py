"""The processes and background tasks of one engine, and their end."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Coroutine
from typing import Any, Final

from attachproto_engine._command import Command
from attachproto_engine._guard import Guard
from attachproto_engine._process import Process

# How long closing the engine waits for killed processes, and how often it kills again: a fork may have slipped through.
_CLOSE_SECONDS: Final = 5.0
_KILL_AGAIN_SECONDS: Final = 0.2


class Supervisor:
    """Runs one task for each process, and kills what is left when the engine is closed."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._tasks: set[asyncio.Task[None]] = set()
        self._processes: set[Process] = set()

    def start(self, command: Command) -> Process:
        """Start a process. ``watch`` it before anything is awaited. Raises as ``Process`` does."""
        return Process(command, self._guard)

    def watch(self, process: Process, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run ``work``, which waits for the process to end. Until it returns, ``close`` kills the process."""
        self._processes.add(process)
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)

        def done(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            self._processes.discard(process)

        task.add_done_callback(done)
        return task

    async def close(self) -> None:
        """Kill every process and wait for its task, for at most 5 s: a process of another user cannot be killed."""
        deadline = time.monotonic() + _CLOSE_SECONDS
        while self._tasks and time.monotonic() < deadline:
            for process in list(self._processes):
                process.signal_all(signal.SIGKILL)
            await asyncio.wait(self._tasks, timeout=_KILL_AGAIN_SECONDS)
        for task in self._tasks:
            task.cancel()
