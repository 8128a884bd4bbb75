"""A real OpenSSH server of its own, for ssh:// hosts: it asks for a key that is made here, and needs no other set-up.

It listens on the loopback address only, and lets in only who started it. Everything of it lies beside the engines'
things (see engines.py, whose `down` also ends it): keys, configuration, and a program `ssh` for the client's side,
which is the real one with a configuration of its own. With its folder first on the PATH, ssh:// works for any program.
"""

from __future__ import annotations

import os
import pwd
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from tests.live import engines

NAME = "sshd"
LOGIN_TIMEOUT = 30.0

SERVER = """\
ListenAddress 127.0.0.1:{port}
PidFile none
HostKey {home}/host_key
AuthorizedKeysFile {home}/client_key.pub
AuthenticationMethods publickey
AllowUsers {user}
PermitRootLogin yes
StrictModes no
UsePAM no
UseDNS no
PermitUserRC no
PrintMotd no
PrintLastLog no
LogLevel VERBOSE
# By default it turns some away when ten come at once.
MaxStartups 1000
# One line: of several only the first would count.
SetEnv "PATH={path}" "DOCKER_HOST={docker_host}"
"""

CLIENT = """\
IdentityFile {home}/client_key
IdentitiesOnly yes
IdentityAgent none
UserKnownHostsFile {home}/known_hosts
GlobalKnownHostsFile /dev/null
StrictHostKeyChecking yes
BatchMode yes
LogLevel ERROR
"""


@dataclass(frozen=True)
class Sshd:
    """An sshd that lets its user in."""

    user: str
    port: int
    path: Path  # the folder with `ssh`, to be the first on the PATH
    version: str
    started_here: bool

    def url(self, socket: str | Path | None = None) -> str:
        """The ssh:// URL of an engine's Unix socket; without one, of the engine that DOCKER_HOST names over there."""
        return f"ssh://{self.user}@127.0.0.1:{self.port}{quote(str(socket)) if socket else ''}"

    @property
    def environment(self) -> dict[str, str]:
        """What a program needs in its environment to get in: a PATH."""
        return {"PATH": f"{self.path}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}


def _start(home: Path, user: str, docker_host: str) -> None:
    is_new = shutil.which("sshd", path=engines.SEARCH) is None
    sshd = engines.program("sshd", "openssh-server")
    if is_new:  # not started when it was installed, and not at the machine's next start either
        _run([engines.program("update-rc.d", "init-system-helpers"), "ssh", "disable"])
    ssh, keygen = (engines.program(command, "openssh-client") for command in ("ssh", "ssh-keygen"))
    engines.docker_cli()  # for the far side, `docker system dial-stdio`
    home.mkdir(mode=0o700)
    for name in ("host_key", "client_key"):
        _run([keygen, "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(home / name)])
    port = engines.free_port()
    (home / "port").write_text(str(port))
    (home / "known_hosts").write_text(f"[127.0.0.1]:{port},[localhost]:{port} {(home / 'host_key.pub').read_text()}")
    values = {"home": home, "user": user, "port": port, "path": engines.SEARCH, "docker_host": docker_host}
    (home / "sshd_config").write_text(SERVER.format_map(values))
    (home / "ssh_config").write_text(CLIENT.format_map(values))
    (home / "bin").mkdir()
    wrapper = home / "bin" / "ssh"
    wrapper.write_text(f'#!/bin/sh\nexec {shlex.quote(ssh)} -F {shlex.quote(str(home / "ssh_config"))} "$@"\n')
    wrapper.chmod(0o755)
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # it insists, and only a service would have made it
    # It wants to be called by its whole path, because it starts itself anew for each connection.
    child = engines.spawn(home, [sshd, "-D", "-e", "-f", str(home / "sshd_config")], os.environ)
    engines.await_start(home, child, lambda: engines.listens(port))


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LOGIN_TIMEOUT)
    except subprocess.TimeoutExpired:
        raise engines.EngineUnavailable(f"`{shlex.join(command)}` did not end in {LOGIN_TIMEOUT:.0f} s") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no reason given"]
        raise engines.EngineUnavailable(f"`{shlex.join(command)}` failed: {lines[-1]}")
    return done


def up(directory: Path | None = None, docker_host: str | None = None) -> Sshd:
    """Starts the sshd, or finds it running, and logs in once."""
    directory = directory or engines.live_directory()
    user = pwd.getpwuid(os.geteuid()).pw_name
    with engines.locked(directory):
        home = directory / NAME
        if any(character in f"{home}" for character in ' "%\\'):
            raise engines.EngineUnavailable(f"{home} is no path for OpenSSH's configuration")
        running = engines.processes(home)
        started = not running or not all(process.lives for process in running)
        if started:
            engines.remove(home)
        try:
            if started:
                _start(home, user, docker_host or f"unix://{directory}/docker/engine.sock")
            port = int((home / "port").read_text())
            _run(
                [str(home / "bin" / "ssh"), "-T", "-l", user, "-p", str(port), "--", "127.0.0.1", "docker", "--version"]
            )
        except engines.EngineUnavailable:
            if started:
                engines.remove(home)
            raise
    version = _run([engines.program("ssh", "openssh-client"), "-V"]).stderr.partition(",")[0]
    return Sshd(user, port, home / "bin", version.removeprefix("OpenSSH_"), started)


def down(directory: Path | None = None) -> None:
    """Ends the sshd, and all that goes on over it."""
    engines.down(NAME, directory)
