"""What a client sends to the server role, made so that two readers see two things: it is refused, or read as others do.

``CASES`` says for each what ours reads, and how it compares with the two parsers of aiohttp (``other_parsers``):

- ``SAME``: all read the same.
- ``STRICTER``: ours refuses it, and one of the others reads it.
- ``BOTH_REFUSE``: nobody reads it.
- ``LENIENT``: ours reads it as Go's ``net/http`` does, which is what dockerd has, and the others refuse it. The
  test ``tests/peers/test_net_http.py`` compares it with Go's.

Where the end of a body is in doubt, the connection carries no further exchange, so that nothing can be behind it.
"""

from __future__ import annotations

import enum

import pytest

from attachproto import (
    NEED_DATA,
    SERVER,
    Accepted,
    Attach,
    Connection,
    Framing,
    Reason,
    Rejected,
    RemoteProtocolError,
    Request,
    Response,
    State,
    Stdin,
    StreamRequest,
)
from tests.core.other_parsers import Parser, Refused, by_aiohttp, by_llhttp
from tests.helpers import cuts


class Verdict(enum.Enum):
    """How our reading compares with the others'."""

    SAME = enum.auto()
    STRICTER = enum.auto()
    BOTH_REFUSE = enum.auto()
    LENIENT = enum.auto()


SAME, STRICTER, BOTH_REFUSE, LENIENT = Verdict


def post(*fields: str, body: bytes = b"", first: str = "POST /a HTTP/1.1") -> bytes:
    return "\r\n".join([first, "Host: x", *fields, "", ""]).encode("latin-1") + body


AFTER = b"GET /b HTTP/1.1\r\nHost: x\r\n\r\n"
EMPTY = b"0\r\n\r\n"
CHUNKED = "Transfer-Encoding: chunked"
A, B = ("POST", "/a", b""), ("GET", "/b", b"")
ABC = ("POST", "/a", b"abc")
ABC_CHUNK = b"3\r\nabc\r\n"
BAD_HEAD, BAD_CHUNKS = Reason.BAD_HEAD, Reason.BAD_CHUNKS

Outcome = list[tuple[str, str, bytes] | Reason]

