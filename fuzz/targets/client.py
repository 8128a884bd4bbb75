"""The client: the answers of an engine to a stream request or a plain one, and the stream behind them."""

# Invariant. Whatever bytes come, each call of ``next_event`` gives an event, ``NEED_DATA`` or a typed error, and
# nothing else. ``NEED_DATA`` never follows the end of file. Whole and cut anywhere the events are the same, and the
# error has the same reason; what the client sends in between changes neither. When all that came is parsed, however
# much it was, the connection holds no more than its limits: ``max_head`` for the head and what was read of it,
# ``max_refusal`` or ``max_body`` for a body, a frame's header for a stream. The number of calls is linear in the input.

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from attachproto import (
    CLIENT,
    SEND_EOF,
    Accepted,
    Attach,
    AttachOptions,
    Connection,
    Event,
    ExecStart,
    Framing,
    LocalProtocolError,
    Logs,
    OutputClosed,
    Quirk,
    Rejected,
    Request,
    Response,
    State,
    Stdin,
    StdinClosed,
    StreamRequest,
)
from fuzz._invariants import (
    Reading,
    check_held,
    check_linear,
    counted,
    drain,
    flood_of,
    frames_of,
    held_bytes,
    is_counted,
    payload_size,
    pieces_of,
    read,
)
from tests.helpers import joined
from tests.replay.recordings import Recording, read_vectors

REQUESTS: tuple[Request | StreamRequest, ...] = (
    Attach("web", tty=False),
    Attach("web", tty=True),
    Attach("web"),
    Attach("web", AttachOptions(stdin=True), tty=False),
    Attach("web", AttachOptions(stdin=True), tty=True),
    ExecStart("e1", tty=False),
    ExecStart("e1", tty=True, stdin=False),
    Logs("web", tty=False),
    Logs("web"),
    Request("GET", ("containers", "web", "json")),
    Request("HEAD", ("_ping",)),
    Request("POST", ("containers", "web", "wait")),
)
QUIRKS = ((), (Quirk.NEWLINE_OUTSIDE_FRAME,), (Quirk.DETACHED_TEXT,), tuple(Quirk))

# Small, so that a short input can exceed them.
LIMITS: dict[str, Any] = {"max_head": 1024, "max_refusal": 512, "max_body": 512}

# Before the stream, a head is held as text, as header fields and in the event. Of a body there is the text of an error.
HELD_MAX = 4 * 1024 + 2 * 512 + 1024

# A frame's header, or the detach text with one.
STREAM_HELD_MAX = 64

# h11 refuses a chunk's header and trailers above this size, and keeps what it has refused.
H11_MAX = 16 * 1024

ENDED_MAX = HELD_MAX + H11_MAX

_HEAD = 4

# The ends of the heads that an input may have.
_BLANK_LINE = re.compile(rb"\n\r?\n")


def check(data: bytes) -> None:
    """One input: the request, other choices, two bytes that say how to cut, then what the engine sends."""
    if len(data) < _HEAD:
        return
    request = REQUESTS[data[0] % len(REQUESTS)]
    choices, seed, stream = data[1], int.from_bytes(data[2:4], "big"), data[_HEAD:]
    with counted(data) as steps:
        whole = _read(request, choices, [stream] if stream else [])
    check_linear(steps, len(stream), 1)
    pieces = pieces_of(stream, seed)
    with counted(data) as steps:
        cut = _read(request, choices, pieces, sends=True)
    check_linear(steps, len(stream), len(pieces))
    if is_counted(data):
        _read(request, choices & ~32 | 1, pieces, looks=stream)
        _check_held_in_stream(request, choices, stream)
    assert joined(whole.events) == joined(cut.events)
    assert (whole.error and whole.error.reason) == (cut.error and cut.error.reason)
    assert payload_size(whole.events) <= len(stream)
    _check_order(request, whole.events)


def _read(
    request: Request | StreamRequest,
    choices: int,
    pieces: list[bytes],
    *,
    sends: bool = False,
    looks: bytes | None = None,
) -> Reading:
    """Read these pieces; try to send between two events.

    With ``looks``, which is the pieces in one, look at what is held after each piece and after a flood.
    """
    connection = _asked(request, choices)
    empty = 0 if looks is None else held_bytes(connection)
    accepted: list[Accepted] = []

    def after(event: Event) -> None:
        assert isinstance(event, Event), event
        if isinstance(event, Accepted):
            accepted.append(event)
            if event.framing is None:
                _choose_framing(connection, Framing.RAW if choices & 8 else Framing.MULTIPLEXED)
        if sends:
            _try_to_send(connection, closing=bool(choices & 16))
        assert connection.reusable in (True, False)

    def parsed(connection: object) -> None:
        if looks is not None:
            most = STREAM_HELD_MAX if accepted else HELD_MAX
            if not accepted or "transfer-encoding" in dict(accepted[0].headers):
                most += H11_MAX
            check_held(connection, empty, most, "after a piece")

    reading = read(connection, pieces, eof=bool(choices & 32), after=after, parsed=parsed)
    if looks is not None:
        drain(connection, flood_of(looks), after)
        if connection.their_state is State.STREAMING:
            parsed(connection)
        else:
            assert connection.their_state in (State.DONE, State.ERROR), connection.their_state
            check_held(connection, empty, ENDED_MAX, "after the end")
    return reading


