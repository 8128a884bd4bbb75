"""Logs: the stored lines of a container, and with ``follow`` those that come."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import attrs

from attachproto import Accepted, LocalProtocolError, Logs, OutputClosed
from attachproto_engine._container import Container
from attachproto_engine._duplex import Selection, cancel, run_until, send_output, stored_records
from attachproto_engine._json import rfc3339
from attachproto_engine._lines import Lines
from attachproto_engine._output import Cursor, Record
from attachproto_engine._server_connection import ServerConnection


async def logs(connection: ServerConnection, container: Container, request: Logs, accepted: Accepted) -> None:
    """Answer a request for logs and serve it to its end."""
    assert accepted.framing is not None
    selection = Selection(accepted.framing, request.stdout, request.stderr)
    cursor = container.log.follow(container.log.size, gates=False)
    try:
        # dockerd follows neither a container that has not run nor one that has exited.
        follows = request.follow and container.running
        await _send_accepted(connection, accepted)
        sending = asyncio.get_running_loop().create_task(
            _send(connection, container, request, selection, cursor, follows)
        )
        try:
            await run_until(connection.ended(), sending)
            # A half-close of the client ends the stream, as on dockerd.
            cursor.close()
            await sending
        finally:
            await cancel(sending)
        await connection.send(OutputClosed())
        await run_until(connection.ended(), connection.vanished())
    finally:
        cursor.close()


async def _send_accepted(connection: ServerConnection, accepted: Accepted) -> None:
    chunked = (("transfer-encoding", "chunked"),)
    try:
        await connection.send(attrs.evolve(accepted, headers=accepted.headers + chunked))
    except LocalProtocolError:  # an HTTP/1.0 client reads no chunks
        await connection.send(accepted)


async def _send(
    connection: ServerConnection,
    container: Container,
    request: Logs,
    selection: Selection,
    cursor: Cursor,
    follows: bool,
) -> None:
    end = cursor.position
    begin, skip = 0, 0
    if request.tail is not None:
        begin = container.log.tail(request.tail)
        skip = max(0, await _count(container, begin, end) - request.tail)
    since, until = _nanoseconds(request.since, 0), _nanoseconds(request.until, 1 << 63)
    lines = Lines()

    async def send(found: Iterable[Record]) -> None:
        events = []
        nonlocal skip
        for line in found:
            if skip:
                skip -= 1
            elif since <= line.time <= until and selection.wants(line.stream):
                prefix = f"{rfc3339(line.time)} ".encode() if request.timestamps else b""
                events.append(selection.event(line.stream, prefix + line.data))
        await send_output(connection, events)

    async for records in stored_records(container, begin, end):
        await send(lines.feed(records))
    if follows:
        while records := await cursor.records():
            await send(lines.feed(records))
            if any(record.ends_run for record in records):
                return


async def _count(container: Container, begin: int, end: int) -> int:
    lines = Lines()
    count = 0
    async for records in stored_records(container, begin, end):
        count += sum(1 for _ in lines.feed(records))
    return count


def _nanoseconds(value: str | None, default: int) -> int:
    if value is None:
        return default
    seconds, _, rest = value.partition(".")
    return int(seconds) * 1_000_000_000 + int(rest.ljust(9, "0"))
