"""The session over a socket of our own, as asyncio and trio share it."""

from __future__ import annotations

import abc

from attachproto import NEED_DATA, Event
from attachproto_adapters._flows._stdin import Feed
from attachproto_adapters._transport._async_base import AsyncSession
from attachproto_adapters._transport._socket_session import SocketSession
from attachproto_adapters._transport._sockets import half_close


class AsyncSocketSession(AsyncSession, SocketSession):
    """A connected socket of our own. The framework only waits, so it never holds bytes that were read."""

    @abc.abstractmethod
    async def wait_readable(self) -> None:
        """Wait until the socket is readable, or closed. Nothing is read."""

    @abc.abstractmethod
    async def wait_writable(self) -> None:
        """Wait until the socket is writable, or closed. Nothing is sent."""

    async def receive_some(self) -> bytes:
        # Without this, a container that prints as fast as we read would keep all other tasks from running.
        await self.sleep(0)
        while (data := self.receive_now()) is None:
            await self.wait_readable()
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
        await self.sleep(0)
        view = memoryview(data)
        while view:
            sent = self.send_now(view)
            view = view[sent:]
            if not sent:
                await self.wait_writable()

    async def half_close(self) -> None:
        half_close(self.sock)

    async def feed_some(self, feed: Feed) -> None:
        """Send some of this input. If it is cancelled, nothing was sent."""
        await self.sleep(0)
        if not self.feed_now(feed):
            await self.wait_writable()

    def let_go(self) -> None:
        self.sock.close()
