"""Commands that are ended: the line that tells their process, the shell scripts in real shells, and `run_exec`."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from attachproto import RawOutput, Reason, RemoteProtocolError, Response, ResponseHead, Stderr, Stdout
from attachproto_adapters import CommandTimeout, ExecResult, HalfCloseEndsAttach, OutputTooLarge, RequestRejected
from attachproto_adapters import blocking as blocking_adapter
from attachproto_adapters._flows import _exec_end, _marker
from attachproto_adapters._flows._commands import Command
from attachproto_adapters._flows._exec_end import end_exec
from attachproto_adapters._flows._marker import Marker, MarkerState, Process, marked_command
from attachproto_adapters._flows._output import Gathered
from attachproto_adapters._flows._steps import AwaitDeferred, Broken, Call, CallDeferred, Discard
from tests.adapters.frameworks import ASYNCIO, EACH_FRAMEWORK, TRIO, Framework
from tests.adapters.scripted import BOUND
from tests.helpers import cuts

TOKEN = "0123456789abcdef0123456789abcdef"
STAT = "42 (sh) R 0 42 42 0 -1 4194560 856 0 0 0 1 0 0 0 20 0 1 0 1354639 2322432 364 18446744073709551615 0 0 0"
ZERO = _marker.name_of_shell(TOKEN)
LINE = f"{ZERO} {STAT}".encode()
PROCESS = Process(42, 1354639)


# ---- the line, byte by byte ----


def fed(pieces: list[bytes]) -> tuple[bytes, Marker]:
    marker = Marker(TOKEN)
    output = b"".join(map(marker.feed, pieces))
    marker.end()
    return output, marker


WARNINGS = b"sh: warning: setlocale: LC_ALL: cannot change locale (xx)\r\nERROR: ld.so: object 'x.so' ...: ignored.\r\n"


@pytest.mark.parametrize(
    "before", [b"", b"typed\r\n", b"no end of line: ", b"^C\x1f", WARNINGS, b"x" * 8192], ids=range(6)
)
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("output", [b"", LINE + b"\n", b"\r\n\0\xff"], ids=range(3))
def test_the_line_is_taken_out_however_it_is_cut(before: bytes, end: bytes, output: bytes) -> None:
    """What stands before it, on a TTY, is output."""
    for pieces in cuts_here(before + LINE + end + output):
        got, marker = fed(pieces)
        assert got == before + output
        assert (marker.state, marker.process) == (MarkerState.FOUND, PROCESS)


def cuts_here(data: bytes) -> Iterator[list[bytes]]:
    """All cuts; of much data those around its beginning, what may stand before the line, and its end."""
    if len(data) < 1000:
        yield from cuts(data)
        return
    for at in {
        *range(1, 40),
        *range(8192 - 40, min(len(data), 8192 + len(LINE) + 3)),
        *range(len(data) - 40, len(data)),
    }:
        yield [data[:at], data[at:]]
    yield [data]
    yield [data[at : at + 1] for at in range(len(data))]


@pytest.mark.parametrize(
    "output",
    [
        b"",
        b"OCI runtime exec failed: exec failed: no such file or directory: unknown\r\n",
        TOKEN.encode() + b" \n",
        ZERO.encode() + b"\n",
        ZERO.encode() + b": 1: exec: not found\n",
        LINE[1:] + b"\n",
        b"x" * 8192,
    ],
    ids=range(7),
)
def test_output_without_the_line_is_passed_on(output: bytes) -> None:
    for pieces in cuts_here(output):
        got, marker = fed(pieces)
        assert got == output
        assert (marker.state, marker.process) == (MarkerState.ABSENT, None)
        assert marker.not_started(127, output, b"") == (output != b""), "an engine that starts no shell says why"


@pytest.mark.parametrize(
    "output",
    [b"x" * 8193, b"x" * 8193 + LINE + b"\n", ZERO.encode() + b" " + b"x" * 10_000, LINE + b" " * 2048 + b"\n"],
    ids=range(4),
)
def test_a_line_that_comes_too_late_or_is_too_long_is_output(output: bytes) -> None:
    """It is not known what runs, so nothing is started again."""
    for pieces in cuts_here(output):
        got, marker = fed(pieces)
        assert got == output
        assert (marker.state, marker.process) == (MarkerState.MISSED, None)
        assert not marker.not_started(127, output, b"")
        assert not marker.lost(0, b"", b"")


def test_a_cut_within_the_line_is_no_output() -> None:
    for before in (b"", WARNINGS):
        for size in range(1, len(LINE)):
            data = before + LINE[:size]
            for pieces in cuts(data) if size in (1, 20, len(ZERO)) else [[data]]:
                got, marker = fed(pieces)
                assert (got, marker.state, marker.process) == (before, MarkerState.CUT, None)
                assert marker.lost(127, got, b"")
                assert not marker.not_started(127, got, b"")


@pytest.mark.parametrize(
    ("exit_code", "stdout", "lost"),
    [(0, b"", True), (124, b"", True), (125, b"", True), (128, b"", True), (137, b"", False), (0, b"text", False)],
)
def test_an_end_before_the_line(exit_code: int, stdout: bytes, lost: bool) -> None:
    """The shell prints it first. A command that a signal has ended may have had no time for it."""
    got, marker = fed([stdout])
    assert (got, marker.lost(exit_code, stdout, b"a warning\n")) == (stdout, lost)
    assert not marker.not_started(exit_code, b"", b"a warning\n")


def test_nothing_is_lost_with_the_line() -> None:
    _, marker = fed([LINE + b"\n"])
    assert not marker.lost(0, b"", b"")


@pytest.mark.parametrize(
    ("stat", "process"),
    [
        (STAT, PROCESS),
        (STAT.replace("(sh)", "(a ) b (c) 1 2)"), PROCESS),
        ("", None),
        ("42 (sh", None),
        ("x (sh) R 0 42", None),
    ],
)
def test_the_process_is_in_the_line(stat: str, process: Process | None) -> None:
    got, marker = fed([f"{ZERO} {stat}\nx".encode()])
    assert (got, marker.state, marker.process) == (b"x", MarkerState.FOUND, process)


@pytest.mark.parametrize("kind", [Stdout, RawOutput])
def test_it_is_taken_out_of_stdout_alone(kind: type[Stdout | RawOutput]) -> None:
    gathered = Gathered(Marker(TOKEN))
    gathered.add_all([kind(LINE[9:] + b"\nout"), Stderr(LINE), kind(LINE[:9])], None)
    assert gathered.result() == (b"out", LINE)
    gathered = Gathered(Marker(TOKEN))
    gathered.add_all([kind(LINE[:9])], 10)
    gathered.add_all([kind(LINE[9:] + b"\n0123456789")], 10)
    assert gathered.result() == (b"0123456789", b"")
    gathered = Gathered(Marker(TOKEN))
    gathered.add_all([kind(LINE[:9])], None)
    assert gathered.result() == (b"", b"")


# ---- the command behind the shell ----


def test_what_a_shell_would_change_in_the_environment_is_set_again() -> None:
    start = ["/bin/sh", "-c", _marker.SCRIPT, ZERO]
    assert marked_command(["ls", "-l"], TOKEN, {"HOME": "/", "a": "x=y", "_1": ""}) == [*start, "ls", "-l"]
    env = {"PATH": "/bin", "discovery.type": "one", "a-b": "", "PWD": "/x", "SHLVL": "3", "_": "q", "BASH_ENV": "e"}
    again = [f"{name}={value}" for name, value in env.items() if name != "PATH"]
    assert marked_command(["ls"], TOKEN, env) == [*start, "env", *again, "ls"]
    assert marked_command(["a=b", "ls"], TOKEN, {}) == [*start, "a=b", "ls"]
    for command in ["a=b", "-x"]:
        assert marked_command([command], TOKEN, {"a.b": "1"}) is None


def test_a_variable_that_no_process_can_have_is_left_out() -> None:
    reported = {"a.b": "1", "c.d": "\0", "\0": "", "e.f": "\ud800"}
    assert marked_command(["ls"], TOKEN, reported) == ["/bin/sh", "-c", _marker.SCRIPT, ZERO, "env", "a.b=1", "ls"]


@pytest.mark.parametrize("config", [{"Env": 5}, {"Env": [5, None]}, {"Env": {}}, [], None, "x", 5])
def test_an_environment_that_is_none_is_as_good_as_an_unknown_one(config: Any) -> None:
    steps = Command("web", ["ls"], token=TOKEN, kill=True, stdin=False, api_version=None).start()
    next(steps)
    answer = Response(200, (("content-type", "application/json"),), json.dumps({"Config": config}).encode())
    create = steps.send(answer)
    assert isinstance(create, Call)
    assert json.loads(create.request.body)["Cmd"] == ["/bin/sh", "-c", _marker.SCRIPT, ZERO, "ls"]


BUSYBOX = shutil.which("busybox")
SHELLS = {
    name: path
    for name, path in {
        "sh": "/bin/sh",
        "dash": shutil.which("dash"),
        "bash": shutil.which("bash"),
        "busybox": BUSYBOX,
    }.items()
    if path
}
EACH_SHELL = pytest.mark.parametrize("shell", SHELLS)
PATH = "/usr/local/bin:/usr/bin:/bin"


def shelled(shell: str, command: list[str]) -> dict[str, Any]:
    """How to run a command line of ``/bin/sh`` with another shell, under the name ``sh``."""
    assert command[0] == "/bin/sh"
    return {"args": ["sh", *command[1:]], "executable": os.path.realpath(SHELLS[shell])}


def run_marked(shell: str, command: list[str], env: dict[str, str], **options: Any) -> tuple[int, bytes, bytes, Marker]:
    marked = marked_command(command, TOKEN, env)
    assert marked is not None
    done = subprocess.run(**shelled(shell, marked), env=env, capture_output=True, timeout=BOUND, **options)
    marker = Marker(TOKEN)
    return done.returncode, marker.feed(done.stdout), done.stderr, marker


@EACH_SHELL
@pytest.mark.parametrize(
    "env",
    [
        {"PATH": PATH},
        {"PATH": PATH, "HOME": "/", "ENV": "/nowhere", "LC_ALL": "C", "IFSX": "x"},
        {"PATH": PATH, "PWD": "/nonsense", "OLDPWD": "/x", "SHLVL": "7", "_": "zz", "a.b": "1", "a-b": "2"},
        {"PATH": PATH, "IFS": "x", "PS1": "q", "PPID": "3", "OPTIND": "5", "LINENO": "3", "RANDOM": "5"},
    ],
    ids=range(4),
)
def test_the_environment_is_the_same(shell: str, env: dict[str, str]) -> None:
    show = [sys.executable, "-I", "-c", "import os; print(sorted(os.environb.items()))"]
    code, stdout, stderr, marker = run_marked(shell, show, env)
    plain = subprocess.run(show, env=env, capture_output=True, timeout=BOUND)
    assert (code, stdout, stderr) == (0, plain.stdout, b"")
    assert marker.state is MarkerState.FOUND


# What it says of itself, and of what a process inherits.
SAY = """
import os, signal, sys
fds = sorted(int(each) for each in os.listdir("/proc/self/fd"))
status = [line for line in open("/proc/self/status") if line.startswith(("Sig", "Umask", "Shd"))]
print(sys.argv[1:], fds, [each for each in status if "SigQ" not in each], os.getpid() == os.getsid(0))
sys.stdout.flush()
os.write(1, bytes(range(256)))
os.write(2, b"err\\0\\n")
data = sys.stdin.buffer.read()
os.write(1, data[::-1])
os.kill(os.getpid(), signal.SIGUSR1) if data == b"die" else sys.exit(len(data))
"""


@EACH_SHELL
@pytest.mark.parametrize("input", [b"", b"\0\n\xff", b"die"])
def test_arguments_bytes_descriptors_signals_and_exit_code_are_the_same(shell: str, input: bytes) -> None:
    words = ["", "a b", "*", "$HOME", "'\"\\", "-n", "ü", "x\ny", TOKEN]
    command = [sys.executable, "-I", "-c", SAY, *words]
    env = {"PATH": PATH}
    got = run_marked(shell, command, env, input=input, start_new_session=True)
    plain = subprocess.run(command, env=env, input=input, capture_output=True, timeout=BOUND, start_new_session=True)
    assert got[:3] == (plain.returncode, plain.stdout, plain.stderr)
    assert got[3].process is not None


@EACH_SHELL
@pytest.mark.parametrize("command", ["no-such-command", "/no/such", "/etc/passwd", "/etc"])
def test_a_command_that_the_shell_cannot_run_is_told_from_one_that_fails(shell: str, command: str) -> None:
    code, stdout, _, marker = run_marked(shell, [command], {"PATH": PATH})
    assert marker.not_started(code, stdout, b"")
    code, stdout, _, marker = run_marked(shell, ["sh", "-c", f"echo '{ZERO}'; exit {code}"], {"PATH": PATH})
    assert not marker.not_started(code, stdout, b"")


RUNC = b'exec failed: unable to start container process: exec: "/bin/sh": stat /bin/sh: no such file or directory'
NOT_FOUND = b"OCI runtime attempted to invoke a command that was not found\n"
# What engines send in place of the output of a shell that they cannot start (dockerd 20.10 to 28.5, Podman 4.3 to 5.8).
NO_SHELL = {
    "dockerd": (126, b"OCI runtime exec failed: " + RUNC + b": unknown\r\n", b""),
    "Podman": (127, b"", b"Error: /usr/sbin/runc: " + RUNC + b": " + NOT_FOUND),
    "Podman, crun": (
        127,
        b"",
        b"Error: crun: executable file `/bin/sh` not found in $PATH: " + NOT_FOUND,
    ),
    "Podman, more": (
        125,
        b"",
        b'Error: /usr/sbin/runc: exec failed: exec: "/bin/sh": is a directory: OCI runtime error\n'
        b"Error: read unixpacket @->/proc/self/fd/14/attach: read: connection reset by peer\n",
    ),
    "glibc's loader": (
        127,
        b"",
        b"/bin/sh: error while loading shared libraries: libc.so.6: cannot open shared object\n",
    ),
    "glibc's loader, which warns first": (
        127,
        b"",
        WARNINGS + b"/bin/sh: error while loading shared libraries: libtinfo.so.6: cannot open shared object\n",
    ),
    "musl's loader": (127, b"", b"Error loading shared library libc.so: No such file (needed by /bin/sh)\n"),
}


@pytest.mark.parametrize("tty", [False, True])
@pytest.mark.parametrize("engine", NO_SHELL)
def test_an_engine_that_cannot_start_the_shell_says_so(engine: str, tty: bool) -> None:
    code, stdout, stderr = NO_SHELL[engine]
    if tty:
        stdout, stderr = stdout + stderr, b""
    marker = Marker(TOKEN, tty=tty)
    assert marker.feed(stdout) == stdout
    marker.end()
    assert marker.not_started(code, stdout, stderr)
    assert not marker.lost(code, stdout, stderr)
    for ended in (0, 124, 137):
        assert not marker.not_started(ended, stdout, stderr)


@pytest.mark.parametrize("code", [125, 126, 127, 128])
@pytest.mark.parametrize("tty", [False, True])
@pytest.mark.parametrize("warnings", [b"", WARNINGS, b"Error: the command's own\n"])
def test_an_exit_code_without_the_engines_text_starts_nothing_again(code: int, tty: bool, warnings: bytes) -> None:
    """A connection that is cut loses the line, and then the command may have ended with any code."""
    marker = Marker(TOKEN, tty=tty)
    outputs = (warnings, b"") if tty else (b"", warnings)
    assert marker.feed(outputs[0]) == outputs[0]
    marker.end()
    assert not marker.not_started(code, *outputs)
    assert marker.lost(code, *outputs) or outputs[0]


# ---- the script that ends a session, in real shells ----


def started(script: str, *, shell: str = "/bin/sh") -> tuple[subprocess.Popen[bytes], Process]:
    """A session whose leader has printed a line."""
    child = subprocess.Popen([shell, "-c", script], stdout=subprocess.PIPE, start_new_session=True)
    assert child.stdout is not None
    assert child.stdout.readline() == b"ready\n"
    stat = Path(f"/proc/{child.pid}/stat").read_bytes()
    process = _marker._process(stat)
    assert process is not None
    assert process.pid == child.pid
    return child, process


def living(session: int) -> list[int]:
    """The processes of a session that are no zombies."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
                if int(fields[3]) == session and fields[0] not in "ZX":
                    found.append(int(entry.name))
    return found


