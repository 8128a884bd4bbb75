"""What a client of one engine knows in every framework: its address, its API version, and whether it was closed."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

import attrs

from attachproto_adapters._errors import ClientClosed
from attachproto_adapters._flows._api_calls import PING
from attachproto_adapters._transport._address import Address
from attachproto_adapters._transport._hosts import resolve_api_version, resolve_host

if TYPE_CHECKING:
    import ssl


class ClientBase:
    """The part of a client that is the same in every framework. It finds the engine, and loads the files for TLS."""

    def __init__(
        self,
        host: str | None,
        tls: ssl.SSLContext | None,
        headers: Iterable[tuple[str, str]],
        api_version: str | None,
    ) -> None:
        self._api_version = resolve_api_version(api_version, os.environ)
        attrs.evolve(PING, api_version=self._api_version)  # it raises for a version that is not valid
        self._address = Address(resolve_host(host, os.environ, tls, headers))
        self._closed = False
        self._hold = self._address.idle.hold()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._address.host}{', closed' if self._closed else ''}>"

    def _check_open(self) -> None:
        if self._closed:
            raise ClientClosed(f"the client of {self._address.host} is closed")
