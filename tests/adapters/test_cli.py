"""The command, as a user runs it."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import attachproto_adapters
from attachproto import AttachOptions, Framing, OutputClosed, RawOutput, Stderr, Stdout, Systemerr
from attachproto_adapters import ApiVersionRejected, ImageNotFound
from attachproto_adapters._errors import ErrorWithRemedy
from attachproto_adapters.cli._main import main
from attachproto_adapters.cli._statuses import in_options
from tests.adapters.scripted import (
    BOUND,
    Act,
    Engine,
    Peer,
    accepts,
    answers,
    container,
    refuses,
    rejects,
    stays,
    waits,
)

# So often that the end of the command has met its other thread at work.
RACES = 8

Process = subprocess.Popen[bytes]
Start = Callable[..., Process]


@pytest.fixture
def start(engine: Engine) -> Iterator[Start]:
    """Starts the command; it is ended before the engine is, whatever the test does."""
    processes: list[Process] = []

    def popen(
        *arguments: str, environ: dict[str, str] | None = None, prefix: tuple[str, ...] = (), **streams: Any
    ) -> Process:
        # -X dev tells of what is left open, on stderr, which the tests compare whole.
        command = [*prefix, sys.executable, "-X", "dev", "-m", "attachproto_adapters", *arguments]
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
        env = {name: value for name, value in os.environ.items() if name in ("PATH", "PYTHONPATH", "HOME")}
        process = subprocess.Popen(command, env=env | (environ or {"DOCKER_HOST": engine.host}), **streams)
        processes.append(process)
        return process

    yield popen
    for process in processes:
        process.kill()
        process.communicate(timeout=BOUND)


Run = Callable[..., tuple[int, bytes, bytes]]


@pytest.fixture
def run(start: Start) -> Run:
    """Runs the command to its end: exit status, stdout, stderr."""

    def run(
        *arguments: str, input: bytes | None = None, environ: dict[str, str] | None = None
    ) -> tuple[int, bytes, bytes]:
        streams: dict[str, Any] = {} if input is None else {"stdin": subprocess.PIPE}
        process = start(*arguments, environ=environ, **streams)
        stdout, stderr = process.communicate(input, timeout=BOUND)
        return process.returncode, stdout, stderr

    return run


def echo(peer: Peer) -> None:
    """Prints stdin, once it has ended by a half-close."""
    peer.accept()
    peer.send(Stdout(peer.stdin_to_end()), Stderr(b"read to its end\n"), OutputClosed())
    peer.until_closed()


# ---- what it is for ----


def test_both_streams_apart_and_the_exit_status(engine: Engine, run: Run) -> None:
    engine.on("attach", accepts(Stdout(b"one\n"), Stderr(b"two\n"), Stdout(b"\xff\x00three")))
    engine.on("wait", waits(7))
    assert run("attach", "--no-stdin", "web") == (7, b"one\n\xff\x00three", b"two\n")
    assert engine.calls == ["inspect", "wait not-running", "attach", "inspect"]
    assert engine.attach_requests()[0].options == AttachOptions()


def test_output_comes_at_once(engine: Engine, start: Start) -> None:
    more = threading.Event()

    def act(peer: Peer) -> None:
        peer.accept()
        peer.send(Stdout(b"a prompt without a newline> "))
        assert more.wait(BOUND)
        peer.send(OutputClosed())
        peer.until_closed()

    engine.on("attach", act)
    process = start("attach", "web")
    assert process.stdout is not None
    assert os.read(process.stdout.fileno(), 100) == b"a prompt without a newline> "
    more.set()
    assert process.wait(BOUND) == 0


def test_stdin_is_forwarded_and_its_end_too(engine: Engine, run: Run) -> None:
    engine.on("attach", echo)
    data = bytes(range(256)) * 4096
    assert run("attach", "web", input=data) == (0, data, b"read to its end\n")
    assert engine.attach_requests()[0].options == AttachOptions(stdin=True)


def test_empty_stdin_is_ended_too(engine: Engine, run: Run) -> None:
    engine.on("attach", echo)
    assert run("attach", "web", input=b"") == (0, b"", b"read to its end\n")


@pytest.mark.parametrize(("arguments", "open_stdin"), [(("--no-stdin",), True), ((), False)])
def test_stdin_is_left_alone(engine: Engine, run: Run, arguments: tuple[str, ...], open_stdin: bool) -> None:
    """If the user or the container does not want it. A warning of the library's would be on stderr."""
    received: list[bytes] = []

    def act(peer: Peer) -> None:
        peer.accept()
        peer.send(OutputClosed())
        received.append(peer.until_closed())

    engine.on("inspect", answers(container(open_stdin=open_stdin)))
    engine.on("attach", act)
    assert run("attach", *arguments, "web", input=b"not for the container") == (0, b"", b"")
    assert not engine.attach_requests()[0].options.stdin
    engine.close()
    assert received == [b""]


