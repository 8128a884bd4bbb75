"""The local process that stands for a container: its start, its streams, its end.

Strategy: ``posix_spawn`` sets the child up, so no Python runs between fork and exec, and it works from any thread.
Each process leads a session of its own. The child opens its terminal by name: a session leader without a controlling
terminal gets the one that it opens. When the leader ends, it stays a zombie until everything else in its session has
been killed: until then the kernel cannot give the session's number to another process.

This is no sandbox: the process is an ordinary one of this machine, with the rights of the user who runs the engine.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import struct
import termios
from collections.abc import Awaitable, Callable
from typing import Final

from attachproto_engine._command import Command, StartFailed, failure, find
from attachproto_engine._descriptor import Descriptor
from attachproto_engine._forks import close_in_forked_child
from attachproto_engine._guard import Guard
from attachproto_engine._inherited import closed_in_child
from attachproto_engine._output import PIECE, STDERR, STDOUT
from attachproto_engine._sessions import reap, signal_session, until_zombie

Sink = Callable[[int, bytes], Awaitable[None]]
"""Takes output: the stream and the bytes. While it waits, no more output is read."""

# As dockerd: a process that has left the session may keep the pipes open for ever.
_DRAIN_SECONDS: Final = 2.0

# How soon /proc is read again when no descriptor is left for it.
_AGAIN_SECONDS: Final = 0.05

# Python ignores some signals, and nohup or a shell's background job ignores others. A child would inherit that.
_DEFAULT_SIGNALS: Final = tuple(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})

_IN_DIRECTORY: Final = 'cd "$0" && exec "$@"'


class Process:
    """A running process. Create it inside the event loop."""

    def __init__(self, command: Command, guard: Guard) -> None:
        """Start it.

        Raises:
            StartFailed: it cannot be started.
            OSError: no descriptors are left for its pipes or its terminal.
        """
        self._guard = guard
        program = find(command)
        with contextlib.ExitStack() as opened:
            actions = self._open_terminal(command, opened) if command.tty else self._open_pipes(command, opened)
            actions += closed_in_child()
            arguments = list(command.arguments)
            if command.directory is not None:
                # posix_spawn cannot change the directory, and os.chdir() would change it for every thread.
                arguments = ["/bin/sh", "-c", _IN_DIRECTORY, command.directory, program, *arguments[1:]]
                program = arguments[0]
            if not command.tty:
                opened.callback(guard.starting, None)
                guard.starting(self._child_ends[-2])
            try:
                self.pid = os.posix_spawn(
                    program,
                    arguments,
                    dict(command.environment),
                    file_actions=actions,
                    setsid=True,
                    setsigmask=(),
                    setsigdef=_DEFAULT_SIGNALS,
                )
            except OSError as exc:
                raise failure(command.arguments[0], exc) from None
            except ValueError as exc:  # a variable with NUL or '=' in its name
                raise StartFailed(f'exec: "{command.arguments[0]}": {exc}', 126) from None
            guard.add(self.pid)
            opened.pop_all()
        close_in_forked_child(self, Process.let_go)
        for number in self._child_ends:
            os.close(number)
        self.exit_code: int | None = None
        self._pumps: list[asyncio.Task[None]] = []

    def _open_pipes(self, command: Command, opened: contextlib.ExitStack) -> list[tuple[int, ...]]:
        def pipe() -> tuple[int, int]:
            ends = os.pipe()
            for end in ends:
                opened.callback(os.close, end)
            return ends

        self._terminal: Descriptor | None = None
        self._terminal_side: int | None = None
        self._child_ends = []
        actions: list[tuple[int, ...]] = []
        self.stdin: Descriptor | None = None
        if command.stdin:
            inner, outer = pipe()
            self._child_ends.append(inner)
            self.stdin = Descriptor(outer)
            actions.append((os.POSIX_SPAWN_DUP2, inner, 0))
        else:
            actions.append((os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0))  # type: ignore[arg-type]
        self._outputs: dict[int, Descriptor] = {}
        for stream in (STDOUT, STDERR):
            outer, inner = pipe()
            self._child_ends.append(inner)
            self._outputs[stream] = Descriptor(outer)
            actions.append((os.POSIX_SPAWN_DUP2, inner, stream))
        return actions

    def _open_terminal(self, command: Command, opened: contextlib.ExitStack) -> list[tuple[int, ...]]:
        outer, inner = os.openpty()
        opened.callback(os.close, outer)
        opened.callback(os.close, inner)
        self._child_ends = []
        # Kept open until the end: else a program that closes the terminal for a moment would end its output.
        self._terminal_side = inner
        self._terminal = Descriptor(outer)
        self.stdin = self._terminal
        self._outputs = {STDOUT: self._terminal}
        self.resize(*command.size)
        return [
            (os.POSIX_SPAWN_OPEN, 0, os.ttyname(inner), os.O_RDWR, 0),  # type: ignore[list-item]
            (os.POSIX_SPAWN_DUP2, 0, 1),
            (os.POSIX_SPAWN_DUP2, 0, 2),
        ]

    # ---- while it runs ----

    def pump(self, sink: Sink) -> None:
        """Start passing its output to ``sink``."""
        self._pumps = [
            asyncio.get_running_loop().create_task(_pump(stream, descriptor, sink))
            for stream, descriptor in self._outputs.items()
        ]

    def close_stdin(self) -> None:
        """Close its stdin. A terminal's stdin cannot be closed."""
        if self.stdin is not None and self.stdin is not self._terminal:
            self.stdin.close()

    def resize(self, height: int, width: int) -> None:
        """Set the size of its terminal, if it has one; it gets a SIGWINCH."""
        if self._terminal is not None:
            # The kernel's fields have 16 bits; larger numbers wrap around, as in dockerd.
            size = struct.pack("HHHH", height & 0xFFFF, width & 0xFFFF, 0, 0)
            fcntl.ioctl(self._terminal.number, termios.TIOCSWINSZ, size)

    def send_signal(self, number: int) -> None:
        """Signal the process itself."""
        if self.exit_code is None:
            os.kill(self.pid, number)

    def signal_all(self, number: int) -> None:
        """Signal everything in its session."""
        if self.exit_code is None:
            signal_session(self.pid, number)

    def let_go(self) -> None:
        """Close the terminal's other side: at the end, and in a forked child, where ``Descriptor`` closes the rest."""
        if self._terminal_side is not None:
            os.close(self._terminal_side)
            self._terminal_side = None

    # ---- its end ----

    async def ended(self) -> int:
        """Wait until it has ended, and kill what is left of its session. Returns its exit code, or 128 + the signal."""
        await until_zombie(self.pid)
        while not signal_session(self.pid, signal.SIGKILL):
            await asyncio.sleep(_AGAIN_SECONDS)
        self._guard.remove(self.pid)
        self.exit_code = reap(self.pid)
        self.let_go()
        return self.exit_code

    async def drained(self) -> None:
        """Wait until its output is read, for at most 2 seconds; then close its descriptors."""
        loop = asyncio.get_running_loop()
        timer = loop.call_later(_DRAIN_SECONDS, self._stop_waiting)
        try:
            await asyncio.gather(*self._pumps, return_exceptions=True)
        finally:
            timer.cancel()
            for task in self._pumps:
                task.cancel()
            for descriptor in {*self._outputs.values(), *([self.stdin] if self.stdin else [])}:
                descriptor.close()

    def _stop_waiting(self) -> None:
        for descriptor in self._outputs.values():
            descriptor.stop_waiting()


async def _pump(stream: int, descriptor: Descriptor, sink: Sink) -> None:
    while data := await descriptor.read(PIECE):
        await sink(stream, data)
        # A process that prints without pause must not block the event loop.
        await asyncio.sleep(0)
