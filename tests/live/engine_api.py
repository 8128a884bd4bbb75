"""What the live tests ask of an engine, spoken with http.client.

None of the answers by which they judge the project comes from the project's own code.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from tests.live import engines

# A start waits for the OCI runtime, a removal for the file system: seconds, on a loaded machine.
CALL_TIMEOUT = 60.0


class EngineError(Exception):
    """The engine refused a call that a test needs."""


class Engine:
    """One engine, and the containers that were made on it."""

    def __init__(self, running: engines.Running) -> None:
        self.running = running
        self.name = running.name  # docker or podman: by this it behaves
        self.label = running.label  # by this it is told from others that are up
        self.socket = running.socket
        self.host = running.host
        self.tcp_host = running.tcp_host  # plain TCP; None if there is none, or if it is not known
        self.tls_host = running.tls_host
        self.cert_path = running.cert_path
        self.certificates = running.certificates
        self.version = running.version
        self.api_version = running.api_version
        self.directory = running.directory
        self._containers: list[str] = []

    def __repr__(self) -> str:
        return f"<{self.label} {self.version} at {self.host}>"

    @property
    def release(self) -> tuple[int, int]:
        """Major and minor number: `4.3.1`, `20.10.24+dfsg1` and `5.0.0-rc1` all have them in front."""
        major, minor = self.version.split(".")[:2]
        return int(major), int(minor)

    def call(self, method: str, target: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        status, answer = engines.request(self.socket, method, target, data, timeout=CALL_TIMEOUT)
        if status >= 400:
            raise EngineError(f"{method} {target}: {status} {answer.decode(errors='replace').strip()}")
        return json.loads(answer) if answer.strip() else None

    def create(
        self,
        *command: str,
        tty: bool = False,
        open_stdin: bool = False,
        stdin_once: bool = False,
        host_config: Mapping[str, Any] | None = None,
        image: str = engines.IMAGE,
        env: Mapping[str, str] | None = None,
    ) -> str:
        wanted = {
            "Image": image,
            "Env": [f"{name}={value}" for name, value in (env or {}).items()],
            "Cmd": list(command),
            "Tty": tty,
            "OpenStdin": open_stdin,
            "StdinOnce": stdin_once,
            "AttachStdin": open_stdin,
            "HostConfig": self.host_config(host_config or {}),
        }
        container: str = self.call("POST", "/containers/create", wanted)["Id"]
        self._containers.append(container)
        return container

    def host_config(self, more: Mapping[str, Any]) -> dict[str, Any]:
        """The HostConfig of every container here."""
        host: dict[str, Any] = {"NetworkMode": "none", **more}
        if self.name == "podman":  # it asks for more than a container in a container may have
            host["Ulimits"] = [{"Name": name, "Soft": 1024, "Hard": 1024} for name in ("nofile", "nproc")]
        return host

    def labelled(self, label: str) -> list[str]:
        """The names and states of the containers that have this label, in whatever state they are."""
        found = self.call("GET", "/containers/json?all=1")
        return [f"{each['Names'][0]} {each['State']}" for each in found if label in (each.get("Labels") or {})]

    def shell(self, script: str, **options: Any) -> str:
        """Creates a container that runs a shell script."""
        return self.create("sh", "-c", script, **options)

    def start(self, container: str) -> None:
        self.call("POST", f"/containers/{container}/start")

    def kill(self, container: str) -> None:
        self.call("POST", f"/containers/{container}/kill")

    def pause(self, container: str) -> None:
        self.call("POST", f"/containers/{container}/pause")

    def unpause(self, container: str) -> None:
        self.call("POST", f"/containers/{container}/unpause")

    def logs(self, container: str) -> bytes:
        """What was logged so far, with its frames."""
        target = f"/containers/{container}/logs?stdout=1&stderr=1"
        return engines.request(self.socket, "GET", target, timeout=CALL_TIMEOUT)[1]

    def inspect(self, container: str) -> dict[str, Any]:
        answer: dict[str, Any] = self.call("GET", f"/containers/{container}/json")
        return answer

    def status(self, container: str) -> str:
        return str(self.inspect(container)["State"]["Status"])

    def wait_for(self, container: str, status: str, timeout: float = 30.0) -> None:
        wait_until(lambda: self.status(container) == status, f"{container[:12]} is {status}", timeout)

    def finish(self, container: str) -> str:
        """Starts a container and waits for its end, as inspect tells it: podman says `stopped` first."""
        self.start(container)
        self.wait_for(container, "exited")
        return container

    def exec_create(self, container: str, *command: str, tty: bool = False, stdin: bool = False) -> str:
        """An exec of a running container, not yet started: its id."""
        wanted = {
            "Cmd": list(command),
            "Tty": tty,
            "AttachStdin": stdin,
            "AttachStdout": True,
            "AttachStderr": True,
        }
        created: str = self.call("POST", f"/containers/{container}/exec", wanted)["Id"]
        return created

    def exec_inspect(self, exec_id: str) -> dict[str, Any]:
        answer: dict[str, Any] = self.call("GET", f"/exec/{exec_id}/json")
        return answer

    def exec_finish(self, exec_id: str, timeout: float = 30.0) -> int:
        """Waits for the end of an exec that has been started: its exit code."""
        wait_until(lambda: not self.exec_inspect(exec_id)["Running"], f"exec {exec_id[:12]} is over", timeout)
        return int(self.exec_inspect(exec_id)["ExitCode"])

    def processes(self, container: str) -> list[str]:
        """The command lines of a container's processes, without zombies."""
        fields = "pid,state,args" if self.name == "podman" else "-eo pid,stat,args"
        target = f"/containers/{container}/top?ps_args={quote(fields)}"
        try:
            # Podman's answer is empty now and then: a process has ended while it was reading /proc.
            rows = next(found for _ in range(100) if (found := self.call("GET", target)) is not None)["Processes"]
        except EngineError as exc:
            if '"ps\\": executable file not found' not in str(exc):  # dockerd runs that of its machine
                raise
            return engines.processes_beside(self.inspect(container)["State"]["Pid"])
        return [" ".join(row[2:]) for row in rows if not row[1].startswith(("Z", "X"))]

    def conmons(self) -> int:
        """How many conmon processes this podman has; of an engine that was not started here, none are known."""
        return len(engines.conmons(self.directory)) if self.name == "podman" and self.directory else 0

    def end_conmons(self) -> int:
        """Ends those that execs have left behind: two of each, which podman keeps for five minutes. Says how many."""
        return engines.end_conmons(self.directory) if self.name == "podman" and self.directory else 0

    def remove(self, container: str) -> None:
        # Killed first: podman 5 stops what it removes, and waits ten seconds for a shell that ignores the signal.
        engines.request(self.socket, "POST", f"/containers/{container}/kill", timeout=CALL_TIMEOUT)
        status, answer = engines.request(
            self.socket, "DELETE", f"/containers/{container}?force=1&v=1", timeout=CALL_TIMEOUT
        )
        in_progress = status == 409 and b"already in progress" in answer  # AutoRemove
        if status not in (200, 204, 404) and not in_progress:
            raise EngineError(f"{container[:12]} is not removed: {status} {answer.decode(errors='replace').strip()}")
        self._containers.remove(container)

    def remove_all(self) -> None:
        for container in list(self._containers):
            self.remove(container)


@dataclass(frozen=True)
class Route:
    """A way to an engine."""

    engine: Engine
    transport: str  # unix, tcp, tls or ssh
    host: str
    environment: Mapping[str, str] = field(default_factory=dict)  # what a program needs in its own beside the host

    def __repr__(self) -> str:
        return f"<{self.engine.label} {self.engine.version} at {self.host}>"


def wait_until(condition: Callable[[], bool], what: str, timeout: float = 30.0) -> None:
    """Asks again and again, up to a bound: for what no event announces."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout:.0f} s: {what}")
        time.sleep(0.02)
