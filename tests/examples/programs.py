"""What the tests of the examples share: an engine to run them on, and the programs as processes."""

from __future__ import annotations

import contextlib
import json
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from tests.live import engines

FOLDER = Path(__file__).parents[2] / "examples"
# Chromium on a machine that has much else to do takes long.
BOUND = 60.0


@dataclass
class Target:
    """An engine to run examples on, and the test's containers: those of this image, which no other test uses."""

    host: str
    image: str
    host_config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def options(self) -> list[str]:
        """The options of each example that creates containers."""
        return ["--host", self.host, "--host-config", json.dumps(self.host_config)]

    @property
    def socket(self) -> str:
        return self.host.removeprefix("unix://")

    def call(self, method: str, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        status, answer = engines.request(self.socket, method, path, data, timeout=BOUND)
        assert status < 400, answer
        return json.loads(answer) if answer.strip() else None

    def containers(self) -> list[str]:
        return [each["Id"] for each in self.call("GET", "/containers/json?all=1") if self.image in each["Image"]]

    def execs(self) -> list[str]:
        """The commands that were started in the test's containers, and have not ended."""
        found = [self.call("GET", f"/containers/{container}/json")["ExecIDs"] for container in self.containers()]
        return [each for execs in found for each in execs or []]

    def start(self, script: str) -> str:
        """A container that runs a shell script."""
        config = {"Image": self.image, "Cmd": ["sh", "-c", script], "HostConfig": self.host_config}
        container: str = self.call("POST", "/containers/create", config)["Id"]
        self.call("POST", f"/containers/{container}/start")
        return container

    def remove_all(self) -> None:
        for container in self.containers():
            # Killed first: Podman stops what it removes, and waits for a shell that ignores the signal. Either fails if
            # the container has ended, or is being removed by the engine itself.
            for method, path in (("POST", f"{container}/kill"), ("DELETE", f"{container}?force=1&v=1")):
                engines.request(self.socket, method, f"/containers/{path}", timeout=BOUND)
        until(lambda: not self.containers(), "all containers are removed")


class Program:
    """An example that runs. What it prints is read by threads, so that no test waits longer than the bound."""

    def __init__(self, name: str, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(FOLDER / name), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._log: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._errors: list[str] = []
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self._readers = [
            threading.Thread(target=self._read, args=(self.process.stdout, self._lines)),
            threading.Thread(target=self._read, args=(self.process.stderr, self._log, self._errors)),
        ]
        for reader in self._readers:
            reader.start()

    @staticmethod
    def _read(stream: IO[str], lines: queue.SimpleQueue[str], kept: list[str] | None = None) -> None:
        with stream:
            for line in stream:
                lines.put(line.rstrip("\n"))
                if kept is not None:
                    kept.append(line.rstrip("\n"))
        lines.put("")

    def send(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def line(self) -> str:
        """The next line that it prints; an empty one at the end."""
        return self._next(self._lines)

    def error_line(self) -> str:
        """The next line that it prints to stderr."""
        return self._next(self._log)

    def _next(self, lines: queue.SimpleQueue[str]) -> str:
        try:
            return lines.get(timeout=BOUND)
        except queue.Empty:
            raise AssertionError(f"no line within {BOUND:.0f} s; stderr: {self._errors}") from None

    def end(self, number: signal.Signals | None = None) -> tuple[int, list[str], str]:
        """Waits for its end, after a signal or that of its stdin: exit code, further lines, and stderr."""
        if number is not None:
            self.process.send_signal(number)
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        code = self.process.wait(BOUND)
        for reader in self._readers:
            reader.join(BOUND)
        lines = []
        while not self._lines.empty():
            lines.append(self._lines.get())
        return code, lines[:-1], "\n".join(self._errors).strip()


@contextlib.contextmanager
def program(name: str, *arguments: str) -> Iterator[Program]:
    """An example that is killed on leaving if it still runs."""
    running = Program(name, *arguments)
    try:
        yield running
    finally:
        running.process.kill()
        running.end()


def run(name: str, *arguments: str, lines: Sequence[str] = ()) -> tuple[int, list[str], str]:
    """Runs an example to its end, with these lines as its stdin: exit code, lines of stdout, and stderr."""
    with program(name, *arguments) as running:
        for line in lines:
            running.send(line)
        return running.end()


def until(condition: Any, what: str) -> None:
    deadline = time.monotonic() + BOUND
    while not condition():
        assert time.monotonic() < deadline, f"not within {BOUND:.0f} s: {what}"
        time.sleep(0.02)
