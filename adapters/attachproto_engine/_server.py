"""Listens, and gives each connection a task of its own.

Strategy: everything that is opened belongs to somebody who closes it: a connection's task its wire, the server the
tasks, the containers' table the processes. So leaving ``run`` leaves nothing behind, however it is left.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

from attachproto_engine._api import Api
from attachproto_engine._containers import Containers
from attachproto_engine._faults import FaultBook
from attachproto_engine._faulty import FaultyWriter, HoldingWire
from attachproto_engine._rules import Rules
from attachproto_engine._script import Script
from attachproto_engine._server_connection import Hangups, ServerConnection, is_loopback

# The system takes its own limit (somaxconn) where that is less, as for dockerd. A client that finds the queue full is
# refused at once where its socket does not block.
_BACKLOG: Final = 65535

# So many that wait are taken before anybody else's turn: one by one, a crowd would fill the queue.
_TAKEN_AT_ONCE: Final = 64

# How long a client may take to close after its answer. It is not waited for when it has nothing to read.
_CLOSE_SECONDS: Final = 5.0

# When there are no descriptors left, some will be given back.
_RETRY_SECONDS: Final = 0.05


class Server:
    """An engine inside a running event loop."""

    def __init__(self, rules: Rules, api_version: str, faults: FaultBook) -> None:
        self._faults = faults
        self._containers = Containers(rules)
        self._api = Api(self._containers, api_version, self._prepare)
        self._connections: dict[asyncio.Task[None], ServerConnection] = {}
        self._loop: asyncio.AbstractEventLoop
        self._hangups: Hangups
        self._stopping = False
        self._retry: asyncio.TimerHandle | None = None

    async def run(self, listener: socket.socket, stop: asyncio.Event) -> None:
        """Serve until told to stop; then end everything."""
        self._loop = asyncio.get_running_loop()
        self._hangups = Hangups()
        listener.setblocking(False)
        self._listen(listener)
        try:
            await stop.wait()
        finally:
            self._stopping = True
            self._loop.remove_reader(listener.fileno())
            for task in self._connections:
                task.cancel()
            wires = list(self._connections.values())
            await asyncio.gather(*self._connections, return_exceptions=True)
            for wire in wires:
                wire.close()
            await self._containers.close()
            self._hangups.close()

    def _listen(self, listener: socket.socket) -> None:
        if not self._stopping:
            self._loop.add_reader(listener.fileno(), self._accept, listener)

    def _accept(self, listener: socket.socket) -> None:
        """Take those that wait. It is no coroutine, so that none can be lost between the kernel and its owner."""
        for _ in range(_TAKEN_AT_ONCE):
            try:
                sock, _ = listener.accept()
            except BlockingIOError:
                return
            except OSError:
                # Most likely there are no descriptors left.
                self._loop.remove_reader(listener.fileno())
                self._loop.call_later(_RETRY_SECONDS, self._listen, listener)
                return
            self._take(sock)

    def _take(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        holds = self._faults.resets and sock.family == socket.AF_UNIX
        wire = HoldingWire(sock, self._hangups) if holds else ServerConnection(sock, self._hangups)
        task = self._loop.create_task(self._serve(wire))
        self._connections[task] = wire

        def done(task: asyncio.Task[None]) -> None:
            # Not in the task: one that is cancelled before its first step runs no line of it.
            wire.close()
            del self._connections[task]

        task.add_done_callback(done)

    async def _serve(self, wire: ServerConnection) -> None:
        # A client that has gone is told nothing.
        with contextlib.suppress(OSError):
            await self._api.answer(wire)
            async with asyncio.timeout(_CLOSE_SECONDS):
                await wire.ended()

    def _prepare(self, wire: ServerConnection, container: str, call: str) -> bytes | None:
        faults = self._faults.next(container, call)
        if not faults:
            return None
        script = Script(faults)
        wire.writer = FaultyWriter(wire.sock, script)
        return script.proxy_answer()


@contextlib.contextmanager
def listening(host: str) -> Iterator[tuple[socket.socket, str]]:
    """A listening socket, and the address that clients use for it.

    Raises:
        ValueError: the address is none, or is no loopback address.
        OSError: somebody else listens there.
    """
    parts = urlsplit(host)
    if parts.scheme == "unix" and parts.path and not parts.netloc:
        with _listening_on_path(parts.path) as sock:
            yield sock, host
    elif parts.scheme == "tcp" and parts.hostname and parts.port is not None and parts.path in ("", "/"):
        if not is_loopback(parts.hostname):
            raise ValueError(
                f"the engine runs what it is told to, so it listens only where this machine can reach it: "
                f"{parts.hostname!r} is no loopback address"
            )
        family = socket.AF_INET6 if ":" in parts.hostname else socket.AF_INET
        with socket.create_server((parts.hostname, parts.port), family=family, backlog=_BACKLOG) as sock:
            name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
            yield sock, f"tcp://{name}:{sock.getsockname()[1]}"
    else:
        raise ValueError(f"the engine listens on unix:///PATH or tcp://127.0.0.1:PORT, not on {host!r}")


@contextlib.contextmanager
def _listening_on_path(path: str) -> Iterator[socket.socket]:
    _remove_stale(path)
    with socket.socket(socket.AF_UNIX) as sock:
        # On Linux the path is made with these rights; elsewhere they are set a moment later.
        os.fchmod(sock.fileno(), 0o600)
        sock.bind(path)
        made = os.stat(path)
        try:
            os.chmod(path, 0o600)
            sock.listen(_BACKLOG)
            yield sock
        finally:
            with contextlib.suppress(FileNotFoundError):
                if os.stat(path).st_ino == made.st_ino:
                    os.unlink(path)


def _remove_stale(path: str) -> None:
    """Remove a socket that nobody listens on."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(ConnectionRefusedError):
        probe.connect(path)
        return
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
