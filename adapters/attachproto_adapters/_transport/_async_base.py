"""The session that asyncio and trio share.

Strategy: ``AsyncSession`` holds what asyncio and trio share, and declares what a framework's module has to provide: how
bytes are received and sent, and what its errors are. These declarations are why it has more than 15 methods.
"""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, ClassVar, NoReturn, TypeVar

from attachproto import NEED_DATA, SEND_EOF, Event, LocalProtocolError, Request, StreamRequest
from attachproto_adapters._errors import AttachmentClosed
from attachproto_adapters._flows._api_calls import named
from attachproto_adapters._flows._life import InputState
from attachproto_adapters._flows._stdin import Feed
from attachproto_adapters._transport._session import Session

if TYPE_CHECKING:
    from attachproto_adapters._transport._tls import TlsLayer

T = TypeVar("T")


class AsyncSession(Session):
    """A transport and the state machine that speaks on it.

    Attributes:
        drops_unread: the framework drops unread bytes when the connection breaks. So a reset is never a clean end.
    """

    caller_kind = "task"
    drops_unread: ClassVar[bool] = False

    failures: ClassVar[tuple[type[Exception], ...]] = (OSError,)
    """What the transport may raise. The caller gets it as one of ``errors``."""

    @abc.abstractmethod
    async def receive_some(self) -> bytes:
        """What came; ``b""`` at the end. It starts a step of reading. If it is cancelled, nothing was read."""

    @abc.abstractmethod
    async def send_all(self, data: bytes) -> None:
        """Send all of it. If it is cancelled, a part may have been sent."""

    @abc.abstractmethod
    async def half_close(self) -> None:
        """End our direction."""

    async def feed_some(self, feed: Feed) -> None:
        """Send some of this input. If it is cancelled, it is not known how much was sent."""
        self.sending.begin()
        try:
            data = feed.next()
            if data is SEND_EOF:
                await self.half_close()
                feed.sent(0)
            elif data is not None:
                await self.send_all(bytes(data))
                feed.sent(len(data))
        except self.failures as exc:  # the next read shows what it means for the output
            self.send_failed(exc)
            feed.move(InputState.REFUSED)
        except BaseException:
            self.connection.send_failed()
            feed.move(InputState.LOST)
            self.sending.finish()
            raise
        self.sending.finish()

    @abc.abstractmethod
    async def close_transport(self) -> None:
        """Close it, and wake every task that waits."""

    @abc.abstractmethod
    def let_go(self) -> None:
        """In a forked child: close the descriptor without shutdown(), because the parent still uses the connection."""

    @staticmethod
    @abc.abstractmethod
    async def sleep(seconds: float) -> None:
        """Sleep."""

    @staticmethod
    @abc.abstractmethod
    async def within(seconds: float, call: Callable[[], Awaitable[T]]) -> T | None:
        """The call's result; ``None`` if it has none within this time. Then it is cancelled."""

    @abc.abstractmethod
    def raise_broken(self, why: BaseException) -> NoReturn:
        """Raise the error that has broken the connection once more."""
        raise NotImplementedError

    async def ask(self, request: Request | StreamRequest) -> None:
        """Send a request. A failed write is ignored: an engine may refuse, and close, before it has read all of it."""
        self.asked = named(request)
        with contextlib.suppress(*self.errors):
            await self.send(request)

    async def send(self, event: Event) -> None:
        self.sending.begin()
        try:
            data = self.outgoing(event)
            if data is SEND_EOF:
                await self.half_close()
            else:
                await self.send_all(data)
        except LocalProtocolError:  # nothing was sent, and no state has changed
            self.sending.finish()
            raise
        except BaseException as exc:
            # Also if this is cancelled: it is not known how much was sent.
            self.send_failed(exc)
            self.sending.finish()
            if isinstance(exc, self.failures):
                self.check_not_closed("sending")
            if isinstance(exc, OSError):
                self.raise_broken(exc)
            raise
        self.sending.finish()

    def send_failed(self, exc: BaseException | None) -> None:
        super().send_failed(exc and _cause(exc))

    async def next_event(self) -> Event:
        """The next event. For a connection that only the caller uses: it leaves no step of reading open."""
        while (event := self.take_event()) is NEED_DATA:
            await self.read()
        self.reading.finish()
        return event

    async def read(self) -> None:
        """Read once, and give the bytes to the state machine. If it is cancelled, nothing was read."""
        await self.read_with(self.receive_some)

    async def read_with(self, receive: Callable[[], Awaitable[bytes | None]]) -> bool:
        """Read once with ``receive``, which returns ``None`` if nothing has come. Returns whether something has."""
        if self.broken is not None:
            self.raise_broken(self.broken)
        if self.closed:
            raise AttachmentClosed("the attachment is closed: nothing more can be read")
        try:
            data = await receive()
        except self.failures as exc:
            self.reading_failed(exc)
        if data is None:
            return False
        if not data:  # end of file: if this is cancelled, the next read finds it again
            self.reading.finish()
            # After our own close, recv() also returns b"". It must not count as the peer's end.
            self.check_not_closed("being read")
            for seconds in self.ending():
                await self.sleep(seconds)
            if self.broken is not None:
                self.raise_broken(self.broken)
            self.reading.begin()
        # Nothing waits between the transport's read and here, so a cancellation cannot lose what was read.
        self.incoming(data)
        return True

    def reading_failed(self, exc: Exception) -> NoReturn:
        """Finish a step of reading in which the transport has raised this, and raise what the caller gets."""
        self.reading.finish()
        self.check_not_closed("being read")
        if (why := self.failed(cause := _cause(exc))) is not cause or isinstance(exc, OSError):
            self.raise_broken(why)
        raise exc

    def check_not_closed(self, what: str) -> None:
        if self.closed:
            raise AttachmentClosed(f"the attachment was closed while it was {what}") from None

    async def handshake(self, tls: TlsLayer) -> None:
        """Do the TLS handshake."""
        steps = tls.handshake()
        try:
            await self.send_all(next(steps))
            while True:
                data = await self.receive_some()
                self.reading.finish()
                await self.send_all(steps.send(data))
        except StopIteration as last:
            await self.send_all(last.value)
        except OSError:
            if tls.alert:  # the handshake failed, not the transport: tell the peer why
                with contextlib.suppress(*self.failures):
                    await self.send_all(tls.alert)
            raise

    async def aclose(self) -> None:
        self.closed = True
        if self.released:
            return
        if self.forked:
            self.let_go()
            if self._child is not None:
                self._child.let_go()
            return
        try:
            await self.close_transport()
        finally:
            if self._child is not None:
                with contextlib.closing(self._child.end()) as pauses:
                    for seconds in pauses:
                        await self.sleep(seconds)


def _cause(exc: BaseException) -> BaseException:
    """The ``OSError`` inside a framework's error."""
    return exc if isinstance(exc, OSError) else exc.__cause__ or exc
