"""Recognises intermediaries (proxies) that close a stream at a half-close, by the header fields of an answer."""

from __future__ import annotations

import re
from typing import Final

from attachproto import Headers

# These close an upgraded connection in both directions when the client ends its own. nginx (as an http proxy) and Caddy
# name themselves in Server, newer Caddys and Squid in Via. No engine does. Squid leaves Via out of a 101.
_CLOSES_AT_HALF_CLOSE: Final = {
    "server": r"(nginx|caddy)\b",
    "via": r"[0-9.]+ (caddy)$|.*\((squid)/",
}


# Stands for an intermediary that TryHalfClose has found, and that no header names.
UNNAMED: Final = "something that does not name itself"


def closing_intermediary(headers: Headers) -> str | None:
    """The intermediary that has sent these headers, if it is known to close the stream at a half-close."""
    for name, value in headers:
        pattern = _CLOSES_AT_HALF_CLOSE.get(name)
        if pattern is not None and (found := re.match(pattern, value, re.IGNORECASE)):
            return found[found.lastindex or 0]
    return None


def half_close_ends_at(intermediary: str) -> str:
    """Why a half-close through this intermediary would lose output, and what to do."""
    return (
        f"{intermediary} is between here and the engine, and closes the whole connection when only stdin ends, so that "
        "output would be lost: connect to the engine itself (its socket, TLS, ssh://), or through an intermediary that "
        "passes a half-close on (haproxy with mode tcp, nginx stream with proxy_half_close on, Apache with upgrade=ANY)"
    )
