"""Measure how long after the end of the output an engine takes to say that the process has ended.

Usage: measure_ends.py LABEL=SOCKET [LABEL=SOCKET ...] [--execs N] [--containers N] [--quiet N] [--busy N]

The adapters take an end of file for the end of the output only if the engine confirms within a grace period that the
process has ended. This script measures what that period has to cover, over the engine's Unix socket:

exec       end of file on exec start, until GET /exec/{id}/json no longer has `Running: true`
container  end of file on attach, until the response to /wait?condition=next-exit, which was opened before the start
inspect    end of file on attach, until GET /containers/{id}/json no longer has `Running: true`

Half of the programs exit at once. The others (`--quiet` of them) print a line, close stdout and stderr and exit
300 ms later. For these, `early` counts the ends of file that came before the process can have exited.

`wrong` counts exit codes that were not the program's. `--busy` adds processes that load the processors.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import socket
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.live import engines
from tests.live.engine_api import Engine

EXIT_CODE = 7
BRIEF = ["sh", "-c", f"echo out; exit {EXIT_CODE}"]
QUIET_SECONDS = 0.3
QUIET = ["sh", "-c", f"echo out; exec >&- 2>&-; sleep {QUIET_SECONDS}; exit {EXIT_CODE}"]
TIMEOUT = 60.0
# Podman keeps two processes for five minutes after each exec, and dockerd lists all execs of a container.
EXECS_PER_CONTAINER = 100


@dataclass
class Delays:
    """What was measured of one kind of end on one engine, in milliseconds."""

    milliseconds: list[float] = field(default_factory=list)
    early: int = 0
    wrong: list[int | None] = field(default_factory=list)

    def row(self) -> str:
        ordered = sorted(self.milliseconds)
        at_99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
        numbers = f"{statistics.median(ordered):8.1f} {at_99:8.1f} {ordered[-1]:8.1f}"
        return f"{len(ordered):6} {numbers} {self.early:6} {len(self.wrong):6}"


class Link:
    """One connection to an engine's Unix socket, of which only the head of the response is parsed."""

    def __init__(self, path: Path, method: str, target: str, body: Any = None, upgrade: bool = False) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(TIMEOUT)
        self._socket.connect(str(path))
        data = b"" if body is None else json.dumps(body).encode()
        fields = [f"{method} {target} HTTP/1.1", "Host: engine", "Content-Type: application/json"]
        if method == "POST":
            fields.append(f"Content-Length: {len(data)}")
        if upgrade:
            fields += ["Connection: Upgrade", "Upgrade: tcp"]
        self._socket.sendall("\r\n".join(fields).encode() + b"\r\n\r\n" + data)
        received = b""
        while b"\r\n\r\n" not in received:
            received += self._receive()
        head, _, self.body = received.partition(b"\r\n\r\n")
        self.status = int(head.split(b" ", 2)[1])
        if self.status not in (101, 200):
            raise RuntimeError(f"{method} {target}: {received!r}")

    def _receive(self) -> bytes:
        if not (data := self._socket.recv(65536)):
            raise EOFError("end of file in the head of a response")
        return data

    def read_to_end(self) -> bytes:
        while data := self._socket.recv(65536):
            self.body += data
        return self.body

    def read_until(self, text: bytes) -> bytes:
        while text not in self.body:
            self.body += self._receive()
        return self.body

    def close(self) -> None:
        self._socket.close()


def _delay_until(ended: Callable[[], dict[str, Any] | None], since: float) -> tuple[float, dict[str, Any]]:
    while (state := ended()) is None:
        if time.monotonic() - since > TIMEOUT:
            raise TimeoutError(f"the engine says after {TIMEOUT:.0f} s that the process is running")
        time.sleep(0.001)
    return (time.monotonic() - since) * 1000, state


