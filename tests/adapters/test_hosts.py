"""Addresses and environments."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from pathlib import Path

import attrs
import pytest

from attachproto_adapters import EngineUnreachable, HostInvalid
from attachproto_adapters._transport import _hosts as hosts
from attachproto_adapters._transport._hosts import resolve_api_version, resolve_host
from attachproto_adapters._transport._schemes import SCHEMES, Host, SshHost, TcpHost, TlsFiles, UnixHost
from attachproto_adapters.cli._main import main

FROM_ENVIRONMENT = "from DOCKER_HOST"
GIVEN = "as given"

# sha256 of "rt", which names its directory
RT = "cdffd5dd8ca8126c0482ba994814b9014cc9e973435d399f1cf1f69479e6b907"


@pytest.fixture
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without engines. Not tmp_path: a socket's path has 108 bytes."""
    directory = tmp_path_factory.mktemp("h")
    monkeypatch.setattr(hosts, "_DOCKER_SOCKET", str(directory / "d"))
    monkeypatch.setattr(hosts, "_PODMAN_SOCKET", str(directory / "p"))
    return directory


def resolved(host: str | None, environ: Mapping[str, str], home: Path) -> Host:
    return resolve_host(host, {"DOCKER_CONFIG": str(home), **environ})


def write(file: Path, content: str = "") -> str:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)
    return str(file)