# name: (bytes, what ours reads, the verdict)
CASES: dict[str, tuple[bytes, Outcome, Verdict]] = {
    # -- whole and valid --
    "glued": (post(body=AFTER), [A, B], SAME),
    "glued behind a body": (post("Content-Length: 3", body=b"abc" + AFTER), [ABC, B], SAME),
    "glued behind chunks": (post(CHUNKED, body=ABC_CHUNK + EMPTY + AFTER), [ABC, B], SAME),
    "a body that looks like a request": (
        post(f"Content-Length: {len(AFTER)}", body=AFTER),
        [("POST", "/a", AFTER)],
        SAME,
    ),
    "a chunk that looks like a request": (
        post(CHUNKED, body=b"%x\r\n%b\r\n" % (len(AFTER), AFTER) + EMPTY),
        [("POST", "/a", AFTER)],
        SAME,
    ),
    "chunk extension": (post(CHUNKED, body=b'3;a="b;c"\r\nabc\r\n' + EMPTY), [ABC], SAME),
    "capital digits of a chunk": (
        post(CHUNKED, body=b"00A\r\n0123456789\r\n" + EMPTY),
        [("POST", "/a", b"0123456789")],
        SAME,
    ),
    "trailers": (post(CHUNKED, body=ABC_CHUNK + b"0\r\nT: u\r\n\r\n" + AFTER), [ABC, B], SAME),
    "a length in trailers": (
        post(CHUNKED, body=ABC_CHUNK + b"0\r\nContent-Length: 9\r\n\r\n" + AFTER),
        [ABC, B],
        LENIENT,
    ),
    "CHUNKED": (post("TRANSFER-ENCODING: CHUNKED", body=EMPTY + AFTER), [A, B], SAME),
    "length of 0": (post("Content-Length: 0", body=AFTER), [A, B], SAME),
    # -- lengths --
    "two lengths": (post("Content-Length: 3", "Content-Length: 4", body=b"abcd" + AFTER), [BAD_HEAD], BOTH_REFUSE),
    "two lengths, 0 first": (post("Content-Length: 0", "Content-Length: 3", body=b"abc"), [BAD_HEAD], BOTH_REFUSE),
    "two lengths in a list": (post("Content-Length: 3, 4", body=b"abcd"), [BAD_HEAD], BOTH_REFUSE),
    "one length twice in a list": (post("Content-Length: 3, 3", body=b"abc"), [BAD_HEAD], BOTH_REFUSE),
    "a list in a folded length": (post("content-length: 3\r\n ,3", body=b"abc"), [BAD_HEAD], BOTH_REFUSE),
    "one length twice": (post("Content-Length: 3", "Content-Length: 3", body=b"abc" + AFTER), [ABC, B], LENIENT),
    "a sign": (post("Content-Length: +3", body=b"abc"), [BAD_HEAD], BOTH_REFUSE),
    "a negative length": (post("Content-Length: -1", body=b"abc"), [BAD_HEAD], BOTH_REFUSE),
    "a length in hex": (post("Content-Length: 0x3", body=b"abc"), [BAD_HEAD], BOTH_REFUSE),
    "a length with an underscore": (post("Content-Length: 1_0", body=b"0123456789"), [BAD_HEAD], BOTH_REFUSE),
    "a length with a space": (post("Content-Length: 3 3", body=b"abc"), [BAD_HEAD], BOTH_REFUSE),
    "a length with a vertical tab": (post("Content-Length: \x0b3", body=b"abc"), [BAD_HEAD], BOTH_REFUSE),
    "an empty length": (post("Content-Length: ", body=b"abc"), [BAD_HEAD], BOTH_REFUSE),
    "an Arabic digit": (post("Content-Length: \xd9\xa3", body=b"abc"), [BAD_HEAD], BOTH_REFUSE),
    # -- both framings --
    "length and chunks": (post("Content-Length: 3", CHUNKED, body=EMPTY + AFTER), [A], LENIENT),
    "chunks and length": (post(CHUNKED, "Content-Length: 3", body=EMPTY + AFTER), [A], LENIENT),
    "length of 0 and chunks": (post("Content-Length: 0", CHUNKED, body=ABC_CHUNK + EMPTY + AFTER), [ABC], LENIENT),
    # -- codings that hide chunked --
    "xchunked": (post("Transfer-Encoding: xchunked", body=EMPTY), [BAD_HEAD], BOTH_REFUSE),
    "chunked and identity": (post(CHUNKED, "Transfer-Encoding: identity", body=EMPTY), [BAD_HEAD], BOTH_REFUSE),
    "chunked twice": (post(CHUNKED, CHUNKED, body=EMPTY), [BAD_HEAD], BOTH_REFUSE),
    "gzip, chunked": (post("Transfer-Encoding: gzip, chunked", body=EMPTY), [BAD_HEAD], STRICTER),
    "identity": (post("Transfer-Encoding: identity", "Content-Length: 3", body=b"abc"), [BAD_HEAD], BOTH_REFUSE),
    "a quoted coding": (post('Transfer-Encoding: "chunked"', body=EMPTY), [BAD_HEAD], BOTH_REFUSE),
    "a coding behind a vertical tab": (post("Transfer-Encoding: \x0bchunked", body=EMPTY), [BAD_HEAD], BOTH_REFUSE),
    "a space before the colon": (post("Transfer-Encoding : chunked", body=EMPTY), [BAD_HEAD], BOTH_REFUSE),
    "a space before a length's colon": (post("Content-Length : 3", body=b"abc"), [BAD_HEAD], BOTH_REFUSE),
    "a tab before the colon": (post("Content-Length\t: 3", body=b"abc"), [BAD_HEAD], BOTH_REFUSE),
    "a field without a colon": (post("Content-Length 3", body=b"abc"), [BAD_HEAD], BOTH_REFUSE),
    "a field without a name": (post(": 3"), [BAD_HEAD], BOTH_REFUSE),
    "NUL in a value": (post("A: b\0c"), [BAD_HEAD], BOTH_REFUSE),
    "NUL in a name": (post("Content-Length\0: 3", body=b"abc"), [BAD_HEAD], BOTH_REFUSE),
    # -- ends of lines --
    "CR alone in a value": (post("A: b\rContent-Length: 3", body=b"abc"), [BAD_HEAD], BOTH_REFUSE),
    "CR alone behind the head": (b"GET /a HTTP/1.1\r\nHost: x\r\n\r" + AFTER, [BAD_HEAD], BOTH_REFUSE),
    "LF alone": (b"POST /a HTTP/1.1\nHost: x\nContent-Length: 3\n\nabc", [ABC], LENIENT),
    "LF alone in one line": (post("A: b\nContent-Length: 3", body=b"abc"), [ABC], LENIENT),
    "a folded value": (post("A: b\r\n c"), [A], LENIENT),
    "a folded length": (post("Content-Length:\r\n 3", body=b"abc"), [ABC], LENIENT),
    "a folded coding": (post("Transfer-Encoding:\r\n chunked", body=EMPTY), [A], LENIENT),
    "a fold before the first field": (b"GET /a HTTP/1.1\r\n Host: x\r\n\r\n", [BAD_HEAD], BOTH_REFUSE),
    # -- chunks --
    "a chunk's size in 0x": (post(CHUNKED, body=b"0x3\r\nabc\r\n" + EMPTY), [BAD_CHUNKS], BOTH_REFUSE),
    "a chunk's size with a sign": (post(CHUNKED, body=b"+3\r\nabc\r\n" + EMPTY), [BAD_CHUNKS], BOTH_REFUSE),
    "a negative chunk": (post(CHUNKED, body=b"-3\r\nabc\r\n" + EMPTY), [BAD_CHUNKS], BOTH_REFUSE),
    "a chunk's size with an underscore": (post(CHUNKED, body=b"1_0\r\nabc\r\n" + EMPTY), [BAD_CHUNKS], BOTH_REFUSE),
    "a chunk's size of 17 digits": (post(CHUNKED, body=b"10000000000000003\r\nabc\r\n" + EMPTY), [], BOTH_REFUSE),
    "a chunk's size of 21 digits": (post(CHUNKED, body=b"0" * 20 + b"3\r\nabc\r\n" + EMPTY), [BAD_CHUNKS], STRICTER),
    "a chunk without a size": (post(CHUNKED, body=b"\r\nabc\r\n" + EMPTY), [BAD_CHUNKS], BOTH_REFUSE),
    "a chunk that is longer than its size": (post(CHUNKED, body=b"2\r\nabc\r\n" + EMPTY), [BAD_CHUNKS], BOTH_REFUSE),
    "a space before a chunk's size": (post(CHUNKED, body=b" 3\r\nabc\r\n" + EMPTY), [BAD_CHUNKS], BOTH_REFUSE),
    "LF alone behind a chunk's size": (post(CHUNKED, body=b"3\nabc\r\n" + EMPTY), [BAD_CHUNKS], BOTH_REFUSE),
    "LF alone behind a chunk": (post(CHUNKED, body=b"3\r\nabc\n" + EMPTY), [BAD_CHUNKS], BOTH_REFUSE),
    "LF in an extension": (post(CHUNKED, body=b"3;a\nb\r\nabc\r\n" + EMPTY), [BAD_CHUNKS], BOTH_REFUSE),
    "bad trailers": (post(CHUNKED, body=b"0\r\nA\r\n\r\n"), [BAD_CHUNKS], BOTH_REFUSE),
    # -- request lines --
    "HTTP/1.2": (post(first="POST /a HTTP/1.2", body=AFTER), [A], LENIENT),
    "HTTP/2.0": (post(first="POST /a HTTP/2.0"), [BAD_HEAD], STRICTER),
    # Recorded from dockerd and Podman, which answer it with 301. Nothing behind it is read.
    "the preface of HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", [("PRI", "*", b"")], LENIENT),
    "HTTP/0.9": (post(first="POST /a HTTP/0.9"), [BAD_HEAD], STRICTER),
    "two spaces": (post(first="POST  /a HTTP/1.1"), [BAD_HEAD], STRICTER),
    "a tab": (post(first="POST\t/a HTTP/1.1"), [BAD_HEAD], BOTH_REFUSE),
    "no version": (post(first="POST /a"), [BAD_HEAD], STRICTER),
    "a space in the target": (post(first="POST /a b HTTP/1.1"), [BAD_HEAD], BOTH_REFUSE),
    "two hosts": (post("Host: y"), [BAD_HEAD], BOTH_REFUSE),
    "no host": (b"POST /a HTTP/1.1\r\n\r\n", [BAD_HEAD], BOTH_REFUSE),
    "empty lines before": (b"\r\n\r\n" + post(), [Reason.NOT_HTTP], STRICTER),
    "chunks in HTTP/1.0": (post(CHUNKED, body=EMPTY + AFTER, first="POST /a HTTP/1.0"), [BAD_HEAD], BOTH_REFUSE),
}  # fmt: skip


