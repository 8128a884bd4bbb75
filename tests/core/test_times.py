"""The times that ``Logs`` takes: each form gives the text that engines read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from attachproto import Logs


def since(value: Any) -> str | None:
    return Logs("web", since=value).since


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        (None, None),
        (0, None),
        ("0", None),
        (0.0, None),
        (1_700_000_000, "1700000000"),
        (10**15 + 1, "1000000000000001"),
        (1.5, "1.5"),
        ("1700000000.000000001", "1700000000.000000001"),
        (datetime(2026, 1, 31, 12, tzinfo=UTC), "1769860800"),
        (datetime(2026, 1, 31, 12, 0, 0, 1, tzinfo=UTC), "1769860800.000001"),
        (datetime(2026, 1, 31, 13, tzinfo=timezone(timedelta(hours=1))), "1769860800"),
        (datetime(1970, 1, 1, tzinfo=UTC), None),
        ("2026-01-31T12:00:00Z", "1769860800"),
        ("2026-01-31T12:00:00.123456789Z", "1769860800.123456789"),
        ("2026-01-31T12:00:00.500000000Z", "1769860800.5"),
        ("2026-01-31T12:00:00.000000001+01:00", "1769857200.000000001"),
        ("2026-01-31t12:00:00z", "1769860800"),
        ("1970-01-01T00:00:00.000000001Z", "0.000000001"),
    ],
)
def test_what_is_sent(given: Any, sent: str | None) -> None:
    assert since(given) == sent
    query = dict(Logs("web", since=given, until=given).to_request().query)
    assert query.get("since") == query.get("until") == sent


@pytest.mark.parametrize(
    "given",
    [
        "",
        "10m",
        "-1",
        "1.0000000001",
        "٣",
        "2026-01-31",
        "2026-01-31T12:00:00",
        "2026-02-30T12:00:00Z",
        "2026-01-31T12:00:00.1234567890Z",
        "1969-12-31T23:59:59.5Z",
        "2026-01-31T12:00:00Z\n",
        -1,
        -0.5,
        float("nan"),
        float("inf"),
        datetime(1969, 12, 31, tzinfo=UTC),
    ],
)
def test_what_is_no_time(given: Any) -> None:
    with pytest.raises(ValueError, match="since is seconds since the epoch, an aware datetime, or RFC 3339"):
        since(given)


@pytest.mark.parametrize("given", [True, b"1", [], timedelta(seconds=1)])
def test_what_is_of_another_type(given: Any) -> None:
    with pytest.raises(TypeError, match="since is seconds since the epoch"):
        since(given)


def test_a_datetime_without_a_time_zone_is_refused_with_what_to_do() -> None:
    with pytest.raises(
        ValueError, match=r"until is a datetime without a time zone, .*tzinfo=datetime\.UTC.*astimezone"
    ):
        Logs("web", until=datetime(2026, 1, 31))
