"""The server: requests of any client, the answers to them, and stdin behind them."""

# Invariant. Whatever bytes come, each call of ``next_event`` gives an event, ``NEED_DATA`` or a typed error, and
# nothing else, on each exchange of a connection that is kept alive. After each of these an answer can be written: to
# a request that cannot be read, too. Whole and cut anywhere the events are the same, and the error has the same
# reason. A request that is recognised as one for a stream is read as the same when a client of ours writes it. When
# all that came is parsed, however much it was, the connection holds no more than ``max_head`` and
# ``max_request_body`` allow, and of a stream nothing. The number of calls is linear in the input.

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import attrs

from attachproto import (
    CLIENT,
    NEED_DATA,
    SERVER,
    Accepted,
    Connection,
    Continue,
    Event,
    Framing,
    LocalProtocolError,
    Logs,
    OutputClosed,
    Rejected,
    RemoteProtocolError,
    Request,
    Response,
    ResponseHead,
    State,
    Stderr,
    Stdin,
    StdinClosed,
    Stdout,
    StreamRequest,
)
from fuzz._invariants import (
    check_held,
    check_linear,
    counted,
    drain,
    flood_of,
    held_bytes,
    is_counted,
    payload_size,
    pieces_of,
)
from tests.helpers import bare, joined
from tests.replay.recordings import read_vectors

# Small, so that a short input can exceed them.
LIMITS: dict[str, Any] = {"max_head": 1024, "max_request_body": 512}

# A head is held as text, as header fields, as a query and in the event, and so is a body.
HELD_MAX = 6 * 1024 + 4 * 512 + 1024

# h11 refuses a chunk's header and trailers above this size, and keeps what it has refused.
H11_MAX = 16 * 1024

ENDED_MAX = HELD_MAX + H11_MAX

_HEAD = 4


def check(data: bytes) -> None:
    """One input: how to answer, other choices, two bytes that say how to cut, then what the client sends."""
    if len(data) < _HEAD:
        return
    stream, seed = data[_HEAD:], int.from_bytes(data[2:4], "big")
    found = []
    for pieces in ([stream] if stream else []), pieces_of(stream, seed):
        serving = Serving(data[0], data[1])
        with counted(data) as steps:
            serving.serve(pieces)
        # A request with its answer costs as much as some pieces. The shortest one has 18 bytes.
        check_linear(steps, len(stream), len(pieces), per_byte=150)
        found.append(serving)
    if is_counted(data):
        looking = Serving(data[0], data[1] & ~2 | 8, looks=True)
        looking.serve(pieces_of(stream, seed))
        looking.check_held_after(stream)
    whole, cut = found
    assert joined(whole.events) == joined(cut.events)
    assert whole.reason is cut.reason
    assert payload_size(whole.events) <= len(stream)
    for event in whole.events:
        if isinstance(event, StreamRequest):
            _check_written_again(event)


