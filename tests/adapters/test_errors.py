"""What errors say, through each adapter: what was seen, bounded, and what to do."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from typing import Any

import pytest
import trio

from attachproto import AttachError, Reason, RemoteProtocolError
from attachproto_adapters import EngineUnreachable, RequestRejected
from tests.adapters.frameworks import FRAMEWORKS, Framework
from tests.adapters.scripted import Act, Engine, Peer, container, reset

PAGE = b"<!DOCTYPE html><title>404 Not Found</title>\n<body>" + b"x" * 1000 + b"</body>\n"

# Longer than any text that somebody wants to read, and within the limit of a body.
LONG = 900_000


def answer(status: str, body: bytes, kind: str = "text/html", more: str = "") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{more}\r\n"
    return head.encode() + body


def writes(data: bytes) -> Act:
    def act(peer: Peer) -> None:
        peer.write(data)

    return act


def document(**fields: Any) -> bytes:
    return answer("200 OK", json.dumps(container() | fields).encode(), "application/json")


def raised(framework: Framework, engine: Engine) -> AttachError:
    caught: list[AttachError] = []

    async def scenario() -> None:
        with pytest.raises(AttachError) as info:
            await framework.attach("web", host=engine.host)
        caught.append(info.value)

    framework.run(scenario)
    return caught[0]


@pytest.mark.parametrize("framework", FRAMEWORKS, ids=str)
@pytest.mark.parametrize("call", ["inspect", "attach"])
def test_a_page_is_quoted_in_its_first_line_with_the_status(framework: Framework, engine: Engine, call: str) -> None:
    engine.on(call, writes(answer("404 Not Found", PAGE)))
    error = raised(framework, engine)
    assert isinstance(error, RequestRejected)
    name = "GET /containers/web/json" if call == "inspect" else "POST /containers/web/attach"
    assert str(error) == f"<!DOCTYPE html><title>404 Not Found</title> ... (404 to {name})"
    assert error.message == PAGE.decode().strip()


@pytest.mark.parametrize("framework", FRAMEWORKS, ids=str)
def test_a_page_in_place_of_a_document(framework: Framework, engine: Engine) -> None:
    engine.on("inspect", writes(answer("200 OK", PAGE)))
    error = raised(framework, engine)
    assert isinstance(error, RemoteProtocolError)
    assert error.reason is Reason.BAD_DOCUMENT
    assert "(200)" in str(error)
    assert "<title>404 Not Found</title>" in str(error)
    assert "<body>" not in str(error)


@pytest.mark.parametrize("framework", FRAMEWORKS, ids=str)
@pytest.mark.parametrize("status", ["301 Moved Permanently", "307 Temporary Redirect"])
def test_a_redirect_of_a_plain_call_names_where_to(framework: Framework, engine: Engine, status: str) -> None:
    engine.on("inspect", writes(answer(status, b"", more="Location: https://login.example.org/\r\n")))
    error = raised(framework, engine)
    assert isinstance(error, RequestRejected)
    assert "to GET /containers/web/json): it redirects to https://login.example.org/" in str(error)


@pytest.mark.parametrize("framework", FRAMEWORKS, ids=str)
@pytest.mark.parametrize(
    "said",
    [
        # Go's server, nginx, and what OpenSSL sends: a fatal alert.
        b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n",
        answer("400 Bad Request", b"<h1>400</h1><p>The plain HTTP request was sent to HTTPS port</p>"),
        b"\x15\x03\x01\x00\x02\x02\x46",
        b"\x15\x03\x03\x00\x02\x02\x0a",
    ],
)
def test_a_port_that_speaks_tls_is_called_so(framework: Framework, engine: Engine, said: bytes) -> None:
    engine.on("inspect", writes(said))
    error = raised(framework, engine)
    assert isinstance(error, RequestRejected | EngineUnreachable)
    assert "the port speaks TLS" in str(error)
    assert "DOCKER_TLS_VERIFY" in str(error)


@pytest.mark.parametrize("framework", FRAMEWORKS, ids=str)
def test_a_reset_before_any_answer_names_tls(framework: Framework, tcp_engine: Engine) -> None:
    """A TLS server that cannot read a plain request may only close, with the rest of it unread."""
    tcp_engine.on("inspect", reset)
    caught: list[Exception] = []

    async def scenario() -> None:
        with pytest.raises((ConnectionResetError, trio.BrokenResourceError)) as info:
            await framework.attach("web", host=tcp_engine.host)
        caught.append(info.value)

    framework.run(scenario)
    assert f"reset before any answer came: {tcp_engine.host}" in str(caught[0])
    assert "DOCKER_TLS_VERIFY" in str(caught[0])


@pytest.mark.parametrize("framework", FRAMEWORKS, ids=str)
@pytest.mark.parametrize("resets", [False, True])
def test_tls_to_a_port_that_speaks_none(framework: Framework, resets: bool) -> None:
    """It closes or resets the connection at the ClientHello."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def close_at_once() -> None:
            with server.accept()[0] as sock:
                assert sock.recv(1 if resets else 65536)

        closing = threading.Thread(target=close_at_once)
        closing.start()

        async def scenario() -> None:
            host = f"tcp://127.0.0.1:{server.getsockname()[1]}"
            async with framework.client(host, tls=ssl.create_default_context()) as client:
                with pytest.raises(EngineUnreachable, match="the port may not speak TLS"):
                    await client.attach("web")

        framework.run(scenario)
        closing.join()


@pytest.mark.parametrize("framework", FRAMEWORKS, ids=str)
@pytest.mark.parametrize(
    "said",
    [
        answer("500 Internal Server Error", json.dumps({"message": "m" * LONG}).encode(), "application/json"),
        answer("500 Internal Server Error", b"m" * LONG, "text/plain"),
        answer("500 Internal Server Error", b"<" + b"m" * LONG),
        answer("301 Moved", b"", more=f"Location: /{'m' * 20_000}\r\n"),
        answer("200 OK", b"m" * LONG),
        answer("200 OK", b"[" * LONG, "application/json"),
        answer("200 OK", b'{"Config": ' + b"9" * 5000 + b"}", "application/json"),
        answer("200 OK", json.dumps("m" * LONG).encode(), "application/json"),
        document(State={"Status": "running", "ExitCode": "m" * LONG}),
        document(Config={"Tty": ["m" * LONG]}),
    ],
    ids=range(10),
)
def test_what_the_peer_sends_is_a_typed_error_of_bounded_length(
    framework: Framework, engine: Engine, said: bytes
) -> None:
    engine.on("inspect", writes(said))
    error = raised(framework, engine)
    assert isinstance(error, RequestRejected | RemoteProtocolError)
    assert len(str(error)) < 1000


@pytest.mark.parametrize("framework", FRAMEWORKS, ids=str)
@pytest.mark.parametrize("version", ["9" * 5000, "4." + "9" * 5000, "4.3" + "٣" * 20, "", "-", "v", "4", ".", "4..3"])
def test_a_version_of_podman_that_is_none_has_no_quirks(framework: Framework, engine: Engine, version: str) -> None:
    body = json.dumps(container()).encode()
    head = f"HTTP/1.1 200 OK\r\nLibpod-Api-Version: {version}\r\nContent-Length: {len(body)}\r\n\r\n"
    engine.on("inspect", writes(head.encode() + body))

    async def scenario() -> None:
        async with await framework.attach("web", host=engine.host) as attachment:
            assert await attachment.communicate() == (b"", b"")

    framework.run(scenario)
