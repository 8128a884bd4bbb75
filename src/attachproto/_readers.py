"""What ``Connection`` reads with, and what it checks around a reader.

Strategy: a reader is a call that returns the next event, so that the reader of a stream is a bound method and costs no
more than one call. Each role chooses the next reader after an event (``Client.after``, ``Server.after``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal, NoReturn

from attachproto._errors import LocalProtocolError, Reason, RemoteProtocolError
from attachproto._events import Event
from attachproto._signals import NEED_DATA, Role, Signal
from attachproto._state import AnyTrigger, State, StateMachine, Trigger

Reader = Callable[[], Event | Trigger | Literal[Signal.NEED_DATA]]
"""Returns the peer's next event, a trigger that moves the peer without an event, or ``NEED_DATA``.

Raises ``RemoteProtocolError`` for bytes that are no event.
"""


def read_nothing() -> Literal[Signal.NEED_DATA]:
    """A server's reader between the request and its answer: bytes that the client sends meanwhile stay unread."""
    return NEED_DATA


def read_unasked() -> NoReturn:
    """A client's reader before its request.

    Raises:
        LocalProtocolError: each time.
    """
    raise LocalProtocolError("no request was sent yet: send one first")


_WAITING_STATES: Final = frozenset({State.CALLED, State.ASKED_OUTPUT, State.ASKED_BOTH})

SILENT_STATES: Final = _WAITING_STATES | {State.DONE}
"""A peer in one of these states sends no event. In ``DONE`` it never will, in the others not before our answer."""


DISCARD_STATES: Final = frozenset({State.DONE, State.ERROR, State.CALLED, State.ASKED_OUTPUT})
"""What still arrives from a peer in one of these states is never read."""


def move_peer(machine: StateMachine, role: Role, trigger: AnyTrigger) -> None:
    """Let the table judge what the peer has sent.

    Raises:
        RemoteProtocolError: the table refuses it.
    """
    try:
        machine.move(role, trigger)
    except LocalProtocolError as exc:
        raise RemoteProtocolError(f"the peer broke the protocol: {exc}", Reason.UNEXPECTED_EVENT) from None


def check_can_come(their_state: State, failure: tuple[str, Reason] | None, *, at_end: bool) -> None:
    """Refuse to wait for an event that cannot come.

    Args:
        their_state: the peer's state.
        failure: the text and reason of the peer's error, if there was one.
        at_end: whether the peer sends no more bytes.

    Raises:
        RemoteProtocolError: ``failure``, once more.
        LocalProtocolError: the exchange is over, or we have to send something first.
    """
    if failure is not None:
        raise RemoteProtocolError(*failure)
    if their_state is State.DONE:
        raise LocalProtocolError("the exchange is over: the peer's last event was given")
    if their_state is State.FRAMING_UNKNOWN:
        raise LocalProtocolError(
            "neither the answer nor the request says whether the output is framed: look at the container's "
            "Config.Tty (inspect) and call use_framing(), or give tty= with the request"
        )
    if their_state in _WAITING_STATES and at_end:
        raise LocalProtocolError("the client waits for the answer to its request: send the answer first")
