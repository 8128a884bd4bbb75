"""The anyio adapter, on both of anyio's back-ends.

It chooses one of two adapters that are tested by themselves, so only a part of the scenarios runs here: those that
wait, are cancelled, run two tasks, or are about errors of the connection.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import anyio
import anyio.to_thread
import pytest
import trio
from anyio.abc import ByteStream, SocketStream
from anyio.streams.tls import TLSStream

import attachproto_engine
from attachproto import Attach, OutputClosed, Stdout
from attachproto_adapters import anyio as anyio_adapter
from attachproto_adapters import asyncio as asyncio_adapter
from attachproto_adapters import trio as trio_adapter
from attachproto_adapters._transport import _asyncio, _trio
from attachproto_adapters._transport._anyio import ByteStreamSession
from tests.adapters import engine_scenarios, scenarios, text_scenarios
from tests.adapters.frameworks import WITH_STDIN, Native, Opener, Scenario, Way, connected
from tests.adapters.scenarios import Row
from tests.adapters.scripted import BOUND, Engine, Peer, Task, echo, stays
from tests.engine.client import call

T = TypeVar("T")


class Anyio(Native):
    """The adapter on one back-end."""

    broken = (BrokenPipeError, ConnectionResetError, trio.BrokenResourceError, anyio.BrokenResourceError)

    def __init__(self, backend: str) -> None:
        super().__init__(anyio_adapter)
        self.name = f"anyio-{backend}"  # type: ignore[misc]
        self.backend = backend

    def run(self, scenario: Scenario) -> None:
        async def bounded() -> None:
            with anyio.fail_after(BOUND):
                await scenario()

        anyio.run(bounded, backend=self.backend)

    async def together(self, *coroutines: Any) -> None:
        async def finish(coroutine: Any) -> None:
            await coroutine

        async with anyio.create_task_group() as group:
            for each in coroutines:
                group.start_soon(finish, each)

    async def aside(self, call: Callable[[], T]) -> T:
        return await anyio.to_thread.run_sync(call)


FRAMEWORKS = [Anyio("asyncio"), Anyio("trio")]
EACH_BACKEND = pytest.mark.parametrize("framework", FRAMEWORKS, ids=str)


async def socket_stream(sock: Any) -> SocketStream:
    return await SocketStream.from_socket(sock)


class OtherStream(ByteStream):
    """A stream that is not a socket's."""

    def __init__(self, stream: SocketStream) -> None:
        self._stream = stream

    async def receive(self, max_bytes: int = 65536) -> bytes:
        return await self._stream.receive(max_bytes)

    async def send(self, item: bytes) -> None:
        await self._stream.send(item)

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def aclose(self) -> None:
        await self._stream.aclose()


STREAM_SCENARIOS = {
    "output_apart",
    "large_output_is_whole",
    "a_cut_inside_a_frame_is_told_after_what_came",
    "a_reset_never_becomes_a_clean_end",
    "a_reset_is_the_frameworks_error_and_comes_after_what_came",
    "stdin_and_its_end",
    "what_was_sent_has_left",
    "sending_after_the_end_of_output",
    "a_broken_pipe_while_sending_leaves_the_output",
    "one_sends_while_another_receives",
    "communicate_half_closes",
    "communicate_with_much_in_both_directions",
    "communicate_with_a_container_that_never_reads",
    "close_wakes_who_receives",
    "close_wakes_who_sends",
    "closed_is_closed",
    "leaving_the_block_closes",
    "a_refusal_has_the_engines_words",
}
ENGINE_SCENARIOS = {
    "start_comes_last_and_no_first_output_is_lost",
    "close_wakes_who_waits",
    "resize_and_detach",
    "run_exec_creates_starts_feeds_reads_and_asks",
    "logs_are_read_to_their_end",
}


# A Unix socket keeps what was sent before a reset, and TCP does not.
TCP_SCENARIOS = {name for name in STREAM_SCENARIOS if "reset" in name or "broken" in name}


def chosen(table: list[Row], names: set[str]) -> list[Row]:
    rows = [row for row in table if row.call.__name__ in names]
    assert {row.call.__name__ for row in rows} == names
    return rows


STREAMS = [
    pytest.param(row, way, id=f"{row}-{way}")
    for framework in FRAMEWORKS
    for way, names in (
        (Way("dialled", framework, "unix"), STREAM_SCENARIOS),
        (Way("stream", framework, "unix", socket_stream, keeps_output=False), STREAM_SCENARIOS),
        (Way("stream", framework, "tcp", socket_stream, keeps_output=False), TCP_SCENARIOS),
    )
    for row in (*chosen(scenarios.TABLE, names), *(text_scenarios.TABLE if way.own is None else ()))
    if row.fits(way)
]


