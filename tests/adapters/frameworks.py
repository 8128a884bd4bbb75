"""One interface for the three adapters, so that a scenario is written once.

Strategy: a scenario is a coroutine. The blocking adapter's calls are wrapped in coroutines that never wait, so with
them a scenario runs without an event loop. `Framework` names what differs between the three. A `Way` is an adapter
together with how it gets its connection: it connects by itself, or the test passes it one.
"""

from __future__ import annotations

import abc
import asyncio
import contextlib
import functools
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence
from types import ModuleType, TracebackType
from typing import Any, ClassVar, Protocol, Self, TypeVar, cast

import attrs
import pytest
import trio
import trio.testing

from attachproto import Accepted, Attach, AttachOptions, DataEvent, OutputEvent, Quirk
from attachproto_adapters import CompletedRun, ExecResult, InspectedContainer, InspectedExec, Line
from attachproto_adapters import asyncio as asyncio_adapter
from attachproto_adapters import blocking as blocking_adapter
from attachproto_adapters import trio as trio_adapter
from attachproto_adapters._stdout_reader import StdoutReader
from tests.adapters.scripted import BOUND, Act, Begun, Engine, Peer, Task

T = TypeVar("T")
Scenario = Callable[[], Coroutine[Any, Any, None]]

OUTPUT_ONLY = AttachOptions()
WITH_STDIN = AttachOptions(stdin=True)


class Reader(Protocol):
    """A reader of stdout of any framework."""

    @property
    def stderr(self) -> bytes: ...
    async def read(self, n: int = ...) -> bytes: ...
    async def readexactly(self, n: int) -> bytes: ...
    async def readuntil(self, separator: bytes = ...) -> bytes: ...
    async def readline(self) -> bytes: ...


class Attachment(Protocol):
    """An attachment of any framework."""

    @property
    def accepted(self) -> Accepted: ...
    @property
    def inspected(self) -> InspectedContainer | InspectedExec | None: ...
    @property
    def half_close_ends_attach(self) -> bool: ...
    @property
    def can_half_close(self) -> bool: ...
    @property
    def output_so_far(self) -> tuple[bytes, bytes]: ...
    async def send_stdin(self, data: bytes) -> None: ...
    async def close_stdin(self) -> None: ...
    async def receive(self) -> OutputEvent: ...
    def __aiter__(self) -> AsyncIterator[DataEvent]: ...
    def lines(
        self,
        encoding: str = ...,
        errors: str = ...,
        *,
        max_length: int = ...,
        progress: bool = ...,
        timestamps: bool = ...,
    ) -> AsyncIterator[Line]: ...
    def stdout_reader(self, on_stderr: Callable[[bytes], object] | None = ..., *, limit: int = ...) -> Reader: ...
    async def communicate(
        self, input: bytes | None = None, *, max_output: int | None = None
    ) -> tuple[bytes, bytes]: ...
    async def wait(self) -> int: ...
    async def resize(self, height: int, width: int) -> None: ...
    async def kill(self, signal: str = ...) -> None: ...
    async def detach(self) -> None: ...
    async def aclose(self) -> None: ...
    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None: ...


class Client(Protocol):
    """A client of any framework."""

    async def attach(self, container: str, options: AttachOptions = ..., **named: Any) -> Attachment: ...
    async def exec_start(self, exec_id: str, **named: Any) -> Attachment: ...
    async def logs(self, container: str, **named: Any) -> Attachment: ...
    async def run_exec(self, container: str, command: Sequence[str], **named: Any) -> ExecResult: ...
    async def create_exec(self, container: str, command: Sequence[str], **named: Any) -> str: ...
    async def open_exec(self, container: str, command: Sequence[str], **named: Any) -> Attachment: ...
    async def run(self, image: str, command: Sequence[str] = ..., **named: Any) -> CompletedRun[Any]: ...
    async def create(self, image: str, command: Sequence[str] = ..., **named: Any) -> str: ...
    async def start(self, container: str) -> None: ...
    async def wait(self, container: str) -> int: ...
    async def kill(self, container: str, signal: str = ...) -> None: ...
    async def remove(self, container: str, *, force: bool = ..., volumes: bool = ...) -> None: ...
    async def aclose(self) -> None: ...
    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None: ...


