"""Runs every client on a workload, in turn, and judges what each has read.

Strategy: the first run of each client hashes what it reads and has no time. Then come the rounds. In a round each
client runs once, so that a busy moment of the machine meets all of them. Clients with short runs have more rounds.
Each run counts its bytes. A client that has ever read another number of bytes, or other bytes, is wrong and has no time
at all.
"""

from __future__ import annotations

import hashlib
import json
import os
import queue
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

import attrs

from benchmarks.comparison.programs import ROOT, Client
from benchmarks.comparison.replay import Replay
from benchmarks.comparison.workloads import Workload

# A run takes less than five seconds where nothing is quadratic.
RUN_SECONDS: Final = 20.0

# One round is enough for a client that needs longer than this.
SLOW_SECONDS: Final = 2.0

# A client has up to three times the rounds until they have taken this long together. The time of a run of 50 ms varies
# by a half on a virtual machine.
ENOUGH_SECONDS: Final = 2.0

# The docker CLI needs a process for each job, which takes 20 times as long as the job does in the others.
CLI_JOBS_DIVISOR: Final = 10


@attrs.define
class Result:
    """How a client did on one workload.

    Attributes:
        times: seconds of each round: of the whole output, of one keystroke or job, or the longest wait of another task.
        wrong: what it did wrong; empty if nothing.
        peak: the largest memory of its process, in bytes; 0 if it does not say.
    """

    times: list[float] = attrs.Factory(list)
    wrong: str = ""
    peak: int = 0

    @property
    def seconds(self) -> float | None:
        """The median; ``None`` if it was wrong."""
        return None if self.wrong or not self.times else statistics.median(self.times)


class Wrong(Exception):
    """A client has not done what it should have done."""


@attrs.frozen
class _Expected:
    """What a client must have read. Without digests only the sizes count."""

    sizes: list[int]
    digests: list[str]

    def judge(self, sizes: list[int], digests: list[str]) -> None:
        if sizes != self.sizes:
            raise Wrong(f"read {sizes} bytes, not {self.sizes}")
        if digests and self.digests and digests != self.digests:
            raise Wrong("read other bytes than were sent")


def _hashed(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _expected(client: Client, workload: Workload) -> _Expected:
    if workload.kind == "keystrokes":
        return _Expected([workload.size, 0], [_hashed(b"x" * workload.size), _hashed(b"")])
    if workload.kind == "cat":
        return _Expected([workload.size, 0], [_hashed(bytes(range(256)) * (workload.size // 256)), _hashed(b"")])
    body = workload.body
    assert body is not None
    if client.counts_wire:
        return _Expected([len(body.head) + len(body.block) * body.count, 0], [])
    if workload.kind in ("attach", "exec"):
        body = attrs.evolve(body, count=body.count * _jobs(client, workload))
    return _Expected(list(body.sizes), list(body.digests()))


def _jobs(client: Client, workload: Workload) -> int:
    return workload.size if client.counts else max(1, workload.size // CLI_JOBS_DIVISOR)


def _is_enough(times: list[float], rounds: int) -> bool:
    if not times:
        return False
    return max(times) > SLOW_SECONDS or (len(times) >= rounds and sum(times) > ENOUGH_SECONDS)


class Comparison:
    """All clients against one server.

    Args:
        clients: in the order in which each round runs them.
        replay: the server.
        certificates: the directory for ``DOCKER_CERT_PATH``.
        say: takes a line for each result that is wrong.
    """

    def __init__(
        self, clients: Iterable[Client], replay: Replay, certificates: Path, say: Callable[[str], None]
    ) -> None:
        self._clients = list(clients)
        self._replay = replay
        self._certificates = certificates
        self._say = say

    def run(self, workload: Workload, rounds: int) -> dict[str, Result]:
        """Every client's result, by its name. Without rounds the first run's time is kept, which hashing has slowed."""
        clients = [client for client in self._clients if workload.kind in client.kinds]
        results = {client.name: Result() for client in clients}
        expected = {client.name: _expected(client, workload) for client in clients}
        for at in range(3 * rounds + 1):
            for client in clients:
                result = results[client.name]
                if result.wrong or _is_enough(result.times, rounds):
                    continue
                try:
                    seconds, peak = self._run(client, workload, expected[client.name], check=at == 0)
                except Wrong as exc:
                    result.wrong = str(exc)
                    self._say(f"{workload.name}: {client.name} is wrong: {exc}")
                    continue
                result.peak = max(result.peak, peak)
                if at or not rounds:
                    result.times.append(seconds)
        return results

    def _run(self, client: Client, workload: Workload, expected: _Expected, *, check: bool) -> tuple[float, int]:
        """Run a client once; the seconds that it took, and its memory."""
        self._replay.workload = workload
        while not self._replay.seconds.empty():
            self._replay.seconds.get()
        if not client.counts:
            return self._run_cli(client, workload, expected, check=check), 0
        done = self._started(client, workload, digest=check, stdout=subprocess.PIPE)
        found = json.loads(done.stdout.splitlines()[-1])
        expected.judge(found["sizes"], found["digests"])
        if workload.kind in ("output", "cat"):
            return self._served(), found["peak"]
        return found["seconds"] / (1 if workload.kind == "beside" else workload.size), found["peak"]

    def _run_cli(self, client: Client, workload: Workload, expected: _Expected, *, check: bool) -> float:
        """The docker CLI prints what it reads: the first run checks that, the others send it to /dev/null."""
        where, jobs = (subprocess.PIPE if check else subprocess.DEVNULL), _jobs(client, workload)
        began = time.perf_counter()
        done = [
            self._started(client, workload, digest=check, stdout=where)
            for _ in range(1 if workload.kind == "output" else jobs)
        ]
        took = (time.perf_counter() - began) / jobs
        if check:
            both = b"".join(each.stdout for each in done), b"".join(each.stderr for each in done)
            expected.judge([len(each) for each in both], [_hashed(each) for each in both])
        return self._served() if workload.kind == "output" else took

    def _started(
        self, client: Client, workload: Workload, *, digest: bool, stdout: int
    ) -> subprocess.CompletedProcess[bytes]:
        stderr = stdout if stdout == subprocess.DEVNULL else subprocess.PIPE
        command, variables = client.command(workload, digest), self._environment(client, workload)
        try:
            done = subprocess.run(
                command,
                env=variables,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                timeout=RUN_SECONDS,
            )
        except subprocess.TimeoutExpired:
            raise Wrong(f"over {RUN_SECONDS:.0f} s") from None
        if done.returncode:
            lines = (done.stderr or b"").decode(errors="replace").strip().splitlines()
            raise Wrong((lines or [f"status {done.returncode}"])[-1][:200])
        return done

    def _environment(self, client: Client, workload: Workload) -> dict[str, Any]:
        # With REQUESTS_CA_BUNDLE set, docker-py ignores the engine's own authority.
        left_out = ("DOCKER_", "CONTAINER_", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
        ours = {key: value for key, value in os.environ.items() if not key.startswith(left_out)}
        ours["DOCKER_HOST"] = self._replay.address(workload.scheme)
        if workload.scheme == "tls":
            ours |= {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(self._certificates)}
        return ours | client.variables

    def _served(self) -> float:
        """How long the server needed for the stream."""
        try:
            return self._replay.seconds.get(timeout=RUN_SECONDS)
        except queue.Empty:
            raise Wrong("has not closed the connection") from None
