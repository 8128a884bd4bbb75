"""Starts the proxies in front of an engine, and ends them by their pids."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.live import engines
from tests.live.proxies.bridge import Bridge
from tests.live.proxies.configurations import NGINX, NGINX_STREAM_MODULE, WAYS, Program, Site, Way

# Seconds. The long one is never reached here. The short one is what a quiet command outlasts.
LONG, SHORT = 600, 2
VARIANTS = ("open", "idle", "forbidden", "dead")

Hosts = Mapping[tuple[str, str], str]


def find(program: Program) -> str:
    """The path of a proxy, which is installed first where it is missing."""
    path = engines.program(program.command[0], *program.packages)
    if program is NGINX and not NGINX_STREAM_MODULE.exists():
        engines.install("libnginx-mod-stream")
    return path


def version(program: Program, path: str) -> str:
    done = subprocess.run([path, *program.version], capture_output=True, text=True, check=True)
    found = re.search(r"\d+(\.\d+)+", done.stdout + done.stderr)
    assert found, f"{path} does not tell its version"
    return found[0]


def _ports(count: int) -> list[int]:
    found: set[int] = set()
    while len(found) < count:
        found.add(engines.free_port())
    return sorted(found)


@contextlib.contextmanager
def _running(program: Program, path: str, home: Path, sites: Sequence[tuple[Way, Site]]) -> Iterator[None]:
    home.mkdir()
    config = home / "config"
    config.write_text(program.whole(home, [way.site(site) for way, site in sites]))
    command = [path, *(argument.format(config=config) for argument in program.command[1:])]
    environment = os.environ | {"HOME": str(home), "XDG_DATA_HOME": str(home), "XDG_CONFIG_HOME": str(home)}
    child = engines.spawn(home, command, environment)
    try:
        engines.await_start(home, child, lambda: all(engines.listens(site.port) for _, site in sites))
        yield
    finally:
        for process in engines.processes(home):
            engines.end(process.pid, process.birth, program.end)


def _sites(
    ways: Sequence[Way], engine: Path, bridge: Bridge, home: Path, ports: Iterator[int]
) -> Iterator[tuple[Way, str, Site]]:
    """For each way its four sites: as it should be, with a short idle limit, one that refuses, one with no engine."""
    dead_port = next(ports)
    for way in ways:
        socket = bridge.path if way.program.name == "apache2" else engine
        for variant in VARIANTS:
            yield (
                way,
                variant,
                Site(
                    name=f"{variant}_{WAYS.index(way)}",
                    port=next(ports),
                    socket=str(home / "nobody.sock" if variant == "dead" else socket),
                    bridge=dead_port if variant == "dead" else bridge.port,
                    idle=SHORT if variant == "idle" else LONG,
                    forbids=variant == "forbidden",
                ),
            )


@contextlib.contextmanager
def up(engine: Path, programs: Mapping[str, str]) -> Iterator[Hosts]:
    """Runs proxies in front of an engine.

    Args:
        engine: its Unix socket.
        programs: the paths of the proxies' programs, by the programs' names.

    Yields:
        The proxies' hosts, by the names of the way and the variant.
    """
    ways = [way for way in WAYS if way.program.name in programs]
    home = Path(tempfile.mkdtemp(prefix="attachproto-proxies-"))
    home.chmod(0o755)  # Apache's and Squid's processes belong to users of their own
    try:
        with contextlib.ExitStack() as stack:
            bridge = stack.enter_context(Bridge(engine, home / "engine.sock"))
            sites = list(_sites(ways, engine, bridge, home, iter(_ports(len(ways) * len(VARIANTS) + 1))))
            pending = []
            with ThreadPoolExecutor() as pool:
                # Squid has one idle limit for all its ports, so each program runs twice.
                for program in {way.program.name: way.program for way in ways}.values():
                    for idle in (LONG, SHORT):
                        own = [(way, site) for way, _, site in sites if way.program is program and site.idle == idle]
                        running = _running(program, programs[program.name], home / f"{program.name}-{idle}", own)
                        pending.append(pool.submit(stack.enter_context, running))
            for each in pending:
                each.result()
            yield {(way.name, variant): f"tcp://127.0.0.1:{site.port}" for way, variant, site in sites}
    finally:
        shutil.rmtree(home, ignore_errors=True)
