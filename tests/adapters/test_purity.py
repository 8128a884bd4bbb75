"""The flows do no I/O: shown as for the core, by an import allow-list and by a clean interpreter."""

from __future__ import annotations

import ast
import pathlib
import subprocess
import sys

import pytest

import attachproto_adapters._flows

FOLDER = pathlib.Path(attachproto_adapters._flows.__file__).parent

# datetime and collections read no clock by themselves; warnings is how a caller is warned.
ALLOWED = {
    "__future__",
    "attachproto",
    "attrs",
    "bisect",
    "codecs",
    "collections",
    "contextlib",
    "datetime",
    "enum",
    "itertools",
    "json",
    "operator",
    "re",
    "typing",
    "typing_extensions",  # for type checkers only: see the clean interpreter below
}
OWN = ("attachproto_adapters._flows", "attachproto_adapters._errors")
FORBIDDEN = ("socket", "ssl", "subprocess", "select", "selectors", "asyncio", "trio", "typing_extensions")


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.py")), ids=lambda file: file.stem)
def test_a_flow_imports_only_what_is_pure(file: pathlib.Path) -> None:
    for node in ast.walk(ast.parse(file.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [each.name for each in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None
            if node.module == "io" and [each.name for each in node.names] == ["BytesIO"]:  # it is only memory
                continue
            names = [node.module]
        for name in names:
            assert name.split(".")[0] in ALLOWED or name.startswith(OWN), f"{file.name} imports {name}"


def test_a_clean_interpreter_has_loaded_no_io_module() -> None:
    modules = [f"attachproto_adapters._flows.{file.stem}" for file in FOLDER.glob("_*.py") if file.stem != "__init__"]
    code = (
        "import sys; before = set(sys.modules)\n"
        f"sys.path[:0] = {[str(FOLDER.parents[1])]!r}; import {', '.join(modules)}\n"
        f"print(*(name for name in {FORBIDDEN!r} if name in sys.modules and name not in before))"
    )
    run = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []


# Each takes part of the time of every import, and few programs need it. The function that needs one imports it.
# (For the same reason a pattern that few programs need is a str: `re` compiles it when it is first used.)
LATE = {
    "attachproto_adapters._transport._ssh",
    "attachproto_adapters._transport._tls",
    "datetime",
    "hashlib",
    "logging",
    "pathlib",
    "shlex",
    "signal",
    "ssl",
    "subprocess",
    "tempfile",
}
# asyncio imports these itself.
OF_ASYNCIO = {"logging", "signal", "ssl", "subprocess"}


@pytest.mark.parametrize(
    ("module", "late"),
    [
        ("attachproto", LATE | {"asyncio", "socket", "trio"}),
        ("attachproto_adapters.blocking", LATE | {"asyncio", "trio"}),
        ("attachproto_adapters.asyncio", LATE - OF_ASYNCIO | {"trio"}),
    ],
)
def test_an_import_loads_nothing_that_few_programs_need(module: str, late: set[str]) -> None:
    # A .pth file of an environment may import modules at the interpreter's start: these do not count.
    code = f"import sys; before = set(sys.modules); import {module}; print(*(set(sys.modules) - before))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not late & set(loaded)
