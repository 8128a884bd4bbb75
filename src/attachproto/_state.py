"""What may be said when. Every change of state is in this file, and nowhere else.

Theory of operation
-------------------

There are two sides, a client and a server, and each is in one state. What a side says moves *that side*, by the
table ``SAYS[role][state][what]``; no row means that it may not be said. Some pairs of states then move a side that
said nothing, by ``COUPLED``: an accepted request opens the client's direction, a refusal ends it.

The file does not know which of the two sides is ours. The same rows judge what we are asked to send and what the
peer sent, so that neither can be treated more kindly.

What is said is mostly the event's own class. ``Cue`` stands for the rest: the three kinds of requests (so that a new
request needs no row), and what happens without an event.

After ``Accepted`` nothing is coupled: output may end while stdin is open (dockerd goes on taking it), and stdin may
end while output goes on, which is what a half-close is for. That is also why one thread may send while another
receives: from then on each moves its own side only.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

from attachproto._errors import LocalProtocolError
from attachproto._events import (
    Accepted,
    Continue,
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
from attachproto._signals import Role


class State(enum.Enum):
    """Where one side of the exchange stands."""

    IDLE = "IDLE"
    """Nothing was said yet."""

    AWAITING_CONTINUE = "AWAITING_CONTINUE"
    """The client announced a body, and sends it after the server's ``Continue``."""

    CALLED = "CALLED"
    """The client made a plain call."""

    ASKED_OUTPUT = "ASKED_OUTPUT"
    """The client asked for a stream of output."""

    ASKED_BOTH = "ASKED_BOTH"
    """The client asked for a stream of output and one of stdin."""

    MAY_CONTINUE = "MAY_CONTINUE"
    """The server has seen the head of a request whose body waits for its ``Continue``."""

    MUST_RESPOND = "MUST_RESPOND"
    """The server owes a plain call its ``Response``."""

    RESPONDING = "RESPONDING"
    """The server has sent the head of its ``Response``."""

    MUST_ANSWER = "MUST_ANSWER"
    """The server owes a stream request its ``Accepted`` or ``Rejected``."""

    FRAMING_UNKNOWN = "FRAMING_UNKNOWN"
    """The server accepted, and the client does not know how to read it: it must say ``use_framing()``."""

    STREAMING = "STREAMING"
    """This side's direction of the stream is open."""

    DONE = "DONE"
    """This side has said its last."""

    ERROR = "ERROR"
    """This side broke the rules, or its sending failed in the middle."""

    __hash__ = object.__hash__  # as Role's, for the same reason

    def __repr__(self) -> str:
        return self.name


class Cue(enum.Enum):
    """What moves a state and is no class of events."""

    CALL = "a plain request"
    ASK_OUTPUT = "a stream request without stdin"
    ASK_BOTH = "a stream request with stdin"
    EXPECT_CONTINUE = "a request's head that expects 100-continue"
    ACCEPTED_UNFRAMED = "Accepted without a framing"
    USE_FRAMING = "use_framing()"
    FAIL = "a failure"

    __hash__ = object.__hash__  # as Role's, for the same reason


What = type[object] | Cue

_S = State
_ASK: Final[dict[What, State]] = {
    Cue.CALL: _S.CALLED,
    Cue.ASK_OUTPUT: _S.ASKED_OUTPUT,
    Cue.ASK_BOTH: _S.ASKED_BOTH,
}
_FAIL: Final[dict[What, State]] = {Cue.FAIL: _S.ERROR}

SAYS: Final[Mapping[Role, Mapping[State, Mapping[What, State]]]] = {
    Role.CLIENT: {
        _S.IDLE: {**_ASK, Cue.EXPECT_CONTINUE: _S.AWAITING_CONTINUE, **_FAIL},
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
        # It may also refuse (417, 413, 401) what it has not read, which is what the client waits to hear.
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
            Cue.ACCEPTED_UNFRAMED: _S.FRAMING_UNKNOWN,
            Rejected: _S.DONE,
            **_FAIL,
        },
        _S.FRAMING_UNKNOWN: {Cue.USE_FRAMING: _S.STREAMING, **_FAIL},
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

# (client's state, server's state): the states of both after it. A pair that is not here stays.
COUPLED: Final[Mapping[tuple[State, State], tuple[State, State]]] = {
    (_S.AWAITING_CONTINUE, _S.IDLE): (_S.AWAITING_CONTINUE, _S.MAY_CONTINUE),
    **{(_S.CALLED, before): (_S.CALLED, _S.MUST_RESPOND) for before in (_S.IDLE, _S.MAY_CONTINUE)},
    **{
        (asked, before): (asked, _S.MUST_ANSWER)
        for asked in (_S.ASKED_OUTPUT, _S.ASKED_BOTH)
        for before in (_S.IDLE, _S.MAY_CONTINUE)
    },
    # A request that could not be read: the server may still say so.
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


# What a side says any number of times while its direction of the stream is open: it moves nothing.
CARRIED: Final[Mapping[Role, frozenset[What]]] = {
    role: frozenset(what for what, after in SAYS[role][_S.STREAMING].items() if after is _S.STREAMING) for role in Role
}


class StateMachine:
    """The states of both sides. It holds no other knowledge."""

    def __init__(self) -> None:
        self.states = {Role.CLIENT: State.IDLE, Role.SERVER: State.IDLE}

    def check(self, role: Role, what: What) -> State:
        """The state that ``role`` would be in after ``what``.

        Raises:
            LocalProtocolError: it may not be said now. Nothing moved.
        """
        state = self.states[role]
        after = SAYS[role][state].get(what)
        if after is None:
            name = what.value if isinstance(what, Cue) else what.__name__
            raise LocalProtocolError(
                f"{name} is not the {role.name.lower()}'s to say now: "
                f"the client is {self.states[Role.CLIENT]!r}, the server is {self.states[Role.SERVER]!r}"
            )
        return after

    def move(self, role: Role, what: What) -> None:
        """Let ``role`` say ``what``; raises as ``check`` does."""
        self.states[role] = self.check(role, what)
        pair = (self.states[Role.CLIENT], self.states[Role.SERVER])
        if pair in COUPLED:
            self.states[Role.CLIENT], self.states[Role.SERVER] = COUPLED[pair]