def ours(pieces: list[bytes]) -> Outcome:
    """What a server with ``keep_alive`` reads, up to the first error, or to where it carries no more exchanges."""
    connection: Connection | None = Connection(SERVER, keep_alive=True)
    found: Outcome = []
    for piece in pieces:
        if connection is None:
            break
        connection.receive_data(piece)
        while connection is not None:
            try:
                event = connection.next_event()
            except RemoteProtocolError as error:
                found.append(error.reason)
                connection.send(Rejected(400, (), b"bad request"))
                assert connection.next_exchange() is None, "no exchange follows an error"
                connection = None
                break
            if event is NEED_DATA:
                break
            assert isinstance(event, Request)
            found.append((event.method, event.target, event.body))
            connection.send(Response(200))
            connection = connection.next_exchange()
    return found


def theirs(parser: Parser, data: bytes) -> list[tuple[str, str, bytes]] | None:
    try:
        seen = parser(data)
    except Refused:
        return None
    return [(each.method, each.target, each.body) for each in seen]


@pytest.mark.parametrize("name", CASES)
def test_every_case(name: str) -> None:
    data, expected, verdict = CASES[name]
    for pieces in cuts(data):
        assert ours(pieces) == expected, pieces
    others = [theirs(parser, data) for parser in (by_llhttp, by_aiohttp)]
    refused = not expected or isinstance(expected[-1], Reason)
    if verdict is SAME:
        assert all(other is not None and other[: len(expected)] == expected for other in others), others
        assert not refused
    elif verdict is BOTH_REFUSE:
        assert others == [None, None]
        assert refused
    elif verdict is STRICTER:
        assert any(others)
        assert refused
    else:
        assert None in others
        assert not refused


