"""Containers and execs: what the engine knows of them, and what can be done to them.

Strategy: a container is a ``Config`` that never changes, a state that does, an ``OutputLog``, and while it runs a
``Process``. Nothing here knows HTTP. What dockerd refuses is refused here, as ``ApiError``, with its status and text.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
import signal
import time
from collections.abc import Coroutine, Iterator, Mapping
from typing import Any, Final, Self

import attrs

from attachproto import parse_detach_keys
from attachproto_engine._output import OutputLog
from attachproto_engine._process import Command, Process, Sink, StartFailed
from attachproto_engine._rules import Rules

_NAME: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")

# docker stop's own patience.
_STOP_SECONDS: Final = 10

# How long the engine's end waits for processes that it has killed, and how often it kills them.
_CLOSE_SECONDS: Final = 5.0
_KILL_AGAIN_SECONDS: Final = 0.2

# What runc says of a container and of an exec whose command cannot be executed.
_START_FAILED: Final = (
    "failed to create task for container: failed to create shim task: OCI runtime create failed: "
    "runc create failed: unable to start container process: error during container init: "
)
_EXEC_FAILED: Final = "OCI runtime exec failed: exec failed: unable to start container process: "
_DETACHED: Final = "exec attach failed: error on attach stdin: read escape sequence"


class ApiError(Exception):
    """What was asked is not done.

    Attributes:
        status_code: the HTTP status that dockerd gives.
        text: its text.
    """

    def __init__(self, status_code: int, text: str) -> None:
        super().__init__(text)
        self.status_code = status_code
        self.text = text


def _list(value: object) -> list[str]:
    if value is None:
        return []
    if not isinstance(value, str | list):
        raise ApiError(400, f"invalid JSON: a list of texts is needed, not {value!r}")
    return [value] if isinstance(value, str) else [str(item) for item in value]


def _check_text(*values: object) -> None:
    """Raise ``ApiError`` for what could not be handed to a process."""
    for value in values:
        for text in _list(value):
            try:
                if b"\0" not in text.encode():
                    continue
            except UnicodeEncodeError:
                pass
            raise ApiError(400, f"a process cannot be given {text!r}")


def _size(value: object) -> tuple[int, int]:
    return (int(value[0]), int(value[1])) if isinstance(value, list) and len(value) == 2 else (0, 0)


@attrs.frozen(kw_only=True)
class Config:
    """What a container was created with. ``given`` is the whole of it, as the client said it."""

    given: Mapping[str, Any]
    arguments: tuple[str, ...]
    environment: tuple[str, ...]
    directory: str
    tty: bool
    open_stdin: bool
    stdin_once: bool
    auto_remove: bool
    log_driver: str
    labels: Mapping[str, str]
    console_size: tuple[int, int]
    stop_signal: str
    stop_seconds: int

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> Self:
        """Read the body of a create.

        Raises:
            ApiError: it has no command.
        """
        host = given.get("HostConfig") or {}
        arguments = _list(given.get("Entrypoint")) + _list(given.get("Cmd"))
        # An Entrypoint of [""] takes the image's away.
        arguments = arguments[1:] if arguments and not arguments[0] else arguments
        if not arguments:
            raise ApiError(400, "no command specified")
        seconds = given.get("StopTimeout")
        stop_signal = str(given.get("StopSignal") or "SIGTERM")
        try:
            signal_number(stop_signal)
        except ApiError:
            raise ApiError(400, f"Invalid signal: {stop_signal}") from None
        _check_text(arguments, given.get("Env"), given.get("WorkingDir"))
        return cls(
            given=given,
            arguments=tuple(arguments),
            environment=tuple(_list(given.get("Env"))),
            directory=str(given.get("WorkingDir") or ""),
            tty=bool(given.get("Tty")),
            open_stdin=bool(given.get("OpenStdin")),
            stdin_once=bool(given.get("StdinOnce")),
            auto_remove=bool(host.get("AutoRemove")),
            log_driver=str((host.get("LogConfig") or {}).get("Type") or "json-file"),
            labels=dict(given.get("Labels") or {}),
            console_size=_size(host.get("ConsoleSize")),
            stop_signal=stop_signal,
            stop_seconds=_STOP_SECONDS if seconds is None else int(seconds),
        )

    def command(self) -> Command:
        """What is to be executed."""
        return Command(
            self.arguments,
            _environment(self.environment, tty=self.tty),
            _existing(self.directory),
            tty=self.tty,
            stdin=self.open_stdin,
            size=self.console_size,
        )


def _environment(added: tuple[str, ...], *, tty: bool) -> dict[str, str]:
    # As a container's: nothing of the engine's own, which may hold secrets, and differs from machine to machine.
    environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": os.environ.get("HOME", "/")}
    if tty:
        environment["TERM"] = "xterm"
    for item in added:
        name, said, value = item.partition("=")
        if said:
            environment[name] = value
        else:
            environment.pop(name, None)
    return environment


def _existing(directory: str) -> str | None:
    return directory if directory and os.path.isdir(directory) else None


def signal_number(text: str) -> int:
    """A signal by its name, with or without ``SIG``, or its number.

    Raises:
        ApiError: there is no such signal.
    """
    name = text.upper().removeprefix("SIG")
    number = int(text) if text.isascii() and text.isdigit() else getattr(signal, f"SIG{name}", 0)
    if not number or not isinstance(number, int) or name.startswith("_"):
        raise ApiError(400, f"invalid signal: {text}")
    if number not in signal.valid_signals():
        raise ApiError(500, f"The linux daemon does not support signal {number}")
    return int(number)


class Container:
    """One container.

    Attributes:
        id: 64 hexadecimal digits.
        name: without the slash that the API puts before it.
        config: what it was created with.
        log: what it printed.
        status: ``created``, ``running``, ``paused`` or ``exited``.
        exit_code: of its last run, and 0 before the first.
        exit_code_known: whether that is so; Podman forgets it at the next attach.
        error: why its last start failed.
        process: while it runs.
        execs: by their IDs.
    """

    def __init__(self, engine: Containers, name: str, config: Config) -> None:
        self._engine = engine
        self.rules = engine.rules
        self.id = secrets.token_hex(32)
        self.name = name
        self.config = config
        self.log = OutputLog(keep=config.log_driver != "none")
        self.created = time.time_ns()
        self.started: int | None = None
        self.finished: int | None = None
        self.status = "created"
        self.exit_code = 0
        self.error = ""
        self.exit_code_known = False
        self.process: Process | None = None
        self.execs: dict[str, Exec] = {}
        self._runs = asyncio.Event()
        self._exits: set[asyncio.Future[int]] = set()
        self._removals: set[asyncio.Future[int]] = set()

    @property
    def running(self) -> bool:
        """Whether its process is there; it is also while it is paused."""
        return self.process is not None

    def check_running(self) -> Process:
        """Its process.

        Raises:
            ApiError: there is none, or it has ended and only its output is still coming.
        """
        if self.process is None or self.process.exit_code is not None:
            raise ApiError(409, f"container {self.id} is not running")
        return self.process

    def begin_attach(self, asked: str) -> None:
        """Do to it what an attach does before it is answered.

        Args:
            asked: the name or ID that the client used, for the error.

        Raises:
            ApiError: it is paused.
        """
        if self.status == "paused":
            if self.rules.podman:
                state = f"currently in state {self.status}: container state improper"
                raise ApiError(500, f"can only attach to created or running containers - {state}")
            raise ApiError(409, f"container {asked} is paused, unpause the container before attach")
        if self.status == "exited" and self.rules.attach_resets:
            self.status, self.exit_code = "created", 0
            self.exit_code_known = False

    def check_not_paused(self) -> None:
        """Raise ``ApiError`` if no exec can run beside it now."""
        if self.status == "paused":
            raise ApiError(409, f"Container {self.id} is paused, unpause the container before exec")

    # ---- its life ----

    def start(self) -> bool:
        """Start it; ``False`` if it runs already.

        Raises:
            ApiError: it is paused, or its command cannot be executed. Who is attached comes to the end of the stream.
        """
        if self.status == "paused":
            raise ApiError(409, "cannot start a paused container, try unpause instead")
        if self.running:
            return False
        try:
            process = Process(self.config.command())
        except StartFailed as exc:
            self.exit_code, self.exit_code_known = exc.exit_code, True
            self.error = _START_FAILED + str(exc)
            self.log.end_run(time.time_ns())
            if self.config.auto_remove:
                self._engine.drop(self)
            raise ApiError(400, self.error) from None
        self.process = process
        self.status, self.exit_code, self.error = "running", 0, ""
        self.started = time.time_ns()
        self.log.gate(True)
        process.pump(self._store)
        self._runs.set()
        self._engine.watch(process, self._run(process))
        return True

    async def _store(self, stream: int, data: bytes) -> None:
        try:
            self.log.append(stream, data, time.time_ns())
        except OSError as exc:
            # A full disk, most likely. To go on would be to print into nothing.
            self.error = f"its output cannot be kept: {exc.strerror}"
            if self.process is not None:
                self.process.signal_all(signal.SIGKILL)
        await self.log.room()

    async def _run(self, process: Process) -> None:
        code = await process.ended()
        # From here on none can be started.
        for exec_ in self.execs.values():
            exec_.kill()
        # Nothing is left to be held back, and what is in the pipes is not much.
        self.log.gate(False)
        await process.drained()
        self._runs.clear()
        self.process = None
        self.status, self.exit_code, self.exit_code_known = "exited", code, True
        self.finished = time.time_ns()
        _resolve(self._exits, code)
        self.log.end_run(self.finished)
        if self.config.auto_remove:
            self._engine.drop(self)

    def pause(self) -> None:
        """Stop all of its processes."""
        self.check_running()
        if self.status == "paused":
            raise ApiError(409, f"container {self.id} is already paused")
        self._signal_all(signal.SIGSTOP)
        self.status = "paused"

    def unpause(self) -> None:
        """Let them go on."""
        if self.status != "paused":
            raise ApiError(500, f"Container {self.id} is not paused")
        self._signal_all(signal.SIGCONT)
        self.status = "running"

    def _signal_all(self, number: int) -> None:
        if self.process is not None:
            self.process.signal_all(number)
        for exec_ in self.execs.values():
            if exec_.process is not None:
                exec_.process.signal_all(number)

    def kill(self, number: int) -> None:
        """Signal it.

        Raises:
            ApiError: it does not run.
        """
        process = self.check_running()
        if number == signal.SIGKILL:
            process.signal_all(number)
        else:
            process.send_signal(number)

    async def stop(self, seconds: int | None) -> bool:
        """Ask it to end, and end it after that many seconds (below zero: never); ``False`` if it does not run."""
        process = self.process
        if process is None:
            return False
        ended = self.next_exit()
        process.send_signal(signal_number(self.config.stop_signal))
        patience = self.config.stop_seconds if seconds is None else seconds
        done, _ = await asyncio.wait({ended}, timeout=None if patience < 0 else patience)
        if not done:
            process.signal_all(signal.SIGKILL)
            await ended
        return True

    # ---- waiting ----

    async def until_running(self) -> Process:
        """Its process, when it runs."""
        while self.process is None:
            await self._runs.wait()
        return self.process

    def next_exit(self) -> asyncio.Future[int]:
        """Resolved with the exit code of the run that is on, or of the next."""
        return _waiter(self._exits)

    def removal(self) -> asyncio.Future[int]:
        """Resolved with the last exit code when it is removed."""
        return _waiter(self._removals)

    def gone(self) -> None:
        """It was removed. Who is attached to it stays so, without an end, as with dockerd."""
        _resolve(self._exits, self.exit_code)
        _resolve(self._removals, self.exit_code)
        self.log.release()


def _waiter(waiters: set[asyncio.Future[int]]) -> asyncio.Future[int]:
    waiter: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    waiters.add(waiter)
    waiter.add_done_callback(waiters.discard)
    return waiter


def _resolve(waiters: set[asyncio.Future[int]], code: int) -> None:
    for waiter in list(waiters):
        if not waiter.done():
            waiter.set_result(code)


class Exec:
    """A command that is run beside a container's own.

    Attributes:
        id: 64 hexadecimal digits.
        container: the one it belongs to.
        given: the body of its creation.
        exit_code: ``None`` before its end.
        process: while it runs.
    """

    def __init__(self, container: Container, given: Mapping[str, Any]) -> None:
        self.id = secrets.token_hex(32)
        self.container = container
        self.given = given
        self.arguments = tuple(_list(given.get("Cmd")))
        self.tty = bool(given.get("Tty"))
        self.stdin = bool(given.get("AttachStdin"))
        self.detach_keys = str(given.get("DetachKeys") or "")
        self.exit_code: int | None = None
        self.process: Process | None = None
        self._begun = False

    @property
    def running(self) -> bool:
        """Whether it has begun and not ended."""
        return self._begun and self.exit_code is None

    def start(self, sink: Sink, *, attached: bool, size: tuple[int, int] | None = None) -> asyncio.Task[None]:
        """Start it.

        Returns:
            A task that is done when its process has ended and all its output went to ``sink``.

        Raises:
            ApiError: it was started before, or cannot be.
        """
        if self._begun:
            state = "is already running" if self.exit_code is None else "has already run"
            raise ApiError(409, f"exec command {self.id} {state}")
        self.container.check_running()
        self.container.check_not_paused()
        directory = str(self.given.get("WorkingDir") or "")
        self._begun = True
        if directory and not os.path.isdir(directory):
            self.exit_code = 126
            missing = f'chdir to cwd ("{directory}") set in config.json failed: no such file or directory'
            raise ApiError(400, _EXEC_FAILED + missing)
        command = Command(
            self.arguments,
            _environment(
                self.container.config.environment + tuple(_list(self.given.get("Env"))),
                tty=self.tty,
            ),
            directory or _existing(self.container.config.directory),
            tty=self.tty,
            stdin=self.stdin and attached,
            size=size or _size(self.given.get("ConsoleSize")),
        )
        try:
            process = Process(command)
        except StartFailed as exc:
            self.exit_code = exc.exit_code
            raise ApiError(400, _EXEC_FAILED + str(exc)) from None
        self.process = process
        process.pump(sink)
        return self.container._engine.watch(process, self._run(process))

    async def _run(self, process: Process) -> None:
        code = await process.ended()
        if self.exit_code is None:
            self.exit_code = code
        self.process = None
        await process.drained()

    def detached(self) -> str:
        """It was detached from: for dockerd it has failed, though its process lives. What is written about it."""
        self.exit_code = 126
        return _DETACHED

    def kill(self) -> None:
        """End its process, if there is one."""
        if self.process is not None:
            self.process.signal_all(signal.SIGKILL)


class Containers:
    """All of an engine's containers and execs, and the tasks that wait for their processes.

    Attributes:
        rules: those of the engine that is emulated.
        pulled: the names of images that were pulled.
    """

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.pulled: set[str] = set()
        self._by_id: dict[str, Container] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._processes: set[Process] = set()
        self._names = 0

    def __iter__(self) -> Iterator[Container]:
        """The containers, in the order of their creation."""
        return iter(list(self._by_id.values()))

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something for as long as the engine lives."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def watch(self, process: Process, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run what waits for a process; until then the process is ended when the engine is."""
        self._processes.add(process)
        task = self.spawn(work)
        task.add_done_callback(lambda _: self._processes.discard(process))
        return task

    def create(self, name: str | None, config: Config) -> Container:
        """Create a container.

        Raises:
            ApiError: the name is none, or taken.
        """
        name = self._new_name() if name is None else name.removeprefix("/")
        if not _NAME.fullmatch(name):
            raise ApiError(400, f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")
        if other := self._named(name):
            raise ApiError(
                409,
                f'Conflict. The container name "/{name}" is already in use by container "{other.id}". '
                "You have to remove (or rename) that container to be able to reuse that name.",
            )
        container = Container(self, name, config)
        self._by_id[container.id] = container
        return container

    def _new_name(self) -> str:
        while True:
            self._names += 1
            name = f"container-{self._names}"
            if self._named(name) is None:
                return name

    def _named(self, name: str) -> Container | None:
        return next((container for container in self._by_id.values() if container.name == name), None)

    def find(self, name: str) -> Container:
        """A container by its ID, its name, or the beginning of its ID.

        Raises:
            ApiError: there is none, or more than one.
        """
        found = self._by_id.get(name) or self._named(name.removeprefix("/"))
        if found is not None:
            return found
        matching = [container for container in self._by_id.values() if name and container.id.startswith(name)]
        if len(matching) > 1:
            raise ApiError(400, f"multiple IDs found with provided prefix: {name}")
        if not matching:
            raise ApiError(404, self.rules.no_such_container.format(name=name))
        return matching[0]

    async def remove(self, name: str, *, force: bool) -> None:
        """Remove a container.

        Raises:
            ApiError: there is none, or it runs and ``force`` was not said.
        """
        container = self.find(name)
        if container.running:
            if not force:
                raise ApiError(
                    409,
                    f'cannot remove container "/{container.name}": container is {container.status}: '
                    "stop the container before removing or force remove",
                )
            ended = container.next_exit()
            # It may have been killed already, and be on its way.
            with contextlib.suppress(ApiError):
                container.kill(signal.SIGKILL)
            await ended
        if container.id in self._by_id:
            self.drop(container)

    def drop(self, container: Container) -> None:
        """Forget a container that does not run."""
        del self._by_id[container.id]
        container.gone()

    def create_exec(self, container: Container, given: Mapping[str, Any]) -> Exec:
        """Create an exec.

        Raises:
            ApiError: the container does not run or is paused, or there is no command.
        """
        if not _list(given.get("Cmd")):
            raise ApiError(400, "No exec command specified")
        container.check_running()
        container.check_not_paused()
        _check_text(given.get("Cmd"), given.get("Env"), given.get("WorkingDir"))
        if keys := str(given.get("DetachKeys") or ""):
            try:
                parse_detach_keys(keys)
            except ValueError:
                raise ApiError(500, f"Invalid escape keys ({keys}) provided") from None
        exec_ = Exec(container, given)
        container.execs[exec_.id] = exec_
        return exec_

    def find_exec(self, exec_id: str) -> Exec:
        """An exec by its ID.

        Raises:
            ApiError: there is none.
        """
        for container in self._by_id.values():
            if exec_id in container.execs:
                return container.execs[exec_id]
        raise ApiError(404, f"No such exec instance: {exec_id}")

    async def close(self) -> None:
        """End every process, and wait for that; not for one that may not be signalled (it is another user's)."""
        deadline = time.monotonic() + _CLOSE_SECONDS
        while self._tasks and time.monotonic() < deadline:
            # Again and again: one may have been started meanwhile.
            for process in list(self._processes):
                process.signal_all(signal.SIGKILL)
            await asyncio.wait(self._tasks, timeout=_KILL_AGAIN_SECONDS)
        for task in self._tasks:
            task.cancel()
        for container in self:
            self.drop(container)
