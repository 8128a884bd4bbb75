"""The two roles, and the two signals that are returned in place of an event or of bytes.

Strategy: they are members of enums, not classes or special bytes. mypy narrows a type on ``is NEED_DATA``. And a
half-close cannot be mistaken for bytes: ``sock.sendall(SEND_EOF)`` raises ``TypeError``.
"""

from __future__ import annotations

import enum
from typing import Final


class Role(enum.Enum):
    """Which end of the connection a side is."""

    CLIENT = "CLIENT"
    """The end that sends requests."""

    SERVER = "SERVER"
    """The end that answers them."""

    # The tables of states are looked up for each event, and Enum's own __hash__ runs Python code. A member is one
    # object, so the hash of an object will do.
    __hash__ = object.__hash__

    @property
    def other(self) -> Role:
        """The role of the peer."""
        return Role.SERVER if self is Role.CLIENT else Role.CLIENT

    def __repr__(self) -> str:
        return self.name


class Signal(enum.Enum):
    """What a call returns in place of an event or of bytes."""

    NEED_DATA = "NEED_DATA"
    """``next_event()`` has no event before more bytes are given to ``receive_data()``."""

    SEND_EOF = "SEND_EOF"
    """``send()`` asks for a half-close: close the write side of the transport, and go on reading."""

    def __repr__(self) -> str:
        return self.name


CLIENT: Final = Role.CLIENT
SERVER: Final = Role.SERVER
NEED_DATA: Final = Signal.NEED_DATA
SEND_EOF: Final = Signal.SEND_EOF
