"""Attach, exec and logs: a client and a container's streams, brought together.

Strategy: each is two directions that know nothing of each other, and a rule for when one ends the other. The rules
are dockerd's: a half-close ends stdin where the container was created with ``StdinOnce`` and has no TTY, and ends the
attach where not (moby ``daemon/internal/stream/attach.go``); detach keys count on a TTY; output ends when the
container does, not when it closes its stdout.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Coroutine, Iterable
from typing import Any

import attrs

from attachproto import (
    Accepted,
    AttachOptions,
    ExecStart,
    Framing,
    LocalProtocolError,
    Logs,
    OutputClosed,
    RawOutput,
    Stderr,
    Stdin,
    Stdout,
    parse_detach_keys,
)
from attachproto_engine._containers import ApiError, Container, Exec
from attachproto_engine._detach import DEFAULT_KEYS, DetachFilter
from attachproto_engine._json import rfc3339
from attachproto_engine._output import STDERR, STDOUT, Cursor, Lines, Record
from attachproto_engine._process import Process
from attachproto_engine._server_connection import ServerConnection

Output = Stdout | Stderr | RawOutput


@attrs.frozen
class Selection:
    """Which of a container's streams a client wants, and how they travel."""

    framing: Framing
    stdout: bool
    stderr: bool

    def events(self, records: Iterable[Record]) -> list[Output]:
        """What these records are to the client."""
        return [self.event(record.stream, record.data) for record in records if self.wants(record.stream)]

    def wants(self, stream: int) -> bool:
        """Whether the client gets this stream."""
        return (stream == STDOUT and self.stdout) or (stream == STDERR and self.stderr)

    def event(self, stream: int, data: bytes) -> Output:
        """Output of this stream, as it travels."""
        if self.framing is Framing.RAW:
            return RawOutput(data)
        return Stdout(data) if stream == STDOUT else Stderr(data)


# ---- attach ----


async def attach(wire: ServerConnection, container: Container, options: AttachOptions, accepted: Accepted) -> None:
    """Answer an attach and serve it to its end."""
    assert accepted.framing is not None
    everything = container.rules.sends_all_streams
    selection = Selection(accepted.framing, options.stdout or everything, options.stderr or everything)
    # From here on nothing that it prints is lost, and the client hears of it only afterwards.
    cursor = container.log.follow(container.log.size, gates=options.stream)
    try:
        await wire.send(accepted)
        wire.drop_early_stdin()
        await _serve(
            wire,
            _send_attached(wire, container, options, selection, cursor),
            _take_stdin(wire, container, options, cursor) if options.stream and options.stdin else None,
            until=(container.next_exit(), container.removal()),
        )
    finally:
        cursor.close()


async def _send_attached(
    wire: ServerConnection, container: Container, options: AttachOptions, selection: Selection, cursor: Cursor
) -> None:
    try:
        if options.logs and container.config.log_driver == "none":
            cursor.close()
            await asyncio.sleep(container.rules.unreadable_log_seconds)
            await _send(wire, [selection.event(container.rules.unreadable_log_stream, container.rules.unreadable_log)])
            return
        if options.logs:
            lines = Lines()
            async for records in _blocks(container, 0, cursor.position):
                await _send(wire, selection.events(lines.feed(records)))
            if options.stream or not container.running:
                await _send(wire, selection.events(lines.flush()))
        asked = options.stdin or options.stdout or options.stderr
        if not options.stream or not (asked or container.rules.sends_all_streams):
            return
        while records := await cursor.records():
            await _send(wire, selection.events(records))
            if any(record.ends_run for record in records):
                return
    finally:
        # A client that has gone must not hold the container back.
        cursor.close()


