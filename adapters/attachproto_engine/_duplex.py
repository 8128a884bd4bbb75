"""What attach, exec and logs share: two directions of one connection, and the rule for when one ends the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable
from typing import Any

import attrs

from attachproto import Framing, OutputClosed, RawOutput, Stderr, Stdout, parse_detach_keys
from attachproto_engine._container import Container
from attachproto_engine._detach import DEFAULT_KEYS, DetachFilter
from attachproto_engine._errors import ClientGone, ContainerRemoved, EndedByFault
from attachproto_engine._output import STDERR, STDOUT, Record
from attachproto_engine._process import Process
from attachproto_engine._server_connection import ServerConnection

Output = Stdout | Stderr | RawOutput


@attrs.frozen
class Selection:
    """Which of a container's streams a client gets, and in which framing."""

    framing: Framing
    stdout: bool
    stderr: bool

    def wants(self, stream: int) -> bool:
        """Whether the client gets this stream."""
        return (stream == STDOUT and self.stdout) or (stream == STDERR and self.stderr)

    def event(self, stream: int, data: bytes) -> Output:
        """The event that carries output of this stream."""
        if self.framing is Framing.RAW:
            return RawOutput(data)
        return Stdout(data) if stream == STDOUT else Stderr(data)

    def events(self, records: Iterable[Record]) -> list[Output]:
        """The events that carry these records, without the streams that the client does not get."""
        return [self.event(record.stream, record.data) for record in records if self.wants(record.stream)]


async def send_output(connection: ServerConnection, events: list[Output]) -> None:
    """Write output, and let other tasks run: a client that reads as fast as we write must not starve the others."""
    if events:
        await connection.send(*events)
        await asyncio.sleep(0)


async def stored_records(container: Container, position: int, end: int) -> AsyncIterator[list[Record]]:
    """The records that the log holds between two positions, block by block."""
    while position < end:
        records, position = container.log.read(position, end)
        yield records
        await asyncio.sleep(0)


def detach_filter(keys: str | None, *, tty: bool) -> DetachFilter | None:
    """A filter for these detach keys; ``None`` without a TTY, where dockerd takes them for ordinary bytes."""
    return DetachFilter(parse_detach_keys(keys) if keys else DEFAULT_KEYS) if tty else None


async def write_stdin(process: Process, data: bytes) -> bool:
    """Write to a process; ``False`` if its stdin is closed."""
    return not data or (process.stdin is not None and await process.stdin.write(data))


async def serve(
    connection: ServerConnection,
    output: Coroutine[Any, Any, None],
    stdin: Coroutine[Any, Any, None] | None,
    *,
    until: tuple[asyncio.Future[Any], ...],
) -> None:
    """Run both directions until output has ended, or the client has closed the connection.

    If the client closes it, stdin that it had sent before is still carried to the process, at most until one of
    ``until`` is resolved.
    """
    loop = asyncio.get_running_loop()
    sending = loop.create_task(output)
    receiving = loop.create_task(stdin) if stdin is not None else None
    gone = connection.vanished()
    try:
        await asyncio.wait({sending, gone}, return_when=asyncio.FIRST_COMPLETED)
        if sending.done():
            try:
                sending.result()
                await connection.send(OutputClosed())
                await cancel(receiving)
                # OutputClosed only half-closes. As dockerd does, wait for the client to close: a close with unread
                # bytes would be a reset.
                await run_until(connection.ended(), gone)
            except EndedByFault:
                raise
            except ContainerRemoved:
                # As on dockerd, the client gets no end of file. On TCP only its own end of file tells that it has left.
                await cancel(receiving)
                await run_until(connection.ended(), gone)
            except ClientGone:
                pass  # the client has closed the connection
        if receiving is not None and not receiving.done():
            await cancel(sending)
            await asyncio.wait({receiving, *until}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (sending, receiving):
            await cancel(task)
        for future in until:
            future.cancel()
    if receiving is not None and not receiving.cancelled():
        receiving.result()


async def cancel(task: asyncio.Task[Any] | None) -> None:
    """Cancel a task and wait until it is done. An exception of the task is dropped, and not reported by asyncio."""
    if task is not None:
        task.cancel()
        await asyncio.wait({task})
        if not task.cancelled():
            task.exception()


async def run_until(work: Coroutine[Any, Any, None], other: asyncio.Future[Any]) -> None:
    """Run ``work`` to its end, or until ``other`` is done."""
    task = asyncio.get_running_loop().create_task(work)
    try:
        await asyncio.wait({task, other}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await cancel(task)
