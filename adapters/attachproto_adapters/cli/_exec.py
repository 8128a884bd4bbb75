"""``attachproto exec``.

Strategy: without ``--timeout`` a command is started as docker starts it. With it, it is started behind a shell that
tells its process, as ``run_exec`` does (``_flows/_commands``), so that it can be ended. Stdin is not read until the
process is known (``_flows/_marker`` says why).
"""

from __future__ import annotations

import argparse
import secrets
import threading
from collections.abc import Callable

from attachproto import DataEvent, Stderr, Systemerr
from attachproto_adapters._blocking_attachment import Attachment
from attachproto_adapters._blocking_command import CommandRun, end_command
from attachproto_adapters._errors import AttachError
from attachproto_adapters._flows._commands import START_SECONDS, Command
from attachproto_adapters._flows._exchange import Exchange
from attachproto_adapters._flows._live_output import OutputPiece, ShownOutput
from attachproto_adapters._flows._marker import Marker, MarkerState
from attachproto_adapters.cli._client import CommandClient
from attachproto_adapters.cli._commands import console_size, process_options
from attachproto_adapters.cli._signals import before_interruption
from attachproto_adapters.cli._stream import run_stream
from attachproto_adapters.cli._writers import Writer, make_writer


def exec_(arguments: argparse.Namespace) -> int:
    """``attachproto exec``."""
    with CommandClient(arguments) as client:
        command = Command(
            arguments.container,
            [arguments.command, *arguments.arguments],
            token=secrets.token_hex(16),
            kill=arguments.timeout is not None,
            stdin=arguments.interactive,
            stdin_must_end=False,
            console_size=console_size(arguments, client._api_version),
            api_version=client._api_version,
            detach_keys=arguments.detach_keys,
            **process_options(arguments),
        )
        try:
            return _run(client, command, arguments)
        except _NotStarted:
            return _run(client, command, arguments)


class _NotStarted(Exception):
    """The shell could not start the command, or there is none. It has to be started again, without the shell."""


def _run(client: CommandClient, command: Command, arguments: argparse.Namespace) -> int:
    """Start it, and write its output. A signal ends it, as it ends a command of ``run_exec``."""
    dialer = client._dialer()
    # The writer shows the output, and TimeLimit bounds the time, so the exchange has no part in either.
    nothing = Exchange(input=None, encoding=None, errors="strict", max_output=None, timeout=None, on_output=None)
    run = CommandRun(command, nothing, dialer)
    tried = False

    def end() -> None:
        nonlocal tried
        if not tried:
            tried = True
            run.end()

    try:
        with before_interruption(end):
            attachment = run.open()
            dialer.deadline = None  # it holds until the stream is open
            return _show(client, command, attachment, arguments, end)
    finally:
        run.close()


def _show(
    client: CommandClient,
    command: Command,
    attachment: Attachment,
    arguments: argparse.Namespace,
    interrupted: Callable[[], object],
) -> int:
    """Write its output. ``interrupted`` is called when a signal ends this, before the stream is closed."""
    marker = None if command.opened is None else command.opened.marker
    writer = make_writer(arguments)
    output: ShownOutput | None = None
    known: threading.Event | None = None
    if marker is not None:
        writer = MarkedWriter(writer, marker)
        known, output = writer.process_known, writer.output

    def on_exit(exit_code: int) -> None:
        if not command.has_ended(exit_code, (b"", b"") if output is None else output.held):
            raise _NotStarted

    def kill() -> None:
        if known is not None:
            known.wait(START_SECONDS)
        if not _end(client, command):
            raise AttachError(command.why_not_ended)

    return run_stream(
        client,
        attachment,
        writer,
        arguments.container,
        stdin=arguments.interactive,
        kill=kill,
        on_exit=on_exit,
        stdin_after=known,
        interrupted=interrupted,
    )


def _end(client: CommandClient, command: Command) -> bool:
    """End the command; whether it was seen to have ended."""
    dialer = client._dialer()
    try:
        return end_command(command, dialer)
    finally:
        dialer.close()


class MarkedWriter(Writer):
    """Leaves out the lines that the shell itself prints.

    Args:
        writer: writes the rest.
        marker: finds the first line.

    Attributes:
        output: tells what the rest is.
        process_known: set when it is known which process the command is, or that this will not be known.
    """

    def __init__(self, writer: Writer, marker: Marker) -> None:
        self.is_plain = writer.is_plain
        self._writer = writer
        self._marker = marker
        self.output = ShownOutput(marker)
        self.process_known = threading.Event()

    def write(self, event: DataEvent) -> None:
        if isinstance(event, Systemerr):
            self._writer.write(event)
            return
        if not isinstance(event, Stderr):
            event = type(event)(self._marker.feed(event.data))
        self._write(self.output.add(event))
        if self._marker.state is not MarkerState.AWAITED:
            self.process_known.set()

    def _write(self, shown: list[OutputPiece]) -> None:
        for event in shown:
            self._writer.write(event)

    def flush(self) -> None:
        """Write what was held back."""
        self._marker.end()
        self._write(self.output.end())

    def finish(self, how: str, code: int | None = None) -> None:
        self.flush()
        self._writer.finish(how, code)
