"""Both asynchronous adapters: timeouts, several tasks on one attachment, and one side that is faster than the other."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import select
import signal
import socket
import threading
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from attachproto import (
    Accepted,
    Framing,
    OutputClosed,
    RemoteProtocolError,
    Request,
    Stdin,
    StdinClosed,
    Stdout,
    encode_frame,
)
from attachproto_adapters import AttachmentClosed, Line
from attachproto_adapters._transport import _async_socket, _asyncio, _trio
from attachproto_adapters._transport._async_dialer import response_within
from attachproto_adapters._transport._async_socket import AsyncSocketSession
from attachproto_adapters._transport._schemes import UnixHost
from tests.adapters.frameworks import ASYNCIO, TRIO, WAYS, WITH_STDIN, Framework, Opener, Way
from tests.adapters.scenarios import HALVED, MEGABYTE, pattern
from tests.adapters.scripted import (
    BOUND,
    Act,
    Engine,
    Peer,
    accept,
    accepts,
    refuses,
    say,
    stays,
    then,
    until_closed,
    waits,
    write,
)

# How long is waited for what must not happen.
SHORT = 0.1

# More than the kernel takes of a Unix socket for a peer that does not read.
MUCH = 2 * MEGABYTE

FRAMEWORKS = (ASYNCIO, TRIO)
EACH_LOOP = pytest.mark.parametrize("framework", FRAMEWORKS, ids=str)
BUSY: dict[Framework, type[Exception]] = {ASYNCIO: RuntimeError, TRIO: trio.BusyResourceError}

SESSIONS: dict[Framework, type[AsyncSocketSession]] = {ASYNCIO: _asyncio.SocketSession, TRIO: _trio.SocketSession}


def ways(*names: str, networks: tuple[str, ...] = ("unix",)) -> pytest.MarkDecorator:
    """Run a test in these ways of both adapters."""
    found = [way for way in WAYS if way.framework in FRAMEWORKS and way.name in names and way.network in networks]
    return pytest.mark.parametrize("way", found, ids=str)


EACH_WAY = ways("dialled", "streams", "socket", "other", "memory")
# In memory nobody has to wait.
EACH_BOUNDED_WAY = ways("dialled", "streams", "socket", "other")


@pytest.fixture
def opened(way: Way, socket_path: Path) -> Iterator[Opener]:
    opener = Opener(way, str(socket_path))
    yield opener
    opener.close()


async def settle(framework: Framework) -> None:
    """Let the other tasks run on to where they wait for what comes from outside."""
    if framework is TRIO:
        await trio.testing.wait_all_tasks_blocked()
    for _ in range(10 if framework is ASYNCIO else 0):
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def cut_short(framework: Framework) -> AsyncIterator[None]:
    """What is inside ends with the framework's own timeout."""
    if framework is ASYNCIO:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(SHORT):
                yield
    else:
        with pytest.raises(trio.TooSlowError), trio.fail_after(SHORT):
            yield


# ---- timeouts ----


@EACH_WAY
def test_receive_goes_on_after_a_timeout(opened: Opener) -> None:
    go = threading.Event()
    data = encode_frame(Stdout(b"first last"))

    def act(peer: Peer) -> None:
        peer.accept()
        peer.write(data[:-5])
        assert go.wait(BOUND)
        peer.write(data[-5:])
        peer.send(OutputClosed())
        peer.until_closed()

    async def scenario() -> None:
        async with await opened(act) as attachment:
            assert await attachment.receive() == Stdout(b"first")
            async with cut_short(opened.framework):
                await attachment.receive()
            go.set()
            assert [event async for event in attachment] == [Stdout(b" last")]

    opened.framework.run(scenario)


@ways("dialled", "socket")
def test_communicate_goes_on_after_a_timeout(opened: Opener) -> None:
    """Nobody reads its input at first, so that it is cut short in the middle of that, too."""
    go = threading.Event()
    data = pattern(MUCH)

    def act(peer: Peer) -> None:
        peer.send(Accepted(Framing.MULTIPLEXED), Stdout(b"first "))
        assert go.wait(BOUND)
        assert peer.stdin_to_end() == data
        peer.send(Stdout(b"last"), OutputClosed())
        peer.until_closed()

    async def scenario() -> None:
        async with await opened(act, WITH_STDIN) as attachment:
            async with cut_short(opened.framework):
                await attachment.communicate(data)
            go.set()
            assert await attachment.communicate(data) == (b"first last", b"")

    opened.framework.run(scenario)


