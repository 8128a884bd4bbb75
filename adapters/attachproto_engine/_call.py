"""A plain call of the Engine API, as its handler sees it."""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import attrs

from attachproto import Headers, Request, Response
from attachproto._attach_options import first_values, flag
from attachproto._headers import field, media_type
from attachproto_engine._answers import Answers
from attachproto_engine._containers import Containers
from attachproto_engine._errors import ApiError

_SIZE_MAX: Final = 2**32 - 1


@attrs.frozen
class DeferredResponse:
    """An answer whose head goes out at once, and its document when it is known.

    Attributes:
        document: waits for it.
        discard: lets go of what it would wait for. Called in any case, also when ``document`` was not.
    """

    document: Callable[[], Awaitable[Any]]
    discard: Callable[[], object]


@attrs.frozen
class Call:
    """A plain call.

    Attributes:
        request: the request.
        name: what stands in the gap of the route: a container or an exec.
        containers: all of the engine's.
        answers: makes the answers.
        query: the values of the query; of a repeated key the first.
    """

    request: Request
    name: str
    containers: Containers
    answers: Answers
    # Made once: it takes time in proportion to a query that may have a megabyte.
    query: Mapping[str, str] = attrs.field(
        init=False, default=attrs.Factory(lambda self: first_values(self.request), takes_self=True)
    )

    def value(self, key: str) -> str | None:
        """A value of the query."""
        return self.query.get(key)

    def flag(self, key: str) -> bool:
        """A boolean of the query, read as dockerd reads it."""
        return flag(self.query, key)

    def size(self) -> tuple[int, int]:
        """Height and width of a terminal.

        Raises:
            ApiError: one of them is missing or no number.
        """
        return _dimension("height", self.value("h") or ""), _dimension("width", self.value("w") or "")

    def body(self) -> dict[str, Any]:
        """The JSON object in the body.

        Raises:
            ApiError: there is none.
        """
        if not self.request.body:
            raise ApiError(400, "invalid JSON: got EOF while reading request body")
        check_json(self.request.headers)
        try:
            value = json.loads(self.request.body, parse_float=_finite, parse_constant=_finite)
        except (ValueError, RecursionError) as exc:
            raise ApiError(400, f"invalid JSON: {exc}") from None
        if not isinstance(value, dict):
            raise ApiError(400, "invalid JSON: an object is needed")
        return value


Handler = Callable[[Call], Awaitable[Response | DeferredResponse]]


def check_json(headers: Headers) -> None:
    """Raise ``ApiError`` unless ``Content-Type`` says JSON: a web page may send other types without being asked."""
    kind = field(headers, "content-type") or ""
    if media_type(kind) != "application/json":
        raise ApiError(400, f"Content-Type specified ({kind}) must be 'application/json'")


def _finite(text: str) -> float:
    """A number with a fraction or an exponent. ``NaN`` and ``Infinity`` are no JSON, though Python writes them."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"cannot unmarshal number {text[:40]}")
    return value


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
