"""The session and the dialer of the blocking adapter."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import NoReturn

from attachproto import NEED_DATA, SEND_EOF, Accepted, Event, Quirk, Rejected, Request, Response, StreamRequest
from attachproto_adapters._errors import AttachmentClosed
from attachproto_adapters._flows._api_calls import named
from attachproto_adapters._transport._address import Address
from attachproto_adapters._transport._open import open_non_tcp
from attachproto_adapters._transport._schemes import Host, NonTcpHost, TcpHost
from attachproto_adapters._transport._session import Session
from attachproto_adapters._transport._sockets import READ_SIZE, half_close, prepare_tcp
from attachproto_adapters._transport._ssh import SshChild
from attachproto_adapters._transport._tls import TlsLayer

# A thread that was told of a reset while sending is on its way to say so.
_TELLING_SECONDS = 0.005

# A timeout of 0 would make the socket non-blocking.
_AT_ONCE = 0.001

# What poll() takes: 24 days in milliseconds.
_POLL_MAX = 2**31 - 1


def check_timeout(timeout: float | None) -> None:
    """Raise ``ValueError`` for a timeout that would make a socket not block: everything here waits."""
    if timeout is not None and (isinstance(timeout, bool) or not isinstance(timeout, int | float)):
        raise TypeError(f"a timeout is a number of seconds or None, not {timeout!r}")
    if timeout is not None and not timeout > 0:
        raise ValueError(
            f"a timeout is None or above 0 seconds, not {timeout}: a socket that does not block cannot wait"
        )


def _is_ours(exc: BaseException) -> bool:
    """Whether a timeout of the socket has passed; the kernel's own, such as ETIMEDOUT, has a number."""
    return isinstance(exc, TimeoutError) and exc.errno is None


class BlockingSession(Session):
    """A socket and the state machine that speaks on it. It moves bytes and signals, and knows nothing more."""

    def __init__(
        self,
        sock: socket.socket,
        host: Host | None = None,
        *,
        quirks: Iterable[Quirk] = (),
        tls: TlsLayer | None = None,
        child: SshChild | None = None,
    ) -> None:
        super().__init__(host, quirks=quirks, tls=tls, child=child)
        self.sock = sock
        self._closing = threading.Lock()
        self._sending = False

    @property
    def family(self) -> int:
        return self.sock.family

    @property
    def can_half_close(self) -> bool:
        # SSLSocket.shutdown(SHUT_WR) drops the TLS layer: what comes after it is ciphertext.
        return not isinstance(self.sock, ssl.SSLSocket)

    def ask(self, request: Request | StreamRequest) -> None:
        """Send a request. If nobody takes it any more, reading tells why: who refuses may close before it has read."""
        self.asked = named(request.to_request() if isinstance(request, StreamRequest) else request)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.send(request)

    def send(self, event: Event) -> None:
        data = self.outgoing(event)
        self._sending = True
        try:
            if data is SEND_EOF:
                half_close(self.sock)
            else:
                self.sock.sendall(data)
        except BaseException as exc:
            self.send_failed(exc)
            if self.closed:
                raise AttachmentClosed("the attachment was closed while it was sending") from None
            if _is_ours(exc):
                raise self._timed_out("the engine took no more input") from exc
            raise
        finally:
            self._sending = False

    def next_event(self) -> Event:
        while (event := self.connection.next_event()) is NEED_DATA:
            self.read()
        return event

    def next_event_within(self, seconds: float) -> Event | None:
        """The next event, if it comes within this time, whatever the timeout is. What has come in part is kept."""
        until = time.monotonic() + seconds
        own_timeout = self.sock.gettimeout()
        try:
            left = _AT_ONCE
            while (event := self.connection.next_event()) is NEED_DATA and left > 0:
                left = until - time.monotonic()
                self.settimeout(max(left, _AT_ONCE))
                try:
                    self.read()
                except TimeoutError as exc:
                    if exc.errno is not None:  # the connection's, and not ours
                        raise
                    return None
            return None if event is NEED_DATA else event
        finally:
            self.settimeout(own_timeout)

    def read(self) -> None:
        """Read once, and give it to the state machine.

        Raises:
            TimeoutError: nothing came in time; ask again.
            OSError: the connection is broken, now and from now on.
            AttachmentClosed: we have closed it, or a read was interrupted, so that nobody knows what it had taken.
        """
        if self.broken is not None:
            self._raise_broken(self.broken)
        if self.closed:
            raise AttachmentClosed("the attachment is closed: nothing more can be read")
        try:
            # Nothing may come between these two: what was read must reach the state machine.
            data = self.sock.recv(READ_SIZE)
        except BaseException as exc:
            if self.closed:
                raise AttachmentClosed("the attachment was closed while it was being read") from None
            # A timeout of ours has no number.
            ours = isinstance(exc, OSError) and exc.errno in (None, errno.EAGAIN)
            if not ours and (why := self.failed(exc)) is not exc:
                self._raise_broken(why)
            if _is_ours(exc):
                raise self._timed_out(self.awaited()) from exc
            raise
        # Our own close looks like the peer's end, and must not pass for it.
        if self.closed:
            raise AttachmentClosed("the attachment was closed while it was being read")
        if not data:
            if self._sending and self.family != socket.AF_UNIX:
                time.sleep(_TELLING_SECONDS)
            for pause in self.ending():
                time.sleep(pause)
            if self.broken is not None:
                self._raise_broken(self.broken)
        self.incoming(data)

    def _timed_out(self, what: str) -> TimeoutError:
        return self.timed_out(what, self.sock.gettimeout() or 0.0)

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
                raise self._timed_out("no output came, and no input was taken,")
            # An error or a hang-up is told by reading.
            return bool(found[0][1] & ~select.POLLOUT), bool(found[0][1] & select.POLLOUT)

        try:
            yield ready
        finally:
            os.close(descriptor)

    def handshake(self, tls: TlsLayer) -> None:
        """Agree on keys."""
        steps = tls.handshake()
        try:
            self.sock.sendall(next(steps))
            while True:
                self.sock.sendall(steps.send(self.sock.recv(READ_SIZE)))
        except StopIteration as last:
            self.sock.sendall(last.value)
        except ssl.SSLError:
            with contextlib.suppress(OSError):
                self.sock.sendall(tls.alert)
            raise

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
            if self._child is not None:
                with contextlib.closing(self._child.end()) as pauses:
                    for pause in pauses:
                        time.sleep(pause)


