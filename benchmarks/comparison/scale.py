"""Many open attachments in one process: memory of each, time to open them, and whether throughput holds.

Strategy: the server (``scale_server``) is a process of its own, and so is what holds the attachments.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final

import trio

from attachproto import (
    CLIENT,
    SERVER,
    Accepted,
    Attach,
    Connection,
    Framing,
    Stdout,
)
from attachproto_adapters import asyncio as asyncio_adapter
from attachproto_adapters import blocking
from attachproto_adapters import trio as trio_adapter
from benchmarks.comparison import scale_server
from benchmarks.comparison.programs import ROOT
from benchmarks.comparison.scale_server import OUTPUT, raise_limit

# How many are being opened at the same time.
AT_ONCE: Final = 50

FRAMEWORKS: Final = ("core", "blocking", "asyncio", "trio")


def _memory() -> int:
    """The resident memory of this process, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _release(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(path)
        sock.sendall(b"GET /release HTTP/1.1\r\nHost: localhost\r\n\r\n")
        while sock.recv(4096):
            pass


class Measured:
    """Memory and times of one process that holds attachments open."""

    def __init__(self) -> None:
        gc.collect()
        self._memory = _memory()
        self._began = time.perf_counter()
        self.found: dict[str, float] = {}

    def all_open(self, count: int) -> None:
        """All are open: what each of them takes."""
        self.found["seconds"] = time.perf_counter() - self._began
        gc.collect()
        self.found["bytes"] = (_memory() - self._memory) / count
        self._began = time.perf_counter()

    def all_read(self, count: int) -> None:
        """All are read to their ends."""
        seconds = time.perf_counter() - self._began
        self.found["megabytes"] = count * (len(OUTPUT) - 8) / seconds / 1e6


def hold_core(count: int) -> Measured:
    """The state machine alone, after the answer to an attach."""
    peer = Connection(SERVER)
    asked = Connection(CLIENT).send(Attach("web", tty=False))
    peer.receive_data(asked)
    peer.next_event()
    answer = peer.send(Accepted(Framing.MULTIPLEXED))

    def attached() -> Connection:
        connection = Connection(CLIENT)
        connection.send(Attach("web", tty=False))
        connection.receive_data(answer)
        connection.next_event()
        return connection

    attached()
    measured = Measured()
    connections = [attached() for _ in range(count)]
    measured.all_open(count)
    for connection in connections:
        connection.receive_data(OUTPUT)
        assert isinstance(connection.next_event(), Stdout)
    measured.all_read(count)
    return measured


def hold_blocking(path: str, count: int) -> Measured:
    host = f"unix://{path}"
    blocking.attach("web", host=host).close()
    measured = Measured()
    attachments = [blocking.attach("web", host=host) for _ in range(count)]
    measured.all_open(count)
    _release(path)
    size = sum(len(attachment.communicate()[0]) for attachment in attachments)
    assert size == count * (len(OUTPUT) - 8)
    measured.all_read(count)
    return measured


async def hold_async(
    path: str,
    count: int,
    attach: Callable[..., Awaitable[Any]],
    together: Callable[[Callable[[], Awaitable[None]], int], Awaitable[None]],
) -> Measured:
    """The same in asyncio and in trio; ``together`` runs several calls at the same time."""
    host = f"unix://{path}"
    await (await attach("web", host=host)).aclose()
    attachments: list[Any] = []
    left = list(range(count))
    measured = Measured()

    async def open_some() -> None:
        while left:
            left.pop()
            attachments.append(await attach("web", host=host))

    await together(open_some, AT_ONCE)
    measured.all_open(count)
    _release(path)
    sizes: list[int] = []

    async def read_one() -> None:
        sizes.append(len((await attachments.pop().communicate())[0]))

    await together(read_one, count)
    assert sum(sizes) == count * (len(OUTPUT) - 8)
    measured.all_read(count)
    return measured


async def _with_asyncio(path: str, count: int) -> Measured:
    async def together(call: Callable[[], Any], times: int) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(times):
                group.create_task(call())

    return await hold_async(path, count, asyncio_adapter.attach, together)


async def _with_trio(path: str, count: int) -> Measured:
    async def together(call: Callable[[], Awaitable[None]], times: int) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(times):
                nursery.start_soon(call)

    return await hold_async(path, count, trio_adapter.attach, together)


def hold(framework: str, path: str, count: int) -> dict[str, float]:
    """Open attachments in this process, and read them."""
    raise_limit(count)
    match framework:
        case "core":
            return hold_core(count).found
        case "blocking":
            return hold_blocking(path, count).found
        case "asyncio":
            return asyncio.run(_with_asyncio(path, count)).found
        case _:
            return trio.run(_with_trio, path, count).found


def _in_a_process(framework: str, count: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as directory:
        arguments = [f"{directory}/scale.sock", str(count)]
        server = subprocess.Popen(
            [sys.executable, "-m", scale_server.__name__, *arguments], stdout=subprocess.PIPE, cwd=ROOT
        )
        assert server.stdout is not None
        try:
            server.stdout.readline()
            command = [sys.executable, "-m", "benchmarks.comparison.scale", framework, *arguments]
            done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=120, cwd=ROOT)
        finally:
            server.kill()
            server.communicate()
    return {"count": count, **json.loads(done.stdout)}


def measure(counts: Sequence[int], frameworks: Sequence[str] = FRAMEWORKS) -> dict[str, list[dict[str, float]]]:
    """What each framework needs for each count of open attachments."""
    found: dict[str, list[dict[str, float]]] = {framework: [] for framework in frameworks}
    for count in counts:
        for framework in frameworks:
            row = _in_a_process(framework, count)
            found[framework].append(row)
            print(
                f"{count} open, {framework}: {row['bytes'] / 1024:.1f} KiB each, opened in {row['seconds']:.1f} s, "
                f"read at {row['megabytes']:.0f} MB/s",
                flush=True,
            )
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("framework", choices=FRAMEWORKS)
    parser.add_argument("path")
    parser.add_argument("count", type=int)
    given = parser.parse_args()
    print(json.dumps(hold(given.framework, given.path, given.count)))


if __name__ == "__main__":
    main()
