"""The client of the blocking adapter: the calls that one engine answers.

Strategy: a method checks its arguments, builds a flow (``_flows``), and gives it to ``_drive``, which performs it and
returns its result, or to ``_open``, which makes an attachment of the stream that the flow has opened.

The methods are documented here for every framework: the functions of ``blocking``, and the clients and functions of the
other adapters, refer to them. That is why the file has more than 250 lines, and the class more than 15 methods.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack, overload

from attachproto import AttachOptions, Logs, Quirk
from attachproto_adapters._blocking_attachment import Attachment
from attachproto_adapters._blocking_command import CommandRun
from attachproto_adapters._blocking_run import run_container
from attachproto_adapters._blocking_runner import drive
from attachproto_adapters._client import DEFAULT_OPTIONS, ClientBase
from attachproto_adapters._flows._api_calls import created_id
from attachproto_adapters._flows._arguments import check_options, check_seconds
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
from attachproto_adapters._transport._blocking_dialer import Dialer, end_idle

if TYPE_CHECKING:
    import ssl

T = TypeVar("T")


class Client(ClientBase):
    """One engine, and the calls that it answers. Creating a client opens no connection.

    It finds the engine and loads the certificates once, for all its calls. It is a context manager; without ``with``,
    call ``close`` at the end. Several threads may use one client at the same time. An attachment goes on after its
    client was closed.

    Args:
        host: the engine, as ``unix://PATH``, ``tcp://NAME:PORT`` or ``ssh://USER@NAME``; by default as the docker CLI
            finds it: ``DOCKER_HOST``, ``DOCKER_CONTEXT``, the current context, Docker's own socket; then Podman's. A
            path behind the port, where a proxy serves the engine, stands before the path of every request.
        tls: speak TLS with this context, to an engine at ``tcp://``. By default ``DOCKER_TLS_VERIFY``, ``DOCKER_TLS``
            and ``DOCKER_CERT_PATH`` decide, or the docker context.
        headers: pairs of a name and a value, which go with every request. They win over the ``HttpHeaders`` of docker's
            ``config.json``.
        api_version: such as ``"1.41"``; by default ``DOCKER_API_VERSION``. Without either, the engine uses its newest.
        timeout: how many seconds each connect, read, write or wait may take, here and later (see
            ``Attachment.settimeout``).

    Raises:
        EngineUnreachable: nothing names an engine, and no engine's socket is in one of the usual places.
        HostInvalid: the address is not valid, or ``tls`` was given for an address without TCP.
        TypeError, ValueError: an argument is not valid.
    """

    _awaits = False

    def __init__(
        self,
        host: str | None = None,
        *,
        tls: ssl.SSLContext | None = None,
        headers: Iterable[tuple[str, str]] = (),
        api_version: str | None = None,
        timeout: float | None = None,
    ) -> None:
        check_seconds("timeout", timeout)
        super().__init__(host, tls, headers, api_version)
        self._timeout = timeout

    @classmethod
    def _for_one_call(cls, host: str | None, api_version: str | None, timeout: float | None) -> Self:
        """A client that keeps no connection when its call has ended, so that it need not be closed."""
        client = cls(host, api_version=api_version, timeout=timeout)
        client._hold.release()
        return client

    # ---- streams ----

    def attach(
        self,
        container: str,
        options: AttachOptions = DEFAULT_OPTIONS,
        *,
        tty: bool | None = None,
        start: bool = False,
        wait: bool = False,
        quirks: Iterable[Quirk] | None = None,
    ) -> Attachment:
        """Attach to a container.

        It warns with ``AttachWarning`` if stdin is asked for and the container was created without ``OpenStdin``.

        Args:
            container: its name or ID.
            options: which streams to attach to, and whether to read first what was logged so far.
            tty: whether the container has a TTY; by default the container is inspected.
            start: start the container after attaching to it. No other order is sure to get its first output.
            wait: ask for the exit code now, on a second connection, so that ``wait()`` returns it even if the engine
                removes the container when it exits. ``start=True`` implies it.
            quirks: bugs of the engine to work around; by default those that its version is known to have.

        Raises:
            RequestRejected: the engine refused a call; ``ApiVersionRejected`` if it does not speak the API version.
            ContainerNotRunning: it has exited, and neither ``start`` nor ``logs`` was asked for; or it is paused.
            LogsUnavailable: ``logs`` was asked for, and the container's log driver cannot be read.
            EngineUnreachable: no engine answers at this address, or not within the timeout.
            TypeError, ValueError: an argument is not valid. Nothing was sent.
            RemoteProtocolError: the peer is not an engine, or breaks the protocol.
            TimeoutError: the engine did not answer in time. The text names the call, the address and the seconds. Also
                without a timeout, if an attach has no answer after 30 seconds, because a proxy holds it back.
            ClientClosed: the client was closed. Every method raises this.
        """
        api_version = self._api_version
        return self._open(
            open_attach(container, options, tty=tty, start=start, wait=wait, api_version=api_version, quirks=quirks)
        )

    def exec_start(
        self, exec_id: str, *, tty: bool | None = None, console_size: tuple[int, int] | None = None
    ) -> Attachment:
        """Start an exec that was created, and attach to it.

        Args:
            exec_id: the ID from the answer to its creation.
            tty: whether it was created with a TTY; by default the exec is inspected.
            console_size: height and width of the terminal in characters; API 1.42 and later, with a TTY.

        Raises:
            ExecAlreadyStarted: it was started before.
            TypeError, ValueError: an argument is not valid; a console size needs a TTY and API 1.42. Nothing was sent.
            RequestRejected, EngineUnreachable, RemoteProtocolError, TimeoutError: as for ``attach``.
        """
        return self._open(open_exec(exec_id, tty=tty, console_size=console_size, api_version=self._api_version))

    def logs(self, container: str, **options: Unpack[LogsOptions]) -> Attachment:
        """Read what a container has logged, and with ``follow=True`` also what it logs from now on.

        Args:
            container: its name or ID.
            options: which part of the log to read: see ``LogsOptions``.

        Raises:
            TypeError, ValueError: an argument is not valid, or neither stream is asked for. Nothing was sent.
            RequestRejected, EngineUnreachable, RemoteProtocolError, TimeoutError: as for ``attach``.
        """
        check_options("logs", options, LogsOptions)
        return self._open(open_logs(Logs(container, api_version=self._api_version, **options)))

    # ---- commands ----

    @overload
    def run_exec(
        self,
        container: str,
        command: Sequence[str],
        *,
        encoding: None = None,
        **options: Unpack[ClientRunExecOptions[bytes]],
    ) -> ExecResult[bytes]: ...
    @overload
    def run_exec(
        self,
        container: str,
        command: Sequence[str],
        *,
        encoding: str,
        **options: Unpack[ClientRunExecOptions[bytes | str]],
    ) -> ExecResult[str]: ...
    @takes_options_of(ClientBase._prepare_run_exec)
    def run_exec(self, container: str, command: Sequence[str], **options: Any) -> ExecResult[Any]:
        """Run a command in a running container, and wait until it has ended.

        It does not leave the command running. Whatever it raises (a timeout, ``KeyboardInterrupt``, too much output, a
        connection that broke), it ends the command first, and every process in its session: SIGTERM, and after half a
        second SIGKILL. That takes up to 17 seconds if the engine does not answer. For that, the container's ``/bin/sh``
        starts the command. The shell prints its process ID, and is then replaced by the command. Environment, bytes and
        exit code are the same. If the container has no shell, the command is started without one, and cannot be ended.

        Args:
            container: its name or ID.
            command: the program and its arguments, which go through no shell.
            input: what the command reads from its stdin; by default it has no stdin. With ``encoding`` also a ``str``.
            encoding: of the output, which is then ``str`` in place of bytes. Line ends stay as they are.
            errors: what to do with bytes that cannot be decoded, as for ``bytes.decode``.
            max_output: how many bytes stdout and stderr may have together.
            on_output: called with each piece of output as it comes: a ``Stdout``, a ``Stderr``, or a ``RawOutput`` with
                a TTY. It is called in this thread, and nothing is read meanwhile. What it raises ends the command, and
                is raised. The result has the output as well, and so has ``OutputTooLarge``. After ``timeout`` it is
                not called any more.
            timeout: how many seconds all of it may take; then the command is ended. The client's ``timeout`` bounds
                each wait for the engine.
            kill: whether the command may be ended. With ``False`` it goes on, and no shell is used.
            options: how the command is created: see ``CommandOptions``.

        Raises:
            CommandTimeout: it has not ended within ``timeout``. What it has printed is in the error, and whether it was
                seen to have ended.
            ContainerNotRunning: it has exited, is paused, or was never started.
            OutputTooLarge: there was more output than ``max_output``; the first ``max_output`` bytes are in the error.
            OutputCut: the output ended while the command goes on; what was read is in the error.
            ExitCodeUnknown: the output has ended, and the engine could not be asked for the exit code, or does not know
                it; the outputs are in the error.
            HalfCloseEndsAttach: there is input, and the command has a TTY, or an intermediary is known to close the
                whole connection when stdin ends.
            EngineReportedError: the engine put an error of its own into the stream.
            StreamBroken, StreamReset: the stream was cut inside a frame or reset; what was read is in the error.
            OutputUndecodable: the command has ended, and its output is not text in this encoding; it is in the error.
            TypeError, ValueError, LookupError: an argument is not valid, or needs a later API. Nothing was sent.
            RequestRejected, EngineUnreachable, RemoteProtocolError, TimeoutError: as for ``attach``.
        """
        prepared, exchange = self._prepare_run_exec(container, command, **options)
        with CallersErrorsUnwrapped(), self._keeping():
            return exchange.decoded(CommandRun(prepared, exchange, self._dialer()).run())

    def create_exec(
        self, container: str, command: Sequence[str], *, stdin: bool = False, **options: Unpack[ExecOptions]
    ) -> str:
        """Create a command in a running container, and return its ID, for ``exec_start``.

        Args:
            container: its name or ID.
            command: the program and its arguments, which go through no shell.
            stdin: whether it has a stdin.
            options: how the command is created: see ``ExecOptions``.

        Raises:
            ContainerNotRunning: it has exited, is paused, or was never started.
            TypeError, ValueError: an argument is not valid, or needs a later API. Nothing was sent.
            RequestRejected, EngineUnreachable, RemoteProtocolError, TimeoutError: as for ``attach``.
        """
        check_options("create_exec", options, ExecOptions)
        steps = create_exec(container, command, stdin=stdin, api_version=self._api_version, **options)
        return created_id("exec", self._drive(steps))

    def open_exec(
        self,
        container: str,
        command: Sequence[str],
        *,
        stdin: bool = False,
        console_size: tuple[int, int] | None = None,
        **options: Unpack[ExecOptions],
    ) -> Attachment:
        """Start a command in a running container, and attach to it.

        Args:
            container: its name or ID.
            command: the program and its arguments, which go through no shell.
            stdin: whether it has a stdin.
            console_size: height and width of the terminal in characters; API 1.42 and later, with ``tty=True``.
            options: how the command is created: see ``ExecOptions``.

        Raises:
            ContainerNotRunning: it has exited, is paused, or was never started.
            TypeError, ValueError: an argument is not valid, or needs a later API. Nothing was sent.
            RequestRejected, EngineUnreachable, RemoteProtocolError, TimeoutError: as for ``attach``.
        """
        check_options("open_exec", options, ExecOptions)
        return self._open(
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
    def run(
        self,
        image: str,
        command: Sequence[str] = (),
        *,
        encoding: None = None,
        **options: Unpack[ClientRunOptions[bytes]],
    ) -> CompletedRun[bytes]: ...
    @overload
    def run(
        self,
        image: str,
        command: Sequence[str] = (),
        *,
        encoding: str,
        **options: Unpack[ClientRunOptions[bytes | str]],
    ) -> CompletedRun[str]: ...
    @takes_options_of(ClientBase._prepare_run)
    def run(self, image: str, command: Sequence[str] = (), **options: Any) -> CompletedRun[Any]:
        """Run a command in a new container, wait until it has ended, and remove the container.

        The container is also removed if this raises, or is interrupted at any moment: an interruption waits until the
        engine has answered, for at most 40 seconds. If the removal fails, a note in the error says so, or a warning
        (``AttachWarning``) if there is no error.

        Args:
            image: its name or ID. The engine must have it.
            command: the program and its arguments, which go through no shell; by default the image's own.
            input: what the command reads from its stdin; by default it has no stdin. With ``encoding`` also a ``str``.
            encoding: of the output, which is then ``str`` in place of bytes. Line ends stay as they are.
            errors: what to do with bytes that cannot be decoded, as for ``bytes.decode``.
            max_output: how many bytes stdout and stderr may have together.
            on_output: called with each piece of output as it comes, as for ``run_exec``.
            console_size: height and width of the terminal in characters, with ``tty=True``. It is there when the
                command starts; dockerd before 23.0 has it just after that.
            config: fields of the engine's API for the creation, such as ``{"HostConfig": {"Memory": 2**29}}``. Mappings
                are merged into what the other arguments say; any other value replaces it.
            name: of the container; by default a random one.
            remove: remove the container and its nameless volumes. Otherwise it stays, and does not run.
            timeout: how many seconds all of it may take, but for the removal. Then the container is killed.
            options: how the command is created: see ``CommandOptions``.

        Raises:
            ImageNotFound: the engine does not have the image. The text says how to get it.
            RequestRejected: the engine refused a call: the name is taken, or the command was not found, for instance.
            CommandTimeout: it was not over in time. What was read is in the error.
            OutputTooLarge: there was more output than ``max_output``; the first ``max_output`` bytes are in the error.
            OutputCut: the output ended while the container went on; what was read is in the error.
            ExitCodeUnknown: the engine could not be asked for the exit code; the outputs are in the error.
            HalfCloseEndsAttach: there is input, and the container has a TTY, or no ``StdinOnce``; or an intermediary is
                known to close the whole connection when stdin ends.
            EngineReportedError: the engine put an error of its own into the stream.
            StreamBroken, StreamReset: the stream was cut inside a frame or reset; what was read is in the error.
            OutputUndecodable: the command has ended, and its output is not text in this encoding; it is in the error.
            TypeError, ValueError, LookupError: an argument is not valid. Nothing was sent.
            EngineUnreachable, RemoteProtocolError, TimeoutError: as for ``attach``.
        """
        prepared, exchange = self._prepare_run(image, command, **options)
        with CallersErrorsUnwrapped(), self._keeping():
            return exchange.decoded(run_container(prepared, exchange, self._dialer(), self._open))

    def create(
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

        If it is cancelled or interrupted, the engine may create the container nevertheless. With a ``name`` of yours it
        can be removed then.

        Args:
            image: its name or ID. The engine must have it.
            command: the program and its arguments, which go through no shell; by default the image's own.
            stdin: whether it has a stdin. Then the first half-close ends it (``StdinOnce``).
            console_size: height and width of the terminal in characters, with ``tty=True``. Podman, and dockerd
                before 23.0, ignore it: there ``Attachment.resize`` sets it.
            config: as for ``run``.
            name: of the container; by default the engine makes one up.
            options: how the command is created: see ``CommandOptions``.

        Raises:
            ImageNotFound: the engine does not have the image. The text says how to get it.
            TypeError, ValueError: an argument is not valid. Nothing was sent.
            RequestRejected, EngineUnreachable, RemoteProtocolError, TimeoutError: as for ``attach``.
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
        return self._drive(create_container(request))

    def start(self, container: str) -> None:
        """Start a container, and do not attach to it: for a service, or a sandbox in which commands are run.

        A container that runs already is left as it is, without an error: then the engine answers 304, and the container
        is in the state that was asked for. One that has exited runs again. To read the output from its first byte on,
        or to hold the container's stdin open, call ``attach`` with ``start=True``.

        Args:
            container: its name or ID.

        Raises:
            RequestRejected: the engine refused: the command cannot be executed, the container is paused, or there is no
                such container.
            TypeError, ValueError: the name is not valid. Nothing was sent.
            EngineUnreachable, RemoteProtocolError, TimeoutError: as for ``attach``. The container may have been started
                if there was no answer. The request is never sent twice.
        """
        self._drive(start_container(container, self._api_version))

    def wait(self, container: str) -> int:
        """Wait until a container has exited, and return its exit code; at once if it has exited already.

        It waits for the run that goes on when it is called. A restart policy may start the container again after that.
        If a container may be gone before ``wait`` has asked, as one with ``AutoRemove`` is, call ``attach`` with
        ``start=True`` and ``Attachment.wait`` instead. If a proxy ends the wait because the engine was silent for too
        long, the engine is asked again.

        The client's ``timeout`` bounds all of it. In asyncio, trio and anyio use the framework's deadlines. A wait that
        is cancelled or timed out closes its connection, and may be called again.

        Args:
            container: its name or ID.

        Raises:
            ContainerNotRunning: it was never started. Engines would report an exit code at once that no process had.
            ExitCodeUnknown: the engine does not know the exit code: the container was removed during this call, at its
                exit for instance, or the engine has lost it.
            RequestRejected: the engine refused: there is no such container, for instance because it was removed at its
                exit (``not_found``).
            TimeoutError: it has not exited in time.
            TypeError, ValueError: the name is not valid. Nothing was sent.
            EngineUnreachable, RemoteProtocolError: as for ``attach``.
        """
        dialer, seconds = self._dialer(), self._timeout
        dialer.deadline = None if seconds is None else time.monotonic() + seconds
        try:
            return self._drive(wait_for_exit(container, self._api_version), dialer)
        except TimeoutError as exc:
            if dialer.deadline is None or time.monotonic() < dialer.deadline:
                raise
            late = f"timed out: the container {container} has not exited within {seconds:g} s: {self._address.host}"
            raise TimeoutError(late) from exc

    def kill(self, container: str, signal: str = "KILL") -> None:
        """Send a signal to a container's main process.

        Args:
            container: its name or ID.
            signal: its name, such as ``"TERM"``.

        Raises:
            RequestRejected: the engine refused: the container does not run, or there is no such container or signal.
            TypeError, ValueError: an argument is not valid. Nothing was sent.
            EngineUnreachable, RemoteProtocolError, TimeoutError: as for ``attach``.
        """
        self._drive(kill_container(container, signal, self._api_version))

    def remove(self, container: str, *, force: bool = False, volumes: bool = False, missing_ok: bool = False) -> None:
        """Remove a container.

        Args:
            container: its name or ID.
            force: kill it first if it runs.
            volumes: remove those of its volumes that have no name, too.
            missing_ok: do nothing if there is no such container.

        Raises:
            RequestRejected: the engine refused: the container runs, or there is none of this name.
            TypeError, ValueError: an argument is not valid. Nothing was sent.
            EngineUnreachable, RemoteProtocolError, TimeoutError: as for ``attach``.
        """
        self._drive(
            remove_container(
                container, force=force, volumes=volumes, missing_ok=missing_ok, api_version=self._api_version
            )
        )

    # ---- how a method makes its calls ----

    def _drive(self, steps: Steps[T], dialer: Dialer | None = None) -> T:
        """Perform a flow that opens no stream, and return its result. All its connections are closed then."""
        dialer = self._dialer() if dialer is None else dialer
        try:
            return drive(steps, dialer).value
        finally:
            dialer.close()

    def _open(self, steps: Steps[Opened], dialer: Dialer | None = None) -> Attachment:
        """Perform a flow that opens a stream, and return the attachment. If it raises, nothing stays open."""
        dialer = self._dialer() if dialer is None else dialer
        try:
            driven = drive(steps, dialer)
            return Attachment(*driven.streamed(), driven.value, dialer, driven.held)
        except BaseException:
            dialer.close()
            raise

    @contextlib.contextmanager
    def _keeping(self) -> Iterator[None]:
        """For a method of several flows: keep an idle connection from one to the next."""
        hold = self._address.idle.hold()
        try:
            yield
        finally:
            end_idle(hold.release())

    def _dialer(self) -> Dialer:
        """What makes the connections of one job. The caller closes it, or gives it to an attachment."""
        self._check_open()
        return Dialer(self._address, self._timeout)

    # ---- the end ----

    def close(self) -> None:
        """Close the client, and the connection that it keeps.

        Attachments that it has opened go on, and so do calls of other threads. May be called more than once, and from
        any thread.
        """
        self._closed = True
        end_idle(self._hold.release())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
