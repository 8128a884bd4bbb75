"""Attach with plain blocking sockets.

One thread may send while another receives. ``close`` may be called from any thread: it wakes a blocked reader. After
a timeout while reading, nothing is lost. After a timeout while sending, stdin cannot be used any more, because it is
not known how much was sent.
"""

# The file has more than 250 lines, because each function has its own signature. What they do is in _blocking_client.

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Unpack, overload

from attachproto import AttachOptions, Quirk, StreamRequest
from attachproto_adapters._blocking_attachment import Attachment, Lines
from attachproto_adapters._blocking_client import Client
from attachproto_adapters._client import DEFAULT_OPTIONS
from attachproto_adapters._flows._arguments import check_opening, check_seconds
from attachproto_adapters._flows._flows import judge_stream
from attachproto_adapters._flows._options import CommandOptions, ExecOptions, LogsOptions, RunExecOptions, RunOptions
from attachproto_adapters._flows._output import CompletedRun, ExecResult
from attachproto_adapters._signatures import takes_options_of
from attachproto_adapters._stdout_reader import StdoutReader
from attachproto_adapters._transport._blocking import BlockingSession
from attachproto_adapters._transport._blocking_dialer import open_stream
from attachproto_adapters._transport._sockets import is_tls_socket

__all__ = ["Attachment", "Client", "Lines", "StdoutReader", "attach", "create", "create_exec", "exec_start", "kill"]
__all__ += ["logs", "open_attachment", "open_exec", "remove", "run", "run_exec", "start", "wait"]


