"""Every fault, byte by byte, as a client sees it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from attachproto import AttachOptions, RemoteProtocolError, Stdout
from attachproto_adapters.blocking import attach
from attachproto_engine import (
    Chunked,
    Counted,
    Cut,
    Delay,
    EndEarly,
    Engine,
    Fault,
    Garbage,
    HeldHead,
    IdleCut,
    LongFrame,
    NoAnswer,
    NoHalfClose,
    NoUpgrade,
    ProxyAnswer,
    Reset,
    SetHeader,
    Split,
    UnknownStream,
    _server,
)
from attachproto_engine._errors import EndedByFault
from attachproto_engine._fault_book import FaultBook
from attachproto_engine._faulty import FaultyWriter, HoldingConnection
from attachproto_engine._script import Script
from attachproto_engine._timing import End, Pause
from tests.engine.client import (
    TIMEOUT,
    attach_request,
    attached,
    call,
    dial,
    exchange,
    read_all,
    read_answer,
    read_until,
    shell,
    start,
    status,
    wait,
)
from tests.helpers import H101M, frame

BODY = frame(1, b"hello\n")
OUTPUT = "stream=1&stdout=1&stderr=1"
RAW_200 = b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream"
FRAMED_200 = b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.multiplexed-stream"
CHUNKED_200 = FRAMED_200 + b"\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
HOSTS = [None, "tcp://127.0.0.1:0"]


@pytest.fixture
def taken_up(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set when an engine has looked up the faults of an attach: before it handles any later request, it is attached."""
    looked_up = threading.Event()

    def noting(book: FaultBook, container: str, on: str) -> tuple[Fault, ...]:
        found = look_up(book, container, on)
        if on == "attach":
            looked_up.set()
        return found

    look_up = FaultBook.next
    monkeypatch.setattr(FaultBook, "next", noting)
    return looked_up


Talk = Callable[..., contextlib.AbstractContextManager[socket.socket]]


@pytest.fixture
def talking(taken_up: threading.Event) -> Talk:
    @contextlib.contextmanager
    def talk(*faults: Fault, host: str | None = None, query: str = OUTPUT, **config: object) -> Iterator[socket.socket]:
        """A client that has asked for an attach to a container that will print one line."""
        with Engine(host) as engine:
            engine.fault("web", *faults)
            shell(engine, "web", "echo hello", **config)
            with dial(engine) as sock:
                sock.sendall(attach_request("web", query))
                assert taken_up.wait(TIMEOUT)
                start(engine, "web")
                yield sock

    return talk


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
            [SetHeader("Content-Type", "text/html"), SetHeader("server", "nginx/1.22.1"), SetHeader("Upgrade", None)],
            b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nContent-Type: text/html\r\nserver: nginx/1.22.1\r\n\r\n"
            + BODY,
        ),
        (
            [NoUpgrade()],
            RAW_200 + b"\r\n\r\n" + BODY,
        ),
        (
            [NoUpgrade(), SetHeader("Connection", "close")],
            RAW_200 + b"\r\nConnection: close\r\n\r\n" + BODY,
        ),
        ([Counted()], FRAMED_200 + b"\r\nContent-Length: 14\r\n\r\n" + BODY),
        (
            [Counted(), Cut(at=len(FRAMED_200) + 24 + 9)],
            FRAMED_200 + b"\r\nContent-Length: 14\r\n\r\n" + BODY[:9],
        ),
        ([HeldHead()], H101M + BODY),
        ([EndEarly(frames=0)], H101M),
        ([EndEarly(frames=1)], H101M + BODY),
        ([EndEarly(frames=0), Chunked()], CHUNKED_200 + b"0\r\n\r\n"),
        ([EndEarly(frames=0), Counted()], FRAMED_200 + b"\r\nContent-Length: 0\r\n\r\n"),
        ([EndEarly(frames=0), HeldHead()], H101M),
        (
            [ProxyAnswer(403, b"no", (("Server", "proxy"),))],
            b"HTTP/1.1 403 Forbidden\r\nServer: proxy\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno",
        ),
        ([IdleCut(seconds=30.0)], H101M + BODY),
        ([NoHalfClose()], H101M + BODY),
        (
            [Chunked()],
            CHUNKED_200 + b"e\r\n" + BODY + b"\r\n0\r\n\r\n",
        ),
        ([Garbage(b"\xff\xfe!!")], b"\xff\xfe!!" + H101M + BODY),
        ([Garbage(b"12345"), Cut(at=7)], b"12345" + H101M[:2]),
        ([Cut(at=7), Garbage(b"12345")], b"12345" + H101M[:2]),
        (
            [Chunked(), LongFrame(announced=9, data=b"x")],
            CHUNKED_200 + b"9\r\n" + frame(1, b"x", length=9) + b"\r\n0\r\n\r\n",
        ),
    ],
    ids=str,
)
def test_the_bytes(talking: Talk, faults: list[Fault], bytes_: bytes, host: str | None) -> None:
    with talking(*faults, host=host) as sock:
        assert read_all(sock) == bytes_


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("query", ["stream=1&stdout=1&stderr=1", "stream=1&stdin=1&stdout=1&stderr=1"])
@pytest.mark.parametrize("at", [0, 30, len(H101M) + 9])
def test_what_was_sent_arrives_before_a_reset(talking: Talk, host: str | None, query: str, at: int) -> None:
    with talking(Reset(at=at), host=host, query=query) as sock:
        received = b""
        with pytest.raises(ConnectionResetError):  # noqa: PT012
            while True:
                piece = sock.recv(5)
                assert piece, received
                received += piece
        assert received == (H101M + BODY)[:at]


