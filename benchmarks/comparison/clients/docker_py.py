"""docker-py, as its documentation uses it."""

from __future__ import annotations

import threading
import time

import docker
from docker.utils.socket import frames_iter

from benchmarks.comparison.clients._outcome import Outcome


class DockerPy:
    """One client object for all calls."""

    def __init__(self) -> None:
        self._api = docker.from_env().api

    def output(self, outcome: Outcome, *, tty: bool) -> None:
        sizes, digests = outcome.sizes, outcome.digests
        stream = self._api.attach("web", stream=True, demux=not tty)
        for pieces in stream:
            for is_stderr, data in enumerate((pieces, None) if tty else pieces):
                if data is not None:
                    sizes[is_stderr] += len(data)
                    if digests:
                        digests[is_stderr].update(data)

    def keystrokes(self, outcome: Outcome, count: int) -> None:
        # There is no public way to write.
        sock = self._api.attach_socket("web", {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})._sock
        began = time.perf_counter()
        for _ in range(count):
            sock.sendall(b"x")
            outcome.add(False, sock.recv(4096))
        outcome.seconds = time.perf_counter() - began
        sock.close()

    def cat(self, outcome: Outcome, data: bytes) -> None:
        stream = self._api.attach_socket("web", {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
        writer = threading.Thread(target=stream._sock.sendall, args=(data,))
        writer.start()
        for number, piece in frames_iter(stream, tty=False):
            outcome.add(number == 2, piece)
        writer.join()
        stream._sock.close()

    def attach(self, outcome: Outcome, count: int) -> None:
        began = time.perf_counter()
        for _ in range(count):
            for pieces in self._api.attach("web", stream=True, demux=True):
                for is_stderr, data in enumerate(pieces):
                    outcome.add(bool(is_stderr), data or b"")
        outcome.seconds = time.perf_counter() - began

    def exec(self, outcome: Outcome, count: int) -> None:
        began = time.perf_counter()
        for _ in range(count):
            exec_id = self._api.exec_create("web", ["true"])["Id"]
            for is_stderr, data in enumerate(self._api.exec_start(exec_id, demux=True)):
                outcome.add(bool(is_stderr), data or b"")
            assert self._api.exec_inspect(exec_id)["ExitCode"] == 0
        outcome.seconds = time.perf_counter() - began
