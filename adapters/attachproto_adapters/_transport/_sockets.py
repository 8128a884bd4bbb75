"""Plain sockets in every framework: connecting, half-close, options."""

from __future__ import annotations

import errno
import math
import select
import socket
import sys
from collections.abc import Iterator
from typing import Any, Final

READ_SIZE: Final = 256 * 1024
"""How much is read at once. A Unix socket on Linux holds some 220 KiB by default, and its writer is woken when three
quarters of that are read. So one read empties it, and the engine writes on while the output is decoded. With reads of
128 KiB it would wait for every second one."""

# glibc takes a block of more than 128 KiB from the kernel with mmap(), and gives the end of its heap back as soon as
# 128 KiB of it are free. With either, the kernel clears new pages for each read. Freeing one large block, whose pages
# nobody has touched, raises both limits: to its size, and to twice its size (mallopt(3), M_MMAP_THRESHOLD).
bytes(4 * READ_SIZE)

_BLOCKED: Final = (BlockingIOError, InterruptedError)

_HAS_POLL: Final = hasattr(select, "poll")  # Windows has none

# What poll() takes at once: 24 days in milliseconds.
_POLL_MAX = 2**31 - 1

# A socket takes no more. The kernel gives up a connect after two minutes.
_CONNECT_SECONDS_MAX: Final = 1e6

# The same as Go's clients. The kernel's default is two hours; firewalls drop an idle connection sooner.
_KEEPALIVE_SECONDS = 30

# An engine accepts a connection in about 0.1 ms.
_CONNECT_RETRY_SECONDS = 0.005


def is_tls_socket(sock: socket.socket) -> bool:
    """Whether it is an ``ssl.SSLSocket``. Only a caller's own socket can be one.

    ``ssl`` is not imported for this, because that takes a tenth of the time of all our imports. A caller that has such
    a socket has imported it.
    """
    ssl = sys.modules.get("ssl")
    return ssl is not None and isinstance(sock, ssl.SSLSocket)


def is_unix(family: int | None) -> bool:
    """Whether a socket of this family is a Unix socket. Windows' Python has no ``AF_UNIX``."""
    return family is not None and family == getattr(socket, "AF_UNIX", None)


def blocked_errors(sock: socket.socket) -> tuple[type[OSError], ...]:
    """What a call on this socket, which does not block, raises where it would have to wait."""
    if not is_tls_socket(sock):
        return _BLOCKED
    import ssl

    return (*_BLOCKED, ssl.SSLWantReadError, ssl.SSLWantWriteError)


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


def connect_tcp(sock: socket.socket, address: Any, timeout: float | None) -> None:
    """Connect, and wait for it.

    Raises:
        OSError: it was refused, or not made within the timeout, in seconds.
    """
    sock.settimeout(None if timeout is None else min(timeout, _CONNECT_SECONDS_MAX))
    sock.connect(address)


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


def wait_until_ready(number: int, timeout: float | None, *, read: bool, write: bool) -> tuple[bool, bool]:
    """Wait until a descriptor is readable or writable, or the timeout has passed; returns which of the two it is."""
    if not _HAS_POLL:
        readable, writable, _ = select.select([number] if read else [], [number] if write else [], [], timeout)
        return bool(readable), bool(writable)
    poller = select.poll()
    wanted = select.POLLIN if not write else select.POLLIN | select.POLLOUT if read else select.POLLOUT
    poller.register(number, wanted)
    if timeout is None:
        found = poller.poll()
    else:
        left = math.ceil(timeout * 1000)
        while not (found := poller.poll(min(left, _POLL_MAX))) and left > _POLL_MAX:
            left -= _POLL_MAX
    if read and not write:
        return bool(found), False
    events = found[0][1] if found else 0
    # The read or write that follows reports an error or a hang-up.
    other = bool(events & ~(select.POLLIN | select.POLLOUT))
    return read and (bool(events & select.POLLIN) or other), write and (bool(events & select.POLLOUT) or other)


def prepare_tcp(sock: socket.socket) -> None:
    """Turn Nagle's algorithm off and keepalive on."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option in ("TCP_KEEPIDLE", "TCP_KEEPINTVL"):
        if hasattr(socket, option):  # not every system has both
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), _KEEPALIVE_SECONDS)


def join_with_half_close(sock: socket.socket) -> None:
    """Hold back what is sent from here on, until the half-close: both leave in one segment.

    If the half-close left later, an intermediary might have passed the answer on before it came.
    """
    for option in ("TCP_CORK", "TCP_NOPUSH"):  # Linux; BSD and macOS
        if hasattr(socket, option):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), 1)
