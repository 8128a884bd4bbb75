"""What many or large requests cost an engine: the turns of its event loop, and what it goes on remembering."""

from __future__ import annotations

import asyncio
import contextlib
import json
import pathlib
import socket
import time
from collections.abc import AsyncIterator, Coroutine
from typing import Any, TypeVar
from urllib.parse import quote

import pytest

from attachproto import Request
from attachproto._attach_options import first_values
from attachproto_engine import Engine, _call, _container, _container_calls, _server_connection
from attachproto_engine._answers import Answers
from attachproto_engine._call import Call
from attachproto_engine._config import Config
from attachproto_engine._containers import Containers
from attachproto_engine._guard import Guard
from attachproto_engine._hangups import Hangups
from attachproto_engine._images import Images
from attachproto_engine._output import PIECE, STDOUT, OutputLog
from attachproto_engine._rules import RULES
from attachproto_engine._server_connection import ServerConnection
from attachproto_engine._waiters import Waiters
from tests.engine.client import call, create, dial, shell, start

T = TypeVar("T")


async def turns(work: Coroutine[Any, Any, T]) -> tuple[T, int]:
    """What the work returns, and how often other tasks could run meanwhile."""
    count = 0

    async def others() -> None:
        nonlocal count
        while True:
            await asyncio.sleep(0)
            count += 1

    task = asyncio.ensure_future(others())
    try:
        return await work, count
    finally:
        task.cancel()


@contextlib.asynccontextmanager
async def some_containers(count: int) -> AsyncIterator[Containers]:
    guard = Guard()
    containers = Containers(RULES["dockerd"], Images(None), guard)
    try:
        for at in range(count):
            containers.create(f"box-{at}", Config.from_json({"Cmd": ["sleep", "100"]}))
        yield containers
    finally:
        await containers.close()
        guard.close()


# ---- the event loop ----


def test_others_are_served_while_a_large_body_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """3 MB in chunks of one byte took the loop for twelve seconds, because the socket always had more to read."""
    monkeypatch.setattr(_server_connection, "_READ", 1000)
    body = b"1\r\nx\r\n" * 10_000 + b"0\r\n\r\n"
    head = b"POST /containers/create HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\n\r\n"

    async def main() -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * len(body))
            theirs.sendall(head + body)
            hangups = Hangups()
            request, count = await turns(ServerConnection(ours, hangups).next_event())
            hangups.close()
        assert isinstance(request, Request)
        assert len(request.body) == 10_000
        assert count >= len(body) // 1000 - 1

    asyncio.run(main())


def test_a_list_reads_its_query_once_and_lets_others_run(monkeypatch: pytest.MonkeyPatch) -> None:
    read = []

    def reading(request: Request) -> dict[str, str]:
        read.append(request)
        return first_values(request)

    monkeypatch.setattr(_call, "first_values", reading)

    async def main() -> None:
        async with some_containers(50) as containers:
            request = Request("GET", ("containers", "json"), (("all", "1"), *(("a", "b") for _ in range(1000))))
            answers = Answers("1.51")
            answer, count = await turns(_container_calls.list_(Call(request, "", containers, answers)))
            assert len(json.loads(answer.body)) == 50
            assert count >= 49
        assert len(read) == 1

    asyncio.run(main())


@pytest.mark.parametrize(
    "filters",
    [
        {"name": [f"{at:x}" for at in range(30_000)]},
        {"id": ["a"] * 201},
        {"name": ["." * 490] * 20, "id": ["." * 490] * 20},
        {"name": {f"{at:x}": True for at in range(201)}},
    ],
)
def test_too_many_patterns_are_refused(engine: Engine, filters: dict[str, Any]) -> None:
    """30,000 took the loop for two seconds, most of it for compiling."""
    answer = call(engine, "GET", f"/containers/json?filters={quote(json.dumps(filters))}")
    assert answer.status == 400
    assert "200 names and IDs of 16384 characters together" in answer.message


def test_two_hundred_ids_are_looked_for(engine: Engine) -> None:
    ids = [create(engine, f"box-{at}", "true") for at in range(3)]
    filters = json.dumps({"id": [*ids, *(f"{at:064x}" for at in range(197))]})
    assert len(call(engine, "GET", f"/containers/json?all=1&filters={quote(filters)}").json) == 3


