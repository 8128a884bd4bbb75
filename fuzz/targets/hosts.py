"""Addresses of engines, as a program gives them or the environment does."""

# Invariant. Whatever text an address is, it is read, or refused with ``HostInvalid``; where nothing names an engine,
# ``EngineUnreachable``. Nothing else is raised. The text of an error has no password of the address in it. What is
# read and written out again is read as the same. A name that ssh gets is no option, and no shell's command. The value
# of ``Host`` and the base path can be written into a request, or are refused there. The number of calls is linear.

from __future__ import annotations

from collections.abc import Iterator

import h11

from attachproto import CLIENT, Connection, Request
from attachproto_adapters._errors import EngineUnreachable, HostInvalid
from attachproto_adapters._transport._hosts import resolve_api_version, resolve_host
from attachproto_adapters._transport._schemes import Host, SshHost, TcpHost, UnixHost, parse_host
from fuzz._invariants import check_linear, counted

_SEPARATOR = b"\xff"

# No file is in it, so that only the environment is looked at.
_NOWHERE = "/dev/null"


def check(data: bytes) -> None:
    """One input: where the address comes from, then the address and another text."""
    if not data:
        return
    first, _, second = data[1:].partition(_SEPARATOR)
    address, other = (part.decode("utf-8", "surrogateescape") for part in (first, second))
    environ = {"HOME": _NOWHERE, "DOCKER_CONFIG": _NOWHERE}
    given = None
    match data[0] % 4:
        case 0:
            given = address
        case 1:
            environ |= {"DOCKER_HOST": address, "DOCKER_API_VERSION": other}
        case 2:
            environ |= {"DOCKER_HOST": address, "DOCKER_TLS": other}
        case _:
            environ |= {"CONTAINER_HOST": address, "XDG_RUNTIME_DIR": f"{_NOWHERE}{other}".replace("\0", "")}
    with counted(data) as steps:
        try:
            host = resolve_host(given, environ)
        except (HostInvalid, EngineUnreachable) as error:
            _check_error(address, error)
        else:
            _check(host)
        resolve_api_version(None, environ)
    check_linear(steps, len(data), 1, per_byte=100)


def _check_error(address: str, error: Exception) -> None:
    scheme, separator, rest = address.strip().partition("://")
    user, at, _ = rest.rpartition("@")
    name, colon, password = user.partition(":")
    is_one = separator and at and colon and scheme.isalnum() and "@" not in name
    if is_one and len(password) > 8 and address.count(password) == 1:
        assert password not in str(error), error


def _check(host: Host) -> None:
    str(host)
    repr(host)
    match host:
        case UnixHost(path=path):
            assert path
            assert "\0" not in path
            assert parse_host(f"unix://{path}", host.origin) == host
        case TcpHost():
            assert 0 < host.port < 65536
            again, _, _ = str(host).rpartition(" (")
            if host.tls is None:
                assert parse_host(again, host.origin) == host
            _check_request(host)
        case SshHost():
            assert not (host.user or "").startswith("-")
            assert not host.name.startswith("-")
            assert all(part.isprintable() for part in (host.name, host.user or "", host.path or ""))
            assert not set("'`\";&<>|(){} ").intersection(host.name + (host.user or ""))


def _check_request(host: TcpHost) -> None:
    request = Request("GET", ("_ping",))
    written = Connection(CLIENT, host=host.header, base_path=host.base_path).send(request)
    http = h11.Connection(h11.SERVER)
    http.receive_data(written)
    head = http.next_event()
    assert isinstance(head, h11.Request)
    assert dict(head.headers)[b"host"].decode() == host.header
    assert head.target.count(b"/") == 1 + len(host.base_path)
    assert isinstance(http.next_event(), h11.EndOfMessage)
    assert http.trailing_data[0] == b""


def seeds() -> Iterator[bytes]:
    """Addresses of each scheme, valid and not."""
    for source in range(4):
        for address in _ADDRESSES:
            yield bytes([source]) + address + _SEPARATOR + b"v1.41"


_ADDRESSES = (
    b"unix:///var/run/docker.sock",
    b"unix://relative.sock",
    b"unix://@abstract",
    b"tcp://localhost:2375",
    b"tcp://[fe80::1%25eth0]:2376/api/endpoints/1/docker",
    b"tcp://10.0.0.1/a%2Fb/c%20d",
    b"localhost:2375",
    b"ssh://root@machine:22/run/user/0/docker.sock",
    b"ssh://user%40x@machine",
    b"ssh://-oProxyCommand=x@machine",
    b"ssh://user:secret-password@machine",
    b"tcp://user:secret-password@machine:1",
    b"npipe:////./pipe/docker",
    b"fd://",
    b"tcp://a:99999",
    b"tcp://%ff:1/..",
    b"http://[::1",
)
