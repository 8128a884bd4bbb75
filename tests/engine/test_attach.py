"""Attach through the blocking adapter and plain sockets: streams, the end of stdin, detach keys, logs, lost clients."""

from __future__ import annotations

import select
import socket
import threading
import time

import attrs
import pytest

from attachproto import AttachOptions, OutputClosed, RawOutput, Stdout
from attachproto_adapters import HalfCloseEndsAttach
from attachproto_adapters.blocking import Attachment, attach
from attachproto_engine import Engine
from tests.engine.client import (
    TIMEOUT,
    attach_request,
    attached,
    call,
    create,
    dial,
    exchange,
    read_all,
    read_until,
    shell,
    start,
    status,
    wait,
)
from tests.helpers import H101M, frame

STDIN = "stream=1&stdin=1&stdout=1&stderr=1"


def opened(engine: Engine, name: str, **options: bool) -> Attachment:
    return attach(name, AttachOptions(**options), host=engine.host, start=True, timeout=TIMEOUT)  # type: ignore[arg-type]


def test_both_streams_and_the_exit_code(engine: Engine) -> None:
    shell(engine, "web", "echo out; echo err >&2; exit 7")
    with opened(engine, "web") as attachment:
        assert attachment.communicate() == (b"out\n", b"err\n")
        assert attachment.wait() == 7


def test_stdin_and_its_end(engine: Engine) -> None:
    create(engine, "web", "cat", OpenStdin=True, StdinOnce=True)
    data = bytes(range(256)) * 12_000
    with opened(engine, "web", stdin=True) as attachment:
        assert attachment.communicate(data) == (data, b"")
        assert attachment.wait() == 0


def test_frames_are_no_larger_than_dockerds(engine: Engine) -> None:
    shell(engine, "web", "head -c 1000000 /dev/zero; head -c 500000 /dev/zero >&2", HostConfig={"AutoRemove": True})
    with attached(engine, "web") as sock:
        start(engine, "web")
        data = read_all(sock)
    sizes = {1: 0, 2: 0}
    while data:
        size = int.from_bytes(data[4:8], "big")
        assert 0 < size <= 32768
        sizes[data[0]] += size
        data = data[8 + size :]
    assert sizes == {1: 1_000_000, 2: 500_000}


def test_a_terminal(engine: Engine) -> None:
    shell(engine, "web", "tty; stty size; read x; stty size; echo $x >&2; exit 4", Tty=True, OpenStdin=True)
    with opened(engine, "web", stdin=True) as attachment:
        seen = b""
        while seen.count(b"\n") < 2:
            event = attachment.receive()
            assert isinstance(event, RawOutput)
            seen += event.data
        assert seen.startswith(b"/dev/")
        assert call(engine, "POST", "/containers/web/resize?h=33&w=99").status == 200
        for bad, text in (
            ("h=a&w=1", 'invalid resize height "a": invalid syntax'),
            ("h=1", 'invalid resize width "": invalid syntax'),
        ):
            assert call(engine, "POST", f"/containers/web/resize?{bad}").message == text
        attachment.send_stdin(b"typed\n")
        rest, _ = attachment.communicate()
        assert rest == b"typed\r\n33 99\r\ntyped\r\n"
        assert attachment.wait() == 4


def test_it_is_the_controlling_terminal(engine: Engine) -> None:
    shell(
        engine,
        "web",
        "trap 'echo WINCH' WINCH; trap 'echo INT; exit 9' INT; echo go > /dev/tty; while :; do read x; done",
        Tty=True,
        OpenStdin=True,
    )
    with attached(engine, "web", STDIN) as sock:
        start(engine, "web")
        read_until(sock, b"go\r\n")
        assert call(engine, "POST", "/containers/web/resize?h=10&w=20").status == 200
        sock.sendall(b"\n")
        read_until(sock, b"WINCH\r\n")
        sock.sendall(b"\x03")
        assert read_all(sock).endswith(b"INT\r\n")
    assert wait(engine, "web") == 9


@pytest.mark.parametrize(
    ("config", "ends"),
    [
        ({"StdinOnce": True}, False),
        ({"StdinOnce": False}, True),
        ({"StdinOnce": True, "Tty": True}, True),
        ({"StdinOnce": False, "Tty": True}, True),
    ],
)
def test_a_half_close_by_dockerds_rules(engine: Engine, config: dict[str, bool], ends: bool) -> None:
    shell(engine, "web", "cat; echo end", OpenStdin=True, **config)
    with attached(engine, "web", STDIN) as sock:
        start(engine, "web")
        sock.sendall(b"abc\n")
        seen = read_until(sock, b"abc")
        sock.shutdown(socket.SHUT_WR)
        seen += read_all(sock)
        assert (b"end" in seen) is not ends
    if ends:
        assert status(engine, "web") == "running"
    else:
        assert wait(engine, "web") == 0


