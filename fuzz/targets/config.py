"""Docker's configuration: ``config.json``, the file of a context, and the names in them."""

# Invariant. Whatever the files hold, a host comes of them, or ``HostInvalid``; nothing else is raised. No text of an
# error has a header's value in it, because ``HttpHeaders`` may be secret. The header fields that come of them can be
# written into a request, and none of them is one that the connection writes itself. The name of a context never leads
# out of the configuration's folder. The number of calls is linear in the input.

from __future__ import annotations

import functools
import hashlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attachproto import CLIENT, Connection, Request
from attachproto._headers import CONNECTION_HEADERS
from attachproto_adapters._errors import EngineUnreachable, HostInvalid
from attachproto_adapters._transport._hosts import resolve_host
from fuzz._invariants import check_linear, counted

_SEPARATOR = b"\xff"
_SECRET = "t0p-secret-value"


def check(data: bytes) -> None:
    """One input: which file it is, then the text of ``config.json`` or of the context's file, or a context's name."""
    if not data:
        return
    folder = _folder()
    config, meta, environ = b'{"currentContext": "one"}', _META, {"DOCKER_CONFIG": str(folder), "HOME": str(folder)}
    first, _, second = data[1:].partition(_SEPARATOR)
    match data[0] % 4:
        case 0:
            config = first
        case 1:
            meta = first
        case 2:
            config, meta = first, second
        case _:
            environ["DOCKER_CONTEXT"] = first.decode("utf-8", "surrogateescape").replace("\0", "")
    (folder / "config.json").write_bytes(config)
    (folder / "contexts" / "meta" / _digest("one") / "meta.json").write_bytes(meta)
    with counted(data) as steps:
        try:
            host = resolve_host(None, environ)
        except (HostInvalid, EngineUnreachable) as error:
            if _has_secret(config):
                assert _SECRET not in str(error)
        else:
            names = [name for name, _ in host.headers]
            assert not set(CONNECTION_HEADERS).intersection(names)
            Connection(CLIENT, host=host.header, headers=host.headers).send(Request("GET", ("_ping",)))
            assert _SECRET not in repr(host) + str(host) or not _has_secret(config)
    check_linear(steps, len(data), 1, per_byte=200)


def _has_secret(config: bytes) -> bool:
    """Whether the secret is the value of a header field, and nothing else that an error may quote."""
    try:
        document: Any = json.loads(config)
        values = list(document["HttpHeaders"].values())
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return False
    return _SECRET in values and config.count(_SECRET.encode()) == values.count(_SECRET)


@functools.cache
def _folder() -> Path:
    # Kept as long as this process lives.
    folder = tempfile.TemporaryDirectory(prefix="attachproto-fuzz-")
    _folders.append(folder)
    (Path(folder.name) / "contexts" / "meta" / _digest("one")).mkdir(parents=True)
    return Path(folder.name)


_folders: list[tempfile.TemporaryDirectory[str]] = []


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def seeds() -> Iterator[bytes]:
    """Files as docker writes them, and others."""
    for choice in (0, 2):
        for config in _CONFIGS:
            yield bytes([choice]) + config + _SEPARATOR + _META
    for meta in _METAS:
        yield b"\x01" + meta
    for name in (b"one", b"default", b"../../etc", b"a/b", b"", b"\xc3\xa9", b"one\n", b"x" * 300):
        yield b"\x03" + name


_META = b'{"Name":"one","Metadata":{},"Endpoints":{"docker":{"Host":"tcp://engine:2375","SkipTLSVerify":false}}}'
_CONFIGS = (
    b'{"currentContext":"one","HttpHeaders":{"X-Meta-Source":"t0p-secret-value","User-Agent":"x"}}',
    b'{"HttpHeaders":{"X-A":"t0p-secret-value","Host":"b"}}',
    b'{"HttpHeaders":{"X-A":"t0p-secret-value\\r\\nB: c"}}',
    b'{"HttpHeaders":["t0p-secret-value"],"auths":{}}',
    b'{"HttpHeaders":{"X-A":5}}',
    b'{"currentContext":5}',
    b'{"currentContext":"../../x"}',
    b'{"currentContext":"default"}',
    b'{"currentContext":"two"}',
    b"[]",
    b"",
    b"{",
    b"\xef\xbb\xbf{}",
    b'{"a":' + b"1" * 5000 + b"}",
    b"[" * 3000,
)
_METAS = (
    _META,
    b'{"Endpoints":{"docker":{"Host":"unix:///run/x.sock"}}}',
    b'{"Endpoints":{"docker":{"Host":"ssh://root@a","SkipTLSVerify":true}}}',
    b'{"Endpoints":{"docker":{"Host":""}}}',
    b'{"Endpoints":{"docker":{"Host":null}}}',
    b'{"Endpoints":[]}',
    b"null",
    b'{"Endpoints":{"docker":{"Host":"tcp://\\ud800:1"}}}',
)
