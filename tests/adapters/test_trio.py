"""What only trio has: streams of many kinds, and a caller who may cancel anything."""

from __future__ import annotations

import math
import socket
import ssl
import threading
from collections.abc import Iterator

import pytest
import trio
import trio.testing

from attachproto import Attach, LocalProtocolError, OutputClosed, RemoteProtocolError, Stdout
from attachproto_adapters import AttachmentClosed, HalfCloseUnsupported, RequestRejected
from attachproto_adapters.trio import attach, open_attachment
from tests.adapters.frameworks import TRIO, WITH_STDIN, socket_stream
from tests.adapters.scripted import BOUND, Act, Engine, Peer, Task, accepts, close, rejects, stays, then, write
from tests.adapters.tls_engine import VERSIONS, Certificates, TlsEngine

REQUEST = Attach("web", WITH_STDIN, tty=False)


class Simple(trio.abc.Stream):
    """A stream that cannot half-close; it notes what was sent, and whether it is closed."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.sent = bytearray()
        self.closed = False
        self._stream = stream

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self.sent += data
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        self.closed = True
        await self._stream.aclose()


def speaks(peer: Peer) -> None:
    """Wants to read just what is sent where nothing is refused."""
    peer.accept()
    assert peer.read_stdin(1) == b"now"
    peer.send(Stdout(b"out"), OutputClosed())
    peer.until_closed()


class Caller:
    """Somebody who has a connection to an engine."""

    def __init__(self) -> None:
        self._tasks: list[Task[None]] = []

    async def connect(self, act: Act) -> Simple:
        """The act begins where the request has been read."""
        ours, theirs = socket.socketpair()

        def serve() -> None:
            with theirs:
                peer = Peer(theirs)
                peer.read_request()
                act(peer)
                if theirs.fileno() != -1:
                    peer.until_closed()

        self._tasks.append(Task(serve))
        return Simple(await socket_stream(ours))

    def close(self) -> None:
        for task in self._tasks:
            task.result()


@pytest.fixture
def caller() -> Iterator[Caller]:
    one = Caller()
    yield one
    one.close()


# ---- streams that cannot half-close ----


async def refuses_to_half_close(stream: trio.abc.Stream) -> None:
    async with await open_attachment(stream, REQUEST) as attachment:
        assert not attachment.can_half_close
        with pytest.raises(HalfCloseUnsupported):
            await attachment.close_stdin()
        for input in (b"", b"never sent"):
            with pytest.raises(HalfCloseUnsupported):
                await attachment.communicate(input)
        await attachment.send_stdin(b"now")
        assert await attachment.communicate() == (b"out", b"")


def test_a_stream_without_send_eof_reads_and_refuses_to_half_close(caller: Caller) -> None:
    async def scenario() -> None:
        stream = await caller.connect(speaks)
        await refuses_to_half_close(stream)
        assert stream.sent.endswith(b"\r\n\r\nnow")

    TRIO.run(scenario)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(params=VERSIONS, ids=lambda version: version.name)
def tls_engine(request: pytest.FixtureRequest, certificates: Certificates) -> Iterator[TlsEngine]:
    running = TlsEngine(certificates.server_context(request.param))
    yield running
    running.close()


async def tls_stream(engine: TlsEngine, certificates: Certificates) -> trio.SSLStream[trio.SocketStream]:
    context = ssl.create_default_context(cafile=certificates.client / "ca.pem")
    context.load_cert_chain(certificates.client / "cert.pem", certificates.client / "key.pem")
    name, _, port = engine.host.removeprefix("tcp://").partition(":")
    return await trio.open_ssl_over_tcp_stream(name, int(port), ssl_context=context)


def test_tls_of_trios_own_reads_and_refuses_to_half_close(tls_engine: TlsEngine, certificates: Certificates) -> None:
    tls_engine.on("attach", speaks)

    async def scenario() -> None:
        await refuses_to_half_close(await tls_stream(tls_engine, certificates))

    TRIO.run(scenario)


def test_close_wakes_who_is_blocked_on_tls_of_trios_own(tls_engine: TlsEngine, certificates: Certificates) -> None:
    left = threading.Event()

    def act(peer: Peer) -> None:
        peer.accept()
        assert left.wait(BOUND)

    tls_engine.on("attach", act)

    async def scenario() -> None:
        attachment = await open_attachment(await tls_stream(tls_engine, certificates), REQUEST)

        async def receive() -> None:
            with pytest.raises(AttachmentClosed):
                await attachment.receive()
            left.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive)
            await trio.testing.wait_all_tasks_blocked()
            await attachment.aclose()

    TRIO.run(scenario)


# ---- the caller's stream ----

REFUSED: list[tuple[Act, type[Exception]]] = [
    (then(rejects(404, "No such container: web"), close), RequestRejected),
    (write(b"SSH-2.0-OpenSSH\r\n"), RemoteProtocolError),
    (close, RemoteProtocolError),
    (write(b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n"), LocalProtocolError),
]


@pytest.mark.parametrize(("act", "error"), REFUSED)
def test_the_callers_stream_is_closed_if_it_opens_no_attachment(
    caller: Caller, act: Act, error: type[Exception]
) -> None:
    async def scenario() -> None:
        stream = await caller.connect(act)
        with pytest.raises(error):
            await open_attachment(stream, Attach("web", WITH_STDIN))
        assert stream.closed

    TRIO.run(scenario)


def test_the_callers_stream_is_closed_if_opening_is_cancelled(caller: Caller) -> None:
    async def scenario() -> None:
        stream = await caller.connect(lambda _: None)
        with trio.move_on_after(math.inf) as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(open_attachment, stream, REQUEST)
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
        assert scope.cancelled_caught
        assert stream.closed

    TRIO.run(scenario)


# ---- cancelled scopes ----


def test_leaving_in_a_cancelled_scope_closes_all(engine: Engine) -> None:
    """Also the wait that is held."""
    engine.on("attach", stays())
    ended = threading.Event()

    def wait(peer: Peer) -> None:
        peer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
        peer.until_closed()
        ended.set()

    engine.on("wait", wait)

    async def scenario() -> None:
        with trio.CancelScope() as scope:
            async with await attach("web", host=engine.host, wait=True):
                scope.cancel()
        assert scope.cancelled_caught
        await TRIO.until(ended)

    TRIO.run(scenario)


def test_a_cancelled_scope_makes_no_call(engine: Engine) -> None:
    engine.on("attach", accepts(Stdout(b"out")))

    async def scenario() -> None:
        with trio.CancelScope() as scope:
            scope.cancel()
            await attach("web", host=engine.host)
        assert scope.cancelled_caught

    TRIO.run(scenario)
    assert engine.calls == []