def kill(shell: str, process: Process, rounds: tuple[int, int] = (2, 50), env: dict[str, str] | None = None) -> bytes:
    command = ["/bin/sh", "-c", _exec_end.SCRIPT, "sh", str(process.pid), str(process.started), *map(str, rounds)]
    environment = {"PATH": PATH} if env is None else env
    done = subprocess.run(**shelled(shell, command), env=environment, capture_output=True, timeout=BOUND)
    assert done.stderr == b""
    said: bytes = done.stdout.strip()
    return said


SESSIONS = {
    "sleep": "echo ready; exec sleep 1000",
    "children": "sleep 1000 & (sleep 1000 & sleep 1000) & echo ready; wait",
    "orphans": "(trap '' HUP; sleep 1000 & sleep 1000) >/dev/null & echo ready; exec >&-; sleep 0.01",
    "pipeline": "echo ready; sleep 1000 | cat | cat",
    "ignores TERM": "trap '' TERM; sleep 1000 & echo ready; while :; do sleep 1000; done",
    "stopped": "echo ready; kill -STOP $$; sleep 1000",
}


@EACH_SHELL
@pytest.mark.parametrize("script", SESSIONS)
def test_a_session_is_ended(shell: str, script: str) -> None:
    bystander, _ = started("echo ready; exec sleep 1000")
    child, process = started(SESSIONS[script])
    with bystander, child:
        assert kill(shell, process) == b"ended"
        assert living(process.pid) == []
        assert bystander.poll() is None
        bystander.kill()


