"""A scripted engine: the core's server role on real sockets. It does what the test says, and notes what it was asked.

Strategy: a connection is a `Peer`, driven by an act, a plain function that runs in a thread of its own. `Engine` gives
each connection the next act for the call that came in. Nothing sleeps, and nothing waits longer than `BOUND`, so that
a bug is a failure and never a hang; what goes wrong in a thread comes out in the test.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import queue
import select
import socket
import struct
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from attachproto import (
    NEED_DATA,
    SEND_EOF,
    SERVER,
    Accepted,
    Attach,
    Connection,
    Event,
    Framing,
    OutputClosed,
    Reason,
    Rejected,
    RemoteProtocolError,
    Request,
    Response,
    ResponseHead,
    Stdin,
    StdinClosed,
    Stdout,
    StreamRequest,
)

# No blocking call of a test or of the engine takes longer. Far more than a loaded machine needs.
BOUND = 15.0

READ_SIZE = 64 * 1024

T = TypeVar("T")


class Task(Generic[T]):
    """A call in a thread of its own, whose end is awaited with a bound."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self._outcome: list[T] = []
        self._error: BaseException | None = None
        # A daemon: one that hangs has failed its test, and must not keep the others from their end.
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._outcome.append(self._call())
        except BaseException as exc:
            self._error = exc

    def finished(self, timeout: float = BOUND) -> bool:
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def result(self) -> T:
        assert self.finished(), "a thread hangs"
        if self._error is not None:
            raise self._error
        return self._outcome[0]


class Begun(Task[T]):
    """A call in a thread of its own that has begun: the thread is on its way into it, and most likely blocked there."""

    def __init__(self, call: Callable[[], T]) -> None:
        begun = threading.Event()

        def run() -> T:
            begun.set()
            return call()

        super().__init__(run)
        assert begun.wait(BOUND)


def listen(path: str | None = None) -> tuple[socket.socket, str]:
    """A listener on a Unix socket, or on loopback without a path; and its address as a host."""
    if path is None:
        listener = socket.create_server(("127.0.0.1", 0))
        return listener, f"tcp://127.0.0.1:{listener.getsockname()[1]}"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    return listener, f"unix://{path}"


class Peer:
    """The engine's end of one connection."""

    def __init__(self, sock: socket.socket, *, keep_alive: bool = False) -> None:
        sock.settimeout(BOUND)
        self.sock = sock
        self.connection = Connection(SERVER, keep_alive=keep_alive)
        self.request: Request | StreamRequest | None = None
        # Set before the output ends: dockerd, too, says that a container has exited before it closes the stream.
        self.over = threading.Event()

    def read_request(self) -> Request | StreamRequest:
        event = self.next_event()
        assert isinstance(event, Request | StreamRequest)
        self.request = event
        return event

    def next_event(self) -> Event:
        while (event := self.connection.next_event()) is NEED_DATA:
            self.connection.receive_data(self.receive())
        return event

    def receive(self) -> bytes:
        """What comes next from the client."""
        return self.sock.recv(READ_SIZE)

    def send(self, *events: Event) -> None:
        """Says the events, all in one write where that is possible."""
        data = bytearray()
        for event in events:
            said = self.connection.send(event)
            if said is SEND_EOF:
                self.write(bytes(data))
                data.clear()
                self._half_close()
            else:
                data += said
        self.write(bytes(data))

    def _half_close(self) -> None:
        self.over.set()
        try:
            # Not by the method of `socket.socket`: a test may count there how often the client does it.
            socket.SocketType.shutdown(self.sock, socket.SHUT_WR)
        except OSError as exc:
            if exc.errno == errno.ENOTCONN:
                raise BrokenPipeError(errno.EPIPE, "the client has left") from None
            raise

    def write(self, data: bytes) -> None:
        if data:  # after a half-close not even nothing may be sent
            self.sock.sendall(data)

    def accept(self, framing: Framing = Framing.MULTIPLEXED, status_code: int = 101) -> None:
        self.send(Accepted(framing, status_code))

    def read_stdin(self, size: int) -> bytes:
        """At least so much of the client's stdin."""
        data = bytearray()
        while len(data) < size:
            event = self.next_event()
            assert isinstance(event, Stdin), event
            data += event.data
        return bytes(data)

    def stdin_to_end(self) -> bytes:
        """The rest of the client's stdin. It must have ended by a half-close."""
        data = bytearray()
        while not isinstance(event := self.next_event(), StdinClosed):
            assert isinstance(event, Stdin), event
            data += event.data
        assert not self.is_closed(), "the client closed the connection where it should have ended stdin"
        return bytes(data)

    def is_closed(self) -> bool:
        """Whether the client has closed its end, and not only half of it."""
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        return any(event & select.POLLHUP for _, event in poll.poll(0))

    def until_closed(self) -> bytes:
        """What comes until the client closes; it fails if it does not, or if it closes one direction only."""
        data = bytearray()
        with contextlib.suppress(ConnectionResetError):
            while piece := self.sock.recv(READ_SIZE):
                data += piece
        if self.sock.family == socket.AF_UNIX:  # TCP does not tell the two apart before we write
            self.until_hung_up()
        return bytes(data)

    def until_hung_up(self) -> None:
        """Waits until the client closes, and reads nothing."""
        poll = select.poll()
        poll.register(self.sock, 0)  # POLLHUP comes unasked, and once both directions are over
        assert poll.poll(BOUND * 1000), "the client has not closed the connection"

    def reset(self) -> None:
        """Ends the connection with a reset.

        On a Unix socket that takes something unread, so this waits until the client has sent something.
        """
        if self.sock.family == socket.AF_UNIX:
            assert self.sock.recv(1, socket.MSG_PEEK), "nothing is unread, so this would be a clean end"
        else:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        """Ends the connection."""
        self.over.set()
        self.sock.close()


