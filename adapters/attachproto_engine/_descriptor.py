"""A descriptor of a pipe or terminal on the event loop: non-blocking, and without a buffer."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable

from attachproto_engine._forks import close_in_forked_child
from attachproto_engine._waiters import wake


class Descriptor:
    """Owns a descriptor. One task may read while others write; writes are not mixed. Closing wakes all of them."""

    def __init__(self, number: int) -> None:
        os.set_blocking(number, False)
        self.number = number
        self._loop = asyncio.get_running_loop()
        self._waiting: set[asyncio.Future[None]] = set()
        self._writing = asyncio.Lock()
        self._closed = False
        self._waits = True
        close_in_forked_child(self, Descriptor.let_go)

    async def read(self, size: int) -> bytes:
        """Read up to ``size`` bytes; ``b""`` at the end. A terminal ends when its other side is closed (``EIO``)."""
        while not self._closed:
            try:
                return os.read(self.number, size)
            except BlockingIOError:
                if not self._waits:
                    break
                await self._ready(self._loop.add_reader, self._loop.remove_reader)
            except OSError as exc:
                if exc.errno != errno.EIO:
                    raise
                break
        return b""

    async def write(self, data: bytes) -> bool:
        """Write all of it; ``False`` if the other side is closed."""
        view = memoryview(data)
        async with self._writing:
            while view:
                if self._closed:
                    return False
                try:
                    view = view[os.write(self.number, view) :]
                except BlockingIOError:
                    await self._ready(self._loop.add_writer, self._loop.remove_writer)
                except OSError:
                    return False
        return True

    def stop_waiting(self) -> None:
        """From now on ``read`` returns ``b""`` instead of waiting."""
        self._waits = False
        self._wake()

    def close(self) -> None:
        """Close the descriptor. Pending reads return ``b""``, pending writes ``False``."""
        if not self._closed:
            self._closed = True
            self._loop.remove_reader(self.number)
            self._loop.remove_writer(self.number)
            self._wake()
            os.close(self.number)

    def let_go(self) -> None:
        """Close the descriptor in a forked child, where the event loop is not ours."""
        if not self._closed:
            self._closed = True
            os.close(self.number)

    async def _ready(self, add: Callable[..., object], remove: Callable[[int], object]) -> None:
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._waiting.add(waiter)
        add(self.number, wake, waiter, None)
        try:
            await waiter
        finally:
            self._waiting.discard(waiter)
            if not self._closed:
                # After close() the kernel may give the number to another file.
                remove(self.number)

    def _wake(self) -> None:
        for waiter in self._waiting:
            wake(waiter, None)
