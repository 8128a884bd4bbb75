"""Attach with plain blocking sockets.

One thread may send while another receives. ``close`` may be called from any thread: it wakes a blocked reader. A
timeout while reading loses nothing that was read; while sending stdin is lost, because nobody knows how much has left.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from attachproto import (
    NEED_DATA,
    SEND_EOF,
    Accepted,
    AttachOptions,
    Logs,
    OutputClosed,
    Quirk,
    ResponseHead,
    Signal,
    Stdin,
    StdinClosed,
    StreamRequest,
)
from attachproto_adapters._attachment import AttachmentBase, LinesBase
from attachproto_adapters._blocking_io import Dialer, Link, check_timeout, open_stream, whole_response
from attachproto_adapters._calls import exit_code, succeeded, wait_request
from attachproto_adapters._errors import AttachmentClosed, ExitCodeUnknown, RequestRejected
from attachproto_adapters._hosts import resolve_api_version, resolve_host
from attachproto_adapters._input import WRITE_SIZE, Feed, as_bytes
from attachproto_adapters._lines import LINE_MAX, Line
from attachproto_adapters._link import half_close
from attachproto_adapters._output import DataEvent, ExecResult, OutputEvent
from attachproto_adapters._sequences import (
    Call,
    Driven,
    Hold,
    Opened,
    Pause,
    Steps,
    Stream,
    create_and_open_exec,
    exec_exit_code,
    judge_stream,
    open_attach,
    open_exec,
    open_logs,
)

__all__ = ["Attachment", "attach", "exec_start", "logs", "open_attachment", "run_exec"]

T = TypeVar("T")


def _drive(steps: Steps[T], dialer: Dialer) -> Driven[T, Link]:
    """Run a sequence; whatever it opened is closed if it raises, or is interrupted."""
    with contextlib.ExitStack() as undo:
        stream: Link | None = None
        held: Link | None = None
        accepted: Accepted | None = None
        paused = 0.0
        result: Any = None
        while True:
            try:
                step = steps.send(result)
            except StopIteration as stop:
                undo.pop_all()
                return Driven(stop.value, stream, accepted, held)
            match step:
                case Call(request):
                    result = dialer.call(request)
                case Hold(request):
                    held = dialer.ask(request)
                    undo.callback(held.close)
                    result = held.next_event()
                    if isinstance(result, ResponseHead) and result.status_code >= 300:
                        result = whole_response(held)
                case Stream(stream_request, quirks):
                    if stream is not None:
                        stream.close()
                    stream = dialer.dial(quirks)
                    undo.callback(stream.close)
                    result = open_stream(stream, stream_request)
                    accepted = result if isinstance(result, Accepted) else None
                case Pause(seconds):
                    paused += seconds
                    if dialer.timeout is not None and paused > dialer.timeout:
                        raise TimeoutError("timed out")
                    time.sleep(seconds)


class Attachment(AttachmentBase[Link]):
    """An open stream: a container's stdin, stdout and stderr, an exec's, or logs.

    It is a context manager that closes on leaving, and an iterator over the output's events. One thread may send
    while another receives.

    Attributes:
        accepted: the engine's answer: how the output is framed, and the header fields.
    """

    def __init__(
        self,
        link: Link,
        accepted: Accepted,
        opened: Opened | None = None,
        dialer: Dialer | None = None,
        held: Link | None = None,
    ) -> None:
        super().__init__(link, accepted, opened)
        self._dialer = dialer
        self._held = held
        self._sending = threading.Lock()

    def _broken_pipe(self, message: str) -> BrokenPipeError:
        return BrokenPipeError(errno.EPIPE, message)

    # ---- sending ----

    def send_stdin(self, data: bytes) -> None:
        """Send bytes to the container's stdin; returns when the kernel has them all.

        The container may not read: then this blocks, so somebody else must read the output meanwhile. That is
        what ``communicate`` does.

        Raises:
            BrokenPipeError, ConnectionResetError: nobody reads stdin any more. Reading goes on.
            TimeoutError: some of it was sent, or none; stdin cannot be used any more. Reading goes on.
            LocalProtocolError: stdin was not attached, was closed, or has failed before.
            AttachmentClosed: the attachment is closed.
            RuntimeError: another thread is sending.
        """
        self._check_send()
        view = memoryview(data).cast("B")
        with self._one_sender():
            for at in range(0, len(view), WRITE_SIZE):
                self._send(Stdin(bytes(view[at : at + WRITE_SIZE])))

    def close_stdin(self) -> None:
        """End the container's stdin: a half-close. Output goes on.

        Warns with ``AttachWarning`` where the engine takes it for the end of the attach.

        Raises:
            HalfCloseUnsupported: the socket cannot do it. Nothing was sent.
            BrokenPipeError: the engine has closed the connection already.
            LocalProtocolError: stdin was not attached, was closed, or has failed before.
            AttachmentClosed: the attachment is closed.
        """
        self._check_close_stdin()
        with self._one_sender():
            self._send(StdinClosed())

    @contextlib.contextmanager
    def _one_sender(self) -> Iterator[None]:
        """Two threads that send at once would tear each other's data apart."""
        if not self._sending.acquire(blocking=False):
            raise RuntimeError("another thread is sending")
        try:
            yield
        finally:
            self._sending.release()

    def _send(self, event: Stdin | StdinClosed) -> None:
        self._check_open()
        try:
            self._link.send(event)
        except AttachmentClosed:
            # Another thread may have closed it, because it read the end of the output.
            self._check_open()
            raise

    # ---- receiving ----

    def receive(self) -> OutputEvent:
        """The next event of the output; at its end ``OutputClosed``, each time.

        Raises:
            RemoteProtocolError: the stream was cut or is malformed; everything before it was delivered.
            TimeoutError: nothing came in time. Nothing is lost: call it again.
            OSError: the connection was reset; everything that had arrived was delivered.
            AttachmentClosed: the attachment is closed, by this thread or another.
        """
        if self._over:
            return OutputClosed()
        return self._ended(self._output(self._link.next_event()))

    def _ended(self, event: OutputEvent) -> OutputEvent:
        if self._over:
            # dockerd only half-closes, and waits for us to close.
            self._link.close()
        return event

    def __iter__(self) -> Self:
        """The output's events up to its end, which is not among them. Raises as ``receive`` does."""
        return self

    def __next__(self) -> DataEvent:
        """The next event; raises as ``receive`` does."""
        event = self.receive()
        if isinstance(event, OutputClosed):
            raise StopIteration
        return event

    def lines(self, encoding: str = "utf-8", errors: str = "replace", *, max_length: int = LINE_MAX) -> Lines:
        """The output as lines of text, each stream by itself.

        Called again, with the same arguments, it goes on where the last loop has stopped, or a timeout has stopped it.

        Args:
            encoding: of the text.
            errors: what to do with bytes that are no text, as for ``bytes.decode``.
            max_length: most characters of a line; a longer one comes in pieces.

        Raises:
            LookupError: there is no such encoding.
        """
        return self._one_lines(Lines, (encoding, errors, max_length))

    def communicate(self, input: bytes | None = None, *, max_output: int | None = None) -> tuple[bytes, bytes]:
        """Send input and end stdin, and read all output meanwhile.

        It cannot deadlock, however large both are, also if the container never reads. If it times out, call
        it again: it goes on where it was, and nothing is lost.

        Args:
            input: what to send; ``b""`` only ends stdin, ``None`` sends nothing and does not end it.
            max_output: most bytes of stdout and stderr together.

        A reset between two frames while input is still unsent is an end too, as Podman makes one: the input was not
        all taken, which the exit code may tell.

        Returns:
            stdout (with a TTY: all that the terminal printed) and stderr.

        Raises:
            HalfCloseEndsAttach: on this container ending stdin would end the attach, and lose output. Nothing was sent.
            HalfCloseUnsupported: the socket cannot half-close. Nothing was sent.
            LocalProtocolError: stdin was not attached.
            ValueError: a call that was interrupted had other input.
            OutputTooLarge: there was more than ``max_output``; what was read is in the error.
            EngineReportedError: the engine put an error of its own into the stream; both outputs are in the error.
            RemoteProtocolError, TimeoutError, OSError, AttachmentClosed: as for ``receive``.
        """
        self._begin(input)
        try:
            self._feed_all(max_output)
            self._drain(max_output)
        except ConnectionResetError:
            if not self._reset_is_an_end():
                raise
            self._drain(max_output)
        return self._gathered.result()

    def _drain(self, max_output: int | None) -> None:
        while not self._over:
            self._gathered.add(self.receive(), max_output)

    def _feed_all(self, max_output: int | None) -> None:
        """Send the input and end stdin; read whatever comes meanwhile. It sends only what does not block."""
        feed = self._feed
        if feed is None or not feed.active or self._over:
            return
        with self._link.poll() as ready:
            while not self._over and (data := feed.next()) is not None:
                if data is SEND_EOF:
                    self._feed_some(feed, data)
                else:
                    readable, writable = ready()
                    if readable:
                        self._link.read()
                    if writable:
                        self._feed_some(feed, data)
                while not self._over and (event := self._link.connection.next_event()) is not NEED_DATA:
                    self._gathered.add(self._ended(self._output(event)), max_output)

    def _feed_some(self, feed: Feed, data: memoryview | Literal[Signal.SEND_EOF]) -> None:
        try:
            if data is SEND_EOF:
                half_close(self._link.sock)
            else:
                feed.sent(self._link.send_now(data))
        except (BrokenPipeError, ConnectionResetError) as exc:
            self._link.send_failed(exc)
            feed.fail()
        except BaseException:
            # Nobody knows what has left: to go on here might send something twice.
            self._link.connection.send_failed()
            feed.lose()
            raise

    # ---- the end ----

    def wait(self) -> int:
        """Wait until the container, or the exec, has exited, and return its exit code.

        Read the output first, or in another thread: a container that nobody reads may not come to its end. One
        thread at a time may wait. An exec is asked for its end again and again, because nothing else tells of it.

        Raises:
            RequestRejected: the engine refused the call.
            AttachError: this attachment was opened over a connection of your own.
            TimeoutError: it has not exited in time; call it again.
        """
        if self._exit_code is None:
            opened, dialer = self._engine("wait()"), self._dialer
            assert dialer is not None
            if opened.kind == "exec":
                steps = exec_exit_code(opened.name, opened.api_version, self._check_not_closed)
                self._exit_code = _drive(steps, dialer).value
            else:
                self._exit_code = self._wait_for_container(opened, dialer)
        return self._exit_code

    def _wait_for_container(self, opened: Opened, dialer: Dialer) -> int:
        self._check_not_closed()
        request = wait_request(opened.name, "not-running", opened.api_version)
        held = self._held
        if held is None:
            held = self._held = dialer.ask(request)
        # Looked at after it can be found: a close() meanwhile has found nothing to close.
        if self._closed:
            held.close()
        try:
            response = whole_response(held)
        except TimeoutError:
            raise
        except BaseException:
            self._spend(held)
            raise
        self._spend(held)
        return exit_code(succeeded(request, response))

    def _spend(self, held: Link) -> None:
        """A wait that has been answered, or broke; the next call asks anew."""
        held.close()
        self._held = None

    def resize(self, height: int, width: int) -> None:
        """Tell the TTY of the container, or the exec, its size in characters.

        Raises:
            RequestRejected: the engine refused; the container does not run, for instance.
            AttachError: this attachment was opened over a connection of your own.
        """
        request = self._resize_request(height, width)
        assert self._dialer is not None
        succeeded(request, self._dialer.call(request))

    def settimeout(self, timeout: float | None) -> None:
        """Set how many seconds a read, a write or a wait may take; ``None`` for ever.

        Raises:
            ValueError: it is not above 0.
        """
        check_timeout(timeout)
        self._link.settimeout(timeout)
        if (held := self._held) is not None:
            held.settimeout(timeout)
        if self._dialer is not None:
            self._dialer.timeout = timeout

    def detach(self) -> None:
        """Leave the container to itself: the same as ``close``. No keys are sent; they are for who has a terminal."""
        self.close()

    def close(self) -> None:
        """Close the connection. The container goes on. May be called from any thread, and more than once."""
        self._closed = True
        self._link.close()
        if (held := self._held) is not None:  # another thread may be spending it
            held.close()
        if self._dialer is not None:
            self._dialer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class Lines(LinesBase[Attachment]):
    """An iterator over the lines of an attachment's output; ``Attachment.lines`` makes it."""

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Line:
        """The next line; raises as ``Attachment.receive`` does."""
        while not self._ready:
            if self._over:
                raise StopIteration
            self._take(self._attachment.receive())
        return self._ready.popleft()


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

    Warns with ``AttachWarning`` if stdin is asked for and the container was created without ``OpenStdin``.

    Args:
        container: its name or ID.
        options: which streams, and whether what was logged so far comes first.
        host: the engine, as ``unix://PATH``, ``tcp://NAME:PORT`` or ``ssh://USER@NAME``; by default as the docker CLI
            finds it: ``DOCKER_HOST``, ``DOCKER_CONTEXT``, the current context, Docker's own socket; then Podman's.
        tty: whether the container has a TTY; by default the engine is asked.
        start: start the container once it is attached to. It is the only order that loses no first output.
        wait: ask for the exit code now, on a connection of its own, so that ``wait()`` gets it even if the
            container is removed at its end. ``start=True`` does so by itself.
        api_version: such as ``"1.41"``; by default ``DOCKER_API_VERSION``, then none, and the engine takes its own.
        quirks: what the engine writes otherwise than others; by default what is known of its version.
        timeout: seconds that each connect, read, write or wait may take, here and later (see ``settimeout``).

    Raises:
        RequestRejected: the engine refused, with its own message; ``ApiVersionRejected`` if because of the version.
        ContainerNotRunning: it has exited, and neither ``start`` nor ``logs`` was asked for; or it is paused.
        EngineUnreachable: no engine answers at this address, or not within the timeout.
        HostInvalid: the address cannot be understood.
        ValueError: the container's name is none; the timeout is not above 0.
        RemoteProtocolError: what answers is no engine, or breaks the rules.
        TimeoutError: something took too long.
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
        exec_id: what its creation answered.
        host: as for ``attach``.
        tty: what its creation said; by default the engine is asked.
        console_size: height and width of the terminal in characters; API 1.42 and later, with a TTY.
        api_version: as for ``attach``.
        timeout: as for ``attach``.

    Raises:
        ExecStarted: it was started before.
        ValueError: the ID is none; a console size without a TTY, or for an API that has none.
        RequestRejected, EngineUnreachable, HostInvalid, RemoteProtocolError, TimeoutError: as for ``attach``.
    """
    api_version = resolve_api_version(api_version, os.environ)
    return _open(open_exec(exec_id, tty=tty, console_size=console_size, api_version=api_version), host, timeout)


def logs(
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
    timeout: float | None = None,
) -> Attachment:
    """Read what a container has logged, and will.

    Args:
        container: its name or ID.
        follow: go on with what comes, until the container has exited.
        stdout: what it wrote to stdout.
        stderr: what it wrote to stderr.
        since: from this time on, in seconds since the epoch.
        until: up to this time; API 1.35 and later.
        timestamps: put the time before each line.
        tail: at most this many of the last lines; ``None`` for all.
        details: put the attributes of the log driver before each line.
        host: as for ``attach``.
        tty: as for ``attach``.
        api_version: as for ``attach``.
        timeout: as for ``attach``.

    Raises:
        ValueError: the container's name is none; a time is none; neither stream is asked for.
        RequestRejected, EngineUnreachable, HostInvalid, RemoteProtocolError, TimeoutError: as for ``attach``.
    """
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
    return _open(open_logs(request), host, timeout)


def run_exec(
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
    timeout: float | None = None,
) -> ExecResult:
    """Run a command in a running container, and wait for its end.

    Args:
        container: its name or ID.
        command: the program and its arguments; no shell looks at them.
        input: what the command reads from its stdin; by default it has none.
        tty: give it a terminal; there is no input then, as its end could not be told.
        env: more variables of its environment.
        user: who it runs as, as ``NAME``, ``UID`` or ``USER:GROUP``; by default the container's user.
        workdir: the directory that it runs in; by default the container's.
        max_output: most bytes of stdout and stderr together.
        host: as for ``attach``.
        api_version: as for ``attach``.
        timeout: as for ``attach``: it bounds each wait for the engine, and not the whole, which the command may take.

    Raises:
        ContainerNotRunning: it has exited, is paused, or was never started.
        OutputTooLarge: there was more than ``max_output``; what was read is in the error. The command goes on.
        ExitCodeUnknown: the container was removed before the engine was asked; the outputs are in the error.
        HalfCloseEndsAttach: there is input for a TTY.
        EngineReportedError: the engine put an error of its own into the stream.
        ValueError: the container's name is none, the command is empty, or a field needs a later API.
        RequestRejected, EngineUnreachable, HostInvalid, RemoteProtocolError, TimeoutError: as for ``attach``.
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
    with _open(steps, host, timeout) as attachment:
        stdout, stderr = attachment.communicate(input, max_output=max_output)
        try:
            code = attachment.wait()
        except RequestRejected as exc:
            raise ExitCodeUnknown(str(exc), stdout, stderr) from exc
        return ExecResult(code, stdout, stderr)