def attach(
    container: str,
    options: AttachOptions = DEFAULT_OPTIONS,
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

    Arguments, warnings and errors are those of ``Client`` (``host``, ``api_version``, ``timeout``) and of
    ``Client.attach``.
    """
    client = Client._for_one_call(host, api_version, timeout)
    return client.attach(container, options, tty=tty, start=start, wait=wait, quirks=quirks)


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

    Arguments and errors are those of ``Client`` and of ``Client.exec_start``.
    """
    client = Client._for_one_call(host, api_version, timeout)
    return client.exec_start(exec_id, tty=tty, console_size=console_size)


def logs(
    container: str,
    *,
    host: str | None = None,
    api_version: str | None = None,
    timeout: float | None = None,
    **options: Unpack[LogsOptions],
) -> Attachment:
    """Read what a container has logged, and with ``follow=True`` also what it logs from now on.

    Arguments and errors are those of ``Client`` and of ``Client.logs``.
    """
    return Client._for_one_call(host, api_version, timeout).logs(container, **options)


@overload
def run_exec(
    container: str, command: Sequence[str], *, encoding: None = None, **options: Unpack[RunExecOptions[bytes]]
) -> ExecResult[bytes]: ...
@overload
def run_exec(
    container: str, command: Sequence[str], *, encoding: str, **options: Unpack[RunExecOptions[bytes | str]]
) -> ExecResult[str]: ...
@takes_options_of(Client.run_exec)
def run_exec(
    container: str, command: Sequence[str], *, host: str | None = None, api_version: str | None = None, **options: Any
) -> ExecResult[Any]:
    """Run a command in a running container, and wait until it has ended.

    Arguments and errors are those of ``Client`` and of ``Client.run_exec``; ``timeout`` is that of the latter.
    """
    call: Callable[..., ExecResult[Any]] = Client._for_one_call(host, api_version, None).run_exec
    return call(container, command, **options)


@overload
def run(
    image: str, command: Sequence[str] = (), *, encoding: None = None, **options: Unpack[RunOptions[bytes]]
) -> CompletedRun[bytes]: ...
@overload
def run(
    image: str, command: Sequence[str] = (), *, encoding: str, **options: Unpack[RunOptions[bytes | str]]
) -> CompletedRun[str]: ...
@takes_options_of(Client.run)
def run(
    image: str, command: Sequence[str] = (), *, host: str | None = None, api_version: str | None = None, **options: Any
) -> CompletedRun[Any]:
    """Run a command in a new container, wait until it has ended, and remove the container.

    ``timeout`` bounds the whole, as for ``Client.run``. Arguments and errors are those of ``Client`` (``host``,
    ``api_version``) and of ``Client.run``.
    """
    call: Callable[..., CompletedRun[Any]] = Client._for_one_call(host, api_version, None).run
    return call(image, command, **options)


def create(
    image: str,
    command: Sequence[str] = (),
    *,
    stdin: bool = False,
    console_size: tuple[int, int] | None = None,
    config: Mapping[str, Any] | None = None,
    name: str | None = None,
    host: str | None = None,
    api_version: str | None = None,
    timeout: float | None = None,
    **options: Unpack[CommandOptions],
) -> str:
    """Create a container, and return its ID. ``attach`` with ``start=True`` starts it, or ``start``.

    Arguments and errors are those of ``Client`` and of ``Client.create``.
    """
    client = Client._for_one_call(host, api_version, timeout)
    return client.create(image, command, stdin=stdin, console_size=console_size, config=config, name=name, **options)


def start(
    container: str, *, host: str | None = None, api_version: str | None = None, timeout: float | None = None
) -> None:
    """Start a container without attaching to it.

    Arguments and errors are those of ``Client`` and of ``Client.start``.
    """
    Client._for_one_call(host, api_version, timeout).start(container)


def wait(
    container: str, *, host: str | None = None, api_version: str | None = None, timeout: float | None = None
) -> int:
    """Wait until a container has exited, and return its exit code.

    Arguments and errors are those of ``Client`` and of ``Client.wait``. ``timeout`` bounds all of it.
    """
    return Client._for_one_call(host, api_version, timeout).wait(container)


def kill(
    container: str,
    signal: str = "KILL",
    *,
    host: str | None = None,
    api_version: str | None = None,
    timeout: float | None = None,
) -> None:
    """Send a signal to a container's main process.

    Arguments and errors are those of ``Client`` and of ``Client.kill``.
    """
    Client._for_one_call(host, api_version, timeout).kill(container, signal)


def remove(
    container: str,
    *,
    force: bool = False,
    volumes: bool = False,
    missing_ok: bool = False,
    host: str | None = None,
    api_version: str | None = None,
    timeout: float | None = None,
) -> None:
    """Remove a container.

    Arguments and errors are those of ``Client`` and of ``Client.remove``.
    """
    Client._for_one_call(host, api_version, timeout).remove(
        container, force=force, volumes=volumes, missing_ok=missing_ok
    )


def create_exec(
    container: str,
    command: Sequence[str],
    *,
    stdin: bool = False,
    host: str | None = None,
    api_version: str | None = None,
    timeout: float | None = None,
    **options: Unpack[ExecOptions],
) -> str:
    """Create a command in a running container, and return its ID, for ``exec_start``.

    Arguments and errors are those of ``Client`` and of ``Client.create_exec``.
    """
    return Client._for_one_call(host, api_version, timeout).create_exec(container, command, stdin=stdin, **options)


def open_exec(
    container: str,
    command: Sequence[str],
    *,
    stdin: bool = False,
    console_size: tuple[int, int] | None = None,
    host: str | None = None,
    api_version: str | None = None,
    timeout: float | None = None,
    **options: Unpack[ExecOptions],
) -> Attachment:
    """Start a command in a running container, and attach to it.

    Arguments and errors are those of ``Client`` and of ``Client.open_exec``.
    """
    client = Client._for_one_call(host, api_version, timeout)
    return client.open_exec(container, command, stdin=stdin, console_size=console_size, **options)


def open_attachment(stream: socket.socket, request: StreamRequest, *, quirks: Iterable[Quirk] = ()) -> Attachment:
    """Attach over a connected socket of your own. The request must have ``tty=``.

    ``wait()``, ``resize()`` and ``kill()`` of the attachment raise ``AttachError``, because it does not know where the
    engine is. The attachment owns the socket from now on. If an argument is wrong, the stream is left alone; after any
    other error it is closed.

    Args:
        stream: the socket.
        request: the stream to open.
        quirks: bugs of the engine to work around.

    Raises:
        RequestRejected: the engine refused.
        RemoteProtocolError: the peer is not an engine, or breaks the protocol.
        LocalProtocolError: neither the answer nor the request's ``tty`` says how the output is framed.
        OSError: the socket failed, or its timeout passed.
        ValueError: the socket is non-blocking.
        TypeError: the request does not open a stream; a quirk is not a ``Quirk``.
    """
    quirks = check_opening(request, quirks)
    check_seconds("the timeout of the socket", stream.gettimeout())  # 0 if it does not block
    if is_tls_socket(stream):
        # Without close_notify, an end of file may be a cut.
        stream.suppress_ragged_eofs = False  # type: ignore[attr-defined]
    session = BlockingSession(stream, quirks=quirks)
    try:
        return Attachment(session, judge_stream(request, open_stream(session, request)))
    except BaseException:
        session.close()
        raise
