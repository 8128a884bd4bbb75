"""Takes the times off the lines of a log. Imported late, by logs with ``timestamps``, because it loads ``datetime``."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from attachproto._times import EPOCH, RFC3339
from attachproto_adapters._flows._line import Line, LogTime

_SECOND = timedelta(seconds=1)


class TimeReader:
    """Takes the times off the lines of one stream.

    What continues a line, because it was too long or was ended by a carriage return, has the time of its beginning.
    """

    def __init__(self) -> None:
        self._time: LogTime | None = None
        self._in_line = False

    def timed(self, line: Line) -> Line:
        """The line with its time in ``time`` and not in ``text``."""
        text = line.text
        if not self._in_line:
            self._time, text = _split(text)
        self._in_line = line.progress or not line.ended
        return line if self._time is None else Line(text, line.kind, line.ended, line.progress, self._time)

    def forget(self) -> None:
        """Go on at the beginning of a line."""
        self._in_line = False


def _split(text: str) -> tuple[LogTime | None, str]:
    """The time at the beginning of a line, and the rest. dockerd and Podman print it with a space behind it."""
    found = RFC3339.match(text)
    if found is None or text[found.end() : found.end() + 1] != " ":
        return None, text
    whole, decimals, zone = found.groups()
    try:
        seconds = (datetime.fromisoformat(whole + zone.upper()).astimezone(UTC) - EPOCH) // _SECOND
    except (ValueError, OverflowError):  # the 31st of February, or a time of the year 0
        return None, text
    nanoseconds = seconds * 1_000_000_000 + int((decimals or "")[1:].ljust(9, "0"))
    return LogTime(nanoseconds, found.group()), text[found.end() + 1 :]