@EACH_LOOP
def test_wait_goes_on_after_a_timeout(framework: Framework, engine: Engine) -> None:
    exited = threading.Event()
    engine.on("attach", stays())
    engine.on("wait", waits(7, exited))

    async def scenario() -> None:
        async with await framework.attach("web", host=engine.host, wait=True) as attachment:
            async with cut_short(framework):
                await attachment.wait()
            exited.set()
            assert await attachment.wait() == 7

    framework.run(scenario)
    assert engine.calls.count("wait not-running") == 1


# ---- several tasks ----


@EACH_LOOP
@pytest.mark.parametrize("name", ["wait", "send_stdin"])
def test_a_call_that_has_nothing_to_do_leaves_others_their_turn(
    framework: Framework, engine: Engine, name: str
) -> None:
    """Otherwise a loop of such calls blocks the event loop, and no deadline ends it."""
    engine.on("attach", stays())
    engine.on("wait", waits(7))

    async def scenario() -> None:
        async with await framework.attach("web", WITH_STDIN, host=engine.host, wait=True) as attachment:
            assert await attachment.wait() == 7
            calls: dict[str, Callable[[], Awaitable[object]]] = {
                "wait": attachment.wait,
                "send_stdin": lambda: attachment.send_stdin(b""),
            }
            until = time.monotonic() + BOUND
            ran: list[str] = []

            async def call_again_and_again() -> None:
                while not ran and time.monotonic() < until:
                    await calls[name]()
                ran.append("the loop has ended")

            async def other() -> None:
                await framework.together()
                ran.append("the other")

            await framework.together(call_again_and_again(), other())
            assert ran[0] == "the other"
            async with cut_short(framework):
                while time.monotonic() < until:
                    await calls[name]()

    framework.run(scenario)


@EACH_LOOP
def test_an_answer_that_has_arrived_is_found_without_waiting(framework: Framework) -> None:
    """Also where the time is over already, because other tasks of the loop have run for long."""
    request = Request("POST", ("containers", "web", "wait"))

    async def main() -> None:
        ours, theirs = socket.socketpair()
        session: AsyncSocketSession = SESSIONS[framework](ours, UnixHost("/no/such.sock", "as given"))
        with theirs:
            await session.ask(request)
            theirs.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\n" + b'{"StatusCode"')
            assert await response_within(session, 0) is None
            theirs.sendall(b": 3")
            await session.sleep(0)
            assert await response_within(session, 0) is None
            theirs.sendall(b"}")
            answer = await response_within(session, 0)
            assert answer is not None
            assert answer.body == b'{"StatusCode": 3}'
            await session.aclose()

    framework.run(main)


async def one_of_two(
    opened: Opener, calls: list[Callable[[], Awaitable[Any]]], refused: Callable[[], None]
) -> tuple[int, Any]:
    """Make two calls at the same time; which of them was let in, and what came of it. The other was told so."""
    done: list[tuple[int, Any]] = []
    others: list[int] = []

    async def call(number: int) -> None:
        try:
            done.append((number, await calls[number]()))
        except BUSY[opened.framework]:
            others.append(number)
            refused()

    await opened.framework.together(call(0), call(1))
    assert len(others) == 1
    return done[0]