def test_a_name_with_spaces_parentheses_and_a_new_line_hides_nothing(tmp_path: Path) -> None:
    program = tmp_path / "a) R 1\n (b"
    shutil.copy("/bin/sh", program)
    child, process = started("echo ready; read x; sleep 1000", shell=str(program))
    with child:
        assert b"a) R 1" in Path(f"/proc/{child.pid}/stat").read_bytes()
        assert kill("sh", process) == b"ended"
        assert child.wait(BOUND) == -signal.SIGTERM


def test_the_process_that_got_the_number_later_is_left_alone() -> None:
    child, process = started("echo ready; exec sleep 1000")
    with child:
        assert kill("sh", Process(process.pid, process.started + 1)) == b"ended"
        assert child.poll() is None
        child.kill()


@pytest.mark.skipif("busybox" not in SHELLS, reason="no busybox")
def test_without_any_program_but_the_shell() -> None:
    child, process = started(SESSIONS["ignores TERM"])
    with child:
        assert kill("sh", process, env={"PATH": "/nowhere"}) == b"ended"
        assert living(process.pid) == []


def test_the_exec_that_kills_is_created_as_every_exec_is() -> None:
    flow = end_exec("web", "e1", Process(7, 8), None, "1.40")
    step = next(flow)
    assert isinstance(step, Call)
    assert step.request.target == "/v1.40/containers/web/exec"
    body = json.loads(step.request.body)
    assert body.pop("Cmd")[:3] == ["/bin/sh", "-c", _exec_end.SCRIPT]
    plain = {"AttachStdin": False, "AttachStdout": True, "AttachStderr": False, "Tty": False}
    assert body == plain | {"User": "0"}, "without stderr, so that nothing stands behind the last word"


