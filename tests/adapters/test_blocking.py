"""The blocking adapter, over socket pairs and against the scripted engine."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from attachproto import (
    Accepted,
    Attach,
    AttachOptions,
    Event,
    Framing,
    LocalProtocolError,
    OutputClosed,
    RawOutput,
    RemoteProtocolError,
    Request,
    Stderr,
    Stdin,
    StdinClosed,
    Stdout,
    Systemerr,
    encode_frame,
)
from attachproto_adapters import (
    AttachError,
    AttachmentClosed,
    AttachWarning,
    ContainerNotRunning,
    EngineReportedError,
    EngineUnreachable,
    HalfCloseEndsAttach,
    HalfCloseUnsupported,
    HostInvalid,
    OutputTooLarge,
    RequestRejected,
)
from attachproto_adapters.blocking import Attachment, attach, open_attachment
from tests.adapters.scripted import (
    BOUND,
    Act,
    Begun,
    Engine,
    Peer,
    Task,
    accepts,
    answers,
    container,
    refuses,
    rejects,
    stays,
    waits,
)

WITH_STDIN = AttachOptions(stdin=True)
OUTPUT_ONLY = AttachOptions()

MEGABYTE = 1024 * 1024

# Long enough for a step that must happen; the tests that wait for it to pass spend it whole.
SHORT = 0.05

# So often that both orders of two threads are met.
RACES = 20


def pattern(size: int) -> bytes:
    """Bytes in which a lost, doubled or swapped piece shows, whatever its length."""
    return b"".join(number.to_bytes(4, "big") for number in range(size // 4 + 1))[:size]


def unix_pair() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair()


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname(), BOUND)
        server, _ = listener.accept()
    return client, server


def narrow_pair() -> tuple[socket.socket, socket.socket]:
    """The kernel takes less of it at once than is offered."""
    client, server = socket.socketpair()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
    return client, server


PAIRS = pytest.mark.parametrize("pair", [unix_pair, tcp_pair])

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
        tty: bool | None = False,
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
        attachment = open_attachment(self.sock, Attach("web", options, tty=tty))
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


def then(*acts: Act) -> Act:
    def act(peer: Peer) -> None:
        for each in acts:
            each(peer)

    return act


def accept(peer: Peer) -> None:
    peer.accept()


def say(*events: Event) -> Act:
    return lambda peer: peer.send(*events)


def write(data: bytes) -> Act:
    return lambda peer: peer.write(data)


def until_closed(peer: Peer) -> None:
    peer.until_closed()


def peek(peer: Peer) -> None:
    """Waits until the client has sent something, and leaves it unread."""
    assert peer.sock.recv(1, socket.MSG_PEEK)


def read_some(peer: Peer) -> None:
    peer.read_stdin(1)


def reset(peer: Peer) -> None:
    peer.reset()


def close(peer: Peer) -> None:
    peer.close()


def joined(events: list[Any]) -> list[Any]:
    """Neighbours of one stream as one event: where an event ends means nothing."""
    result: list[Any] = []
    for event in events:
        if result and type(result[-1]) is type(event):
            result[-1] = type(event)(result[-1].data + event.data)
        else:
            result.append(event)
    return result


# ---- receiving ----


@PAIRS
def test_output_apart(opened: Opener, pair: Pair) -> None:
    output = (Stdout(b"one\n"), Stderr(b"two\n"), Stdout(b"three\n"))
    attachment = opened(accepts(*output), pair=pair)
    assert joined(list(attachment)) == list(output)


def test_output_of_a_terminal(opened: Opener) -> None:
    attachment = opened(accepts(RawOutput(b"\x01\0\0\0\0\0\0\x01$ "), framing=Framing.RAW), tty=True)
    assert joined(list(attachment)) == [RawOutput(b"\x01\0\0\0\0\0\0\x01$ ")]


@pytest.mark.parametrize("status_code", [101, 200])
def test_output_in_one_segment_with_the_answer(opened: Opener, status_code: int) -> None:
    """Where docker-py loses it: everything up to the end is there before the first read."""
    everything = accepts(Stdout(b"first"), Stderr(b"second"), status_code=status_code)
    for _ in range(RACES):
        assert opened(everything).communicate() == (b"first", b"second")


@pytest.mark.parametrize("status_code", [101, 200])
def test_answer_byte_by_byte(opened: Opener, status_code: int) -> None:
    class Recorder:
        data = b""

        def sendall(self, data: bytes) -> None:
            self.data += data

    def drip(peer: Peer) -> None:
        peer.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        recorder = Recorder()
        real, peer.sock = peer.sock, recorder  # type: ignore[assignment]
        peer.send(Accepted(Framing.MULTIPLEXED, status_code), Stdout(b"out"), Stderr(b"err"))
        peer.sock = real
        for at in range(len(recorder.data)):
            peer.write(recorder.data[at : at + 1])
        peer.send(OutputClosed())
        peer.until_closed()

    assert opened(drip, pair=tcp_pair).communicate() == (b"out", b"err")


def test_large_output_is_whole(opened: Opener) -> None:
    data = pattern(8 * MEGABYTE)
    frames = b"".join(
        encode_frame(Stdout(data[at : at + 32768])) + encode_frame(Stderr(data[at : at + 32768]))
        for at in range(0, len(data), 32768)
    )
    attachment = opened(then(accept, write(frames), say(OutputClosed()), until_closed))
    stdout, stderr = attachment.communicate()
    assert stdout == data
    assert stderr == data


def test_the_end_comes_again_and_again_and_closes_the_socket(opened: Opener) -> None:
    attachment = opened(accepts(Stdout(b"x")))  # the peer waits for the close
    assert attachment.receive() == Stdout(b"x")
    assert [attachment.receive() for _ in range(3)] == [OutputClosed()] * 3
    opened.served()
    assert opened.sock.fileno() == -1
    assert list(attachment) == []
    assert attachment.communicate() == (b"", b"")


def test_iteration_goes_on_where_it_was_left(opened: Opener) -> None:
    attachment = opened(accepts(Stdout(b"a"), Stderr(b"b"), Stdout(b"c")))
    for event in attachment:
        assert event == Stdout(b"a")
        break
    assert list(attachment) == [Stderr(b"b"), Stdout(b"c")]


def test_cut_inside_a_frame_is_told_after_what_came(opened: Opener) -> None:
    attachment = opened(then(accept, write(encode_frame(Stderr(b"whole")) + encode_frame(Stdout(b"halved"))[:-3])))
    output = iter(attachment)
    assert next(output) == Stderr(b"whole")
    assert next(output) == Stdout(b"hal")
    with pytest.raises(RemoteProtocolError, match="3 are missing"):
        next(output)
    with pytest.raises(RemoteProtocolError, match="3 are missing"):
        attachment.receive()


def test_communicate_tells_of_a_cut(opened: Opener) -> None:
    attachment = opened(then(accept, write(encode_frame(Stdout(b"halved"))[:-3])))
    for _ in range(2):
        with pytest.raises(RemoteProtocolError, match="3 are missing"):
            attachment.communicate()


def test_garbage_is_told_after_what_came(opened: Opener) -> None:
    attachment = opened(then(accept, write(encode_frame(Stdout(b"good")) + b"\x09garbage"), until_closed))
    assert attachment.receive() == Stdout(b"good")
    with pytest.raises(RemoteProtocolError, match="unknown stream type 9"):
        attachment.receive()


@PAIRS
def test_reset_while_reading_is_the_sockets_error_after_what_came(opened: Opener, pair: Pair) -> None:
    read = threading.Event()

    def act(peer: Peer) -> None:
        peer.send(Accepted(Framing.MULTIPLEXED), Stdout(b"before"))
        assert read.wait(BOUND)
        peer.reset()

    attachment = opened(act, WITH_STDIN, pair=pair)
    attachment.send_stdin(b"never read")
    assert attachment.receive() == Stdout(b"before")
    read.set()
    with pytest.raises(ConnectionResetError):
        attachment.receive()


@PAIRS
def test_a_reset_never_becomes_a_clean_end(opened: Opener, pair: Pair) -> None:
    """Linux tells of a reset once, and from then on of an end."""
    attachment = opened(then(accept, peek, reset), WITH_STDIN, pair=pair)
    attachment.send_stdin(b"never read")
    for _ in range(3):
        with pytest.raises(ConnectionResetError):
            attachment.receive()


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
    for _ in range(3):
        with pytest.raises(OSError, match=os.strerror(errno.ETIMEDOUT)):
            attachment.receive()


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
        with pytest.raises(TimeoutError):
            attachment.receive()
    attachment.settimeout(BOUND)
    more.set()
    assert joined(list(attachment)) == [Stdout(b"0123456789")]


def test_a_socket_that_does_not_block_is_not_broken(opened: Opener) -> None:
    more = threading.Event()

    def act(peer: Peer) -> None:
        peer.accept()
        assert more.wait(BOUND)
        peer.send(Stdout(b"later"), OutputClosed())
        peer.until_closed()

    attachment = opened(act)
    assert opened.sock is not None
    opened.sock.setblocking(False)
    for _ in range(2):
        with pytest.raises((BlockingIOError, TimeoutError)):
            attachment.receive()
    attachment.settimeout(BOUND)
    more.set()
    assert attachment.communicate() == (b"later", b"")


# ---- sending ----


@PAIRS
def test_stdin_and_its_end(opened: Opener, pair: Pair) -> None:
    """The peer answers only once stdin has ended, so a half-close it is, and output comes after it."""

    def act(peer: Peer) -> None:
        peer.accept()
        peer.send(Stdout(peer.stdin_to_end().upper()), OutputClosed())
        peer.until_closed()

    attachment = opened(act, WITH_STDIN, pair=pair)
    attachment.send_stdin(b"one ")
    attachment.send_stdin(b"")
    attachment.send_stdin(b"two")
    attachment.close_stdin()
    assert attachment.communicate() == (b"ONE TWO", b"")


def test_nothing_half_closes_unasked(opened: Opener) -> None:
    def act(peer: Peer) -> None:
        peer.accept()
        assert peer.read_stdin(5) == b"12345"
        peer.send(Stdout(b"x"), OutputClosed())
        assert peer.until_closed() == b""

    attachment = opened(act, WITH_STDIN)
    attachment.send_stdin(b"12345")
    assert attachment.communicate() == (b"x", b"")


def test_sending_what_was_not_attached(opened: Opener) -> None:
    attachment = opened(stays())
    with pytest.raises(LocalProtocolError):
        attachment.send_stdin(b"x")
    with pytest.raises(LocalProtocolError):
        attachment.close_stdin()
    with pytest.raises(LocalProtocolError, match="stdin=True"):
        attachment.communicate(b"x")


def test_sending_after_the_end_of_stdin(opened: Opener) -> None:
    def act(peer: Peer) -> None:
        peer.accept()
        assert peer.stdin_to_end() == b""
        peer.send(Stdout(b"x"), OutputClosed())
        peer.until_closed()

    attachment = opened(act, WITH_STDIN)
    attachment.close_stdin()
    for misuse in (lambda: attachment.send_stdin(b"x"), attachment.close_stdin, lambda: attachment.communicate(b"x")):
        with pytest.raises(LocalProtocolError):
            misuse()
    assert attachment.communicate() == (b"x", b"")


def test_sending_after_the_end_of_output(opened: Opener) -> None:
    attachment = opened(accepts(), WITH_STDIN)
    assert attachment.receive() == OutputClosed()
    with pytest.raises(BrokenPipeError):
        attachment.send_stdin(b"x")
    with pytest.raises(BrokenPipeError):
        attachment.close_stdin()


def test_broken_pipe_while_sending_leaves_the_output(opened: Opener) -> None:
    gone = threading.Event()

    def act(peer: Peer) -> None:
        peer.accept()
        peer.send(Stdout(b"last words"))
        peer.close()
        gone.set()

    attachment = opened(act, WITH_STDIN)
    assert gone.wait(BOUND)
    with pytest.raises(BrokenPipeError):
        attachment.send_stdin(b"x")
    with pytest.raises(LocalProtocolError):
        attachment.send_stdin(b"x")
    assert attachment.receive() == Stdout(b"last words")
    assert attachment.receive() == OutputClosed()


def test_send_timeout_ends_stdin_and_leaves_the_output(opened: Opener) -> None:
    more = threading.Event()

    def act(peer: Peer) -> None:
        peer.accept()
        assert more.wait(BOUND)
        peer.send(Stdout(b"still here"), OutputClosed())
        peer.until_closed()

    attachment = opened(act, WITH_STDIN)
    attachment.settimeout(SHORT)
    with pytest.raises(TimeoutError):
        attachment.send_stdin(bytes(8 * MEGABYTE))
    for misuse in (lambda: attachment.send_stdin(b"x"), attachment.close_stdin, lambda: attachment.communicate(b"x")):
        with pytest.raises(LocalProtocolError):
            misuse()
    attachment.settimeout(BOUND)
    more.set()
    assert attachment.communicate() == (b"still here", b"")


@PAIRS
def test_one_thread_sends_while_another_receives(opened: Opener, pair: Pair) -> None:
    data = pattern(10 * MEGABYTE)
    frames = b"".join(encode_frame(Stdout(data[at : at + 32768])) for at in range(0, len(data), 32768))
    echoed: list[bytes] = []

    def act(peer: Peer) -> None:
        peer.accept()
        printing = Task(lambda: peer.write(frames))
        echoed.append(peer.stdin_to_end())
        printing.result()
        peer.send(OutputClosed())
        peer.until_closed()

    attachment = opened(act, WITH_STDIN, pair=pair)

    def send() -> None:
        for at in range(0, len(data), 100_000):
            attachment.send_stdin(data[at : at + 100_000])
        attachment.close_stdin()

    sending = Task(send)
    received = b"".join(event.data for event in attachment)
    sending.result()
    assert received == data
    assert echoed == [data]


# ---- communicate ----


def test_communicate_with_none_sends_nothing_and_leaves_stdin_open(opened: Opener) -> None:
    def act(peer: Peer) -> None:
        peer.accept()
        peer.send(Stdout(b"x"), OutputClosed())
        # Only what is closed whole may follow; a half-close before it would end this at once.
        assert peer.until_closed() == b""

    assert opened(act, WITH_STDIN).communicate() == (b"x", b"")


def test_communicate_with_none_does_not_half_close(opened: Opener) -> None:
    def act(peer: Peer) -> None:
        peer.accept()
        peer.sock.settimeout(SHORT)
        with pytest.raises(TimeoutError):
            peer.sock.recv(1)
        peer.send(OutputClosed())
        peer.sock.settimeout(BOUND)
        peer.until_closed()

    opened(act, WITH_STDIN).communicate()
    opened.served()


@PAIRS
@pytest.mark.parametrize("input", [b"", b"SELECT 1;\n"])
def test_communicate_half_closes(opened: Opener, pair: Pair, input: bytes) -> None:
    def act(peer: Peer) -> None:
        peer.accept()
        peer.send(Stdout(b"got "), Stdout(peer.stdin_to_end()), Stderr(b"bye"), OutputClosed())
        peer.until_closed()

    assert opened(act, WITH_STDIN, pair=pair).communicate(input) == (b"got " + input, b"bye")


@pytest.mark.parametrize("pair", [unix_pair, tcp_pair, narrow_pair])
@pytest.mark.parametrize("timeout", [None, BOUND])
def test_communicate_with_much_in_both_directions(opened: Opener, pair: Pair, timeout: float | None) -> None:
    """A `cat` that reads only when it has printed: whoever sends first and reads later hangs here."""
    data = pattern(5 * MEGABYTE)

    def cat(peer: Peer) -> None:
        peer.accept()
        while isinstance(event := peer.next_event(), Stdin):
            peer.send(Stdout(event.data), Stderr(event.data[:1]))
        assert event == StdinClosed()
        peer.send(OutputClosed())
        peer.until_closed()

    attachment = opened(cat, WITH_STDIN, pair=pair, timeout=timeout)
    stdout, stderr = Task(lambda: attachment.communicate(data)).result()
    assert stdout == data
    assert stderr


@PAIRS
def test_communicate_with_a_container_that_never_reads(opened: Opener, pair: Pair) -> None:
    data = pattern(5 * MEGABYTE)

    def act(peer: Peer) -> None:
        peer.accept()
        for at in range(0, len(data), 32768):
            peer.send(Stdout(data[at : at + 32768]))
        peer.send(OutputClosed())
        with peer.sock:
            peer.until_closed()

    attachment = opened(act, WITH_STDIN, pair=pair)
    stdout, _ = attachment.communicate(bytes(5 * MEGABYTE))
    assert stdout == data
    # Ended is ended, though the input never went out.
    assert attachment.communicate(bytes(5 * MEGABYTE)) == (data, b"")


def test_communicate_goes_on_reading_after_a_broken_pipe(opened: Opener) -> None:
    data = pattern(100_000)

    def act(peer: Peer) -> None:
        peer.accept()
        peer.read_stdin(1)
        peer.sock.shutdown(socket.SHUT_RD)  # what is sent from here on breaks the pipe
        peer.send(Stdout(data))
        peer.send(OutputClosed())
        peer.sock.close()

    assert opened(act, WITH_STDIN).communicate(bytes(5 * MEGABYTE)) == (data, b"")


@PAIRS
def test_reset_between_frames_after_our_write_failed_is_an_end(opened: Opener, pair: Pair) -> None:
    """So Podman ends where somebody still sends to a container that is gone."""
    act = then(accept, read_some, say(Stdout(b"out"), Stderr(b"err")), reset)
    for _ in range(RACES):
        attachment = opened(act, WITH_STDIN, pair=pair)
        stdout, stderr = attachment.communicate(bytes(8 * MEGABYTE))
        # TCP may throw away what has not been read when the reset comes.
        assert (stdout, stderr) == (b"out", b"err") or pair is tcp_pair


def test_reset_inside_a_frame_is_no_end(opened: Opener) -> None:
    act = then(accept, read_some, write(encode_frame(Stdout(b"halved"))[:-3]), reset)
    for _ in range(RACES):
        attachment = opened(act, WITH_STDIN)
        with pytest.raises((RemoteProtocolError, ConnectionResetError)):
            attachment.communicate(bytes(8 * MEGABYTE))


@pytest.mark.parametrize("input", [b"", b"x"])
def test_a_reset_before_stdin_could_be_sent(opened: Opener, input: bytes) -> None:
    """A write or a half-close that fails, whichever way it is told of first, ends stdin and not the reading."""
    gone = threading.Event()

    def act(peer: Peer) -> None:
        peer.send(Accepted(Framing.MULTIPLEXED), Stdout(b"out"))
        peer.reset()
        gone.set()

    attachment = opened(act, WITH_STDIN, pair=tcp_pair)
    assert gone.wait(BOUND)
    assert attachment.communicate(input) == (b"out", b"")


@PAIRS
def test_reset_without_a_write_that_failed_is_an_error(opened: Opener, pair: Pair) -> None:
    ended = threading.Event()

    def act(peer: Peer) -> None:
        peer.send(Accepted(Framing.MULTIPLEXED), Stdout(b"out"))
        assert ended.wait(BOUND)
        peer.reset()

    attachment = opened(act, WITH_STDIN, pair=pair)
    attachment.send_stdin(b"never read")
    attachment.close_stdin()
    assert attachment.receive() == Stdout(b"out")
    ended.set()
    with pytest.raises(ConnectionResetError):
        attachment.communicate()


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
    with pytest.raises(TimeoutError):
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


def test_communicate_after_its_end_gives_the_same(opened: Opener) -> None:
    def act(peer: Peer) -> None:
        peer.accept()
        peer.send(Stdout(peer.stdin_to_end()), OutputClosed())
        peer.until_closed()

    attachment = opened(act, WITH_STDIN)
    for _ in range(3):
        assert attachment.communicate(b"x") == (b"x", b"")
    assert attachment.communicate() == (b"x", b"")


def test_communicate_with_input_after_the_end_of_output(opened: Opener) -> None:
    attachment = opened(accepts(Stdout(b"x")), WITH_STDIN)
    assert list(attachment) == [Stdout(b"x")]
    with pytest.raises(BrokenPipeError):
        attachment.communicate(b"too late")


def test_communicate_gives_what_receive_has_not(opened: Opener) -> None:
    attachment = opened(accepts(Stdout(b"first"), Stderr(b"second")))
    assert attachment.receive() == Stdout(b"first")
    assert attachment.communicate() == (b"", b"second")


def test_communicate_with_a_terminal(opened: Opener) -> None:
    attachment = opened(accepts(RawOutput(b"$ exit\r\n"), framing=Framing.RAW), tty=True)
    assert attachment.communicate() == (b"$ exit\r\n", b"")


@pytest.mark.parametrize("input", [None, b"x"])
def test_max_output(opened: Opener, input: bytes | None) -> None:
    attachment = opened(then(accept, say(Stdout(b"12345"), Stderr(b"678")), until_closed), WITH_STDIN)
    with pytest.raises(OutputTooLarge, match="more than 7 bytes") as caught:
        attachment.communicate(input, max_output=7)
    assert (caught.value.stdout, caught.value.stderr) == (b"12345", b"678")


def test_max_output_that_is_just_reached(opened: Opener) -> None:
    attachment = opened(accepts(Stdout(b"12345"), Stderr(b"678")))
    assert attachment.communicate(max_output=8) == (b"12345", b"678")


def test_max_output_counts_what_a_former_call_read(opened: Opener) -> None:
    attachment = opened(accepts(Stdout(b"12345"), Stderr(b"678"), Stdout(b"9")))
    with pytest.raises(OutputTooLarge):
        attachment.communicate(max_output=4)
    with pytest.raises(OutputTooLarge) as caught:
        attachment.communicate(max_output=7)
    assert (caught.value.stdout, caught.value.stderr) == (b"12345", b"678")
    assert attachment.communicate() == (b"123459", b"678")


def test_max_output_bounds_what_the_engine_reports_too(opened: Opener) -> None:
    attachment = opened(accepts(*(Systemerr(b"e" * 1000), Stdout(b"o")) * 100))
    with pytest.raises(OutputTooLarge):
        attachment.communicate(max_output=10_000)


def test_an_error_of_the_engines_comes_at_the_end_with_both_outputs(opened: Opener) -> None:
    output = (Stdout(b"out"), Systemerr(b"disk "), Stderr(b"err"), Systemerr(b"is full\n"), Stdout(b"more"))
    attachment = opened(accepts(*output))
    with pytest.raises(EngineReportedError, match=r"the engine reports: disk is full$") as caught:
        attachment.communicate()
    assert caught.value.message == "disk is full"
    assert (caught.value.stdout, caught.value.stderr) == (b"outmore", b"err")


def test_an_error_of_the_engines_is_an_event_like_the_others(opened: Opener) -> None:
    output = (Stdout(b"out"), Systemerr(b"disk is full\n"), Stdout(b"more"))
    assert list(opened(accepts(*output))) == list(output)


# ---- where a half-close does not do what it should ----


@pytest.mark.parametrize("facts", [{"stdin_once": False}, {"tty": True}])
@pytest.mark.parametrize("input", [b"", b"x"])
def test_communicate_refuses_before_it_sends(engine: Engine, facts: dict[str, Any], input: bytes) -> None:
    received: list[bytes] = []

    def act(peer: Peer) -> None:
        peer.accept(Framing.RAW if "tty" in facts else Framing.MULTIPLEXED)
        received.append(peer.until_closed())

    engine.on("inspect", answers(container(**facts)))
    engine.on("attach", act)
    with attach("web", WITH_STDIN, host=engine.host, timeout=BOUND) as attachment:
        with pytest.raises(HalfCloseEndsAttach):
            attachment.communicate(input)
        # It was no call at all: other input is not the wrong one.
        with pytest.raises(HalfCloseEndsAttach):
            attachment.communicate(b"y")
    engine.close()
    assert received == [b""]


@pytest.mark.parametrize("facts", [{"stdin_once": False}, {"tty": True}])
def test_close_stdin_warns_and_does_it(engine: Engine, facts: dict[str, Any]) -> None:
    framing = Framing.RAW if "tty" in facts else Framing.MULTIPLEXED

    def act(peer: Peer) -> None:
        peer.accept(framing)
        assert peer.stdin_to_end() == b""
        peer.send(OutputClosed())
        peer.until_closed()

    engine.on("inspect", answers(container(**facts)))
    engine.on("attach", act)
    with attach("web", WITH_STDIN, host=engine.host, timeout=BOUND) as attachment:
        with pytest.warns(AttachWarning, match="end of the attach") as warned:
            attachment.close_stdin()
        assert warned[0].filename == __file__, "it points into the adapter, not at the caller"
        assert attachment.receive() == OutputClosed()


@pytest.mark.parametrize(
    ("facts", "podman"), [({}, False), ({"stdin_once": False}, True), ({"open_stdin": False}, False)]
)
def test_half_close_where_it_works_warns_of_nothing(engine: Engine, facts: dict[str, Any], podman: bool) -> None:
    def act(peer: Peer) -> None:
        peer.accept()
        peer.send(Stdout(peer.stdin_to_end()), OutputClosed())
        peer.until_closed()

    engine.on("inspect", answers(container(**facts), podman=podman))
    engine.on("attach", act)
    for half_close in (Attachment.communicate, send_and_close):
        with attach("web", WITH_STDIN, host=engine.host, timeout=BOUND) as attachment:
            assert half_close(attachment, b"x") == (b"x", b"")


def send_and_close(attachment: Attachment, input: bytes) -> tuple[bytes, bytes]:
    attachment.send_stdin(input)
    attachment.close_stdin()
    return attachment.communicate()


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


@PAIRS
@pytest.mark.parametrize("timeout", [None, BOUND])
@pytest.mark.parametrize("call", ["send_stdin", "communicate"])
def test_close_wakes_a_blocked_sender(opened: Opener, pair: Pair, timeout: float | None, call: str) -> None:
    for _ in range(RACES):
        begun = threading.Event()
        woken = threading.Event()

        def act(peer: Peer, begun: threading.Event = begun, woken: threading.Event = woken) -> None:
            peer.accept()
            peer.read_stdin(1)
            begun.set()
            assert woken.wait(BOUND)  # and nothing is read meanwhile

        attachment = opened(act, WITH_STDIN, timeout=timeout, pair=pair)
        task = Task(lambda attachment=attachment: getattr(attachment, call)(bytes(32 * MEGABYTE)))  # type: ignore[misc]
        assert begun.wait(BOUND)
        attachment.close()
        with pytest.raises(AttachmentClosed):
            task.result()
        woken.set()


@pytest.mark.parametrize("call", ["send_stdin", "communicate"])
def test_close_at_any_moment_of_a_call(opened: Opener, call: str) -> None:
    for _ in range(5 * RACES):
        attachment = opened(stays(), WITH_STDIN)
        task = Begun(lambda attachment=attachment: getattr(attachment, call)(bytes(32 * MEGABYTE)))  # type: ignore[misc]
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


def test_close_between_a_poll_and_a_send(opened: Opener) -> None:
    """Another thread closes at the one moment where the sender has looked, and has not sent yet."""

    class Closing(socket.socket):
        attachment: Attachment

        def send(self, data: Any, flags: int = 0) -> int:
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


def test_closed_is_closed(opened: Opener) -> None:
    attachment = opened(stays(), WITH_STDIN)
    attachment.close()
    attachment.close()
    attachment.settimeout(1)
    for misuse in (
        attachment.receive,
        lambda: list(attachment),
        lambda: attachment.send_stdin(b"x"),
        attachment.close_stdin,
        attachment.communicate,
        lambda: attachment.communicate(b""),
        lambda: attachment.communicate(b"x"),
    ):
        with pytest.raises(AttachmentClosed):
            misuse()


def test_close_is_no_half_close_and_the_peer_sees_it(opened: Opener) -> None:
    attachment = opened(stays(), WITH_STDIN)
    attachment.close()
    opened.served()


@pytest.mark.parametrize("error", [None, KeyError, KeyboardInterrupt])
def test_leaving_the_block_closes(opened: Opener, error: type[BaseException] | None) -> None:
    attachment = opened(stays())

    def use() -> None:
        with attachment as same:
            assert same is attachment
            if error is not None:
                raise error

    if error is None:
        use()
    else:
        with pytest.raises(error):
            use()
    opened.served()
    assert opened.sock.fileno() == -1


def test_what_was_read_before_the_close_is_still_delivered(opened: Opener) -> None:
    attachment = opened(stays(Stdout(b"a"), Stderr(b"b")))
    assert attachment.receive() == Stdout(b"a")
    attachment.close()
    assert attachment.receive() == Stderr(b"b")
    with pytest.raises(AttachmentClosed):
        attachment.receive()


# ---- open_attachment ----


@PAIRS
def test_open_attachment_rejected(pair: Pair) -> None:
    ours, theirs = pair()
    ours.settimeout(BOUND)

    def serve() -> None:
        with theirs:
            peer = Peer(theirs)
            peer.read_request()
            rejects(409, "container web is paused")(peer)
            peer.sock.shutdown(socket.SHUT_WR)
            peer.until_closed()

    serving = Task(serve)
    with pytest.raises(RequestRejected) as caught:
        open_attachment(ours, Attach("web", tty=False))
    assert (caught.value.status_code, caught.value.message) == (409, "container web is paused")
    assert str(caught.value) == "container web is paused (409 to POST /containers/web/attach)"
    assert ours.fileno() == -1
    serving.result()


@pytest.mark.parametrize(
    ("act", "error", "match"),
    [
        (write(b"SSH-2.0-OpenSSH_9.2\r\n"), RemoteProtocolError, "no HTTP answer.*SSH"),
        (write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html>"), RemoteProtocolError, "200 text/html"),
        (write(b"HTTP/1.1 301 Moved Permanently\r\nLocation: /x\r\n\r\n"), RemoteProtocolError, "redirect"),
        (then(write(b"HTTP/1.1 101 UPGR"), close), RemoteProtocolError, "ended inside"),
        (close, RemoteProtocolError, "before any answer"),
        (say(Accepted(Framing.RAW, 101)), LocalProtocolError, "tty="),
        (until_closed, TimeoutError, "timed out"),
    ],
)
def test_what_opens_no_stream(act: Act, error: type[Exception], match: str) -> None:
    ours, theirs = socket.socketpair()
    ours.settimeout(SHORT if error is TimeoutError else BOUND)

    def serve() -> None:
        with theirs:
            peer = Peer(theirs)
            peer.read_request()
            act(peer)
            if theirs.fileno() != -1:
                peer.until_closed()

    serving = Task(serve)
    with pytest.raises(error, match=match):
        open_attachment(ours, Attach("web"))
    assert ours.fileno() == -1
    serving.result()


def test_open_attachment_on_a_socket_that_is_reset() -> None:
    ours, theirs = socket.socketpair()
    theirs.close()
    with pytest.raises(BrokenPipeError):
        open_attachment(ours, Attach("web", tty=False))
    assert ours.fileno() == -1


def test_framing_may_be_told_by_the_answer_alone(opened: Opener) -> None:
    assert opened(accepts(Stdout(b"x")), tty=None).communicate() == (b"x", b"")


def test_wait_needs_an_engine_to_ask(opened: Opener) -> None:
    attachment = opened(accepts())
    with pytest.raises(AttachError, match="made by attach"):
        attachment.wait()


# ---- attach ----


def test_attach_and_communicate(engine: Engine) -> None:
    def act(peer: Peer) -> None:
        peer.accept()
        peer.send(Stdout(peer.stdin_to_end()), Stderr(b"e"), OutputClosed())
        peer.until_closed()

    engine.on("attach", act)
    with attach("web", WITH_STDIN, host=engine.host, timeout=BOUND) as attachment:
        assert attachment.communicate(b"input") == (b"input", b"e")
    assert engine.calls == ["inspect", "attach", "inspect"]


def test_attach_over_tcp(tcp_engine: Engine) -> None:
    tcp_engine.on("attach", accepts(Stdout(b"over TCP")))
    with attach("web", host=tcp_engine.host, timeout=BOUND) as attachment:
        # A firewall forgets a silent connection, and small writes must not wait for each other.
        assert attachment._link.sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert attachment._link.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert attachment.communicate() == (b"over TCP", b"")
    hosts = {dict(request.headers)["host"] for request in tcp_engine.requests}
    assert hosts == {tcp_engine.host.removeprefix("tcp://")}


def test_attach_takes_the_engine_of_the_environment(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", engine.host)
    monkeypatch.setenv("DOCKER_API_VERSION", "v1.41")
    with attach("web", timeout=BOUND) as attachment:
        attachment.communicate()
    assert [request.api_version for request in engine.requests] == ["1.41"] * 3
    with attach("web", api_version="1.40", timeout=BOUND) as attachment:
        attachment.communicate()
    assert [request.api_version for request in engine.requests[3:]] == ["1.40"] * 3


def test_attach_reads_a_terminal_as_inspect_says(engine: Engine) -> None:
    engine.on("inspect", answers(container(tty=True)))
    engine.on("attach", accepts(RawOutput(b"$ "), framing=Framing.RAW))
    with attach("web", host=engine.host, timeout=BOUND) as attachment:
        assert attachment.communicate() == (b"$ ", b"")


def test_start_comes_last_and_no_first_output_is_lost(engine: Engine) -> None:
    started = threading.Event()
    exited = threading.Event()

    def attached(peer: Peer) -> None:
        peer.accept()
        assert started.wait(BOUND)
        peer.send(Stdout(b"the first line\n"), OutputClosed())
        peer.until_closed()
        exited.set()

    def start(peer: Peer) -> None:
        started.set()
        answers(None, 204)(peer)

    engine.on("inspect", answers(container(status="created")))
    engine.on("attach", attached)
    engine.on("start", start)
    engine.on("wait", waits(3, exited))
    with attach("web", host=engine.host, start=True, timeout=BOUND) as attachment:
        assert engine.calls == ["inspect", "attach", "wait next-exit", "start"]
        assert attachment.communicate() == (b"the first line\n", b"")
        assert attachment.wait() == 3
        assert attachment.wait() == 3
    assert engine.calls == ["inspect", "attach", "wait next-exit", "start"]


def test_a_wait_that_was_asked_for_is_held(engine: Engine) -> None:
    engine.on("wait", waits(4))
    with attach("web", host=engine.host, wait=True, timeout=BOUND) as attachment:
        assert engine.calls == ["inspect", "wait not-running", "attach", "inspect"]
        assert attachment.wait() == 4
        assert attachment.wait() == 4
    assert len(engine.calls) == 4


def test_wait_is_asked_at_the_call_otherwise(engine: Engine) -> None:
    engine.on("wait", waits(5))
    with attach("web", host=engine.host, timeout=BOUND) as attachment:
        assert "wait not-running" not in engine.calls
        assert attachment.wait() == 5
        assert attachment.wait() == 5
    assert engine.calls == ["inspect", "attach", "inspect", "wait not-running"]
    assert attachment.wait() == 5, "a code that is known is known after the close"


def test_wait_knows_what_inspect_said_before_the_attach(engine: Engine) -> None:
    """Podman resets an exited container to `created` when it is attached to, and forgets the code."""
    engine.on("inspect", answers(container(status="exited", exit_code=6)), answers(container(status="created")))
    engine.on("attach", accepts(Stdout(b"logged")))
    with attach("web", AttachOptions(logs=True), host=engine.host, timeout=BOUND, wait=True) as attachment:
        assert attachment.communicate() == (b"logged", b"")
        assert attachment.wait() == 6
    assert engine.calls == ["inspect", "attach"]
    assert engine.attach_requests()[0].options == AttachOptions(logs=True, stream=False)


@pytest.mark.parametrize("held", [False, True])
def test_wait_timeout_and_again(engine: Engine, held: bool) -> None:
    exited = threading.Event()
    engine.on("wait", waits(7, exited))
    with attach("web", host=engine.host, wait=held, timeout=BOUND) as attachment:
        attachment.communicate()
        attachment.settimeout(SHORT)
        for _ in range(2):
            with pytest.raises(TimeoutError):
                attachment.wait()
        attachment.settimeout(BOUND)
        exited.set()
        assert attachment.wait() == 7


def test_wait_that_is_refused(engine: Engine) -> None:
    engine.on("wait", refuses(404, "No such container: web"))
    with attach("web", host=engine.host, timeout=BOUND) as attachment:
        for _ in range(2):
            with pytest.raises(RequestRejected, match="No such container"):
                attachment.wait()


def test_a_wait_whose_connection_broke_asks_anew(engine: Engine) -> None:
    engine.on("wait", lambda peer: None, waits(3))
    with attach("web", host=engine.host, timeout=BOUND) as attachment:
        with pytest.raises(RemoteProtocolError, match="ended before any answer"):
            attachment.wait()
        assert attachment.wait() == 3


@pytest.mark.parametrize("timeout", [0, -1])
def test_a_timeout_that_would_not_wait_is_refused(engine: Engine, timeout: float) -> None:
    with pytest.raises(ValueError, match="above 0 seconds"):
        attach("web", host=engine.host, timeout=timeout)
    with attach("web", host=engine.host, timeout=BOUND) as attached, pytest.raises(ValueError, match="above 0 seconds"):
        attached.settimeout(timeout)


def test_a_timeout_of_months(opened: Opener) -> None:
    def act(peer: Peer) -> None:
        peer.accept()
        peer.send(Stdout(peer.stdin_to_end()), OutputClosed())
        peer.until_closed()

    attachment = opened(act, WITH_STDIN)
    attachment.settimeout(1e7)
    assert attachment.communicate(bytes(MEGABYTE)) == (bytes(MEGABYTE), b"")


@pytest.mark.parametrize("held", [False, True])
def test_wait_that_the_engine_cannot_answer(engine: Engine, held: bool) -> None:
    engine.on("wait", answers({"StatusCode": 0, "Error": {"Message": "it is gone"}}))
    with attach("web", host=engine.host, wait=held, timeout=BOUND) as attachment:
        for _ in range(2):
            with pytest.raises(AttachError, match="it is gone"):
                attachment.wait()


def test_exited_between_the_two_looks(engine: Engine) -> None:
    """The first stream would never end; it is closed, and what was logged is read."""
    engine.on("inspect", answers(container()), answers(container(status="exited", exit_code=9)))
    engine.on("attach", stays(), accepts(Stdout(b"logged")))
    with attach("web", AttachOptions(logs=True), host=engine.host, timeout=BOUND) as attachment:
        assert attachment.communicate() == (b"logged", b"")
        assert attachment.wait() == 9
    assert engine.calls == ["inspect", "attach", "inspect", "attach"]
    assert [request.options.stream for request in engine.attach_requests()] == [True, False]


# ---- an attach that fails leaves nothing ----


def held_until_closed(peer: Peer) -> None:
    """A wait that is never answered, as dockerd's is when the start has failed."""
    peer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
    peer.until_closed()


