"""Asks Podman's ``/top`` whether a process runs that inspect reports as running after the end of its output.

dockerd reports the end of a process before it ends the output (moby ``daemon/monitor.go``). For an exec, it first sets
``Running``. For a container, it first takes the lock that inspect waits for. Then it closes the streams. So its inspect
is enough.

Podman's inspect reports a container as running until conmon has written the exit code. That was up to 2.1 s after the
end of the output. ``/top`` reads ``/proc`` instead, in 4 ms. It listed none of 100 processes that had ended and that
inspect still reported.
"""

from __future__ import annotations

from typing import Final

from attachproto import RemoteProtocolError, Request, Response
from attachproto_adapters._flows._inspect import Facts, InspectedContainer, InspectedExec, read_json
from attachproto_adapters._flows._pauses import Pauses
from attachproto_adapters._flows._steps import Call, Opened, Steps

# Podman runs ps in the container for fields that it does not read itself. These two it reads.
_FIELDS: Final = (("ps_args", "hpid,state"),)

# The states of a zombie, and of a process that is gone. The output of both has ended.
_DEAD_STATES: Final = ("Z", "X")


def runs_on(opened: Opened, inspected: Facts, pauses: Pauses) -> Steps[bool]:
    """Whether it is certain that the process runs.

    Args:
        opened: the attachment.
        inspected: the answer to an inspect that was asked after the end of the output, and reports it as running.
        pauses: those since the end. ``/top`` is asked for only once, after the first inspect.

    Returns:
        ``False`` also if ``/top`` is refused, by Podman or by a proxy that allows only some calls.
    """
    if inspected.podman is None:
        return True
    container = inspected.container if isinstance(inspected, InspectedExec) else opened.name
    if pauses.bounded_sum or not container or not inspected.pid:
        return False
    request = Request("GET", ("containers", container, "top"), _FIELDS, api_version=opened.api_version)
    answer: Response = yield Call(request)
    return answer.status_code == 200 and lists(answer, inspected.pid)


def goes_on_from(seen: InspectedContainer, request: Request) -> Steps[bool]:
    """Whether the run that an inspect has seen still goes on, by another inspect (``request``)."""
    answer: Response = yield Call(request)
    return answer.status_code == 200 and InspectedContainer.from_response(answer).goes_on(seen)


def lists(response: Response, pid: int) -> bool:
    """Whether the answer to ``/top`` lists this process, and not as a dead one."""
    try:
        rows = read_json(response)["Processes"]
        return any(row[0] == str(pid) and not row[1].startswith(_DEAD_STATES) for row in rows)
    except (RemoteProtocolError, LookupError, TypeError, AttributeError):
        return False
