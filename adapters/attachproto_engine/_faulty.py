"""Plays a script of faults on a socket."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import select
import socket
import struct
import termios
from typing import Final

from attachproto_engine._errors import EndedByFault
from attachproto_engine._hangups import Hangups
from attachproto_engine._script import Script
from attachproto_engine._server_connection import ServerConnection, SocketWriter
from attachproto_engine._timing import End, Pause

# The interval of polling the kernel: it reports no event when the peer has read, or when a second byte has come.
_POLL_SECONDS: Final = 0.002

# On TCP the kernel of the client acknowledges; this gives the client itself the time to read.
_TCP_SECONDS: Final = 0.02


class FaultyWriter(SocketWriter):
    """Writes what a script makes of what it is given. A script is about one answer, and ends the connection."""

    ends_connection = True

    def __init__(self, sock: socket.socket, script: Script) -> None:
        super().__init__(sock)
        self._script = script
        self._idle: asyncio.TimerHandle | None = None
        self._hangups: select.epoll | None = None
        if script.no_half_close:
            self._watch_for_half_close()

    async def write(self, *pieces: bytes) -> None:
        """Write pieces, each the bytes of one event, or what comes in their place.

        Raises:
            EndedByFault: the script ends the connection here.
        """
        for piece in pieces:
            for action in self._script.feed(piece):
                await self._do(action)
        if self._script.idle_seconds is not None:
            self._stop_timer()
            self._idle = self.loop.call_later(self._script.idle_seconds, self._close_connection)

    async def finish(self) -> None:
        """Half-close, or what comes in its place."""
        self._stop_timer()
        for action in self._script.finish():
            await self._do(action)

    def close(self) -> None:
        """Release what belongs to the writer, but not the socket."""
        self._stop_timer()
        if self._hangups is not None:
            self.loop.remove_reader(self._hangups.fileno())
            self._hangups.close()
            self._hangups = None

    async def _do(self, action: bytes | Pause | End) -> None:
        match action:
            case bytes():
                await super().write(action)
            case Pause(seconds=None):
                await self._until_read()
            case Pause(seconds=float() | int() as seconds):
                await asyncio.sleep(seconds)
            case End.EOF:
                self._stop_timer()
                await super().finish()
            case End.CUT:
                self._close_connection()
                raise EndedByFault("cut")
            case End.RESET:
                await self._until_read()
                # On TCP the close is a reset then; on a Unix socket it is one because bytes were left unread.
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.resets = True
                raise EndedByFault("reset")
            case End.SILENCE:
                self.silent = True
            case _:
                raise AssertionError(action)

    async def _until_read(self) -> None:
        """Wait until the client has read what was written: a reset would discard it, and a next piece join it.

        A client that has closed the connection is not waited for. On TCP, TIOCOUTQ goes on counting the bytes that it
        has not acknowledged.
        """
        gone = select.poll()
        gone.register(self.sock.fileno(), 0)  # POLLHUP and POLLERR are reported without being asked for
        while _ioctl(self.sock, termios.TIOCOUTQ) and not gone.poll(0):
            await asyncio.sleep(_POLL_SECONDS)
        if self.sock.family != socket.AF_UNIX:
            await asyncio.sleep(_TCP_SECONDS)

    def _close_connection(self) -> None:
        """Close both directions; the engine then finds its client gone, and closes the socket."""
        with contextlib.suppress(OSError):  # the client was faster
            self.sock.shutdown(socket.SHUT_RDWR)

    def _stop_timer(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    def _watch_for_half_close(self) -> None:
        # The event loop reports end of file only while a task reads, and an attach without stdin has no such task.
        self._hangups = select.epoll()
        self._hangups.register(self.sock.fileno(), select.EPOLLRDHUP | select.EPOLLONESHOT)
        self.loop.add_reader(self._hangups.fileno(), self._half_closed)

    def _half_closed(self) -> None:
        assert self._hangups is not None
        if self._hangups.poll(0):
            self._close_connection()


class HoldingConnection(ServerConnection):
    """Leaves the last byte that the client has sent unread.

    On a Unix socket only a close with unread bytes makes the client see ECONNRESET. So bytes are read with MSG_PEEK,
    and the last one is taken only when another has come, or before a close that is no reset. The kernel reports no
    event for a second byte, so this polls; it is used only by engines with a ``Reset`` fault.
    """

    def __init__(self, sock: socket.socket, hangups: Hangups) -> None:
        super().__init__(sock, hangups)
        self._held = 0
        self._holds = True
        self._poll = select.poll()
        self._poll.register(sock.fileno(), getattr(select, "POLLRDHUP", 0))

    async def receive(self) -> bytes:
        """Read once, all but the last byte."""
        if not self._holds:
            return await super().receive()
        while True:
            try:
                ended = bool(self._poll.poll(0))
                if self._held and _ioctl(self.sock, termios.FIONREAD) <= self._held:
                    if ended:
                        return b""
                    await asyncio.sleep(_POLL_SECONDS)
                    continue
                if not self._held:
                    # Wait for the first byte with a readiness event, and leave it unread.
                    await self.readable()
                data = self.sock.recv(65536, socket.MSG_PEEK)
                if not data:
                    return b""
                self.sock.recv(len(data) - 1)
            except OSError:
                return b""
            fresh, self._held = data[self._held :], 1
            return fresh

    def release(self) -> None:
        """Take the last byte, and leave none unread any more: this connection will not be reset."""
        self._holds = False
        if self._held:
            self._held = 0
            with contextlib.suppress(OSError):
                self.sock.recv(1)

    def close(self) -> None:
        """Close it: a reset if the script says so, else an ordinary end for the client."""
        if not self.writer.resets:
            self.release()
        super().close()


def _ioctl(sock: socket.socket, request: int) -> int:
    return int.from_bytes(fcntl.ioctl(sock.fileno(), request, bytes(4)), "little")
