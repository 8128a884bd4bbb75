"""The receive buffer: chunks that were read from the transport and not parsed yet.

Strategy: a chunk is kept as the object that was given, and chunks are never joined, because an event never holds bytes
of two reads. Readers pull one chunk at a time. "Nothing yet" is ``NEED_DATA`` and the end of file is ``END``. Neither
is bytes, so a reader that forgets to test for them fails in the type checker.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Literal

from attachproto._errors import LocalProtocolError
from attachproto._signals import NEED_DATA, Signal

if TYPE_CHECKING:
    from typing_extensions import Buffer


class End(enum.Enum):
    """The end of a source of chunks."""

    END = "END"


END: Final = End.END

Chunk = bytes | Literal[Signal.NEED_DATA] | Literal[End.END]
"""At least one byte; or ``NEED_DATA``; or ``END``, again on each further call."""

ChunkSource = Callable[[], Chunk]
"""A call that returns the next chunk: ``ReceiveBuffer.take``, or a filter of it."""


class ReceiveBuffer:
    """A queue of chunks with an end.

    It is two lists, because an empty deque takes 760 bytes, a third of an idle ``Connection``. When ``_next`` is empty,
    all of ``_later`` goes there in reverse order, so that each chunk is moved once.
    """

    __slots__ = ("_later", "_next", "dropped", "eof")

    def __init__(self) -> None:
        self._later: list[bytes] = []
        self._next: list[bytes] = []  # the next one stands last
        self.eof = False
        self.dropped = False

    @property
    def clean(self) -> bool:
        """Whether nothing came that no reader has taken, and no end of file."""
        return not (self.eof or self.dropped or self._next or self._later)

    def put(self, data: Buffer) -> None:
        """Store what was read. An empty buffer is the end of file, and may be given more than once.

        Raises:
            LocalProtocolError: data after the end of file.
            TypeError: ``data`` is not a buffer.
        """
        # Through memoryview, because bytes(5) would be five zeros and no error.
        chunk = data if type(data) is bytes else bytes(memoryview(data))
        if not chunk:
            self.eof = True
        elif self.eof:
            raise LocalProtocolError(
                f"receive_data() was given {len(chunk)} bytes after b'', which means that the peer sends no more"
            )
        else:
            self._later.append(chunk)

    def put_back(self, chunk: bytes) -> None:
        """Return the unread rest of the chunk that was taken last."""
        if chunk:
            self._next.append(chunk)

    def take(self) -> Chunk:
        """Remove and return the next chunk."""
        if not self._next:
            if not self._later:
                return END if self.eof else NEED_DATA
            self._later.reverse()
            self._next, self._later = self._later, self._next
        return self._next.pop()

    def clear(self) -> None:
        """Drop chunks that no reader will ask for."""
        self.dropped = self.dropped or bool(self._next or self._later)
        self._next.clear()
        self._later.clear()
