"""Whether what a transport reports can be believed: three states, and the error behind them."""

from __future__ import annotations

import enum
from typing import Final


class HealthState(enum.Enum):
    """The states of a transport, as far as reading is concerned."""

    SOUND = enum.auto()
    RESET_HEARD = enum.auto()
    """A send has failed with a reset. The kernel reports one only once, so the next end of file is false."""
    BROKEN = enum.auto()
    """Reading has failed. The kernel reports that once too, so each further read raises it again."""

    __hash__ = object.__hash__  # Enum has one in Python, which is slow


SOUND: Final = HealthState.SOUND
RESET_HEARD: Final = HealthState.RESET_HEARD
BROKEN: Final = HealthState.BROKEN

HEALTH: Final = {
    SOUND: frozenset({RESET_HEARD, BROKEN}),
    RESET_HEARD: frozenset({RESET_HEARD, BROKEN}),
    # A reset may be taken for the end of the output.
    BROKEN: frozenset({BROKEN, SOUND}),
}


class Health:
    """The state of one transport.

    Attributes:
        state: see ``HealthState``.
        why: the error that has led there; ``None`` in ``SOUND``.
    """

    __slots__ = ("state", "why")

    def __init__(self) -> None:
        self.state = SOUND
        self.why: BaseException | None = None

    def move(self, state: HealthState, why: BaseException | None) -> None:
        """Change the state, if the table allows it."""
        if state in HEALTH[self.state]:
            self.state, self.why = state, why
