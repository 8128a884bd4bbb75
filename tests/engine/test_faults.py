"""Every fault, byte by byte, as a client sees it."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator

import pytest

from attachproto import AttachOptions, RemoteProtocolError, Stdout
from attachproto_adapters.blocking import attach
from attachproto_engine import (
    Chunked,
    Cut,
    Delay,
    Engine,
    Fault,
    Garbage,
    LongFrame,
    NoAnswer,
    NoUpgrade,
    Reset,
    Split,
    UnknownStream,
    WrongMediaType,
)
from attachproto_engine._faults import End, Pause, Script
from tests.engine.client import attach_request, dial, read_all, shell, start
from tests.helpers import H101M, frame

BODY = frame(1, b"hello\n")
HOSTS = [None, "tcp://127.0.0.1:0"]


@contextlib.contextmanager
def talking(
    *faults: Fault, host: str | None = None, query: str = "stream=1&stdout=1&stderr=1"
) -> Iterator[socket.socket]:
    """A client that has asked for an attach to a container that will print one line."""
    with Engine(host) as engine:
        engine.fault("web", *faults, attach=1)
        shell(engine, "web", "echo hello", OpenStdin=True)
        with dial(engine) as sock:
            sock.sendall(attach_request("web", query))
            # Not before the attach is there, and that cannot always be seen in its answer.
            with dial(engine) as other:
                other.sendall(attach_request("web"))
                other.recv(1)
                start(engine, "web")
                yield sock


def answer(*faults: Fault, host: str | None = None) -> bytes:
    with talking(*faults, host=host) as sock:
        return read_all(sock)


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize(
    ("faults", "bytes_"),
    [
        ([], H101M + BODY),
        ([Split(at=(1, 50, 130))], H101M + BODY),
        ([Split(every=7)], H101M + BODY),
        ([Delay(at=10, seconds=0.01)], H101M + BODY),
        ([Cut(at=0)], b""),
        ([Cut(at=30)], H101M[:30]),
        ([Cut(at=len(H101M) + 9)], H101M + BODY[:9]),
        ([Cut(at=100_000)], H101M + BODY),
        ([LongFrame(announced=100, data=b"abc")], H101M + frame(1, b"abc", length=100)),
        ([UnknownStream(kind=7, data=b"??")], H101M + frame(7, b"??") + BODY),
        (
            [WrongMediaType("text/html")],
            H101M.replace(b"application/vnd.docker.multiplexed-stream", b"text/html") + BODY,
        ),
        (
            [NoUpgrade()],
            b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n" + BODY,
        ),
        (
            [Chunked()],
            b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\nConnection: close\r\n"
            b"Transfer-Encoding: chunked\r\n\r\ne\r\n" + BODY + b"\r\n0\r\n\r\n",
        ),
        ([Garbage(b"\xff\xfe!!")], b"\xff\xfe!!" + H101M + BODY),
        ([Garbage(b"12345"), Cut(at=7)], b"12345" + H101M[:2]),
        ([Cut(at=7), Garbage(b"12345")], b"12345" + H101M[:2]),
        (
            [Chunked(), LongFrame(announced=9, data=b"x")],
            b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\nConnection: close\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n9\r\n" + frame(1, b"x", length=9) + b"\r\n0\r\n\r\n",
        ),
    ],
    ids=str,
)
def test_the_bytes(faults: list[Fault], bytes_: bytes, host: str | None) -> None:
    assert answer(*faults, host=host) == bytes_


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("query", ["stream=1&stdout=1&stderr=1", "stream=1&stdin=1&stdout=1&stderr=1"])
@pytest.mark.parametrize("at", [0, 30, len(H101M) + 9])
def test_a_reset_comes_after_what_came_before_it(host: str | None, query: str, at: int) -> None:
    with talking(Reset(at=at), host=host, query=query) as sock:
        received = b""
        with pytest.raises(ConnectionResetError):  # noqa: PT012
            while True:
                piece = sock.recv(5)
                assert piece, received
                received += piece
        assert received == (H101M + BODY)[:at]


@pytest.mark.parametrize("host", HOSTS)
def test_each_piece_is_read_by_itself(host: str | None) -> None:
    with talking(Split(at=(1, 50, 130)), host=host) as sock:
        ends = [0]
        while piece := sock.recv(65536):
            ends.append(ends[-1] + len(piece))
    assert {1, 50, 130} <= set(ends)


def test_a_delay_is_before_its_byte() -> None:
    with talking(Delay(at=20, seconds=0.3)) as sock:
        began = time.monotonic()
        assert sock.recv(65536) == H101M[:20]
        assert read_all(sock) == (H101M + BODY)[20:]
        assert time.monotonic() - began > 0.25


def test_no_answer_is_silence() -> None:
    with talking(NoAnswer()) as sock:
        sock.settimeout(0.2)
        with pytest.raises(TimeoutError):
            sock.recv(1)


def test_stdin_reaches_the_container_before_a_reset() -> None:
    with Engine(faults={"web": [Reset(at=len(H101M) + 12)]}) as engine:
        shell(engine, "web", "cat", OpenStdin=True)
        start(engine, "web")
        with dial(engine) as sock:
            sock.sendall(attach_request("web", "stream=1&stdin=1&stdout=1"))
            received = b""
            while len(received) < len(H101M):
                received += sock.recv(65536)
            sock.sendall(b"echo\n")
            with pytest.raises(ConnectionResetError):  # noqa: PT012
                while True:
                    piece = sock.recv(65536)
                    assert piece, received
                    received += piece
        assert received == H101M + frame(1, b"echo\n")[:12]


def test_a_fault_of_one_attach_only() -> None:
    with Engine() as engine:
        shell(engine, "web", "echo hello")
        start(engine, "web")
        engine.fault("web", Cut(at=3), attach=2)
        heads = []
        for _ in range(3):
            with dial(engine) as sock:
                sock.sendall(attach_request("web", "logs=1&stdout=1"))
                heads.append(read_all(sock)[:9])
        assert heads == [b"HTTP/1.1 ", b"HTT", b"HTTP/1.1 "]
        engine.fault("web", Garbage(b"!"))
        with dial(engine) as sock:
            sock.sendall(attach_request("web", "logs=1&stdout=1"))
            assert read_all(sock).startswith(b"!HTTP")


def test_what_a_client_makes_of_it() -> None:
    """The point of the whole: a user's test of a cut stream."""
    with Engine(faults={"web": [LongFrame(announced=100, data=b"abc")]}) as engine:
        shell(engine, "web", "sleep 100")
        with attach("web", AttachOptions(), host=engine.host, start=True, timeout=20) as attachment:
            assert attachment.receive() == Stdout(b"abc")
            with pytest.raises(RemoteProtocolError, match="97 are missing"):
                attachment.receive()


def test_a_script_is_pure_and_the_same_each_time() -> None:
    faults = [Split(at=(3,), every=50), Delay(at=5, seconds=1.5), Reset(at=140)]

    def play() -> list[object]:
        script = Script(faults)
        return [*script.feed(H101M), *script.feed(BODY), *script.feed(BODY), *script.finish()]

    assert play() == play()
    assert play()[:4] == [H101M[:3], Pause(None), H101M[3:5], Pause(1.5)]
    assert play()[-1] is End.RESET
    sent = b"".join(piece for piece in play() if isinstance(piece, bytes))
    assert sent == (H101M + BODY + BODY)[:140]
