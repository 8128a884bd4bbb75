"""What the byte-level tests share: cutting bytes, joining events, and two ends without a socket."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs

from attachproto import (
    CLIENT,
    NEED_DATA,
    SEND_EOF,
    SERVER,
    Attach,
    Connection,
    Event,
    ExecStart,
    LocalProtocolError,
    Logs,
    RawOutput,
    Reason,
    RemoteProtocolError,
    Request,
    Role,
    Stderr,
    Stdin,
    Stdout,
    StreamRequest,
    Systemerr,
)

H101M = (
    b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\n"
    b"Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
)
H101R = H101M.replace(b"multiplexed", b"raw")
H200R = b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n"
H200M = H200R.replace(b"raw", b"multiplexed")
EOF = b""


def frame(kind: int, payload: bytes, length: int | None = None) -> bytes:
    """A frame written by hand, so that tests of the decoder do not depend on the encoder."""
    return bytes([kind, 0, 0, 0]) + (len(payload) if length is None else length).to_bytes(4, "big") + payload


def counts(few: int, many: int) -> int:
    """How often something is tried: many times with ATTACHPROTO_COUNTS=full."""
    return many if os.environ.get("ATTACHPROTO_COUNTS") == "full" else few


def joined(events: Iterable[Any]) -> list[Any]:
    """The events, with neighbouring payloads of one stream joined: where a payload is cut has no meaning."""
    result: list[Any] = []
    for event in events:
        if (
            result
            and type(result[-1]) is type(event)
            and isinstance(event, Stdout | Stderr | RawOutput | Systemerr | Stdin)
        ):
            result[-1] = type(event)(result[-1].data + event.data)
        else:
            result.append(event)
    return result


def cuts(data: bytes) -> Iterator[list[bytes]]:
    """The bytes whole, in every two pieces, and one by one."""
    yield [data] if data else []
    for at in range(1, len(data)):
        yield [data[:at], data[at:]]
    yield [data[at : at + 1] for at in range(len(data))]


def cut_at(data: bytes, places: Iterable[int]) -> list[bytes]:
    """The bytes cut at some places."""
    edges = [0, *sorted({place for place in places if 0 < place < len(data)}), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges) if a != b]


def read_all(reader: Any, pieces: Sequence[bytes]) -> tuple[list[Any], RemoteProtocolError | None]:
    """Feed pieces to a ``Connection`` or ``FrameDecoder``, pulling after each, until its last event or its error."""
    events: list[Any] = []
    for piece in pieces:
        reader.receive_data(piece)
        try:
            events.extend(reader.events())
        except RemoteProtocolError as error:
            return events, error
    return events, None


def check_every_cut(
    make: Callable[[], Any],
    data: bytes,
    expected: Sequence[Any],
    error: str | Reason | None = None,
    *,
    eof: bool = True,
    after: Sequence[list[bytes]] | None = None,
) -> None:
    """However the bytes are cut, the same events come, and the same error if one is expected."""
    for pieces in after if after is not None else cuts(data):
        events, raised = read_all(make(), [*pieces, EOF] if eof else pieces)
        assert joined(events) == list(expected), pieces
        if error is None:
            assert raised is None, pieces
        else:
            assert raised is not None, pieces
            assert raised.reason is error if isinstance(error, Reason) else error in str(raised), pieces


def client(request: Request | StreamRequest, **limits: Any) -> Connection:
    """A client that has sent its request."""
    connection = Connection(CLIENT, **limits)
    connection.send(request)
    return connection


def server(request: Request | StreamRequest, **limits: Any) -> Connection:
    """A server that has read this request."""
    connection = Connection(SERVER, **limits)
    connection.receive_data(Connection(CLIENT).send(request))
    events = list(connection.events())
    assert len(events) == 1
    return connection


def bare(event: Any) -> Any:
    """An event without what is not sent: ``tty``, stdin, and the header fields that the other end adds."""
    if isinstance(event, ExecStart):
        return attrs.evolve(event, headers=(), stdin=True)
    if isinstance(event, Attach | Logs):
        return attrs.evolve(event, headers=(), tty=None)
    if hasattr(event, "headers"):
        return attrs.evolve(event, headers=())
    return event


class Pair:
    """A client and a server, connected in memory."""

    def __init__(self, **limits: Any) -> None:
        self.ends = {CLIENT: Connection(CLIENT, **limits), SERVER: Connection(SERVER, **limits)}

    def send(self, role: Role, *events: Event, expect: Any = "match") -> bytes:
        """Send events, read them at the other end, and compare. Returns the bytes.

        A half-close is part of what is sent: ``SEND_EOF`` reaches the other end as its end of file.
        """
        data = b""
        got: list[Any] = []
        other = self.ends[role.other]
        for event in events:
            what = self.ends[role].send(event)
            piece = EOF if what is SEND_EOF else what
            if what is SEND_EOF or piece:
                other.receive_data(piece)
            data += piece
            got.extend(other.events())
        wanted = list(events) if expect == "match" else expect
        assert [bare(event) for event in joined(got)] == [bare(event) for event in joined(wanted)]
        self.agree()
        return data

    def agree(self) -> None:
        """Both ends see both sides in the same state."""
        one, two = self.ends[CLIENT], self.ends[SERVER]
        assert one.our_state is two.their_state
        assert one.their_state is two.our_state


def refused(connection: Connection, event: Any) -> str:
    """The text of the error for sending this. The refused call must have changed nothing."""
    before = (connection.our_state, connection.their_state)
    try:
        connection.send(event)
    except LocalProtocolError as error:
        assert (connection.our_state, connection.their_state) == before
        return str(error)
    raise AssertionError(f"{event!r} was sent in state {before}")


def nothing_there(connection: Connection) -> bool:
    """Whether the connection says ``NEED_DATA``."""
    return connection.next_event() is NEED_DATA


def children() -> list[int]:
    """This process's children, by their numbers."""
    found: list[int] = []
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that has just ended
            found += map(int, (task / "children").read_text().split())
    return sorted(found)


def open_descriptors() -> dict[str, str]:
    """This process's descriptors, by number, and what each is."""
    found = {}
    for number in os.listdir("/proc/self/fd"):
        try:
            found[number] = os.readlink(f"/proc/self/fd/{number}")
        except FileNotFoundError:  # the one that listed them
            continue
    return found
