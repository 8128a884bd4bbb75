"""TLS as a layer without I/O: bytes in, bytes out, one for all adapters.

Strategy: OpenSSL works on two memory buffers. What was received is decrypted at once, so that nothing but a piece of
a record is ever left inside; what is to be sent is taken out at once. Reading never has to send: what OpenSSL wants
to answer to what it read (a TLS 1.3 key update) leaves with the next thing that is sent, before it, which the RFC
allows (8446, 4.6.3). So one direction never waits for the other.

Half-close is ``close_notify``, and reading goes on. That is what Go's ``CloseWrite`` sends and understands;
``ssl.SSLSocket`` and asyncio's transports end both directions with it.
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

# The largest record that TLS knows.
_RECORD = 16 * 1024


def client_context(files: TlsFiles) -> ssl.SSLContext:
    """A context as the docker CLI makes one: TLS 1.2 or later, and the host's name checked if anything is.

    Raises:
        HostInvalid: a file cannot be read, or holds no such thing.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Go never asks for it, and it would have one direction wait for the other.
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
    # OpenSSL would ask the terminal, in the middle of somebody's program.
    raise ValueError("the key is encrypted, which engines' clients do not support")


class TlsLayer:
    """One TLS connection, as a client.

    One thread may encrypt while another decrypts: OpenSSL forbids two in one object, so each call on it takes a lock,
    and no I/O is done under it.

    Attributes:
        ended: the peer has ended its direction, with ``close_notify``.
        failure: why nothing can be read any more; what came before it has been given.
        alert: what to send where the handshake has failed.
    """

    def __init__(self, context: ssl.SSLContext, server_hostname: str) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_hostname)
        self._lock = threading.Lock()
        self.ended = False
        self.failure: ssl.SSLError | None = None
        self.alert = b""

    def handshake(self) -> Generator[bytes, bytes, bytes]:
        """Yields bytes to send, and is sent the bytes that came then; returns the last bytes to send.

        Raises:
            ssl.SSLError: the two do not come together; ``alert`` tells the other end why.
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
        """What to send for these bytes."""
        view = memoryview(data)
        with self._lock:
            while view:
                view = view[self._object.write(view) :]
            return self._outgoing.read()

    def end(self) -> bytes:
        """What to send to end our direction, and no more than that."""
        with self._lock:
            # It wants the peer's end too, which is still to come.
            with contextlib.suppress(ssl.SSLWantReadError):
                self._object.unwrap()
            return self._outgoing.read()

    def decrypt(self, data: bytes) -> bytes:
        """All plain bytes that can be had with these; ``b""`` is the end of the transport.

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
        return b"".join(pieces)

    def _feed(self, data: bytes) -> None:
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()
