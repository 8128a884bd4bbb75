"""`attachproto demo` against the embedded engine."""

from __future__ import annotations

import errno
import http.client
import http.server
import io
import json
import os
import pty
import secrets
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from attachproto_adapters._transport import _hosts
from attachproto_adapters.cli._main import main
from attachproto_engine import Engine, ProxyAnswer, SetHeader
from attachproto_engine._demo import demo

BOUND = 60
ROWS = [
    "  POST /containers/attachproto-demo-",
    "Accepted(framing=Framing.MULTIPLEXED",
    "01 00 00 00 00 00 00 0a  b'to stdout\\n'",
    "Stdout(data=b'to stdout\\n')",
    "Stderr(data=b'to stderr\\n')",
    "> half-close",
    "Stdout(data=b'you said: hello\\n')",
    "< end of file",
    "OutputClosed()",
    "exit code: 3",
]
DEMO = [sys.executable, "-X", "dev", "-m", "attachproto_adapters", "demo"]


def test_it_brings_its_own_engine_and_ends_by_itself(tmp_path: Path) -> None:
    environment = os.environ | {"DOCKER_HOST": f"unix://{tmp_path}/none"}
    run = subprocess.run(DEMO, env=environment, capture_output=True, text=True, timeout=BOUND)
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.startswith("engine: the embedded one, as no engine answers here; ")
    assert "is no sandbox" in run.stdout
    for row in ROWS:
        assert row in run.stdout
    assert "\x1b" not in run.stdout


def test_it_runs_on_an_engine_that_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    with Engine() as engine:
        assert main(["demo", "--host", engine.host]) == 0
        assert call(engine, "GET", "/containers/json?all=1") == []
    stdout, _ = capsys.readouterr()
    assert f"at {engine_path(stdout)} (as given)" in stdout
    for row in ROWS:
        assert row in stdout


def engine_path(stdout: str) -> str:
    return stdout.partition(", at ")[2].partition(" (")[0]


def test_no_engine_at_the_address_that_was_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--host", f"unix://{tmp_path}/none"]) == 1
    stdout, stderr = capsys.readouterr()
    assert stdout == ""
    assert "no engine answers at unix://" in stderr


class Full(io.StringIO):
    """A stdout whose reader goes away at some line."""

    def __init__(self, at: str) -> None:
        super().__init__()
        self.at = at

    def write(self, text: str) -> int:
        if self.at in text:
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")
        return super().write(text)


@pytest.mark.parametrize("at", ["> 206 bytes", "Accepted(", "< end of file", "exit code"])
def test_stdout_is_closed_in_the_middle(at: str) -> None:
    """An OSError while a request is sent would be taken for the socket's, and an answer waited for that never comes."""
    with Engine() as engine:
        with pytest.raises(BrokenPipeError):
            demo(engine.host, "busybox", Full(at))
        assert call(engine, "GET", "/containers/json?all=1") == []


def test_an_engine_without_the_image(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with Engine() as engine:
        missing = ProxyAnswer(
            404, b'{"message":"No such image: other:latest"}', (("Content-Type", "application/json"),)
        )
        monkeypatch.setattr(secrets, "token_hex", lambda size: "00" * size)
        engine.fault("attachproto-demo-00000000", missing, on="create")
        assert main(["demo", "--host", engine.host, "--image", "other"]) == 1
    stdout, stderr = capsys.readouterr()
    assert "No such image: other:latest" in stderr
    assert "pull the image, or name another one with --image" in stderr
    assert "on the wire" not in stdout


@pytest.mark.parametrize(
    ("version", "shown"),
    [
        (
            {"Version": "\x1b]0;title\x07 \x9b31m", "ApiVersion": "1\n.51"},
            "engine: \\x1b]0;title\\x07 \\x9b31m, API 1\\n.51",
        ),
        ({}, "engine: None, API None"),
        ([], "engine: None, API None"),
        ("text", "engine: None, API None"),
        (None, "engine: None, API None"),
        ({"Version": ["\x1b"]}, "engine: ['\\x1b']"),
    ],
)
def test_what_an_engine_calls_itself(version: object, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer(200, json.dumps(version))

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.answer(500, '{"message": "no\\u001b[2J more"}')

        def answer(self, status: int, body: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body.encode())))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            assert main(["demo", "--host", f"tcp://127.0.0.1:{server.server_address[1]}"]) == 1
        finally:
            server.shutdown()
            thread.join()
    stdout, stderr = capsys.readouterr()
    assert stdout.startswith(shown)
    assert stderr.count("\n") == 1
    assert all(char.isprintable() or char == "\n" for char in stdout + stderr)


def test_the_heads_of_an_engine(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with Engine() as engine:
        monkeypatch.setattr(secrets, "token_hex", lambda size: "00" * size)
        engine.fault("attachproto-demo-00000000", SetHeader("x-name", "\x9b31m"))
        assert main(["demo", "--host", engine.host]) == 0
    stdout, _ = capsys.readouterr()
    assert "x-name: \\x9b31m" in stdout
    assert all(char.isprintable() or char == "\n" for char in stdout)


def test_colours_on_a_terminal(tmp_path: Path) -> None:
    environment = os.environ | {"DOCKER_HOST": f"unix://{tmp_path}/none", "TERM": "xterm", "COLUMNS": "120"}
    environment.pop("NO_COLOR", None)
    ours, theirs = pty.openpty()
    with subprocess.Popen(DEMO, env=environment, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        try:
            while piece := os.read(ours, 65536):
                shown += piece
        except OSError:  # how a terminal's end shows on Linux
            pass
        finally:
            os.close(ours)
        assert process.wait(BOUND) == 0
    assert b"\x1b[32mStdout(data=b'to stdout\\n')\x1b[0m" in shown
    assert b"\x1b[31mStderr(data=b'to stderr\\n')\x1b[0m" in shown


def call(engine: Engine, method: str, target: str, body: object = None) -> object:
    class Connection(http.client.HTTPConnection):
        def connect(self) -> None:
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.connect(engine.host.removeprefix("unix://"))

    connection = Connection("engine", timeout=BOUND)
    try:
        connection.request(method, target, json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse().read()
    finally:
        connection.close()
    return json.loads(answer) if answer else None


def test_where_no_engine_is_named_and_none_is_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(_hosts, "_DOCKER_SOCKET", str(tmp_path / "docker.sock"))
    monkeypatch.setattr(_hosts, "_PODMAN_SOCKET", str(tmp_path / "podman.sock"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    assert main(["demo"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("engine: the embedded one, as no engine answers here")
    assert out.endswith("exit code: 3\n")


def test_ctrl_c_leaves_no_traceback(tmp_path: Path) -> None:
    """At each row in turn: the demo writes it, and its process gets SIGINT."""
    environment = os.environ | {"DOCKER_HOST": f"unix://{tmp_path}/none", "PYTHONUNBUFFERED": "1"}
    for row in (0, 12, 24, 36):
        with subprocess.Popen(
            DEMO, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            for _ in range(row + 1):
                process.stdout.readline()
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=BOUND)
        # On a busy machine asyncio's debug mode reports steps that take longer than 0.1 s.
        assert [line for line in errors.splitlines() if not line.startswith("Executing <")] == []
        assert process.returncode in (0, 130, -signal.SIGINT)  # it may have ended, or been ending, already
