"""`--timeout` of the command where something is in its way: keys typed ahead, warnings, and engines that do not kill.

Strategy: a shell is stopped before it prints anything by a FIFO in `LD_PRELOAD`. The dynamic loader opens it, and waits
for its writer. Whoever opens it for writing knows that the shell was started, and lets it go on.
"""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import signal
import subprocess
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest

from attachproto_adapters._blocking_attachment import Attachment
from attachproto_adapters._forwarding import StdinForwarder
from attachproto_adapters.cli import _stream
from attachproto_adapters.cli._main import main
from attachproto_adapters.cli._signals import handled
from attachproto_engine import Engine, ProxyAnswer
from tests.adapters.cli_engine import Process, Start, embedded, running, start, started
from tests.adapters.scripted import BOUND

__all__ = ["embedded", "running", "start"]  # the fixtures

TOKEN = re.compile(rb"[0-9a-f]{32}")


class Terminal:
    """A pseudo-terminal with the command in it."""

    def __init__(self) -> None:
        self.ours, self.theirs = pty.openpty()
        self.shown = b""

    def run(self, start: Start, *arguments: str) -> Process:
        return start(*arguments, stdin=self.theirs, stdout=self.theirs, stderr=self.theirs, start_new_session=True)

    def type(self, data: bytes) -> None:
        os.write(self.ours, data)

    def read_until(self, holds: Callable[[], bool]) -> None:
        """Read what is shown until this holds."""
        end = time.monotonic() + BOUND
        while not holds():
            assert time.monotonic() < end, self.shown
            if select.select([self.ours], [], [], 0.02)[0]:
                self.shown += os.read(self.ours, 65536)

    def is_raw(self) -> bool:
        return not termios.tcgetattr(self.theirs)[3] & termios.ECHO

    def close(self) -> None:
        os.close(self.ours)
        os.close(self.theirs)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    terminal = Terminal()
    yield terminal
    terminal.close()


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "fifo")
    return tmp_path / "fifo"


def wait_for_shell(fifo: Path) -> int:
    """Wait until the shell was started. It goes on when the result is closed, and nothing else waits for the FIFO."""
    descriptor = os.open(fifo, os.O_WRONLY)
    fifo.unlink()
    return descriptor


def wait_until_it_waits(process: Process) -> None:
    """Wait until the main thread waits for the engine: it has not run for a moment.

    A signal in the middle of a read may lose what that has taken, as `docs/adapters-limits.md` says.
    """
    before, end = "", time.monotonic() + BOUND
    while (now := Path(f"/proc/{process.pid}/status").read_text()) != before or "S (sleeping)" not in now:
        assert time.monotonic() < end
        before = now
        time.sleep(0.05)


def type_before_the_shell_runs(terminal: Terminal, fifo: Path, keys: bytes) -> None:
    """Type while the dynamic loader of the shell waits for the FIFO; then let it go on."""
    release = wait_for_shell(fifo)
    terminal.read_until(terminal.is_raw)
    terminal.type(keys)
    os.close(release)


def exec_with(fifo: Path, *arguments: str) -> list[str]:
    return ["exec", "-e", f"LD_PRELOAD={fifo}", *arguments]


@pytest.mark.parametrize("typed", [b"typed ahead\r", b"without enter"])
def test_keys_typed_ahead_start_nothing_twice(
    embedded: Engine, start: Start, tmp_path: Path, fifo: Path, terminal: Terminal, typed: bytes
) -> None:
    """They are not sent before the shell's line has come. Else the TTY's echo would stand before the line."""
    web, runs = started(embedded, "web"), tmp_path / "runs"
    script = f"echo run >> {runs}; stty -echo; echo ready; read -r line; echo got $line.; exit 127"
    process = terminal.run(start, *exec_with(fifo, "-it", "--timeout", "1m", web, "sh", "-c", script))
    type_before_the_shell_runs(terminal, fifo, typed)
    terminal.read_until(lambda: b"ready" in terminal.shown)
    terminal.type(b"\r")
    terminal.read_until(lambda: process.poll() is not None)
    terminal.read_until(lambda: b"got " + typed.strip() + b"." in terminal.shown)
    assert process.returncode == 127
    assert runs.read_text() == "run\n"
    assert b"LD_PRELOAD" in terminal.shown, "the warning that stands before the line"
    assert not TOKEN.search(terminal.shown)


def test_keys_typed_ahead_do_not_prevent_the_timeout(
    embedded: Engine, start: Start, tmp_path: Path, fifo: Path, terminal: Terminal
) -> None:
    web, file = started(embedded, "web"), tmp_path / "pid"
    script = f"echo $$ > {file}; exec sleep 600"
    process = terminal.run(start, *exec_with(fifo, "-it", "--timeout", "2", web, "sh", "-c", script))
    type_before_the_shell_runs(terminal, fifo, b"typed ahead\r")
    terminal.read_until(lambda: process.poll() is not None)
    assert process.returncode == 124
    assert not Path(f"/proc/{file.read_text().strip()}").exists()
    assert not TOKEN.search(terminal.shown)


