"""What holds for each example."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.examples.programs import FOLDER, run

# The framework that an example is written for, beside this library and Python's own.
FRAMEWORKS = {"aiohttp", "anyio", "h11", "trio"}
# It shows the core without the adapters, on an engine that the live tests start.
OF_THE_CORE = "first_output.py"

each = pytest.mark.parametrize(
    "file", [file for file in sorted(FOLDER.glob("*.py")) if file.name != OF_THE_CORE], ids=lambda file: file.name
)


@each
def test_it_tells_how_it_is_used(file: Path) -> None:
    shown = subprocess.run([sys.executable, file, "--help"], capture_output=True, text=True, check=True)
    assert shown.stdout.startswith(f"usage: {file.name}")
    assert f"python examples/{file.name}" in shown.stdout
    assert shown.stderr == ""


@pytest.mark.parametrize(
    ("name", "arguments"), [("agent_tools.py", []), ("grader.py", [__file__]), ("mcp_server.py", ["server"])]
)
def test_an_engine_that_is_not_there_is_one_line(name: str, arguments: list[str]) -> None:
    code, lines, errors = run(name, "--host", "unix:///nowhere", "image", *arguments)
    assert (code, lines) == (1, [])
    assert re.fullmatch(r".*no engine answers at unix:///nowhere.*", errors)


@each
def test_it_needs_this_library_and_its_framework_only(file: Path) -> None:
    modules = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module
            modules.add(node.module)
    packages = {module.partition(".")[0] for module in modules}
    assert packages <= {"attachproto", "attachproto_adapters", *FRAMEWORKS, *sys.stdlib_module_names}
    assert not any(part.startswith("_") for module in modules - {"__future__"} for part in module.split("."))


@each
def test_it_can_be_read_in_a_few_minutes(file: Path) -> None:
    assert 40 <= len(file.read_text().splitlines()) <= 130


@each
def test_the_readme_says_what_it_does(file: Path) -> None:
    assert f"`{file.name}`" in (FOLDER / "README.md").read_text()
