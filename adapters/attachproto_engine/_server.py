"""The listening socket, and a task for each connection.

Strategy: everything that is opened has an owner that closes it. A task owns its connection, the server owns the tasks,
and the containers own their processes. So nothing is left when ``run`` returns or raises.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import stat
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

from attachproto_engine._api import Api
from attachproto_engine._containers import Containers
from attachproto_engine._errors import ClientGone
from attachproto_engine._fault_book import FaultBook
from attachproto_engine._faults import Reset
from attachproto_engine._faulty import FaultyWriter, HoldingConnection
from attachproto_engine._forks import close_in_forked_child
from attachproto_engine._guard import Guard
from attachproto_engine._hangups import Hangups
from attachproto_engine._images import Images
from attachproto_engine._rules import Rules
from attachproto_engine._script import Script
from attachproto_engine._server_connection import ServerConnection, is_loopback

# The kernel lowers this to its own limit (somaxconn), as for dockerd. If the queue is full, connect() on a non-blocking
# Unix socket fails with EAGAIN.
_BACKLOG: Final = 65535

# Accepted in one turn of the event loop; with one each turn a crowd of clients would fill the queue.
_ACCEPTED_AT_ONCE: Final = 64

# How long a client may take to close the connection after its answer.
_CLOSE_SECONDS: Final = 5.0

# The calls that are the last ones of their connection.
_STREAMS: Final = ("attach", "exec", "logs")

_NO_DESCRIPTORS: Final = (
    b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"
    b'{"message":"the embedded engine failed: too many open files"}\n'
)

# After EMFILE, accept() is tried again when other connections may have been closed.
_RETRY_SECONDS: Final = 0.05


class Server:
    """An engine inside a running event loop."""

    def __init__(self, rules: Rules, api_version: str, faults: FaultBook, images: Images, guard: Guard) -> None:
        self._faults = faults
        self._containers = Containers(rules, images, guard)
        self._api = Api(self._containers, api_version, self._prepare)
        self._connections: dict[asyncio.Task[None], ServerConnection] = {}
        self._loop: asyncio.AbstractEventLoop
        self._hangups: Hangups
        self._stopping = False
        # Given back for a moment when no descriptor is left.
        self._reserve = open(os.devnull, "rb", buffering=0)  # noqa: SIM115

    async def run(self, listener: socket.socket, stop: asyncio.Event) -> None:
        """Serve until ``stop`` is set; then close every connection and end every process."""
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
            connections = list(self._connections.values())
            await asyncio.gather(*self._connections, return_exceptions=True)
            for connection in connections:
                connection.close()
            await self._containers.close()
            self._hangups.close()
            self._reserve.close()

    def _listen(self, listener: socket.socket) -> None:
        if not self._stopping:
            self._loop.add_reader(listener.fileno(), self._accept, listener)

    def _accept(self, listener: socket.socket) -> None:
        """Accept waiting connections. No ``await`` stands between accept() and the task that owns the connection."""
        for _ in range(_ACCEPTED_AT_ONCE):
            try:
                sock, _ = listener.accept()
            except BlockingIOError:
                return
            except OSError as exc:
                if exc.errno in (errno.EMFILE, errno.ENFILE):
                    self._refuse_one(listener)
                self._loop.remove_reader(listener.fileno())
                self._loop.call_later(_RETRY_SECONDS, self._listen, listener)
                return
            self._take(sock)

    def _refuse_one(self, listener: socket.socket) -> None:
        """Answer one waiting client that there is no descriptor for it. Without an answer it would wait for ever."""
        self._reserve.close()
        try:
            with contextlib.suppress(OSError):
                sock, _ = listener.accept()
                with sock:
                    sock.setblocking(False)
                    sock.send(_NO_DESCRIPTORS)
                    sock.shutdown(socket.SHUT_WR)
                    # A close with unread bytes would be a reset.
                    sock.recv(65536)
        finally:
            with contextlib.suppress(OSError):  # another thread was faster; then this works once less
                self._reserve = open(os.devnull, "rb", buffering=0)  # noqa: SIM115

    def _take(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        holds = self._faults.resets and sock.family == socket.AF_UNIX
        connection = HoldingConnection(sock, self._hangups) if holds else ServerConnection(sock, self._hangups)
        task = self._loop.create_task(self._serve(connection))
        self._connections[task] = connection

        def done(task: asyncio.Task[None]) -> None:
            # Not in the task itself: a task that is cancelled before its first step runs none of its code.
            connection.close()
            del self._connections[task]

        task.add_done_callback(done)

    async def _serve(self, connection: ServerConnection) -> None:
        with contextlib.suppress(ClientGone, TimeoutError):
            await self._api.answer(connection)
            while connection.next_exchange():
                # A client that sends requests without pause must not starve the others.
                await asyncio.sleep(0)
                await self._api.answer(connection)
            async with asyncio.timeout(None if connection.writer.silent else _CLOSE_SECONDS):
                await connection.ended()

    def _prepare(self, connection: ServerConnection, container: str, call: str) -> bytes | None:
        faults = self._faults.next(container, call)
        # A plain call may be followed by one that is reset.
        if (
            isinstance(connection, HoldingConnection)
            and call in _STREAMS
            and not any(isinstance(fault, Reset) for fault in faults)
        ):
            connection.release()
        if not faults:
            return None
        script = Script(faults)
        connection.writer = FaultyWriter(connection.sock, script)
        return script.proxy_answer()


@contextlib.contextmanager
def listening(host: str, guard: Guard) -> Iterator[tuple[socket.socket, str]]:
    """A listening socket, and the address that clients use for it. The guard removes its path if the engine is killed.

    Raises:
        ValueError: the address is invalid, or not one of loopback.
        OSError: another process listens there.
    """
    parts = urlsplit(host)
    if host.startswith("unix:///"):
        # Not the path of the URL: "#" and "?" may stand in a file's name.
        path = host.removeprefix("unix://")
        with _listening_on_path(path) as sock:
            guard.path(path)
            yield sock, host
    elif parts.scheme == "tcp" and parts.hostname and parts.port is not None and parts.path in ("", "/"):
        if not is_loopback(parts.hostname):
            raise ValueError(
                f"the engine runs every command that a client sends, so it listens on loopback only: "
                f"{parts.hostname!r} is no loopback address"
            )
        family = socket.AF_INET6 if ":" in parts.hostname else socket.AF_INET
        with socket.create_server((parts.hostname, parts.port), family=family, backlog=_BACKLOG) as sock:
            close_in_forked_child(sock, socket.socket.close)
            name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
            yield sock, f"tcp://{name}:{sock.getsockname()[1]}"
    else:
        raise ValueError(f"the engine listens on unix:///PATH or tcp://127.0.0.1:PORT, not on {host!r}")


@contextlib.contextmanager
def _listening_on_path(path: str) -> Iterator[socket.socket]:
    _remove_stale(path)
    with socket.socket(socket.AF_UNIX) as sock:
        close_in_forked_child(sock, socket.socket.close)
        # Linux gives the path the mode of the socket's descriptor; elsewhere chmod() follows a moment later.
        os.fchmod(sock.fileno(), 0o600)
        try:
            sock.bind(path)
        except OSError as exc:
            if exc.errno is not None:
                exc.filename = path  # Python leaves it out here
            raise
        made = os.lstat(path)
        try:
            if stat.S_ISSOCK(made.st_mode) and stat.S_IMODE(made.st_mode) != 0o600:
                os.chmod(path, 0o600)
            sock.listen(_BACKLOG)
            yield sock
        finally:
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.lstat(path), made):
                    os.unlink(path)


def _remove_stale(path: str) -> None:
    """Remove the path of a Unix socket on which connect() is refused. A link is left alone, and bind() then fails."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(ConnectionRefusedError):
        # Without waiting: EAGAIN says that somebody listens there, with a full queue.
        probe.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            probe.connect(path)
        return
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
