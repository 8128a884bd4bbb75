"""Ends that are none, and what is left after them: a cut that looks like an end, a send that failed, a close."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from attachproto import Attach, Framing, LocalProtocolError, OutputClosed, RawOutput, Request, Stdout
from attachproto_adapters import AttachmentClosed, EngineUnreachable, blocking
from attachproto_adapters._transport import _ssh
from attachproto_adapters.asyncio import open_attachment
from tests.adapters.frameworks import (
    ASYNCIO,
    BLOCKING,
    EACH_FRAMEWORK,
    TRIO,
    WAYS,
    WITH_STDIN,
    Attachment,
    Framework,
    Opener,
)
from tests.adapters.scenarios import MEGABYTE, pattern
from tests.adapters.scripted import (
    BOUND,
    Engine,
    Peer,
    Task,
    accept,
    accepts,
    answers,
    docker_exec,
    read_some,
    reset,
    say,
    stays,
    then,
    until_closed,
    waits,
)
from tests.adapters.tls_engine import VERSIONS, Certificates, ServerTls, TlsEngine
from tests.helpers import H101M, H101R, frame

RACES = 5

# What has left and will not come is noticed in about a second, and not in the half minute that asyncio takes.
SOON = 5.0

EACH_LOOP = pytest.mark.parametrize("framework", [ASYNCIO, TRIO], ids=str)
EACH_VERSION = pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)

BUSY: dict[Framework, type[Exception]] = {ASYNCIO: RuntimeError, TRIO: trio.BusyResourceError}


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def tls_engine(certificates: Certificates, version: ssl.TLSVersion) -> Iterator[TlsEngine]:
    running = TlsEngine(certificates.server_context(version))
    yield running
    running.close()


def address(engine: Engine) -> tuple[str, int]:
    name, _, port = engine.host.removeprefix("tcp://").partition(":")
    return name, int(port)


def own_context(certificates: Certificates) -> ssl.SSLContext:
    """A caller's."""
    context = ssl.create_default_context(cafile=certificates.client / "ca.pem")
    context.load_cert_chain(certificates.client / "cert.pem", certificates.client / "key.pem")
    return context


def waits_for(event: threading.Event) -> Callable[[Peer], None]:
    def act(peer: Peer) -> None:
        assert event.wait(BOUND)

    return act


# ---- asyncio: TLS of the caller's ----


async def over_tls(engine: TlsEngine, certificates: Certificates) -> Attachment:
    pair = await asyncio.open_connection(*address(engine), ssl=own_context(certificates))
    return await open_attachment(pair, Attach("web", WITH_STDIN, tty=False))


@EACH_VERSION
def test_a_send_over_the_callers_tls_comes_back(tls_engine: TlsEngine, certificates: Certificates) -> None:
    """Each waits until the transport has all of it, which must not be for ever."""

    def act(peer: Peer) -> None:
        peer.accept()
        for _ in range(3):
            peer.send(Stdout(peer.read_stdin(5)))
        assert not peer.sock.recv(1)

    tls_engine.on("attach", act)

    async def scenario() -> None:
        async with await over_tls(tls_engine, certificates) as attachment:
            for _ in range(3):
                async with asyncio.timeout(SOON):
                    await attachment.send_stdin(b"line\n")
                assert await attachment.receive() == Stdout(b"line\n")

    ASYNCIO.run(scenario)


@EACH_VERSION
@pytest.mark.parametrize("size", [1, 1000, 16 * 1024, MEGABYTE])
def test_what_the_callers_tls_has_taken_arrives(tls_engine: TlsEngine, certificates: Certificates, size: int) -> None:
    arrived = bytearray()
    ended = threading.Event()
    data = pattern(min(50 * size, 2 * MEGABYTE))

    def act(peer: Peer) -> None:
        peer.accept()
        while piece := peer.sock.recv(4096):  # so that it lags behind
            arrived.extend(piece)
        ended.set()

    tls_engine.on("attach", act)

    async def scenario() -> None:
        attachment = await over_tls(tls_engine, certificates)
        for at in range(0, len(data), size):
            await attachment.send_stdin(data[at : at + size])
        await attachment.aclose()
        await ASYNCIO.until(ended)

    ASYNCIO.run(scenario)
    assert bytes(arrived) == data


