"""A client of the engine that uses none of the code under test: http.client and plain sockets."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
from collections.abc import Callable, Iterator
from typing import Any

from attachproto_engine import Engine

TIMEOUT = 20.0
UPGRADE = "Connection: Upgrade\r\nUpgrade: tcp\r\n"


def dial(engine: Engine) -> socket.socket:
    kind, _, place = engine.host.partition("://")
    if kind == "unix":
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(TIMEOUT)
        sock.connect(place)
        return sock
    name, _, port = place.rpartition(":")
    return socket.create_connection((name, int(port)), TIMEOUT)


class Answer:
    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def message(self) -> str:
        return str(self.json["message"])


def call(engine: Engine, method: str, target: str, body: object = None) -> Answer:
    connection = http.client.HTTPConnection("localhost")
    connection.sock = dial(engine)
    with contextlib.closing(connection):
        data = json.dumps(body) if body is not None else None
        connection.request(method, target, data, {"Content-Type": "application/json"} if data else {})
        answer = connection.getresponse()
        return Answer(answer.status, dict(answer.getheaders()), answer.read())


def create(engine: Engine, name: str, *command: str, **config: object) -> str:
    answer = call(engine, "POST", f"/containers/create?name={name}", {"Image": "any", "Cmd": list(command), **config})
    assert answer.status == 201, answer.body
    return str(answer.json["Id"])


def shell(engine: Engine, name: str, script: str, **config: object) -> str:
    return create(engine, name, "sh", "-c", script, **config)


def start(engine: Engine, name: str) -> None:
    assert call(engine, "POST", f"/containers/{name}/start").status == 204


def wait(engine: Engine, name: str) -> int:
    return int(call(engine, "POST", f"/containers/{name}/wait").json["StatusCode"])


def status(engine: Engine, name: str) -> str:
    return str(call(engine, "GET", f"/containers/{name}/json").json["State"]["Status"])


def read_all(sock: socket.socket) -> bytes:
    """Everything up to the end of file."""
    pieces = []
    while piece := sock.recv(65536):
        pieces.append(piece)
    return b"".join(pieces)


def read_until(sock: socket.socket, enough: bytes | Callable[[bytes], bool]) -> bytes:
    data = b""
    while not (enough in data if isinstance(enough, bytes) else enough(data)):
        piece = sock.recv(65536)
        assert piece, data
        data += piece
    return data


def attach_request(
    name: str, query: str = "stream=1&stdout=1&stderr=1", *, version: str = "", upgrade: bool = True
) -> bytes:
    fields = f"Host: localhost\r\n{UPGRADE if upgrade else ''}"
    return f"POST {version}/containers/{name}/attach?{query} HTTP/1.1\r\n{fields}\r\n".encode()


@contextlib.contextmanager
def attached(
    engine: Engine, name: str, query: str = "stream=1&stdout=1&stderr=1", **how: Any
) -> Iterator[socket.socket]:
    """A socket with an accepted attach; the head of the answer has been read."""
    with dial(engine) as sock:
        sock.sendall(attach_request(name, query, **how))
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            byte = sock.recv(1)
            assert byte, head
            head += byte
        yield sock


def exchange(engine: Engine, request: bytes) -> bytes:
    """Send a request; the whole answer, or where the connection does not go on all up to the end of file."""
    with dial(engine) as sock:
        sock.sendall(request)
        return read_answer(sock, request.partition(b" ")[0])


def read_answer(sock: socket.socket, method: bytes = b"GET") -> bytes:
    data = b""
    while b"\r\n\r\n" not in data and (piece := sock.recv(65536)):
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    bodiless = method == b"HEAD" or b" 204 " in head or b" 304 " in head
    length = re.search(rb"\r\nContent-Length: ([0-9]+)", head)
    if b"\r\nConnection: " in head or not (bodiless or length):
        return data + read_all(sock)
    missing = 0 if bodiless or not length else int(length[1]) - len(body)
    while missing > 0:
        piece = sock.recv(65536)
        assert piece, data
        data += piece
        missing -= len(piece)
    assert missing == 0, data
    return data
