"""Times for the ``since`` and ``until`` of logs: what a caller may give, as the text that engines read.

Strategy: arithmetic on integers and text only, because a float keeps no nanoseconds of a present time. Nothing here
asks for the current time or the local time zone. Who needs this module imports it late, because it loads ``datetime``.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

Time = str | float | datetime
"""Seconds since the epoch as a number or a text, an aware ``datetime``, or RFC 3339 as ``timestamps`` prints it."""

# dockerd splits at the point and reads both parts as 64-bit numbers; the second are nanoseconds (moby
# api/types/time/timestamp.go). 18 digits always fit.
_SECONDS: Final = re.compile(r"[0-9]{1,18}(\.[0-9]{1,9})?", re.ASCII)

RFC3339: Final = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2})(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

_FORMS: Final = "seconds since the epoch, an aware datetime, or RFC 3339 such as 2026-01-31T12:00:00.5Z"


def is_seconds(text: str) -> bool:
    """Whether this is what goes over the wire: seconds since the epoch, with up to nine decimals."""
    return _SECONDS.fullmatch(text) is not None


def to_seconds(name: str, value: Time) -> str | None:
    """The time as engines read it; ``None`` for ``0``, which engines read as no bound.

    Args:
        name: of the parameter, for errors.
        value: what the caller gave.

    Raises:
        TypeError: it is of another type.
        ValueError: it is no time, lies before 1970, or is a ``datetime`` without a time zone.
    """
    match value:
        case bool():
            raise TypeError(f"{name} is {_FORMS}, not {value!r}")
        case datetime():
            seconds = _from_datetime(name, value)
        case str():
            seconds = value if is_seconds(value) else _from_rfc3339(name, value)
        case int():
            seconds = str(value)
        case float():
            seconds = _without_zeros(f"{value:.9f}")
        case _:
            raise TypeError(f"{name} is {_FORMS}, not {value!r}")
    if not is_seconds(seconds):  # a minus, nan, inf
        raise ValueError(f"{name} is {_FORMS}, in 1970 or later, not {value!r}")
    return seconds if seconds.strip("0.") else None


def _from_datetime(name: str, value: datetime) -> str:
    if value.utcoffset() is None:
        raise ValueError(
            f"{name} is a datetime without a time zone, {value!r}: build it with tzinfo=datetime.UTC if it is meant "
            "as UTC, or call .astimezone() on it if it is local time"
        )
    microseconds = (value - EPOCH) // timedelta(microseconds=1)
    sign, microseconds = "-" if microseconds < 0 else "", abs(microseconds)
    return sign + _without_zeros(f"{microseconds // 1_000_000}.{microseconds % 1_000_000:06}")


def _from_rfc3339(name: str, text: str) -> str:
    match = RFC3339.fullmatch(text)
    if match is None:
        raise ValueError(f"{name} is {_FORMS}, not {text!r}")
    whole, decimals, zone = match.groups()
    try:
        seconds = _from_datetime(name, datetime.fromisoformat(f"{whole}{zone.upper()}"))
    except ValueError as exc:  # the 31st of February
        raise ValueError(f"{name} is {_FORMS}, not {text!r}: {exc}") from None
    # Before 1970 the fraction would count the other way; the caller refuses the sign.
    return _without_zeros(seconds + (decimals or ""))


def _without_zeros(seconds: str) -> str:
    return seconds.rstrip("0").rstrip(".") if "." in seconds else seconds
