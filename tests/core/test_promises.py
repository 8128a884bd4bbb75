"""The thirteen promises of the core, one class each. The tables in the files beside this one prove them in the wide."""

from __future__ import annotations

import copy
import pickle
import sys
import threading
import tracemalloc
from typing import Any

import attrs
import pytest

from attachproto import (
    CLIENT,
    NEED_DATA,
    SEND_EOF,
    SERVER,
    Accepted,
    Attach,
    AttachOptions,
    Connection,
    Continue,
    Event,
    FrameDecoder,
    Framing,
    LocalProtocolError,
    OutputClosed,
    RawOutput,
    Reason,
    Rejected,
    RemoteProtocolError,
    Request,
    Response,
    ResponseHead,
    Role,
    State,
    Stderr,
    Stdin,
    StdinClosed,
    Stdout,
    Systemerr,
)
from attachproto._state import Trigger
from tests.helpers import (
    EOF,
    H101M,
    H101R,
    H200M,
    Pair,
    client,
    cuts,
    frame,
    joined,
    nothing_there,
    read_all,
    refused,
    server,
)

ASK = Attach("web", tty=False)
ASK_STDIN = Attach("web", AttachOptions(stdin=True), tty=False)
PING = Request("GET", ("_ping",))
RAW_TYPE = (("content-type", "application/vnd.docker.raw-stream"),)
CHUNKED = (("transfer-encoding", "chunked"),)


def attached(request: Attach = ASK_STDIN, head: bytes = H101M) -> Connection:
    """A client whose stream is open."""
    connection = client(request)
    connection.receive_data(head)
    assert isinstance(connection.next_event(), Accepted)
    return connection


class TestPromise01BytesInEventsOut:
    def test_receive_data_only_stores_and_takes_any_buffer(self) -> None:
        connection = client(ASK)
        connection.receive_data(bytearray(b"no HTTP"))
        connection.receive_data(memoryview(b" at all"))
        connection.receive_data(EOF)
        with pytest.raises(RemoteProtocolError):
            connection.next_event()

    def test_what_is_no_buffer_is_a_type_error(self) -> None:
        with pytest.raises(TypeError):
            client(ASK).receive_data(3)  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            attached().send(Stdin(3))  # type: ignore[arg-type]

    def test_one_event_or_need_data_or_an_error(self) -> None:
        connection = client(ASK)
        assert connection.next_event() is NEED_DATA
        connection.receive_data(H101M + frame(1, b"x"))
        assert isinstance(connection.next_event(), Accepted)
        assert connection.next_event() == Stdout(b"x")
        assert connection.next_event() is NEED_DATA

    def test_the_last_event_comes_once(self) -> None:
        connection = attached()
        connection.receive_data(EOF)
        assert connection.next_event() == OutputClosed()
        for _ in range(2):
            with pytest.raises(LocalProtocolError, match="the exchange is over"):
                connection.next_event()
        assert list(connection.events()) == []

    def test_need_data_never_after_end_of_file(self) -> None:
        for pieces in cuts(H101M + frame(2, b"err")):
            for stop in range(len(pieces) + 1):
                connection = client(ASK)
                for piece in pieces[:stop]:
                    connection.receive_data(piece)
                connection.receive_data(EOF)
                try:
                    while not isinstance(event := connection.next_event(), OutputClosed):
                        assert event is not NEED_DATA
                except RemoteProtocolError:
                    pass

    def test_nothing_can_come_before_something_was_asked(self) -> None:
        connection = Connection(CLIENT)
        connection.receive_data(H101M)
        with pytest.raises(LocalProtocolError, match="no request was sent yet"):
            connection.next_event()

    def test_roles_and_states_are_read_only(self) -> None:
        connection = Connection(SERVER)
        assert (connection.our_role, connection.their_role) == (SERVER, CLIENT)
        assert (connection.our_state, connection.their_state) == (State.IDLE, State.IDLE)
        for name in ("our_role", "their_role", "our_state", "their_state"):
            with pytest.raises(AttributeError):
                setattr(connection, name, None)

    def test_the_signals_are_no_bytes(self) -> None:
        assert repr(NEED_DATA) == "NEED_DATA"
        assert repr(SEND_EOF) == "SEND_EOF"
        assert repr(CLIENT) == "CLIENT"
        assert repr(State.IDLE) == "IDLE"
        with pytest.raises(TypeError):
            b"".join([SEND_EOF])  # type: ignore[list-item]

    def test_what_is_no_event_is_a_type_error(self) -> None:
        with pytest.raises(TypeError, match=r"send\(\) takes an event"):
            Connection(CLIENT).send(b"bytes")  # type: ignore[call-overload]


class TestPromise02NeverAByteLostBehindTheAnswer:
    @pytest.mark.parametrize("head", [H101M, H101R, H200M, H101M.replace(b"\r\n", b"\n")])
    def test_frames_glued_to_the_head(self, head: bytes) -> None:
        for pieces in cuts(head + frame(1, b"out") + frame(2, b"err")):
            events, error = read_all(client(ASK), [*pieces, EOF])
            assert error is None
            assert joined(events[1:]) == [Stdout(b"out"), Stderr(b"err"), OutputClosed()]

    def test_all_was_received_before_the_first_pull(self) -> None:
        connection = client(ASK)
        for piece in (H101M[:9], H101M[9:] + frame(1, b"a"), frame(1, b"b"), EOF):
            connection.receive_data(piece)
        assert list(connection.events())[1:] == [Stdout(b"a"), Stdout(b"b"), OutputClosed()]