@pytest.mark.parametrize(
    ("script", "kwargs", "error", "match"),
    [
        ({"inspect": refuses(404, "No such container: web")}, {}, RequestRejected, "No such container: web .404"),
        ({"inspect": answers([])}, {}, RemoteProtocolError, "inspect's answer"),
        ({"inspect": answers(container(status="exited"))}, {}, ContainerNotRunning, "not running"),
        ({"attach": rejects(409, "it is paused")}, {}, RequestRejected, "it is paused .409"),
        ({"attach": rejects(409, "it is paused")}, {"wait": True}, RequestRejected, "it is paused .409"),
        ({"attach": write(b"HTTP/1.1 500")}, {"wait": True}, RemoteProtocolError, "ended inside"),
        ({"wait": refuses(500, "no")}, {"wait": True}, RequestRejected, "no .500"),
        ({"wait": refuses(500, "no"), "attach": stays()}, {"start": True}, RequestRejected, "no .500"),
        ({"start": refuses(500, "no runtime")}, {"start": True}, RequestRejected, "no runtime .500"),
        ({"start": close}, {"start": True}, RemoteProtocolError, "before any answer"),
        ({"start": until_closed}, {"start": True, "timeout": SHORT}, TimeoutError, "timed out"),
    ],
)
def test_everything_is_closed_when_it_fails(
    engine: Engine, script: dict[str, Act], kwargs: dict[str, Any], error: type[Exception], match: str
) -> None:
    for call, act in {"attach": stays(), "wait": held_until_closed, **script}.items():
        engine.on(call, act)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(error, match=match) as caught:
        attach("web", host=engine.host, **{"timeout": BOUND, **kwargs})
    del caught
    engine.close()  # every act has ended, so each connection was closed, and not by the garbage collector's grace
    assert len(os.listdir("/proc/self/fd")) < len(before)