@EACH_VERSION
@pytest.mark.parametrize("reads", [False, True])
def test_no_close_notify_in_return(tls_engine: TlsEngine, certificates: Certificates, reads: bool) -> None:
    left = threading.Event()
    tls_engine.on("attach", then(accept, waits_for(left)))

    async def scenario() -> None:
        attachment = await over_tls(tls_engine, certificates)
        receiving = asyncio.create_task(attachment.receive()) if reads else None
        await attachment.send_stdin(b"x")
        async with asyncio.timeout(SOON):
            await attachment.aclose()
            if receiving is not None:
                with pytest.raises(AttachmentClosed):
                    await receiving

    try:
        ASYNCIO.run(scenario)
    finally:
        left.set()


# ---- an ssh that dies ----

# Relays plain calls. Of an attach it copies the first piece of output, and then does as its second argument says.
RELAY = """
import os, select, signal, socket, sys

path, end = sys.argv[1:]
engine = socket.socket(socket.AF_UNIX)
engine.connect(path)
request = os.read(0, 65536)
engine.sendall(request)
if b"/attach?" in request:
    os.write(1, engine.recv(65536))
    if end == "unread":
        select.select([0], [], [])
    elif end == "stays":
        os.close(0)
        os.close(1)
        os.write(2, b"still here\\n")
        signal.pause()
    elif end == "clean":
        sys.exit(0)
    os.write(2, b"Connection to engine closed by remote host.\\n")
    os._exit(255)
while data := engine.recv(65536):
    os.write(1, data)
"""

SSH = "ssh://engine"
SAID = "closed by remote host"

Ends = Callable[[str], None]


