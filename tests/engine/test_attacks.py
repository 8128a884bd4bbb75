"""Clients and files that mean no good: floods, half requests, huge bodies, odd paths, links, the socket's mode."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import socket
import stat
import threading

import pytest

from attachproto_engine import Engine
from attachproto_engine._guard import Guard
from tests.engine.client import (
    attach_request,
    attached,
    call,
    create,
    dial,
    exchange,
    read_all,
    read_answer,
    shell,
    start,
)

PING = b"GET /_ping HTTP/1.1\r\nHost: localhost\r\n\r\n"


def test_half_requests_hold_nobody_up(engine: Engine) -> None:
    body = b'POST /containers/create HTTP/1.1\r\nHost: d\r\nContent-Length: 10\r\n\r\n{"'
    with contextlib.ExitStack() as opened:
        for at in range(100):
            sock = opened.enter_context(dial(engine))
            sock.sendall((b"", PING[:10], PING[:-2], body)[at % 4])
        assert exchange(engine, PING).endswith(b"OK")


def test_a_request_byte_by_byte(engine: Engine) -> None:
    with dial(engine) as sock:
        for _ in range(2):
            for at in range(len(PING)):
                sock.sendall(PING[at : at + 1])
            assert read_answer(sock).endswith(b"OK")


def test_a_flood_of_requests_on_one_connection_starves_nobody(engine: Engine) -> None:
    """They are answered one after another, and other clients in between."""
    count = 500
    with dial(engine) as sock:
        thread = threading.Thread(target=sock.sendall, args=(PING * count,))
        thread.start()
        assert exchange(engine, PING).endswith(b"OK")
        data = b""
        while data.count(b"\r\n\r\nOK") < count:
            piece = sock.recv(1 << 20)
            assert piece
            data += piece
        thread.join()


def test_a_client_that_reads_no_answers_is_held_back(engine: Engine) -> None:
    with dial(engine) as sock:
        sock.settimeout(0.5)
        with contextlib.suppress(TimeoutError):
            for _ in range(10_000):
                sock.sendall(PING * 1000)
            pytest.fail("it takes requests without bound")
        assert exchange(engine, PING).endswith(b"OK")


@pytest.mark.parametrize(
    "head",
    [
        b"GET /_ping HTTP/1.1\r\nHost: d\r\nX: ",
        b"GET /",
        b"POST /containers/create HTTP/1.1\r\nHost: d\r\nContent-Length: 99999999999\r\n\r\n",
        b"POST /containers/create HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\n",
    ],
)
def test_a_head_or_a_body_without_end_is_refused(engine: Engine, head: bytes) -> None:
    with dial(engine) as sock:
        sock.sendall(head)
        with contextlib.suppress(ConnectionError):
            for _ in range(8 * 1024):
                sock.sendall(b"x" * 1024)
        assert read_all(sock).startswith((b"HTTP/1.1 431 ", b"HTTP/1.1 400 "))
    assert exchange(engine, PING).endswith(b"OK")


@pytest.mark.parametrize(
    "fields",
    [
        b"Content-Length: 2\r\nContent-Length: 3\r\n",
        b"Content-Length: +2\r\n",
        b"Content-Length: 2,3\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n",
        b"Transfer-Encoding: identity\r\n",
        b"Content-Length : 2\r\n",
        b"X: a\r\n\tb: c\r\nContent-Length:\x0b2\r\n",
    ],
)
def test_a_body_whose_end_is_in_doubt_is_never_followed_by_another_request(engine: Engine, fields: bytes) -> None:
    request = b"POST /nosuch HTTP/1.1\r\nHost: d\r\n" + fields + b"\r\n" + b"{}" + PING
    with dial(engine) as sock:
        sock.sendall(request)
        answer = read_all(sock)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 1


def test_two_framings_of_a_body_end_the_connection(engine: Engine) -> None:
    fields = b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"
    with dial(engine) as sock:
        sock.sendall(b"POST /nosuch HTTP/1.1\r\nHost: d\r\n" + fields + b"\r\n0\r\n\r\n" + PING)
        assert read_all(sock).count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize(
    "target",
    [
        "/containers/../../etc/passwd",
        "/containers/%2e%2e/json",
        "/containers/..%2f..%2fetc/json",
        "/containers/a%2f%2e%2e%2fb/json",
        "/containers/%00/json",
        "/containers/web%00/json",
        "/containers/%0d%0aX:%20y/json",
        "/containers/%ff%fe/json",
        "/containers/%zz/json",
        "/containers/%/json",
        "/containers//json",
        "/containers/web/",
        "/./_ping",
        "//",
        "/",
        "*",
        "http://evil.example/containers/web/json/x",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_paths_name_containers_and_nothing_else(engine: Engine, method: str, target: str) -> None:
    create(engine, "web", "true")
    answer = exchange(engine, f"{method} {target} HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n".encode())
    assert answer.split()[1] in (b"301", b"400", b"404")
    head, _, _ = answer.partition(b"\r\n\r\n")
    assert b"\nX:" not in head
    assert len(call(engine, "GET", "/containers/json?all=1").json) == 1


@pytest.mark.parametrize("name", ["../x", "a/b", "%2e%2e", "..", "a%0ab", "a%00", "-a", ".a", "a%20b", "%ef%bc%a1"])
def test_names_that_no_container_gets(engine: Engine, name: str) -> None:
    create(engine, "web", "true")
    for target in (f"/containers/create?name={name}", f"/containers/web/rename?name={name}"):
        assert call(engine, "POST", target, {"Cmd": ["true"]}).status == 400


# ---- files ----


def test_the_socket_is_private_from_the_beginning(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between bind() and chmod() others could connect. On Linux the path has its mode from bind() on."""
    modes = []
    bind = socket.socket.bind

    def binding(self: socket.socket, address: str) -> None:
        bind(self, address)
        modes.append(stat.S_IMODE(os.lstat(address).st_mode))

    monkeypatch.setattr(socket.socket, "bind", binding)
    before = os.umask(0)
    try:
        with Engine(f"unix://{tmp_path}/engine.sock"):
            pass
        with Engine() as engine:
            place = pathlib.Path(engine.host.removeprefix("unix://")).parent
            assert stat.S_IMODE(place.lstat().st_mode) == 0o700
    finally:
        os.umask(before)
    assert modes == [0o600, 0o600]


