"""Measures attachments: many short ones, and many open at the same time.

    python benchmarks/attachments.py fast [--count 10000]
    python benchmarks/attachments.py open [--count 2000] [--at-once 2000] [asyncio|trio|both]

``fast`` attaches to containers that print and exit at once. All three adapters do so together in this process. Then it
looks for descriptors, tasks and memory that are left. ``open`` holds attachments open in one process, measures its
memory, and reads all of them to the end. ``--at-once`` limits how many are being opened at a time. For both, the
embedded engine runs in a process of its own. The exit status is 1 if anything is wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import faulthandler
import gc
import hashlib
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import attrs
import trio

from attachproto import (
    AttachOptions,
    Request,
    Response,
    Stderr,
    Stdout,
)
from attachproto_adapters import asyncio as asyncio_adapter
from attachproto_adapters import blocking
from attachproto_adapters import trio as trio_adapter
from attachproto_adapters._transport import _asyncio, _blocking_dialer, _trio
from attachproto_adapters._transport._address import Address
from attachproto_adapters._transport._schemes import UnixHost

ENGINE: Final = "import sys; from attachproto_engine import serve; sys.exit(serve(sys.argv[1]))"
JSON: Final = (("content-type", "application/json"),)

# How many attachments of each framework are open at the same time.
AT_ONCE: Final = 8

# What this process has open besides attachments, and the engine besides connections.
SPARE_DESCRIPTORS: Final = 100

# How many containers the open attachments share.
SHARED: Final = 4
LINES: Final = 2_000


# ---- what a process holds ----


def memory(pid: int | str) -> float:
    """The memory of a process, in KiB."""
    return int(pathlib.Path(f"/proc/{pid}/status").read_text().split("VmRSS:")[1].split()[0])


def descriptors(pid: int | str) -> collections.Counter[str]:
    found: collections.Counter[str] = collections.Counter()
    for entry in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the one that lists them
            found[os.readlink(entry).split("[")[0]] += 1
    return found


def children(pid: int | str) -> list[int]:
    tasks = pathlib.Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


def processor_seconds(pid: int | str) -> tuple[float, float]:
    """Processor seconds of this process and of its children that have ended."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    own, ended = int(fields[11]) + int(fields[12]), int(fields[13]) + int(fields[14])
    return own / os.sysconf("SC_CLK_TCK"), ended / os.sysconf("SC_CLK_TCK")


@attrs.define
class Holdings:
    """What this process and the engine hold now, to be compared with later."""

    engine: int
    ours: collections.Counter[str] = attrs.Factory(lambda: descriptors("self"))
    threads: frozenset[threading.Thread] = attrs.Factory(lambda: frozenset(threading.enumerate()))
    processes: list[int] = attrs.Factory(lambda: children("self"))
    engines: collections.Counter[str] = attrs.field()
    guards: list[int] = attrs.Factory(lambda self: children(self.engine), takes_self=True)

    @engines.default
    def _engines(self) -> collections.Counter[str]:
        return descriptors(self.engine)

    def left_over(self) -> list[str]:
        """What has been added since; waits some seconds for it to go away."""
        deadline = time.monotonic() + 10
        while True:
            gc.collect()
            threads = [thread.name for thread in threading.enumerate() if thread not in self.threads]
            left = {
                "descriptors": dict(descriptors("self") - self.ours),
                "threads": threads,
                "processes": [child for child in children("self") if child not in self.processes],
                "the engine's descriptors": dict(descriptors(self.engine) - self.engines),
                "the engine's processes": [child for child in children(self.engine) if child not in self.guards],
            }
            found = [f"{kind} {what}" for kind, what in left.items() if what]
            if not found or time.monotonic() > deadline:
                return found
            time.sleep(0.05)


