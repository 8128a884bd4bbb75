"""A server that ends one answer of a session at any byte, and the sessions of which every byte is tried.

Strategy: the server is one thread with a selector, so that a case costs little. It answers as dockerd does: a process
runs until all of its output was written. So a cut of the output is never the end of a process. The command of a
``killed`` session does not end by itself: it runs until the second exec, which is to end it, was started.
The file has more than 250 lines: the server and the sessions know each other's calls.
"""

from __future__ import annotations

import collections
import contextlib
import json
import selectors
import socket
import ssl
import struct
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import trio

from attachproto import AttachOptions, OutputClosed, Stderr
from attachproto_adapters import CommandTimeout
from tests.adapters.frameworks import Client
from tests.adapters.scripted import BOUND, READ_SIZE, Task, listen
from tests.helpers import frame

STDOUT, STDERR, INPUT, CODE = b"first\nsecond\n", b"wrong\n", b"in\n", 3
FRAMES = (frame(1, STDOUT[:6]), frame(2, STDERR), frame(1, STDOUT[6:]))

UPGRADED = (
    b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\n"
    b"Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
)
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
)
# Bodies of JSON have one size, so that an offset means the same whatever the state is.
_BODY = 136

STREAMS = ("attach", "exec", "logs")

# The sessions that end a command, and what the exec says that ends it: nothing where it sees no ``/proc``. Then the
# engine is asked.
KILLED = {"killed": b"ended\n", "killed_unseen": b""}


@attrs.frozen
class Answer:
    """One answer of a faultless session.

    Attributes:
        call: which call, and how often it was made before: ``inspect 0``.
        data: all bytes of it.
        kept: it came on a connection on which another call had been answered.
        only_reads: the call was a GET.
    """

    call: str
    data: bytes
    kept: bool
    only_reads: bool

    @property
    def is_stream(self) -> bool:
        """Whether it has the output of the session."""
        return FRAMES[0] in self.data

    @property
    def is_upgraded(self) -> bool:
        return self.data.startswith(UPGRADED)

    @property
    def ends_of_frames(self) -> set[int]:
        return {self.data.index(each) + len(each) for each in FRAMES}

    @property
    def boundaries(self) -> set[int]:
        """Offsets where something ends or begins: heads, lines, frame headers, frames, chunks."""
        head = self.data.index(b"\r\n\r\n") + 4
        found = {0, 1, head - 4, head - 2, head - 1, head, head + 1, len(self.data) - 1, len(self.data)}
        for each in FRAMES if self.is_stream else ():
            at = self.data.index(each)
            found |= {at, at + 1, at + 7, at + 8, at + 9, at + len(each) - 1, at + len(each)}
        return {at for at in found if 0 <= at <= len(self.data)}

    def output(self, at: int) -> tuple[bytes, bytes]:
        """Stdout and stderr in the first bytes of a stream."""
        outputs = {1: b"", 2: b""}
        for each in FRAMES:
            payload = self.data.index(each) + 8
            outputs[each[0]] += each[8 : 8 + max(0, at - payload)]
        return outputs[1], outputs[2]


@attrs.frozen
class Fault:
    """What happens to one answer: ``cut``, ``torn`` (TLS without ``close_notify``), ``reset`` or ``stall``."""

    call: str
    at: int
    how: str


@attrs.define
class _Peer:
    sock: socket.socket
    tls: ssl.SSLObject | None = None
    incoming: ssl.MemoryBIO = attrs.field(factory=ssl.MemoryBIO)
    outgoing: ssl.MemoryBIO = attrs.field(factory=ssl.MemoryBIO)
    buffer: bytearray = attrs.field(factory=bytearray)
    deaf: bool = False
    waits: bool = False
    silent: bool = False
    ended: bool = False
    answered: bool = False


