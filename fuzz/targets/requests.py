"""What a program puts into a request: names, options, detach keys, times, header fields, base paths."""

# Invariant. Whatever a value is, it is refused with ``ValueError``, ``TypeError`` or ``LocalProtocolError``, or the
# request that is written is read by h11 as exactly one request, with our method, our header fields and a target that
# decodes to our segments and pairs, and nothing is left behind it. Our own server reads the same event. Detach keys
# are one byte for each key. The number of calls is linear in the input.

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import unquote

import h11

from attachproto import (
    CLIENT,
    SERVER,
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
from attachproto_adapters._flows._container_calls import create_request, kill_request, remove_request
from fuzz._invariants import check_linear, counted
from tests.helpers import bare

REFUSED = (ValueError, TypeError, LocalProtocolError)

# Separates the values of an input, because no mutation of one should shift the others.
_SEPARATOR = b"\xff"


def check(data: bytes) -> None:
    """One input: the kind of request, its flags, then values that are separated by the byte 255."""
    if len(data) < 2:
        return
    # UTF-8 and lone surrogates both.
    values = [part.decode("utf-8", "surrogatepass" if data[1] & 1 else "replace") for part in _parts(data[2:])]
    with counted(data) as steps:
        _check_detach_keys(values[0])
        try:
            request = KINDS[data[0] % len(KINDS)](data[1], values)
            connection = Connection(CLIENT, **_settings(data[1], values))
            written = connection.send(request)
        except REFUSED:
            pass
        else:
            _check_written(request, values, written, data[1])
    check_linear(steps, len(data), 1, per_byte=100)


def _parts(data: bytes) -> list[bytes]:
    parts = data.split(_SEPARATOR)[:5]
    found = parts + [b""] * (5 - len(parts))
    for part in found:
        try:
            part.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            return [part.decode("latin-1").encode() for part in found]
    return found


def _settings(flags: int, values: list[str]) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    if flags & 16:
        settings["host"] = values[3]
    if flags & 32:
        settings["user_agent"] = values[3]
    if flags & 64:
        settings["headers"] = [(values[3], values[4])]
    if flags & 128:
        settings["base_path"] = (values[4], "docker")
    return settings


def _attach(flags: int, values: list[str]) -> StreamRequest:
    options = AttachOptions(stdin=bool(flags & 2), logs=bool(flags & 4), detach_keys=values[1] or None)
    return Attach(values[0], options, api_version=values[2] or None, headers=_fields(flags, values))


def _exec(flags: int, values: list[str]) -> StreamRequest:
    return ExecStart(values[0], tty=bool(flags & 2), api_version=values[2] or None, headers=_fields(flags, values))


def _logs(flags: int, values: list[str]) -> StreamRequest:
    return Logs(
        values[0],
        follow=bool(flags & 2),
        since=values[1] or None,
        until=values[2] or None,
        tail=len(values[1]) if flags & 4 else None,
        headers=_fields(flags, values),
    )


def _plain(flags: int, values: list[str]) -> Request:
    method = values[2] if flags & 2 else "POST"
    query = ((values[1], values[0]), ("b", values[2]))
    body = values[1].encode("utf-8", "surrogatepass") if flags & 4 else b""
    return Request(method, ("containers", values[0], values[1]), query, body, _fields(flags, values))


def _create(flags: int, values: list[str]) -> Request:
    return create_request(
        values[0],
        [values[1], values[2]],
        api_version=None,
        env={values[3]: values[4]} if flags & 2 else None,
        name=values[2] if flags & 4 else None,
        workdir=values[4],
        config={values[1]: values[2]},
    )


def _kill(flags: int, values: list[str]) -> Request:
    return kill_request(values[0], values[1], values[2] or None)


def _remove(flags: int, values: list[str]) -> Request:
    return remove_request(values[0], force=bool(flags & 2), volumes=bool(flags & 4), api_version=values[1] or None)


def _fields(flags: int, values: list[str]) -> list[tuple[str, str]]:
    return [(values[3], values[4])] if flags & 8 else []


KINDS: tuple[Callable[[int, list[str]], Request | StreamRequest], ...] = (
    _attach, _exec, _logs, _plain, _create, _kill, _remove,
)  # fmt: skip


def _check_detach_keys(keys: str) -> None:
    try:
        found = parse_detach_keys(keys)
    except ValueError:
        return
    assert len(found) == keys.count(",") + 1
    assert max(found) < 128


def _check_written(asked: Request | StreamRequest, values: list[str], written: bytes, flags: int) -> None:
    request = asked if isinstance(asked, Request) else asked.to_request()
    http = h11.Connection(h11.SERVER)
    http.receive_data(written)
    head = http.next_event()
    assert isinstance(head, h11.Request), head
    body = b""
    while isinstance(event := http.next_event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage), event
    assert http.trailing_data[0] == b""
    assert head.method.decode() == request.method
    assert body == request.body
    path, _, query = head.target.decode("ascii").partition("?")
    base = (values[4], "docker") if flags & 128 else ()
    version = () if request.api_version is None else (f"v{request.api_version}",)
    assert tuple(map(unquote, path.split("/")[1:])) == (*base, *version, *request.path)
    assert [tuple(map(unquote, pair.split("=", 1))) for pair in query.split("&") if query] == [*request.query]
    names = [name.decode() for name, _ in head.headers]
    sent = dict(request.headers)
    for name, value in head.headers:
        if name.decode() in sent:
            assert sent[name.decode()] == value.decode("latin-1")
    allowed = {"host", "user-agent", "content-length", "connection", "upgrade", *sent}
    if flags & 64:
        allowed.add(values[3].lower())
    assert set(names) <= allowed, names
    assert names.count("host") == 1
    if not flags & 128:
        _check_our_server(asked, written)


def _check_our_server(asked: Request | StreamRequest, written: bytes) -> None:
    server = Connection(SERVER)
    server.receive_data(written)
    events = list(server.events())
    if isinstance(asked, Request):
        (event,) = events
        assert isinstance(event, Request | StreamRequest)
        read = event if isinstance(event, Request) else event.to_request()
        assert read.path == asked.path or not isinstance(event, Request)
    else:
        assert [bare(event) for event in events] == [bare(asked)]


def seeds() -> Iterator[bytes]:
    """Values that are valid, and each kind of value that could end a line, a segment or a header field."""
    for kind in range(len(KINDS)):
        for flags in (0, 1, 2, 4, 8, 16, 32, 64, 128, 255):
            for values in _VALUES:
                yield bytes([kind, flags]) + _SEPARATOR.join(values)


_VALUES = (
    (b"web", b"ctrl-p,ctrl-q", b"1.41", b"x-name", b"value"),
    (b"a" * 64, b"1700000000.123456789", b"2026-01-31T12:00:00.5+01:00", b"Accept", b"text/plain; q=1"),
    (b"busybox:latest", b"DEL,a,ctrl-[", b"GET", b"cookie", b"a=b; c=d"),
    (b"../x", b"a\r\nb", b"%2e%2e", b"host", b"a\r\nX: y"),
    (b"a b", b"\0", "\U0001f600é".encode(), b"content-length", b"\t5"),
    (b"web?x=1#y", b"&=+;", b"\xed\xa0\x80", b"x:y", b"a\0b"),
)
