"""The exit code of an exec as dockerd's events have it.

dockerd reports 126 for an exec whose output it could not send (moby ``daemon/exec.go``, ``ContainerExecStart``). Its
event ``exec_die`` has the exit code of the process. The two differ if a connection was cut and the process has printed
more.
"""

from __future__ import annotations

import json
import re
from typing import Final

from attachproto import Request, Response
from attachproto._headers import field
from attachproto_adapters._flows._steps import AwaitDeferred, CallDeferred, Discard, Steps
from attachproto_adapters._flows._waits import ANSWER_SECONDS

STREAM_FAILED: Final = 126
"""What dockerd reports of an exec whose stream failed. A process may exit with it too."""

EVENT_SECONDS: Final = 2.0
"""How long an event may be late. The engine's clock, up to which we ask, is known to the second."""

_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DATE: Final = r"\w{3}, (\d{1,2}) (\w{3}) (\d{4}) (\d{2}):(\d{2}):(\d{2}) GMT"


def events_request(inspected: Response, container: str, api_version: str | None) -> Request | None:
    """The call for the ends of a container's execs.

    Args:
        inspected: the answer to the exec's inspect; its ``Date`` is the engine's clock.
        container: the ID of the container.
        api_version: for the call.

    Returns:
        ``None`` if the answer has no date. Without an ``until`` that has passed, the engine would keep the call open.
    """
    date = field(inspected.headers, "date") or ""
    if (found := re.fullmatch(_DATE, date)) is None or found[2] not in _MONTHS:
        return None
    from datetime import UTC, datetime  # late: nothing else in most programs needs it

    day, year, hour, minute, second = (int(found[group]) for group in (1, 3, 4, 5, 6))
    try:
        now = int(datetime(year, _MONTHS.index(found[2]) + 1, day, hour, minute, second, tzinfo=UTC).timestamp())
    except ValueError:
        return None
    filters = json.dumps({"event": ["exec_die"], "container": [container]})
    query = (("filters", filters), ("since", "0"), ("until", str(now)))
    return Request("GET", ("events",), query, api_version=api_version)


def exit_code_of(exec_id: str, container: str, inspected: Response, api_version: str | None) -> Steps[int | None]:
    """The exit code of an exec whose stream may have failed; ``None`` if the engine's events do not have it yet."""
    request = events_request(inspected, container, api_version)
    if request is None:
        return STREAM_FAILED
    answer: object = yield CallDeferred(request, 0)
    if not isinstance(answer, Response):
        answer = yield AwaitDeferred(ANSWER_SECONDS)
    yield Discard()
    if not isinstance(answer, Response) or answer.status_code != 200:
        return STREAM_FAILED
    return exec_died(answer, exec_id)


def exec_died(response: Response, exec_id: str) -> int | None:
    """The exit code in the ``exec_die`` of this exec, if it is there."""
    for line in response.body.splitlines():
        try:
            attributes = json.loads(line)["Actor"]["Attributes"]
            if attributes["execID"] == exec_id and re.fullmatch(r"\d{1,3}", attributes["exitCode"]):
                return int(attributes["exitCode"])
        except (ValueError, LookupError, TypeError, RecursionError):
            continue
    return None