def test_a_script_does_not_wait_for_a_client_that_has_reset_the_connection() -> None:
    """On TCP the kernel goes on counting the bytes that this client will never acknowledge."""

    async def reset_with_bytes_unread() -> None:
        with (
            socket.create_server(("127.0.0.1", 0)) as listener,
            socket.create_connection(listener.getsockname()) as mine,
        ):
            sock, _ = listener.accept()
            with sock:
                sock.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    while sock.send(bytes(65536)):
                        pass
                mine.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                mine.close()
                with pytest.raises(EndedByFault):
                    await FaultyWriter(sock, Script((Reset(at=0),))).write(b"x")

    asyncio.run(asyncio.wait_for(reset_with_bytes_unread(), TIMEOUT))


def test_each_piece_is_read_by_itself(talking: Talk) -> None:
    """On a Unix socket. On TCP the kernel does not tell when the peer has read, so pieces may arrive together."""
    with talking(Split(at=(1, 50, 130))) as sock:
        ends = [0]
        while piece := sock.recv(65536):
            ends.append(ends[-1] + len(piece))
    assert {1, 50, 130} <= set(ends)


def test_a_delay_is_before_its_byte(talking: Talk) -> None:
    with talking(Delay(at=20, seconds=0.3)) as sock:
        began = time.monotonic()
        assert sock.recv(65536) == H101M[:20]
        assert read_all(sock) == (H101M + BODY)[20:]
        assert time.monotonic() - began > 0.25


def test_no_answer_is_silence(talking: Talk) -> None:
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
        engine.fault("web", Cut(at=3), nth=2)
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
    """A test as users write it: of a cut stream."""
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


# ---- what stands between a client and an engine ----


def test_a_half_close_that_closes(engine: Engine) -> None:
    """The process gets all of its stdin and an end of file; what it prints after that is lost."""
    engine.fault("web", NoHalfClose())
    shell(engine, "web", "cat; cat /dev/null; echo done", OpenStdin=True, StdinOnce=True)
    start(engine, "web")
    with attached(engine, "web", "stream=1&stdin=1&stdout=1") as sock:
        sock.sendall(b"input")
        read_until(sock, b"input")
        sock.shutdown(socket.SHUT_WR)
        assert read_all(sock) == b""
    assert wait(engine, "web") == 0
    assert call(engine, "GET", "/containers/web/logs?stdout=1").body == frame(1, b"inputdone\n")


@pytest.mark.parametrize("host", HOSTS)
def test_a_half_close_that_closes_an_attach_without_stdin(host: str | None) -> None:
    with Engine(host, faults={"web": [NoHalfClose()]}) as engine:
        shell(engine, "web", "sleep 100")
        start(engine, "web")
        with attached(engine, "web") as sock:
            sock.shutdown(socket.SHUT_WR)
            assert read_all(sock) == b""
        assert status(engine, "web") == "running"


@pytest.mark.parametrize("host", HOSTS)
def test_an_idle_connection_is_cut_between_frames(host: str | None) -> None:
    with Engine(host) as engine:
        shell(engine, "web", "echo one; sleep 100")
        start(engine, "web")
        with attached(engine, "web", "stream=1&logs=1&stdout=1") as sock:
            read_until(sock, b"one\n")
        engine.fault("web", IdleCut(seconds=0.3))
        with attached(engine, "web", "stream=1&logs=1&stdout=1") as sock:
            assert read_all(sock) == frame(1, b"one\n")
        assert status(engine, "web") == "running"


