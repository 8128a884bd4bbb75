"""The attachment of the asyncio and trio adapters.

The file has more than 250 lines, and the class more than 15 methods, because they are the public interface with its
documentation in one place. Decisions are in ``_attachment``.
"""

from __future__ import annotations

import abc
import contextlib
import functools
import inspect
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

from attachproto import Accepted, DataEvent, OutputClosed, OutputEvent, Stdin, StdinClosed
from attachproto_adapters._async_runner import close_held, drive
from attachproto_adapters._async_stdout_reader import StdoutReader
from attachproto_adapters._attachment import AttachmentBase
from attachproto_adapters._errors import AttachmentClosed, OutputTooLarge
from attachproto_adapters._flows._api_calls import done
from attachproto_adapters._flows._arguments import check_max_output
from attachproto_adapters._flows._life import InputState, LifeEvent
from attachproto_adapters._flows._line import Line
from attachproto_adapters._flows._lines import LINE_MAX
from attachproto_adapters._flows._live_output import LiveOutput, callers_errors_wrapped
from attachproto_adapters._flows._output import end_wanted
from attachproto_adapters._flows._stdin import Feed, slices
from attachproto_adapters._flows._stdout_buffer import LIMIT
from attachproto_adapters._flows._steps import Held, Opened
from attachproto_adapters._line_iterator import LinesBase
from attachproto_adapters._transport._async_base import AsyncSession
from attachproto_adapters._transport._async_dialer import AsyncDialer

L = TypeVar("L", bound=AsyncSession)


