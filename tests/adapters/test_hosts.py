"""Addresses and environments."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from attachproto_adapters import HostInvalid
from attachproto_adapters._hosts import TcpHost, UnixHost, resolve_api_version, resolve_host

DEFAULT = "the default, as DOCKER_HOST is not set"
FROM_ENVIRONMENT = "from DOCKER_HOST"
GIVEN = "as given"


@pytest.mark.parametrize(
    ("host", "environ", "expected"),
    [
        (None, {}, UnixHost("/var/run/docker.sock", DEFAULT)),
        (None, {"DOCKER_HOST": ""}, UnixHost("/var/run/docker.sock", DEFAULT)),
        (None, {"DOCKER_HOST": "unix:///run/podman.sock"}, UnixHost("/run/podman.sock", FROM_ENVIRONMENT)),
        (None, {"DOCKER_HOST": "tcp://engine:2376"}, TcpHost("engine", 2376, FROM_ENVIRONMENT)),
        ("unix:///run/docker.sock", {}, UnixHost("/run/docker.sock", GIVEN)),
        ("unix:///run/docker.sock", {"DOCKER_HOST": "tcp://engine"}, UnixHost("/run/docker.sock", GIVEN)),
        ("unix://relative/socket", {}, UnixHost("relative/socket", GIVEN)),
        ("unix:///a b?c#d%20", {}, UnixHost("/a b?c#d%20", GIVEN)),
        # TLS is for TCP; the docker CLI takes a Unix socket as it is, too.
        ("unix:///run/docker.sock", {"DOCKER_TLS_VERIFY": "1"}, UnixHost("/run/docker.sock", GIVEN)),
        ("tcp://engine", {}, TcpHost("engine", 2375, GIVEN)),
        ("tcp://engine/", {}, TcpHost("engine", 2375, GIVEN)),
        ("tcp://10.0.0.7:4243", {}, TcpHost("10.0.0.7", 4243, GIVEN)),
        ("tcp://[::1]", {}, TcpHost("::1", 2375, GIVEN)),
        ("tcp://[fe80::2%eth0]:99", {}, TcpHost("fe80::2%eth0", 99, GIVEN)),
        ("tcp://engine", {"DOCKER_TLS_VERIFY": "", "DOCKER_TLS": ""}, TcpHost("engine", 2375, GIVEN)),
    ],
)
def test_addresses(host: str | None, environ: Mapping[str, str], expected: UnixHost | TcpHost) -> None:
    assert resolve_host(host, environ) == expected


@pytest.mark.parametrize(
    ("host", "environ", "match"),
    [
        ("", {}, "'' .as given. is no address"),
        ("/var/run/docker.sock", {}, "begins with unix:// or tcp://"),
        ("engine:2375", {}, "begins with unix:// or tcp://"),
        (None, {"DOCKER_HOST": "engine"}, "'engine' .from DOCKER_HOST. is no address"),
        ("unix://", {}, "names no socket"),
        ("tcp://", {}, "names no host"),
        ("tcp://:2375", {}, "names no host"),
        ("tcp://engine:port", {}, "tcp://engine:port.* is no address"),
        ("tcp://engine:99999", {}, "is no address"),
        ("tcp://[::1", {}, "is no address"),
        ("ssh://user@engine", {}, "ssh://.*open_attachment"),
        ("npipe:////./pipe/docker_engine", {}, "npipe://"),
        ("http://engine", {}, "http://"),
        ("tcp://engine", {"DOCKER_TLS_VERIFY": "1"}, "TLS.*open_attachment"),
        ("tcp://engine", {"DOCKER_TLS": "1"}, "TLS"),
        (None, {"DOCKER_HOST": "tcp://engine", "DOCKER_TLS_VERIFY": "1"}, "from DOCKER_HOST.*TLS"),
    ],
)
def test_no_addresses(host: str | None, environ: Mapping[str, str], match: str) -> None:
    with pytest.raises(HostInvalid, match=match):
        resolve_host(host, environ)


def test_an_invalid_address_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="no address"):
        resolve_host("nonsense", {})


@pytest.mark.parametrize(
    ("host", "header", "text"),
    [
        (UnixHost("/run/docker.sock", GIVEN), "localhost", "unix:///run/docker.sock (as given)"),
        (TcpHost("engine", 2375, FROM_ENVIRONMENT), "engine:2375", "tcp://engine:2375 (from DOCKER_HOST)"),
        (TcpHost("::1", 2376, GIVEN), "[::1]:2376", "tcp://[::1]:2376 (as given)"),
    ],
)
def test_how_a_host_is_named(host: UnixHost | TcpHost, header: str, text: str) -> None:
    assert host.header == header
    assert str(host) == text


@pytest.mark.parametrize(
    ("given", "environ", "expected"),
    [
        (None, {}, None),
        (None, {"DOCKER_API_VERSION": ""}, None),
        (None, {"DOCKER_API_VERSION": "1.41"}, "1.41"),
        (None, {"DOCKER_API_VERSION": "v1.41"}, "1.41"),
        ("1.40", {}, "1.40"),
        ("1.40", {"DOCKER_API_VERSION": "1.41"}, "1.40"),
    ],
)
def test_api_version(given: str | None, environ: Mapping[str, str], expected: str | None) -> None:
    assert resolve_api_version(given, environ) == expected
