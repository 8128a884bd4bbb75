"""No value that a program gives can add anything to a request: four parsers that are not ours read what was written.

Each value is refused with ``ValueError``, ``TypeError`` or ``LocalProtocolError``, or all four parsers read exactly one
request, with our method, header fields and body, and a target that decodes to our segments and pairs.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from attachproto import (
    CLIENT,
    Attach,
    AttachOptions,
    Connection,
    ExecStart,
    LocalProtocolError,
    Logs,
    Request,
    StreamRequest,
    parse_detach_keys,
)
from tests.core.other_parsers import PARSERS, Refused, Seen, by_h11
from tests.helpers import counts

REFUSED = (ValueError, TypeError, LocalProtocolError)

PARTS = (
    *("\r\n", "\n", "\r", "\0", " ", "\t", "\x7f", "\x0b", "\x85", "\u2028", "\xa0"),
    *("/", "//", ".", "..", "\\", "?", "#", "&", "=", "+", ";", ":", "@", ",", "%", "%2f", "%2e%2e", "%0d%0a", "%00"),
    *("é", "ÿ", "Ω", "\U0001f600", "\ud800", "\udcff", "\u010d\u010a", "\uff0f", "\u2024\u2024"),
    *(
        "\r\nX-Evil: 1",
        "\r\n\r\nGET /evil HTTP/1.1\r\nHost: x\r\n\r\n",
        " HTTP/1.1\r\nX: y",
        "a: b",
        '"',
        "'",
        "\x1b[2J",
    ),
)
VALUES = [form % part for part in PARTS for form in ("%s", "a%s", "%sa", "a%sb")] + ["a" * 5000]

Fields = Callable[[str], tuple[Request | StreamRequest, dict[str, Any]]]

# Where a value goes: what is sent, and the settings of the connection.
PLACES: dict[str, Fields] = {
    "container": lambda value: (Attach(value), {}),
    "exec": lambda value: (ExecStart(value, tty=False), {}),
    "logs": lambda value: (Logs(value), {}),
    "detach keys": lambda value: (Attach("web", AttachOptions(detach_keys=value)), {}),
    "version": lambda value: (Attach("web", api_version=value), {}),
    "version of a plain call": lambda value: (Request("GET", ("info",), api_version=value), {}),
    "since": lambda value: (Logs("web", since=value), {}),
    "method": lambda value: (Request(value, ("info",)), {}),
    "segment": lambda value: (Request("GET", ("containers", value, "json")), {}),
    "name of a query": lambda value: (Request("GET", ("info",), ((value, "1"), ("b", "2"))), {}),
    "value of a query": lambda value: (Request("GET", ("info",), (("a", value), ("b", "2"))), {}),
    "body": lambda value: (Request("POST", ("x",), body=value.encode("utf-8", "surrogatepass")), {}),
    "name of a header": lambda value: (Request("POST", ("x",), headers=((value, "1"),)), {}),
    "value of a header": lambda value: (Request("POST", ("x",), headers=(("x-a", value),)), {}),
    "header of a stream": lambda value: (Attach("web", headers=(("x-a", value),)), {}),
    "host": lambda value: (Attach("web"), {"host": value}),
    "user agent": lambda value: (Attach("web"), {"user_agent": value}),
    "name of a header of all requests": lambda value: (Attach("web"), {"headers": ((value, "1"),)}),
    "value of a header of all requests": lambda value: (Attach("web"), {"headers": (("x-a", value),)}),
    "base path": lambda value: (Attach("web"), {"base_path": (value, "docker")}),
}

# These can be written, whatever characters they have, if they are text.
ENCODED = ("name of a query", "value of a query", "segment", "base path")


def written(place: str, value: str) -> tuple[Request, dict[str, Any], bytes] | None:
    """The request, the settings, and the bytes; ``None`` if it is refused."""
    try:
        asked, given = PLACES[place](value)
        data = Connection(CLIENT, **given).send(asked)
    except REFUSED:
        return None
    return asked if isinstance(asked, Request) else asked.to_request(), given, data


def check(request: Request, given: dict[str, Any], data: bytes, seen: Seen) -> None:
    """What a parser has seen is what was asked."""
    assert seen.method == request.method
    assert seen.body == request.body
    path, _, query = seen.target.partition("?")
    base = tuple(given.get("base_path", ()))
    version = () if request.api_version is None else (f"v{request.api_version}",)
    # A reader that decodes first and splits then sees more segments, so that none may be cleaned away.
    assert tuple(unquote(segment) for segment in path.split("/")[1:]) == (*base, *version, *request.path)
    assert not {"", ".", ".."}.intersection((*base, *request.path))
    pairs = tuple(tuple(unquote(part) for part in pair.split("=")) for pair in query.split("&") if pair)
    assert pairs == request.query
    own = {name.lower(): text for name, text in (*given.get("headers", ()), *request.headers)}
    headers = dict(seen.headers)
    assert len(headers) == len(seen.headers)
    assert {name: headers[name] for name in own} == own
    assert headers.keys() - own.keys() <= {"host", "user-agent", "content-length", "connection", "upgrade"}
    assert headers["host"] == given.get("host", "localhost")
    assert data.count(b"\r\n\r\n") == 1 + request.body.count(b"\r\n\r\n")


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize("place", PLACES)
def test_every_value_in_every_place(place: str, parser: str) -> None:
    count = 0
    values = VALUES if parser in ("h11", "http.server") else VALUES[:: counts(5, 1)]
    for value in values:
        if (found := written(place, value)) is None:
            continue
        request, given, data = found
        (seen,) = PARSERS[parser](data)
        check(request, given, data, seen)
        count += 1
    # Some are written everywhere, so that the checks above have been made.
    if place in ENCODED:
        assert count > len(values) // 2


@pytest.mark.parametrize("place", PLACES)
def test_what_ends_a_line_is_refused_or_encoded(place: str) -> None:
    for value in VALUES:
        if (found := written(place, value)) is not None and place != "body":
            head, _, body = found[2].partition(b"\r\n\r\n")
            for line in head.split(b"\r\n"):
                assert not {0, 10, 13}.intersection(line)
                assert not line.startswith((b"X-Evil", b"X: y"))
            assert b"evil" not in body.lower()


texts = st.text(max_size=12) | st.text(st.sampled_from("\r\n\0 \t/.%?#&=:a1é\ud800"), max_size=8)


@given(st.sampled_from(sorted(PLACES)), texts)
@settings(max_examples=counts(400, 20_000))
@example("host", "x\r\nX: y")
@example("segment", "\ud800")
def test_any_value(place: str, value: str) -> None:
    if (found := written(place, value)) is not None:
        request, given, data = found
        (seen,) = by_h11(data)
        check(request, given, data, seen)


@given(texts)
def test_detach_keys_are_one_byte_for_each_key(keys: str) -> None:
    try:
        found = parse_detach_keys(keys)
    except ValueError:
        return
    assert len(found) == keys.count(",") + 1
    assert max(found) < 128


def test_glued_requests_are_noticed() -> None:
    """The parsers that judge here do see a second request, and one that is cut."""
    one = b"GET /a HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nb"
    for (name, parser), count in itertools.product(PARSERS.items(), (1, 2, 3)):
        assert [seen.body for seen in parser(one * count)] == [b"b"] * count, name
        with contextlib.suppress(Refused):
            assert len(parser(one * count + b"GET /b HTTP/1.1\r\nA\r\n\r\n")) > count


def test_header_fields_of_the_connection_cannot_be_given() -> None:
    names: Iterable[str] = ("Host", "CONNECTION", "upgrade", "Content-Length", "transfer-encoding")
    for name in names:
        with pytest.raises(LocalProtocolError, match="remove these header fields"):
            Connection(CLIENT).send(Request("POST", ("x",), headers=((name, "chunked"),)))
        with pytest.raises(LocalProtocolError, match="remove these header fields"):
            Connection(CLIENT).send(Attach("web", headers=((name, "5"),)))
        with pytest.raises(ValueError, match="remove these header fields"):
            Connection(CLIENT, headers=((name, "5"),))
