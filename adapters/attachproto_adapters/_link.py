"""What a connection to the engine is in every colour: the state machine, and below it TLS or a program or neither.

Strategy: an adapter's link adds the transport, and does nothing but move bytes between it and these methods.
"""

from __future__ import annotations

import abc
import contextlib
import errno
import os
import socket
import ssl
from collections.abc import Generator, Iterable, Iterator
from typing import ClassVar, Final, Literal, Protocol

from attachproto import CLIENT, SEND_EOF, Connection, Event, Quirk, Signal
from attachproto_adapters._errors import EngineUnreachable, unreachable
from attachproto_adapters._hosts import Host, TcpHost
from attachproto_adapters._ssh import SshChild
from attachproto_adapters._tls import TlsLayer, client_context

READ_SIZE: Final = 64 * 1024
"""How much is read at once: what a Unix socket on Linux holds by default is some 200 KiB, and the decoder joins as
much as this into one event."""

# Go's clients ask for the same: a firewall forgets an idle attach sooner than the default of two hours.
_KEEPALIVE_SECONDS = 30

# An engine takes a connection in some 0.1 ms.
_ROOM_SECONDS = 0.005

Sendable = bytes | Literal[Signal.SEND_EOF]


class LinkBase(abc.ABC):
    """The state machine of one connection, and the layer under it.

    Attributes:
        connection: the state machine.
        closed: by us.
        broken: what the transport has told us of its end. The kernel tells it once; the next read would give an end
            that is none.
    """

    def __init__(
        self,
        host: Host | None = None,
        *,
        quirks: Iterable[Quirk] = (),
        tls: TlsLayer | None = None,
        child: SshChild | None = None,
    ) -> None:
        header = "localhost" if host is None else host.header
        self.connection = Connection(CLIENT, host=header, quirks=quirks)
        self.closed = False
        self.broken: BaseException | None = None
        self._host = host
        self._tls = tls
        self._child = child
        self._silent = True
        self._reset: BaseException | None = None

    @property
    @abc.abstractmethod
    def family(self) -> int | None:
        """The family of its socket, if it is known."""

    @property
    @abc.abstractmethod
    def can_half_close(self) -> bool:
        """Whether the transport can end our direction and go on with the other."""

    def outgoing(self, event: Event) -> Sendable:
        """What goes to the transport for this event: bytes, or the wish for a half-close of the transport's own.

        Raises:
            BrokenPipeError: what was read has ended TLS, in both directions.
        """
        data = self.connection.send(event)
        if self._tls is None:
            return data
        try:
            return self._tls.end() if data is SEND_EOF else self._tls.encrypt(data)
        except ssl.SSLError as exc:
            self.send_failed(None)
            raise BrokenPipeError(errno.EPIPE, f"TLS is broken: {_reason(self._tls.failure or exc)}") from exc

    def incoming(self, data: bytes) -> None:
        """Take what came from the transport; ``b""`` is its end."""
        if self._tls is None:
            if not data:
                self._check_child()
            self._silent = False
            self.connection.receive_data(data)
            return
        if plain := self._tls.decrypt(data):
            self._silent = False
            self.connection.receive_data(plain)
        if self._tls.ended:
            self.connection.receive_data(b"")
        elif (failure := self._tls.failure) is not None:
            # With TLS 1.3 a refused certificate of ours is told of here, and not in the handshake.
            if self._silent:
                raise unreachable(self._host, _reason(failure)) from failure
            self.broken = failure

    def failed(self, exc: BaseException) -> BaseException:
        """Take an error of the transport's while reading; the error that says it best, which may be another."""
        self.broken = exc
        if isinstance(exc, Exception) and self._child is not None:  # and not Ctrl-C
            self._check_child()
            return self._child_failed("has died")
        return exc

    def send_failed(self, exc: BaseException | None) -> None:
        """Take an error of the transport's while sending.

        The kernel tells of a reset once. Over TCP it has taken what was unread, so that the end which reading would
        find is none; a Unix socket still has all that the peer had sent.
        """
        self.connection.send_failed()
        if isinstance(exc, ConnectionResetError) and self.family != socket.AF_UNIX:
            self._reset = exc

    def ending(self) -> Generator[float, None, None]:
        """Whether the end that the transport has come to is one; each value is how long to sleep before going on.

        It sets ``broken`` if it is none.
        """
        if self._reset is not None:
            self.broken = self._reset
        if self._child is not None and not self._silent:
            status = yield from self._child.ended()
            if status != 0:
                self._child_failed("does not end" if status is None else f"has ended with status {status}")

    def _child_failed(self, how: str) -> ConnectionAbortedError:
        # No reset, which may be an end: how much of the output is missing, nobody knows.
        said = self._child.complaint() if self._child is not None else ""
        why = ConnectionAbortedError(errno.ECONNABORTED, f"ssh {how}: {said or 'it has said nothing'}")
        self.broken = why
        return why

    def _check_child(self) -> None:
        if self._silent and self._child is not None:
            raise unreachable(self._host, self._child.complaint() or "ssh ended without a word") from self.broken


