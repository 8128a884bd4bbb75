"""Raw mode of a terminal, and the signals that must not leave it so."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import termios
import threading
from collections.abc import Callable, Iterator, Mapping
from types import FrameType, TracebackType
from typing import Any, Final, Self

_Handler = Callable[[int, FrameType | None], Any]

# Each ends the process unless it is handled. SIGINT has Python's own handler, which raises.
_ENDING: Final = (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM)

# Indices of what termios.tcgetattr returns.
_IFLAG, _OFLAG, _CFLAG, _LFLAG, _CC = 0, 1, 2, 3, 6


class raw_mode:
    """A context manager in which a terminal is in raw mode.

    Args:
        fd: of the terminal. For anything else nothing is done.

    Raises:
        RuntimeError: this is not the main thread.
    """

    def __init__(self, fd: int = 0) -> None:
        self._fd = fd
        self._before: list[Any] | None = None
        self._handlers = contextlib.ExitStack()

    def __enter__(self) -> Self:
        check_main_thread()
        if not os.isatty(self._fd):
            return self
        self._before = termios.tcgetattr(self._fd)
        atexit.register(self._restore)
        try:
            handlers = dict.fromkeys(_ENDING, self._end) | {signal.SIGTSTP: self._stop, signal.SIGCONT: self._go_on}
            self._handlers.enter_context(handling(handlers, only_default=True))
            self._make_raw()
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._leave()

    def _leave(self) -> None:
        if self._before is not None:
            try:
                self._restore()
            finally:
                self._before = None
                atexit.unregister(self._restore)
                self._handlers.close()

    def _make_raw(self) -> None:
        """Set the flags of cfmakeraw(3)."""
        if self._before is None or not _in_foreground(self._fd):
            return
        mode = [*self._before]
        mode[_CC] = [*mode[_CC]]
        mode[_IFLAG] &= ~(
            termios.IGNBRK
            | termios.BRKINT
            | termios.PARMRK
            | termios.ISTRIP
            | termios.INLCR
            | termios.IGNCR
            | termios.ICRNL
            | termios.IXON
        )
        mode[_OFLAG] &= ~termios.OPOST
        mode[_LFLAG] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
        mode[_CFLAG] = mode[_CFLAG] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
        mode[_CC][termios.VMIN], mode[_CC][termios.VTIME] = 1, 0
        termios.tcsetattr(self._fd, termios.TCSANOW, mode)

    def _restore(self) -> None:
        # TCSADRAIN would wait for the terminal to take all output, which it may never do.
        if self._before is not None and _in_foreground(self._fd):
            with contextlib.suppress(termios.error):  # the terminal has gone
                termios.tcsetattr(self._fd, termios.TCSANOW, self._before)

    def _end(self, number: int, frame: FrameType | None) -> None:
        self._restore()
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._restore()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        signal.raise_signal(signal.SIGTSTP)  # returns at SIGCONT, whose handler makes it raw again
        signal.signal(signal.SIGTSTP, self._stop)

    def _go_on(self, number: int, frame: FrameType | None) -> None:
        with contextlib.suppress(termios.error):  # the terminal has gone
            self._make_raw()


def _in_foreground(fd: int) -> bool:
    """Whether this process may change the terminal. In the background the kernel would stop it (SIGTTOU)."""
    try:
        return os.tcgetpgrp(fd) == os.getpgrp()
    except OSError:  # not our controlling terminal: a test's, or one that has gone
        return True


def check_main_thread() -> None:
    """Raise ``RuntimeError`` unless this is the main thread."""
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("signals are handled in the main thread only: call this there")


@contextlib.contextmanager
def handling(handlers: Mapping[signal.Signals, _Handler], *, only_default: bool = False) -> Iterator[None]:
    """Handle these signals. A handler that was there before is called too; with ``only_default`` it stays alone."""
    before: dict[signal.Signals, Any] = {}
    try:
        for number, handler in handlers.items():
            previous = signal.getsignal(number)
            if previous is signal.SIG_IGN or previous is None or (only_default and previous is not signal.SIG_DFL):
                continue
            before[number] = previous
            signal.signal(number, _chained(handler, previous) if callable(previous) else handler)
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


def _chained(handler: _Handler, previous: Callable[..., Any]) -> _Handler:
    def both(number: int, frame: FrameType | None) -> None:
        previous(number, frame)
        handler(number, frame)

    return both
