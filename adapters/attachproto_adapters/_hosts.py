"""Where the engine is: addresses as the docker CLI writes them. No I/O, the environment is an argument."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

import attrs

from attachproto_adapters._errors import HostInvalid

_DEFAULT: Final = "unix:///var/run/docker.sock"

# What the docker CLI takes when a tcp:// address has no port.
_TCP_PORT: Final = 2375


@attrs.frozen
class UnixHost:
    """An engine behind a Unix socket. ``origin`` says for an error where the address came from."""

    path: str
    origin: str

    @property
    def header(self) -> str:
        """The value of the ``Host`` header; engines take any that is valid."""
        return "localhost"

    def __str__(self) -> str:
        return f"unix://{self.path} ({self.origin})"


@attrs.frozen
class TcpHost:
    """An engine behind plain TCP. ``origin`` says for an error where the address came from."""

    name: str
    port: int
    origin: str

    @property
    def header(self) -> str:
        """The value of the ``Host`` header."""
        return f"[{self.name}]:{self.port}" if ":" in self.name else f"{self.name}:{self.port}"

    def __str__(self) -> str:
        return f"tcp://{self.header} ({self.origin})"


def resolve_host(host: str | None, environ: Mapping[str, str]) -> UnixHost | TcpHost:
    """Understand an address, or find the one that the environment names.

    Raises:
        HostInvalid: the address is none, or needs TLS or ssh.
    """
    if host is not None:
        origin = "as given"
    elif host := environ.get("DOCKER_HOST"):
        origin = "from DOCKER_HOST"
    else:
        host, origin = _DEFAULT, "the default, as DOCKER_HOST is not set"
    scheme, separator, rest = host.partition("://")
    if not separator:
        raise HostInvalid(f"{host!r} ({origin}) is no address of an engine: it begins with unix:// or tcp://")
    if scheme == "unix":
        if not rest:
            raise HostInvalid(f"{host!r} ({origin}) names no socket")
        return UnixHost(rest, origin)
    if scheme == "tcp":
        if environ.get("DOCKER_TLS_VERIFY") or environ.get("DOCKER_TLS"):
            raise HostInvalid(
                f"{host} ({origin}) is asked for with TLS by the environment, which this version does not speak: "
                "connect a socket yourself and use open_attachment()"
            )
        try:
            parts = urlsplit(host)
            name, port = parts.hostname, parts.port
        except ValueError as exc:
            raise HostInvalid(f"{host!r} ({origin}) is no address of an engine: {exc}") from None
        if not name:
            raise HostInvalid(f"{host!r} ({origin}) names no host")
        if not host.isprintable() or parts.netloc != rest.rstrip("/") or "@" in parts.netloc:
            raise HostInvalid(f"{host!r} ({origin}): an address of an engine is a name and a port, and nothing more")
        return TcpHost(name, _TCP_PORT if port is None else port, origin)
    raise HostInvalid(
        f"{scheme}:// ({host!r}, {origin}) is no transport that this version speaks, which are unix:// and tcp://; "
        "connect a socket yourself and use open_attachment()"
    )


def resolve_api_version(api_version: str | None, environ: Mapping[str, str]) -> str | None:
    """The version for the path: the argument, or ``DOCKER_API_VERSION`` (whose ``v`` is optional), or none."""
    if api_version is None:
        return environ.get("DOCKER_API_VERSION", "").removeprefix("v") or None
    return api_version
