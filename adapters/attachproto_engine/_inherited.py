"""The descriptors that a child would inherit, and must not have."""

from __future__ import annotations

import os
import sys
from typing import Final

_LIST: Final = "/proc/self/fd" if sys.platform == "linux" else "/dev/fd"


def closed_in_child() -> list[tuple[int, ...]]:
    """The actions of ``posix_spawn`` that close what the user's process has made inheritable, from descriptor 3 on.

    A container or a guard that held a descriptor of the user's would keep a pipe or a port of theirs open. One that
    another thread makes inheritable at this moment is missed.

    Raises:
        OSError: they cannot be listed, because no descriptor is left.
    """
    return [
        (os.POSIX_SPAWN_CLOSE, number) for number in map(int, os.listdir(_LIST)) if number > 2 and _inherits(number)
    ]


def _inherits(number: int) -> bool:
    try:
        return os.get_inheritable(number)
    except OSError:  # the one that listed them
        return False
