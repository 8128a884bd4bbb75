"""What a command prints while it is ended, in every framework."""

from __future__ import annotations

from typing import Any, Final

from attachproto import DataEvent
from attachproto_adapters._attachment import AttachmentBase
from attachproto_adapters._errors import OutputTooLarge

# How many bytes of it are kept. A command that never stops printing can print much more before SIGTERM arrives.
_REST_SIZE: Final = 1024 * 1024


class RestOfOutput:
    """Takes the events that come while a command is ended. It drops those beyond a limit, which have to be read too.

    Args:
        attachment: where the events come from, and where the output so far is.
        max_output: how many bytes of all output are kept.
    """

    def __init__(self, attachment: AttachmentBase[Any], max_output: int | None) -> None:
        self._attachment = attachment
        attachment._gathered.live = None  # on_output is not called any more
        self._kept = attachment._gathered.so_far()
        self._limit = sum(map(len, self._kept)) + _REST_SIZE
        if max_output is not None:
            self._limit = min(self._limit, max_output)
        self._full = False

    def add(self, events: list[DataEvent]) -> None:
        """Take events that the attachment has returned, as it returns them."""
        attachment = self._attachment
        if self._full:
            attachment._session.reading.finish()
            return
        try:
            attachment._gather(events, self._limit)
        except OutputTooLarge as exc:
            attachment._ready = []  # they were put back, for a caller who goes on
            self._full = True
            self._kept = exc.stdout, exc.stderr

    def result(self) -> tuple[bytes, bytes]:
        """All that is kept of stdout and stderr."""
        return self._kept if self._full else self._attachment._gathered.so_far()
