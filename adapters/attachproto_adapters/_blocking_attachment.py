"""The attachment of the blocking adapter.

One thread may send while another receives. ``close`` may be called from any thread: it wakes a blocked reader.

The file has more than 250 lines, and the class more than 15 methods, because they are the public interface with its
documentation in one place. Decisions are in ``_attachment``.
"""

from __future__ import annotations

import contextlib
import errno
import inspect
from collections.abc import Callable
from types import TracebackType
from typing import Self

from attachproto import Accepted, DataEvent, OutputClosed, OutputEvent, Stdin, StdinClosed
from attachproto_adapters._attachment import AttachmentBase
from attachproto_adapters._blocking_runner import close_held, drive
from attachproto_adapters._errors import AttachmentClosed, OutputTooLarge
from attachproto_adapters._flows._api_calls import done
from attachproto_adapters._flows._arguments import check_max_output, check_seconds
from attachproto_adapters._flows._life import InputState, LifeEvent
from attachproto_adapters._flows._line import Line
from attachproto_adapters._flows._lines import LINE_MAX
from attachproto_adapters._flows._live_output import LiveOutput
from attachproto_adapters._flows._output import end_wanted
from attachproto_adapters._flows._stdin import slices
from attachproto_adapters._flows._stdout_buffer import LIMIT
from attachproto_adapters._flows._steps import Held, Opened
from attachproto_adapters._line_iterator import LinesBase
from attachproto_adapters._stdout_reader import StdoutReader
from attachproto_adapters._transport._blocking import BlockingSession
from attachproto_adapters._transport._blocking_dialer import Dialer


