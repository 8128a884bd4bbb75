"""One engine's address: its TLS context, and the errors that name it."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from attachproto_adapters._errors import EngineUnreachable, unreachable
from attachproto_adapters._transport._idle import IdleSlot
from attachproto_adapters._transport._schemes import Host, SshHost, TcpHost, UnixHost

if TYPE_CHECKING:
    from attachproto_adapters._transport._tls import TlsClient, TlsLayer

# What a TLS server sends if it does not take a client's certificate (RFC 8446, 6.2).
_CLIENT_CERTIFICATE_ALERTS: Final = frozenset(
    {
        "ACCESS_DENIED",
        "BAD_CERTIFICATE",
        "CERTIFICATE_EXPIRED",
        "CERTIFICATE_REVOKED",
        "CERTIFICATE_UNKNOWN",
        "NO_CERTIFICATE",
        "UNKNOWN_CA",
        "UNSUPPORTED_CERTIFICATE",
    }
)


# getaddrinfo() raises UnicodeError for a name that cannot be encoded.
CONNECT_ERRORS: Final[tuple[type[Exception], ...]] = (OSError, UnicodeError)
"""The exceptions that mean that the engine cannot be reached."""


class Address:
    """One engine's address, and what every framework needs to connect to it.

    It may be shared by threads. Making it loads the files that TLS needs.

    Attributes:
        host: where the engine is.
        idle: the place of a connection that is kept between two plain calls.

    Raises:
        HostInvalid: a file that TLS needs cannot be read, or does not hold a certificate or key.
    """

    def __init__(self, host: Host) -> None:
        self.host = host
        self.idle = IdleSlot()
        self._tls_client: TlsClient | None = None
        if isinstance(host, TcpHost) and host.tls is not None:
            # Imported here, because it imports ssl: see is_tls_socket().
            from attachproto_adapters._transport._tls import TlsClient

            self._tls_client = TlsClient(host.tls, host.name)

    def tls(self) -> TlsLayer | None:
        """A TLS layer for a new connection; ``None`` without TLS."""
        return None if self._tls_client is None else self._tls_client.new_layer()

    @property
    def can_try_half_close(self) -> bool:
        """Whether ``TryHalfClose`` can tell anything: over plain TCP."""
        return isinstance(self.host, TcpHost) and self.host.tls is None

    @property
    def connects_slowly(self) -> bool:
        """Whether a new connection costs more than a call: over ssh it is a login, and with TLS a handshake."""
        return isinstance(self.host, SshHost) or self._tls_client is not None

    @contextlib.contextmanager
    def reached(self, failures: tuple[type[Exception], ...] = CONNECT_ERRORS) -> Iterator[None]:
        """Turn these errors of connecting into ``EngineUnreachable`` with this address."""
        try:
            yield
        except failures as exc:
            if isinstance(exc, EngineUnreachable):
                raise
            why, remedy = failure_reason(exc), ""
            if self._tls_client is not None:
                import ssl

                if isinstance(exc, ConnectionResetError | ssl.SSLEOFError):
                    why += "; the port may not speak TLS"
            if isinstance(self.host, UnixHost):
                if isinstance(exc, FileNotFoundError) and self.host.hint:
                    why += f"; {self.host.hint}"
                elif isinstance(exc, PermissionError):
                    remedy = (
                        "this user may not write to the socket: dockerd's is open to the members of its group, mostly "
                        "called docker"
                    )
            raise unreachable(self.host, why, remedy) from exc


def failure_reason(exc: Exception) -> str:
    """Why connecting or TLS has failed, in words."""
    if isinstance(exc.__cause__, ExceptionGroup):  # trio raises one error for each address of the name
        return failure_reason(exc.__cause__.exceptions[-1])
    import ssl

    if isinstance(exc, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {exc.verify_message}"
    if isinstance(exc, ssl.SSLError) and exc.reason:
        why = exc.reason.lower().replace("_", " ")
        if exc.reason == "WRONG_VERSION_NUMBER":
            return f"it does not speak TLS ({why})"
        # OpenSSL names an alert of the peer by the version that introduced it: SSLV3_ALERT_…, TLSV1_ALERT_… or
        # TLSV13_ALERT_….
        alert = exc.reason.rpartition("ALERT_")[2]
        if alert == "CERTIFICATE_REQUIRED":
            return (
                f"it requires a client certificate ({why}): set DOCKER_CERT_PATH to where cert.pem and key.pem are, or "
                "load them into your own SSLContext (load_cert_chain)"
            )
        if alert in _CLIENT_CERTIFICATE_ALERTS:
            return f"it refuses our client certificate, or requires one and got none ({why})"
        if alert == "HANDSHAKE_FAILURE":
            return f"TLS failed: {why}; the engine may require a client certificate, or share no cipher with us"
        return f"TLS failed: {why}"
    if isinstance(exc, OSError) and exc.errno and not isinstance(exc, ssl.SSLError | socket.gaierror):
        return os.strerror(exc.errno)  # asyncio words it differently
    return (exc.strerror if isinstance(exc, OSError) else None) or str(exc)
