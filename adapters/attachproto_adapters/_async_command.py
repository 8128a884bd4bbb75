"""Runs one command for the asyncio and trio adapters, and ends it if the caller stops waiting.

Strategy: as in ``_blocking_command``. The end is shielded: a cancellation is raised again when the command has ended,
or when the time limits have passed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from attachproto import Accepted, State
from attachproto_adapters._async_attachment import AsyncAttachment
from attachproto_adapters._async_runner import drive
from attachproto_adapters._command_output import RestOfOutput
from attachproto_adapters._errors import OutputTooLarge
from attachproto_adapters._flows._commands import END_SECONDS, REST_SECONDS, START_SECONDS, Command
from attachproto_adapters._flows._exchange import Exchange
from attachproto_adapters._flows._output import ExecResult, exit_code_wanted
from attachproto_adapters._flows._steps import Held
from attachproto_adapters._transport._async_base import AsyncSession
from attachproto_adapters._transport._async_dialer import AsyncDialer

S = TypeVar("S", bound=AsyncSession)
A = TypeVar("A", bound=AsyncAttachment[Any])

# The limits of the parts, and a second for what is between them.
_ALL_SECONDS = START_SECONDS + END_SECONDS + REST_SECONDS + 1.0


class AsyncCommandRun(Generic[A, S]):
    """One run of a command. Arguments as in ``_blocking_command``; ``make_attachment`` is the framework's class."""

    def __init__(
        self,
        command: Command,
        exchange: Exchange,
        dialer: AsyncDialer[S],
        make_attachment: Callable[..., A],
    ) -> None:
        self._command = command
        self._exchange = exchange
        self._dialer = dialer
        self._make_attachment = make_attachment
        self._stream: Held[S] = Held()
        self._attachment: A | None = None

    async def run(self) -> ExecResult[bytes]:
        """Run it, and wait until it has ended. Errors as in ``_blocking_command``."""
        timeout = self._exchange.timeout
        try:
            try:
                result = await (self._run() if timeout is None else self._dialer.within(timeout, self._run))
            except BaseException as exc:
                if self._command.awaits_process or self._command.must_end:
                    with contextlib.suppress(Exception):  # it is not known whether it has ended
                        ended, _ = await self._dialer.shielded(_ALL_SECONDS, self._end)
                        if isinstance(exc, OutputTooLarge):
                            exc.ended = ended
                raise
            if timeout is None or result is not None:
                assert result is not None
                return result
            ended, outputs = await self._dialer.shielded(_ALL_SECONDS, lambda: self._end(always=True))
            raise self._command.timed_out(timeout, outputs, ended=ended)
        finally:
            await self._close()

    async def _run(self) -> ExecResult[bytes]:
        while True:
            driven = await drive(self._command.start(), self._dialer, stream_held=self._stream)
            self._attachment = self._make_attachment(*driven.streamed(), driven.value, self._dialer, driven.held)
            live = self._exchange.live(driven.value.marker)
            outputs = await self._attachment._exchange(self._exchange.input, self._exchange.max_output, live)
            with exit_code_wanted(outputs, self._attachment._session.errors):
                exit_code = await self._attachment.wait()
            if self._command.has_ended(exit_code, outputs):
                if live is not None:
                    live.end()
                    await self._attachment._show()
                return ExecResult(exit_code, *outputs)
            await self._close()
            self._attachment = None

    async def _end(self, *, always: bool = False) -> tuple[bool, tuple[bytes, bytes]]:
        """End the command. Returns whether it was seen to have ended, and what it has printed.

        ``always``: also if its process is not known, ask the engine whether it has ended.
        """
        command, ended = self._command, False
        if command.awaits_process:
            with contextlib.suppress(Exception):  # without its process it cannot be ended
                await self._dialer.within(START_SECONDS, self._await_process)
        attachment = self._attachment
        rest = None if attachment is None else RestOfOutput(attachment, self._exchange.max_output)

        async def end() -> None:
            nonlocal ended
            ended = await self._dialer.within(END_SECONDS, self._end_command) or False

        async def read() -> None:
            assert rest is not None
            assert attachment is not None
            with contextlib.suppress(Exception), attachment._session.reading:  # what was read before is kept
                while events := await attachment._next_events():
                    rest.add(events)

        if command.must_end or always:
            with contextlib.suppress(Exception):  # it is not known whether it has ended
                await (end() if attachment is None else attachment._run_alongside(read, end()))
        if rest is None:
            return ended, (b"", b"")
        if ended:
            await self._dialer.within(REST_SECONDS, read)
        return ended, rest.result()

    async def _end_command(self) -> bool:
        while True:
            try:
                return (await drive(self._command.end(), self._dialer)).value
            except Exception as exc:
                if not self._command.may_try_again(exc):
                    raise

    async def _await_process(self) -> None:
        if self._attachment is None and (session := self._stream.session) is not None:
            # The start was cancelled. A send that is cancelled has not sent all, so that the engine starts nothing.
            if session.connection.our_state in (State.IDLE, State.ERROR):
                return
            answer = await session.next_event()
            if isinstance(answer, Accepted):
                self._attachment = self._make_attachment(session, answer, self._command.opened, self._dialer)
        if (attachment := self._attachment) is not None:
            with attachment._session.reading:
                while self._command.awaits_process and (events := await attachment._next_events()):
                    attachment._gather(events, None)

    async def _close(self) -> None:
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(self._dialer.aclose)
            if (session := self._stream.take()) is not None:
                stack.push_async_callback(session.aclose)
            if self._attachment is not None:
                stack.push_async_callback(self._attachment.aclose)
