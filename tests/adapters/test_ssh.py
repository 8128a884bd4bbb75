"""The ssh program as a transport, played by scripts of that name."""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from attachproto_adapters import EngineUnreachable
from attachproto_adapters._transport._schemes import SshHost
from attachproto_adapters._transport._ssh import SshChild, ssh_command

SECONDS = 10.0
HOST = SshHost("engine", "as given")
DIAL = "docker system dial-stdio"

Start = Callable[[str], SshChild]


def place(directory: Path, name: str, script: str) -> None:
    directory.mkdir(exist_ok=True)
    file = directory / name
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that is first on PATH."""
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", f"{directory}{os.pathsep}{os.environ['PATH']}")
    return directory


@pytest.fixture
def start(programs: Path) -> Iterator[Start]:
    children = []

    def start_(script: str) -> SshChild:
        place(programs, "ssh", script)
        child = SshChild.start(HOST)
        children.append(child)
        child.sock.settimeout(SECONDS)
        return child

    yield start_
    for child in children:
        child.sock.close()
        run_to_the_end(child)


def read_all(sock: socket.socket) -> bytes:
    return b"".join(iter(lambda: sock.recv(65536), b""))


def read_number(sock: socket.socket) -> int:
    """A line with a process's number, read byte by byte, so that nothing behind it is taken."""
    return int(b"".join(iter(lambda: sock.recv(1), b"\n")))


@contextlib.contextmanager
def watched(process: int) -> Iterator[Callable[[float], bool]]:
    """Wait, up to some seconds, for this process to exit; whether it has."""
    descriptor = os.pidfd_open(process)
    try:
        yield lambda seconds: bool(select.select([descriptor], [], [], seconds)[0])
    finally:
        os.close(descriptor)


def run_to_the_end(child: SshChild) -> list[float]:
    """End it as an adapter does."""
    delays = []
    for delay in child.end():
        delays.append(delay)
        time.sleep(delay)
    return delays


def is_reaped(process: int) -> bool:
    try:
        os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return True
    return False


# The command line


@pytest.mark.parametrize(
    ("host", "before", "name", "remote"),
    [
        (HOST, [], "engine", DIAL),
        (SshHost("engine", "", "user"), ["-l", "user"], "engine", DIAL),
        (SshHost("engine", "", port=22), ["-p", "22"], "engine", DIAL),
        (SshHost("::1", "", "user", 22, "/"), ["-l", "user", "-p", "22"], "::1", DIAL),
        (SshHost("engine", "", path="//"), [], "engine", DIAL),
        (SshHost("e", "", path="/run/d.sock"), [], "e", "docker --host=unix:///run/d.sock system dial-stdio"),
        (SshHost("e", "", path="/a b"), [], "e", "docker '--host=unix:///a b' system dial-stdio"),
    ],
)
def test_the_command(host: SshHost, before: list[str], name: str, remote: str) -> None:
    assert ssh_command(host) == ["ssh", *before, "-o ConnectTimeout=30", "-T", "--", name, remote]


@pytest.mark.parametrize("path", ["/a b", "/$(id)", "/';id;'", '/"`\\*?~#&|<>', "/ä\nb"])
def test_the_shell_there_takes_odd_characters_as_they_are(path: str, programs: Path) -> None:
    place(programs, "docker", """printf '%s\\0' "$@" """)
    remote = ssh_command(SshHost("engine", "", path=path))[-1]
    there = subprocess.run(["sh", "-c", remote], stdout=subprocess.PIPE, check=True, timeout=SECONDS)
    assert there.stdout.decode().split("\0") == [f"--host=unix://{path}", "system", "dial-stdio", ""]


def test_what_the_program_is_given(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", "/run/agent")
    place(programs, "ssh", """printf '%s\\n' "$@" "$SSH_AUTH_SOCK" """)
    child = SshChild.start(SshHost("engine", "", "a b$(id)", 22))
    with child.sock:
        given = read_all(child.sock).decode().splitlines()
    run_to_the_end(child)
    assert given == ["-l", "a b$(id)", "-p", "22", "-o ConnectTimeout=30", "-T", "--", "engine", DIAL, "/run/agent"]


def test_a_session_of_its_own(start: Start) -> None:
    child = start("echo $$; exec cat")
    process = read_number(child.sock)
    assert os.getsid(process) == process != os.getsid(0)


# Its stdin and stdout


def test_half_close(start: Start) -> None:
    child = start("wc -c; echo bye")
    child.sock.sendall(bytes(300_000))
    child.sock.shutdown(socket.SHUT_WR)
    assert read_all(child.sock).split() == [b"300000", b"bye"]


def test_both_directions_at_once(start: Start) -> None:
    child = start("exec cat")
    for size in (1, 50_000):
        child.sock.sendall(bytes(size))
        assert child.sock.recv(size, socket.MSG_WAITALL) == bytes(size)
    child.sock.shutdown(socket.SHUT_WR)
    assert read_all(child.sock) == b""


def test_its_exit_is_the_end(start: Start) -> None:
    child = start("read line; echo $line")
    child.sock.sendall(b"one\n")
    assert read_all(child.sock) == b"one\n"


# Its stderr


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("exit 255", ""),
        ("printf 'ssh: no such host\\r\\n' >&2; exit 255", "ssh: no such host"),
        ("printf '\\n one \\n\\ntwo' >&2", "one; two"),
        ("for n in 1 2 3 4 5 6 7; do echo $n; done >&2", "3; 4; 5; 6; 7"),
        ("printf '\\033[2Jä\\377\\000' >&2", "\\x1b[2Jä�\\x00"),
    ],
)
def test_its_complaint(script: str, told: str, start: Start) -> None:
    child = start(script)
    assert read_all(child.sock) == b""
    assert child.complaint() == told
    run_to_the_end(child)
    assert child.complaint() == told