class Alarms:
    """Turns warnings into errors, and records exceptions that nobody could catch."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        warnings.simplefilter("error")
        sys.unraisablehook = lambda told: self.heard.append(f"{told.exc_value!r} in {told.object!r}")
        threading.excepthook = lambda told: self.heard.append(f"{told.exc_value!r} ended {told.thread}")

    def watch_loop(self) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, told: self.heard.append(str(told)))


@contextlib.contextmanager
def engine_process() -> Iterator[tuple[int, UnixHost]]:
    with tempfile.TemporaryDirectory() as directory:
        address = f"unix://{directory}/engine.sock"
        engine = subprocess.Popen(
            [sys.executable, "-c", ENGINE, address], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        try:
            assert engine.stdout is not None
            engine.stdout.readline()
            host = UnixHost(address.removeprefix("unix://"), "this benchmark")
            call(host, Request("GET", ("_ping",)), 200)
            yield engine.pid, host
        finally:
            engine.terminate()
            engine.communicate(timeout=30)
            assert engine.returncode == 0


def call(host: UnixHost, request: Request, expected: int) -> None:
    response = _blocking_dialer.Dialer(Address(host), 60).call(request)
    assert response.status_code == expected, response


def create_request(name: str, script: str, **config: object) -> Request:
    body = {"Image": "any", "Cmd": ["sh", "-c", script], **config}
    return Request("POST", ("containers", "create"), (("name", name),), body=json.dumps(body).encode(), headers=JSON)


def remove_request(name: str) -> Request:
    return Request("DELETE", ("containers", name))


# ---- fast ----


@attrs.frozen
class Job:
    """A container that prints and ends at once."""

    number: int

    @property
    def name(self) -> str:
        return f"job{self.number}"

    @property
    def create(self) -> Request:
        code = self.number % 100
        return create_request(self.name, f"printf out{self.number}; printf err{self.number} >&2; exit {code}")

    @property
    def expected(self) -> tuple[bytes, bytes, int]:
        return f"out{self.number}".encode(), f"err{self.number}".encode(), self.number % 100


@attrs.define
class Share:
    """One framework's part of the work, and its results."""

    framework: str
    numbers: list[int]
    host: UnixHost
    seconds_allowed: float
    jobs: Iterator[Job] = attrs.field()
    good: list[int] = attrs.Factory(list)
    wrong: list[str] = attrs.Factory(list)
    seconds: float = 0.0

    @jobs.default
    def _jobs(self) -> Iterator[Job]:
        return iter([Job(number) for number in self.numbers])

    @property
    def address(self) -> str:
        return f"unix://{self.host.path}"

    def judge(self, job: Job, *got: object) -> None:
        if got == (201, *job.expected, 204):
            self.good.append(job.number)
        else:
            self.wrong.append(f"{job.name}: {got}")

    @contextlib.contextmanager
    def judged(self, job: Job) -> Iterator[None]:
        try:
            yield
        except Exception as exc:
            self.wrong.append(f"{job.name}: {exc!r}")

    def report(self) -> bool:
        right = sorted(self.good) == self.numbers and not self.wrong
        rate = len(self.good) / self.seconds if self.seconds else 0.0
        print(f"{self.framework:8} {len(self.good)} of {len(self.numbers)} good, {rate:.0f} per second", flush=True)
        for text in self.wrong[:5]:
            print(f"    {text}")
        return right


def fast_blocking(share: Share) -> None:
    dialer = _blocking_dialer.Dialer(Address(share.host), share.seconds_allowed)

    def work() -> None:
        for job in share.jobs:
            with share.judged(job):
                created = dialer.call(job.create).status_code
                with blocking.attach(
                    job.name, host=share.address, start=True, timeout=share.seconds_allowed
                ) as attachment:
                    got = *attachment.communicate(), attachment.wait()
                share.judge(job, created, *got, dialer.call(remove_request(job.name)).status_code)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        for done in [pool.submit(work) for _ in range(AT_ONCE)]:
            done.result()


async def fast_async(
    share: Share, ask: Callable[[Request], Awaitable[Response]], attach: Callable[..., Awaitable[Any]]
) -> None:
    """One of a framework's tasks."""
    for job in share.jobs:
        with share.judged(job):
            created = (await ask(job.create)).status_code
            async with await attach(job.name, host=share.address, start=True) as attachment:
                got = *await attachment.communicate(), await attachment.wait()
            share.judge(job, created, *got, (await ask(remove_request(job.name))).status_code)


def fast_asyncio(share: Share, alarms: Alarms) -> None:
    async def main() -> None:
        alarms.watch_loop()
        dialer = _asyncio.Dialer(Address(share.host))
        async with asyncio.timeout(share.seconds_allowed), asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(fast_async(share, dialer.call, asyncio_adapter.attach))
        if left := len(asyncio.all_tasks()) - 1:
            share.wrong.append(f"{left} tasks are left over")

    asyncio.run(main())


