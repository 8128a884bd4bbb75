"""The pages say only what is there: every link, test and file that they name exists, and what they count is counted."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

import pytest

from tests.docs.test_blocks import FOLDERS

ROOT = Path(__file__).parents[1]
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted(page for page in (ROOT / "docs").rglob("*.md") if "_build" not in page.parts),
    ROOT / "examples/README.md",
    *sorted((ROOT / "tests").rglob("README.md")),
]

# The pages whose Python blocks are run: here, by test_documented_code.py in tests/adapters and tests/peers, and by
# tests/core/test_public_names.py. Those of FOLDERS are run by tests/docs/test_blocks.py. A block of Python on another
# page would be run by nobody.
RUN = {
    "README.md",
    "CONTRIBUTING.md",
    "docs/adapters.md",
    "docs/adapters-engines.md",
    "docs/adapters-limits.md",
    "docs/testing-your-docker-code.md",
    "tests/README.md",
}
RUN |= {str(page.relative_to(ROOT)) for folder in FOLDERS for page in (ROOT / "docs").glob(folder)}


each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@each_page
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target.partition("#")[0]).exists(), target


@each_page
def test_every_test_and_file_that_is_named_exists(page: Path) -> None:
    for name, part in re.findall(
        r"`(?:python |bash )?((?:tests|scripts|benchmarks|examples|fuzz)/[\w./-]+)(?:::(\w+))?", page.read_text()
    ):
        assert (ROOT / name).exists(), name
        if part:
            assert re.search(rf"^(?:def|class) {part}\b", (ROOT / name).read_text(), re.MULTILINE), f"{name}::{part}"


@each_page
def test_every_block_of_python_is_run(page: Path) -> None:
    if str(page.relative_to(ROOT)) not in RUN:
        assert "```python" not in page.read_text()


def test_the_blocks_of_the_readme_are_of_the_two_kinds_that_are_run() -> None:
    for block in re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL):
        assert "attachproto_adapters" in block or "def embed(" in block


def test_the_test_that_contributing_shows_passes() -> None:
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(textwrap.dedent(block), names)
    (test,) = (value for name, value in names.items() if name.startswith("test_"))
    test()


def test_the_readme_counts_right() -> None:
    readme, guarantees = (ROOT / "README.md").read_text(), (ROOT / "docs/guarantees.md").read_text()
    promises = re.findall(r"^class TestPromise\d\d", (ROOT / "tests/core/test_promises.py").read_text(), re.MULTILINE)
    assert len(promises) == 13
    assert "thirteen promises" in guarantees
    vectors = sorted((ROOT / "tests/vectors").glob("*.jsonl"))
    assert len(vectors) == 6
    assert "six real engines" in readme
    connections = sum(len(file.read_text().splitlines()) for file in vectors)
    assert f"{connections:,} connections" in readme
    assert f"{connections:,} connections" in guarantees
    # One screen: what it is, for whom, and where to read on.
    assert len(readme.splitlines()) <= 100