def test_the_first_stream_is_closed_when_the_second_look_fails(engine: Engine) -> None:
    engine.on("inspect", answers(container()), refuses(500, "the engine is ill"))
    engine.on("attach", stays())
    with pytest.raises(RequestRejected):
        attach("web", host=engine.host, timeout=BOUND)
    engine.close()


def test_a_container_that_is_removed_at_its_end_gives_its_output(engine: Engine) -> None:
    """AutoRemove: when we look again it is gone, and its output is in the stream that we have."""
    engine.on("inspect", answers(container()), refuses(404, "No such container: web"))
    engine.on("attach", accepts(Stdout(b"all of it")))
    with attach("web", host=engine.host, timeout=BOUND) as attachment:
        assert attachment.communicate() == (b"all of it", b"")


def test_podman_has_reset_a_container_that_ended_before_we_came(engine: Engine) -> None:
    """Our attach has made it a created one, which nobody will start (live.md, 10)."""
    engine.on("inspect", answers(container()), answers(container(status="created")))
    engine.on("attach", stays())
    with pytest.raises(ContainerNotRunning):
        attach("web", host=engine.host, timeout=BOUND)


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


def test_input_of_the_wrong_type_changes_nothing(opened: Opener) -> None:
    def echo(peer: Peer) -> None:
        peer.accept()
        peer.send(Stdout(peer.stdin_to_end()), OutputClosed())
        peer.until_closed()

    attachment = opened(echo, WITH_STDIN)
    with pytest.raises(TypeError):
        attachment.communicate("text")  # type: ignore[arg-type]
    assert attachment.communicate(b"abc") == (b"abc", b"")


