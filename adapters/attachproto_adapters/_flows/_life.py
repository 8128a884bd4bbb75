"""The states of an attachment, and of the input of its ``communicate``, and what leads from one to the next.

Only ``Life`` and ``Feed`` change one.
"""

from __future__ import annotations

import enum
from contextlib import AbstractContextManager
from typing import Final


class LifeState(enum.Enum):
    """Where an attachment is."""

    OPEN = enum.auto()
    ENDED = enum.auto()
    CLOSED = enum.auto()
    ENDED_AND_CLOSED = enum.auto()


class LifeEvent(enum.Enum):
    """What happens to an attachment."""

    OUTPUT_CLOSED = enum.auto()
    CLOSE = enum.auto()


LIFE: Final = {
    (LifeState.OPEN, LifeEvent.OUTPUT_CLOSED): LifeState.ENDED,
    (LifeState.OPEN, LifeEvent.CLOSE): LifeState.CLOSED,
    (LifeState.ENDED, LifeEvent.OUTPUT_CLOSED): LifeState.ENDED,
    (LifeState.ENDED, LifeEvent.CLOSE): LifeState.ENDED_AND_CLOSED,
    # One thread closes while another is given the end.
    (LifeState.CLOSED, LifeEvent.OUTPUT_CLOSED): LifeState.ENDED_AND_CLOSED,
    (LifeState.CLOSED, LifeEvent.CLOSE): LifeState.CLOSED,
    (LifeState.ENDED_AND_CLOSED, LifeEvent.OUTPUT_CLOSED): LifeState.ENDED_AND_CLOSED,
    (LifeState.ENDED_AND_CLOSED, LifeEvent.CLOSE): LifeState.ENDED_AND_CLOSED,
}


class Life:
    """The state of one attachment.

    Args:
        lock: held while it changes, because any thread may close an attachment.

    Attributes:
        ended: whether the output has ended.
        closed: whether the caller has closed it.
    """

    __slots__ = ("_lock", "_state", "closed", "ended")

    def __init__(self, lock: AbstractContextManager[object]) -> None:
        self._lock = lock
        self._state = LifeState.OPEN
        self.ended = False
        self.closed = False

    def move(self, event: LifeEvent) -> None:
        """Note what has happened."""
        with self._lock:
            state = self._state = LIFE[self._state, event]
            # Two plain attributes, because the first is asked for each event.
            self.ended = state in (LifeState.ENDED, LifeState.ENDED_AND_CLOSED)
            self.closed = state in (LifeState.CLOSED, LifeState.ENDED_AND_CLOSED)


class InputState(enum.Enum):
    """Where the input of a ``communicate`` is."""

    SENDING = enum.auto()
    SENT = enum.auto()
    REFUSED = enum.auto()
    """The peer reads it no more."""
    LOST = enum.auto()
    """A send was interrupted, and it is not known how much of it has left."""


INPUT: Final = {
    InputState.SENDING: frozenset({InputState.SENT, InputState.REFUSED, InputState.LOST}),
    InputState.SENT: frozenset[InputState](),
    InputState.REFUSED: frozenset[InputState](),
    InputState.LOST: frozenset({InputState.REFUSED}),
}