@EACH_WAY
@pytest.mark.parametrize(
    "names",
    [("receive", "receive"), ("receive", "communicate"), ("communicate", "communicate"), ("lines", "communicate")],
)
def test_two_that_receive_at_once(opened: Opener, names: tuple[str, str]) -> None:
    """The second is refused, and the first has all."""
    go = threading.Event()

    def act(peer: Peer) -> None:
        peer.accept()
        assert go.wait(BOUND)
        peer.send(Stdout(b"x"), OutputClosed())
        peer.until_closed()

    async def scenario() -> None:
        async with await opened(act) as attachment:

            async def lines() -> Line:
                return await anext(attachment.lines())

            calls = [lines if name == "lines" else getattr(attachment, name) for name in names]
            number, result = await one_of_two(opened, calls, go.set)
            expected = {"receive": Stdout(b"x"), "communicate": (b"x", b""), "lines": Line("x", Stdout, ended=False)}
            assert result == expected[names[number]]
            assert await attachment.receive() == OutputClosed()

    opened.framework.run(scenario)


@EACH_BOUNDED_WAY
@pytest.mark.parametrize("name", ["send_stdin", "close_stdin", "communicate"])
def test_two_that_send_at_once(opened: Opener, name: str) -> None:
    """The second is refused, and nothing of it gets in between."""
    go = threading.Event()
    data = pattern(MUCH)
    read: list[bytes] = []

    def act(peer: Peer) -> None:
        peer.accept()
        assert go.wait(BOUND)
        read.append(peer.stdin_to_end())
        peer.send(OutputClosed())
        peer.until_closed()

    async def scenario() -> None:
        async with await opened(act, WITH_STDIN) as attachment:

            async def second() -> None:
                await settle(opened.framework)
                with pytest.raises(BUSY[opened.framework], match="another task is sending"):
                    await getattr(attachment, name)(*([] if name == "close_stdin" else [b"in between"]))
                go.set()

            await opened.framework.together(attachment.send_stdin(data), second())
            await attachment.close_stdin()
            assert await attachment.communicate() == (b"", b"")

    opened.framework.run(scenario)
    assert read == [data]


@EACH_LOOP
@pytest.mark.parametrize("held", [False, True])
def test_two_that_wait_at_once(framework: Framework, engine: Engine, held: bool) -> None:
    """The second is refused, and the first goes on: its question cannot be asked twice where the end removes all."""
    exited = threading.Event()
    engine.on("wait", waits(7, exited), refuses(404, "No such container: web"))

    async def scenario() -> None:
        async with await framework.attach("web", host=engine.host, wait=held) as attachment:

            async def first() -> None:
                assert await attachment.wait() == 7

            async def second() -> None:
                await settle(framework)
                with pytest.raises(BUSY[framework], match="another task is waiting"):
                    await attachment.wait()
                exited.set()

            await framework.together(first(), second())
            assert await attachment.wait() == 7

    try:
        framework.run(scenario)
    finally:
        exited.set()


@EACH_WAY
@pytest.mark.parametrize("name", ["receive", "communicate"])
def test_close_wakes_who_is_blocked(opened: Opener, name: str) -> None:
    async def scenario() -> None:
        attachment = await opened(stays(), WITH_STDIN)

        async def wait() -> None:
            with pytest.raises(AttachmentClosed):
                await getattr(attachment, name)()

        async def leave() -> None:
            await settle(opened.framework)
            await attachment.aclose()

        await opened.framework.together(wait(), leave())

    opened.framework.run(scenario)


# ---- errors ----


CUT = then(accept, write(HALVED), say(OutputClosed()), until_closed)
GARBAGE = then(accept, write(b"\x09garbage"), until_closed)


@EACH_WAY
@pytest.mark.parametrize(("act", "message"), [(CUT, "3 are missing"), (GARBAGE, "unknown stream type 9")])
def test_no_error_comes_in_a_group(opened: Opener, act: Act, message: str) -> None:
    """While input is being sent, and when it is called once more."""

    async def scenario() -> None:
        async with await opened(act, WITH_STDIN) as attachment:
            for input in (bytes(MUCH), None):
                with pytest.raises(RemoteProtocolError, match=message):
                    await attachment.communicate(input)

    opened.framework.run(scenario)


@EACH_BOUNDED_WAY
def test_ctrl_c_while_communicating_leaves_nothing(opened: Opener) -> None:
    def act(peer: Peer) -> None:
        peer.accept()
        peer.read_stdin(1)
        os.kill(os.getpid(), signal.SIGINT)
        peer.until_closed()

    async def scenario() -> None:
        async with await opened(act, WITH_STDIN) as attachment:
            await attachment.communicate(bytes(MUCH))

    with pytest.raises(KeyboardInterrupt):
        opened.framework.run(scenario)


