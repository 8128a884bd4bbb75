"""The session of the blocking adapter.

It has more than 250 lines and 15 methods, because waiting, sending and receiving share one timeout, one deadline and
one way to be closed.
"""

from __future__ import annotations

import contextlib
import copy
import socket
import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, NoReturn

from attachproto import NEED_DATA, SEND_EOF, Event, LocalProtocolError, Quirk, Request, StreamRequest
from attachproto_adapters._errors import AttachmentClosed
from attachproto_adapters._flows._api_calls import named
from attachproto_adapters._transport._health import BROKEN
from attachproto_adapters._transport._idle import IdleSlot
from attachproto_adapters._transport._schemes import Host
from attachproto_adapters._transport._socket_session import SocketSession
from attachproto_adapters._transport._sockets import half_close, is_tls_socket, wait_until_ready

if TYPE_CHECKING:
    from attachproto_adapters._transport._ssh import SshChild
    from attachproto_adapters._transport._tls import TlsLayer


# A read of less, in bytes, has mostly emptied the socket.
_LITTLE: Final = 4096


def is_own_timeout(exc: BaseException) -> bool:
    """Whether our own timeout has passed. Ours has no errno, while that of the kernel has one, such as ETIMEDOUT."""
    return isinstance(exc, TimeoutError) and exc.errno is None


