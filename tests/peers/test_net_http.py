"""Requests read by Go's ``net/http`` beside ours: it is what dockerd and Podman read them with.

Ours may refuse what it reads, and may end the connection where it goes on. Ours never reads a request that Go's does
not read, and none with another method, target or body. So no client can tell the server role something, behind a proxy
in Go or in front of an engine, that the other takes for something else.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attachproto import Reason
from tests.core.test_injection import PLACES, VALUES, written
from tests.core.test_smuggling import AFTER, CASES, CHUNKED, Verdict, ours, post
from tests.helpers import counts
from tests.peers import programs
from tests.peers.go_programs import GoProgram, running

pytestmark = pytest.mark.peers


@attrs.frozen
class Requests:
    """What Go's has read.

    Attributes:
        requests: method, target and body of each.
        error: the text of the error that ended them; empty if there was none.
    """

    requests: list[tuple[str, str, bytes]]
    error: str


class NetHttp:
    """The program of ``nethttp.go``, which is asked about one connection after the other."""

    def __init__(self, program: GoProgram) -> None:
        self._program = program

    def read(self, data: bytes) -> Requests:
        found = self._program.ask(data)
        requests = [
            (each["Method"], each["Target"], base64.b64decode(each["Body"] or "")) for each in found["Requests"]
        ]
        return Requests(requests, found["Error"])


@pytest.fixture(scope="module")
def net_http(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NetHttp]:
    with running(pytestconfig, "Go's net/http", programs.net_http, tmp_path_factory.mktemp("nethttp")) as program:
        yield NetHttp(program)


# Go's reads these, and ours refuses them.
ONLY_GO = {
    "a field without a name",
    "NUL in a value",
    "LF alone behind a chunk's size",
    "HTTP/2.0",
    "HTTP/0.9",
    "no host",
    "chunks in HTTP/1.0",
}


@pytest.mark.parametrize("name", CASES)
def test_every_case_of_smuggling(name: str, net_http: NetHttp) -> None:
    data, expected, verdict = CASES[name]
    theirs = net_http.read(data)
    read = [each for each in expected if not isinstance(each, Reason)]
    assert theirs.requests[: len(read)] == read
    refused = read != expected or not expected
    if verdict is Verdict.LENIENT:
        assert theirs.requests, "what aiohttp refuses and ours reads, Go's reads too"
    assert refused == (bool(theirs.error) or name in ONLY_GO)


FIELDS = st.sampled_from(
    [
        "Content-Length: 3",
        "Content-Length: 0",
        "Content-Length:3",
        "Content-Length: 03",
        "content-length: 3 ",
        "Content-Length: 3,3",
        "Content-Length: ",
        CHUNKED,
        "Transfer-Encoding:chunked ",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: ",
        "Connection: close",
        "Connection: keep-alive",
        "Host: y",
        "A: b",
        "A:",
        " A: b",
        "A : b",
        "Expect: 100-continue",
    ]
)
BODIES = st.sampled_from(
    [
        b"abc",
        b"0\r\n\r\n",
        b"3\r\nabc\r\n0\r\n\r\n",
        b"3;x\r\nabc\r\n0\r\nT: u\r\n\r\n",
        b"\r\n",
        AFTER,
        b"0\n\n",
        b"03\r\nabc\r\n",
    ]
)
LINES = st.sampled_from(
    ["POST /a HTTP/1.1", "GET /a HTTP/1.1", "POST /a HTTP/1.0", "HEAD /a HTTP/1.1", "POST * HTTP/1.1"]
)


@given(LINES, st.lists(FIELDS, max_size=4), st.lists(BODIES, max_size=3), st.sampled_from([b"\r\n", b"\n"]))
@settings(max_examples=counts(300, 50_000))
def test_any_of_these_fields_and_bodies(
    net_http: NetHttp, line: str, fields: list[str], bodies: list[bytes], end: bytes
) -> None:
    head = post(*fields, first=line).replace(b"\r\n", end)
    data = head + b"".join(bodies)
    found = [each for each in ours([data]) if not isinstance(each, Reason)]
    theirs = net_http.read(data)
    assert theirs.requests[: len(found)] == found, (found, theirs)


@pytest.mark.parametrize("place", PLACES)
def test_no_value_adds_anything(place: str, net_http: NetHttp) -> None:
    """As ``tests/core/test_injection.py`` shows by four other parsers."""
    for value in VALUES:
        if (found := written(place, value)) is not None:
            request, _, data = found
            theirs = net_http.read(data)
            assert len(theirs.requests) == 1, theirs
            method, target, body = theirs.requests[0]
            assert (method, body) == (request.method, request.body)
            assert data.startswith(f"{method} {target} HTTP/1.1\r\n".encode())
            assert target.endswith(request.target)
