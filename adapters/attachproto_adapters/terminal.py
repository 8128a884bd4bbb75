"""A real terminal for an attachment: raw mode, its size, and its restoration, for programs with a command line.

::

    from attachproto_adapters.blocking import Client
    from attachproto_adapters.terminal import get_size, interact

    with Client() as client, client.open_exec("web", ["sh"], stdin=True, tty=True, console_size=get_size()) as shell:
        interact(shell)
        exit_code = shell.wait()

In raw mode every key is sent as its bytes: Ctrl-C reaches the program in the container, and the engine itself looks for
the keys that detach. The terminal is restored whatever ends the block: its end, an exception, SIGTERM and other signals
that would end the process, or SIGTSTP, after which it is raw again when the process goes on.

It uses the blocking adapter, with one thread for stdin and one for the size. It does not use asyncio, for three
reasons. A write to a terminal or a pipe blocks while its reader does not read, and would block the event loop.
``epoll`` cannot watch a regular file as stdin. Loading asyncio takes longer than opening an attach.

Signals are handled in the main thread, so ``raw_mode``, ``follow_size`` and ``interact`` have to be called there. Their
handlers are installed only while they run. A signal that the program handles itself, or ignores, is left to it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Final

from attachproto import DataEvent
from attachproto_adapters._blocking_attachment import Attachment
from attachproto_adapters._errors import RequestRejected
from attachproto_adapters._forwarding import Background, StdinForwarder
from attachproto_adapters._raw_mode import check_main_thread, handling, raw_mode

__all__ = ["follow_size", "get_size", "interact", "raw_mode"]

# An exec that is being started refuses a size. The docker CLI asks ten times, each pause 10 ms longer.
_TRIES: Final = 10
_PAUSE: Final = 0.01

# Seconds after which a size is sent again. Podman writes sizes into a FIFO of conmon's. If conmon reads two at once, it
# sets the first one twice (conmon 2.1, `read_from_ctrl_buffer` in src/ctrl.c). A program is not told of a size that is
# set already.
_AGAIN: Final = (0.3, 2.0)


def get_size(fd: int = 0) -> tuple[int, int] | None:
    """Height and width of a terminal in characters; ``None`` if it is no terminal, or has no size set."""
    try:
        size = os.get_terminal_size(fd)
    except OSError:
        return None
    return (size.lines, size.columns) if size.lines and size.columns else None


@contextlib.contextmanager
def follow_size(attachment: Attachment, fd: int = 1, *, redraw: bool = False) -> Iterator[None]:
    """A context manager that gives an attachment's TTY the size of a local terminal.

    It sets the size at the start, whenever the window changes, and when the process goes on after SIGTSTP. If the
    engine refuses or does not answer, that is ignored.

    Args:
        attachment: whose TTY is resized.
        fd: of the local terminal. If it is no terminal, nothing is done.
        redraw: first set another size, so that a program that already runs draws its screen again.

    Raises:
        RuntimeError: this is not the main thread.
    """
    check_main_thread()
    with Background() as background:

        def resize(again: tuple[float, ...] = _AGAIN, tries: int = _TRIES) -> None:
            _set_size(attachment, get_size(fd), tries)
            if again:
                background.at(time.monotonic() + again[0], lambda: resize(again[1:], 1))

        def changed(number: int = 0, frame: FrameType | None = None) -> None:
            background.put(resize)

        if redraw and (size := get_size(fd)) is not None:
            other = size[0] + 1, size[1] + 1
            background.put(lambda: _set_size(attachment, other))
        changed()
        with handling({signal.SIGWINCH: changed, signal.SIGCONT: changed}):
            yield


def interact(
    attachment: Attachment,
    *,
    stdin: int = 0,
    stdout: int = 1,
    redraw: bool = False,
    write: Callable[[DataEvent], object] | None = None,
) -> None:
    """Connect this process's terminal and an attachment, until the output has ended.

    It also ends when the user has pressed the keys that detach: the engine ends the output then. ``Attachment.wait``
    tells the two apart: after a detach it raises ``OutputCut``.

    Args:
        attachment: of the blocking adapter, with stdin, of a container or an exec with a TTY.
        stdin: the descriptor that is read, and is made raw if it is a terminal.
        stdout: the descriptor that is written, and whose size is followed if it is a terminal.
        redraw: as for ``follow_size``.
        write: called with each event of the output, in place of writing it to ``stdout``.

    Raises:
        RuntimeError: this is not the main thread.
        OSError: the connection was reset, or ``stdout`` cannot be written.
        RemoteProtocolError: the stream was cut or is malformed.
    """
    with raw_mode(stdin), follow_size(attachment, stdout, redraw=redraw), StdinForwarder(attachment, stdin):
        for event in attachment:
            if write is None:
                _write_all(stdout, event.data)
            else:
                write(event)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _set_size(attachment: Attachment, size: tuple[int, int] | None, tries: int = _TRIES) -> None:
    if size is None:
        return
    for number in range(tries):
        try:
            attachment.resize(*size)
            return
        except RequestRejected:
            time.sleep(_PAUSE * (number + 1))