async def _take_stdin(wire: ServerConnection, container: Container, options: AttachOptions, cursor: Cursor) -> None:
    """Carry what the client types to the container, and end stdin or the attach when it ends."""
    config = container.config
    if not config.open_stdin:
        # One block, and then never again: a client that sends on is held back.
        await wire.next_event()
        return
    keys = _detach_filter(options.detach_keys, tty=config.tty)
    while isinstance(event := await wire.next_event(), Stdin):
        data, detached = keys.feed(event.data) if keys else (event.data, False)
        if data and not await _write(await container.until_running(), data):
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


def _detach_filter(keys: str | None, *, tty: bool) -> DetachFilter | None:
    # Without a TTY they are ordinary bytes.
    return DetachFilter(parse_detach_keys(keys) if keys else DEFAULT_KEYS) if tty else None


async def _write(process: Process, data: bytes) -> bool:
    return not data or (process.stdin is not None and await process.stdin.write(data))


async def _send(wire: ServerConnection, events: list[Output]) -> None:
    if events:
        await wire.send(*events)
        # A client that is as fast as we are must not keep the others waiting.
        await asyncio.sleep(0)


async def _blocks(container: Container, position: int, end: int) -> AsyncIterator[list[Record]]:
    """What the log holds between two positions."""
    while position < end:
        records, position = container.log.read(position, end)
        yield records
        await asyncio.sleep(0)