class Serving:
    """A server on one connection, which answers each request at once.

    Attributes:
        events: what the client has sent, of all exchanges.
        reason: of the error, if one was raised.
    """

    def __init__(self, answer: int, choices: int, *, looks: bool = False) -> None:
        self.events: list[Any] = []
        self.reason: object = None
        self._answer = answer
        self._eof = bool(choices & 2)
        self._chunked = bool(choices & 4)
        self._limits = LIMITS if choices & 8 else {}
        self._last = Connection(SERVER, keep_alive=bool(choices & 1), **self._limits)
        self._connection: Connection | None = self._last
        self._looks = looks
        self._empty = held_bytes(self._last) if looks else 0

    def serve(self, pieces: Iterable[bytes]) -> None:
        """Receive all pieces, and after them the end of file if it is to come."""
        for piece in itertools.chain(pieces, (b"",) if self._eof else ()):
            if self._connection is None:
                return
            self._connection.receive_data(piece)
            while (connection := self._connection) is not None and self._step(connection, at_end=not piece):
                pass

    def check_held_after(self, stream: bytes) -> None:
        """Receive a flood, which ends what is no stream with an error, and look at what the last exchange holds."""
        self.serve(flood_of(stream))
        drain(self._last, flood_of(stream))
        streams = self._last.their_state is State.STREAMING
        check_held(self._last, self._empty, HELD_MAX if streams else ENDED_MAX, "after a flood")

    def _step(self, connection: Connection, *, at_end: bool) -> bool:
        """Take one event and answer it. Returns whether there may be another one."""
        try:
            event = connection.next_event()
        except RemoteProtocolError as error:
            self.reason = error.reason
            connection.send(Rejected(400, (), b"bad"))
            self._connection = None
            return False
        except LocalProtocolError:
            # The client's last event was given.
            self._connection = None
            return False
        if event is NEED_DATA:
            if connection.their_state is State.AWAITING_CONTINUE:
                _try(connection, Continue())
            self._check_held(connection)
            return False
        assert isinstance(event, Event), event
        self.events.append(event)
        if isinstance(event, Request | StreamRequest):
            self._reply(connection, event)
        else:
            assert isinstance(event, Stdin | StdinClosed)
        if connection.our_state is State.DONE and not isinstance(event, Stdin):
            if (following := connection.next_exchange()) is not None:
                self._last = following
            self._connection = following
            return following is not None
        return True

    def _check_held(self, connection: Connection) -> None:
        if self._looks:
            # In a stream it is the request itself, and nothing of its stdin.
            most = HELD_MAX if connection.their_state is State.STREAMING else HELD_MAX + H11_MAX
            check_held(connection, self._empty, most, "after a piece")

    def _reply(self, connection: Connection, event: Request | StreamRequest) -> None:
        if isinstance(event, Request):
            if self._answer & 1:
                _try(connection, ResponseHead(200))
                _try(connection, Response(200, (), b"body"))
            if connection.our_state is not State.DONE:
                assert _try(connection, Response(200, (("content-type", "x"),), b"")) is not None
            return
        framing = Framing.RAW if self._answer & 2 else Framing.MULTIPLEXED
        headers = (("transfer-encoding", "chunked"),) if self._chunked else ()
        for status_code in (101, 200):
            if _try(connection, Accepted(framing, status_code, headers)) is not None:
                break
        else:
            assert _try(connection, Rejected(409, (), b"no")) is not None
            return
        if framing is Framing.MULTIPLEXED:
            connection.send(Stdout(b"out"))
            connection.send(Stderr(b"err"))
        if self._answer & 4:
            connection.send(OutputClosed())


def _try(connection: Connection, event: Event) -> Any:
    """What is written; ``None`` if it was refused, which must have had no effect."""
    before = connection.our_state, connection.their_state
    try:
        return connection.send(event)
    except LocalProtocolError:
        assert (connection.our_state, connection.their_state) == before
        return None


def _check_written_again(event: StreamRequest) -> None:
    """A client writes the same request, and another server reads it, so that no value can mean two things."""
    client, server = Connection(CLIENT), Connection(SERVER)
    asked = attrs.evolve(event, headers=(), tty=False) if isinstance(event, Logs) else attrs.evolve(event, headers=())
    server.receive_data(client.send(asked))
    assert [bare(each) for each in server.events()] == [bare(event)]


def seeds() -> Iterator[bytes]:
    """One recorded request of each family and engine with all that was sent behind it, and odd requests."""
    seen = set()
    for recording in read_vectors():
        key = recording.engine, recording.family, recording.request.split(b" ", 2)[0], recording.tty
        if recording.sent and not recording.request_cut and len(recording.sent) < 2000 and key not in seen:
            seen.add(key)
            yield bytes([len(seen) % 8, len(seen) % 16, 3, len(seen) % 256]) + recording.sent
    for number, text in enumerate(_REQUESTS):
        yield bytes([number % 8, 9 + number % 8, 0, number]) + text


_REQUESTS = (
    b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\nGET /version HTTP/1.1\r\nHost: x\r\n\r\n",
    b'POST /exec/e1/start HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 13\r\n\r\n{"Tty": true}in',
    b"POST /v1.42/exec/e1/start HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    b'1f\r\n{"tty":true,"ConsoleSize":[1,2]}\r\n0\r\nA: b\r\n\r\n',
    b"POST /containers/web/attach?stream=1&stdin=true&detachKeys=ctrl-a,b HTTP/1.1\r\nHost: x\r\n"
    b"Connection: Upgrade\r\nUpgrade: tcp\r\n\r\nls\n",
    b"GET http://h/v1.41/containers/web/logs?stdout=1&tail=5&since=1.5&follow=1 HTTP/1.0\r\n\r\n",
    b"GET /containers/%2e%2e/json HTTP/1.1\nHost: x\nConnection: close\n\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n",
    b"HEAD /_ping HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
)
