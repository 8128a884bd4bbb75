"""Bytes that were received and not yet read.

Strategy: chunks are kept as the objects that came, never joined, because payload is passed on as it arrived and what
one read brought must not be mixed with the next. Readers pull: ``take`` gives one chunk and forgets it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from attachproto._errors import LocalProtocolError

if TYPE_CHECKING:
    from typing_extensions import Buffer


Take = Callable[[], bytes | None]
"""A source of chunks: what ``Inbox.take`` gives."""


class Inbox:
    """A queue of chunks with an end."""

    def __init__(self) -> None:
        self._chunks: deque[bytes] = deque()
        self.eof = False

    def put(self, data: Buffer) -> None:
        """Store what was read; an empty buffer is the end, and may be said twice.

        Raises:
            LocalProtocolError: data after the end.
            TypeError: it is no buffer.
        """
        # Through memoryview, because bytes(5) would be five zeros and no error.
        chunk = data if type(data) is bytes else bytes(memoryview(data))
        if not chunk:
            self.eof = True
        elif self.eof:
            raise LocalProtocolError(f"{len(chunk)} bytes were given to receive_data() after its b'', which is the end")
        else:
            self._chunks.append(chunk)

    def put_back(self, chunk: bytes) -> None:
        """Give back the unread rest of the chunk that was taken last."""
        if chunk:
            self._chunks.appendleft(chunk)

    def take(self) -> bytes | None:
        """The next chunk; ``b""`` at the end, as often as asked; ``None`` if nothing is there yet."""
        if self._chunks:
            return self._chunks.popleft()
        return b"" if self.eof else None

    def clear(self) -> None:
        """Forget what nobody will read."""
        self._chunks.clear()