class CuttingServer:
    """The server.

    Args:
        path: of its Unix socket; ``None`` for TCP.
        context: of TLS, over TCP.
    """

    def __init__(self, path: str | None = None, context: ssl.SSLContext | None = None) -> None:
        self._context = context
        self._listener, self.host = listen(path)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._woken, self._wakes = socket.socketpair()
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._idle = threading.Condition()
        self._peers: dict[socket.socket, _Peer] = {}
        self._closing = False
        self.begin("", None)
        self._serving = Task(self._serve)

    def begin(self, session: str, fault: Fault | None) -> None:
        """Forget the last case."""
        self.answers: list[Answer] = []
        self._fault = fault
        self._counts: collections.Counter[str] = collections.Counter()
        self._started, self._complete = session == "logs", False
        self._killer_says = KILLED.get(session)
        self._token = ""
        self._command: _Peer | None = None

    def until_idle(self) -> None:
        """Wait until the client has ended all connections.

        On TCP an end of file may be a half-close, so what is silent stays open until here. That the client has closed
        it is seen by its descriptors.
        """
        # Connections are accepted in their order. So when this one has ended, none of the client waits to be accepted.
        with socket.socket(self._listener.family) as last:
            last.settimeout(BOUND)
            last.connect(self._listener.getsockname())
            last.shutdown(socket.SHUT_WR)
            assert last.recv(1) == b""
        with self._idle:
            assert self._idle.wait_for(lambda: all(peer.ended for peer in self._peers.values()), BOUND), "left open"
            for sock in self._peers:
                sock.close()
            self._peers.clear()

    def close(self) -> None:
        """End it; raises what has failed in it."""
        self._closing = True
        self._wakes.send(b"x")
        try:
            self._serving.result()
        finally:
            for each in (self._listener, self._woken, self._wakes, *self._peers):
                each.close()
            self._selector.close()

    # ---- the thread ----

    def _serve(self) -> None:
        while not self._closing:
            for key, _ in self._selector.select():
                if key.fileobj is self._listener:
                    self._accept()
                elif key.fileobj is not self._woken:
                    self._readable(self._peers[key.fileobj])  # type: ignore[index]

    def _accept(self) -> None:
        sock, _ = self._listener.accept()
        sock.settimeout(BOUND)
        if sock.family != socket.AF_UNIX:
            # A reset throws away what the kernel still holds back behind what was not acknowledged.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer = _Peer(sock)
        if self._context is not None:
            peer.tls = self._context.wrap_bio(peer.incoming, peer.outgoing, server_side=True)
        with self._idle:
            self._peers[sock] = peer
        self._selector.register(sock, selectors.EVENT_READ)

    def _readable(self, peer: _Peer) -> None:
        try:
            data = self._read(peer)
            if not data:
                self._ended(peer)
                return
            peer.buffer += data if peer.tls is None else self._decrypted(peer, data)
            while not peer.deaf and (request := _request(peer.buffer)) is not None:
                self._answer(peer, *request)
        except (OSError, ssl.SSLError):
            self._drop(peer)

    def _read(self, peer: _Peer) -> bytes:
        fault = self._fault
        if fault is not None and fault.how == "reset" and peer.sock.family == socket.AF_UNIX and not peer.deaf:
            # On a Unix socket, a close is a reset if something is unread: the last byte of the request.
            data = peer.sock.recv(READ_SIZE, socket.MSG_PEEK)
            request = _request(bytearray(peer.buffer + data))
            name = "" if request is None else _name(*request[:2])
            if fault.call == f"{name} {self._counts[name]}":
                peer.sock.recv(len(data) - 1)
                return data
        return peer.sock.recv(READ_SIZE)

    def _decrypted(self, peer: _Peer, data: bytes) -> bytes:
        assert peer.tls is not None
        peer.incoming.write(data)
        read = b""
        with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            peer.tls.do_handshake()
            while piece := peer.tls.read(READ_SIZE):
                read += piece
        self._flush(peer)
        return read

    def _flush(self, peer: _Peer) -> None:
        if data := peer.outgoing.read():
            peer.sock.sendall(data)

    def _write(self, peer: _Peer, data: bytes) -> None:
        if peer.tls is None:
            peer.sock.sendall(data)
        elif data:
            peer.tls.write(data)
            self._flush(peer)

    def _ended(self, peer: _Peer) -> None:
        if not peer.silent:
            self._drop(peer)
            return
        self._selector.unregister(peer.sock)
        with self._idle:
            peer.ended = True
            self._idle.notify_all()

    def _drop(self, peer: _Peer) -> None:
        self._selector.unregister(peer.sock)
        peer.sock.close()
        with self._idle:
            del self._peers[peer.sock]
            self._idle.notify_all()

    # ---- answers ----

    def _answer(self, peer: _Peer, method: str, path: str, body: bytes) -> None:
        name = _name(method, path)
        if name == "exec_create" and not self._token:
            # Of a command that may have to be ended: a random text, which stands in the first line of its output.
            self._token = json.loads(body)["Cmd"][3] if self._killer_says is not None else "none"
        data = self._answer_to(name)
        call = f"{name} {self._counts[name]}"
        self._counts[name] += 1
        answer = Answer(call, data, peer.answered, method == "GET")
        self.answers.append(answer)
        peer.answered = True
        peer.deaf = name in STREAMS
        fault = self._fault
        if fault is not None and fault.call == call:
            self._write(peer, data[: fault.at])
            if answer.is_stream and fault.at == len(data):
                self._finished()
            self._end(peer, fault.how)
            return
        if name == "wait" and not self._complete:
            head = data.index(b"\r\n\r\n") + 4
            self._write(peer, data[:head])
            peer.waits = True
            return
        self._write(peer, data)
        if answer.is_stream and self._killer_says is not None:
            peer.silent = True
            self._command = peer
            return
        if answer.is_stream:
            self._finished()
        if name in ("attach", "exec"):
            self._end_output(peer)

    def _answer_to(self, name: str) -> bytes:
        state = "exited" if self._complete else "running" if self._started else "created"
        match name:
            case "inspect":
                config = {"Tty": False, "OpenStdin": True, "StdinOnce": True, "Env": []}
                code = CODE if self._complete else 0
                return _json({"Id": "c1", "Config": config, "State": {"Status": state, "ExitCode": code}})
            case "exec_inspect":
                running, code_or_none = self._started and not self._complete, CODE if self._complete else None
                return _json(
                    {
                        "Running": running,
                        "ExitCode": code_or_none,
                        "ProcessConfig": {"tty": False},
                        "OpenStdin": True,
                        "CanRemove": False,
                    }
                )
            case "exec" if self._command is not None:
                self._complete = True
                with contextlib.suppress(OSError):  # the client may have closed it
                    self._end_output(self._command)
                says = frame(1, self._killer_says) if self._killer_says else b""
                return b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n" + says
            case "exec" | "attach":
                self._started = self._started or name == "exec"
                # What a shell prints of /proc/self/stat.
                line = (
                    b""
                    if self._killer_says is None
                    else frame(1, b"%s 7 (sh) S 1%s\n" % (self._token.encode(), b" 7" * 20))
                )
                return UPGRADED + line + b"".join(FRAMES)
            case "logs":
                return CHUNKED + b"".join(b"%x\r\n%s\r\n" % (len(each), each) for each in FRAMES) + b"0\r\n\r\n"
            case "wait":
                body = json.dumps({"StatusCode": CODE}).encode()
                head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
                return head + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
            case "create" | "exec_create":
                return _json({"Id": "c1"}, b"201 Created")
            case "ping":
                return b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK"
            case _:
                self._started = self._started or name == "start"
                return b"HTTP/1.1 204 No Content\r\n\r\n"

    def _finished(self) -> None:
        """All output was written, so the process has ended: what waits for that is answered."""
        self._complete = True
        for peer in self._peers.values():
            if peer.waits:
                peer.waits = False
                data = self._answer_to("wait")
                self._write(peer, data[data.index(b"\r\n\r\n") + 4 :])

    def _end_output(self, peer: _Peer) -> None:
        self._say_end(peer)
        if peer.tls is None:
            peer.sock.shutdown(socket.SHUT_WR)

    def _say_end(self, peer: _Peer) -> None:
        if peer.tls is not None:
            with contextlib.suppress(ssl.SSLError):
                peer.tls.unwrap()
            self._flush(peer)

    def _end(self, peer: _Peer, how: str) -> None:
        peer.deaf = True
        if how == "stall":
            peer.silent = True
            return
        if how == "cut":
            self._say_end(peer)
        if how == "reset":
            peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._drop(peer)
        else:
            # It is closed when the client has closed: a close with unread stdin would be a reset.
            peer.sock.shutdown(socket.SHUT_RDWR if peer.sock.family == socket.AF_UNIX else socket.SHUT_WR)