def test_an_end_while_the_process_goes_on(engine: Engine) -> None:
    engine.fault("web", EndEarly(frames=1))
    shell(engine, "web", "cat", OpenStdin=True)
    start(engine, "web")
    with attached(engine, "web", "stream=1&stdin=1&stdout=1") as sock:
        sock.sendall(b"one\n")
        assert read_all(sock) == frame(1, b"one\n")
        sock.sendall(b"two\n")
        with attached(engine, "web"):
            pass
        assert status(engine, "web") == "running"


# ---- other calls ----


def exec_request(engine: Engine, *command: str) -> bytes:
    given = {"Cmd": command, "AttachStdout": True, "AttachStderr": True}
    exec_id = call(engine, "POST", "/containers/web/exec", given).json["Id"]
    body = json.dumps({"Detach": False, "Tty": False}).encode()
    return (
        f"POST /exec/{exec_id}/start HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body


@pytest.fixture
def web(engine: Engine) -> Engine:
    shell(engine, "web", "echo a; sleep 100", OpenStdin=True)
    start(engine, "web")
    with attached(engine, "web", "stream=1&logs=1&stdout=1") as sock:
        read_until(sock, b"a\n")
    return engine


def test_an_exec_with_faults(web: Engine) -> None:
    web.fault("web", Chunked(), LongFrame(announced=9, data=b"x"), on="exec", nth=1)
    web.fault("web", EndEarly(frames=0), on="exec")
    answer = exchange(web, exec_request(web, "echo", "hello"))
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\n9\r\n" + frame(1, b"x", length=9) + b"\r\n0\r\n\r\n")
    head, _, body = exchange(web, exec_request(web, "echo", "hello")).partition(b"\r\n\r\n")
    assert (head[:12], body) == (b"HTTP/1.1 101", b"")


def test_logs_with_faults(web: Engine) -> None:
    request = b"GET /containers/web/logs?stdout=1&follow=1 HTTP/1.1\r\nHost: localhost\r\n\r\n"
    web.fault("web", EndEarly(frames=1), on="logs")
    assert exchange(web, request).partition(b"\r\n\r\n")[2] == b"a\r\n" + frame(1, b"a\n") + b"\r\n0\r\n\r\n"
    web.fault("web", IdleCut(0.3), on="logs")
    assert exchange(web, request).partition(b"\r\n\r\n")[2] == b"a\r\n" + frame(1, b"a\n") + b"\r\n"


@pytest.mark.parametrize("held", [True, False])
def test_the_head_of_a_wait(web: Engine, held: bool) -> None:
    if held:
        web.fault("web", HeldHead(), on="wait")
    with dial(web) as sock:
        sock.sendall(b"POST /containers/web/wait HTTP/1.1\r\nHost: localhost\r\n\r\n")
        if held:
            sock.settimeout(0.1)
            with pytest.raises(TimeoutError):
                sock.recv(1)
            sock.settimeout(TIMEOUT)
        else:
            assert sock.recv(1) == b"H"
        assert call(web, "POST", "/containers/web/kill").status == 204
        assert read_until(sock, b"0\r\n\r\n").endswith(b'\r\n\r\n13\r\n{"StatusCode":137}\n\r\n0\r\n\r\n')


def test_an_idle_wait_is_cut(web: Engine) -> None:
    web.fault("web", IdleCut(0.3), on="wait")
    request = b"POST /containers/web/wait HTTP/1.1\r\nHost: localhost\r\n\r\n"
    assert exchange(web, request).endswith(b"\r\n\r\n")


def test_a_proxy_answers_and_the_engine_sees_nothing(web: Engine) -> None:
    web.fault("web", ProxyAnswer(), on="kill", nth=1)
    web.fault("web", ProxyAnswer(403, b"<html>no</html>"), on="exec")
    answer = call(web, "POST", "/containers/web/kill")
    assert (answer.status, answer.headers["Content-Type"], answer.headers["Server"]) == (502, "text/html", "proxy")
    assert answer.body.startswith(b"<html>")
    assert status(web, "web") == "running"
    request = exec_request(web, "true")
    exec_id = request.split(b"/")[2].decode()
    assert exchange(web, request).endswith(b"\r\n\r\n<html>no</html>")
    assert not call(web, "GET", f"/exec/{exec_id}/json").json["Running"]
    assert call(web, "GET", f"/exec/{exec_id}/json").json["ExitCode"] is None
    assert call(web, "POST", "/containers/web/kill").status == 204


def test_faults_go_by_the_name_however_the_client_asks(web: Engine) -> None:
    container = call(web, "GET", "/containers/web/json").json["Id"]
    web.fault("web", ProxyAnswer(), on="inspect")
    web.fault("new", ProxyAnswer(), on="create")
    assert call(web, "GET", f"/containers/{container[:12]}/json").status == 502
    assert call(web, "POST", "/containers/create?name=new", {"Cmd": ["true"]}).status == 502
    assert call(web, "GET", "/containers/new/json").status == 404


def test_invalid_faults(engine: Engine) -> None:
    with pytest.raises(ValueError, match="on='pull' is no call"):
        engine.fault("web", Cut(0), on="pull")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="a fault is needed"):
        engine.fault("web", Cut)  # type: ignore[arg-type]


