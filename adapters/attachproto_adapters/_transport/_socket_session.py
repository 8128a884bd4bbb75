"""A session over a socket, in every framework: what is read and sent without waiting."""

from __future__ import annotations

import abc
import contextlib
import socket
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, NoReturn

from attachproto import SEND_EOF, Event, ProtocolError, Quirk
from attachproto_adapters._flows._life import InputState
from attachproto_adapters._flows._stdin import Feed
from attachproto_adapters._transport._idle import IdleConnection, IdleSlot
from attachproto_adapters._transport._schemes import Host
from attachproto_adapters._transport._session import Session
from attachproto_adapters._transport._sockets import READ_SIZE, blocked_errors, half_close, is_tls_socket

if TYPE_CHECKING:
    from attachproto_adapters._transport._ssh import SshChild
    from attachproto_adapters._transport._tls import TlsLayer


class SocketSession(Session):
    """A session over a non-blocking socket: each call reads or sends what it can at once.

    The framework waits between the calls. So after an exception while waiting, nothing was read and nothing sent.

    Attributes:
        sock: the socket.
        last_size: how many bytes the last read has taken.
    """

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
        sock.setblocking(False)
        self.sock = sock
        self.last_size = 0
        self._blocked = blocked_errors(sock)

    @property
    def family(self) -> int:
        return self.sock.family

    @property
    def can_half_close(self) -> bool:
        # SSLSocket.shutdown(SHUT_WR) drops the TLS layer: what comes after it is ciphertext.
        return not is_tls_socket(self.sock)

    @abc.abstractmethod
    def may_read_on(self) -> bool:
        """Whether ``take_or_read`` may call ``recv``. A framework may wait for data here, outside of the step."""

    @abc.abstractmethod
    def reading_failed(self, exc: Exception) -> NoReturn:
        """Finish a step of reading in which the transport has raised this, and raise what the caller gets."""
        raise NotImplementedError

    def take_or_read(self) -> list[Event]:
        """The next events, the next one last, of what was read or has arrived; none if the session has to ``read``.

        It is one step of reading for both. The end and a broken connection are left to ``read``, which finds them
        again.
        """
        self.reading.begin()
        try:
            while not (events := self.connection.next_events()):
                if not self.may_read_on():
                    break
                try:
                    with self.lock:  # another thread may close the socket
                        data = self.sock.recv(READ_SIZE)
                except self._blocked:
                    break
                except OSError as exc:
                    self.reading_failed(exc)
                if not data:
                    break
                self.last_size = len(data)
                self._take_in(data)
        except ProtocolError:  # the state machine raises it again
            self.reading.finish()
            raise
        if not events:
            self.reading.finish()
        return events

    def receive_now(self) -> bytes | None:
        """What has come; ``None`` if nothing has, ``b""`` at the end. It starts a step of reading.

        Raises:
            OSError: the connection is broken.
        """
        self.reading.begin()
        # One thread may send while another receives. The kernel reports a reset to one call only: it is recorded under
        # this lock, before the other thread's call can find a mere end of file.
        with self.lock:
            try:
                data = self.sock.recv(READ_SIZE)
            except self._blocked:
                data = None
            if data == b"" and not self.closed:
                self.check_sending()
                self._check_end()
        if data is None:
            self.reading.finish()
        return data

    def send_now(self, data: bytes | memoryview) -> int:
        """Send what the kernel takes at once, which may be nothing."""
        with self.lock:
            try:
                sent = self.sock.send(data)
            except self._blocked:
                sent = 0
            except OSError as exc:
                self._note_reset(exc)
                raise
        return sent

    def feed_now(self, feed: Feed) -> bool:
        """Send what the kernel takes at once of this input; whether it took some."""
        self.sending.begin()
        sent = 1
        try:
            data = feed.next()
            if data is SEND_EOF:
                half_close(self.sock)
                feed.sent(0)
            elif data is not None:
                sent = self.send_now(data)
                feed.sent(sent)
        except OSError as exc:  # the next read shows what it means for the output
            self.send_failed(exc)
            feed.move(InputState.REFUSED)
        self.sending.finish()
        return sent > 0

    def keep_for_next_call(self, slot: IdleSlot) -> bool:
        """Put the connection into the slot if the next call may use it. Then closing this session does nothing."""
        tls = self._tls
        if self.closed or self.forked or self.broken is not None or not self.connection.reusable:
            return False
        if tls is not None and not tls.idle:
            return False
        return slot.put(self, IdleConnection(self.sock, tls, self._child, time.monotonic()))

    def shut_down(self) -> None:
        """Close the connection for every process that has this socket, such as a forked child."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