def _request(buffer: bytearray) -> tuple[str, str, bytes] | None:
    """Take one request off the buffer: its method, path and body."""
    head, end, rest = bytes(buffer).partition(b"\r\n\r\n")
    if not end:
        return None
    length = 0
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    if len(rest) < length:
        return None
    del buffer[: len(head) + 4 + length]
    method, target, _ = head.split(b"\r\n")[0].decode().split(" ")
    return method, target, rest[:length]


def _name(method: str, path: str) -> str:
    parts = path.partition("?")[0].strip("/").split("/")
    match method, parts[0], parts[-1]:
        case "GET", "exec", "json":
            return "exec_inspect"
        case "GET", _, "json":
            return "inspect"
        case "POST", "exec", "start":
            return "exec"
        case "POST", _, "exec":
            return "exec_create"
        case "DELETE", _, _:
            return "remove"
        case _, _, last:
            return last.removeprefix("_")


def _json(value: Any, status: bytes = b"200 OK") -> bytes:
    body = json.dumps(value).encode().ljust(_BODY)
    return b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)


# ---- the sessions ----


@attrs.define
class Result:
    """What a session has delivered.

    Attributes:
        ended: for a command that was to be ended: whether it was seen to have ended.
        exact: what it has delivered is known also after an error.
    """

    stdout: bytes = b""
    stderr: bytes = b""
    exit_code: int | None = None
    ended: bool | None = None
    exact: bool = False