@pytest.mark.parametrize("name", ["length and chunks", "chunks and length", "length of 0 and chunks"])
def test_with_both_framings_the_connection_ends(name: str) -> None:
    data, expected, _ = CASES[name]
    assert data.endswith(AFTER)
    assert len(expected) == 1
    connection = Connection(SERVER, keep_alive=True)
    connection.receive_data(data)
    connection.next_event()
    assert b"Connection: close" in connection.send(Response(200))
    assert connection.next_exchange() is None
    connection.receive_data(AFTER)
    assert connection.their_state is State.DONE


ATTACH = "POST /containers/web/attach?stdin=1&stdout=1&stream=1 HTTP/1.1"
UPGRADE = ("Connection: Upgrade", "Upgrade: tcp")


def streamed(data: bytes) -> tuple[Request | StreamRequest, bytes]:
    """The request for a stream, and the stdin behind it, if it was accepted; the same in every cut."""
    found: dict[str, tuple[Request | StreamRequest, bytes]] = {}
    for pieces in cuts(data):
        connection = Connection(SERVER)
        stdin = b""
        request: Request | StreamRequest | None = None
        for piece in pieces:
            connection.receive_data(piece)
            for event in connection.events():
                if isinstance(event, Stdin):
                    stdin += event.data
                else:
                    assert isinstance(event, Request | StreamRequest)
                    request = event
                    if isinstance(event, StreamRequest):
                        connection.send(Accepted(Framing.MULTIPLEXED))
            for event in connection.events():  # what was glued to the request
                assert isinstance(event, Stdin)
                stdin += event.data
        assert request is not None
        found[f"{request!r} {stdin!r}"] = request, stdin
    (only,) = found.values()
    return only


def test_a_request_that_is_glued_to_a_stream_is_stdin() -> None:
    """Behind an upgrade nothing is a request any more."""
    request, stdin = streamed(post(*UPGRADE, first=ATTACH, body=AFTER))
    assert isinstance(request, Attach)
    assert stdin == AFTER


@pytest.mark.parametrize(
    ("fields", "body"),
    [(["Content-Length: 5"], b"12345"), ([CHUNKED], b"5\r\n12345\r\n0\r\n\r\n")],
)
def test_a_body_of_a_request_for_a_stream_is_never_stdin(fields: list[str], body: bytes) -> None:
    request, stdin = streamed(post(*UPGRADE, *fields, first=ATTACH, body=body + b"in"))
    assert isinstance(request, Attach)
    assert stdin == b"in"


@pytest.mark.parametrize(
    "target",
    [
        "/containers/../containers/web/attach",
        "/containers/%2e%2e/attach",
        "/containers/a%2fb/attach",
        "/containers/a%00/attach",
        "/containers//attach",
        "//containers/web/attach",
        "/containers/web/attach/",
        "/containers/web%20/attach",
        "/v1.41/v1.41/containers/web/attach",
        "/containers/web/attach%3Fstdin=1",
        "*",
        "containers/web/attach",
    ],
)
def test_a_path_that_others_clean_up_opens_no_stream(target: str) -> None:
    """It comes as a plain request, with its target as it was sent, for a 404 or a redirect."""
    connection = Connection(SERVER)
    connection.receive_data(post(*UPGRADE, first=f"POST {target} HTTP/1.1"))
    (event,) = connection.events()
    assert isinstance(event, Request)
    assert event.target == target


def test_of_a_repeated_option_the_first_counts() -> None:
    """As for dockerd, so that a proxy that checks the first checks what is used."""
    connection = Connection(SERVER)
    connection.receive_data(post(*UPGRADE, first=ATTACH.replace("stdin=1", "stdin=0&stdin=1")))
    (event,) = connection.events()
    assert isinstance(event, Attach)
    assert not event.options.stdin
