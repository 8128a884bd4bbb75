"""Checks of every request before the call itself: its API version, its path, and whether a web page sent it."""

from __future__ import annotations

import posixpath
from urllib.parse import quote, urlsplit

from attachproto import Headers, Request
from attachproto._validators import version_numbers
from attachproto_engine._rules import MINIMUM
from attachproto_engine._server_connection import is_loopback


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


def padded(version: str | None) -> tuple[int, ...]:
    """A version as dockerd compares it: number by number, with 0 for what is missing."""
    parts = version_numbers(version or "0")
    return parts + (0,) * (4 - len(parts))


def web_page_problem(headers: Headers) -> str:
    """Why a request seems to come from a web page; empty if it does not.

    On loopback any page that a browser on this machine shows can send requests. A browser names the page in
    ``Origin``; and a page whose own name was made to resolve to loopback sends that name in ``Host``.
    """
    fields = dict(headers)
    if "origin" in fields:
        return "this engine does not answer web pages"
    name = urlsplit(f"//{fields.get('host', '')}").hostname or "localhost"
    return "" if is_loopback(name) else f"this engine is not {name!r}"


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