def test_what_cannot_be_killed_is_reported() -> None:
    """With no round of SIGKILL, as if it were in an uninterruptible wait."""
    child, process = started(SESSIONS["ignores TERM"])
    with child:
        assert kill("sh", process, (50, 2)) == b"left"
        os.killpg(process.pid, signal.SIGKILL)


# ---- the flow that ends an exec ----

HEAD = (("content-type", "application/json"),)
FRAME = b"\x01\0\0\0\0\0\0\x06"


def answered(value: Any, status_code: int = 200) -> Response:
    return Response(status_code, HEAD, json.dumps(value).encode())


def exec_json(*, running: bool) -> Response:
    value = {"Running": running, "ExitCode": None if running else 0, "ProcessConfig": {"tty": False}}
    return answered(value)


def drive(*answers: Any, user: str | None = None, process: Process | None = PROCESS) -> tuple[list[Any], bool]:
    flow = end_exec("web", "e1", process, user, None)
    steps: list[Any] = []
    pending = iter(answers)
    try:
        step = next(flow)
        while True:
            if isinstance(step, Call | CallDeferred):
                body = json.loads(step.request.body) if step.request.body else {}
                steps.append((step.request.method, "/".join(step.request.path), body.get("User")))
            step = flow.send(None if isinstance(step, AwaitDeferred | Discard) else next(pending))
    except StopIteration as stop:
        assert next(pending, None) is None
        return steps, stop.value


