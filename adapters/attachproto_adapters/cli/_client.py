"""The client of the command: its calls end at the time that ``--timeout`` gives."""

from __future__ import annotations

import argparse
import time

from attachproto_adapters._blocking_attachment import Attachment
from attachproto_adapters._blocking_client import Client
from attachproto_adapters._flows._steps import Opened, Steps
from attachproto_adapters._transport._blocking_dialer import Dialer


class CommandClient(Client):
    """A client for one command.

    Attributes:
        deadline: when ``--timeout`` is over, in the time of ``time.monotonic``; ``None`` without it.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        super().__init__(arguments.host)
        self.deadline = None if arguments.timeout is None else time.monotonic() + arguments.timeout

    @property
    def late(self) -> bool:
        """Whether the time is over."""
        return self.deadline is not None and time.monotonic() >= self.deadline

    def open(self, steps: Steps[Opened]) -> Attachment:
        """Perform a flow that opens a stream. The deadline holds until it is open."""
        attachment = self._open(steps)
        assert attachment._dialer is not None
        attachment._dialer.deadline = None
        return attachment

    def _dialer(self) -> Dialer:
        dialer = super()._dialer()
        dialer.deadline = self.deadline
        return dialer
