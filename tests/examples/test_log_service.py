from __future__ import annotations

import http.client
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.examples.programs import BOUND, Program, Target, program, until


@contextmanager
def service(target: Target) -> Iterator[tuple[Program, str]]:
    with program("log_service.py", "--host", target.host, "--port", "0") as running:
        yield running, running.line().removeprefix("http://").rstrip("/")


class Viewer:
    def __init__(self, address: str, container: str, last: str | None = None) -> None:
        self._connection = http.client.HTTPConnection(address, timeout=BOUND)
        self._connection.request("GET", f"/{container}", headers={"Last-Event-ID": last} if last else {})
        self.answer = self._connection.getresponse()

    def event(self) -> dict[str, str]:
        found: dict[str, str] = {}
        while line := self.answer.readline().decode().rstrip("\n"):
            field, _, value = line.partition(": ")
            found[field] = f"{found[field]}\n{value}" if field in found else value
        return found

    def events(self) -> list[tuple[str, str]]:
        """All up to the end."""
        found = []
        while event := self.event():
            found.append((event["event"], event["data"]))
        return found

    def leave(self) -> None:
        self.answer.close()
        self._connection.close()


def sockets(process: int) -> int:
    count = 0
    for link in Path(f"/proc/{process}/fd").iterdir():
        with suppress(FileNotFoundError):  # it was closed meanwhile
            count += os.readlink(link).startswith("socket:")
    return count


def test_viewers_come_leave_and_resume(target: Target) -> None:
    container = target.start("printf 'one\\ntwo\\n'; sleep 0.3; echo three >&2; exec sleep 60")
    with service(target) as (running, address):
        idle = sockets(running.process.pid)
        first, second = Viewer(address, container), Viewer(address, container)
        assert first.answer.headers["Content-Type"] == "text/event-stream"
        seen = [first.event(), first.event(), first.event()]
        shown = [(each["event"], each["data"]) for each in seen]
        assert shown == [("stdout", "one"), ("stdout", "two"), ("stderr", "three")]
        assert [second.event(), second.event(), second.event()] == seen
        # Two viewers, and two follows.
        assert sockets(running.process.pid) >= idle + 4
        first.leave()
        second.leave()
        # The client keeps one connection for its next call.
        until(lambda: sockets(running.process.pid) <= idle + 1, "the follows have ended")
        back = Viewer(address, container, last=seen[0]["id"])
        assert [back.event(), back.event()] == seen[1:]
        target.call("POST", f"/containers/{container}/kill")
        assert back.events() == [("end", "")]
        back.leave()


def test_a_container_that_is_not_there(target: Target) -> None:
    with service(target) as (_, address):
        viewer = Viewer(address, "nothing-of-that-name")
        assert viewer.answer.status == 404
        assert "nothing-of-that-name" in viewer.answer.read().decode()
        viewer.leave()


def test_ctrl_c_while_somebody_looks(target: Target) -> None:
    container = target.start("echo one; exec sleep 60")
    with service(target) as (running, address):
        viewer = Viewer(address, container)
        assert viewer.event()["data"] == "one"
        assert running.end(signal.SIGINT) == (130, [], "")
        viewer.leave()