def test_communicate_refuses_where_it_would_lose_output(engine: Engine) -> None:
    create(engine, "web", "cat", OpenStdin=True)
    with opened(engine, "web", stdin=True) as attachment, pytest.raises(HalfCloseEndsAttach):
        attachment.communicate(b"x")


def test_a_half_close_without_stdin_is_harmless(engine: Engine) -> None:
    shell(engine, "web", "echo a; read x; echo b", OpenStdin=True, StdinOnce=True)
    with attached(engine, "web") as sock, attached(engine, "web", "stream=1&stdin=1") as stdin:
        sock.shutdown(socket.SHUT_WR)
        start(engine, "web")
        read_until(sock, b"a\n")
        stdin.sendall(b"\n")
        assert read_all(sock) == frame(1, b"b\n")


def test_stdin_alone_ends_with_its_half_close(engine: Engine) -> None:
    shell(engine, "web", "cat > /dev/null; exit 2", OpenStdin=True, StdinOnce=True)
    with attached(engine, "web", "stream=1&stdin=1") as sock:
        start(engine, "web")
        sock.sendall(b"12345\n")
        sock.shutdown(socket.SHUT_WR)
        assert read_all(sock) == b""
    assert wait(engine, "web") == 2


def test_stdin_before_the_start_is_kept_and_glued_stdin_is_not(engine: Engine) -> None:
    create(engine, "web", "cat", OpenStdin=True, StdinOnce=True)
    with dial(engine) as sock:
        sock.sendall(attach_request("web", STDIN) + b"GLUED\n")
        assert sock.recv(len(H101M)) == H101M
        sock.sendall(b"early\n")
        sock.shutdown(socket.SHUT_WR)
        start(engine, "web")
        assert read_all(sock) == frame(1, b"early\n")


def test_a_closed_stdin_holds_the_writer_back(engine: Engine) -> None:
    shell(engine, "web", "sleep 0.2; echo on")
    with attached(engine, "web", STDIN) as sock:
        sock.settimeout(0.1)
        sent = 0
        with pytest.raises(TimeoutError):  # noqa: PT012
            while sent < 50_000_000:
                sent += sock.send(bytes(65536))
        sock.settimeout(TIMEOUT)
        start(engine, "web")
        assert read_all(sock) == frame(1, b"on\n")


@pytest.mark.parametrize(
    ("keys", "typed"), [("", b"\x10\x11"), ("&detachKeys=a,b", b"ab"), ("&detachKeys=", b"\x10\x11")]
)
def test_detach(engine: Engine, keys: str, typed: bytes) -> None:
    create(engine, "web", "cat", OpenStdin=True, Tty=True)
    start(engine, "web")
    with attached(engine, "web", STDIN + keys) as sock:
        sock.sendall(b"seen\n")
        read_until(sock, b"seen\r\nseen\r\n")
        for byte in typed:
            sock.sendall(bytes([byte]))
        assert read_all(sock) == b""
        sock.sendall(b"nobody reads this")  # dockerd half-closes only
    assert status(engine, "web") == "running"


def test_no_keys_without_a_terminal(engine: Engine) -> None:
    create(engine, "web", "cat", OpenStdin=True, StdinOnce=True)
    with attached(engine, "web", STDIN) as sock:
        start(engine, "web")
        sock.sendall(b"\x10\x11")
        sock.shutdown(socket.SHUT_WR)
        assert read_all(sock) == frame(1, b"\x10\x11")


@pytest.mark.parametrize("query", ["", "stream=0&logs=0", "stream=1", "logs=1", "stdout=1"])
def test_nothing_asked_for_is_an_end_at_once(engine: Engine, query: str) -> None:
    shell(engine, "web", "echo a; sleep 100")
    start(engine, "web")
    assert exchange(engine, attach_request("web", query)) == H101M


def test_logs_and_then_the_stream_without_loss_or_repetition(engine: Engine) -> None:
    shell(engine, "web", "i=0; while [ $i -lt 3000 ]; do echo line$i; i=$((i+1)); done; read x", OpenStdin=True)
    start(engine, "web")
    expected = b"".join(b"line%d\n" % number for number in range(3000))
    for _ in range(3):
        with attach("web", AttachOptions(stdin=True, logs=True), host=engine.host, timeout=TIMEOUT) as attachment:
            seen = b""
            while len(seen) < len(expected):
                event = attachment.receive()
                assert isinstance(event, Stdout)
                seen += event.data
            assert seen == expected


def test_an_exited_container(engine: Engine) -> None:
    shell(engine, "web", "echo once")
    start(engine, "web")
    assert wait(engine, "web") == 0
    assert exchange(engine, attach_request("web", "logs=1&stdout=1&stderr=1")) == H101M + frame(1, b"once\n")
    # Without logs it is silent until the container is started again.
    with attached(engine, "web") as sock:
        start(engine, "web")
        assert read_all(sock) == frame(1, b"once\n")


