"""KeyboardInterrupt at any moment: the next call goes on exactly, or says that it cannot. Never a gap, never twice."""

from __future__ import annotations

import contextlib
import gc
import itertools
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from attachproto import LocalProtocolError, OutputClosed, Stderr, Stdout, encode_frame
from attachproto_adapters import AttachmentClosed, blocking
from attachproto_adapters._transport import _asyncio, _socket_session, _trio
from tests.adapters.frameworks import FRAMEWORKS, WITH_STDIN, Attachment, Framework
from tests.adapters.interrupting import REQUEST, WAYS, Interrupter, Way, alarms, counts, is_interrupt
from tests.adapters.scenarios import MEGABYTE, pattern
from tests.adapters.scripted import BOUND, Task, holds, stays
from tests.adapters.test_cancellation import Leavable
from tests.helpers import H101M, open_descriptors

# Python says so of a coroutine that was interrupted between its creation and its first step.
pytestmark = [
    pytest.mark.filterwarnings("ignore:coroutine:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

# Every so many-th moment; no loop has a length that it divides.
STRIDE = counts(11, 1)

HONEST = (AttachmentClosed, LocalProtocolError)
BROKEN = (OSError, trio.BrokenResourceError)

OUTPUT = encode_frame(Stdout(b"one\ntw")) + encode_frame(Stderr(b"err\n")) + encode_frame(Stdout(b"o\n"))

EACH_WAY = pytest.mark.parametrize("way", WAYS, ids=str)


@pytest.fixture
def small_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the little output comes in several reads, which end anywhere."""
    for module in (_socket_session, _asyncio, _trio):
        monkeypatch.setattr(module, "READ_SIZE", 19)


async def interrupted(at: int, call: Callable[[], Awaitable[Any]]) -> tuple[bool, bool]:
    """Make the call with an interrupt; whether it came, and whether the call was long enough for it."""
    came, interrupter = False, Interrupter(at)
    try:
        with interrupter:
            await call()
    except BaseException as exc:
        if not is_interrupt(exc):
            raise
        came = True
    return came, interrupter.reached


def sweep(way: Way, attempt: Callable[[int, Attachment, socket.socket], Awaitable[tuple[bool, str]]]) -> dict[str, int]:
    """Run an attempt for each moment; how each has ended, and how often."""
    outcomes: dict[str, int] = {}
    for at in itertools.count(1, STRIDE):
        reached = True

        async def scenario(attachment: Attachment, peer: socket.socket) -> None:
            nonlocal reached
            reached, outcome = await attempt(at, attachment, peer)  # noqa: B023  # it has run when the loop goes on
            outcomes[outcome] = outcomes.get(outcome, 0) + 1

        way.run(scenario)
        if not reached:
            return outcomes
    raise AssertionError


def stdin_of(peer: socket.socket) -> bytes:
    """All that has come, and ``!`` if it has ended."""
    received = b""
    with contextlib.suppress(BlockingIOError):
        while piece := peer.recv(65536):
            received += piece
        received += b"!"
    return received


# ---- at every moment ----


@EACH_WAY
@pytest.mark.usefixtures("small_reads")
@pytest.mark.parametrize("input", [None, b"input"])
def test_communicate_at_every_moment(way: Way, input: bytes | None) -> None:
    async def attempt(at: int, attachment: Attachment, peer: socket.socket) -> tuple[bool, str]:
        peer.sendall(OUTPUT)
        peer.shutdown(socket.SHUT_WR)
        came, reached = await interrupted(at, lambda: attachment.communicate(input))
        try:
            output = await attachment.communicate(input)
        except HONEST as exc:
            if isinstance(exc, LocalProtocolError):
                # Stdin is lost; the output is not, or it is said.
                with contextlib.suppress(AttachmentClosed, *(BROKEN if way.name == "trio-stream" else ())):
                    assert await attachment.communicate() == (b"one\ntwo\n", b"err\n")
            assert came
            assert b"input!".startswith(stdin_of(peer).removesuffix(b"!"))
            return reached, "honest"
        assert output == (b"one\ntwo\n", b"err\n"), at
        # An end that comes before all input has left ends the attachment; it is no part of this.
        assert b"input!".startswith(stdin_of(peer).removesuffix(b"!")), at
        return reached, "exact"

    outcomes = sweep(way, attempt)
    assert outcomes["exact"] > 1
    assert outcomes["honest"] > 1


async def by_receive(attachment: Attachment, events: list[Any]) -> None:
    while not isinstance(event := await attachment.receive(), OutputClosed):
        events.append((type(event), event.data))


async def by_iteration(attachment: Attachment, events: list[Any]) -> None:
    async for event in attachment:
        events.append((type(event), event.data))


async def by_lines(attachment: Attachment, events: list[Any]) -> None:
    async for line in attachment.lines():
        events.append((line.kind, line.text.encode() + b"\n" * line.ended))


async def by_lines_and_more(attachment: Attachment, events: list[Any]) -> None:
    async for line in attachment.lines():
        events.append((line.kind, line.text.encode() + b"\n" * line.ended))
        if len(events) == 1:
            break
    await by_receive(attachment, events)


async def by_a_reader(attachment: Attachment, events: list[Any]) -> None:
    stderr: list[bytes] = []
    reader = attachment.stdout_reader(stderr.append)
    try:
        while data := await reader.readline():
            events.append((Stdout, data))
    finally:
        events.extend((Stderr, data) for data in stderr)


@EACH_WAY
@pytest.mark.usefixtures("small_reads")
@pytest.mark.parametrize("read", [by_receive, by_iteration, by_lines, by_lines_and_more, by_a_reader])
def test_reading_at_every_moment(way: Way, read: Callable[[Attachment, list[Any]], Awaitable[None]]) -> None:
    async def attempt(at: int, attachment: Attachment, peer: socket.socket) -> tuple[bool, str]:
        peer.sendall(OUTPUT)
        peer.shutdown(socket.SHUT_WR)
        events: list[Any] = []
        came, reached = await interrupted(at, lambda: read(attachment, events))
        outcome = "exact"
        try:
            await read(attachment, events)
        except AttachmentClosed:
            assert came
            outcome = "honest"
        for kind, whole in ((Stdout, b"one\ntwo\n"), (Stderr, b"err\n")):
            found = b"".join(data for each, data in events if each is kind)
            assert found == whole if outcome == "exact" else whole.startswith(found), at
        return reached, outcome

    outcomes = sweep(way, attempt)
    assert outcomes["exact"] > 1
    assert outcomes["honest"] > 1


@EACH_WAY
@pytest.mark.usefixtures("small_reads")
def test_sending_at_every_moment(way: Way) -> None:
    """What was interrupted has left whole, or not at all; or nothing can be sent behind it."""

    async def attempt(at: int, attachment: Attachment, peer: socket.socket) -> tuple[bool, str]:
        async def send() -> None:
            await attachment.send_stdin(b"one ")
            await attachment.send_stdin(b"two ")

        came, reached = await interrupted(at, send)
        try:
            await attachment.send_stdin(b"three")
            await attachment.close_stdin()
        except LocalProtocolError:
            assert came
            outcome, possible = "honest", [b"", b"one ", b"one two ", b"one two three"]
        else:
            outcome, possible = "exact", [b"three!", b"one three!", b"one two three!"]
        assert stdin_of(peer) in possible, at
        peer.sendall(OUTPUT)
        peer.shutdown(socket.SHUT_WR)
        # Of a stream that may be TCP, the end is not believed: the send may have been told of a reset.
        with contextlib.suppress(*(BROKEN if outcome == "honest" and way.name == "trio-stream" else ())):
            assert await attachment.communicate() == (b"one\ntwo\n", b"err\n")
        return reached, outcome

    outcomes = sweep(way, attempt)
    assert outcomes["exact"] > 1
    assert outcomes["honest"] > 1


# ---- by real signals ----

ROUNDS = counts(200, 2000)

INPUT = pattern(200_000)


def serve(sock: socket.socket, received: bytearray) -> None:
    """Prints each piece of stdin, and some to stderr, and ends behind it."""
    with sock, contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the client may give up at any moment
        while piece := sock.recv(65536):
            received += piece
            sock.sendall(encode_frame(Stdout(piece)) + encode_frame(Stderr(b"e")))
        received += b"!"


@pytest.mark.parametrize("way", [way for way in WAYS if way.name in ("blocking", "asyncio", "trio")], ids=str)
def test_real_signals(way: Way) -> None:
    """The call is interrupted once or twice, and made again until its end or an honest error."""
    outcomes = {"exact": 0, "honest": 0}
    interrupts = 0

    async def scenario(attachment: Attachment, peer: socket.socket) -> None:
        nonlocal interrupts
        received = bytearray()
        server = socket.socket(fileno=peer.detach())
        server.settimeout(BOUND)
        serving = Task(lambda: serve(server, received))
        for turn in itertools.count():
            if turn < 1 + (interrupts % 4 == 0):
                start()
            try:
                output = await attachment.communicate(INPUT)
                break
            except HONEST:
                outcomes["honest"] += 1
                assert INPUT.startswith(received.removesuffix(b"!"))
                break
            except BaseException as exc:
                if not is_interrupt(exc):
                    raise
                interrupts += 1
        stop()
        if outcomes["honest"] + outcomes["exact"] == before:
            serving.result()
            assert output[0] == INPUT
            assert received == INPUT + b"!"
            outcomes["exact"] += 1
        await attachment.aclose()
        serving.result()

    with alarms(seed=1) as (start, stop):
        while interrupts < ROUNDS:
            before = sum(outcomes.values())
            way.run(scenario)
    assert outcomes["exact"] > 1


# ---- what was opened is closed ----


@pytest.mark.parametrize("framework", FRAMEWORKS, ids=str)
def test_opening_leaves_nothing_open_at_any_moment(framework: Framework, socket_path: Path) -> None:
    engine = Leavable(str(socket_path))
    engine.on("attach", stays(Stdout(b"x")))
    engine.on("wait", holds)
    before = open_descriptors()
    count, at, reached = 0, 1, True

    async def call() -> None:
        async with await framework.attach("web", WITH_STDIN, host=engine.host, start=True) as attachment:
            await attachment.receive()

    async def scenario() -> None:
        nonlocal reached
        _, reached = await interrupted(at, call)

    try:
        while reached:
            with contextlib.suppress(KeyboardInterrupt):  # of a task of asyncio's it comes out of the loop, too
                framework.run(scenario)
            count, at = count + 1, at + counts(401, 37)
    finally:
        engine.close()
    gc.collect()
    assert count > 5
    assert set(open_descriptors().values()) - set(before.values()) == set()


# ---- a signal's handler that uses the attachment ----


def handled(at: int, call: str, handler: str) -> tuple[BaseException | None, bool, blocking.Attachment, socket.socket]:
    """Make a call that times out, with a handler in it: what was raised, and whether the call was long enough."""
    client, server = socket.socketpair()
    server.sendall(H101M)
    client.settimeout(BOUND)
    attachment = blocking.open_attachment(client, REQUEST)
    assert server.recv(4096)
    attachment.settimeout(0.001)
    interrupter = Interrupter(at, attachment.close if handler == "close" else lambda: attachment.send_stdin(b"x"))

    def run() -> BaseException | None:
        try:
            with interrupter:
                attachment.receive() if call == "receive" else attachment.communicate(bytes(MEGABYTE))
        except (TimeoutError, AttachmentClosed) as exc:
            return exc
        return None

    # A lock that the thread already holds would be waited for without an end.
    return Task(run).result(), interrupter.reached, attachment, server


@pytest.mark.parametrize("call", ["receive", "communicate"])
def test_a_handler_may_close_at_any_moment(call: str) -> None:
    for at in itertools.count(1):
        raised, reached, attachment, server = handled(at, call, "close")
        with server:
            if not reached:
                assert isinstance(raised, TimeoutError)
                attachment.close()
                break
            assert isinstance(raised, TimeoutError | AttachmentClosed)
            with pytest.raises(AttachmentClosed):
                attachment.receive()
            assert attachment._session.sock.fileno() == -1
    assert at > 20


def test_a_handler_may_send_at_any_moment_of_a_read() -> None:
    for at in itertools.count(1):
        raised, reached, attachment, server = handled(at, "receive", "send_stdin")
        with server, attachment:
            assert isinstance(raised, TimeoutError)
            if not reached:
                break
            assert server.recv(10) == b"x"
            server.sendall(OUTPUT)
            assert attachment.receive() == Stdout(b"one\ntw")
    assert at > 20