def _open(steps: Steps[Opened], host: str | None, timeout: float | None) -> Attachment:
    check_timeout(timeout)
    dialer = Dialer(resolve_host(host, os.environ), timeout)
    driven = _drive(steps, dialer)
    return Attachment(*driven.streamed(), driven.value, dialer, driven.held)


def open_attachment(stream: socket.socket, request: StreamRequest, *, quirks: Iterable[Quirk] = ()) -> Attachment:
    """Attach over a connected socket of your own; the request says ``tty=``.

    ``wait()`` and ``resize()`` raise on what it returns, because it does not know where the engine is. The socket
    belongs to the attachment from here on, and is closed if this raises.

    Args:
        stream: the socket.
        request: what to open.
        quirks: of the engine, where they are known.

    Raises:
        RequestRejected: the engine refused, with its own message.
        RemoteProtocolError: what answers is no engine, or breaks the rules.
        LocalProtocolError: neither the answer nor the request tells how the output is framed.
        OSError: the socket failed, or its timeout passed.
        ValueError: the socket does not block; it is left alone.
    """
    check_timeout(stream.gettimeout())
    if isinstance(stream, ssl.SSLSocket):
        # An end that TLS has not said may be a cut.
        stream.suppress_ragged_eofs = False  # type: ignore[attr-defined]
    link = Link(stream, quirks=quirks)
    try:
        return Attachment(link, judge_stream(request, open_stream(link, request)))
    except BaseException:
        link.close()
        raise
