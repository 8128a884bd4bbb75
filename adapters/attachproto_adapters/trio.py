"""Attach with trio.

One task may send while another receives. A cancelled ``receive`` has taken nothing: the next one goes on. A cancelled
``send_stdin`` loses stdin, because nobody knows how much has left. Closing wakes whoever waits. Deadlines are
``trio.fail_after``'s. What a socket's errors are in the other adapters is ``trio.BrokenResourceError`` here. Arguments
and errors are those of ``attachproto_adapters.blocking``, unless said otherwise.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any

try:
    import trio
except ImportError as exc:
    raise ImportError("this adapter needs trio: pip install 'attachproto[trio]'") from exc

from attachproto import AttachOptions, Logs, Quirk, StreamRequest
from attachproto_adapters._async_attachment import AsyncAttachment, drive
from attachproto_adapters._async_io import open_stream
from attachproto_adapters._errors import ExitCodeUnknown, RequestRejected
from attachproto_adapters._hosts import resolve_api_version, resolve_host
from attachproto_adapters._input import as_bytes
from attachproto_adapters._output import ExecResult
from attachproto_adapters._sequences import (
    Opened,
    Steps,
    create_and_open_exec,
    judge_stream,
    open_attach,
    open_exec,
    open_logs,
)
from attachproto_adapters._trio_io import Dialer, Link

__all__ = ["Attachment", "attach", "exec_start", "logs", "open_attachment", "run_exec"]


class Attachment(AsyncAttachment[Link]):
    """An open stream; all that can be done with it is what ``AsyncAttachment`` does."""

    def _broken_pipe(self, message: str) -> trio.BrokenResourceError:
        return trio.BrokenResourceError(message)

    def _busy(self, message: str) -> trio.BusyResourceError:
        return trio.BusyResourceError(message)

    async def _beside(self, task: Callable[[], Coroutine[Any, Any, None]], main: Awaitable[None]) -> None:
        failure: BaseException | None = None

        async def guarded(run: Awaitable[None]) -> None:
            nonlocal failure
            try:
                await run
            except (Exception, KeyboardInterrupt) as exc:
                failure = failure or exc  # raised in here, it would come out in a group
                nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: guarded(task()))
            await guarded(main)
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure


_DEFAULT_OPTIONS = AttachOptions()


async def attach(
    container: str,
    options: AttachOptions = _DEFAULT_OPTIONS,
    *,
    host: str | None = None,
    tty: bool | None = None,
    start: bool = False,
    wait: bool = False,
    api_version: str | None = None,
    quirks: Iterable[Quirk] | None = None,
) -> Attachment:
    """Attach to a container. Arguments, warnings and errors are those of ``blocking.attach``."""
    api_version = resolve_api_version(api_version, os.environ)
    return await _open(
        open_attach(container, options, tty=tty, start=start, wait=wait, api_version=api_version, quirks=quirks), host
    )


async def exec_start(
    exec_id: str,
    *,
    host: str | None = None,
    tty: bool | None = None,
    console_size: tuple[int, int] | None = None,
    api_version: str | None = None,
) -> Attachment:
    """Start an exec that was created, and attach to it. Arguments and errors are those of ``blocking.exec_start``."""
    api_version = resolve_api_version(api_version, os.environ)
    return await _open(open_exec(exec_id, tty=tty, console_size=console_size, api_version=api_version), host)


async def logs(
    container: str,
    *,
    follow: bool = False,
    stdout: bool = True,
    stderr: bool = True,
    since: str | float | None = None,
    until: str | float | None = None,
    timestamps: bool = False,
    tail: int | None = None,
    details: bool = False,
    host: str | None = None,
    tty: bool | None = None,
    api_version: str | None = None,
) -> Attachment:
    """Read what a container has logged, and will. Arguments and errors are those of ``blocking.logs``."""
    request = Logs(
        container,
        follow=follow,
        stdout=stdout,
        stderr=stderr,
        since=since,
        until=until,
        timestamps=timestamps,
        tail=tail,
        details=details,
        tty=tty,
        api_version=resolve_api_version(api_version, os.environ),
    )
    return await _open(open_logs(request), host)


async def run_exec(
    container: str,
    command: Sequence[str],
    *,
    input: bytes | None = None,
    tty: bool = False,
    env: Mapping[str, str] | None = None,
    user: str | None = None,
    workdir: str | None = None,
    max_output: int | None = None,
    host: str | None = None,
    api_version: str | None = None,
) -> ExecResult:
    """Run a command in a running container, and wait for its end.

    Cancelled, it closes its connections; the command goes on. Arguments and errors are those of ``blocking.run_exec``.
    """
    input = as_bytes(input)
    steps = create_and_open_exec(
        container,
        command,
        stdin=input is not None,
        tty=tty,
        env=env,
        user=user,
        workdir=workdir,
        api_version=resolve_api_version(api_version, os.environ),
    )
    async with await _open(steps, host) as attachment:
        stdout, stderr = await attachment.communicate(input, max_output=max_output)
        try:
            code = await attachment.wait()
        except RequestRejected as exc:
            raise ExitCodeUnknown(str(exc), stdout, stderr) from exc
        return ExecResult(code, stdout, stderr)


async def _open(steps: Steps[Opened], host: str | None) -> Attachment:
    dialer = Dialer(resolve_host(host, os.environ))
    driven = await drive(steps, dialer)
    return Attachment(*driven.streamed(), driven.value, dialer, driven.held)


async def open_attachment(
    stream: trio.abc.Stream, request: StreamRequest, *, quirks: Iterable[Quirk] = ()
) -> Attachment:
    """Attach over a connected stream of your own; the request says ``tty=``.

    ``wait()`` and ``resize()`` raise on what it returns. The stream belongs to the attachment from here on, and is
    closed if this raises. To end stdin it must be a ``trio.abc.HalfCloseableStream``.

    Args:
        stream: the stream.
        request: what to open.
        quirks: of the engine, where they are known.

    Raises:
        RequestRejected, RemoteProtocolError, LocalProtocolError: as for ``blocking.open_attachment``.
        trio.BrokenResourceError: the stream failed.
    """
    link = Link(stream, quirks=quirks)
    try:
        return Attachment(link, judge_stream(request, await open_stream(link, request)))
    except BaseException:
        await link.aclose()
        raise