class Framework(abc.ABC):
    """An adapter and its framework.

    Attributes:
        bound: no call and no scenario may take longer, in seconds.
        broken: the exceptions for a broken connection.
    """

    name: ClassVar[str]
    broken: ClassVar[tuple[type[Exception], ...]] = (BrokenPipeError, ConnectionResetError)

    bound: float
    adapter: ModuleType
    client: Callable[..., Client]
    attach: Callable[..., Awaitable[Attachment]]
    exec_start: Callable[..., Awaitable[Attachment]]
    logs: Callable[..., Awaitable[Attachment]]
    run_exec: Callable[..., Awaitable[ExecResult[Any]]]
    open_attachment: Callable[..., Awaitable[Attachment]]

    def __str__(self) -> str:
        return self.name

    @abc.abstractmethod
    def run(self, scenario: Scenario) -> None:
        """Run a scenario to its end, for at most `bound` seconds."""

    def run_with_client(self, host: str, body: Callable[[Client], Awaitable[None]]) -> None:
        """Run a scenario with a client of its own, which is closed at the end."""

        async def scenario() -> None:
            async with self.client(host) as client:
                await body(client)

        self.run(scenario)

    @abc.abstractmethod
    async def together(self, *coroutines: Coroutine[Any, Any, None]) -> None:
        """Run coroutines at the same time, and wait for all of them."""

    @abc.abstractmethod
    async def aside(self, call: Callable[[], T]) -> T:
        """Make a blocking call without blocking the event loop."""

    def caller(self, file: str) -> str:
        """The file that a warning of this adapter points at, if `file` makes the call."""
        return file

    async def until(self, event: threading.Event) -> None:
        """Wait for an event that the engine's side sets."""
        assert await self.aside(lambda: event.wait(self.bound)), "it has not happened"


# ---- blocking ----


def finish(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    raise AssertionError("it waits, and here is no loop")


def lifted(call: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    async def lifted_call(*args: Any, **kwargs: Any) -> Any:
        return call(*args, **kwargs)

    return lifted_call


class LiftedIterator:
    def __init__(self, iterator: Iterator[Any]) -> None:
        self._iterator = iterator

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        try:
            return next(self._iterator)
        except StopIteration:
            raise StopAsyncIteration from None


class LiftedClient:
    """A blocking client with the face of the others."""

    def __init__(self, *args: Any, **named: Any) -> None:
        self._owner = blocking_adapter.Client(*args, **named)

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._owner, {"aclose": "close"}.get(name, name))

        async def lifted_call(*args: Any, **named: Any) -> Any:
            result = call(*args, **named)
            return LiftedAttachment(result) if isinstance(result, blocking_adapter.Attachment) else result

        return lifted_call

    async def __aenter__(self) -> Self:
        self._owner.__enter__()
        return self

    async def __aexit__(self, *exc: Any) -> None:
        self._owner.__exit__(*exc)


class LiftedReader:
    """A blocking reader of stdout with the face of the others."""

    def __init__(self, reader: StdoutReader) -> None:
        self._reader = reader

    @property
    def stderr(self) -> bytes:
        return self._reader.stderr

    def __getattr__(self, name: str) -> Any:
        return lifted(getattr(self._reader, name))


class LiftedAttachment(LiftedIterator):
    """A blocking attachment with the face of the others."""

    def __init__(self, attachment: blocking_adapter.Attachment) -> None:
        super().__init__(attachment)
        self._attachment = attachment

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._attachment, {"aclose": "close"}.get(name, name))
        return lifted(value) if callable(value) else value

    def lines(self, *args: Any, **kwargs: Any) -> LiftedIterator:
        return LiftedIterator(self._attachment.lines(*args, **kwargs))

    def stdout_reader(self, *args: Any, **kwargs: Any) -> LiftedReader:
        return LiftedReader(self._attachment.stdout_reader(*args, **kwargs))

    async def __aenter__(self) -> Self:
        self._attachment.__enter__()
        return self

    async def __aexit__(self, *exc: Any) -> None:
        self._attachment.__exit__(*exc)


def opening(call: Callable[..., blocking_adapter.Attachment], **fixed: Any) -> Callable[..., Awaitable[Attachment]]:
    async def opened(*args: Any, **kwargs: Any) -> Attachment:
        return cast("Attachment", LiftedAttachment(call(*args, **fixed, **kwargs)))

    return opened