def test_resize_and_detach(engine: Engine) -> None:
    engine.on("attach", stays())
    engine.on("resize", answers(None))
    attachment = attach("web", host=engine.host, timeout=BOUND)
    attachment.resize(40, 100)
    asked = engine.requests[-1]
    assert isinstance(asked, Request)
    assert asked.target == "/containers/web/resize?h=40&w=100"
    attachment.detach()
    with pytest.raises(AttachmentClosed):
        attachment.receive()


def test_a_socket_that_does_not_block_is_left_alone() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        with pytest.raises(ValueError, match="does not block"):
            open_attachment(ours, Attach("web", tty=False))
        assert ours.fileno() != -1


def test_a_request_that_cannot_be_sent_leaves_nothing(socket_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def sendall(sock: socket.socket, data: bytes) -> None:
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    monkeypatch.setattr(socket.socket, "sendall", sendall)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(socket_path))
        listener.listen()
        with pytest.raises(BrokenPipeError) as caught:
            attach("web", host=f"unix://{socket_path}", timeout=BOUND)
        server, _ = listener.accept()
        with server:
            server.settimeout(SHORT)
            # While the traceback still holds whatever was left open.
            assert caught.tb is not None
            assert server.recv(1) == b""


@pytest.mark.parametrize("call", ["inspect", "wait", "attach", "start"])
def test_ctrl_c_inside_attach_closes_everything(engine: Engine, call: str) -> None:
    def interrupt(peer: Peer) -> None:
        # A signal, as Ctrl-C sends it, because it must end a blocking read.
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        peer.until_closed()

    for each in ("attach", "wait"):
        engine.on(each, stays() if each == "attach" else held_until_closed)
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


