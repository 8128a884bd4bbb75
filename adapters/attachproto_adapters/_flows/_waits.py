"""The calls that wait for the exit code of a container: of an attachment, and of ``Client.wait``.

Strategy of ``Client.wait``: inspect first. If the run is over, inspect has the exit code. Otherwise hold a ``/wait``.
If it breaks off, because a proxy has a limit or the connection is lost, inspect again. No answer is taken for the exit
code of another run than the one that was seen first.
"""

from __future__ import annotations

from typing import Final

from attachproto import Attach, Request, Response
from attachproto_adapters._errors import ContainerNotRunning, ExitCodeUnknown, RequestRejected, shown
from attachproto_adapters._flows._api_calls import (
    exit_code,
    inspect_request,
    is_refusal,
    known_exit_code,
    succeeded,
    wait_request,
)
from attachproto_adapters._flows._flows import first_call, inspect_container
from attachproto_adapters._flows._inspect import InspectedContainer
from attachproto_adapters._flows._pauses import Pauses
from attachproto_adapters._flows._steps import AwaitDeferred, Call, CallDeferred, Discard, Opened, Steps

ANSWER_SECONDS: Final = 4.0
"""How long a wait may be silent after inspect has reported the exit. Podman looks every 250 ms; 1.4 s were seen."""

EARLIER_RUN_SECONDS: Final = 0.25
"""How long to wait for the exit code of a run if inspect already shows a later run. dockerd answers 5 to 20 ms after
the end of the output."""

GATEWAY_ERRORS: Final = (408, 502, 503, 504)
"""What a proxy answers if the engine was silent for longer than its limit. nginx sends no head before that. Envoy's
limit for a silent stream (``stream_idle_timeout``) may give 408."""

_PODMAN_LOOKS: Final = (0.0, 0.5, 1.5)
"""How long ``Client.wait`` waits before each inspect that follows the head of a wait on Podman."""


def waited(opened: Opened, condition: str) -> Request:
    """The call for the exit code of this container."""
    return wait_request(opened.name, condition, opened.api_version)


def ask_again(opened: Opened) -> Steps[None]:
    """Open a new wait in place of one that broke.

    Raises:
        ExitCodeUnknown: the container was removed meanwhile.
        RequestRejected: the engine refused.
    """
    try:
        response = yield from first_call(inspect_request("containers", opened.name, opened.api_version))
        # Of a container that has not run, dockerd would answer 0 at once.
        created = InspectedContainer.from_response(response).created
        request = waited(opened, "next-exit" if created else "not-running")
        answer: object = yield CallDeferred(request)
        if isinstance(answer, Response):
            yield Discard()
            succeeded(request, answer)
    except RequestRejected as exc:
        if not exc.not_found:
            raise
        raise ExitCodeUnknown(f"the wait for it broke off, and then the container was gone: {exc}") from exc


def wait_for_exit(container: str, api_version: str | None) -> Steps[int]:
    """Wait until the run of a container is over, and return its exit code.

    Raises:
        ContainerNotRunning: it was never started. dockerd would answer 0 at once, and Podman -1.
        ExitCodeUnknown: the engine does not know the exit code: the container was removed meanwhile, or reset, or runs
            again.
        RequestRejected: the engine refused: there is no such container.
    """
    Attach(container)  # checks the name
    run = latest = yield from inspect_container(container, api_version)
    if run.created:
        raise ContainerNotRunning(f"the container {container} was never started", "start it, then wait")
    pauses = Pauses()
    try:
        while not latest.exited:
            code = yield from _code_by_wait(container, run, api_version)
            if code is not None:
                return code
            yield from pauses.unbounded()
            latest = yield from inspect_container(container, api_version)
            _check_same_run(container, run, latest)
    except RequestRejected as exc:
        if not exc.not_found:
            raise
        raise ExitCodeUnknown(f"the container {container} was removed while its end was waited for: {exc}") from exc
    return known_exit_code(latest.exit_code)


def _code_by_wait(container: str, run: InspectedContainer, api_version: str | None) -> Steps[int | None]:
    """Hold a wait for the end of a run that was seen; ``None`` if the wait broke off, or was too late.

    Where AutoRemove removes the container, or an attach resets it, Podman answers ``not-running`` with 0 or -1, and
    ``next-exit`` with the exit code. But it subscribes to the event of the exit only after it has sent the head
    (``waitNextExit`` in ``pkg/api/handlers/utils/containers.go``). An exit before that is missed, and there is no
    answer. So the container is inspected until the subscription has certainly been made.
    """
    request = wait_request(container, "next-exit" if run.podman else "not-running", api_version)
    answer: object = yield CallDeferred(request)
    if not isinstance(answer, Response):
        answer, patience = None, None
        for seconds in _PODMAN_LOOKS if run.podman else ():
            answer = yield AwaitDeferred(seconds)
            if answer is not None:
                break
            response: Response = yield Call(inspect_request("containers", container, api_version))
            latest = None if is_refusal(response) else InspectedContainer.from_response(response)
            if latest is not None and latest.exited and latest.exit_code >= 0 and _is_same_run(run, latest):
                return latest.exit_code  # another inspect may find it removed
            patience = _patience(run, latest)
            if patience is not None:
                break
        if answer is None:
            answer = yield AwaitDeferred(patience)
    if isinstance(answer, Response) and answer.status_code not in GATEWAY_ERRORS:
        return exit_code(succeeded(request, answer))
    return None


def _patience(run: InspectedContainer, latest: InspectedContainer | None) -> float | None:
    """How long a wait may be silent after this inspect; ``None`` for ever, because the run goes on."""
    if latest is None or latest.created:  # removed, or reset by an attach: only the wait may have the exit code
        return ANSWER_SECONDS
    if not _is_same_run(run, latest):
        return EARLIER_RUN_SECONDS
    return ANSWER_SECONDS if latest.exited else None


def _is_same_run(run: InspectedContainer, latest: InspectedContainer) -> bool:
    """Whether both inspects may have seen the same run. That of a container that restarts has not begun yet."""
    return not (run.running or run.paused) or latest.started_at == run.started_at


def _check_same_run(container: str, run: InspectedContainer, latest: InspectedContainer) -> None:
    if latest.created or not _is_same_run(run, latest):
        now = "was reset by an attach" if latest.created else "has run again"
        raise ExitCodeUnknown(
            f"the wait for the container {container} broke off, and meanwhile it {now} ({shown(latest.status)})"
        )
