"""Count how often a client loses output that comes together with the head of the answer.

Usage: measure_lost_output.py LABEL=SOCKET [LABEL=SOCKET ...] [--count N]

It prints a row of a table for each engine: in how many of N calls output was lost or cut, by docker-py and by this
library.

exec      `exec_run(["echo", "hello"])`, and `run_exec`
attach    `attach(logs=True, stream=False)` of a container that has exited, and `attach` with `AttachOptions(logs=True)`

docker-py is an extra (`peers`). The engine is a dockerd that runs already. On Podman the attach of docker-py would not
end: Podman resets a container that has exited, and waits for its start.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from attachproto import AttachOptions
from attachproto_adapters.blocking import Client
from tests.live import engines
from tests.live.engine_api import Engine

HELLO = b"hello\n"


def lost(count: int, call: Callable[[], bytes]) -> str:
    """In how many calls the output is not the expected one. docker-py raises ValueError for half a header."""
    wrong = 0
    for _ in range(count):
        try:
            wrong += call() != HELLO
        except ValueError:
            wrong += 1
    return f"{wrong} of {count}"


def measure(engine: Engine, count: int) -> list[str]:
    running = engine.create("sleep", "600")
    engine.start(running)
    exited = engine.finish(engine.create("echo", "hello"))

    def attached(client: Client) -> bytes:
        with client.attach(exited, AttachOptions(logs=True)) as attachment:
            return attachment.communicate()[0]

    docker = importlib.import_module("docker")
    theirs = docker.DockerClient(base_url=engine.host, timeout=60)
    with contextlib.closing(theirs), Client(engine.host) as ours:
        theirs_running, theirs_exited = theirs.containers.get(running), theirs.containers.get(exited)
        return [
            lost(count, lambda: theirs_running.exec_run(["echo", "hello"]).output),
            lost(count, lambda: ours.run_exec(running, ["echo", "hello"]).stdout),
            lost(count, lambda: theirs_exited.attach(logs=True, stream=False)),
            lost(count, lambda: attached(ours)),
        ]


def main() -> None:
    parser = argparse.ArgumentParser(description="Calls in which output was lost.")
    parser.add_argument("engine", nargs="+", help="LABEL=SOCKET")
    parser.add_argument("--count", type=int, default=100)
    given = parser.parse_args()
    print("| engine | exec, docker-py | exec, attachproto | attach, docker-py | attach, attachproto |")
    print("| --- | --- | --- | --- | --- |")
    for item in given.engine:
        label, _, path = item.partition("=")
        engines.ensure_image(path)
        engine = Engine(engines.identify(label, path))
        try:
            print(f"| {' | '.join([f'{label} {engine.version}', *measure(engine, given.count)])} |", flush=True)
        finally:
            engine.remove_all()


if __name__ == "__main__":
    main()
