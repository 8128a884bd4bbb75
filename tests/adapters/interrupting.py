"""What the tests of interruption share: an attachment over a pair of sockets, and two ways to raise KeyboardInterrupt.

Strategy: `Interrupter` raises it at a certain moment in the adapters' code or the core's, so that a sweep meets every
one. `alarms` raises it by a real signal, at a moment that nobody chose.
"""

from __future__ import annotations

import asyncio
import contextlib
import dis
import functools
import os
import random
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, cast

import trio

import attachproto
import attachproto_adapters
import attachproto_adapters.asyncio as asyncio_adapter
import attachproto_adapters.blocking as blocking_adapter
import attachproto_adapters.trio as trio_adapter
from attachproto import Attach, AttachOptions
from attachproto_adapters._transport import _asyncio, _trio
from attachproto_adapters._transport._schemes import UnixHost
from tests.adapters.frameworks import Attachment, LiftedAttachment, OtherStream
from tests.adapters.scripted import BOUND
from tests.helpers import H101M
from tests.helpers import counts as counts

OURS = tuple(str(Path(str(package.__file__)).parent) + os.sep for package in (attachproto, attachproto_adapters))

# What stands there runs under trio's protection from KeyboardInterrupt.
PROTECTED = str(trio_adapter.__file__)

REQUEST = Attach("web", AttachOptions(stdin=True), tty=False)


def is_ours(frame: FrameType) -> bool:
    """Whether this function may be interrupted, and is not Python's or a framework's."""
    return frame.f_code.co_filename.startswith(OURS) and frame.f_code.co_filename != PROTECTED


def is_interrupt(exc: BaseException) -> bool:
    """Whether it is KeyboardInterrupt, alone or in groups: trio puts what comes out of a nursery into one."""
    if isinstance(exc, BaseExceptionGroup):
        return all(map(is_interrupt, exc.exceptions))
    return isinstance(exc, KeyboardInterrupt)


# ---- before an opcode ----


@functools.cache
def _moments(code: CodeType) -> frozenset[int]:
    """The opcodes of a function before which CPython may run a signal's handler.

    It looks for signals where a function begins, where a loop jumps back, and behind a call; not between an assignment
    and a return, nor where a ``with`` lets go of a lock.
    """
    table = dis._parse_exception_table(code)  # type: ignore[attr-defined]  # it has no public name

    def handler(offset: int) -> Any:
        return next((entry.target for entry in reversed(table) if entry.start <= offset < entry.end), None)

    found: set[int] = set()
    behind = None
    for instruction in dis.get_instructions(code):
        # Raised by a call, it would go to the call's handler; here it can only be raised one opcode later.
        if behind is not None and handler(behind) == handler(instruction.offset):
            found.add(instruction.offset)
        if instruction.opname == "JUMP_BACKWARD":
            found.add(instruction.offset)
        # RESUME with 2 or more is the middle of an await.
        begins = instruction.opname == "RESUME" and (instruction.arg or 0) < 2
        behind = instruction.offset if begins or instruction.opname.startswith("CALL") else None
    return frozenset(found)


class Interrupter:
    """Raises `KeyboardInterrupt` at a moment in our code, counted from 1; it is a context manager.

    Args:
        at: the moment.
        handle: what is called then in place of raising, as a signal's handler is.

    Attributes:
        count: how many moments there were.
    """

    def __init__(self, at: int, handle: Callable[[], object] | None = None) -> None:
        self.count = 0
        self._at = at
        self._handle = handle
        # Behind a call of a function in Python, CPython does not look: it is no call of its own.
        self._returned = False

    def __enter__(self) -> Interrupter:
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    @property
    def reached(self) -> bool:
        return self.count >= self._at

    def _trace(self, frame: FrameType, event: str, _: Any) -> Any:
        if event == "call":
            self._returned = False
            if not is_ours(frame):
                return None
            frame.f_trace_opcodes = True
            frame.f_trace_lines = False
        elif event == "return":
            self._returned = True
        elif event == "opcode":
            returned, self._returned = self._returned, False
            if not returned and frame.f_lasti in _moments(frame.f_code):
                self.count += 1
                if self.count == self._at:
                    if self._handle is None:
                        raise KeyboardInterrupt
                    self._handle()
        return self._trace


