"""Writes requests, and what stands in every request of one connection.

Strategy: as in ``_http_writer``, every function turns a value into bytes or text and changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote

from attachproto._errors import LocalProtocolError, excerpt
from attachproto._headers import CONNECTION_HEADERS, Headers, check_headers, field, lower_names
from attachproto._http_writer import encode_head
from attachproto._requests import Request, as_segments
from attachproto._validators import check_segments

# RFC 9112: a token, a target of visible ASCII characters, the version.
_REQUEST_LINE: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+ [!-~]+ HTTP/1\.1")


def common_headers(headers: Iterable[tuple[str, str]]) -> Headers:
    """Check the header fields that go with every request of a connection.

    Raises:
        ValueError: a field cannot be written, or is one that the connection writes itself.
    """
    checked = lower_names(headers)
    check_headers(checked)
    if taken := sorted({name for name, _ in checked} & set(CONNECTION_HEADERS)):
        raise ValueError(f"remove these header fields, which the connection writes itself: {', '.join(taken)}")
    return checked


def encode_base_path(base_path: Iterable[str]) -> str:
    """What stands before the path of every request of a connection, such as ``/api/endpoints/1/docker``.

    Raises:
        TypeError: it is not a tuple of segments.
        ValueError: a segment is empty, ``.`` or ``..``.
    """
    segments = as_segments(base_path)
    check_segments(segments)
    return "".join(f"/{quote(segment, safe='')}" for segment in segments)


def encode_request(
    request: Request,
    *,
    upgrade: str | None,
    host: str,
    user_agent: str,
    headers: Headers = (),
    base_path: str = "",
) -> bytes:
    """Write a whole request.

    Args:
        request: the request. Its own header fields win over ``headers``.
        upgrade: the protocol to upgrade to; ``None`` for none.
        host: the value of ``Host``.
        user_agent: the value of ``User-Agent``, unless it is among the header fields.
        headers: more fields, which go with every request.
        base_path: encoded, and written before the target.

    Raises:
        LocalProtocolError: a header field is one that the connection writes itself; or a part of the request cannot
            be written as it is.
    """
    if taken := sorted({name for name, _ in request.headers} & set(CONNECTION_HEADERS)):
        raise LocalProtocolError(f"remove these header fields, which the connection writes itself: {', '.join(taken)}")
    start = f"{request.method} {base_path}{request.target} HTTP/1.1"
    if not _REQUEST_LINE.fullmatch(start):
        raise LocalProtocolError(f"this request line cannot be written: {excerpt(start)}")
    own = {name for name, _ in request.headers}
    rest = (*(each for each in headers if each[0] not in own), *request.headers)
    first: list[tuple[str, str]] = [("host", host)]
    if field(rest, "user-agent") is None:
        first.append(("user-agent", user_agent))
    if request.body or request.method not in ("GET", "HEAD"):
        first.append(("content-length", str(len(request.body))))
    if upgrade is not None:
        # Podman compares the whole value of Connection, so "keep-alive, Upgrade" is not an upgrade.
        first += [("connection", "Upgrade"), ("upgrade", upgrade)]
    return encode_head(start, (*first, *rest)) + request.body
