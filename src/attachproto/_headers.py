"""Header fields: one form for all of the package, checks before writing, and lookup.

Strategy: header fields are a tuple of pairs of text, so that they can be compared, hashed and shared between threads.
Names are lower-cased once, when they are read or given.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

Headers = tuple[tuple[str, str], ...]
"""Header fields in order: latin-1 text, names in lower case."""

MULTIPLEXED_STREAM: Final = "application/vnd.docker.multiplexed-stream"
"""The media type of frames, from API 1.42 on."""

RAW_STREAM: Final = "application/vnd.docker.raw-stream"
"""The media type of a terminal's bytes, and of everything below API 1.42."""

CONNECTION_HEADERS: Final = ("host", "connection", "upgrade", "content-length", "transfer-encoding")
"""These decide what the connection is used for, so in a request only ``Connection`` writes them."""

# RFC 9110: a field name is a token. A value is visible latin-1 text, with blanks only inside.
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+")
_VALUE: Final = re.compile(r"([!-~\x80-\xff]([\t -~\x80-\xff]*[!-~\x80-\xff])?)?")


def as_pairs(headers: Iterable[tuple[str, str]]) -> Headers:
    """Header fields as a tuple of pairs, whatever they were given in.

    Raises:
        TypeError: an item is not a pair of str.
    """
    if isinstance(headers, str | bytes | Mapping) or not isinstance(headers, Iterable):
        raise TypeError(f"header fields are pairs such as [('x-name', 'value')], not a {type(headers).__name__}")
    pairs = tuple(headers)
    for pair in pairs:
        if not isinstance(pair, tuple | list) or len(pair) != 2 or not all(isinstance(part, str) for part in pair):
            raise TypeError(f"a header field is a pair of str, not {pair!r}")
    return tuple((name, value) for name, value in pairs)


def lower_names(headers: Iterable[tuple[str, str]]) -> Headers:
    """Header fields with their names in lower case. Raises as ``as_pairs`` does."""
    return tuple((name.lower(), value) for name, value in as_pairs(headers))


def check_headers(headers: Headers) -> None:
    """Raise ``ValueError`` for a header field that cannot be written unchanged."""
    for name, value in headers:
        if not _NAME.fullmatch(name):
            raise ValueError(f"header name {name!r} is not a token (RFC 9110)")
        if not _VALUE.fullmatch(value):
            raise ValueError(f"header {name}: the value {value!r} has characters that a header cannot have")


def field(headers: Headers, name: str) -> str | None:
    """The value of the first header field of this name."""
    return next((value for key, value in headers if key == name), None)


def media_type(content_type: str) -> str:
    """A ``Content-Type`` without its parameters, in lower case."""
    return content_type.partition(";")[0].strip().lower()