# ---- by a signal ----


@contextlib.contextmanager
def alarms(seed: int, longest: float = 0.002) -> Iterator[tuple[Callable[[], None], Callable[[], None]]]:
    """What starts a timer, and what stops it. If our code runs when it ends, it raises `KeyboardInterrupt`."""
    chance = random.Random(seed)

    armed = False

    def start() -> None:
        nonlocal armed
        armed = True
        signal.setitimer(signal.ITIMER_REAL, chance.uniform(0.00002, longest))

    def handle(_: int, frame: FrameType | None) -> None:
        # A signal that came before stop() may be handled in it.
        if armed and frame is not None and is_ours(frame):
            raise KeyboardInterrupt
        if armed:
            start()

    def stop() -> None:
        nonlocal armed
        armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)

    before = signal.signal(signal.SIGALRM, handle)
    try:
        yield start, stop
    finally:
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# ---- attachments over a pair of sockets ----

Scenario = Callable[[Attachment, socket.socket], Coroutine[Any, Any, None]]


class Way:
    """How an attachment is opened over a socket, and how a scenario with it is run."""

    def __init__(self, name: str, open: Callable[[socket.socket], Coroutine[Any, Any, Attachment]]) -> None:
        self.name = name
        self._open = open

    def __str__(self) -> str:
        return self.name

    def run(self, scenario: Scenario) -> None:
        """Run a scenario with an attachment, and the engine's end of its connection, which does not block."""

        async def main() -> None:
            ours, theirs = socket.socketpair()
            with theirs:
                theirs.setblocking(False)
                theirs.sendall(H101M)
                attachment = await self._open(ours)
                theirs.recv(65536)  # the request
                try:
                    await scenario(attachment, theirs)
                finally:
                    await attachment.aclose()

        self._run(main)

    def _run(self, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        if self.name.startswith("trio"):
            trio.run(main)
        elif self.name.startswith("asyncio"):
            with contextlib.closing(asyncio.new_event_loop()) as loop:
                task = loop.create_task(main())
                while not task.done():
                    # Of a task that asyncio runs beside ours it comes out of the loop, too.
                    with contextlib.suppress(KeyboardInterrupt):
                        loop.run_until_complete(task)
                task.result()
        else:
            with contextlib.suppress(StopIteration):
                main().send(None)


async def _blocking(sock: socket.socket) -> Attachment:
    sock.settimeout(BOUND)
    return cast("Attachment", LiftedAttachment(blocking_adapter.open_attachment(sock, REQUEST)))


async def _asyncio_socket(sock: socket.socket) -> Attachment:
    return await asyncio_adapter._functions.open_on(_asyncio.SocketSession(sock, UnixHost("/s", "a test")), REQUEST)


async def _asyncio_pair(sock: socket.socket) -> Attachment:
    return await asyncio_adapter.open_attachment(await asyncio.open_connection(sock=sock), REQUEST)


async def _trio_socket(sock: socket.socket) -> Attachment:
    return await trio_adapter._functions.open_on(_trio.SocketSession(sock), REQUEST)


async def _trio_stream(sock: socket.socket) -> Attachment:
    return await trio_adapter.open_attachment(
        OtherStream(trio.SocketStream(trio.socket.from_stdlib_socket(sock))), REQUEST
    )


WAYS = (
    Way("blocking", _blocking),
    Way("asyncio", _asyncio_socket),
    Way("asyncio-pair", _asyncio_pair),
    Way("trio", _trio_socket),
    Way("trio-stream", _trio_stream),
)
