"""The session over a socket of our own, as asyncio and trio share it."""

from __future__ import annotations

import abc
from time import monotonic
from typing import Final

from attachproto import NEED_DATA, Event
from attachproto_adapters._flows._stdin import Feed
from attachproto_adapters._transport._async_base import AsyncSession
from attachproto_adapters._transport._socket_session import SocketSession
from attachproto_adapters._transport._sockets import half_close

_TURN_SECONDS: Final = 0.0005
"""For how long a task may read and send without waiting, before other tasks run. A pause after each read would take
longer than the read."""


class AsyncSocketSession(AsyncSession, SocketSession):
    """A connected socket of our own. The framework only waits, so it never holds bytes that were read."""

    _turn_ends = 0.0

    @abc.abstractmethod
    async def wait_readable(self) -> None:
        """Wait until the socket is readable, or closed. Nothing is read."""

    @abc.abstractmethod
    async def wait_writable(self) -> None:
        """Wait until the socket is writable, or closed. Nothing is sent."""

    @staticmethod
    @abc.abstractmethod
    async def checkpoint_if_cancelled() -> None:
        """Raise the framework's cancellation, if it does not come by itself where a task waits next."""

    async def _pause(self) -> None:
        """Let other tasks run, if this one has had its turn.

        Without this, a container that prints as fast as we read would keep them from running.
        """
        if monotonic() < self._turn_ends:
            await self.checkpoint_if_cancelled()
        else:
            await self.sleep(0)
            self._begin_turn()

    def _begin_turn(self) -> None:
        self._turn_ends = monotonic() + _TURN_SECONDS

    def may_read_on(self) -> bool:
        return monotonic() < self._turn_ends and not self.closed and self.broken is None

    async def receive_some(self) -> bytes:
        await self._pause()
        while (data := self.receive_now()) is None:
            await self.wait_readable()
            self._begin_turn()
            self.check_not_closed("being read")
        return data

    async def _receive_arrived(self) -> bytes | None:
        return self.receive_now()

    async def arrived_event(self) -> Event | None:
        """The next event of the bytes that have arrived; ``None`` if it is not whole. A part of it is kept."""
        while (event := self.take_event()) is NEED_DATA:
            if not await self.read_with(self._receive_arrived):
                return None
        self.reading.finish()
        return event

    async def send_all(self, data: bytes) -> None:
        await self._pause()
        view = memoryview(data)
        while view:
            sent = self.send_now(view)
            view = view[sent:]
            if not sent:
                await self.wait_writable()
                self._begin_turn()

    async def half_close(self) -> None:
        half_close(self.sock)

    async def feed_some(self, feed: Feed) -> None:
        """Send some of this input. If it is cancelled, nothing was sent."""
        await self._pause()
        if not self.feed_now(feed):
            await self.wait_writable()
            self._begin_turn()

    def let_go(self) -> None:
        self.sock.close()
