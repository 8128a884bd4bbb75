"""Attach with asyncio.

One task may send while another receives. A cancelled ``receive`` loses nothing: call it again. After a cancelled
``send_stdin``, stdin cannot be used any more, because it is unknown how much was sent. ``aclose`` wakes the tasks that
wait. For a time limit use ``asyncio.timeout``. Arguments and errors are those of ``attachproto_adapters.blocking``,
unless said otherwise.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any

from attachproto import Quirk, StreamRequest
from attachproto_adapters._async_attachment import AsyncAttachment, Lines
from attachproto_adapters._async_client import AsyncClient
from attachproto_adapters._async_functions import AsyncFunctions
from attachproto_adapters._async_stdout_reader import StdoutReader
from attachproto_adapters._flows._arguments import check_opening
from attachproto_adapters._transport._asyncio import AsyncioSession, Dialer, StreamsSession

__all__ = ["Attachment", "Client", "Lines", "StdoutReader", "attach", "create", "create_exec", "exec_start", "kill"]
__all__ += ["logs", "open_attachment", "open_exec", "remove", "run", "run_exec", "start", "wait"]


class Attachment(AsyncAttachment[AsyncioSession]):
    """An open stream: a container's stdin, stdout and stderr, an exec's, or logs.

    It is an asynchronous context manager that closes on leaving, and an asynchronous iterator over the output's events.

    (*) stands where trio raises an error of its own: ``trio.BrokenResourceError`` for errors of the connection, and
    ``trio.BusyResourceError`` in place of ``RuntimeError``.
    """

    def _broken_pipe(self, message: str) -> BrokenPipeError:
        return BrokenPipeError(errno.EPIPE, message)

    async def _run_alongside(self, task: Callable[[], Coroutine[Any, Any, None]], main: Awaitable[None]) -> None:
        failure: BaseException | None = None
        async with asyncio.TaskGroup() as group:
            beside = group.create_task(task())
            try:
                await main
            except (asyncio.CancelledError, KeyboardInterrupt, SystemExit):
                raise  # the TaskGroup raises these as they are
            except BaseException as exc:
                failure = exc  # raised inside the TaskGroup, it would come out as an ExceptionGroup
            beside.cancel()
        if failure is not None:
            raise failure


class Client(AsyncClient[Attachment, AsyncioSession]):
    """One engine, and the calls that it answers: see ``blocking.Client``. Deadlines: ``asyncio.timeout``."""

    _make_attachment = Attachment
    _make_dialer = Dialer


_functions = AsyncFunctions(Client)
attach, exec_start, logs = _functions.attach, _functions.exec_start, _functions.logs
run, create, kill, remove = _functions.run, _functions.create, _functions.kill, _functions.remove
start, wait = _functions.start, _functions.wait
run_exec, create_exec, open_exec = _functions.run_exec, _functions.create_exec, _functions.open_exec


async def open_attachment(
    stream: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    request: StreamRequest,
    *,
    quirks: Iterable[Quirk] = (),
) -> Attachment:
    """Attach over a connected pair of your own; the request says ``tty=``.

    ``wait()``, ``resize()`` and ``kill()`` of the attachment raise ``AttachError``: the engine's address is not known.
    The pair belongs to the attachment from now on. If an argument is wrong, the stream is left alone; after any other
    error it is closed. Nothing may have been read or written on it. If a write on it fails, asyncio drops unread
    output; the connections of ``attach`` keep it.

    Args:
        stream: reader and writer.
        request: the stream to open.
        quirks: workarounds for the engine, if it is known.

    Raises:
        RequestRejected, RemoteProtocolError, LocalProtocolError, OSError: as for ``blocking.open_attachment``.
    """
    quirks = check_opening(request, quirks)
    return await _functions.open_on(StreamsSession(*stream, quirks=quirks), request)