@pytest.mark.parametrize("kind", ["a file", "a stale socket", "a live socket", "nothing", "itself"])
def test_a_link_at_its_path_is_left_alone(tmp_path: pathlib.Path, kind: str) -> None:
    path, victim = tmp_path / "engine.sock", tmp_path / "victim"
    path.symlink_to(path if kind == "itself" else victim)
    with contextlib.ExitStack() as opened:
        if kind == "a file":
            victim.write_text("text")
        elif kind.endswith("socket"):
            sock = opened.enter_context(socket.socket(socket.AF_UNIX))
            sock.bind(str(victim))
            if kind == "a live socket":
                sock.listen()
        before = victim.lstat() if victim.exists() else None
        with pytest.raises(OSError, match="in use"):
            Engine(f"unix://{path}").start()
        assert path.is_symlink()
        assert (victim.lstat() if victim.exists() else None) == before


def test_what_a_link_in_its_directory_points_to_stays(tmp_path: pathlib.Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "file").write_text("text")
    with Engine() as engine:
        place = pathlib.Path(engine.host.removeprefix("unix://")).parent
        (place / "link").symlink_to(victim)
    assert not place.exists()
    guarded = tmp_path / "guarded"
    guarded.mkdir()
    (guarded / "link").symlink_to(victim)
    guard = Guard()
    guard.path(str(guarded))
    guard.let_go()  # as if the engine had been killed
    os.waitpid(guard._pid, 0)
    assert not guarded.exists()
    assert (victim / "file").read_text() == "text"


# ---- streams ----


def test_a_flood_of_stdin_into_a_process_that_reads_none_is_held_back(engine: Engine) -> None:
    shell(engine, "web", "sleep 100", OpenStdin=True)
    start(engine, "web")
    with attached(engine, "web", "stream=1&stdin=1&stdout=1") as sock:
        sock.settimeout(0.5)
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < 4 * 1024 * 1024:
                sent += sock.send(b"x" * 65536)
        assert sent < 4 * 1024 * 1024
    assert exchange(engine, PING).endswith(b"OK")


def test_clients_that_hang_up_at_once_leave_nothing(engine: Engine) -> None:
    create(engine, "web", "sleep", "100")
    start(engine, "web")
    for _ in range(100):
        for request in (PING, attach_request("web"), b"POST /containers/web/wait HTTP/1.1\r\nHost: d\r\n\r\n", b""):
            with dial(engine) as sock:
                sock.sendall(request)
    assert json.loads(call(engine, "GET", "/containers/json").body)[0]["State"] == "running"