Session = Callable[[Client, Result, float | None], Awaitable[None]]


async def attach(client: Client, result: Result, timeout: float | None) -> None:
    """Attach, start, send stdin and end it, read each event, wait."""
    async with await client.attach("c1", AttachOptions(stdin=True), start=True) as attachment:
        result.exact = True
        with contextlib.suppress(OSError, trio.BrokenResourceError):  # what came before can still be read
            await attachment.send_stdin(INPUT)
            await attachment.close_stdin()
        while not isinstance(event := await attachment.receive(), OutputClosed):
            if isinstance(event, Stderr):
                result.stderr += event.data
            else:
                result.stdout += event.data
        result.exit_code = await attachment.wait()


async def logs(client: Client, result: Result, timeout: float | None) -> None:
    """Read logs, event by event."""
    async with await client.logs("c1") as attachment:
        result.exact = True
        while not isinstance(event := await attachment.receive(), OutputClosed):
            if isinstance(event, Stderr):
                result.stderr += event.data
            else:
                result.stdout += event.data
        result.exit_code = await attachment.wait()


async def run_exec(client: Client, result: Result, timeout: float | None) -> None:
    """Run a command in a container, with input."""
    done = await client.run_exec("c1", ["cmd"], input=INPUT, kill=False, timeout=timeout)
    result.stdout, result.stderr, result.exit_code = done.stdout, done.stderr, done.exit_code


async def run(client: Client, result: Result, timeout: float | None) -> None:
    """Run a command in a container of its own."""
    done = await client.run("any", ["cmd"], input=INPUT, timeout=timeout)
    result.stdout, result.stderr, result.exit_code = done.stdout, done.stderr, done.exit_code


async def killed(client: Client, result: Result, timeout: float | None) -> None:
    """Run a command in a container, which does not end within its time."""
    try:
        await client.run_exec("c1", ["cmd"], timeout=timeout)
    except CommandTimeout as exc:
        result.stdout, result.stderr, result.ended = exc.stdout, exc.stderr, exc.ended


SESSIONS: dict[str, Session] = {
    "attach": attach,
    "logs": logs,
    "run_exec": run_exec,
    "run": run,
    **dict.fromkeys(KILLED, killed),
}
