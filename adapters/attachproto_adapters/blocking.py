"""Attach with plain blocking sockets.

One thread may send while another receives. ``close`` may be called from any thread: it wakes a blocked reader. After
a timeout while reading, nothing is lost. After a timeout while sending, stdin cannot be used any more, because it is
not known how much was sent.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Sequence
from typing import Unpack

from attachproto import (
    AttachOptions,
    Logs,
    Quirk,
    StreamRequest,
)
from attachproto_adapters._blocking_attachment import Attachment
from attachproto_adapters._blocking_runner import drive
from attachproto_adapters._flows._arguments import check_max_output, check_stream_request
from attachproto_adapters._flows._attach import open_attach
from attachproto_adapters._flows._flows import (
    create_and_open_exec,
    judge_stream,
    open_exec,
)
from attachproto_adapters._flows._logs import open_logs
from attachproto_adapters._flows._options import CommandOptions, LogsOptions
from attachproto_adapters._flows._output import ExecResult, exit_code_wanted
from attachproto_adapters._flows._stdin import as_bytes
from attachproto_adapters._flows._steps import Opened, Steps
from attachproto_adapters._transport._blocking import BlockingSession
from attachproto_adapters._transport._blocking_dialer import Dialer, check_timeout, open_stream
from attachproto_adapters._transport._hosts import resolve_api_version, resolve_host
from attachproto_adapters._transport._sockets import is_tls_socket

__all__ = ["Attachment", "attach", "exec_start", "logs", "open_attachment", "run_exec"]


_DEFAULT_OPTIONS = AttachOptions()


def attach(
    container: str,
    options: AttachOptions = _DEFAULT_OPTIONS,
    *,
    host: str | None = None,
    tty: bool | None = None,
    start: bool = False,
    wait: bool = False,
    api_version: str | None = None,
    quirks: Iterable[Quirk] | None = None,
    timeout: float | None = None,
) -> Attachment:
    """Attach to a container.

    It warns with ``AttachWarning`` if stdin is asked for and the container was created without ``OpenStdin``.

    Args:
        container: its name or ID.
        options: which streams to attach to, and whether to read first what was logged so far.
        host: the engine, as ``unix://PATH``, ``tcp://NAME:PORT`` or ``ssh://USER@NAME``; by default as the docker CLI
            finds it: ``DOCKER_HOST``, ``DOCKER_CONTEXT``, the current context, Docker's own socket; then Podman's.
        tty: whether the container has a TTY; by default the container is inspected.
        start: start the container after attaching to it. No other order is sure to get its first output.
        wait: ask for the exit code now, on a second connection, so that ``wait()`` returns it even if the engine
            removes the container when it exits. ``start=True`` implies it.
        api_version: such as ``"1.41"``; by default ``DOCKER_API_VERSION``. Without either, the engine uses its newest.
        quirks: bugs of the engine to work around; by default those that its version is known to have.
        timeout: how many seconds each connect, read, write or wait may take, here and later (see ``settimeout``).

    Raises:
        RequestRejected: the engine refused a call; ``ApiVersionRejected`` if it does not speak the API version.
        ContainerNotRunning: it has exited, and neither ``start`` nor ``logs`` was asked for; or it is paused.
        LogsUnavailable: ``logs`` was asked for, and the container's log driver cannot be read.
        EngineUnreachable: no engine answers at this address, or not within the timeout.
        HostInvalid: the address is not valid.
        TypeError, ValueError: an argument is not valid. Nothing was sent.
        RemoteProtocolError: the peer is not an engine, or breaks the protocol.
        TimeoutError: the engine did not answer in time. The text names the call, the address and the seconds. Also
            without a timeout, if an attach has no answer after 30 seconds, because a proxy holds it back.
    """
    api_version = resolve_api_version(api_version, os.environ)
    steps = open_attach(container, options, tty=tty, start=start, wait=wait, api_version=api_version, quirks=quirks)
    return _open(steps, host, timeout)


def exec_start(
    exec_id: str,
    *,
    host: str | None = None,
    tty: bool | None = None,
    console_size: tuple[int, int] | None = None,
    api_version: str | None = None,
    timeout: float | None = None,
) -> Attachment:
    """Start an exec that was created, and attach to it.

    Args:
        exec_id: the ID from the answer to its creation.
        host: as for ``attach``.
        tty: whether it was created with a TTY; by default the exec is inspected.
        console_size: height and width of the terminal in characters; API 1.42 and later, with a TTY.
        api_version: as for ``attach``.
        timeout: as for ``attach``.

    Raises:
        ExecAlreadyStarted: it was started before.
        TypeError, ValueError: an argument is not valid; a console size needs a TTY and API 1.42. Nothing was sent.
        RequestRejected, EngineUnreachable, HostInvalid, RemoteProtocolError, TimeoutError: as for ``attach``.
    """
    api_version = resolve_api_version(api_version, os.environ)
    return _open(open_exec(exec_id, tty=tty, console_size=console_size, api_version=api_version), host, timeout)


def logs(
    container: str,
    *,
    host: str | None = None,
    api_version: str | None = None,
    timeout: float | None = None,
    **options: Unpack[LogsOptions],
) -> Attachment:
    """Read what a container has logged, and with ``follow=True`` also what it logs from now on.

    Args:
        container: its name or ID.
        host: as for ``attach``.
        api_version: as for ``attach``.
        timeout: as for ``attach``.
        options: which part of the log to read: see ``LogsOptions``.

    Raises:
        TypeError, ValueError: an argument is not valid, or neither stream is asked for. Nothing was sent.
        RequestRejected, EngineUnreachable, HostInvalid, RemoteProtocolError, TimeoutError: as for ``attach``.
    """
    request = Logs(container, api_version=resolve_api_version(api_version, os.environ), **options)
    return _open(open_logs(request), host, timeout)


def run_exec(
    container: str,
    command: Sequence[str],
    *,
    input: bytes | None = None,
    max_output: int | None = None,
    host: str | None = None,
    api_version: str | None = None,
    timeout: float | None = None,
    **options: Unpack[CommandOptions],
) -> ExecResult:
    """Run a command in a running container, and wait until it has ended.

    Args:
        container: its name or ID.
        command: the program and its arguments, which go through no shell.
        input: what the command reads from its stdin; by default it has no stdin.
        max_output: how many bytes stdout and stderr may have together.
        host: as for ``attach``.
        api_version: as for ``attach``.
        timeout: as for ``attach``: it bounds each wait for the engine, and not the whole call.
        options: how the command is created: see ``CommandOptions``.

    Raises:
        ContainerNotRunning: it has exited, is paused, or was never started.
        OutputTooLarge: there was more output than ``max_output``; the first ``max_output`` bytes are in the error. The
            command goes on.
        OutputCut: the output ended while the command goes on; what was read is in the error.
        ExitCodeUnknown: the output has ended, and the engine could not be asked for the exit code, or does not know it;
            the outputs are in the error.
        HalfCloseEndsAttach: there is input, and the command has a TTY, or an intermediary is known to close the whole
            connection when stdin ends.
        EngineReportedError: the engine put an error of its own into the stream.
        TypeError, ValueError: an argument is not valid, or needs a later API. Nothing was sent.
        RequestRejected, EngineUnreachable, HostInvalid, RemoteProtocolError, TimeoutError: as for ``attach``.
    """
    input = as_bytes(input)
    check_max_output(max_output)
    api_version = resolve_api_version(api_version, os.environ)
    steps = create_and_open_exec(container, command, stdin=input is not None, api_version=api_version, **options)
    with _open(steps, host, timeout) as attachment:
        outputs = attachment._exchange(input, max_output)
        with exit_code_wanted(outputs, (OSError,)):
            return ExecResult(attachment.wait(), *outputs)


def _open(steps: Steps[Opened], host: str | None, timeout: float | None) -> Attachment:
    check_timeout(timeout)
    dialer = Dialer(resolve_host(host, os.environ), timeout)
    try:
        driven = drive(steps, dialer)
        return Attachment(*driven.streamed(), driven.value, dialer, driven.held)
    except BaseException:
        dialer.close()
        raise


def open_attachment(stream: socket.socket, request: StreamRequest, *, quirks: Iterable[Quirk] = ()) -> Attachment:
    """Attach over a connected socket of your own. The request must have ``tty=``.

    ``wait()`` and ``resize()`` of the attachment raise, because it does not know where the engine is. The attachment
    owns the socket from now on; if this raises, the socket is closed.

    Args:
        stream: the socket.
        request: the stream to open.
        quirks: bugs of the engine to work around.

    Raises:
        RequestRejected: the engine refused.
        RemoteProtocolError: the peer is not an engine, or breaks the protocol.
        LocalProtocolError: neither the answer nor the request's ``tty`` says how the output is framed.
        OSError: the socket failed, or its timeout passed.
        ValueError: the socket is non-blocking. It is not closed.
        TypeError: the request does not open a stream. The socket is not closed.
    """
    check_stream_request(request)
    check_timeout(stream.gettimeout())
    if is_tls_socket(stream):
        # Without close_notify, an end of file may be a cut.
        stream.suppress_ragged_eofs = False  # type: ignore[attr-defined]
    session = BlockingSession(stream, quirks=quirks)
    try:
        return Attachment(session, judge_stream(request, open_stream(session, request)))
    except BaseException:
        session.close()
        raise
