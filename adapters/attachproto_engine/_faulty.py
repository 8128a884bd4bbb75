"""Plays a script of faults on a socket."""

from __future__ import annotations

import asyncio
import fcntl
import select
import socket
import struct
import termios
from typing import Final

from attachproto_engine._faults import End, Pause, Script
from attachproto_engine._server_connection import Hangups, ServerConnection, SocketWriter

# How often it is looked whether a client has read, or written, and how long a client may take to read.
_LOOK_SECONDS: Final = 0.002
_READ_SECONDS: Final = 1.0

# On TCP what has left is acknowledged by the client's kernel; this is for the client.
_TCP_SECONDS: Final = 0.02


class FaultyWriter(SocketWriter):
    """Writes what a script makes of what it is given."""

    def __init__(self, sock: socket.socket, script: Script) -> None:
        super().__init__(sock)
        self._script = script

    async def write(self, data: bytes) -> None:
        """Write it, or what comes in its place.

        Raises:
            ConnectionAbortedError: the script ends the connection here.
        """
        for action in self._script.feed(data):
            await self._do(action)

    async def finish(self) -> None:
        """Half-close, or what comes in its place."""
        for action in self._script.finish():
            await self._do(action)

    async def _do(self, action: bytes | Pause | End) -> None:
        match action:
            case bytes():
                await super().write(action)
            case Pause(seconds=None):
                await self._read_by_client()
            case Pause(seconds=float() | int() as seconds):
                await asyncio.sleep(seconds)
            case End.EOF:
                await super().finish()
            case End.CUT:
                self.sock.shutdown(socket.SHUT_RDWR)
                raise ConnectionAbortedError("cut, as scripted")
            case End.RESET:
                await self._read_by_client()
                # On TCP the close is a reset then; on a Unix socket it is one because bytes were left unread.
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                raise ConnectionAbortedError("reset, as scripted")
            case _:
                pass

    async def _read_by_client(self) -> None:
        """Wait until the client has what was written; a reset would take it away, and a next piece join it."""
        try:
            async with asyncio.timeout(_READ_SECONDS):
                while _ioctl(self.sock, termios.TIOCOUTQ):
                    await asyncio.sleep(_LOOK_SECONDS)
        except TimeoutError:
            return
        if self.sock.family != socket.AF_UNIX:
            await asyncio.sleep(_TCP_SECONDS)


class HoldingWire(ServerConnection):
    """Leaves the last byte that the client has sent unread.

    On a Unix socket nothing but a close with unread bytes resets the connection. So what is read is only looked at,
    and the last byte taken when another one is there. It is for engines with a scripted reset only, since the kernel
    cannot say when there is more than one byte: that is looked for again and again.
    """

    def __init__(self, sock: socket.socket, hangups: Hangups) -> None:
        super().__init__(sock, hangups)
        self._held = 0
        self._poll = select.poll()
        self._poll.register(sock.fileno(), getattr(select, "POLLRDHUP", 0))

    async def receive(self) -> bytes:
        """Read once, all but the last byte."""
        while True:
            try:
                ended = bool(self._poll.poll(0))
                if self._held and _ioctl(self.sock, termios.FIONREAD) <= self._held:
                    if ended:
                        return b""
                    await asyncio.sleep(_LOOK_SECONDS)
                    continue
                if not self._held:
                    # It waits for the first byte as any other, and leaves it there.
                    await self._readable()
                data = self.sock.recv(65536, socket.MSG_PEEK)
                if not data:
                    return b""
                self.sock.recv(len(data) - 1)
            except OSError:
                return b""
            fresh, self._held = data[self._held :], 1
            return fresh

    async def _readable(self) -> None:
        ready = asyncio.Event()
        self._loop.add_reader(self.sock.fileno(), ready.set)
        try:
            await ready.wait()
        finally:
            self._loop.remove_reader(self.sock.fileno())


def _ioctl(sock: socket.socket, request: int) -> int:
    return int.from_bytes(fcntl.ioctl(sock.fileno(), request, bytes(4)), "little")
