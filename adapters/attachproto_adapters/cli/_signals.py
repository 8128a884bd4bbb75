"""Signals of the command: handlers for a while, and those that were there before again."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterable, Iterator
from types import FrameType

from attachproto_adapters.cli._statuses import Signalled


@contextlib.contextmanager
def handled(numbers: Iterable[signal.Signals], handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """A context in which these signals have this handler. To be entered in the main thread.

    A signal that is ignored, as nohup(1) sets it, stays ignored. One whose handler was not installed by Python is left
    alone, because Python could not install that again.
    """
    before = {}
    try:
        for number in numbers:
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                before[number] = signal.signal(number, handler)
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


@contextlib.contextmanager
def before_interruption(call: Callable[[], object]) -> Iterator[None]:
    """A context that makes a call if a signal ends the command in it. A second signal ends the call."""
    try:
        yield
    except (KeyboardInterrupt, Signalled):
        call()
        raise