def test_the_container_may_end_while_stdin_is_open(engine: Engine, start: Start) -> None:
    engine.on("attach", accepts(Stdout(b"bye\n")))
    engine.on("wait", waits(3))
    process = start("attach", "web", stdin=subprocess.PIPE)
    assert process.wait(BOUND) == 3
    assert process.stdout is not None
    assert process.stderr is not None
    assert (process.stdout.read(), process.stderr.read()) == (b"bye\n", b"")


def test_stdin_that_nobody_reads_does_not_hold_it_up(engine: Engine, run: Run) -> None:
    engine.on("attach", accepts(Stdout(b"bye\n")))
    assert run("attach", "web", input=bytes(4 << 20)) == (0, b"bye\n", b"")


def test_logs_of_a_container_that_has_exited(engine: Engine, run: Run) -> None:
    engine.on("inspect", answers(container(status="exited", exit_code=5)))
    engine.on("logs", accepts(Stdout(b"logged\n"), status_code=200))
    assert run("attach", "--logs", "web") == (5, b"logged\n", b"")
    assert engine.calls == ["inspect", "inspect", "logs"]


def test_start(engine: Engine, run: Run) -> None:
    engine.on("inspect", answers(container(status="created")))
    engine.on("attach", accepts(Stdout(b"the first line\n")))
    engine.on("wait", waits(4))
    assert run("attach", "--start", "web") == (4, b"the first line\n", b"")
    assert engine.calls == ["inspect", "inspect", "attach", "wait next-exit", "start"]


def test_a_terminal_s_output(engine: Engine, run: Run) -> None:
    engine.on("inspect", answers(container(tty=True)))
    engine.on("attach", accepts(RawOutput(b"\x1b[1m$\x1b[0m "), framing=Framing.RAW))
    assert run("attach", "--no-stdin", "web") == (0, b"\x1b[1m$\x1b[0m ", b"")


def test_detach_keys_reach_the_query(engine: Engine, run: Run) -> None:
    assert run("attach", "--detach-keys", "ctrl-x,x", "web") == (0, b"", b"")
    assert ("detachKeys", "ctrl-x,x") in engine.attach_requests()[0].to_request().query


def test_host_comes_before_the_environment(engine: Engine, run: Run) -> None:
    environ = {"DOCKER_HOST": "unix:///nowhere"}
    assert run("attach", "--host", engine.host, "web", environ=environ) == (0, b"", b"")


def test_an_error_of_the_engines_goes_to_stderr(engine: Engine, run: Run) -> None:
    engine.on("attach", accepts(Stdout(b"out\n"), Systemerr(b"disk is full\n")))
    assert run("attach", "web") == (0, b"out\n", b"disk is full\n")


@pytest.mark.parametrize("inspected", [{"stdin_once": False}, {"tty": True}])
def test_stdin_whose_end_would_end_the_attach(engine: Engine, run: Run, inspected: dict[str, Any]) -> None:
    """It is not passed on, so that the output that comes after it is not lost.

    The thread that says so may be writing while the interpreter ends, which must not abort it.
    """
    framing = Framing.RAW if "tty" in inspected else Framing.MULTIPLEXED
    output = (RawOutput if "tty" in inspected else Stdout)(b"late\n")

    def act(peer: Peer) -> None:
        peer.accept(framing)
        assert peer.read_stdin(5) == b"input"
        peer.send(output, OutputClosed())
        peer.until_closed()

    engine.on("inspect", answers(container(**inspected)))
    engine.on("attach", act)
    for _ in range(RACES):
        status, stdout, _ = run("attach", "web", input=b"input")
        assert (status, stdout) == (0, b"late\n")


