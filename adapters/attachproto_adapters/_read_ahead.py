"""What ``lines()`` and the readers of stdout share: how an event that was read is stored."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from attachproto import OutputClosed, OutputEvent
from attachproto_adapters._transport._guard import Guard

T = TypeVar("T")


def store(event: OutputEvent, add: Callable[[OutputEvent], T], reading: Guard) -> T:
    """Store what ``_next`` of an attachment has returned, and finish the step that it has left open.

    Args:
        event: the event.
        add: stores it.
        reading: the guard of what the attachment reads.
    """
    if type(event) is OutputClosed:  # _next() starts no step for it, because it can return it again
        reading.begin()
    stored = add(event)
    reading.finish()
    return stored
