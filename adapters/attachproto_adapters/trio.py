"""Attach with trio.

One task may send while another receives. A cancelled ``receive`` loses nothing; call it again. After a cancelled
``send_stdin`` stdin cannot be used any more, because it is not known how many bytes were sent. Closing wakes a waiting
task. Deadlines are those of ``trio.fail_after``. Where the other adapters raise an ``OSError`` of the socket, this one
raises ``trio.BrokenResourceError``. Arguments and other errors are those of
``attachproto_adapters.blocking``.

Calls are checkpoints, with two exceptions. ``close_stdin`` over a socket is none. ``receive``, iteration, ``lines`` and
``stdout_reader`` are none while they return what has arrived. They are one when they read again and half a millisecond
has passed since the last one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any

try:
    import trio
except ImportError as exc:
    raise ImportError("this adapter needs trio: pip install 'attachproto[trio]'") from exc

from attachproto import Quirk, StreamRequest
from attachproto_adapters._async_attachment import AsyncAttachment, Lines
from attachproto_adapters._async_client import AsyncClient
from attachproto_adapters._async_functions import AsyncFunctions
from attachproto_adapters._async_stdout_reader import StdoutReader
from attachproto_adapters._errors import ErrorWithOutput
from attachproto_adapters._flows._arguments import check_opening
from attachproto_adapters._transport._trio import Dialer, TrioSession, session_over

__all__ = ["Attachment", "BrokenResourceWithOutput", "Client", "Lines", "StdoutReader", "attach", "create"]
__all__ += ["create_exec", "exec_start", "kill", "logs", "open_attachment", "open_exec", "remove", "run", "run_exec"]
__all__ += ["start", "wait"]


class BrokenResourceWithOutput(ErrorWithOutput, trio.BrokenResourceError):
    """``StreamReset`` in trio, and every other error of the connection."""


class Attachment(AsyncAttachment[TrioSession]):
    """An open stream: see ``asyncio.Attachment``."""

    _reset = (trio.BrokenResourceError, BrokenResourceWithOutput)

    def _broken_pipe(self, message: str) -> trio.BrokenResourceError:
        return trio.BrokenResourceError(message)

    # With this, KeyboardInterrupt is raised where it waits, and not between the steps of opening a nursery.
    @trio.lowlevel.enable_ki_protection
    async def _run_alongside(self, task: Callable[[], Coroutine[Any, Any, None]], main: Awaitable[None]) -> None:
        failure: BaseException | None = None

        async def guarded(run: Awaitable[None]) -> None:
            nonlocal failure
            try:
                await run
            except trio.Cancelled:
                raise
            except BaseException as exc:
                failure = failure or exc  # raised inside the nursery, it would come out as an ExceptionGroup
                nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: guarded(task()))
            await guarded(main)
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure


class Client(AsyncClient[Attachment, TrioSession]):
    """One engine, and the calls that it answers: see ``blocking.Client``. Deadlines: ``trio.fail_after``."""

    _make_attachment = Attachment
    _make_dialer = Dialer


_functions = AsyncFunctions(Client)
attach, exec_start, logs = _functions.attach, _functions.exec_start, _functions.logs
run, create, kill, remove = _functions.run, _functions.create, _functions.kill, _functions.remove
start, wait = _functions.start, _functions.wait
run_exec, create_exec, open_exec = _functions.run_exec, _functions.create_exec, _functions.open_exec


async def open_attachment(
    stream: trio.abc.Stream, request: StreamRequest, *, quirks: Iterable[Quirk] = ()
) -> Attachment:
    """Attach over a connected stream of your own. The request must have ``tty=``.

    ``wait()``, ``resize()`` and ``kill()`` of the attachment raise ``AttachError``. The attachment owns the stream from
    now on. If an argument is wrong, the stream is left alone; after any other error it is closed. Only a
    ``trio.abc.HalfCloseableStream`` can end stdin.

    Args:
        stream: the stream.
        request: the stream request to send.
        quirks: bugs of the engine to work around.

    Raises:
        RequestRejected, RemoteProtocolError, LocalProtocolError: as for ``blocking.open_attachment``.
        trio.BrokenResourceError: the stream failed.
    """
    quirks = check_opening(request, quirks)
    return await _functions.open_on(session_over(stream, quirks), request)