@pytest.mark.parametrize("inspected", [{"stdin_once": False}, {"tty": True}])
def test_the_warning_is_one_line(engine: Engine, start: Start, inspected: dict[str, Any]) -> None:
    warned = threading.Event()

    def act(peer: Peer) -> None:
        peer.accept(Framing.RAW if "tty" in inspected else Framing.MULTIPLEXED)
        assert warned.wait(BOUND)
        peer.send(OutputClosed())
        assert peer.until_closed() == b""

    engine.on("inspect", answers(container(**inspected)))
    engine.on("attach", act)
    process = start("attach", "web")
    assert process.stderr is not None
    line = process.stderr.readline()
    assert line.startswith(b"attachproto: ")
    assert b"would end the attach" in line or b"end of the attach" in line
    warned.set()
    assert process.wait(BOUND) == 0
    assert process.stderr.read() == b""


# ---- what goes wrong ----


def failed(message: str) -> tuple[int, bytes, bytes]:
    return 1, b"", f"attachproto: {message}\n".encode()


def test_a_refusal_is_the_engine_s_own_words_and_nothing_else(engine: Engine, run: Run) -> None:
    engine.on("inspect", refuses(404, "No such container: web"))
    assert run("attach", "web") == failed("No such container: web (404 to GET /containers/web/json)")


@pytest.mark.parametrize(
    ("call", "act", "arguments", "expected"),
    [
        ("attach", rejects(409, "it is paused"), (), "it is paused (409 to POST /containers/web/attach)"),
        ("start", refuses(500, "no runtime"), ("--start",), "no runtime (500 to POST /containers/web/start)"),
        ("wait", refuses(400, "unknown"), (), "unknown (400 to POST /containers/web/wait)"),
    ],
)
def test_refusals(
    engine: Engine,
    capsysbinary: pytest.CaptureFixture[bytes],
    call: str,
    act: Act,
    arguments: tuple[str],
    expected: str,
) -> None:
    engine.on("attach", stays())
    engine.on(call, act)
    status = main(["attach", "--host", engine.host, *arguments, "web"])
    assert (status, *capsysbinary.readouterr()) == failed(expected)


def test_control_bytes_of_the_engine_s_never_reach_the_terminal(
    engine: Engine, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    engine.on("inspect", refuses(404, "No \x1b[2J\x07such\x9b31m \u202eweb\r\ttab \\ ünï"))
    assert main(["attach", "--host", engine.host, "web"]) == 1
    _, stderr = capsysbinary.readouterr()
    assert stderr.decode() == (
        "attachproto: No \\x1b[2J\\x07such\\x9b31m \\u202eweb\\r\\ttab \\ ünï (404 to GET /containers/web/json)\n"
    )


def test_a_container_that_has_exited(engine: Engine, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    engine.on("inspect", answers(container(status="exited", exit_code=3)))
    assert main(["attach", "--host", engine.host, "web"]) == 1
    stdout, stderr = capsysbinary.readouterr()
    assert stdout == b""
    assert stderr == (
        b"attachproto: the container web is not running (exited, exit code 3): "
        b"--logs shows its output so far, and --start runs it again\n"
    )


ERRORS_WITH_REMEDY = [kind for kind in vars(attachproto_adapters).values() if isinstance(kind, type)]
ERRORS_WITH_REMEDY = [kind for kind in ERRORS_WITH_REMEDY if issubclass(kind, ErrorWithRemedy)]


@pytest.mark.parametrize("kind", ERRORS_WITH_REMEDY)
def test_what_to_do_is_said_in_options_and_not_in_arguments(kind: Any) -> None:
    errors: dict[Any, ErrorWithRemedy] = {
        ApiVersionRejected: ApiVersionRejected(400, "it failed", "GET /", "1.99", "1.24", "1.51"),
        ImageNotFound: ImageNotFound(404, "it failed", "POST /", "none"),
    }
    said = in_options(errors[kind] if kind in errors else kind("it failed", "write x=True"))
    assert "=" not in said
    assert said.startswith("it failed")


def test_an_address_of_another_scheme(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    assert main(["attach", "--host", "x://y", "web"]) == 1
    _, stderr = capsysbinary.readouterr()
    assert stderr == (
        b"attachproto: 'x://y' (as given): x:// is not supported, only unix://, tcp:// and ssh://: use one of these\n"
    )


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("../web",), "'../web'"),
        (("--host", "nonsense", "web"), "'nonsense'"),
        (("--host", "ssh://engine", "web"), "ssh://"),
    ],
)
def test_bad_arguments(
    engine: Engine, capsysbinary: pytest.CaptureFixture[bytes], arguments: tuple[str], named: str
) -> None:
    host = () if "--host" in arguments else ("--host", engine.host)
    assert main(["attach", *host, *arguments]) == 1
    stdout, stderr = capsysbinary.readouterr()
    assert stdout == b""
    assert stderr.startswith(b"attachproto: ")
    assert named in stderr.decode()
    assert stderr.count(b"\n") == 1
    assert engine.calls == []


