"""Guards one direction of a connection: one caller at a time, and an interrupted step is noticed by the next call.

A signal handler may raise ``KeyboardInterrupt`` in any call. Some steps cannot be repeated: ``recv`` returns bytes only
once. Such a step starts with ``begin`` and stops with ``finish`` or ``hand_over``. An exception in between leaves
it unfinished, and the next ``begin`` raises. That needs no ``finally`` and no ``except``, which could be interrupted
as well.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager
from typing import TypeVar

T = TypeVar("T")


class OneCaller:
    """Lets one thread or task in at a time. It is a context manager that enters and leaves.

    Args:
        caller: identifies the thread or the task that runs.
        busy: the class of the error for a second caller.
        kind: what calls, for that error: a thread or a task.
        action: what a caller does, for that error.
        lock: held while a caller enters. It is reentrant, because a signal's handler may enter too. Several share one.
    """

    # Nothing here refers to the session. A reference cycle would keep its socket open until it is collected.
    __slots__ = ("_action", "_busy", "_caller", "_kind", "_lock", "_owner")

    def __init__(
        self,
        caller: Callable[[], Hashable],
        busy: type[Exception],
        kind: str,
        action: str,
        lock: AbstractContextManager[object],
    ) -> None:
        self._caller = caller
        self._busy = busy
        self._kind = kind
        self._action = action
        self._lock = lock
        self._owner: Hashable = None

    def enter(self) -> None:
        """Keep others out until ``leave``.

        Raises the error of the class ``busy``. A caller that an exception kept from leaving may enter again.
        """
        caller = self._caller()
        with self._lock:
            if self._owner is not None and self._owner != caller:
                raise self._busy(f"another {self._kind} is {self._action}")
            self._owner = caller

    def leave(self) -> None:
        """Let others in."""
        self._owner = None

    def check(self) -> None:
        """Raise what ``enter`` would raise. That is enough for a task until it waits: no other one runs."""
        if self._owner is not None and self._owner != self._caller():
            raise self._busy(f"another {self._kind} is {self._action}")

    @property
    def taken(self) -> bool:
        """Whether a caller is inside."""
        return self._owner is not None

    __enter__ = enter

    def __exit__(self, *_: object) -> None:
        self._owner = None


class Guard(OneCaller):
    """The guard of one direction.

    Args:
        caller, busy, kind, action, lock: as for ``OneCaller``.
        lost: makes the error for every caller after a step that was left unfinished.
    """

    __slots__ = ("_lost", "_unfinished")

    def __init__(
        self,
        caller: Callable[[], Hashable],
        busy: type[Exception],
        kind: str,
        action: str,
        lock: AbstractContextManager[object],
        lost: Callable[[], Exception],
    ) -> None:
        super().__init__(caller, busy, kind, action, lock)
        self._lost = lost
        self._unfinished = False

    def begin(self) -> None:
        """Start a step that cannot be repeated. Raises whatever ``lost`` makes."""
        if self._unfinished:
            raise self._lost()
        self._unfinished = True

    def finish(self) -> None:
        """Finish a step whose result is stored where the next call finds it."""
        self._unfinished = False

    def hand_over(self, result: T) -> T:
        """Finish a step whose result the caller is given, and leave: ``return guard.hand_over(result)``.

        CPython runs a signal's handler after a call into C, where a function begins and where a loop jumps back. From
        the first line of this function to the assignment in the caller of the caller there is none of these.
        """
        self._unfinished = False
        self._owner = None
        return result

    @property
    def unfinished(self) -> bool:
        """Whether a step goes on, or was left unfinished."""
        return self._unfinished

    @property
    def interrupted(self) -> bool:
        """Whether a step was left unfinished, and its caller is gone."""
        return self._unfinished and (self._owner is None or self._owner == self._caller())
