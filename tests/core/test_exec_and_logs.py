"""The other two requests that open a stream: value to wire and back, and what a client makes of the answers."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from attachproto import (
    CLIENT,
    SERVER,
    Accepted,
    Connection,
    ExecStart,
    Framing,
    LocalProtocolError,
    Logs,
    OutputClosed,
    RawOutput,
    Reason,
    Rejected,
    RemoteProtocolError,
    Request,
    State,
    Stderr,
    Stdin,
    StdinClosed,
    Stdout,
    StreamRequest,
)
from tests.helpers import H101M, H101R, Pair, bare, check_every_cut, client, frame, refused

ID = "e" * 64
CHUNKED = ("transfer-encoding", "chunked")
JSON = b"Content-Type: application/json\r\n"


def received(data: bytes) -> Any:
    server = Connection(SERVER)
    server.receive_data(data)
    return server.next_event()


def exec_request(body: bytes, method: str = "POST", version: str = "1.45") -> Any:
    head = f"{method} /v{version}/exec/{ID}/start HTTP/1.1\r\nHost: d\r\nContent-Length: {len(body)}\r\n".encode()
    return received(head + JSON + b"Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n" + body)


class TestExecStart:
    def test_on_the_wire(self) -> None:
        data = Connection(CLIENT).send(ExecStart(ID, tty=True, console_size=(24, 80), api_version="1.42"))
        head, _, body = data.partition(b"\r\n\r\n")
        assert head.startswith(f"POST /v1.42/exec/{ID}/start HTTP/1.1\r\n".encode())
        assert b"\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n" in head
        assert b"Content-Type: application/json" in head
        assert f"Content-Length: {len(body)}\r\n".encode() in head
        assert json.loads(body) == {"Detach": False, "Tty": True, "ConsoleSize": [24, 80]}

    @pytest.mark.parametrize(
        "request_",
        [
            ExecStart(ID, tty=False),
            ExecStart(ID, tty=True),
            ExecStart("abc", tty=True, console_size=(0, 132), api_version="1.51"),
        ],
    )
    def test_what_a_client_sends_a_server_reads(self, request_: ExecStart) -> None:
        got = received(Connection(CLIENT).send(request_))
        assert isinstance(got, ExecStart)
        assert got == request_  # the TTY travels, unlike attach's

    def test_as_go_writes_it(self) -> None:
        assert exec_request(b'{"Detach":false,"Tty":false}\n') == ExecStart(ID, tty=False, api_version="1.45")
        assert exec_request(b"") == ExecStart(ID, tty=False, api_version="1.45")
        assert exec_request(b'{"Tty":true,"ConsoleSize":[24,80]}').console_size == (24, 80)
        assert exec_request(b'{"Tty":false,"ConsoleSize":[24,80]}').console_size is None
        assert exec_request(b'{"Tty":true,"ConsoleSize":null}').console_size is None
        assert exec_request(b'{"tty":true,"CONSOLESIZE":[1,2]}').console_size == (1, 2)
        assert exec_request(b'{"Tty":true,"ConsoleSize":[24,80]}', version="1.41").console_size is None
        assert exec_request(b'{"Tty":true,"ConsoleSize":"x"}', version="1.41").console_size is None

    @pytest.mark.parametrize(
        ("size", "read"),
        [
            (b"[]", (0, 0)),
            (b"[1]", (1, 0)),
            (b"[1,2,3]", (1, 2)),
            (b'[1,2,"x"]', (1, 2)),
            (b"[null,2]", (0, 2)),
            (b"[18446744073709551615,2]", (2**64 - 1, 2)),
        ],
    )
    def test_a_size_that_go_reads(self, size: bytes, read: tuple[int, int]) -> None:
        """dockerd 26.1 and 28.5 accept each of these, on a TTY and without one."""
        assert exec_request(b'{"Tty":true,"ConsoleSize":%s}' % size).console_size == read
        assert exec_request(b'{"ConsoleSize":%s}' % size).console_size is None

    @pytest.mark.parametrize("tty", [b"true", b"false"])
    @pytest.mark.parametrize(
        "size",
        [b"[-1,80]", b"[1.5,2]", b'["a",1]', b"[true,1]", b'"x"', b"{}", b"true", b"5", b"[18446744073709551616,1]"],
    )
    def test_a_size_that_go_refuses(self, tty: bytes, size: bytes) -> None:
        """dockerd 26.1 and 28.5 answer 400 to each of these, also without a TTY."""
        assert isinstance(exec_request(b'{"Tty":%s,"ConsoleSize":%s}' % (tty, size)), Request)

    @pytest.mark.parametrize(
        "body",
        [
            b'{"Detach":true}',
            b'{"detach":true}',
            b'{"Tty":"x"}',
            b'{"Tty":true,"ConsoleSize":[-1]}',
            b"\xef\xbb\xbf{}",
            b"{",
            b"[]",
            b"5",
            b"\xff",
            b'{"Tty":true,"ConsoleSize":["a","b"]}',
            b'{"a":' * 50_000,
        ],
    )
    def test_what_is_no_valid_one_is_a_plain_request(self, body: bytes) -> None:
        got = exec_request(body)
        assert isinstance(got, Request)
        assert got.body == body

    def test_only_a_post_to_start(self) -> None:
        assert isinstance(exec_request(b"", method="PUT"), Request)
        assert isinstance(received(b"POST /exec/x/resize HTTP/1.1\r\nHost: d\r\n\r\n"), Request)
        assert isinstance(received(b"POST /exec/x%2Fy/start HTTP/1.1\r\nHost: d\r\n\r\n"), Request)

    def test_what_cannot_be_built(self) -> None:
        with pytest.raises(ValueError, match=r"exec_id is a name or ID .*, not 'a/b'"):
            ExecStart("a/b", tty=False)
        with pytest.raises(TypeError):
            ExecStart(ID)  # type: ignore[call-arg]
        with pytest.raises(TypeError):
            ExecStart(ID, tty=None)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="needs tty=True"):
            ExecStart(ID, tty=False, console_size=(24, 80))
        with pytest.raises(ValueError, match=r"needs API 1\.42 or later, not 1\.41"):
            ExecStart(ID, tty=True, console_size=(24, 80), api_version="1.41")

    @pytest.mark.parametrize(
        "wrong", [[24, 80], 5, "80", (24,), (24, 80, 1), (24, "80"), (True, 80), (24.0, 80), {24: 80}]
    )
    def test_a_console_size_is_a_pair_of_ints(self, wrong: Any) -> None:
        with pytest.raises(TypeError, match=re.escape(f"a tuple of height and width such as (24, 80), not {wrong!r}")):
            ExecStart(ID, tty=True, console_size=wrong)

    def test_a_console_size_is_not_negative(self) -> None:
        with pytest.raises(ValueError, match=r"0 or more characters, not \(-1, 80\)"):
            ExecStart(ID, tty=True, console_size=(-1, 80))
        assert len({ExecStart(ID, tty=True, console_size=(0, 0))}) == 1

    def test_the_stream(self) -> None:
        """Its TTY is known from the request, so no answer leaves a doubt; stdin is always allowed."""
        pair = Pair()
        pair.send(CLIENT, ExecStart(ID, tty=False))
        pair.send(SERVER, Accepted(Framing.MULTIPLEXED))
        pair.send(CLIENT, Stdin(b"in"), StdinClosed())
        pair.send(SERVER, Stdout(b"out"), Stderr(b"err"), OutputClosed())
        check_every_cut(
            lambda: client(ExecStart(ID, tty=True)),
            b"HTTP/1.1 100 Continue\r\n\r\n" + H101R + b"$ ",
            [
                Accepted(Framing.RAW, 101, (("content-type", "application/vnd.docker.raw-stream"), *UPGRADE)),
                RawOutput(b"$ "),
                OutputClosed(),
            ],
        )

    def test_without_stdin_nothing_can_be_sent(self) -> None:
        """Also when the answer is an upgrade; the server cannot know."""
        connection = client(ExecStart(ID, tty=False, stdin=False))
        connection.receive_data(H101M + frame(1, b"out"))
        assert isinstance(connection.next_event(), Accepted)
        assert connection.our_state is State.DONE
        for event in (Stdin(b"x"), StdinClosed()):
            refused(connection, event)
        assert connection.next_event() == Stdout(b"out")
        with pytest.raises(TypeError, match="stdin is of type bool"):
            ExecStart(ID, tty=False, stdin=None)  # type: ignore[arg-type]

    @pytest.mark.parametrize("field", [CHUNKED, ("connection", "close")])
    def test_a_server_may_answer_as_a_proxy_does(self, field: tuple[str, str]) -> None:
        """The request does not say whether stdin is wanted, so the server's user must know it."""
        server = Connection(SERVER)
        client = Connection(CLIENT)
        server.receive_data(client.send(ExecStart(ID, tty=False, stdin=False)))
        assert isinstance(server.next_event(), ExecStart)
        client.receive_data(server.send(Accepted(Framing.MULTIPLEXED, 200, (field,))))
        client.receive_data(server.send(Stdout(b"out")))
        end = server.send(OutputClosed())
        client.receive_data(end if isinstance(end, bytes) else b"")
        assert list(client.events())[1:] == [Stdout(b"out"), OutputClosed()]

    def test_a_refusal(self) -> None:
        connection = client(ExecStart(ID, tty=False))
        connection.receive_data(b"HTTP/1.1 409 Conflict\r\nContent-Length: 16\r\n\r\n" + b'{"message":"no"}')
        event = connection.next_event()
        assert isinstance(event, Rejected)
        assert event.message == "no"