def test_no_engine(run: Run) -> None:
    expected = "no engine answers at unix:///nowhere/s (from DOCKER_HOST): No such file or directory"
    assert run("attach", "web", environ={"DOCKER_HOST": "unix:///nowhere/s"}) == failed(expected)


def test_a_cut_is_told_after_what_came(engine: Engine, run: Run) -> None:
    def act(peer: Peer) -> None:
        peer.accept()
        peer.write(b"\x01\0\0\0\0\0\0\x06hal")

    engine.on("attach", act)
    status, stdout, stderr = run("attach", "web")
    assert (status, stdout) == (1, b"hal")
    assert stderr.startswith(b"attachproto: ")
    assert b"3 are missing" in stderr
    assert stderr.count(b"\n") == 1


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((), "COMMAND"),
        (("attach",), "CONTAINER"),
        (("attach", "--no-such", "web"), "--no-such"),
        (("no-such",), "'no-such'"),
        (("attach", "--detach-keys", "ctrl-x,ctrl-1", "web"), "--detach-keys: "),
        (("attach", "--detach-keys", "", "web"), "--detach-keys: "),
        (("attach", "--timeout", "0", "web"), "--timeout: "),
        (("attach", "--timeout", "1x", "web"), "'1x'"),
        (("attach", "--json", "--prefix", "web"), "--prefix"),
        (("exec", "web"), "COMMAND"),
        (("exec", "-e", "=x", "web", "true"), "'=x'"),
        (("logs", "--tail", "few", "web"), "--tail"),
        (("logs", "--since", "yesterday", "web"), "'yesterday'"),
        (("run",), "IMAGE"),
    ],
)
def test_a_wrong_command_line(arguments: tuple[str, ...], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It names the option, and has docker's exit status."""
    with pytest.raises(SystemExit) as exited:
        main(arguments)
    assert exited.value.code == 125
    stderr = capsys.readouterr().err
    assert stderr.startswith("usage: attachproto")
    assert named in stderr.splitlines()[-1]


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("attach", "--help")])
def test_help(arguments: tuple[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        main(arguments)
    assert exited.value.code == 0
    assert "attachproto" in capsys.readouterr().out


@pytest.mark.parametrize(("code", "limits"), [(256, b" (0 to 255)"), (2**40, b" (0 to 255)"), (-1, b"")])
def test_an_exit_code_that_no_process_can_have_is_no_success(
    engine: Engine, capsysbinary: pytest.CaptureFixture[bytes], code: int, limits: bytes
) -> None:
    engine.on("attach", accepts(Stdout(b"out")))
    engine.on("wait", waits(code))
    assert main(["attach", "--host", engine.host, "web"]) == 125
    assert capsysbinary.readouterr() == (
        b"out",
        b"attachproto: the engine reports the exit code %d, which no process can have%s\n" % (code, limits),
    )


# ---- signals and pipes ----


# Interrupted where the program is read, which is most of its life; Python itself and the package come before that.
INTERRUPTED_WHILE_LOADING = """
import os, runpy, signal, sys

class Finder:
    def find_spec(self, name, path, target=None):
        if name == "attachproto_adapters.cli._main":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Finder())
runpy.run_module("attachproto_adapters", run_name="__main__")
"""


def test_ctrl_c_while_it_is_loaded_leaves_no_traceback() -> None:
    done = subprocess.run([sys.executable, "-c", INTERRUPTED_WHILE_LOADING], capture_output=True, timeout=BOUND)
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")


@pytest.mark.parametrize("arguments", [("--no-stdin",), (), ("--start",)])
def test_ctrl_c_detaches_without_sig_proxy(engine: Engine, start: Start, arguments: tuple[str, ...]) -> None:
    engine.on("attach", stays(Stdout(b"ready\n")))
    engine.on("wait", waits(0, closed := threading.Event()))
    process = start("attach", "--sig-proxy=false", *arguments, "web", stdin=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(BOUND) == 130
    assert process.stderr is not None
    assert process.stderr.read() == b""
    closed.set()


def test_ctrl_c_while_the_engine_is_silent(engine: Engine, start: Start) -> None:
    asked = threading.Event()

    def silent(peer: Peer) -> None:
        asked.set()
        peer.until_closed()

    engine.on("inspect", silent)
    process = start("attach", "web")
    assert asked.wait(BOUND)
    process.send_signal(signal.SIGINT)
    assert process.wait(BOUND) == 130
    assert process.stderr is not None
    assert process.stderr.read() == b""


def test_ctrl_c_while_the_container_is_created_leaves_none(engine: Engine, start: Start) -> None:
    """The engine goes on with a creation that nobody waits for. So its answer is waited for."""
    asked, interrupted = threading.Event(), threading.Event()

    def created(peer: Peer) -> None:
        asked.set()
        assert interrupted.wait(BOUND)
        answers({"Id": "c1", "Warnings": []}, 201)(peer)

    engine.on("create", created)
    engine.on("c1", answers(None, 204))
    process = start("run", "--rm", "busybox", "true")
    assert asked.wait(BOUND)
    process.send_signal(signal.SIGINT)
    interrupted.set()
    assert process.wait(BOUND) == 130
    assert (engine.calls[0], engine.calls[-1]) == ("create", "c1"), "c1 is its removal"
    assert process.stderr is not None
    assert process.stderr.read() == b""


@pytest.mark.parametrize(("stream", "event"), [("stdout", Stdout(b"x")), ("stderr", Stderr(b"x"))])
def test_a_reader_that_has_gone(engine: Engine, start: Start, stream: str, event: Stdout | Stderr) -> None:
    """As `attachproto attach web | head -1` ends."""
    gone = threading.Event()

    def act(peer: Peer) -> None:
        peer.accept()
        assert gone.wait(BOUND)
        peer.send(event)
        peer.until_closed()

    engine.on("attach", act)
    read, write = os.pipe()
    process = start("attach", "web", **{stream: write})
    os.close(write)
    os.close(read)
    gone.set()
    assert process.wait(BOUND) == 141
    other = process.stderr if stream == "stdout" else process.stdout
    assert other is not None
    assert other.read() == b""


def test_stdin_of_a_terminal_is_forwarded_line_by_line(engine: Engine, start: Start) -> None:
    """A terminal stays open, so the thread that reads it is still there when the command ends."""
    engine.on("attach", act := EchoesALine())
    ours, theirs = pty.openpty()
    process = start("attach", "web", stdin=theirs)
    os.close(theirs)
    os.write(ours, b"hello\n")
    assert process.wait(BOUND) == 0
    os.close(ours)
    assert act.line == b"hello\n"
    assert process.stdout is not None
    assert process.stdout.read() == b"hello\n"


class EchoesALine:
    line = b""

    def __call__(self, peer: Peer) -> None:
        peer.accept()
        self.line = peer.read_stdin(6)
        peer.send(Stdout(self.line), OutputClosed())
        peer.until_closed()


def test_closed_stdin_is_an_empty_one(engine: Engine, start: Start) -> None:
    """As under some service managers."""
    engine.on("attach", echo)
    process = start("attach", "web", prefix=("sh", "-c", 'exec "$@" <&-', "sh"))
    stdout, stderr = process.communicate(timeout=BOUND)
    assert (process.returncode, stdout, stderr) == (0, b"", b"read to its end\n")


def test_what_is_closed_at_our_start_is_not_the_engines_socket(engine: Engine, start: Start) -> None:
    """The first socket would get stderr's number, and the container our warning."""
    seen: list[bytes] = []

    def act(peer: Peer) -> None:
        peer.accept()
        seen.append(peer.read_stdin(3))
        peer.send(Stdout(b"late\n"), OutputClosed())
        seen.append(peer.until_closed())

    engine.on("inspect", answers(container(stdin_once=False)))
    engine.on("attach", act)
    process = start("attach", "web", prefix=("sh", "-c", 'echo hi | exec "$@" 2>&-', "sh"))
    stdout, _ = process.communicate(timeout=BOUND)
    assert (process.returncode, stdout) == (0, b"late\n")
    assert seen == [b"hi\n", b""]


def test_output_that_ends_before_the_container_is_a_detach(engine: Engine, run: Run) -> None:
    exited = threading.Event()
    engine.on("attach", accepts(RawOutput(b"$ "), framing=Framing.RAW))
    engine.on("inspect", answers(container(tty=True)))
    engine.on("wait", waits(0, exited))
    try:
        status, stdout, stderr = run("attach", "web", input=b"")
    finally:
        exited.set()
    assert (status, stdout) == (0, b"$ ")
    assert b"attachproto: detached from web, which keeps running\n" in stderr
