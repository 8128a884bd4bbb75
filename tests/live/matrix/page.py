"""The generated parts of docs/compatibility.md: who was asked, the tables, and the differences below them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import attrs

from tests.live.matrix.differences import DIFFERENCES
from tests.live.matrix.scene import Scenario

PAGE = Path(__file__).parents[3] / "docs" / "compatibility.md"

PRODUCTS = {"docker": "dockerd", "podman": "Podman"}
PASSES, FAILS, DIFFERS, NOT_OFFERED = "✓", "✗", "≠", "–"


@attrs.frozen
class Cell:
    """What came of one scenario on one engine with all adapters.

    Attributes:
        passed: whether no play has failed.
        differences: keys of what was different in any of them.
    """

    passed: bool
    differences: frozenset[str] = frozenset()


Cells = Mapping[tuple[str, str], Cell]  # by scenario and engine


def marked(text: str, name: str, inside: str) -> str:
    """The page with what stands between the two marks of this name replaced."""
    pattern = re.compile(rf"(?<=<!-- {name} -->\n).*?(?=<!-- end of {name} -->)", re.DOTALL)
    assert pattern.search(text), f"{PAGE.name} has no marks for {name}"
    return pattern.sub(lambda _: f"\n{inside}\n\n", text)


def between(text: str, name: str) -> str:
    """What stands between the two marks of this name."""
    found = re.search(rf"<!-- {name} -->\n(.*?)<!-- end of {name} -->", text, re.DOTALL)
    assert found, f"{PAGE.name} has no marks for {name}"
    return found[1].strip()


def numbers(scenarios: Iterable[Scenario], engines: Sequence[str], cells: Cells) -> dict[str, int]:
    """A number for each difference that was met, in the order in which a reader meets them."""
    found: dict[str, int] = {}
    for scenario in scenarios:
        for engine in engines:
            for key in sorted(cells[str(scenario), engine].differences):
                found.setdefault(key, len(found) + 1)
    return found


def mark(cell: Cell, number: Mapping[str, int]) -> str:
    """The text of a cell."""
    if not cell.passed:
        return FAILS
    if not cell.differences:
        return PASSES
    offered = any(DIFFERENCES[key].offered for key in cell.differences)
    notes = ", ".join(str(each) for each in sorted(number[key] for key in cell.differences))
    return f"{DIFFERS if offered else NOT_OFFERED} {notes}"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def tables(scenarios: Sequence[Scenario], engines: Sequence[str], cells: Cells) -> str:
    """A table for each group of scenarios, each below a heading."""
    number = numbers(scenarios, engines, cells)
    lines: list[str] = []
    for group in dict.fromkeys(scenario.group for scenario in scenarios):
        lines += ["", f"### {group}", "", _row(["", *engines]), _row(["---"] * (len(engines) + 1))]
        lines += [
            _row([scenario.title, *(mark(cells[str(scenario), engine], number) for engine in engines)])
            for scenario in scenarios
            if scenario.group == group
        ]
    return "\n".join(lines[1:])


def notes(number: Mapping[str, int]) -> str:
    """The differences, as a numbered list."""
    return "\n".join(f"{at}. {DIFFERENCES[key].text} ({DIFFERENCES[key].source})" for key, at in number.items())


def terminal_table(counts: Iterable[tuple[str, str, int, int]]) -> str:
    """The lines that tests/live/test_terminal.py prints at its end, as a table by case and engine."""
    rows: dict[str, dict[str, str]] = {}
    columns: dict[str, None] = {}
    for what, engine, good, total in counts:
        columns.setdefault(engine)
        rows.setdefault(what.removeprefix("terminal: "), {})[engine] = PASSES if good == total else FAILS
    lines = [_row(["", *columns]), _row(["---"] * (len(columns) + 1))]
    return "\n".join([*lines, *(_row([case, *(row.get(each, "") for each in columns)]) for case, row in rows.items())])


def read_tables(text: str) -> dict[str, dict[str, str]]:
    """The marks of the page: by title and engine."""
    found: dict[str, dict[str, str]] = {}
    for block in between(text, "tables").split("\n\n"):
        rows = [[part.strip() for part in line[1:-1].split("|")] for line in block.splitlines() if line[0] == "|"]
        for title, *marks in rows[2:]:
            found[title] = dict(zip(rows[0][1:], marks, strict=True))
    return found


def read_notes(text: str) -> dict[int, str]:
    """The differences that the page explains."""
    return {int(at): said for at, said in re.findall(r"^(\d+)\. (.+)$", between(text, "differences"), re.MULTILINE)}
