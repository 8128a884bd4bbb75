"""Measures what one short job costs on an engine that runs: by function, by client, and by docker-py.

    python -m benchmarks.jobs HOST ... [--image busybox] [--count 20]

Each host is an address as for ``DOCKER_HOST``; an empty one is what that variable and those for TLS say. The commands
run in a container of the image, which is removed at the end. The jobs take turns, so that a busy moment meets all of
them. The figures are medians in milliseconds. docker-py takes part where it knows the address: over ssh it needs
paramiko.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack

import docker
from docker.errors import DockerException

from attachproto_adapters import blocking

COMMAND = ["echo", "done"]
HOST_CONFIG = {"HostConfig": {"NetworkMode": "none"}}

Job = Callable[[], object]


def jobs(host: str, image: str, stack: ExitStack) -> dict[str, Job]:
    """The jobs on one engine; each checks what it has read."""
    client = stack.enter_context(blocking.Client(host or None))
    container = client.create(image, ["sleep", "600"], config=HOST_CONFIG)
    stack.callback(client.remove, container, force=True)
    client.attach(container, start=True).close()

    def run(target: blocking.Client | None) -> Job:
        def job() -> None:
            if target is None:
                done = blocking.run(image, COMMAND, config=HOST_CONFIG, host=host or None)
            else:
                done = target.run(image, COMMAND, config=HOST_CONFIG)
            assert done.stdout == b"done\n"

        return job

    def command(target: blocking.Client | None) -> Job:
        def job() -> None:
            if target is None:
                done = blocking.run_exec(container, COMMAND, host=host or None)
            else:
                done = target.run_exec(container, COMMAND)
            assert done.stdout == b"done\n"

        return job

    return {
        "exec, function": command(None),
        "exec, client": command(client),
        **docker_py(host, container, stack),
        "run, function": run(None),
        "run, client": run(client),
    }


def docker_py(host: str, container: str, stack: ExitStack) -> dict[str, Job]:
    try:
        other = docker.DockerClient(host) if host else docker.from_env()
    except DockerException as exc:
        print(f"without docker-py: {exc}")
        return {}
    stack.callback(other.close)

    def job() -> None:
        # It loses output now and then, so only the exit code is checked.
        exec_id = other.api.exec_create(container, COMMAND)["Id"]
        other.api.exec_start(exec_id, demux=True)
        assert other.api.exec_inspect(exec_id)["ExitCode"] == 0

    return {"exec, docker-py": job}


def measure(found: dict[str, Job], count: int) -> str:
    times: dict[str, list[float]] = {name: [] for name in found}
    for number in range(count + 1):
        for name, job in found.items():
            began = time.perf_counter()
            job()
            if number:  # the first is not counted
                times[name].append((time.perf_counter() - began) * 1000)
    return "; ".join(f"{name} {statistics.median(each):.1f}" for name, each in times.items())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("hosts", nargs="+")
    parser.add_argument("--image", default="busybox")
    parser.add_argument("--count", type=int, default=20)
    given = parser.parse_args()
    for host in given.hosts:
        with ExitStack() as stack:
            figures = measure(jobs(host, given.image, stack), given.count)
            print(f"{host or 'as DOCKER_HOST says'} (ms): {figures}", flush=True)


if __name__ == "__main__":
    main()
