"""The client of the asyncio and trio adapters: the calls that one engine answers.

Strategy: as in ``_blocking_client``, where the methods are documented. ``_drive`` performs a flow and returns its
result, and ``_open`` makes an attachment of the stream that the flow has opened. Each adapter names the framework's
attachment and dialer in a subclass. The file has more than 250 lines, because each method has its own signature.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, Unpack, overload

from attachproto import AttachOptions, Logs, Quirk
from attachproto_adapters._async_attachment import AsyncAttachment
from attachproto_adapters._async_command import AsyncCommandRun
from attachproto_adapters._async_run import run_container
from attachproto_adapters._async_runner import drive
from attachproto_adapters._client import DEFAULT_OPTIONS, ClientBase
from attachproto_adapters._flows._api_calls import created_id
from attachproto_adapters._flows._arguments import check_options
from attachproto_adapters._flows._attach import open_attach
from attachproto_adapters._flows._container_calls import create_request
from attachproto_adapters._flows._containers import (
    create_container,
    kill_container,
    remove_container,
    start_container,
)
from attachproto_adapters._flows._flows import create_and_open_exec, create_exec, open_exec
from attachproto_adapters._flows._live_output import CallersErrorsUnwrapped
from attachproto_adapters._flows._logs import open_logs
from attachproto_adapters._flows._options import (
    ClientRunExecOptions,
    ClientRunOptions,
    CommandOptions,
    ExecOptions,
    LogsOptions,
)
from attachproto_adapters._flows._output import CompletedRun, ExecResult
from attachproto_adapters._flows._steps import Opened, Steps
from attachproto_adapters._flows._waits import wait_for_exit
from attachproto_adapters._signatures import takes_options_of
from attachproto_adapters._transport._address import Address
from attachproto_adapters._transport._async_base import AsyncSession
from attachproto_adapters._transport._async_dialer import AsyncDialer

if TYPE_CHECKING:
    import ssl

T = TypeVar("T")
S = TypeVar("S", bound=AsyncSession)
A = TypeVar("A", bound=AsyncAttachment[Any])


class AsyncClient(ClientBase, Generic[A, S]):
    """One engine, and the calls that it answers. Creating a client opens no connection.

    It is an asynchronous context manager; without ``async with``, call ``aclose`` at the end. Several tasks may use one
    client at the same time. Arguments and errors are those of ``blocking.Client``.
    """

    # What a subclass sets: the framework's class for attachments, and its dialer.
    _make_attachment: Callable[..., A]
    _make_dialer: Callable[[Address], AsyncDialer[S]]

    def __init__(
        self,
        host: str | None = None,
        *,
        tls: ssl.SSLContext | None = None,
        headers: Iterable[tuple[str, str]] = (),
        api_version: str | None = None,
    ) -> None:
        super().__init__(host, tls, headers, api_version)

    @classmethod
    def _for_one_call(cls, host: str | None, api_version: str | None) -> Self:
        """A client that keeps no connection when its call has ended, so that it need not be closed."""
        client = cls(host, api_version=api_version)
        client._hold.release()
        return client

    # ---- streams ----

    async def attach(
        self,
        container: str,
        options: AttachOptions = DEFAULT_OPTIONS,
        *,
        tty: bool | None = None,
        start: bool = False,
        wait: bool = False,
        quirks: Iterable[Quirk] | None = None,
    ) -> A:
        """Attach to a container. Arguments, warnings and errors are those of ``blocking.Client.attach``."""
        api_version = self._api_version
        return await self._open(
            open_attach(container, options, tty=tty, start=start, wait=wait, api_version=api_version, quirks=quirks)
        )

    async def exec_start(
        self, exec_id: str, *, tty: bool | None = None, console_size: tuple[int, int] | None = None
    ) -> A:
        """Start an exec and attach to it. Arguments and errors are those of ``blocking.Client.exec_start``."""
        return await self._open(open_exec(exec_id, tty=tty, console_size=console_size, api_version=self._api_version))

    async def logs(self, container: str, **options: Unpack[LogsOptions]) -> A:
        """Read what a container has logged. Arguments and errors are those of ``blocking.Client.logs``."""
        check_options("logs", options, LogsOptions)
        return await self._open(open_logs(Logs(container, api_version=self._api_version, **options)))

    # ---- commands ----

    @overload
    async def run_exec(
        self,
        container: str,
        command: Sequence[str],
        *,
        encoding: None = None,
        **options: Unpack[ClientRunExecOptions[bytes]],
    ) -> ExecResult[bytes]: ...
    @overload
    async def run_exec(
        self,
        container: str,
        command: Sequence[str],
        *,
        encoding: str,
        **options: Unpack[ClientRunExecOptions[bytes | str]],
    ) -> ExecResult[str]: ...
    @takes_options_of(ClientBase._prepare_run_exec)
    async def run_exec(self, container: str, command: Sequence[str], **options: Any) -> ExecResult[Any]:
        """Run a command in a running container, and wait until it has ended.

        If it is cancelled, it ends the command first, as for any other error. ``on_output`` may be an async function,
        and is awaited then. Arguments and errors are those of ``blocking.Client.run_exec``.
        """
        prepared, exchange = self._prepare_run_exec(container, command, **options)
        run: AsyncCommandRun[A, S] = AsyncCommandRun(prepared, exchange, self._dialer(), self._make_attachment)
        with CallersErrorsUnwrapped():
            async with self._keeping():
                return exchange.decoded(await run.run())

    async def create_exec(
        self, container: str, command: Sequence[str], *, stdin: bool = False, **options: Unpack[ExecOptions]
    ) -> str:
        """Create a command in a running container, and return its ID, for ``exec_start``.

        Arguments and errors are those of ``blocking.Client.create_exec``.
        """
        check_options("create_exec", options, ExecOptions)
        steps = create_exec(container, command, stdin=stdin, api_version=self._api_version, **options)
        return created_id("exec", await self._drive(steps))

    async def open_exec(
        self,
        container: str,
        command: Sequence[str],
        *,
        stdin: bool = False,
        console_size: tuple[int, int] | None = None,
        **options: Unpack[ExecOptions],
    ) -> A:
        """Start a command in a running container, and attach to it.

        Arguments and errors are those of ``blocking.Client.open_exec``.
        """
        check_options("open_exec", options, ExecOptions)
        return await self._open(
            create_and_open_exec(
                container,
                command,
                stdin=stdin,
                stdin_must_end=False,
                console_size=console_size,
                api_version=self._api_version,
                **options,
            )
        )

    # ---- containers ----

    @overload
    async def run(
        self,
        image: str,
        command: Sequence[str] = (),
        *,
        encoding: None = None,
        **options: Unpack[ClientRunOptions[bytes]],
    ) -> CompletedRun[bytes]: ...
    @overload
    async def run(
        self,
        image: str,
        command: Sequence[str] = (),
        *,
        encoding: str,
        **options: Unpack[ClientRunOptions[bytes | str]],
    ) -> CompletedRun[str]: ...
    @takes_options_of(ClientBase._prepare_run)
    async def run(self, image: str, command: Sequence[str] = (), **options: Any) -> CompletedRun[Any]:
        """Run a command in a new container, wait until it has ended, and remove the container.

        If it is cancelled, the container is removed before the cancellation goes on. ``on_output`` may be an async
        function, and is awaited then. Arguments and errors are those of ``blocking.Client.run``.
        """
        prepared, exchange = self._prepare_run(image, command, **options)
        with CallersErrorsUnwrapped():
            async with self._keeping():
                return exchange.decoded(await run_container(prepared, exchange, self._dialer(), self._open))

    async def create(
        self,
        image: str,
        command: Sequence[str] = (),
        *,
        stdin: bool = False,
        console_size: tuple[int, int] | None = None,
        config: Mapping[str, Any] | None = None,
        name: str | None = None,
        **options: Unpack[CommandOptions],
    ) -> str:
        """Create a container, and return its ID. ``attach`` with ``start=True`` starts it, or ``start``.

        Arguments and errors are those of ``blocking.Client.create``.
        """
        check_options("create", options, CommandOptions)
        request = create_request(
            image,
            command,
            stdin=stdin,
            console_size=console_size,
            config=config,
            name=name,
            api_version=self._api_version,
            **options,
        )
        return await self._drive(create_container(request))

    async def start(self, container: str) -> None:
        """Start a container without attaching to it. Arguments and errors are those of ``blocking.Client.start``."""
        await self._drive(start_container(container, self._api_version))

    async def wait(self, container: str) -> int:
        """Wait until a container has exited, and return its exit code.

        If it is cancelled, its connection is closed. Arguments and errors are those of ``blocking.Client.wait``.
        """
        return await self._drive(wait_for_exit(container, self._api_version))

    async def kill(self, container: str, signal: str = "KILL") -> None:
        """Send a signal to a container's main process. Arguments and errors are those of ``blocking.Client.kill``."""
        await self._drive(kill_container(container, signal, self._api_version))

    async def remove(
        self, container: str, *, force: bool = False, volumes: bool = False, missing_ok: bool = False
    ) -> None:
        """Remove a container. Arguments and errors are those of ``blocking.Client.remove``."""
        await self._drive(
            remove_container(
                container, force=force, volumes=volumes, missing_ok=missing_ok, api_version=self._api_version
            )
        )

    # ---- how a method makes its calls ----

    async def _drive(self, steps: Steps[T]) -> T:
        """Perform a flow that opens no stream, and return its result. All its connections are closed then."""
        dialer = self._dialer()
        try:
            return (await drive(steps, dialer)).value
        finally:
            await dialer.aclose()

    async def _open(self, steps: Steps[Opened], dialer: AsyncDialer[S] | None = None) -> A:
        """Perform a flow that opens a stream, and return the attachment. If it raises, nothing stays open."""
        dialer = self._dialer() if dialer is None else dialer
        try:
            driven = await drive(steps, dialer)
            return self._make_attachment(*driven.streamed(), driven.value, dialer, driven.held)
        except BaseException:
            await dialer.aclose()
            raise

    @contextlib.asynccontextmanager
    async def _keeping(self) -> AsyncIterator[None]:
        """For a method of several flows: keep an idle connection from one to the next."""
        dialer = self._make_dialer(self._address)
        hold = dialer.hold()
        try:
            yield
        finally:
            await dialer.let_go(hold)

    def _dialer(self) -> AsyncDialer[S]:
        """What makes the connections of one job. The caller closes it, or gives it to an attachment."""
        self._check_open()
        return self._make_dialer(self._address)

    # ---- the end ----

    async def aclose(self) -> None:
        """Close the client, and the connection that it keeps. May be called more than once.

        Attachments that it has opened go on, and so do calls of other tasks.
        """
        self._closed = True
        await self._make_dialer(self._address).let_go(self._hold)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()