def fast_trio(share: Share) -> None:
    async def main() -> None:
        dialer = _trio.Dialer(Address(share.host))
        before = trio.lowlevel.current_statistics().tasks_living
        with trio.fail_after(share.seconds_allowed):
            async with trio.open_nursery() as nursery:
                for _ in range(AT_ONCE):
                    nursery.start_soon(fast_async, share, dialer.call, trio_adapter.attach)
        if left := trio.lowlevel.current_statistics().tasks_living - before:
            share.wrong.append(f"{left} tasks are left over")

    trio.run(main)


def fast(count: int) -> bool:
    alarms = Alarms()
    with engine_process() as (engine, host):
        holdings = Holdings(engine)
        memory_before, own_before, ended_before = memory(engine), *processor_seconds(engine)
        allowed = 60 + count / 10
        shares = [
            Share(framework, list(range(at, count, 3)), host, allowed)
            for at, framework in enumerate(("blocking", "asyncio", "trio"))
        ]

        def timed(work: Callable[[], None], share: Share) -> None:
            began = time.perf_counter()
            work()
            share.seconds = time.perf_counter() - began

        works: list[Callable[[], None]] = [
            lambda: fast_blocking(shares[0]),
            lambda: fast_asyncio(shares[1], alarms),
            lambda: fast_trio(shares[2]),
        ]
        began, processor_began = time.perf_counter(), time.process_time()
        # As daemons, so that one that hangs cannot keep this process.
        threads = [
            threading.Thread(target=timed, args=(work, share), daemon=True)
            for work, share in zip(works, shares, strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, began + allowed + 30 - time.perf_counter()))
        took, processor = time.perf_counter() - began, time.process_time() - processor_began
        if any(thread.is_alive() for thread in threads):
            faulthandler.dump_traceback()
            print("it hangs")
            return False
        right = sum([share.report() for share in shares]) == len(shares)
        own, ended = processor_seconds(engine)
        del threads, works
        left = holdings.left_over()
        print(
            f"{count} in {took:.1f} s; processor seconds: {processor:.0f} here, {own - own_before:.0f} in the engine, "
            f"{ended - ended_before:.0f} in containers; the engine's memory {memory_before / 1024:.1f} MiB before, "
            f"{memory(engine) / 1024:.1f} after"
        )
    print(f"left over: {'; '.join(left) or 'nothing'}; warnings: {'; '.join(alarms.heard[:5]) or 'none'}")
    return right and not left and not alarms.heard


# ---- open ----


@attrs.define
class Opening:
    """Attachments that are opened at once, and what each of them read."""

    engine: int
    host: UnixHost
    count: int
    at_once: int
    left: int = attrs.field()
    right: int = 0
    wrong: list[str] = attrs.Factory(list)
    began: float = 0.0
    before: tuple[float, float] = (0.0, 0.0)

    @left.default
    def _left(self) -> int:
        return self.count

    @property
    def address(self) -> str:
        return f"unix://{self.host.path}"

    @property
    def seconds_allowed(self) -> float:
        return 60 + self.count / 20

    def begin(self) -> None:
        gc.collect()
        self.before = memory("self"), memory(self.engine)
        self.began = time.perf_counter()

    def all_open(self) -> None:
        took = time.perf_counter() - self.began
        gc.collect()
        ours, engines = (
            (now - before) / self.count
            for now, before in zip((memory("self"), memory(self.engine)), self.before, strict=True)
        )
        print(
            f"    opened in {took:.1f} s ({self.count / took:.0f} per second); memory of each: {ours:.1f} KiB here, "
            f"{engines:.1f} in the engine",
            flush=True,
        )
        self.began = time.perf_counter()

    async def one(
        self, number: int, turns: Any, attach: Callable[..., Awaitable[Any]], all_open: Callable[[], None]
    ) -> None:
        """Open one attachment, in its turn (a semaphore's of either framework), and read it to its end."""

        def tried() -> None:
            self.left -= 1
            if not self.left:
                all_open()

        try:
            async with turns:
                attachment = await attach(shared_name(number), host=self.address)
        except Exception as exc:
            self.wrong.append(f"attachment {number} was not opened: {exc!r}")
            return
        finally:
            tried()
        try:
            # Made when there is something to digest, so that they do not count as the attachment's memory.
            digests: dict[type, Any] = collections.defaultdict(hashlib.sha256)
            async with attachment:
                async for event in attachment:
                    digests[type(event)].update(event.data)
            # Anything else than OutputClosed would have been raised.
            if [digests[kind].digest() for kind in (Stdout, Stderr)] == expected_digests(shared_name(number)):
                self.right += 1
            else:
                self.wrong.append(f"attachment {number} read something else")
        except Exception as exc:
            self.wrong.append(f"attachment {number}: {exc!r}")

    async def say_the_word(self, attach: Callable[..., Awaitable[Any]]) -> None:
        options = AttachOptions(stdin=True, stdout=False, stderr=False)
        for number in range(SHARED):
            async with await attach(shared_name(number), options, host=self.address) as attachment:
                await attachment.send_stdin(b"go\n")

    def report(self) -> None:
        took = time.perf_counter() - self.began
        print(f"    {self.right} of {self.count} read all of their output, in {took:.1f} s", flush=True)
        for text in self.wrong[:5]:
            print(f"    {text}")


