"""Blocking sockets and the state machine on them: what the blocking adapter moves bytes with."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import NoReturn

from attachproto import (
    CLIENT,
    NEED_DATA,
    SEND_EOF,
    Accepted,
    Connection,
    Event,
    Rejected,
    Request,
    Response,
    StreamRequest,
)
from attachproto_adapters._errors import AttachmentClosed, EngineUnreachable
from attachproto_adapters._hosts import TcpHost, UnixHost
from attachproto_adapters._output import READ_SIZE

# Go's clients ask for the same: a firewall forgets an idle attach sooner than the default of two hours.
_KEEPALIVE_SECONDS = 30


# What poll() takes: 24 days in milliseconds.
_POLL_MAX = 2**31 - 1


def check_timeout(timeout: float | None) -> None:
    """Raise ``ValueError`` for a timeout that would make a socket not block: everything here waits."""
    if timeout is not None and timeout <= 0:
        raise ValueError(
            f"a timeout is None or above 0 seconds, not {timeout}: a socket that does not block cannot wait"
        )


class Link:
    """A socket and the state machine that speaks on it. It moves bytes and signals, and knows nothing more."""

    def __init__(self, sock: socket.socket, host: str = "localhost") -> None:
        self.sock = sock
        self.connection = Connection(CLIENT, host=host)
        self.closed = False
        self._closing = threading.Lock()
        self._broken: BaseException | None = None

    @property
    def can_half_close(self) -> bool:
        # SSLSocket.shutdown(SHUT_WR) drops the TLS layer: what comes after it is ciphertext.
        return not isinstance(self.sock, ssl.SSLSocket)

    def send(self, event: Event) -> None:
        data = self.connection.send(event)
        try:
            if data is SEND_EOF:
                self.sock.shutdown(socket.SHUT_WR)
            else:
                self.sock.sendall(data)
        except BaseException as exc:
            self.connection.send_failed()
            if self.closed:
                raise AttachmentClosed("the attachment was closed while it was sending") from None
            if isinstance(exc, OSError) and exc.errno == errno.ENOTCONN:
                raise BrokenPipeError(errno.EPIPE, "the engine has closed the connection") from None
            raise

    def next_event(self) -> Event:
        while (event := self.connection.next_event()) is NEED_DATA:
            # Nothing may come between these two: what was read must reach the state machine.
            self.connection.receive_data(self.receive())
        return event

    def receive(self) -> bytes:
        """What the peer sent next; ``b""`` at its end.

        Raises:
            TimeoutError: nothing came in time; ask again.
            OSError: the connection is broken, now and from now on.
            AttachmentClosed: we have closed it, or a read was interrupted, so that nobody knows what it had taken.
        """
        if self._broken is not None:
            self._raise_broken(self._broken)
        try:
            data = self.sock.recv(READ_SIZE)
        except BaseException as exc:
            if self.closed:
                raise AttachmentClosed("the attachment was closed while it was being read") from None
            # A timeout of ours has no number. The kernel's errors do, and it tells of them once: the next read would
            # give an end that is none.
            if not isinstance(exc, OSError) or exc.errno not in (None, errno.EAGAIN):
                self._broken = exc
            raise
        # Our own close looks like the peer's end, and must not pass for it.
        if self.closed:
            raise AttachmentClosed("the attachment was closed while it was being read")
        return data

    def _raise_broken(self, exc: BaseException) -> NoReturn:
        if isinstance(exc, OSError):
            raise type(exc)(*exc.args)
        raise AttachmentClosed(f"a read was interrupted ({type(exc).__name__}); what it had taken is lost")

    def send_now(self, data: memoryview) -> int:
        """Send what the kernel takes at once, which may be nothing."""
        try:
            return self.sock.send(data, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return 0
        except OSError:
            if self.closed:
                raise AttachmentClosed("the attachment was closed while it was sending") from None
            raise

    @contextlib.contextmanager
    def poll(self) -> Iterator[Callable[[], tuple[bool, bool]]]:
        """Wait until the socket is readable or writable, as often as wanted, each time up to its timeout."""
        # A descriptor of its own: another thread may close the socket, and its number may be another file's then.
        with self._closing:
            if self.closed:
                raise AttachmentClosed("the attachment is closed")
            descriptor = os.dup(self.sock.fileno())
        poller = select.poll()
        poller.register(descriptor, select.POLLIN | select.POLLOUT)
        timeout = self.sock.gettimeout()

        def ready() -> tuple[bool, bool]:
            found = poller.poll(None if timeout is None else min(timeout * 1000, _POLL_MAX))
            if not found:
                raise TimeoutError("timed out")
            # An error or a hang-up is told by reading.
            return bool(found[0][1] & ~select.POLLOUT), bool(found[0][1] & select.POLLOUT)

        try:
            yield ready
        finally:
            os.close(descriptor)

    def settimeout(self, timeout: float | None) -> None:
        if not self.closed:
            self.sock.settimeout(timeout)

    def close(self) -> None:
        self.closed = True
        # Closing alone would leave a thread in recv() for ever.
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        with self._closing:
            self.sock.close()


class Dialer:
    """Makes connections to one engine."""

    def __init__(self, host: UnixHost | TcpHost, timeout: float | None) -> None:
        self.host = host
        self.timeout = timeout

    def dial(self) -> Link:
        """A new connection."""
        try:
            return Link(self._connected(self.host), self.host.header)
        except (OSError, UnicodeError) as exc:  # a name that no resolver takes is a UnicodeError
            why = exc.strerror if isinstance(exc, OSError) else None
            raise EngineUnreachable(f"no engine answers at {self.host}: {why or exc}") from exc

    def _connected(self, host: UnixHost | TcpHost) -> socket.socket:
        if isinstance(host, TcpHost):
            sock = socket.create_connection((host.name, host.port), self.timeout)
        else:
            sock = socket.socket(socket.AF_UNIX)
        try:
            if isinstance(host, TcpHost):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                for option in ("TCP_KEEPIDLE", "TCP_KEEPINTVL"):
                    if hasattr(socket, option):  # not every system has both
                        sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), _KEEPALIVE_SECONDS)
            else:
                sock.settimeout(self.timeout)
                sock.connect(host.path)
        except BaseException:
            sock.close()
            raise
        return sock

    def ask(self, request: Request) -> Link:
        """Make a plain call on a connection of its own; its answer is still to be read."""
        link = self.dial()
        try:
            link.send(request)
        except BaseException:
            link.close()
            raise
        return link

    def call(self, request: Request) -> Response:
        """Make a plain call on a connection of its own, and wait for its whole answer."""
        with contextlib.closing(self.ask(request)) as link:
            return whole_response(link)


def whole_response(link: Link) -> Response:
    """The whole answer to the call that was made on this connection."""
    while not isinstance(event := link.next_event(), Response):
        pass
    return event


def open_stream(link: Link, request: StreamRequest) -> Accepted | Rejected:
    """Ask for a stream; what it was answered."""
    link.send(request)
    event = link.next_event()
    assert isinstance(event, Accepted | Rejected)  # nothing else comes first
    return event
