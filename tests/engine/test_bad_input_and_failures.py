"""Bad input, web pages, full disks, ignored signals, and events that happen at the same time."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest

from attachproto_engine import Engine
from tests.engine.client import (
    TIMEOUT,
    Answer,
    attach_request,
    attached,
    call,
    create,
    dial,
    exchange,
    read_all,
    read_answer,
    read_until,
    shell,
    start,
    status,
    wait,
)
from tests.helpers import open_descriptors


def post(engine: Engine, target: str, headers: str, body: object) -> bytes:
    data = json.dumps(body).encode()
    return exchange(engine, f"POST {target} HTTP/1.1\r\n{headers}Content-Length: {len(data)}\r\n\r\n".encode() + data)


@pytest.mark.parametrize("kind", ["Content-Type: text/plain;charset=UTF-8\r\n", ""])
def test_a_body_must_be_said_to_be_json(engine: Engine, kind: str) -> None:
    """As dockerd does. A web page can send other types without the browser's asking the server first."""
    answer = post(engine, "/containers/create", f"Host: localhost\r\n{kind}", {"Cmd": ["true"]})
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"must be 'application/json'" in answer
    shell(engine, "web", "sleep 100")
    start(engine, "web")
    exec_id = call(engine, "POST", "/containers/web/exec", {"Cmd": ["true"]}).json["Id"]
    answer = post(engine, f"/exec/{exec_id}/start", f"Host: localhost\r\n{kind}", {"Tty": False})
    assert answer.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    "head",
    [
        "Host: localhost\r\nOrigin: http://evil.example\r\n",
        "Host: localhost\r\nOrigin: null\r\n",
        "Host: evil.example\r\n",
        "Host: evil.example:80\r\n",
        "Host: localhost.evil.example\r\n",
        "Host: localhost@evil.example\r\n",
        "Host: evil.example@localhost\r\n",
        "Host: evil.example/.localhost\r\n",
        "Host: localhost\r\nSec-Fetch-Site: cross-site\r\n",
        "Host: 127.0.0.1\r\nSec-Fetch-Site: same-site\r\n",
        "Host: localhost\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Site: none\r\n",
    ],
)
def test_on_tcp_web_pages_are_refused(head: str) -> None:
    with Engine("tcp://127.0.0.1:0") as engine:
        for request in (
            f"GET /containers/json HTTP/1.1\r\n{head}\r\n",
            f"POST /containers/x/attach HTTP/1.1\r\n{head}\r\n",
        ):
            assert exchange(engine, request.encode()).startswith(b"HTTP/1.1 403 ")
        assert call(engine, "GET", "/containers/json").status == 200


@pytest.mark.parametrize("host", ["localhost", "localhost:2375", "127.0.0.1:1", "[::1]:1", "engine.localhost", ""])
def test_on_tcp_clients_are_answered(host: str) -> None:
    head = f"GET /_ping HTTP/1.1\r\nHost: {host}\r\nSec-Fetch-Site: none\r\n\r\n"
    with Engine("tcp://127.0.0.1:0") as engine:
        assert exchange(engine, head.encode()).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("host", ["[evil", "[::1", "]"])
