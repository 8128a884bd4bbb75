"""Real engines for the live tests: a dockerd and a podman service, each on a Unix socket of its own and on plain TCP.

    python tests/live/engines.py up [docker] [podman] [docker-tls]     starts them, prints one line each
    python tests/live/engines.py down [docker] [podman] [...]          ends what `up` started, removes what it made

`docker-tls` is a second dockerd, on a Unix socket and on TCP with TLS, where it wants a certificate of its clients.
Without names, `up` starts the first two, and `down` ends all, the sshd of the tests too.

Needs root, and apt-get where something is not installed. Everything that an engine keeps lies in one directory
(ATTACHPROTO_LIVE_DIR, else a folder beside the other temporary files), so that it meets no other engine of the same
machine; its TCP ports are free ones of the loopback address. Nothing is pulled: the image is made here, from busybox.

This file imports nothing of the project, and of its neighbours only what imports nothing, so that it also runs as a
script.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import http.client
import io
import json
import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.live.certificates import Certificates, OpensslFailed, make_certificates

NAMES = ("docker", "podman")
LABELS = (*NAMES, "docker-tls")
IMAGE = "attachproto-live:1"
APPLETS = [
    "cat",
    "echo",
    "false",
    "head",
    "kill",
    "printf",
    "seq",
    "sh",
    "sha256sum",
    "sleep",
    "stty",
    "tee",
    "true",
    "wc",
    "yes",
]

# Programs (by how their names begin) of which an engine consists, or an sshd: most outlive it when it is killed.
HELPERS = ("conmon", "containerd", "crun", "dockerd", "podman", "runc", "ssh")

# dockerd and runc live in sbin on Debian, which a service's or an IDE's PATH often lacks.
SEARCH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])

START_TIMEOUT = 60.0
STOP_TIMEOUT = 20.0

# Below the ports that a kernel gives to those who name none: nobody gets one of these by chance in between.
PORTS = range(20_000, 32_000)

_children: dict[int, subprocess.Popen[bytes]] = {}
_apt_is_fresh = False

APT_LOCK = Path(tempfile.gettempdir(), "attachproto-apt.lock")


class EngineUnavailable(Exception):
    """An engine cannot be had here; says why in one sentence."""


@dataclass(frozen=True)
class Running:
    """An engine that answers."""

    name: str  # docker or podman: by this it behaves
    label: str  # by this it is told from others that are up
    socket: Path
    version: str
    api_version: str
    started_here: bool = False
    directory: Path | None = None  # where it keeps everything, if `up` has made it
    tcp_host: str | None = None  # plain TCP
    tls_host: str | None = None
    certificates: Certificates | None = None  # with `tls_host`

    @property
    def host(self) -> str:
        return f"unix://{self.socket}"

    @property
    def cert_path(self) -> Path | None:
        """What DOCKER_CERT_PATH should be for `tls_host`."""
        return self.certificates.client if self.certificates else None


# -- HTTP over a Unix socket ------------------------------------------------------------------------------------------


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("engine", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def request(
    path: str | Path,
    method: str,
    target: str,
    body: bytes | None = None,
    content_type: str = "application/json",
    timeout: float = 30.0,
) -> tuple[int, bytes]:
    """One request, one whole answer: status and body."""
    with contextlib.closing(_UnixConnection(str(path), timeout)) as connection:
        connection.request(method, target, body, {"Content-Type": content_type} if body is not None else {})
        response = connection.getresponse()
        return response.status, response.read()


def _text(answer: bytes) -> str:
    return answer.decode(errors="replace").strip()


def _call(path: Path, method: str, target: str, body: bytes | None = None, content_type: str = "") -> Any:
    status, answer = request(path, method, target, body, content_type, timeout=120.0)
    if status >= 300:
        raise EngineUnavailable(f"{method} {target} on {path} answered {status}: {_text(answer)}")
    return json.loads(answer or b"null")


def answers(path: str | Path) -> bool:
    """Does an engine answer on this socket?"""
    try:
        return request(path, "GET", "/_ping", timeout=5.0)[0] == 200
    except (OSError, http.client.HTTPException):
        return False


# -- what has to be installed -----------------------------------------------------------------------------------------


POLICY = Path("/usr/sbin/policy-rc.d")


def _which(command: str) -> str | None:
    return shutil.which(command, path=SEARCH)


@contextlib.contextmanager
def _no_service_starts() -> Iterator[None]:
    """Keeps packages from starting the services that they bring, by Debian's own means."""
    try:
        policy = POLICY.open("x")
    except OSError:  # there is one, or no folder for it
        yield
        return
    try:
        with policy:
            policy.write("#!/bin/sh\n# For one installation only; to be deleted when found.\nexit 101\n")
        POLICY.chmod(0o755)
        yield
    finally:
        POLICY.unlink(missing_ok=True)


