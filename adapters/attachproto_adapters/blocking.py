"""Attach with plain blocking sockets.

One thread may send while another receives. ``close`` may be called from any thread: it wakes a blocked reader. A
timeout while reading loses nothing that was read; while sending it ends stdin, because nobody knows how much has left.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import warnings
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

from attachproto import (
    NEED_DATA,
    Accepted,
    AttachOptions,
    Event,
    LocalProtocolError,
    OutputClosed,
    RawOutput,
    Rejected,
    ResponseHead,
    Stderr,
    Stdin,
    StdinClosed,
    Stdout,
    StreamRequest,
    Systemerr,
)
from attachproto_adapters._blocking_io import Dialer, Link, check_timeout, open_stream, whole_response
from attachproto_adapters._container import ContainerFacts
from attachproto_adapters._errors import AttachError, AttachmentClosed, AttachWarning
from attachproto_adapters._hosts import resolve_api_version, resolve_host
from attachproto_adapters._output import (
    WRITE_SIZE,
    Gathered,
    OutputEvent,
    check_half_close,
    check_input,
    half_close_ends_attach,
)
from attachproto_adapters._sequences import (
    Call,
    Hold,
    Opened,
    Steps,
    Stream,
    exit_code,
    judge_stream,
    open_attach,
    resize_request,
    succeeded,
    wait_request,
)


def _drive(steps: Steps, dialer: Dialer) -> Attachment:
    """Run a sequence; whatever it opened is closed if it raises, or is interrupted."""
    with contextlib.ExitStack() as undo:
        stream: Link | None = None
        held: Link | None = None
        accepted: Accepted | Rejected | None = None
        result: Any = None
        while True:
            try:
                step = steps.send(result)
            except StopIteration as stop:
                # Or the sequence would not have ended.
                assert stream is not None
                assert isinstance(accepted, Accepted)
                undo.pop_all()
                return Attachment(stream, accepted, stop.value, dialer, held)
            match step:
                case Call(request):
                    result = dialer.call(request)
                case Hold(request):
                    held = dialer.ask(request)
                    undo.callback(held.close)
                    result = held.next_event()
                    if isinstance(result, ResponseHead) and result.status_code >= 300:
                        result = whole_response(held)
                case Stream(stream_request):
                    if stream is not None:
                        stream.close()
                    stream = dialer.dial()
                    undo.callback(stream.close)
                    result = accepted = open_stream(stream, stream_request)


class Attachment:
    """An open attach: the container's stdin, stdout and stderr. Made by ``attach`` and ``open_attachment``.

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
        self.accepted = accepted
        self._link = link
        self._opened = opened
        self._dialer = dialer
        self._held = held
        self._exit_code = None if opened is None else opened.exit_code
        self._over = False
        self._closed = False
        self._gathered = Gathered()
        self._input: bytes | None = None
        self._unsent = memoryview(b"")
        self._slice = memoryview(b"")
        self._feeding = False
        self._feed_failed = False

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
        """
        self._check_not_feeding()
        self._check_open()
        view = memoryview(data).cast("B")
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
        self._check_not_feeding()
        self._check_open()
        check_half_close(can_half_close=self._link.can_half_close)
        if self._facts is not None and self._facts.half_close_ends_attach:
            warnings.warn(half_close_ends_attach(self._facts), AttachWarning, stacklevel=2)
        self._send(StdinClosed())

    @property
    def half_close_ends_attach(self) -> bool:
        """Whether the engine would take ``close_stdin`` for the end of the attach, so far as is known."""
        return self._facts is not None and self._facts.half_close_ends_attach

    @property
    def _facts(self) -> ContainerFacts | None:
        return None if self._opened is None else self._opened.facts

    def _send(self, event: Stdin | StdinClosed) -> None:
        self._check_open()
        try:
            self._link.send(event)
        except AttachmentClosed:
            # Another thread may have closed it, because it read the end of the output.
            self._check_open()
            raise

    def _check_not_feeding(self) -> None:
        if self._feeding:
            raise LocalProtocolError("communicate() is in the middle of its input: call it again, or close")

    def _check_open(self) -> None:
        if self._over:
            raise BrokenPipeError(errno.EPIPE, "the container's output has ended, and with it the attachment")
        if self._closed:
            raise AttachmentClosed("the attachment is closed")

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
        return self._output(self._link.next_event())

    def _output(self, event: Event) -> OutputEvent:
        assert isinstance(event, Stdout | Stderr | RawOutput | Systemerr | OutputClosed)  # a client gets no other
        if isinstance(event, OutputClosed):
            # dockerd only half-closes, and waits for us to close.
            self._over = True
            self._link.close()
        return event

    def __iter__(self) -> Iterator[Stdout | Stderr | RawOutput | Systemerr]:
        """The output's events up to its end, which is not among them. Raises as ``receive`` does."""
        while not isinstance(event := self.receive(), OutputClosed):
            yield event

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
        if input is not None and self._input is None:
            self._check_open()
            check_input(self._link.connection.our_state, self._facts, can_half_close=self._link.can_half_close)
            self._input = bytes(memoryview(input))  # a copy of what the caller could change meanwhile
            self._unsent = memoryview(self._input)
            self._feeding = True
        elif input is not None and input != self._input:
            raise ValueError("communicate() was interrupted with other input; it can only go on with that")
        try:
            if self._feeding and not self._over:
                self._feed(max_output)
            self._drain(max_output)
        except ConnectionResetError:
            # Podman ends so when somebody still sends to a container that is gone. Between frames that is an end.
            # Whether reading or writing tells of it first is chance; what is unsent could not be sent any more.
            if not (self._feeding or self._feed_failed):
                raise
            self._feeding = False
            self._link.connection.receive_data(b"")
            self._drain(max_output)
        return self._gathered.result()

    def _drain(self, max_output: int | None) -> None:
        while not self._over:
            self._gathered.add(self.receive(), max_output)

    def _feed(self, max_output: int | None) -> None:
        """Send the input and end stdin; read whatever comes meanwhile. It sends only what does not block."""
        connection = self._link.connection
        with self._link.poll() as ready:
            while self._feeding and not self._over:
                if self._unsent or self._slice:
                    readable, writable = ready()
                    if readable:
                        connection.receive_data(self._link.receive())
                    if writable:
                        self._feed_some()
                else:
                    self._feeding = False
                    try:
                        self._send(StdinClosed())
                    except BrokenPipeError:
                        self._feed_failed = True
                while not self._over and (event := connection.next_event()) is not NEED_DATA:
                    self._gathered.add(self._output(event), max_output)

    def _feed_some(self) -> None:
        if not self._slice:
            self._slice = memoryview(self._link.connection.send(Stdin(bytes(self._unsent[:WRITE_SIZE]))))
            self._unsent = self._unsent[WRITE_SIZE:]
        try:
            self._slice = self._slice[self._link.send_now(self._slice) :]
        except (BrokenPipeError, ConnectionResetError):
            self._link.connection.send_failed()
            self._feeding, self._feed_failed = False, True
        except BaseException:
            # Nobody knows what has left: to go on here might send something twice.
            self._link.connection.send_failed()
            self._slice = memoryview(b"")
            raise

    # ---- the end ----

    def wait(self) -> int:
        """Wait until the container has exited, and return its exit code.

        Read the output first, or in another thread: a container that nobody reads may not come to its end. One
        thread at a time may wait.

        Raises:
            RequestRejected: the engine refused the call.
            AttachError: this attachment was opened over a connection of your own.
            TimeoutError: it has not exited in time; call it again.
        """
        if self._exit_code is None:
            opened, dialer = self._engine("wait()")
            if self._closed:
                raise AttachmentClosed("the attachment is closed: ask for the exit code before that")
            request = wait_request(opened.container, "not-running", opened.api_version)
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
            self._exit_code = exit_code(succeeded(request, response))
        return self._exit_code

    def _spend(self, held: Link) -> None:
        """A wait that has been answered, or broke; the next call asks anew."""
        held.close()
        self._held = None

    def resize(self, height: int, width: int) -> None:
        """Tell the container's TTY its size in characters.

        Raises:
            RequestRejected: the engine refused; the container does not run, for instance.
            AttachError: this attachment was opened over a connection of your own.
        """
        opened, dialer = self._engine("resize()")
        request = resize_request(opened.container, height, width, opened.api_version)
        succeeded(request, dialer.call(request))

    def _engine(self, who: str) -> tuple[Opened, Dialer]:
        if self._opened is None or self._dialer is None:
            raise AttachError(f"{who} needs an attachment made by attach(): this one knows no engine to ask")
        return self._opened, self._dialer

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

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


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
    timeout: float | None = None,
) -> Attachment:
    """Attach to a container.

    Args:
        container: its name or ID.
        options: which streams, and whether what was logged so far comes first.
        host: the engine, as ``unix://PATH`` or ``tcp://NAME:PORT``; by default ``DOCKER_HOST``, then
            ``unix:///var/run/docker.sock``.
        tty: whether the container has a TTY; by default the engine is asked.
        start: start the container once it is attached to. It is the only order that loses no first output.
        wait: ask for the exit code now, on a connection of its own, so that ``wait()`` gets it even if the
            container is removed at its end. ``start=True`` does so by itself.
        api_version: such as ``"1.41"``; by default ``DOCKER_API_VERSION``, then none, and the engine takes its own.
        timeout: seconds that each connect, read, write or wait may take, here and later (see ``settimeout``).

    Raises:
        RequestRejected: the engine refused, with its own message.
        ContainerNotRunning: it has exited, and neither ``start`` nor ``logs`` was asked for.
        EngineUnreachable: no engine answers at this address, or not within the timeout.
        HostInvalid: the address cannot be understood.
        ValueError: the container's name is none; the timeout is not above 0.
        RemoteProtocolError: what answers is no engine, or breaks the rules.
        TimeoutError: something took too long.
    """
    check_timeout(timeout)
    dialer = Dialer(resolve_host(host, os.environ), timeout)
    steps = open_attach(
        container,
        options,
        tty=tty,
        start=start,
        wait=wait,
        api_version=resolve_api_version(api_version, os.environ),
    )
    return _drive(steps, dialer)


def open_attachment(sock: socket.socket, request: StreamRequest) -> Attachment:
    """Attach over a connected socket of your own; the request says ``tty=``. ``wait()`` raises on what it returns.

    The socket belongs to the attachment from here on, and is closed if this raises.

    Raises:
        RequestRejected: the engine refused, with its own message.
        RemoteProtocolError: what answers is no engine, or breaks the rules.
        LocalProtocolError: neither the answer nor the request tells how the output is framed.
        OSError: the socket failed, or its timeout passed.
        ValueError: the socket does not block; it is left alone.
    """
    check_timeout(sock.gettimeout())
    link = Link(sock)
    try:
        return Attachment(link, judge_stream(request, open_stream(link, request)))
    except BaseException:
        link.close()
        raise