def test_on_tcp_a_malformed_host_is_refused(host: str) -> None:
    with Engine("tcp://127.0.0.1:0") as engine:
        answer = exchange(engine, f"GET /_ping HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"malformed Host header" in answer


@pytest.mark.parametrize(
    "config",
    [
        {"Cmd": ["echo", "a\0b"]},
        {"Cmd": ["\ud800"]},
        {"Cmd": 5},
        {"Cmd": ["true"], "Env": ["A=\0"]},
        {"Cmd": ["true"], "WorkingDir": "\0"},
        {"Cmd": ["true"], "StopSignal": "BANANA"},
    ],
)
def test_values_that_no_process_can_be_given_are_refused(engine: Engine, config: dict[str, Any]) -> None:
    assert call(engine, "POST", "/containers/create", config).status == 400
    assert call(engine, "GET", "/containers/json?all=1").json == []


def test_an_invalid_environment_of_an_exec_is_refused_at_the_start(engine: Engine) -> None:
    shell(engine, "web", "sleep 100")
    start(engine, "web")
    exec_id = call(engine, "POST", "/containers/web/exec", {"Cmd": ["true"], "Env": ["=x"]}).json["Id"]
    assert call(engine, "POST", f"/exec/{exec_id}/start", {"Detach": True}).status == 400
    assert status(engine, "web") == "running"


@pytest.mark.parametrize("target", ["/containers/json?filters=[", "/containers/json?limit=%C2%B2"])
def test_odd_values_are_answered(engine: Engine, target: str) -> None:
    assert call(engine, "GET", target).status in (200, 400, 500, 501)


def test_an_exec_in_a_directory_that_is_not_there_fails(engine: Engine) -> None:
    shell(engine, "web", "sleep 100")
    start(engine, "web")
    exec_id = call(engine, "POST", "/containers/web/exec", {"Cmd": ["true"], "WorkingDir": "/not/there"}).json["Id"]
    call(engine, "POST", f"/exec/{exec_id}/start", {"Detach": True})
    assert call(engine, "GET", f"/exec/{exec_id}/json").json["ExitCode"] == 126


def test_no_exec_begins_while_its_container_ends_and_closing_ends_all(engine: Engine) -> None:
    """A process outside the session holds the output open for 2 s. In that time no exec can start."""
    shell(engine, "web", "(setsid sleep 3) & sleep 0.2; echo over; exit 0", OpenStdin=True)
    with attached(engine, "web") as sock:
        start(engine, "web")
        exec_id = call(engine, "POST", "/containers/web/exec", {"Cmd": ["sleep", "777"]}).json["Id"]
        read_until(sock, b"over")
        # The process has ended; the engine may not have noticed yet.
        assert call(engine, "POST", f"/exec/{exec_id}/start", {"Detach": True}).status in (200, 409)
    closing = threading.Thread(target=engine.close)
    closing.start()
    closing.join(TIMEOUT)
    assert not closing.is_alive()


def test_signals_that_we_ignore_are_not_ignored_inside() -> None:
    """As under nohup, or in a script's background job."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Engine() as engine:
            shell(engine, "web", 'trap "exit 5" HUP; echo ready; while :; do sleep 0.05; done')
            with attached(engine, "web") as sock:
                start(engine, "web")
                read_until(sock, b"ready")
                assert call(engine, "POST", "/containers/web/kill?signal=HUP").status == 204
                read_all(sock)
            assert wait(engine, "web") == 5
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_container_has_nothing_of_our_environment(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "of the test")
    shell(engine, "web", "env", Env=["GIVEN=1"])
    start(engine, "web")
    wait(engine, "web")
    printed = call(engine, "GET", "/containers/web/logs?stdout=1").body
    assert b"GIVEN=1\n" in printed
    assert b"SECRET" not in printed


def test_a_disk_that_is_full_ends_the_container_and_its_streams(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell(engine, "web", "echo first; read go; echo second; sleep 100", OpenStdin=True, StdinOnce=True)
    with attached(engine, "web", "stream=1&stdin=1&stdout=1") as sock:
        start(engine, "web")
        read_until(sock, b"first\n")

        def full(number: int, data: bytes, position: int) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "pwrite", full)
        sock.sendall(b"go\n")
        assert read_all(sock) == b""
    assert wait(engine, "web") == 137
    assert "No space left" in call(engine, "GET", "/containers/web/json").json["State"]["Error"]


def test_output_is_not_kept_with_the_log_driver_none(engine: Engine) -> None:
    none = {"LogConfig": {"Type": "none"}}
    shell(engine, "unheard", "head -c 20000000 /dev/zero", HostConfig=none)
    shell(engine, "heard", "head -c 20000000 /dev/zero; echo end", HostConfig=none)
    start(engine, "unheard")
    with attached(engine, "heard") as sock:
        start(engine, "heard")
        assert read_all(sock).endswith(b"end\n")
    wait(engine, "unheard")
    files = [f"/proc/self/fd/{number}" for number, what in open_descriptors().items() if "(deleted)" in what]
    assert max(os.stat(file).st_size for file in files) < 6_000_000


def test_detach_keys_need_no_process(engine: Engine) -> None:
    create(engine, "web", "cat", Tty=True, OpenStdin=True)
    with attached(engine, "web", "stream=1&stdin=1&stdout=1") as sock:
        sock.sendall(b"\x10\x11")
        assert read_all(sock) == b""


def test_a_wait_ends_when_a_container_is_removed_that_never_ran(engine: Engine) -> None:
    create(engine, "web", "true")
    with dial(engine) as sock:
        sock.sendall(b"POST /containers/web/wait?condition=next-exit HTTP/1.1\r\nHost: localhost\r\n\r\n")
        read_until(sock, b"\r\n\r\n")
        assert call(engine, "DELETE", "/containers/web").status == 204
        assert b'{"StatusCode":0}' in read_until(sock, b"0\r\n\r\n")


def test_a_start_that_failed_has_a_code(engine: Engine) -> None:
    create(engine, "web", "/not/there")
    assert call(engine, "POST", "/containers/web/start").status == 400
    assert wait(engine, "web") == 127


def test_an_attach_while_the_engine_is_closed_ends(engine: Engine) -> None:
    shell(engine, "web", "sleep 100")
    start(engine, "web")
    with dial(engine) as sock:
        sock.sendall(attach_request("web"))
        engine.close()
        with contextlib.suppress(ConnectionResetError):  # the engine had not accepted the connection
            read_all(sock)


def test_ctrl_c_while_it_starts_leaves_nothing() -> None:
    script = """
import concurrent.futures, threading
from attachproto_engine import Engine
result = concurrent.futures.Future.result
def interrupted(self, timeout=None):
    result(self, timeout)
    raise KeyboardInterrupt
concurrent.futures.Future.result = interrupted
try:
    Engine().start()
except KeyboardInterrupt:
    print(threading.active_count())
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=TIMEOUT)
    assert (run.returncode, run.stdout, run.stderr) == (0, "1\n", "")


