"""Loads the embedded engine: many clients at once, and clients that are killed.

    python benchmarks/engine.py [--clients 200] [--megabytes 10] [--kills 1000]

First some clients attach at once, each to a container of its own, then as many to one container; every one checks
the hash of what it read, and the engine's memory is watched meanwhile. It runs in a process of its own.
Then clients are killed (SIGKILL) in the middle: of an attach with and without stdin, of logs, of a wait, of an exec.
After that the engine must hold what it held before: descriptors, tasks, threads, processes.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import hashlib
import http.client
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable

from attachproto import AttachOptions, Stdout
from attachproto_adapters.blocking import attach
from attachproto_engine import Engine

TIMEOUT = 120.0

ENGINE = "import sys; from attachproto_engine import serve; sys.exit(serve(sys.argv[1]))"

CLIENT = """
import os, socket, sys
sock = socket.socket(socket.AF_UNIX)
sock.connect(sys.argv[1])
sock.sendall(sys.argv[2].encode())
size = 0
while size < int(sys.argv[3]):
    size += len(sock.recv(65536))
os.write(1, b"r")
while sock.recv(65536):
    pass
"""


def call(path: str, method: str, target: str, body: object = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(TIMEOUT)
    connection.sock.connect(path)
    connection.request(method, target, None if body is None else json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    result = answer.status, answer.read()
    connection.close()
    return result


def create(path: str, name: str, command: str, **config: object) -> None:
    status, body = call(
        path, "POST", f"/containers/create?name={name}", {"Image": "any", "Cmd": ["sh", "-c", command], **config}
    )
    assert status == 201, body


def memory(pid: int) -> float:
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def descriptors(pid: int | str) -> collections.Counter[str]:
    found: collections.Counter[str] = collections.Counter()
    for entry in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        try:
            found[os.readlink(entry).split("[")[0]] += 1
        except FileNotFoundError:
            continue
    return found


def children(pid: int | str) -> list[int]:
    tasks = pathlib.Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


def expected(text: bytes, size: int) -> str:
    line = text + b"\n"
    return hashlib.sha256((line * (size // len(line) + 1))[:size]).hexdigest()


def read_whole(path: str, name: str, *, start: bool, ready: Callable[[], object] = lambda: None) -> str:
    digest = hashlib.sha256()
    with attach(name, AttachOptions(), host=f"unix://{path}", tty=False, start=start, timeout=TIMEOUT) as attachment:
        ready()
        for event in attachment:
            assert isinstance(event, Stdout)
            digest.update(event.data)
        if start:
            assert attachment.wait() == 0
    return digest.hexdigest()


def crowd(path: str, pid: int, clients: int, size: int, *, own: bool) -> None:
    names = [f"{'own' if own else 'one'}{at}" for at in range(clients if own else 1)]
    for name in names:
        # The gate lets all of them begin at once.
        create(path, name, f"read go; yes {name} | head -c {size}", OpenStdin=not own)
    if own:
        for name in names:
            call(path, "DELETE", f"/containers/{name}")
            create(path, name, f"yes {name} | head -c {size}")
    wrong: list[str] = []
    peak = before = memory(pid)
    attached = threading.Semaphore(0)

    def client(name: str) -> None:
        try:
            if read_whole(path, name, start=own, ready=attached.release) != expected(name.encode(), size):
                wrong.append(f"{name}: another hash")
        except Exception as exc:
            wrong.append(f"{name}: {exc!r}")

    began = time.perf_counter()
    threads = [threading.Thread(target=client, args=(names[at % len(names)],)) for at in range(clients)]
    for thread in threads:
        thread.start()
    if not own:
        for _ in threads:
            attached.acquire(timeout=TIMEOUT)
        call(path, "POST", f"/containers/{names[0]}/start")
        with attach(names[0], AttachOptions(stdin=True, stdout=False, stderr=False), host=f"unix://{path}") as opener:
            opener.send_stdin(b"\n")
    while any(thread.is_alive() for thread in threads):
        peak = max(peak, memory(pid))
        time.sleep(0.02)
    took = time.perf_counter() - began
    for name in names:
        call(path, "DELETE", f"/containers/{name}?force=1")
    print(
        f"{clients} clients, {'a container each' if own else 'one container'}, {size / 1e6:.0f} MB each: "
        f"{clients - len(wrong)} right hashes in {took:.1f} s ({clients * size / took / 1e6:.0f} MB/s); "
        f"engine's memory {before:.1f} MiB before, {peak:.1f} at most, {memory(pid):.1f} after",
        flush=True,
    )
    if wrong:
        print(*wrong[:5], sep="\n")
        sys.exit(1)


def crowds(clients: int, size: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/engine.sock"
        engine = subprocess.Popen([sys.executable, "-c", ENGINE, f"unix://{path}"], stdout=subprocess.PIPE)
        try:
            assert engine.stdout is not None
            engine.stdout.readline()
            call(path, "GET", "/_ping")
            held = descriptors(engine.pid)
            guard = children(engine.pid)
            crowd(path, engine.pid, clients, size, own=True)
            crowd(path, engine.pid, clients, size, own=False)
            left = until(lambda: descriptors(engine.pid) - held, empty=True)
            print(f"left behind: descriptors {dict(left)}, processes {sorted({*children(engine.pid)} - {*guard})}")
        finally:
            engine.send_signal(signal.SIGTERM)
            engine.communicate(timeout=10)
            assert engine.returncode == 0


def until(look: Callable[[], collections.Counter[str]], *, empty: bool) -> collections.Counter[str]:
    """What is seen once it is empty, or in the end."""
    deadline = time.monotonic() + 10
    while (seen := look()) and empty and time.monotonic() < deadline:
        time.sleep(0.01)
    return seen


def kills(count: int) -> None:
    kinds: collections.Counter[str] = collections.Counter()
    with Engine() as engine:
        path = engine.host.removeprefix("unix://")

        def tasks() -> int:
            async def look() -> int:
                return len(asyncio.all_tasks()) - 1

            return asyncio.run_coroutine_threadsafe(look(), engine._loop).result(10)

        create(path, "talks", "while :; do echo 0123456789; done")
        create(path, "echoes", "cat", OpenStdin=True)
        for name in ("talks", "echoes"):
            call(path, "POST", f"/containers/{name}/start")
        begin = tasks(), descriptors("self"), sorted(children("self")), threading.active_count()
        began = time.perf_counter()
        for at in range(count):
            kind = ("attach", "stdin", "logs", "wait", "exec", "own container")[at % 6]
            kinds[kind] += 1
            kill_one(path, kind, at)
        took = time.perf_counter() - began

        def left() -> collections.Counter[str]:
            return descriptors("self") - begin[1] + collections.Counter(tasks=max(0, tasks() - begin[0]))

        seen = until(left, empty=True)
        running = sorted(children("self"))
        how = ", ".join(f"{n} {kind}" for kind, n in kinds.items())
        processes = [child for child in running if child not in begin[2]]
        print(
            f"{count} clients killed in the middle in {took:.1f} s ({how}); left behind: descriptors and tasks "
            f"{dict(seen)}, processes {processes}, threads {max(0, threading.active_count() - begin[3])}",
            flush=True,
        )
        if seen or running != begin[2]:
            sys.exit(1)


def kill_one(path: str, kind: str, at: int) -> None:
    upgrade = "Host: any\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
    enough = 1
    match kind:
        case "attach":
            request = f"POST /containers/talks/attach?stream=1&stdout=1&stderr=1 HTTP/1.1\r\n{upgrade}\r\n"
            enough = 20_000
        case "stdin":
            request = f"POST /containers/echoes/attach?stream=1&stdin=1&stdout=1 HTTP/1.1\r\n{upgrade}\r\n"
        case "logs":
            request = "GET /containers/talks/logs?follow=1&stdout=1&tail=1 HTTP/1.1\r\nHost: any\r\n\r\n"
            enough = 2_000
        case "wait":
            request = "POST /containers/talks/wait HTTP/1.1\r\nHost: any\r\nContent-Length: 0\r\n\r\n"
        case "exec":
            body = {"Cmd": ["sh", "-c", "while :; do echo x; done"], "AttachStdout": True, "AttachStdin": True}
            create(path, f"host{at}", "sleep 1000")
            call(path, "POST", f"/containers/host{at}/start")
            exec_id = json.loads(call(path, "POST", f"/containers/host{at}/exec", body)[1])["Id"]
            start = '{"Detach":false,"Tty":false}'
            head = f"POST /exec/{exec_id}/start HTTP/1.1\r\n{upgrade}Content-Type: application/json\r\n"
            request = f"{head}Content-Length: {len(start)}\r\n\r\n{start}"
            enough = 2_000
        case _:
            create(path, f"own{at}", "cat", OpenStdin=True, StdinOnce=True, HostConfig={"AutoRemove": True})
            request = f"POST /containers/own{at}/attach?stream=1&stdin=1&stdout=1 HTTP/1.1\r\n{upgrade}\r\n"
    client = subprocess.Popen(
        [sys.executable, "-S", "-E", "-c", CLIENT, path, request, str(enough)], stdout=subprocess.PIPE
    )
    assert client.stdout is not None
    if kind == "own container":
        call(path, "POST", f"/containers/own{at}/start")
    assert client.stdout.read(1) == b"r"
    client.kill()
    client.wait()
    client.stdout.close()
    if kind == "exec":
        call(path, "DELETE", f"/containers/host{at}?force=1")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--megabytes", type=int, default=10)
    parser.add_argument("--kills", type=int, default=1000)
    options = parser.parse_args()
    crowds(options.clients, options.megabytes * 1_000_000)
    kills(options.kills)
