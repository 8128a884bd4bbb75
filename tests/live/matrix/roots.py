"""Brings up dockerd and Podman of several Debian releases, each release in a root of its own.

A root is made once by debootstrap (some 500 MB), in ATTACHPROTO_MATRIX_DIR. Its engines run in a mount
and a PID namespace of their own, so that whatever they have started ends when the namespace's first process is killed,
and so that their mounts go with it. What they keep is deleted at the end; the roots stay.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.live import engines
from tests.live.engines import EngineUnavailable

# The releases of Debian, and what they had in 2026: dockerd 20.10 and Podman 4.3, 26.1 and 5.4, 28.5 and 5.8.
SUITES = ("bookworm", "trixie", "forky")
PACKAGES = "docker.io,podman,runc,conmon,netavark,ca-certificates"
NAMES = ("docker", "podman")

# cgroup v2 beside v1 is unmounted, because Podman refuses both together. /dev/shm is the root's own, because all
# Podmans that see the same one share its locks.
START = """
cd /
umount /sys/fs/cgroup/unified 2>/dev/null
mount -t tmpfs tmpfs /dev/shm
dockerd --data-root /engine/docker --exec-root /engine/exec --pidfile /engine/docker.pid --storage-driver vfs \
  -H unix:///engine/docker.sock --iptables=false --ip6tables=false --bridge=none >/engine/docker.log 2>&1 </dev/null &
podman --runtime /usr/sbin/runc --root /engine/podman --runroot /engine/podrun --storage-driver vfs \
  --cgroup-manager cgroupfs system service --time 0 unix:///engine/podman.sock >/engine/podman.log 2>&1 </dev/null &
wait
"""

# The root has to be a mount point: the engines remount / when they unpack an image.
ENTER = """
mount --bind "$1" "$1" && cd "$1" && mkdir -p oldroot engine &&
mount -t proc proc proc && mount --rbind /sys sys && mount --make-rprivate sys &&
mount --rbind /dev dev && mount --make-rprivate dev && mount -t tmpfs tmpfs run &&
pivot_root . oldroot && umount -l /oldroot && exec bash /start
"""


def directory() -> Path:
    """Where the roots are."""
    return Path(os.environ.get("ATTACHPROTO_MATRIX_DIR") or "/var/tmp/attachproto-matrix").absolute()


def _mirror() -> str:
    """The mirror that this machine's apt uses."""
    for file in [Path("/etc/apt/sources.list"), *Path("/etc/apt/sources.list.d").glob("*")]:
        if file.is_file() and (found := re.search(r"https?://\S+/debian/?(?=\s)", file.read_text())):
            return found[0]
    return "http://deb.debian.org/debian"


def _make(suite: str, root: Path) -> None:
    """Installs a release of Debian with both engines, unless that has been done."""
    if (root / "made").exists():
        return
    debootstrap = engines.program("debootstrap", "debootstrap")
    if root.exists():
        engines.unmount(root)  # debootstrap mounts /proc and /sys there, and has not ended
        shutil.rmtree(root)
    root.mkdir(parents=True)
    script = "/usr/share/debootstrap/scripts/sid"  # every release's is the same
    command = [debootstrap, "--variant=minbase", f"--include={PACKAGES}", suite, str(root), _mirror(), script]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        lines = (done.stdout + done.stderr).strip().splitlines() or ["no reason given"]
        raise EngineUnavailable(f"debootstrap {suite} failed: {lines[-1]}")
    (root / "made").touch()


def _await(root: Path, child: subprocess.Popen[bytes]) -> list[engines.Running]:
    found = []
    for name in NAMES:
        path = root / "engine" / f"{name}.sock"

        def ready(path: Path = path) -> bool:
            return child.poll() is not None or engines.answers(path)

        if not engines.until(ready, engines.START_TIMEOUT) or child.poll() is not None:
            log = root / "engine" / f"{name}.log"
            said = log.read_text(errors="replace").strip().splitlines()[-3:] if log.exists() else []
            raise EngineUnavailable(f"{name} of {root.name} does not start: {' | '.join(said) or 'no log'}")
        engines.ensure_image(path)
        running = engines.identify("", path)
        release = ".".join(running.version.split(".")[:2])
        found.append(engines.identify(f"{name}-{release}", path))
    return found


@contextlib.contextmanager
def up(suite: str) -> Iterator[list[engines.Running]]:
    """dockerd and Podman of a release, while the context lasts."""
    root = directory() / suite
    with engines.locked(directory()):
        _make(suite, root)
    shutil.rmtree(root / "engine", ignore_errors=True)
    (root / "engine").mkdir()
    (root / "start").write_text(START)
    command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"]
    with (root / "engine" / "log").open("wb") as log:
        child = subprocess.Popen(
            [*command, "bash", "-c", ENTER, "enter", str(root)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield _await(root, child)
    finally:
        child.send_signal(signal.SIGKILL)  # with it the first process of the namespace, and so all of them
        child.wait()
        engines.until(lambda: _deleted(root / "engine"), engines.STOP_TIMEOUT)


def _deleted(folder: Path) -> bool:
    shutil.rmtree(folder, ignore_errors=True)
    return not folder.exists()


@contextlib.contextmanager
def all_up() -> Iterator[list[engines.Running]]:
    """The engines of all releases: dockerd first, each from the oldest."""
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(len(SUITES)) as pool:
        contexts = [up(suite) for suite in SUITES]
        found = [each for some in pool.map(stack.enter_context, contexts) for each in some]
        yield sorted(found, key=lambda each: (each.name, [int(part) for part in each.label.split("-")[1].split(".")]))