def test_a_complaint_in_parts(start: Start) -> None:
    child = start("echo one >&2; echo; read line; echo two >&2")
    assert child.sock.recv(1) == b"\n"
    assert child.complaint() == "one"
    child.sock.sendall(b"\n")
    assert read_all(child.sock) == b""
    assert child.complaint() == "one; two"


def test_a_long_complaint_neither_blocks_it_nor_is_told_whole(start: Start) -> None:
    child = start("head -c 1000000 /dev/zero | tr '\\0' x >&2; echo done")
    assert read_all(child.sock) == b"done\n"
    assert child.complaint() == "x" * 4096


def test_what_it_says_of_our_signal_is_no_complaint(start: Start) -> None:
    child = start("trap 'echo Killed by signal 15. >&2; exit' TERM; echo first >&2; echo; read line")
    assert child.sock.recv(1) == b"\n"
    run_to_the_end(child)
    assert child.complaint() == "first"


# Its end


def test_the_end_of_one_that_runs(start: Start) -> None:
    child = start("echo $$; exec cat")
    process = read_number(child.sock)
    with watched(process) as exited:
        delays = run_to_the_end(child)
        assert exited(0)
    assert is_reaped(process)
    assert all(0 < delay <= 0.05 for delay in delays)
    assert list(child.end()) == []


def test_the_end_of_one_that_has_exited(start: Start) -> None:
    child = start("echo $$")
    process = read_number(child.sock)
    with watched(process) as exited:
        assert exited(SECONDS)
    assert not is_reaped(process)
    assert list(child.end()) == []
    assert is_reaped(process)


def test_the_end_of_one_that_ignores_us_and_of_what_it_has_started(start: Start) -> None:
    child = start("trap '' TERM; sleep 1000 & echo $!; echo $$; wait")
    below, process = read_number(child.sock), read_number(child.sock)
    with watched(below) as below_exited:
        # The three seconds are counted by what it asks for.
        assert sum(child.end()) == pytest.approx(3, abs=0.1)
        assert is_reaped(process)
        assert below_exited(SECONDS)


@pytest.mark.parametrize("steps", [1, 3])
def test_an_end_that_is_cut_short(steps: int, start: Start) -> None:
    child = start("trap '' TERM; echo $$; read line")
    process = read_number(child.sock)
    ending = child.end()
    for _ in range(steps):
        next(ending)
    assert not is_reaped(process)
    assert list(child.end()) == []
    ending.close()
    assert is_reaped(process)
    assert list(child.end()) == []


def test_an_end_that_is_left(start: Start) -> None:
    child = start("trap '' TERM; echo $$; read line")
    process = read_number(child.sock)
    with pytest.raises(RuntimeError, match="cancelled"):
        leave(child)
    gc.collect()
    assert is_reaped(process)


def leave(child: SshChild) -> None:
    with contextlib.closing(child.end()) as ending:
        for _ in ending:
            raise RuntimeError("cancelled")


def test_an_end_that_was_never_begun_changes_nothing(start: Start) -> None:
    child = start("echo $$; exec cat")
    process = read_number(child.sock)
    child.end().close()
    child.sock.sendall(b"still there")
    assert child.sock.recv(99) == b"still there"
    run_to_the_end(child)
    assert is_reaped(process)


def test_a_program_that_a_signal_ends(start: Start) -> None:
    child = start("echo $$; exec cat")
    process = read_number(child.sock)
    os.kill(process, signal.SIGKILL)
    assert read_all(child.sock) == b""
    run_to_the_end(child)
    assert is_reaped(process)


# What keeps it from starting


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda file: None, "there is no program ssh on PATH"),
        (lambda file: file.write_text("not to be run"), "ssh does not start: Permission denied"),
        (lambda file: (file.write_bytes(b"\x7fELF"), file.chmod(0o755)), "ssh does not start: Exec format error"),
    ],
)
def test_no_ssh(make: Callable[[Path], object], why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "ssh")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineUnreachable) as caught:
        SshChild.start(HOST)
    assert str(caught.value) == f"no engine answers at ssh://engine (as given): {why}"


def test_no_room_for_its_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(OSError, match="No space left"):
        SshChild.start(HOST)
