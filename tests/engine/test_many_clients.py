"""Many clients at once: all are accepted, each gets every byte, and the engine releases their descriptors."""

from __future__ import annotations

import contextlib
import hashlib
import resource
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from attachproto import demux
from attachproto_engine import Engine
from tests.engine.client import TIMEOUT, attached, call, read_all, read_answer, shell, start, wait
from tests.helpers import open_descriptors

_CROWD = 1500
_READERS = 500

# More than a socket's buffer holds, so the engine has to wait for clients that do not read yet.
_LINES = 40_000


@pytest.fixture(autouse=True)
def _room_for_descriptors() -> Iterator[None]:
    """Both ends of each connection are in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2 * _CROWD + 200:
        pytest.skip(f"the hard limit of descriptors is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextlib.contextmanager
def _given_back(engine: Engine) -> Iterator[None]:
    """After the test the running engine has no more descriptors than before."""
    call(engine, "GET", "/_ping")  # so the engine has opened its own descriptors
    before = len(open_descriptors())
    yield
    deadline = time.monotonic() + TIMEOUT
    while len(open_descriptors()) > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(open_descriptors()) <= before


def test_clients_that_connect_while_the_engine_is_busy_are_accepted(engine: Engine) -> None:
    """connect() on a non-blocking Unix socket fails with EAGAIN if the queue is full."""
    if int(Path("/proc/sys/net/core/somaxconn").read_text()) < _CROWD:
        pytest.skip("the system's own queue is shorter")
    busy = threading.Event()
    with _given_back(engine), contextlib.ExitStack() as opened:
        engine._loop.call_soon_threadsafe(busy.wait, TIMEOUT)
        crowd = [opened.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(_CROWD)]
        try:
            for sock in crowd:
                sock.setblocking(False)
                sock.connect(engine.host.removeprefix("unix://"))
        finally:
            busy.set()
        for sock in crowd:
            sock.settimeout(TIMEOUT)
            sock.sendall(b"GET /_ping HTTP/1.1\r\nHost: localhost\r\n\r\n")
        for sock in crowd:
            assert read_answer(sock).endswith(b"\r\n\r\nOK")


def test_each_of_many_attachments_to_one_container_gets_every_byte(engine: Engine) -> None:
    shell(engine, "web", f"yes stdout | head -n {_LINES}; yes stderr | head -n {_LINES} >&2; exit 3")
    expected = [hashlib.sha256(text * _LINES).digest() for text in (b"stdout\n", b"stderr\n")]
    with _given_back(engine), contextlib.ExitStack() as opened:
        clients = [opened.enter_context(attached(engine, "web")) for _ in range(_READERS)]
        start(engine, "web")
        for sock in clients:
            assert [hashlib.sha256(output).digest() for output in demux(read_all(sock))] == expected
        assert wait(engine, "web") == 3


def test_clients_that_close_in_the_middle_cost_nothing_afterwards(engine: Engine) -> None:
    """The container goes on for the client that stays; the others do not slow it down any more."""
    shell(engine, "web", f"read go; yes stdout | head -n {10 * _LINES}", OpenStdin=True)
    with _given_back(engine):
        start(engine, "web")
        with attached(engine, "web", "stream=1&stdin=1&stdout=1") as stays:
            with contextlib.ExitStack() as opened:
                for _ in range(_READERS):
                    opened.enter_context(attached(engine, "web"))
                stays.sendall(b"go\n")
                begun = stays.recv(1)
            stdout, _ = demux(begun + read_all(stays))
        assert stdout == b"stdout\n" * (10 * _LINES)