@pytest.mark.parametrize(("row", "way"), STREAMS)
def test_stream(row: Row, way: Way, socket_path: Path) -> None:
    opened = Opener(way, str(socket_path))

    async def scenario() -> None:
        try:
            await row.call(opened, **row.values)
        finally:
            await opened.aclose()

    try:
        way.framework.run(scenario)
    finally:
        opened.close()


@EACH_BACKEND
@pytest.mark.parametrize("row", chosen(engine_scenarios.TABLE, ENGINE_SCENARIOS), ids=str)
def test_engine(row: Row, framework: Anyio, engine: Engine) -> None:
    framework.run(lambda: row.call(framework, engine, **row.values))


# ---- the choice ----


@EACH_BACKEND
def test_an_attachment_is_that_of_the_framework(framework: Anyio, engine: Engine) -> None:
    engine.on("attach", stays(), stays())
    either: Any = anyio_adapter.Attachment  # for type checkers it has a type argument
    expected = {"asyncio": asyncio_adapter, "trio": trio_adapter}[framework.backend].Attachment

    async def scenario() -> None:
        client = anyio_adapter.Client(engine.host)
        for opening in (anyio_adapter.attach("web", host=engine.host), client.attach("web")):
            async with await opening as attachment:
                assert type(attachment) is expected
                assert isinstance(attachment, either)
        await client.aclose()

    framework.run(scenario)


def test_trio_as_a_guest_of_asyncio(engine: Engine) -> None:
    """Each task gets what runs it."""
    engine.on("attach", stays(), stays())

    async def kind() -> str:
        async with await anyio_adapter.attach("web", host=engine.host) as attachment:
            return type(attachment).__module__

    async def host() -> tuple[str, str]:
        loop = asyncio.get_running_loop()
        over: asyncio.Future[Any] = loop.create_future()
        trio.lowlevel.start_guest_run(
            kind,
            run_sync_soon_threadsafe=loop.call_soon_threadsafe,
            done_callback=over.set_result,
            host_uses_signal_set_wakeup_fd=True,
        )
        return await kind(), (await over).unwrap()

    assert asyncio.run(host()) == ("attachproto_adapters.asyncio", "attachproto_adapters.trio")


def test_outside_of_a_loop_the_error_says_so() -> None:
    with pytest.raises(RuntimeError, match="neither asyncio nor trio"):
        anyio_adapter.attach("web", host="unix:///nowhere").send(None)


