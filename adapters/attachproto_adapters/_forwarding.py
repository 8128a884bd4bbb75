"""What runs beside the thread that reads an attachment: stdin is forwarded, and calls are made to the engine."""

from __future__ import annotations

import contextlib
import os
import queue
import select
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from attachproto_adapters._errors import AttachError
from attachproto_adapters._transport._sockets import READ_SIZE

if TYPE_CHECKING:
    from attachproto_adapters._blocking_attachment import Attachment

# How many seconds to wait for the end of a thread that should not be blocked any more.
_JOIN_SECONDS = 2.0
# The same after an exception: the thread may be blocked in a send to a container that does not read.
_BRIEFLY = 0.05


class StdinForwarder:
    """A context manager in which a thread forwards a descriptor to the stdin of an attachment.

    The thread waits for input with ``poll``, so that it can be ended without another read: later input is for whoever
    reads the descriptor next.

    Args:
        attachment: of the blocking adapter.
        fd: what is read: a terminal, a pipe or a file.
        on_open_end: called in the thread at the end of the input, if a half-close would end the attach. Then no
            half-close is sent.
        after: nothing is read before this is set. It is set at the end of the context, too.
    """

    def __init__(
        self,
        attachment: Attachment,
        fd: int,
        on_open_end: Callable[[], object] = lambda: None,
        after: threading.Event | None = None,
    ) -> None:
        self._attachment = attachment
        self._fd = fd
        self._on_open_end = on_open_end
        self._after = after
        # A daemon thread: the interpreter would wait at its exit for any other thread that is still blocked.
        self._thread = threading.Thread(target=self._run, name="attachproto-stdin", daemon=True)
        self._stop_read, self._stop_write = -1, -1

    def __enter__(self) -> Self:
        self._stop_read, self._stop_write = os.pipe()
        self._thread.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self._stop_write)
        if self._after is not None:
            self._after.set()
        # At the end of the output the connection was closed, which has woken a thread that was sending.
        self._thread.join(_JOIN_SECONDS if exc is None else _BRIEFLY)
        if exc is not None and self._thread.is_alive():
            self._attachment.close()
            self._thread.join(_JOIN_SECONDS)
        if not self._thread.is_alive():
            os.close(self._stop_read)

    def _run(self) -> None:
        if self._after is not None:
            self._after.wait()
        # The container may stop reading, or the attachment end, at any time. Its reader reports that.
        with contextlib.suppress(OSError, AttachError):
            while data := self._read():
                self._attachment.send_stdin(data)
            if data is None:
                return
            if self._attachment.half_close_ends_attach:
                self._on_open_end()
            else:
                self._attachment.close_stdin()

    def _read(self) -> bytes | None:
        """The next input; ``None`` if there is to be no more of it."""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        poll.register(self._stop_read, select.POLLIN)
        ready = [fd for fd, _ in poll.poll()]
        return None if self._stop_read in ready else os.read(self._fd, READ_SIZE)


class Background:
    """A context manager with a thread that makes calls one after the other. A failed call changes nothing."""

    def __init__(self) -> None:
        # Its put() may be called in a signal handler, whatever the handler has interrupted.
        self._calls: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._timer: tuple[float, Callable[[], object]] | None = None
        self._thread = threading.Thread(target=self._run, name="attachproto-calls", daemon=True)

    def put(self, call: Callable[[], object]) -> None:
        """Make this call next. May be called in a signal handler."""
        self._calls.put(call)

    def at(self, when: float, call: Callable[[], object]) -> None:
        """Make this call at that time of ``time.monotonic``, in place of another that waits for its time.

        Called before the thread starts, or in a call that the thread makes.
        """
        self._timer = (when, call)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._calls.put(None)
        self._thread.join(_JOIN_SECONDS)

    def _run(self) -> None:
        while (call := self._next()) is not None:
            with contextlib.suppress(OSError, AttachError):
                call()

    def _next(self) -> Callable[[], object] | None:
        if self._timer is None:
            return self._calls.get()
        when, call = self._timer
        try:
            return self._calls.get(timeout=max(0.0, when - time.monotonic()))
        except queue.Empty:
            self._timer = None
            return call
