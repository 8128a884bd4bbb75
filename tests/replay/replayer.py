"""Replays recorded exchanges through `Connection(CLIENT)`, and compares what comes out with what is stored."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, Literal

import attrs

from attachproto import (
    CLIENT,
    SEND_EOF,
    Accepted,
    Connection,
    Framing,
    LocalProtocolError,
    OutputClosed,
    Quirk,
    RawOutput,
    Rejected,
    RemoteProtocolError,
    Request,
    Response,
    ResponseHead,
    Stderr,
    Stdin,
    StdinClosed,
    Stdout,
    Systemerr,
)
from tests.replay.expectations import Exchange
from tests.replay.outcomes import OUTPUT, Outcome, Row
from tests.replay.requests import OTHERS

Tty = bool | Literal["recorded"] | None


class Replay:
    """One exchange through `Connection(CLIENT)`, step by step.

    `other` names a request of `OTHERS` that is sent in place of the recorded one.
    """

    def __init__(self, exchange: Exchange, tty: bool | None, quirks: Collection[Quirk] = (), other: str = "") -> None:
        request = OTHERS[other] if other else exchange.event
        self.connection = Connection(CLIENT, quirks=quirks)
        self.connection.send(request if isinstance(request, Request) else attrs.evolve(request, tty=tty))
        self._framing = Framing.RAW if exchange.recording.tty else Framing.MULTIPLEXED
        self._rows: list[Row] = []

    def receive(self, data: bytes) -> None:
        """Give bytes, or the end, and take every event that there is."""
        self.connection.receive_data(data)
        if self._end == "error":
            return
        try:
            for event in self.connection.events():
                self._take(event)
        except RemoteProtocolError as exc:
            self._rows.append(("RemoteProtocolError",))
            try:
                self.connection.next_event()
            except RemoteProtocolError as again:
                if str(again) != str(exc):
                    raise AssertionError(f"the error changed from {exc} to {again}") from None
            else:
                raise AssertionError(f"the error did not stay: {exc}") from None

    def _take(self, event: object) -> None:
        if self._end == "over":
            raise AssertionError(f"{event!r} came after the last event")
        name = type(event).__name__
        match event:
            case Stdout(data=data) | Stderr(data=data) | RawOutput(data=data) | Systemerr(data=data):
                if not data:
                    raise AssertionError(f"an event without bytes: {event!r}")
                self._rows.append((name, data))
            case Accepted(framing=framing):
                self._rows.append((name, event.status_code, event.headers, framing and framing.name))
                if framing is None:
                    self._rows.append(("use_framing", self._framing.name))
                    self.connection.use_framing(self._framing)
            case ResponseHead():
                self._rows.append((name, event.status_code, event.headers))
            case Rejected() | Response():
                self._rows.append((name, event.status_code, event.headers, event.message, event.body))
            case OutputClosed():
                self._rows.append((name,))
            case _:
                raise AssertionError(f"an event that no server sends: {event!r}")

    @property
    def _end(self) -> str:
        return Outcome(tuple(self._rows[-1:])).end

    @property
    def delivered(self) -> int:
        """How many bytes of output came out."""
        return sum(len(row[1]) for row in self._rows if row[0] in OUTPUT)

    def outcome(self) -> Outcome:
        """What came out so far."""
        return Outcome(_joined(self._rows))


def _joined(rows: Iterable[Row]) -> tuple[Row, ...]:
    joined: list[Row] = []
    for row in rows:
        if joined and row[0] in OUTPUT and joined[-1][0] == row[0]:
            row = (row[0], joined.pop()[1] + row[1])
        joined.append(row)
    return tuple(joined)


def replay(
    exchange: Exchange,
    segments: Iterable[bytes],
    tty: bool | None,
    quirks: Collection[Quirk] = (),
    other: str = "",
    end: str = "",
) -> Outcome:
    """Replay the answer in these segments, then its end: as recorded, or this one."""
    run = Replay(exchange, tty, quirks, other)
    for segment in segments:
        run.receive(segment)
    if (end or exchange.end) == "eof":
        run.receive(b"")
    return run.outcome()


def judge(
    exchange: Exchange,
    segments: Iterable[bytes] | None = None,
    tty: Tty = "recorded",
    quirks: Collection[Quirk] = (),
    other: str = "",
) -> str:
    """Replay an exchange and compare.

    Args:
        exchange: what to replay.
        segments: how the bytes are cut; as recorded if None.
        tty: what the request says; by default what is known of the recording.
        quirks: what is read otherwise.
        other: the name of a request that is sent in place of the recorded one.

    Returns:
        The difference in words; empty if there is none.
    """
    said = exchange.recording.tty if tty == "recorded" else tty
    name = f"{exchange.name}, {other or 'as asked'}, tty={said}"
    try:
        found = replay(exchange, exchange.segments if segments is None else segments, said, quirks, other)
    except (LocalProtocolError, AssertionError) as exc:
        return f"{name}: {type(exc).__name__}: {exc}"
    return difference(name, found, exchange.expected(said, quirks, other))


def judge_shortened(exchange: Exchange, size: int, end: str, quirks: Collection[Quirk] = ()) -> str:
    """Replay an exchange as if its answer had ended so, `eof` or `open`, after `size` bytes, and compare."""
    name = f"{exchange.name}, {end} after {size} bytes"
    try:
        found = replay(exchange, [exchange.received[:size]], exchange.recording.tty, quirks, end=end)
    except (LocalProtocolError, AssertionError) as exc:
        return f"{name}: {type(exc).__name__}: {exc}"
    return difference(name, found, exchange.expected_after(size, end, quirks))


def difference(name: str, found: Outcome, wanted: Outcome) -> str:
    """Where two outcomes differ, in words; empty if they do not."""
    for number in range(max(len(found.rows), len(wanted.rows))):
        ours, theirs = (outcome.rows[number : number + 1] for outcome in (found, wanted))
        if ours != theirs:
            return f"{name}: event {number} is {_shown(ours)}, expected {_shown(theirs)}"
    return ""


def _shown(rows: tuple[Row, ...]) -> str:
    return repr(rows[0])[:300] if rows else "missing"


def judge_both_ways(exchange: Exchange) -> str:
    """Replay a whole recorded connection, what was sent included, in the order of the recording.

    Stdin that was sent after the answer must be taken as it is, a half-close must be `SEND_EOF`; what was sent before
    the answer, or without `stdin`, must be refused and change nothing. After each read everything that came must be
    delivered: nothing is held back.

    Returns:
        The difference in words; empty if there is none, or if the two directions are not replayed together.
    """
    if not exchange.both_ways:
        return ""
    run = Replay(exchange, exchange.recording.tty)
    events = exchange.recording.events[: len(exchange.both_ways)]
    for (kind, payload), wanted in zip(events, exchange.both_ways, strict=True):
        match kind, payload, wanted:
            case "send", bytes(data), bool(taken):
                if problem := _send(run, Stdin(data), data, taken):
                    return f"{exchange.name}: {problem}"
            case "shut_wr", _, bool(taken):
                if problem := _send(run, StdinClosed(), SEND_EOF, taken):
                    return f"{exchange.name}: {problem}"
            case "recv", bytes(data), int(there):
                run.receive(data)
                if run.delivered != there:
                    return f"{exchange.name}: {run.delivered} bytes delivered after a read, {there} had come"
            case "eof", _, _:
                run.receive(b"")
            case _ if wanted is not None:
                raise ValueError(f"{exchange.name}: {wanted!r} is stored for a {kind}")
    return difference(f"{exchange.name}, both ways", run.outcome(), exchange.expected(exchange.recording.tty))


def _send(run: Replay, event: Stdin | StdinClosed, wanted: Any, allowed: bool) -> str:
    before = (run.connection.our_state, run.connection.their_state)
    try:
        found: object = run.connection.send(event)
    except LocalProtocolError as exc:
        if allowed:
            return f"{event!r} was refused: {exc}"
        return "" if (run.connection.our_state, run.connection.their_state) == before else f"{event!r} moved a state"
    if not allowed:
        return f"{event!r} was not refused"
    return "" if found == wanted else f"{event!r} became {found!r}"
