"""What only asyncio has: its own pair of streams, TLS on it, its debug mode, a loop that ends."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import threading
from collections.abc import Callable, Iterator

import pytest

from attachproto import Attach, LocalProtocolError, OutputClosed, RemoteProtocolError, Stdout
from attachproto_adapters import AttachmentClosed, HalfCloseUnsupported, RequestRejected
from attachproto_adapters.asyncio import Attachment, attach, open_attachment
from tests.adapters.frameworks import ASYNCIO, WITH_STDIN
from tests.adapters.scenarios import MEGABYTE, pattern
from tests.adapters.scripted import (
    BOUND,
    Act,
    Engine,
    Peer,
    Task,
    close,
    echo,
    rejects,
    stays,
    then,
    write,
)
from tests.adapters.tls_engine import VERSIONS, Certificates, TlsEngine

Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]

REQUEST = Attach("web", WITH_STDIN, tty=False)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(params=VERSIONS, ids=lambda version: version.name)
def tls_engine(request: pytest.FixtureRequest, certificates: Certificates) -> Iterator[TlsEngine]:
    running = TlsEngine(certificates.server_context(request.param))
    yield running
    running.close()


async def tls_pair(engine: TlsEngine, certificates: Certificates) -> Pair:
    context = ssl.create_default_context(cafile=certificates.client / "ca.pem")
    context.load_cert_chain(certificates.client / "cert.pem", certificates.client / "key.pem")
    name, _, port = engine.host.removeprefix("tcp://").partition(":")
    return await asyncio.open_connection(name, int(port), ssl=context)


# ---- TLS of asyncio's own ----


def test_tls_of_asyncios_own_reads_and_refuses_to_half_close(tls_engine: TlsEngine, certificates: Certificates) -> None:
    """Nothing is sent by what is refused, and stdin stays open."""

    def act(peer: Peer) -> None:
        peer.accept()
        assert peer.read_stdin(1) == b"now"
        peer.send(Stdout(b"out"), OutputClosed())
        peer.until_closed()

    tls_engine.on("attach", act)

    async def scenario() -> None:
        async with await open_attachment(await tls_pair(tls_engine, certificates), REQUEST) as attachment:
            assert not attachment.can_half_close
            with pytest.raises(HalfCloseUnsupported):
                await attachment.close_stdin()
            for input in (b"", b"never sent"):
                with pytest.raises(HalfCloseUnsupported):
                    await attachment.communicate(input)
            await attachment.send_stdin(b"now")
            assert await attachment.communicate() == (b"out", b"")

    ASYNCIO.run(scenario)
    (seen,) = tls_engine.seen
    assert seen.version


def test_close_wakes_who_is_blocked_on_tls_of_asyncios_own(tls_engine: TlsEngine, certificates: Certificates) -> None:
    """asyncio waits for the other end's close_notify, for half a minute if need be."""
    left = threading.Event()

    def act(peer: Peer) -> None:
        peer.accept()
        assert left.wait(BOUND)

    tls_engine.on("attach", act)

    async def scenario() -> None:
        attachment = await open_attachment(await tls_pair(tls_engine, certificates), REQUEST)
        receiving = asyncio.create_task(attachment.receive())
        for _ in range(10):
            await asyncio.sleep(0)
        await attachment.aclose()
        with pytest.raises(AttachmentClosed):
            await receiving
        left.set()

    ASYNCIO.run(scenario)


# ---- the caller's pair ----

REFUSED: list[tuple[Act, type[Exception]]] = [
    (then(rejects(404, "No such container: web"), close), RequestRejected),
    (write(b"SSH-2.0-OpenSSH\r\n"), RemoteProtocolError),
    (close, RemoteProtocolError),
    (write(b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n"), LocalProtocolError),
]


@pytest.mark.parametrize(("act", "error"), REFUSED)
def test_the_callers_pair_is_closed_if_it_opens_no_attachment(act: Act, error: type[Exception]) -> None:
    ours, theirs = socket.socketpair()

    def serve() -> None:
        with theirs:
            peer = Peer(theirs)
            peer.read_request()
            act(peer)
            if theirs.fileno() != -1:
                peer.until_closed()

    serving = Task(serve)

    async def scenario() -> None:
        reader, writer = await asyncio.open_connection(sock=ours)
        with pytest.raises(error):
            await open_attachment((reader, writer), Attach("web", WITH_STDIN))
        assert writer.is_closing()

    ASYNCIO.run(scenario)
    serving.result()


def test_the_callers_pair_is_closed_if_opening_is_cancelled() -> None:
    ours, theirs = socket.socketpair()
    asked = threading.Event()

    def serve() -> None:
        with theirs:
            peer = Peer(theirs)
            peer.read_request()
            asked.set()
            peer.until_closed()

    serving = Task(serve)

    async def scenario() -> None:
        opening = asyncio.create_task(open_attachment(await asyncio.open_connection(sock=ours), REQUEST))
        await ASYNCIO.until(asked)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening

    ASYNCIO.run(scenario)
    serving.result()


# ---- the loop ----


def run_and_close(scenario: Callable[[], object]) -> None:
    """As it was done before there was ``asyncio.run``, which does more at the end."""
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(asyncio.wait_for(scenario(), BOUND))  # type: ignore[arg-type]
    finally:
        loop.close()


@pytest.mark.parametrize("pair", [False, True])
def test_nothing_is_left_to_do_once_it_is_closed(engine: Engine, pair: bool) -> None:
    engine.on("attach", stays(Stdout(b"x")))

    async def scenario() -> None:
        async with await opened(engine, pair) as attachment:
            assert await attachment.receive() == Stdout(b"x")

    run_and_close(scenario)


async def opened(engine: Engine, pair: bool) -> Attachment:
    if not pair:
        return await attach("web", WITH_STDIN, host=engine.host)
    return await open_attachment(await asyncio.open_unix_connection(engine.host.removeprefix("unix://")), REQUEST)


@pytest.mark.parametrize("pair", [False, True])
def test_debug_mode_has_nothing_to_say(engine: Engine, pair: bool, caplog: pytest.LogCaptureFixture) -> None:
    engine.on("inspect", engine.runs())
    engine.on("attach", echo)
    data = pattern(8 * MEGABYTE)

    async def scenario() -> None:
        # Far more than a step of ours takes, and less than one that handles all of the data at once.
        asyncio.get_running_loop().slow_callback_duration = 1.0
        async with asyncio.timeout(BOUND), await opened(engine, pair) as attachment:
            assert await attachment.communicate(data) == (data, b"")
            if not pair:
                assert await attachment.wait() == 0

    with caplog.at_level(logging.INFO, "asyncio"):
        asyncio.run(scenario(), debug=True)
    assert [record.getMessage() for record in caplog.records if record.levelno > logging.DEBUG] == []
