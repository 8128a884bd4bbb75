"""The replay server: enough of the Engine API for every client, and output that was prepared before.

Strategy: a thread per connection, on ``Connection(SERVER)``. Once the head of a stream has left, the thread only calls
``sendall`` (or echoes), and the client decides how fast that goes. The clock runs from the first byte of output to the
client's close, so that no client's start is measured.
"""

from __future__ import annotations

import contextlib
import json
import queue
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from attachproto import (
    NEED_DATA,
    SERVER,
    Accepted,
    Connection,
    Event,
    Framing,
    RemoteProtocolError,
    Request,
    Stdout,
    StreamRequest,
    encode_frame,
)
from benchmarks.comparison.workloads import Workload

ID: Final = "1234567890abcdef" * 4

# dockerd reads a container's output in pieces of this size.
READ: Final = 32 * 1024

# docker-py drops what arrives together with the answer's head. A pause lets it take part; the clock starts after it.
PAUSE_SECONDS: Final = 0.05


class Replay:
    """A server for one workload at a time.

    Attributes:
        workload: what to do with the next stream.
        seconds: how long each stream took, in the order in which they ended.
    """

    def __init__(self, directory: Path, context: ssl.SSLContext | None = None) -> None:
        self.workload: Workload | None = None
        self.seconds: queue.Queue[float] = queue.Queue()
        self._directory = directory
        self._context = context
        self._started: set[str] = set()
        self._execs = 0
        self._listeners: dict[str, socket.socket] = {}

    def address(self, scheme: str) -> str:
        """The value of ``DOCKER_HOST`` for this server: ``unix``, ``tcp``, or ``tls``."""
        if scheme == "unix":
            return f"unix://{self._directory}/replay.sock"
        return f"tcp://localhost:{self._listeners[scheme].getsockname()[1]}"

    @contextlib.contextmanager
    def serving(self) -> Iterator[None]:
        """Listen on every scheme."""
        with contextlib.ExitStack() as stack:
            for scheme in ("unix", "tcp", "tls") if self._context is not None else ("unix", "tcp"):
                listener = stack.enter_context(socket.socket(socket.AF_UNIX if scheme == "unix" else socket.AF_INET))
                listener.bind(f"{self._directory}/replay.sock" if scheme == "unix" else ("127.0.0.1", 0))
                listener.listen(1024)
                self._listeners[scheme] = listener
                threading.Thread(target=self._accept, args=(scheme, listener), daemon=True).start()
            yield
            for listener in self._listeners.values():  # wakes accept()
                with contextlib.suppress(OSError):
                    listener.shutdown(socket.SHUT_RDWR)

    def _accept(self, scheme: str, listener: socket.socket) -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(scheme, sock), daemon=True).start()

    def _serve(self, scheme: str, sock: socket.socket) -> None:
        with contextlib.suppress(OSError, RemoteProtocolError), contextlib.ExitStack() as stack:
            stack.callback(sock.close)
            if scheme != "unix":
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if scheme == "tls":
                assert self._context is not None
                sock = stack.enter_context(self._context.wrap_socket(sock, server_side=True))
            while True:
                connection = Connection(SERVER)
                event = _next_event(sock, connection)
                if isinstance(event, StreamRequest):
                    return self._stream(sock, connection, event)
                assert isinstance(event, Request)
                sock.sendall(self._answer(event))
                if ("connection", "close") in event.headers:
                    return None

    def _answer(self, request: Request) -> bytes:
        """A plain answer, after which the connection is kept, as dockerd does. (The core's server closes it.)"""
        status, kind = "200 OK", "application/json"
        if request.path[-1] == "_ping":
            kind, body = "text/plain", b"" if request.method == "HEAD" else b"OK"
        else:
            body = json.dumps(self._document(request)).encode()
            if request.method == "POST" and request.path[-1] == "exec":
                status = "201 Created"
        head = (
            f"HTTP/1.1 {status}\r\nApi-Version: 1.51\r\nOstype: linux\r\nServer: Docker/28.5.2 (linux)\r\n"
            f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    def _document(self, request: Request) -> dict[str, Any]:
        match request.path:
            case (*_, "containers", _, "json"):
                return self._container()
            case (*_, "containers", _, "wait"):
                return {"StatusCode": 0}
            case (*_, "containers", _, "exec"):
                self._execs += 1
                return {"Id": f"{self._execs:064x}"}
            case (*_, "exec", exec_id, "json"):
                return self._exec(exec_id)
        return {"Version": "28.5.2", "ApiVersion": "1.51", "MinAPIVersion": "1.24", "Os": "linux", "Arch": "amd64"}

    def _container(self) -> dict[str, Any]:
        state = {"Status": "running", "Running": True, "Paused": False, "Restarting": False, "ExitCode": 0}
        tty = self.workload is not None and self.workload.tty
        config = {"Tty": tty, "OpenStdin": True, "StdinOnce": True}
        return {"Id": ID, "Name": "/web", "State": state, "Config": config}

    def _exec(self, exec_id: str) -> dict[str, Any]:
        code = 0 if exec_id in self._started else None
        process = {"tty": False, "entrypoint": "true", "arguments": []}
        return {"ID": exec_id, "Running": False, "ExitCode": code, "OpenStdin": False, "ProcessConfig": process}

    def _stream(self, sock: socket.socket, connection: Connection, request: StreamRequest) -> None:
        workload = self.workload
        assert workload is not None
        if (path := request.to_request().path)[0] == "exec":
            self._started.add(path[1])
        # dockerode asks for no upgrade if there is no stdin.
        status = 101 if any(name == "upgrade" for name, _ in request.headers) else 200
        framing = Framing.RAW if workload.tty else Framing.MULTIPLEXED
        sock.sendall(connection.send(Accepted(framing, status)))
        if workload.kind in ("output", "beside", "cat"):
            time.sleep(PAUSE_SECONDS)
        if workload.body is None:
            began = _echo(sock, workload)
        else:
            began = time.perf_counter()
            sock.sendall(workload.body.head)
            for _ in range(workload.body.count):
                sock.sendall(workload.body.block)
        _end_output(sock)
        while sock.recv(READ):
            pass
        self.seconds.put(time.perf_counter() - began)


def _next_event(sock: socket.socket, connection: Connection) -> Event:
    while (event := connection.next_event()) is NEED_DATA:
        connection.receive_data(sock.recv(READ))
    return event


def _echo(sock: socket.socket, workload: Workload) -> float:
    """Send back what comes, until all of it has; when the first came. (Not every client can end its stdin.)"""
    left = workload.size
    data = sock.recv(READ)
    began = time.perf_counter()
    while data:
        sock.sendall(data if workload.tty else encode_frame(Stdout(data)))
        left -= len(data)
        data = sock.recv(READ) if left else b""
    return began


def _end_output(sock: socket.socket) -> None:
    if isinstance(sock, ssl.SSLSocket):
        # unwrap() sends close_notify and waits for the client's.
        with contextlib.suppress(OSError):
            sock.unwrap().shutdown(socket.SHUT_WR)
    else:
        sock.shutdown(socket.SHUT_WR)