def test_no_answer_to_a_plain_call_leaves_the_connection_open(web: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_server, "_CLOSE_SECONDS", 0.05)
    web.fault("web", NoAnswer(), on="inspect")
    with dial(web) as sock:
        sock.sendall(b"GET /containers/web/json HTTP/1.1\r\nHost: localhost\r\n\r\n")
        sock.settimeout(0.3)
        with pytest.raises(TimeoutError):
            sock.recv(1)


def test_an_exec_is_reset_while_its_process_goes_on(web: Engine) -> None:
    request = exec_request(web, "sh", "-c", "echo hello; sleep 100")
    exec_id = request.split(b"/")[2].decode()
    head, _, _ = read_head(web, exec_request(web, "true"))
    web.fault("web", Reset(at=len(head) + 4 + 8 + 3), on="exec")
    with dial(web) as sock:
        sock.sendall(request)
        received = b""
        with pytest.raises(ConnectionResetError):  # noqa: PT012
            while True:
                piece = sock.recv(65536)
                assert piece, received
                received += piece
    assert received.endswith(b"\r\n\r\n" + frame(1, b"hello\n")[:11])
    assert call(web, "GET", f"/exec/{exec_id}/json").json["Running"]


def read_head(engine: Engine, request: bytes) -> tuple[bytes, bytes, bytes]:
    return exchange(engine, request).partition(b"\r\n\r\n")


@pytest.mark.parametrize("host", HOSTS)
def test_a_client_that_closes_leaves_no_error_behind(host: str | None, caplog: pytest.LogCaptureFixture) -> None:
    """asyncio would log an exception of a task that nobody has awaited."""
    with Engine(host) as engine:
        shell(engine, "web", "while :; do echo out; done")
        start(engine, "web")
        for request in (
            attach_request("web"),
            b"GET /containers/web/logs?stdout=1&follow=1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
            exec_request(engine, "sh", "-c", "while :; do echo out; done"),
        ):
            with dial(engine) as sock:
                sock.sendall(request)
                read_until(sock, b"out\n")
        assert call(engine, "POST", "/containers/web/kill").status == 204
        assert wait(engine, "web") == 137
    gc.collect()
    assert caplog.records == []


@pytest.mark.parametrize("reads_at_once", [False, True])
def test_a_reset_of_one_container_resets_no_other(monkeypatch: pytest.MonkeyPatch, reads_at_once: bool) -> None:
    """On a Unix socket a close with unread bytes is a reset, whoever leaves them there."""
    closed = threading.Event()
    close = HoldingConnection.close
    with Engine(faults={"other": [Reset(at=0)]}) as engine:
        shell(engine, "web", "cat", OpenStdin=True, StdinOnce=True)
        start(engine, "web")
        with attached(engine, "web", "stream=1&stdin=1&stdout=1") as sock:

            def closing(self: HoldingConnection) -> None:
                close(self)
                closed.set()

            monkeypatch.setattr(HoldingConnection, "close", closing)
            sock.sendall(b"text")
            sock.shutdown(socket.SHUT_WR)
            if not reads_at_once:
                assert closed.wait(TIMEOUT)
            assert read_all(sock) == frame(1, b"text")


def test_a_reset_of_one_call_resets_no_other() -> None:
    request = b"GET /containers/web/json HTTP/1.1\r\nHost: d\r\n"
    with Engine() as engine:
        shell(engine, "web", "true")
        engine.fault("web", Reset(at=20), on="inspect", nth=2)
        with dial(engine) as sock:
            sock.sendall(request + b"Connection: close\r\n\r\n")
            hung_up = select.poll()
            hung_up.register(sock, 0)
            assert hung_up.poll(TIMEOUT * 1000)
            assert read_all(sock).startswith(b"HTTP/1.1 200 OK\r\n")
        with dial(engine) as sock:
            sock.sendall(b"GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n")
            assert read_answer(sock).endswith(b"OK")
            sock.sendall(request + b"\r\n")
            with pytest.raises(ConnectionResetError):
                read_all(sock)
