"""Frames by themselves, for programs that have an HTTP client already.

Strategy: ``FrameDecoder`` is the frame reader that a ``Connection`` uses, with a receive buffer of its own. ``demux``
is a ``FrameDecoder`` for a body that is there as a whole.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from attachproto._errors import Reason, RemoteProtocolError, excerpt
from attachproto._events import Stderr, Stdout, Systemerr
from attachproto._frames import FrameReader
from attachproto._quirks import Quirk, check_quirks
from attachproto._receive_buffer import ReceiveBuffer

if TYPE_CHECKING:
    from typing_extensions import Buffer


class FrameDecoder(FrameReader):
    """Decodes frames: give it bytes with ``receive_data``, take events from ``next_event`` or ``events``.

    Not safe for use by two threads at once.

    Args:
        quirks: the known bugs of the engine that wrote the frames.

    Raises:
        TypeError: a member of ``quirks`` is not a ``Quirk``.
    """

    def __init__(self, *, quirks: Iterable[Quirk] = ()) -> None:
        self._buffer = ReceiveBuffer()
        super().__init__(self._buffer.take, check_quirks(quirks))

    def receive_data(self, data: Buffer) -> None:
        """Store what was read; ``b""`` is the end of the stream. For bytes that are no frame ``next_event`` raises.

        Raises:
            LocalProtocolError: data after the end.
            TypeError: ``data`` is not a buffer.
        """
        self._buffer.put(data)
        if self._failure is not None:
            self._buffer.clear()


def demux(data: Buffer, *, quirks: Iterable[Quirk] = ()) -> tuple[bytes, bytes]:
    """Split a whole body of frames, such as that of ``/logs``, into stdout and stderr.

    Args:
        data: the body.
        quirks: the known bugs of the engine that wrote the frames.

    Returns:
        The bytes of stdout, and those of stderr.

    Raises:
        TypeError: ``data`` is not a buffer, or a member of ``quirks`` is not a ``Quirk``.
        RemoteProtocolError: the body is cut or holds no frames, or the engine reports an error in it (type 3).
            Use ``FrameDecoder`` to have what came before it.
    """
    decoder = FrameDecoder(quirks=quirks)
    decoder.receive_data(data)
    decoder.receive_data(b"")
    stdout, stderr = [], []
    for event in decoder.events():
        if isinstance(event, Stdout):
            stdout.append(event.data)
        elif isinstance(event, Stderr):
            stderr.append(event.data)
        elif isinstance(event, Systemerr):
            text = event.data.decode("utf-8", "replace").strip()
            raise RemoteProtocolError(f"the engine reports: {excerpt(text)}", Reason.ENGINE_ERROR)
    return b"".join(stdout), b"".join(stderr)
