"""Writes the generated parts of docs/architecture.md: the diagrams, drawn from the code, and the tables of files.

    python scripts/draw_architecture.py            writes them
    python scripts/draw_architecture.py --check    exits with 1 if the page differs from the code

Each part stands between two comments, ``<!-- NAME: ... -->`` and ``<!-- end of NAME -->``. The states of an attachment
come from the tables of ``attachproto_adapters._flows._life``; those of the core are pictures (``draw_states.py``). The
line about a file is the first line of its docstring. The imports are read from the source, so that no module is
imported only to be drawn.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from attachproto_adapters._flows._life import INPUT
from attachproto_adapters._flows._life import LIFE as LIFE

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "architecture.md"
FOLDERS = (
    "src/attachproto",
    "adapters/attachproto_adapters",
    "adapters/attachproto_adapters/cli",
    "adapters/attachproto_adapters/_flows",
    "adapters/attachproto_adapters/_transport",
    "adapters/attachproto_engine",
)


# ---- states ----


def draw_attachment() -> str:
    """The life of an attachment, and of the input of its ``communicate``. A state that does not change is not drawn."""
    lines = ["```mermaid", "flowchart LR", "  subgraph attachment[the attachment]"]
    for (before, event), after in LIFE.items():
        if after is not before:
            lines.append(f'    {before.name} -->|"{event.name}"| {after.name}')
    lines += ["  end", "  subgraph input[the input of communicate]"]
    for state, followers in INPUT.items():
        lines += [f"    {state.name} --> {after.name}" for after in sorted(followers, key=lambda each: each.value)]
    return "\n".join([*lines, "  end", "```"])


# ---- imports ----


def modules() -> Iterator[tuple[str, Path]]:
    """The dotted name and the file of every module of the three packages."""
    for folder in FOLDERS:
        for file in sorted((ROOT / folder).glob("*.py")):
            relative = file.relative_to(ROOT).with_suffix("")
            yield ".".join(relative.parts[1:]), file


def group_of(module: str) -> str | None:
    """The box of the diagram in which a module lies; ``None`` for what is not ours."""
    package, *rest = module.split(".")
    if package == "attachproto":
        return "attachproto"
    if package == "attachproto_engine":
        return "attachproto_engine._demo" if rest[:1] == ["_demo"] else "attachproto_engine"
    if package != "attachproto_adapters":
        return None
    if rest[:1] in (["_flows"], ["_transport"]):
        return f"attachproto_adapters.{rest[0]}"
    return "attachproto_adapters._errors" if rest[:1] == ["_errors"] else "attachproto_adapters"


def module_imports() -> Iterator[tuple[str, str]]:
    """Which module imports which, imports inside functions included."""
    known = dict(modules())
    for module, file in known.items():
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module is not None:
                for alias in node.names:
                    inner = f"{node.module}.{alias.name}"
                    yield module, inner if inner in known else node.module
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    yield module, alias.name


def imports() -> set[tuple[str, str]]:
    """Which box imports which."""
    boxes = {(group_of(module), group_of(name)) for module, name in module_imports()}
    return {(ours, theirs) for ours, theirs in boxes if ours is not None and theirs is not None and ours != theirs}


def draw_imports() -> str:
    return "\n".join(
        ["```mermaid", "flowchart TD", *(f"  {ours} --> {theirs}" for ours, theirs in sorted(imports())), "```"]
    )


# ---- files ----


def first_line(file: Path) -> str:
    docstring = ast.get_docstring(ast.parse(file.read_text())) or ""
    return docstring.partition("\n")[0].replace("``", "`").replace("|", "\\|")


def list_files(folder: str) -> str:
    rows = ["| file | what it holds |", "| --- | --- |"]
    rows += [f"| `{file.name}` | {first_line(file)} |" for file in sorted((ROOT / folder).glob("*.py"))]
    return "\n".join(rows)


# ---- the page ----


def parts() -> dict[str, str]:
    return {
        "attachment": draw_attachment(),
        "imports": draw_imports(),
        **{f"files of {folder}": list_files(folder) for folder in FOLDERS},
    }


def drawn(page: str) -> str:
    """The page with its generated parts as they are to be.

    Raises:
        ValueError: the page has no place for a part.
    """
    for name, text in parts().items():
        place = re.compile(rf"(<!-- {re.escape(name)}: [^>]*-->\n).*?(<!-- end of {re.escape(name)} -->)", re.DOTALL)
        if not place.search(page):
            raise ValueError(f"{PAGE.name} has no place for {name!r}")
        page = place.sub(lambda found, text=text: f"{found[1]}\n{text}\n\n{found[2]}", page)  # type: ignore[misc]
    return page


def main() -> int:
    page = PAGE.read_text()
    wanted = drawn(page)
    if "--check" in sys.argv[1:]:
        return int(page != wanted)
    PAGE.write_text(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
