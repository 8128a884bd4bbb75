"""A process that forks while an attachment is open: its child leaves the connection alone."""

from __future__ import annotations

import gc
import os
import signal
import ssl
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from attachproto import OutputClosed, Stdout
from tests.adapters.frameworks import EACH_FRAMEWORK, WITH_STDIN, Attachment, Framework
from tests.adapters.scripted import Engine, Peer
from tests.adapters.tls_engine import Certificates, TlsEngine


def leave(attachment: Attachment) -> None:
    """What the child does with its copy: it closes it, without a loop, because a child has none."""
    with pytest.raises(StopIteration):
        attachment.aclose().__await__().send(None)


def drop(attachment: Attachment) -> None:
    """Or it forgets it."""
    gc.collect()


def in_a_child(act: Callable[[], None]) -> None:
    """Run it in a forked child, and wait for that."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            signal.alarm(15)
            act()
            status = 0
        except BaseException:
            traceback.print_exc(file=sys.__stderr__)
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def goes_on(peer: Peer) -> None:
    """Echoes one piece of stdin, which comes once the child is gone."""
    peer.accept()
    peer.send(Stdout(b"before"))
    assert peer.read_stdin(4) == b"more"
    peer.send(Stdout(b" after"))
    assert peer.stdin_to_end() == b""
    peer.send(OutputClosed())
    peer.until_closed()


async def use(framework: Framework, host: str, child: Callable[[Attachment], None]) -> None:
    async with await framework.attach("web", WITH_STDIN, host=host) as attachment:
        assert await attachment.receive() == Stdout(b"before")
        in_a_child(lambda: child(attachment))
        await attachment.send_stdin(b"more")
        assert await attachment.communicate(b"") == (b" after", b"")


@EACH_FRAMEWORK
@pytest.mark.parametrize("child", [leave, drop])
def test_over_a_unix_socket(framework: Framework, engine: Engine, child: Callable[[Attachment], None]) -> None:
    engine.on("attach", goes_on)
    framework.run(lambda: use(framework, engine.host, child))


@EACH_FRAMEWORK
def test_over_tls(framework: Framework, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificates = Certificates(tmp_path)
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
    monkeypatch.setenv("DOCKER_CERT_PATH", str(certificates.client))
    engine = TlsEngine(certificates.server_context(ssl.TLSVersion.TLSv1_3))
    engine.on("attach", goes_on)
    try:
        framework.run(lambda: use(framework, engine.host, leave))
    finally:
        engine.close()


# What stands in for ssh: it relays both ways, and a signal ends it.
RELAY = """
import os, socket, sys, threading
engine = socket.socket(socket.AF_UNIX)
engine.connect(sys.argv[1])
def inwards():
    while data := os.read(0, 65536):
        engine.sendall(data)
    engine.shutdown(socket.SHUT_WR)
threading.Thread(target=inwards, daemon=True).start()
while data := engine.recv(65536):
    os.write(1, data)
"""


@EACH_FRAMEWORK
def test_over_ssh(
    framework: Framework, engine: Engine, socket_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    relay, program = tmp_path / "relay.py", tmp_path / "ssh"
    relay.write_text(RELAY)
    program.write_text(f"#!/bin/sh\nexec '{sys.executable}' -I -S '{relay}' '{socket_path}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    engine.on("attach", goes_on)
    framework.run(lambda: use(framework, "ssh://engine", leave))
