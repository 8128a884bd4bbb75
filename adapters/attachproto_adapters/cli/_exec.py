"""``attachproto exec``.

Strategy: without ``--timeout`` a command is started as docker starts it. With it, it is started behind a shell that
tells its process, as ``run_exec`` does (``_flows/_commands``), so that it can be ended. Stdin is not read until the
process is known (``_flows/_marker`` says why).
"""

from __future__ import annotations

import argparse
import secrets
import threading

from attachproto import DataEvent, RawOutput, Stderr, Stdout
from attachproto_adapters._blocking_command import end_command
from attachproto_adapters._errors import AttachError
from attachproto_adapters._flows._commands import START_SECONDS, Command
from attachproto_adapters._flows._marker import ShownOutput
from attachproto_adapters.cli._client import CommandClient
from attachproto_adapters.cli._commands import console_size, process_options
from attachproto_adapters.cli._statuses import Signalled
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
            try:
                return _run(client, command, arguments)
            except _NotStarted:
                return _run(client, command, arguments)
        except (KeyboardInterrupt, Signalled):
            if command.must_end:
                _end(client, command)
            raise


class _NotStarted(Exception):
    """The shell could not start the command, or there is none. It has to be started again, without the shell."""


def _run(client: CommandClient, command: Command, arguments: argparse.Namespace) -> int:
    """Start it, and write its output."""
    attachment = client.open(command.start())
    marker = None if command.opened is None else command.opened.marker
    output = None if marker is None else ShownOutput(marker)
    writer = make_writer(arguments)
    known: threading.Event | None = None
    if output is not None:
        writer = MarkedWriter(writer, output)
        known = writer.process_known

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
        output: tells what the rest is.

    Attributes:
        process_known: set when it is known which process the command is, or that this will not be known.
    """

    def __init__(self, writer: Writer, output: ShownOutput) -> None:
        self.is_plain = writer.is_plain
        self._writer = writer
        self.output = output
        self.process_known = threading.Event()
        self._kind: type[Stdout | RawOutput] = Stdout

    def write(self, event: DataEvent) -> None:
        if isinstance(event, Stdout | RawOutput):
            self._kind = type(event)
            self._write(self._kind, self.output.stdout(event.data))
            if not self.output.awaits_process:
                self._write(Stderr, self.output.stderr(b""))  # what was held back
                self.process_known.set()
        elif isinstance(event, Stderr):
            self._write(Stderr, self.output.stderr(event.data))
        else:
            self._writer.write(event)

    def _write(self, kind: type[DataEvent], data: bytes) -> None:
        if data:
            self._writer.write(kind(data))

    def flush(self) -> None:
        """Write what was held back."""
        stdout, stderr = self.output.end()
        self._write(Stderr, stderr)
        self._write(self._kind, stdout)

    def finish(self, how: str, code: int | None = None) -> None:
        self.flush()
        self._writer.finish(how, code)
