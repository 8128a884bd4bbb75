"""The plain calls about containers, each a small function that makes the answer."""

from __future__ import annotations

import asyncio
import re
from typing import Any, Final

from attachproto import Response
from attachproto_engine import _json as documents
from attachproto_engine import _top as processes
from attachproto_engine._call import Call, DeferredResponse
from attachproto_engine._config import Config, number, signal_number
from attachproto_engine._errors import ApiError
from attachproto_engine._filters import container_filters

_INTEGER: Final = re.compile(r"[+-]?[0-9]+")


async def list_(call: Call) -> Response:
    """``GET /containers/json``. A filter that is not known is refused: to ignore it would be a wrong answer."""
    tests, stopped = container_filters(call.value("filters"))
    found = []
    for container in reversed(list(call.containers)):
        if (call.flag("all") or stopped or container.running) and all(test(container) for test in tests):
            found.append(documents.summary(container))
        # Many filters and many containers take a while, in which other clients are served.
        await asyncio.sleep(0)
    # The docker CLI sends -1 for no limit.
    count = number(call.value("limit") or "0")
    return call.answers.document(found[:count] if count > 0 else found)


async def create(call: Call) -> Response:
    """``POST /containers/create``."""
    try:
        config = Config.from_json(call.body())
    except (TypeError, ValueError, AttributeError) as exc:
        raise ApiError(400, f"invalid JSON: {exc}") from None
    container = call.containers.create(call.value("name") or None, config)
    return call.answers.document({"Id": container.id, "Warnings": []}, 201)


async def inspect(call: Call) -> Response:
    """``GET /containers/{name}/json``."""
    return call.answers.document(documents.inspect(call.containers.find(call.name)))


async def start(call: Call) -> Response:
    """``POST /containers/{name}/start``."""
    started = call.containers.find(call.name).start()
    return call.answers.nothing(204 if started else 304)


async def stop(call: Call) -> Response:
    """``POST /containers/{name}/stop``."""
    container = call.containers.find(call.name)
    return call.answers.nothing(204 if await container.stop(*_end(call)) else 304)


async def restart(call: Call) -> Response:
    """``POST /containers/{name}/restart``. As on dockerd, ``AutoRemove`` does not remove it in between."""
    container = call.containers.find(call.name)
    if container.status == "paused" and container.rules.podman:
        raise ApiError(500, "unable to restart a container in a paused or unknown state: container state improper")
    container.restarts += 1
    try:
        await container.stop(*_end(call))
    finally:
        container.restarts -= 1
    if container.removing:
        raise container.rules.restart_refusal(call.name)
    call.containers.find(container.id).start()  # unless it was removed meanwhile
    return call.answers.nothing()


def _end(call: Call) -> tuple[int | None, int | None]:
    """After how many seconds a stop kills, and the signal that it sends first; ``None`` for the container's own."""
    given, signal = call.value("t"), call.value("signal")
    return None if given is None else number(given), signal_number(signal) if signal else None


async def rename(call: Call) -> Response:
    """``POST /containers/{name}/rename``."""
    call.containers.rename(call.containers.find(call.name), call.value("name") or "")
    return call.answers.nothing()


async def kill(call: Call) -> Response:
    """``POST /containers/{name}/kill``."""
    container = call.containers.find(call.name)
    try:
        signal = signal_number(call.value("signal") or "SIGKILL")
    except ApiError as exc:
        raise container.rules.signal_refusal(call.name, exc) from None
    try:
        container.kill(signal)
    except ApiError:
        raise container.rules.kill_refusal(call.name, container.id, container.status) from None
    return call.answers.nothing()


async def pause(call: Call) -> Response:
    """``POST /containers/{name}/pause``."""
    call.containers.find(call.name).pause()
    return call.answers.nothing()


async def unpause(call: Call) -> Response:
    """``POST /containers/{name}/unpause``."""
    call.containers.find(call.name).unpause()
    return call.answers.nothing()


async def remove(call: Call) -> Response:
    """``DELETE /containers/{name}``."""
    await call.containers.remove(call.name, force=call.flag("force"))
    return call.answers.nothing()


async def wait(call: Call) -> DeferredResponse:
    """``POST /containers/{name}/wait``. The future is there before the head goes out, so no exit can be missed."""
    condition = call.value("condition") or "not-running"
    container = call.containers.find(call.name)
    if condition not in ("not-running", "next-exit", "removed"):
        raise ApiError(400, f'invalid condition: "{condition}"')
    rules = container.rules
    forgets = rules.forgets_removed and container.config.auto_remove and condition != "next-exit"
    code: asyncio.Future[int]
    if condition == "removed":
        code = container.removals.add()
    elif condition == "next-exit" or container.running:
        code = container.exits.add()
    else:
        code = asyncio.get_running_loop().create_future()
        code.set_result(container.exit_code if container.exit_code_known else rules.unknown_exit_code)

    async def document() -> dict[str, Any]:
        answer: dict[str, Any] = {"StatusCode": await code}
        if rules.podman:
            answer["Error"] = None
        if forgets:
            answer["StatusCode"] = 0
            if condition == "not-running":
                text = f"container {container.id} does not exist in database: no such container"
                answer["Error"] = {"Message": text}
        return answer

    return DeferredResponse(document, code.cancel)


async def resize(call: Call) -> Response:
    """``POST /containers/{name}/resize``."""
    container = call.containers.find(call.name)
    size = call.size()
    container.check_running().resize(*size)
    return call.answers.nothing(200)


async def top(call: Call) -> Response:
    """``GET /containers/{name}/top``: the processes of the container's session and of those of its execs."""
    container = call.containers.find(call.name)
    podman = container.rules.podman
    if not container.running or (podman and container.status == "paused"):
        raise container.rules.top_refusal(container.id)
    return call.answers.document(processes.top(container.sessions(), call.value("ps_args") or "-ef", podman=podman))


async def logs(call: Call) -> Response:
    """``GET /containers/{name}/logs`` whose query the core has refused: the error that dockerd gives."""
    if not (call.flag("stdout") or call.flag("stderr")):
        raise ApiError(400, "Bad parameters: you must choose at least one stream")
    call.containers.find(call.name)
    for key in ("since", "until"):
        # Seconds, and after a point nanoseconds. dockerd answers 500 to what Go cannot read (20.10, 26.1 and 28.5).
        for part in (call.value(key) or "0").split(".", 1):
            if not _INTEGER.fullmatch(part):
                raise ApiError(500, f'strconv.ParseInt: parsing "{part}": invalid syntax')
    raise ApiError(400, "invalid logs request")
