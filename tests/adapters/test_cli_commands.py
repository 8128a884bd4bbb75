"""``attach``, ``exec``, ``logs`` and ``run`` on the embedded engine, as a user runs them."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from attachproto import DataEvent, RawOutput, Stderr, Stdout
from attachproto_adapters._flows._marker import Marker, name_of_shell
from attachproto_adapters.cli import _values
from attachproto_adapters.cli._exec import MarkedWriter
from attachproto_adapters.cli._main import main
from attachproto_adapters.cli._writers import Writer
from attachproto_engine import Engine
from tests.adapters.cli_engine import Main, Start, command, create, embedded, exists, running, start, started
from tests.adapters.scripted import BOUND
from tests.engine.client import call
from tests.helpers import cuts

__all__ = ["command", "embedded", "running", "start"]  # the fixtures


# ---- exec ----


def test_exec(embedded: Engine, command: Main) -> None:
    web = started(embedded, "web")
    script = "echo out; echo err >&2; exit 3"
    assert command("exec", web, "sh", "-c", script) == (3, b"out\n", b"err\n")


def test_what_follows_the_container_is_the_command(embedded: Engine, command: Main) -> None:
    """Also what looks like options of ours, or the end of options."""
    web = started(embedded, "web")
    arguments = ("printf", "%s ", "-it", "--json", "--", "--version")
    assert command("exec", web, *arguments) == (0, b"-it --json -- --version ", b"")
    assert command("run", "--rm", "busybox", *arguments) == (0, b"-it --json -- --version ", b"")


def test_exec_options(embedded: Engine, command: Main, monkeypatch: pytest.MonkeyPatch) -> None:
    web = started(embedded, "web")
    monkeypatch.setenv("FROM_HERE", "3")
    env = ("-e", "A=1", "--env", "B=2=2", "-e", "FROM_HERE", "-e", "NOT_SET_HERE")
    script = "echo $A $B $FROM_HERE ${NOT_SET_HERE-unset}; pwd"
    assert command("exec", *env, "-w", "/", web, "sh", "-c", script) == (0, b"1 2=2 3 unset\n/\n", b"")


def test_exec_input(embedded: Engine, start: Start) -> None:
    web = started(embedded, "web")
    data = bytes(range(256)) * 1000
    process = start("exec", "-i", web, "cat", stdin=subprocess.PIPE)
    assert process.communicate(data, BOUND) == (data, b"")
    assert process.returncode == 0


def test_exec_with_a_terminal(embedded: Engine, command: Main) -> None:
    web = started(embedded, "web")
    status, stdout, stderr = command("exec", "-t", web, "sh", "-c", "test -t 1 && echo yes")
    assert (status, stdout, stderr) == (0, b"yes\r\n", b"")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("exec", "none", "true"), b"attachproto: No such container: none (404 to POST /containers/none/exec)\n"),
        (("attach", "none"), b"attachproto: No such container: none (404 to GET /containers/none/json)\n"),
        (("logs", "none"), b"attachproto: No such container: none (404 to GET /containers/none/json)\n"),
    ],
)
def test_no_such_container(command: Main, arguments: tuple[str, ...], message: bytes) -> None:
    assert command(*arguments) == (1, b"", message)


def test_a_command_that_is_not_found(embedded: Engine, command: Main) -> None:
    status, _, _ = command("exec", started(embedded, "web"), "no-such-program")
    assert status == 127


# ---- run ----


def test_run(embedded: Engine, command: Main) -> None:
    assert command("run", "--name", "job", "busybox", "sh", "-c", "echo out; exit 5") == (5, b"out\n", b"")
    assert exists(embedded, "job")
    assert command("run", "--rm", "--name", "other", "busybox", "true") == (0, b"", b"")
    assert not exists(embedded, "other")


def test_run_input(start: Start) -> None:
    process = start("run", "--rm", "-i", "busybox", "sort", stdin=subprocess.PIPE)
    assert process.communicate(b"b\na\n", BOUND) == (b"a\nb\n", b"")
    assert process.returncode == 0


@pytest.mark.parametrize(("program", "expected"), [("no-such-program", 127), ("/", 126)])
@pytest.mark.parametrize("rm", [(), ("--rm",)])
def test_run_what_cannot_run(embedded: Engine, command: Main, program: str, expected: int, rm: tuple[str, ...]) -> None:
    status, stdout, stderr = command("run", *rm, "--name", "job", "busybox", program)
    assert (status, stdout) == (expected, b"")
    assert stderr.startswith(b"attachproto: ")
    assert exists(embedded, "job") == (not rm)


def test_failures_of_run_have_a_status_of_their_own(embedded: Engine, command: Main) -> None:
    create(embedded, "taken", "true")
    status, _, stderr = command("run", "--name", "taken", "busybox", "true")
    assert status == 125
    assert b"taken" in stderr
    status, _, stderr = command("run", "-H", "unix:///nowhere", "busybox", "true")
    assert status == 125
    assert stderr.startswith(b"attachproto: no engine answers")


# ---- logs ----


def test_logs(embedded: Engine, command: Main) -> None:
    job = started(embedded, "job", "for i in 1 2 3; do echo $i; done; echo err >&2")
    assert call(embedded, "POST", f"/containers/{job}/wait").status == 200
    status, stdout, stderr = command("logs", "-f", job)
    assert (status, stdout, stderr) == (0, b"1\n2\n3\n", b"err\n")
    assert command("logs", "--tail", "all", "--since", "1h", job) == (0, b"1\n2\n3\n", b"err\n")
    assert command("logs", "-n", "0", job) == (0, b"", b"")
    assert command("logs", "--until", "2020-01-01", job) == (0, b"", b"")
    _, stdout, _ = command("logs", "-t", job)
    assert all(line.startswith(b"20") and line[19:20] == b"." for line in stdout.splitlines())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1769860800.5", "1769860800.5"),
        ("2026-01-31T12:00:00.123456789Z", "2026-01-31T12:00:00.123456789Z"),
        ("2026-01-31", datetime(2026, 1, 31).astimezone()),
        ("2026-01-31T12:00:00", datetime(2026, 1, 31, 12).astimezone()),
    ],
)
def test_times(text: str, expected: object) -> None:
    assert _values.point_in_time(text) == expected


def test_times_ago() -> None:
    ago = _values.point_in_time("1h10m1.5s")
    assert isinstance(ago, datetime)
    passed = datetime.now(UTC) - ago - timedelta(hours=1, minutes=10, seconds=1.5)
    assert timedelta(0) <= passed < timedelta(minutes=1)


@pytest.mark.parametrize(("text", "seconds"), [("10", 10), ("0.5", 0.5), ("1m30s", 90), ("1h", 3600), ("250ms", 0.25)])
def test_durations(text: str, seconds: float) -> None:
    assert _values.duration(text) == seconds


# ---- how output is shown ----


def test_json(command: Main) -> None:
    script = "printf 'out\\303\\244'; sleep 0.1; printf '\\377' >&2; exit 3"
    status, stdout, stderr = command("run", "--rm", "--json", "busybox", "sh", "-c", script)
    assert (status, stderr) == (3, b"")
    assert [json.loads(line) for line in stdout.splitlines()] == [
        {"event": "stdout", "data": "outä"},
        {"event": "stderr", "base64": "/w=="},
        {"event": "exit", "code": 3},
    ]


def test_prefix(command: Main) -> None:
    """Lines are whole, and there are no colours, because this is not a terminal."""
    script = "printf 'a\\nb'; echo x >&2; sleep 0.1; printf 'c\\nend'"
    status, stdout, stderr = command("run", "--rm", "--prefix", "busybox", "sh", "-c", script)
    assert (status, stdout, stderr) == (0, b"stdout | a\nstdout | bc\nstdout | end\n", b"stderr | x\n")


@pytest.mark.parametrize("no_colour", [False, True])
def test_colours_are_for_a_terminal(start: Start, monkeypatch: pytest.MonkeyPatch, no_colour: bool) -> None:
    if no_colour:
        monkeypatch.setenv("NO_COLOR", "1")
    ours, theirs = pty.openpty()
    process = start("run", "--rm", "--prefix", "busybox", "echo", "hi", stdout=theirs)
    os.close(theirs)
    assert process.wait(BOUND) == 0
    printed = os.read(ours, 1000)
    os.close(ours)
    assert printed == (b"stdout | hi\r\n" if no_colour else b"\x1b[32mstdout | \x1b[0mhi\r\n")


# ---- its end ----


def test_timeout_kills_the_container(embedded: Engine, command: Main) -> None:
    script = "echo begun; exec sleep 600"
    status, stdout, stderr = command("run", "--timeout", "0.5", "--name", "job", "busybox", "sh", "-c", script)
    assert (status, stdout, stderr) == (124, b"begun\n", b"")
    assert call(embedded, "GET", "/containers/job/json").json["State"]["ExitCode"] == 137


@pytest.mark.parametrize("tty", [(), ("-t",)])
def test_timeout_ends_a_command(embedded: Engine, command: Main, tmp_path: Path, tty: tuple[str, ...]) -> None:
    web, file = started(embedded, "web"), tmp_path / "pid"
    script = f"echo $$ > {file}; echo begun; exec sleep 600"
    status, stdout, stderr = command("exec", *tty, "--timeout", "1", web, "sh", "-c", script)
    assert (status, stdout.rstrip(), stderr) == (124, b"begun", b"")
    assert not Path(f"/proc/{file.read_text().strip()}").exists()
    assert call(embedded, "GET", "/containers/web/json").json["State"]["Running"]


def test_a_command_that_ends_in_time_is_as_without_timeout(embedded: Engine, command: Main) -> None:
    web = started(embedded, "web")
    script = "echo out; echo err >&2; exit 3"
    assert command("exec", "--timeout", "60", web, "sh", "-c", script) == (3, b"out\n", b"err\n")
    status, stdout, stderr = command("exec", "--timeout", "60", web, "no-such-program")
    assert status == 127
    assert not re.search(rb"[0-9a-f]{32}", stdout + stderr), "the shell's own words"


TOKEN = "0123456789abcdef"
ZERO = name_of_shell(TOKEN).encode()
FIRST = ZERO + b" 1 (sh) S 0 1 1 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 9"


@pytest.mark.parametrize("eol", [b"\n", b"\r\n"])
@pytest.mark.parametrize("before", [b"", b"typed ahead", b"a warning\r\n"])
@pytest.mark.parametrize(
    ("rest", "shown"),
    [
        (b"out 0123 put\n\x1f", b"out 0123 put\n\x1f"),
        (b"out\n" + ZERO + b" failed\n", b"out\n"),
        (ZERO + b": 1: exec: x: not found\r\n" + ZERO + b" failed\r\necho\r\n", b""),
    ],
    ids=range(3),
)
def test_what_the_shell_prints_is_kept_back(before: bytes, eol: bytes, rest: bytes, shown: bytes) -> None:
    for pieces in cuts(before + FIRST + eol + rest):
        writer, marker = Kept(), Marker(TOKEN)
        marked = MarkedWriter(writer, marker)
        for piece in pieces:
            marked.write(Stdout(piece))
        failed = ZERO in rest
        assert marker.not_started(127, *marked.output.held) == failed
        if not failed:
            marked.flush()
        assert writer.data == before + shown


def test_a_key_is_shown_at_once() -> None:
    writer = Kept()
    marked = MarkedWriter(writer, Marker(TOKEN))
    marked.write(RawOutput(FIRST + b"\r\n"))
    for at in range(len(TOKEN)):
        marked.write(RawOutput(TOKEN[at : at + 1].encode()))
        assert writer.data == TOKEN[: at + 1].encode()


@pytest.mark.parametrize("begin", [b"", FIRST + b"\n", FIRST + b"\n" + ZERO])
@pytest.mark.parametrize("size", [1, 100, 10_000])
def test_little_is_kept_back(begin: bytes, size: int) -> None:
    """Not even of output that has no line, or has the token: a process in the container may have seen it."""
    writer = Kept()
    marked = MarkedWriter(writer, Marker(TOKEN))
    data = begin + b"x" * 20_000
    for at in range(0, len(data), size):
        marked.write(Stdout(data[at : at + size]))
        assert len(marked.output.held[0]) <= 8192
    marked.flush()
    assert writer.data == data.removeprefix(FIRST + b"\n")


def test_stderr_before_the_line_is_kept_back_for_a_second_start() -> None:
    """Podman says there that it could not start the shell."""
    writer, marker = Kept(), Marker(TOKEN)
    marked = MarkedWriter(writer, marker)
    for piece in (b"a warn", b"ing\n"):
        marked.write(Stderr(piece))
    assert (writer.data, marked.output.held) == (b"", (b"", b"a warning\n"))
    marked.write(Stdout(FIRST + b"\n"))
    marked.write(Stderr(b"err"))
    assert (writer.data, marked.output.held) == (b"a warning\nerr", (b"", b""))


def test_little_of_stderr_is_kept_back() -> None:
    writer = Kept()
    marked = MarkedWriter(writer, Marker(TOKEN))
    for _ in range(200):
        marked.write(Stderr(b"x" * 100))
        assert len(marked.output.held[1]) <= 8192
    marked.flush()
    assert writer.data == b"x" * 20_000


class Kept(Writer):
    data = b""

    def write(self, event: DataEvent) -> None:
        self.data += event.data


def test_timeout_of_attach(embedded: Engine, command: Main) -> None:
    create(embedded, "web", "echo begun; exec sleep 600", OpenStdin=True)
    status, stdout, stderr = command("attach", "--start", "--no-stdin", "--json", "--timeout", "500ms", "web")
    assert (status, stderr) == (124, b"")
    assert [json.loads(line) for line in stdout.splitlines()] == [
        {"event": "stdout", "data": "begun\n"},
        {"event": "timeout"},
    ]
    assert not call(embedded, "GET", "/containers/web/json").json["State"]["Running"]


def test_timeout_of_logs_leaves_the_container_alone(embedded: Engine, command: Main) -> None:
    web = started(embedded, "web", "echo begun; exec sleep 600")
    assert command("logs", "-f", "--timeout", "0.5", web) == (124, b"begun\n", b"")
    assert call(embedded, "GET", "/containers/web/json").json["State"]["Running"]


def test_an_engine_that_does_not_answer_in_time(command: Main, silent_host: str) -> None:
    status, stdout, stderr = command("attach", "-H", silent_host, "--timeout", "0.2", "web")
    assert (status, stdout, stderr) == (124, b"", b"attachproto: no answer within 0.2 s\n")


@pytest.fixture
def silent_host() -> Iterator[str]:
    """An address where connections are accepted, by the kernel, and never read."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"tcp://127.0.0.1:{listener.getsockname()[1]}"


