"""What a forked child of the user's process must close: its copies of the engine's descriptors.

The engine runs in a thread, which a child made by ``fork`` does not have, but the child has copies of all descriptors.
While it lives, a copy of a listening socket keeps the port open, a copy of a connection hides the engine's close from
the client, and a copy of a pipe keeps the stdin of a container open, which then waits for its end.
"""

from __future__ import annotations

import contextlib
import os
import weakref
from collections.abc import Callable
from typing import Any, Final, TypeVar

T = TypeVar("T")

_owners: Final[weakref.WeakKeyDictionary[Any, Callable[[Any], object]]] = weakref.WeakKeyDictionary()


def close_in_forked_child(owner: T, close: Callable[[T], object]) -> T:
    """Have ``close(owner)`` called in every forked child, as long as the owner exists. Returns the owner.

    Args:
        owner: what owns descriptors. It is not kept alive.
        close: closes them, also if they are closed already. It must not use the event loop.
    """
    _owners[owner] = close
    return owner


def _forked() -> None:
    for owner, close in list(_owners.items()):
        with contextlib.suppress(OSError):
            close(owner)


os.register_at_fork(after_in_child=_forked)