LONG = "9" * 5000


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("POST", f"/containers/web/kill?signal={LONG}"),
        ("POST", f"/containers/web/kill?signal=-{LONG}"),
        ("POST", f"/containers/web/stop?t={LONG}"),
        ("POST", f"/containers/web/stop?t=-{LONG}"),
        ("POST", "/containers/web/stop?t=%D9%A3"),  # a digit, but not one of ASCII
        ("POST", f"/containers/web/restart?t={LONG}"),
        ("GET", f"/containers/json?limit={LONG}"),
        ("GET", "/containers/json?limit=x"),
        ("POST", "/containers/web/stop?t=9999999999999"),
        ("POST", f"/containers/web/resize?h={LONG}&w=1"),
        ("POST", f"/containers/web/resize?h=1&w=-{LONG}"),
        ("POST", "/containers/web/resize?h=%C2%B2&w=1"),
        ("POST", f"/v{LONG}/containers/web/start"),
        ("POST", f"/v1.{LONG}/containers/web/start"),
        ("GET", f"/containers/web/logs?stdout=1&tail={LONG}"),
        ("GET", f"/containers/web/logs?stdout=1&since={LONG}"),
        ("GET", f"/containers/web/logs?stdout=1&until={LONG}"),
        ("GET", f"/containers/web/logs?stdout=1&until=1.{LONG}"),
    ],
)
def test_a_number_of_any_length_is_refused(engine: Engine, method: str, target: str) -> None:
    shell(engine, "web", "sleep 100")
    start(engine, "web")
    answer = call(engine, method, target)
    assert answer.status == 400
    assert "embedded engine failed" not in json.dumps(answer.json)
    assert status(engine, "web") == "running"


