"""Nothing outlives an engine that is killed, or whose process is. No descriptor of the user's gets into a container."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import select
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from attachproto_engine import Engine
from attachproto_engine._guard import Guard
from tests.engine.client import TIMEOUT, attached, call, create, read_all, read_until, shell, start, wait
from tests.helpers import children

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the guard finds a session's processes in /proc")

# A leader, a child of its session, one in a process group of its own, and one that ignores what can be ignored.
SCRIPT = "set -m; sleep 1000 & sh -c \"trap '' TERM HUP INT; sleep 1000; true\" & echo ready; sleep 1000; true"

USER = """
import os, sys, time
from attachproto_engine import Engine
from tests.engine.test_outliving import fill
with Engine(sys.argv[1] or None) as engine:
    if sys.argv[2] == "fork" and os.fork() == 0:
        time.sleep(1000)
    fill(engine)
    time.sleep(1000)
"""


def fill(engine: Engine) -> None:
    """Start containers and an exec, and print what there is."""
    for name, tty in (("plain", False), ("tty", True), ("paused", False)):
        shell(engine, name, SCRIPT, Tty=tty)
        start(engine, name)
        with attached(engine, name, "logs=1&stream=1&stdout=1") as sock:
            read_until(sock, b"ready")
    create(engine, "ended", "true")
    start(engine, "ended")
    wait(engine, "ended")
    exec_id = call(engine, "POST", "/containers/plain/exec", {"Cmd": ["sleep", "1000"]}).json["Id"]
    call(engine, "POST", f"/exec/{exec_id}/start", {"Detach": True})
    call(engine, "POST", "/containers/paused/pause")
    found = [
        int(row[0])
        for name in ("plain", "tty", "paused")
        for row in call(engine, "GET", f"/containers/{name}/top?ps_args=-o%20pid").json["Processes"]
    ]
    print(json.dumps([engine.host, found]), flush=True)


@contextlib.contextmanager
def watched(numbers: list[int]) -> Iterator[dict[int, int]]:
    """A descriptor for each process, which can be read when it has ended."""
    with contextlib.ExitStack() as opened:
        handles = {}
        for number in numbers:
            handle = os.pidfd_open(number)
            opened.callback(os.close, handle)
            handles[number] = handle
        yield handles


def alive(handles: dict[int, int], seconds: float) -> list[int]:
    """Which have not ended after so many seconds."""
    left = {handle: number for number, handle in handles.items()}
    while left and (ended := select.select(list(left), [], [], seconds)[0]):
        for handle in ended:
            del left[handle]
    return list(left.values())


def of(parent: int) -> list[int]:
    """Its children. Each thread has its own."""
    tasks = pathlib.Path(f"/proc/{parent}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


def sessions() -> list[tuple[int, str]]:
    """Of each process its session and its state."""
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            fields = pathlib.Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
            found.append((int(fields[3]), fields[0]))
    return found


def guard_of(parent: int) -> int:
    found = [child for child in of(parent) if _command(child).startswith(b"attachproto-guard\0")]
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize(
    ("host", "how"), [("", "alone"), ("unix", "alone"), ("tcp://127.0.0.1:0", "alone"), ("", "fork")]
)
def test_nothing_outlives_the_process_that_uses_it(
    tmp_path: pathlib.Path, host: str, how: str, number: signal.Signals
) -> None:
    host = f"unix://{tmp_path}/a socket" if host == "unix" else host
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", USER, host, how]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as user:
        assert user.stdout is not None
        forked: list[int] = []
        try:
            line = user.stdout.readline() if how == "alone" else _line(user.stdout.fileno())
            _, found = json.loads(line)
            assert len(found) >= 7
            leaders = {os.getsid(process) for process in found}
            assert len(leaders) == 4
            forked = [child for child in of(user.pid) if b"fill" in _command(child)]
            assert len(forked) == (how == "fork")
            with watched([*found, guard_of(user.pid)]) as handles:
                user.send_signal(number)
                assert alive(handles, TIMEOUT) == []
            assert list(tmp_path.iterdir()) == []
            assert not leaders & {session for session, state in sessions() if state != "Z"}
        finally:
            user.kill()
            for child in forked:
                os.kill(child, signal.SIGKILL)


def _command(process: int) -> bytes:
    return pathlib.Path(f"/proc/{process}/cmdline").read_bytes()


def _line(number: int) -> bytes:
    data = b""
    while not data.endswith(b"\n"):
        data += os.read(number, 65536)
    return data


def test_nothing_outlives_the_command(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "engine.sock"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "attachproto_adapters", "engine", "--host", f"unix://{path}"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as running:
        assert running.stdout is not None
        try:
            host = running.stdout.readline().decode().strip()
            engine = Engine()
            engine._host = host
            create(engine, "web", "sleep", "1000")
            start(engine, "web")
            pid = call(engine, "GET", "/containers/web/json").json["State"]["Pid"]
            with watched([pid, guard_of(running.pid)]) as handles:
                running.kill()
                assert alive(handles, TIMEOUT) == []
            assert not path.exists()
        finally:
            running.kill()


def test_a_socket_that_another_engine_has_put_there_stays(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "engine.sock"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "attachproto_adapters", "engine", "--host", f"unix://{path}"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as running:
        assert running.stdout is not None
        try:
            running.stdout.readline()
            other = tmp_path / "other"
            other.write_text("text")
            os.replace(other, path)
            with watched([guard_of(running.pid)]) as handles:
                running.kill()
                assert alive(handles, TIMEOUT) == []
            assert path.read_text() == "text"
        finally:
            running.kill()


def test_a_guard_that_is_killed_or_stopped_stops_nothing() -> None:
    for number in (signal.SIGKILL, signal.SIGSTOP):
        before = children()
        with Engine() as engine:
            (guard,) = set(children()) - set(before)
            os.kill(guard, number)
            for _ in range(3):
                create(engine, "web", "sleep", "100")
                start(engine, "web")
                assert call(engine, "DELETE", "/containers/web?force=1").status == 204


def test_a_process_whose_pid_was_not_told_is_found_by_its_stdout() -> None:
    """The engine was killed between the start of the process and its next line. 3 of 15 floods left a container."""
    guard = Guard()
    reader, writer = os.pipe()
    guard.starting(writer)
    with subprocess.Popen(
        ["sh", "-c", "sleep 100 & wait"], stdout=writer, stderr=subprocess.DEVNULL, start_new_session=True
    ) as running:
        os.close(writer)
        with watched([running.pid]) as handles:
            guard.let_go()
            assert alive(handles, TIMEOUT) == []
        os.waitpid(guard._pid, 0)
        assert os.read(reader, 1) == b"", "its child has ended too"
        os.close(reader)


def test_a_start_that_failed_or_was_told_is_not_looked_for() -> None:
    for failed in (True, False):
        guard = Guard()
        reader, writer = os.pipe()
        guard.starting(writer)
        if failed:
            guard.starting(None)
        else:
            guard.add(2**22 - 1)
        with subprocess.Popen(["sleep", "100"], stdout=writer, start_new_session=True) as running:
            os.close(writer)
            guard.let_go()
            os.waitpid(guard._pid, 0)
            assert running.poll() is None
            running.kill()
        os.close(reader)


def test_a_guard_that_knows_not_all_does_nothing() -> None:
    """It is stopped, and its pipe is full: it has not read that the session has ended."""
    with subprocess.Popen(["sleep", "1000"], start_new_session=True) as other:
        before = children()
        guard = Guard()
        try:
            (process,) = set(children()) - set(before)
            guard.add(other.pid)
            os.kill(process, signal.SIGSTOP)
            for number in range(100_000):
                if process not in children():
                    break
                guard.remove(other.pid if number == 99_999 else 1_000_000_000)
            assert children() == before
            guard.remove(other.pid)
            guard.close()
            assert other.poll() is None
        finally:
            guard.close()
            other.kill()


@pytest.mark.parametrize("tty", [False, True])
def test_a_container_gets_no_descriptor_of_the_users(engine: Engine, tty: bool) -> None:
    ours, theirs = os.pipe()
    os.set_inheritable(theirs, True)
    try:
        shell(engine, "web", "ls /proc/self/fd; exec sleep 100", Tty=tty)
        start(engine, "web")
        with attached(engine, "web", "logs=1&stream=1&stdout=1") as sock:
            seen = read_until(sock, b"3")
        create(engine, "dir", "sh", "-c", "ls /proc/self/fd", WorkingDir="/tmp")
        with attached(engine, "dir") as sock:
            start(engine, "dir")
            read_all(sock)
        assert str(theirs).encode() not in seen.split()
    finally:
        os.close(theirs)
    assert os.read(ours, 1) == b""  # the container would hold the other end
    os.close(ours)


def test_a_guard_gets_no_descriptor_of_the_users() -> None:
    ours, theirs = os.pipe()
    os.set_inheritable(theirs, True)
    try:
        with Engine():
            os.close(theirs)
            assert os.read(ours, 1) == b""
    finally:
        os.close(ours)
