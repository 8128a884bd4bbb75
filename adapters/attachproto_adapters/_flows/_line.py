"""``Line``, and the time that an engine puts before each line of a log."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import attrs

from attachproto._times import EPOCH, RFC3339
from attachproto_adapters._flows._output import DataEvent

_SECOND = timedelta(seconds=1)


@attrs.frozen(order=True)
class LogTime:
    """A time as an engine prints it, with its nanoseconds, which a ``datetime`` would lose.

    Times are equal, or before one another, as moments: the zone does not matter.

    Attributes:
        nanoseconds: since 1970 in UTC.
        text: as the engine has printed it: RFC 3339. ``logs`` takes it as ``since`` and ``until``.
    """

    nanoseconds: int
    text: str = attrs.field(eq=False, order=False)

    @property
    def datetime(self) -> datetime:
        """The time in UTC, cut to whole microseconds."""
        return EPOCH + timedelta(microseconds=self.nanoseconds // 1000)

    def __str__(self) -> str:
        return self.text


@attrs.frozen
class Line:
    r"""A line of text.

    Attributes:
        text: without its end (``\n`` or ``\r\n``), and with ``timestamps`` without its time.
        kind: the class of the events it came in: ``Stdout``, ``Stderr``, ``RawOutput`` or ``Systemerr``.
        ended: whether its end was there. If not, it is the last of its stream, or a piece of a line that is too long.
        progress: it was ended by ``\r``, so that a terminal shows the next one in its place.
        time: when it was logged; ``None`` if the engine has not put a time before it, or was not asked to.
    """

    text: str
    kind: type[DataEvent]
    ended: bool = True
    progress: bool = False
    time: LogTime | None = None


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
