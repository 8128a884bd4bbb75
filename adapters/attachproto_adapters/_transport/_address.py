"""One engine's address: its TLS context, and errors that name it."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
from collections.abc import Iterator
from typing import ClassVar

from attachproto_adapters._errors import EngineUnreachable, unreachable
from attachproto_adapters._transport._schemes import Host, TcpHost, UnixHost
from attachproto_adapters._transport._tls import TlsLayer, client_context


class Address:
    """One engine's address, and what every framework needs to connect to it.

    Attributes:
        failures: what is raised where the engine cannot be reached.
    """

    # A name that no resolver takes is a UnicodeError.
    failures: ClassVar[tuple[type[Exception], ...]] = (OSError, UnicodeError)

    def __init__(self, host: Host) -> None:
        self.host = host
        self._context: ssl.SSLContext | None = None
        if isinstance(host, TcpHost) and host.tls is not None:
            self._context = client_context(host.tls)

    def tls(self) -> TlsLayer | None:
        """A layer for a new connection, if there is to be one."""
        if self._context is None:
            return None
        assert isinstance(self.host, TcpHost)
        return TlsLayer(self._context, self.host.name)

    @contextlib.contextmanager
    def reached(self) -> Iterator[None]:
        """Tell of what fails inside by this address."""
        try:
            yield
        except self.failures as exc:
            if isinstance(exc, EngineUnreachable):
                raise
            why = failure_reason(exc)
            if isinstance(exc, FileNotFoundError) and isinstance(self.host, UnixHost) and self.host.hint:
                why += f"; {self.host.hint}"
            raise unreachable(self.host, why) from exc


def failure_reason(exc: Exception) -> str:
    if isinstance(exc.__cause__, ExceptionGroup):  # trio's: what each address of the name said
        return failure_reason(exc.__cause__.exceptions[-1])
    if isinstance(exc, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {exc.verify_message}"
    if isinstance(exc, ssl.SSLError) and exc.reason:
        why = exc.reason.lower().replace("_", " ")
        if exc.reason == "WRONG_VERSION_NUMBER":
            return f"it does not speak TLS ({why})"
        return f"TLS failed: {why}"
    if isinstance(exc, OSError) and exc.errno and not isinstance(exc, ssl.SSLError | socket.gaierror):
        return os.strerror(exc.errno)  # asyncio has other words for it
    return (exc.strerror if isinstance(exc, OSError) else None) or str(exc)
