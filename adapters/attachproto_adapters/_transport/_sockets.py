"""Plain sockets in every framework: connecting, half-close, options."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from typing import Final, Protocol

READ_SIZE: Final = 64 * 1024
"""How many bytes one read asks for. The decoder joins at most this much into one event; a Unix socket on Linux holds
about 200 KiB by default."""

# The same as Go's clients. The kernel's default is two hours; firewalls drop an idle connection sooner.
_KEEPALIVE_SECONDS = 30

# An engine accepts a connection in about 0.1 ms.
_CONNECT_RETRY_SECONDS = 0.005


def connect_unix(sock: socket.socket, path: str) -> Iterator[float]:
    """Connect a Unix socket without blocking. Each value is how many seconds to sleep before the next try.

    If the listener's backlog is full, a non-blocking ``connect()`` fails with ``EAGAIN``, and no readiness event
    follows, so it is tried again on a timer. asyncio and trio take ``EAGAIN`` for a connection in progress, and report
    it as made; so neither connects Unix sockets here.
    """
    sock.setblocking(False)
    while True:
        try:
            return sock.connect(path)
        except BlockingIOError:
            yield _CONNECT_RETRY_SECONDS


def half_close(sock: socket.socket) -> None:
    """Half-close: send EOF and keep reading.

    Raises:
        BrokenPipeError: the peer has closed the connection already.
    """
    try:
        sock.shutdown(socket.SHUT_WR)
    except OSError as exc:
        if exc.errno == errno.ENOTCONN:
            raise BrokenPipeError(errno.EPIPE, "the engine has closed the connection") from None
        raise


class HasOptions(Protocol):
    """A socket of the standard library or of trio."""

    def setsockopt(self, level: int, optname: int, value: int, /) -> None:
        """As ``socket.socket.setsockopt``."""


def prepare_tcp(sock: HasOptions) -> None:
    """Turn Nagle's algorithm off and keepalive on."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option in ("TCP_KEEPIDLE", "TCP_KEEPINTVL"):
        if hasattr(socket, option):  # not every system has both
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), _KEEPALIVE_SECONDS)
