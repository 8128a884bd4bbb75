"""docs/architecture.md says what is there: its diagrams and tables are the code's, and what it names exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from scripts import draw_architecture

ROOT = Path(__file__).parents[1]
PAGE = draw_architecture.PAGE.read_text()

# A move of code that makes one of these changes touch more files is a step back.
AT_MOST = {
    "a stream": 2,
    "a quirk": 1,
    "a host scheme": 3,
    "Windows' named pipes": 3,
    "WebSocket attach": 4,
    "an option of exec": 2,
    "the size of a joined event": 1,
}


def section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def test_the_generated_parts_are_the_codes() -> None:
    assert draw_architecture.drawn(PAGE) == PAGE, "run python scripts/draw_architecture.py"


def test_a_changed_table_changes_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    before = draw_architecture.draw_attachment()
    monkeypatch.setattr(draw_architecture, "LIFE", dict(list(draw_architecture.LIFE.items())[1:]))
    assert draw_architecture.draw_attachment() != before
    with pytest.raises(AssertionError):
        test_the_generated_parts_are_the_codes()


def test_the_engine_needs_the_adapters_for_its_demo_only() -> None:
    boxes = draw_architecture.imports()
    assert ("attachproto_engine._demo", "attachproto_adapters") in boxes
    assert {theirs for ours, theirs in boxes if ours == "attachproto_engine"} == {"attachproto"}
    assert not {theirs for ours, theirs in boxes if ours == "attachproto"}


def test_no_module_imports_itself_through_others() -> None:
    left: dict[str, set[str]] = {module: set() for module, _ in draw_architecture.modules()}
    for module, name in draw_architecture.module_imports():
        if name in left:
            left[module].add(name)
    while free := {module for module, names in left.items() if not names & left.keys()}:
        for module in free:
            del left[module]
    assert not left


def test_every_label_is_quoted() -> None:
    """Without quotes Mermaid does not read some characters, such as parentheses, and draws nothing."""
    labels = re.findall(r"\|(.*?)\|", draw_architecture.draw_attachment())
    assert labels
    for label in labels:
        assert re.fullmatch(r'"[^"]+"', label)


def test_every_module_is_in_a_table_of_files() -> None:
    """Counted apart from the script's list of folders, which could lack one."""
    files = [*(ROOT / "src").rglob("*.py"), *(ROOT / "adapters").rglob("*.py")]
    for file in files:
        folder = file.parent.relative_to(ROOT)
        listed = PAGE.partition(f"<!-- files of {folder}: ")[2].partition(f"<!-- end of files of {folder} -->")[0]
        assert f"| `{file.name}` | " in listed, file
    assert len(re.findall(r"^\| `\w+\.py` \| \S.* \|$", section("The files"), re.MULTILINE)) == len(files)


def functions(path: Path) -> set[str]:
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            found |= {
                f"{node.name}.{inner.name}"
                for inner in node.body
                if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef)
            }
    return found


def test_every_function_on_the_way_of_a_byte_exists() -> None:
    rows = re.findall(r"^\| \d+ \| `([\w./]+)` \| `([\w.]+)` \| \S", section("The way of a byte"), re.MULTILINE)
    assert len(rows) >= 12
    for path, function in rows:
        assert function in functions(ROOT / path), f"{path}: {function}"


def test_every_function_that_the_text_places_in_a_file_is_there() -> None:
    placed = re.findall(r"`([\w.]+)`\s+in\s+`([\w/]+\.py)`", section("The way of a byte"))
    assert len(placed) >= 4
    for function, file in placed:
        found = [path for path in (ROOT / "adapters").rglob("*.py") if path.as_posix().endswith(f"/{file}")]
        names = {name for path in found for full in functions(path) for name in (full, *full.split("."))}
        assert function in names, f"{function} in {file}"


def changes() -> list[tuple[str, list[str], list[str], int]]:
    """What is changed, the files that exist, the files that are new, and the count that the page gives."""
    rows = re.findall(r"^\| (.+?) \| (.+) \| (\d+) \|$", section("To change X, open Y"), re.MULTILINE)
    found = []
    for what, where, count in rows:
        named = re.findall(r"(new )?`((?:src|adapters)/[\w./]+\.py)`", where)
        existing = [path for new, path in named if not new]
        found.append((what, existing, [path for new, path in named if new], int(count)))
    return found


def test_every_change_names_files_that_exist_and_counts_them() -> None:
    assert len(changes()) >= 12
    for what, existing, new, count in changes():
        assert existing or new, what
        assert len(existing) + len(new) == count, what
        for path in existing:
            assert (ROOT / path).is_file(), f"{what}: {path}"
        for path in new:
            assert not (ROOT / path).exists(), f"{what}: {path}"


@pytest.mark.parametrize(("what", "most"), AT_MOST.items())
def test_no_change_touches_too_many_files(what: str, most: int) -> None:
    ((_, _, _, count),) = [change for change in changes() if change[0].startswith(what)]
    assert count <= most
