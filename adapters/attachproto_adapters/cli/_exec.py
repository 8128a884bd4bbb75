"""``attachproto exec``.

Strategy: without ``--timeout`` a command is started as docker starts it. With it, it is started behind a shell that
tells its process, as ``run_exec`` does (``_flows/_commands``), so that it can be ended.
"""

from __future__ import annotations

import argparse
import secrets

from attachproto import RawOutput, Stdout
from attachproto_adapters._blocking_runner import clean_up
from attachproto_adapters._errors import AttachError
from attachproto_adapters._flows._commands import END_SECONDS, Command
from attachproto_adapters._flows._marker import Marker, MarkerState
from attachproto_adapters._flows._output import DataEvent
from attachproto_adapters.cli._client import CommandClient
from attachproto_adapters.cli._commands import console_size, process_options
from attachproto_adapters.cli._statuses import Signalled
from attachproto_adapters.cli._stream import run_stream
from attachproto_adapters.cli._writers import Writer, make_writer


def exec_(arguments: argparse.Namespace) -> int:
    """``attachproto exec``."""
    with CommandClient(arguments) as client:
        token = secrets.token_hex(16)
        command = Command(
            arguments.container,
            [arguments.command, *arguments.arguments],
            token=token,
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
                return _run(client, command, arguments, token)
            except _NotStarted:
                return _run(client, command, arguments, token)
        except (KeyboardInterrupt, Signalled):
            if command.must_end:
                _end(client, command)
            raise


class _NotStarted(Exception):
    """The shell could not start the command, or there is none. It has to be started again, without the shell."""


def _run(client: CommandClient, command: Command, arguments: argparse.Namespace, token: str) -> int:
    """Start it, and write its output."""
    attachment = client.open(command.start())
    marker = None if command.opened is None else command.opened.marker
    writer = make_writer(arguments)
    marked = MarkedWriter(writer, marker, token) if marker is not None else None

    def on_exit(exit_code: int) -> None:
        if not command.has_ended(exit_code, (b"" if marked is None else marked.tail, b"")):
            raise _NotStarted

    def kill() -> None:
        if not _end(client, command):
            raise AttachError("the command could not be ended")

    return run_stream(
        client,
        attachment,
        writer if marked is None else marked,
        arguments.container,
        stdin=arguments.interactive,
        kill=kill,
        on_exit=on_exit,
    )


def _end(client: CommandClient, command: Command) -> bool:
    """End the command; whether it was seen to have ended."""
    dialer = client._dialer()
    try:
        return clean_up(command.end(), dialer, END_SECONDS)
    finally:
        dialer.close()


class MarkedWriter(Writer):
    """Holds back the two lines that the shell itself prints: the process, and that ``exec`` has failed.

    If there was no shell, all output is held back until it is known whether the command is started again.

    Args:
        writer: writes the rest.
        marker: takes the first line out.
        token: what both lines begin with.
    """

    def __init__(self, writer: Writer, marker: Marker, token: str) -> None:
        self.is_plain = writer.is_plain
        self.tail = b""
        self._writer = writer
        self._marker = marker
        self._token = token.encode()
        self._kind: type[Stdout | RawOutput] = Stdout

    def write(self, event: DataEvent) -> None:
        if not isinstance(event, Stdout | RawOutput):
            data = event.data
            if data.startswith(self._token + b":"):  # the shell says that it could not start the command
                data = data.partition(b"\n")[2]
            if data:
                self._writer.write(type(event)(data))
            return
        self._kind = type(event)
        data = self.tail + self._marker.feed(event.data)
        kept = 0 if self._marker.state is MarkerState.ABSENT else self._own(data)
        self.tail = data[kept:]
        if kept:
            self._writer.write(self._kind(data[:kept]))

    def _own(self, data: bytes) -> int:
        """Where the token begins, or may begin."""
        if (at := data.find(self._token)) != -1:
            return at
        for size in range(min(len(self._token) - 1, len(data)), 0, -1):
            if self._token.startswith(data[-size:]):
                return len(data) - size
        return len(data)

    def flush(self) -> None:
        """Write what was held back: it was the command's."""
        self._marker.end()
        data, self.tail = self.tail, b""
        if data:
            self._writer.write(self._kind(data))

    def finish(self, how: str, code: int | None = None) -> None:
        self.flush()
        self._writer.finish(how, code)
