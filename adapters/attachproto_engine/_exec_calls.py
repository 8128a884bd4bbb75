"""The plain calls about execs."""

from __future__ import annotations

from typing import Any, Final

from attachproto import Response
from attachproto._validators import version_numbers
from attachproto_engine import _json as documents
from attachproto_engine._call import Call
from attachproto_engine._errors import ApiError
from attachproto_engine._json_types import EXEC_START, check_types

# The first API version whose exec has a ConsoleSize.
_CONSOLE_SIZE: Final = (1, 42)


async def create(call: Call) -> Response:
    """``POST /containers/{name}/exec``."""
    container = call.containers.find(call.name)
    given = call.body()
    _leave_out_size(call, given)
    return call.answers.document({"Id": container.create_exec(given).id}, 201)


def _leave_out_size(call: Call, given: dict[str, Any]) -> None:
    """Leave out what earlier API versions do not know, whatever it is."""
    if version_numbers(call.request.api_version or call.answers.api_version) < _CONSOLE_SIZE:
        given.pop("ConsoleSize", None)


async def start(call: Call) -> Response:
    """``POST /exec/{id}/start`` detached; a start that attaches is a stream."""
    container, exec_ = call.containers.find_exec(call.name)
    given = call.body()
    _leave_out_size(call, given)
    check_types(given, EXEC_START)
    if not given.get("Detach"):
        raise ApiError(400, "invalid exec start")

    async def discard(stream: int, data: bytes) -> None:
        pass

    container.start_exec(exec_, discard, attached=False)
    return call.answers.nothing(200)


async def inspect(call: Call) -> Response:
    """``GET /exec/{id}/json``."""
    return call.answers.document(documents.exec_inspect(*call.containers.find_exec(call.name)))


async def resize(call: Call) -> Response:
    """``POST /exec/{id}/resize``."""
    _, exec_ = call.containers.find_exec(call.name)
    size = call.size()
    if exec_.process is None:
        raise ApiError(500, f"exec {exec_.id} is not running")
    exec_.process.resize(*size)
    return call.answers.nothing(200)
