"""Runs the program of one page about embedding, in a process of its own: gevent and Twisted leave traces in theirs.

    python embedding_process.py PROGRAM

PROGRAM is a file with the blocks of the page. Each line of stdin is a case in JSON, each line of stdout what became of
it. What cannot be put into JSON is made here: stdin of any size, and a consumer that holds up.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import json
import logging
import os
import random
import sys
import time
import types
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

CHUNK = 65536


class Case:
    """One case: what the program is given, and what it makes of that.

    Args:
        host: the engine's address.
        call: what to open: ``exec`` by ``run``, or ``attach`` by ``stream``.
        container: its name.
        command: of the exec.
        stdin: the number of bytes to send; ``None`` to send none.
        stdin_fails: after that, the iterable raises an error.
        hold: seconds that the consumer waits at the first event of output.
        mark: a file. The hold is over as soon as it exists.
    """

    def __init__(
        self,
        host: str,
        call: str = "exec",
        container: str = "web",
        command: list[str] | None = None,
        stdin: int | None = None,
        stdin_fails: bool = False,
        hold: float = 0,
        mark: str = "",
    ) -> None:
        self.host, self.mark = host, mark
        self.call, self.container, self.command, self.stdin = call, container, command, stdin
        self.stdin_fails, self.hold = stdin_fails, hold
        self.taken = 0
        self.held_until_mark = False
        self.events: list[str] = []
        self.output = {"Stdout": hashlib.sha256(), "Stderr": hashlib.sha256()}
        self.sizes = {"Stdout": 0, "Stderr": 0}
        self.start = {"Stdout": b"", "Stderr": b""}

    def chunks(self) -> Iterator[bytes] | None:
        return None if self.stdin is None else self._chunks(self.stdin)

    def _chunks(self, size: int) -> Iterator[bytes]:
        source = random.Random(size)
        while self.taken < size:
            chunk = source.randbytes(min(CHUNK, size - self.taken))
            self.taken += len(chunk)
            yield b""  # is allowed, and nothing
            yield chunk
        if self.stdin_fails:
            raise LookupError("the source has failed")

    def take(self, event: Any) -> Iterator[float]:
        """Take an event, and yield the pauses that the consumer makes."""
        kind = type(event).__name__
        self.events += [] if self.events[-1:] == [kind] else [kind]
        if kind not in self.sizes:
            return
        first = not any(self.sizes.values())
        self.output[kind].update(event.data)
        self.sizes[kind] += len(event.data)
        self.start[kind] = (self.start[kind] + event.data)[:100]
        end = time.monotonic() + self.hold
        while first and time.monotonic() < end and not self.held_until_mark:
            self.held_until_mark = os.path.exists(self.mark)
            yield 0.01


class Embedding:
    """The program of a page that blocks: selectors and gevent."""

    sleep: Callable[[float], Any] = staticmethod(time.sleep)

    def __init__(self, page: types.ModuleType) -> None:
        self.page = page

    def run(self, case: Case, timeout: float) -> int | None:
        def handle(event: Any) -> None:
            if case.call == "attach" and type(event).__name__ == "Accepted":
                self.page.call(case.host, self.start(case))
            for seconds in case.take(event):
                self.sleep(seconds)

        if case.call == "attach":
            self.within(timeout, self.page.stream, case.host, self.attach(case), case.chunks(), handle)
            return None
        code = self.within(timeout, self.page.run, case.host, case.container, case.command, case.chunks(), handle)
        return int(code)

    def attach(self, case: Case) -> Any:
        core = importlib.import_module("attachproto")
        return core.Attach(case.container, core.AttachOptions(stdin=case.stdin is not None), tty=False)

    def start(self, case: Case) -> Any:
        return importlib.import_module("attachproto").Request("POST", ("containers", case.container, "start"))

    def within(self, timeout: float, call: Callable[..., Any], *arguments: Any) -> Any:
        return call(*arguments, timeout=timeout)


class Gevent(Embedding):
    """The page of gevent."""

    def __init__(self, page: types.ModuleType) -> None:
        super().__init__(page)
        self.sleep = page.gevent.sleep
        self.sleep(0.001)  # makes the hub, which has descriptors of its own

    def within(self, timeout: float, call: Callable[..., Any], *arguments: Any) -> Any:
        with self.page.gevent.Timeout(timeout, TimeoutError):
            return call(*arguments)


class Coroutines(Embedding):
    """A page whose functions are coroutines."""

    def run(self, case: Case, timeout: float) -> int | None:
        return self.drive(self.work(case), timeout)

    async def work(self, case: Case) -> int | None:
        async def handle(event: Any) -> None:
            if case.call == "attach" and type(event).__name__ == "Accepted":
                await self.page.call(case.host, self.start(case))
            for seconds in case.take(event):
                await self.pause(seconds)

        if case.call == "attach":
            await self.page.stream(case.host, self.attach(case), case.chunks(), handle)
            return None
        return int(await self.page.run(case.host, case.container, case.command, case.chunks(), handle))

    async def pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def drive(self, work: Awaitable[int | None], timeout: float) -> int | None:
        async def bounded() -> int | None:
            async with asyncio.timeout(timeout):
                return await work

        return asyncio.run(bounded())


class Twisted(Coroutines):
    """The page of Twisted. A reactor runs only once, so it runs in a thread."""

    def __init__(self, page: types.ModuleType) -> None:
        super().__init__(page)
        import threading

        self.threads = importlib.import_module("twisted.internet.threads")
        reactor = page.reactor
        threading.Thread(target=reactor.run, kwargs={"installSignalHandlers": False}, daemon=True).start()

    async def pause(self, seconds: float) -> None:
        await self.page.task.deferLater(self.page.reactor, seconds)

    def drive(self, work: Awaitable[int | None], timeout: float) -> int | None:
        def begin() -> Any:
            return self.page.Deferred.fromCoroutine(work).addTimeout(timeout, self.page.reactor)

        try:
            result = self.threads.blockingCallFromThread(self.page.reactor, begin)
        finally:  # Twisted closes sockets in the next turns of its loop
            for _ in range(3):
                self.threads.blockingCallFromThread(self.page.reactor, self.turn)
        return None if result is None else int(result)

    def turn(self) -> Any:
        return self.page.task.deferLater(self.page.reactor, 0)


# By a name that the program imports.
EMBEDDINGS = {"gevent": Gevent, "reactor": Twisted, "asyncio": Coroutines, "selectors": Embedding}


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def main(program: str) -> None:
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # in development mode it reports slow callbacks
    page = types.ModuleType("page")
    with open(program) as file:
        exec(compile(file.read(), program, "exec"), vars(page))
    page.PAUSES[:] = [0, 0.05, 0.1]
    embedding = next(kind for name, kind in EMBEDDINGS.items() if hasattr(page, name))(page)
    for line in sys.stdin:
        given = json.loads(line)
        timeout = given.pop("timeout")
        case = Case(**given)
        before = descriptors()
        found: dict[str, Any] = {"code": None, "error": None, "text": ""}
        try:
            found["code"] = embedding.run(case, timeout)
        except Exception as error:
            found["error"] = [kind.__name__ for kind in type(error).__mro__]
            found["text"] = str(error)
            found["reason"] = getattr(getattr(error, "reason", None), "name", None)
        found["descriptors"] = descriptors() - before
        found |= {
            "taken": case.taken,
            "events": case.events,
            "sizes": case.sizes,
            "held_until_mark": case.held_until_mark,
        }
        found["digests"] = {kind: digest.hexdigest() for kind, digest in case.output.items()}
        found["start"] = {kind: data.decode("latin-1") for kind, data in case.start.items()}
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
