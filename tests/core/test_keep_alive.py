"""Several exchanges on one connection: a server with ``keep_alive``."""

from __future__ import annotations

import pytest

from attachproto import (
    CLIENT,
    NEED_DATA,
    SERVER,
    Accepted,
    Attach,
    Connection,
    Continue,
    Framing,
    LocalProtocolError,
    Logs,
    OutputClosed,
    Reason,
    Rejected,
    RemoteProtocolError,
    Request,
    Response,
    ResponseHead,
    Stdin,
)
from attachproto._headers import Headers
from tests.helpers import cuts

PING = b"GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n"
CREATE = b"POST /containers/create HTTP/1.1\r\nHost: d\r\nContent-Length: 2\r\n\r\n{}"
ATTACH = (
    b"POST /containers/web/attach?stream=1&stdin=1 HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
)
OK = Response(200, (), b"OK")
OK_BYTES = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK"
CLOSED = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nOK"


def asked(request: bytes, max_head: int = 65536) -> Connection:
    connection = Connection(SERVER, keep_alive=True, max_head=max_head)
    connection.receive_data(request)
    assert isinstance(connection.next_event(), Request)
    return connection


def after(connection: Connection) -> Connection:
    following = connection.next_exchange()
    assert following is not None
    return following


def test_an_answer_says_nothing_and_another_exchange_follows() -> None:
    connection = asked(PING)
    assert connection.send(OK) == OK_BYTES
    following = after(connection)
    assert following.next_event() is NEED_DATA
    following.receive_data(CREATE)
    request = following.next_event()
    assert isinstance(request, Request)
    assert (request.path, request.body) == (("containers", "create"), b"{}")
    assert following.send(Response(204)) == b"HTTP/1.1 204 No Content\r\n\r\n"
    assert after(following).next_event() is NEED_DATA


@pytest.mark.parametrize("pieces", list(cuts(PING + CREATE + ATTACH + b"stdin")))
def test_what_came_with_a_request_belongs_to_the_next_exchanges(pieces: list[bytes]) -> None:
    connection: Connection = Connection(SERVER, keep_alive=True)
    waiting = list(pieces)
    events: list[object] = []
    while len(events) < 3:
        event = connection.next_event()
        if event is NEED_DATA:
            connection.receive_data(waiting.pop(0))
            continue
        events.append(event)
        if isinstance(event, Request):
            # More may come before the answer is written, and after it.
            if waiting:
                connection.receive_data(waiting.pop(0))
            connection.send(OK)
            if waiting:
                connection.receive_data(waiting.pop(0))
            connection = after(connection)
    assert isinstance(events[2], Attach)
    connection.send(Accepted(Framing.MULTIPLEXED))
    for piece in waiting:
        connection.receive_data(piece)
    assert b"".join(event.data for event in connection.events() if isinstance(event, Stdin)) == b"stdin"
    assert connection.next_exchange() is None


def test_the_end_of_file_belongs_to_the_next_exchange() -> None:
    connection = asked(PING)
    connection.receive_data(b"")
    connection.send(OK)
    with pytest.raises(RemoteProtocolError) as caught:
        after(connection).next_event()
    assert caught.value.reason is Reason.NOTHING_CAME


def test_a_head_before_the_rest() -> None:
    connection = asked(PING)
    assert connection.send(ResponseHead(200)) == b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert connection.next_exchange() is None, "the answer is not whole"
    assert connection.send(OK) == b"2\r\nOK\r\n0\r\n\r\n"
    assert connection.next_exchange() is not None


def test_limits_are_kept() -> None:
    connection = asked(PING, max_head=100)
    connection.send(OK)
    following = after(connection)
    following.receive_data(b"GET /" + b"x" * 100)
    with pytest.raises(RemoteProtocolError) as caught:
        following.next_event()
    assert caught.value.reason is Reason.HEAD_TOO_LARGE