def test_two_clients_get_all_of_it(engine: Engine) -> None:
    shell(engine, "web", "head -c 3000000 /dev/zero")
    with attached(engine, "web") as one, attached(engine, "web") as two:
        start(engine, "web")
        found: list[bytes] = []
        reader = threading.Thread(target=lambda: found.append(read_all(one)))
        reader.start()
        other = read_all(two)
        reader.join(TIMEOUT)
        payload = [len(data) - 8 * data.count(b"\x01\0\0\0") for data in (found[0], other)]
    assert payload == [3_000_000, 3_000_000]


def test_a_client_that_does_not_read_stops_the_container(engine: Engine) -> None:
    shell(engine, "web", "head -c 20000000 /dev/zero; echo done >&2; exit 6")
    with attached(engine, "web") as stalled, attached(engine, "web", "stream=1&stderr=1") as other:
        start(engine, "web")
        other.settimeout(0.5)
        with pytest.raises(TimeoutError):
            other.recv(1)
        # Inspect and kill still work, and what it had printed still arrives.
        assert status(engine, "web") == "running"
        assert call(engine, "POST", "/containers/web/kill").status == 204
        assert wait(engine, "web") == 137
        assert 1_000_000 < len(read_all(stalled)) < 20_000_000


def test_a_client_that_vanishes_lets_the_container_go_on(engine: Engine) -> None:
    shell(engine, "web", "head -c 20000000 /dev/zero; exit 6")
    with attached(engine, "web") as stalled:
        start(engine, "web")
        stalled.recv(10)
    assert wait(engine, "web") == 6


@pytest.mark.parametrize(("once", "code"), [(True, 0), (False, None)])
def test_a_vanished_client_ends_stdin_only_with_stdin_once(engine: Engine, once: bool, code: int | None) -> None:
    create(engine, "web", "cat", OpenStdin=True, StdinOnce=once)
    with attached(engine, "web", STDIN) as sock:
        start(engine, "web")
        sock.sendall(b"last words\n")
    if code is None:
        with attach("web", AttachOptions(logs=True), host=engine.host, timeout=TIMEOUT) as attachment:
            assert attachment.receive() == Stdout(b"last words\n")
        assert status(engine, "web") == "running"
    else:
        assert wait(engine, "web") == code


@pytest.mark.parametrize("options", ["&stdin=1", ""])
def test_what_is_removed_before_its_start_lets_go_of_clients_that_have_left(options: str) -> None:
    """On TCP a client that has closed cannot be told from one that has ended its direction."""
    with Engine("tcp://127.0.0.1:0") as engine:
        create(engine, "one", "cat", OpenStdin=True, StdinOnce=True)
        query = f"stream=1&stdout=1&stderr=1{options}"
        with attached(engine, "one", query) as leaves, attached(engine, "one", query) as stays:
            leaves.shutdown(socket.SHUT_WR)
            assert call(engine, "DELETE", "/containers/one").status == 204
            assert leaves.recv(1) == b""
            poll = select.poll()
            poll.register(stays, select.POLLIN)
            assert poll.poll(0) == []


def test_processes_that_it_leaves_in_its_session_are_killed(engine: Engine) -> None:
    shell(engine, "web", "exec 2>/dev/null; sleep 300 & set -m; sleep 300 & echo on; exit 3")
    with attached(engine, "web") as sock:
        start(engine, "web")
        assert read_all(sock) == frame(1, b"on\n")
    assert wait(engine, "web") == 3


def test_a_process_outside_the_session_holds_the_output_open_for_two_seconds_at_most(engine: Engine) -> None:
    shell(engine, "web", "setsid sleep 4 & sleep 0.1; echo on")
    began = time.monotonic()
    with opened(engine, "web") as attachment:
        assert attachment.communicate() == (b"on\n", b"")
        assert attachment.receive() == OutputClosed()
        assert attachment.wait() == 0
    assert 1.5 < time.monotonic() - began < 3.5


@pytest.mark.parametrize("tty", [False, True])
def test_a_log_driver_that_keeps_nothing(tty: bool) -> None:
    """dockerd looks for a plugin of that name, for 15 s, and then sends an error text and no output."""
    engine = Engine()
    assert engine._rules.unreadable_log_seconds == 15.0
    engine._rules = attrs.evolve(engine._rules, unreadable_log_seconds=0.2)
    with engine:
        shell(engine, "web", "echo a; sleep 100", Tty=tty, HostConfig={"LogConfig": {"Type": "none"}})
        start(engine, "web")
        with attached(engine, "web", "stream=1&logs=1&stdout=1&stderr=1") as sock:
            text = read_all(sock)
        assert text[:8] == (b"Error at" if tty else b"\x01\0\0\0\0\0\0\xa0")
        assert text.endswith(b'error looking up logging plugin none: plugin "none" not found\n')
        assert status(engine, "web") == "running"
        answer = call(engine, "GET", "/containers/web/logs?stdout=1")
        assert (answer.status, answer.message) == (501, "configured logging driver does not support reading")
