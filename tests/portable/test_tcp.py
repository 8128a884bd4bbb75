"""What works on every system that Python runs on: the core, and the adapters over ``tcp://``.

Nothing here uses Unix sockets, processes or signals. The engine is a thread with the core's server role.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import trio

from attachproto import (
    NEED_DATA,
    SEND_EOF,
    SERVER,
    Accepted,
    Attach,
    AttachOptions,
    Connection,
    Event,
    ExecStart,
    Framing,
    Logs,
    OutputClosed,
    Request,
    Response,
    Stderr,
    Stdin,
    StdinClosed,
    Stdout,
)
from attachproto_adapters import EngineUnreachable
from attachproto_adapters import asyncio as asyncio_adapter
from attachproto_adapters import blocking as blocking_adapter
from attachproto_adapters import trio as trio_adapter

# Far more than a loaded machine needs.
BOUND = 30.0

INPUT = bytes(range(256)) * 1000

CONTAINER: dict[str, Any] = {
    "Id": "c" * 64,
    "Config": {"Tty": False, "OpenStdin": True, "StdinOnce": True, "AttachStdin": True},
    "State": {
        "Status": "running",
        "Running": True,
        "Paused": False,
        "ExitCode": 0,
        "StartedAt": "2026-01-01T00:00:00Z",
    },
    "HostConfig": {"LogConfig": {"Type": "json-file"}},
}
EXEC: dict[str, Any] = {
    "ID": "e" * 64,
    "Running": False,
    "ExitCode": 3,
    "OpenStdin": True,
    "ProcessConfig": {"tty": False},
    "ContainerID": "c" * 64,
}


class Engine:
    """An engine whose every stream prints its stdin, after stdin has ended."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()
        self.host = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"

    def close(self) -> None:
        self._closing = True
        # Closing a listener does not end accept() everywhere; a last connection does.
        with contextlib.suppress(OSError), socket.create_connection(self._listener.getsockname()):
            pass
        self._accepting.join(BOUND)
        self._listener.close()
        for thread in self._threads:
            thread.join(BOUND)
            assert not thread.is_alive(), "a connection was left open"

    _closing = False

    def _accept(self) -> None:
        while True:
            sock, _ = self._listener.accept()
            if self._closing:
                return sock.close()
            self._threads.append(threading.Thread(target=self._serve, args=(sock,)))
            self._threads[-1].start()

    def _serve(self, sock: socket.socket) -> None:
        sock.settimeout(BOUND)
        with sock, contextlib.suppress(OSError):  # the client has left
            connection = Connection(SERVER)

            def receive() -> Event | None:
                while (event := connection.next_event()) is NEED_DATA:
                    data = sock.recv(65536)
                    if not data and connection.their_state.name == "IDLE":
                        return None
                    connection.receive_data(data)
                return event

            def send(event: Event) -> None:
                data = connection.send(event)
                if data is SEND_EOF:
                    sock.shutdown(socket.SHUT_WR)
                else:
                    sock.sendall(data)

            match receive():
                case None:
                    return
                case Attach() | ExecStart() as request:
                    send(Accepted(Framing.MULTIPLEXED, 101))
                    stdin = bytearray()
                    if isinstance(request, ExecStart) or request.options.stdin:
                        while not isinstance(event := receive(), StdinClosed):
                            assert isinstance(event, Stdin)
                            stdin += event.data
                    for at in range(0, len(stdin), 65536):
                        send(Stdout(bytes(stdin[at : at + 65536])))
                    send(Stderr(b"done\n"))
                    send(OutputClosed())
                case Logs():
                    send(Accepted(Framing.MULTIPLEXED, 200))
                    send(Stdout(b"logged\n"))
                    send(OutputClosed())
                case Request(method="POST", path=("containers", _, "exec")):
                    send(_json(201, {"Id": EXEC["ID"]}))
                case Request(method="GET", path=("exec", *_)):
                    send(_json(200, EXEC))
                case Request(method="GET", path=("containers", _, "json")):
                    send(_json(200, CONTAINER))
                case Request(method="POST", path=("containers", _, "wait")):
                    send(_json(200, {"StatusCode": 3}))
                case event:
                    send(_json(404, {"message": f"not here: {event}"}))
            # Until the client closes: closing with unread data would reset the connection.
            while sock.recv(65536):
                pass