@pytest.mark.parametrize("framework", ["asyncio", "trio"])
def test_only_the_framework_that_runs_is_imported(framework: str) -> None:
    code = f"""
import sys, attachproto_adapters.anyio
assert not {{"asyncio", "trio", "anyio"}} & set(sys.modules)
import {framework}
async def main():
    try:
        await attachproto_adapters.anyio.attach("web", host="unix:///nowhere")
    except ConnectionError:
        pass
{framework}.run({"main()" if framework == "asyncio" else "main"})
print(*sorted(name for name in sys.modules if name in {{"asyncio", "trio"}} or name.startswith("attachproto_adapters.a")
    or name == "attachproto_adapters.trio"))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=BOUND)
    assert done.stdout.split() == sorted(
        [framework, f"attachproto_adapters.{framework}", "attachproto_adapters.anyio"]
    ), done.stderr


# ---- deadlines and cancellation ----


@EACH_BACKEND
def test_a_deadline_loses_nothing(framework: Anyio, engine: Engine) -> None:
    """`move_on_after` and `fail_after` cut calls short, and the calls that are made again go on where they were."""
    go = threading.Event()

    def act(peer: Peer) -> None:
        peer.accept()
        peer.send(Stdout(b"one\ntw"))
        peer.read_stdin(1)
        assert go.wait(BOUND)
        peer.send(Stdout(b"o\n"))
        peer.stdin_to_end()
        peer.send(OutputClosed())
        peer.until_closed()

    engine.on("attach", act)

    async def scenario() -> None:
        async with await anyio_adapter.attach("web", WITH_STDIN, host=engine.host) as attachment:
            reader = attachment.stdout_reader()
            assert await reader.readline() == b"one\n"
            with anyio.move_on_after(0.02) as scope:
                await reader.readline()
            assert scope.cancelled_caught
            with pytest.raises(TimeoutError), anyio.fail_after(0.02):
                await attachment.communicate(b"input")
            go.set()
            assert await attachment.communicate(b"input") == (b"two\n", b"")

    framework.run(scenario)


@EACH_BACKEND
def test_a_task_group_that_is_cancelled_closes_what_it_has_opened(framework: Anyio, engine: Engine) -> None:
    engine.on("attach", stays(), stays())

    async def read(attached: anyio.Event) -> None:
        async with await anyio_adapter.attach("web", host=engine.host) as attachment:
            attached.set()
            await attachment.receive()

    async def scenario() -> None:
        events = [anyio.Event(), anyio.Event()]
        async with anyio.create_task_group() as group:
            for event in events:
                group.start_soon(read, event)
            for event in events:
                await event.wait()
            group.cancel_scope.cancel()

    framework.run(scenario)
    engine.close()  # it waits until the connections are closed


@EACH_BACKEND
def test_a_run_that_is_cancelled_leaves_no_container(framework: Anyio) -> None:
    with attachproto_engine.Engine() as engine:

        async def scenario() -> None:
            for milliseconds in (0, 1, 3, 10, 30, 100):
                with anyio.move_on_after(milliseconds / 1000) as scope:
                    await anyio_adapter.run("any", ["sleep", "60"], host=engine.host)
                assert scope.cancelled_caught
                left = await framework.aside(lambda: call(engine, "GET", "/containers/json?all=1").json)
                assert left == [], milliseconds

        framework.run(scenario)


@EACH_BACKEND
@pytest.mark.parametrize("late", [False, True])
def test_what_goes_on_after_a_cancellation_does_not_spin(
    framework: Anyio, late: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In asyncio a cancelled scope cancels its task in each turn of the loop."""
    dialer: Any = {"asyncio": _asyncio.Dialer, "trio": _trio.Dialer}[framework.backend]
    turns = 0
    wait = asyncio.wait

    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal turns
        turns += 1
        return wait(*args, **kwargs)

    monkeypatch.setattr(asyncio, "wait", counted)
    ended: list[bool] = []

    async def clean_up() -> None:
        await anyio.sleep(0.05)
        ended.append(True)

    async def scenario() -> None:
        with anyio.move_on_after(0.01) as scope:
            try:
                await anyio.sleep(BOUND if late else 0)
            finally:
                await dialer.shielded(BOUND, clean_up)
        assert scope.cancel_called
        await anyio.sleep(0)  # nothing is left of the cancellation

    framework.run(scenario)
    assert ended == [True]
    assert turns < 5


def test_a_cancellation_in_the_turn_in_which_a_time_limit_ends() -> None:
    """anyio knows its cancellation by the message. In asyncio.sleep(0) only the last request's message is kept."""

    async def sleep() -> None:
        while True:
            await _asyncio.Dialer.sleep(0)

    async def scenario() -> None:
        with anyio.CancelScope() as scope:
            asyncio.get_running_loop().call_soon(scope.cancel)
            await _asyncio.Dialer.within(0, sleep)  # its time limit ends in the same turn, after that call
        assert scope.cancelled_caught

    asyncio.run(scenario())


# ---- streams ----


@EACH_BACKEND
def test_a_stream_that_is_no_sockets(framework: Anyio) -> None:
    ours, theirs = connected("unix")

    def serve() -> None:
        with theirs:
            peer = Peer(theirs)
            peer.read_request()
            echo(peer)

    serving = Task(serve)

    async def scenario() -> None:
        stream = OtherStream(await socket_stream(ours))
        async with await anyio_adapter.open_attachment(stream, Attach("web", WITH_STDIN, tty=False)) as attachment:
            assert await attachment.communicate(b"data") == (b"data", b"")

    framework.run(scenario)
    serving.result()


@EACH_BACKEND
def test_a_wrong_argument_leaves_the_stream_alone(framework: Anyio) -> None:
    ours, theirs = connected("unix")
    wrongs: list[dict[str, Any]] = [{"request": None}, {"request": Attach("web"), "quirks": ["nonsense"]}]

    async def scenario() -> None:
        async with await socket_stream(ours) as stream:
            for wrong in wrongs:
                with pytest.raises(TypeError):
                    await anyio_adapter.open_attachment(stream, **wrong)
            await stream.send(b"still open")

    with theirs:
        framework.run(scenario)
        assert theirs.recv(100) == b"still open"


@EACH_BACKEND
def test_tls_of_anyio_cannot_half_close(framework: Anyio) -> None:
    ours, theirs = connected("unix")
    made: Any = TLSStream

    async def scenario() -> None:
        async with await socket_stream(ours) as stream:
            assert ByteStreamSession(stream).can_half_close
            assert not ByteStreamSession(made(stream, True, None, None, None)).can_half_close

    with theirs:
        framework.run(scenario)