class Address:
    """One engine's address, and what every colour needs to connect to it.

    Attributes:
        failures: what is raised where the engine cannot be reached.
    """

    # A name that no resolver takes is a UnicodeError.
    failures: ClassVar[tuple[type[Exception], ...]] = (OSError, UnicodeError)

    def __init__(self, host: Host) -> None:
        self.host = host
        self._context: ssl.SSLContext | None = None
        if isinstance(host, TcpHost) and host.tls is not None:
            self._context = client_context(host.tls)

    def tls(self) -> TlsLayer | None:
        """A layer for a new connection, if there is to be one."""
        if self._context is None:
            return None
        assert isinstance(self.host, TcpHost)
        return TlsLayer(self._context, self.host.name)

    @contextlib.contextmanager
    def reached(self) -> Iterator[None]:
        """Tell of what fails inside by this address."""
        try:
            yield
        except self.failures as exc:
            if isinstance(exc, EngineUnreachable):
                raise
            raise unreachable(self.host, _reason(exc)) from exc


def _reason(exc: Exception) -> str:
    if isinstance(exc.__cause__, ExceptionGroup):  # trio's: what each address of the name said
        return _reason(exc.__cause__.exceptions[-1])
    if isinstance(exc, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {exc.verify_message}"
    if isinstance(exc, ssl.SSLError) and exc.reason:
        why = exc.reason.lower().replace("_", " ")
        if exc.reason == "WRONG_VERSION_NUMBER":
            return f"it does not speak TLS ({why})"
        return f"TLS failed: {why}"
    if isinstance(exc, OSError) and exc.errno and not isinstance(exc, ssl.SSLError | socket.gaierror):
        return os.strerror(exc.errno)  # asyncio has other words for it
    return (exc.strerror if isinstance(exc, OSError) else None) or str(exc)


def connect_unix(sock: socket.socket, path: str) -> Iterator[float]:
    """Connect a Unix socket without blocking; each value is how long to sleep before it is tried again.

    Where too many wait to be taken, the kernel refuses who does not block, and no event tells of room. asyncio and trio
    take that for a connection that is on its way, and find it made.
    """
    sock.setblocking(False)
    while True:
        try:
            return sock.connect(path)
        except BlockingIOError:
            yield _ROOM_SECONDS


def half_close(sock: socket.socket) -> None:
    """End our direction.

    Raises:
        BrokenPipeError: the other end has closed the connection already.
    """
    try:
        sock.shutdown(socket.SHUT_WR)
    except OSError as exc:
        if exc.errno == errno.ENOTCONN:
            raise BrokenPipeError(errno.EPIPE, "the engine has closed the connection") from None
        raise


class HasOptions(Protocol):
    """A socket, of whatever colour."""

    def setsockopt(self, level: int, optname: int, value: int, /) -> None:
        """As ``socket.socket.setsockopt``."""


def prepare_tcp(sock: HasOptions) -> None:
    """Nagle off, keepalive on."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option in ("TCP_KEEPIDLE", "TCP_KEEPINTVL"):
        if hasattr(socket, option):  # not every system has both
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), _KEEPALIVE_SECONDS)
