"""Which faults an answer has: looked up by the container's name, the call, and how often that call was made."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Final

from attachproto._validators import is_int
from attachproto_engine._faults import CALLS, Fault, Reset

_Key = tuple[str, str]

# Of calls that no fault of one call waits for, so many counts are kept: those of the last ones.
_COUNTED: Final = 10_000

# A client may ask for a name of a megabyte. A longer name than this is counted only while a fault waits for it.
_LONGEST: Final = 255


class FaultBook:
    """The faults of one engine. They are noted in the user's threads, and looked up in the engine's."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._always: dict[_Key, tuple[Fault, ...]] = {}
        # By the number of the call. What has been played, or cannot be any more, is dropped.
        self._nth: dict[_Key, dict[int, tuple[Fault, ...]]] = {}
        self._counts: dict[_Key, int] = {}
        # The counts of the calls in _nth are here, and not in _counts.
        self._awaited: dict[_Key, int] = {}

    def add(self, container: str, faults: Iterable[Fault], on: str, nth: int | None) -> None:
        """Note faults; they replace those that were noted for the same call.

        Raises:
            TypeError: one of them is no fault, or another argument has the wrong type.
            ValueError: there is no such call, or it is counted from less than 1.
        """
        given = tuple(faults)
        for fault in given:
            if not isinstance(fault, Fault) or type(fault) is Fault:
                raise TypeError(f"a fault is needed, such as Cut(0), not {fault!r}")
        if not isinstance(container, str):
            raise TypeError(f"a container's name is of type str, not {container!r}")
        if on not in CALLS:
            raise ValueError(f"on={on!r} is no call of the engine's; it has {', '.join(CALLS)}")
        if nth is not None and not is_int(nth):
            raise TypeError(f"nth is an int or None, not {nth!r}")
        if nth is not None and nth < 1:
            raise ValueError(f"nth is counted from 1, not {nth}")
        with self._lock:
            self._note((container, on), given, nth)

    def _note(self, key: _Key, given: tuple[Fault, ...], nth: int | None) -> None:
        if nth is None and given:
            self._always[key] = given
        elif nth is None:
            self._always.pop(key, None)
        elif nth > self._awaited.get(key, self._counts.get(key, 0)):
            if key not in self._nth:
                self._awaited[key] = self._counts.pop(key, 0)
            self._nth.setdefault(key, {})[nth] = given

    def next(self, container: str, on: str) -> tuple[Fault, ...]:
        """Count one more call; returns the faults of its answer."""
        key = container, on
        with self._lock:
            always = self._always.get(key, ())
            if key not in self._nth:
                self._count(key, self._counts.pop(key, 0) + 1)
                return always
            self._awaited[key] = count = self._awaited[key] + 1
            found = self._nth[key].pop(count, always)
            if not self._nth[key]:
                del self._nth[key]
                self._count(key, self._awaited.pop(key))
            return found

    def _count(self, key: _Key, count: int) -> None:
        """Keep the count of a call that no fault waits for, as the latest one."""
        if len(key[0]) <= _LONGEST:
            self._counts[key] = count
        if len(self._counts) > _COUNTED:
            del self._counts[next(iter(self._counts))]

    @property
    def resets(self) -> bool:
        """Whether any answer may be reset."""
        with self._lock:
            noted = [*self._always.values(), *(faults for each in self._nth.values() for faults in each.values())]
        return any(isinstance(fault, Reset) for faults in noted for fault in faults)
