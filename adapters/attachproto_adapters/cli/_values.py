"""The values of options, read as docker reads them. Errors are ``argparse``'s, so that it names the option."""

from __future__ import annotations

import argparse
import math
import os
import re
from datetime import UTC, datetime, timedelta

from attachproto import AttachOptions

# Go's time.ParseDuration.
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_PART = r"([0-9]+(?:\.[0-9]+)?)(h|ms|m|s|us|µs|ns)"
_SECONDS = re.compile(r"[0-9]+(\.[0-9]{1,9})?")


def duration(text: str) -> float:
    """Seconds, as a number or as ``1m30s``.

    Raises:
        ArgumentTypeError: it is neither, or not above 0.
    """
    if re.fullmatch(f"(?:{_PART})+", text):
        seconds = math.fsum(float(number) * _UNITS[unit] for number, unit in re.findall(_PART, text))
    else:
        try:
            seconds = float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is no time such as 10, 1.5 or 1m30s") from None
    if not 0 < seconds <= 1e8:
        raise argparse.ArgumentTypeError(f"{text!r} is not above 0 and at most 100000000 seconds")
    return seconds


def point_in_time(text: str) -> str | datetime:
    """A time of the log: seconds since the epoch, a date with or without a time, or how long ago, as ``10m``.

    Without a zone a date is of the local time, as for docker.

    Raises:
        ArgumentTypeError: it is none of them.
    """
    if _SECONDS.fullmatch(text):
        return text
    if re.fullmatch(f"(?:{_PART})+", text):
        return datetime.now(UTC) - timedelta(seconds=duration(text))
    try:
        value = datetime.fromisoformat(text)
        if value.tzinfo is not None:
            return text  # as it is: it may have nanoseconds, which a datetime has not
        return value.astimezone()
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time such as 10m, 2026-01-31, 2026-01-31T12:00:00Z or 1769860800"
        ) from None


def tail(text: str) -> int | None:
    """How many lines, or ``all``."""
    if text == "all":
        return None
    if not re.fullmatch("[0-9]{1,18}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number of lines nor all")
    return int(text)


def variable(text: str) -> tuple[str, str] | None:
    """``NAME=VALUE``, or ``NAME`` for the value that it has here; ``None`` if it has none here."""
    name, equals, value = text.partition("=")
    if not name:
        raise argparse.ArgumentTypeError(f"{text!r} is neither NAME=VALUE nor NAME")
    if equals:
        return name, value
    return None if name not in os.environ else (name, os.environ[name])


def ulimit(text: str) -> dict[str, object]:
    """``NAME=SOFT[:HARD]``, as the engine takes it."""
    match = re.fullmatch(r"([a-z]+)=(-?[0-9]+)(?::(-?[0-9]+))?", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no limit such as nofile=1024 or nofile=1024:2048")
    name, soft, hard = match.groups()
    return {"Name": name, "Soft": int(soft), "Hard": int(soft if hard is None else hard)}


def detach_keys(text: str) -> str:
    """Keys such as ``ctrl-p,ctrl-q``."""
    try:
        AttachOptions(detach_keys=text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(str(exc)) from None
    return text