def _asked(request: Request | StreamRequest, choices: int) -> Connection:
    connection = Connection(CLIENT, quirks=QUIRKS[choices >> 1 & 3], **(LIMITS if choices & 1 else {}))
    connection.send(request)
    return connection


def _check_held_in_stream(request: Request | StreamRequest, choices: int, stream: bytes) -> None:
    """Where the input has a head that opens a stream: look at what is held after many valid frames behind it."""
    for found in _BLANK_LINE.finditer(stream, 0, LIMITS["max_head"]):
        connection = _asked(request, choices | 1)
        empty = held_bytes(connection)
        events: list[Any] = []
        drain(connection, [stream[: found.end()]], events.append)
        if not events or not isinstance(events[0], Accepted):
            continue
        if events[0].framing is None:
            connection.use_framing(Framing.RAW if choices & 8 else Framing.MULTIPLEXED)
        pieces = frames_of(stream[found.end() :])
        if "transfer-encoding" in dict(events[0].headers):
            pieces = (b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
        drain(connection, pieces)
        # A body with a length may be over, or have ended inside a frame.
        ended = connection.their_state is not State.STREAMING
        check_held(connection, empty, ENDED_MAX if ended else STREAM_HELD_MAX, "after frames")
        return


def _choose_framing(connection: Connection, framing: Framing) -> None:
    try:
        connection.next_event()
    except LocalProtocolError:
        connection.use_framing(framing)
    else:
        raise AssertionError("an event before the framing was known")


def _try_to_send(connection: Connection, *, closing: bool) -> None:
    """Stdin is written, or refused without any effect."""
    events: tuple[Any, ...] = (Stdin(b"x"), StdinClosed()) if closing else (Stdin(b"x"),)
    for event in events:
        before = connection.our_state, connection.their_state
        try:
            sent = connection.send(event)
        except LocalProtocolError:
            assert (connection.our_state, connection.their_state) == before
        else:
            assert sent == (b"x" if isinstance(event, Stdin) else SEND_EOF)


def _check_order(request: Request | StreamRequest, events: list[Any]) -> None:
    if isinstance(request, Request):
        assert [type(event).__name__ for event in events] in ([], ["ResponseHead"], ["ResponseHead", "Response"])
        return
    for at, event in enumerate(events):
        assert isinstance(event, Accepted | Rejected) == (at == 0), events
        assert not isinstance(event, Response)
        assert not isinstance(event, OutputClosed) or at == len(events) - 1


def seeds() -> Iterator[bytes]:
    """One recorded answer of each family and engine, and the corners of HTTP that engines do not use."""
    seen = set()
    for recording in read_vectors():
        key = recording.engine, recording.version, recording.family, recording.tty
        if recording.received and len(recording.received) < 3000 and key not in seen:
            seen.add(key)
            yield bytes([_number_of(recording), 32, 1, len(seen) % 256]) + recording.received
    for number, text in enumerate(_HEADS):
        yield bytes([number % len(REQUESTS), 33 + 2 * (number % 4), 0, number]) + text


def _number_of(recording: Recording) -> int:
    """Which of ``REQUESTS`` is most like the recorded one."""
    line = recording.request.split(b"\r\n", 1)[0]
    if b"/attach?" in line:
        return (4 if recording.tty else 3) if b"stdin=1" in line else (1 if recording.tty else 0)
    if b"/exec/" in line and b"/start" in line:
        return 6 if recording.tty else 5
    if b"/logs" in line:
        return 7
    return 10 if line.startswith(b"HEAD") else 11 if line.startswith(b"POST") else 9


_STREAM = b"Content-Type: application/vnd.docker.multiplexed-stream\r\n"
_FRAME = b"\x01\0\0\0\0\0\0\x02hi"
_HEADS = (
    b"HTTP/1.1 200 OK\r\n"
    + _STREAM
    + b"Transfer-Encoding: chunked\r\n\r\na;x=y\r\n"
    + _FRAME
    + b"\r\n0\r\nT: 1\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n" + _STREAM + b"Content-Length: 10\r\n\r\n" + _FRAME,
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 101 UPGRADED\r\n"
    + _STREAM
    + b"Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
    + _FRAME,
    b"HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\nError: detached from container\n",
    b"HTTP/1.0 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>",
    b"HTTP/1.1 301 Moved\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n",
    b'HTTP/1.1 404 Not Found\r\nContent-Length: 13\r\n\r\n{"message":1}',
    b"HTTP/1.1 500 X\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nokmore",
    b"SSH-2.0-OpenSSH\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n" + _FRAME[:5],
)
