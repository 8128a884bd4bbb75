"""A child that the user's process forks: it holds none of the engine's descriptors, and the engine runs on."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import warnings
from collections.abc import Iterator

import pytest

from attachproto_engine import Engine, Reset
from tests.engine.client import attach_request, attached, call, create, dial, exchange, read_all, read_until, start
from tests.helpers import open_descriptors

PING = b"GET /_ping HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@contextlib.contextmanager
def forked_child() -> Iterator[int]:
    """A child of this process that does nothing, as one of multiprocessing's may."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        # Python 3.12 and later warn of threads. The child calls nothing that could need one.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if not child:
        os.write(writer, b"!")
        signal.pause()
        os._exit(0)
    os.close(writer)
    try:
        assert os.read(reader, 1), "it has come to the end of the fork"
        os.close(reader)
        yield child
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_the_end_of_stdin_reaches_the_container(engine: Engine) -> None:
    create(engine, "web", "cat", OpenStdin=True, StdinOnce=True)
    start(engine, "web")
    with attached(engine, "web", "stream=1&stdin=1&stdout=1") as sock:
        sock.sendall(b"text")
        read_until(sock, b"text")
        with forked_child():
            sock.shutdown(socket.SHUT_WR)
            assert read_all(sock) == b""
    assert call(engine, "POST", "/containers/web/wait").json["StatusCode"] == 0


def test_a_scripted_reset_reaches_the_client() -> None:
    with Engine(faults={"web": [Reset(at=30)]}) as engine:
        create(engine, "web", "cat", OpenStdin=True)
        start(engine, "web")
        with dial(engine) as sock:
            sock.sendall(PING.replace(b"Connection: close\r\n", b""))
            read_until(sock, b"OK")
            with forked_child():
                sock.sendall(attach_request("web", "stream=1&stdin=1&stdout=1"))
                with pytest.raises(ConnectionResetError):
                    read_all(sock)


def test_the_port_is_closed_with_the_engine() -> None:
    with contextlib.ExitStack() as opened:
        with Engine("tcp://127.0.0.1:0") as engine:
            port = int(engine.host.rpartition(":")[2])
            opened.enter_context(forked_child())
            assert exchange(engine, PING).endswith(b"OK")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), 5).close()


@pytest.mark.parametrize("tty", [False, True])
def test_a_child_has_no_descriptor_of_the_engines(engine: Engine, tty: bool) -> None:
    before = set(open_descriptors().values())
    create(engine, "web", "sleep", "100", Tty=tty, OpenStdin=True)
    start(engine, "web")
    with attached(engine, "web", "stream=1&stdin=1&stdout=1") as sock:
        ours = os.readlink(f"/proc/self/fd/{sock.fileno()}")
        added = set(open_descriptors().values()) - before - {ours}
        with forked_child() as child:
            assert added
            assert not added & _descriptors(child) - _harmless()
        assert exchange(engine, PING).endswith(b"OK")


def _descriptors(process: int) -> set[str]:
    place = f"/proc/{process}/fd"
    return {os.readlink(f"{place}/{number}") for number in os.listdir(place)}


def _harmless() -> set[str]:
    """The waiting for an end, of the event loop and of a process: nobody else notices that they are open."""
    return {target for target in open_descriptors().values() if target.startswith("anon_inode:")}
