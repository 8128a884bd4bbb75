"""Stands between a client and a real engine, and cuts what goes through as proxies do."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from pathlib import Path

from tests.adapters.scripted import listen


class CuttingBridge:
    """A Unix socket that leads to an engine, and cuts what goes through it as proxies do.

    Args:
        engine: the engine's socket.
        path: where to listen.
        idle: seconds of silence after which a connection is closed; ``None`` for never.
        half_close_closes: the client's half-close closes the connection in both directions.
        cut_behind: bytes of the engine's, behind which a connection is closed; empty for none.
    """

    def __init__(
        self,
        engine: Path,
        path: Path,
        *,
        idle: float | None = None,
        half_close_closes: bool = False,
        cut_behind: bytes = b"",
    ) -> None:
        self._engine, self._idle, self._half_close_closes = str(engine), idle, half_close_closes
        self._cut_behind = cut_behind
        self._listener, self.host = listen(str(path))
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as engine, contextlib.suppress(OSError):
            engine.connect(self._engine)
            ways = {client: engine, engine: client}
            answered = False
            while ways:
                # An engine may take longer than the limit for a whole call, and that is not what is tested.
                ready, _, _ = select.select([*ways], [], [], self._idle if answered else None)
                if not ready:
                    return
                answered = answered or engine in ready
                for source in ready:
                    if data := source.recv(65536):
                        ways[source].sendall(data)
                        if self._cut_behind and source is engine and data.endswith(self._cut_behind):
                            return
                    elif source is client and self._half_close_closes:
                        return
                    else:
                        ways.pop(source).shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
