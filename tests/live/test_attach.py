"""The blocking adapter and the command line against a real dockerd and a real podman."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from attachproto import AttachOptions, OutputClosed, RawOutput, RemoteProtocolError, Stderr, Stdout
from attachproto_adapters import (
    ApiVersionRejected,
    AttachWarning,
    ContainerNotRunning,
    HalfCloseEndsAttach,
    RequestRejected,
)
from attachproto_adapters.blocking import Attachment, attach
from tests.live.engine_api import Engine, wait_until

pytestmark = pytest.mark.live

TIMEOUT = 30.0
STDIN = AttachOptions(stdin=True)
REPLAY = AttachOptions(stream=False, logs=True)
MEGABYTES_10 = 10_000_000

Count = Callable[..., None]
Times = Callable[[int], int]


def misframes_logs(engine: Engine) -> bool:
    """Up to 4.3, podman's replay of logs leaves the newline out of each frame's length."""
    return engine.name == "podman" and engine.release < (4, 4)


def start(engine: Engine, container: str, options: AttachOptions | None = None) -> Attachment:
    return attach(container, options or AttachOptions(), host=engine.host, start=True, timeout=TIMEOUT)


def gather(events: Iterable[object]) -> tuple[bytes, bytes]:
    """Stdout and stderr of all events, joined."""
    out, err = bytearray(), bytearray()
    for event in events:
        match event:
            case Stdout(data):
                out += data
            case Stderr(data):
                err += data
            case _:
                pytest.fail(f"unexpected: {event}")
    return bytes(out), bytes(err)


def read_until(attachment: Attachment, mark: bytes) -> bytes:
    """Output up to and with a mark, whatever the stream."""
    seen = bytearray()
    while mark not in seen:
        event = attachment.receive()
        assert isinstance(event, Stdout | Stderr | RawOutput), f"{event} before {mark!r}, after {bytes(seen)!r}"
        seen += event.data
    return bytes(seen)


# -- nothing lost -----------------------------------------------------------------------------------------------------


def test_finished_container_is_replayed_whole(docker: Engine, times: Times, count: Count) -> None:
    container = docker.finish(docker.shell("for i in $(seq 100); do echo out $i; echo err $i >&2; done; exit 7"))
    expected = tuple(b"".join(b"%s %d\n" % (name, i) for i in range(1, 101)) for name in (b"out", b"err"))
    whole, total = 0, times(500)
    for _ in range(total):
        with attach(container, REPLAY, host=docker.host, timeout=TIMEOUT) as attachment:
            whole += gather(attachment) == expected and attachment.wait() == 7
    count("finished container, logs", docker, whole, total)
    assert whole == total


def test_short_lived_containers_are_started_and_read_whole(engine: Engine, times: Times, count: Count) -> None:
    whole, total, wrong = 0, times(200), []
    for _ in range(total):
        container = engine.shell("echo out; echo err >&2; exit 3")
        with start(engine, container) as attachment:
            seen = (*gather(attachment), attachment.wait())
        if seen == (b"out\n", b"err\n", 3):
            whole += 1
        else:
            wrong.append(seen)
        engine.remove(container)
    count("start=True, prints and ends", engine, whole, total)
    assert wrong == []


def test_stdin_goes_through_and_output_after_its_end_arrives(engine: Engine, count: Count) -> None:
    data = random.Random(1).randbytes(MEGABYTES_10)
    script = "tee /tmp/in; sha256sum </tmp/in >&2; echo after the end; exit 4"
    container = engine.shell(script, open_stdin=True, stdin_once=True)
    with start(engine, container, STDIN) as attachment:
        out, err = attachment.communicate(data)
        code = attachment.wait()
    tail = b"after the end\n"
    assert out[-len(tail) :] == tail
    assert hashlib.sha256(out[: -len(tail)]).digest() == hashlib.sha256(data).digest()
    assert err == hashlib.sha256(data).hexdigest().encode() + b"  -\n"
    assert code == 4
    count("10 MB there and back", engine, 1, 1)


def test_stdin_by_hand(engine: Engine) -> None:
    container = engine.shell("cat; echo the end; exit 6", open_stdin=True, stdin_once=True)
    with start(engine, container, STDIN) as attachment:
        attachment.send_stdin(b"one\n")
        assert read_until(attachment, b"\n") == b"one\n"
        attachment.send_stdin(b"two\n")
        assert read_until(attachment, b"\n") == b"two\n"
        attachment.close_stdin()
        assert gather(attachment) == (b"the end\n", b"")
        assert isinstance(attachment.receive(), OutputClosed)
        assert attachment.wait() == 6


# -- output -----------------------------------------------------------------------------------------------------------


def test_streams_are_apart(engine: Engine) -> None:
    script = "i=0; while [ $i -lt 50 ]; do echo out $i; echo err $i >&2; i=$((i+1)); done"
    with start(engine, engine.shell(script)) as attachment:
        out, err = gather(attachment)
    assert out == b"".join(b"out %d\n" % i for i in range(50))
    assert err == b"".join(b"err %d\n" % i for i in range(50))


def test_tty_is_raw(engine: Engine) -> None:
    container = engine.shell("echo out; echo err >&2; exit 5", tty=True)
    with start(engine, container) as attachment:
        events = list(attachment)
        code = attachment.wait()
    assert {type(event) for event in events} == {RawOutput}
    assert b"".join(event.data for event in events if isinstance(event, RawOutput)) == b"out\r\nerr\r\n"
    assert code == 5


def test_killed_container_ends_cleanly(engine: Engine) -> None:
    container = engine.shell("echo ready; sleep 600")
    with start(engine, container) as attachment:
        assert read_until(attachment, b"\n") == b"ready\n"
        engine.kill(container)
        assert gather(attachment) == (b"", b"")
        assert attachment.wait() == 137


def test_created_container_started_by_someone_else(engine: Engine) -> None:
    container = engine.shell("echo out; echo err >&2; exit 8")
    with attach(container, host=engine.host, wait=True, timeout=TIMEOUT) as attachment:
        engine.start(container)
        assert gather(attachment) == (b"out\n", b"err\n")
        assert attachment.wait() == 8


# -- a container that has exited --------------------------------------------------------------------------------------


def test_exited_container_without_logs_is_refused(engine: Engine) -> None:
    container = engine.finish(engine.create("true"))
    with pytest.raises(ContainerNotRunning):
        attach(container, host=engine.host, timeout=TIMEOUT)
    assert engine.status(container) == "exited"  # podman makes it `created` when attached to


def test_misframed_logs_are_an_error_if_nobody_knows_of_it(podman: Engine) -> None:
    if not misframes_logs(podman):
        pytest.skip(f"podman {podman.version} frames its logs as it should")
    container = podman.shell("echo out1; echo out2; sleep 600")
    podman.start(container)
    wait_until(lambda: b"out2" in podman.logs(container), "both lines are logged")
    with attach(container, AttachOptions(logs=True), host=podman.host, timeout=TIMEOUT, quirks=()) as attachment:
        assert attachment.receive() == Stdout(b"out1")
        with pytest.raises(RemoteProtocolError, match="NEWLINE_OUTSIDE_FRAME"):
            attachment.receive()


# -- communicate ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("open_stdin", [True, False])
def test_communicate_with_a_container_that_never_reads(engine: Engine, open_stdin: bool) -> None:
    printed = 20_000_000
    script = f"yes 0123456789abcdef | head -c {printed}; exit 5"
    container = engine.shell(script, open_stdin=open_stdin, stdin_once=open_stdin)
    with nullcontext() if open_stdin else pytest.warns(AttachWarning, match="OpenStdin"):
        attachment = start(engine, container, STDIN)
    with attachment:
        out, err = attachment.communicate(bytes(MEGABYTES_10))
        code = attachment.wait()
    line = b"0123456789abcdef\n"
    assert len(out) == printed
    assert out == (line * (printed // len(line) + 1))[:printed]
    if engine.name == "podman":  # it tells of the stdin nobody took, as if the container had said so
        assert err == b"" or err.startswith(b"Error: ")
    else:
        assert err == b""
    assert code == 5


def test_half_close_is_refused_for_a_tty(engine: Engine) -> None:
    container = engine.create("cat", tty=True, open_stdin=True, stdin_once=True)
    with start(engine, container, STDIN) as attachment:
        with pytest.raises(HalfCloseEndsAttach):
            attachment.communicate(b"lost\n")
        attachment.send_stdin(b"kept\n")  # echoed by the terminal, then printed by cat
        assert read_until(attachment, b"kept\r\nkept\r\n") == b"kept\r\nkept\r\n"
    assert engine.status(container) == "running"


def test_half_close_is_refused_where_dockerd_ends_the_output(docker: Engine) -> None:
    container = docker.create("cat", open_stdin=True)
    with start(docker, container, STDIN) as attachment:
        with pytest.raises(HalfCloseEndsAttach):
            attachment.communicate(b"lost\n")
        attachment.send_stdin(b"kept\n")
        assert read_until(attachment, b"\n") == b"kept\n"
    assert docker.status(container) == "running"


# -- refusals ---------------------------------------------------------------------------------------------------------


def rejection(engine: Engine, container: str, **more: Any) -> RequestRejected:
    with pytest.raises(RequestRejected) as caught:
        attach(container, host=engine.host, timeout=TIMEOUT, **more)
    return caught.value


def test_no_such_container(engine: Engine) -> None:
    rejected = rejection(engine, "nosuch")
    assert rejected.status_code == 404
    if engine.name == "docker":
        assert rejected.message == "No such container: nosuch"
    else:
        assert rejected.message.startswith("no container with name or ID")
        assert "nosuch" in rejected.message


def test_paused_container(engine: Engine) -> None:
    container = engine.create("sleep", "600")
    engine.start(container)
    engine.pause(container)
    with pytest.raises(ContainerNotRunning, match="paused"):
        attach(container, host=engine.host, timeout=TIMEOUT)


def test_api_version_out_of_range(engine: Engine) -> None:
    container = engine.create("true")
    if engine.name == "podman":  # it takes any
        with attach(container, host=engine.host, start=True, api_version="1.99", timeout=TIMEOUT) as attachment:
            assert attachment.wait() == 0
        return
    for asked in ("1.99", "1.1"):
        with pytest.raises(ApiVersionRejected) as caught:
            attach(container, host=engine.host, timeout=TIMEOUT, api_version=asked)
        assert caught.value.status_code == 400
        assert caught.value.newest == engine.api_version
        assert caught.value.oldest in str(caught.value)


# -- threads and descriptors ------------------------------------------------------------------------------------------


def test_twenty_attach_at_once(engine: Engine) -> None:
    containers = [engine.shell(f"echo out {i}; echo err {i} >&2; exit {i}") for i in range(20)]

    def run(container: str) -> tuple[bytes, bytes, int]:
        with start(engine, container) as attachment:
            return *gather(attachment), attachment.wait()

    with ThreadPoolExecutor(max_workers=20) as pool:
        results = list(pool.map(run, containers))
    assert results == [(b"out %d\n" % i, b"err %d\n" % i, i) for i in range(20)]


def sleeps(thread: threading.Thread) -> bool:
    """Is a thread of ours inside a call that waits?"""
    stat = Path(f"/proc/self/task/{thread.native_id}/stat").read_text()
    return stat.rpartition(")")[2].split()[0] == "S"


def test_close_from_another_thread_wakes_a_blocked_receive(engine: Engine) -> None:
    container = engine.shell("echo ready; sleep 600")
    attachment = start(engine, container)
    assert read_until(attachment, b"\n") == b"ready\n"
    about_to = threading.Event()
    results: list[object] = []

    def receive() -> None:
        about_to.set()
        try:
            results.append(attachment.receive())
        except Exception as error:  # which one is the adapter's affair: that it comes is this test's
            results.append(error)

    reader = threading.Thread(target=receive, daemon=True)
    reader.start()
    assert about_to.wait(TIMEOUT)
    wait_until(lambda: sleeps(reader), "the reader waits")
    attachment.close()
    reader.join(5.0)  # far below the timeout of the attach, which would wake it too
    assert not reader.is_alive()
    assert len(results) == 1
    assert engine.status(container) == "running"


def test_no_descriptor_is_left_open(engine: Engine) -> None:
    running = engine.shell("echo ready; sleep 600")
    engine.start(running)
    exited = engine.finish(engine.create("true"))
    kept: list[object] = []  # so that it is close() that closes, and not the garbage collector
    before = len(os.listdir("/proc/self/fd"))
    for turn in range(50):
        attachment = attach(running, host=engine.host, wait=bool(turn % 2), timeout=TIMEOUT)
        attachment.close()
        with pytest.raises(ContainerNotRunning) as not_running:
            attach(exited, host=engine.host, timeout=TIMEOUT)
        kept += [attachment, not_running, rejection(engine, "nosuch", start=bool(turn % 2))]
    assert len(os.listdir("/proc/self/fd")) == before


def test_no_descriptor_is_left_open_by_what_ran_to_its_end(engine: Engine, times: Times) -> None:
    kept: list[object] = []
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(times(50)):
        container = engine.create("cat", open_stdin=True, stdin_once=True)
        with start(engine, container, STDIN) as attachment:
            assert attachment.communicate(b"x") == (b"x", b"")
            assert attachment.wait() == 0
        kept.append(attachment)
        engine.remove(container)
    assert len(os.listdir("/proc/self/fd")) == before


# -- the command line -------------------------------------------------------------------------------------------------


def command(engine: Engine, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "attachproto_adapters", "attach", "--host", engine.host, *arguments]


def run(engine: Engine, *arguments: str, stdin: bytes = b"") -> tuple[int, bytes, bytes]:
    done = subprocess.run(command(engine, *arguments), input=stdin, capture_output=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


def test_command_starts_and_ends_as_the_container(engine: Engine) -> None:
    container = engine.shell("echo out; echo err >&2; exit 3")
    assert run(engine, "--start", container) == (3, b"out\n", b"err\n")


def test_command_forwards_stdin(engine: Engine) -> None:
    data = random.Random(2).randbytes(1_000_000)
    container = engine.shell("cat; echo the end >&2; exit 4", open_stdin=True, stdin_once=True)
    status, out, err = run(engine, "--start", container, stdin=data)
    assert out == data
    assert (status, err) == (4, b"the end\n")


def test_command_prints_logs(docker: Engine) -> None:
    container = docker.finish(docker.shell("echo out; echo err >&2; exit 5"))
    assert run(docker, "--logs", container) == (5, b"out\n", b"err\n")


def test_command_tells_a_refusal(engine: Engine) -> None:
    status, out, err = run(engine, "nosuch")
    assert (status, out) == (1, b"")
    assert b"nosuch" in err
    assert (b"No such container: nosuch" if engine.name == "docker" else b"no container with name or ID") in err
    assert b"Traceback" not in err


def test_command_is_interrupted(engine: Engine) -> None:
    container = engine.shell("echo ready; sleep 600")
    with subprocess.Popen(
        command(engine, "--sig-proxy=false", "--start", container),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as child:
        watchdog = threading.Timer(TIMEOUT, child.kill)
        watchdog.start()
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == b"ready\n"
            child.send_signal(signal.SIGINT)
            out, err = child.communicate(timeout=TIMEOUT)
        finally:
            watchdog.cancel()
            child.kill()
    assert child.returncode == 130
    assert (out, b"Traceback" in err) == (b"", False)
    assert engine.status(container) == "running"
