"""``attachproto replay FILE``: shows recorded streams, the bytes beside their events, or plays one to a client."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

import attrs

from attachproto import (
    CLIENT,
    SERVER,
    Connection,
    ProtocolError,
    Request,
    StreamRequest,
)
from attachproto_adapters.cli._recorded import Recorded, read_file
from attachproto_adapters.cli._replay_server import serve
from attachproto_adapters.cli._statuses import ReaderGone


def replay(arguments: argparse.Namespace) -> int:
    """``attachproto replay``."""
    recorded = read_file(arguments.file)
    if arguments.line is not None:
        if not 1 <= arguments.line <= len(recorded):
            raise ValueError(f"--line {arguments.line}: {arguments.file} has {len(recorded)} lines")
        recorded = [recorded[arguments.line - 1]]
    if arguments.as_server is not None:
        if len(recorded) != 1:
            raise ValueError(f"--as-server plays one stream: choose one of the {len(recorded)} with --line")
        return serve(recorded[0], arguments.as_server)
    if sys.stdout is None:  # closed at our start
        raise ReaderGone
    for each in recorded:
        show(each)
    return 0


# ---- shown ----


def show(recorded: Recorded) -> None:
    """Print the bytes of both directions beside the events that they are."""
    from attachproto_engine._demo import _Table

    table = _Table(sys.stdout)
    sys.stdout.write(f"{recorded.name}\n\n")
    table.row("on the wire", "events", "\x1b[2m")
    client = Connection(CLIENT)
    asked: Request | StreamRequest | None = None
    try:
        asked = _request(recorded)
        client.send(asked)
    except ProtocolError as exc:
        table.row("", repr(exc))
    for number, (kind, data) in enumerate(recorded.events):
        if number < len(recorded.times):
            table.row(f"{recorded.times[number]:.6f} s", "")
        match kind:
            case "send":
                table.wire(">", data)
                if number == 0 and asked is not None:
                    table.event(asked)
            case "recv" | "eof":
                table.wire("<", data)
                if asked is not None:
                    for each in _events(client, data):
                        table.event(each)
            case "shut_wr":
                table.wire(">", None)
            case other:
                table.row(other, "")
    sys.stdout.write("\n")


def _request(recorded: Recorded) -> Request | StreamRequest:
    """The request as an event, with what is known of the TTY."""
    server = Connection(SERVER)
    server.receive_data(recorded.request)
    event = server.next_event()
    if not isinstance(event, Request | StreamRequest):
        raise ValueError("the recorded request is not whole")
    if isinstance(event, StreamRequest) and recorded.tty is not None:
        event = attrs.evolve(event, tty=recorded.tty)
    return attrs.evolve(event, headers=())  # it cannot be sent with fields that the connection writes itself


def _events(client: Connection, data: bytes) -> Iterator[object]:
    try:
        client.receive_data(data)
        yield from client.events()
    except ProtocolError as exc:
        yield exc