class AsyncAttachment(AttachmentBase[L]):
    """An open stream: a container's stdin, stdout and stderr, an exec's, or logs.

    It is an asynchronous context manager that closes on leaving, and an asynchronous iterator over the output's events.

    (*) For errors of the connection trio raises ``trio.BrokenResourceError``, and ``trio.BusyResourceError`` where
    asyncio raises ``RuntimeError``.

    Attributes:
        accepted: the engine's answer: how the output is framed, and the header fields.
    """

    def __init__(
        self,
        session: L,
        accepted: Accepted,
        opened: Opened | None = None,
        dialer: AsyncDialer[L] | None = None,
        held: Held[L] | None = None,
    ) -> None:
        super().__init__(session, accepted, opened)
        self._dialer = dialer
        self._stdout_reader: StdoutReader | None = None
        self._held: Held[L] = Held() if held is None else held

    @abc.abstractmethod
    async def _run_alongside(self, task: Callable[[], Coroutine[Any, Any, None]], main: Awaitable[None]) -> None:
        """Run both at the same time; cancel the task when ``main`` ends. Raises ``main``'s exception, not a group."""

    # ---- sending ----

    async def send_stdin(self, data: bytes) -> None:
        """Send bytes to the container's stdin. It returns when the transport has all of them.

        It waits while the container does not read. A container that waits for its output to be read never reads again,
        so read the output in another task, or use ``communicate``, which does both.

        Raises:
            BrokenPipeError, ConnectionResetError: the peer does not read stdin any more. Output can still be read. (*)
            LocalProtocolError: stdin was not attached, was closed, or has failed or been cancelled before.
            AttachmentClosed: the attachment is closed.
            RuntimeError: another task is sending. (*)
        """
        self._check_send()
        if not (pieces := slices(data)):
            await self._session.sleep(0)  # else a loop of such calls would block the event loop
        for piece in pieces:
            await self._send(Stdin(piece))

    async def close_stdin(self) -> None:
        """End the container's stdin with a half-close. Output can still be read.

        Warns with ``AttachWarning`` if the engine, or an intermediary, takes that for the end of the attach.

        Raises:
            HalfCloseUnsupported: the transport cannot half-close. Nothing was sent.
            BrokenPipeError: the engine has closed the connection already. (*)
            LocalProtocolError: stdin was not attached, was closed, or has failed or been cancelled before.
            AttachmentClosed: the attachment is closed.
        """
        self._check_close_stdin()
        await self._send(StdinClosed())

    async def _send(self, event: Stdin | StdinClosed) -> None:
        self._check_open()
        with self._session.sending:
            try:
                await self._session.send(event)
            except AttachmentClosed:
                # Another task may have closed it, because it read the end of the output.
                self._check_open()
                raise

    # ---- receiving ----

    async def receive(self) -> OutputEvent:
        """The next event of the output; at its end ``OutputClosed``, each time.

        Raises:
            RemoteProtocolError: the stream was cut or is malformed; everything before it was delivered.
            OSError: the connection was reset; everything that had arrived was delivered. (*)
            AttachmentClosed: the attachment is closed, by this task or another.
            RuntimeError: another task is receiving. (*)
        """
        while not (ready := self._ready):
            if not await self._fill():
                return OutputClosed()
        event = ready[-1]
        del ready[-1]
        return event

    async def _fill(self) -> bool:
        """Read events into ``_ready``, and wait for them; false at the end of the output."""
        with self._session.reading:
            if self._ahead is not None:
                self._take_back()
            events = await self._next_events()
            if events:
                self._ready = events
                self._session.reading.finish()
        return bool(events)

    async def _next_events(self) -> list[DataEvent]:
        """The next events, as ``_take`` returns them, and waiting for them; none at the end of the output."""
        while not (events := self._take(reads=True)):
            if self._life.ended:
                # dockerd only half-closes, and waits for us to close.
                await self._session.aclose()
                break
            await self._session.read()
        return events

    async def _next(self) -> OutputEvent:
        """The next event for what reads ahead. One of output leaves a step of reading open."""
        if (event := self._take_one()) is None:
            events = await self._next_events()
            if not events:
                return OutputClosed()
            event = events.pop()
            self._behind = events
        return event

    def __aiter__(self) -> Self:
        """The output's events up to its end, which is not among them. Raises as ``receive`` does."""
        return self

    async def __anext__(self) -> DataEvent:
        """The next event; raises as ``receive`` does."""
        while not (ready := self._ready):
            if not await self._fill():
                raise StopAsyncIteration
        event = ready[-1]
        del ready[-1]
        return event

    def stdout_reader(self, on_stderr: Callable[[bytes], object] | None = None, *, limit: int = LIMIT) -> StdoutReader:
        """Stdout as a stream of bytes, with ``read``, ``readexactly``, ``readuntil`` and ``readline``.

        Arguments are those of the blocking adapter; ``on_stderr`` is no coroutine function.
        """
        if self._stdout_reader is None:
            self._stdout_reader = StdoutReader(self, self._session.reading)
        self._stdout_reader._set(on_stderr, limit)
        return self._stdout_reader

    async def communicate(self, input: bytes | None = None, *, max_output: int | None = None) -> tuple[bytes, bytes]:
        """Send input, end stdin, and read all output at the same time.

        It cannot deadlock, however large input and output are, and even if the container never reads. If it was
        cancelled, call it again: it goes on where it was, and nothing is lost. (After a cancelled send over a stream of
        your own that is not a ``trio.SocketStream``, stdin cannot be used any more: call it without input.)

        Returns:
            stdout (with a TTY, all output) and stderr.

        Raises:
            RuntimeError: another task is in this call, or is sending or receiving. (*)
            OutputCut: the output ended while the process goes on; what was read is in the error.
            ExitCodeUnknown: the output ended, and the engine refused the question whether the process has ended, or
                could not be asked. The outputs are in the error, and the cause says why. Another call asks again.
            HalfCloseEndsAttach, HalfCloseUnsupported, LocalProtocolError, ValueError: nothing was sent.
            OutputTooLarge, EngineReportedError: what was read is in the error.
            StreamBroken, StreamReset: the stream was cut inside a frame, is malformed, or was reset: they are the
                ``RemoteProtocolError`` and ``ConnectionResetError`` of ``receive``, with what was read before. (*)
            OSError, AttachmentClosed: as for ``receive``. What was read is in ``output_so_far``.
        """
        outputs = await self._exchange(input, max_output)
        with end_wanted(outputs, self._session.errors):
            await self._confirm_end()
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
        """The output as lines of text. stdout and stderr are split separately.

        A second call with the same arguments goes on where the last loop has ended or was cancelled.

        Raises:
            LookupError: there is no such encoding.
        """
        return self._one_lines(Lines, (encoding, errors, max_length, progress, timestamps))

    async def _exchange(
        self, input: bytes | None, max_output: int | None, live: LiveOutput | None = None
    ) -> tuple[bytes, bytes]:
        """``communicate``, up to the end of the output. All output is also given to ``live``."""
        check_max_output(max_output)
        self._gathered.live = live
        with self._with_output(), self._session.reading:
            if input is not None or self._feed is not None:
                self._session.sending.check()
            self._begin(input)
            self._take_back()
            try:
                if self._feed is not None and self._feed.state is InputState.SENDING and not self._life.ended:
                    with self._session.sending:
                        await self._run_alongside(
                            functools.partial(self._feed_all, self._feed), self._drain(max_output)
                        )
                await self._drain(max_output)
            except self._session.errors:
                if self._session.drops_unread or not self._reset_is_an_end():
                    raise
                await self._drain(max_output)
        return self._gathered.result()

    async def _confirm_end(self) -> None:
        if self._ending is not None and self._dialer is not None:
            # A task in wait() already reads the held connection.
            held = None if self._waiting.taken else self._held
            await drive(self._ending.confirm(always=self._ended_by_reset), self._dialer, held)

    async def _drain(self, max_output: int | None) -> None:
        while events := await self._next_events():
            if self._gathered.live is None:
                self._gather(events, max_output)
            else:
                await self._gather_and_show(events, max_output)
        self._gathered.check(max_output)

    async def _gather_and_show(self, events: list[DataEvent], max_output: int | None) -> None:
        try:
            self._gather(events, max_output)
        except OutputTooLarge:
            await self._show()  # what the error has
            raise
        await self._show()

    async def _show(self) -> None:
        if (live := self._gathered.live) is not None:
            for result in live.calls():
                if inspect.isawaitable(result):
                    with callers_errors_wrapped():
                        await result

    async def _feed_all(self, feed: Feed) -> None:
        while feed.state is InputState.SENDING:
            await self._session.feed_some(feed)

    # ---- the end ----

    async def wait(self) -> int:
        """Wait until the container, or the exec, has exited, and return its exit code.

        Read the output first, or at the same time in another task: a container whose output is not read may never exit.
        If it was cancelled, call it again. An exec is inspected again and again, because engines have no call that
        waits for its end.

        Raises:
            OutputCut: the output has ended, and the process goes on. Another call inspects it again.
            ExitCodeUnknown: the engine does not know the exit code: the container was removed, or Podman has reset it.
                What ``communicate`` has read is in the error.
            RequestRejected: the engine refused the call.
            AttachmentClosed: the attachment is closed, and the exit code was not known before.
            AttachError: this attachment was opened over a connection of your own.
            RuntimeError: another task is waiting. (*)
            EngineUnreachable, RemoteProtocolError: as for ``Client.attach``.
        """
        ending, dialer = self._ending_of("wait()"), self._dialer
        assert dialer is not None
        if ending.exit_code is None:
            with self._waiting:
                await drive(ending.wait(), dialer, self._held)
        else:
            await self._session.sleep(0)  # else a loop of such calls would block the event loop
        return ending.final_exit_code

    async def resize(self, height: int, width: int) -> None:
        """Set the size of the container's, or the exec's, TTY in characters.

        Raises:
            TypeError, ValueError: the height or the width is not an int, or is negative.
            RequestRejected: the engine refused, for instance because the container does not run.
            AttachError: this attachment was opened over a connection of your own.
            EngineUnreachable, RemoteProtocolError, TimeoutError: as for ``Client.attach``.
        """
        request = self._resize_request(height, width)
        assert self._dialer is not None
        done(request, await self._dialer.call(request))

    async def kill(self, signal: str = "KILL") -> None:
        """Send a signal to the container's main process. Its output ends when it has ended.

        Arguments and errors are those of the blocking adapter.
        """
        request = self._kill_request(signal)
        assert self._dialer is not None
        done(request, await self._dialer.call(request), 204)

    async def detach(self) -> None:
        """Leave the container running: the same as ``aclose``. No detach keys are sent."""
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connection. The container keeps running. May be called from any task, and more than once."""
        self._end(LifeEvent.CLOSE)
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(close_held, self._held)
            for each in (self._dialer, self._session):
                if each is not None:
                    stack.push_async_callback(each.aclose)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()


class Lines(LinesBase[AsyncAttachment[Any]]):
    """An iterator over the lines of an attachment's output; ``Attachment.lines`` makes it."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Line:
        """The next line; raises as ``Attachment.receive`` does."""
        attachment, splitter, reading = self._attachment, self.splitter, self._reading
        reading.check()
        attachment._take_back(splitter)
        while (line := self._next_line()) is None:
            if splitter.ended:
                raise StopAsyncIteration
            with reading:
                self._add(await attachment._next())
        result: Line = reading.hand_over(line)
        return result