class BlockingSession(SocketSession):
    """A socket and the state machine that speaks on it.

    Another thread may close it. ``close`` shuts the socket down, which wakes every thread that waits. The last of them
    closes the descriptor. If ``close`` did that, the kernel could give the number to another file before ``poll()``.

    Attributes:
        timeout: how many seconds each wait may take; ``None`` for ever.
        deadline: when all waiting ends, in the time of ``time.monotonic``; ``None`` for never.
    """

    caller_kind = "thread"
    caller = staticmethod(threading.get_ident)

    def __init__(
        self,
        sock: socket.socket,
        host: Host | None = None,
        *,
        quirks: Iterable[Quirk] = (),
        tls: TlsLayer | None = None,
        child: SshChild | None = None,
    ) -> None:
        self.timeout = sock.gettimeout()
        self.deadline: float | None = None
        super().__init__(sock, host, quirks=quirks, tls=tls, child=child)
        # Threads. An empty set would take 216 bytes.
        self._waiting: list[int] = []
        # A TLS socket of the caller's may have data that poll() does not see.
        self._little = 0 if is_tls_socket(sock) else _LITTLE
        self.last_size = self._little

    def _wait(self, timeout: float | None, missing: str, *, read: bool, write: bool = False) -> tuple[bool, bool]:
        """Wait until the socket is readable or writable; returns which of the two. Nothing is read or sent.

        Raises:
            TimeoutError: neither came in time.
            AttachmentClosed: we have closed it.
        """
        if self.deadline is not None:
            self.check_deadline()
            left = max(0.0, self.deadline - time.monotonic())
            timeout = left if timeout is None else min(timeout, left)
        thread = threading.get_ident()
        try:
            with self.lock:
                if thread not in self._waiting:  # a handler may read while its thread waits
                    self._waiting.append(thread)
                number = self.sock.fileno()
                if self.closed:
                    self._check_not_closed()
            ready = wait_until_ready(number, timeout, read=read, write=write)
        finally:
            with self.lock:
                self._close_unless_awaited(thread)
        if self.closed:
            self._check_not_closed()
        if not (ready[0] or ready[1]):
            self.check_deadline()
            raise self.timed_out(missing or self.awaited(), self.timeout or 0.0)
        return ready

    def _close_unless_awaited(self, thread: int) -> None:
        """Note that this thread waits no more; close the descriptor if we have closed and no other one waits."""
        if thread in self._waiting:
            self._waiting.remove(thread)
        if self.closed and not self._waiting:
            self.sock.close()

    def check_deadline(self) -> None:
        """Raise ``TimeoutError`` if the deadline has passed. What always has something to read never waits."""
        if self.deadline is not None and time.monotonic() >= self.deadline:
            raise TimeoutError(f"timed out: the deadline has passed: {self.asked}")

    def wait_to_feed(self) -> tuple[bool, bool]:
        """Wait until something can be read or sent; returns which of the two."""
        return self._wait(self.timeout, "no output came, and no input was taken,", read=True, write=True)

    def _deadline(self) -> Callable[[], float | None]:
        """What is left of a timeout that starts now."""
        if (timeout := self.timeout) is None:
            return lambda: None
        end = time.monotonic() + timeout
        return lambda: max(0.0, end - time.monotonic())

    def ask(self, request: Request | StreamRequest) -> None:
        """Send a request. A failed write is ignored: an engine may refuse, and close, before it has read all of it."""
        self.asked = named(request)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.send(request)

    def send(self, event: Event) -> None:
        self.sending.begin()
        try:
            data = self.outgoing(event)
            if data is SEND_EOF:
                half_close(self.sock)
            else:
                self._send_all(data)
        except LocalProtocolError:  # nothing was sent, and no state has changed
            self.sending.finish()
            raise
        except BaseException as exc:
            self.send_failed(exc)
            self.sending.finish()
            if self.closed:
                raise AttachmentClosed("the attachment was closed while it was sending") from None
            raise
        self.sending.finish()

    def _send_all(self, data: bytes) -> None:
        sent = self.send_now(data) if data else 0
        if sent == len(data):
            return
        view, left = memoryview(data), self._deadline()
        while view := view[sent:]:
            if not sent:
                # A TLS socket of the caller's may have to read before it can send.
                reads = is_tls_socket(self.sock)
                self._wait(left(), "the engine took no more input", read=reads, write=True)
            sent = self.send_now(view)

    def next_event(self) -> Event:
        """The next event. For a connection that only the caller uses: it leaves no step of reading open."""
        while (event := self.take_event()) is NEED_DATA:
            self.read()
        self.reading.finish()
        return event

    def next_event_within(self, seconds: float) -> Event | None:
        """The next event, if it comes within this time; the timeout does not count. A part that has come is kept."""
        until = time.monotonic() + seconds
        while (event := self.take_event()) is NEED_DATA:
            while not self.read_now():
                left = until - time.monotonic()
                if left <= 0:
                    return None
                self.check_deadline()
                with contextlib.suppress(TimeoutError):
                    self._wait(left, "", read=True)
        self.reading.finish()
        return event

    def read(self) -> None:
        """Wait for data, read once, and give it to the state machine.

        Raises:
            TimeoutError: nothing came in time; ask again.
            OSError: the connection is broken, now and from now on.
            AttachmentClosed: we have closed it.
        """
        if self.deadline is not None:
            self.check_deadline()
        self._check_readable()
        left = None
        # After a little data there is mostly no more, and to find that out takes as long as to wait for it.
        while self.last_size < self._little or not self.read_now():
            left = left or self._deadline()
            self._wait(left(), "", read=True)
            self.last_size = self._little

    def may_read_on(self) -> bool:
        if self.closed or self._health.state is BROKEN:
            return False
        if self.deadline is not None and time.monotonic() >= self.deadline:
            return False
        if self.last_size < self._little:
            self.reading.finish()
            self._wait(self.timeout, "", read=True)
            self.last_size = self._little
            self.reading.begin()
        return True

    def read_now(self) -> bool:
        """Read once, without waiting; whether there was something. Raises as ``read`` does."""
        if (data := self._receive()) is None:
            return False
        if not data:  # end of file: if waiting is interrupted, the next read finds it again
            self.reading.finish()
            for pause in self.ending():
                time.sleep(pause)
            self._check_not_broken()
            self.reading.begin()
        self.last_size = len(data)
        self.incoming(data)
        return True

    def _check_readable(self) -> None:
        if self._health.state is BROKEN:
            self._check_not_broken()
        if self.closed:
            raise AttachmentClosed("the attachment is closed: nothing more can be read")

    def _receive(self) -> bytes | None:
        self._check_readable()
        try:
            data = self.receive_now()
        except OSError as exc:
            self.reading_failed(exc)
        # After our own close, recv() also returns b"". It must not count as the peer's end.
        if not data and self.closed:
            self.reading.finish()
            self._check_not_closed()
        return data

    def reading_failed(self, exc: Exception) -> NoReturn:
        if self.closed:
            self.reading.finish()
            self._check_not_closed()
        why = self.failed(exc)
        self.reading.finish()
        if why is not exc:
            raise why from exc
        raise exc

    def _check_not_broken(self) -> None:
        if (why := self.broken) is not None:
            raise copy.copy(why)

    def _check_not_closed(self) -> None:
        if self.closed:
            raise AttachmentClosed("the attachment was closed meanwhile")

    def handshake(self, tls: TlsLayer) -> None:
        """Do the TLS handshake."""
        steps = tls.handshake()
        try:
            self._send_all(next(steps))
            while True:
                left = self._deadline()
                while (data := self._receive()) is None:
                    self._wait(left(), "no answer came", read=True)
                self.reading.finish()
                self._send_all(steps.send(data))
        except StopIteration as last:
            self._send_all(last.value)
        except OSError:
            if tls.alert:  # the handshake failed, not the transport: tell the peer why
                with contextlib.suppress(OSError):
                    self._send_all(tls.alert)
            raise

    def keep_for_next_call(self, slot: IdleSlot) -> bool:
        with self.lock:  # another thread may close it
            return super().keep_for_next_call(slot)

    def settimeout(self, timeout: float | None) -> None:
        self.timeout = timeout

    def close(self) -> None:
        self.closed = True
        if self.forked:  # threads that do not exist in this process may hold its locks
            self.sock.close()
            if self._child is not None:
                self._child.let_go()
            return
        with self.lock:
            if self.released:
                return
            try:
                self.shut_down()
            finally:
                self._close_unless_awaited(threading.get_ident())
        if self._child is not None:
            with contextlib.closing(self._child.end()) as pauses:
                for pause in pauses:
                    time.sleep(pause)
