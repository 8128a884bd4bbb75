"""The bytes of one direction without frames: the output of a TTY, or stdin.

Strategy: a chunk becomes the payload of one event, as the object that it is. Nothing is copied.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from attachproto._errors import LocalProtocolError
from attachproto._events import DataEvent, OutputClosed, RawOutput, Stdin, StdinClosed, Systemerr
from attachproto._frames import as_bytes
from attachproto._receive_buffer import END, ChunkSource
from attachproto._signals import NEED_DATA, Signal


class RawReader:
    """Reads events from a source of chunks.

    Args:
        take: the source.
        data: the class of the events.
        end_event: makes the event for the end of the source.
    """

    __slots__ = ("_data", "_end_event", "_take")

    def __init__(
        self,
        take: ChunkSource,
        data: type[RawOutput] | type[Stdin],
        end_event: Callable[[], OutputClosed | StdinClosed | Systemerr],
    ) -> None:
        self._take = take
        self._data = data
        self._end_event = end_event

    def next_event(self) -> RawOutput | Stdin | OutputClosed | StdinClosed | Systemerr | Literal[Signal.NEED_DATA]:
        """The next event, or ``NEED_DATA``. Raises what the source raises."""
        chunk = self._take()
        if chunk is NEED_DATA:
            return NEED_DATA
        return self._end_event() if chunk is END else self._data(chunk)


def encode_raw(event: DataEvent) -> bytes:
    """Write output of a TTY.

    Raises:
        LocalProtocolError: the event is not ``RawOutput``.
    """
    if not isinstance(event, RawOutput):
        raise LocalProtocolError(f"{type(event).__name__} cannot be sent on a raw stream: only RawOutput can")
    return as_bytes(event.data)