# ---- back-pressure ----

EACH_WAY_TO_HOLD = pytest.mark.parametrize(
    "way",
    [
        way
        for way in WAYS
        if way.framework in FRAMEWORKS and way.name != "memory" and (way.unix or way.name == "dialled")
    ],
    ids=str,
)


def held(way: Way) -> int:
    """More than the kernel and an adapter may hold of one direction."""
    return 16 * MEGABYTE if way.tcp else MEGABYTE


def is_stopped(peer: Peer) -> bool:
    poll = select.poll()
    poll.register(peer.sock, select.POLLOUT)
    return not poll.poll(SHORT * 1000)


@contextlib.contextmanager
def little_memory() -> Iterator[None]:
    """What is done inside needs no more than some slices of the stream at any time."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before < 2 * MEGABYTE


@EACH_WAY_TO_HOLD
def test_a_reader_that_does_not_read_stops_the_container(opened: Opener) -> None:
    piece = encode_frame(Stdout(bytes(32 * 1024)))
    stopped = threading.Event()
    written = 0

    def act(peer: Peer) -> None:
        nonlocal written
        peer.accept()
        while not is_stopped(peer):
            assert written < held(opened.way), "somebody takes it without bound"
            written += peer.sock.send(piece[written % len(piece) :])
        stopped.set()
        while written < held(opened.way) + 8 * MEGABYTE or written % len(piece):
            written += peer.sock.send(piece[written % len(piece) :])
        peer.send(OutputClosed())
        peer.until_closed()

    async def scenario() -> None:
        async with await opened(act) as attachment:
            with little_memory():
                await opened.framework.until(stopped)
                received = 0
                async for event in attachment:
                    received += len(event.data)
        assert received == written // len(piece) * 32 * 1024

    opened.framework.run(scenario)
    assert written >= held(opened.way) + 8 * MEGABYTE


@EACH_WAY_TO_HOLD
def test_a_writer_that_outruns_the_container_waits(opened: Opener) -> None:
    go = threading.Event()
    read = 0

    def act(peer: Peer) -> None:
        nonlocal read
        peer.accept()
        assert go.wait(BOUND)
        while not isinstance(event := peer.next_event(), StdinClosed):
            assert isinstance(event, Stdin)
            read += len(event.data)
        peer.send(OutputClosed())
        peer.until_closed()

    data = bytes(held(opened.way) + 8 * MEGABYTE)

    async def scenario() -> None:
        async with await opened(act, WITH_STDIN) as attachment:

            async def send() -> None:
                await attachment.send_stdin(data)
                assert read >= len(data) - held(opened.way)
                await attachment.close_stdin()
                assert await attachment.communicate() == (b"", b"")

            async def let_read() -> None:
                await settle(opened.framework)
                go.set()

            with little_memory():
                await opened.framework.together(send(), let_read())

    opened.framework.run(scenario)
    assert read == len(data)


@EACH_WAY
def test_a_container_that_prints_without_end_leaves_others_their_turn(
    opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Time passes by a quarter of a turn with each read, however fast the machine is.
    clock = itertools.count()
    monkeypatch.setattr(_async_socket, "monotonic", lambda: next(clock) * _async_socket._TURN_SECONDS / 4)

    async def scenario() -> None:
        turns: list[int] = []
        reading = True

        async def read() -> None:
            nonlocal reading
            async with await opened(accepts(*(Stdout(bytes(MEGABYTE)) for _ in range(8)))) as attachment:
                async for _ in attachment:
                    turns.append(0)
            reading = False

        async def other() -> None:
            while reading:
                turns[-1:] = [turns[-1] + 1] if turns else []
                await (asyncio.sleep(0) if opened.framework is ASYNCIO else trio.sleep(0))

        await opened.framework.together(read(), other())
        # A turn has up to four reads of 256 KiB, which are 16 events. A read may also bring less.
        assert sum(turns) >= len(turns) // 40

    opened.framework.run(scenario)
