"""Plain sockets in every framework: connecting, half-close, options."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from typing import Final, Protocol

READ_SIZE: Final = 64 * 1024
"""How much is read at once: what a Unix socket on Linux holds by default is some 200 KiB, and the decoder joins as
much as this into one event."""

# Go's clients ask for the same: a firewall forgets an idle attach sooner than the default of two hours.
_KEEPALIVE_SECONDS = 30

# An engine takes a connection in some 0.1 ms.
_CONNECT_RETRY_SECONDS = 0.005


def connect_unix(sock: socket.socket, path: str) -> Iterator[float]:
    """Connect a Unix socket without blocking; each value is how long to sleep before it is tried again.

    Where too many wait to be taken, the kernel refuses who does not block, and no event tells of room. asyncio and trio
    take that for a connection that is on its way, and find it made.
    """
    sock.setblocking(False)
    while True:
        try:
            return sock.connect(path)
        except BlockingIOError:
            yield _CONNECT_RETRY_SECONDS


def half_close(sock: socket.socket) -> None:
    """End our direction.

    Raises:
        BrokenPipeError: the other end has closed the connection already.
    """
    try:
        sock.shutdown(socket.SHUT_WR)
    except OSError as exc:
        if exc.errno == errno.ENOTCONN:
            raise BrokenPipeError(errno.EPIPE, "the engine has closed the connection") from None
        raise


class HasOptions(Protocol):
    """A socket, of whatever framework."""

    def setsockopt(self, level: int, optname: int, value: int, /) -> None:
        """As ``socket.socket.setsockopt``."""


def prepare_tcp(sock: HasOptions) -> None:
    """Nagle off, keepalive on."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option in ("TCP_KEEPIDLE", "TCP_KEEPINTVL"):
        if hasattr(socket, option):  # not every system has both
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), _KEEPALIVE_SECONDS)
