"""The plain calls of the Engine API: a table of routes, each to a small function that makes the answer."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import attrs

from attachproto import Headers, Request, Response
from attachproto_adapters._flows._api_calls import numbers
from attachproto_engine import _json as documents
from attachproto_engine._answers import Answers
from attachproto_engine._containers import ApiError, Config, Containers, Exec, signal_number
from attachproto_engine._rules import RULES

MINIMUM: Final = "1.41"
MAXIMUM: Final = RULES["dockerd"].maximum

# The first version that has a ConsoleSize in an exec, and tells frames from a terminal's bytes.
_CONSOLE_SIZE: Final = (1, 42)

_FALSE: Final = frozenset({"", "0", "no", "false", "none"})
_SIZE_MAX: Final = 2**32 - 1


@attrs.frozen
class DeferredResponse:
    """An answer whose head goes out at once, and its document when it is known."""

    document: Callable[[], Awaitable[Any]]


@attrs.frozen
class Call:
    """A plain call.

    Attributes:
        request: as it came.
        name: what stands in the route's gap: a container, an exec or an image.
        containers: what it is about.
        answers: makes the answers.
    """

    request: Request
    name: str
    containers: Containers
    answers: Answers

    def value(self, key: str) -> str | None:
        """A value of the query; of a repeated key the first."""
        return next((value for name, value in self.request.query if name == key), None)

    def flag(self, key: str) -> bool:
        """Read as dockerd reads."""
        return (self.value(key) or "").strip().lower() not in _FALSE

    def body(self) -> dict[str, Any]:
        """The body's JSON object.

        Raises:
            ApiError: it holds none.
        """
        if not self.request.body:
            raise ApiError(400, "invalid JSON: got EOF while reading request body")
        check_json(self.request.headers)
        try:
            value = json.loads(self.request.body)
        except (ValueError, RecursionError) as exc:
            raise ApiError(400, f"invalid JSON: {exc}") from None
        if not isinstance(value, dict):
            raise ApiError(400, "invalid JSON: an object is needed")
        return value


def check_json(headers: Headers) -> None:
    """Raise ``ApiError`` unless the body is said to be JSON, as dockerd does; a web page could send anything else."""
    kind = next((value for name, value in headers if name == "content-type"), "")
    if kind.partition(";")[0].strip().lower() != "application/json":
        raise ApiError(400, f"Content-Type specified ({kind}) must be 'application/json'")


Handler = Callable[[Call], Awaitable[Response | DeferredResponse]]

_NO_CACHE: Final = (
    ("builder-version", "2"),
    ("cache-control", "no-cache, no-store, must-revalidate"),
    ("pragma", "no-cache"),
    ("swarm", "inactive"),
)


async def _ping(call: Call) -> Response:
    return call.answers.text(b"" if call.request.method == "HEAD" else b"OK", _NO_CACHE)


async def _version(call: Call) -> Response:
    return call.answers.document(documents.version(call.answers.api_version, MINIMUM))


async def _info(call: Call) -> Response:
    return call.answers.document(documents.info(call.containers))


async def _list(call: Call) -> Response:
    filters = _filters(call.value("filters"))
    everything = call.flag("all") or "status" in filters or "exited" in filters
    found = [
        documents.summary(container)
        for container in reversed(list(call.containers))
        if (everything or container.running) and documents.listed(container, filters)
    ]
    limit = call.value("limit") or ""
    # A longer one is no limit, and more digits than Python reads.
    count = int(limit) if limit.isascii() and limit.isdigit() and len(limit) < 10 else 0
    return call.answers.document(found[:count] if count else found)


def _filters(value: str | None) -> dict[str, list[str]]:
    try:
        given = json.loads(value or "{}")
        # An old form has an object in place of each list.
        filters = {str(name): [str(item) for item in items] for name, items in given.items()}
        for pattern in filters.get("name", []):
            re.compile(pattern)
        return filters
    except (ValueError, AttributeError, TypeError, RecursionError, re.error):
        raise ApiError(400, "invalid filter") from None


async def _create(call: Call) -> Response:
    try:
        config = Config.from_json(call.body())
    except (TypeError, ValueError, AttributeError) as exc:
        raise ApiError(400, f"invalid JSON: {exc}") from None
    container = call.containers.create(call.value("name") or None, config)
    return call.answers.document({"Id": container.id, "Warnings": []}, 201)


async def _inspect(call: Call) -> Response:
    return call.answers.document(documents.inspect(call.containers.find(call.name)))


async def _start(call: Call) -> Response:
    started = call.containers.find(call.name).start()
    return call.answers.nothing(204 if started else 304)


async def _stop(call: Call) -> Response:
    container = call.containers.find(call.name)
    given = call.value("t")
    try:
        seconds = None if given is None else int(given)
    except ValueError:
        raise ApiError(400, f'strconv.Atoi: parsing "{given}": invalid syntax') from None
    return call.answers.nothing(204 if await container.stop(seconds) else 304)


async def _kill(call: Call) -> Response:
    signal = signal_number(call.value("signal") or "SIGKILL")
    try:
        call.containers.find(call.name).kill(signal)
    except ApiError as exc:
        raise ApiError(exc.status_code, f"cannot kill container: {call.name}: {exc.text}") from None
    return call.answers.nothing()


async def _pause(call: Call) -> Response:
    call.containers.find(call.name).pause()
    return call.answers.nothing()


async def _unpause(call: Call) -> Response:
    call.containers.find(call.name).unpause()
    return call.answers.nothing()


async def _remove(call: Call) -> Response:
    await call.containers.remove(call.name, force=call.flag("force"))
    return call.answers.nothing()


async def _wait(call: Call) -> DeferredResponse:
    condition = call.value("condition") or "not-running"
    container = call.containers.find(call.name)
    if condition not in ("not-running", "next-exit", "removed"):
        raise ApiError(400, f'invalid condition: "{condition}"')
    rules = container.rules
    forgets = rules.forgets_removed and container.config.auto_remove and condition != "next-exit"
    code: asyncio.Future[int]
    if condition == "removed":
        code = container.removal()
    elif condition == "next-exit" or container.running:
        code = container.next_exit()
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

    return DeferredResponse(document)


async def _resize(call: Call) -> Response:
    container = call.containers.find(call.name)
    size = _size(call)
    container.check_running().resize(*size)
    return call.answers.nothing(200)


def _size(call: Call) -> tuple[int, int]:
    return _dimension("height", call.value("h") or ""), _dimension("width", call.value("w") or "")


def _dimension(name: str, text: str) -> int:
    try:
        value = int(text) if text.removeprefix("-").isdigit() else None
    except ValueError:
        value = None
    if value is None:
        raise ApiError(400, f'invalid resize {name} "{text}": invalid syntax')
    if not 0 <= value <= _SIZE_MAX:
        raise ApiError(400, f'invalid resize {name} "{text}": value out of range')
    return value


async def _exec_create(call: Call) -> Response:
    container = call.containers.find(call.name)
    given = call.body()
    if numbers(call.request.api_version or call.answers.api_version) < _CONSOLE_SIZE:
        given.pop("ConsoleSize", None)
    return call.answers.document({"Id": call.containers.create_exec(container, given).id}, 201)


async def _exec_start(call: Call) -> Response:
    """What comes here was no valid start that attaches: the core would have recognised that one."""
    exec_ = call.containers.find_exec(call.name)
    if not call.body().get("Detach"):
        raise ApiError(400, "invalid exec start")

    async def nowhere(stream: int, data: bytes) -> None:
        pass

    exec_.start(nowhere, attached=False)
    return call.answers.nothing(200)


async def _exec_inspect(call: Call) -> Response:
    return call.answers.document(documents.exec_inspect(call.containers.find_exec(call.name)))


async def _exec_resize(call: Call) -> Response:
    exec_ = call.containers.find_exec(call.name)
    size = _size(call)
    _running(exec_).resize(*size)
    return call.answers.nothing(200)


def _running(exec_: Exec) -> Any:
    if exec_.process is None:
        raise ApiError(500, f"exec {exec_.id} is not running")
    return exec_.process


async def _logs(call: Call) -> Response:
    """What comes here has a name, a tail or a time that is none."""
    if not (call.flag("stdout") or call.flag("stderr")):
        raise ApiError(400, "Bad parameters: you must choose at least one stream")
    call.containers.find(call.name)
    for key in ("since", "until"):
        value = call.value(key)
        if value and not value.replace(".", "", 1).isdigit():
            raise ApiError(500, f'strconv.ParseInt: parsing "{value}": invalid syntax')
    raise ApiError(400, "invalid logs request")


async def _image(call: Call) -> Response:
    """An image is there from when it was pulled, or a container was made of it."""
    used = {str(container.config.given.get("Image")) for container in call.containers}
    if _tagged(call.name) not in {_tagged(name) for name in used | call.containers.pulled}:
        raise ApiError(404, f"No such image: {_tagged(call.name)}")
    return call.answers.document(documents.image(call.name))


def _tagged(name: str) -> str:
    return name if ":" in name.rpartition("/")[2] or "@" in name else f"{name}:latest"


async def _pull(call: Call) -> Response:
    name = call.value("fromImage") or "image"
    tag = call.value("tag") or "latest"
    call.containers.pulled.add(f"{name}:{tag}")
    # The time, so that a progress display has something to show.
    progress = {"status": f"{name}:{tag}: images have nothing in them here", "id": tag, "time": int(time.time())}
    return call.answers.document(progress)


_GAP: Final = "*"


@attrs.frozen
class Route:
    """One call of the Engine API.

    Attributes:
        method: of HTTP.
        path: its segments; the gap stands for a name.
        handler: makes the answer.
        call: its name for faults, if it is about a container.
    """

    method: str
    path: tuple[str, ...]
    handler: Handler
    call: str = ""


ROUTES: Final = (
    Route("GET", ("_ping",), _ping),
    Route("HEAD", ("_ping",), _ping),
    Route("GET", ("version",), _version),
    Route("GET", ("info",), _info),
    Route("GET", ("containers", "json"), _list),
    Route("POST", ("containers", "create"), _create, "create"),
    Route("GET", ("containers", _GAP, "json"), _inspect, "inspect"),
    Route("GET", ("containers", _GAP, "logs"), _logs, "logs"),
    Route("POST", ("containers", _GAP, "start"), _start, "start"),
    Route("POST", ("containers", _GAP, "stop"), _stop, "stop"),
    Route("POST", ("containers", _GAP, "kill"), _kill, "kill"),
    Route("POST", ("containers", _GAP, "pause"), _pause, "pause"),
    Route("POST", ("containers", _GAP, "unpause"), _unpause, "unpause"),
    Route("POST", ("containers", _GAP, "wait"), _wait, "wait"),
    Route("POST", ("containers", _GAP, "resize"), _resize, "resize"),
    Route("POST", ("containers", _GAP, "exec"), _exec_create, "exec_create"),
    Route("DELETE", ("containers", _GAP), _remove, "remove"),
    Route("POST", ("exec", _GAP, "start"), _exec_start),
    Route("GET", ("exec", _GAP, "json"), _exec_inspect, "exec_inspect"),
    Route("POST", ("exec", _GAP, "resize"), _exec_resize, "exec_resize"),
    Route("GET", ("images", _GAP, "json"), _image),
    Route("POST", ("images", "create"), _pull),
)


def find_route(method: str, path: tuple[str, ...]) -> tuple[Route, str] | None:
    """The route of a request, and the name that stands in its gap, which may hold slashes."""
    for route in ROUTES:
        if route.method == method and (name := match(route.path, path)) is not None:
            return route, name
    return None


def match(pattern: tuple[str, ...], path: tuple[str, ...]) -> str | None:
    """What fills the gap of a pattern; empty if it has none, ``None`` if it is for another path."""
    if _GAP not in pattern:
        return "" if pattern == path else None
    before = pattern.index(_GAP)
    after = len(pattern) - before - 1
    if (
        len(path) < len(pattern)
        or path[:before] != pattern[:before]
        or path[len(path) - after :] != pattern[before + 1 :]
    ):
        return None
    return "/".join(path[before : len(path) - after])
