"""The table of plain calls: from a method and a path to a handler."""

from __future__ import annotations

from typing import Final

import attrs

from attachproto import Response
from attachproto_engine import _container_calls as containers
from attachproto_engine import _exec_calls as execs
from attachproto_engine import _system_json as system
from attachproto_engine._call import Call, Handler

_NO_CACHE: Final = (
    ("builder-version", "2"),
    ("cache-control", "no-cache, no-store, must-revalidate"),
    ("pragma", "no-cache"),
    ("swarm", "inactive"),
)


async def _ping(call: Call) -> Response:
    return call.answers.text(b"" if call.request.method == "HEAD" else b"OK", _NO_CACHE)


async def _version(call: Call) -> Response:
    return call.answers.document(system.version(call.answers.api_version, *call.answers.component))


async def _info(call: Call) -> Response:
    return call.answers.document(system.info(call.containers))


_GAP: Final = "*"


@attrs.frozen
class Route:
    """One plain call.

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
    Route("GET", ("containers", "json"), containers.list_),
    Route("POST", ("containers", "create"), containers.create, "create"),
    Route("GET", ("containers", _GAP, "json"), containers.inspect, "inspect"),
    Route("GET", ("containers", _GAP, "logs"), containers.logs, "logs"),
    Route("POST", ("containers", _GAP, "start"), containers.start, "start"),
    Route("POST", ("containers", _GAP, "stop"), containers.stop, "stop"),
    Route("POST", ("containers", _GAP, "restart"), containers.restart, "restart"),
    Route("POST", ("containers", _GAP, "rename"), containers.rename, "rename"),
    Route("POST", ("containers", _GAP, "kill"), containers.kill, "kill"),
    Route("POST", ("containers", _GAP, "pause"), containers.pause, "pause"),
    Route("POST", ("containers", _GAP, "unpause"), containers.unpause, "unpause"),
    Route("POST", ("containers", _GAP, "wait"), containers.wait, "wait"),
    Route("POST", ("containers", _GAP, "resize"), containers.resize, "resize"),
    Route("GET", ("containers", _GAP, "top"), containers.top, "top"),
    Route("POST", ("containers", _GAP, "exec"), execs.create, "exec_create"),
    Route("DELETE", ("containers", _GAP), containers.remove, "remove"),
    Route("POST", ("exec", _GAP, "start"), execs.start),
    Route("GET", ("exec", _GAP, "json"), execs.inspect, "exec_inspect"),
    Route("POST", ("exec", _GAP, "resize"), execs.resize, "exec_resize"),
)


def find_route(method: str, path: tuple[str, ...]) -> tuple[Route, str] | None:
    """The route of a request, and the name that stands in its gap, which may hold slashes."""
    for route in ROUTES:
        if route.method == method and (name := name_in_gap(route.path, path)) is not None:
            return route, name
    return None


def name_in_gap(pattern: tuple[str, ...], path: tuple[str, ...]) -> str | None:
    """What stands in the gap of a pattern: ``""`` if it has no gap, ``None`` if the path does not match."""
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
