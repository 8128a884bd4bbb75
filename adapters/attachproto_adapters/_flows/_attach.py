"""The flows that open a container's stream, and its logs.

Strategy: output that a container has already written is read by ``GET /logs``, and only a container that runs, or has
not run yet, is attached to. An attach to one that has exited is accepted by dockerd, which then sends nothing, ever.
Podman resets such a container to ``created`` and forgets its exit code. Between the inspect and the attach a container
may exit; so each attach is followed by a second inspect.
"""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from attachproto import Accepted, Attach, AttachOptions, Logs, Quirk, Rejected, Response, ResponseHead
from attachproto_adapters._errors import ContainerNotRunning, LogsUnavailable, shown, warn
from attachproto_adapters._flows._api_calls import inspect_request, start_request, succeeded, wait_request
from attachproto_adapters._flows._flows import first_call, judge_stream, require_stream
from attachproto_adapters._flows._inspect import InspectedContainer, known_quirks
from attachproto_adapters._flows._steps import Call, CallDeferred, Discard, Opened, Pause, Steps, Stream

# Read back on every engine that has them. dockerd reads the others from a cache, unless it is disabled
# (`cache-disabled`), which only the engine can tell.
_READABLE_DRIVERS = frozenset({"", "json-file", "local", "journald", "k8s-file"})
# dockerd has `none`, Podman all three.
_UNREADABLE_DRIVERS = frozenset({"none", "passthrough", "passthrough-tty"})

# Podman was seen to take up to 0.5 s for cleaning up, on a loaded machine; 5.8 has done it before it tells of the exit.
_CLEANING_PAUSE, _CLEANING_MAX = 0.05, 10.0


def open_attach(
    container: str,
    options: AttachOptions,
    *,
    tty: bool | None,
    start: bool,
    wait: bool,
    api_version: str | None,
    quirks: Iterable[Quirk] | None = None,
) -> Steps[Opened]:
    """Inspect, hold the wait, attach, start, and inspect again.

    Raises:
        ValueError: the container's name is not valid.
        RequestRejected: the engine refused one of the calls.
        ContainerNotRunning: it has exited, and neither its logs nor a start were asked for; or it is paused.
        LogsUnavailable: logs were asked for, and the container's log driver cannot be read.
    """
    # Built before anything is asked, because it checks the name.
    request = Attach(container, options, tty=tty, api_version=api_version)
    inspected = yield from _inspect(container, api_version)
    if inspected.paused:
        raise ContainerNotRunning(f"the container {container} is paused: engines attach once it is unpaused")
    if tty is None:
        request = attrs.evolve(request, tty=inspected.tty)
    if options.stdin and not inspected.open_stdin:
        warn("the container was created without OpenStdin: nothing reads what is sent to its stdin")
    if options.logs:
        request = yield from _without_unreadable_logs(request, inspected)
    known = known_quirks(inspected.podman, request) if quirks is None else frozenset(quirks)
    opened = Opened("containers", container, api_version, inspected)
    # An attach to neither stdout nor stderr dockerd ends at once.
    follows = options.stream and (options.stdout or options.stderr)
    if start:
        yield from _until_cleaned_up(container, inspected, api_version)
        yield from require_stream(request, known)
        # Held before the start, and with the condition: without it dockerd answers 0 at once for a container that
        # has not run, and Podman -1; and once it has run, AutoRemove may have taken it away.
        yield from _hold_wait(container, "next-exit", api_version)
        if (yield from _runs_already(container, api_version)):
            _check_nothing_was_missed(request, options, inspected)
        return attrs.evolve(opened, follows=follows, wait_held=True)
    if inspected.exited:
        return (yield from _read_logs(request, opened, inspected))
    held = wait or (options.stream and inspected.created)
    if held:
        latest = yield from _hold_exit(container, inspected, api_version)
        if _has_ended(latest, inspected):
            yield Discard()
            return (yield from _read_logs(request, opened, latest))
    if request.options.logs and not options.stream:
        yield from require_stream(_logs_of(request))
        return opened
    answer: Accepted | Rejected = yield Stream(request, known)
    if isinstance(answer, Accepted):
        judge_stream(request, answer)
        if not options.stream:
            return opened
    # It may have exited since the inspect. If it did so before the engine joined us to its output, dockerd sends
    # neither output nor an end; Podman refuses, or has reset it.
    inspect = inspect_request("containers", container, api_version)
    response: Response = yield Call(inspect)
    if response.status_code == 404 or (isinstance(answer, Rejected) and response.status_code >= 300):
        # Removed when it exited (AutoRemove): then an accepted stream ends too, and may hold all of its output.
        judge_stream(request, answer)
        return attrs.evolve(opened, follows=follows, wait_held=held)
    latest = InspectedContainer.from_response(succeeded(inspect, response))
    if not latest.created:
        _check_nothing_was_missed(request, options, inspected)
    if _has_ended(latest, inspected):
        if held and latest.exited:
            yield Discard()
        # What was held before the attach has the exit code, even if our attach has reset the container.
        return (yield from _read_logs(request, opened, latest, exit_code_is_held=held))
    if isinstance(answer, Rejected) and not (latest.running or latest.created):
        raise ContainerNotRunning(f"the container {container} is {shown(latest.status)}: {shown(answer.message)}")
    judge_stream(request, answer)
    return attrs.evolve(opened, follows=follows, wait_held=held)


