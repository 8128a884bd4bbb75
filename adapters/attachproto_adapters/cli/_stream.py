"""One stream of a command: writes output, forwards stdin and signals, and keeps the time limit."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Final

from attachproto import ProtocolError
from attachproto_adapters._blocking_attachment import Attachment
from attachproto_adapters._errors import AttachError, OutputCut, RequestRejected
from attachproto_adapters._forwarding import Background, StdinForwarder
from attachproto_adapters.cli._client import CommandClient
from attachproto_adapters.cli._signals import before_interruption, handled
from attachproto_adapters.cli._statuses import TIMED_OUT, Signalled, complain, in_options, of_exit_code
from attachproto_adapters.cli._writers import Writer, put
from attachproto_adapters.terminal import follow_size, raw_mode

_STDIN_STAYS_OPEN: Final = (
    b"attachproto: stdin has ended; the container's stays open, as closing it would end the attach and lose output\n"
)

# The signals that go to the container. Those of job control act on this process, SIGCHLD and SIGPIPE are its own.
_PROXIED: Final = ("HUP", "INT", "QUIT", "TERM", "USR1", "USR2", "ALRM")

# After so many SIGINT and SIGTERM the command itself ends, as the docker CLI does since version 25.
_INSISTING: Final = 3

# How long the output may go on after the process was killed.
_REST_SECONDS: Final = 5.0

# The status of a kill for a container that does not run: it has ended by itself.
_DOES_NOT_RUN: Final = 409

Kill = Callable[[], object]


class TimeLimit:
    """The time of ``--timeout``: when it is over, the process is ended.

    Attributes:
        over: whether it has passed.
        may_go_on: why the process may go on nevertheless; ``None`` if it has ended, as far as is known.
    """

    def __init__(self, client: CommandClient, attachment: Attachment, background: Background, kill: Kill) -> None:
        self.over = False
        self.may_go_on: str | None = None
        self._attachment = attachment
        self._background = background
        self._kill = kill
        if client.deadline is not None:
            background.at(client.deadline, self._end)

    def _end(self) -> None:
        self.over = True
        try:
            self._kill()
        except (AttachError, ProtocolError, OSError) as exc:
            if not (isinstance(exc, RequestRejected) and (exc.not_found or exc.status_code == _DOES_NOT_RUN)):
                self._give_up(in_options(exc))
                return
        # The output may still not end: the process could not be killed, or a proxy holds the connection open. A timeout
        # of the socket would not end the wait that the main thread is in already.
        why = f"its output did not end within {_REST_SECONDS:g} s after it was killed"
        self._background.at(time.monotonic() + _REST_SECONDS, lambda: self._give_up(why))

    def _give_up(self, why: str) -> None:
        self.may_go_on = why
        self._attachment.close()


def run_stream(
    client: CommandClient,
    attachment: Attachment,
    writer: Writer,
    name: str,
    *,
    stdin: bool,
    kill: Kill,
    proxy: Callable[[str], object] | None = None,
    redraw: bool = False,
    exit_code: bool = True,
    on_exit: Callable[[int], object] = lambda code: None,
    stdin_after: threading.Event | None = None,
    interrupted: Callable[[], object] = lambda: None,
) -> int:
    """Write the output up to its end, and return the exit status.

    Args:
        client: of this command.
        attachment: the stream. It is closed.
        writer: writes the output.
        name: of the container, for messages.
        stdin: whether stdin is forwarded.
        kill: ends the process when the time is over.
        redraw: whether a program on a terminal is to draw its screen.
        proxy: sends a signal of this name to the process; ``None`` to leave signals to this process.
        exit_code: whether the process has an exit code that is waited for.
        on_exit: called with the exit code, before it is shown. What it raises is raised.
        stdin_after: stdin is not read before this is set.
        interrupted: called when a signal ends the command, before the stream is closed.
    """
    tty = attachment.inspected is not None and attachment.inspected.tty
    background = Background()
    limit = TimeLimit(client, attachment, background, kill)
    with attachment, before_interruption(interrupted), background:
        try:
            with contextlib.ExitStack() as stack:
                if proxy is not None and not tty:
                    stack.enter_context(_proxied(background, proxy))
                if tty:
                    interactive = stdin and writer.is_plain and os.isatty(0)
                    if interactive:
                        stack.enter_context(raw_mode(0))
                    stack.enter_context(follow_size(attachment, 1, redraw=redraw and interactive))
                if stdin:
                    stack.enter_context(StdinForwarder(attachment, 0, _say_that_stdin_stays_open, stdin_after))
                for event in attachment:
                    writer.write(event)
            code = attachment.wait() if exit_code else None
        except (AttachError, ProtocolError, OSError) as exc:
            if not limit.over and isinstance(exc, OutputCut) and stdin and _may_be_detached(attachment):
                writer.finish("detached")
                if tty and writer.is_plain and os.isatty(1):
                    put(sys.stdout, b"\n")  # the cursor may be in the middle of a line
                complain(f"detached from {name}, which keeps running")
                return 0
            if not limit.over:
                raise
            code = None
        if limit.over:
            writer.finish("timeout")
            if limit.may_go_on is not None:
                complain(f"the time of --timeout is over, and the process may go on: {limit.may_go_on}")
            return TIMED_OUT
        if code is not None:
            on_exit(code)
        writer.finish("end" if code is None else "exit", code)
        return 0 if code is None else of_exit_code(code)


def _say_that_stdin_stays_open() -> None:
    # Not with sys.stderr: if the thread held its lock at the interpreter's exit, Python would abort.
    os.write(2, _STDIN_STAYS_OPEN)


def _may_be_detached(attachment: Attachment) -> bool:
    # dockerd looks for detach keys only with a TTY.
    inspected = attachment.inspected
    return inspected is not None and bool(inspected.tty or inspected.podman)


@contextlib.contextmanager
def _proxied(background: Background, proxy: Callable[[str], object]) -> Iterator[None]:
    """Sends the signals of this process to the container's process."""
    insisted = 0

    def forward(number: int, frame: FrameType | None) -> None:
        nonlocal insisted
        if number in (signal.SIGINT, signal.SIGTERM):
            insisted += 1
            if insisted >= _INSISTING:
                raise Signalled(number)
        background.put(lambda: proxy(signal.Signals(number).name.removeprefix("SIG")))

    with handled([signal.Signals["SIG" + name] for name in _PROXIED], forward):
        yield