UPGRADE = (("connection", "Upgrade"), ("upgrade", "tcp"))


class TestLogs:
    def test_on_the_wire(self) -> None:
        data = Connection(CLIENT).send(Logs("web", api_version="1.51"))
        assert data.startswith(
            b"GET /v1.51/containers/web/logs?details=0&follow=0&stderr=1&stdout=1&timestamps=0&tail=all HTTP/1.1\r\n"
        )
        assert b"Upgrade" not in data
        assert b"Content-Length" not in data
        target = Logs("web", follow=True, stderr=False, since=1.5, until=2, timestamps=True, tail=10, details=True)
        assert target.to_request().target == (
            "/containers/web/logs?details=1&follow=1&stderr=0&stdout=1&timestamps=1&tail=10&since=1.5&until=2"
        )
        assert Logs("web", since=0, until="0") == Logs("web")
        assert Logs("web", since=1_700_000_000.25).since == "1700000000.25"
        assert Logs("web", since="1700000000.000000001").since == "1700000000.000000001"

    @pytest.mark.parametrize(
        "request_",
        [
            Logs("web"),
            Logs("web", follow=True, stdout=False, since="7.5", until=9, timestamps=True, tail=0, details=True),
        ],
    )
    def test_what_a_client_sends_a_server_reads(self, request_: Logs) -> None:
        assert bare(received(Connection(CLIENT).send(request_))) == bare(request_)

    def test_read_as_dockerd_reads(self) -> None:
        def read(query: str) -> Any:
            return received(f"GET /containers/web/logs?{query} HTTP/1.1\r\nHost: d\r\n\r\n".encode())

        assert read("stdout=1&since=0&until=&tail=bad") == Logs("web", stderr=False)
        assert read("stdout=1&stdout=0&stderr=yes&tail=5") == Logs("web", tail=5)
        rfc_3339 = "stdout=1&since=2026-01-31T12:00:00Z"  # dockerd refuses it: only its own client converts
        for query in ("", "follow=1", "stdout=1&since=bad", "stdout=1&since=10m", "stdout=1&until=-1", rfc_3339):
            assert isinstance(read(query), Request), query
        assert isinstance(received(b"POST /containers/web/logs?stdout=1 HTTP/1.1\r\nHost: d\r\n\r\n"), Request)

    def test_what_cannot_be_built(self) -> None:
        with pytest.raises(ValueError, match="neither stdout nor stderr"):
            Logs("web", stdout=False, stderr=False)
        with pytest.raises(ValueError, match=r"container is a name or ID .*, not 'a/b'"):
            Logs("a/b")
        with pytest.raises(ValueError, match="since is seconds since the epoch"):
            Logs("web", since="10m")
        with pytest.raises(ValueError, match="until is seconds since the epoch"):
            Logs("web", until=-1)
        with pytest.raises(ValueError, match="tail is 0 or more, not -1"):
            Logs("web", tail=-1)
        with pytest.raises(TypeError):
            Logs("web", tail="all")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="since is seconds"):
            Logs("web", since=True)

    @pytest.mark.parametrize(
        "kind", ["", "application/octet-stream", "text/plain; charset=utf-8", "application/vnd.docker.raw-stream"]
    )
    @pytest.mark.parametrize("tty", [False, True])
    def test_any_200_but_a_page_is_logs(self, kind: str, tty: bool) -> None:
        fields = (("content-type", kind),) if kind else ()
        head = "".join(["HTTP/1.1 200 OK\r\n", *(f"{name}: {value}\r\n" for name, value in (*fields, CHUNKED)), "\r\n"])
        body = frame(1, b"a\n")
        check_every_cut(
            lambda: client(Logs("web", tty=tty)),
            head.encode() + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body),
            [
                Accepted(Framing.RAW if tty else Framing.MULTIPLEXED, 200, (*fields, CHUNKED)),
                RawOutput(body) if tty else Stdout(b"a\n"),
                OutputClosed(),
            ],
        )

    def test_a_page_is_none(self) -> None:
        connection = client(Logs("web"))
        connection.receive_data(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\nhi")
        with pytest.raises(RemoteProtocolError, match="text/html") as caught:
            connection.next_event()
        assert caught.value.reason is Reason.NOT_A_STREAM

    def test_a_101_is_none(self) -> None:
        connection = client(Logs("web"))
        connection.receive_data(H101M)
        with pytest.raises(RemoteProtocolError, match="101") as caught:
            connection.next_event()
        assert caught.value.reason is Reason.UNASKED_UPGRADE

    def test_where_nothing_tells_the_framing(self) -> None:
        connection = client(Logs("web"))
        connection.receive_data(b"HTTP/1.1 200 OK\r\n\r\n" + frame(2, b"e"))
        event = connection.next_event()
        assert isinstance(event, Accepted)
        assert event.framing is None
        connection.use_framing(Framing.MULTIPLEXED)
        assert connection.next_event() == Stderr(b"e")

    def test_nothing_can_be_sent(self) -> None:
        """A half-close ends the stream on every engine (live.md, 23)."""
        connection = client(Logs("web", tty=False))
        connection.receive_data(b"HTTP/1.1 200 OK\r\n\r\n")
        connection.next_event()
        assert connection.our_state is State.DONE
        for event in (Stdin(b"x"), StdinClosed()):
            refused(connection, event)

    def test_both_ends(self) -> None:
        pair = Pair()
        pair.send(CLIENT, Logs("web", tty=False))
        with pytest.raises(LocalProtocolError, match="did not ask for an upgrade"):
            pair.ends[SERVER].send(Accepted(Framing.MULTIPLEXED))
        pair.send(SERVER, Accepted(Framing.MULTIPLEXED, 200, (CHUNKED,)))
        pair.send(SERVER, Stdout(b"a\n"), Stderr(b"b\n"), OutputClosed())


def test_they_are_stream_requests() -> None:
    requests: list[StreamRequest] = [ExecStart(ID, tty=False), ExecStart(ID, tty=False, stdin=False), Logs("web")]
    assert [request.wants_stdin for request in requests] == [True, False, False]
    assert [request.upgrade for request in requests] == ["tcp", "tcp", None]