@pytest.mark.parametrize("number", [LONG, f'"{LONG}"', '"5"', "1e400", "Infinity", "5.5", "true", "[]", "99999999999"])
@pytest.mark.parametrize(
    ("target", "body"),
    [
        ("/containers/create", '{"Cmd": ["true"], "StopTimeout": %s}'),
        ("/containers/create", '{"Cmd": ["true"], "HostConfig": {"ConsoleSize": [%s, 1]}}'),
        ("/containers/web/exec", '{"Cmd": ["true"], "ConsoleSize": [1, %s]}'),
        ("/containers/create", '{"Cmd": ["true"], "Labels": {"a": %s, "b": 1}}'),
    ],
)
def test_a_number_that_go_could_not_read_is_refused(engine: Engine, target: str, body: str, number: str) -> None:
    shell(engine, "web", "sleep 100")
    start(engine, "web")
    data = (body % number).encode()
    head = f"POST {target} HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    answer = exchange(engine, head.encode() + data)
    assert answer.startswith(b"HTTP/1.1 400 "), answer
    assert b"embedded engine failed" not in answer


@pytest.mark.parametrize("size", [LONG, f'"{LONG}"', '"5"', "1e400", "Infinity", "5.5", "true", "[]", "-1"])
def test_a_size_at_the_start_of_an_exec_that_go_could_not_read_is_refused(engine: Engine, size: str) -> None:
    create(engine, "web", "sleep", "100")
    start(engine, "web")
    exec_id = call(engine, "POST", "/containers/web/exec", {"Cmd": ["true"], "Tty": True}).json["Id"]
    data = f'{{"Detach": false, "Tty": true, "ConsoleSize": [1, {size}]}}'.encode()
    head = f"Host: d\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    answer = exchange(engine, f"POST /exec/{exec_id}/start HTTP/1.1\r\n{head}".encode() + data)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"embedded engine failed" not in answer


def test_a_size_below_zero_is_refused(engine: Engine) -> None:
    body = {"Cmd": ["true"], "HostConfig": {"ConsoleSize": [-1, 80]}}
    assert call(engine, "POST", "/containers/create", body).status == 400


@pytest.mark.parametrize(
    "odd",
    [{"Labels": {"a": "\ud800"}}, {"User": "\udfff"}, {"Image": "\ud800"}, {"HostConfig": {"NetworkMode": "\ud800"}}],
)
def test_half_a_pair_of_unicode_is_answered(engine: Engine, odd: dict[str, Any]) -> None:
    """JSON can hold it, and UTF-8 cannot. One such container must not spoil every list."""
    made = call(engine, "POST", "/containers/create", {"Cmd": ["true"], **odd}).json["Id"]
    assert call(engine, "GET", "/containers/json?all=1").json[0]["Id"] == made
    assert "\ufffd" in json.dumps(call(engine, "GET", f"/containers/{made}/json").json, ensure_ascii=False)


def test_a_pattern_of_a_client_stops_nothing() -> None:
    """The engine has a process of its own: while ``re`` matches, no other thread of its process runs, nor a timer."""
    with in_a_process() as other:
        create(other, "a" * 60 + "-", "true")
        for pattern in ("(a+)+$", "(a|a)*$", "a" * 100_000, "(", "^/?a{1,50000}"):
            filters = json.dumps({"name": [pattern]})
            assert call(other, "GET", f"/containers/json?all=1&filters={quote(filters)}").status == 400


# ---- no descriptors left ----


