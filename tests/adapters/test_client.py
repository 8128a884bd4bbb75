"""The client of each adapter: one engine for many calls, beside other engines in the same process."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from attachproto import Stdout
from attachproto_adapters import AttachWarning, ClientClosed, EngineUnreachable, HostInvalid, blocking
from tests.adapters.frameworks import EACH_FRAMEWORK, Framework
from tests.adapters.scripted import BOUND, Engine, Peer, accepts, answers, container, docker_exec, waits
from tests.adapters.tls_engine import VERSIONS, Certificates, TlsEngine


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def tls_engines(certificates: Certificates) -> Iterator[list[TlsEngine]]:
    """Two engines with a CA of their own each would be alike: these two differ in their version of TLS."""
    engines = [TlsEngine(certificates.server_context(version)) for version in VERSIONS]
    yield engines
    for each in engines:
        each.close()


def context_of(directory: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=directory / "ca.pem")
    context.load_cert_chain(directory / "cert.pem", directory / "key.pem")
    return context


@EACH_FRAMEWORK
def test_a_client_makes_the_calls_of_the_functions(framework: Framework, engine: Engine) -> None:
    engine.on("inspect", engine.runs())
    engine.on("attach", accepts(Stdout(b"hi")))
    engine.on("logs", accepts(Stdout(b"hi"), status_code=200))
    engine.on("start", accepts(Stdout(b"hi")))

    async def scenario() -> None:
        async with framework.client(engine.host) as client:
            async with await client.attach("web") as attachment:
                assert await attachment.communicate() == (b"hi", b"")
            async with await client.logs("web", tail=3) as attachment:
                assert await attachment.communicate() == (b"hi", b"")
            engine.on("inspect", answers(docker_exec()), answers(docker_exec(exit_code=7)))
            async with await client.exec_start("e1") as attachment:
                assert await attachment.communicate() == (b"hi", b"")
                assert await attachment.wait() == 7
            assert (await client.run_exec("web", ["true"])).exit_code == 7

    framework.run(scenario)


@EACH_FRAMEWORK
def test_an_attachment_outlives_its_client(framework: Framework, engine: Engine) -> None:
    async def scenario() -> None:
        engine.on("inspect", answers(docker_exec()), answers(docker_exec(exit_code=3)))
        engine.on("start", accepts(Stdout(b"hi")))
        async with framework.client(engine.host) as client:
            attachment = await client.exec_start("e1")
        async with attachment:
            assert await attachment.communicate() == (b"hi", b"")
            assert await attachment.wait() == 3

    framework.run(scenario)


@EACH_FRAMEWORK
def test_a_closed_client_makes_no_call(framework: Framework, engine: Engine) -> None:
    async def scenario() -> None:
        client = framework.client(engine.host)
        await client.aclose()
        await client.aclose()
        with pytest.raises(ClientClosed, match="is closed"):
            await client.attach("web")

    framework.run(scenario)
    assert not engine.calls


@EACH_FRAMEWORK
def test_the_api_version_of_a_client_goes_with_each_call(framework: Framework, engine: Engine) -> None:
    async def scenario() -> None:
        async with (
            framework.client(engine.host, api_version="1.41") as client,
            await client.attach("web") as attachment,
        ):
            await attachment.communicate()

    engine.on("inspect", engine.runs())
    framework.run(scenario)
    assert {each.api_version for each in engine.requests} == {"1.41"}


@EACH_FRAMEWORK
def test_a_context_of_the_callers_speaks_tls_and_each_client_has_its_own(
    framework: Framework, tls_engines: list[TlsEngine], certificates: Certificates
) -> None:
    async def scenario() -> None:
        context = context_of(certificates.client)
        clients = [framework.client(each.host, tls=context) for each in tls_engines]
        stranger = framework.client(tls_engines[0].host, tls=context_of(certificates.stranger))
        for client in clients * 2:
            async with await client.logs("web") as attachment:
                assert await attachment.communicate() == (b"hi", b"")
        with pytest.raises(EngineUnreachable, match="certificate"):
            await stranger.logs("web")
        for client in (*clients, stranger):
            await client.aclose()

    for each in tls_engines:
        each.on("logs", accepts(Stdout(b"hi"), status_code=200))
    framework.run(scenario)
    assert {seen.version for each in tls_engines for seen in each.seen} == {"TLSv1.2", "TLSv1.3", None}


@EACH_FRAMEWORK
def test_what_is_not_valid_is_refused_when_the_client_is_made(framework: Framework, engine: Engine) -> None:
    context = ssl.create_default_context()
    wrong: list[tuple[Callable[[], Any], type[Exception], str]] = [
        (lambda: framework.client("http://x"), HostInvalid, "not supported"),
        (lambda: framework.client(engine.host, tls=context), HostInvalid, "takes no tls="),
        (lambda: framework.client("tcp://x", tls=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)), ValueError, "for servers"),
        (lambda: framework.client("tcp://x", tls="cert.pem"), TypeError, "ssl.SSLContext"),
        (lambda: framework.client(engine.host, api_version="latest"), ValueError, "a version such as"),
    ]
    for make, error, text in wrong:
        with pytest.raises(error, match=text):
            make()


def test_a_timeout_of_zero_is_refused_when_the_client_is_made() -> None:
    with pytest.raises(ValueError, match="above 0"):
        blocking.Client("tcp://x", timeout=0)


def test_threads_share_a_client(engine: Engine) -> None:
    together = threading.Barrier(8)
    outputs: list[bytes] = []

    def work() -> None:
        together.wait(BOUND)
        with client.logs("web") as attachment:
            outputs.append(attachment.communicate()[0])

    engine.on("logs", accepts(Stdout(b"hi"), status_code=200))
    with blocking.Client(engine.host, timeout=BOUND) as client:
        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(BOUND)
    assert outputs == [b"hi"] * 8


# ---- what goes with every request ----


class BehindPath(Engine):
    """An engine that a proxy serves below a path, as Portainer does: every request has it."""

    PATH = b"/api/endpoints/1/docker/v1.41/"

    def make_peer(self, sock: socket.socket) -> Peer:
        return PeerBehindPath(sock)


class PeerBehindPath(Peer):
    def receive(self) -> bytes:
        method, space, rest = super().receive().partition(b" ")
        if not rest:
            return method  # the end, or stdin
        assert rest.startswith(BehindPath.PATH), rest
        return method + space + rest.replace(BehindPath.PATH, b"/v1.41/", 1)


@EACH_FRAMEWORK
def test_the_path_of_an_address_stands_before_the_version_of_every_request(framework: Framework) -> None:
    engine = BehindPath()
    engine.on("inspect", answers(container(open_stdin=False)))
    engine.on("attach", accepts(Stdout(b"hi")))
    engine.on("start", answers(None, 204))
    engine.on("wait", waits(4))

    async def scenario() -> None:
        async with (
            framework.client(f"{engine.host}/api/endpoints/1/docker/", api_version="1.41") as client,
            await client.attach("web", start=True) as attachment,
        ):
            assert await attachment.communicate() == (b"hi", b"")
            assert await attachment.wait() == 4
            await attachment.resize(24, 80)

    try:
        framework.run(scenario)
    finally:
        engine.close()
    assert {"inspect", "attach", "wait next-exit", "start", "resize"} <= set(engine.calls)


def headers_of(engine: Engine) -> list[dict[str, str]]:
    found = []
    for request in engine.requests:
        names = [name for name, _ in request.headers]
        assert len(names) == len(set(names)), names
        found.append(dict(request.headers))
    return found


@EACH_FRAMEWORK
def test_headers_go_with_plain_calls_and_with_streams(
    framework: Framework, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the caller win over those of docker's configuration, and those of a call win over both."""
    configured = {"X-Meta": "config", "x-token": "old", "User-Agent": "not sent", "Content-Type": "not/this"}
    (tmp_path / "config.json").write_text(json.dumps({"HttpHeaders": configured}))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    engine.on("inspect", answers(docker_exec(exit_code=0)))
    engine.on("start", accepts(Stdout(b"hi")))

    async def scenario() -> None:
        async with framework.client(engine.host, headers=[("X-Token", "s3cret")]) as client:
            assert (await client.run_exec("web", ["true"], kill=False)).stdout == b"hi"
            assert "s3cret" not in repr(client)
        assert (await framework.run_exec("web", ["true"], kill=False, host=engine.host)).stdout == b"hi"

    framework.run(scenario)
    assert engine.calls == ["exec", "start", "inspect"] * 2
    seen = headers_of(engine)
    assert [each["x-token"] for each in seen] == ["s3cret"] * 3 + ["old"] * 3
    assert {each["x-meta"] for each in seen} == {"config"}
    assert all(each["user-agent"].startswith("attachproto/") for each in seen)
    assert seen[0]["content-type"] == seen[1]["content-type"] == "application/json"