@pytest.fixture
def ends(engine: Engine, socket_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ends:
    """Say how the program ends in the middle of an attach."""
    directory = tmp_path / "bin"
    directory.mkdir()
    relay = tmp_path / "relay.py"
    relay.write_text(RELAY)
    monkeypatch.setenv("PATH", f"{directory}{os.pathsep}{os.environ['PATH']}")
    engine.on("attach", stays(Stdout(b"came")))

    def ends_(how: str) -> None:
        file = directory / "ssh"
        file.write_text(f"#!/bin/sh\nexec '{sys.executable}' -I -S '{relay}' '{socket_path}' {how}\n")
        file.chmod(0o755)

    return ends_


def lost(framework: Framework) -> type[Exception]:
    return trio.BrokenResourceError if framework is TRIO else ConnectionAbortedError


@EACH_FRAMEWORK
def test_an_ssh_that_dies_is_no_end(framework: Framework, ends: Ends) -> None:
    ends("dies")

    async def scenario() -> None:
        async with await framework.attach("web", host=SSH) as attachment:
            assert await attachment.receive() == Stdout(b"came")
            for _ in range(3):
                with pytest.raises(lost(framework), match=SAID):
                    await attachment.receive()
            with pytest.raises(lost(framework), match=SAID):
                await attachment.communicate()

    framework.run(scenario)


@EACH_FRAMEWORK
def test_an_ssh_that_dies_with_input_unread(framework: Framework, ends: Ends) -> None:
    """The kernel tells of that by a reset."""
    ends("unread")

    async def scenario() -> None:
        async with await framework.attach("web", WITH_STDIN, host=SSH) as attachment:
            assert await attachment.receive() == Stdout(b"came")
            await attachment.send_stdin(b"never read")
            for _ in range(3):
                with pytest.raises(lost(framework), match=SAID):
                    await attachment.receive()

    framework.run(scenario)


@EACH_FRAMEWORK
@pytest.mark.parametrize("size", [1, MEGABYTE])
def test_an_ssh_that_dies_is_no_end_of_communicate(framework: Framework, ends: Ends, size: int) -> None:
    """Not even where a reset would be one."""
    ends("unread")

    async def scenario() -> None:
        async with await framework.attach("web", WITH_STDIN, host=SSH) as attachment:
            for _ in range(2):
                with pytest.raises(lost(framework), match=SAID):
                    await attachment.communicate(bytes(size))

    framework.run(scenario)


@EACH_FRAMEWORK
def test_an_ssh_that_ends_well(framework: Framework, ends: Ends) -> None:
    ends("clean")

    async def scenario() -> None:
        async with await framework.attach("web", host=SSH) as attachment:
            assert await attachment.communicate() == (b"came", b"")
            assert await attachment.receive() == OutputClosed()

    framework.run(scenario)


@EACH_FRAMEWORK
def test_an_ssh_that_does_not_end(framework: Framework, ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_ssh, "_END_SECONDS", 0.1)
    ends("stays")

    async def scenario() -> None:
        async with await framework.attach("web", host=SSH) as attachment:
            assert await attachment.receive() == Stdout(b"came")
            for _ in range(2):
                with pytest.raises(lost(framework), match="does not end"):
                    await attachment.receive()

    framework.run(scenario)


# ---- a wait of an old API ----


@EACH_FRAMEWORK
@pytest.mark.parametrize(("version", "asked"), [("1.24", None), ("1.29", None), ("1.30", "1.30"), (None, None)])
@pytest.mark.parametrize("how", [{"wait": True}, {"start": True}, {}], ids=str)
def test_a_wait_that_the_api_did_not_know(
    framework: Framework, engine: Engine, version: str | None, asked: str | None, how: dict[str, bool]
) -> None:
    """Before 1.30 it has no condition, and its head comes only at the end."""
    engine.on("inspect", engine.runs(before=1 if "start" in how else 2))

    async def scenario() -> None:
        async with await framework.attach("web", host=engine.host, api_version=version, **how) as attachment:
            await attachment.communicate()
            assert await attachment.wait() == 0

    framework.run(scenario)
    waited = [each for each in engine.requests if isinstance(each, Request) and each.path[-1] == "wait"]
    others = [each for each in engine.requests if each not in waited]
    assert [each.api_version for each in waited] == [asked]
    assert {each.api_version for each in others} == {version}


# ---- a reset over TCP ----


@pytest.fixture
def opened(request: pytest.FixtureRequest, socket_path: Path) -> Iterator[Opener]:
    opener = Opener(request.param, str(socket_path))
    yield opener
    opener.close()


EACH_TCP_WAY = pytest.mark.parametrize("opened", [way for way in WAYS if way.tcp], ids=str, indirect=True)

OUTPUT = Stdout(b"perhaps read")


async def send_until_broken(opened: Opener, attachment: Attachment) -> None:
    deadline = time.monotonic() + BOUND
    with contextlib.suppress(*opened.framework.broken):
        while True:
            await attachment.send_stdin(bytes(1000))
            assert time.monotonic() < deadline, "nothing breaks"


async def receive_until_broken(opened: Opener, attachment: Attachment) -> None:
    """What had come may be lost, or not; but it has not ended."""
    with contextlib.suppress(*opened.framework.broken):
        assert await attachment.receive() == OUTPUT
    for _ in range(3):
        with pytest.raises(opened.framework.broken):
            await attachment.receive()


@EACH_TCP_WAY
@pytest.mark.parametrize(
    "order", [(send_until_broken, receive_until_broken), (receive_until_broken, send_until_broken)]
)
def test_a_reset_never_becomes_an_end(
    opened: Opener, order: tuple[Callable[[Opener, Attachment], Awaitable[None]], ...]
) -> None:
    async def scenario() -> None:
        for _ in range(RACES):
            go = threading.Event()
            attachment = await opened(then(accept, say(OUTPUT), waits_for(go), reset), WITH_STDIN)
            go.set()
            await opened.served()
            for each in order:
                await each(opened, attachment)
            with pytest.raises(opened.framework.broken):
                await attachment.communicate()
            await attachment.aclose()

    opened.framework.run(scenario)


@EACH_TCP_WAY
def test_a_reset_while_one_sends_and_one_receives(opened: Opener) -> None:
    async def scenario() -> None:
        for _ in range(RACES):
            attachment = await opened(then(accept, say(OUTPUT), read_some, reset), WITH_STDIN)
            await opened.framework.together(
                send_until_broken(opened, attachment), receive_until_broken(opened, attachment)
            )
            await attachment.aclose()

    opened.framework.run(scenario)


# ---- wait() and others ----


def notes(asked: threading.Event) -> Callable[[Peer], None]:
    return lambda peer: asked.set()


@EACH_LOOP
@pytest.mark.parametrize("kind", ["container", "exec"])
def test_a_second_wait(framework: Framework, engine: Engine, kind: str) -> None:
    asked, exited = threading.Event(), threading.Event()
    if kind == "exec":
        engine.on("start", stays())
        ended = answers(docker_exec(exit_code=7))
        engine.on("inspect", answers(docker_exec()), then(notes(asked), waits_for(exited), ended))
    else:
        engine.on("attach", stays())
        engine.on("wait", then(notes(asked), waits(7, exited)))

    async def scenario() -> None:
        open_: Any = framework.attach if kind == "container" else framework.exec_start
        async with await open_("x1", host=engine.host) as attachment:

            async def first() -> None:
                assert await attachment.wait() == 7

            async def second() -> None:
                await framework.until(asked)
                with pytest.raises(BUSY[framework], match="another task is waiting"):
                    await attachment.wait()
                exited.set()

            await framework.together(first(), second())
            assert await attachment.wait() == 7

    try:
        framework.run(scenario)
    finally:
        exited.set()


@EACH_FRAMEWORK
def test_close_wakes_who_waits_for_an_exec(framework: Framework, engine: Engine) -> None:
    async def scenario() -> None:
        for _ in range(RACES):
            asked = threading.Event()
            engine.on("start", stays())
            engine.on("inspect", answers(docker_exec()), then(notes(asked), lambda peer: peer.until_hung_up()))
            attachment = await framework.exec_start("e1", host=engine.host)

            async def first(attachment: Attachment = attachment) -> None:
                with pytest.raises(AttachmentClosed):
                    await attachment.wait()

            async def second(attachment: Attachment = attachment, asked: threading.Event = asked) -> None:
                await framework.until(asked)
                await attachment.aclose()

            begun = time.monotonic()
            await framework.together(first(), second())
            assert time.monotonic() - begun < BOUND / 2, "it was not woken"

    framework.run(scenario)


# ---- dialling ----


def test_an_address_of_a_family_that_there_is_not(tcp_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [
        (9999, socket.SOCK_STREAM, 0, "", ("none", 0)),
        (socket.AF_INET, socket.SOCK_STREAM, 0, "", address(tcp_engine)),
    ]

    async def getaddrinfo(*args: object, **kwargs: object) -> list[Any]:
        return found

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", getaddrinfo)
    tcp_engine.on("attach", accepts(Stdout(b"hello")))

    async def scenario() -> None:
        async with await ASYNCIO.attach("web", host=tcp_engine.host) as attachment:
            assert await attachment.communicate() == (b"hello", b"")

    ASYNCIO.run(scenario)


@EACH_FRAMEWORK
def test_a_name_that_no_certificate_could_have(
    framework: Framework, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
    monkeypatch.setenv("DOCKER_CERT_PATH", str(certificates.client))

    async def scenario() -> None:
        with pytest.raises(EngineUnreachable, match=r"no engine answers at tcp://a\.\.b:1"):
            await framework.attach("web", host="tcp://a..b:1")

    framework.run(scenario)


@EACH_FRAMEWORK
@EACH_VERSION
def test_an_engine_that_we_refuse_is_told_why(
    framework: Framework, tls_engine: TlsEngine, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
    monkeypatch.setenv("DOCKER_CERT_PATH", str(certificates.distrustful))

    async def scenario() -> None:
        with pytest.raises(EngineUnreachable, match="its certificate is not accepted"):
            await framework.attach("web", host=tls_engine.host)

    framework.run(scenario)
    tls_engine.close()
    assert [refused.reason for refused in tls_engine.refused] == ["TLSV1_ALERT_UNKNOWN_CA"]


@EACH_VERSION
@pytest.mark.parametrize("framing", list(Framing))
def test_a_cut_of_the_callers_blocking_tls(
    certificates: Certificates, version: ssl.TLSVersion, framing: Framing
) -> None:
    """The ssl module would take it for an end."""

    raw = framing is Framing.RAW
    context = certificates.server_context(version)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(BOUND)

        def serve() -> None:
            sock, _ = listener.accept()
            with sock:
                tls = ServerTls(context, sock)
                tls.handshake()
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    head += tls.read()
                tls.write(H101R + b"said" if raw else H101M + frame(1, b"said"))
                sock.shutdown(socket.SHUT_WR)
                while sock.recv(1000):
                    pass

        serving = Task(serve)
        sock = socket.create_connection(listener.getsockname(), BOUND)
        own = own_context(certificates).wrap_socket(sock, server_hostname="127.0.0.1")
        with blocking.open_attachment(own, Attach("web", tty=raw)) as attachment:
            assert attachment.receive() == (RawOutput(b"said") if raw else Stdout(b"said"))
            for _ in range(3):
                with pytest.raises(ssl.SSLEOFError):
                    attachment.receive()
        serving.result()


# ---- after a send that failed ----


async def no_stdin_any_more(attachment: Attachment) -> None:
    for call in (attachment.send_stdin, attachment.communicate):
        with pytest.raises(LocalProtocolError, match="stdin cannot be used any more"):
            await call(b"x")
    with pytest.raises(LocalProtocolError, match="stdin cannot be used any more"):
        await attachment.close_stdin()


@EACH_FRAMEWORK
def test_after_a_failed_send_only_output_is_left(framework: Framework, engine: Engine) -> None:
    gone = threading.Event()

    def act(peer: Peer) -> None:
        accept(peer)
        peer.send(Stdout(b"last words"), OutputClosed())
        peer.close()
        gone.set()

    engine.on("attach", act)

    async def scenario() -> None:
        async with await framework.attach("web", WITH_STDIN, host=engine.host) as attachment:
            await framework.until(gone)
            with pytest.raises(framework.broken):
                await attachment.send_stdin(b"x")
            await no_stdin_any_more(attachment)
            assert await attachment.receive() == Stdout(b"last words")
            assert await attachment.receive() == OutputClosed()

    framework.run(scenario)


async def interrupted(framework: Framework, attachment: Any) -> None:
    """A send that nobody takes, cut short."""
    data = bytes(4 * MEGABYTE)
    if framework is BLOCKING:
        await attachment.settimeout(0.05)
        with pytest.raises(TimeoutError):
            await attachment.send_stdin(data)
        await attachment.settimeout(BOUND)
    elif framework is ASYNCIO:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await attachment.send_stdin(data)
    else:
        with pytest.raises(trio.TooSlowError), trio.fail_after(0.05):
            await attachment.send_stdin(data)


@EACH_FRAMEWORK
def test_after_an_interrupted_send_only_output_is_left(framework: Framework, engine: Engine) -> None:
    over = threading.Event()
    engine.on("attach", then(accept, waits_for(over), say(Stdout(b"and on"), OutputClosed()), until_closed))

    async def scenario() -> None:
        async with await framework.attach("web", WITH_STDIN, host=engine.host) as attachment:
            await interrupted(framework, attachment)
            over.set()
            await no_stdin_any_more(attachment)
            assert await attachment.receive() == Stdout(b"and on")
            assert await attachment.receive() == OutputClosed()

    try:
        framework.run(scenario)
    finally:
        over.set()
