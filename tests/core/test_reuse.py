"""When a connection may carry another exchange, and what stands in every request of a connection."""

from __future__ import annotations

from typing import Any

import pytest

from attachproto import (
    CLIENT,
    NEED_DATA,
    SERVER,
    Attach,
    AttachOptions,
    Connection,
    ExecStart,
    Logs,
    Request,
    Response,
    ResponseHead,
    StdinClosed,
    Stdout,
)
from tests.helpers import EOF, H101M, client, cuts, frame, read_all

PING = Request("GET", ("_ping",))
HEAD = Request("HEAD", ("_ping",))
START = Request("POST", ("containers", "web", "start"))
REMOVE = Request("DELETE", ("containers", "web"))

OK = b"HTTP/1.1 200 OK\r\n"
LENGTH = b"Content-Length: 2\r\n\r\nOK"
CHUNKS = b"Transfer-Encoding: chunked\r\n\r\n1\r\nO\r\n1\r\nK\r\n0\r\n\r\n"

# name: (request, the answer, whether the connection may be used again)
ANSWERS: dict[str, tuple[Any, bytes, bool]] = {
    "a length": (PING, OK + LENGTH, True),
    "chunks": (PING, OK + CHUNKS, True),
    "chunks with trailers": (PING, OK + CHUNKS[:-2] + b"X: y\r\n\r\n", True),
    "an empty body": (PING, OK + b"Content-Length: 0\r\n\r\n", True),
    "204": (START, b"HTTP/1.1 204 No Content\r\n\r\n", True),
    "304": (START, b"HTTP/1.1 304 Not Modified\r\n\r\n", True),
    "to HEAD, with a length": (HEAD, OK + b"Content-Length: 2\r\n\r\n", True),
    "to HEAD, without one": (HEAD, OK + b"\r\n", True),
    "to DELETE": (REMOVE, OK + LENGTH, True),
    "a refusal": (PING, b"HTTP/1.1 404 Not Found\r\n" + LENGTH, True),
    "behind 100": (START, b"HTTP/1.1 100 Continue\r\n\r\n" + OK + LENGTH, True),
    "keep-alive": (PING, OK + b"Connection: keep-alive\r\n" + LENGTH, True),
    "close": (PING, OK + b"Connection: close\r\n" + LENGTH, False),
    "close among other options": (PING, OK + b"Connection: x, Close\r\n" + LENGTH, False),
    "close in a second field": (PING, OK + b"Connection: x\r\nConnection: close\r\n" + LENGTH, False),
    "a length and chunks": (PING, OK + b"Content-Length: 2\r\n" + CHUNKS, False),
    "close and chunks": (PING, OK + b"Connection: close\r\n" + CHUNKS, False),
    "close and 204": (START, b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n", False),
    "HTTP/1.0": (PING, b"HTTP/1.0 200 OK\r\n" + LENGTH, False),
    "HTTP/1.0 with keep-alive": (PING, b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n" + LENGTH, False),
    "something behind it": (PING, OK + LENGTH + b"H", False),
    "something behind chunks": (PING, OK + CHUNKS + b"\r\n", False),
    "something behind 204": (START, b"HTTP/1.1 204 No Content\r\n\r\n\0", False),
    "a second answer behind it": (PING, (OK + LENGTH) * 2, False),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_and_what_follows_it(name: str) -> None:
    request, data, expected = ANSWERS[name]
    for pieces in cuts(data):
        connection = client(request)
        assert not connection.reusable
        events, error = read_all(connection, pieces)
        assert error is None
        assert isinstance(events[-1], Response), pieces
        assert connection.reusable is expected, pieces
        connection.receive_data(EOF)
        assert not connection.reusable, "the engine has closed it"


def test_a_body_without_an_end_ends_with_the_connection() -> None:
    for pieces in cuts(OK + b"\r\nOK"):
        connection = client(PING)
        events, error = read_all(connection, [*pieces, EOF])
        assert (events[-1], error) == (Response(200, (), b"OK"), None)
        assert not connection.reusable


@pytest.mark.parametrize(
    "request_",
    [Attach("web", AttachOptions(stdin=True), tty=False), ExecStart("e1", tty=False), Logs("web", tty=False)],
)
def test_a_stream_takes_the_connection_for_itself(request_: Any) -> None:
    """Also a refused one: an intermediary may have taken the upgrade for made."""
    refused = client(request_)
    read_all(refused, [b"HTTP/1.1 404 Not Found\r\n" + LENGTH])
    assert not refused.reusable
    if request_.upgrade is not None:
        connection = client(request_)
        events, _ = read_all(connection, [H101M, frame(1, b"x"), EOF])
        assert Stdout(b"x") in events
        connection.send(StdinClosed())
        assert not connection.reusable


def test_not_before_the_answer_is_whole_and_not_after_a_failure() -> None:
    connection = client(PING)
    connection.receive_data(OK + b"Content-Length: 2\r\n\r\nO")
    assert isinstance(connection.next_event(), ResponseHead)
    assert connection.next_event() is NEED_DATA
    assert not connection.reusable
    connection.send_failed()
    connection.receive_data(b"K")
    assert isinstance(connection.next_event(), Response)
    assert not connection.reusable, "it is not known what the engine has got of the request"


def test_bytes_that_come_later_are_of_no_exchange() -> None:
    connection = client(PING)
    connection.receive_data(OK + LENGTH)
    list(connection.events())
    assert connection.reusable
    connection.receive_data(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
    assert not connection.reusable


def test_two_exchanges_on_one_transport() -> None:
    """What the server's side does for it is tested in test_keep_alive."""
    answering: Connection | None = Connection(SERVER, keep_alive=True)
    for call, answer in ((PING, Response(200, (), b"OK")), (START, Response(204)), (HEAD, Response(200, (), b""))):
        assert answering is not None
        asking = Connection(CLIENT)
        answering.receive_data(asking.send(call))
        assert isinstance(answering.next_event(), Request)
        asking.receive_data(answering.send(answer))
        list(asking.events())
        assert asking.reusable
        assert not answering.reusable
        answering = answering.next_exchange()


# ---- what goes with every request ----


def test_a_base_path_stands_before_every_target() -> None:
    how = {"base_path": ("api", "endpoints", "1", "docker")}
    assert Connection(CLIENT, **how).send(PING).startswith(b"GET /api/endpoints/1/docker/_ping HTTP/1.1\r\n")  # type: ignore[arg-type]
    attach = Connection(CLIENT, base_path=["a b", "%2e", "x?y#z/"]).send(Attach("web", api_version="1.41"))
    assert attach.startswith(b"POST /a%20b/%252e/x%3Fy%23z%2F/v1.41/containers/web/attach?")


@pytest.mark.parametrize("path", [("",), (".",), ("a", ".."), ("a", 1)])
def test_a_base_path_cannot_leave_its_place(path: tuple[Any, ...]) -> None:
    with pytest.raises((ValueError, TypeError), match="segment"):
        Connection(CLIENT, base_path=path)


def test_a_base_path_is_not_one_text() -> None:
    with pytest.raises(TypeError, match="tuple of segments"):
        Connection(CLIENT, base_path="/api/endpoints")


def test_headers_go_with_every_request_and_the_requests_own_win() -> None:
    how = {"headers": (("X-Token", "s3"), ("Content-Type", "x/y"), ("User-Agent", "mine"))}
    data = Connection(CLIENT, **how).send(  # type: ignore[arg-type]
        Request("POST", ("a",), body=b"{}", headers=(("content-type", "application/json"), ("x-own", "1")))
    )
    head = data.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]
    assert head == [
        b"Host: localhost",
        b"Content-Length: 2",
        b"X-Token: s3",
        b"User-Agent: mine",
        b"Content-Type: application/json",
        b"X-Own: 1",
    ]
    attach = Connection(CLIENT, **how).send(Attach("web"))  # type: ignore[arg-type]
    assert b"\r\nX-Token: s3\r\n" in attach
    assert b"\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n" in attach


@pytest.mark.parametrize(
    "field",
    [
        *((name, "x") for name in ("Host", "Connection", "Upgrade", "Content-Length", "Transfer-Encoding")),
        ("X-A", "a\r\nX-B: b"),
        ("X A", "a"),
        ("X-A", "a\0"),
        ("X-A", "ж"),
    ],
)
def test_headers_decide_nothing_about_the_connection(field: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="header"):
        Connection(CLIENT, headers=(("X-Token", "s3"), field))


@pytest.mark.parametrize("headers", ["ab", b"ab", {"ab": "c"}, 7, None])
def test_header_fields_are_pairs(headers: Any) -> None:
    """A mapping of two letters would pass for a pair."""
    with pytest.raises(TypeError, match="header fields are pairs"):
        Connection(CLIENT, headers=headers)
    with pytest.raises(TypeError, match="header fields are pairs"):
        Request("GET", ("_ping",), headers=headers)


@pytest.mark.parametrize("headers", [["ab"], [("a",)], [("a", "b", "c")], [("a", 7)], [{"a": "b"}]])
def test_a_header_field_is_a_pair_of_str(headers: Any) -> None:
    with pytest.raises(TypeError, match="a pair of str"):
        Connection(CLIENT, headers=headers)
