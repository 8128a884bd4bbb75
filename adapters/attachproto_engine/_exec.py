"""One exec: a command that runs beside the process of a container."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
from typing import Final

from attachproto_engine._command import StartFailed
from attachproto_engine._config import ExecConfig
from attachproto_engine._errors import ApiError
from attachproto_engine._process import Process, Sink
from attachproto_engine._supervisor import Supervisor

# How runc begins the error of an exec whose command cannot be executed.
_FAILED: Final = "OCI runtime exec failed: exec failed: unable to start container process: "


class Exec:
    """An exec. Its container decides whether it may start.

    Attributes:
        id: 64 hexadecimal digits.
        config: what it was created with.
        exit_code: ``None`` before its end.
        process: ``None`` when it does not run.
    """

    def __init__(self, config: ExecConfig, supervisor: Supervisor) -> None:
        self.id = secrets.token_hex(32)
        self.config = config
        self.exit_code: int | None = None
        self.process: Process | None = None
        self._supervisor = supervisor
        self._started = False

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._started and self.exit_code is None

    @property
    def ended(self) -> bool:
        """Whether nothing of it runs any more; after the detach keys it runs on though it has an exit code."""
        return self.exit_code is not None and self.process is None

    def check_not_started(self) -> None:
        """Raise ``ApiError`` if it was started before: an exec runs once."""
        if self._started:
            state = "is already running" if self.exit_code is None else "has already run"
            raise ApiError(409, f"exec command {self.id} {state}")

    def start(self, sink: Sink, *, attached: bool, size: tuple[int, int] | None = None) -> asyncio.Task[None]:
        """Start it.

        Returns:
            A task that is done when the process has ended and all its output went to ``sink``.

        Raises:
            ApiError: the command cannot be executed.
        """
        self._started = True
        directory = self.config.directory
        if directory and not os.path.isdir(directory):
            self.exit_code = 126
            missing = f'chdir to cwd ("{directory}") set in config.json failed: no such file or directory'
            raise ApiError(400, _FAILED + missing)
        try:
            process = self._supervisor.start(self.config.command(attached=attached, size=size))
        except StartFailed as exc:
            self.exit_code = exc.exit_code
            raise ApiError(400, _FAILED + str(exc)) from None
        except OSError as exc:  # most likely EMFILE
            self.exit_code = 126
            raise ApiError(500, _FAILED + str(exc)) from None
        self.process = process
        process.pump(sink)
        return self._supervisor.watch(process, self._run(process))

    async def _run(self, process: Process) -> None:
        code = await process.ended()
        if self.exit_code is None:
            self.exit_code = code
        self.process = None
        await process.drained()

    def detach(self) -> None:
        """Set the exit code that dockerd reports after the detach keys: 126, though the process runs on."""
        self.exit_code = 126

    def kill(self) -> None:
        """Kill its process, if it runs."""
        self.signal_all(signal.SIGKILL)

    def signal_all(self, number: int) -> None:
        """Signal everything in its session, if it runs."""
        if self.process is not None:
            self.process.signal_all(number)
