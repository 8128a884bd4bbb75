"""The two roles, and the two answers that are not events.

They are members of enums, not classes or special bytes: mypy narrows on ``is NEED_DATA``, and a half-close can
never be written by mistake, because ``sock.sendall(SEND_EOF)`` is a ``TypeError`` at once where ``b""`` would be
a silent no-op.
"""

from __future__ import annotations

import enum
from typing import Final


class Role(enum.Enum):
    """Which end of the connection somebody plays."""

    CLIENT = "CLIENT"
    SERVER = "SERVER"

    # A member is one object, and a key of tables that are asked for each event. Enum's own hash runs Python code.
    __hash__ = object.__hash__

    @property
    def other(self) -> Role:
        """The role at the other end."""
        return Role.SERVER if self is Role.CLIENT else Role.CLIENT

    def __repr__(self) -> str:
        return self.name


class Signal(enum.Enum):
    """What is said in place of an event or of bytes."""

    NEED_DATA = "NEED_DATA"
    """``next_event()`` can say no more before ``receive_data()`` has been called."""

    SEND_EOF = "SEND_EOF"
    """``send()`` wants the write side of the transport closed, and the read side left open."""

    def __repr__(self) -> str:
        return self.name


CLIENT: Final = Role.CLIENT
SERVER: Final = Role.SERVER
NEED_DATA: Final = Signal.NEED_DATA
SEND_EOF: Final = Signal.SEND_EOF
