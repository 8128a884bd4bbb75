"""Measures what one short job costs on an engine that runs, beside docker-py, aiodocker and the docker CLI.

    python -m benchmarks.jobs HOST ... [--image busybox] [--count 20]

Each host is an address as for ``DOCKER_HOST``; an empty one is what that variable and those for TLS say. ``exec`` is
one command in a container that runs; ``run`` creates a container, attaches, starts it, waits and removes it. The jobs
take turns, so that a busy moment meets all of them. The figures are medians in milliseconds, printed as a table. A
client that does not know the address is left out.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import aiodocker
import docker
from docker.errors import DockerException

from attachproto_adapters import blocking

COMMAND = ["echo", "done"]
HOST_CONFIG = {"HostConfig": {"NetworkMode": "none"}}

Job = Callable[[], object]
Jobs = Iterator[tuple[str, str, Job]]


def by_attachproto(host: str, image: str, container: str, stack: ExitStack) -> Jobs:
    client = stack.enter_context(blocking.Client(host or None))
    at = host or None

    def checked(done: Any) -> None:
        assert done.stdout == b"done\n"

    yield "exec", "a function", lambda: checked(blocking.run_exec(container, COMMAND, host=at))
    yield "run", "a function", lambda: checked(blocking.run(image, COMMAND, config=HOST_CONFIG, host=at))
    yield "exec", "a `Client`", lambda: checked(client.run_exec(container, COMMAND))
    yield "run", "a `Client`", lambda: checked(client.run(image, COMMAND, config=HOST_CONFIG))


def by_docker_py(host: str, image: str, container: str, stack: ExitStack) -> Jobs:
    other = docker.DockerClient(host) if host else docker.from_env()
    stack.callback(other.close)

    def command() -> None:
        # It loses output now and then, so only the exit code is checked.
        exec_id = other.api.exec_create(container, COMMAND)["Id"]
        other.api.exec_start(exec_id, demux=True)
        assert other.api.exec_inspect(exec_id)["ExitCode"] == 0

    yield "exec", "docker-py", command
    yield "run", "docker-py", lambda: other.containers.run(image, COMMAND, network_mode="none", remove=True)


def by_aiodocker(host: str, image: str, container: str, stack: ExitStack) -> Jobs:
    runner = stack.enter_context(asyncio.Runner())

    async def made() -> aiodocker.Docker:
        return aiodocker.Docker(host or None)

    other = runner.run(made())
    stack.callback(lambda: runner.run(other.close()))

    async def command() -> None:
        instance = await other.containers.container(container).exec(COMMAND)
        async with instance.start() as stream:
            while await stream.read_out() is not None:
                pass
        assert (await instance.inspect())["ExitCode"] == 0

    async def run() -> None:
        made = await other.containers.create({"Image": image, "Cmd": COMMAND, **HOST_CONFIG})
        async with made.attach(stdout=True, stderr=True) as stream:
            await made.start()
            while await stream.read_out() is not None:
                pass
        assert (await made.wait())["StatusCode"] == 0
        await made.delete(force=True)

    yield "exec", "aiodocker", lambda: runner.run(command())
    yield "run", "aiodocker", lambda: runner.run(run())


def by_the_cli(host: str, image: str, container: str, stack: ExitStack) -> Jobs:
    environment = {**os.environ, **({"DOCKER_HOST": host} if host else {})}
    program = shutil.which("docker")
    if program is None:
        raise DockerException("there is no docker CLI")

    def call(*arguments: str) -> Job:
        command = [program, *arguments, *COMMAND]
        return lambda: subprocess.run(command, check=True, capture_output=True, env=environment)

    yield "exec", "docker CLI", call("exec", container)
    yield "run", "docker CLI", call("run", "--rm", "--network", "none", image)


def measure(host: str, image: str, count: int) -> None:
    with ExitStack() as stack:
        client = stack.enter_context(blocking.Client(host or None))
        container = client.create(image, ["sleep", "600"], config=HOST_CONFIG)
        stack.callback(client.remove, container, force=True)
        client.attach(container, start=True).close()
        found: dict[tuple[str, str], Job] = {}
        for made in (by_attachproto, by_docker_py, by_aiodocker, by_the_cli):
            try:
                for job, who, call in made(host, image, container, stack):
                    call()  # not counted, and shows whether this client knows the address
                    found[job, who] = call
            except (DockerException, aiodocker.DockerError, OSError, ValueError, subprocess.CalledProcessError) as exc:
                print(f"without {made.__name__.removeprefix('by_')}: {exc}")
        times: dict[tuple[str, str], list[float]] = {key: [] for key in found}
        for _ in range(count):
            for key, call in found.items():
                began = time.perf_counter()
                call()
                times[key].append((time.perf_counter() - began) * 1000)
    print(f"\n{host or 'as DOCKER_HOST says'}: medians of {count}, ms")
    clients = list(dict.fromkeys(who for _, who in found))
    print("|  |", " | ".join(clients), "|\n| ---", "| ---:" * len(clients), "|")
    for job in ("exec", "run"):
        row = (f"{statistics.median(times[job, who]):.0f}" if (job, who) in times else "–" for who in clients)
        print(f"| {job} |", " | ".join(row), "|", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("hosts", nargs="+")
    parser.add_argument("--image", default="busybox")
    parser.add_argument("--count", type=int, default=20)
    given = parser.parse_args()
    for host in given.hosts:
        measure(host, given.image, given.count)


if __name__ == "__main__":
    main()