def bind(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
    return str(path)


@pytest.mark.parametrize(
    ("host", "environ", "expected"),
    [
        (None, {"DOCKER_HOST": "unix:///run/podman.sock"}, UnixHost("/run/podman.sock", FROM_ENVIRONMENT)),
        (None, {"DOCKER_HOST": " unix:///run/podman.sock\n"}, UnixHost("/run/podman.sock", FROM_ENVIRONMENT)),
        (None, {"DOCKER_HOST": "tcp://engine:2376"}, TcpHost("engine", 2376, FROM_ENVIRONMENT)),
        (None, {"DOCKER_HOST": "engine:2375"}, TcpHost("engine", 2375, FROM_ENVIRONMENT)),
        (None, {"DOCKER_HOST": "unix:///run/e", "DOCKER_CONTEXT": "none"}, UnixHost("/run/e", FROM_ENVIRONMENT)),
        ("unix:///run/docker.sock", {}, UnixHost("/run/docker.sock", GIVEN)),
        ("unix:///run/docker.sock", {"DOCKER_HOST": "tcp://engine"}, UnixHost("/run/docker.sock", GIVEN)),
        ("unix:///run/docker.sock", {"DOCKER_CONTEXT": "none"}, UnixHost("/run/docker.sock", GIVEN)),
        ("unix://relative/socket", {}, UnixHost("relative/socket", GIVEN)),
        ("unix:///a b?c#d%20", {}, UnixHost("/a b?c#d%20", GIVEN)),
        # TLS is for TCP; the docker CLI takes a Unix socket as it is, too.
        ("unix:///run/docker.sock", {"DOCKER_TLS_VERIFY": "1"}, UnixHost("/run/docker.sock", GIVEN)),
        ("ssh://engine", {"DOCKER_TLS_VERIFY": "1"}, SshHost("engine", GIVEN)),
        ("tcp://engine", {}, TcpHost("engine", 2375, GIVEN)),
        ("tcp://engine:", {}, TcpHost("engine", 2375, GIVEN)),
        ("tcp://engine/", {}, TcpHost("engine", 2375, GIVEN)),
        ("tcp://engine/a%20b/%2F/c/", {}, TcpHost("engine", 2375, GIVEN, base_path=("a b", "/", "c"))),
        (
            "tcp://portainer:9000/api/endpoints/1/docker",
            {},
            TcpHost("portainer", 9000, GIVEN, base_path=("api", "endpoints", "1", "docker")),
        ),
        ("tcp://Engine_1.example.", {}, TcpHost("Engine_1.example.", 2375, GIVEN)),
        ("tcp://10.0.0.7:4243", {}, TcpHost("10.0.0.7", 4243, GIVEN)),
        ("10.0.0.7:4243", {}, TcpHost("10.0.0.7", 4243, GIVEN)),
        ("[::1]:4243", {}, TcpHost("::1", 4243, GIVEN)),
        ("tcp://[::1]", {}, TcpHost("::1", 2375, GIVEN)),
        ("tcp://[::ffff:10.0.0.7]:99", {}, TcpHost("::ffff:10.0.0.7", 99, GIVEN)),
        ("tcp://[fe80::2%eth0]:99", {}, TcpHost("fe80::2%eth0", 99, GIVEN)),
        ("tcp://[fe80::2%25eth0]:99", {}, TcpHost("fe80::2%eth0", 99, GIVEN)),
        ("tcp://[fe80::2%25]:99", {}, TcpHost("fe80::2%25", 99, GIVEN)),
        ("tcp://engine", {"DOCKER_TLS_VERIFY": "", "DOCKER_TLS": ""}, TcpHost("engine", 2375, GIVEN)),
        # It says where, not whether.
        ("tcp://engine", {"DOCKER_CERT_PATH": "/certificates"}, TcpHost("engine", 2375, GIVEN)),
        ("ssh://Alias", {}, SshHost("Alias", GIVEN)),
        ("ssh://user@engine:22", {}, SshHost("engine", GIVEN, "user", 22)),
        ("ssh://engine:", {}, SshHost("engine", GIVEN)),
        ("ssh://@engine", {}, SshHost("engine", GIVEN)),
        ("ssh://engine/", {}, SshHost("engine", GIVEN, path="/")),
        ("ssh://engine:22/run/a%20b.sock", {}, SshHost("engine", GIVEN, port=22, path="/run/a b.sock")),
        ("ssh://u@[fe80::2%25eth0]/s", {}, SshHost("fe80::2%eth0", GIVEN, "u", path="/s")),
        ("ssh://a@b@engine", {}, SshHost("engine", GIVEN, "a@b")),
        ("ssh://DOMAIN%5Cu%3A%40@engine", {}, SshHost("engine", GIVEN, "DOMAIN\\u:@")),
        (None, {"DOCKER_HOST": "ssh://engine"}, SshHost("engine", FROM_ENVIRONMENT)),
    ],
)
def test_addresses(host: str | None, environ: Mapping[str, str], expected: Host, home: Path) -> None:
    assert resolved(host, environ, home) == expected


@pytest.mark.parametrize(
    ("host", "match"),
    [
        ("", "'' .as given. is not an engine's address.*unix://, tcp:// or ssh://"),
        ("/var/run/docker.sock", "must begin with unix://"),
        ("engine", "must begin with unix://, tcp://"),
        ("engine:port", "must begin with unix://, tcp://"),
        ("unix://", "names no socket: write unix:///"),
        ("unix:///a\0b", "names no socket"),
        ("tcp://", r"names no host: write tcp://NAME\[:PORT\]"),
        ("tcp://:2375", "names no host"),
        ("tcp://engine:port", "tcp://engine:port.* is not an engine's address"),
        ("tcp://engine:99999", "is not an engine's address.*1 to 65535"),
        ("tcp://engine:0", "is not an engine's address.*1 to 65535"),
        ("tcp://engine:-1", "is not an engine's address"),
        ("tcp://engine:" + "1" * 5000, "is not an engine's address"),
        ("tcp://engine:١", "is not an engine's address"),
        ("tcp://engine\n:1", "is not an engine's address"),
        ("tcp://engine:1\n", "is not an engine's address"),
        ("tcp://two words", "is not an engine's address"),
        ("tcp://-engine", "is not an engine's address"),
        ("tcp://bücher", "is not an engine's address"),
        ("tcp://a%41", "is not an engine's address"),
        ("tcp://[::1", "is not an engine's address"),
        ("tcp://::1", "is not an engine's address"),
        ("::1:2375", "is not an engine's address"),
        ("tcp://[engine]", "is not an engine's address"),
        ("tcp://[::1%]", "is not an engine's address"),
        ("tcp://engine?query", "is not an engine's address"),
        ("tcp://user@engine", "has a user, a query or a fragment"),
        ("tcp://engine/base?query", "has a user, a query or a fragment"),
        ("tcp://engine/base#fragment", "has a user, a query or a fragment"),
        ("tcp://engine/a/../b", r"no valid path: a segment is empty, '\.', '\.\.' or not valid UTF-8"),
        ("tcp://engine/a/%2e%2E", "no valid path"),
        ("tcp://engine/a//b", "no valid path"),
        ("tcp://engine/%ff", "no valid path"),
        ("tcp://engine/\udcff", "no valid path"),
        ("ssh://", r"names no host: write ssh://\[USER@\]NAME"),
        ("ssh:///run/docker.sock", "names no host"),
        ("ssh://user@", "names no host"),
        ("ssh://engine:port", "is not an engine's address"),
        ("ssh://engine:70000", "1 to 65535"),
        ("ssh://-oProxyCommand=id", "is not an engine's address"),
        ("ssh://-oProxyCommand@engine", "a user name that ssh does not take"),
        ("ssh://%2Dl@engine", "a user name that ssh does not take"),
        ("ssh://a%20b@engine", "a user name that ssh does not take"),
        ("ssh://a b@engine", "is not an engine's address"),
        ("ssh://a%0Ab@engine", "a user name that ssh does not take"),
        ("ssh://a%FFb@engine", "a user name that ssh does not take"),
        ("ssh://`id`@engine", "a user name that ssh does not take"),
        ("ssh://a%3Bid@engine", "a user name that ssh does not take"),
        ("ssh://$(id)", "is not an engine's address"),
        ("ssh://engine?query", "is not an engine's address"),
        ("ssh://engine/run?query", "has a query"),
        ("ssh://engine/run#fragment", "a fragment"),
        ("ssh://u#v@engine", "a fragment"),
        ("ssh://engine/a%00b", "an unprintable character"),
        ("npipe:////./pipe/docker_engine", "npipe:// is not supported.*unix://, tcp:// and ssh://.*open_attachment"),
        ("http://engine", "http://.*unix://, tcp:// and ssh://"),
        ("https://engine", "https://.*unix://, tcp:// and ssh://"),
        ("fd://3", "fd://.*unix://, tcp:// and ssh://"),
        ("TCP://engine", "TCP:// is not supported"),
    ],
)
def test_no_addresses(host: str, match: str, home: Path) -> None:
    with pytest.raises(HostInvalid, match=match):
        resolved(host, {}, home)


def test_errors_and_help_know_every_scheme_of_the_table(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(HostInvalid) as caught:
        resolved("x://engine", {}, home)
    with pytest.raises(SystemExit):
        main(["attach", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    for name, scheme in SCHEMES.items():
        assert f"{name}://" in str(caught.value)
        assert scheme.short in told
        assert scheme.short.startswith(f"{name}://")
        assert scheme.form.startswith(f"{name}://")


def test_where_an_address_came_from_is_told(home: Path) -> None:
    with pytest.raises(HostInvalid, match=r"'engine' \(from DOCKER_HOST\) is not an engine's address"):
        resolved(None, {"DOCKER_HOST": "engine"}, home)


@pytest.mark.parametrize(
    "address",
    [
        "ssh://user:s3cret@engine",
        "ssh://:s3cret@engine",
        "ssh://user:s3cret@@engine:22/run",
        "ssh://user:a/s3cret@engine",
        "ssh://user:s3cret?@engine",
        "ssh://user:#s3cret@engine",
        "ssh://user:\ns3cret@engine",
        "tcp://user:s3cret@engine:1",
        "tcp://engine/path//:s3cret@other",
        "https://user:s3cret@engine",
        "user:s3cret@engine:1",
        "user:s3cret@engine",
    ],
)
def test_no_password_is_told(address: str, home: Path) -> None:
    with pytest.raises(HostInvalid, match="engine") as caught:
        resolved(address, {}, home)
    assert "s3cret" not in str(caught.value)
    assert "***" in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_a_user_is_told(home: Path) -> None:
    with pytest.raises(HostInvalid, match="'ssh://user@engine:port'"):
        resolved("ssh://user@engine:port", {}, home)


def test_an_invalid_address_is_a_value_error(home: Path) -> None:
    with pytest.raises(ValueError, match="not an engine"):
        resolved("nonsense", {}, home)


@pytest.mark.parametrize(
    ("host", "header", "text"),
    [
        (UnixHost("/run/docker.sock", GIVEN), "localhost", "unix:///run/docker.sock (as given)"),
        (TcpHost("engine", 2375, FROM_ENVIRONMENT), "engine:2375", "tcp://engine:2375 (from DOCKER_HOST)"),
        (TcpHost("::1", 2376, GIVEN), "[::1]:2376", "tcp://[::1]:2376 (as given)"),
        (TcpHost("p", 9, GIVEN, None, ("a b", "c")), "p:9", "tcp://p:9/a%20b/c (as given)"),
        (SshHost("engine", GIVEN), "localhost", "ssh://engine (as given)"),
        (SshHost("::1", GIVEN, "a@b", 22, "/a b"), "localhost", "ssh://a%40b@[::1]:22/a%20b (as given)"),
    ],
)
def test_how_a_host_is_named(host: Host, header: str, text: str) -> None:
    assert host.header == header
    assert str(host) == text


# What is there when nothing is named


@pytest.mark.parametrize("zone", ["%25eth0", "%eth0", "%25", "%2525", "%25255", "%25a%25b", "%a%25b"])
@pytest.mark.parametrize("address", ["tcp://[fe80::2{}]:99", "ssh://u@[fe80::2{}]/s"])
def test_an_address_that_is_shown_can_be_given_again(address: str, zone: str, home: Path) -> None:
    host = resolve_host(address.format(zone), {"HOME": str(home)})
    assert resolve_host(str(host).partition(" (")[0], {"HOME": str(home)}) == host


@pytest.mark.parametrize(
    ("there", "environ", "expected"),
    [
        (["d", "run/docker.sock", "run/podman/podman.sock", "p"], {}, "d"),
        (["run/docker.sock", "run/podman/podman.sock", "p"], {}, "run/docker.sock"),
        (["run/podman/podman.sock", "p"], {}, "run/podman/podman.sock"),
        (["p"], {}, "p"),
        (["p"], {"DOCKER_HOST": "", "DOCKER_CONTEXT": "", "CONTAINER_HOST": ""}, "p"),
        (["d", "p"], {"DOCKER_CONTEXT": "default"}, "d"),
        (["run/docker.sock", "p"], {"XDG_RUNTIME_DIR": ""}, "p"),
        (["d"], {"CONTAINER_HOST": "unix:///elsewhere"}, "d"),
        (["run/docker.sock"], {"CONTAINER_HOST": "unix:///elsewhere"}, "run/docker.sock"),
    ],
)
def test_the_first_socket_that_is_there(
    there: list[str], environ: Mapping[str, str], expected: str, home: Path
) -> None:
    for name in there:
        bind(home / name)
    found = resolved(None, {"XDG_RUNTIME_DIR": str(home / "run"), **environ}, home)
    assert isinstance(found, UnixHost)
    assert found.path == str(home / expected)
    assert found.origin.endswith("own socket, as DOCKER_HOST is not set")


@pytest.mark.parametrize(
    "address",
    ["unix:///run/podman/podman.sock", "tcp://engine:8080", "ssh://core@127.0.0.1:2222/run/podman/podman.sock"],
)
def test_podmans_variable_comes_before_podmans_sockets(address: str, home: Path) -> None:
    bind(home / "p")
    bind(home / "run/podman/podman.sock")
    environ = {"XDG_RUNTIME_DIR": str(home / "run"), "CONTAINER_HOST": address}
    assert str(resolved(None, environ, home)) == f"{address} (from CONTAINER_HOST, as DOCKER_HOST is not set)"


def test_podmans_variable_may_be_invalid(home: Path) -> None:
    with pytest.raises(HostInvalid, match="from CONTAINER_HOST"):
        resolved(None, {"CONTAINER_HOST": "http://engine"}, home)


def test_no_engine_anywhere(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    denied = bind(home / "run/docker.sock")
    write(home / "run/podman/podman.sock")
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != denied and access(path, mode))
    with pytest.raises(EngineUnreachable) as caught:
        resolved(None, {"XDG_RUNTIME_DIR": str(home / "run")}, home)
    assert str(caught.value) == (
        f"no engine was found; tried unix://{home}/d (Docker: absent), "
        f"unix://{home}/run/docker.sock (rootless Docker: no permission), "
        f"unix://{home}/run/podman/podman.sock (rootless Podman: not a socket), "
        f"unix://{home}/p (Podman: absent): say where it is with DOCKER_HOST or host="
    )


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (PermissionError(13, "Permission denied"), "no permission"),
        (NotADirectoryError(20, "Not a directory"), "absent"),
        (OSError(40, "Too many levels of symbolic sessions"), "Too many levels of symbolic sessions"),
    ],
)
def test_a_socket_that_cannot_be_looked_at(
    error: OSError, told: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: object) -> os.stat_result:
        raise error

    monkeypatch.setattr(os, "stat", refuse)
    with pytest.raises(EngineUnreachable, match=f"Docker: {told}"):
        resolve_host(None, {"DOCKER_CONFIG": str(home)})


# TLS


VERIFIED = {"DOCKER_TLS_VERIFY": "1"}
UNVERIFIED = {"DOCKER_TLS": "1"}


@pytest.mark.parametrize(
    ("environ", "there", "expected"),
    [
        (VERIFIED, ["ca", "cert", "key"], (["ca", "cert", "key"], True)),
        (VERIFIED, ["ca"], (["ca"], True)),
        ({"DOCKER_TLS_VERIFY": "0"}, ["ca"], (["ca"], True)),
        ({**VERIFIED, **UNVERIFIED}, ["ca"], (["ca"], True)),
        (UNVERIFIED, ["ca", "cert", "key"], (["ca", "cert", "key"], False)),
        (UNVERIFIED, ["cert", "key"], (["cert", "key"], False)),
        (UNVERIFIED, [], ([], False)),
    ],
)
def test_tls_of_the_environment(
    environ: Mapping[str, str], there: list[str], expected: tuple[list[str], bool], home: Path, tmp_path: Path
) -> None:
    names, verify = expected
    for directory, place in ((home, {}), (tmp_path / "certificates", {"DOCKER_CERT_PATH": f"{tmp_path}/certificates"})):
        for name in there:
            write(directory / f"{name}.pem")
        ca, cert, key = (str(directory / f"{name}.pem") if name in names else None for name in ("ca", "cert", "key"))
        files = TlsFiles(ca, cert, key, verify)
        environ = {**environ, **place}
        given = resolved("tcp://engine", environ, home)
        assert given == TcpHost("engine", 2375, GIVEN, files)
        named = resolved(None, {**environ, "DOCKER_HOST": "tcp://engine:99"}, home)
        assert named == TcpHost("engine", 99, FROM_ENVIRONMENT, files)
        default = resolved(None, environ, home)
        assert default == TcpHost("localhost", 2376, "the default with TLS, as DOCKER_HOST is not set", files)


@pytest.mark.parametrize(
    ("environ", "there", "match"),
    [
        (VERIFIED, [], r"tcp://engine:2375 \(as given\).* no .*/ca\.pem: set DOCKER_CERT_PATH"),
        (VERIFIED, ["cert", "key"], r"no .*/ca\.pem"),
        (VERIFIED, ["ca", "cert"], r"has cert\.pem and no key\.pem"),
        (UNVERIFIED, ["key"], r"has key\.pem and no cert\.pem"),
    ],
)
def test_tls_files_that_are_missing(environ: Mapping[str, str], there: list[str], match: str, home: Path) -> None:
    for name in there:
        write(home / f"{name}.pem")
    with pytest.raises(HostInvalid, match=match) as caught:
        resolved("tcp://engine", environ, home)
    assert str(home) in str(caught.value)


def test_tls_files_that_cannot_be_seen_are_not_absent(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: object) -> os.stat_result:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "stat", refuse)
    with pytest.raises(HostInvalid, match=r"ca\.pem cannot be read: Permission denied"):
        resolved("tcp://engine", UNVERIFIED, home)


# Contexts


def use_context(home: Path, host: str, *, skip: bool = False, tls: tuple[str, ...] = ()) -> Path:
    write(home / "config.json", '{"currentContext": "rt"}')
    endpoint = {"Host": host, "SkipTLSVerify": skip}
    write(home / "contexts/meta" / RT / "meta.json", json.dumps({"Name": "rt", "Endpoints": {"docker": endpoint}}))
    directory = home / "contexts/tls" / RT / "docker"
    for name in tls:
        write(directory / f"{name}.pem")
    return directory


@pytest.mark.parametrize("environ", [{}, VERIFIED, UNVERIFIED])
@pytest.mark.parametrize(
    ("host", "skip", "there", "expected"),
    [
        ("unix:///run/e", True, ["ca"], UnixHost("/run/e", "")),
        ("ssh://u@engine", True, ["ca"], SshHost("engine", "", "u")),
        ("tcp://engine:1", False, [], TcpHost("engine", 1, "")),
        ("tcp://engine", True, [], TcpHost("engine", 2375, "", TlsFiles(None, None, None, False))),
        ("tcp://engine", False, ["ca"], TcpHost("engine", 2375, "", TlsFiles("ca", None, None, True))),
        ("tcp://engine", False, ["cert", "key"], TcpHost("engine", 2375, "", TlsFiles(None, "cert", "key", True))),
        (
            "tcp://engine",
            True,
            ["ca", "cert", "key"],
            TcpHost("engine", 2375, "", TlsFiles("ca", "cert", "key", False)),
        ),
    ],
)
def test_contexts(
    environ: Mapping[str, str], host: str, skip: bool, there: list[str], expected: Host, home: Path
) -> None:
    directory = use_context(home, host, skip=skip, tls=tuple(there))
    origin = f"from the docker context 'rt' (currentContext of {home / 'config.json'})"
    expected = attrs.evolve(expected, origin=origin)
    if isinstance(expected, TcpHost) and isinstance(files := expected.tls, TlsFiles):
        ca, cert, key = (name and f"{directory}/{name}.pem" for name in (files.ca, files.cert, files.key))
        expected = attrs.evolve(expected, tls=TlsFiles(ca, cert, key, files.verify))
    # What the environment says of TLS is not said of a context.
    assert resolved(None, environ, home) == expected


@pytest.mark.parametrize(
    ("host", "match"),
    [
        ("http://engine", r"'http://engine' \(from the docker context 'rt' \(currentContext of .*\)\): http:// is no"),
        (
            "nonsense",
            r"'nonsense' \(from the docker context 'rt' \(currentContext of .*\)\) is not an engine's address",
        ),
    ],
)
def test_a_context_with_no_address(host: str, match: str, home: Path) -> None:
    use_context(home, host)
    with pytest.raises(HostInvalid, match=match):
        resolved(None, {}, home)


def test_a_context_with_half_a_pair(home: Path) -> None:
    use_context(home, "tcp://engine", tls=("ca", "key"))
    with pytest.raises(HostInvalid, match=r"docker context 'rt'.*has key\.pem and no cert\.pem"):
        resolved(None, {}, home)


def test_what_beats_a_context(home: Path) -> None:
    use_context(home, "unix:///run/context")
    bind(home / "d")
    environ = {"DOCKER_CONTEXT": "none", "DOCKER_HOST": "unix:///run/e"}
    assert resolved(None, environ, home) == UnixHost("/run/e", FROM_ENVIRONMENT)
    assert resolved("unix:///run/e", {}, home) == UnixHost("/run/e", GIVEN)
    default = resolved(None, {"DOCKER_CONTEXT": "default"}, home)
    assert default == UnixHost(str(home / "d"), "Docker's own socket, as DOCKER_HOST is not set")


def test_a_home_with_a_configuration(home: Path) -> None:
    use_context(home / ".docker", "unix:///run/context")
    found = resolve_host(None, {"HOME": str(home)})
    assert isinstance(found, UnixHost)
    assert found.path == "/run/context"


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
