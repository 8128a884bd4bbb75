"""What the iterators over lines do in every framework."""

from __future__ import annotations

from typing import Generic, TypeVar

from attachproto import OutputEvent
from attachproto_adapters._flows._line import Line
from attachproto_adapters._flows._lines import LineSplitter
from attachproto_adapters._read_ahead import store
from attachproto_adapters._transport._guard import Guard

AnyAttachment = TypeVar("AnyAttachment")

LinesArguments = tuple[str, str, int, bool, bool]
"""The arguments of ``LineSplitter``."""


class LinesBase(Generic[AnyAttachment]):
    """The part of an iterator over lines that is the same in every framework.

    Args:
        attachment: where the events come from; only the framework's class uses it.
        reading: the guard of what the attachment reads.
        made_with: the arguments of ``LineSplitter``.
    """

    def __init__(self, attachment: AnyAttachment, reading: Guard, made_with: LinesArguments) -> None:
        self.made_with = made_with
        self.splitter = LineSplitter(*made_with)
        self._attachment = attachment
        self._reading = reading

    def _next_line(self) -> Line | None:
        """The next line of what was read. It starts a step of reading, which the caller finishes, if there is one."""
        self._reading.begin()
        try:
            line = self.splitter.next_line()
        except UnicodeError:
            self._reading.finish()
            raise
        if line is None:
            self._reading.finish()
        return line

    def _add(self, event: OutputEvent) -> None:
        store(event, self.splitter.add, self._reading)
