"""Futures that wait for the same result."""

from __future__ import annotations

import asyncio
from typing import TypeVar

T = TypeVar("T")


class Waiters:
    """Futures of one event loop that wait for the same exit code."""

    def __init__(self) -> None:
        self._futures: set[asyncio.Future[int]] = set()

    def add(self) -> asyncio.Future[int]:
        """One more future, for the next result."""
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._futures.add(future)
        future.add_done_callback(self._futures.discard)
        return future

    def resolve(self, code: int) -> None:
        """Give all of them their result."""
        for future in list(self._futures):
            wake(future, code)


def wake(future: asyncio.Future[T], result: T) -> None:
    """Resolve a future that may have been resolved or cancelled already."""
    if not future.done():
        future.set_result(result)
