"""Lets `Connection(SERVER)` read what was recorded, and write what the engines wrote."""

from __future__ import annotations

from attachproto import (
    CLIENT,
    SERVER,
    Accepted,
    Connection,
    Framing,
    Rejected,
    RemoteProtocolError,
    Request,
    Stdin,
    StreamRequest,
)
from tests.replay.expectations import Exchange, Expectation
from tests.replay.requests import encode_served

SERVER_DIFFERENCES = {
    "bytes above 127 in the target": "engines look for the container; we take ASCII only and say RemoteProtocolError",
    "a bad percent-escape": "engines say 400; we give a Request, whose target is as it came",
    "a Host with a slash": "engines say 400; the Host is the application's to judge, so the request is read",
    "a body that is announced and not there": "engines answer at once; we read a body before the event",
    "an exec start without a body": "dockerd from 23.0 on takes it for {}, and so do we; the others say 400",
    "a tail that is no number": "dockerd takes it for all, and so do we; Podman says 400",
}
"""Where `Connection(SERVER)` does something else than the engines did, on purpose."""


def judge_server(expectation: Expectation, step: int | None = None) -> str:
    """Let `Connection(SERVER)` read the first request of a recording, `step` bytes at a time, and compare.

    Returns:
        The difference in words; empty if there is none.
    """
    recording, wanted = expectation.recording, expectation.served
    if wanted is None:
        return ""
    connection = Connection(SERVER)
    found: Request | StreamRequest | RemoteProtocolError | None = None
    data = recording.request
    size = step or len(data)
    chunks = [data[at : at + size] for at in range(0, len(data), size)]
    for number, chunk in enumerate([*chunks, *([wanted.body] if wanted.body else [])]):
        if number == len(chunks) and found is not None:
            return f"{recording.name}: {found!r} came before its body"
        connection.receive_data(chunk)
        try:
            for event in connection.events():
                if found is not None:
                    return f"{recording.name}: {event!r} came behind {found!r}, before an answer"
                assert isinstance(event, Request | StreamRequest)
                found = event
        except RemoteProtocolError as exc:
            found = exc
            break
    if wanted.request is None:
        return "" if isinstance(found, RemoteProtocolError) else f"{recording.name}: {found!r}, expected an error"
    if found is None or isinstance(found, RemoteProtocolError) or encode_served(found) != wanted.request:
        return f"{recording.name}: {found!r}, expected {wanted.request!r}"
    if not wanted.stdin:
        return ""
    # What was glued to the head is stdin after the answer, as it is for Podman, and nothing before it.
    connection.send(Accepted(Framing.MULTIPLEXED, wanted.status))
    got = b"".join(event.data for event in connection.events() if isinstance(event, Stdin))
    return "" if got == wanted.stdin else f"{recording.name}: stdin {got!r}, expected {wanted.stdin!r}"


def judge_written(exchange: Exchange) -> str | None:
    """Let `Connection(SERVER)` write the answer to a stream request with the recorded header fields, and compare.

    Returns:
        The difference in words; empty if there is none; None if there is nothing to write, or nothing to compare:
        logs, because we label them always, and reason phrases of the engine's own.
    """
    if not exchange.writable:
        return None
    client, server = Connection(CLIENT), Connection(SERVER)
    server.receive_data(client.send(exchange.event))
    server.next_event()
    wanted = exchange.expected(exchange.recording.tty)
    match wanted.rows[0]:
        case ("Accepted", status, headers, _):
            data = server.send(Accepted(wanted.framing, status, headers))
            recorded = exchange.received[: exchange.head_size]
        case ("Rejected", status, headers, _, body):
            data = server.send(Rejected(status, headers, body))
            recorded = exchange.received
            if {name for name, _ in headers} & {"content-length", "connection"} == {"content-length"}:
                # Engines keep this connection. Ours ends, and says so, as an engine does that was asked to end it.
                recorded = recorded.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)
        case row:
            raise ValueError(f"{exchange.name}: a server does not answer a stream request with {row!r}")
    return "" if data == recorded else f"{exchange.name}: wrote {data!r}, recorded {recorded!r}"
