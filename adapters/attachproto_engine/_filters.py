"""The filters of a list of containers (``docker ps --filter``).

dockerd takes a name or an ID for a regular expression of Go, which takes linear time. Python's may take for ever, and
would stop the whole engine. So only texts, with ``^`` and ``$`` at their ends, are taken here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from attachproto_engine._config import number
from attachproto_engine._container import Container
from attachproto_engine._errors import ApiError

# A dot stands for any character. Without repetition a match takes no more steps than the name and the text are long.
_TEXT: Final = re.compile(r"\^?/?[A-Za-z0-9_.-]{0,500}\$?")

# A pattern takes about a millisecond to compile, and as long on a long name. So many full IDs fit.
_PATTERNS: Final = 200
_PATTERN_TEXT: Final = 16 * 1024

_STATUSES: Final = ("created", "restarting", "running", "removing", "paused", "exited", "dead")

Test = Callable[[Container], bool]


def container_filters(text: str | None) -> tuple[list[Test], bool]:
    """Read the filters of a query.

    Returns:
        Tests that a container must all pass, and whether containers that do not run are asked for.

    Raises:
        ApiError: they are no filters, or not ones of the embedded engine.
    """
    try:
        given = json.loads(text or "{}")
    except (ValueError, RecursionError):
        raise ApiError(400, "invalid filter") from None
    if not isinstance(given, dict):
        raise ApiError(400, "invalid filter")
    patterns = [value for kind in ("name", "id") for value in _values(kind, given.get(kind, []))]
    if len(patterns) > _PATTERNS or sum(map(len, patterns)) > _PATTERN_TEXT:
        raise ApiError(
            400,
            f"the embedded engine takes {_PATTERNS} names and IDs of {_PATTERN_TEXT} characters together in filters",
        )
    tests = [_any(_KINDS.get(kind) or _unknown(kind), _values(kind, values)) for kind, values in given.items()]
    return tests, bool({"status", "exited"} & given.keys())


def _values(kind: str, given: Any) -> list[str]:
    # Old clients send a list, newer ones an object whose values are true.
    values = [value for value, wanted in given.items() if wanted] if isinstance(given, dict) else given
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ApiError(400, f"invalid filter '{kind[:100]}'")
    return values


def _any(make: Callable[[str], Test], values: list[str]) -> Test:
    tests = [make(value) for value in values]
    return lambda container: not tests or any(test(container) for test in tests)


def _unknown(kind: str) -> Callable[[str], Test]:
    raise ApiError(400, f"invalid filter '{kind[:100]}'")


def _pattern(text: str) -> re.Pattern[str]:
    if not _TEXT.fullmatch(text):
        raise ApiError(400, "the embedded engine looks for plain text with ^ and $ at its ends, not for a pattern")
    return re.compile(text)


def _name(text: str) -> Test:
    # dockerd tries the name with its slash and without.
    found = _pattern(text)
    return lambda container: bool(found.search(container.name) or found.search(f"/{container.name}"))


def _id(text: str) -> Test:
    found = _pattern(text)
    return lambda container: bool(found.search(container.id))


def _status(text: str) -> Test:
    if text not in _STATUSES:
        raise ApiError(400, f"invalid filter 'status={text[:100]}'")
    return lambda container: container.status == text


def _exited(text: str) -> Test:
    code = number(text)
    return lambda container: container.status == "exited" and container.exit_code == code


def _label(text: str) -> Test:
    name, separator, value = text.partition("=")

    def test(container: Container) -> bool:
        found = container.config.labels.get(name)
        return found is not None and (not separator or found == value)

    return test


def _ancestor(text: str) -> Test:
    return lambda container: (
        container.config.image in (text, f"{text}:latest") or f"{container.config.image}:latest" == text
    )


_KINDS: Final[Mapping[str, Callable[[str], Test]]] = {
    "name": _name,
    "id": _id,
    "status": _status,
    "exited": _exited,
    "label": _label,
    "ancestor": _ancestor,
}
