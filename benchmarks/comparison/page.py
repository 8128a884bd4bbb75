"""Writes what a run has found into ``docs/performance.md``; what stands between the tables is written by hand."""

from __future__ import annotations

import re
from typing import Final

from benchmarks.comparison import targets
from benchmarks.comparison.programs import ROOT
from benchmarks.comparison.tables import Run, sections

PAGE: Final = ROOT / "docs/performance.md"


def replaced(text: str, parts: dict[str, str]) -> str:
    """The page with these parts in place of what stands between their marks.

    Raises:
        ValueError: the page has no mark for one of them.
    """
    for name, part in parts.items():
        begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        # Split, because a backslash in what is new would mean something to re.sub.
        pieces = re.split(rf"{begin}\n.*?{end}", text, flags=re.DOTALL)
        if len(pieces) != 2:
            raise ValueError(f"the page has {len(pieces) - 1} parts between {begin} and {end}")
        text = f"{begin}\n{part}\n{end}".join(pieces)
    return text


def write(run: Run) -> None:
    """Write the tables and the plots that this run has figures for, and leave the others."""
    from benchmarks.comparison import plots  # it needs matplotlib

    parts = sections(run)
    if run.rows and run.scale:
        parts["targets"] = targets.as_table(run)
    PAGE.write_text(replaced(PAGE.read_text(), parts))
    for path in plots.write(run, PAGE.parent):
        print(path.relative_to(ROOT))