def test_a_name_of_a_megabyte_is_refused(engine: Engine) -> None:
    create(engine, "a" * 1000, "true")
    create(engine, "web", "true")
    for target in ("create", "web/rename"):
        answer = call(engine, "POST", f"/containers/{target}?name={'b' * 1001}", {"Cmd": ["true"]})
        assert (answer.status, "up to 1000 characters" in answer.message) == (400, True)


# ---- what is remembered ----


def test_waits_of_clients_that_have_gone_are_forgotten(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that had closed before the head could be sent left its wait behind until the container ended."""
    made: list[asyncio.Future[int]] = []
    add = Waiters.add

    def noting(self: Waiters) -> asyncio.Future[int]:
        made.append(add(self))
        return made[-1]

    monkeypatch.setattr(Waiters, "add", noting)
    shell(engine, "web", "sleep 100")
    start(engine, "web")
    for condition in ("not-running", "next-exit", "removed"):
        for _ in range(50):
            with dial(engine) as sock:
                sock.sendall(f"POST /containers/web/wait?condition={condition} HTTP/1.1\r\nHost: d\r\n\r\n".encode())
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and (len(made) < 150 or not all(future.done() for future in made)):
        call(engine, "GET", "/_ping")
    assert (len(made), [future for future in made if not future.done()]) == (150, [])


def test_landmarks_of_output_that_is_dropped_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is one for each 64 KiB. They stayed for all that a container had ever written."""
    monkeypatch.setattr("attachproto_engine._output._FILE_MAX", 1_000_000)

    async def main() -> None:
        log = OutputLog()
        line = b"x" * 99 + b"\n"
        data = line * (PIECE // 100)
        for at in range(1000):
            log.append(STDOUT, data, at)
        assert len(log._landmarks) <= 2_000_000 // (64 * 1024) + 4
        kept = log._landmarks[0][1]
        assert kept <= log._files.oldest
        for count in (1, 1000):
            position, lines = log.tail(count), 0
            while position < log.size:
                records, position = log.read(position, log.size)
                lines += sum(record.data.count(b"\n") for record in records)
            # The last landmark may be 64 KiB before the wanted line, and 64 KiB and a record before the end.
            assert count <= lines <= count + 2 * (64 * 1024 + PIECE) // 100
        assert log.tail(1_000_000) == kept
        log.release()

    asyncio.run(main())


def test_ended_execs_are_forgotten_at_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_container, "_EXECS", 10)

    async def main() -> None:
        async with some_containers(1) as containers:
            container = next(iter(containers))
            container.start()
            created = container.create_exec({"Cmd": ["true"]})
            ended = []
            for _ in range(100):
                ended.append(container.create_exec({"Cmd": ["true"]}))
                ended[-1].exit_code = 0
                assert len(container.execs) <= 30
            assert created.id in container.execs
            assert all(exec_.id in container.execs for exec_ in ended[-10:])
            for _ in range(100):
                container.create_exec({"Cmd": ["true"]})
            assert len(container.execs) > 100, "those that were not started stay"

    asyncio.run(main())


# ---- the socket's path ----


def test_a_listener_with_a_full_queue_is_not_waited_for(tmp_path: pathlib.Path) -> None:
    path = f"{tmp_path}/engine.sock"
    with contextlib.ExitStack() as opened:
        listener = opened.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(path)
        listener.listen(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                sock = opened.enter_context(socket.socket(socket.AF_UNIX))
                sock.setblocking(False)
                sock.connect(path)
        with pytest.raises(OSError, match="in use"):
            Engine(f"unix://{path}").start()


@pytest.mark.parametrize("name", ["a#b?c.sock", "a b;c%20d.sock", "\udcff.sock"])
def test_any_name_of_a_file_can_be_its_path(tmp_path: pathlib.Path, name: str) -> None:
    path = f"{tmp_path}/{name}"
    with Engine(f"unix://{path}") as engine, socket.socket(socket.AF_UNIX) as sock:
        assert engine.host == f"unix://{path}"
        sock.connect(path)
    assert not list(tmp_path.iterdir())
