"""A byte-for-byte bridge to an engine's Unix socket, for a proxy that cannot reach it."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
from pathlib import Path
from typing import Any, ClassVar


def _copy(source: socket.socket, sink: socket.socket) -> None:
    """Copies until the end of file, which becomes a half-close. An error of one side ends both."""
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        for sock in (source, sink):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


class _Handler(socketserver.BaseRequestHandler):
    engine: ClassVar[str]
    sockets: ClassVar[list[socket.socket]]

    def handle(self) -> None:
        with socket.socket(socket.AF_UNIX) as engine:
            try:
                engine.connect(self.engine)
            except OSError:
                return  # the caller of handle() closes the client's side
            self.sockets.extend((self.request, engine))
            upwards = threading.Thread(target=_copy, args=(self.request, engine), daemon=True)
            upwards.start()
            _copy(engine, self.request)
            upwards.join()


class _Unix(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


class _Tcp(socketserver.ThreadingTCPServer):
    daemon_threads = True


class Bridge:
    """Squid has no Unix sockets for what it forwards to. Apache gives up root, and an engine's socket is root's.

    Attributes:
        path: a Unix socket that every user may open.
        port: the same on 127.0.0.1.
    """

    def __init__(self, engine: Path, path: Path) -> None:
        self._closed = False
        self._sockets: list[socket.socket] = []
        handler: Any = type("Handler", (_Handler,), {"engine": str(engine), "sockets": self._sockets})
        self._servers: list[socketserver.BaseServer] = [
            _Unix(str(path), handler),
            tcp := _Tcp(("127.0.0.1", 0), handler),
        ]
        self.path = path
        self.path.chmod(0o666)
        self.port: int = tcp.server_address[1]
        self._threads = [threading.Thread(target=server.serve_forever, args=(0.05,)) for server in self._servers]

    @property
    def connections(self) -> int:
        """How many clients have connected so far."""
        return len(self._sockets) // 2

    def __enter__(self) -> Bridge:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends all connections, and listens no more. A second call does nothing."""
        if self._closed:
            return
        self._closed = True
        for server, thread in zip(self._servers, self._threads, strict=True):
            server.shutdown()
            thread.join()
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for server in self._servers:
            server.server_close()