class Blocking(Framework):
    name = "blocking"

    def __init__(self, bound: float = BOUND) -> None:
        self.bound = bound
        self.adapter = blocking_adapter
        self.client = cast("Callable[..., Client]", functools.partial(LiftedClient, timeout=bound))
        self.attach = opening(blocking_adapter.attach, timeout=bound)
        self.exec_start = opening(blocking_adapter.exec_start, timeout=bound)
        self.logs = opening(blocking_adapter.logs, timeout=bound)
        self.open_attachment = opening(blocking_adapter.open_attachment)

        async def run_exec(*args: Any, **kwargs: Any) -> ExecResult[Any]:
            return blocking_adapter.run_exec(*args, **{"timeout": bound, **kwargs})

        self.run_exec = run_exec

    def run(self, scenario: Scenario) -> None:
        finish(scenario())

    async def together(self, *coroutines: Coroutine[Any, Any, None]) -> None:
        for task in [Begun(lambda each=each: finish(each)) for each in coroutines]:  # type: ignore[misc]
            assert task.finished(self.bound), "a thread hangs"
            task.result()

    async def aside(self, call: Callable[[], T]) -> T:
        return call()

    def caller(self, file: str) -> str:
        return __file__  # the file of the wrapper


# ---- asyncio and trio ----


class Native(Framework):
    """A framework whose adapter has coroutines already."""

    def __init__(self, adapter: ModuleType, bound: float = BOUND) -> None:
        self.bound = bound
        self.adapter = adapter
        self.client = adapter.Client
        self.attach = adapter.attach
        self.exec_start = adapter.exec_start
        self.logs = adapter.logs
        self.run_exec = adapter.run_exec
        self.open_attachment = adapter.open_attachment


class Asyncio(Native):
    name = "asyncio"

    def __init__(self, bound: float = BOUND) -> None:
        super().__init__(asyncio_adapter, bound)

    def run(self, scenario: Scenario) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(self.bound):
                await scenario()

        asyncio.run(bounded())

    async def together(self, *coroutines: Coroutine[Any, Any, None]) -> None:
        async with asyncio.TaskGroup() as group:
            for each in coroutines:
                group.create_task(each)

    async def aside(self, call: Callable[[], T]) -> T:
        return await asyncio.to_thread(call)


