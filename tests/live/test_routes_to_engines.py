"""Each way to a real engine, travelled by other people's programs alone: what the other live tests build upon."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import ssl
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn

import pytest

from tests.live import engines
from tests.live import sshd as ssh_server
from tests.live.engine_api import Engine, Route, wait_until
from tests.live.sshd import Sshd

pytestmark = pytest.mark.live

TIMEOUT = 30.0

Lacking = Callable[[str, object], NoReturn]


def run(*command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        env=environment(variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """That of the tests without what they may have been given for docker."""
    return {name: value for name, value in os.environ.items() if not name.startswith("DOCKER_")} | dict(variables)


@pytest.fixture
def cli_host(route: Route, docker_cli: str, request: pytest.FixtureRequest) -> str:
    """A route's host as this docker CLI takes it: early ones refuse a path in an ssh:// URL."""
    if route.transport == "ssh" and "extra path" in run(docker_cli, "--host", "ssh://127.0.0.1:1/path", "ps").stderr:
        server: Sshd = request.getfixturevalue("sshd")
        return server.url()
    return route.host


def command_lines() -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(path.read_text(errors="replace").replace("\0", " "))
    return found


# -- every route ------------------------------------------------------------------------------------------------------


def test_docker_cli_gets_there(route: Route, docker_cli: str, cli_host: str) -> None:
    container = route.engine.create("true")
    done = run(docker_cli, "--host", cli_host, "ps", "--all", "--no-trunc", "--format", "{{.ID}}", **route.environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert container in done.stdout.split()
    done = run(docker_cli, "--host", cli_host, "version", "--format", "{{.Server.Version}}", **route.environment)
    assert done.stdout.strip() == route.engine.version


def test_attached_by_docker_cli(route: Route, docker_cli: str, cli_host: str) -> None:
    """The connection is given over whole: stdin goes in, ends, and what comes after its end arrives."""
    container = route.engine.shell("cat; echo the end >&2; exit 4", open_stdin=True, stdin_once=True)
    route.engine.start(container)
    done = subprocess.run(
        [docker_cli, "--host", cli_host, "attach", container],
        env=environment(route.environment),
        input=b"there and back\n",
        capture_output=True,
        timeout=TIMEOUT,
    )
    assert (done.returncode, done.stdout, done.stderr) == (4, b"there and back\n", b"the end\n")


# -- plain TCP --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", engines.NAMES)
def test_plain_tcp_is_the_same_engine(
    name: str, find_engine: Callable[[str], Engine], plain_tcp: Callable[[Engine], str]
) -> None:
    engine = find_engine(name)
    address = plain_tcp(engine).removeprefix("tcp://")
    connection = http.client.HTTPConnection(address, timeout=TIMEOUT)
    container = engine.create("true")
    try:
        connection.request("GET", f"/containers/{container}/json")
        assert connection.getresponse().status == 200
    finally:
        connection.close()


# -- TLS --------------------------------------------------------------------------------------------------------------


def over_tls(engine: Engine, folder: Path, version: ssl.TLSVersion | None = None) -> tuple[str | None, int]:
    """Asks for a ping with the client certificate of a folder: the TLS version, and the answer's status."""
    context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    if (folder / "cert.pem").exists():
        context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    if version is not None:
        context.minimum_version = context.maximum_version = version
    assert engine.tls_host is not None
    host, port = engine.tls_host.removeprefix("tcp://").split(":")
    with (
        socket.create_connection((host, int(port)), TIMEOUT) as plain,
        context.wrap_socket(plain, server_hostname=host) as wire,
    ):
        wire.sendall(b"GET /_ping HTTP/1.1\r\nHost: engine\r\nConnection: close\r\n\r\n")
        with contextlib.closing(http.client.HTTPResponse(wire)) as response:
            response.begin()
            return wire.version(), response.status


@pytest.mark.parametrize(
    ("version", "name"), [(ssl.TLSVersion.TLSv1_2, "TLSv1.2"), (ssl.TLSVersion.TLSv1_3, "TLSv1.3")]
)
def test_tls_versions(docker_tls: Engine, version: ssl.TLSVersion, name: str) -> None:
    assert docker_tls.certificates is not None
    assert over_tls(docker_tls, docker_tls.certificates.client, version) == (name, 200)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_engine_refuses_clients_that_it_does_not_know(docker_tls: Engine, version: ssl.TLSVersion) -> None:
    assert docker_tls.certificates is not None
    for folder in (docker_tls.certificates.foreign, docker_tls.certificates.nameless):
        # An alert, or with TLS 1.3 perhaps a reset before it can be read.
        with pytest.raises((ssl.SSLError, ConnectionError)) as refused:
            over_tls(docker_tls, folder, version)
        assert not isinstance(refused.value, ssl.SSLCertVerificationError)  # that would be the client's own verdict


def test_client_refuses_an_engine_that_it_does_not_know(docker_tls: Engine) -> None:
    assert docker_tls.certificates is not None
    with pytest.raises(ssl.SSLCertVerificationError):
        over_tls(docker_tls, docker_tls.certificates.distrustful)


@pytest.mark.parametrize(("option", "protocol"), [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")])
def test_tls_versions_by_openssl(docker_tls: Engine, option: str, protocol: str) -> None:
    assert docker_tls.tls_host is not None
    folder = docker_tls.cert_path
    files = ("-CAfile", f"{folder}/ca.pem", "-cert", f"{folder}/cert.pem", "-key", f"{folder}/key.pem")
    address = docker_tls.tls_host.removeprefix("tcp://")
    name = ("-verify_return_error", "-verify_ip", "127.0.0.1")
    done = run(engines.program("openssl", "openssl"), "s_client", "-connect", address, option, "-brief", *name, *files)
    assert done.returncode == 0
    assert f"Protocol version: {protocol}" in done.stderr
    assert "Verification: OK" in done.stderr


@pytest.mark.parametrize(
    ("name", "complaint"),
    [("foreign", "certificate"), ("nameless", "certificate"), ("distrustful", "signed by unknown authority")],
)
def test_docker_cli_with_other_certificates(docker_tls: Engine, docker_cli: str, name: str, complaint: str) -> None:
    assert docker_tls.certificates is not None
    assert docker_tls.tls_host is not None
    folder: Path = getattr(docker_tls.certificates, name)
    done = run(docker_cli, "--host", docker_tls.tls_host, "ps", DOCKER_TLS_VERIFY="1", DOCKER_CERT_PATH=str(folder))
    assert done.returncode != 0
    assert complaint in done.stderr


def test_no_tls_spoken(docker_tls: Engine, docker_cli: str) -> None:
    assert docker_tls.tls_host is not None
    done = run(docker_cli, "--host", docker_tls.tls_host, "ps")
    assert done.returncode != 0
    assert "HTTP request to an HTTPS server" in done.stderr


# -- ssh --------------------------------------------------------------------------------------------------------------


def ssh(sshd: Sshd) -> list[str]:
    return [str(sshd.path / "ssh"), "-T", "-l", sshd.user, "-p", str(sshd.port), "--", "127.0.0.1"]


def ping_over_ssh(sshd: Sshd, *remote: str) -> bytes:
    """What an engine answers at the other end of dial-stdio, which may complain that it closed both ways at once."""
    question = b"GET /_ping HTTP/1.1\r\nHost: engine\r\nConnection: close\r\n\r\n"
    done = subprocess.run([*ssh(sshd), *remote], input=question, capture_output=True, timeout=TIMEOUT)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", engines.NAMES)
def test_dial_stdio_reaches_the_socket_that_is_named(
    name: str, find_engine: Callable[[str], Engine], sshd: Sshd
) -> None:
    engine = find_engine(name)
    answer = ping_over_ssh(sshd, "docker", f"--host=unix://{engine.socket}", "system", "dial-stdio")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert (b"Libpod-Api-Version" in answer) == (name == "podman")


def test_dial_stdio_without_a_name_reaches_docker(docker: Engine, sshd: Sshd) -> None:
    assert ping_over_ssh(sshd, "docker", "system", "dial-stdio").startswith(b"HTTP/1.1 200 OK\r\n")


def test_ssh_asks_for_the_key(sshd: Sshd, tmp_path: Path) -> None:
    program, known_hosts = engines.program("ssh", "openssh-client"), f"{sshd.path.parent}/known_hosts"
    plain = [program, "-F", "/dev/null", "-o", "BatchMode=yes", "-o", f"UserKnownHostsFile={known_hosts}"]
    target = ["-o", "IdentityFile=none", "-o", "IdentityAgent=none", "-p", str(sshd.port), "-l", sshd.user, "127.0.0.1"]
    done = run(*plain, *target, "true")
    assert done.returncode == 255
    assert "Permission denied (publickey)" in done.stderr


def test_twenty_logins_at_once(sshd: Sshd) -> None:
    logins = [
        subprocess.Popen([*ssh(sshd), "echo", "in"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        for _ in range(20)
    ]
    assert [login.communicate(timeout=TIMEOUT)[0] for login in logins] == [b"in\n"] * 20


# -- what execs leave behind ------------------------------------------------------------------------------------------


def test_exec_is_made_and_looked_at(engine: Engine) -> None:
    container = engine.create("sleep", "600")
    engine.start(container)
    made = engine.exec_create(container, "sh", "-c", "exit 7")
    before = engine.exec_inspect(made)
    assert before["ContainerID"] == container
    assert not before["Running"]
    # Not detached: podman 4.3 would not tell the end of it.
    status, _ = engines.request(engine.socket, "POST", f"/exec/{made}/start", b'{"Detach": false, "Tty": false}')
    assert status == 200
    assert engine.exec_finish(made) == 7


def test_conmons_of_execs_are_ended_and_no_others(podman: Engine, docker_cli: str) -> None:
    if podman.directory is None:
        pytest.skip("of a podman that ran already nobody knows which processes are its own")
    container = podman.create("sleep", "600")
    podman.start(container)
    own = podman.conmons()
    assert own >= 1
    exec_echo = (docker_cli, "--host", podman.host, "exec", container, "echo")
    for turn in range(3):
        assert run(*exec_echo, str(turn)).stdout == f"{turn}\n"
    assert podman.conmons() > own
    wait_until(lambda: podman.end_conmons() == 0 and podman.conmons() == own, "only the container's own is left")
    assert podman.status(container) == "running"
    assert run(*exec_echo, "again").stdout == "again\n"


# -- down -------------------------------------------------------------------------------------------------------------


def test_down_ends_what_goes_on_over_ssh(tmp_path_factory: pytest.TempPathFactory, lacking: Lacking) -> None:
    directory = tmp_path_factory.mktemp("d")
    try:
        running = ssh_server.up(directory)
    except engines.EngineUnavailable as why:
        lacking(ssh_server.NAME, why)
    with subprocess.Popen(
        [*ssh(running), "echo $$; sleep 600"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as login:
        assert login.stdout is not None
        shell = Path("/proc", login.stdout.readline().decode().strip())
        assert shell.exists()
        ssh_server.down(directory)
        assert login.wait(TIMEOUT) != 0
    wait_until(lambda: not shell.exists(), "what ran over ssh is over")
    assert not engines.listens(running.port)
    assert not directory.exists()


@pytest.mark.parametrize("label", engines.LABELS)
def test_down_leaves_nothing(label: str, tmp_path_factory: pytest.TempPathFactory, lacking: Lacking) -> None:
    directory = tmp_path_factory.mktemp("d")
    try:
        running = engines.up(label, directory)
    except engines.EngineUnavailable as why:
        lacking(label, why)
    port = int((running.tcp_host or running.tls_host or "").rpartition(":")[2])
    home = directory / label
    assert engines.listens(port)
    engines.down(label, directory)
    assert not directory.exists()
    assert not engines.listens(port)
    assert not [command for command in command_lines() if f"{home}/" in command]
