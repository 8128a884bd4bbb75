"""The calls of the asynchronous adapters, cancelled at every one of their waits: nothing is lost, nothing stays open.

Strategy: an exchange is run again and again, cancelled at its first wait, its second, and so on until it has no more.
Then the call is made again on the same attachment, and in the end all must have come exactly once.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import queue
import socket
import ssl
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from attachproto import (
    Accepted,
    Framing,
    LocalProtocolError,
    OutputClosed,
    RawOutput,
    RemoteProtocolError,
    Stderr,
    Stdin,
    StdinClosed,
    Stdout,
)
from attachproto_adapters import ExecResult, Line
from attachproto_adapters._transport import _async_socket, _asyncio, _trio
from attachproto_adapters._transport._sockets import READ_SIZE
from tests.adapters.cancelling import CANCELLERS, Canceller, Done, nothing
from tests.adapters.frameworks import WAYS, WITH_STDIN, Attachment, Opener, Way
from tests.adapters.scenarios import pattern
from tests.adapters.scripted import (
    BOUND,
    Act,
    Engine,
    Peer,
    accepts,
    answers,
    container,
    docker_exec,
    podman_exec,
    refuses,
    waits,
)
from tests.adapters.tls_engine import Certificates, TlsEngine
from tests.helpers import joined, open_descriptors

EACH_CANCELLER = pytest.mark.parametrize("canceller", CANCELLERS, ids=str)

# Some slices of the adapters'.
MUCH = 150_000

# Far more than the kernel takes at once.
TOO_MUCH = 4_000_000


Call = Callable[[], Coroutine[Any, Any, Any]]


@pytest.fixture(autouse=True)
def short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that each read and each send is a wait. Otherwise it would depend on time which of them are."""
    monkeypatch.setattr(_async_socket, "_TURN_SECONDS", 0.0)


class Attempt:
    """One run of an exchange, with a cancellation at a certain wait.

    Attributes:
        reached: the call that was to be cancelled has had so many waits.
        cancelled: it did not come to its end.
    """

    def __init__(self, canceller: Canceller, at: int) -> None:
        self.reached = False
        self.cancelled = False
        self._canceller = canceller
        self._at = at

    async def __call__(self, call: Call) -> Any:
        """Make the call, and cancel it; if that has happened, make it again."""
        if (done := await self.once(call)) is not None:
            return done.value
        return await call()

    async def once(self, call: Call, waits: Callable[[], None] = nothing) -> Done[Any] | None:
        """Make the call, and cancel it; its end, if it came to it."""
        outcome = await self._canceller(call, self._at, waits)
        self.reached, self.cancelled = outcome.reached, outcome.done is None
        if self._canceller.framework.name == "asyncio":
            assert asyncio.all_tasks() == {asyncio.current_task()}
        return outcome.done


Exchange = Callable[[Attempt], Coroutine[Any, Any, None]]


def at_every_wait(canceller: Canceller, start: Callable[[], contextlib.AbstractContextManager[Exchange]]) -> None:
    """Run an exchange for every wait of the call that it makes through its `Attempt`."""
    cancelled = 0
    for at in itertools.count(1):
        attempt = Attempt(canceller, at)
        before = open_descriptors()
        with start() as exchange:
            canceller.framework.run(lambda: exchange(attempt))  # noqa: B023  # it has run when the loop goes on
        assert open_descriptors() == before
        cancelled += attempt.cancelled
        if not attempt.reached:
            break
    assert cancelled


# ---- engines ----


def numbered(path: Path) -> Iterator[str]:
    """A path for each of many sockets."""
    return (f"{path}{number}" for number in itertools.count())


class Leavable(Engine):
    """An engine that a client may leave at any moment, and must leave in the end."""

    def _serve(self, sock: socket.socket) -> None:
        with sock:
            peer = Peer(sock)
            with contextlib.suppress(BrokenPipeError, ConnectionResetError, RemoteProtocolError):
                self._next_act(peer.read_request(), [])(peer)
            peer.until_closed()


class LeavableTls(TlsEngine, Leavable):
    """The same behind TLS."""


