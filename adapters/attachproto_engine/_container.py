"""One container: a configuration that never changes, a state that does, its output, and a process while it runs.

Nothing here knows HTTP. What the emulated engine refuses is an ``ApiError`` with that engine's status and text.
"""

from __future__ import annotations

import asyncio
import secrets
import signal
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from attachproto_engine._command import StartFailed
from attachproto_engine._config import Config, ExecConfig, signal_number
from attachproto_engine._errors import ApiError
from attachproto_engine._exec import Exec
from attachproto_engine._output import OutputLog
from attachproto_engine._process import Process, Sink
from attachproto_engine._rules import REMOVING, Rules
from attachproto_engine._supervisor import Supervisor
from attachproto_engine._waiters import Waiters

# How dockerd begins the error of a container whose command cannot be executed.
_START_FAILED: Final = (
    "failed to create task for container: failed to create shim task: OCI runtime create failed: "
    "runc create failed: unable to start container process: error during container init: "
)

# dockerd forgets an exec five to ten minutes after its end (execCommandGC in moby's daemon/exec.go).
_EXECS: Final = 1000


class Container:
    """One container.

    It has 18 methods, and the file more than 250 lines: nearly each method is a call of the Engine API about a
    container, and all work on one state.

    Attributes:
        id: 64 hexadecimal digits.
        name: without the slash that the API puts before it.
        config: what it was created with.
        rules: those of the emulated engine.
        log: its output.
        status: ``created``, ``running``, ``paused`` or ``exited``.
        exit_code: of its last run, and 0 before the first.
        exit_code_known: whether ``exit_code`` is that of a run; an attach to Podman makes it unknown again.
        error: why its last start failed.
        process: ``None`` when it does not run.
        restarts: how many restarts are ending it only to start it again.
        removing: a client's request to remove it is under way, so it cannot be started.
        execs: by their IDs. Of those that have ended, at least the last 1,000.
        exits: futures for the exit code of the current run, or of the next one.
        removals: futures for the last exit code, resolved when the container is removed.
    """

    def __init__(
        self, name: str, config: Config, rules: Rules, supervisor: Supervisor, remove: Callable[[Container], None]
    ) -> None:
        """Make it; ``remove`` is called when it has ended and ``AutoRemove`` was asked for."""
        self.id = secrets.token_hex(32)
        self.name = name
        self.config = config
        self.rules = rules
        self.log = OutputLog(keep=config.log_driver != "none")
        self.created = time.time_ns()
        self.started: int | None = None
        self.finished: int | None = None
        self.status = "created"
        self.exit_code = 0
        self.exit_code_known = False
        self.error = ""
        self.process: Process | None = None
        self.restarts = 0
        self.removing = False
        self.execs: dict[str, Exec] = {}
        self._forget_at = 2 * _EXECS
        self._supervisor = supervisor
        self._remove = remove
        self._runs = asyncio.Event()
        self.exits = Waiters()
        self.removals = Waiters()

    @property
    def running(self) -> bool:
        """Whether it has a process; also while it is paused."""
        return self.process is not None

    def check_running(self) -> Process:
        """Its process.

        Raises:
            ApiError: there is none, or it has ended and only its output is still being read.
        """
        if self.process is None or self.process.exit_code is not None:
            raise ApiError(409, f"container {self.id} is not running")
        return self.process

    def _check_can_exec(self) -> None:
        self.check_running()
        if self.status == "paused":
            raise ApiError(409, f"Container {self.id} is paused, unpause the container before exec")

    # ---- start and end ----

    def start(self) -> bool:
        """Start it; ``False`` if it runs already.

        Raises:
            ApiError: it is paused or being removed, or its command cannot be executed; the streams of attached clients
                then end.
        """
        if self.status == "paused":
            raise ApiError(409, "cannot start a paused container, try unpause instead")
        if self.running:
            return False
        if self.removing:
            raise ApiError(409, REMOVING)
        try:
            process = self._supervisor.start(self.config.command())
        except StartFailed as exc:
            self.exit_code, self.exit_code_known = exc.exit_code, True
            self.error = _START_FAILED + str(exc)
            self.log.end_run(time.time_ns())
            if self.config.auto_remove:
                self._remove(self)
            raise ApiError(400, self.error) from None
        self.process = process
        self.status, self.exit_code, self.error = "running", 0, ""
        self.started = time.time_ns()
        self.log.gate(True)
        process.pump(self._store)
        self._runs.set()
        self._supervisor.watch(process, self._run(process))
        return True

    async def _store(self, stream: int, data: bytes) -> None:
        try:
            self.log.append(stream, data, time.time_ns())
        except OSError as exc:
            # Most likely the disk is full. The process is killed: its further output would be lost silently.
            self.error = f"its output cannot be kept: {exc.strerror}"
            if self.process is not None:
                self.process.signal_all(signal.SIGKILL)
        await self.log.room()

    async def _run(self, process: Process) -> None:
        code = await process.ended()
        # check_running() refuses new execs from here on.
        for exec_ in self.execs.values():
            exec_.kill()
        # The process has ended, so slow readers need not slow it down. The pipes hold at most 64 KiB each.
        self.log.gate(False)
        await process.drained()
        self._runs.clear()
        self.process = None
        self.status, self.exit_code, self.exit_code_known = "exited", code, True
        self.finished = time.time_ns()
        self.exits.resolve(code)
        self.log.end_run(self.finished)
        if self.config.auto_remove and not self.restarts:
            self._remove(self)

    def pause(self) -> None:
        """Stop all of its processes with SIGSTOP."""
        self.check_running()
        if self.status == "paused":
            raise ApiError(409, f"container {self.id} is already paused")
        self._signal_all(signal.SIGSTOP)
        self.status = "paused"

    def unpause(self) -> None:
        """Let them run again with SIGCONT."""
        if self.status != "paused":
            raise ApiError(500, f"Container {self.id} is not paused")
        self._signal_all(signal.SIGCONT)
        self.status = "running"

    def sessions(self) -> list[int]:
        """The leaders of the sessions of its processes: its own, and one for each exec that runs."""
        processes = [self.process, *(exec_.process for exec_ in self.execs.values())]
        return [process.pid for process in processes if process is not None]

    def _signal_all(self, number: int) -> None:
        if self.process is not None:
            self.process.signal_all(number)
        for exec_ in self.execs.values():
            exec_.signal_all(number)

    def kill(self, number: int) -> None:
        """Signal its process; SIGKILL goes to the whole session.

        Raises:
            ApiError: it does not run.
        """
        process = self.check_running()
        if number == signal.SIGKILL:
            process.signal_all(number)
        else:
            process.send_signal(number)

    async def stop(self, seconds: int | None, number: int | None) -> bool:
        """Send its stop signal, and SIGKILL after so many seconds (below zero: never); ``False`` if it does not run.

        ``None`` stands for what it was created with.
        """
        process = self.process
        if process is None:
            return False
        ended = self.exits.add()
        process.send_signal(signal_number(self.config.stop_signal) if number is None else number)
        patience = self.config.stop_seconds if seconds is None else seconds
        done, _ = await asyncio.wait({ended}, timeout=None if patience < 0 else patience)
        if not done:
            process.signal_all(signal.SIGKILL)
            await ended
        return True

    # ---- attach and exec ----

    def begin_attach(self, asked: str) -> None:
        """Do what an attach does to a container before it is answered.

        Args:
            asked: the name or ID that the client used, for the error.

        Raises:
            ApiError: it is paused.
        """
        if self.status == "paused":
            raise self.rules.paused_refusal(asked)
        if self.status == "exited" and self.rules.attach_resets:
            self.status, self.exit_code, self.exit_code_known = "created", 0, False

    def create_exec(self, given: Mapping[str, Any]) -> Exec:
        """Create an exec.

        Raises:
            ApiError: the container does not run or is paused, or the body is invalid.
        """
        self._check_can_exec()
        exec_ = Exec(ExecConfig.from_json(given, self.config), self._supervisor)
        if len(self.execs) >= self._forget_at:
            ended = [each.id for each in self.execs.values() if each.ended]
            for exec_id in ended[:-_EXECS]:
                del self.execs[exec_id]
            self._forget_at = len(self.execs) + _EXECS
        self.execs[exec_.id] = exec_
        return exec_

    def start_exec(
        self, exec_: Exec, sink: Sink, *, attached: bool, size: tuple[int, int] | None = None
    ) -> asyncio.Task[None]:
        """Start one of its execs; see ``Exec.start``.

        Raises:
            ApiError: the exec was started before or cannot be, or the container does not run or is paused.
        """
        exec_.check_not_started()
        self._check_can_exec()
        return exec_.start(sink, attached=attached, size=size)

    async def until_running(self) -> Process:
        """Wait until it runs; its process."""
        while self.process is None:
            await self._runs.wait()
        return self.process

    def removed(self) -> None:
        """Resolve what waits for its exit or removal. As on dockerd, attached clients get no end of file."""
        self.exits.resolve(self.exit_code)
        self.removals.resolve(self.exit_code)
        self.log.release()
