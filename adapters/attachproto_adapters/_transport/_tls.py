"""TLS without I/O, for all adapters: bytes in, bytes out.

Strategy: OpenSSL works on two memory buffers. Received bytes are decrypted at once, so only a part of a record stays
in the first buffer. Bytes to send are taken out of the second at once. Reading never has to send: OpenSSL's answer to a
TLS 1.3 key update goes out before the next data that is sent, which RFC 8446, 4.6.3, allows. So neither direction waits
for the other. A client that only reads keeps these answers, 27 bytes each, up to a limit.

A half-close is ``close_notify``, and reading goes on. Go's ``CloseWrite`` does the same, so dockerd understands it.
``ssl.SSLSocket`` and asyncio's transports cannot: with ``close_notify`` they end both directions.
"""

from __future__ import annotations

import contextlib
import ssl
import threading
from collections.abc import Generator
from typing import TYPE_CHECKING, NoReturn

from attachproto_adapters._errors import HostInvalid

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from attachproto_adapters._transport._schemes import TlsFiles

# The largest record of TLS (RFC 8446, 5.1).
_RECORD = 16 * 1024

# How many bytes of answers to key updates are kept while nothing is sent: some 2,400. A peer that follows the advice of
# RFC 8446, 5.5, asks for one after 24 million records at the earliest.
_ANSWERS_MAX = 64 * 1024

# In how many connections in a row a session is taken out, if none is resumed. It copies the certificates. CPython 3.11,
# and 3.12 and 3.13 in their first releases, never free the copy (gh-116810): some 7 KiB.
_SESSION_TRIES = 3


def client_context(files: TlsFiles) -> ssl.SSLContext:
    """Make a context as the docker CLI does: TLS 1.2 or later; the host name is checked if the certificate is.

    Raises:
        HostInvalid: a file cannot be read, or does not hold a certificate or key.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # With renegotiation, one direction would have to wait for the other. Go's TLS never asks for it.
    context.options |= ssl.OP_NO_RENEGOTIATION
    what = "the CA's certificates"
    try:
        if not files.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        elif files.ca is not None:
            context.load_verify_locations(files.ca)
        else:
            context.load_default_certs()
        what = "our certificate and its key"
        if files.cert is not None:
            context.load_cert_chain(files.cert, files.key, password=_no_password)
    except (OSError, ValueError) as exc:
        raise HostInvalid(f"{what} for TLS cannot be loaded: {exc} ({files.ca}, {files.cert}, {files.key})") from exc
    return context


def _no_password() -> NoReturn:
    # Without a callback OpenSSL would ask for the password on the terminal.
    raise ValueError("the key is encrypted, which is not supported: decrypt it with `openssl pkey`")


class TlsClient:
    """Makes the layers of all connections to one engine.

    Each connection resumes the session of one before it, if the engine allows that (RFC 8446, 2.2; RFC 5077). Then the
    handshake has no certificates and no signatures. It was measured to take a third of the processor time.

    Attributes:
        session: what the next connection resumes.
        tries: how many connections may still look for a session, until one has resumed it.
    """

    def __init__(self, tls: TlsFiles | ssl.SSLContext, server_hostname: str) -> None:
        self.session: ssl.SSLSession | None = None
        self.tries = _SESSION_TRIES
        self._context = tls if isinstance(tls, ssl.SSLContext) else client_context(tls)
        self._server_hostname = server_hostname

    def new_layer(self) -> TlsLayer:
        """The layer of a new connection."""
        return TlsLayer(self._context, self._server_hostname, self)


class TlsLayer:
    """One TLS connection, as a client.

    One thread may encrypt while another decrypts. OpenSSL forbids two threads in one object, so each call takes a lock.
    No I/O is done under the lock.

    Attributes:
        ended: the peer has ended its direction by ``close_notify``.
        failure: why nothing more can be read. The bytes before it were returned.
        alert: the bytes to send after a failed handshake; they tell the peer why.
    """

    def __init__(self, context: ssl.SSLContext, server_hostname: str, client: TlsClient | None = None) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._client = client
        self._object = context.wrap_bio(
            self._incoming,
            self._outgoing,
            server_hostname=server_hostname,
            session=None if client is None else client.session,
        )
        self._lock = threading.RLock()  # a signal's handler may send while its thread reads
        self.ended = False
        self.failure: ssl.SSLError | None = None
        self.alert = b""

    @property
    def idle(self) -> bool:
        """Whether both directions are open, and everything that came was decrypted."""
        return not self.ended and self.failure is None and not self._incoming.pending

    def handshake(self) -> Generator[bytes, bytes, bytes]:
        """Do the handshake: yields bytes to send, expects the bytes that were received, returns the last bytes to send.

        Raises:
            ssl.SSLError: the handshake failed; send ``alert``.
        """
        while True:
            try:
                self._object.do_handshake()
            except ssl.SSLWantReadError:
                self._feed((yield self._outgoing.read()))
            except ssl.SSLError:
                self.alert = self._outgoing.read()
                raise
            else:
                return self._outgoing.read()

    def encrypt(self, data: Buffer) -> bytes:
        """Encrypt bytes; returns the bytes to send."""
        view = memoryview(data)
        with self._lock:
            while view:
                view = view[self._object.write(view) :]
            return self._outgoing.read()

    def end(self) -> bytes:
        """End our direction only; returns the bytes to send (``close_notify``)."""
        with self._lock:
            # unwrap() also waits for the peer's close_notify, which comes later.
            with contextlib.suppress(ssl.SSLWantReadError):
                self._object.unwrap()
            return self._outgoing.read()

    def decrypt(self, data: bytes) -> bytes:
        """Decrypt received bytes; ``b""`` is the end of the transport. Returns all plain bytes that are complete.

        It may set ``ended`` or ``failure``.
        """
        pieces: list[bytes] = []
        with self._lock:
            self._feed(data)
            try:
                while piece := self._object.read(_RECORD):
                    pieces.append(piece)
                self.ended = True
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLZeroReturnError:
                self.ended = True
            except ssl.SSLError as exc:
                self.failure = exc
            if self._outgoing.pending > _ANSWERS_MAX:
                self.failure = ssl.SSLError("the peer asks for new keys again and again, and nothing is sent to it")
            if pieces and self._client is not None:
                self._keep_session(self._client)
                self._client = None
        return b"".join(pieces)

    def _keep_session(self, client: TlsClient) -> None:
        """Take out the session at the first data. With TLS 1.3 the engine sends its tickets before that."""
        if self._object.session_reused:  # it can be resumed again
            client.tries = _SESSION_TRIES
        elif client.tries:
            client.tries -= 1
            session = self._object.session
            if session is not None and session.has_ticket:
                client.session = session

    def _feed(self, data: bytes) -> None:
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()
