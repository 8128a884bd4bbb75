"""Checks of every request before the call itself: its API version, its path, and whether a web page sent it."""

from __future__ import annotations

import posixpath
import re
from typing import Final
from urllib.parse import quote, urlsplit

from attachproto import Headers, Request
from attachproto._validators import version_numbers
from attachproto_engine._errors import ApiError
from attachproto_engine._rules import MINIMUM
from attachproto_engine._server_connection import is_loopback

# As dockerd's router matches it (moby api/server/server.go).
_LONG_VERSION: Final = re.compile(r"v[0-9.]{8,}")


def version_problem(version: str | None, maximum: str) -> str:
    """Dockerd's error for an API version that it does not speak; empty if it does."""
    if version is None:
        return ""
    if padded(version) > padded(maximum):
        return f"client version {version} is too new. Maximum supported API version is {maximum}"
    if padded(version) < padded(MINIMUM):
        return (
            f"client version {version} is too old. Minimum supported API version is {MINIMUM}, "
            "please upgrade your client to a newer version"
        )
    return ""


def long_version_problem(path: tuple[str, ...], maximum: str) -> str:
    """The error for a version with more digits than the core reads, at the beginning of a path; else empty."""
    if not path or not _LONG_VERSION.fullmatch(path[0]):
        return ""
    return f"client version {path[0][1:30]}... is too new. Maximum supported API version is {maximum}"


def padded(version: str | None) -> tuple[int, ...]:
    """A version as dockerd compares it: number by number, with 0 for what is missing."""
    parts = version_numbers(version or "0")
    return parts + (0,) * (4 - len(parts))


def web_page_refusal(headers: Headers) -> ApiError | None:
    """The refusal of a request that seems to come from a web page; ``None`` for any other.

    On loopback any page that a browser on this machine shows can send requests. A browser names the page in
    ``Origin`` or says ``Sec-Fetch-Site``; and a page whose own name was made to resolve to loopback sends that name in
    ``Host``.
    """
    fields = dict(headers)
    # What a user types into a browser's address line comes with "none".
    if "origin" in fields or any(name == "sec-fetch-site" and value != "none" for name, value in headers):
        return ApiError(403, "this engine does not answer web pages")
    host = fields.get("host", "")
    try:
        name = urlsplit(f"//{host}").hostname or "localhost"
    except ValueError:  # a bracket without its other one
        return ApiError(400, "malformed Host header")
    if is_loopback(name) and not set(host) & set("@/?#"):
        return None
    return ApiError(403, f"this engine is not {host[:100]!r}")


def clean_location(request: Request) -> str:
    """Where Go's router redirects a path with empty or dot segments; empty for any other path."""
    path, mark, query = request.target.partition("?")
    if not path.startswith("/") or not request.path:
        return ""
    decoded = "/".join(("", *request.path))
    clean = posixpath.normpath(f"/{decoded.lstrip('/')}") + ("/" if decoded.endswith("/") and decoded != "/" else "")
    version = f"/v{request.api_version}" if request.api_version else ""
    if clean == decoded and "//" not in path:
        return ""
    return quote(version + clean) + mark + query
