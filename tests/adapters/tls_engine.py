"""The scripted engine behind TLS: Python's own ssl module as the server, between the network and the engine's acts.

Strategy: an act has one end of a socket pair, and two threads move bytes between the other end and TLS. So half-close,
end and output are for the act what they are without TLS. What only TLS has is noted.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path

import attrs
import trustme

from tests.adapters.scripted import BOUND, READ_SIZE, Engine, Task

VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


class Certificates:
    """Directories as ``DOCKER_CERT_PATH`` names them.

    Attributes:
        client: of a client that the engine takes.
        stranger: of a client that trusts the engine, and whose certificate is of a CA that the engine does not know.
        nameless: of a client that trusts the engine, and has no certificate.
        distrustful: of a client that the engine takes, and that trusts another CA only.
    """

    def __init__(self, directory: Path) -> None:
        ours, other = trustme.CA(), trustme.CA()
        self._ca = ours
        self._certificate = ours.issue_cert("127.0.0.1")
        known, unknown = (ca.issue_cert("somebody@example.org") for ca in (ours, other))
        self.client = _written(directory / "client", ours, known)
        self.stranger = _written(directory / "stranger", ours, unknown)
        self.nameless = _written(directory / "nameless", ours, None)
        self.distrustful = _written(directory / "distrustful", other, known)

    def server_context(self, version: ssl.TLSVersion) -> ssl.SSLContext:
        """The engine's side: a certificate for this machine, and clients need one of the same CA."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = context.maximum_version = version
        context.verify_mode = ssl.CERT_REQUIRED
        self._ca.configure_trust(context)
        self._certificate.configure_cert(context)
        return context


def _written(directory: Path, ca: trustme.CA, certificate: trustme.LeafCert | None) -> Path:
    directory.mkdir(parents=True)
    ca.cert_pem.write_to_path(directory / "ca.pem")
    if certificate is not None:
        certificate.private_key_pem.write_to_path(directory / "key.pem")
        for blob in certificate.cert_chain_pems:
            blob.write_to_path(directory / "cert.pem", append=True)
    return directory


@attrs.define
class Seen:
    """What the server has seen of one connection.

    Attributes:
        version: ``TLSv1.2`` or ``TLSv1.3``; ``None`` if there was no handshake.
        resumed: the handshake has resumed the session of another connection.
        close_notify: the client has said that its direction ends.
        open_then: the TCP connection was open in both directions when it said so.
    """

    version: str | None = None
    resumed: bool = False
    close_notify: bool = False
    open_then: bool = False


class ServerTls:
    """The server's end of one TLS connection on a socket. One thread may read while another writes."""

    def __init__(self, context: ssl.SSLContext, sock: socket.socket) -> None:
        sock.settimeout(BOUND)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = sock
        self.seen = Seen()
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._lock = threading.Lock()

    def handshake(self) -> None:
        """Raises ``ssl.SSLError`` if there is none; the client has been told then."""
        try:
            while True:
                try:
                    self._object.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    self._flush()
                    self._take(self.sock.recv(READ_SIZE))
        finally:
            self._flush()
        self.seen.version = self._object.version()
        self.seen.resumed = self._object.session_reused or False

    def read(self) -> bytes:
        """What came; ``b""`` at the end of the client's direction, or of the connection."""
        while not self.seen.close_notify:
            with self._lock:
                try:
                    if data := self._object.read(READ_SIZE):
                        return data
                    self._close_notify()
                except ssl.SSLWantReadError:
                    pass
                except ssl.SSLZeroReturnError:
                    self._close_notify()
            if not self.seen.close_notify:
                data = self.sock.recv(READ_SIZE)
                if not data:
                    break
                self._take(data)
        return b""

    def write(self, data: bytes) -> None:
        with self._lock:
            view = memoryview(data)
            while view:
                view = view[self._object.write(view) :]
        self._flush()

    def end(self) -> None:
        """Say that our direction ends; TCP stays as it is."""
        with self._lock, contextlib.suppress(ssl.SSLWantReadError):
            self._object.unwrap()
        self._flush()

    def _take(self, data: bytes) -> None:
        with self._lock:
            if data:
                self._incoming.write(data)
            else:
                self._incoming.write_eof()

    def _flush(self) -> None:
        with self._lock:
            data = self._outgoing.read()
        if data:
            self.sock.sendall(data)

    def _close_notify(self) -> None:
        poll = select.poll()
        poll.register(self.sock, select.POLLRDHUP)
        self.seen.open_then = not poll.poll(0)
        self.seen.close_notify = True


class TlsEngine(Engine):
    """A scripted engine on a TCP port of this machine, behind TLS.

    Args:
        context: of the server.
        end: what tells the client that the output has ended.

    Attributes:
        seen: what was seen of each connection, in order.
        refused: why handshakes failed.
    """

    def __init__(
        self, context: ssl.SSLContext, end: Callable[[ServerTls], None] = ServerTls.end, *, keep_alive: bool = False
    ) -> None:
        self.seen: list[Seen] = []
        self.refused: list[ssl.SSLError] = []
        self._context = context
        self._end = end
        super().__init__(keep_alive=keep_alive)

    def _serve(self, sock: socket.socket) -> None:
        tls = ServerTls(self._context, sock)
        self.seen.append(tls.seen)
        with sock:
            try:
                tls.handshake()
            except ssl.SSLError as exc:
                self.refused.append(exc)
                return
            except ConnectionError:
                return
            outer, inner = socket.socketpair()
            with outer:
                outer.settimeout(BOUND)
                moving = [
                    Task(lambda: until_broken(lambda: copy_inwards(tls, outer))),
                    Task(lambda: until_broken(lambda: self._outwards(tls, outer))),
                ]
                super()._serve(inner)
                for task in moving:
                    task.result()

    def _outwards(self, tls: ServerTls, outer: socket.socket) -> None:
        while data := outer.recv(READ_SIZE):
            tls.write(data)
        self._end(tls)


def until_broken(move: Callable[[], None]) -> None:
    with contextlib.suppress(ConnectionError):
        move()


def copy_inwards(tls: ServerTls, outer: socket.socket) -> None:
    try:
        while data := tls.read():
            with contextlib.suppress(BrokenPipeError):  # the act has ended
                outer.sendall(data)
        if tls.seen.close_notify:
            with contextlib.suppress(OSError):
                outer.shutdown(socket.SHUT_WR)
            while tls.sock.recv(READ_SIZE):
                pass
    finally:
        with contextlib.suppress(OSError):
            outer.shutdown(socket.SHUT_RDWR)
