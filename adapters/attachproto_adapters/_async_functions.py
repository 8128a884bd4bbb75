"""The functions that the asyncio and trio adapters share: each is a call on a client of its own.

Strategy: ``AsyncFunctions`` is written once. Each adapter binds it to its client, exports the bound methods as
functions, and adds what differs: ``open_attachment``, because each framework has streams of its own. The file has more
than 250 lines, because each function has its own signature.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar, Unpack, overload

from attachproto import Accepted, AttachOptions, Quirk, StreamRequest
from attachproto_adapters._async_attachment import AsyncAttachment
from attachproto_adapters._async_client import AsyncClient
from attachproto_adapters._client import DEFAULT_OPTIONS
from attachproto_adapters._flows._flows import judge_stream
from attachproto_adapters._flows._options import CommandOptions, ExecOptions, LogsOptions, RunExecOptions, RunOptions
from attachproto_adapters._flows._output import CompletedRun, ExecResult
from attachproto_adapters._signatures import takes_options_of
from attachproto_adapters._transport._async_base import AsyncSession
from attachproto_adapters._transport._async_dialer import open_stream

S = TypeVar("S", bound=AsyncSession)
A = TypeVar("A", bound=AsyncAttachment[Any])


class AsyncFunctions(Generic[A, S]):
    """The functions of one framework.

    Args:
        client: the framework's class for clients.
    """

    def __init__(self, client: type[AsyncClient[A, S]]) -> None:
        self._client = client

    async def attach(
        self,
        container: str,
        options: AttachOptions = DEFAULT_OPTIONS,
        *,
        host: str | None = None,
        tty: bool | None = None,
        start: bool = False,
        wait: bool = False,
        api_version: str | None = None,
        quirks: Iterable[Quirk] | None = None,
    ) -> A:
        """Attach to a container. Arguments, warnings and errors are those of ``blocking.attach``."""
        client = self._client._for_one_call(host, api_version)
        return await client.attach(container, options, tty=tty, start=start, wait=wait, quirks=quirks)

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
        client = self._client._for_one_call(host, api_version)
        return await client.exec_start(exec_id, tty=tty, console_size=console_size)

    async def logs(
        self,
        container: str,
        *,
        host: str | None = None,
        api_version: str | None = None,
        **options: Unpack[LogsOptions],
    ) -> A:
        """Read what a container has logged. Arguments and errors are those of ``blocking.logs``."""
        return await self._client._for_one_call(host, api_version).logs(container, **options)

    @overload
    async def run_exec(
        self, container: str, command: Sequence[str], *, encoding: None = None, **options: Unpack[RunExecOptions[bytes]]
    ) -> ExecResult[bytes]: ...
    @overload
    async def run_exec(
        self, container: str, command: Sequence[str], *, encoding: str, **options: Unpack[RunExecOptions[bytes | str]]
    ) -> ExecResult[str]: ...
    @takes_options_of(AsyncClient.run_exec)
    async def run_exec(
        self,
        container: str,
        command: Sequence[str],
        *,
        host: str | None = None,
        api_version: str | None = None,
        **options: Any,
    ) -> ExecResult[Any]:
        """Run a command in a running container, and wait until it has ended.

        If it is cancelled, it ends the command first. Arguments and errors are those of ``blocking.run_exec``.
        """
        call: Callable[..., Awaitable[ExecResult[Any]]] = self._client._for_one_call(host, api_version).run_exec
        return await call(container, command, **options)

    @overload
    async def run(
        self, image: str, command: Sequence[str] = (), *, encoding: None = None, **options: Unpack[RunOptions[bytes]]
    ) -> CompletedRun[bytes]: ...
    @overload
    async def run(
        self, image: str, command: Sequence[str] = (), *, encoding: str, **options: Unpack[RunOptions[bytes | str]]
    ) -> CompletedRun[str]: ...
    @takes_options_of(AsyncClient.run)
    async def run(
        self,
        image: str,
        command: Sequence[str] = (),
        *,
        host: str | None = None,
        api_version: str | None = None,
        **options: Any,
    ) -> CompletedRun[Any]:
        """Run a command in a new container, wait until it has ended, and remove the container.

        If it is cancelled, the container is removed before the cancellation goes on. Arguments and errors are those of
        ``blocking.run``.
        """
        call: Callable[..., Awaitable[CompletedRun[Any]]] = self._client._for_one_call(host, api_version).run
        return await call(image, command, **options)

    async def create(
        self,
        image: str,
        command: Sequence[str] = (),
        *,
        stdin: bool = False,
        console_size: tuple[int, int] | None = None,
        config: Mapping[str, Any] | None = None,
        name: str | None = None,
        host: str | None = None,
        api_version: str | None = None,
        **options: Unpack[CommandOptions],
    ) -> str:
        """Create a container, and return its ID. ``attach`` with ``start=True`` starts it, or ``start``.

        Arguments and errors are those of ``blocking.create``.
        """
        client = self._client._for_one_call(host, api_version)
        return await client.create(
            image, command, stdin=stdin, console_size=console_size, config=config, name=name, **options
        )

    async def start(self, container: str, *, host: str | None = None, api_version: str | None = None) -> None:
        """Start a container without attaching to it. Arguments and errors are those of ``blocking.start``."""
        await self._client._for_one_call(host, api_version).start(container)

    async def wait(self, container: str, *, host: str | None = None, api_version: str | None = None) -> int:
        """Wait until a container has exited, and return its exit code.

        If it is cancelled, its connection is closed. Arguments and errors are those of ``blocking.wait``.
        """
        return await self._client._for_one_call(host, api_version).wait(container)

    async def kill(
        self,
        container: str,
        signal: str = "KILL",
        *,
        host: str | None = None,
        api_version: str | None = None,
    ) -> None:
        """Send a signal to a container's main process. Arguments and errors are those of ``blocking.kill``."""
        await self._client._for_one_call(host, api_version).kill(container, signal)

    async def remove(
        self,
        container: str,
        *,
        force: bool = False,
        volumes: bool = False,
        missing_ok: bool = False,
        host: str | None = None,
        api_version: str | None = None,
    ) -> None:
        """Remove a container. Arguments and errors are those of ``blocking.remove``."""
        await self._client._for_one_call(host, api_version).remove(
            container, force=force, volumes=volumes, missing_ok=missing_ok
        )

    async def create_exec(
        self,
        container: str,
        command: Sequence[str],
        *,
        stdin: bool = False,
        host: str | None = None,
        api_version: str | None = None,
        **options: Unpack[ExecOptions],
    ) -> str:
        """Create a command in a running container, and return its ID, for ``exec_start``.

        Arguments and errors are those of ``blocking.create_exec``.
        """
        return await self._client._for_one_call(host, api_version).create_exec(
            container, command, stdin=stdin, **options
        )

    async def open_exec(
        self,
        container: str,
        command: Sequence[str],
        *,
        stdin: bool = False,
        console_size: tuple[int, int] | None = None,
        host: str | None = None,
        api_version: str | None = None,
        **options: Unpack[ExecOptions],
    ) -> A:
        """Start a command in a running container, and attach to it.

        Arguments and errors are those of ``blocking.open_exec``.
        """
        client = self._client._for_one_call(host, api_version)
        return await client.open_exec(container, command, stdin=stdin, console_size=console_size, **options)

    async def open_on(self, session: S, request: StreamRequest) -> A:
        """Open the stream on a session over the caller's connection. If this raises, the session is closed."""
        try:
            accepted: Accepted = judge_stream(request, await open_stream(session, request))
            return self._client._make_attachment(session, accepted)
        except BaseException:
            await session.aclose()
            raise
