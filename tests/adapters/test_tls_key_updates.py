"""Key updates of TLS 1.3: what the layer keeps of its answers.

Python cannot ask for one, and ``openssl s_server`` can.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from attachproto_adapters._transport import _tls
from attachproto_adapters._transport._schemes import TlsFiles
from attachproto_adapters._transport._tls import TlsLayer, client_context
from tests.adapters.scripted import BOUND

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no program openssl")

# A record's header (5), the message (5) with its type (1), and the tag of AES-GCM (16).
ANSWER = 27


class Server:
    """A running ``openssl s_server``, and the layer that is connected to it."""

    def __init__(self, process: subprocess.Popen[bytes], sock: socket.socket, layer: TlsLayer) -> None:
        self.layer = layer
        self.process = process
        self._sock = sock

    def type(self, line: bytes) -> None:
        """Type a line into the server, which sends it."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + b"\n")
        self.process.stdin.flush()

    def receive(self, line: bytes) -> None:
        """Receive a line that was typed into it."""
        came = b""
        while came != line + b"\n":
            came += self.read()

    def read(self) -> bytes:
        """Read once."""
        return self.layer.decrypt(self._sock.recv(65536))

    def update_keys(self) -> None:
        """Let the server ask for new keys: the command K. (It takes one command from one read.)"""
        self.type(b"K")
        assert self.read() == b""

    def send(self, data: bytes) -> None:
        self._sock.sendall(self.layer.encrypt(data))

    def printed(self, line: bytes) -> None:
        """Wait until the server has printed this line."""
        assert self.process.stdout is not None
        assert any(each == line for each in self.process.stdout)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    ca.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    command = ["openssl", "s_server", "-accept", "127.0.0.1:0", "-cert", str(tmp_path / "server.pem"), "-tls1_3"]
    with subprocess.Popen(
        [*command, "-naccept", "1"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        accepting = next(line for line in process.stdout if line.startswith(b"ACCEPT"))
        port = int(accepting.rpartition(b":")[2])
        with socket.create_connection(("127.0.0.1", port), BOUND) as sock:
            layer = TlsLayer(client_context(TlsFiles(str(tmp_path / "ca.pem"), None, None, verify=True)), "127.0.0.1")
            steps = layer.handshake()
            try:
                sock.sendall(next(steps))
                while True:
                    sock.sendall(steps.send(sock.recv(65536)))
            except StopIteration as last:
                sock.sendall(last.value)
            connected = Server(process, sock, layer)
            connected.type(b"hello")
            connected.receive(b"hello")
            yield connected
            process.kill()


def kept(layer: TlsLayer) -> int:
    return layer._outgoing.pending


def test_the_answers_wait_for_the_next_data_and_go_before_it(server: Server) -> None:
    for number in range(40):
        server.update_keys()
        # OpenSSL 3.0 writes the last answer when it reads again.
        assert kept(server.layer) in (number * ANSWER, (number + 1) * ANSWER)
    server.send(b"with new keys\n")
    assert kept(server.layer) == 0
    server.printed(b"with new keys\n")
    server.type(b"and back")
    server.receive(b"and back")


def test_a_peer_that_asks_without_end_is_a_failure(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_tls, "_ANSWERS_MAX", 10 * ANSWER)
    for _ in range(10):
        server.update_keys()
        assert server.layer.failure is None
    for _ in range(2):
        server.update_keys()
    assert "asks for new keys again and again" in str(server.layer.failure)
