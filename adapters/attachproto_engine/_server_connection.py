"""One connection to a client: bytes and signals between a socket and ``Connection(SERVER)``.

Strategy: the socket is used directly, without a buffer. ``send`` returns when the kernel has taken all bytes, so a slow
client slows the sender down, and nothing is read before it is asked for.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from typing import Final

import attrs

from attachproto import (
    NEED_DATA,
    SEND_EOF,
    SERVER,
    Connection,
    Continue,
    Event,
    Response,
    ResponseHead,
    Signal,
    State,
)
from attachproto_engine._errors import ClientGone
from attachproto_engine._forks import close_in_forked_child
from attachproto_engine._hangups import Hangups
from attachproto_engine._waiters import wake

_READ: Final = 64 * 1024

# The largest head that Go's servers accept.
_MAX_HEAD: Final = 1024 * 1024


def is_loopback(name: str) -> bool:
    """Whether a host name always means this machine, without asking a name server."""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(name).is_loopback
    return False


class SocketWriter:
    """Writes to a socket.

    Attributes:
        ends_connection: whether a plain answer is the last one, where the client would use the connection again.
        resets: a fault makes the close a reset.
        silent: a fault has replaced the answer by silence, so the connection stays open until the client closes it.
    """

    ends_connection = False
    resets = False
    silent = False

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
    """A connection to a client. Plain calls may follow one another; a stream or a fault ends it."""

    def __init__(self, sock: socket.socket, hangups: Hangups) -> None:
        self.sock = close_in_forked_child(sock, socket.socket.close)
        self.connection = Connection(SERVER, max_head=_MAX_HEAD, keep_alive=True)
        self._following: Connection | None = None
        self.writer = SocketWriter(sock)
        self._loop = asyncio.get_running_loop()
        self._hangups = hangups
        self._continued = False
        self._closed = False

    @property
    def local(self) -> bool:
        """Whether it is a Unix socket, which only clients with the right to open its path can reach."""
        return self.sock.family == socket.AF_UNIX

    @property
    def untouched(self) -> bool:
        """Whether no byte of the answer was sent."""
        return self.connection.our_state in (State.MUST_RESPOND, State.MUST_ANSWER)

    # ---- receiving ----

    async def next_event(self) -> Event:
        """The client's next event.

        Raises:
            RemoteProtocolError: the client broke the rules of the protocol.
            ClientGone: the client waits for ``Continue``, and has closed the connection.
        """
        read = False
        while (event := self.connection.next_event()) is NEED_DATA:
            if read:
                # A client that sends faster than its bytes are parsed must not starve the others: while there is
                # something to read, receive() does not wait.
                await asyncio.sleep(0)
            if self.connection.our_state is State.MAY_CONTINUE and not self._continued:
                self._continued = True
                await self.send(Continue())
            self.connection.receive_data(await self.receive())
            read = True
        return event

    async def receive(self) -> bytes:
        """Read once; ``b""`` at end of file and after a reset. A cancellation loses no bytes."""
        while True:
            try:
                return self.sock.recv(_READ)
            except BlockingIOError:
                await self.readable()
            except OSError:
                return b""

    async def readable(self) -> None:
        """Wait until there is something to read, or the end of file."""
        ready: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_reader(self.sock.fileno(), wake, ready, None)
        try:
            await ready
        finally:
            self._loop.remove_reader(self.sock.fileno())

    def drop_early_stdin(self) -> None:
        """Drop stdin that came in one segment with the request, as dockerd does."""
        while self.connection.their_state is State.STREAMING and self.connection.next_event() is not NEED_DATA:
            pass

    async def ended(self) -> None:
        """Read and drop everything up to the client's end of file."""
        while await self.receive():
            pass

    async def left(self) -> None:
        """Wait until the client has ended its direction. What it sends before that belongs to its next request."""
        data = await self.receive()
        self.connection.receive_data(data)
        if data:
            # As Go's server, which dockerd is: nothing more is read before the answer.
            await self.vanished()

    def vanished(self) -> asyncio.Future[None]:
        """Resolved when the client has closed the connection, in both directions."""
        return self._hangups.watch(self.sock)

    # ---- sending ----

    async def send(self, *events: Event) -> None:
        """Write events, all of them in one write.

        Raises:
            ClientGone: the client has closed or reset the connection, or a fault ends it.
        """
        data: list[bytes] = []
        finish = False
        for event in events:
            if self.writer.ends_connection and isinstance(event, Response | ResponseHead):
                event = attrs.evolve(event, headers=(*event.headers, ("connection", "close")))
            written = self.connection.send(event)
            if isinstance(written, Signal):
                assert written is SEND_EOF
                finish = True
            else:
                data.append(written)
        if data:
            await self.write(*data)
        if self.connection.our_state is State.DONE:
            self._following = self.connection.next_exchange()
            finish = self._following is None
        if finish:
            await self.finish()

    async def write(self, *pieces: bytes) -> None:
        """Write bytes. Raises as ``send`` does."""
        try:
            await self.writer.write(*pieces)
        except OSError as exc:
            self.connection.send_failed()
            raise ClientGone(str(exc)) from exc
        except BaseException:
            self.connection.send_failed()
            raise

    async def finish(self) -> None:
        """Half-close. Raises as ``send`` does."""
        try:
            await self.writer.finish()
        except OSError as exc:
            raise ClientGone(str(exc)) from exc

    def next_exchange(self) -> bool:
        """Go on to the client's next request; ``False`` where the connection carries no more."""
        if self._following is None:
            return False
        self.connection, self._following, self._continued = self._following, None, False
        return True

    def close(self) -> None:
        """Close it. No task may be reading or writing any more."""
        if not self._closed:
            self._closed = True
            self.writer.close()
            self._hangups.forget(self.sock)
            self.sock.close()
