"""The public names: those of the design, importable, and seen by type checkers."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.resources
import pathlib
import re
import subprocess
import sys

import pytest

import attachproto
import attachproto_adapters

NAMES = """
Connection CLIENT SERVER Role NEED_DATA SEND_EOF Signal State AttachOptions Attach Request ResponseHead Response
Accepted Rejected Stdin StdinClosed Stdout Stderr RawOutput Systemerr OutputClosed Continue Framing FrameDecoder
encode_frame demux Quirk AttachError ProtocolError LocalProtocolError
RemoteProtocolError Reason ExecStart Logs DataEvent FrameEvent OutputEvent
""".split()  # noqa: SIM905


@pytest.mark.parametrize("name", NAMES)
def test_the_names_of_the_design(name: str) -> None:
    assert hasattr(attachproto, name)


@pytest.mark.parametrize("module", [attachproto, attachproto_adapters])
def test_static_tools_see_the_same_names(module: object) -> None:
    """``import x as x`` is what makes a name public for a type checker."""
    tree = ast.parse(pathlib.Path(str(module.__file__)).read_text())  # type: ignore[attr-defined]
    exported = {
        alias.asname
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname
    }
    public = {
        name for name, value in vars(module).items() if not name.startswith("_") and not hasattr(value, "__path__")
    }
    public = {name for name in public if type(getattr(module, name)).__name__ != "module"}
    assert exported - {"__version__"} == public


@pytest.mark.parametrize("package", ["attachproto", "attachproto_adapters"])
def test_both_packages_are_typed(package: str) -> None:
    assert importlib.resources.files(package).joinpath("py.typed").is_file()


def test_the_version_is_the_distributions() -> None:
    assert importlib.metadata.version("attachproto") == attachproto.__version__
    citation = (pathlib.Path(__file__).parents[2] / "CITATION.cff").read_text()
    assert f"\nversion: {attachproto.__version__}\n" in citation
    assert set(importlib.metadata.requires("attachproto") or []) >= {"attrs>=23.2", "h11<1,>=0.16"}


def test_the_ten_lines_of_the_readme_run() -> None:
    """The embedding example is run as it stands there, against a server of our own on a socketpair."""
    readme = (pathlib.Path(__file__).parents[2] / "README.md").read_text()
    (code,) = (block for block in re.findall(r"```python\n(.*?)```", readme, re.DOTALL) if "def embed(" in block)
    script = code + TEN_LINES
    run = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, timeout=60)
    assert (run.stdout, run.stderr) == ("[Accepted, Stdout, Stderr] OutputClosed\n", "")


TEN_LINES = """
import socket, threading
from attachproto import SERVER, Accepted, Framing, Stderr, Stdout

def serve(sock):
    conn = Connection(SERVER)
    while (event := conn.next_event()) is NEED_DATA:
        conn.receive_data(sock.recv(65536))
    assert isinstance(event, Attach)
    sock.sendall(conn.send(Accepted(Framing.MULTIPLEXED)) + conn.send(Stdout(b"out")) + conn.send(Stderr(b"err")))
    conn.send(OutputClosed())
    sock.shutdown(socket.SHUT_WR)

ours, theirs = socket.socketpair()
with ours, theirs:
    thread = threading.Thread(target=serve, args=(theirs,))
    thread.start()
    seen = []
    last = embed(ours.recv, ours.sendall, seen.append)
    thread.join()
print("[" + ", ".join(type(event).__name__ for event in seen) + "]", type(last).__name__)
"""