def test_a_timeout_before_the_line_waits_for_it(embedded: Engine, start: Start, tmp_path: Path, fifo: Path) -> None:
    """The process is known a moment later, and is ended then."""
    web, runs = started(embedded, "web"), tmp_path / "runs"
    script = f"echo run > {runs}; exec sleep 600"
    process = start(*exec_with(fifo, "-t", "--timeout", "0.5", web, "sh", "-c", script))
    release = wait_for_shell(fifo)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1)
    os.close(release)
    _, stderr = process.communicate(timeout=BOUND)
    assert (process.returncode, stderr) == (124, b"")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_the_line_ends_the_command_too(
    embedded: Engine, start: Start, tmp_path: Path, fifo: Path, number: signal.Signals
) -> None:
    """As at a timeout, the line is waited for."""
    web, file = started(embedded, "web"), tmp_path / "pid"
    process = start(*exec_with(fifo, "--timeout", "1m", web, "sh", "-c", f"echo $$ > {file}; exec sleep 600"))
    release = wait_for_shell(fifo)
    wait_until_it_waits(process)
    process.send_signal(number)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    os.close(release)
    _, stderr = process.communicate(timeout=BOUND)
    assert (process.returncode, stderr) == (128 + number, b"")
    assert not file.exists() or not Path(f"/proc/{file.read_text().strip()}/stat").exists()


def test_a_second_signal_before_the_line_ends_the_wait(embedded: Engine, start: Start, fifo: Path) -> None:
    process = start(*exec_with(fifo, "--timeout", "1m", started(embedded, "web"), "sleep", "600"))
    release = wait_for_shell(fifo)
    wait_until_it_waits(process)
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    process.send_signal(signal.SIGINT)
    assert process.wait(BOUND) == 130
    os.close(release)
    assert b"Traceback" not in process.stderr.read()  # type: ignore[union-attr]


class Sent:
    """What a forwarder sends."""

    half_close_ends_attach = False

    def __init__(self) -> None:
        self.data = b""

    def send_stdin(self, data: bytes) -> None:
        self.data += data

    def close_stdin(self) -> None:
        self.data += b"."


@pytest.mark.parametrize("known", [True, False])
def test_stdin_is_not_read_before_the_process_is_known(known: bool) -> None:
    """If that is never known, it is left for a second start, without the shell."""
    ours, theirs = os.pipe()
    os.write(theirs, b"input")
    os.close(theirs)
    sent, after = Sent(), threading.Event()
    with StdinForwarder(cast("Attachment", sent), ours, after=after) as forwarder:
        if known:
            after.set()
            forwarder._thread.join(BOUND)
    assert (sent.data, os.read(ours, 100)) == ((b"input.", b"") if known else (b"", b"input"))
    os.close(ours)


# ---- engines that do not kill ----


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine() as engine:
        yield engine


@pytest.fixture
def web(engine: Engine) -> str:
    return started(engine, "web", "echo begun; exec sleep 600")


@pytest.mark.parametrize(
    ("status", "why"),
    [(204, "its output did not end within 0.2 s after it was killed"), (403, "not for you")],
)
def test_a_kill_without_effect_does_not_go_on_for_ever(
    engine: Engine,
    web: str,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
    status: int,
    why: str,
) -> None:
    monkeypatch.setattr(_stream, "_REST_SECONDS", 0.2)
    engine.fault("web", ProxyAnswer(status, b'{"message": "not for you"}'), on="kill")
    arguments = ["attach", "-H", engine.host, "--logs", "--no-stdin", "--timeout", "1.5", web]
    assert main(arguments) == 124
    stderr = capfdbinary.readouterr().err
    assert stderr.startswith(b"attachproto: the time of --timeout is over, and the process may go on: ")
    assert why.encode() in stderr


# ---- handlers of signals ----


@pytest.mark.parametrize("ignored", [False, True])
def test_a_handler_is_there_for_a_while(ignored: bool) -> None:
    seen: list[int] = []
    ours = signal.SIG_IGN if ignored else lambda number, frame: seen.append(-number)
    before = signal.signal(signal.SIGUSR1, ours)
    try:
        with contextlib.suppress(LookupError), handled([signal.SIGUSR1], lambda number, frame: seen.append(number)):
            signal.raise_signal(signal.SIGUSR1)
            raise LookupError
        assert signal.getsignal(signal.SIGUSR1) is ours
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert seen == ([] if ignored else [signal.SIGUSR1])
