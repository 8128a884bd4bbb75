"""The flows that read what a container has written, by ``GET /logs``. That changes nothing on any engine."""

from __future__ import annotations

import attrs

from attachproto import Accepted, Attach, AttachOptions, Logs, Rejected, Response
from attachproto_adapters._errors import ContainerNotRunning, LogsUnavailable, shown
from attachproto_adapters._flows._api_calls import succeeded
from attachproto_adapters._flows._flows import hold_wait, inspect_container, judge_stream, require_stream
from attachproto_adapters._flows._inspect import InspectedContainer
from attachproto_adapters._flows._steps import Call, Opened, Steps, Stream

# Every engine that has these drivers can read them back. dockerd reads the others from a cache, unless it is disabled
# (`cache-disabled`), which only the engine can tell.
_READABLE_DRIVERS = frozenset({"", "json-file", "local", "journald", "k8s-file"})
# dockerd has `none`, Podman all three.
_UNREADABLE_DRIVERS = frozenset({"none", "passthrough", "passthrough-tty"})


def open_logs(request: Logs) -> Steps[Opened]:
    """Inspect, and read the logs.

    Raises:
        RequestRejected: the engine refused one of the calls.
        LogsUnavailable: the container's log driver cannot be read.
    """
    inspected = yield from inspect_container(request.container, request.api_version)
    if inspected.log_driver in _UNREADABLE_DRIVERS:
        raise _logs_unavailable(request.container, inspected.log_driver)
    if inspected.created:
        yield from hold_wait(request.container, "next-exit", request.api_version)
    if request.tty is None:
        request = attrs.evolve(request, tty=inspected.tty)
    answer: Accepted | Rejected = yield Stream(request)
    if isinstance(answer, Rejected) and answer.status_code == 501:
        raise _logs_unavailable(request.container, inspected.log_driver, answer.message)
    judge_stream(request, answer)
    return _with_exit_code(Opened("containers", request.container, request.api_version, inspected), inspected)


def without_unreadable_logs(request: Attach, inspected: InspectedContainer) -> Steps[Attach]:
    """Return the request if its logs can be read; without ``logs`` if the container cannot have written any yet.

    With ``logs=1`` and a driver that cannot be read, dockerd sends nothing, neither logs nor output. Podman sends an
    error in place of the output.
    """
    driver = inspected.log_driver
    if driver in _READABLE_DRIVERS:
        return request
    if inspected.created and request.options.stream:
        return attrs.evolve(request, options=attrs.evolve(request.options, logs=False))
    if driver in _UNREADABLE_DRIVERS:
        raise _logs_unavailable(request.container, driver)
    probe = Logs(request.container, tail=0, api_version=request.api_version).to_request()
    response: Response = yield Call(probe)
    if response.status_code == 501:
        raise _logs_unavailable(request.container, driver, response.message)
    succeeded(probe, response)
    return request


def check_nothing_was_missed(request: Attach, options: AttachOptions, inspected: InspectedContainer) -> None:
    """Raise if the logs were left out because nothing had run, and the container was started meanwhile."""
    if options.logs and not request.options.logs:
        raise _logs_unavailable(request.container, inspected.log_driver, "and it was started before we had attached")


def _logs_unavailable(container: str, driver: str, why: str = "") -> LogsUnavailable:
    reason = f" ({shown(why)})" if why else ""
    return LogsUnavailable(
        f"the log driver {shown(repr(driver))} of the container {container} cannot be read{reason}",
        "attach with logs=False, before the container is started",
        driver,
    )


def read_logs(
    request: Attach, opened: Opened, latest: InspectedContainer, *, exit_code_is_held: bool = False
) -> Steps[Opened]:
    """Read what an exited container has written, and take the exit code from its inspect."""
    options = request.options
    if not options.logs or not (options.stdout or options.stderr):
        raise ContainerNotRunning(
            f"the container {request.container} is not running "
            f"({latest.status}, exit code {shown(str(latest.exit_code))})",
            "ask for its output so far with logs=True, or start it with start=True",
        )
    yield from require_stream(logs_of(request))
    if exit_code_is_held and not latest.exited:
        return opened
    return _with_exit_code(opened, latest, ended=True)


def logs_of(request: Attach) -> Logs:
    """The request for the logs of the streams that an attach asks for."""
    options = request.options
    return Logs(
        request.container,
        stdout=options.stdout,
        stderr=options.stderr,
        tty=request.tty,
        api_version=request.api_version,
    )


def _with_exit_code(opened: Opened, latest: InspectedContainer, *, ended: bool = False) -> Opened:
    """Add the exit code of inspect, if the container has exited."""
    if latest.exited and latest.exit_code >= 0:
        return opened._replace(exit_code=latest.exit_code)
    return opened._replace(exit_code_lost=ended or latest.exited)
