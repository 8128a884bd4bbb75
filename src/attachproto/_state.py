"""The state of both sides, and which event may come in which state. No other file changes a state.

Strategy
--------

There are two sides, a client and a server. Each is in one state. An event of a side moves that side, by the table
``EVENT_TRANSITIONS[role][state][trigger]``. An event without a row is refused. Then some pairs of states move a side
that sent nothing, by the table ``STATE_TRANSITIONS``: ``Accepted`` opens the client's direction, ``Rejected`` ends it.

The file does not know which of the two sides is ours. The same rows judge what we are asked to send and what the peer
has sent.

The trigger of a transition is mostly the class of the event. ``Trigger`` stands for the rest: the three kinds of
requests (so that a new request needs no row), and what moves a state without an event.

After ``Accepted`` no pair moves a side any more. Output may end while stdin is open (dockerd goes on taking it), and
stdin may end while output goes on, which is what a half-close is for. So one thread may send while another receives:
each moves its own side only.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

from attachproto._errors import LocalProtocolError
from attachproto._events import (
    Accepted,
    Continue,
    Event,
    OutputClosed,
    RawOutput,
    Rejected,
    Response,
    ResponseHead,
    Stderr,
    Stdin,
    StdinClosed,
    Stdout,
    Systemerr,
)
from attachproto._requests import Request
from attachproto._signals import Role
from attachproto._stream_base import StreamRequest


class State(enum.Enum):
    """Where one side of the exchange stands."""

    IDLE = "IDLE"
    """Nothing was sent yet."""

    AWAITING_CONTINUE = "AWAITING_CONTINUE"
    """The client has sent a head with ``Expect: 100-continue``, and sends the body after ``Continue``."""

    CALLED = "CALLED"
    """The client has sent a plain request."""

    ASKED_OUTPUT = "ASKED_OUTPUT"
    """The client has asked for a stream of output."""

    ASKED_BOTH = "ASKED_BOTH"
    """The client has asked for a stream of output and one of stdin."""

    MAY_CONTINUE = "MAY_CONTINUE"
    """The server has read a head with ``Expect: 100-continue``, and may send ``Continue``."""

    MUST_RESPOND = "MUST_RESPOND"
    """The server has read a plain request, and must send ``Response`` (or ``Rejected``)."""

    RESPONDING = "RESPONDING"
    """The server has sent ``ResponseHead``, and must send the rest of the ``Response``."""

    MUST_ANSWER = "MUST_ANSWER"
    """The server has read a stream request, and must send ``Accepted`` or ``Rejected``."""

    FRAMING_UNKNOWN = "FRAMING_UNKNOWN"
    """The server has accepted, and its framing is not known: the client must call ``use_framing()``."""

    STREAMING = "STREAMING"
    """This side's direction of the stream is open."""

    DONE = "DONE"
    """This side sends nothing more."""

    ERROR = "ERROR"
    """This side broke the rules, or not all of its bytes were written."""

    __hash__ = object.__hash__  # for the reason that Role gives

    def __repr__(self) -> str:
        return self.name


class Trigger(enum.Enum):
    """What moves a state and is not the class of an event."""

    CALL = "a plain request"
    ASK_OUTPUT = "a stream request without stdin"
    ASK_BOTH = "a stream request with stdin"
    EXPECT_CONTINUE = "a request's head that expects 100-continue"
    ACCEPTED_UNFRAMED = "Accepted without a framing"
    USE_FRAMING = "use_framing()"
    FAIL = "a failure"

    __hash__ = object.__hash__  # for the reason that Role gives


AnyTrigger = type[object] | Trigger

_S = State
_ASK: Final[dict[AnyTrigger, State]] = {
    Trigger.CALL: _S.CALLED,
    Trigger.ASK_OUTPUT: _S.ASKED_OUTPUT,
    Trigger.ASK_BOTH: _S.ASKED_BOTH,
}
_FAIL: Final[dict[AnyTrigger, State]] = {Trigger.FAIL: _S.ERROR}

