"""``Request``: any HTTP request to an engine, from its parts to the target and back.

Strategy: ``Request`` knows HTTP and nothing of Docker. Segments and pairs are encoded one by one, so that no value can
reach into another one. A request that was received is kept unchanged, and not validated.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, Self
from urllib.parse import parse_qsl, quote, unquote

import attrs
from attrs.validators import optional

from attachproto._headers import Headers, lower_names
from attachproto._validators import VERSION, are_headers, are_segments, is_method, is_version, of_type

# The part of an absolute target before its path. Go's servers accept such a target, and so do we.
_AUTHORITY: Final = re.compile(r"\A[A-Za-z][A-Za-z0-9+.-]*://[^/?]*")


def as_segments(value: Iterable[str]) -> tuple[str, ...]:
    """The segments of a path as a tuple; ``TypeError`` for a text."""
    if isinstance(value, str):
        raise TypeError(f"a path is a tuple of segments, such as ('containers', 'web', 'json'), not {value!r}")
    return tuple(value)


def _pairs(value: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    pairs = tuple((name, text) for name, text in value)
    for pair in pairs:
        if not all(isinstance(part, str) for part in pair):
            raise TypeError(f"a query is pairs of str, not {pair!r}")
    return pairs


@attrs.frozen
class Request:
    """A plain request to the Engine API: inspect, wait, start, resize, ping, create and the like.

    Attributes:
        method: ``GET``, ``POST``, …
        path: the path as segments without the version, such as ``("containers", "web", "json")``.
        query: pairs of names and values, sent in this order.
        body: sent with a ``Content-Length``. Give its ``content-type`` among the headers.
        headers: more header fields. ``Connection`` writes those that decide what the connection is used for.
        api_version: such as ``"1.41"``. ``None`` leaves it out of the path, and the engine uses its own.
        target: the target in the request line.

    Raises:
        ValueError: a segment is empty, ``.`` or ``..``; the version is malformed; a header cannot be written.
    """

    method: str = attrs.field(validator=is_method)
    path: tuple[str, ...] = attrs.field(converter=as_segments, validator=are_segments)
    query: tuple[tuple[str, str], ...] = attrs.field(default=(), converter=_pairs)
    body: bytes = attrs.field(default=b"", validator=of_type(bytes))
    headers: Headers = attrs.field(default=(), converter=lower_names, validator=are_headers)
    api_version: str | None = attrs.field(default=None, validator=optional(is_version))
    target: str = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        version = () if self.api_version is None else (f"v{self.api_version}",)
        target = "/" + "/".join(quote(segment, safe="") for segment in version + self.path)
        if self.query:
            target += "?" + "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in self.query)
        object.__setattr__(self, "target", target)

    @classmethod
    def received(cls, method: str, target: str, headers: Headers, body: bytes) -> Self:
        """A request that was received. Any target is kept as it is."""
        path, _, query = _AUTHORITY.sub("", target).partition("?")
        # Go refuses a path without a slash before it. Here it is one segment, which is no endpoint's.
        segments = [unquote(segment) for segment in (path[1:].split("/") if path.startswith("/") else [path])]
        version = VERSION.fullmatch(segments[0].removeprefix("v")) if segments[0].startswith("v") else None
        pairs = tuple(parse_qsl(query, keep_blank_values=True))
        request = cls("GET", (), pairs, body, (), version[0] if version else None)
        # Without the validators: a server must be able to look at any request, and answer 404.
        object.__setattr__(request, "method", method)
        object.__setattr__(request, "path", tuple(segments[1:] if version else segments))
        object.__setattr__(request, "headers", headers)
        object.__setattr__(request, "target", target)
        return request