class Attachment(AttachmentBase[BlockingSession]):
    """An open stream: a container's stdin, stdout and stderr, an exec's, or logs.

    It is a context manager that closes on leaving, and an iterator over the output's events. One thread may send
    while another receives.

    Attributes:
        accepted: the engine's answer: how the output is framed, and the header fields.
    """

    def __init__(
        self,
        session: BlockingSession,
        accepted: Accepted,
        opened: Opened | None = None,
        dialer: Dialer | None = None,
        held: Held[BlockingSession] | None = None,
    ) -> None:
        super().__init__(session, accepted, opened)
        self._dialer = dialer
        self._stdout_reader: StdoutReader | None = None
        self._held: Held[BlockingSession] = Held() if held is None else held

    def _broken_pipe(self, message: str) -> BrokenPipeError:
        return BrokenPipeError(errno.EPIPE, message)

    # ---- sending ----

    def send_stdin(self, data: bytes) -> None:
        """Send bytes to the container's stdin. It returns when the kernel has all of them.

        It blocks while the container does not read. A container that waits for its output to be read never reads again,
        so read the output in another thread, or use ``communicate``, which does both.

        Raises:
            BrokenPipeError, ConnectionResetError: the peer does not read stdin any more. Output can still be read.
            TimeoutError: it is not known how many bytes were sent, so stdin cannot be used any more. Output can still
                be read.
            LocalProtocolError: stdin was not attached, was closed, or has failed before.
            AttachmentClosed: the attachment is closed.
            RuntimeError: another thread is sending.
        """
        self._check_send()
        pieces = slices(data)
        with self._session.sending:
            for piece in pieces:
                self._send(Stdin(piece))

    def close_stdin(self) -> None:
        """End the container's stdin with a half-close. Output can still be read.

        Warns with ``AttachWarning`` if the engine, or an intermediary, takes that for the end of the attach.

        Raises:
            HalfCloseUnsupported: the socket cannot half-close. Nothing was sent.
            BrokenPipeError: the engine has closed the connection already.
            LocalProtocolError: stdin was not attached, was closed, or has failed before.
            AttachmentClosed: the attachment is closed.
        """
        self._check_close_stdin()
        with self._session.sending:
            self._send(StdinClosed())

    def _send(self, event: Stdin | StdinClosed) -> None:
        self._check_open()
        try:
            self._session.send(event)
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
        while not (ready := self._ready):
            if not self._fill():
                return OutputClosed()
        event = ready[-1]
        del ready[-1]
        return event

    def _fill(self) -> bool:
        """Read events into ``_ready``, and wait for them; false at the end of the output."""
        with self._session.reading:
            if self._ahead is not None:
                self._take_back()
            events = self._next_events()
            if events:
                self._ready = events
                self._session.reading.finish()
        return bool(events)

    def _next_events(self) -> list[DataEvent]:
        """The next events, as ``_take`` returns them, and waiting for them; none at the end of the output."""
        while not (events := self._take(reads=True)):
            if self._life.ended:
                # dockerd only half-closes, and waits for us to close.
                self._session.close()
                break
            self._session.read()
        return events

    def _next(self) -> OutputEvent:
        """The next event for what reads ahead. One of output leaves a step of reading open."""
        if (event := self._take_one()) is None:
            events = self._next_events()
            if not events:
                return OutputClosed()
            event = events.pop()
            self._behind = events
        return event

    def __iter__(self) -> Self:
        """The output's events up to its end, which is not among them. Raises as ``receive`` does."""
        return self

    def __next__(self) -> DataEvent:
        """The next event; raises as ``receive`` does."""
        while not (ready := self._ready):
            if not self._fill():
                raise StopIteration
        event = ready[-1]
        del ready[-1]
        return event

    def stdout_reader(self, on_stderr: Callable[[bytes], object] | None = None, *, limit: int = LIMIT) -> StdoutReader:
        """Stdout as a stream of bytes, with ``read``, ``readexactly``, ``readuntil`` and ``readline``.

        It is for protocols whose messages have a length or an end mark. The raw output of a TTY counts as stdout. All
        calls return one reader, and the arguments of the last call count.

        Args:
            on_stderr: is called with what comes on stderr, while the reader waits for stdout. It must not read from
                this attachment. The reader's ``stderr`` has the last 64 KiB of it in any case.
            limit: how many bytes ``readuntil`` and ``readline`` may look through for the end mark.

        Raises:
            ValueError: the limit is below 1.
        """
        if self._stdout_reader is None:
            self._stdout_reader = StdoutReader(self, self._session.reading)
        self._stdout_reader._set(on_stderr, limit)
        return self._stdout_reader

    def communicate(self, input: bytes | None = None, *, max_output: int | None = None) -> tuple[bytes, bytes]:
        """Send input, end stdin, and read all output at the same time.

        It cannot deadlock, however large input and output are, and even if the container never reads. After a timeout
        call it again: it goes on where it was, and nothing is lost.

        At the end of the output the engine is asked whether the process has ended too. That is done for an exec, and
        for a container whose wait is held (``start=True``, ``wait=True``, or attached to before its start).

        A reset between two frames while input is still unsent counts as the end of the output, because Podman ends an
        attach so. Part of the input was not read then. The engine is asked for the process then too, unless the
        connection is your own.

        Args:
            input: what to send. ``b""`` only ends stdin; ``None`` sends nothing and does not end stdin.
            max_output: how many bytes stdout and stderr may have together.

        Returns:
            stdout (with a TTY, all output) and stderr.

        Raises:
            OutputCut: the output ended while the process goes on; what was read is in the error.
            ExitCodeUnknown: the output ended, and the engine refused the question whether the process has ended, or
                could not be asked. The outputs are in the error, and the cause says why. Another call asks again.
            HalfCloseEndsAttach: ending stdin would end the attach, and output would be lost, because of the container
                or of an intermediary. Nothing was sent.
            HalfCloseUnsupported: the socket cannot half-close. Nothing was sent.
            LocalProtocolError: stdin was not attached.
            TypeError: the input is not bytes; ``max_output`` is not an int.
            ValueError: the call that was interrupted had other input.
            OutputTooLarge: there was more output than ``max_output``; the first ``max_output`` bytes are in the error.
            EngineReportedError: the engine wrote an error of its own into the stream; both outputs are in the error.
            StreamBroken, StreamReset: the stream was cut inside a frame, is malformed, or was reset: they are the
                ``RemoteProtocolError`` and ``ConnectionResetError`` of ``receive``, with what was read before.
            TimeoutError, OSError, AttachmentClosed: as for ``receive``. What was read is in ``output_so_far``.
        """
        outputs = self._exchange(input, max_output)
        with end_wanted(outputs, self._session.errors):
            self._confirm_end()
        return outputs

    def lines(
        self,
        encoding: str = "utf-8",
        errors: str = "replace",
        *,
        max_length: int = LINE_MAX,
        progress: bool = False,
        timestamps: bool = False,
    ) -> Lines:
        r"""The output as lines of text. stdout and stderr are split separately.

        A second call with the same arguments goes on where the last loop has ended, or a timeout has ended it.

        Args:
            encoding: of the text.
            errors: what to do with bytes that cannot be decoded, as for ``bytes.decode``.
            max_length: how many characters a line may have; a longer one comes in pieces.
            progress: also give out what a carriage return ends, such as the steps of a progress bar, as lines whose
                ``progress`` is true. One that has come last waits for the next byte, as it may begin a ``\r\n``.
            timestamps: take the time off each line, of logs that were asked for with ``timestamps=True``.

        Raises:
            LookupError: there is no such encoding.
        """
        return self._one_lines(Lines, (encoding, errors, max_length, progress, timestamps))

    def _exchange(
        self, input: bytes | None, max_output: int | None, live: LiveOutput | None = None
    ) -> tuple[bytes, bytes]:
        """``communicate``, up to the end of the output. All output is also given to ``live``."""
        check_max_output(max_output)
        self._gathered.live = live
        with self._with_output(), self._session.reading:
            self._begin(input)
            self._take_back()
            try:
                self._feed_all(max_output)
                self._drain(max_output)
            except ConnectionResetError:
                if not self._reset_is_an_end():
                    raise
                self._drain(max_output)
        return self._gathered.result()

    def _confirm_end(self) -> None:
        if self._ending is not None and self._dialer is not None:
            # A thread in wait() already reads the held connection.
            held = None if self._waiting.taken else self._held
            drive(self._ending.confirm(always=self._ended_by_reset), self._dialer, held)

    def _drain(self, max_output: int | None) -> None:
        while events := self._next_events():
            self._gather_and_show(events, max_output)
        self._gathered.check(max_output)

    def _feed_all(self, max_output: int | None) -> None:
        """Send the input and end stdin; read whatever comes meanwhile. It sends only what does not block."""
        feed, session = self._feed, self._session
        if feed is None or feed.state is not InputState.SENDING or self._life.ended:
            return
        with session.sending:
            while feed.state is InputState.SENDING and not self._life.ended:
                if not session.feed_now(feed) and session.wait_to_feed()[0]:
                    session.read_now()
                while events := self._take():
                    self._gather_and_show(events, max_output)

    def _gather_and_show(self, events: list[DataEvent], max_output: int | None) -> None:
        try:
            self._gather(events, max_output)
        except OutputTooLarge:
            self._show()  # what the error has
            raise
        self._show()

    def _show(self) -> None:
        if (live := self._gathered.live) is not None:
            for result in live.calls():
                if inspect.isawaitable(result):
                    if inspect.iscoroutine(result):
                        result.close()  # else Python would warn that it was never awaited
                    raise TypeError("on_output has returned an awaitable, which blocking code cannot await")

    # ---- the end ----

    def wait(self) -> int:
        """Wait until the container, or the exec, has exited, and return its exit code.

        Read the output first, or at the same time in another thread: a container whose output is not read may never
        exit. One thread at a time may wait. An exec is inspected again and again, because engines have no call that
        waits for its end.

        Raises:
            OutputCut: the output has ended, and the process goes on. Another call inspects it again.
            ExitCodeUnknown: the engine does not know the exit code: the container was removed, or Podman has reset it.
                What ``communicate`` has read is in the error.
            RequestRejected: the engine refused the call.
            AttachmentClosed: the attachment is closed, and the exit code was not known before.
            AttachError: this attachment was opened over a connection of your own.
            RuntimeError: another thread is waiting.
            TimeoutError: it has not exited in time; call it again.
            EngineUnreachable, RemoteProtocolError: as for ``Client.attach``.
        """
        ending, dialer = self._ending_of("wait()"), self._dialer
        assert dialer is not None
        if ending.exit_code is None:
            with self._waiting:
                drive(ending.wait(), dialer, self._held)
        return ending.final_exit_code

    def resize(self, height: int, width: int) -> None:
        """Set the size of the container's, or the exec's, TTY in characters.

        Raises:
            TypeError, ValueError: the height or the width is not an int, or is negative.
            RequestRejected: the engine refused, for instance because the container does not run.
            AttachError: this attachment was opened over a connection of your own.
            EngineUnreachable, RemoteProtocolError, TimeoutError: as for ``Client.attach``.
        """
        request = self._resize_request(height, width)
        assert self._dialer is not None
        done(request, self._dialer.call(request))

    def kill(self, signal: str = "KILL") -> None:
        """Send a signal to the container's main process. Its output ends when it has ended.

        Args:
            signal: its name, such as ``"TERM"``.

        Raises:
            KillUnsupported: this is the stream of an exec.
            RequestRejected: the engine refused: the container does not run, or there is no such signal.
            AttachError: this attachment was opened over a connection of your own.
            TypeError, ValueError: the signal is not a str, or is empty.
            EngineUnreachable, RemoteProtocolError, TimeoutError: as for ``Client.attach``.
        """
        request = self._kill_request(signal)
        assert self._dialer is not None
        done(request, self._dialer.call(request), 204)

    def settimeout(self, timeout: float | None) -> None:
        """Set how many seconds each read, write or wait may take; ``None`` for no limit.

        A wait that another thread is in keeps the old limit.

        Raises:
            ValueError: it is not above 0.
        """
        check_seconds("timeout", timeout)
        self._session.settimeout(timeout)
        if (session := self._held.session) is not None:
            session.settimeout(timeout)
        if self._dialer is not None:
            self._dialer.settimeout(timeout)

    def detach(self) -> None:
        """Leave the container running: the same as ``close``. No detach keys are sent."""
        self.close()

    def close(self) -> None:
        """Close the connection. The container keeps running.

        May be called more than once, from any thread or signal handler.
        """
        self._end(LifeEvent.CLOSE)
        # Closing ssh may take seconds. If a signal's handler raises meanwhile, the rest is closed nevertheless.
        with contextlib.ExitStack() as stack:
            if self._dialer is not None:
                stack.callback(self._dialer.close)
            stack.callback(close_held, self._held)
            stack.callback(self._session.close)

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
        attachment, splitter, reading = self._attachment, self.splitter, self._reading
        reading.enter()
        try:
            attachment._take_back(splitter)
            while (line := self._next_line()) is None:
                if splitter.ended:
                    raise StopIteration
                self._add(attachment._next())
        except BaseException:
            reading.leave()
            raise
        return reading.hand_over(line)
