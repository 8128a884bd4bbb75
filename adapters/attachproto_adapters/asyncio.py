"""Attach with asyncio.

One task may send while another receives. A cancelled ``receive`` has taken nothing: the next one goes on. A cancelled
``send_stdin`` loses stdin, because nobody knows how much has left. Closing wakes whoever waits. Deadlines are
``asyncio.timeout``'s. Arguments and errors are those of ``attachproto_adapters.blocking``, unless said otherwise.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any

from attachproto import Quirk, StreamRequest
from attachproto_adapters._async_api import AsyncApi
from attachproto_adapters._async_attachment import AsyncAttachment
from attachproto_adapters._transport._asyncio import AsyncioSession, Dialer, StreamsSession

__all__ = ["Attachment", "attach", "exec_start", "logs", "open_attachment", "run_exec"]


class Attachment(AsyncAttachment[AsyncioSession]):
    """An open stream; all that can be done with it is what ``AsyncAttachment`` does."""

    def _broken_pipe(self, message: str) -> BrokenPipeError:
        return BrokenPipeError(errno.EPIPE, message)

    def _busy(self, message: str) -> RuntimeError:
        return RuntimeError(message)

    async def _run_alongside(self, task: Callable[[], Coroutine[Any, Any, None]], main: Awaitable[None]) -> None:
        failure: Exception | None = None
        async with asyncio.TaskGroup() as group:
            beside = group.create_task(task())
            try:
                await main
            except Exception as exc:
                failure = exc  # raised in here, it would come out in a group
            beside.cancel()
        if failure is not None:
            raise failure


_api: AsyncApi[Attachment, AsyncioSession] = AsyncApi(Attachment, Dialer)
attach = _api.attach
exec_start = _api.exec_start
logs = _api.logs
run_exec = _api.run_exec


async def open_attachment(
    stream: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    request: StreamRequest,
    *,
    quirks: Iterable[Quirk] = (),
) -> Attachment:
    """Attach over a connected pair of your own; the request says ``tty=``.

    ``wait()`` and ``resize()`` raise on what it returns. The pair belongs to the attachment from here on, and is closed
    if this raises. Nothing may have been read or written on it. asyncio drops what is unread if a write fails on it,
    which connections of our own do not.

    Args:
        stream: reader and writer.
        request: what to open.
        quirks: of the engine, where they are known.

    Raises:
        RequestRejected, RemoteProtocolError, LocalProtocolError, OSError: as for ``blocking.open_attachment``.
    """
    return await _api.open_on(StreamsSession(*stream, quirks=quirks), request)