class Dialer(Address):
    """Makes connections to one engine."""

    def __init__(self, host: Host, timeout: float | None) -> None:
        super().__init__(host)
        self.timeout = timeout
        self._calls: set[BlockingSession] = set()
        self._closings = 0

    def dial(self, quirks: Iterable[Quirk] = ()) -> BlockingSession:
        """A new connection."""
        host, child = self.host, None
        with self.reached(), self._in_time():
            tls = self.tls()
            if isinstance(host, TcpHost):
                sock = self._open_tcp(host)
            else:
                sock, child = self._open_non_tcp(host)
            session = BlockingSession(sock, host, quirks=quirks, tls=tls, child=child)
            try:
                sock.settimeout(self.timeout)
                if tls is not None:
                    session.handshake(tls)
            except BaseException:
                session.close()
                raise
            return session

    @contextlib.contextmanager
    def _in_time(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError as exc:
            if not _is_ours(exc):
                raise
            raise TimeoutError(f"no connection within {self.timeout:g} s") from exc

    def _open_non_tcp(self, host: NonTcpHost) -> tuple[socket.socket, SshChild | None]:
        waited = 0.0
        with contextlib.closing(open_non_tcp(host)) as steps:
            while True:
                try:
                    pause = next(steps)
                except StopIteration as opened:
                    sock, child = opened.value
                    return sock, child
                if self.timeout is not None and waited >= self.timeout:
                    raise TimeoutError
                time.sleep(pause)
                waited += pause

    def _open_tcp(self, host: TcpHost) -> socket.socket:
        with contextlib.ExitStack() as undo:
            sock = undo.enter_context(socket.create_connection((host.name, host.port), self.timeout))
            prepare_tcp(sock)
            undo.pop_all()
            return sock

    def ask(self, request: Request) -> BlockingSession:
        """Make a plain call on a connection of its own; its answer is still to be read."""
        session = self.dial()
        try:
            session.ask(request)
        except BaseException:
            session.close()
            raise
        return session

    def call(self, request: Request) -> Response:
        """Make a plain call on a connection of its own, and wait for its whole answer."""
        closings = self._closings
        with contextlib.closing(self.ask(request)) as session:
            self._calls.add(session)
            if self._closings != closings:  # it was not found
                session.close()
            try:
                return whole_response(session)
            finally:
                self._calls.discard(session)

    def close(self) -> None:
        """Wake whoever waits for a call's answer."""
        self._closings += 1
        for session in list(self._calls):
            session.close()


def whole_response(session: BlockingSession) -> Response:
    """The whole answer to the call that was made on this connection."""
    while not isinstance(event := session.next_event(), Response):
        pass
    return event


def response_within(session: BlockingSession, seconds: float) -> Response | None:
    """The whole answer to the call that was made on this connection, if it comes within this time."""
    until = time.monotonic() + seconds
    while (event := session.next_event_within(until - time.monotonic())) is not None:
        if isinstance(event, Response):
            return event
    return None


def open_stream(session: BlockingSession, request: StreamRequest) -> Accepted | Rejected:
    """Ask for a stream; what it was answered."""
    session.ask(request)
    event = session.next_event()
    assert isinstance(event, Accepted | Rejected)  # nothing else comes first
    return event