Act = Callable[[Peer], None]

# ---- acts ----


def accepts(*output: Event, framing: Framing = Framing.MULTIPLEXED, status_code: int = 101) -> Act:
    """Opens the stream, prints, ends as dockerd does (a half-close), and waits for the client to close."""

    def act(peer: Peer) -> None:
        peer.send(Accepted(framing, status_code), *output, OutputClosed())
        peer.until_closed()

    return act


def stays(*output: Event) -> Act:
    """Opens the stream and prints; it ends when the client closes."""

    def act(peer: Peer) -> None:
        peer.send(Accepted(Framing.MULTIPLEXED), *output)
        peer.until_closed()

    return act


def then(*acts: Act) -> Act:
    """One act after the other."""

    def act(peer: Peer) -> None:
        for each in acts:
            each(peer)

    return act


def accept(peer: Peer) -> None:
    """Opens the stream."""
    peer.accept()


def say(*events: Event) -> Act:
    """Says the events."""
    return lambda peer: peer.send(*events)


def write(data: bytes) -> Act:
    """Writes bytes that need not be an engine's."""
    return lambda peer: peer.write(data)


def echo(peer: Peer) -> None:
    """Opens the stream, prints stdin once it has ended, by a half-close and by nothing else, and ends."""
    peer.accept()
    peer.send(Stdout(peer.stdin_to_end()), OutputClosed())
    peer.until_closed()


def until_closed(peer: Peer) -> None:
    """Waits until the client has closed the connection."""
    peer.until_closed()


def peek(peer: Peer) -> None:
    """Waits until the client has sent something, and leaves it unread."""
    assert peer.sock.recv(1, socket.MSG_PEEK)


def read_some(peer: Peer) -> None:
    """Reads some of the client's stdin."""
    peer.read_stdin(1)


def reset(peer: Peer) -> None:
    """Ends the connection with a reset."""
    peer.reset()


def close(peer: Peer) -> None:
    """Closes the connection."""
    peer.close()


def holds(peer: Peer) -> None:
    """A wait that is never answered, as dockerd's is when the start has failed."""
    peer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
    peer.until_closed()


def rejects(status_code: int, message: str) -> Act:
    """Refuses a stream as dockerd does."""
    return lambda peer: peer.send(Rejected(status_code, (("content-type", "text/plain"),), message.encode() + b"\r\n"))


def answers(value: Any, status_code: int = 200, *, podman: bool | str = False) -> Act:
    """Answers a plain call with JSON; with nothing for ``None``. ``podman`` may say which one."""
    body = b"" if value is None else json.dumps(value).encode()
    version = "5.4.2" if podman is True else podman
    headers = (("content-type", "application/json"), *((("libpod-api-version", version),) if version else ()))
    return lambda peer: peer.send(Response(status_code, headers, body))


def refuses(status_code: int, message: str) -> Act:
    """Refuses a plain call."""
    return answers({"message": message}, status_code)


def waits(code: int, exited: threading.Event | None = None) -> Act:
    """Answers a wait: the head at once, the rest when the container has exited."""

    def act(peer: Peer) -> None:
        headers = (("content-type", "application/json"),)
        peer.send(ResponseHead(200, headers))
        if exited is not None:
            assert exited.wait(BOUND), "the test has not let the container exit"
        peer.send(Response(200, headers, json.dumps({"StatusCode": code}).encode()))

    return act


def container(
    *,
    tty: bool = False,
    open_stdin: bool = True,
    stdin_once: bool = True,
    status: str = "running",
    exit_code: int = 0,
    log_driver: str = "json-file",
    started_at: str = "2026-11-29T12:00:00Z",
    restart_count: int = 0,
    pid: int = 0,
) -> dict[str, Any]:
    """What inspect says of a container."""
    return {
        "Config": {"Tty": tty, "OpenStdin": open_stdin, "StdinOnce": stdin_once},
        "State": {"Status": status, "ExitCode": exit_code, "StartedAt": started_at, "Pid": pid},
        "RestartCount": restart_count,
        "HostConfig": {"LogConfig": {"Type": log_driver, "Config": {}}},
    }


