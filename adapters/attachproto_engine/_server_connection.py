"""One connection to a client: bytes and signals between a socket and ``Connection(SERVER)``, and nothing more.

Strategy: the socket is used directly. What is written has left for the kernel when ``send`` returns, so that
back-pressure needs no code, and nothing is read before somebody wants it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import select
import socket
from typing import Final

from attachproto import NEED_DATA, SEND_EOF, SERVER, Connection, Continue, Event, Signal, State

_READ: Final = 64 * 1024

# What Go's servers take for a head.
_MAX_HEAD: Final = 1024 * 1024


def is_loopback(name: str) -> bool:
    """Whether this names the machine itself, and cannot be made to name another."""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(name).is_loopback
    return False


class Hangups:
    """Tells when a client has closed its end altogether, which a reader of end-of-file cannot: it may half-close.

    A descriptor that epoll watches for nothing is still reported when both directions are down: on a Unix socket
    when the client has closed or died, on TCP when it has reset. (Elsewhere than on Linux, and after a plain close on
    TCP, the engine learns of it when it next writes, as dockerd does.)
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._watched: dict[int, asyncio.Future[None]] = {}
        self._epoll = select.epoll() if hasattr(select, "epoll") else None
        if self._epoll is not None:
            self._loop.add_reader(self._epoll.fileno(), self._look)

    def watch(self, sock: socket.socket) -> asyncio.Future[None]:
        """Resolved when the client has gone."""
        found = self._watched.get(sock.fileno())
        if found is None:
            found = self._watched[sock.fileno()] = self._loop.create_future()
            if self._epoll is not None:
                self._epoll.register(sock.fileno(), 0)
        return found

    def forget(self, sock: socket.socket) -> None:
        """Call it before the socket is closed."""
        if self._watched.pop(sock.fileno(), None) is not None:
            self._unregister(sock.fileno())

    def close(self) -> None:
        """Give everything back."""
        if self._epoll is not None:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()

    def _look(self) -> None:
        assert self._epoll is not None
        for number, _ in self._epoll.poll(0):
            # It would be reported for ever.
            self._unregister(number)
            waiter = self._watched[number]
            if not waiter.done():
                waiter.set_result(None)

    def _unregister(self, number: int) -> None:
        if self._epoll is not None:
            with contextlib.suppress(FileNotFoundError):
                self._epoll.unregister(number)


class SocketWriter:
    """Writes to a socket."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.loop = asyncio.get_running_loop()

    async def write(self, *pieces: bytes) -> None:
        """Write all of the pieces."""
        await self.loop.sock_sendall(self.sock, b"".join(pieces))

    async def finish(self) -> None:
        """Half-close."""
        self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Release what belongs to the writer, but not the socket."""


class ServerConnection:
    """A connection to a client, on which one request is answered."""

    def __init__(self, sock: socket.socket, hangups: Hangups) -> None:
        self.sock = sock
        self.connection = Connection(SERVER, max_head=_MAX_HEAD)
        self.writer = SocketWriter(sock)
        self._loop = asyncio.get_running_loop()
        self._hangups = hangups
        self._continued = False
        self._closed = False

    @property
    def local(self) -> bool:
        """Whether only who may open the socket can be at the other end."""
        return self.sock.family == socket.AF_UNIX

    @property
    def untouched(self) -> bool:
        """Whether nothing was answered yet."""
        return self.connection.our_state in (State.MUST_RESPOND, State.MUST_ANSWER)

    # ---- receiving ----

    async def next_event(self) -> Event:
        """The client's next event.

        Raises:
            RemoteProtocolError: it broke the rules.
            OSError: it has gone.
        """
        while (event := self.connection.next_event()) is NEED_DATA:
            if self.connection.our_state is State.MAY_CONTINUE and not self._continued:
                self._continued = True
                await self.send(Continue())
            self.connection.receive_data(await self.receive())
        return event

    async def receive(self) -> bytes:
        """Read once. A reset is an end too."""
        try:
            return await self._loop.sock_recv(self.sock, _READ)
        except OSError:
            return b""

    def drop_early_stdin(self) -> None:
        """Forget what came glued to the request, as dockerd does."""
        while self.connection.their_state is State.STREAMING and self.connection.next_event() is not NEED_DATA:
            pass

    async def ended(self) -> None:
        """Read to the client's end, whatever comes."""
        while await self.receive():
            pass

    def vanished(self) -> asyncio.Future[None]:
        """Resolved when the client has closed its end altogether."""
        return self._hangups.watch(self.sock)

    # ---- sending ----

    async def send(self, *events: Event) -> None:
        """Write events; those that come together go out together.

        Raises:
            OSError: the client has gone.
        """
        data: list[bytes] = []
        finish = False
        for event in events:
            written = self.connection.send(event)
            if isinstance(written, Signal):
                assert written is SEND_EOF
                finish = True
            else:
                data.append(written)
        try:
            if data:
                await self.writer.write(*data)
        except BaseException:
            self.connection.send_failed()
            raise
        if finish or self.connection.our_state is State.DONE:
            # A plain answer and the last chunk end it too: nothing is answered on a connection but one request.
            await self.writer.finish()

    def close(self) -> None:
        """Close it. Nobody may be reading or writing any more."""
        if not self._closed:
            self._closed = True
            self.writer.close()
            self._hangups.forget(self.sock)
            self.sock.close()