def shared_name(number: int) -> str:
    return f"shared{number % SHARED}"


def shared_script(name: str) -> str:
    return f"read go; yes '{name} to stdout' | head -n {LINES}; yes '{name} to stderr' | head -n {LINES} >&2"


def expected_digests(name: str) -> list[bytes]:
    return [hashlib.sha256(f"{name} to {stream}\n".encode() * LINES).digest() for stream in ("stdout", "stderr")]


async def open_asyncio(opening: Opening, alarms: Alarms) -> None:
    alarms.watch_loop()
    all_open, turns = asyncio.Event(), asyncio.Semaphore(opening.at_once)
    opening.begin()
    async with asyncio.timeout(opening.seconds_allowed), asyncio.TaskGroup() as group:
        for number in range(opening.count):
            group.create_task(opening.one(number, turns, asyncio_adapter.attach, all_open.set))
        await all_open.wait()
        opening.all_open()
        await opening.say_the_word(asyncio_adapter.attach)
    opening.report()
    if left := len(asyncio.all_tasks()) - 1:
        opening.wrong.append(f"{left} tasks are left over")


async def open_trio(opening: Opening) -> None:
    all_open, turns = trio.Event(), trio.Semaphore(opening.at_once)
    before = trio.lowlevel.current_statistics().tasks_living
    opening.begin()
    with trio.fail_after(opening.seconds_allowed):
        async with trio.open_nursery() as nursery:
            for number in range(opening.count):
                nursery.start_soon(opening.one, number, turns, trio_adapter.attach, all_open.set)
            await all_open.wait()
            opening.all_open()
            await opening.say_the_word(trio_adapter.attach)
    opening.report()
    if left := trio.lowlevel.current_statistics().tasks_living - before:
        opening.wrong.append(f"{left} tasks are left over")


def open_many(count: int, at_once: int, framework: str) -> bool:
    if framework == "both":
        command = [sys.executable, __file__, "open", f"--count={count}", f"--at-once={at_once}"]
        return not sum([subprocess.run([*command, one]).returncode for one in ("asyncio", "trio")])
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count + SPARE_DESCRIPTORS:
        print(f"{count} attachments need {count + SPARE_DESCRIPTORS} descriptors, and the hard limit here is {hard}")
        return False
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    alarms = Alarms()
    print(f"{count} attachments in one process with {framework}, {at_once} at a time:", flush=True)
    with engine_process() as (engine, host):
        opening = Opening(engine, host, count, at_once)
        holdings = Holdings(engine)
        names = [shared_name(number) for number in range(SHARED)]
        for name in names:
            call(host, create_request(name, shared_script(name), OpenStdin=True), 201)
            call(host, Request("POST", ("containers", name, "start")), 204)
        if framework == "asyncio":
            asyncio.run(open_asyncio(opening, alarms))
        else:
            trio.run(open_trio, opening)
        for name in names:
            call(host, remove_request(name), 204)
        left = holdings.left_over()
    print(f"    left over: {'; '.join(left) or 'nothing'}; warnings: {'; '.join(alarms.heard[:5]) or 'none'}")
    return opening.right == count and not opening.wrong and not left and not alarms.heard


def main() -> bool:
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("fast")
    command.add_argument("--count", type=int, default=10_000)
    command = commands.add_parser("open")
    command.add_argument("--count", type=int, default=2_000)
    command.add_argument("--at-once", type=int)
    command.add_argument("framework", choices=["asyncio", "trio", "both"], nargs="?", default="both")
    options = parser.parse_args()
    match options.command:
        case "fast":
            return fast(options.count)
        case _:
            return open_many(options.count, options.at_once or options.count, options.framework)


if __name__ == "__main__":
    sys.exit(not main())