def test_an_error_of_the_system_is_a_500(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """It must not be taken for a client that has gone: then there would be no answer."""
    create(engine, "web", "sleep", "100")
    create(engine, "busy", "sleep", "100")
    start(engine, "busy")
    exec_id = call(engine, "POST", "/containers/busy/exec", {"Cmd": ["true"], "AttachStdout": True}).json["Id"]

    def fails(*args: object, **named: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patched:
        patched.setattr("tempfile.TemporaryFile", fails)
        answer = call(engine, "POST", "/containers/create", {"Cmd": ["true"]})
        assert (answer.status, "Too many open files" in answer.message) == (500, True)
    with monkeypatch.context() as patched:
        patched.setattr("os.pipe", fails)
        answer = call(engine, "POST", "/containers/web/start")
        assert (answer.status, "Too many open files" in answer.message) == (500, True)
        head = b"Host: d\r\nContent-Type: application/json\r\nContent-Length: 2\r\n"
        answer_ = exchange(engine, f"POST /exec/{exec_id}/start HTTP/1.1\r\n".encode() + head + b"\r\n{}")
        assert b"Too many open files" in answer_
    assert call(engine, "GET", f"/exec/{exec_id}/json").json["ExitCode"] == 126
    assert status(engine, "web") == "created"
    start(engine, "web")


@contextlib.contextmanager
def in_a_process(limits: str = ":") -> Iterator[Engine]:
    """An engine in a process of its own, started by a shell behind the commands that set its limits."""
    script = f'{limits}; exec "$0" -m attachproto_adapters engine --host tcp://127.0.0.1:0'
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(["sh", "-c", script, sys.executable], env=environment, stdout=subprocess.PIPE) as running:
        try:
            assert running.stdout is not None
            other = Engine()
            other._host = running.stdout.readline().decode().strip()
            yield other
            running.terminate()
            running.wait(TIMEOUT)
        finally:
            running.kill()


def until(found: Callable[[], bool]) -> None:
    """Ask again, for as long as a call may take: the engine may not have closed a client's connection yet."""
    deadline = time.monotonic() + TIMEOUT
    while not found():
        assert time.monotonic() < deadline


def test_an_engine_without_descriptors_says_so() -> None:
    with in_a_process("ulimit -n 40") as other:

        def ask(method: str, target: str, body: object = None) -> Answer:
            # Where no descriptor is left for the connection itself, it answers and closes before it reads the body.
            sent = b"" if body is None else json.dumps(body).encode()
            with dial(other) as sock:
                fields = f"Host: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(sent)}\r\n\r\n"
                sock.sendall(f"{method} {target} HTTP/1.1\r\n{fields}".encode() + sent)
                head, _, rest = read_answer(sock, method.encode()).partition(b"\r\n\r\n")
            return Answer(int(head.split()[1]), {}, rest)

        refused = []
        for _ in range(40):
            answer = ask("POST", "/containers/create", {"Cmd": ["sleep", "100"]})
            if answer.status != 201:
                refused.append(answer)
        assert {answer.status for answer in refused} == {500}
        assert "too many open files" in refused[0].message.lower()

        def again(method: str, target: str, body: object = None) -> Answer:
            answers: list[Answer] = []

            def answered() -> bool:
                answers.append(ask(method, target, body))
                return answers[-1].status != 500

            until(answered)
            return answers[-1]

        # What is there goes on, and ends.
        for container in again("GET", "/containers/json?all=1").json[:3]:
            assert again("DELETE", f"/containers/{container['Id']}?force=1").status == 204
        made = again("POST", "/containers/create", {"Cmd": ["sh", "-c", "exit 3"]})
        assert made.status == 201
        assert again("DELETE", f"/containers/{made.json['Id']}").status == 204


def test_a_client_for_whom_no_descriptor_is_left_is_answered() -> None:
    ping = b"GET /_ping HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with in_a_process("ulimit -n 40") as other:
        with contextlib.ExitStack() as opened:
            answer = b""
            for _ in range(40):
                sock = opened.enter_context(dial(other))
                sock.sendall(ping)
                answer = read_answer(sock)
                if not answer.startswith(b"HTTP/1.1 200 "):
                    break
            assert answer.startswith(b"HTTP/1.1 500 ")
            assert b"too many open files" in answer
            assert exchange(other, ping).startswith(b"HTTP/1.1 500 ")
        # The clients have gone.
        until(lambda: not exchange(other, ping).startswith(b"HTTP/1.1 500 "))
