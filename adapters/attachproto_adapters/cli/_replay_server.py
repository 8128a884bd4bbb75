"""``attachproto replay --as-server``: plays a recorded stream to whoever asks for a stream.

Strategy: clients make other calls around a stream. They get answers that say as little as possible: a container of any
name is there, with the TTY that was recorded; it runs until its stream was played, and then has exited with 0. Each
exec does the same. A thread serves one connection.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import socket
import struct
import threading
from collections import defaultdict
from typing import Any

from attachproto import NEED_DATA, SERVER, Connection, Event, Request, Response, ResponseHead, StreamRequest
from attachproto_adapters._errors import AttachError
from attachproto_adapters._transport._schemes import TcpHost, UnixHost, parse_host
from attachproto_adapters._transport._sockets import READ_SIZE
from attachproto_adapters.cli._recorded import Recorded

_JSON = (("content-type", "application/json"),)


def serve(recorded: Recorded, host: str) -> int:
    """Serve until Ctrl-C. The address is printed when it is ready.

    Raises:
        AttachError: the address is of another scheme.
        OSError: it is taken.
    """
    address = parse_host(host, "from --as-server")
    if isinstance(address, UnixHost):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(address.path)
        listener.listen()
        shown = host
    elif isinstance(address, TcpHost):
        listener = socket.create_server((address.name, address.port))
        shown = f"tcp://{address.name}:{listener.getsockname()[1]}"
    else:
        raise AttachError(f"{host}: --as-server takes unix://PATH and tcp://NAME:PORT")
    player = _Player(recorded)
    try:
        print(shown, flush=True)
        while True:
            sock, _ = listener.accept()
            threading.Thread(target=player.serve, args=(sock,), daemon=True).start()
    finally:
        listener.close()
        if isinstance(address, UnixHost):
            os.unlink(address.path)


class _Player:
    """One recorded stream, and for whom it was played: the names of containers and execs."""

    def __init__(self, recorded: Recorded) -> None:
        self._recorded = recorded
        self._played: defaultdict[str, threading.Event] = defaultdict(threading.Event)
        self._execs = itertools.count(1)

    def serve(self, sock: socket.socket) -> None:
        """Serve one connection."""
        with sock, contextlib.suppress(OSError, AttachError):
            connection = Connection(SERVER)
            while (event := connection.next_event()) is NEED_DATA:
                data = sock.recv(READ_SIZE)
                if not data:
                    return
                connection.receive_data(data)
            if isinstance(event, StreamRequest):
                self._play(sock, self._played[event.to_request().path[-2]])
            elif isinstance(event, Request):
                self._answer(sock, connection, event)

    def _play(self, sock: socket.socket, played: threading.Event) -> None:
        owed = 0
        for kind, data in self._recorded.events[1:]:  # the first is the request
            if kind == "send":
                owed += len(data)
                while owed > 0 and (data := sock.recv(owed)):
                    owed -= len(data)
            elif kind == "shut_wr":
                while sock.recv(READ_SIZE):
                    pass
            elif kind == "recv":
                sock.sendall(data)
            elif kind == "eof":
                played.set()
                sock.shutdown(socket.SHUT_WR)
            elif kind == "rst":
                played.set()
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return
        while sock.recv(READ_SIZE):  # until the client closes
            pass

    def _answer(self, sock: socket.socket, connection: Connection, request: Request) -> None:
        def send(event: Event) -> None:
            data = connection.send(event)
            assert isinstance(data, bytes)
            sock.sendall(data)

        path: tuple[str, ...] = request.path
        last = path[-1] if path else ""
        if len(path) > 1 and last == "wait":
            send(ResponseHead(200, _JSON))
            self._played[path[-2]].wait()
            send(Response(200, _JSON, json.dumps({"StatusCode": 0}).encode()))
            return
        status = {"start": 204, "kill": 204, "exec": 201, "create": 201}.get(last, 200)
        body = b"" if status == 204 else json.dumps(self._document(path)).encode()
        send(Response(status, _JSON if body else (), body))

    def _document(self, path: tuple[str, ...]) -> dict[str, Any]:
        tty = bool(self._recorded.tty)
        name = path[1] if len(path) > 1 else ""
        if path[-1:] == ("version",):
            return {"Version": "replay", "ApiVersion": "1.51", "MinAPIVersion": "1.24"}
        over = self._played[name].is_set()
        if path[:1] == ("exec",):
            return {
                "ID": name,
                "Running": not over,
                "ExitCode": 0 if over else None,
                "OpenStdin": True,
                "ProcessConfig": {"tty": tty},
            }
        if path[-1:] == ("json",):
            state = {"Status": "exited" if over else "running", "Running": not over, "ExitCode": 0, "Pid": 0}
            return {
                "Id": name,
                "Name": f"/{name}",
                "Config": {"Tty": tty, "OpenStdin": True, "StdinOnce": True},
                "State": state | {"StartedAt": "2026-01-01T00:00:00Z"},
                "HostConfig": {"LogConfig": {"Type": "json-file", "Config": {}}},
                "RestartCount": 0,
            }
        return {"Id": f"replayed{next(self._execs)}", "Warnings": []}