def measure_exec(engine: Engine, container: str, command: list[str], delays: Delays) -> None:
    exec_id = engine.exec_create(container, *command)
    begun = time.monotonic()
    with closing(Link(engine.socket, "POST", f"/exec/{exec_id}/start", {"Tty": False}, upgrade=True)) as link:
        link.read_to_end()
        end_of_file = time.monotonic()
    if command is QUIET and end_of_file - begun < QUIET_SECONDS:
        delays.early += 1

    def ended() -> dict[str, Any] | None:
        state = engine.exec_inspect(exec_id)
        return None if state["Running"] else state

    delay, state = _delay_until(ended, end_of_file)
    delays.milliseconds.append(delay)
    if state["ExitCode"] != EXIT_CODE:
        delays.wrong.append(state["ExitCode"])


def measure_container(engine: Engine, command: list[str], waits: Delays, inspects: Delays) -> None:
    container = engine.create(*command)
    try:
        path = f"/containers/{container}"
        attach = Link(engine.socket, "POST", f"{path}/attach?stream=1&stdin=0&stdout=1&stderr=1&logs=0", upgrade=True)
        wait = Link(engine.socket, "POST", f"{path}/wait?condition=next-exit")
        with closing(attach), closing(wait):
            begun = time.monotonic()
            engine.start(container)
            attach.read_until(b"out\n")
            attach.read_to_end()
            end_of_file = time.monotonic()
            body = wait.read_until(b"}")
            waits.milliseconds.append((time.monotonic() - end_of_file) * 1000)
        if command is QUIET and end_of_file - begun < QUIET_SECONDS:
            waits.early += 1
        code = json.loads(body[body.index(b"{") : body.index(b"}") + 1])["StatusCode"]
        if code != EXIT_CODE:
            waits.wrong.append(code)

        def ended() -> dict[str, Any] | None:
            state: dict[str, Any] = engine.inspect(container)["State"]
            return None if state["Running"] else state

        delay, state = _delay_until(ended, end_of_file)
        inspects.milliseconds.append(delay)
        if state["ExitCode"] != EXIT_CODE:
            inspects.wrong.append(state["ExitCode"])
    finally:
        engine.remove(container)


def measure(engine: Engine, execs: int, containers: int, quiet: int) -> dict[str, Delays]:
    found: dict[str, Delays] = defaultdict(Delays)
    for command, suffix, execs_of_it in ((BRIEF, "", execs), (QUIET, ", quiet", quiet)):
        for first in range(0, execs_of_it, EXECS_PER_CONTAINER):
            container = engine.create("sleep", "3600")
            try:
                engine.start(container)
                for _ in range(min(EXECS_PER_CONTAINER, execs_of_it - first)):
                    measure_exec(engine, container, command, found["exec" + suffix])
            finally:
                engine.remove(container)
    for command, suffix, number in ((BRIEF, "", containers), (QUIET, ", quiet", quiet)):
        for _ in range(number):
            measure_container(engine, command, found["container" + suffix], found["inspect" + suffix])
    return found


def _spin() -> None:
    while True:
        pass


@contextmanager
def busy(number: int) -> Iterator[None]:
    with ExitStack() as stack:
        for _ in range(number):
            process = multiprocessing.Process(target=_spin, daemon=True)
            process.start()
            stack.callback(process.join)
            stack.callback(process.terminate)
        yield


def main() -> None:
    parser = argparse.ArgumentParser(description="Delays from the end of the output to the end of the process.")
    parser.add_argument("engine", nargs="+", help="LABEL=SOCKET")
    parser.add_argument("--execs", type=int, default=300)
    parser.add_argument("--containers", type=int, default=200)
    parser.add_argument("--quiet", type=int, default=50, help="execs, and containers, that close their output first")
    parser.add_argument("--busy", type=int, default=0, help="processes that load the processors meanwhile")
    given = parser.parse_args()
    print(f"{'engine':24} {'what':18} {'n':>6} {'median':>8} {'99 %':>8} {'max ms':>8}  early  wrong")
    for item in given.engine:
        label, _, path = item.partition("=")
        engines.ensure_image(path)
        engine = Engine(engines.identify(label, path))
        with busy(given.busy):
            found = measure(engine, given.execs, given.containers, given.quiet)
        for what, delays in found.items():
            if delays.milliseconds:
                print(
                    f"{label + ' ' + engine.version:24} {what:18} {delays.row()}  {delays.wrong[:5] or ''}", flush=True
                )


if __name__ == "__main__":
    main()
