"""Several requests on one connection."""

from __future__ import annotations

import http.client
import json
import socket

import pytest

from attachproto_engine import Engine, Split
from tests.engine.client import attach_request, call, create, dial, read_all, read_answer, read_until, shell
from tests.helpers import frame

PING = b"GET /_ping HTTP/1.1\r\nHost: localhost\r\n\r\n"
WAIT = b"POST /containers/web/wait HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"


def inspect(name: str, *fields: str) -> bytes:
    lines = "".join(f"{field}\r\n" for field in ("Host: localhost", *fields))
    return f"GET /containers/{name}/json HTTP/1.1\r\n{lines}\r\n".encode()


@pytest.mark.parametrize("emulate", ["dockerd", "podman"])
@pytest.mark.parametrize("host", [None, "tcp://127.0.0.1:0"])
def test_plain_calls_share_a_connection(emulate: str, host: str | None) -> None:
    with Engine(host, emulate=emulate) as engine:  # type: ignore[arg-type]  # one of the two
        connection = http.client.HTTPConnection("localhost")
        connection.sock = sock = dial(engine)
        body = json.dumps({"Image": "any", "Cmd": ["sh", "-c", "exit 3"]})
        for method, target, status in (
            ("GET", "/_ping", 200),
            ("HEAD", "/_ping", 200),
            ("POST", "/containers/create?name=web", 201),
            ("POST", "/containers/web/start", 204),
            ("POST", "/containers/web/wait", 200),
            ("GET", "/containers/nosuch/json", 404),
            ("POST", "/containers/web/start?" + "x" * 100_000, 204),
            ("GET", "/nosuchpath", 404),
            ("DELETE", "/containers/web?force=1", 204),
        ):
            data = body if "create" in target else None
            connection.request(method, target, data, {"Content-Type": "application/json"} if data else {})
            response = connection.getresponse()
            assert (response.status, response.getheader("connection")) == (status, None)
            response.read()
            assert connection.sock is sock
        sock.sendall(PING[:-2] + b"Connection: close\r\n\r\n")
        answer = read_all(sock)
        assert b"\r\nConnection: close\r\n" in answer
        assert answer.endswith(b"\r\n\r\nOK")
        sock.close()


def test_an_attach_may_follow_plain_calls(engine: Engine) -> None:
    shell(engine, "web", "cat", OpenStdin=True, StdinOnce=True)
    call(engine, "POST", "/containers/web/start")
    with dial(engine) as sock:
        for _ in range(2):
            sock.sendall(inspect("web"))
            assert b'"Running":true' in read_answer(sock)
        sock.sendall(attach_request("web", "stream=1&stdin=1&stdout=1"))
        assert read_until(sock, b"\r\n\r\n").startswith(b"HTTP/1.1 101 UPGRADED\r\n")
        sock.sendall(b"text")
        sock.shutdown(socket.SHUT_WR)
        assert read_all(sock) == frame(1, b"text")


def test_requests_may_come_at_once(engine: Engine) -> None:
    """As on dockerd and Podman: an attach glued to a plain request."""
    create(engine, "web", "echo", "text")
    with dial(engine) as sock:
        sock.sendall(PING + inspect("web") + attach_request("web"))
        data = read_until(sock, b"101 UPGRADED\r\n")
        assert data.count(b"HTTP/1.1 200 OK\r\n") == 2
        call(engine, "POST", "/containers/web/start")
        assert read_all(sock).endswith(frame(1, b"text\n"))


def test_a_request_may_come_while_another_waits(engine: Engine) -> None:
    shell(engine, "web", "read line; exit 3", OpenStdin=True, StdinOnce=True)
    call(engine, "POST", "/containers/web/start")
    with dial(engine) as sock:
        sock.sendall(WAIT)
        read_until(sock, b"\r\n\r\n")
        sock.sendall(PING)
        call(engine, "POST", "/containers/web/kill")
        data = read_until(sock, b"\r\n\r\nOK")
        assert data.index(b'{"StatusCode":137}') < data.index(b"HTTP/1.1 200 OK")


def test_a_client_that_has_half_closed_gets_its_answer(engine: Engine) -> None:
    with dial(engine) as sock:
        sock.sendall(PING)
        sock.shutdown(socket.SHUT_WR)
        assert read_all(sock).endswith(b"\r\n\r\nOK")


def test_a_refused_stream_ends_the_connection(engine: Engine) -> None:
    """What follows a request for a stream may be stdin. It must not be taken for a request."""
    with dial(engine) as sock:
        sock.sendall(attach_request("nosuch") + PING)
        assert read_all(sock).endswith(b"\r\n\r\nNo such container: nosuch\r\n")


def test_a_fault_ends_the_connection(engine: Engine) -> None:
    create(engine, "web", "true")
    engine.fault("web", Split(every=100), on="inspect", nth=2)
    with dial(engine) as sock:
        sock.sendall(inspect("web"))
        assert b"\r\nConnection: " not in read_answer(sock)
        sock.sendall(inspect("web"))
        assert b"\r\nConnection: close\r\n" in read_all(sock)
