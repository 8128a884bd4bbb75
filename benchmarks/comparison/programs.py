"""The clients that take part, and how each is run: those whose packages are here.

Strategy: a client is a command. What is missing is said in one printed line, and its cells stay empty.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Final

import attrs

from benchmarks.comparison.workloads import Kind, Workload
from tests.peers import programs

ROOT: Final = Path(__file__).parents[2]

# Where Debian's golang-github-docker-docker-dev and its dependencies are.
GOCODE: Final = Path("/usr/share/gocode")

ALL_KINDS: Final[frozenset[Kind]] = frozenset({"output", "keystrokes", "cat", "attach", "exec"})
ASYNC_KINDS: Final = ALL_KINDS | frozenset[Kind]({"beside"})


@attrs.frozen
class Client:
    """A client that takes part.

    Attributes:
        name: what the command line calls it.
        title: what the page calls it.
        kinds: what it can do.
        command: the command that does a workload once; the second argument is whether to hash.
        version: what is measured; empty for what has none.
        variables: its environment.
        counts: whether it prints what it has read.
        counts_wire: whether it counts the bytes on the wire.
    """

    name: str
    title: str
    kinds: frozenset[Kind]
    command: Callable[[Workload, bool], list[str]]
    version: str = ""
    variables: dict[str, str] = attrs.Factory(dict)
    counts: bool = True
    counts_wire: bool = False


def _python(name: str, title: str, kinds: frozenset[Kind], package: str = "", *, counts_wire: bool = False) -> Client:
    def command(workload: Workload, digest: bool) -> list[str]:
        module = [sys.executable, "-m", "benchmarks.comparison.clients"]
        flags = ["--digest"] * digest + ["--tty"] * workload.tty
        return [*module, name, workload.kind, str(workload.size), *flags]

    version = f"{package} {metadata.version(package)}" if package else ""
    return Client(name, title, kinds, command, version, counts_wire=counts_wire)


def python_clients(say: Callable[[str], None]) -> list[Client]:
    """The clients in Python whose packages are installed; ``say`` takes a sentence for each that is not."""
    found = [
        _python("drain", "bare drain", frozenset({"output", "keystrokes"}), counts_wire=True),
        _python("drain-asyncio", "bare asyncio", frozenset({"keystrokes"})),
        _python("drain-trio", "bare trio", frozenset({"keystrokes"})),
        _python("core", "bare core", frozenset({"output"})),
        _python("blocking", "blocking", ALL_KINDS),
        _python("asyncio", "asyncio", ASYNC_KINDS),
        _python("trio", "trio", ASYNC_KINDS),
    ]
    for name, title, package in (
        ("uvloop", "asyncio on uvloop", "uvloop"),
        ("docker-py", "docker-py", "docker"),
        ("aiodocker", "aiodocker", "aiodocker"),
    ):
        if importlib.util.find_spec(package) is None:
            say(f"{title} is left out: the Python package {package} is not installed")
        else:
            found.append(_python(name, title, ALL_KINDS if name == "docker-py" else ASYNC_KINDS, package))
    return found


def _arguments(workload: Workload, digest: bool) -> list[str]:
    return [workload.kind, str(workload.size), str(int(digest)), str(int(workload.tty))]


def _go(directory: Path, say: Callable[[str], None]) -> Client | None:
    program, package = shutil.which("go"), GOCODE / "src/github.com/docker/docker/pkg/stdcopy"
    if program is None or not package.exists():
        say("Go's stdcopy is left out: it needs Debian's golang-go and golang-github-docker-docker-dev")
        return None
    binary = directory / "stdcopy"
    subprocess.run(
        [program, "build", "-o", str(binary), str(ROOT / "benchmarks/stdcopy/main.go")],
        env=os.environ | {"GO111MODULE": "off", "GOPATH": str(GOCODE), "GOCACHE": str(directory / "go-cache")},
        check=True,
    )
    version = subprocess.run([program, "version"], capture_output=True, text=True, check=True).stdout.split()[2]
    kinds: frozenset[Kind] = frozenset({"output", "keystrokes", "cat", "attach"})
    return Client("go", "Go's stdcopy", kinds, lambda *given: [str(binary), *_arguments(*given)], version)


def _cli(directory: Path, say: Callable[[str], None]) -> Client | None:
    if (program := shutil.which("docker")) is None:
        say("the docker CLI is left out: there is no docker on the PATH")
        return None

    def command(workload: Workload, digest: bool) -> list[str]:
        if workload.kind == "exec":
            return [program, "exec", "web", "true"]
        return [program, "attach", "--no-stdin", "--sig-proxy=false", "web"]

    version = programs.docker_version(program)
    variables = {"DOCKER_CONFIG": str(directory)}
    kinds: frozenset[Kind] = frozenset({"output", "attach", "exec"})
    return Client("cli", "docker CLI", kinds, command, version, variables, counts=False)


def _dockerode(say: Callable[[str], None]) -> Client | None:
    try:
        node = programs.dockerode(Path(tempfile.gettempdir(), f"attachproto-peers-{os.getuid()}"))
    except programs.Unavailable as why:
        say(f"dockerode is left out: {why}")
        return None
    script = str(Path(__file__).with_name("dockerode.cjs"))
    kinds: frozenset[Kind] = frozenset({"output", "keystrokes", "cat", "attach"})
    version = f"{node.dockerode_version} on Node.js {node.version}"
    return Client(
        "dockerode",
        "dockerode",
        kinds,
        lambda *given: [node.program, script, *_arguments(*given)],
        version,
        {"NODE_PATH": str(node.modules)},
    )


def clients(directory: Path, say: Callable[[str], None]) -> list[Client]:
    """Every client that can be run here.

    Args:
        directory: for what is built.
        say: takes a sentence for each that cannot.
    """
    others = (_go(directory, say), _cli(directory, say), _dockerode(say))
    return python_clients(say) + [client for client in others if client is not None]