CREATED = answered({"Id": "k1"}, 201)
ENDED, LEFT = (Response(200, (), FRAME + word + b"\n") for word in (b"ended", b"left"))
ENDED_HEAD = ResponseHead(200, ())
KILL = [("POST", "containers/web/exec", "0"), ("POST", "exec/k1/start", None)]
INSPECT = ("GET", "exec/e1/json", None)


def test_root_is_asked_first_and_the_commands_user_if_some_are_left() -> None:
    assert drive(CREATED, ENDED) == (KILL, True)
    assert drive(CREATED, LEFT, CREATED, ENDED) == ([*KILL, ("POST", "containers/web/exec", None), KILL[1]], True)
    assert drive(CREATED, LEFT, CREATED, LEFT, user="7") == (
        [*KILL, ("POST", "containers/web/exec", "7"), KILL[1]],
        False,
    )
    assert drive(CREATED, LEFT, user="root") == (KILL, False)


@pytest.mark.parametrize("running", [True, False])
def test_where_the_script_cannot_run_the_engine_is_asked(running: bool) -> None:
    inspect = exec_json(running=running)
    assert drive(answered({"message": "is paused"}, 409), inspect) == ([KILL[0], INSPECT], not running)
    assert drive(CREATED, Response(200, (), b"OCI runtime exec failed"), inspect) == ([*KILL, INSPECT], not running)
    assert drive(inspect, process=None) == ([INSPECT], not running)
    assert drive(inspect, process=Process(1, 5)) == ([INSPECT], not running)


