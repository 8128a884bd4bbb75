"""Real engines for the live tests: a dockerd and a podman service, each on a Unix socket of its own.

    python tests/live/engines.py up [docker] [podman]     starts them, prints one line each
    python tests/live/engines.py down [docker] [podman]   ends what `up` started and removes what it made

Needs root, and apt-get where something is not installed. Everything that an engine keeps lies in one directory
(ATTACHPROTO_LIVE_DIR, else a folder beside the other temporary files), so that it meets no other engine of the same
machine. Nothing is pulled: the image is made here, from busybox.

This file imports nothing of the project, and nothing of its neighbours, so that it also runs as a script.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import http.client
import io
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NAMES = ("docker", "podman")
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

# Programs (by how their names begin) of which an engine consists: most outlive it when it is killed.
HELPERS = ("conmon", "containerd", "crun", "dockerd", "podman", "runc")

# dockerd and runc live in sbin on Debian, which a service's or an IDE's PATH often lacks.
SEARCH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])

START_TIMEOUT = 60.0
STOP_TIMEOUT = 20.0

_children: dict[int, subprocess.Popen[bytes]] = {}
_apt_is_fresh = False


class EngineUnavailable(Exception):
    """An engine cannot be had here; says why in one sentence."""


@dataclass(frozen=True)
class Running:
    """An engine that answers."""

    name: str
    socket: Path
    version: str
    api_version: str
    started_here: bool

    @property
    def host(self) -> str:
        return f"unix://{self.socket}"


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


def _which(command: str) -> str | None:
    return shutil.which(command, path=SEARCH)


def _apt_get(*arguments: str) -> None:
    command = ["apt-get", "-qq", "-y", *arguments]
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no reason given"]
        raise EngineUnavailable(f"`{' '.join(command)}` failed: {lines[-1]}")


def _install(package: str) -> None:
    global _apt_is_fresh
    if os.geteuid() != 0:
        raise EngineUnavailable(f"{package} is not installed, and installing it needs root")
    if _which("apt-get") is None:
        raise EngineUnavailable(f"{package} is not installed, and there is no apt-get to install it with")
    if not _apt_is_fresh:
        _apt_get("update")
        _apt_is_fresh = True
    _apt_get("install", "--no-install-recommends", package)


def _command(command: str, package: str) -> str:
    """The path of a command, which is installed first where it is missing."""
    found = _which(command)
    if found is None:
        _install(package)
        found = _which(command)
    if found is None:
        raise EngineUnavailable(f"the package {package} brought no command {command}")
    return found


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
        _install("busybox-static")
        found = _which("busybox")
    if found is None or not _is_static(found):
        raise EngineUnavailable("the package busybox-static brought no static busybox")
    return found


# -- the image --------------------------------------------------------------------------------------------------------


def _root_file_system() -> bytes:
    """A tar of /bin with busybox and its applets, and an empty /tmp."""
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
        for applet in APPLETS:
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    return buffer.getvalue()


def ensure_image(path: str | Path) -> None:
    """Imports IMAGE into the engine on this socket, unless it has it."""
    if request(path, "GET", f"/images/{IMAGE}/json")[0] == 200:
        return
    # The answer is a row of JSON objects, and a failure may come in one of them after a 200: ask again instead.
    target = f"/images/create?fromSrc=-&repo={IMAGE}"
    _, said = request(path, "POST", target, _root_file_system(), "application/x-tar", timeout=120.0)
    if request(path, "GET", f"/images/{IMAGE}/json")[0] != 200:
        raise EngineUnavailable(f"{path} did not take the image: {_text(said)}")


def identify(name: str, path: str | Path, started_here: bool = False) -> Running:
    """Asks the engine on a socket who it is."""
    version = _call(Path(path), "GET", "/version")
    return Running(name, Path(path), version["Version"], version["ApiVersion"], started_here)


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


def _parents() -> dict[int, int]:
    stats = {int(entry.name): _stat(int(entry.name)) for entry in Path("/proc").iterdir() if entry.name.isdigit()}
    return {pid: int(fields[1]) for pid, fields in stats.items() if fields}


def _until(condition: Callable[[], bool], timeout: float) -> bool:
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _end(pid: int, birth: int, first: signal.Signals = signal.SIGTERM) -> None:
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
        if _until(is_gone, STOP_TIMEOUT):
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


def _left_behind(directory: Path) -> dict[int, int]:
    """Helpers whose command line names a path of this directory, and what they run: {pid: birth}."""
    inside = f"{directory}{os.sep}"
    parents = _parents()
    helpers = set()
    for pid in parents:
        program, *arguments = _arguments(pid) or [""]
        if Path(program).name.startswith(HELPERS) and any(inside in argument for argument in arguments):
            helpers.add(pid)
    # A container's first process is a child of its shim or conmon; without them nobody would end it.
    # They come first: while they live, their shim is their parent.
    belonging = [*(pid for pid, parent in parents.items() if parent in helpers and pid not in helpers), *helpers]
    births = {pid: _birth(pid) for pid in belonging if pid != os.getpid()}
    return {pid: birth for pid, birth in births.items() if birth is not None}


# -- up ---------------------------------------------------------------------------------------------------------------


def live_directory() -> Path:
    return Path(os.environ.get("ATTACHPROTO_LIVE_DIR") or Path(tempfile.gettempdir(), "attachproto-live")).absolute()


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """The directory, made and held, so that two sessions do not start or end an engine at once."""
    if os.geteuid() != 0:
        raise EngineUnavailable("starting and ending an engine needs root")
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if directory.is_symlink() or directory.stat().st_uid != os.geteuid():
        raise EngineUnavailable(f"{directory} belongs to somebody else")  # its name in /tmp can be guessed
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _docker_command(home: Path) -> list[str]:
    dockerd = _command("dockerd", "docker.io")
    _command("runc", "runc")
    # Not the machine's daemon.json, whose keys may clash with flags; and a namespace of its own, because dockerd uses
    # the machine's containerd when one is running.
    (home / "daemon.json").write_text("{}")
    return [
        *(dockerd, f"--config-file={home}/daemon.json", f"--host=unix://{home}/engine.sock", f"--pidfile={home}/pid"),
        *(f"--data-root={home}/data", f"--exec-root={home}/exec", "--storage-driver=vfs"),
        *("--containerd-namespace=attachproto-live", "--containerd-plugins-namespace=attachproto-live-plugins"),
        *("--bridge=none", "--iptables=false", "--ip6tables=false"),
    ]


def _podman_command(home: Path) -> list[str]:
    podman = _command("podman", "podman")
    _command("conmon", "conmon")
    runtime = _command("runc", "runc")
    # Locks in files of its own directory: by default all podmans of a machine share one segment of shared memory.
    (home / "containers.conf").write_text('[engine]\nlock_type = "file"\nevents_logger = "file"\n')
    return [
        *(podman, f"--root={home}/data", f"--runroot={home}/run", f"--tmpdir={home}/tmp", "--storage-driver=vfs"),
        *(f"--runtime={runtime}", "--cgroup-manager=cgroupfs"),
        *("system", "service", "--time=0", f"unix://{home}/engine.sock"),
    ]


COMMANDS: dict[str, Callable[[Path], list[str]]] = {"docker": _docker_command, "podman": _podman_command}


def _start(name: str, home: Path) -> None:
    home.mkdir(mode=0o700, exist_ok=True)
    command = COMMANDS[name](home)
    for stale in ("engine.sock", "pid"):
        (home / stale).unlink(missing_ok=True)
    environment = os.environ | {"PATH": SEARCH, "CONTAINERS_CONF": str(home / "containers.conf")}
    with (home / "log").open("wb") as log:
        child = subprocess.Popen(
            command, env=environment, cwd=home, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    _children[child.pid] = child
    (home / "process.json").write_text(json.dumps({"pid": child.pid, "birth": _birth(child.pid)}))
    _until(lambda: child.poll() is not None or answers(home / "engine.sock"), START_TIMEOUT)
    if child.poll() is not None:
        what = f"ended with status {child.returncode}"
    elif not answers(home / "engine.sock"):
        what = f"gave no answer in {START_TIMEOUT:.0f} s"
    else:
        return
    tail = " | ".join((home / "log").read_text(errors="replace").strip().splitlines()[-5:])
    raise EngineUnavailable(f"{Path(command[0]).name} {what}; the end of its log: {tail or 'nothing'}")


def up(name: str, directory: Path | None = None) -> Running:
    """Starts one engine, or finds it running."""
    directory = directory or live_directory()
    with _locked(directory):
        home = directory / name
        if len(os.fsencode(home / "engine.sock")) > 107:  # sun_path
            raise EngineUnavailable(f"the path {home}/engine.sock is too long for a Unix socket")
        started = not answers(home / "engine.sock")
        if started:
            _down(home)
            try:
                _start(name, home)
            except EngineUnavailable:
                _down(home)
                raise
        ensure_image(home / "engine.sock")
        return identify(name, home / "engine.sock", started)


# -- down -------------------------------------------------------------------------------------------------------------


def _remove_containers(path: Path) -> None:
    for container in _call(path, "GET", "/containers/json?all=1"):
        request(path, "POST", f"/containers/{container['Id']}/kill", timeout=60.0)  # or podman 5 waits ten seconds
        status, said = request(path, "DELETE", f"/containers/{container['Id']}?force=1&v=1", timeout=60.0)
        if status not in (200, 204, 404, 409):  # 409: somebody else is removing it
            raise EngineUnavailable(f"{path} does not remove a container: {_text(said)}")


def _unmount(home: Path) -> None:
    """Nothing may be mounted below what is removed: it would be emptied too."""

    def mounted() -> list[str]:
        points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        return sorted((point for point in points if Path(point).is_relative_to(home)), reverse=True)

    for point in mounted():
        subprocess.run(["umount", "--lazy", point], capture_output=True)
    if left := mounted():
        raise EngineUnavailable(f"{left[0]} cannot be unmounted, so {home} is not removed")


def _down(home: Path) -> None:
    if not home.exists():
        return
    if answers(home / "engine.sock"):
        # What cannot be removed now is ended below, without its engine.
        with contextlib.suppress(OSError, http.client.HTTPException, EngineUnavailable):
            _remove_containers(home / "engine.sock")
    with contextlib.suppress(FileNotFoundError):
        process = json.loads((home / "process.json").read_text())
        if process["birth"] is not None:
            _end(process["pid"], process["birth"])
    _until(lambda: not _left_behind(home), 3.0)
    for pid, birth in _left_behind(home).items():
        _thaw(pid)
        _end(pid, birth, signal.SIGKILL)
    _unmount(home)
    shutil.rmtree(home)


def down(name: str, directory: Path | None = None) -> None:
    """Ends one engine and removes all that it kept."""
    directory = directory or live_directory()
    if not directory.exists():
        return
    with _locked(directory):
        _down(directory / name)
        if {entry.name for entry in directory.iterdir()} == {"lock"}:
            shutil.rmtree(directory)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Real container engines for the live tests.")
    parser.add_argument("action", choices=("up", "down"))
    parser.add_argument("engine", nargs="*", help="docker, podman; both when left out")
    given = parser.parse_args(arguments)
    if unknown := set(given.engine) - set(NAMES):
        parser.error(f"no such engine: {', '.join(sorted(unknown))}")
    status = 0
    for name in given.engine or NAMES:
        try:
            if given.action == "down":
                down(name)
            else:
                running = up(name)
                print(running.name, running.host, running.version, running.api_version, flush=True)
        except EngineUnavailable as why:
            print(f"{name}: {why}", file=sys.stderr, flush=True)
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
