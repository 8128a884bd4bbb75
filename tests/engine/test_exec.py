"""Exec: streams, terminals, errors in the stream, and exit codes."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator

import pytest

from attachproto_engine import Engine
from tests.engine.client import UPGRADE, call, dial, read_all, read_until, shell, start
from tests.helpers import frame


@pytest.fixture
def web(engine: Engine) -> Engine:
    shell(engine, "web", "sleep 100")
    start(engine, "web")
    return engine


def prepared(engine: Engine, *command: str, **config: object) -> str:
    body = {"Cmd": list(command), "AttachStdout": True, "AttachStderr": True, **config}
    answer = call(engine, "POST", "/containers/web/exec", body)
    assert answer.status == 201, answer.body
    return str(answer.json["Id"])


@contextlib.contextmanager
def started(engine: Engine, exec_id: str, body: str = '{"Detach":false,"Tty":false}') -> Iterator[socket.socket]:
    with dial(engine) as sock:
        sock.sendall(
            f"POST /exec/{exec_id}/start HTTP/1.1\r\nHost: localhost\r\n{UPGRADE}Content-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
        )
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += sock.recv(1)
        assert head.startswith(b"HTTP/1.1 101 ")
        yield sock


def ended(engine: Engine, exec_id: str) -> tuple[bool, int | None]:
    seen = call(engine, "GET", f"/exec/{exec_id}/json").json
    return seen["Running"], seen["ExitCode"]


def test_streams_and_code(web: Engine) -> None:
    exec_id = prepared(web, "sh", "-c", "echo out; echo $X >&2; exit 5", Env=["X=err"])
    assert ended(web, exec_id) == (False, None)
    with started(web, exec_id) as sock:
        data = read_all(sock)
        assert data in (frame(1, b"out\n") + frame(2, b"err\n"), frame(2, b"err\n") + frame(1, b"out\n"))
        assert ended(web, exec_id) == (False, 5)


def test_stdin_and_its_end(web: Engine) -> None:
    exec_id = prepared(web, "sh", "-c", "cat; echo end", AttachStdin=True)
    with started(web, exec_id) as sock:
        sock.sendall(b"some\n")
        assert read_until(sock, b"some\n") == frame(1, b"some\n")
        sock.shutdown(socket.SHUT_WR)
        assert read_all(sock) == frame(1, b"end\n")


def test_a_terminal(web: Engine) -> None:
    exec_id = prepared(web, "sh", "-c", "stty size; read x; stty size; exit 2", AttachStdin=True, Tty=True)
    with started(web, exec_id, '{"Tty":true,"ConsoleSize":[24,80]}') as sock:
        assert read_until(sock, b"\n") == b"24 80\r\n"
        assert call(web, "POST", f"/exec/{exec_id}/resize?h=7&w=9").status == 200
        sock.sendall(b"\n")
        assert read_all(sock) == b"\r\n7 9\r\n"
        assert ended(web, exec_id) == (False, 2)


def test_detach_keys_are_a_failure_for_dockerd(web: Engine) -> None:
    exec_id = prepared(web, "cat", AttachStdin=True, Tty=True)
    with started(web, exec_id, '{"Tty":true}') as sock:
        sock.sendall(b"\x10\x11")
        assert read_all(sock) == b"exec attach failed: error on attach stdin: read escape sequence\r\n"
    assert ended(web, exec_id) == (False, 126)


@pytest.mark.parametrize("tty", [False, True])
def test_errors_in_the_stream(web: Engine, tty: bool) -> None:
    def told(exec_id: str) -> bytes:
        with started(web, exec_id, json.dumps({"Tty": tty})) as sock:
            return read_all(sock)

    def text(line: str) -> bytes:
        return line.encode() + b"\r\n" if tty else frame(1, line.encode() + b"\r\n")

    missing = prepared(web, "/no/such", Tty=tty)
    assert told(missing) == text(
        'OCI runtime exec failed: exec failed: unable to start container process: exec: "/no/such": '
        "stat /no/such: no such file or directory"
    )
    assert ended(web, missing) == (False, 127)
    assert told(missing) == text(f"exec command {missing} has already run")
    running = prepared(web, "sleep", "100", Tty=tty)
    with started(web, running, json.dumps({"Tty": tty})):
        assert told(running) == text(f"exec command {running} is already running")


def test_refusals(web: Engine) -> None:
    assert call(web, "POST", "/exec/none/start", {"Tty": False}).message == "No such exec instance: none"
    assert call(web, "POST", "/exec/none/start", {"Detach": True}).message == "No such exec instance: none"
    assert call(web, "GET", "/exec/none/json").status == 404
    assert call(web, "POST", "/containers/web/exec", {"Cmd": []}).message == "No exec command specified"
    answer = call(web, "POST", "/containers/web/exec", {"Cmd": ["true"], "DetachKeys": "foo"})
    assert (answer.status, answer.message) == (500, "Invalid escape keys (foo) provided")
    container = shell(web, "other", "true")
    answer = call(web, "POST", "/containers/other/exec", {"Cmd": ["true"]})
    assert (answer.status, answer.message) == (409, f"container {container} is not running")


def test_detached(web: Engine) -> None:
    exec_id = prepared(web, "sh", "-c", "echo lost; exit 4")
    assert call(web, "POST", f"/exec/{exec_id}/start", {"Detach": True}).status == 200
    second = prepared(web, "sleep", "100")
    assert call(web, "POST", f"/exec/{second}/start", {"Detach": True}).status == 200
    while ended(web, exec_id)[0]:
        pass
    assert ended(web, exec_id) == (False, 4)
    assert ended(web, second) == (True, None)


def test_it_ends_with_its_container(web: Engine) -> None:
    with started(web, prepared(web, "sh", "-c", "echo on; sleep 100")) as sock:
        assert read_until(sock, b"on\n")
        assert call(web, "POST", "/containers/web/kill").status == 204
        assert read_all(sock) == b""


def test_a_client_that_leaves_lets_it_go_on(web: Engine) -> None:
    exec_id = prepared(web, "sh", "-c", "echo on; head -c 3000000 /dev/zero; exit 8")
    with started(web, exec_id) as sock:
        read_until(sock, b"on\n")
    while ended(web, exec_id)[0]:
        pass
    assert ended(web, exec_id) == (False, 8)