# ---- no engine ----


def test_no_engine_names_the_address_and_where_it_came_from(socket_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EngineUnreachable) as caught:
        attach("web", host=f"unix://{socket_path}")
    assert str(caught.value) == f"no engine answers at unix://{socket_path} (as given): No such file or directory"
    assert isinstance(caught.value, ConnectionError)
    monkeypatch.setenv("DOCKER_HOST", f"unix://{socket_path}")
    with pytest.raises(EngineUnreachable, match=r"\(from DOCKER_HOST\): No such file"):
        attach("web")


def test_no_engine_listens(socket_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(socket_path))
        with pytest.raises(EngineUnreachable, match="Connection refused"):
            attach("web", host=f"unix://{socket_path}")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(EngineUnreachable, match=rf"tcp://127.0.0.1:{port} \(as given\): Connection refused"):
        attach("web", host=f"tcp://127.0.0.1:{port}", timeout=BOUND)


def test_a_path_too_long_for_a_socket() -> None:
    with pytest.raises(EngineUnreachable, match="too long"):
        attach("web", host=f"unix:///{'x' * 200}")


def test_what_is_wrong_before_any_connection_is_made(engine: Engine) -> None:
    with pytest.raises(ValueError, match=r"'\.\./web'"):
        attach("../web", host=engine.host, timeout=BOUND)
    with pytest.raises(HostInvalid):
        attach("web", host="nonsense")
    assert engine.calls == []


def test_engine_that_goes_away_before_the_second_look(engine: Engine) -> None:
    """Everything of the first connections is closed when a later one cannot be made."""

    def act(peer: Peer) -> None:
        os.unlink(engine.host.removeprefix("unix://"))
        stays()(peer)

    engine.on("attach", act)
    with pytest.raises(EngineUnreachable):
        attach("web", host=engine.host, timeout=BOUND)
    engine.close()


def test_the_request_is_what_was_asked_for(engine: Engine) -> None:
    options = AttachOptions(stdin=True, logs=True, stderr=False, detach_keys="ctrl-x,x")
    with attach("web", options, host=engine.host, timeout=BOUND) as attachment:
        attachment.communicate()
    assert engine.attach_requests() == [Attach("web", options)]
    assert isinstance(engine.requests[0], Request)
    assert [(r.method, r.target) for r in engine.requests if isinstance(r, Request)] == [
        ("GET", "/containers/web/json"),
        ("GET", "/containers/web/json"),
    ]
