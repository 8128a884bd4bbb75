"""The core does no I/O, proved three ways; each proof is seen to catch a breach."""

from __future__ import annotations

import ast
import pathlib
import subprocess
import sys

import attachproto

PACKAGE = pathlib.Path(attachproto.__file__).parent
ALLOWED = {
    "abc",
    "__future__",
    "attachproto",
    "attrs",
    "collections",
    "datetime",
    "enum",
    "h11",
    "json",
    "re",
    "struct",
    "typing",
    "urllib.parse",
}
# Not threading: attrs imports it, for a lock around repr().
FORBIDDEN = {
    "socket", "_socket", "ssl", "_ssl", "select", "selectors", "asyncio", "trio", "anyio", "subprocess",
    "multiprocessing", "http", "http.client", "logging", "tempfile", "random", "secrets", "attachproto_adapters",
}  # fmt: skip


def breaches(source: str) -> set[str]:
    """What a module imports or does that the core may not."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.If(test=ast.Name(id="TYPE_CHECKING"), body=body):
                for inner in body:  # never run
                    for part in ast.walk(inner):
                        part.__dict__["skipped"] = True
            case ast.Import(names=names) if "skipped" not in node.__dict__:
                found |= {alias.name for alias in names if alias.name.split(".")[0] not in ALLOWED | {"urllib"}}
            case ast.ImportFrom(module=str(module)) if "skipped" not in node.__dict__:
                if module not in ALLOWED and module.split(".")[0] not in ALLOWED:
                    found.add(module)
            case ast.AsyncFunctionDef() | ast.Await() | ast.AsyncFor() | ast.AsyncWith():
                found.add("async")
            case ast.Name(id="open" | "print" | "input" | "__import__" | "eval" | "exec" as name):
                found.add(name)
            case _:
                pass
    return found


def test_imports_are_on_the_list() -> None:
    for file in PACKAGE.glob("*.py"):
        assert breaches(file.read_text()) == set(), file.name


def test_the_list_catches_a_breach() -> None:
    assert breaches("import socket") == {"socket"}
    assert breaches("from os import path") == {"os"}
    assert breaches("async def f(): await x") == {"async"}
    assert breaches("def f(): open('x')") == {"open"}
    assert breaches("from __future__ import annotations\nif TYPE_CHECKING:\n    import socket\nimport time") == {"time"}


LOADED = """
import sys
before = set(sys.modules)
import {module}
print(*sorted(set(sys.modules) - before))
"""


def loaded_by(module: str) -> set[str]:
    run = subprocess.run(
        [sys.executable, "-I", "-c", LOADED.format(module=module)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return set(run.stdout.split())


def test_a_clean_interpreter_loads_no_io() -> None:
    assert not loaded_by("attachproto") & FORBIDDEN


def test_the_interpreter_catches_a_breach() -> None:
    assert {"socket", "select"} <= loaded_by("attachproto_adapters.blocking")


EXCHANGE = """
import sys
from attachproto import *

heard = []
armed = False

def hook(name, args):
    if armed:
        heard.append(name)

sys.addaudithook(hook)

def exchange():
    client, server = Connection(CLIENT), Connection(SERVER)
    server.receive_data(client.send(Attach("web", AttachOptions(stdin=True, detach_keys="ctrl-p,ctrl-q"), tty=False)))
    assert isinstance(server.next_event(), Attach)
    client.receive_data(server.send(Accepted(Framing.MULTIPLEXED)) + server.send(Stdout(b"out")))
    assert len(list(client.events())) == 2
    server.receive_data(client.send(Stdin(b"in")))
    assert client.send(StdinClosed()) is SEND_EOF
    server.receive_data(b"")
    assert len(list(server.events())) == 2
    client.receive_data(server.send(Stderr(b"err")))
    assert server.send(OutputClosed()) is SEND_EOF
    client.receive_data(b"")
    assert len(list(client.events())) == 2
    client, server = Connection(CLIENT), Connection(SERVER)
    server.receive_data(client.send(Request("GET", ("containers", "web", "json"))))
    server.next_event()
    client.receive_data(server.send(Response(404, (), b'{"message": "no"}')))
    assert list(client.events())[-1].message == "no"
    client = Connection(CLIENT)
    client.send(Attach("web"))
    client.receive_data(b"no HTTP")
    try:
        client.next_event()
    except RemoteProtocolError:
        pass

exchange()  # once unheard: what is imported late belongs to the interpreter
armed = True
exchange()
armed = False
print(*heard)
armed = True
open("/dev/null").close()
armed = False
print(*heard)
"""


def test_a_whole_exchange_raises_no_audit_event() -> None:
    run = subprocess.run([sys.executable, "-I", "-c", EXCHANGE], capture_output=True, text=True, check=True, timeout=60)
    exchange, opened = run.stdout.split("\n")[:2]
    assert exchange == ""
    assert opened.split() == ["open"]