def open_logs(request: Logs) -> Steps[Opened]:
    """Inspect, and read the logs.

    Raises:
        RequestRejected: the engine refused one of the calls.
        LogsUnavailable: the container's log driver cannot be read.
    """
    inspected = yield from _inspect(request.container, request.api_version)
    if inspected.log_driver in _UNREADABLE_DRIVERS:
        raise _logs_unavailable(request.container, inspected.log_driver)
    if inspected.created:
        yield from _hold_wait(request.container, "next-exit", request.api_version)
    if request.tty is None:
        request = attrs.evolve(request, tty=inspected.tty)
    answer: Accepted | Rejected = yield Stream(request)
    if isinstance(answer, Rejected) and answer.status_code == 501:
        raise _logs_unavailable(request.container, inspected.log_driver, answer.message)
    judge_stream(request, answer)
    return _with_exit_code(Opened("containers", request.container, request.api_version, inspected), inspected)


# ---- logs in place of an attach ----


def _without_unreadable_logs(request: Attach, inspected: InspectedContainer) -> Steps[Attach]:
    """The request, if the logs that it asks for can be read; without them, if none can have been written yet.

    With ``logs=1`` and a driver that cannot be read dockerd sends nothing at all, neither logs nor output, and Podman
    puts an error in the output's place.
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


def _check_nothing_was_missed(request: Attach, options: AttachOptions, inspected: InspectedContainer) -> None:
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


def _read_logs(
    request: Attach, opened: Opened, latest: InspectedContainer, *, exit_code_is_held: bool = False
) -> Steps[Opened]:
    """Read what a container wrote that has ended, and take the exit code from its inspect."""
    options = request.options
    if not options.logs or not (options.stdout or options.stderr):
        raise ContainerNotRunning(
            f"the container {request.container} is not running "
            f"({latest.status}, exit code {shown(str(latest.exit_code))})",
            "ask for its output so far with logs=True, or start it with start=True",
        )
    yield from require_stream(_logs_of(request))
    if exit_code_is_held and not latest.exited:
        return opened
    return _with_exit_code(opened, latest, ended=True)


def _logs_of(request: Attach) -> Logs:
    options = request.options
    return Logs(
        request.container,
        stdout=options.stdout,
        stderr=options.stderr,
        tty=request.tty,
        api_version=request.api_version,
    )


def _with_exit_code(opened: Opened, latest: InspectedContainer, *, ended: bool = False) -> Opened:
    """With what inspect says of the exit code, if the container has ended."""
    if latest.exited and latest.exit_code >= 0:
        return attrs.evolve(opened, exit_code=latest.exit_code)
    return attrs.evolve(opened, exit_code_lost=ended or latest.exited)


def _has_ended(latest: InspectedContainer, first: InspectedContainer) -> bool:
    """Whether it has exited by now. Podman has reset it if it is ``created`` and was not before."""
    return latest.exited or (latest.created and not first.created)


# ---- calls ----


def _inspect(container: str, api_version: str | None) -> Steps[InspectedContainer]:
    response = yield from first_call(inspect_request("containers", container, api_version))
    return InspectedContainer.from_response(response)


def _until_cleaned_up(container: str, inspected: InspectedContainer, api_version: str | None) -> Steps[None]:
    """Wait until Podman has cleaned up after the last run.

    Until then the container is ``stopped``. Podman 4.3 refuses an attach to it, or accepts it and then sends none of
    the next run's output.
    """
    pauses = 0
    while inspected.status == "stopped":
        if pauses * _CLEANING_PAUSE >= _CLEANING_MAX:
            raise ContainerNotRunning(
                f"the container {container} is stopped, and after {_CLEANING_MAX:g} s the engine has not cleaned up: "
                "it can be started again when its status is exited"
            )
        yield Pause(_CLEANING_PAUSE)
        pauses += 1
        inspected = yield from _inspect(container, api_version)


def _runs_already(container: str, api_version: str | None) -> Steps[bool]:
    """Start it; whether it was running."""
    request = start_request(container, api_version)
    response: Response = yield Call(request)
    if response.status_code == 304:
        return True
    succeeded(request, response)
    return False


def _hold_exit(container: str, inspected: InspectedContainer, api_version: str | None) -> Steps[InspectedContainer]:
    """Hold the wait for the end of this run; the latest that is known of the container.

    Podman: where AutoRemove removes the container or an attach resets it, ``not-running`` answers 0 or -1, and
    ``next-exit`` the exit code. It never answers if the exit was before it: so inspect again.
    """
    if inspected.created:
        yield from _hold_wait(container, "next-exit", api_version)
    elif inspected.podman:
        yield from _hold_wait(container, "next-exit", api_version)
        return (yield from _inspect(container, api_version))
    else:
        yield from _hold_wait(container, "not-running", api_version)
    return inspected


def _hold_wait(container: str, condition: str, api_version: str | None) -> Steps[None]:
    request = wait_request(container, condition, api_version)
    answer: Response | ResponseHead | None = yield CallDeferred(request)
    if isinstance(answer, Response):
        succeeded(request, answer)
