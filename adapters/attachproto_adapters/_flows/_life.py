"""The tables of the states of an attachment, and of the input of its ``communicate``.

Only ``Life`` and ``Feed`` change a state.
"""

from __future__ import annotations

import enum
from contextlib import AbstractContextManager
from typing import Final


class LifeState(enum.Enum):
    """The states of an attachment."""

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
    # One thread closes it while another receives OutputClosed.
    (LifeState.CLOSED, LifeEvent.OUTPUT_CLOSED): LifeState.ENDED_AND_CLOSED,
    (LifeState.CLOSED, LifeEvent.CLOSE): LifeState.CLOSED,
    (LifeState.ENDED_AND_CLOSED, LifeEvent.OUTPUT_CLOSED): LifeState.ENDED_AND_CLOSED,
    (LifeState.ENDED_AND_CLOSED, LifeEvent.CLOSE): LifeState.ENDED_AND_CLOSED,
}


class Life:
    """The state of one attachment.

    Args:
        lock: held while the state changes, because any thread may close an attachment. It is reentrant, because a
            signal's handler may do so too.

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

    def move(self, event: LifeEvent) -> bool:
        """Change the state by this event. Returns whether it was the first, which has ended the attachment."""
        with self._lock:
            first = self._state is LifeState.OPEN
            state = self._state = LIFE[self._state, event]
            # Two plain attributes, because ``ended`` is read for each event.
            # Set and never cleared, because a handler may have set the other one meanwhile.
            if state in (LifeState.ENDED, LifeState.ENDED_AND_CLOSED):
                self.ended = True
            if state in (LifeState.CLOSED, LifeState.ENDED_AND_CLOSED):
                self.closed = True
            return first


class InputState(enum.Enum):
    """The states of the input of ``communicate``."""

    SENDING = enum.auto()
    SENT = enum.auto()
    REFUSED = enum.auto()
    """The peer does not read stdin any more."""
    RESET = enum.auto()
    """The peer has reset the connection, which counts as the end of the output."""
    LOST = enum.auto()
    """A send was interrupted, and it is not known how much was sent."""


INPUT: Final = {
    InputState.SENDING: frozenset({InputState.SENT, InputState.REFUSED, InputState.RESET, InputState.LOST}),
    InputState.SENT: frozenset[InputState](),
    InputState.REFUSED: frozenset({InputState.RESET}),
    InputState.RESET: frozenset[InputState](),
    InputState.LOST: frozenset({InputState.REFUSED, InputState.RESET}),
}