@EACH_FRAMEWORK
@pytest.mark.parametrize("header", [("Host", "x"), ("connection", "close"), ("X", "a\r\nY: b"), ("X Y", "z"), ("X", 1)])
def test_a_header_that_cannot_go_with_every_request(
    framework: Framework, engine: Engine, header: tuple[str, Any]
) -> None:
    with pytest.raises((ValueError, TypeError), match="header"):
        framework.client(engine.host, headers=[header])


@EACH_FRAMEWORK
@pytest.mark.parametrize("headers", [{"X-Token": "s3cret"}, {"ab": "s3cret"}, "ab", ["ab"], None])
def test_headers_that_are_no_pairs(framework: Framework, engine: Engine, headers: Any) -> None:
    """A name of two letters looks like a pair."""
    with pytest.raises(TypeError, match="header field") as raised:
        framework.client(engine.host, headers=headers)
    assert "s3cret" not in str(raised.value)


CONFIGS = {
    "a name that only the connection writes": '{"HttpHeaders": {"Host": "s3cret"}}',
    "a line end": '{"HttpHeaders": {"X": "s3cret\\r\\nY: z"}}',
    "a number": '{"HttpHeaders": {"X": 1}}',
    "a list": '{"HttpHeaders": ["X", "s3cret"]}',
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_http_headers_that_are_not_valid(config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text(config)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    with pytest.raises(HostInvalid, match=r"HttpHeaders of .*config\.json are not valid") as caught:
        blocking.Client("tcp://engine")
    assert "s3cret" not in str(caught.value)


def test_a_configuration_that_cannot_be_read_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with the docker CLI; a context that has to be looked up in it is an error."""
    (tmp_path / "config.json").write_text("{")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    with pytest.warns(AttachWarning, match="no HttpHeaders are sent") as warnings:
        blocking.Client("tcp://engine").close()
    assert warnings[0].filename == __file__
    with pytest.raises(HostInvalid, match="is not JSON"):
        blocking.Client()
