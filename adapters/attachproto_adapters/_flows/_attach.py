"""The flow that opens a container's stream.

Strategy: output that a container has already written is read by ``GET /logs``, and only a container that runs, or has
not run yet, is attached to. An attach to one that has exited is accepted by dockerd, which then sends nothing, ever.
Podman resets such a container to ``created`` and forgets its exit code. Between the inspect and the attach a container
may exit; so each attach is followed by a second inspect.
"""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from attachproto import Accepted, Attach, AttachOptions, Quirk, Rejected, Response
from attachproto._validators import check_flag
from attachproto_adapters._errors import ContainerNotRunning, RequestRejected, shown, warn
from attachproto_adapters._flows._api_calls import done, is_refusal, resize_request, start_request
from attachproto_adapters._flows._arguments import check_quirks
from attachproto_adapters._flows._flows import (
    hold_wait,
    inspect_container,
    judge_stream,
    require_stream,
    with_unnamed_intermediary,
)
from attachproto_adapters._flows._inspect import InspectedContainer, known_quirks
from attachproto_adapters._flows._logs import check_nothing_was_missed, logs_of, read_logs, without_unreadable_logs
from attachproto_adapters._flows._steps import Call, Discard, Opened, Pause, Steps, Stream

# Podman was seen to take up to 0.5 s for cleaning up, on a loaded machine. 5.8 cleans up before it reports the exit.
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
    console_size: tuple[int, int] | None = None,
) -> Steps[Opened]:
    """Inspect, hold the wait, attach, start, and inspect again.

    ``console_size``, with ``start``, is the size of the TTY.

    Raises:
        ValueError: the container's name is not valid; ``start`` together with ``stream=False``.
        RequestRejected: the engine refused one of the calls.
        ContainerNotRunning: it has exited, and neither its logs nor a start were asked for; or it is paused.
        LogsUnavailable: logs were asked for, and the container's log driver cannot be read.
    """
    # Checked before the engine is asked. Building the request checks the name.
    request = Attach(container, options, tty=tty, api_version=api_version)
    check_flag("start", start)
    check_flag("wait", wait)
    if start and not options.stream:
        # dockerd 20.10 then reads nothing of what the container prints. After 64 KiB the container waits for ever, and
        # so does each further call for it, also its removal.
        raise ValueError("start=True needs AttachOptions(stream=True): with stream=False nobody reads the output")
    given_quirks = check_quirks(quirks)
    inspected = yield from inspect_container(container, api_version)
    if inspected.paused:
        raise ContainerNotRunning(f"the container {container} is paused: engines attach once it is unpaused")
    if tty is None:
        request = attrs.evolve(request, tty=inspected.tty)
    wanted = options.stdin and inspected.open_stdin and (start or not inspected.exited)
    inspected = yield from with_unnamed_intermediary(inspected, wanted=wanted)
    if options.stdin and not inspected.open_stdin:
        warn("the container was created without OpenStdin: nothing reads what is sent to its stdin")
    if options.logs:
        request = yield from without_unreadable_logs(request, inspected)
    known = known_quirks(inspected.podman, request) if given_quirks is None else given_quirks
    opened = Opened("containers", container, api_version, inspected)
    # dockerd ends an attach to neither stdout nor stderr at once.
    follows = options.stream and (options.stdout or options.stderr)
    if start:
        if (yield from _attach_and_start(request, known, inspected, console_size)):
            check_nothing_was_missed(request, options, inspected)
        return opened._replace(follows=follows, wait_held=True)
    if inspected.exited:
        return (yield from read_logs(request, opened, inspected))
    held = wait or (options.stream and inspected.created)
    if held:
        latest = yield from _hold_exit(container, inspected, api_version)
        if _has_ended(latest, inspected):
            yield Discard()
            return (yield from read_logs(request, opened, latest))
    if request.options.logs and not options.stream:
        yield from require_stream(logs_of(request))
        return opened
    answer: Accepted | Rejected = yield Stream(request, known)
    if isinstance(answer, Accepted):
        judge_stream(request, answer)
        if not options.stream:
            return opened
    # It may have exited between the inspect and the attach. Then dockerd sends neither output nor an end, and Podman
    # refuses the attach, or accepts it and resets the container.
    try:
        latest = yield from inspect_container(container, api_version)
    except RequestRejected as exc:
        if isinstance(answer, Accepted) and not exc.not_found:
            raise
        # AutoRemove has removed it. Then an accepted stream ends too, and may have all of its output.
        judge_stream(request, answer)
        return opened._replace(follows=follows, wait_held=held)
    if not latest.created:
        check_nothing_was_missed(request, options, inspected)
    if _has_ended(latest, inspected):
        if held and latest.exited:
            yield Discard()
        # A wait that was held before the attach has the exit code, even if our attach has reset the container.
        return (yield from read_logs(request, opened, latest, exit_code_is_held=held))
    if isinstance(answer, Rejected) and not (latest.running or latest.created):
        raise ContainerNotRunning(f"the container {container} is {shown(latest.status)}: {shown(answer.message)}")
    judge_stream(request, answer)
    return opened._replace(follows=follows, wait_held=held)


def _has_ended(latest: InspectedContainer, first: InspectedContainer) -> bool:
    """Whether it has exited by now. Podman has reset it if it is ``created`` and was not before."""
    return latest.exited or (latest.created and not first.created)


def _attach_and_start(
    request: Attach,
    quirks: frozenset[Quirk],
    inspected: InspectedContainer,
    console_size: tuple[int, int] | None,
) -> Steps[bool]:
    """Attach, hold the wait, and start; whether the container was running already."""
    container, api_version = request.container, request.api_version
    yield from _until_cleaned_up(container, inspected, api_version)
    yield from require_stream(request, quirks)
    # The wait is held before the start, because AutoRemove may remove the container when it exits. It needs the
    # condition: without one, dockerd answers 0 at once for a container that has not run, and Podman -1.
    yield from hold_wait(container, "next-exit", api_version)
    resize = None if console_size is None else resize_request("containers", container, *console_size, api_version)
    resized = False
    if resize is not None:
        # Podman has a terminal from the attach on, and dockerd only from the start on.
        resized = not is_refusal((yield Call(resize)))
    start = start_request(container, api_version)
    response: Response = yield Call(start)
    if response.status_code == 304:
        return True
    done(start, response, 204)
    if resize is not None and not resized:
        yield Call(resize)  # for dockerd before 23.0, which ignores the size at the creation; refused if it has exited
    return False


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
        inspected = yield from inspect_container(container, api_version)


def _hold_exit(container: str, inspected: InspectedContainer, api_version: str | None) -> Steps[InspectedContainer]:
    """Hold the wait for the end of this run; the latest that is known of the container.

    Podman: where AutoRemove removes the container or an attach resets it, ``not-running`` answers 0 or -1, and
    ``next-exit`` the exit code. But ``next-exit`` never answers if the exit came first. So the container is inspected
    again.
    """
    condition = "next-exit" if inspected.created or inspected.podman else "not-running"
    yield from hold_wait(container, condition, api_version)
    if inspected.podman and not inspected.created:
        return (yield from inspect_container(container, api_version))
    return inspected