def _json(status_code: int, value: object) -> Response:
    return Response(status_code, (("content-type", "application/json"),), json.dumps(value).encode())


@pytest.fixture
def engine() -> Iterator[Engine]:
    running = Engine()
    yield running
    running.close()


WITH_STDIN = AttachOptions(stdin=True)


def test_blocking(engine: Engine) -> None:
    result = blocking_adapter.run_exec("web", ["cat"], input=INPUT, host=engine.host, kill=False)
    assert (result.exit_code, result.stdout, result.stderr) == (3, INPUT, b"done\n")
    with blocking_adapter.logs("web", host=engine.host, follow=False) as attachment:
        assert attachment.communicate() == (b"logged\n", b"")
    with blocking_adapter.attach("web", WITH_STDIN, host=engine.host) as attachment:
        attachment.send_stdin(b"hello\n")
        attachment.close_stdin()
        assert attachment.receive() == Stdout(b"hello\n")
    with blocking_adapter.attach("web", WITH_STDIN, host=engine.host) as attachment:
        attachment.settimeout(0.01)
        with pytest.raises(TimeoutError):
            attachment.receive()


def test_asyncio(engine: Engine) -> None:
    async def main() -> None:
        result = await asyncio_adapter.run_exec("web", ["cat"], input=INPUT, host=engine.host, kill=False)
        assert (result.exit_code, result.stdout, result.stderr) == (3, INPUT, b"done\n")
        async with await asyncio_adapter.logs("web", host=engine.host, follow=False) as attachment:
            assert await attachment.communicate() == (b"logged\n", b"")
        async with await asyncio_adapter.attach("web", WITH_STDIN, host=engine.host) as attachment:
            await attachment.send_stdin(b"hello\n")
            await attachment.close_stdin()
            assert await attachment.receive() == Stdout(b"hello\n")
        async with await asyncio_adapter.attach("web", WITH_STDIN, host=engine.host) as attachment:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await attachment.receive()

    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        runner.run(main())


def test_trio(engine: Engine) -> None:
    async def main() -> None:
        result = await trio_adapter.run_exec("web", ["cat"], input=INPUT, host=engine.host, kill=False)
        assert (result.exit_code, result.stdout, result.stderr) == (3, INPUT, b"done\n")
        async with await trio_adapter.logs("web", host=engine.host, follow=False) as attachment:
            assert await attachment.communicate() == (b"logged\n", b"")
        async with await trio_adapter.attach("web", WITH_STDIN, host=engine.host) as attachment:
            await attachment.send_stdin(b"hello\n")
            await attachment.close_stdin()
            assert await attachment.receive() == Stdout(b"hello\n")
        async with await trio_adapter.attach("web", WITH_STDIN, host=engine.host) as attachment:
            with trio.move_on_after(0.01) as scope:
                await attachment.receive()
            assert scope.cancelled_caught

    trio.run(main)


def test_without_unix_sockets_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "AF_UNIX", raising=False)
    with pytest.raises(EngineUnreachable, match=r"no Unix sockets.*tcp://"):
        blocking_adapter.attach("web", host="unix:///run/docker.sock")


class LoopThatCannotWatchSockets(asyncio.SelectorEventLoop):
    """As Windows' ``ProactorEventLoop``."""

    add_reader = asyncio.AbstractEventLoop.add_reader


def test_an_event_loop_that_cannot_watch_sockets_is_named(engine: Engine) -> None:
    async def main() -> None:
        with pytest.raises(EngineUnreachable, match=r"LoopThatCannotWatchSockets.*SelectorEventLoop"):
            await asyncio_adapter.attach("web", host=engine.host)

    with asyncio.Runner(loop_factory=LoopThatCannotWatchSockets) as runner:
        runner.run(main())