TRAP = "trap 'echo got INT; exit 9' INT; trap 'echo got TERM; exit 8' TERM; echo ready; while :; do sleep 0.01; done"


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGINT, 9), (signal.SIGTERM, 8)])
def test_signals_go_to_the_container(start: Start, number: int, expected: int) -> None:
    process = start("run", "--rm", "busybox", "sh", "-c", TRAP)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=BOUND)
    name = signal.Signals(number).name.removeprefix("SIG")
    assert (process.returncode, stdout, stderr) == (expected, f"got {name}\n".encode(), b"")


def test_who_insists_ends_the_command(embedded: Engine, start: Start) -> None:
    script = "trap 'echo no' INT; echo ready; while :; do sleep 0.01; done"
    process = start("run", "--name", "job", "busybox", "sh", "-c", script)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == b"no\n"
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=BOUND)
    assert (process.returncode, stderr) == (130, b"")
    assert call(embedded, "GET", "/containers/job/json").json["State"]["Running"]


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
@pytest.mark.parametrize("arguments", [("exec", "-i", "web", "sh", "-c", "echo ready; cat"), ("logs", "-f", "web")])
def test_signals_leave_no_traceback(
    embedded: Engine, start: Start, number: int, expected: int, arguments: tuple[str, ...]
) -> None:
    started(embedded, "web", "echo ready; exec sleep 600")
    process = start(*arguments, stdin=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(number)
    _, stderr = process.communicate(timeout=BOUND)
    assert (process.returncode, stderr) == (expected, b"")


@pytest.mark.parametrize("name", ["attach", "exec", "logs", "run"])
def test_help_has_examples_and_statuses(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([name, "--help"])
    text = capsys.readouterr().out
    assert f"attachproto {name} " in text.partition("examples:")[2]
    assert "exit status" in text.lower()
    assert "124" in text
    assert "=false" not in text.partition("examples:")[0]


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("shtab")
    with pytest.raises(SystemExit) as exited:
        main(["--print-completion", shell])
    script = capsys.readouterr().out
    assert exited.value.code == 0
    assert "--detach-keys" in script
    assert "=false" not in script


def test_what_bash_completes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("shtab")
    with pytest.raises(SystemExit):
        main(["--print-completion", "bash"])
    Path(tmp_path, "script").write_text(capsys.readouterr().out)
    words = "COMP_WORDS=(attachproto exec --det); COMP_CWORD=2"
    ask = f"source ./script; {words}; _shtab_attachproto; echo ${{COMPREPLY[@]}}"
    done = subprocess.run(["bash", "-c", ask], cwd=tmp_path, capture_output=True, timeout=BOUND)
    assert done.stdout == b"--detach-keys\n"


def test_completion_without_shtab(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    with pytest.raises(SystemExit) as exited:
        main(["--print-completion", "bash"])
    assert exited.value.code == 125
    assert "attachproto[completion]" in capsys.readouterr().err


def test_the_library_does_not_import_the_command() -> None:
    code = "import sys, attachproto_adapters.blocking; print([n for n in sys.modules if 'cli' in n or n == 'argparse'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=BOUND, check=True)
    assert "attachproto_adapters.cli" not in done.stdout.decode()
    assert "argparse" not in done.stdout.decode()
