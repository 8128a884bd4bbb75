"""The tables of states: complete, without knowledge of which side is ours, and a refusal moves nothing."""

from __future__ import annotations

import ast
import inspect
import pathlib
from typing import Any, get_args

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

import attachproto._state as state_module
from attachproto import (
    CLIENT,
    SEND_EOF,
    SERVER,
    Accepted,
    Attach,
    AttachOptions,
    Connection,
    Continue,
    Event,
    ExecStart,
    Framing,
    LocalProtocolError,
    Logs,
    OutputClosed,
    RawOutput,
    Rejected,
    Request,
    Response,
    ResponseHead,
    Role,
    State,
    Stderr,
    Stdin,
    StdinClosed,
    Stdout,
    StreamRequest,
    Systemerr,
)
from attachproto._state import EVENT_TRANSITIONS, STATE_TRANSITIONS, StateMachine, Trigger
from tests.helpers import bare, joined

# One of every event there is.
EVENTS: list[Any] = [
    Attach("web", tty=False),
    Attach("web", AttachOptions(stdin=True), tty=True),
    Request("GET", ("_ping",)),
    ExecStart("e1", tty=False),
    Logs("web", tty=True),
    Continue(),
    Accepted(Framing.MULTIPLEXED),
    Accepted(Framing.RAW),
    Accepted(Framing.RAW, 200),
    Accepted(Framing.MULTIPLEXED, 200, (("transfer-encoding", "chunked"),)),
    Accepted(None),
    Rejected(404, (("content-length", "2"),), b"no"),
    ResponseHead(200),
    Response(200),
    Response(204),
    Stdin(b"in"),
    StdinClosed(),
    Stdout(b"out"),
    Stderr(b"err"),
    RawOutput(b"raw"),
    Systemerr(b"sys"),
    OutputClosed(),
]
EVERY_TRIGGER = [
    *{trigger for rows in EVENT_TRANSITIONS.values() for row in rows.values() for trigger in row},
    *Trigger,
    Request,
    Attach,
]


def test_there_is_a_sample_of_every_event() -> None:
    classes = {kind for part in get_args(Event) for kind in (get_args(part) or (part,))} - {StreamRequest} | {
        Attach,
        ExecStart,
        Logs,
    }
    assert {type(event) for event in EVENTS} == classes


def test_the_table_does_not_know_which_side_is_ours() -> None:
    names = {node.id for node in ast.walk(ast.parse(inspect.getsource(state_module))) if isinstance(node, ast.Name)}
    attributes = {
        node.attr for node in ast.walk(ast.parse(inspect.getsource(state_module))) if isinstance(node, ast.Attribute)
    }
    assert not {name for name in names | attributes if "our" in name.lower() or "their" in name.lower()}


def test_states_move_nowhere_else() -> None:
    """No other module of the core assigns to ``states``, whole or in part."""
    for file in pathlib.Path(state_module.__file__).parent.glob("*.py"):
        assigned = [
            ast.dump(target)
            for node in ast.walk(ast.parse(file.read_text()))
            if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign)
            for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        ]
        assert any("'states'" in target for target in assigned) == (file.name == "_state.py"), file.name


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("client", State)
@pytest.mark.parametrize("server", State)
def test_every_role_state_and_event_moves_or_is_refused(role: Role, client: State, server: State) -> None:
    for trigger in EVERY_TRIGGER:
        machine = StateMachine()
        machine.states = {CLIENT: client, SERVER: server}
        row = EVENT_TRANSITIONS[role].get(machine.states[role])
        if row is not None and trigger in row:
            machine.move(role, trigger)
            assert all(after in State for after in machine.states.values())
            # A pair of states moves at most once.
            assert (machine.states[CLIENT], machine.states[SERVER]) not in STATE_TRANSITIONS or (
                STATE_TRANSITIONS[machine.states[CLIENT], machine.states[SERVER]]
                == (machine.states[CLIENT], machine.states[SERVER])
            )
        elif row is not None:
            with pytest.raises(LocalProtocolError, match="in this state"):
                machine.move(role, trigger)
            assert machine.states == {CLIENT: client, SERVER: server}


def reachable() -> set[tuple[State, State]]:
    """Every pair of states that can come about."""
    seen = {(State.IDLE, State.IDLE)}
    todo = list(seen)
    while todo:
        pair = todo.pop()
        for role in Role:
            machine = StateMachine()
            machine.states = {CLIENT: pair[0], SERVER: pair[1]}
            for trigger in EVENT_TRANSITIONS[role][machine.states[role]]:
                machine.states = {CLIENT: pair[0], SERVER: pair[1]}
                machine.move(role, trigger)
                after = (machine.states[CLIENT], machine.states[SERVER])
                if after not in seen:
                    seen.add(after)
                    todo.append(after)
    return seen


def test_every_state_is_reached_and_every_row_is_used() -> None:
    pairs = reachable()
    assert {client for client, _ in pairs} == set(EVENT_TRANSITIONS[CLIENT])
    assert {server for _, server in pairs} == set(EVENT_TRANSITIONS[SERVER])


def test_after_accepted_no_pair_moves_a_side() -> None:
    streaming = {State.STREAMING, State.DONE, State.ERROR}
    for client, server in STATE_TRANSITIONS:
        assert not (client in streaming - {State.ERROR} and server in streaming)


@given(st.lists(st.tuples(st.sampled_from(Role), st.integers(0, len(EVENTS) - 1)), max_size=25), st.integers(0, 200))
def test_any_sequence_of_events_between_two_ends(said: list[tuple[Role, int]], lead: int) -> None:
    """Each event either goes over and is read as it was sent, or is refused and changes nothing."""
    ends = {CLIENT: Connection(CLIENT), SERVER: Connection(SERVER)}
    asked: list[Any] = []
    # Most random sequences never get past the request, so most begin with one, and many with an answer to it.
    for role, index in [
        *([(CLIENT, lead % 5)] if lead % 6 else []),
        *([(SERVER, 6 + lead % 12)] if lead % 3 else []),
        *said,
    ]:
        event = EVENTS[index]
        if isinstance(event, Accepted) and asked and isinstance(asked[0], StreamRequest):
            # raw-stream says nothing about frames: a client that was told the wrong tty would read the wrong thing.
            event = attrs.evolve(
                event, framing=event.framing and (Framing.RAW if asked[0].tty else Framing.MULTIPLEXED)
            )
            if isinstance(asked[0], ExecStart) and any(name == "transfer-encoding" for name, _ in event.headers):
                continue  # the request does not say that its client wants stdin, so a server may send this
        us, them = ends[role], ends[role.other]
        before = (us.our_state, us.their_state)
        try:
            what = us.send(event)
        except LocalProtocolError:
            assert (us.our_state, us.their_state) == before
            continue
        them.receive_data(b"" if what is SEND_EOF else what) if what else None
        got = list(them.events())
        if isinstance(event, Continue) or not what:
            wanted = []
        elif isinstance(event, Rejected) and isinstance(asked[0], Request):
            wanted = [ResponseHead(event.status_code), Response(event.status_code, (), event.body)]
        elif isinstance(event, Response) and role is SERVER and not isinstance(asked[-1], ResponseHead):
            wanted = [ResponseHead(event.status_code), event]
        else:
            wanted = [event]
        asked.append(event)
        assert [bare(event) for event in joined(got)] == [bare(event) for event in wanted]
        assert us.our_state is them.their_state
        assert us.their_state is them.our_state
