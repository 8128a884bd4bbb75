"""The flows that create, start, end and remove a container."""

from __future__ import annotations

import json

from attachproto import Attach, Request, Response
from attachproto._validators import check_flag
from attachproto_adapters._errors import ImageNotFound, RequestRejected
from attachproto_adapters._flows._api_calls import created_id, done, start_request
from attachproto_adapters._flows._container_calls import kill_request, remove_request
from attachproto_adapters._flows._flows import first_call
from attachproto_adapters._flows._steps import Call, Steps


def create_container(request: Request) -> Steps[str]:
    """Create a container, and return its ID.

    Args:
        request: from ``create_request``.

    Raises:
        ImageNotFound: the engine does not have the image.
        RequestRejected: the engine refused.
    """
    try:
        return created_id("container", (yield from first_call(request)))
    except RequestRejected as exc:
        # dockerd 20.10 to 28 and Podman 4.3 to 5.8 answer so. Other 404s name a container, a network or a platform.
        if exc.status_code == 404 and exc.message.lower().startswith("no such image"):
            image = str(json.loads(request.body)["Image"])
            raise ImageNotFound(exc.status_code, exc.message, "POST /containers/create", image) from None
        raise


def start_container(container: str, api_version: str | None) -> Steps[None]:
    """Start a container. If it runs already, engines answer 304, and nothing is left to do.

    Raises:
        RequestRejected: the engine refused: there is no such container, or its command cannot be executed.
    """
    Attach(container)  # checks the name
    request = start_request(container, api_version)
    try:
        done(request, (yield from first_call(request)), 204)
    except RequestRejected as exc:
        if exc.status_code != 304:
            raise


def kill_container(container: str, signal: str, api_version: str | None) -> Steps[None]:
    """Send a signal to the container's main process.

    Raises:
        RequestRejected: the engine refused: it does not run, or there is no such container or signal.
    """
    request = kill_request(container, signal, api_version)
    done(request, (yield from first_call(request)), 204)


def remove_container(
    container: str, *, force: bool, volumes: bool, api_version: str | None, missing_ok: bool = False
) -> Steps[None]:
    """Remove a container; with ``force`` kill it first. With ``missing_ok`` there need be none.

    Podman 5 would send SIGTERM and wait ten seconds, although ``force`` is set, before it kills. So it is killed by a
    call of its own. dockerd kills it at once.

    Raises:
        RequestRejected: the engine refused: it runs, or there is no such container.
    """
    check_flag("missing_ok", missing_ok)
    request = remove_request(container, force=force, volumes=volumes, api_version=api_version)
    if force:
        # Engines refuse it for a container that does not run. Whatever else is wrong, the removal is refused as well.
        _: Response = yield Call(kill_request(container, "KILL", api_version))
    try:
        done(request, (yield from first_call(request)), 204)
    except RequestRejected as exc:
        if not (missing_ok and exc.not_found):
            raise