async def _serve(
    wire: ServerConnection,
    output: Coroutine[Any, Any, None],
    stdin: Coroutine[Any, Any, None] | None,
    *,
    until: tuple[asyncio.Future[Any], ...],
) -> None:
    """Run both directions until output has ended, or the client has gone."""
    loop = asyncio.get_running_loop()
    sending = loop.create_task(output)
    taking = loop.create_task(stdin) if stdin is not None else None
    gone = wire.vanished()
    try:
        await asyncio.wait({sending, gone}, return_when=asyncio.FIRST_COMPLETED)
        if sending.done():
            try:
                sending.result()
                await wire.send(OutputClosed())
                await cancel(taking)
                # Only half-closed: dockerd waits for the client to close, and so must we, or it may see a reset.
                await first(wire.ended(), gone)
            except ConnectionAbortedError:
                raise  # by ourselves: there are no last words
            except OSError:
                pass  # the client has gone
        if taking is not None and not taking.done():
            # What the client had sent before it went is still the container's, and so is the end of it.
            await cancel(sending)
            await asyncio.wait({taking, *until}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (sending, taking):
            await cancel(task)
        for future in until:
            future.cancel()
    if taking is not None and not taking.cancelled():
        taking.result()


async def cancel(task: asyncio.Task[Any] | None) -> None:
    """Cancel a task and wait for its end."""
    if task is not None and not task.done():
        task.cancel()
        await asyncio.wait({task})


async def first(work: Coroutine[Any, Any, None], other: asyncio.Future[Any]) -> None:
    """Do something, or until something else is so."""
    task = asyncio.get_running_loop().create_task(work)
    try:
        await asyncio.wait({task, other}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await cancel(task)


# ---- exec ----


async def exec_start(wire: ServerConnection, exec_: Exec, request: ExecStart, accepted: Accepted) -> None:
    """Answer the start of an exec and serve it to its end. What goes wrong from here on is told in the stream."""
    assert accepted.framing is not None
    await wire.send(accepted)
    wire.drop_early_stdin()
    # dockerd frames by what the start says; on a raw stream stderr has no place.
    raw = accepted.framing is Framing.RAW
    selection = Selection(
        accepted.framing,
        bool(exec_.given.get("AttachStdout")),
        bool(exec_.given.get("AttachStderr")) and not raw,
    )
    client = _ExecClient(wire, selection)
    try:
        running = exec_.start(client.sink, attached=True, size=request.console_size)
    except ApiError as exc:
        await client.say(exc.text)
        await wire.send(OutputClosed())
        await first(wire.ended(), wire.vanished())
        return
    ended: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    try:
        await _serve(
            wire,
            client.serve(running, ended),
            _take_exec_stdin(wire, exec_, client, ended) if exec_.stdin else None,
            until=(),
        )
    finally:
        await client.leave()


class _ExecClient:
    """Where an exec's output goes: to the client while it is there, and nowhere after it."""

    def __init__(self, wire: ServerConnection, selection: Selection) -> None:
        self._server_connection = wire
        self._selection = selection
        self._sending = asyncio.Lock()
        self._there = True

    async def sink(self, stream: int, data: bytes) -> None:
        if self._selection.wants(stream):
            await self._send(self._selection.event(stream, data))

    async def say(self, text: str) -> None:
        """Write a text of the engine's, as stdout."""
        await self._send(self._selection.event(STDOUT, f"{text}\r\n".encode()))

    async def _send(self, event: Output) -> None:
        async with self._sending:
            if self._there:
                try:
                    await self._server_connection.send(event)
                except OSError:
                    self._there = False

    async def serve(self, running: asyncio.Task[None], ended: asyncio.Future[Any]) -> None:
        """Wait until all has been sent, or nothing more is to be."""
        await asyncio.wait({running, ended}, return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            self._there = False

    async def leave(self) -> None:
        """From here on output goes nowhere, and nobody touches the wire."""
        self._there = False
        if self._sending.locked():
            with contextlib.suppress(OSError):
                self._server_connection.sock.shutdown(socket.SHUT_RDWR)
        async with self._sending:
            pass


async def _take_exec_stdin(
    wire: ServerConnection, exec_: Exec, client: _ExecClient, ended: asyncio.Future[Any]
) -> None:
    process = exec_.process
    assert process is not None  # it was started a moment ago
    keys = _detach_filter(exec_.detach_keys, tty=exec_.tty)
    while isinstance(event := await wire.next_event(), Stdin):
        data, detached = keys.feed(event.data) if keys else (event.data, False)
        if not await _write(process, data):
            return
        if detached:
            await client.say(exec_.detached())
            ended.set_result(None)
            return
    if exec_.tty:
        ended.set_result(None)
    else:
        process.close_stdin()


# ---- logs ----


async def logs(wire: ServerConnection, container: Container, request: Logs, accepted: Accepted) -> None:
    """Answer a request for logs, and follow them if asked to."""
    assert accepted.framing is not None
    cursor = container.log.follow(container.log.size, gates=False)
    try:
        # What has not begun has no logs to follow, and what has ended no more.
        follows = request.follow and container.running
        await _send_accepted(wire, accepted)
        sending = asyncio.get_running_loop().create_task(
            _send_logs(
                wire, container, request, Selection(accepted.framing, request.stdout, request.stderr), cursor, follows
            )
        )
        try:
            await first(wire.ended(), sending)
            # For dockerd a half-close ends the stream.
            cursor.close()
            await sending
        finally:
            await cancel(sending)
        await wire.send(OutputClosed())
        await first(wire.ended(), wire.vanished())
    finally:
        cursor.close()


async def _send_accepted(wire: ServerConnection, accepted: Accepted) -> None:
    chunked = (("transfer-encoding", "chunked"),)
    try:
        await wire.send(attrs.evolve(accepted, headers=accepted.headers + chunked))
    except LocalProtocolError:  # HTTP/1.0 knows no chunks
        await wire.send(accepted)


async def _send_logs(
    wire: ServerConnection, container: Container, request: Logs, selection: Selection, cursor: Cursor, follows: bool
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
        await _send(wire, events)

    async for records in _blocks(container, begin, end):
        await send(lines.feed(records))
    if follows:
        while records := await cursor.records():
            await send(lines.feed(records))
            if any(record.ends_run for record in records):
                return


async def _count(container: Container, begin: int, end: int) -> int:
    lines = Lines()
    count = 0
    async for records in _blocks(container, begin, end):
        count += sum(1 for _ in lines.feed(records))
    return count


def _nanoseconds(value: str | None, default: int) -> int:
    if value is None:
        return default
    seconds, _, rest = value.partition(".")
    return int(seconds) * 1_000_000_000 + int(rest.ljust(9, "0"))
