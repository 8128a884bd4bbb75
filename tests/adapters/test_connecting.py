"""Connecting where that is not done at once."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio

import attachproto_adapters.asyncio
import attachproto_adapters.blocking
import attachproto_adapters.trio
from attachproto import Stdout
from attachproto_adapters import EngineUnreachable
from attachproto_adapters._transport import _blocking_dialer, _sockets
from attachproto_adapters._transport._address import Address
from attachproto_adapters._transport._blocking_dialer import Dialer
from attachproto_adapters._transport._schemes import TcpHost, UnixHost
from tests.adapters.scripted import BOUND, Begun, Engine, Task, accepts


def blocking(host: str) -> tuple[bytes, bytes]:
    with attachproto_adapters.blocking.attach("web", host=host, timeout=BOUND) as attachment:
        return attachment.communicate()


def in_asyncio(host: str) -> tuple[bytes, bytes]:
    async def main() -> tuple[bytes, bytes]:
        async with asyncio.timeout(BOUND), await attachproto_adapters.asyncio.attach("web", host=host) as attachment:
            return await attachment.communicate()

    return asyncio.run(main())


def in_trio(host: str) -> tuple[bytes, bytes]:
    async def main() -> tuple[bytes, bytes]:
        with trio.fail_after(BOUND):
            async with await attachproto_adapters.trio.attach("web", host=host) as attachment:
                return await attachment.communicate()

    return trio.run(main)


@contextlib.contextmanager
def crowd(listener: socket.socket) -> Iterator[None]:
    """So many wait to be taken that there is no room for one more; then they are taken."""
    with contextlib.ExitStack() as stack:
        waiting = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                sock = stack.enter_context(socket.socket(socket.AF_UNIX))
                sock.setblocking(False)
                sock.connect(listener.getsockname())
                waiting += 1
        yield
        for _ in range(waiting):
            listener.accept()[0].close()


@pytest.mark.parametrize("run", [blocking, in_asyncio, in_trio])
def test_an_engine_with_no_room_is_waited_for(run: Callable[[str], tuple[bytes, bytes]], socket_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(socket_path))
        listener.listen(0)
        with crowd(listener):
            task = Begun(lambda: run(f"unix://{socket_path}"))
            assert not task.finished(0.1), "it has not waited"
        engine = Engine(listener=listener)
        engine.on("attach", accepts(Stdout(b"hello")))
        assert task.result() == (b"hello", b"")
        engine.close()


def test_waiting_for_room_ends_with_the_timeout(socket_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(socket_path))
        listener.listen(0)
        with crowd(listener), pytest.raises(EngineUnreachable, match=r"no connection within 0\.05 s$"):
            Task(
                lambda: attachproto_adapters.blocking.attach("web", host=f"unix://{socket_path}", timeout=0.05)
            ).result()


def test_a_handshake_ends_with_the_timeout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel accepts the connection, and nobody answers the ClientHello."""
    monkeypatch.setenv("DOCKER_TLS", "1")
    monkeypatch.setenv("DOCKER_CERT_PATH", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(EngineUnreachable, match=rf"no engine answers at {host} .*no connection within 0\.05 s$"):
            attachproto_adapters.blocking.attach("web", host=host, timeout=0.05)


@pytest.mark.parametrize("run", [blocking, in_asyncio, in_trio])
def test_a_slash_too_few_is_hinted_at(run: Callable[[str], tuple[bytes, bytes]]) -> None:
    with pytest.raises(EngineUnreachable, match=r"No such file or directory; .*did you mean unix:///nowhere/e\.sock"):
        run("unix://nowhere/e.sock")
    with pytest.raises(EngineUnreachable, match=r"No such file or directory$"):
        run("unix:///nowhere/e.sock")


def test_a_socket_without_permission() -> None:
    address = Address(UnixHost("/run/docker.sock", "as given"))
    with (
        pytest.raises(EngineUnreachable, match="Permission denied: this user may not write") as caught,
        address.reached(),
    ):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    assert "group" in caught.value.remedy


class Clock:
    """A clock that only moves where a call would have waited."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def silent_addresses(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A name with four addresses, none of which answers. The clock moves by the timeout of each connect."""
    clock = Clock()

    def connect(sock: socket.socket, address: object) -> None:
        timeout = sock.gettimeout()
        assert timeout is not None
        clock.now += timeout
        raise TimeoutError("timed out")

    addresses = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (f"192.0.2.{number}", 2375)) for number in range(4)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **named: addresses)
    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(_blocking_dialer, "time", clock)
    return clock


def test_a_deadline_is_one_for_all_addresses_of_a_name(silent_addresses: Clock) -> None:
    dialer = Dialer(Address(TcpHost("engine", 2375, "as given")), None)
    dialer.deadline = silent_addresses.now + 0.5
    with pytest.raises(EngineUnreachable, match=r"no connection before the deadline$"):
        dialer.dial()
    assert silent_addresses.now == 1000.5


def test_a_timeout_is_one_for_each_address(silent_addresses: Clock) -> None:
    with pytest.raises(EngineUnreachable, match=r"no connection within 0\.5 s$"):
        Dialer(Address(TcpHost("engine", 2375, "as given")), 0.5).dial()
    assert silent_addresses.now == 1002.0


def test_a_long_timeout_connects(tcp_engine: Engine) -> None:
    """A socket takes no timeout above 24 days."""
    tcp_engine.on("attach", accepts(Stdout(b"hello")))
    with attachproto_adapters.blocking.attach("web", host=tcp_engine.host, timeout=1e8) as attachment:
        assert attachment.communicate() == (b"hello", b"")


def test_a_long_timeout_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """``poll()`` takes at most 24 days; here at most 1 ms."""
    monkeypatch.setattr(_sockets, "_POLL_MAX", 1)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        timer = threading.Timer(0.1, theirs.send, [b"x"])
        timer.start()
        found = _sockets.wait_until_ready(ours.fileno(), BOUND, read=True, write=False)
        timer.join()
        assert found == (True, False)
        ours.recv(1)
        assert _sockets.wait_until_ready(ours.fileno(), 0.005, read=True, write=False) == (False, False)