class Trio(Native):
    name = "trio"
    broken = (trio.BrokenResourceError,)

    def __init__(self, bound: float = BOUND) -> None:
        super().__init__(trio_adapter, bound)

    def run(self, scenario: Scenario) -> None:
        async def bounded() -> None:
            with trio.fail_after(self.bound):
                await scenario()

        trio.run(bounded)

    async def together(self, *coroutines: Coroutine[Any, Any, None]) -> None:
        async with trio.open_nursery() as nursery:
            for each in coroutines:
                nursery.start_soon(self._finish, each)

    @staticmethod
    async def _finish(coroutine: Coroutine[Any, Any, None]) -> None:
        await coroutine

    async def aside(self, call: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(call)


FRAMEWORKS: tuple[Framework, ...] = (BLOCKING := Blocking(), ASYNCIO := Asyncio(), TRIO := Trio())
EACH_FRAMEWORK = pytest.mark.parametrize("framework", FRAMEWORKS, ids=str)


# ---- connections that a test passes to the adapter ----


async def blocking_socket(sock: socket.socket) -> socket.socket:
    sock.settimeout(BOUND)
    return sock


async def streams(sock: socket.socket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(sock=sock)


async def socket_stream(sock: socket.socket) -> trio.SocketStream:
    return trio.SocketStream(trio.socket.from_stdlib_socket(sock))


class OtherStream(trio.abc.HalfCloseableStream):
    """A trio stream that is not a `SocketStream`."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return bytearray(await self._stream.receive_some(max_bytes))

    async def aclose(self) -> None:
        await self._stream.aclose()


async def other_stream(sock: socket.socket) -> OtherStream:
    return OtherStream(await socket_stream(sock))


class MemoryStream(trio.abc.HalfCloseableStream):
    """One end of trio's pair of memory streams. The bytes of the other end are copied from and to a socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._stream, self._other = trio.testing.memory_stream_pair()
        self._socket = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
        self._left = trio.Event()
        trio.lowlevel.spawn_system_task(self._relay)

    async def _relay(self) -> None:
        async with self._socket, self._other, trio.open_nursery() as nursery:
            nursery.start_soon(self._relay_output)
            with contextlib.suppress(trio.BrokenResourceError):
                async for data in self._other:
                    await self._socket.send_all(data)
                if not self._left.is_set():
                    await self._socket.send_eof()
            await self._left.wait()
            nursery.cancel_scope.cancel()

    async def _relay_output(self) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            async for data in self._socket:
                await self._other.send_all(data)
            await self._other.send_eof()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        self._left.set()
        await self._stream.aclose()


async def memory_stream(sock: socket.socket) -> MemoryStream:
    return MemoryStream(sock)


@attrs.frozen
class Way:
    """An adapter, and how it gets its connection.

    Attributes:
        own: turns a connected socket into what is passed to the adapter; ``None``: the adapter connects by itself.
        breaks: the adapter sees a reset of the connection.
        keeps_output: output that has arrived can still be read after a send has failed.
    """

    name: str
    framework: Framework
    network: str
    own: Callable[[socket.socket], Awaitable[Any]] | None = None
    breaks: bool = True
    keeps_output: bool = True

    def __str__(self) -> str:
        return f"{self.framework}-{self.name}-{self.network}"

    @property
    def unix(self) -> bool:
        return self.network == "unix"

    @property
    def tcp(self) -> bool:
        return self.network == "tcp"


WAYS = (
    *(Way("dialled", framework, network) for framework in FRAMEWORKS for network in ("unix", "tcp")),
    *(
        way
        for network in ("unix", "tcp")
        for way in (
            Way("socket", BLOCKING, network, blocking_socket),
            Way("streams", ASYNCIO, network, streams, keeps_output=False),
            Way("socket", TRIO, network, socket_stream),
            Way("other", TRIO, network, other_stream),
        )
    ),
    Way("memory", TRIO, "unix", memory_stream, breaks=False),
)


class Opener:
    """Opens attachments to the container `web` in one `Way`, with an act at the engine's end."""

    def __init__(self, way: Way, socket_path: str) -> None:
        self.way = way
        self.framework = way.framework
        self._engine = None
        if way.own is None:
            self._engine = Engine(socket_path if way.network == "unix" else None)
        self._attachments: list[Attachment] = []
        self._tasks: list[Task[None]] = []
        self._served: list[threading.Event] = []

    async def __call__(
        self,
        act: Act,
        options: AttachOptions = OUTPUT_ONLY,
        *,
        tty: bool | None = False,
        quirks: Iterable[Quirk] | None = None,
    ) -> Attachment:
        """Open an attachment. The act is called once the request has been read."""
        served = threading.Event()
        self._served.append(served)

        def watched(peer: Peer) -> None:
            assert peer.request == Attach("web", options)
            try:
                act(peer)
            finally:
                served.set()

        named = {} if quirks is None else {"quirks": quirks}
        if self._engine is not None:
            self._engine.on("inspect", self._engine.runs(tty=bool(tty)))
            self._engine.on("attach", watched)
            attachment = await self.framework.attach("web", options, host=self._engine.host, tty=tty, **named)
        else:
            attachment = await self._over_own(watched, Attach("web", options, tty=tty), **named)
        self._attachments.append(attachment)
        return attachment

    async def _over_own(self, act: Act, request: Attach, **named: Iterable[Quirk]) -> Attachment:
        assert self.way.own is not None
        client, server = connected(self.way.network)
        # A small buffer: send() then takes only a part of the data.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)

        def serve() -> None:
            with server:
                peer = Peer(server)
                peer.read_request()
                # A client may close at any time. The test decides whether that was right.
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    act(peer)

        self._tasks.append(Task(serve))
        return await self.framework.open_attachment(await self.way.own(client), request, **named)

    async def served(self) -> None:
        """Wait for the end of the last act."""
        await self.framework.until(self._served[-1])

    async def aclose(self) -> None:
        for attachment in self._attachments:
            await attachment.aclose()

    def close(self) -> None:
        """Raise what has failed in the acts. Call it after the event loop has ended."""
        for task in self._tasks:
            task.result()
        if self._engine is not None:
            self._engine.close()


def connected(network: str) -> tuple[socket.socket, socket.socket]:
    """The two ends of a connection: the client's and the engine's."""
    if network == "unix":
        return socket.socketpair()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname(), BOUND)
        server, _ = listener.accept()
    return client, server
