"""The client of the command: its calls end at the time that ``--timeout`` gives."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable
from types import TracebackType

from attachproto import Quirk, Request
from attachproto_adapters._blocking_attachment import Attachment
from attachproto_adapters._blocking_client import Client
from attachproto_adapters._flows._flows import first_call
from attachproto_adapters._flows._inspect import read_json
from attachproto_adapters._flows._steps import Opened, Steps
from attachproto_adapters._transport._blocking import BlockingSession
from attachproto_adapters._transport._blocking_dialer import Dialer
from attachproto_adapters.cli._recording import Recording


class CommandClient(Client):
    """A client for one command.

    Attributes:
        deadline: when ``--timeout`` is over, in the time of ``time.monotonic``; ``None`` without it.
        recording: what ``--record`` writes; ``None`` without it.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        super().__init__(arguments.host)
        self.deadline = None if arguments.timeout is None else time.monotonic() + arguments.timeout
        self.recording: Recording | None = None
        if arguments.record is not None:
            recording = Recording(arguments.record, arguments.command_name)
            try:
                recording.engine = self._engine()
            except BaseException:
                recording.close()
                self.close()
                raise
            self.recording = recording

    def _engine(self) -> tuple[str, str]:
        """Which engine it is, and its version."""
        version = read_json(self._drive(first_call(Request("GET", ("version",)))))
        podman = any(str(each.get("Name", "")).startswith("Podman") for each in version.get("Components") or ())
        return "podman" if podman else "docker", str(version.get("Version", ""))

    @property
    def late(self) -> bool:
        """Whether the time is over."""
        return self.deadline is not None and time.monotonic() >= self.deadline

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        super().__exit__(exc_type, exc, traceback)
        if self.recording is not None:
            self.recording.close(exc)

    def open(self, steps: Steps[Opened], dialer: Dialer | None = None) -> Attachment:
        """Perform a flow that opens a stream. The deadline holds until it is open."""
        attachment = self._open(steps, dialer)
        assert attachment._dialer is not None
        attachment._dialer.deadline = None
        return attachment

    def _dialer(self) -> Dialer:
        dialer = super()._dialer()
        dialer.deadline = self.deadline
        if (recording := self.recording) is not None:
            dial = dialer.dial

            def recorded_dial(quirks: Iterable[Quirk] = ()) -> BlockingSession:
                session = dial(quirks)
                recording.watch(session)
                return session

            dialer.dial = recorded_dial  # type: ignore[method-assign]
        return dialer
