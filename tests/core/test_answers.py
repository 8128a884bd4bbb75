"""What a client makes of an answer: one table of bytes and events, each run in every cut."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attachproto import (
    Accepted,
    Attach,
    AttachOptions,
    ExecStart,
    Framing,
    OutputClosed,
    RawOutput,
    Reason,
    Rejected,
    RemoteProtocolError,
    Request,
    Response,
    ResponseHead,
    Stderr,
    Stdout,
    StreamRequest,
)
from tests.helpers import EOF, H101M, H101R, H200M, H200R, check_every_cut, client, cut_at, frame, joined, read_all

ASK = Attach("web", tty=False)
EXEC = ExecStart("e1", tty=False)
EXEC_OUT = ExecStart("e1", tty=False, stdin=False)
ASK_TTY = Attach("web", tty=True)
ASK_STDIN = Attach("web", AttachOptions(stdin=True), tty=False)
CALL = Request("GET", ("containers", "web", "json"))
HEAD_CALL = Request("HEAD", ("_ping",))

MULTIPLEXED = ("content-type", "application/vnd.docker.multiplexed-stream")
RAW = ("content-type", "application/vnd.docker.raw-stream")
UPGRADE = (("connection", "Upgrade"), ("upgrade", "tcp"))
A101M = Accepted(Framing.MULTIPLEXED, 101, (MULTIPLEXED, *UPGRADE))
A101R = Accepted(Framing.RAW, 101, (RAW, *UPGRADE))
OUT = frame(1, b"out\n")
BOTH = OUT + frame(2, b"err\n")
EVENTS = [Stdout(b"out\n"), Stderr(b"err\n"), OutputClosed()]
CHUNKED = ("transfer-encoding", "chunked")
H200C = H200M[:-2] + b"Transfer-Encoding: chunked\r\n\r\n"


def chunks(*data: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in data) + b"0\r\n\r\n"


def answer(status: str, *fields: str, body: bytes = b"") -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *fields, "", ""]).encode() + body


# name: (request, bytes until the end of file, events, the error's text or reason)
CASES: dict[str, tuple[Any, bytes, list[Any], str | Reason | None]] = {
    # -- accepted --
    "101 and frames": (ASK, H101M + BOTH, [A101M, *EVENTS], None),
    "101 and nothing": (ASK, H101M, [A101M, OutputClosed()], None),
    "101 raw-stream, no TTY: frames": (
        ASK,
        H101R + BOTH,
        [Accepted(Framing.MULTIPLEXED, 101, (RAW, *UPGRADE)), *EVENTS],
        None,
    ),
    "101 raw-stream, TTY: raw": (ASK_TTY, H101R + OUT, [A101R, RawOutput(OUT), OutputClosed()], None),
    "multiplexed-stream needs no tty": (Attach("web"), H101M + BOTH, [A101M, *EVENTS], None),
    "multiplexed-stream against tty=True": (ASK_TTY, H101M + BOTH, [], Reason.FRAMING_CONTRADICTED),
    "101 with another reason, lower-case names, bare LF, no type": (
        ASK,
        b"HTTP/1.1 101 Switching Protocols\nupgrade: TCP\nconnection: upgrade\n\n" + BOTH,
        [Accepted(Framing.MULTIPLEXED, 101, (("upgrade", "TCP"), ("connection", "upgrade"))), *EVENTS],
        None,
    ),
    "100, 102 and 103 before 101": (
        ASK,
        answer("100 Continue") + answer("102 Processing") + answer("103 Early Hints", "Link: x") + H101M + BOTH,
        [A101M, *EVENTS],
        None,
    ),
    "exec's head in dockerd's order": (
        ASK,
        H101M[:-2] + b"Api-Version: 1.51\r\nServer: Docker/28.5.2 (linux)\r\n\r\n" + OUT,
        [
            Accepted(
                Framing.MULTIPLEXED,
                101,
                (MULTIPLEXED, *UPGRADE, ("api-version", "1.51"), ("server", "Docker/28.5.2 (linux)")),
            ),
            Stdout(b"out\n"),
            OutputClosed(),
        ],
        None,
    ),
    "101 with a length: it has no body, whatever it says": (
        ASK,
        H101M[:-2] + b"Content-Length: 5\r\n\r\n" + BOTH,
        [Accepted(Framing.MULTIPLEXED, 101, (MULTIPLEXED, *UPGRADE, ("content-length", "5"))), *EVENTS],
        None,
    ),
    "101 chunked": (
        ASK_STDIN,
        H101M[:-2] + b"Transfer-Encoding: chunked\r\n\r\n" + BOTH,
        [Accepted(Framing.MULTIPLEXED, 101, (MULTIPLEXED, *UPGRADE, CHUNKED)), *EVENTS],
        None,
    ),
    "200 without a length": (ASK, H200R + BOTH, [Accepted(Framing.MULTIPLEXED, 200, (RAW,)), *EVENTS], None),
    "200 without a length, TTY": (
        ASK_TTY,
        H200R + OUT,
        [Accepted(Framing.RAW, 200, (RAW,)), RawOutput(OUT), OutputClosed()],
        None,
    ),
    "200 without a length takes stdin": (
        ASK_STDIN,
        H200M + OUT,
        [Accepted(Framing.MULTIPLEXED, 200, (MULTIPLEXED,)), Stdout(b"out\n"), OutputClosed()],
        None,
    ),
    "200 chunked": (
        ASK,
        H200C + chunks(OUT, b"\x02\0\0", b"\0\0\0\0\x04er", b"r\n"),
        [Accepted(Framing.MULTIPLEXED, 200, (MULTIPLEXED, CHUNKED)), *EVENTS],
        None,
    ),
    "200 chunked, TTY": (
        ASK_TTY,
        H200R[:-2] + b"Transfer-Encoding: chunked\r\n\r\n" + chunks(b"ab", b"c"),
        [Accepted(Framing.RAW, 200, (RAW, CHUNKED)), RawOutput(b"abc"), OutputClosed()],
        None,
    ),
    "200 with a length": (
        ASK,
        H200M[:-2] + b"Content-Length: %d\r\n\r\n" % len(BOTH) + BOTH,
        [Accepted(Framing.MULTIPLEXED, 200, (MULTIPLEXED, ("content-length", str(len(BOTH))))), *EVENTS],
        None,
    ),
    "200 with a length of 0": (
        ASK,
        H200M[:-2] + b"Content-Length: 0\r\n\r\n",
        [Accepted(Framing.MULTIPLEXED, 200, (MULTIPLEXED, ("content-length", "0"))), OutputClosed()],
        None,
    ),
    "type with parameters and capitals": (
        ASK_TTY,
        answer("200 OK", "Content-Type: Application/vnd.docker.RAW-stream; charset=x", body=b"x"),
        [
            Accepted(Framing.RAW, 200, (("content-type", "Application/vnd.docker.RAW-stream; charset=x"),)),
            RawOutput(b"x"),
            OutputClosed(),
        ],
        None,
    ),
    # -- ends that are none --
    "cut in a frame": (ASK, H101M + frame(1, b"ab", length=5), [A101M, Stdout(b"ab")], "3 are missing"),
    "chunks cut between two frames": (
        ASK,
        H200C + chunks(OUT)[: -len(b"0\r\n\r\n")],
        [Accepted(Framing.MULTIPLEXED, 200, (MULTIPLEXED, CHUNKED)), Stdout(b"out\n")],
        Reason.CUT_IN_BODY,
    ),
    "chunks cut in a frame": (
        ASK,
        H200C + b"9\r\n" + frame(1, b"a", length=7),
        [Accepted(Framing.MULTIPLEXED, 200, (MULTIPLEXED, CHUNKED)), Stdout(b"a")],
        "and inside a Stdout frame of 7 bytes: 6 are missing",
    ),
    "chunks whole, frame cut": (
        ASK,
        H200C + chunks(frame(1, b"a", length=7)),
        [Accepted(Framing.MULTIPLEXED, 200, (MULTIPLEXED, CHUNKED)), Stdout(b"a")],
        "the stream ended inside a Stdout frame of 7 bytes: 6 are missing",
    ),
    "malformed chunks": (
        ASK,
        H200C + b"c\r\n" + OUT + b"\r\nzz\r\n",
        [Accepted(Framing.MULTIPLEXED, 200, (MULTIPLEXED, CHUNKED)), Stdout(b"out\n")],
        Reason.BAD_CHUNKS,
    ),
    "length cut between two frames": (
        ASK,
        H200M[:-2] + b"Content-Length: 100\r\n\r\n" + OUT,
        [Accepted(Framing.MULTIPLEXED, 200, (MULTIPLEXED, ("content-length", "100"))), Stdout(b"out\n")],
        "received 12 bytes, expected 100",
    ),
    "raw length cut": (
        ASK_TTY,
        H200R[:-2] + b"Content-Length: 100\r\n\r\n" + b"abc",
        [Accepted(Framing.RAW, 200, (RAW, ("content-length", "100"))), RawOutput(b"abc")],
        "received 3 bytes, expected 100",
    ),
    "unknown stream type": (ASK, H101M + OUT + frame(7, b""), [A101M, Stdout(b"out\n")], Reason.UNKNOWN_STREAM_TYPE),
    # -- refused --
    "dockerd's refusal: text until the end": (
        ASK,
        answer("404 Not Found", f"Content-Type: {RAW[1]}", body=b"No such container: nope\r\n"),
        [Rejected(404, (RAW,), b"No such container: nope\r\n")],
        None,
    ),
    "podman's refusal: JSON with a length": (
        ASK_STDIN,
        answer(
            "404 Not Found",
            "Content-Type: application/json",
            "Content-Length: 29",
            body=b'{"cause":"x","message":"y z"}',
        ),
        [
            Rejected(
                404, (("content-type", "application/json"), ("content-length", "29")), b'{"cause":"x","message":"y z"}'
            )
        ],
        None,
    ),
    "a refusal in chunks": (
        ASK,
        answer("500 Oops", "Transfer-Encoding: chunked", body=chunks(b"so", b"rry")),
        [Rejected(500, (CHUNKED,), b"sorry")],
        None,
    ),
    "a refusal without a body": (
        ASK,
        answer("409 Conflict", "Content-Length: 0"),
        [Rejected(409, (("content-length", "0"),), b"")],
        None,
    ),
    "HTTP/1.0 from a TLS port": (
        ASK,
        b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n",
        [Rejected(400, (), b"Client sent an HTTP request to an HTTPS server.\n")],
        None,
    ),
    "a proxy's 502": (
        ASK,
        answer("502 Bad Gateway", "Content-Type: text/html", "Content-Length: 13", body=b"<h1>oops</h1>"),
        [Rejected(502, (("content-type", "text/html"), ("content-length", "13")), b"<h1>oops</h1>")],
        None,
    ),
    "a refusal that is cut": (
        ASK,
        answer("404 Not Found", "Content-Length: 50", body=b"No such"),
        [],
        "received 7 bytes, expected 50); what came of the refusal (404) is b'No such'",
    ),
    # -- neither --
    "200 HTML": (
        ASK,
        answer("200 OK", "Content-Type: text/html", "Content-Length: 5", body=b"hello"),
        [],
        "the answer is 200 text/html, which is not a stream of an engine: is there a proxy or another service at this "
        "address?: b'hello'",
    ),
    "200 without a type": (ASK, answer("200 OK", body=b"whatever"), [], Reason.NOT_A_STREAM),
    "200 octet-stream": (
        ASK,
        answer("200 OK", "Content-Type: application/octet-stream"),
        [],
        Reason.NOT_A_STREAM,
    ),
    "204": (ASK, answer("204 No Content"), [], Reason.NOT_A_STREAM),
    "301": (
        ASK,
        answer("301 Moved Permanently", "Location: /containers/attach", "Content-Length: 0"),
        [],
        "a redirect to '/containers/attach'",
    ),
    "stdin against a chunked answer": (ASK_STDIN, H200C + chunks(OUT), [], Reason.STDIN_IMPOSSIBLE),
    "stdin against a length": (ASK_STDIN, H200M[:-2] + b"Content-Length: 0\r\n\r\n", [], Reason.STDIN_IMPOSSIBLE),
    "stdin against Connection: close": (
        ASK_STDIN,
        H200R[:-2] + b"Connection: keep-alive, Close\r\n\r\n" + OUT,
        [],
        Reason.STDIN_IMPOSSIBLE,
    ),
    "Connection: close, and no stdin wanted": (
        ASK,
        H200R[:-2] + b"Connection: close\r\n\r\n" + BOTH,
        [Accepted(Framing.MULTIPLEXED, 200, (RAW, ("connection", "close"))), *EVENTS],
        None,
    ),
    "a keep-alive ends nothing": (
        ASK_STDIN,
        H200R[:-2] + b"Connection: keep-alive\r\n\r\n" + BOTH,
        [Accepted(Framing.MULTIPLEXED, 200, (RAW, ("connection", "keep-alive"))), *EVENTS],
        None,
    ),
    "exec with stdin, chunked": (EXEC, H200C + chunks(OUT), [], Reason.STDIN_IMPOSSIBLE),
    "exec with stdin, Connection: close": (
        EXEC,
        H200R[:-2] + b"Connection: close\r\n\r\n" + OUT,
        [],
        Reason.STDIN_IMPOSSIBLE,
    ),
    "exec without stdin, chunked": (
        EXEC_OUT,
        H200C + chunks(BOTH),
        [Accepted(Framing.MULTIPLEXED, 200, (MULTIPLEXED, CHUNKED)), *EVENTS],
        None,
    ),
    "exec without stdin, Connection: close": (
        EXEC_OUT,
        H200R[:-2] + b"Connection: close\r\n\r\n" + BOTH,
        [Accepted(Framing.MULTIPLEXED, 200, (RAW, ("connection", "close"))), *EVENTS],
        None,
    ),
    "exec with stdin, dockerd's 200": (
        EXEC,
        H200R[:-2] + b"Api-Version: 1.41\r\nServer: Docker/20.10.24 (linux)\r\n\r\n" + BOTH,
        [
            Accepted(Framing.MULTIPLEXED, 200, (RAW, ("api-version", "1.41"), ("server", "Docker/20.10.24 (linux)"))),
            *EVENTS,
        ],
        None,
    ),
    "two media types": (ASK, H101M[:-2] + b"Content-Type: text/plain\r\n\r\n", [], Reason.FRAMING_CONTRADICTED),
    "no answer": (ASK, b"", [], Reason.NOTHING_CAME),
    "a head that is cut": (ASK, H101M[:-1], [], "ended inside the answer's head, after b'HTTP/1.1 101"),
    "nothing but 1xx": (ASK, answer("100 Continue") * 17, [], Reason.BAD_HEAD),
    "frames without a head": (ASK, OUT, [], "the answer is not HTTP: it begins b'\\x01"),
    "an empty line first": (ASK, b"\r\n" + H101M, [], Reason.NOT_HTTP),
    "a TLS alert": (ASK, b"\x15\x03\x01\x00\x02\x02\x16", [], Reason.NOT_HTTP),
    "HTTP/2": (ASK, b"HTTP/2 101\r\n\r\n", [], Reason.BAD_HEAD),
    "no number": (ASK, b"HTTP/1.1 1O1 UPGRADED\r\n\r\n", [], Reason.BAD_HEAD),
    "a bad field": (ASK, b"HTTP/1.1 101 UPGRADED\r\nUpgrade : tcp\r\n\r\n", [], "a bad head: illegal header line"),
    "two lengths": (
        ASK,
        answer("404 Not Found", "Content-Length: 1", "Content-Length: 2", body=b"ab"),
        [],
        Reason.BAD_HEAD,
    ),
    "gzip, chunked": (ASK, answer("200 OK", "Transfer-Encoding: gzip, chunked"), [], Reason.BAD_HEAD),
    # -- plain calls --
    "JSON with a length": (
        CALL,
        answer("200 OK", "Api-Version: 1.41", "Content-Length: 2", body=b"{}"),
        [
            ResponseHead(200, (("api-version", "1.41"), ("content-length", "2"))),
            Response(200, (("api-version", "1.41"), ("content-length", "2")), b"{}"),
        ],
        None,
    ),
    "until the end": (CALL, answer("200 OK", body=b"OK"), [ResponseHead(200), Response(200, (), b"OK")], None),
    "in chunks": (
        CALL,
        answer("200 OK", "Transfer-Encoding: chunked", body=chunks(b"a", b"b")),
        [ResponseHead(200, (CHUNKED,)), Response(200, (CHUNKED,), b"ab")],
        None,
    ),
    "204 No Content": (CALL, answer("204 No Content"), [ResponseHead(204), Response(204)], None),
    "a redirect of a plain call": (
        CALL,
        answer("301 Moved", "Location: /x", "Content-Length: 0"),
        [
            ResponseHead(301, (("location", "/x"), ("content-length", "0"))),
            Response(301, (("location", "/x"), ("content-length", "0"))),
        ],
        None,
    ),
    "HEAD has a length and no body": (
        HEAD_CALL,
        answer("200 OK", "Content-Length: 2"),
        [ResponseHead(200, (("content-length", "2"),)), Response(200, (("content-length", "2"),))],
        None,
    ),
    "101 to a plain call": (CALL, H101M, [], Reason.UNASKED_UPGRADE),
    "a plain answer that is cut": (
        CALL,
        answer("200 OK", "Content-Length: 5", body=b"ab"),
        [ResponseHead(200, (("content-length", "5"),))],
        "what came of the answer to 'GET /containers/web/json' is b'ab'",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_every_cut(name: str) -> None:
    request, data, events, error = CASES[name]
    check_every_cut(lambda: client(request), data, events, error)


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=15)
@given(data=st.data())
def test_any_cuts(name: str, data: st.DataObject) -> None:
    request, wire, events, error = CASES[name]
    pieces = cut_at(wire, data.draw(st.lists(st.integers(0, len(wire)))))
    check_every_cut(lambda: client(request), wire, events, error, after=[pieces])


@given(st.binary(max_size=300), st.data())
def test_any_bytes_behind_a_head(tail: bytes, data: st.DataObject) -> None:
    """Either it is decoded, or a RemoteProtocolError; and never a difference between whole and cut."""
    head = data.draw(
        st.sampled_from(
            [
                b"",
                H101M,
                H101R,
                H200M,
                H200C,
                answer("404 Not Found"),
                answer("200 OK"),
                b"HTTP/1.1 ",
                H101M[:-2] + b"Content-Length: 5\r\n\r\n",
                H101M[:-2] + b"Transfer-Encoding: chunked\r\n\r\n",
                answer("200 OK", "Content-Length: 9"),
                answer("502 Bad", "Transfer-Encoding: chunked"),
            ]
        )
    )
    requests: list[Request | StreamRequest] = [ASK, ASK_TTY, ASK_STDIN, CALL, HEAD_CALL]
    request = data.draw(st.sampled_from(requests))
    wire = head + tail
    pieces = cut_at(wire, data.draw(st.lists(st.integers(0, len(wire)))))
    whole, whole_error = read_all(client(request), [wire, EOF] if wire else [EOF])
    cut, cut_error = read_all(client(request), [*pieces, EOF])
    assert joined(whole) == joined(cut)
    assert (whole_error is None) == (cut_error is None)
    if whole_error is None:
        assert isinstance(whole[-1], OutputClosed | Rejected | Response)


@pytest.mark.parametrize(
    ("headers", "body", "message"),
    [
        ((RAW,), b"No such container: nope\r\n", "No such container: nope"),
        (
            (("content-type", "application/json"),),
            b'{"cause":"c","message":"no container","response":404}\n',
            "no container",
        ),
        ((RAW,), b'{"message":"too new"}', "too new"),
        ((), b'{"error":"other"}', '{"error":"other"}'),
        ((), b'{"message":5}', '{"message":5}'),
        ((), b"{cut", "{cut"),
        ((), b"[" * 3 + b"{" * 100_000, "[" * 3 + "{" * 100_000),
        ((), b'{"a":' * 100_000, '{"a":' * 100_000),
        ((), b"\xff\xfe", "\ufffd\ufffd"),
        ((), b"", ""),
        ((), b'{"message":"a\x01b"}', "a\x01b"),
    ],
)
def test_the_message_is_the_engines_own_text(headers: Any, body: bytes, message: str) -> None:
    assert Rejected(404, headers, body).message == message
    assert Response(404, headers, body).message == message


@pytest.mark.parametrize("limit", [200, 1000])
def test_the_heads_limit_counts_all_1xx_heads_and_no_cut_changes_it(limit: int) -> None:
    first = answer("100 Continue")
    padding = "X-Pad: " + "a" * (limit - len(first) - len(H101M) - len("X-Pad: \r\n"))
    fits = first + H101M[:-2] + padding.encode() + b"\r\n\r\n"
    assert len(fits) == limit
    check_every_cut(
        lambda: client(ASK, max_head=limit),
        fits + OUT,
        [
            Accepted(Framing.MULTIPLEXED, 101, (MULTIPLEXED, *UPGRADE, ("x-pad", padding[7:]))),
            Stdout(b"out\n"),
            OutputClosed(),
        ],
    )
    over = fits.replace(b"X-Pad: ", b"X-Pad: a")
    check_every_cut(lambda: client(ASK, max_head=limit), over + OUT, [], f"larger than {limit} bytes (max_head)")


def test_an_errors_text_is_bounded() -> None:
    for request, data in (
        (ASK, b"HTTP/1.1 1O1 " + b"\xff" * 60_000 + b"\r\n\r\n"),
        (ASK, answer("301 Moved", "Location: /" + "x" * 60_000)),
        (ASK, answer("200 OK", "Content-Type: " + "x" * 60_000)),
        (ASK, H101M[:-2] + b"Content-Type: " + b"x" * 60_000 + b"\r\n\r\n"),
        (ASK, H200C + b"z" * 10_000 + b"\r\n"),
        (CALL, answer("200 OK", "Content-Length: 9", body=b"\xff" * 8)),
        (Request("GET", ("x" * 60_000,)), answer("200 OK", "Content-Length: 9")),
        (ASK, answer("200 OK", "Content-Type: text/html", "Content-Length: 60000", body=b"\xff" * 60_000)),
    ):
        connection = client(request)
        connection.receive_data(data)
        connection.receive_data(EOF)
        with pytest.raises(RemoteProtocolError) as caught:
            list(connection.events())
        assert len(str(caught.value)) < 1500


def test_of_a_page_the_first_line_is_quoted_with_the_status() -> None:
    page = b"\n <!DOCTYPE html>\n<html><head>" + b"x" * 60_000
    connection = client(ASK)
    connection.receive_data(answer("200 OK", "Content-Type: text/html", f"Content-Length: {len(page)}", body=page))
    with pytest.raises(RemoteProtocolError, match=r"is 200 text/html, .*: b'<!DOCTYPE html>'\.\.\.$") as caught:
        connection.next_event()
    assert caught.value.reason is Reason.NOT_A_STREAM


def test_a_head_that_never_ends() -> None:
    connection = client(ASK)
    with pytest.raises(RemoteProtocolError, match=r"larger than 65536 bytes \(max_head\); it begins b'HTTP/1.1 101"):  # noqa: PT012
        connection.receive_data(H101M[:-2])
        for _ in range(100):
            connection.receive_data(b"X-Pad: " + b"a" * 1000 + b"\r\n")
            list(connection.events())


def test_the_body_limits() -> None:
    refusal = answer("500 Oops", body=b"x" * 1001)
    check_every_cut(lambda: client(ASK, max_refusal=1001), refusal, [Rejected(500, (), b"x" * 1001)], after=[[refusal]])
    for pieces in ([refusal], [refusal[:-1], b"x"]):
        check_every_cut(
            lambda: client(ASK, max_refusal=1000),
            refusal,
            [],
            "the body of the refusal (500) is larger than 1000 bytes (max_refusal)",
            after=[pieces],
        )
    plain = answer("200 OK", "Content-Length: 1001", body=b"x" * 1001)
    head = ResponseHead(200, (("content-length", "1001"),))
    check_every_cut(
        lambda: client(CALL, max_body=1000), plain, [head], "larger than 1000 bytes (max_body)", after=[[plain]]
    )
    page = answer("200 OK", "Content-Type: text/html", "Content-Length: 1001", body=b"x" * 1001)
    check_every_cut(
        lambda: client(ASK, max_refusal=1000), page, [], "the body of the answer is 200 text/html", after=[[page]]
    )


def test_a_page_without_a_length_is_not_waited_for() -> None:
    """It may go on for ever, as a stream does."""
    connection = client(ASK)
    connection.receive_data(answer("200 OK", "Content-Type: text/html", body=b"<html>"))
    with pytest.raises(RemoteProtocolError, match="200 text/html"):
        connection.next_event()


def test_an_answer_with_a_length_does_not_wait_for_the_end() -> None:
    for status, kind in (("404 Not Found", Rejected), ("200 OK", Response)):
        connection = client(ASK if kind is Rejected else CALL)
        connection.receive_data(answer(status, "Content-Length: 2", body=b"no") + answer("400 Bad Request"))
        assert isinstance(list(connection.events())[-1], kind)


def test_a_plain_answers_head_comes_before_the_rest() -> None:
    """/wait sends its head when it begins to wait, and the rest when the container has exited."""
    connection = client(CALL)
    connection.receive_data(answer("200 OK", "Transfer-Encoding: chunked"))
    assert list(connection.events()) == [ResponseHead(200, (CHUNKED,))]
    connection.receive_data(chunks(b'{"StatusCode":7}\n'))
    assert list(connection.events()) == [Response(200, (CHUNKED,), b'{"StatusCode":7}\n')]
