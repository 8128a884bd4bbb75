"""The validators of what users build.

Strategy: a value is checked when it is given, and the error names the attribute, what it may be, and what it is. These
are not attrs' own validators, because the exceptions of those print as a tuple.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, TypeGuard

import attrs

from attachproto._detach_keys import parse_detach_keys
from attachproto._headers import Headers, check_headers

Validator = Callable[[Any, "attrs.Attribute[Any]", Any], None]

# What moby (daemon/names) and Podman allow; IDs are a subset. This is stricter than HTTP, because Go's own client turns
# a name such as "../x" into another endpoint.
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")

VERSION: Final = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})*")
"""What an API version looks like in a path; dockerd compares it number by number. int() refuses very long numbers."""


def version_numbers(api_version: str) -> tuple[int, ...]:
    """The parts of a version as numbers, because 1.9 is before 1.10."""
    return tuple(int(part) for part in api_version.split("."))


# An answer to CONNECT opens a tunnel, which is not an exchange.
_METHOD: Final = re.compile(r"(?!CONNECT$)[A-Z]+")


def of_type(kind: type) -> Validator:
    """The value is of this type."""

    def validate(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if not isinstance(value, kind) or (kind is int and not is_int(value)):
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
    """The header fields can be written unchanged."""
    check_headers(value)


def are_detach_keys(instance: object, attribute: attrs.Attribute[str], value: str) -> None:
    """The detach keys are ones that engines understand."""
    parse_detach_keys(value)


def are_segments(instance: object, attribute: attrs.Attribute[tuple[str, ...]], value: tuple[str, ...]) -> None:
    """No segment is one that engines remove from a path."""
    check_segments(value)


def check_segments(value: tuple[str, ...]) -> None:
    """Raise ``TypeError`` or ``ValueError`` for segments that would not stay what they are in a path."""
    for segment in value:
        if not isinstance(segment, str):
            raise TypeError(f"a segment of a path is of type str, not {segment!r}")
        # Encoding does not help: engines remove "%2E%2E" from a path as they remove "..".
        if segment in ("", ".", ".."):
            raise ValueError(f"{segment!r} cannot be a segment of a path: {value!r}")
        try:
            segment.encode()
        except UnicodeEncodeError:
            raise ValueError(f"a segment of a path has a lone surrogate in it: {segment!r}") from None


def at_least_zero(instance: object, attribute: attrs.Attribute[int], value: int) -> None:
    """The number is not negative."""
    if value < 0:
        raise ValueError(f"{attribute.name} is 0 or more, not {value}")


def is_int(value: object) -> TypeGuard[int]:
    """A bool is an int for Python, but not for an engine: JSON has words of its own for it."""
    return isinstance(value, int) and not isinstance(value, bool)


def check_flag(name: str, value: object) -> None:
    """Raise ``TypeError`` unless this is a ``bool``."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} is True or False, not {value!r}")


def check_limit(name: str, value: object) -> None:
    """Raise ``TypeError`` or ``ValueError`` unless this is a limit in bytes, of at least 1."""
    if not is_int(value):
        raise TypeError(f"{name} is an int, in bytes, not {value!r}; to allow any size, give sys.maxsize")
    if value < 1:
        raise ValueError(f"{name} is at least 1 byte, not {value}; to allow any size, give sys.maxsize")


def check_console_size(value: object) -> None:
    """Raise ``TypeError`` or ``ValueError`` unless this is a height and a width in characters, or ``None``."""
    if value is None:
        return
    # A list would make the frozen request unhashable.
    if not isinstance(value, tuple) or len(value) != 2 or not all(map(is_int, value)):
        raise TypeError(f"console_size is a tuple of height and width such as (24, 80), not {value!r}")
    if min(value) < 0:
        raise ValueError(f"console_size is a height and a width of 0 or more characters, not {value!r}")
