"""A TLS server in front of an engine, which can end a connection in the middle of what is encrypted."""

from __future__ import annotations

import contextlib
import math
import socket
import ssl
import struct
import threading
from collections.abc import Mapping
from typing import Any

from tests.adapters.scripted import READ_SIZE, Task, listen
from tests.adapters.tls_engine import ServerTls, copy_inwards, until_broken
from tests.soak.jobs import FrontFault

# A kept connection may be silent for so long.
_SILENCE_SECONDS = 120.0


class _Ended(ConnectionError):
    """The fault has ended the connection."""


class _CutSocket:
    """A socket that is ended after so many bytes were sent."""

    def __init__(self, sock: socket.socket, fault: FrontFault) -> None:
        self._sock = sock
        self._fault = fault
        self._left: float = fault.at

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def disarm(self) -> None:
        """Go on for ever: a connection that is kept must not end in another job."""
        self._left = math.inf

    def sendall(self, data: bytes) -> None:
        if len(data) <= self._left:
            self._left -= len(data)
            self._sock.sendall(data)
            return
        self._sock.sendall(data[: int(self._left)])
        if not self._fault.reset:
            self._sock.shutdown(socket.SHUT_RDWR)
        # It is closed when the thread that reads it has ended: its number may belong to another connection then.
        raise _Ended


class Front:
    """The TLS server. It copies to and from the engine's Unix socket; a half-close becomes ``close_notify`` and back.

    Attributes:
        host: its address.
        accepted: how many connections there were since the last ``plan``.
    """

    def __init__(self, context: ssl.SSLContext, engine: str) -> None:
        self._context = context
        self._engine = engine.removeprefix("unix://")
        self._listener, self.host = listen()
        self._lock = threading.Lock()
        self._faults: Mapping[int, FrontFault] = {}
        self.accepted = 0
        self._sockets: set[socket.socket] = set()
        self._armed: list[_CutSocket] = []
        self._accepting = Task(self._accept)

    def plan(self, fault: FrontFault | None) -> None:
        """What goes wrong with the connections that are made from now on."""
        with self._lock:
            for each in self._armed:
                each.disarm()
            self._armed.clear()
            self.accepted = 0
            self._faults = {} if fault is None else {fault.connection: fault}

    def close(self) -> None:
        """Close all connections, and stop listening."""
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept(), which closing does not
        self._accepting.result()
        self._listener.close()
        with self._lock:
            sockets = [*self._sockets]
        for sock in sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                fault = self._faults.get(self.accepted)
                self.accepted += 1
                self._sockets.add(sock)
                wire: Any = sock
                if fault is not None:
                    self._armed.append(wire := _CutSocket(sock, fault))
            threading.Thread(target=self._serve, args=(sock, wire), daemon=True).start()

    def _serve(self, sock: socket.socket, wire: Any) -> None:
        try:
            with sock, contextlib.suppress(ssl.SSLError, OSError):
                self._relay(sock, wire)
        finally:
            with self._lock:
                self._sockets.discard(sock)

    def _relay(self, sock: socket.socket, wire: Any) -> None:
        tls = ServerTls(self._context, wire)
        sock.settimeout(_SILENCE_SECONDS)
        tls.handshake()
        with socket.socket(socket.AF_UNIX) as upstream:
            upstream.connect(self._engine)
            inwards = Task(lambda: until_broken(lambda: self._copy_inwards(tls, upstream)))
            try:
                while data := upstream.recv(READ_SIZE):
                    tls.write(data)
                tls.end()
            except OSError:
                # The engine has reset the connection, or the fault has ended it: then it has no end of the TLS kind.
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    sock.shutdown(socket.SHUT_RD)
                with contextlib.suppress(OSError):
                    upstream.shutdown(socket.SHUT_RDWR)
            inwards.finished(_SILENCE_SECONDS)

    @staticmethod
    def _copy_inwards(tls: ServerTls, upstream: socket.socket) -> None:
        with contextlib.suppress(OSError):
            copy_inwards(tls, upstream)
