"""Runs one command for the blocking adapter, and ends it if the caller stops waiting.

Strategy: whatever ends the wait (a timeout, Ctrl-C, too much output, a broken connection), the command is ended before
the error is raised. If its process is not known yet, the line that tells it is waited for. Then a flow ends the
command. Then its last output is read. Each part has a time limit of its own. What is known of the command is in
``_flows/_commands``.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Final

from attachproto import Accepted
from attachproto_adapters._blocking_attachment import Attachment
from attachproto_adapters._blocking_runner import clean_up, drive
from attachproto_adapters._command_output import RestOfOutput
from attachproto_adapters._errors import ExitCodeUnknown, OutputTooLarge
from attachproto_adapters._flows._commands import END_SECONDS, REST_SECONDS, START_SECONDS, Command
from attachproto_adapters._flows._exchange import Exchange
from attachproto_adapters._flows._output import ExecResult, exit_code_wanted
from attachproto_adapters._flows._steps import Held, Steps
from attachproto_adapters._transport._blocking import BlockingSession
from attachproto_adapters._transport._blocking_dialer import Dialer

# How many reads are made between two steps at most: else a command that never stops printing would delay its own end.
_READS: Final = 50


def end_command(
    command: Command, dialer: Dialer, reading: Callable[[Steps[bool]], Steps[bool]] = lambda steps: steps
) -> bool:
    """End a command, with a second try if a connection breaks; whether it was seen to have ended.

    Args:
        command: the command.
        dialer: makes the connections.
        reading: adds what is to be done between the steps.

    Raises:
        AttachError, OSError: that is not known.
    """
    end = time.monotonic() + END_SECONDS
    while True:
        try:
            return clean_up(reading(command.end()), dialer, end - time.monotonic())
        except Exception as exc:
            if not command.may_try_again(exc):
                raise


class CommandRun:
    """One run of a command.

    Args:
        command: the command.
        exchange: what it reads, and its limits.
        dialer: makes the connections. It is closed at the end.
    """

    def __init__(self, command: Command, exchange: Exchange, dialer: Dialer) -> None:
        self._command = command
        self._exchange = exchange
        self._dialer = dialer
        self._stream: Held[BlockingSession] = Held()
        self._attachment: Attachment | None = None

    def run(self) -> ExecResult[bytes]:
        """Run it, and wait until it has ended.

        Raises:
            CommandTimeout: it has taken longer than it may.
            OutputTooLarge, OutputCut, ExitCodeUnknown, …: as ``Client.run_exec``.
        """
        timeout = self._exchange.timeout
        deadline = None if timeout is None else time.monotonic() + timeout
        self._dialer.deadline = deadline
        try:
            return self._run()
        except BaseException as exc:
            late = deadline is not None and time.monotonic() >= deadline and isinstance(exc, OSError | ExitCodeUnknown)
            ended, outputs = self.end(always=late)
            if late and timeout is not None:
                raise self._command.timed_out(timeout, outputs, ended=ended) from None
            if isinstance(exc, OutputTooLarge):
                exc.ended = ended
            raise
        finally:
            self.close()

    def open(self) -> Attachment:
        """Start it. Whatever is raised, ``end`` and ``close`` can follow."""
        driven = drive(self._command.start(), self._dialer, stream_held=self._stream)
        self._attachment = Attachment(*driven.streamed(), driven.value, self._dialer, driven.held)
        return self._attachment

    def _run(self) -> ExecResult[bytes]:
        while True:
            attachment = self.open()
            assert self._command.opened is not None
            live = self._exchange.live(self._command.opened.marker)
            outputs = attachment._exchange(self._exchange.input, self._exchange.max_output, live)
            with exit_code_wanted(outputs, (OSError,)):
                exit_code = attachment.wait()
            if self._command.has_ended(exit_code, outputs):
                if live is not None:
                    live.end()
                    attachment._show()
                return ExecResult(exit_code, *outputs)
            self.close()
            self._attachment = None

    def end(self, *, always: bool = False) -> tuple[bool, tuple[bytes, bytes]]:
        """End the command. Returns whether it was seen to have ended, and what it has printed.

        ``always``: also if its process is not known, ask the engine whether it has ended.
        """
        command, ended = self._command, False
        if command.awaits_process:
            self._dialer.deadline = time.monotonic() + START_SECONDS
            with contextlib.suppress(Exception):  # without its process it cannot be ended
                self._await_process()
        rest = None if self._attachment is None else RestOfOutput(self._attachment, self._exchange.max_output)
        if command.must_end or always:
            with contextlib.suppress(Exception):  # it is not known whether it has ended
                ended = end_command(command, self._dialer, lambda steps: self._reading(steps, rest))
        if rest is None:
            return ended, (b"", b"")
        if ended:
            self._dialer.deadline = time.monotonic() + REST_SECONDS
            with contextlib.suppress(Exception):  # after an error, what was read before is kept
                self._read_rest(rest)
        return ended, rest.result()

    def _reading(self, steps: Steps[bool], rest: RestOfOutput | None) -> Steps[bool]:
        """The same flow. Between its steps, the output that has arrived is read."""
        result: object = None
        while True:
            try:
                step = steps.send(result)
            except StopIteration as stop:
                ended: bool = stop.value
                return ended
            if rest is not None:
                with contextlib.suppress(Exception):  # the command is ended nevertheless
                    self._read_arrived(rest)
            result = yield step

    def _read_arrived(self, rest: RestOfOutput) -> None:
        assert self._attachment is not None
        session = self._attachment._session
        with session.reading:
            for _ in range(_READS):
                if events := self._attachment._take():
                    rest.add(events)
                elif self._attachment._life.ended or not session.read_now():
                    return

    def _read_rest(self, rest: RestOfOutput) -> None:
        assert self._attachment is not None
        with self._attachment._session.reading:
            while events := self._attachment._next_events():
                rest.add(events)

    def _await_process(self) -> None:
        if self._attachment is None and (session := self._stream.session) is not None:
            answer = session.next_event()  # the start was interrupted
            if isinstance(answer, Accepted):
                self._attachment = Attachment(session, answer, self._command.opened, self._dialer)
        if (attachment := self._attachment) is not None:
            with attachment._session.reading:
                while self._command.awaits_process and (events := attachment._next_events()):
                    attachment._gather(events, None)

    def close(self) -> None:
        """Close all its connections."""
        # If a signal's handler raises in one of them, the rest is closed nevertheless.
        with contextlib.ExitStack() as stack:
            stack.callback(self._dialer.close)
            if (session := self._stream.take()) is not None:
                stack.callback(session.close)
            if self._attachment is not None:
                stack.callback(self._attachment.close)
