"""Finds out which clients have closed their sockets."""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket

from attachproto_engine._waiters import wake


class Hangups:
    """Finds out that a client has closed its socket. An end of file does not say so: it may be a half-close.

    epoll reports EPOLLHUP also for a descriptor that is registered without any events. On a Unix socket it comes when
    the client has closed or died, on TCP when it has reset the connection. After a plain close on TCP, and on systems
    without epoll, the next write fails, as on dockerd.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._watched: dict[int, asyncio.Future[None]] = {}
        self._epoll = select.epoll() if hasattr(select, "epoll") else None
        if self._epoll is not None:
            self._loop.add_reader(self._epoll.fileno(), self._look)

    def watch(self, sock: socket.socket) -> asyncio.Future[None]:
        """Resolved when the client has closed the connection."""
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
        """Close the epoll descriptor."""
        if self._epoll is not None:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()

    def _look(self) -> None:
        assert self._epoll is not None
        for number, _ in self._epoll.poll(0):
            # EPOLLHUP cannot be masked and would be reported for ever.
            self._unregister(number)
            wake(self._watched[number], None)

    def _unregister(self, number: int) -> None:
        if self._epoll is not None:
            with contextlib.suppress(FileNotFoundError):
                self._epoll.unregister(number)