@pytest.mark.parametrize(
    "request_",
    [
        PING[:-2] + b"Connection: close\r\n\r\n",
        PING[:-2] + b"Connection: x, Close\r\n\r\n",
        PING[:-2] + b"Connection: x\r\nConnection: close\r\n\r\n",
        PING.replace(b"1.1", b"1.0"),
        PING.replace(b"1.1", b"1.0")[:-2] + b"Connection: keep-alive\r\n\r\n",
        # With two framings of its body, another reader on the way may see another end of it.
        CREATE[:-4] + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
)
def test_a_request_that_ends_the_connection(request_: bytes) -> None:
    connection = asked(request_)
    assert connection.send(OK) == CLOSED
    assert connection.next_exchange() is None


def test_an_answer_that_ends_the_connection() -> None:
    connection = asked(PING)
    assert connection.send(Response(200, (("Connection", "close"),), b"OK")) == CLOSED
    assert connection.next_exchange() is None
    for answer in (
        Response(200, (("connection", "keep-alive"),), b"OK"),
        Rejected(404, (("connection", "keep-alive"),), b"no"),
    ):
        with pytest.raises(LocalProtocolError, match="'keep-alive'"):
            asked(PING).send(answer)


REFUSAL_BYTES = b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno"


def test_a_refusal_with_a_length_is_an_answer_like_others() -> None:
    connection = asked(PING + CREATE)
    assert connection.send(Rejected(404, (("content-length", "2"),), b"no")) == REFUSAL_BYTES
    request = after(connection).next_event()
    assert isinstance(request, Request)
    assert request.path == ("containers", "create")


def test_a_refusal_without_a_length_ends_the_connection() -> None:
    connection = asked(PING)
    assert connection.send(Rejected(404, (), b"no")) == b"HTTP/1.1 404 Not Found\r\n\r\nno"
    assert connection.next_exchange() is None


def test_a_refusal_with_a_length_says_that_it_ends_the_connection() -> None:
    for request in (PING[:-2] + b"Connection: close\r\n\r\n", PING.replace(b"1.1", b"1.0")):
        connection = asked(request)
        assert connection.send(Rejected(404, (("content-length", "2"),), b"no")) == (
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno"
        )
        assert connection.next_exchange() is None


@pytest.mark.parametrize("keep_alive", [False, True])
@pytest.mark.parametrize(
    ("headers", "written"),
    [
        ((), b""),
        ((("content-length", "2"),), b"Content-Length: 2\r\nConnection: close\r\n"),
        ((("connection", "close"), ("content-length", "2")), b"Connection: close\r\nContent-Length: 2\r\n"),
    ],
)
def test_the_refusal_of_a_stream_ends_the_connection_and_says_so(
    keep_alive: bool, headers: Headers, written: bytes
) -> None:
    """RFC 9112, 9.6. Without a length the end of the connection is the end of the body, as on dockerd."""
    connection = Connection(SERVER, keep_alive=keep_alive)
    connection.receive_data(ATTACH)
    assert isinstance(connection.next_event(), Attach)
    data = connection.send(Rejected(404, headers, b"no"))
    assert data == b"HTTP/1.1 404 Not Found\r\n" + written + b"\r\nno"
    assert connection.next_exchange() is None


LENGTH = (("content-length", "2"),)


@pytest.mark.parametrize("keep_alive", [False, True])
@pytest.mark.parametrize("asks_to_close", [False, True])
@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
@pytest.mark.parametrize(
    "answer",
    [
        OK,
        Response(204),
        Response(404, LENGTH, b"no"),
        Response(404, (("connection", "close"),), b"no"),
        Rejected(404, (), b"no"),
        Rejected(404, (("content-length", "0"),)),
        Rejected(404, LENGTH, b"no"),
        Rejected(404, (*LENGTH, ("connection", "close")), b"no"),
    ],
)
def test_both_ends_agree_whether_the_connection_goes_on(
    answer: Response | Rejected, method: str, asks_to_close: bool, keep_alive: bool
) -> None:
    client = Connection(CLIENT)
    connection = Connection(SERVER, keep_alive=keep_alive)
    request = client.send(Request(method, ("_ping",)))
    if asks_to_close:
        request = request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)
    connection.receive_data(request)
    assert isinstance(connection.next_event(), Request)
    client.receive_data(connection.send(answer))
    list(client.events())
    assert client.reusable is (connection.next_exchange() is not None)


def test_a_body_that_was_not_read_ends_the_connection() -> None:
    connection = Connection(SERVER, keep_alive=True)
    connection.receive_data(CREATE[:-6] + b"\r\nExpect: 100-continue\r\n\r\n")
    assert connection.next_event() is NEED_DATA
    assert connection.send(Response(413)).startswith(b"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\n")
    assert connection.next_exchange() is None


def test_a_body_that_was_asked_for_ends_nothing() -> None:
    connection = Connection(SERVER, keep_alive=True)
    connection.receive_data(CREATE[:-6] + b"\r\nExpect: 100-continue\r\n\r\n")
    assert connection.next_event() is NEED_DATA
    connection.send(Continue())
    connection.receive_data(b"{}" + PING)
    assert isinstance(connection.next_event(), Request)
    assert connection.send(OK) == OK_BYTES
    assert isinstance(after(connection).next_event(), Request)


def test_a_request_that_cannot_be_read_ends_the_connection() -> None:
    connection = Connection(SERVER, keep_alive=True)
    connection.receive_data(b"GET /_ping HTTP/1.1\r\n\r\n")
    with pytest.raises(RemoteProtocolError):
        connection.next_event()
    assert b"Connection: close\r\n" in connection.send(Response(400))
    connection.receive_data(PING)
    assert connection.next_exchange() is None


def test_a_failed_write_ends_the_connection() -> None:
    connection = asked(PING)
    connection.send(OK)
    connection.send_failed()
    assert connection.next_exchange() is None


def test_a_stream_ends_the_connection() -> None:
    connection = Connection(SERVER, keep_alive=True)
    connection.receive_data(b"GET /containers/web/logs?stdout=1 HTTP/1.1\r\nHost: d\r\n\r\n")
    assert isinstance(connection.next_event(), Logs)
    chunked = (("transfer-encoding", "chunked"),)
    assert b"Connection: close\r\n" in connection.send(Accepted(Framing.MULTIPLEXED, 200, chunked))
    connection.send(OutputClosed())
    assert connection.next_exchange() is None


def test_without_the_option_a_connection_has_one_exchange() -> None:
    connection = Connection(SERVER)
    assert connection.next_exchange() is None
    connection.receive_data(PING)
    connection.next_event()
    assert connection.send(OK) == CLOSED
    assert connection.next_exchange() is None
    client = Connection(CLIENT)
    client.send(Request("GET", ("_ping",)))
    client.receive_data(OK_BYTES)
    assert len(list(client.events())) == 2
    assert client.next_exchange() is None
