"""``--record`` and ``replay``."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from attachproto import CLIENT, Connection, OutputClosed, Stderr, Stdout
from attachproto_adapters.cli import _recording
from attachproto_adapters.cli._main import main
from attachproto_adapters.cli._recorded import read_file
from attachproto_engine import Engine
from tests.adapters.cli_engine import Main, Start, command, create, embedded, running, start, started
from tests.adapters.scripted import BOUND
from tests.engine.client import call
from tests.replay.recordings import Recording

__all__ = ["command", "embedded", "running", "start"]  # the fixtures

VECTORS = Path(__file__).parents[1] / "vectors"


def test_a_recorded_stream_is_a_vector(embedded: Engine, start: Start, tmp_path: Path) -> None:
    """It is read by the reader of tests/vectors, and the core makes the same events of it."""
    web, file = started(embedded, "web"), tmp_path / "web.jsonl"
    script = "cat; printf 'err\\377' >&2"
    process = start("exec", "-i", "--record", str(file), web, "sh", "-c", script, stdin=subprocess.PIPE)
    assert process.communicate(b"input\n", BOUND) == (b"input\n", b"err\xff")
    (line,) = [json.loads(line) for line in file.read_text().splitlines()]
    assert (line["engine"], line["scenario"], line["tty"]) == ("docker", "exec", False)
    assert line["times"] == sorted(line["times"])
    assert len(line["times"]) == len(line["events"])
    recording = Recording.from_line(line)
    assert recording.request.startswith(b"POST /exec/")
    assert recording.sent[len(recording.request) :] == b"input\n"
    assert "shut_wr" in [kind for kind, _ in recording.events]
    assert recording.end == "eof"
    client = Connection(CLIENT)
    from attachproto import ExecStart

    client.send(ExecStart("any", tty=False, stdin=True))
    client.receive_data(recording.received)
    client.receive_data(b"")
    assert [*client.events()][1:] == [Stdout(b"input\n"), Stderr(b"err\xff"), OutputClosed()]


def test_each_command_adds_a_line(embedded: Engine, command: Main, tmp_path: Path) -> None:
    file = str(tmp_path / "all.jsonl")
    create(embedded, "job", "echo out")
    assert command("attach", "--no-stdin", "--start", "--record", file, "job") == (0, b"out\n", b"")
    assert command("logs", "--record", file, "job") == (0, b"out\n", b"")
    assert command("run", "--rm", "--record", file, "busybox", "echo", "hi") == (0, b"hi\n", b"")
    assert [each.name.split()[2] for each in read_file(file)] == ["attach", "logs", "run"]


def test_nothing_secret_is_written(
    embedded: Engine, command: Main, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(tmp_path, "config.json").write_text(json.dumps({"HttpHeaders": {"X-Token": "hush-hush"}}))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    web, file = started(embedded, "web"), tmp_path / "web.jsonl"
    assert command("exec", "--record", str(file), web, "true") == (0, b"", b"")
    assert "hush-hush" not in file.read_text()
    assert "x-token: xxxxxxxxx\r\n" in read_file(str(file))[0].request.decode().lower()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Basic abc\r\n\r\n", b"Authorization: xxxxxxxxx\r\n"),
        (b"GET / HTTP/1.1\r\ncookie:a=1;b\r\nHost: a\r\n\r\n", b"cookie:xxxxx\r\n"),
        (b"HTTP/1.1 101 UPGRADED\r\nSet-Cookie: s=1\r\n\r\nX-Body: kept\r\n\r\n", b"X-Body: kept\r\n"),
    ],
)
def test_secrets_of_heads(data: bytes, expected: bytes) -> None:
    shown = _recording.without_secrets(data)
    assert expected in shown
    assert len(shown) == len(data)
    assert b"abc" not in shown
    assert b"s=1" not in shown


def test_a_long_stream_is_cut_and_says_so(
    embedded: Engine, command: Main, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_recording, "MAX_BYTES", 100_000)
    web, file = started(embedded, "web"), tmp_path / "web.jsonl"
    status, stdout, _ = command("exec", "--record", str(file), web, "head", "-c", "300000", "/dev/zero")
    assert (status, len(stdout)) == (0, 300_000)
    line = json.loads(file.read_text())
    recording = Recording.from_line(line)
    assert recording.cut
    (cut,) = [event[1] for event in line["events"] if event[0] == "recv-cut"]
    assert len(recording.received) <= 100_000
    assert len(recording.received) + cut > 300_000


def test_a_file_that_cannot_be_written(embedded: Engine, command: Main) -> None:
    status, _, stderr = command("exec", "--record", "/nowhere/file", "web", "true")
    assert status == 1
    assert b"/nowhere/file" in stderr


@pytest.mark.parametrize("name", [path.name for path in sorted(VECTORS.glob("*.jsonl"))])
def test_replay_shows_what_was_recorded(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    lines = len((VECTORS / name).read_text().splitlines())
    for number in range(1, lines + 1, 29):
        assert main(["replay", "--line", str(number), str(VECTORS / name)]) == 0
        shown = capsys.readouterr().out
        assert "on the wire" in shown
        assert "HTTP/1.1" in shown


def test_replay_shows_bytes_beside_events(embedded: Engine, command: Main, tmp_path: Path) -> None:
    file = str(tmp_path / "web.jsonl")
    command("run", "--rm", "--record", file, "busybox", "echo", "hi")
    status, stdout, stderr = command("replay", file)
    assert (status, stderr) == (0, b"")
    text = stdout.decode()
    for each in (
        "POST /containers/",
        "Accepted(",
        "01 00 00 00 00 00 00 03",
        "Stdout(data=b'hi\\n')",
        "OutputClosed()",
    ):
        assert each in text


@pytest.mark.parametrize("content", ["", "nonsense\n", "{}\n", '{"request": 1}\n'])
def test_a_file_that_is_no_recording(command: Main, tmp_path: Path, content: str) -> None:
    file = tmp_path / "file"
    file.write_text(content)
    arguments = ("--line", "1") if not content else ()
    status, stdout, stderr = command("replay", *arguments, str(file))
    assert (status, stdout) == (1, b"")
    assert stderr.startswith(b"attachproto: ")
    assert b"line" in stderr


@pytest.mark.parametrize("tty", [False, True])
def test_replay_as_a_server(embedded: Engine, command: Main, start: Start, tmp_path: Path, tty: bool) -> None:
    """A client that attaches to the replay gets what the engine sent, stdin included."""
    file = str(tmp_path / "web.jsonl")
    create(embedded, "job", "read line; echo got $line", OpenStdin=True, StdinOnce=not tty, Tty=tty)
    first = start("attach", "--start", "--record", file, "job", stdin=subprocess.PIPE)
    recorded, _ = first.communicate(b"hello\n", BOUND)
    assert b"got hello" in recorded
    host = f"unix://{tmp_path}/s"
    server = start("replay", "--as-server", host, file)
    assert server.stdout is not None
    assert server.stdout.readline() == host.encode() + b"\n"
    for name in ("one", "two"):
        again = start("attach", "-H", host, name, stdin=subprocess.PIPE)
        stdout, _ = again.communicate(b"hello\n", BOUND)
        assert (again.returncode, stdout) == (0, recorded)


def test_one_stream_is_played(command: Main, embedded: Engine, tmp_path: Path) -> None:
    status, _, stderr = command("replay", "--as-server", f"unix://{tmp_path}/s", str(VECTORS / "podman-5.8.6.jsonl"))
    assert status == 1
    assert b"--line" in stderr
    assert call(embedded, "GET", "/_ping").status == 200