def docker_exec(
    *, tty: bool = False, open_stdin: bool = True, running: bool = False, exit_code: int | None = None
) -> dict[str, Any]:
    """What dockerd says of an exec: it has an exit code once it has ended."""
    return {
        "Running": running,
        "ExitCode": exit_code,
        "ProcessConfig": {"tty": tty},
        "OpenStdin": open_stdin,
        "CanRemove": False,
    }


def podman_exec(
    *, tty: bool = False, open_stdin: bool = True, running: bool = False, exit_code: int | None = None
) -> dict[str, Any]:
    """What Podman says of an exec: it always has an exit code, and one that has ended can be removed."""
    return {
        "Running": running,
        "ExitCode": exit_code or 0,
        "ProcessConfig": {"tty": tty},
        "OpenStdin": open_stdin,
        "CanRemove": exit_code is not None,
    }


# ---- the engine ----


class Engine:
    """An engine behind a Unix socket, or on a TCP port of this machine.

    Attributes:
        host: its address.
        calls: what it was asked, in order: ``inspect``, ``attach``, ``wait next-exit``, ``start``. Of an exec
            ``exec`` is its creation, and the others are named as a container's.
        requests: the same, whole.
        connections: the calls by connection, trials of a half-close and pings among them.
        keep_alive: a connection goes on after a plain answer, as an engine's does.
    """

    def __init__(
        self, path: str | None = None, *, listener: socket.socket | None = None, keep_alive: bool = False
    ) -> None:
        self.keep_alive = keep_alive
        self.connections: list[list[str]] = []
        self.calls: list[str] = []
        self.requests: list[Request | StreamRequest] = []
        self._acts: dict[str, list[Act]] = {
            "inspect": [answers(container())],
            "attach": [accepts()],
            "wait": [waits(0)],
            "start": [answers(None, 204)],
            "resize": [answers(None)],
            "exec": [answers({"Id": "e1"}, 201)],
            "_ping": [answers("OK")],
            "version": [answers({"ApiVersion": "1.51", "MinAPIVersion": "1.24"})],
        }
        self._attach_over: threading.Event | None = None
        self._lock = threading.Lock()
        self._tasks: queue.SimpleQueue[Task[None]] = queue.SimpleQueue()
        if listener is not None:
            self._listener = listener
            self.host = f"unix://{listener.getsockname()}"
        else:
            self._listener, self.host = listen(path)
        self._accepting = Task(self._accept)

    def on(self, call: str, *acts: Act) -> None:
        """Says what happens on this call: the acts in turn, and the last of them from then on."""
        self._acts[call] = list(acts)

    def runs(self, *, before: int = 2, **inspected: Any) -> Act:
        """Says of a container that it runs, and once its attach is over that it has exited.

        Nothing else is said to the attach itself, which looks ``before`` times: before and after, or only before if it
        starts the container.
        """
        looks = itertools.count(1)
        over = self._attach_over = threading.Event()

        def act(peer: Peer) -> None:
            exited = next(looks) > before and over.is_set()
            answers(container(status="exited" if exited else "running", **inspected))(peer)

        return act

    def attach_requests(self) -> list[Attach]:
        return [request for request in self.requests if isinstance(request, Attach)]

    def close(self) -> None:
        """Ends it once all acts have ended; raises what has gone wrong in them."""
        if self._listener.fileno() == -1:
            return
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept(), which closing does not
        self._accepting.result()
        self._listener.close()
        while not self._tasks.empty():
            self._tasks.get().result()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self._tasks.put(Task(lambda sock=sock: self._serve(sock)))  # type: ignore[misc]

    def _serve(self, sock: socket.socket) -> None:
        with sock:
            peer = self.make_peer(sock)
            calls: list[str] = []
            with self._lock:
                self.connections.append(calls)
            while True:
                try:
                    request = peer.read_request()
                except RemoteProtocolError as exc:
                    if exc.reason is Reason.NOTHING_CAME:  # it was closed before it had asked
                        return
                    raise
                except ConnectionResetError:
                    if len(calls) > 0:  # the client did not want the last answer any more
                        return
                    raise
                if self._attach_over is not None and isinstance(request, Attach):
                    peer.over = self._attach_over
                act = self._next_act(request, calls)
                # A client may leave whenever it likes; whether it should have is for the test to say.
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    act(peer)
                peer.over.set()
                following = peer.connection.next_exchange()
                if following is None or sock.fileno() == -1:
                    return
                peer.connection = following

    def make_peer(self, sock: socket.socket) -> Peer:
        """The engine's end of a connection that was accepted."""
        return Peer(sock, keep_alive=self.keep_alive)

    def _next_act(self, request: Request | StreamRequest, calls: list[str]) -> Act:
        plain = request.to_request() if isinstance(request, StreamRequest) else request
        call = "inspect" if plain.path[-1] == "json" else plain.path[-1]
        condition = dict(plain.query).get("condition")
        with self._lock:
            calls.append(call)
            if call != "_ping":  # a trial of a half-close, over TCP alone
                self.requests.append(request)
                self.calls.append(call if condition is None else f"{call} {condition}")
            acts = self._acts[call]
            return acts.pop(0) if len(acts) > 1 else acts[0]
