"""Attach with anyio: each call uses the adapter of the framework that runs, asyncio or trio.

Deadlines and cancellation are anyio's, such as ``anyio.fail_after``. Errors of the connection are those of the adapter
in use: ``OSError`` in asyncio, and ``trio.BrokenResourceError`` in trio. Arguments and other errors are those of
``attachproto_adapters.blocking``.

Importing this module imports no framework. anyio itself is needed only for ``open_attachment``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from attachproto import Quirk, StreamRequest
from attachproto_adapters._async_attachment import AsyncAttachment, Lines
from attachproto_adapters._async_client import AsyncClient
from attachproto_adapters._async_functions import AsyncFunctions
from attachproto_adapters._async_stdout_reader import StdoutReader
from attachproto_adapters._flows._arguments import check_opening
from attachproto_adapters._transport._address import Address
from attachproto_adapters._transport._async_base import AsyncSession
from attachproto_adapters._transport._async_dialer import AsyncDialer

if TYPE_CHECKING:
    from anyio.abc import ByteStream

    Attachment = AsyncAttachment[Any]
else:
    Attachment = AsyncAttachment  # the attachments of both adapters are instances of it

__all__ = ["Attachment", "Client", "Lines", "StdoutReader", "attach", "create", "create_exec", "exec_start", "kill"]
__all__ += ["logs", "open_attachment", "open_exec", "remove", "run", "run_exec", "start", "wait"]


def _running_client() -> type[AsyncClient[Any, Any]]:
    """The client of the adapter whose framework runs the calling task.

    A framework that runs was imported. Trio is looked for first, because it can run as a guest of an asyncio loop.

    Raises:
        RuntimeError: neither runs.
    """
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_task():
        from attachproto_adapters.trio import Client as TrioClient

        return TrioClient
    asyncio = sys.modules.get("asyncio")
    if asyncio is not None and asyncio._get_running_loop() is not None:
        from attachproto_adapters.asyncio import Client as AsyncioClient

        return AsyncioClient
    raise RuntimeError("neither asyncio nor trio runs here: call it in a task of one of them")


class Client(AsyncClient[Attachment, AsyncSession]):
    """One engine, and the calls that it answers: see ``blocking.Client``. Deadlines: ``anyio.fail_after``."""

    @staticmethod
    def _make_attachment(*args: Any) -> Attachment:
        made: Attachment = _running_client()._make_attachment(*args)
        return made

    @staticmethod
    def _make_dialer(address: Address) -> AsyncDialer[AsyncSession]:
        return _running_client()._make_dialer(address)


_functions = AsyncFunctions(Client)
attach, exec_start, logs = _functions.attach, _functions.exec_start, _functions.logs
run, create, kill, remove = _functions.run, _functions.create, _functions.kill, _functions.remove
start, wait = _functions.start, _functions.wait
run_exec, create_exec, open_exec = _functions.run_exec, _functions.create_exec, _functions.open_exec


async def open_attachment(stream: ByteStream, request: StreamRequest, *, quirks: Iterable[Quirk] = ()) -> Attachment:
    """Attach over a connected stream of your own. The request must have ``tty=``.

    ``wait()``, ``resize()`` and ``kill()`` of the attachment raise ``AttachError``. The attachment owns the stream from
    now on. If an argument is wrong, the stream is left alone; after any other error it is closed. A ``TLSStream``
    cannot end stdin. Sending after the end of the output raises the error of the adapter in use.

    Args:
        stream: the stream.
        request: the stream request to send.
        quirks: bugs of the engine to work around.

    Raises:
        RequestRejected, RemoteProtocolError, LocalProtocolError: as for ``blocking.open_attachment``.
        anyio.BrokenResourceError: the stream failed.
    """
    from attachproto_adapters._transport._anyio import ByteStreamSession

    quirks = check_opening(request, quirks)
    return await _functions.open_on(ByteStreamSession(stream, quirks=quirks), request)