def _apt_get(*arguments: str) -> None:
    command = ["apt-get", "-qq", "-y", *arguments]
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    # Another session may install beside this one: apt-get fails while the lists are locked, and both use POLICY.
    with open(APT_LOCK, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with _no_service_starts():
            done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no reason given"]
        raise EngineUnavailable(f"`{' '.join(command)}` failed: {lines[-1]}")


def install(package: str) -> None:
    """Installs a package of Debian's; a service that comes with it is not started."""
    global _apt_is_fresh
    if os.geteuid() != 0:
        raise EngineUnavailable(f"{package} is not installed, and installing it needs root")
    if _which("apt-get") is None:
        raise EngineUnavailable(f"{package} is not installed, and there is no apt-get to install it with")
    if not _apt_is_fresh:
        _apt_get("update")
        _apt_is_fresh = True
    _apt_get("install", "--no-install-recommends", package)


def program(command: str, *packages: str) -> str:
    """The path of a command, which is installed first where it is missing: from the first package that brings it."""
    reasons = []
    for package in packages:
        if found := _which(command):
            return found
        try:
            install(package)
        except EngineUnavailable as why:
            reasons.append(str(why))
    if found := _which(command):
        return found
    raise EngineUnavailable("; ".join(reasons) or f"{' and '.join(packages)} brought no command {command}")


def docker_cli() -> str:
    """The path of the docker CLI: from Debian 13 on a package of its own, before a part of docker.io."""
    return program("docker", "docker-cli", "docker.io")


def _is_static(program: str) -> bool:
    """Has this ELF file no interpreter (PT_INTERP), and so needs no library in the image?"""
    data = Path(program).read_bytes()
    if data[:4] != b"\x7fELF":
        return False
    order = "<" if data[5] == 1 else ">"
    if data[4] == 2:
        (table,), (size, count) = struct.unpack_from(order + "Q", data, 32), struct.unpack_from(order + "HH", data, 54)
    else:
        (table,), (size, count) = struct.unpack_from(order + "I", data, 28), struct.unpack_from(order + "HH", data, 42)
    return all(struct.unpack_from(order + "I", data, table + size * index)[0] != 3 for index in range(count))


def _busybox() -> str:
    found = _which("busybox")
    if found is None or not _is_static(found):  # Debian's plain `busybox` wants a libc beside it
        install("busybox-static")
        found = _which("busybox")
    if found is None or not _is_static(found):
        raise EngineUnavailable("the package busybox-static brought no static busybox")
    return found


# -- the image --------------------------------------------------------------------------------------------------------


def _libraries(program: str) -> list[str]:
    """What a program needs, as ldd tells it: its libraries and the loader."""
    said = subprocess.run(["ldd", program], capture_output=True, text=True).stdout
    return [word for line in said.splitlines() for word in line.split() if word.startswith("/")]


def _root_file_system(shell: str | None = None, applets: Sequence[str] = APPLETS) -> bytes:
    """A tar of /bin with busybox and these applets, and an empty /tmp. ``shell``: a program of this machine for sh."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, mode in (("bin", 0o755), ("tmp", 0o1777)):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, mode
            tar.addfile(folder)
        program = Path(_busybox()).read_bytes()
        entry = tarfile.TarInfo("bin/busybox")
        entry.size, entry.mode = len(program), 0o755
        tar.addfile(entry, io.BytesIO(program))
        if shell is not None:
            files = [("bin/sh", shell), *((path.lstrip("/"), path) for path in _libraries(shell))]
            for name, path in files:
                program = Path(path).read_bytes()
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode = len(program), 0o755
                tar.addfile(entry, io.BytesIO(program))
        for applet in applets:
            if applet == "sh" and shell is not None:
                continue
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    return buffer.getvalue()


def ensure_shell_image(path: str | Path, shell: str) -> str:
    """The same with another shell of this machine, such as bash, as /bin/sh: the name of the image."""
    found = _which(shell)
    if found is None:
        raise EngineUnavailable(f"there is no {shell} on this machine")
    image = f"attachproto-live-{shell}:1"
    ensure_image(path, image, os.path.realpath(found))
    return image


def ensure_bare_image(path: str | Path) -> str:
    """The same without /bin/sh: the name of the image."""
    image = "attachproto-live-bare:1"
    ensure_image(path, image, applets=[applet for applet in APPLETS if applet != "sh"])
    return image


def ensure_image(
    path: str | Path, image: str = IMAGE, shell: str | None = None, applets: Sequence[str] = APPLETS
) -> None:
    """Imports an image into the engine on this socket, unless it has it."""
    if request(path, "GET", f"/images/{image}/json")[0] == 200:
        return
    # The answer is a row of JSON objects, and a failure may come in one of them after a 200: ask again instead.
    target = f"/images/create?fromSrc=-&repo={image}"
    _, said = request(path, "POST", target, _root_file_system(shell, applets), "application/x-tar", timeout=120.0)
    if request(path, "GET", f"/images/{image}/json")[0] != 200:
        raise EngineUnavailable(f"{path} did not take the image: {_text(said)}")


def identify(label: str, path: str | Path) -> Running:
    """Asks the engine on a socket who it is."""
    version = _call(Path(path), "GET", "/version")
    components = {component["Name"] for component in version.get("Components") or []}
    name = "podman" if "Podman Engine" in components else "docker"
    return Running(name, label, Path(path), version["Version"], version["ApiVersion"])


# -- processes --------------------------------------------------------------------------------------------------------


def _stat(pid: int) -> list[str]:
    """What the kernel tells of a living process, from its state on; nothing if there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return []
    fields = text.rpartition(")")[2].split()  # the name, in brackets, may hold spaces
    return [] if fields[0] in "ZX" else fields


def _birth(pid: int) -> int | None:
    """When a living process was started, in ticks since boot: with the pid, this names one process for good."""
    fields = _stat(pid)
    return int(fields[19]) if fields else None


def _arguments(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace").split("\0")
    except OSError:
        return []


def processes_beside(pid: int) -> list[str]:
    """The command lines of the living processes that share the PID namespace of this one."""
    found = []
    for each in sorted(int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/{each}/ns/pid") == os.readlink(f"/proc/{pid}/ns/pid") and _stat(each):
                found.append(" ".join(_arguments(each)).rstrip())
    return found


def _parents() -> dict[int, int]:
    stats = {int(entry.name): _stat(int(entry.name)) for entry in Path("/proc").iterdir() if entry.name.isdigit()}
    return {pid: int(fields[1]) for pid, fields in stats.items() if fields}


def until(condition: Callable[[], bool], timeout: float) -> bool:
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def end(pid: int, birth: int, first: signal.Signals = signal.SIGTERM) -> None:
    """Ends one process, if the pid is still that process."""

    def is_gone() -> bool:
        child = _children.get(pid)
        if child is not None:
            child.poll()
        gone = _birth(pid) != birth
        if gone and child is not None:
            child.wait()  # or the interpreter complains at its end
            _children.pop(pid, None)
        return gone

    for number in (first, signal.SIGKILL):
        if is_gone():
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        if until(is_gone, STOP_TIMEOUT):
            return
    raise EngineUnavailable(f"process {pid} does not end")


def _thaw(pid: int) -> None:
    """Wakes a paused container: what is frozen does not even end when it is killed."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
            _, controllers, group = line.split(":", 2)
            if controllers == "freezer":
                Path(f"/sys/fs/cgroup/freezer{group}/freezer.state").write_text("THAWED")
            elif not controllers and Path(f"/sys/fs/cgroup{group}/cgroup.freeze").exists():
                Path(f"/sys/fs/cgroup{group}/cgroup.freeze").write_text("0")


def _births(pids: Iterable[int]) -> dict[int, int]:
    births = {pid: _birth(pid) for pid in pids if pid != os.getpid()}
    return {pid: birth for pid, birth in births.items() if birth is not None}


def _descendants(pids: Iterable[int], parents: Mapping[int, int]) -> list[int]:
    """The children of some processes, and their children, the farthest first; none of the processes themselves."""
    found: list[int] = []
    generation = seen = set(pids)
    while generation := {pid for pid, parent in parents.items() if parent in generation} - seen:
        found = [*generation, *found]
        seen = seen | generation
    return found


def _named(directory: Path, parents: Iterable[int]) -> dict[int, list[str]]:
    """Helpers whose command line names a path of this directory: {pid: command line}."""
    inside = f"{directory}{os.sep}"
    found = {}
    for pid in parents:
        arguments = _arguments(pid)
        # An sshd writes all that it has to say into its name: `sshd: /usr/sbin/sshd -f FILE [listener] ...`.
        name = "sshd" if arguments[:1] and arguments[0].startswith("sshd: ") else Path(*arguments[:1]).name
        if name.startswith(HELPERS) and any(inside in argument for argument in arguments):
            found[pid] = arguments
    return found


def _left_behind(directory: Path) -> dict[int, int]:
    """Helpers whose command line names a path of this directory, and what they run: {pid: birth}."""
    parents = _parents()
    helpers = _named(directory, parents)
    # A container's first process is a child of its shim or conmon; without them nobody would end it.
    # They come first: while they live, their shim is their parent.
    return _births([pid for pid in _descendants(helpers, parents) if pid not in helpers] + list(helpers))


def conmons(directory: Path) -> dict[int, list[str]]:
    """The conmon processes of the podman that keeps its things in this directory: {pid: command line}."""
    named = _named(directory, _parents())
    return {pid: arguments for pid, arguments in named.items() if Path(arguments[0]).name == "conmon"}


def end_conmons(directory: Path) -> int:
    """Ends those that have nothing left to do: podman leaves two per exec, for five minutes. Says how many."""
    waiting = {pid for pid, arguments in conmons(directory).items() if "--exec-process-spec" in arguments}
    parents = _parents()
    over = _births(pid for pid in waiting if waiting.issuperset(_descendants([pid], parents)))
    for pid, birth in over.items():
        end(pid, birth, signal.SIGKILL)  # nothing is lost: what it ran is over
    return len(over)


@dataclass(frozen=True)
class Process:
    """A process that was started here, perhaps by another session."""

    pid: int
    birth: int

    @property
    def lives(self) -> bool:
        return _birth(self.pid) == self.birth


def spawn(home: Path, command: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Starts a daemon, which writes into `log`, and puts it down in `processes.json`, by which it is ended."""
    with (home / "log").open("ab") as log:
        child = subprocess.Popen(
            command, env=environment, cwd=home, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    _children[child.pid] = child
    started = [*processes(home), Process(child.pid, _birth(child.pid) or 0)]
    (home / "processes.json").write_text(json.dumps([[process.pid, process.birth] for process in started]))
    return child


def processes(home: Path) -> list[Process]:
    """What was started in this directory."""
    try:
        return [Process(pid, birth) for pid, birth in json.loads((home / "processes.json").read_text())]
    except (FileNotFoundError, ValueError):
        return []


def await_start(home: Path, child: subprocess.Popen[bytes], answered: Callable[[], bool]) -> None:
    """Waits until a daemon answers."""
    ready = until(lambda: child.poll() is not None or answered(), START_TIMEOUT)
    if child.poll() is not None:
        what = f"ended with status {child.returncode}"
    elif not ready:
        what = f"gave no answer in {START_TIMEOUT:.0f} s"
    else:
        return
    tail = " | ".join((home / "log").read_text(errors="replace").strip().splitlines()[-5:])
    assert isinstance(child.args, list)
    raise EngineUnavailable(f"{Path(child.args[0]).name} {what}; the end of its log: {tail or 'nothing'}")


def free_port() -> int:
    """A port of 127.0.0.1 on which nobody listens."""
    for port in random.sample(PORTS, 100):
        with socket.socket() as trial, contextlib.suppress(OSError):
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(("127.0.0.1", port))
            return port
    raise EngineUnavailable("no TCP port of 127.0.0.1 is free")


def listens(port: int) -> bool:
    """Does somebody listen on this port of 127.0.0.1?"""
    try:
        socket.create_connection(("127.0.0.1", port), 5.0).close()
    except OSError:
        return False
    return True


# -- up ---------------------------------------------------------------------------------------------------------------


def live_directory() -> Path:
    return Path(os.environ.get("ATTACHPROTO_LIVE_DIR") or Path(tempfile.gettempdir(), "attachproto-live")).absolute()


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """The directory, made and held, so that two sessions do not start or end an engine at once."""
    if os.geteuid() != 0:
        raise EngineUnavailable("starting and ending an engine needs root")
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if directory.is_symlink() or directory.stat().st_uid != os.geteuid():
        raise EngineUnavailable(f"{directory} belongs to somebody else")  # its name in /tmp can be guessed
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


# Each names the commands that make up an engine: the first gives it its Unix socket, all together the TCP port.
Commands = list[list[str]]


def _dockerd(home: Path, *tcp: str) -> Commands:
    dockerd = program("dockerd", "docker.io")
    program("runc", "runc")
    # Not the machine's daemon.json, whose keys may clash with flags; and a namespace of its own, because dockerd uses
    # the machine's containerd when one is running.
    (home / "daemon.json").write_text("{}")
    namespace = f"attachproto-live-{home.name}"
    command = [
        *(dockerd, f"--config-file={home}/daemon.json", f"--host=unix://{home}/engine.sock", f"--pidfile={home}/pid"),
        *(f"--data-root={home}/data", f"--exec-root={home}/exec", "--storage-driver=vfs"),
        *(f"--containerd-namespace={namespace}", f"--containerd-plugins-namespace={namespace}-plugins"),
        *("--bridge=none", "--iptables=false", "--ip6tables=false", *tcp),
    ]
    return [command]


def _docker_commands(home: Path, port: int) -> Commands:
    # Said aloud that there is no TLS, or else it waits for fifteen seconds, so that somebody reads its warning.
    return _dockerd(home, f"--host=tcp://127.0.0.1:{port}", "--tls=false")


def _docker_tls_commands(home: Path, port: int) -> Commands:
    try:
        server = make_certificates(home / CERTIFICATES, program("openssl", "openssl")).server
    except OpensslFailed as why:
        raise EngineUnavailable(str(why)) from None
    files = (f"--tlscacert={server}/ca.pem", f"--tlscert={server}/cert.pem", f"--tlskey={server}/key.pem")
    return _dockerd(home, f"--host=tcp://127.0.0.1:{port}", "--tlsverify", *files)


def _podman_commands(home: Path, port: int) -> Commands:
    podman = program("podman", "podman")
    program("conmon", "conmon")
    runtime = program("runc", "runc")
    # Locks in files of its own directory: by default all podmans of a machine share one segment of shared memory.
    (home / "containers.conf").write_text('[engine]\nlock_type = "file"\nevents_logger = "file"\n')
    command = [
        *(podman, f"--root={home}/data", f"--runroot={home}/run", f"--tmpdir={home}/tmp", "--storage-driver=vfs"),
        *(f"--runtime={runtime}", "--cgroup-manager=cgroupfs", "system", "service", "--time=0"),
    ]
    # A service has one address; two of them over the same storage are one engine.
    return [[*command, f"unix://{home}/engine.sock"], [*command, f"tcp://127.0.0.1:{port}"]]


CERTIFICATES = "certificates"
COMMANDS: dict[str, Callable[[Path, int], Commands]] = {
    "docker": _docker_commands,
    "podman": _podman_commands,
    "docker-tls": _docker_tls_commands,
}


def _start(label: str, home: Path) -> None:
    home.mkdir(mode=0o700, exist_ok=True)
    port = free_port()
    (home / "port").write_text(str(port))
    environment = os.environ | {"PATH": SEARCH, "CONTAINERS_CONF": str(home / "containers.conf")}
    for command in COMMANDS[label](home, port):
        child = spawn(home, command, environment)
        await_start(home, child, lambda: answers(home / "engine.sock"))
    await_start(home, child, lambda: listens(port))


def _runs(home: Path) -> bool:
    """Does all that makes up an engine run already?"""
    started = processes(home)
    return bool(started) and all(process.lives for process in started) and answers(home / "engine.sock")


def up(label: str, directory: Path | None = None) -> Running:
    """Starts one engine, or finds it running."""
    directory = directory or live_directory()
    with locked(directory):
        home = directory / label
        if len(os.fsencode(home / "engine.sock")) > 107:  # sun_path
            raise EngineUnavailable(f"the path {home}/engine.sock is too long for a Unix socket")
        started = not _runs(home)
        if started:
            remove(home)
            try:
                _start(label, home)
            except EngineUnavailable:
                remove(home)
                raise
        ensure_image(home / "engine.sock")
        running = replace(identify(label, home / "engine.sock"), started_here=started, directory=home)
        host = f"tcp://127.0.0.1:{(home / 'port').read_text()}"
        if (home / CERTIFICATES).exists():
            return replace(running, tls_host=host, certificates=Certificates(home / CERTIFICATES))
        return replace(running, tcp_host=host)


# -- down -------------------------------------------------------------------------------------------------------------


def _remove_containers(path: Path) -> None:
    for container in _call(path, "GET", "/containers/json?all=1"):
        request(path, "POST", f"/containers/{container['Id']}/kill", timeout=60.0)  # or podman 5 waits ten seconds
        status, said = request(path, "DELETE", f"/containers/{container['Id']}?force=1&v=1", timeout=60.0)
        if status not in (200, 204, 404, 409):  # 409: somebody else is removing it
            raise EngineUnavailable(f"{path} does not remove a container: {_text(said)}")


def unmount(home: Path) -> None:
    """Nothing may be mounted below what is removed: it would be emptied too."""

    def mounted() -> list[str]:
        points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        return sorted((point for point in points if Path(point).is_relative_to(home)), reverse=True)

    for point in mounted():
        subprocess.run(["umount", "--lazy", point], capture_output=True)
    if left := mounted():
        raise EngineUnavailable(f"{left[0]} cannot be unmounted, so {home} is not removed")


def remove(home: Path) -> None:
    """Ends what was started in a directory, with all that it has started, and deletes the directory."""
    if not home.exists():
        return
    if answers(home / "engine.sock"):
        # What cannot be removed now is ended below, without its engine.
        with contextlib.suppress(OSError, http.client.HTTPException, EngineUnavailable):
            _remove_containers(home / "engine.sock")
    started = processes(home)
    # An sshd does not end the sessions that it has begun, and they do not name it.
    sessions = _births(_descendants([process.pid for process in started if process.lives], _parents()))

    def left() -> dict[int, int]:
        return {pid: birth for pid, birth in sessions.items() if _birth(pid) == birth} | _left_behind(home)

    for process in started:
        end(process.pid, process.birth)
    for pid in sessions.keys() & left().keys():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    end_conmons(home)
    until(lambda: not left(), 3.0)
    deadline = time.monotonic() + STOP_TIMEOUT
    while remaining := left():  # more than once: a conmon starts another when its exec ends
        for pid, birth in remaining.items():
            _thaw(pid)
            end(pid, birth, signal.SIGKILL)
        if time.monotonic() > deadline:
            raise EngineUnavailable(f"what ran in {home} does not end")
    unmount(home)
    shutil.rmtree(home)


def down(label: str, directory: Path | None = None) -> None:
    """Ends one engine and removes all that it kept."""
    directory = directory or live_directory()
    if not directory.exists():
        return
    with locked(directory):
        remove(directory / label)
        if {entry.name for entry in directory.iterdir()} == {"lock"}:
            shutil.rmtree(directory)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Real container engines for the live tests.")
    parser.add_argument("action", choices=("up", "down"))
    parser.add_argument("engine", nargs="*", help="docker, podman, docker-tls; for `down` also sshd")
    given = parser.parse_args(arguments)
    known = LABELS if given.action == "up" else (*LABELS, "sshd")
    if unknown := set(given.engine) - set(known):
        parser.error(f"no such engine: {', '.join(sorted(unknown))}")
    status = 0
    for label in given.engine or (NAMES if given.action == "up" else known):
        try:
            if given.action == "down":
                down(label)
            else:
                running = up(label)
                tcp = running.tls_host or running.tcp_host
                print(label, running.host, tcp, running.version, running.api_version, flush=True)
        except EngineUnavailable as why:
            print(f"{label}: {why}", file=sys.stderr, flush=True)
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