EVENT_TRANSITIONS: Final[Mapping[Role, Mapping[State, Mapping[AnyTrigger, State]]]] = {
    Role.CLIENT: {
        _S.IDLE: {**_ASK, Trigger.EXPECT_CONTINUE: _S.AWAITING_CONTINUE, **_FAIL},
        _S.AWAITING_CONTINUE: {**_ASK, **_FAIL},
        _S.CALLED: _FAIL,
        _S.ASKED_OUTPUT: _FAIL,
        _S.ASKED_BOTH: _FAIL,
        _S.STREAMING: {Stdin: _S.STREAMING, StdinClosed: _S.DONE, **_FAIL},
        _S.DONE: _FAIL,
        _S.ERROR: _FAIL,
    },
    Role.SERVER: {
        _S.IDLE: _FAIL,
        # A server may refuse (401, 413, 417) a body that it has not read.
        _S.MAY_CONTINUE: {
            Continue: _S.MAY_CONTINUE,
            ResponseHead: _S.RESPONDING,
            Response: _S.DONE,
            Rejected: _S.DONE,
            **_FAIL,
        },
        _S.MUST_RESPOND: {
            Continue: _S.MUST_RESPOND,
            ResponseHead: _S.RESPONDING,
            Response: _S.DONE,
            Rejected: _S.DONE,
            **_FAIL,
        },
        _S.RESPONDING: {Response: _S.DONE, **_FAIL},
        _S.MUST_ANSWER: {
            Continue: _S.MUST_ANSWER,
            Accepted: _S.STREAMING,
            Trigger.ACCEPTED_UNFRAMED: _S.FRAMING_UNKNOWN,
            Rejected: _S.DONE,
            **_FAIL,
        },
        _S.FRAMING_UNKNOWN: {Trigger.USE_FRAMING: _S.STREAMING, **_FAIL},
        _S.STREAMING: {
            Stdout: _S.STREAMING,
            Stderr: _S.STREAMING,
            RawOutput: _S.STREAMING,
            Systemerr: _S.STREAMING,
            OutputClosed: _S.DONE,
            **_FAIL,
        },
        _S.DONE: _FAIL,
        _S.ERROR: _FAIL,
    },
}

# (client's state, server's state) -> the states that follow at once. Other pairs do not change.
STATE_TRANSITIONS: Final[Mapping[tuple[State, State], tuple[State, State]]] = {
    (_S.AWAITING_CONTINUE, _S.IDLE): (_S.AWAITING_CONTINUE, _S.MAY_CONTINUE),
    **{(_S.CALLED, before): (_S.CALLED, _S.MUST_RESPOND) for before in (_S.IDLE, _S.MAY_CONTINUE)},
    **{
        (asked, before): (asked, _S.MUST_ANSWER)
        for asked in (_S.ASKED_OUTPUT, _S.ASKED_BOTH)
        for before in (_S.IDLE, _S.MAY_CONTINUE)
    },
    # The request could not be read. The server may answer that.
    **{(_S.ERROR, before): (_S.ERROR, _S.MUST_RESPOND) for before in (_S.IDLE, _S.MAY_CONTINUE)},
    **{
        pair: after
        for open_ in (_S.STREAMING, _S.FRAMING_UNKNOWN)
        for pair, after in (
            ((_S.ASKED_BOTH, open_), (_S.STREAMING, open_)),
            ((_S.ASKED_OUTPUT, open_), (_S.DONE, open_)),
        )
    },
    **{
        (asked, _S.DONE): (_S.DONE, _S.DONE)
        for asked in (_S.AWAITING_CONTINUE, _S.CALLED, _S.ASKED_OUTPUT, _S.ASKED_BOTH)
    },
}


# The events that a side may send any number of times while its direction is open. They move no state, so neither
# sending nor receiving one asks the table.
UNMOVING_EVENTS: Final[Mapping[Role, frozenset[AnyTrigger]]] = {
    role: frozenset(
        trigger for trigger, after in EVENT_TRANSITIONS[role][_S.STREAMING].items() if after is _S.STREAMING
    )
    for role in Role
}


def trigger_of(event: Event) -> AnyTrigger:
    """What the tables call this event."""
    if isinstance(event, Request):
        return Trigger.CALL
    if isinstance(event, StreamRequest):
        return Trigger.ASK_BOTH if event.wants_stdin else Trigger.ASK_OUTPUT
    if isinstance(event, Accepted) and event.framing is None:
        return Trigger.ACCEPTED_UNFRAMED
    return type(event)


class StateMachine:
    """The states of both sides."""

    __slots__ = ("states",)

    def __init__(self) -> None:
        self.states = {Role.CLIENT: State.IDLE, Role.SERVER: State.IDLE}

    def check(self, role: Role, trigger: AnyTrigger) -> State:
        """The state in which ``trigger`` would put ``role``. Nothing moves.

        Raises:
            LocalProtocolError: the trigger is not allowed in the present state.
        """
        after = EVENT_TRANSITIONS[role][self.states[role]].get(trigger)
        if after is None:
            name = trigger.value if isinstance(trigger, Trigger) else trigger.__name__
            raise LocalProtocolError(
                f"the {role.name.lower()} cannot send {name} in this state "
                f"(client {self.states[Role.CLIENT]!r}, server {self.states[Role.SERVER]!r})"
            )
        return after

    def move(self, role: Role, trigger: AnyTrigger) -> None:
        """Move ``role`` by ``trigger``, and then both sides by their states. Raises as ``check`` does."""
        self.states[role] = self.check(role, trigger)
        pair = (self.states[Role.CLIENT], self.states[Role.SERVER])
        if pair in STATE_TRANSITIONS:
            self.states[Role.CLIENT], self.states[Role.SERVER] = STATE_TRANSITIONS[pair]
