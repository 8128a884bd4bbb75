"""What is the blocking adapter's own: timeouts, threads, signals and sockets. The rest is in the scenarios."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import re
import signal
import socket
import ssl
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from attachproto import (
    Accepted,
    Attach,
    AttachOptions,
    Framing,
    LocalProtocolError,
    OutputClosed,
    RemoteProtocolError,
    Stderr,
    Stdin,
    StdinClosed,
    Stdout,
    encode_frame,
)
from attachproto_adapters import AttachmentClosed, AttachWarning, HalfCloseUnsupported, Line
from attachproto_adapters._blocking_command import CommandRun
from attachproto_adapters._transport._blocking import BlockingSession
from attachproto_adapters.blocking import Attachment, Client, attach, exec_start, logs, open_attachment, run_exec
from tests.adapters.frameworks import OUTPUT_ONLY, WITH_STDIN, connected
from tests.adapters.scenarios import MEGABYTE, pattern
from tests.adapters.scripted import (
    BOUND,
    Act,
    Begun,
    Engine,
    Peer,
    Task,
    accept,
    accepts,
    answers,
    container,
    docker_exec,
    echo,
    holds,
    stays,
    then,
    until_closed,
    waits,
)
from tests.helpers import joined

# Long enough for a step that must happen; the tests that wait for it to pass spend it whole.
SHORT = 0.05

# So often that both orders of two threads are met.
RACES = 20


def unix_pair() -> tuple[socket.socket, socket.socket]:
    return connected("unix")


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    return connected("tcp")


def narrow_pair() -> tuple[socket.socket, socket.socket]:
    """The kernel takes less of it at once than is offered."""
    client, server = socket.socketpair()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
    return client, server


Pair = Callable[[], tuple[socket.socket, socket.socket]]


class Opener:
    """Opens attachments over connected sockets, with an act at the other end; clears up after the test."""

    def __init__(self) -> None:
        self._tasks: list[Task[None]] = []
        self._attachments: list[Attachment] = []
        self.sock: socket.socket

    def __call__(
        self,
        act: Act,
        options: AttachOptions = OUTPUT_ONLY,
        *,
        timeout: float | None = BOUND,
        pair: Pair = unix_pair,
    ) -> Attachment:
        """The act begins where the request has been read."""
        self.sock, server = pair()
        self.sock.settimeout(timeout)

        def serve() -> None:
            with server:
                peer = Peer(server)
                assert peer.read_request() == Attach("web", options)
                act(peer)

        self._tasks.append(Task(serve))
        attachment = open_attachment(self.sock, Attach("web", options, tty=False))
        self._attachments.append(attachment)
        return attachment

    def served(self) -> None:
        """Awaits the last act, and raises what went wrong in it."""
        self._tasks.pop().result()

    def close(self) -> None:
        for attachment in self._attachments:
            attachment.close()
        for task in self._tasks:
            task.result()


@pytest.fixture
def opened() -> Iterator[Opener]:
    opener = Opener()
    yield opener
    opener.close()


# ---- receiving ----


def test_receive_timeout_loses_nothing(opened: Opener) -> None:
    frame = encode_frame(Stdout(b"0123456789"))
    more = threading.Event()

    def act(peer: Peer) -> None:
        peer.accept()
        peer.write(frame[:5])  # inside the header
        assert more.wait(BOUND)
        peer.write(frame[5:])
        peer.send(OutputClosed())
        peer.until_closed()

    attachment = opened(act)
    attachment.settimeout(SHORT)
    for _ in range(2):
        with pytest.raises(TimeoutError, match=r"no output came within 0\.05 s: POST /containers/web/attach$"):
            attachment.receive()
    attachment.settimeout(BOUND)
    more.set()
    assert joined(list(attachment)) == [Stdout(b"0123456789")]


def test_lines_go_on_after_a_timeout(opened: Opener) -> None:
    more = threading.Event()

    def act(peer: Peer) -> None:
        peer.send(Accepted(Framing.MULTIPLEXED), Stdout(b"one\ntw"))
        assert more.wait(BOUND)
        peer.send(Stdout(b"o\n"), OutputClosed())
        peer.until_closed()

    attachment = opened(act, timeout=SHORT)
    lines = attachment.lines()
    assert next(lines) == Line("one", Stdout)
    with pytest.raises(TimeoutError):
        next(lines)
    more.set()
    attachment.settimeout(BOUND)
    assert list(lines) == [Line("two", Stdout)]


def test_a_socket_that_does_not_block_is_not_broken(opened: Opener) -> None:
    more = threading.Event()

    def act(peer: Peer) -> None:
        peer.accept()
        assert more.wait(BOUND)
        peer.send(Stdout(b"later"), OutputClosed())
        peer.until_closed()

    attachment = opened(act)
    attachment.settimeout(SHORT)
    opened.sock.setblocking(False)
    for _ in range(2):
        with pytest.raises(TimeoutError):
            attachment.receive()
    attachment.settimeout(BOUND)
    more.set()
    assert attachment.communicate() == (b"later", b"")


def test_a_peer_that_tcp_gives_up_on_never_becomes_a_clean_end(opened: Opener) -> None:
    """What keepalive ends looks like a timeout that may be tried again; the kernel tells of it once."""

    class Dead(socket.socket):
        reads = 0

        def recv(self, size: int, flags: int = 0) -> bytes:
            if self.reads == 0:
                return super().recv(size, flags)
            self.reads += 1
            if self.reads == 2:
                raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
            return b""

    def pair() -> tuple[socket.socket, socket.socket]:
        ours, theirs = socket.socketpair()
        return Dead(fileno=ours.detach()), theirs

    attachment = opened(stays(Stdout(b"x")), pair=pair)
    assert attachment.receive() == Stdout(b"x")
    assert isinstance(opened.sock, Dead)
    opened.sock.reads = 1
    opened.sock.shutdown(socket.SHUT_RD)  # poll() returns, as it does for the error
    for _ in range(3):
        with pytest.raises(OSError, match=os.strerror(errno.ETIMEDOUT)):
            attachment.receive()


# ---- sending ----


def test_send_timeout_ends_stdin_and_leaves_the_output(opened: Opener) -> None:
    more = threading.Event()

    def act(peer: Peer) -> None:
        peer.accept()
        assert more.wait(BOUND)
        peer.send(Stdout(b"still here"), OutputClosed())
        peer.until_closed()

    attachment = opened(act, WITH_STDIN)
    attachment.settimeout(SHORT)
    with pytest.raises(TimeoutError, match=r"took no more input within 0\.05 s: POST /containers/web/attach$"):
        attachment.send_stdin(bytes(8 * MEGABYTE))
    for misuse in (lambda: attachment.send_stdin(b"x"), attachment.close_stdin, lambda: attachment.communicate(b"x")):
        with pytest.raises(LocalProtocolError):
            misuse()
    attachment.settimeout(BOUND)
    more.set()
    assert attachment.communicate() == (b"still here", b"")


# ---- communicate ----


@pytest.mark.parametrize("pair", [unix_pair, tcp_pair, narrow_pair])
def test_communicate_without_a_timeout(opened: Opener, pair: Pair) -> None:
    """A `cat` that reads only when it has printed: whoever sends first and reads later hangs here."""
    data = pattern(2 * MEGABYTE)

    def cat(peer: Peer) -> None:
        peer.accept()
        while isinstance(event := peer.next_event(), Stdin):
            peer.send(Stdout(event.data), Stderr(event.data[:1]))
        assert event == StdinClosed()
        peer.send(OutputClosed())
        peer.until_closed()

    attachment = opened(cat, WITH_STDIN, pair=pair, timeout=None)
    stdout, stderr = Task(lambda: attachment.communicate(data)).result()
    assert stdout == data
    assert stderr


@pytest.mark.parametrize("pair", [unix_pair, tcp_pair, narrow_pair])
def test_communicate_timeout_and_again(opened: Opener, pair: Pair) -> None:
    """Cut at the worst place: half of the input is out, and half a frame is in."""
    data = pattern(8 * MEGABYTE)
    frame = encode_frame(Stdout(b"0123456789"))
    more = threading.Event()
    read: list[bytes] = []

    def act(peer: Peer) -> None:
        peer.accept()
        read.append(peer.read_stdin(MEGABYTE))
        peer.write(encode_frame(Stderr(b"early")) + frame[:12])
        assert more.wait(BOUND)
        read.append(peer.stdin_to_end())
        peer.write(frame[12:])
        peer.send(OutputClosed())
        peer.until_closed()

    attachment = opened(act, WITH_STDIN, pair=pair)
    attachment.settimeout(SHORT)
    for _ in range(3):
        with pytest.raises(TimeoutError):
            attachment.communicate(data)
    attachment.settimeout(BOUND)
    with pytest.raises(ValueError, match="other input"):
        attachment.communicate(data[:-1])
    more.set()
    assert attachment.communicate(data) == (b"0123456789", b"early")
    opened.served()
    assert b"".join(read) == data


def test_communicate_again_without_naming_the_input(opened: Opener) -> None:
    data = pattern(2 * MEGABYTE)
    more = threading.Event()

    def act(peer: Peer) -> None:
        peer.accept()
        assert more.wait(BOUND)
        peer.send(Stdout(peer.stdin_to_end()[-4:]), OutputClosed())
        peer.until_closed()

    attachment = opened(act, WITH_STDIN)
    attachment.settimeout(SHORT)
    with pytest.raises(TimeoutError, match=r"no output came, and no input was taken, within 0\.05 s: POST /containers"):
        attachment.communicate(data)
    attachment.settimeout(BOUND)
    more.set()
    assert attachment.communicate() == (data[-4:], b"")


def test_communicate_timeout_after_the_input(opened: Opener) -> None:
    more = threading.Event()

    def act(peer: Peer) -> None:
        peer.accept()
        peer.send(Stdout(peer.stdin_to_end()))
        assert more.wait(BOUND)
        peer.send(Stderr(b"late"), OutputClosed())
        peer.until_closed()

    attachment = opened(act, WITH_STDIN)
    attachment.settimeout(SHORT)
    with pytest.raises(TimeoutError):
        attachment.communicate(b"input")
    with pytest.raises(TimeoutError):
        attachment.communicate(b"input")
    attachment.settimeout(BOUND)
    with pytest.raises(ValueError, match="other input"):
        attachment.communicate(b"other")
    more.set()
    assert attachment.communicate(b"input") == (b"input", b"late")


@pytest.mark.parametrize("call", ["send_stdin", "close_stdin"])
def test_nothing_goes_between_the_input_of_communicate(opened: Opener, call: str) -> None:
    tried = threading.Event()

    def act(peer: Peer) -> None:
        peer.accept()
        assert tried.wait(BOUND)

    attachment = opened(act, WITH_STDIN)
    attachment.settimeout(SHORT)
    with pytest.raises(TimeoutError):
        attachment.communicate(bytes(8 * MEGABYTE))
    with pytest.raises(LocalProtocolError, match="in the middle of its input"):
        attachment.send_stdin(b"x") if call == "send_stdin" else attachment.close_stdin()
    tried.set()


# ---- what a socket cannot do ----


def anonymous(purpose: int) -> ssl.SSLContext:
    """TLS without a certificate, which an engine would not take, but which needs no file."""
    context = ssl.SSLContext(purpose)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("aNULL:@SECLEVEL=0")
    return context


def test_an_ssl_socket_reads_and_refuses_to_half_close() -> None:
    received: list[bytes] = []
    ours, theirs = socket.socketpair()
    theirs.settimeout(BOUND)
    refused = threading.Event()

    def serve() -> None:
        with anonymous(ssl.PROTOCOL_TLS_SERVER).wrap_socket(theirs, server_side=True) as sock:
            peer = Peer(sock)
            peer.read_request()
            peer.send(Accepted(Framing.MULTIPLEXED), Stdout(b"over TLS"))
            assert refused.wait(BOUND)
            received.append(peer.read_stdin(3))
            peer.write(encode_frame(Stdout(b"and on")))

    serving = Task(serve)
    ours.settimeout(BOUND)
    sock = anonymous(ssl.PROTOCOL_TLS_CLIENT).wrap_socket(ours)
    with open_attachment(sock, Attach("web", WITH_STDIN, tty=False)) as attachment:
        assert attachment.receive() == Stdout(b"over TLS")
        with pytest.raises(HalfCloseUnsupported):
            attachment.close_stdin()
        for input in (b"", b"never sent"):
            with pytest.raises(HalfCloseUnsupported):
                attachment.communicate(input)
        refused.set()
        attachment.send_stdin(b"now")
        assert attachment.receive() == Stdout(b"and on")
    serving.result()
    assert received == [b"now"]


# ---- closing ----


@pytest.mark.parametrize("timeout", [None, BOUND])
def test_close_wakes_a_blocked_receive(opened: Opener, timeout: float | None) -> None:
    for _ in range(RACES):
        attachment = opened(stays(), timeout=timeout)
        task = Begun(attachment.receive)
        attachment.close()
        with pytest.raises(AttachmentClosed):
            task.result()


@pytest.mark.parametrize("timeout", [None, BOUND])
@pytest.mark.parametrize("call", ["send_stdin", "communicate"])
def test_close_wakes_a_blocked_sender(opened: Opener, timeout: float | None, call: str) -> None:
    for _ in range(RACES):
        begun = threading.Event()
        woken = threading.Event()

        def act(peer: Peer, begun: threading.Event = begun, woken: threading.Event = woken) -> None:
            peer.accept()
            peer.read_stdin(1)
            begun.set()
            assert woken.wait(BOUND)  # and nothing is read meanwhile

        attachment = opened(act, WITH_STDIN, timeout=timeout)
        task = Task(lambda attachment=attachment: getattr(attachment, call)(bytes(MEGABYTE)))  # type: ignore[misc]
        assert begun.wait(BOUND)
        attachment.close()
        with pytest.raises(AttachmentClosed):
            task.result()
        woken.set()


@pytest.mark.parametrize("call", ["send_stdin", "communicate"])
def test_close_at_any_moment_of_a_call(opened: Opener, call: str) -> None:
    for _ in range(5 * RACES):
        attachment = opened(then(accept, Peer.until_hung_up), WITH_STDIN)
        task = Begun(lambda attachment=attachment: getattr(attachment, call)(bytes(MEGABYTE)))  # type: ignore[misc]
        attachment.close()
        with pytest.raises(AttachmentClosed):
            task.result()
        opened.served()


@pytest.mark.parametrize("held", [False, True])
def test_close_wakes_a_blocked_wait(engine: Engine, held: bool) -> None:
    exited = threading.Event()
    engine.on("attach", stays())
    engine.on("wait", waits(0, exited))
    attachment = attach("web", host=engine.host, wait=held, timeout=BOUND)
    task = Begun(attachment.wait)
    attachment.close()
    try:
        with pytest.raises(AttachmentClosed):
            task.result()
    finally:
        exited.set()


@pytest.mark.parametrize("interrupted", ["stream", "held"])
def test_an_interrupted_close_closes_the_rest(engine: Engine, interrupted: str) -> None:
    """Closing ssh may take seconds, in which a second Ctrl-C is likely."""
    engine.on("attach", stays())
    engine.on("wait", holds)
    attachment = attach("web", host=engine.host, wait=True, timeout=BOUND)
    stream, held = attachment._session, attachment._held.session
    assert held is not None
    interrupt_close(stream if interrupted == "stream" else held)
    with pytest.raises(KeyboardInterrupt):
        attachment.close()
    assert (stream.closed, held.closed) == (True, True)


def interrupt_close(session: BlockingSession) -> None:
    close = session.close

    def interrupted() -> None:
        session.close = close  # type: ignore[method-assign]
        raise KeyboardInterrupt

    session.close = interrupted  # type: ignore[method-assign]


def test_an_interrupted_close_of_a_command_closes_the_rest(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    engine.on("inspect", answers(container()), answers(docker_exec(exit_code=0)))
    engine.on("start", accepts())
    with Client(engine.host) as client:
        prepared, exchange = client._prepare_run_exec("web", ["true"], kill=False)
        dialer, closed = client._dialer(), threading.Event()
        run = CommandRun(prepared, exchange, dialer)
        monkeypatch.setattr(Attachment, "close", raises_keyboard_interrupt)
        monkeypatch.setattr(dialer, "close", closed.set)
        with pytest.raises(KeyboardInterrupt):
            run.run()
    assert closed.is_set()


def raises_keyboard_interrupt(*args: object) -> None:
    raise KeyboardInterrupt


def test_close_between_a_poll_and_a_send(opened: Opener) -> None:
    """Another thread closes at the one moment where the sender has looked, and has not sent yet."""

    class Closing(socket.socket):
        attachment: Attachment | None = None

        def send(self, data: Any, flags: int = 0) -> int:
            if self.attachment is not None:
                self.attachment.close()
            return super().send(data, flags)

    def pair() -> tuple[socket.socket, socket.socket]:
        ours, theirs = socket.socketpair()
        return Closing(fileno=ours.detach()), theirs

    attachment = opened(stays(), WITH_STDIN, pair=pair)
    assert isinstance(opened.sock, Closing)
    opened.sock.attachment = attachment
    with pytest.raises(AttachmentClosed):
        attachment.communicate(b"x")


# ---- timeouts ----


@pytest.mark.parametrize("held", [False, True])
def test_wait_timeout_and_again(engine: Engine, held: bool) -> None:
    exited = threading.Event()
    engine.on("attach", stays())
    engine.on("wait", waits(7, exited))
    with attach("web", host=engine.host, wait=held, timeout=BOUND) as attachment:
        attachment.settimeout(SHORT)
        for _ in range(2):
            with pytest.raises(
                TimeoutError, match=r"timed out: .* within 0\.05 s: POST /containers/web/wait at unix:///"
            ):
                attachment.wait()
        attachment.settimeout(BOUND)
        exited.set()
        assert attachment.wait() == 7


def test_an_exec_that_does_not_end_in_time(engine: Engine) -> None:
    """Each question is answered at once; what takes too long is all of them together."""
    engine.on("inspect", answers(docker_exec()), answers(docker_exec(running=True)))
    engine.on("start", accepts())
    with exec_start("e1", host=engine.host, timeout=BOUND) as attachment:
        attachment.settimeout(SHORT)
        for _ in range(2):
            with pytest.raises(TimeoutError, match=r"timed out: no .* within 0\.05 s: GET /exec/e1/json at unix:///"):
                attachment.wait()
        engine.on("inspect", answers(docker_exec(exit_code=7)))
        assert attachment.wait() == 7


@pytest.mark.parametrize("call", ["inspect", "attach", "start"])
def test_an_attach_that_times_out_leaves_nothing(engine: Engine, call: str) -> None:
    engine.on("attach", stays())
    engine.on("wait", holds)
    engine.on(call, until_closed)
    with pytest.raises(TimeoutError) as caught:
        attach("web", host=engine.host, start=True, timeout=SHORT)
    engine.close()
    assert caught.tb is not None
    path = "json" if call == "inspect" else call
    assert re.fullmatch(
        rf"timed out: no answer came within 0\.05 s: (GET|POST) /containers/web/{path} at {engine.host} \(as given\)",
        str(caught.value),
    )


def test_a_head_that_is_held_back_is_waited_for_no_longer_than_the_timeout(engine: Engine) -> None:
    engine.on("inspect", answers(container(status="created")))
    engine.on("attach", stays())
    engine.on("wait", until_closed)
    with attach("web", host=engine.host, start=True, timeout=SHORT):
        assert engine.calls[-1] == "start"


@pytest.mark.parametrize("timeout", [0, -1])
def test_a_timeout_that_would_not_wait_is_refused(engine: Engine, timeout: float) -> None:
    for call in (attach, exec_start, logs):
        with pytest.raises(ValueError, match="above 0 seconds"):
            call("web", host=engine.host, timeout=timeout)
    with pytest.raises(ValueError, match="above 0 seconds"):
        run_exec("web", ["true"], host=engine.host, timeout=timeout)
    assert engine.calls == []
    with attach("web", host=engine.host, timeout=BOUND) as attached, pytest.raises(ValueError, match="above 0 seconds"):
        attached.settimeout(timeout)


def test_a_timeout_of_months(opened: Opener) -> None:
    attachment = opened(echo, WITH_STDIN)
    attachment.settimeout(1e7)
    assert attachment.communicate(bytes(MEGABYTE)) == (bytes(MEGABYTE), b"")
    attachment.settimeout(1)  # which a closed one takes


# ---- opening ----


def test_warnings_point_at_who_calls(engine: Engine) -> None:
    silent = answers(container(open_stdin=False))
    engine.on("inspect", silent, silent, answers(container(stdin_once=False)))
    engine.on("attach", stays(), echo)
    with pytest.warns(AttachWarning, match="OpenStdin") as warned:
        attach("web", WITH_STDIN, host=engine.host, timeout=BOUND).close()
    with attach("web", WITH_STDIN, host=engine.host, timeout=BOUND) as attachment:
        with pytest.warns(AttachWarning, match="end of the attach") as warned_again:
            attachment.close_stdin()
        attachment.communicate()
    assert {each.filename for each in [*warned, *warned_again]} == {__file__}


def test_a_socket_that_is_closed_at_the_other_end() -> None:
    ours, theirs = socket.socketpair()
    theirs.close()
    with pytest.raises(RemoteProtocolError, match="before any answer"):
        open_attachment(ours, Attach("web", tty=False))
    assert ours.fileno() == -1


def test_a_socket_that_does_not_answer_in_time() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        ours.settimeout(SHORT)
        with pytest.raises(TimeoutError):
            open_attachment(ours, Attach("web", tty=False))
    assert ours.fileno() == -1


def test_a_socket_that_does_not_block_is_left_alone() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        with pytest.raises(ValueError, match="the timeout of the socket is None or above 0 seconds"):
            open_attachment(ours, Attach("web", tty=False))
        assert ours.fileno() != -1


def test_a_request_that_cannot_be_sent_leaves_nothing(socket_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def send(sock: socket.socket, data: bytes) -> None:
        raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))

    monkeypatch.setattr(socket.socket, "send", send)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(socket_path))
        listener.listen()
        with pytest.raises(OSError, match=os.strerror(errno.ENOBUFS)) as caught:
            attach("web", host=f"unix://{socket_path}", timeout=BOUND)
        server, _ = listener.accept()
        with server:
            server.settimeout(BOUND)
            # While the traceback still holds whatever was left open.
            assert caught.tb is not None
            assert server.recv(1) == b""


# ---- ctrl-c ----


@pytest.mark.parametrize("call", ["inspect", "wait", "attach", "start"])
def test_ctrl_c_inside_attach_closes_everything(engine: Engine, call: str) -> None:
    def interrupt(peer: Peer) -> None:
        # A signal, as Ctrl-C sends it, because it must end a blocking read.
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        peer.until_closed()

    for each in ("attach", "wait"):
        engine.on(each, stays() if each == "attach" else holds)
    engine.on(call, interrupt)
    with pytest.raises(KeyboardInterrupt):
        attach("web", host=engine.host, start=True, timeout=BOUND)
    assert engine.calls[-1].startswith(call)
    engine.close()


class Interrupted(socket.socket):
    """Handles Ctrl-C at the worst moment: the kernel has done the call, and Python has not yet kept what it gave."""

    at: str = ""

    def send(self, data: Any, flags: int = 0) -> int:
        sent = super().send(data, flags)
        self._interrupt("send")
        return sent

    def recv(self, size: int, flags: int = 0) -> bytes:
        data = super().recv(size, flags)
        self._interrupt("recv")
        return data

    def _interrupt(self, call: str) -> None:
        if self.at == call:
            self.at = ""
            raise KeyboardInterrupt


@pytest.mark.parametrize("at", ["send", "recv"])
def test_ctrl_c_inside_communicate_never_makes_a_hole(opened: Opener, at: str) -> None:
    """To go on is one honest answer, to refuse is the other; to hand out or send what is wrong is none."""
    data = pattern(200_000)
    read: list[bytes] = []

    def act(peer: Peer) -> None:
        peer.accept()
        # The client may give up, and close where the rest should come.
        with contextlib.suppress(AssertionError, BrokenPipeError, ConnectionResetError):
            read.append(peer.read_stdin(1))
            peer.send(Stdout(b"before "))
            read.append(peer.stdin_to_end())
            peer.send(Stdout(b"after"), OutputClosed())
            peer.until_closed()

    def pair() -> tuple[socket.socket, socket.socket]:
        ours, theirs = socket.socketpair()
        return Interrupted(fileno=ours.detach()), theirs

    attachment = opened(act, WITH_STDIN, pair=pair)
    assert isinstance(opened.sock, Interrupted)
    opened.sock.at = at
    with pytest.raises(KeyboardInterrupt):
        attachment.communicate(data)
    try:
        output = attachment.communicate(data)
    except (LocalProtocolError, BrokenPipeError, AttachmentClosed):
        pass
    else:
        opened.served()
        assert b"".join(read) == data
        assert output == (b"before after", b"")


def test_two_threads_that_send_at_once(opened: Opener) -> None:
    """The second is refused, and tears nothing of the first apart."""
    data = pattern(4 * MEGABYTE)
    go = threading.Event()

    def act(peer: Peer) -> None:
        peer.accept()
        assert go.wait(BOUND)
        assert peer.stdin_to_end() == data
        peer.send(OutputClosed())
        peer.until_closed()

    attachment = opened(act, WITH_STDIN)
    sender = Begun(lambda: attachment.send_stdin(data))
    assert not sender.finished(SHORT)
    with pytest.raises(RuntimeError, match="another thread is sending"):
        attachment.send_stdin(b"torn")
    go.set()
    sender.result()
    attachment.close_stdin()
    assert attachment.communicate() == (b"", b"")


@pytest.mark.parametrize("second", ["receive", "iteration", "lines", "communicate"])
@pytest.mark.parametrize("first", ["receive", "lines", "communicate"])
def test_two_threads_that_receive_at_once(opened: Opener, first: str, second: str) -> None:
    """The second is refused, and the first misses nothing."""
    go = threading.Event()

    def act(peer: Peer) -> None:
        peer.accept()
        assert go.wait(BOUND)
        peer.send(Stdout(b"line\n"), OutputClosed())
        peer.until_closed()

    attachment = opened(act)
    calls: dict[str, Callable[[], Any]] = {
        "receive": attachment.receive,
        "iteration": lambda: next(attachment),
        "lines": lambda: next(attachment.lines()),
        "communicate": attachment.communicate,
    }
    reader = Begun(calls[first])
    deadline = time.monotonic() + BOUND
    while not attachment._session._waiting:  # until the thread waits
        assert time.monotonic() < deadline
    with pytest.raises(RuntimeError, match="another thread is receiving"):
        calls[second]()
    go.set()
    expected = {"receive": Stdout(b"line\n"), "lines": Line("line", Stdout), "communicate": (b"line\n", b"")}
    assert reader.result() == expected[first]


def test_what_is_dropped_is_closed_at_once(engine: Engine) -> None:
    """No cycle keeps an attachment, and with it its socket, until the garbage collector runs."""
    engine.on("attach", then(accept, Peer.until_hung_up))
    gc.disable()
    try:
        attachment = attach("web", host=engine.host, timeout=BOUND)
        session = weakref.ref(attachment._session)
        with pytest.warns(ResourceWarning, match="unclosed"):
            del attachment
        assert session() is None
    finally:
        gc.enable()
