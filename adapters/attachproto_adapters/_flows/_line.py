"""A line of output, and the time that an engine puts before each line of a log."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from attachproto import DataEvent

if TYPE_CHECKING:
    from datetime import datetime


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
        # Imported here, because few need it.
        from datetime import timedelta

        from attachproto._times import EPOCH

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
