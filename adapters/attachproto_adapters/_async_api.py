"""The functions that the asyncio and trio adapters share.

Strategy: ``AsyncApi`` is written once. Each adapter binds it to the framework's attachment and dialer, exports the
bound methods as functions, and adds what differs: ``open_attachment``, because each framework has streams of its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, TypeVar, Unpack

from attachproto import Accepted, AttachOptions, Logs, Quirk, StreamRequest
from attachproto_adapters._async_attachment import AsyncAttachment
from attachproto_adapters._async_runner import drive
from attachproto_adapters._flows._arguments import check_max_output, check_stream_request
from attachproto_adapters._flows._attach import open_attach
from attachproto_adapters._flows._flows import create_and_open_exec, judge_stream, open_exec
from attachproto_adapters._flows._logs import open_logs
from attachproto_adapters._flows._options import CommandOptions, LogsOptions
from attachproto_adapters._flows._output import ExecResult, exit_code_wanted
from attachproto_adapters._flows._stdin import as_bytes
from attachproto_adapters._flows._steps import Opened, Steps
from attachproto_adapters._transport._async_base import AsyncSession
from attachproto_adapters._transport._async_dialer import AsyncDialer, open_stream
from attachproto_adapters._transport._hosts import resolve_api_version, resolve_host
from attachproto_adapters._transport._schemes import Host

S = TypeVar("S", bound=AsyncSession)
A = TypeVar("A", bound=AsyncAttachment[Any])

_DEFAULT_OPTIONS = AttachOptions()


class AsyncApi(Generic[A, S]):
    """The functions of one framework.

    Args:
        attachment: the framework's class for attachments.
        dialer: makes the framework's connections to one engine.
    """

    def __init__(self, attachment: Callable[..., A], dialer: Callable[[Host], AsyncDialer[S]]) -> None:
        self._attachment = attachment
        self._dialer = dialer

    async def attach(
        self,
        container: str,
        options: AttachOptions = _DEFAULT_OPTIONS,
        *,
        host: str | None = None,
        tty: bool | None = None,
        start: bool = False,
        wait: bool = False,
        api_version: str | None = None,
        quirks: Iterable[Quirk] | None = None,
    ) -> A:
        """Attach to a container. Arguments, warnings and errors are those of ``blocking.attach``."""
        api_version = resolve_api_version(api_version, os.environ)
        return await self._open(
            open_attach(container, options, tty=tty, start=start, wait=wait, api_version=api_version, quirks=quirks),
            host,
        )

    async def exec_start(
        self,
        exec_id: str,
        *,
        host: str | None = None,
        tty: bool | None = None,
        console_size: tuple[int, int] | None = None,
        api_version: str | None = None,
    ) -> A:
        """Start an exec and attach to it. Arguments and errors are those of ``blocking.exec_start``."""
        api_version = resolve_api_version(api_version, os.environ)
        return await self._open(open_exec(exec_id, tty=tty, console_size=console_size, api_version=api_version), host)

    async def logs(
        self,
        container: str,
        *,
        host: str | None = None,
        api_version: str | None = None,
        **options: Unpack[LogsOptions],
    ) -> A:
        """Read what a container has logged. Arguments and errors are those of ``blocking.logs``."""
        request = Logs(container, api_version=resolve_api_version(api_version, os.environ), **options)
        return await self._open(open_logs(request), host)

    async def run_exec(
        self,
        container: str,
        command: Sequence[str],
        *,
        input: bytes | None = None,
        max_output: int | None = None,
        host: str | None = None,
        api_version: str | None = None,
        **options: Unpack[CommandOptions],
    ) -> ExecResult:
        """Run a command in a running container, and wait until it has ended.

        If it is cancelled, it closes its connections; the command goes on. Arguments and errors are those of
        ``blocking.run_exec``.
        """
        input = as_bytes(input)
        check_max_output(max_output)
        api_version = resolve_api_version(api_version, os.environ)
        steps = create_and_open_exec(container, command, stdin=input is not None, api_version=api_version, **options)
        async with await self._open(steps, host) as attachment:
            outputs = await attachment._exchange(input, max_output)
            with exit_code_wanted(outputs, attachment._session.errors):
                return ExecResult(await attachment.wait(), *outputs)

    async def open_on(self, session: S, request: StreamRequest) -> A:
        """Open the stream on a session over the caller's connection. If this raises, the session is closed."""
        try:
            check_stream_request(request)
            accepted: Accepted = judge_stream(request, await open_stream(session, request))
            return self._attachment(session, accepted)
        except BaseException:
            await session.aclose()
            raise

    async def _open(self, steps: Steps[Opened], host: str | None) -> A:
        dialer = self._dialer(resolve_host(host, os.environ))
        try:
            driven = await drive(steps, dialer)
            return self._attachment(*driven.streamed(), driven.value, dialer, driven.held)
        except BaseException:
            await dialer.aclose()
            raise
