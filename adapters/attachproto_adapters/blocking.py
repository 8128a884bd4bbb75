"""Attach with plain blocking sockets.

One thread may send while another receives. ``close`` may be called from any thread: it wakes a blocked reader. An
timeout while reading loses nothing that was read; while sending it ends stdin, because nobody knows how much has left.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import ssl
import warnings
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self

from attachproto import (
    CLIENT,
    NEED_DATA,
    SEND_EOF,
    Accepted,
    AttachOptions,
    Connection,
    Event,
    OutputClosed,
    RawOutput,
    Rejected,
    Request,
    Response,
    ResponseHead,
    Stderr,
    Stdin,
    StdinClosed,
    Stdout,
    StreamRequest,
    Systemerr,
)
from attachproto_adapters._container import ContainerFacts
from attachproto_adapters._errors import AttachError, AttachmentClosed, AttachWarning, EngineUnreachable
from attachproto_adapters._hosts import TcpHost, UnixHost, resolve_api_version, resolve_host
from attachproto_adapters._output import (
    READ_SIZE,
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
    succeeded,
    wait_request,
)

# Go's clients ask for the same: a firewall forgets an idle attach sooner than the default of two hours.
_KEEPALIVE_SECONDS = 30


class _Link:
    """A socket and the state machine that speaks on it. It moves bytes and signals, and knows nothing more."""

    def __init__(self, sock: socket.socket, host: str = "localhost") -> None:
        self.sock = sock
        self.connection = Connection(CLIENT, host=host)
        self.closed = False

    @property
    def can_half_close(self) -> bool:
        # SSLSocket.shutdown(SHUT_WR) drops the TLS layer: what comes after it is ciphertext.
        return not isinstance(self.sock, ssl.SSLSocket)

    def send(self, event: Event) -> None:
        data = self.connection.send(event)
        try:
            if data is SEND_EOF:
                self.sock.shutdown(socket.SHUT_WR)
            else:
                self.sock.sendall(data)
        except BaseException as exc:
            self.connection.send_failed()
            if self.closed:
                raise AttachmentClosed("the attachment was closed while it was sending") from None
            if isinstance(exc, OSError) and exc.errno == errno.ENOTCONN:
                raise BrokenPipeError(errno.EPIPE, "the engine has closed the connection") from None
            raise

    def next_event(self) -> Event:
        while (event := self.connection.next_event()) is NEED_DATA:
            # Nothing may come between these two: what was read must reach the state machine.
            self.connection.receive_data(self.receive())
        return event

    def receive(self) -> bytes:
        try:
            data = self.sock.recv(READ_SIZE)
        except OSError:
            if not self.closed:
                raise
            data = b""
        # Our own close looks like the peer's end, and must not pass for it.
        if self.closed:
            raise AttachmentClosed("the attachment was closed while it was being read")
        return data

    def send_now(self, data: memoryview) -> int:
        """Send what the kernel takes at once, which may be nothing."""
        try:
            return self.sock.send(data, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return 0
        except OSError:
            if self.closed:
                raise AttachmentClosed("the attachment was closed while it was sending") from None
            raise

    @contextlib.contextmanager
    def poll(self) -> Iterator[Callable[[], tuple[bool, bool]]]:
        """Wait until the socket is readable or writable, as often as wanted, each time up to its timeout."""
        # A descriptor of its own: another thread may close the socket, and its number may be another file's then.
        descriptor = os.dup(self.sock.fileno())
        poller = select.poll()
        poller.register(descriptor, select.POLLIN | select.POLLOUT)
        timeout = self.sock.gettimeout()

        def ready() -> tuple[bool, bool]:
            found = poller.poll(None if timeout is None else timeout * 1000)
            if not found:
                raise TimeoutError("timed out")
            # An error or a hang-up is told by reading.
            return bool(found[0][1] & ~select.POLLOUT), bool(found[0][1] & select.POLLOUT)

        try:
            yield ready
        finally:
            os.close(descriptor)

    def settimeout(self, timeout: float | None) -> None:
        if not self.closed:
            self.sock.settimeout(timeout)

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            # Closing alone would leave a thread in recv() for ever.
            with contextlib.suppress(OSError):
                self.sock.shutdown(socket.SHUT_RDWR)
            self.sock.close()


class _Dialer:
    """Makes connections to one engine."""

    def __init__(self, host: UnixHost | TcpHost, timeout: float | None) -> None:
        self._host = host
        self.timeout = timeout

    def dial(self) -> _Link:
        try:
            return _Link(self._connected(), self._host.header)
        except OSError as exc:
            raise EngineUnreachable(f"no engine answers at {self._host}: {exc.strerror or exc}") from exc

    def _connected(self) -> socket.socket:
        if isinstance(self._host, TcpHost):
            sock = socket.create_connection((self._host.name, self._host.port), self.timeout)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option in ("TCP_KEEPIDLE", "TCP_KEEPINTVL"):
                if hasattr(socket, option):  # pragma: no branch  # not every system has both
                    sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), _KEEPALIVE_SECONDS)
            return sock
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.settimeout(self.timeout)
            sock.connect(self._host.path)
        except BaseException:
            sock.close()
            raise
        return sock

    def ask(self, request: Request) -> _Link:
        """Make a plain call on a connection of its own; its answer is still to be read."""
        link = self.dial()
        try:
            link.send(request)
        except BaseException:
            link.close()
            raise
        return link


def _whole_response(link: _Link) -> Response:
    while not isinstance(event := link.next_event(), Response):
        pass
    return event


def _opened(link: _Link, request: StreamRequest) -> Accepted | Rejected:
    link.send(request)
    event = link.next_event()
    assert isinstance(event, Accepted | Rejected)  # nothing else comes first
    return event


def _drive(steps: Steps, dialer: _Dialer) -> tuple[Opened, _Link, _Link | None]:
    """Run a sequence; whatever it opened is closed if it raises, or is interrupted."""
    with contextlib.ExitStack() as undo:
        stream: _Link | None = None
        held: _Link | None = None
        result: Any = None
        while True:
            try:
                step = steps.send(result)
            except StopIteration as stop:
                assert stream is not None  # a sequence that ends has opened its stream
                undo.pop_all()
                return stop.value, stream, held
            match step:
                case Call(request):
                    with contextlib.closing(dialer.ask(request)) as link:
                        result = _whole_response(link)
                case Hold(request):
                    held = dialer.ask(request)
                    undo.callback(held.close)
                    result = held.next_event()
                    if isinstance(result, ResponseHead) and result.status_code >= 300:
                        result = _whole_response(held)
                case Stream(stream_request):
                    if stream is not None:
                        stream.close()
                    stream = dialer.dial()
                    undo.callback(stream.close)
                    result = _opened(stream, stream_request)


class Attachment:
    """An open attach: the container's stdin, stdout and stderr. Made by ``attach`` and ``open_attachment``.

    It is a context manager that closes on leaving, and an iterator over the output's events. One thread may send
    while another receives.
    """

    def __init__(
        self, link: _Link, opened: Opened | None = None, dialer: _Dialer | None = None, held: _Link | None = None
    ) -> None:
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
        view = memoryview(data)
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

        It cannot deadlock, however large both are, also if the container never reads. If it is interrupted (by a
        timeout, or Ctrl-C), call it again: it goes on where it was.

        Args:
            input: what to send; ``b""`` only ends stdin, ``None`` sends nothing and does not end it.
            max_output: most bytes of stdout and stderr together.

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
            check_input(self._link.connection.our_state, self._facts, can_half_close=self._link.can_half_close)
            self._input = input
            self._unsent = memoryview(input)
            self._feeding = True
        elif input is not None and input != self._input:
            raise ValueError("communicate() was interrupted with other input; it can only go on with that")
        try:
            if self._feeding:
                self._feed(max_output)
            self._drain(max_output)
        except ConnectionResetError:
            # Podman ends so when somebody still sends to a container that is gone. Between frames that is an end.
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
                    with contextlib.suppress(BrokenPipeError):
                        self._send(StdinClosed())
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

    # ---- the end ----

    def wait(self) -> int:
        """Wait until the container has exited, and return its exit code.

        Read the output first, or in another thread: a container that nobody reads may not come to its end.

        Raises:
            RequestRejected: the engine refused the call.
            AttachError: this attachment was opened over a connection of your own.
            TimeoutError: it has not exited in time; call it again.
        """
        if self._exit_code is None:
            if self._opened is None or self._dialer is None:
                raise AttachError("wait() needs an attachment made by attach(): this one knows no engine to ask")
            if self._closed:
                raise AttachmentClosed("the attachment is closed: ask for the exit code before that")
            request = wait_request(self._opened.container, "not-running", self._opened.api_version)
            if self._held is None:
                self._held = self._dialer.ask(request)
            self._exit_code = exit_code(succeeded(request, _whole_response(self._held)))
            self._held.close()
        return self._exit_code

    def settimeout(self, timeout: float | None) -> None:
        """Set how many seconds a read, a write or a wait may take; ``None`` for ever."""
        self._link.settimeout(timeout)
        if self._held is not None:
            self._held.settimeout(timeout)
        if self._dialer is not None:
            self._dialer.timeout = timeout

    def close(self) -> None:
        """Close the connection. The container goes on. May be called from any thread, and more than once."""
        self._closed = True
        self._link.close()
        if self._held is not None:
            self._held.close()

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
        EngineUnreachable: no engine answers at this address.
        HostInvalid: the address cannot be understood.
        ValueError: the container's name is none.
        RemoteProtocolError: what answers is no engine, or breaks the rules.
        TimeoutError: something took too long.
    """
    dialer = _Dialer(resolve_host(host, os.environ), timeout)
    steps = open_attach(
        container,
        options,
        tty=tty,
        start=start,
        wait=wait,
        api_version=resolve_api_version(api_version, os.environ),
    )
    opened, link, held = _drive(steps, dialer)
    return Attachment(link, opened, dialer, held)


def open_attachment(sock: socket.socket, request: StreamRequest) -> Attachment:
    """Attach over a connected socket of your own; the request says ``tty=``. ``wait()`` raises on what it returns.

    The socket belongs to the attachment from here on, and is closed if this raises.

    Raises:
        RequestRejected: the engine refused, with its own message.
        RemoteProtocolError: what answers is no engine, or breaks the rules.
        LocalProtocolError: neither the answer nor the request tells how the output is framed.
        OSError: the socket failed, or its timeout passed.
    """
    link = _Link(sock)
    try:
        judge_stream(request, _opened(link, request))
    except BaseException:
        link.close()
        raise
    return Attachment(link)