@attrs.frozen
class Engines:
    """Starts engines, a new one for each exchange, as each has its script."""

    network: str
    certificates: Certificates
    _paths: Iterator[str]

    @contextlib.contextmanager
    def __call__(self, **acts: list[Act]) -> Iterator[Engine]:
        engine = self._new()
        for call, script in acts.items():
            engine.on(call, *script)
        try:
            yield engine
        finally:
            engine.close()

    def _new(self) -> Engine:
        if self.network == "unix":
            return Leavable(next(self._paths))
        if self.network == "tcp":
            return Leavable()
        return LeavableTls(self.certificates.server_context(ssl.TLSVersion.TLSv1_3))


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(params=["unix", "tcp", "tls"])
def engines(
    request: pytest.FixtureRequest, socket_path: Path, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> Engines:
    if request.param == "tls":
        monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
        monkeypatch.setenv("DOCKER_CERT_PATH", str(certificates.client))
    return Engines(request.param, certificates, numbered(socket_path))


UNIX = pytest.mark.parametrize("engines", ["unix"], indirect=True)
UNIX_AND_TLS = pytest.mark.parametrize("engines", ["unix", "tls"], indirect=True)

# ---- receiving ----


class Handed:
    """An act that leaves the speaking to the test: each wait of the client's brings the next piece."""

    def __init__(self, framing: Framing, pieces: list[bytes]) -> None:
        self._framing = framing
        self._pieces = pieces
        self._peers: queue.SimpleQueue[Peer] = queue.SimpleQueue()
        self._sock: socket.socket

    def act(self, peer: Peer) -> None:
        peer.accept(self._framing)
        self._peers.put(peer)

    def take(self) -> None:
        self._sock = self._peers.get(timeout=BOUND).sock

    def speak(self) -> None:
        if self._pieces:
            self._sock.sendall(self._pieces.pop(0))
            if not self._pieces:
                self._sock.shutdown(socket.SHUT_WR)

    def finish(self) -> None:
        while self._pieces:
            self.speak()


def received(attachment: Attachment) -> Call:
    events: list[Any] = []

    async def call() -> list[Any]:
        while not isinstance(event := await attachment.receive(), OutputClosed):
            events.append(event)
        return joined(events)

    return call


def iterated(attachment: Attachment) -> Call:
    events: list[Any] = []

    async def call() -> list[Any]:
        async for event in attachment:
            events.append(event)
        return joined(events)

    return call


def in_lines(attachment: Attachment) -> Call:
    lines = attachment.lines("latin-1")
    found: list[Line] = []

    async def call() -> list[Line]:
        async for line in lines:
            found.append(line)
        return found

    return call


def by_a_reader(attachment: Attachment) -> Call:
    reader = attachment.stdout_reader()
    found: list[bytes] = []

    async def call() -> list[Any]:
        while line := await reader.readline():
            found.append(line)
        return [RawOutput(b"".join(found))]

    return call


def communicated(attachment: Attachment) -> Call:
    return attachment.communicate


OUTPUT = pattern(2_500)
*WHOLE, REST = OUTPUT.decode("latin-1").split("\n")

Read = Callable[[Attachment], Call]
READS: list[tuple[Read, Any]] = [
    (received, [RawOutput(OUTPUT)]),
    (iterated, [RawOutput(OUTPUT)]),
    (in_lines, [*(Line(text, RawOutput) for text in WHOLE), Line(REST, RawOutput, ended=False)]),
    (by_a_reader, [RawOutput(OUTPUT)]),
    (communicated, (OUTPUT, b"")),
]


def read(canceller: Canceller, engines: Engines, how: Read, results: list[Any]) -> None:
    """Read output cancelled at every wait, and note what came."""

    @contextlib.contextmanager
    def start() -> Iterator[Exchange]:
        handed = Handed(Framing.RAW, [OUTPUT[at : at + 600] for at in range(0, len(OUTPUT), 600)])
        with engines(inspect=[answers(container(tty=True))], attach=[handed.act]) as engine:

            async def exchange(attempt: Attempt) -> None:
                async with await canceller.framework.attach("web", host=engine.host) as attachment:
                    handed.take()
                    call = how(attachment)
                    done = await attempt.once(call, handed.speak)
                    handed.finish()
                    results.append(await call() if done is None else done.value)

            yield exchange

    at_every_wait(canceller, start)


@EACH_CANCELLER
@UNIX_AND_TLS
@pytest.mark.parametrize(("how", "expected"), READS, ids=lambda value: getattr(value, "__name__", ""))
def test_reading_loses_nothing(canceller: Canceller, engines: Engines, how: Read, expected: Any) -> None:
    results: list[Any] = []
    read(canceller, engines, how, results)
    for result in results:
        assert result == expected


@UNIX
@pytest.mark.parametrize("canceller", [each for each in CANCELLERS if each.moment == "ready"], ids=str)
def test_this_finds_what_loses(canceller: Canceller, engines: Engines, monkeypatch: pytest.MonkeyPatch) -> None:
    """With receiving as it is usually done in asyncio, and with one more checkpoint in trio."""

    async def asyncios(self: _asyncio.SocketSession) -> bytes:
        data = await asyncio.get_running_loop().sock_recv(self.sock, READ_SIZE)
        self.reading.begin()
        return data

    async def trios(self: _trio.SocketSession) -> bytes:
        while (data := self.receive_now()) is None:
            await self.wait_readable()
        self.reading.finish()
        await trio.lowlevel.checkpoint()
        self.reading.begin()
        return data

    monkeypatch.setattr(_asyncio.SocketSession, "receive_some", asyncios)
    monkeypatch.setattr(_trio.SocketSession, "receive_some", trios)
    results: list[Any] = []
    read(canceller, engines, communicated, results)
    assert any(stdout != OUTPUT for stdout, _ in results)


# ---- communicate ----


def echo_at_once(received: list[bytes]) -> Act:
    """Prints stdin as it comes, and ends after it."""

    def act(peer: Peer) -> None:
        peer.accept()
        while not isinstance(event := peer.next_event(), StdinClosed):
            assert isinstance(event, Stdin)
            received.append(event.data)
            peer.send(Stdout(event.data))
        peer.send(Stderr(b"end"), OutputClosed())

    return act


@EACH_CANCELLER
@UNIX_AND_TLS
def test_communicate_goes_on_where_it_was_in_both_directions(canceller: Canceller, engines: Engines) -> None:
    input = pattern(MUCH)

    @contextlib.contextmanager
    def start() -> Iterator[Exchange]:
        arrived: list[bytes] = []
        with engines(attach=[echo_at_once(arrived)]) as engine:

            async def exchange(attempt: Attempt) -> None:
                async with await canceller.framework.attach("web", WITH_STDIN, host=engine.host) as attachment:
                    assert await attempt(lambda: attachment.communicate(input)) == (input, b"end")

            yield exchange
        assert b"".join(arrived) == input

    at_every_wait(canceller, start)


@EACH_CANCELLER
def test_communicate_cancelled_again_and_again(canceller: Canceller, engines: Engines) -> None:
    """At its first wait, then at the second of what is left of it, and so on to the ninth, and from the first again."""
    input = pattern(TOO_MUCH)
    arrived: list[bytes] = []

    with engines(attach=[echo_at_once(arrived)]) as engine:

        async def exchange() -> None:
            async with await canceller.framework.attach("web", WITH_STDIN, host=engine.host) as attachment:
                for cancelled, at in enumerate(itertools.cycle(range(1, 10))):
                    outcome = await canceller(lambda: attachment.communicate(input), at)
                    if outcome.done is not None:
                        assert cancelled >= 5
                        assert outcome.done.value == (input, b"end")
                        return

        canceller.framework.run(exchange)
    assert b"".join(arrived) == input


class Prints:
    """An act that prints and ends, and reads stdin only when it may, up to where the client leaves."""

    def __init__(self, output: bytes) -> None:
        self.may_read = threading.Event()
        self.read = b""
        self._output = output

    def __call__(self, peer: Peer) -> None:
        peer.send(Accepted(Framing.MULTIPLEXED), Stdout(self._output), OutputClosed())
        assert self.may_read.wait(BOUND)
        self.read = peer.until_closed()


INEXACT = [
    (canceller, way)
    for canceller in CANCELLERS
    for way in WAYS
    if way.framework is canceller.framework and way.unix and way.name in ("streams", "other", "memory")
]


@pytest.mark.parametrize(("canceller", "way"), INEXACT, ids=str)
def test_a_cancelled_send_over_a_callers_stream_ends_stdin_and_no_output(
    canceller: Canceller, way: Way, socket_path: Path
) -> None:
    """Nobody knows then how much of the input has left: to go on could send something twice."""
    # More output than the first two reads take: behind its end nothing is wrong with a send that was cancelled.
    data, input = pattern(600_000), pattern(TOO_MUCH)
    died = 0
    paths = numbered(socket_path)

    @contextlib.contextmanager
    def start() -> Iterator[Exchange]:
        act = Prints(data)
        opened = Opener(way, next(paths))

        async def exchange(attempt: Attempt) -> None:
            nonlocal died
            async with await opened(act, WITH_STDIN) as attachment:
                if await attempt.once(lambda: attachment.communicate(input)) is None:
                    try:
                        await attachment.communicate(input)
                    except LocalProtocolError:
                        died += 1
                        with pytest.raises(LocalProtocolError):
                            await attachment.send_stdin(b"more")
                assert await attachment.communicate() == (data, b"")
            act.may_read.set()

        yield exchange
        opened.close()
        assert input.startswith(act.read)

    at_every_wait(canceller, start)
    assert died


# ---- send_stdin ----

OWN = [
    (canceller, way)
    for canceller in CANCELLERS
    for way in WAYS
    if way.framework is canceller.framework and way.unix and way.name != "memory"  # there no send has to wait
]


@pytest.mark.parametrize(("canceller", "way"), OWN, ids=str)
def test_a_cancelled_send_stdin_ends_stdin_and_no_output(canceller: Canceller, way: Way, socket_path: Path) -> None:
    input = pattern(3 * MUCH)
    paths = numbered(socket_path)

    @contextlib.contextmanager
    def start() -> Iterator[Exchange]:
        act = Prints(b"first last")
        opened = Opener(way, next(paths))

        async def exchange(attempt: Attempt) -> None:
            async with await opened(act, WITH_STDIN) as attachment:
                first = await attachment.receive()
                if await attempt.once(lambda: attachment.send_stdin(input), act.may_read.set) is None:
                    with pytest.raises(LocalProtocolError):
                        await attachment.send_stdin(b"more")
                    with pytest.raises(LocalProtocolError):
                        await attachment.close_stdin()
                    with pytest.raises(LocalProtocolError):
                        await attachment.communicate(b"more")
                assert joined([first, *[event async for event in attachment]]) == [Stdout(b"first last")]

        yield exchange
        opened.close()
        assert input.startswith(act.read)

    at_every_wait(canceller, start)


# ---- wait ----


@EACH_CANCELLER
@UNIX
@pytest.mark.parametrize("start_it", [False, True])
def test_a_held_wait_stays_held(canceller: Canceller, engines: Engines, start_it: bool) -> None:
    """A container that is removed at its end cannot be asked for again."""
    gone = refuses(404, "No such container: web")

    @contextlib.contextmanager
    def start() -> Iterator[Exchange]:
        exited = threading.Event()
        with engines(wait=[waits(7, exited), gone]) as engine:

            async def exchange(attempt: Attempt) -> None:
                options = {"start": True} if start_it else {"wait": True}
                async with await canceller.framework.attach("web", host=engine.host, **options) as attachment:
                    exited.set()
                    assert await attempt(attachment.wait) == 7
                    assert await attachment.wait() == 7

            yield exchange

    at_every_wait(canceller, start)


@EACH_CANCELLER
@UNIX
def test_a_wait_that_was_cancelled_is_asked_once_if_it_was_asked(canceller: Canceller, engines: Engines) -> None:
    """The engine answers only the first question that it has read."""

    @contextlib.contextmanager
    def start() -> Iterator[Exchange]:
        with engines(wait=[waits(7), refuses(404, "No such container: web")]) as engine:

            async def exchange(attempt: Attempt) -> None:
                async with await canceller.framework.attach("web", host=engine.host) as attachment:
                    assert await attempt(attachment.wait) == 7

            yield exchange

    at_every_wait(canceller, start)


@EACH_CANCELLER
@UNIX
def test_a_wait_for_an_exec_goes_on(canceller: Canceller, engines: Engines) -> None:
    inspected = (docker_exec(), docker_exec(running=True), docker_exec(running=True), docker_exec(exit_code=3))

    @contextlib.contextmanager
    def start() -> Iterator[Exchange]:
        with engines(inspect=[answers(each) for each in inspected]) as engine:
            engine.on("start", accepts())

            async def exchange(attempt: Attempt) -> None:
                async with await canceller.framework.exec_start("e1", host=engine.host) as attachment:
                    assert await attempt(attachment.wait) == 3

            yield exchange

    at_every_wait(canceller, start)


# ---- opening ----


async def attaching(canceller: Canceller, host: str) -> Any:
    return await canceller.framework.attach("web", host=host)


async def attaching_with_wait(canceller: Canceller, host: str) -> Any:
    return await canceller.framework.attach("web", host=host, wait=True)


async def starting(canceller: Canceller, host: str) -> Any:
    return await canceller.framework.attach("web", host=host, start=True)


async def reading_logs(canceller: Canceller, host: str) -> Any:
    return await canceller.framework.logs("web", host=host)


async def starting_exec(canceller: Canceller, host: str) -> Any:
    return await canceller.framework.exec_start("e1", host=host)


async def running_exec(canceller: Canceller, host: str) -> Any:
    result = await canceller.framework.run_exec("web", ["cat"], input=b"in", host=host)
    assert result == ExecResult(3, b"in", b"end")


async def attached_and_left(canceller: Canceller, host: str) -> Any:
    async with await canceller.framework.attach("web", host=host, start=True) as attachment:
        assert await attachment.communicate() == (b"out", b"")
        assert await attachment.wait() == 0


def of_a_container() -> dict[str, list[Act]]:
    return {"attach": [accepts(Stdout(b"out"))], "logs": [accepts(Stdout(b"out"), status_code=200)]}


def of_an_exec() -> dict[str, list[Act]]:
    return {"inspect": [answers(docker_exec())], "start": [accepts(Stdout(b"out"))]}


def of_an_exec_that_ends() -> dict[str, list[Act]]:
    """On Podman, which reports for a moment that it runs, and lists no process any more."""
    running = answers({**podman_exec(running=True), "Pid": 42, "ContainerID": "web"}, podman=True)
    ended = answers(podman_exec(exit_code=3), podman=True)
    return {"inspect": [running, ended], "start": [echo_at_once([])], "top": [answers(None, podman=True)]}


OPENINGS = [
    (attaching, of_a_container, ("unix", "tcp", "tls")),
    (attaching_with_wait, of_a_container, ("unix",)),
    (starting, of_a_container, ("unix",)),
    (attached_and_left, of_a_container, ("unix",)),
    (reading_logs, of_a_container, ("unix",)),
    (starting_exec, of_an_exec, ("unix",)),
    (running_exec, of_an_exec_that_ends, ("unix",)),
]


@EACH_CANCELLER
@pytest.mark.parametrize(
    ("call", "acts", "engines"),
    [
        pytest.param(call, acts, network, id=f"{call.__name__}-{network}")
        for call, acts, networks in OPENINGS
        for network in networks
    ],
    indirect=["engines"],
)
def test_opening_leaves_nothing_behind(
    canceller: Canceller,
    engines: Engines,
    call: Callable[[Canceller, str], Coroutine[Any, Any, Any]],
    acts: Callable[[], dict[str, list[Act]]],
) -> None:
    """No descriptor, no task; and the engine sees that each of its connections is closed."""

    @contextlib.contextmanager
    def start() -> Iterator[Exchange]:
        with engines(**acts()) as engine:

            async def exchange(attempt: Attempt) -> None:
                done = await attempt.once(lambda: call(canceller, engine.host))
                if done is not None and done.value is not None:
                    await done.value.aclose()

            yield exchange

    at_every_wait(canceller, start)
