"""The call that waits for the exit code of a container, and a new one in place of one that broke off."""

from __future__ import annotations

from typing import Final

from attachproto import Request, Response
from attachproto_adapters._errors import ExitCodeUnknown, RequestRejected
from attachproto_adapters._flows._api_calls import inspect_request, succeeded, wait_request
from attachproto_adapters._flows._flows import first_call
from attachproto_adapters._flows._inspect import InspectedContainer
from attachproto_adapters._flows._steps import CallDeferred, Discard, Opened, Steps

ANSWER_SECONDS: Final = 4.0
"""How long a wait may be silent after inspect has reported the exit. Podman looks every 250 ms; 1.4 s were seen."""

EARLIER_RUN_SECONDS: Final = 0.25
"""How long to wait for the exit code of a run if inspect already shows a later run. dockerd answers 5 to 20 ms after
the end of the output."""

GATEWAY_ERRORS: Final = (502, 503, 504)
"""What a proxy answers if the engine was silent for longer than its limit. nginx sends no head before that."""


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
