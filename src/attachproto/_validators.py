"""What users build is checked when it is built, and what is wrong is said in one plain sentence.

attrs' own validators put the attribute and the value as further arguments into the exception, which then prints as a
tuple; hence these.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

import attrs

from attachproto._detach_keys import parse_detach_keys
from attachproto._headers import Headers, check_headers

Validator = Callable[[Any, "attrs.Attribute[Any]", Any], None]

# moby daemon/names and Podman agree on this, and IDs are a subset. Stricter than HTTP asks for, on purpose: Go's
# own client joins "../x" into another endpoint.
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")

VERSION: Final = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})*")
"""What an API version looks like in a path; dockerd compares it number by number. int() refuses very long numbers."""

# Whatever answers CONNECT is a tunnel and no answer.
_METHOD: Final = re.compile(r"(?!CONNECT$)[A-Z]+")


def of_type(kind: type) -> Validator:
    """The value is of this type."""

    def validate(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
        # bool is an int, and True is no number of lines.
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise TypeError(f"{attribute.name} is of type {kind.__name__}, not {value!r}")

    return validate


def _matching(pattern: re.Pattern[str], what: str) -> Validator:
    def validate(instance: object, attribute: attrs.Attribute[Any], value: str) -> None:
        if not isinstance(value, str):
            raise TypeError(f"{attribute.name} is of type str, not {value!r}")
        if not pattern.fullmatch(value):
            raise ValueError(f"{attribute.name} is {what}, not {value!r}")

    return validate


is_name: Final = _matching(_NAME, "a name or ID of a letter or digit, then letters, digits, '_', '.' and '-'")
is_version: Final = _matching(VERSION, "a version such as '1.41'")
is_method: Final = _matching(_METHOD, "an HTTP method in capitals, and not CONNECT")


def are_headers(instance: object, attribute: attrs.Attribute[Headers], value: Headers) -> None:
    """Header fields that can be written as they are."""
    check_headers(value)


def are_detach_keys(instance: object, attribute: attrs.Attribute[str], value: str) -> None:
    """Detach keys that engines understand."""
    parse_detach_keys(value)


def are_segments(instance: object, attribute: attrs.Attribute[tuple[str, ...]], value: tuple[str, ...]) -> None:
    """Segments that engines leave in their place."""
    for segment in value:
        if not isinstance(segment, str):
            raise TypeError(f"a segment of a path is of type str, not {segment!r}")
        # Encoding does not help here: engines clean "%2E%2E" out of a path as they do "..".
        if segment in ("", ".", ".."):
            raise ValueError(f"{segment!r} cannot be a segment of a path: {value!r}")


def at_least_zero(instance: object, attribute: attrs.Attribute[int], value: int) -> None:
    """A number that is not negative."""
    if value < 0:
        raise ValueError(f"{attribute.name} is 0 or more, not {value}")
