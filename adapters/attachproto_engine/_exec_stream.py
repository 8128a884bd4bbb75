"""The start of an exec that attaches: the client of one connection and the streams of a command."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any, Final

from attachproto import Accepted, ExecStart, Framing, OutputClosed, Stdin
from attachproto_engine._container import Container
from attachproto_engine._duplex import Output, Selection, detach_filter, run_until, serve, write_stdin
from attachproto_engine._errors import ApiError, ClientGone
from attachproto_engine._exec import Exec
from attachproto_engine._output import STDOUT
from attachproto_engine._server_connection import ServerConnection
from attachproto_engine._waiters import wake

_DETACHED: Final = b"exec attach failed: error on attach stdin: read escape sequence\r\n"


async def exec_start(
    connection: ServerConnection, container: Container, exec_: Exec, request: ExecStart, accepted: Accepted
) -> None:
    """Answer the start of an exec and serve it to its end. From the answer on errors go into the stream, as text."""
    assert accepted.framing is not None
    await connection.send(accepted)
    connection.drop_early_stdin()
    # dockerd frames by the Tty of the start; a raw stream then has no stderr.
    raw = accepted.framing is Framing.RAW
    selection = Selection(accepted.framing, exec_.config.stdout, exec_.config.stderr and not raw)
    client = _Client(connection, selection)
    try:
        running = container.start_exec(exec_, client.sink, attached=True, size=request.console_size)
    except ApiError as exc:
        stream, text = container.rules.exec_failure(exc.text)
        await client.write(STDOUT if raw else stream, text)
        await connection.send(OutputClosed())
        await run_until(connection.ended(), connection.vanished())
        return
    ended: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    try:
        await serve(
            connection,
            client.until_ended(running, ended),
            _receive(connection, container, exec_, client, ended) if exec_.config.stdin else None,
            until=(),
        )
    finally:
        await client.leave()


class _Client:
    """Where the output of an exec goes: to the client while it is connected, and nowhere after that."""

    def __init__(self, connection: ServerConnection, selection: Selection) -> None:
        self._connection = connection
        self._selection = selection
        self._sending = asyncio.Lock()
        self._connected = True
        self._failure: asyncio.Future[ClientGone] = asyncio.get_running_loop().create_future()

    async def sink(self, stream: int, data: bytes) -> None:
        """Take output of the process."""
        if self._selection.wants(stream):
            await self.write(stream, data)

    async def write(self, stream: int, data: bytes) -> None:
        """Write a text of the engine's, whichever streams the client wants."""
        await self._send(self._selection.event(stream, data))

    async def _send(self, event: Output) -> None:
        async with self._sending:
            if self._connected:
                try:
                    await self._connection.send(event)
                except ClientGone as exc:
                    self._connected = False
                    wake(self._failure, exc)

    async def until_ended(self, running: asyncio.Task[None], ended: asyncio.Future[Any]) -> None:
        """Wait until the output of the process was sent, or until ``ended`` is resolved: then no more is sent.

        Raises:
            ClientGone: output could not be sent. The process goes on.
        """
        await asyncio.wait({running, ended, self._failure}, return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            self._connected = False
        if self._failure.done():
            raise self._failure.result()

    async def leave(self) -> None:
        """Send no more output, and wait until nothing uses the connection."""
        self._connected = False
        if self._sending.locked():
            with contextlib.suppress(OSError):
                self._connection.sock.shutdown(socket.SHUT_RDWR)
        async with self._sending:
            pass


async def _receive(
    connection: ServerConnection, container: Container, exec_: Exec, client: _Client, ended: asyncio.Future[Any]
) -> None:
    """Carry stdin to the process; its end ends stdin, or on a TTY the stream."""
    process = exec_.process
    assert process is not None  # start_exec() has set it, and nothing has been awaited since
    keys = detach_filter(exec_.config.detach_keys, tty=exec_.config.tty)
    while isinstance(event := await connection.next_event(), Stdin):
        data, detached = keys.feed(event.data) if keys else (event.data, False)
        if not await write_stdin(process, data):
            return
        if detached:
            if container.rules.detach_ends_exec:
                exec_.detach()
                await client.write(STDOUT, _DETACHED)
            ended.set_result(None)
            return
    if exec_.config.tty:
        ended.set_result(None)
    else:
        process.close_stdin()
