"""Every block of code of the README, of docs/adapters*.md and of tests/README.md is run, as a reader would run it."""

from __future__ import annotations

import logging
import re
import sys
from pathlib import Path

import pytest

import attachproto_adapters
from attachproto_adapters.blocking import attach
from attachproto_engine import Engine
from tests.adapters.frameworks import WAYS, WITH_STDIN, Opener, Way
from tests.adapters.scenarios import Table
from tests.adapters.scripted import echo
from tests.engine.client import call

ROOT = Path(__file__).parents[2]
ADAPTERS = ("docs/adapters.md", "docs/adapters-engines.md", "docs/adapters-limits.md")
# The README's block of the core is run by tests/core/test_public_names.py.
BLOCKS = [
    block
    for page in ("README.md", *ADAPTERS)
    for block in re.findall(r"^```python\n(.*?)^```$", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)
    if "attachproto_adapters" in block
]
PRINTED = ["CompletedRun(exit_code=3, stdout=b'a\\nb\\n', stderr=b'')\n"]
# Answers one call as a language server does.
SERVER = r"""
import json, sys
size = int(sys.stdin.buffer.readline().split(b":")[1])
sys.stdin.buffer.readline()
call = json.loads(sys.stdin.buffer.read(size))
assert call["method"] == "initialize"
body = json.dumps({"jsonrpc": "2.0", "id": call["id"], "result": {"capabilities": {}}})
print(f"Content-Length: {len(body)}\r\n\r\n{body}", end="", flush=True)
sys.stdin.buffer.read()
"""
WEB = "echo ready; echo warning >&2; read line"


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_block(number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with Engine() as engine:
        monkeypatch.setenv("DOCKER_HOST", engine.host)
        job = {"Image": "alpine", "Cmd": ["sort"], "OpenStdin": True, "StdinOnce": True}
        call(engine, "POST", "/containers/create?name=job", job)
        lsp = {"Image": "alpine", "Cmd": [sys.executable, "-c", SERVER], "OpenStdin": True, "StdinOnce": True}
        call(engine, "POST", "/containers/create?name=lsp", lsp)
        web = {"Image": "alpine", "Cmd": ["sh", "-c", WEB], "OpenStdin": True}
        call(engine, "POST", "/containers/create?name=web", web)
        with attach("web", start=True) as attachment:
            # Both lines are in the log once they have come.
            assert {type(event).__name__ for event in (attachment.receive(), attachment.receive())} == {
                "Stdout",
                "Stderr",
            }
        exec(compile(BLOCKS[number], f"block {number}", "exec"), {})
        logging.getLogger("attachproto_adapters").setLevel(logging.NOTSET)  # one block has switched it on
    if number < len(PRINTED):
        assert capsys.readouterr().out == PRINTED[number]
    else:
        assert "assert " in BLOCKS[number], "a block that shows nothing"


@pytest.mark.parametrize("way", [way for way in WAYS if way.unix and way.own is None], ids=str)
def test_the_scenario_of_the_tests_page(way: Way, socket_path: Path) -> None:
    (block,) = re.findall(r"^```python\n(.*?)^```$", (ROOT / "tests/README.md").read_text(), re.MULTILINE | re.DOTALL)
    table = Table()
    exec(
        compile(block, "tests/README.md", "exec"), {"scenario": table.scenario, "echo": echo, "WITH_STDIN": WITH_STDIN}
    )
    (row,) = table
    opened = Opener(way, str(socket_path))

    async def scenario() -> None:
        try:
            await row.call(opened)
        finally:
            await opened.aclose()

    try:
        way.framework.run(scenario)
    finally:
        opened.close()


def test_every_error_is_on_the_page_with_its_bases_and_attributes() -> None:
    page = (ROOT / "docs/adapters-limits.md").read_text()
    for name, kind in vars(attachproto_adapters).items():
        if isinstance(kind, type) and issubclass(kind, Exception) and kind is not attachproto_adapters.AttachError:
            assert f"`{name}`" in page, name
    listed = r"`\w+`(?:, `\w+`)*"
    rows = re.findall(rf"^\| ({listed}) \| ({listed})? ?\| .* \| (.*?) ?\|$", page, re.MULTILINE)
    assert len(rows) >= 15
    for names, bases, attributes in rows:
        for kind in (getattr(attachproto_adapters, name) for name in re.findall(r"\w+", names)):
            assert set(re.findall(r"\w+", bases)) <= {each.__name__ for each in kind.__mro__}
            told = "".join(each.__doc__ or "" for each in kind.__mro__)
            assert all(f"{attribute}: " in told for attribute in re.findall(r"\w+", attributes)), names


def test_all_three_are_shown() -> None:
    shown = "".join(BLOCKS)
    assert all(f"attachproto_adapters.{name} import" in shown for name in ("blocking", "asyncio", "trio"))
