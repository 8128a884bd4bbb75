"""Other people's parsers of HTTP requests, to see what they make of bytes that ours writes or reads.

They are h11's, that of ``http.server``, and the two of aiohttp: llhttp, which Node.js has too, and one in Python. Our
own server reads with h11, so about that one h11 is no second opinion.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http.client import HTTPException
from http.server import BaseHTTPRequestHandler
from io import BytesIO
from typing import Any

import aiohttp.http_parser
import attrs
import h11
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import BadHttpMessage


@attrs.frozen
class Seen:
    """One request as a parser reads it.

    Attributes:
        method: of the request line.
        target: of the request line, not decoded.
        headers: names in lower case, with their values.
        body: without chunks.
    """

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


class Refused(Exception):
    """The parser has refused what it was given."""


Parser = Callable[[bytes], list[Seen]]
"""Gives all requests in these bytes. Raises ``Refused`` where one is not valid, or not whole."""


def by_h11(data: bytes) -> list[Seen]:
    http = h11.Connection(h11.SERVER)
    http.receive_data(data)
    found = []
    try:
        while isinstance(head := http.next_event(), h11.Request):
            body = b""
            while isinstance(event := http.next_event(), h11.Data):
                body += event.data
            if not isinstance(event, h11.EndOfMessage):
                raise Refused(f"the body is not whole: {event}")
            headers = tuple((name.decode(), value.decode("latin-1")) for name, value in head.headers)
            found.append(Seen(head.method.decode(), head.target.decode("latin-1"), headers, body))
            http.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
            http.send(h11.EndOfMessage())
            if http.trailing_data[0] == b"":
                return found
            http.start_next_cycle()
    except (h11.RemoteProtocolError, h11.LocalProtocolError) as exc:
        raise Refused(str(exc)) from None
    raise Refused(f"{len(http.trailing_data[0])} bytes are left: {head}")


class _Handler(BaseHTTPRequestHandler):
    """Parses, and answers nothing."""

    def __init__(self, data: bytes) -> None:
        self.rfile = BytesIO(data)
        self.wfile = BytesIO()
        self.client_address = ("test", 0)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        raise Refused(f"{code} {message}")

    def parse(self) -> Seen | None:
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline:
            return None
        if not self.parse_request():
            raise Refused("no request line")
        length = int(self.headers.get("content-length", "0"))
        body = self.rfile.read(length)
        if len(body) < length:
            raise Refused("the body is not whole")
        headers = tuple((name.lower(), value) for name, value in self.headers.items())
        # It takes "//x" for another server's address, and shortens it.
        return Seen(self.command, self.requestline.split()[1], headers, body)


def by_http_server(data: bytes) -> list[Seen]:
    """It knows no chunks, and so is asked only about requests without them."""
    handler = _Handler(data)
    found = []
    try:
        while (seen := handler.parse()) is not None:
            found.append(seen)
    except (HTTPException, ValueError) as exc:
        raise Refused(str(exc)) from None
    return found


def _by_aiohttp(kind: Any) -> Parser:
    async def parse(data: bytes) -> list[Seen]:
        loop = asyncio.get_running_loop()
        parser = kind(BaseProtocol(loop), loop, 2**16, max_line_size=2**16, max_field_size=2**16)
        try:
            messages, _, tail = parser.feed_data(data)
        except BadHttpMessage as exc:
            raise Refused(str(exc)) from None
        found = []
        for head, payload in messages:
            if payload.exception() is not None:
                raise Refused(str(payload.exception()))
            if not payload.is_eof():
                raise Refused("the body is not whole")
            headers = tuple((name.decode().lower(), value.decode("latin-1")) for name, value in head.raw_headers)
            found.append(Seen(head.method, head.path, headers, payload.read_nowait()))
        if tail or not found:
            raise Refused(f"{tail!r} is left")
        return found

    return lambda data: asyncio.run(parse(data))


by_llhttp = _by_aiohttp(aiohttp.http_parser.HttpRequestParser)
by_aiohttp = _by_aiohttp(aiohttp.http_parser.HttpRequestParserPy)

PARSERS: dict[str, Parser] = {
    "h11": by_h11,
    "http.server": by_http_server,
    "llhttp": by_llhttp,
    "aiohttp": by_aiohttp,
}
"""All of them, by name."""

assert aiohttp.http_parser.HttpRequestParser is not aiohttp.http_parser.HttpRequestParserPy, (
    "aiohttp lacks its C parser"
)