def test_an_exec_that_the_engine_has_forgotten_has_ended_with_its_container() -> None:
    assert drive(answered({"message": "no such exec"}, 404), process=None) == ([INSPECT], True)
    assert drive(answered({"message": "forbidden"}, 403), process=None) == ([INSPECT], False)


def test_words_that_a_cut_has_lost_are_asked_for_again_if_the_exec_goes_on() -> None:
    error = ConnectionResetError("cut")

    def end(running: bool) -> bool:
        flow = end_exec("web", "e1", PROCESS, None, None)
        answers: dict[type, Any] = {
            Call: CREATED,
            CallDeferred: ENDED_HEAD,
            AwaitDeferred: Broken(error),
            Discard: None,
        }
        step = next(flow)
        try:
            while True:
                step = flow.send(answers[type(step)])
                if isinstance(step, Discard):
                    answers[Call] = exec_json(running=running)
        except StopIteration as stop:
            return bool(stop.value)

    assert end(running=False)
    with pytest.raises(ConnectionResetError):
        end(running=True)


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (ConnectionResetError(), True),
        (RemoteProtocolError("cut", Reason.CUT_IN_HEAD), True),
        (TimeoutError(), False),
        (RequestRejected(500, "no", "POST /x"), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_command_is_ended_once_more_if_a_connection_breaks(error: Exception, again: bool) -> None:
    command = Command("web", ["x"], token=TOKEN, kill=True, stdin=False, api_version=None)
    assert [command.may_try_again(error), command.may_try_again(error)] == [again, False]


def test_what_an_error_says_of_a_command() -> None:
    command = Command("web", ["x"], token=TOKEN, kill=False, stdin=False, api_version=None)
    error = command.timed_out(1.5, (b"o", b"e"), ended=True)
    assert isinstance(error, TimeoutError)
    assert (error.stdout, error.stderr, error.ended) == (b"o", b"e", True)
    assert "was not started" in str(error)


# ---- run_exec on the embedded engine ----


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of one in a process of its own, because each test looks for descriptors that it has left open."""
    host = f"unix://{tmp_path_factory.mktemp('engine')}/s"
    command = [sys.executable, "-m", "attachproto_adapters", "engine", "--host", host]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline()
        yield host
        child.terminate()


def asked(engine: str, method: str, target: str, body: Any = None) -> Any:
    connection = http.client.HTTPConnection("engine", timeout=BOUND)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(engine.removeprefix("unix://"))
    with contextlib.closing(connection):
        data = None if body is None else json.dumps(body)
        connection.request(method, target, data, {"Content-Type": "application/json"})
        answer = connection.getresponse().read()
        return json.loads(answer) if answer.strip() else None


@pytest.fixture(scope="module")
def container(engine: str) -> str:
    created: str = asked(engine, "POST", "/containers/create", {"Image": "x", "Cmd": ["sleep", "1000"]})["Id"]
    asked(engine, "POST", f"/containers/{created}/start")
    return created


def session_of(pid: bytes) -> Callable[[], list[int]]:
    """The living processes of the session whose leader has printed this."""
    return lambda: living(int(pid.split()[0]))


def timed_out(framework: Framework, engine: str, container: str, script: str, **options: Any) -> CommandTimeout:
    caught: list[CommandTimeout] = []

    async def scenario() -> None:
        # On a busy machine the time can be over before the shell has printed its number.
        for timeout in (0.3, 1.5, 7.5):
            with pytest.raises(CommandTimeout) as info:
                await framework.run_exec(
                    container, ["sh", "-c", script], **{"host": engine, "timeout": timeout, **options}
                )
            caught.append(info.value)
            if info.value.stdout or "echo $$" not in script:
                break

    framework.run(scenario)
    return caught[-1]


@EACH_FRAMEWORK
@pytest.mark.parametrize(
    "script",
    [
        "echo $$; exec sleep 1000",
        "echo $$; sleep 1000 & sleep 1000 | cat & wait",
        "echo $$; trap '' TERM; sleep 1000 & while :; do sleep 1000; done",
    ],
    ids=["sleep", "children", "ignores TERM"],
)
def test_a_command_is_ended_at_its_deadline(framework: Framework, engine: str, container: str, script: str) -> None:
    error = timed_out(framework, engine, container, script)
    assert error.ended
    assert "was ended" in str(error)
    assert session_of(error.stdout)() == []


@EACH_FRAMEWORK
def test_what_it_prints_when_it_is_ended_is_in_the_error(framework: Framework, engine: str, container: str) -> None:
    script = "trap 'echo last; echo words >&2; exit' TERM; echo $$; while :; do sleep 0.01; done"
    error = timed_out(framework, engine, container, script)
    assert (error.stdout.split()[1:], error.stderr) == ([b"last"], b"words\n")


@EACH_FRAMEWORK
@pytest.mark.parametrize("tty", [False, True])
def test_one_that_never_stops_printing(framework: Framework, engine: str, container: str, tty: bool) -> None:
    error = timed_out(framework, engine, container, "echo $$; exec yes", tty=tty)
    assert error.ended
    pid, rest = error.stdout.split(None, 1)
    assert session_of(pid)() == []
    assert rest.startswith(b"y\r\ny" if tty else b"y\ny")


@EACH_FRAMEWORK
def test_one_that_never_reads(framework: Framework, engine: str, container: str) -> None:
    error = timed_out(framework, engine, container, "echo $$; exec sleep 1000", input=bytes(10_000_000))
    assert error.ended
    assert session_of(error.stdout)() == []


@EACH_FRAMEWORK
def test_one_that_prints_too_much_is_ended(framework: Framework, engine: str, container: str) -> None:
    async def scenario() -> None:
        with pytest.raises(OutputTooLarge) as caught:
            await framework.run_exec(container, ["sh", "-c", "echo $$; exec yes"], max_output=1000, host=engine)
        assert len(caught.value.stdout) == 1000
        assert caught.value.ended
        assert session_of(caught.value.stdout)() == []

    framework.run(scenario)


@EACH_FRAMEWORK
def test_without_kill_it_goes_on(framework: Framework, engine: str, container: str) -> None:
    error = timed_out(framework, engine, container, "echo $$; exec sleep 1000", kill=False)
    assert not error.ended
    assert "goes on (kill=False)" in str(error)
    assert session_of(error.stdout)() == [int(error.stdout)]
    os.kill(int(error.stdout), signal.SIGKILL)


@EACH_FRAMEWORK
def test_one_that_ends_in_time_is_as_ever(framework: Framework, engine: str, container: str) -> None:
    async def scenario() -> None:
        for kill in (True, False):
            options: dict[str, Any] = {"host": engine, "kill": kill}
            command = ["sh", "-c", "printf '\\000\\377%s' \"$A\"; cat; echo e >&2; exit 7"]
            got = await framework.run_exec(container, command, input=b"\0\n", env={"A": "é"}, **options)
            assert got == ExecResult(7, b"\0\xff\xc3\xa9\0\n", b"e\n")
            on_terminal = ["sh", "-c", "tty >/dev/null && echo t"]
            terminal = await framework.run_exec(container, on_terminal, tty=True, **options)
            assert terminal == ExecResult(0, b"t\r\n", b"")
        missing = await framework.run_exec(container, ["no-such"], host=engine)
        assert missing == await framework.run_exec(container, ["no-such"], kill=False, host=engine)
        assert missing.exit_code == 127

    framework.run(scenario)


@EACH_FRAMEWORK
def test_a_warning_before_the_line(framework: Framework, engine: str, container: str, tmp_path: Path) -> None:
    """The dynamic loader's, which a TTY shows with stdout. The command is known all the same, and is started once."""
    runs, env = tmp_path / "runs", {"LD_PRELOAD": "/no/such.so"}

    async def scenario() -> None:
        command = ["sh", "-c", f"echo run >> {runs}; exit 127"]
        got = await framework.run_exec(container, command, env=env, tty=True, host=engine)
        assert (got.exit_code, runs.read_text()) == (127, "run\n")
        assert b"LD_PRELOAD" in got.stdout
        assert b"\x1f" not in got.stdout
        with pytest.raises(HalfCloseEndsAttach):
            await framework.run_exec(container, ["cat"], input=b"x", tty=True, host=engine)

    framework.run(scenario)
    error = timed_out(framework, engine, container, "echo $$; exec sleep 1000", tty=True, env=env)
    assert error.ended
    for pid in filter(bytes.isdigit, error.stdout.splitlines()):  # none, if the deadline came first
        assert not Path(f"/proc/{pid.decode()}").exists()


@pytest.mark.parametrize("framework", [ASYNCIO, TRIO], ids=str)
def test_a_cancelled_command_is_ended(framework: Framework, engine: str, container: str, tmp_path: Path) -> None:
    told = tmp_path / "pid"
    os.mkfifo(told)

    async def call() -> None:
        await framework.run_exec(container, ["sh", "-c", f"echo $$ >{told}; exec sleep 1000"], host=engine)

    async def with_asyncio() -> None:
        task = asyncio.create_task(call())
        pids.append(await framework.aside(told.read_bytes))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def with_trio() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            pids.append(await framework.aside(told.read_bytes))
            nursery.cancel_scope.cancel()

    pids: list[bytes] = []
    framework.run(with_asyncio if framework is ASYNCIO else with_trio)
    assert session_of(pids[0])() == []


@pytest.mark.parametrize("framework", [ASYNCIO, TRIO], ids=str)
def test_cancelled_at_any_moment_nothing_runs_on(framework: Framework, engine: str, container: str) -> None:
    mark = f"10{os.getpid()}.{framework.name.__len__()}"

    async def call() -> None:
        await framework.run_exec(container, ["sleep", mark], host=engine)

    async def scenario() -> None:
        for delay in [0.0005 * 2**step for step in range(9)]:
            if framework is ASYNCIO:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(delay):
                        await call()
            else:
                with trio.move_on_after(delay):
                    await call()

    framework.run(scenario)
    # An exec that was created and not started runs nothing. The engine may still be starting one.
    deadline = time.monotonic() + BOUND
    while (running := [each for each in command_lines() if mark in each]) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert running == []


def command_lines() -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                found.append((entry / "cmdline").read_bytes().decode(errors="replace"))
    return found


def test_ctrl_c_ends_it(engine: str, container: str, tmp_path: Path) -> None:
    told = tmp_path / "pid"
    os.mkfifo(told)
    pids: list[bytes] = []

    def interrupt() -> None:
        pids.append(told.read_bytes())
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            blocking_adapter.run_exec(container, ["sh", "-c", f"echo $$ >{told}; exec sleep 1000"], host=engine)
    finally:
        signal.signal(signal.SIGINT, before)
        thread.join(BOUND)
    assert session_of(pids[0])() == []


@EACH_FRAMEWORK
@pytest.mark.parametrize("timeout", [0, -1, float("nan"), "1", True, 1e10])
def test_a_timeout_is_a_number_of_seconds(framework: Framework, timeout: Any) -> None:
    async def scenario() -> None:
        with pytest.raises((TypeError, ValueError), match="timeout"):
            await framework.run_exec("web", ["true"], host="unix:///nowhere", timeout=timeout)

    framework.run(scenario)
