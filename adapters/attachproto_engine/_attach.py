"""Attach: the client of one connection and the streams of a container.

The rules are those of the emulated engine. On dockerd a half-close ends stdin where the container was created with
``StdinOnce`` and has no TTY, and ends the attach otherwise (moby ``daemon/internal/stream/attach.go``); detach keys
count on a TTY; output ends when the container exits, not when it closes its stdout.
"""

from __future__ import annotations

import asyncio

from attachproto import Accepted, AttachOptions, Stdin
from attachproto_engine._container import Container
from attachproto_engine._duplex import Selection, detach_filter, send_output, serve, stored_records, write_stdin
from attachproto_engine._lines import Lines
from attachproto_engine._output import Cursor
from attachproto_engine._server_connection import ServerConnection


async def attach(
    connection: ServerConnection, container: Container, options: AttachOptions, accepted: Accepted
) -> None:
    """Answer an attach and serve it to its end."""
    assert accepted.framing is not None
    everything = container.rules.sends_all_streams
    selection = Selection(accepted.framing, options.stdout or everything, options.stderr or everything)
    # The cursor comes first: what the container prints after the client has read the answer is never lost.
    cursor = container.log.follow(container.log.size, gates=options.stream)
    try:
        await connection.send(accepted)
        connection.drop_early_stdin()
        await serve(
            connection,
            _send(connection, container, options, selection, cursor),
            _receive(connection, container, options, cursor) if options.stream and options.stdin else None,
            until=(container.exits.add(), container.removals.add()),
        )
    finally:
        cursor.close()


async def _send(
    connection: ServerConnection, container: Container, options: AttachOptions, selection: Selection, cursor: Cursor
) -> None:
    """Send stored output if the client asked for it, then output as it comes, until the container exits."""
    rules = container.rules
    try:
        if options.logs and container.config.log_driver == "none":
            cursor.close()
            await asyncio.sleep(rules.unreadable_log_seconds)
            await send_output(connection, [selection.event(rules.unreadable_log_stream, rules.unreadable_log)])
            return
        if options.logs:
            lines = Lines()
            async for records in stored_records(container, 0, cursor.position):
                await send_output(connection, selection.events(lines.feed(records)))
            if options.stream or not container.running:
                await send_output(connection, selection.events(lines.flush()))
        asked = options.stdin or options.stdout or options.stderr
        if not options.stream or not (asked or rules.sends_all_streams):
            return
        while records := await cursor.records():
            await send_output(connection, selection.events(records))
            if any(record.ends_run for record in records):
                return
    finally:
        # Without its client the cursor must not hold the container back.
        cursor.close()


async def _receive(connection: ServerConnection, container: Container, options: AttachOptions, cursor: Cursor) -> None:
    """Carry stdin to the container; its end ends stdin or the attach, as the rules say."""
    config = container.config
    if not config.open_stdin:
        # dockerd reads one block and then never again, so a client that sends on is held back.
        await connection.next_event()
        return
    keys = detach_filter(options.detach_keys, tty=config.tty)
    while isinstance(event := await connection.next_event(), Stdin):
        data, detached = keys.feed(event.data) if keys else (event.data, False)
        if data and not await write_stdin(await container.until_running(), data):
            return
        if detached:
            cursor.stop()
            return
    if container.rules.half_close_ends_stdin:
        if not config.tty:
            (await container.until_running()).close_stdin()
        return
    if config.stdin_once and not config.tty:
        (await container.until_running()).close_stdin()
        if options.stdout or options.stderr:
            return
    cursor.stop()
