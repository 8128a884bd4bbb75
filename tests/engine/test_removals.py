"""A container is removed while other requests use it: none fails in the engine, and nothing of it runs on."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator

import pytest

from attachproto_engine import Engine, _process
from attachproto_engine._config import Config
from attachproto_engine._containers import Containers
from attachproto_engine._errors import ApiError
from attachproto_engine._guard import Guard
from attachproto_engine._images import Images
from attachproto_engine._rules import RULES
from tests.engine.client import (
    attach_request,
    attached,
    call,
    dial,
    exchange,
    read_all,
    read_until,
    shell,
    start,
    wait,
)

REMOVE = b"DELETE /containers/web?force=1 HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n"

# Its leader can be killed, but its output ends only when the engine stops waiting for it.
LINGERING = "setsid sleep 3 & sleep 100"


@pytest.fixture(autouse=True)
def _nothing_reported(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """asyncio logs an exception of a task that nobody has retrieved."""
    yield
    assert not caplog.records


@pytest.mark.parametrize("query", ["stdout=1", "stdout=1&follow=1", "stdout=1&tail=100000", "stdout=1&tail=0"])
def test_the_log_of_a_removed_container_is_read_no_further(engine: Engine, query: str) -> None:
    """The client has half-closed, so the log may be closed. The engine was about to read the next block."""
    shell(engine, "web", "head -c 4000000 /dev/zero")
    start(engine, "web")
    wait(engine, "web")
    with dial(engine) as sock:
        sock.sendall(f"GET /containers/web/logs?{query} HTTP/1.1\r\nHost: d\r\n\r\n".encode())
        sock.shutdown(socket.SHUT_WR)
        got = read_until(sock, b"\r\n\r\n")
        assert call(engine, "DELETE", "/containers/web").status == 204
        assert (got + read_all(sock)).endswith(b"\r\n0\r\n\r\n")


def test_a_start_beside_a_removal_is_refused() -> None:
    """It came between the end of the process and the removal; the new process ran on, and no client could find it."""

    async def main() -> None:
        guard = Guard()
        containers = Containers(RULES["dockerd"], Images(None), guard)
        try:
            container = containers.create("web", Config.from_json({"Cmd": ["sleep", "100"]}))
            container.start()
            resolve = container.exits.resolve
            refused: list[int] = []

            def start() -> None:
                try:
                    container.start()
                except ApiError as exc:
                    refused.append(exc.status_code)

            def resolve_behind_a_start(code: int) -> None:
                # The callback runs before the one that wakes the removal.
                asyncio.get_running_loop().call_soon(start)
                resolve(code)

            container.exits.resolve = resolve_behind_a_start  # type: ignore[method-assign]
            await containers.remove("web", force=True)
            assert refused == [409]
            assert not container.running
        finally:
            await containers.close()
            guard.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("emulate", "removed", "restarted"),
    [
        (
            "dockerd",
            (409, "removal of container web is already in progress"),
            (500, "Cannot restart container web: container is marked for removal and cannot be started"),
        ),
        (
            "podman",
            (404, 'no container with name or ID "web" found: no such container'),
            (404, 'no container with name or ID "web" found: no such container'),
        ),
    ],
)
def test_a_removal_and_a_restart_beside_a_removal(
    emulate: str, removed: tuple[int, str], restarted: tuple[int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Status and text are those of dockerd 20.10, 26.1 and 28.5."""
    monkeypatch.setattr(_process, "_DRAIN_SECONDS", 0.5)
    with Engine(emulate=emulate) as engine:  # type: ignore[arg-type]
        shell(engine, "web", LINGERING)
        start(engine, "web")
        with dial(engine) as sock:
            sock.sendall(REMOVE)
            second = call(engine, "DELETE", "/containers/web?force=1")
            restart = call(engine, "POST", "/containers/web/restart?t=0")
            assert read_all(sock).startswith(b"HTTP/1.1 204 ")
        assert (second.status, second.message) == removed
        assert (restart.status, restart.message) == restarted
        assert call(engine, "GET", "/containers/web/json").status == 404


REQUESTS = [
    b"GET /containers/web/logs?stdout=1&follow=1 HTTP/1.1\r\nHost: d\r\n\r\n",
    b"GET /containers/web/logs?stdout=1&follow=1&tail=0 HTTP/1.1\r\nHost: d\r\n\r\n",
    attach_request("web"),
    attach_request("web", "logs=1&stream=1&stdin=1&stdout=1"),
    *(
        f"{method} {target} HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n".encode()
        for method, target in [
            ("POST", "/containers/web/wait"),
            ("POST", "/containers/web/wait?condition=next-exit"),
            ("POST", "/containers/web/wait?condition=removed"),
            ("GET", "/containers/web/json"),
            ("GET", "/containers/web/top"),
            ("GET", "/containers/json?all=1"),
            ("POST", "/containers/web/restart?t=0"),
            ("POST", "/containers/web/rename?name=other"),
            ("POST", "/containers/web/resize?h=1&w=1"),
            ("POST", "/containers/web/pause"),
            ("POST", "/containers/web/stop?t=0"),
            ("POST", "/containers/web/kill"),
            ("POST", "/containers/web/start"),
        ]
    ),
]


@pytest.mark.parametrize(("tty", "auto_remove"), [(False, True), (True, False)])
def test_every_call_beside_a_removal(engine: Engine, tty: bool, auto_remove: bool) -> None:
    answers: list[bytes] = []

    def ask(request: bytes, half_close: bool) -> None:
        with dial(engine) as sock:
            sock.sendall(request)
            if half_close:
                sock.shutdown(socket.SHUT_WR)
            answers.append(read_until(sock, b"\r\n\r\n"))

    for request in REQUESTS:
        for half_close in (False, True):
            config = {"Tty": tty, "OpenStdin": True, "HostConfig": {"AutoRemove": auto_remove}}
            container = shell(engine, "web", "echo x; sleep 100", **config)
            start(engine, "web")
            exec_id = call(engine, "POST", "/containers/web/exec", {"Cmd": ["cat"], "AttachStdin": True}).json["Id"]
            targets = [f"/exec/{exec_id}/json", f"/exec/{exec_id}/resize?h=1&w=1"]
            execs = [
                f"{method} {target} HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n".encode()
                for method, target in zip(("GET", "POST"), targets, strict=True)
            ]
            asking = [
                threading.Thread(target=ask, args=(each, half_close))
                for each in (request, REMOVE.replace(b"web", container.encode()), *execs)
            ]
            for thread in asking:
                thread.start()
            for thread in asking:
                thread.join()
            call(engine, "DELETE", f"/containers/{container}?force=1")
    assert len(answers) == len(REQUESTS) * 2 * 4
    assert not [answer for answer in answers if b"embedded engine failed" in answer]
    assert call(engine, "GET", "/containers/json?all=1").json == []


def test_an_attach_ends_with_its_container(engine: Engine) -> None:
    shell(engine, "web", "sleep 100")
    start(engine, "web")
    with attached(engine, "web") as sock:
        assert exchange(engine, REMOVE).startswith(b"HTTP/1.1 204 ")
        assert read_all(sock) == b""