class TestPromise03PayloadIsBytes:
    def test_raw_output_is_the_very_object(self) -> None:
        connection = attached(Attach("web", tty=True), H101R)
        chunk = b"x" * 100_000
        connection.receive_data(chunk)
        event = connection.next_event()
        assert isinstance(event, RawOutput)
        assert event.data is chunk

    def test_stdin_is_the_very_object(self) -> None:
        data = b"x" * 100_000
        assert attached().send(Stdin(data)) is data
        assert attached().send(Stdin(bytearray(b"copied"))) == b"copied"  # type: ignore[arg-type]

    def test_a_frame_of_4_gib_costs_no_memory(self) -> None:
        connection = attached()
        chunk = bytes(65536)
        tracemalloc.start()
        try:
            connection.receive_data(b"\x01\0\0\0\xff\xff\xff\xff")
            size = 0
            for _ in range(256 * 1024 * 1024 // len(chunk)):
                connection.receive_data(chunk)
                for event in connection.events():
                    assert isinstance(event, Stdout)
                    size += len(event.data)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert size == 256 * 1024 * 1024
        assert peak < 2 * 1024 * 1024


class TestPromise04TtyIsKnownNeverGuessed:
    def unknown(self) -> Connection:
        connection = client(Attach("web"))
        connection.receive_data(H101R + frame(1, b"x"))
        event = connection.next_event()
        assert isinstance(event, Accepted)
        assert event.framing is None
        assert connection.their_state is State.FRAMING_UNKNOWN
        return connection

    @pytest.mark.parametrize("framing", Framing)
    def test_the_bytes_wait_for_use_framing(self, framing: Framing) -> None:
        connection = self.unknown()
        for _ in range(2):
            with pytest.raises(LocalProtocolError, match=r"look at the container's Config.Tty .* call use_framing\(\)"):
                connection.next_event()
        connection.receive_data(frame(1, b"y"))
        connection.use_framing(framing)
        connection.receive_data(EOF)
        if framing is Framing.MULTIPLEXED:
            assert list(connection.events()) == [Stdout(b"x"), Stdout(b"y"), OutputClosed()]
        else:
            assert joined(connection.events()) == [RawOutput(frame(1, b"x") + frame(1, b"y")), OutputClosed()]

    def test_it_refuses_at_once_also_when_nothing_waits(self) -> None:
        connection = client(Attach("web"))
        connection.receive_data(H101R)
        connection.next_event()
        with pytest.raises(LocalProtocolError, match="use_framing"):
            list(connection.events())

    def test_use_framing_once_and_only_then(self) -> None:
        with pytest.raises(LocalProtocolError, match=r"cannot send use_framing\(\) in this state"):
            client(ASK).use_framing(Framing.RAW)
        with pytest.raises(LocalProtocolError):
            attached().use_framing(Framing.RAW)
        connection = self.unknown()
        with pytest.raises(ValueError, match="neither"):
            connection.use_framing("neither")  # type: ignore[arg-type]
        connection.use_framing(Framing.RAW)
        with pytest.raises(LocalProtocolError):
            connection.use_framing(Framing.RAW)

    def test_stdin_does_not_wait_for_it(self) -> None:
        connection = client(Attach("web", AttachOptions(stdin=True)))
        connection.receive_data(H101R)
        connection.next_event()
        assert connection.send(Stdin(b"x")) == b"x"

    def test_multiplexed_against_a_tty(self) -> None:
        connection = client(Attach("web", tty=True))
        connection.receive_data(H101M)
        with pytest.raises(RemoteProtocolError, match="tty=True"):
            connection.next_event()


class TestPromise05HonestEnds:
    def test_a_clean_end_is_output_closed(self) -> None:
        connection = attached()
        connection.receive_data(frame(1, b"x"))
        connection.receive_data(EOF)
        assert list(connection.events()) == [Stdout(b"x"), OutputClosed()]

    def test_an_end_inside_a_frame_says_how_much_is_missing(self) -> None:
        connection = attached()
        connection.receive_data(frame(2, b"abc", length=10))
        connection.receive_data(EOF)
        assert connection.next_event() == Stderr(b"abc")
        for _ in range(2):
            with pytest.raises(RemoteProtocolError, match="Stderr frame of 10 bytes: 7 are missing"):
                connection.next_event()
        assert connection.their_state is State.ERROR

    def test_systemerr_is_an_event_and_the_stream_goes_on(self) -> None:
        connection = attached()
        connection.receive_data(frame(3, b"boom") + frame(0, b"in") + frame(1, b"out"))
        assert joined(connection.events()) == [Systemerr(b"boom"), Stdout(b"inout")]

    def test_after_an_error_bytes_are_not_kept(self) -> None:
        connection = attached()
        connection.receive_data(frame(9, b""))
        with pytest.raises(RemoteProtocolError):
            connection.next_event()
        tracemalloc.start()
        try:
            for _ in range(100):
                connection.receive_data(bytes(100_000))
            assert tracemalloc.get_traced_memory()[0] < 1_000_000
        finally:
            tracemalloc.stop()


class TestPromise06NothingToTheContainerBeforeTheAnswer:
    def test_not_before_accepted(self) -> None:
        connection = client(ASK_STDIN)
        for event in (Stdin(b"x"), StdinClosed()):
            assert f"the client cannot send {type(event).__name__} in this state" in refused(connection, event)
        connection.receive_data(H101M)
        connection.next_event()
        assert connection.send(Stdin(b"x")) == b"x"

    def test_not_without_stdin(self) -> None:
        connection = attached(ASK)
        for event in (Stdin(b"x"), StdinClosed()):
            refused(connection, event)

    def test_not_after_a_refusal(self) -> None:
        connection = client(ASK_STDIN)
        connection.receive_data(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        assert isinstance(connection.next_event(), Rejected)
        refused(connection, Stdin(b"x"))

    def test_not_into_a_request_that_an_intermediary_has_ended(self) -> None:
        connection = client(ASK_STDIN)
        connection.receive_data(H200M[:-2] + b"Transfer-Encoding: chunked\r\n\r\n")
        with pytest.raises(RemoteProtocolError, match="Stdin cannot be sent") as caught:
            connection.next_event()
        assert caught.value.reason is Reason.STDIN_IMPOSSIBLE

    def test_a_request_to_attach_has_no_body(self) -> None:
        data = Connection(CLIENT).send(ASK_STDIN)
        assert data.endswith(b"\r\n\r\n")
        assert b"Content-Length: 0\r\n" in data


class TestPromise07HalfCloseOnlyWhenAsked:
    def test_a_client_half_closes_for_stdin_closed(self) -> None:
        connection = attached()
        assert connection.send(Stdin(b"")) == b""
        assert connection.send(StdinClosed()) is SEND_EOF
        refused(connection, Stdin(b"x"))
        refused(connection, StdinClosed())
        connection.receive_data(frame(1, b"after"))
        assert connection.next_event() == Stdout(b"after")

    def test_a_server_half_closes_for_output_closed(self) -> None:
        connection = server(ASK_STDIN)
        connection.send(Accepted(Framing.MULTIPLEXED))
        assert connection.send(OutputClosed()) is SEND_EOF
        refused(connection, Stdout(b"x"))

    def test_the_end_of_a_chunked_answer_is_bytes(self) -> None:
        connection = server(ASK)
        connection.send(Accepted(Framing.MULTIPLEXED, 200, CHUNKED))
        assert connection.send(OutputClosed()) == b"0\r\n\r\n"

    def test_output_closed_does_not_forbid_stdin(self) -> None:
        connection = attached()
        connection.receive_data(EOF)
        assert connection.next_event() == OutputClosed()
        assert connection.send(Stdin(b"still taken by dockerd")) == b"still taken by dockerd"
        assert connection.send(StdinClosed()) is SEND_EOF

    def test_nothing_else_half_closes(self) -> None:
        pair = Pair()
        for role, event in (
            (CLIENT, ASK_STDIN),
            (SERVER, Continue()),
            (SERVER, Accepted(Framing.MULTIPLEXED)),
            (CLIENT, Stdin(b"")),
            (SERVER, Stdout(b"")),
        ):
            data = pair.ends[role].send(event)
            assert isinstance(data, bytes)
            if data:
                pair.ends[role.other].receive_data(data)
            list(pair.ends[role.other].events())
        assert isinstance(server(ASK).send(Rejected(404)), bytes)
        assert isinstance(server(PING).send(Response(200)), bytes)


class TestPromise08ARefusedCallChangesNothing:
    @pytest.mark.parametrize(
        "event",
        [
            Accepted(None),
            Accepted(Framing.RAW, 204),
            Accepted(Framing.RAW, 200, CHUNKED),
            Accepted(Framing.RAW, 200, (("connection", "close"),)),
            Accepted(Framing.RAW, 101, CHUNKED),
            Accepted(Framing.RAW, 101, (("content-length", "5"),)),
            Accepted(Framing.RAW, 101, (("bad name", "x"),)),
            Accepted(Framing.RAW, 101, (("connection", "close"),)),
            Accepted(Framing.RAW, 101, (("content-type", "a"), ("content-type", "b"))),
            Accepted(Framing.RAW, 200, (("transfer-encoding", "Chunked"),)),
            Accepted(Framing.RAW, "101"),  # type: ignore[arg-type]
            Rejected(404, CHUNKED, b"no"),
            Rejected(404, (("content-length", "2"), ("content-length", "2")), b"no"),
            Rejected(600),
            Rejected("404"),  # type: ignore[arg-type]
            Rejected(200),
            Rejected(404, (("content-length", "5"),), b"four"),
            Rejected(404, (("x", "a\r\nb"),)),
            Response(200),
            ResponseHead(200),
            Stdout(b"x"),
            OutputClosed(),
            Stdin(b"x"),
        ],
    )
    def test_a_server_can_still_answer(self, event: Event) -> None:
        connection = server(ASK_STDIN)
        refused(connection, event)
        assert connection.send(Accepted(Framing.RAW)) == H101R
        assert connection.send(RawOutput(b"x")) == b"x"

    @pytest.mark.parametrize(
        "event",
        [
            Response(600),
            Response(204, (), b"body"),
            Response(204, (("content-length", "0"),)),
            Response(200, (("transfer-encoding", ""),)),
            Response(200.0),  # type: ignore[arg-type]
            Response(200, (("transfer-encoding", "chunked"),)),
            Response(200, (("connection", "keep-alive"),)),
            Response(200, (("content-length", "3"),), b"four"),
            Response(200, (("x", "\n"),)),
            ResponseHead(100),
            ResponseHead(200, (("x", "\n"),)),
            Accepted(Framing.RAW),
            Rejected(200),
        ],
    )
    def test_a_server_can_still_respond(self, event: Event) -> None:
        connection = server(PING)
        refused(connection, event)
        assert connection.send(Response(200, (), b"OK")).endswith(b"Content-Length: 2\r\n\r\nOK")

    def test_encoding_changes_nothing(self) -> None:
        """Only ``send`` does, when the table has moved: here the encoder is asked without it."""
        responding = server(PING)
        assert responding._side.encode(ResponseHead(200))
        assert responding.send(Response(200, (), b"OK")).startswith(b"HTTP/1.1 200 OK\r\n")
        accepting = server(ASK)
        assert accepting._side.encode(Accepted(Framing.RAW, 200, CHUNKED))
        assert accepting.send(Accepted(Framing.MULTIPLEXED)) == H101M
        assert accepting.send(Stdout(b"x")) == frame(1, b"x")
        assert accepting.send(OutputClosed()) is SEND_EOF
        asking = Connection(CLIENT)
        assert asking._side.encode(PING)
        assert asking.our_state is State.IDLE
        with pytest.raises(LocalProtocolError, match="no request was sent yet"):
            asking.next_event()

    @pytest.mark.parametrize("name", ["host", "connection", "upgrade", "content-length", "transfer-encoding"])
    def test_a_client_can_still_ask(self, name: str) -> None:
        connection = Connection(CLIENT)
        for request in (Attach("web", headers=((name, "x"),)), Request("GET", ("_ping",), headers=((name, "x"),))):
            assert f"writes itself: {name}" in refused(connection, request)
        assert connection.send(ASK)
        refused(connection, ASK)

    def test_a_request_line_that_cannot_be_written(self) -> None:
        connection = Connection(CLIENT)
        request = Request("GET", ("_ping",))
        object.__setattr__(request, "target", "/a b")
        assert "this request line cannot be written" in refused(connection, request)
        assert connection.send(PING)

    def test_the_wrong_output_for_the_framing(self) -> None:
        connection = server(ASK)
        connection.send(Accepted(Framing.MULTIPLEXED))
        assert "RawOutput has no frame" in refused(connection, RawOutput(b"x"))
        assert connection.send(Stdout(b"x")) == frame(1, b"x")
        connection = server(ASK)
        connection.send(Accepted(Framing.RAW))
        for event in (Stdout(b"x"), Stderr(b"x"), Systemerr(b"x")):
            assert "cannot be sent on a raw stream" in refused(connection, event)

    def test_send_failed_ends_sending_and_not_receiving(self) -> None:
        connection = attached()
        connection.send_failed()
        assert connection.our_state is State.ERROR
        refused(connection, Stdin(b"x"))
        connection.send_failed()
        connection.receive_data(frame(1, b"x"))
        connection.receive_data(EOF)
        assert list(connection.events()) == [Stdout(b"x"), OutputClosed()]

    def test_send_failed_before_anything_was_asked(self) -> None:
        connection = Connection(CLIENT)
        connection.send_failed()
        with pytest.raises(LocalProtocolError, match="no request was sent yet"):
            connection.next_event()
        refused(connection, ASK)

    @pytest.mark.parametrize("data", [bytearray(b"abcdefgh"), memoryview(b"abcdefgh").cast("I")])
    def test_payload_of_another_buffer_is_copied(self, data: Any) -> None:
        connection = server(ASK)
        connection.send(Accepted(Framing.MULTIPLEXED))
        assert connection.send(Stdout(data)) == frame(1, b"abcdefgh")
        connection = server(ASK)
        connection.send(Accepted(Framing.RAW))
        assert connection.send(RawOutput(data)) == b"abcdefgh"
        for wrong in (None, "text", 5):
            with pytest.raises(TypeError):
                connection.send(RawOutput(wrong))  # type: ignore[arg-type]

    def test_an_answer_is_read_after_the_request_failed_to_leave(self) -> None:
        """An engine may refuse before it has read all, and its words matter."""
        connection = client(ASK)
        connection.send_failed()
        connection.receive_data(b"HTTP/1.1 431 Too Large\r\nContent-Length: 2\r\n\r\nno")
        assert connection.next_event() == Rejected(431, (("content-length", "2"),), b"no")


class TestPromise09BothEnds:
    @pytest.mark.parametrize("framing", Framing)
    @pytest.mark.parametrize(("status", "headers"), [(101, ()), (200, ())])
    def test_a_whole_exchange(self, framing: Framing, status: int, headers: Any) -> None:
        pair = Pair()
        pair.send(CLIENT, Attach("web", AttachOptions(stdin=True), tty=framing is Framing.RAW))
        pair.send(SERVER, Continue(), expect=[])
        pair.send(SERVER, Accepted(framing, status, headers))
        pair.send(CLIENT, Stdin(b"a"), Stdin(b"b"), expect=[Stdin(b"ab")])
        if framing is Framing.RAW:
            pair.send(SERVER, RawOutput(b"raw"))
        else:
            pair.send(
                SERVER,
                Stdout(b"out"),
                Stderr(b"err"),
                Systemerr(b"sys"),
                Stdout(b""),
                expect=[Stdout(b"out"), Stderr(b"err"), Systemerr(b"sys")],
            )
        pair.send(CLIENT, StdinClosed())
        pair.send(SERVER, OutputClosed())
        assert all(end.our_state is State.DONE for end in pair.ends.values())

    def test_a_chunked_exchange(self) -> None:
        pair = Pair()
        pair.send(CLIENT, ASK)
        assert b"Connection: close\r\n" in pair.send(SERVER, Accepted(Framing.MULTIPLEXED, 200, CHUNKED))
        assert pair.send(SERVER, Stdout(b"out")) == b"b\r\n" + frame(1, b"out") + b"\r\n"
        pair.send(SERVER, Stdout(b""), expect=[])
        pair.send(SERVER, OutputClosed())

    def test_a_chunked_raw_exchange_with_empty_output(self) -> None:
        pair = Pair()
        pair.send(CLIENT, Attach("web", tty=True))
        pair.send(SERVER, Accepted(Framing.RAW, 200, CHUNKED))
        assert pair.send(SERVER, RawOutput(b""), expect=[]) == b""
        pair.send(SERVER, RawOutput(b"x"), OutputClosed())

    def test_stdin_that_came_with_the_request_is_kept(self) -> None:
        connection = Connection(SERVER)
        connection.receive_data(Connection(CLIENT).send(ASK_STDIN) + b"early")
        assert len(list(connection.events())) == 1
        assert nothing_there(connection)
        connection.send(Accepted(Framing.RAW))
        assert connection.next_event() == Stdin(b"early")
        connection.receive_data(EOF)
        assert connection.next_event() == StdinClosed()

    def test_a_body_never_becomes_stdin(self) -> None:
        connection = Connection(SERVER)
        data = Connection(CLIENT).send(ASK_STDIN).replace(b"Content-Length: 0", b"Content-Length: 4")
        connection.receive_data(data + b"bodystdin")
        list(connection.events())
        connection.send(Accepted(Framing.RAW))
        assert connection.next_event() == Stdin(b"stdin")

    def test_the_server_is_asked_before_the_client_is_heard_further(self) -> None:
        connection = Connection(SERVER)
        connection.receive_data(Connection(CLIENT).send(ASK_STDIN))
        connection.receive_data(EOF)
        assert len(list(connection.events())) == 1
        assert list(connection.events()) == []
        with pytest.raises(LocalProtocolError, match="waits for the answer"):
            connection.next_event()
        connection.send(Accepted(Framing.RAW))
        assert connection.next_event() == StdinClosed()

    def test_a_refusal_as_dockerd_writes_it(self) -> None:
        raw = (("content-type", "application/vnd.docker.raw-stream"),)
        assert server(ASK).send(Rejected(404, raw, b"No such container: web\r\n")) == (
            b"HTTP/1.1 404 Not Found\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n"
            b"No such container: web\r\n"
        )
        pair = Pair()
        pair.send(CLIENT, ASK)
        pair.send(SERVER, Rejected(409, (("content-length", "6"),), b"paused"))

    def test_a_plain_call_may_be_refused_in_the_same_way(self) -> None:
        """dockerd does that for an attach whose name or keys are not valid, which is a plain request here."""
        pair = Pair()
        pair.send(CLIENT, PING)
        answer = [ResponseHead(409, RAW_TYPE), Response(409, RAW_TYPE, b"paused\r\n")]
        data = pair.ends[SERVER].send(Rejected(409, RAW_TYPE, b"paused\r\n"))
        assert data == b"HTTP/1.1 409 Conflict\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\npaused\r\n"
        pair.ends[CLIENT].receive_data(data)
        pair.ends[CLIENT].receive_data(EOF)
        assert list(pair.ends[CLIENT].events()) == answer
        pair.agree()
        head_only = server(Request("HEAD", ("_ping",)))
        assert head_only.send(Rejected(404, (), b"no")) == b"HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\n"

    def test_accepting_as_engines_do(self) -> None:
        assert server(ASK).send(Accepted(Framing.MULTIPLEXED)) == H101M
        assert server(ASK).send(Accepted(Framing.RAW)) == H101R
        assert server(ASK).send(Accepted(Framing.MULTIPLEXED, 200)) == H200M
        old = Accepted(
            Framing.MULTIPLEXED, 101, (("content-type", "application/vnd.docker.raw-stream"), ("Api-Version", "1.41"))
        )
        assert server(ASK).send(old) == H101R[:-2] + b"Api-Version: 1.41\r\n\r\n"
        echo = Accepted(Framing.RAW, 101, (("upgrade", "TCP"), ("connection", "upgrade")))
        assert server(ASK).send(echo) == H101R.replace(b"tcp", b"TCP").replace(b": Upgrade", b": upgrade")

    def test_no_upgrade_for_who_did_not_ask(self) -> None:
        connection = Connection(SERVER)
        connection.receive_data(b"POST /containers/web/attach?stream=1 HTTP/1.1\r\nHost: d\r\n\r\n")
        assert isinstance(connection.next_event(), Attach)
        assert "accept with status_code=200" in refused(connection, Accepted(Framing.RAW))
        assert connection.send(Accepted(Framing.RAW, 200)).startswith(b"HTTP/1.1 200 OK\r\n")

    def test_chunked_is_the_only_coding(self) -> None:
        connection = server(Attach("web", tty=False))
        assert "is chunked, not 'gzip'" in refused(
            connection, Accepted(Framing.RAW, 200, (("transfer-encoding", "gzip"),))
        )

    def test_no_chunks_for_http_1_0(self) -> None:
        connection = Connection(SERVER)
        connection.receive_data(b"POST /containers/web/attach?stream=1 HTTP/1.0\r\n\r\n")
        connection.next_event()
        assert "HTTP/1.0 cannot read chunks" in refused(connection, Accepted(Framing.RAW, 200, CHUNKED))

    def test_plain_answers_say_that_the_connection_closes(self) -> None:
        assert server(PING).send(Response(200, (("Api-Version", "1.41"),), b"OK")) == (
            b"HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nConnection: close\r\nContent-Length: 2\r\n\r\nOK"
        )
        assert server(PING).send(Response(204)) == b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"
        assert server(PING).send(Response(599)) == b"HTTP/1.1 599\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        head = Request("HEAD", ("_ping",))
        assert server(head).send(Response(200, (), b"OK")) == (
            b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n"
        )

    def test_a_head_before_the_rest(self) -> None:
        pair = Pair()
        pair.send(CLIENT, Request("POST", ("containers", "web", "wait")))
        assert (
            pair.send(SERVER, ResponseHead(200))
            == b"HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        refused(pair.ends[SERVER], ResponseHead(200))
        assert "differ from those of its ResponseHead" in refused(pair.ends[SERVER], Response(201, (), b"{}"))
        assert pair.send(SERVER, Response(200, (), b"{}")) == b"2\r\n{}\r\n0\r\n\r\n"

    def test_a_head_with_a_length_and_a_head_without_a_body(self) -> None:
        for call, head, body, rest in (
            (PING, ResponseHead(200, (("content-length", "2"),)), b"OK", b"OK"),
            (PING, ResponseHead(204), b"", b""),
            (PING, ResponseHead(304, (("content-length", "2"),)), b"", b""),
            (Request("HEAD", ("_ping",)), ResponseHead(200), b"OK", b""),
            (Request("HEAD", ("_ping",)), ResponseHead(200, (("content-length", "2"),)), b"", b""),
        ):
            pair = Pair()
            pair.send(CLIENT, call)
            data = pair.ends[SERVER].send(head)
            assert b"chunked" not in data
            assert pair.ends[SERVER].send(Response(head.status_code, head.headers, body)) == rest
            pair.ends[CLIENT].receive_data(data + rest)
            assert len(list(pair.ends[CLIENT].events())) == 2

    def test_a_head_for_http_1_0_ends_with_the_connection(self) -> None:
        connection = Connection(SERVER)
        connection.receive_data(b"GET /_ping HTTP/1.0\r\n\r\n")
        connection.next_event()
        assert connection.send(ResponseHead(200)) == b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
        assert connection.send(Response(200, (), b"OK")) == b"OK"

    def test_a_client_that_waits_for_continue(self) -> None:
        connection = Connection(SERVER)
        connection.receive_data(
            b"POST /containers/create HTTP/1.1\r\nHost: d\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
        )
        assert nothing_there(connection)
        assert connection.their_state is State.AWAITING_CONTINUE
        assert connection.send(Continue()) == b"HTTP/1.1 100 Continue\r\n\r\n"
        refused(connection, Accepted(Framing.RAW))
        connection.receive_data(b"{}")
        request = connection.next_event()
        assert isinstance(request, Request)
        assert request.body == b"{}"
        assert ("expect", "100-continue") in request.headers
        connection.send(Response(201))

    def test_what_waits_for_continue_may_be_refused_unread(self) -> None:
        head = b"POST /x HTTP/1.1\r\nHost: d\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
        connection = Connection(SERVER)
        connection.receive_data(head)
        assert nothing_there(connection)
        assert connection.send(Response(417)).startswith(b"HTTP/1.1 417 Expectation Failed\r\n")
        assert connection.their_state is State.DONE
        connection.receive_data(b"{}")
        assert list(connection.events()) == []
        # An HTTP/1.0 client does not wait, whatever it says.
        connection = Connection(SERVER)
        connection.receive_data(head.replace(b"1.1", b"1.0"))
        assert nothing_there(connection)
        assert connection.their_state is State.IDLE

    def test_an_attach_that_expects_continue_has_no_body_to_wait_for(self) -> None:
        connection = Connection(SERVER)
        connection.receive_data(
            b"POST /containers/web/attach HTTP/1.1\r\nHost: d\r\nExpect: 100-continue\r\n"
            b"Upgrade: tcp\r\nConnection: Upgrade\r\n\r\n"
        )
        request = connection.next_event()
        assert isinstance(request, Attach)
        assert ("expect", "100-continue") in request.headers
        assert (
            connection.send(Continue()) + connection.send(Accepted(Framing.RAW))
            == b"HTTP/1.1 100 Continue\r\n\r\n" + H101R
        )

    @pytest.mark.parametrize(
        ("data", "reason", "text"),
        [
            (b"\x16\x03\x01", Reason.NOT_HTTP, ""),
            (b"\r\n", Reason.NOT_HTTP, ""),
            (b"GET /_ping HTTP/1.1\r\n\r\n", Reason.BAD_HEAD, ""),
            (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", Reason.BAD_HEAD, ""),
            (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", Reason.BAD_HEAD, ""),
            (b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", Reason.BAD_HEAD, ""),
            (
                b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
                Reason.HEAD_TOO_LARGE,
                "larger than 65536",
            ),
            (
                b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999\r\n\r\n" + bytes(5_000_000),
                Reason.BODY_TOO_LARGE,
                "max_request_body",
            ),
            (
                b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n1234",
                Reason.CUT_IN_BODY,
                "what came of the request 'POST /' is b'1234'",
            ),
            (b"GET / HT", Reason.CUT_IN_HEAD, ""),
            (b"", Reason.NOTHING_CAME, ""),
        ],
    )
    def test_a_request_that_is_none_can_be_answered(self, data: bytes, reason: Reason, text: str) -> None:
        connection = Connection(SERVER)
        if data:
            connection.receive_data(data)
        connection.receive_data(EOF)
        with pytest.raises(RemoteProtocolError) as caught:
            connection.next_event()
        assert caught.value.reason is reason
        assert text in str(caught.value)
        assert connection.send(Response(400, (), b"no")).startswith(b"HTTP/1.1 400 Bad Request\r\n")

    def test_what_follows_a_plain_request_is_not_read(self) -> None:
        connection = Connection(SERVER)
        connection.receive_data(Connection(CLIENT).send(PING) * 2)
        assert len(list(connection.events())) == 1
        assert nothing_there(connection)
        connection.send(Response(200))
        with pytest.raises(LocalProtocolError, match="the exchange is over"):
            connection.next_event()

    def test_output_without_stdin_hears_no_client(self) -> None:
        connection = server(ASK)
        connection.send(Accepted(Framing.RAW))
        connection.receive_data(b"unasked")
        assert connection.their_state is State.DONE
        assert list(connection.events()) == []


class TestPromise10Threads:
    def test_one_sender_and_one_receiver(self) -> None:
        """Two threads on each of two connections, with the switch interval as small as it gets."""
        rounds = 3000
        pair = Pair()
        pair.send(CLIENT, ASK_STDIN)
        pair.send(SERVER, Accepted(Framing.MULTIPLEXED))
        failures: list[BaseException] = []
        sent: dict[Any, list[bytes]] = {CLIENT: [], SERVER: []}
        ready = threading.Barrier(4)

        def send(role: Any, make: Any, last: Any) -> None:
            try:
                ready.wait(10)
                for index in range(rounds):
                    sent[role].append(pair.ends[role].send(make(b"%d," % index)))
                assert pair.ends[role].send(last) is SEND_EOF
                sent[role].append(EOF)
            except BaseException as exc:  # a thread's failure must fail the test
                failures.append(exc)

        def receive(role: Any) -> None:
            try:
                ready.wait(10)
                data, done = b"", 0
                while pair.ends[role].their_state is not State.DONE:
                    pieces = sent[role.other][done:]
                    done += len(pieces)
                    for piece in pieces:
                        pair.ends[role].receive_data(piece)
                    data += b"".join(getattr(event, "data", b"") for event in pair.ends[role].events())
                assert data == b"".join(b"%d," % index for index in range(rounds))
            except BaseException as exc:
                failures.append(exc)

        threads = [
            threading.Thread(target=send, args=(CLIENT, Stdin, StdinClosed())),
            threading.Thread(target=send, args=(SERVER, Stdout, OutputClosed())),
            threading.Thread(target=receive, args=(CLIENT,)),
            threading.Thread(target=receive, args=(SERVER,)),
        ]
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
        finally:
            sys.setswitchinterval(interval)
        assert not failures
        assert not any(thread.is_alive() for thread in threads)


class TestMisuse:
    def test_of_types(self) -> None:
        with pytest.raises(TypeError, match="our_role is CLIENT or SERVER, not 'CLIENT'"):
            Connection("CLIENT")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="a header field is a pair of str"):
            Accepted(Framing.RAW, 101, ((1, 2),))  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="a query is pairs of str"):
            Request("GET", ("_ping",), (("a", 5),))  # type: ignore[arg-type]

    def test_what_nobody_reads_is_not_kept(self) -> None:
        failed = FrameDecoder()
        failed.receive_data(frame(9, b""))
        with pytest.raises(RemoteProtocolError):
            failed.next_event()
        answering = server(PING)
        deaf = server(ASK)
        deaf.send(Accepted(Framing.RAW))
        tracemalloc.start()
        try:
            for _ in range(100):
                for reader in (failed, answering, deaf):
                    reader.receive_data(bytes(100_000))
            assert tracemalloc.get_traced_memory()[0] < 1_000_000
        finally:
            tracemalloc.stop()

    def test_a_header_that_we_would_not_write_can_be_looked_at(self) -> None:
        connection = Connection(SERVER)
        connection.receive_data(b"POST /containers/web/attach HTTP/1.1\r\nHost: d\r\nX: a\x01b\r\n\r\n")
        request = connection.next_event()
        assert isinstance(request, Attach)
        assert ("x", "a\x01b") in request.headers


class TestPromise11InjectionIsImpossible:
    """Names, keys and values: see test_requests. Here what the connection itself writes."""

    @pytest.mark.parametrize("value", ["a\r\nX: y", "a\nb", "a\0", " a", "ж"])
    def test_host_and_user_agent(self, value: str) -> None:
        with pytest.raises(ValueError, match="host"):
            Connection(CLIENT, host=value)
        with pytest.raises(ValueError, match="user-agent"):
            Connection(CLIENT, user_agent=value)

    def test_they_are_sent(self) -> None:
        data = Connection(CLIENT, host="engine:2376", user_agent="mine/1 (x)").send(PING)
        assert data == b"GET /_ping HTTP/1.1\r\nHost: engine:2376\r\nUser-Agent: mine/1 (x)\r\n\r\n"
        data = Connection(CLIENT).send(Request("GET", ("_ping",), headers=(("User-Agent", "theirs"),)))
        assert data.count(b"User-Agent") == 1

    def test_connection_upgrade_is_said_exactly_so(self) -> None:
        """Podman compares the whole value (live.md, 8)."""
        data = Connection(CLIENT).send(ASK)
        assert b"\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n" in data


class TestPromise12LenientOnlyWhereEveryReaderIs:
    """The table in test_answers has the rest."""

    def test_padding_empty_frames_1xx_reasons_and_case(self) -> None:
        connection = client(ASK)
        connection.receive_data(b"HTTP/1.1 100 x\r\n\r\nHTTP/1.1 101 Whatever\r\nCONNECTION: UPGRADE\r\n\r\n")
        connection.receive_data(b"\x01\x02\x03\x04\0\0\0\x01a" + frame(2, b""))
        assert list(connection.events())[1:] == [Stdout(b"a")]

    def test_a_101_that_nobody_asked_for(self) -> None:
        connection = client(PING)
        connection.receive_data(H101M)
        with pytest.raises(RemoteProtocolError):
            connection.next_event()


class TestPromise13FlagsAreAlwaysSaid:
    def test_all_five_sorted(self) -> None:
        assert (
            Connection(CLIENT)
            .send(Attach("web"))
            .startswith(b"POST /containers/web/attach?logs=0&stderr=1&stdin=0&stdout=1&stream=1 HTTP/1.1\r\n")
        )

    def test_what_was_not_asked_for_is_delivered(self) -> None:
        """Podman sends both streams, whatever was asked for (live.md, 5)."""
        connection = attached(Attach("web", AttachOptions(stderr=False), tty=False))
        connection.receive_data(frame(2, b"unasked"))
        assert connection.next_event() == Stderr(b"unasked")


class TestTheTableJudgesThePeer:
    """No bytes lead there, because no reader makes such an event: so the reader is replaced."""

    @pytest.mark.parametrize(
        ("role", "event", "text"),
        [
            (
                CLIENT,
                Rejected(404),
                "Rejected in this state (client STREAMING, server STREAMING)",
            ),
            (CLIENT, Stdin(b"x"), "the server cannot send Stdin"),
            (SERVER, PING, "the client cannot send a plain request"),
            (SERVER, Trigger.EXPECT_CONTINUE, "the client cannot send a request's head that expects 100-continue"),
        ],
    )
    def test_an_event_that_it_refuses_is_the_peers_error(
        self, role: Role, event: Event, text: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pair = Pair()
        pair.send(CLIENT, ASK_STDIN)
        pair.send(SERVER, Accepted(Framing.MULTIPLEXED))
        connection = pair.ends[role]
        monkeypatch.setattr(connection, "_read_next", lambda: event)
        for _ in range(2):
            with pytest.raises(RemoteProtocolError) as caught:
                connection.next_event()
            assert caught.value.reason is Reason.UNEXPECTED_EVENT
            assert text in str(caught.value)
        assert connection.their_state is State.ERROR
        assert connection.our_state is State.STREAMING


class TestErrors:
    @pytest.mark.parametrize("kind", [Stdin, Stdout, Stderr, RawOutput, Systemerr])
    def test_an_event_with_payload_is_a_value(self, kind: Any) -> None:
        event = kind(b"a")
        assert event == kind(data=b"a")
        assert hash(event) == hash(kind(b"a"))
        assert event != kind(b"b")
        assert event != b"a"
        assert {
            other(b"a") == event for other in (Stdin, Stdout, Stderr, RawOutput, Systemerr) if other is not kind
        } == {False}
        assert attrs.evolve(event, data=b"b") == kind(b"b")
        assert pickle.loads(pickle.dumps(event)) == event
        assert copy.deepcopy(event) == event
        assert repr(event) == f"{kind.__name__}(data=b'a')"
        match event:
            case kind(data):
                assert data == b"a"
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            event.data = b"b"
        with pytest.raises(AttributeError):
            event.other = 1
        for arguments in ((), (b"a", b"b")):
            with pytest.raises(TypeError):
                kind(*arguments)

    def test_events_show_a_beginning_of_their_payload(self) -> None:
        assert repr(Stdout(b"x" * 64)) == f"Stdout(data={b'x' * 64!r})"
        assert repr(Stderr(b"x" * 65)) == f"Stderr(data={b'x' * 64!r}... (65 bytes))"
        assert repr(Framing.RAW) == "Framing.RAW"

    def test_decoders_and_connections_agree(self) -> None:
        data = frame(1, b"a") + frame(2, b"b", length=4)
        one, two = FrameDecoder(), attached()
        for reader in (one, two):
            reader.receive_data(data)
            reader.receive_data(EOF)
        for _ in range(2):
            assert one.next_event() == two.next_event()
        errors = []
        for reader in (one, two):
            with pytest.raises(RemoteProtocolError) as caught:
                reader.next_event()
            errors.append(str(caught.value))
        assert errors[0] == errors[1]


# ---- many events at once ----


def test_next_events_gives_what_next_event_would_the_next_one_last() -> None:
    one, many = attached(), attached()
    frames = frame(1, b"a") + frame(2, b"b") + frame(1, b"c") + frame(3, b"d")
    for connection in (one, many):
        connection.receive_data(frames)
        connection.receive_data(frame(1, b"e") + b"\x01\0")
    expected = [Stdout(b"a"), Stderr(b"b"), Stdout(b"c"), Systemerr(b"d"), Stdout(b"e")]
    assert [one.next_event() for _ in expected] == expected
    assert many.next_event() == expected[0]  # the two calls may be mixed
    assert many.next_events() == expected[3:0:-1]
    assert many.next_events() == [expected[4]]
    assert many.next_events() == []
    many.receive_data(b"")
    for _ in range(2):
        with pytest.raises(RemoteProtocolError, match="inside a frame's header"):
            many.next_events()


def test_next_events_gives_no_more_than_500_events_and_the_end_alone() -> None:
    connection = attached()
    connection.receive_data((frame(1, b"x") + frame(2, b"y")) * 8192)
    connection.receive_data(b"")
    sizes = []
    while type((events := connection.next_events())[0]) is not OutputClosed:
        sizes.append(len(events))
    assert sum(sizes) == 2 * 8192
    assert max(sizes) <= 513  # CPython's garbage collector starts after 700 new objects
    assert len(events) == 1
    with pytest.raises(LocalProtocolError):
        connection.next_events()


@pytest.mark.parametrize("size", [2047, 2048, 40_000])
def test_a_payload_is_bytes_whatever_its_size(size: int) -> None:
    connection = attached()
    connection.receive_data(frame(1, b"x" * size) + frame(2, b"e") + frame(2, b"y" * size) + frame(1, b""))
    pieces = [event.data for event in connection.events() if isinstance(event, Stdout | Stderr)]
    assert b"".join(pieces) == b"x" * size + b"e" + b"y" * size
    assert {type(piece) for piece in pieces} == {bytes}
