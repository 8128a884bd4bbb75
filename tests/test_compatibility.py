"""docs/compatibility.md, which the matrix of tests/live writes: nothing is missing, and no cell is unexplained."""

from __future__ import annotations

import re

from tests.live.matrix import page
from tests.live.matrix.differences import DIFFERENCES
from tests.live.matrix.page import Cell
from tests.live.matrix.scenarios import SCENARIOS
from tests.live.matrix.scene import Scenario, Scene

TEXT = page.PAGE.read_text()


def test_every_scenario_has_a_mark_for_every_engine() -> None:
    read = page.read_tables(TEXT)
    assert list(read) == [scenario.title for scenario in SCENARIOS]
    assert len(SCENARIOS) >= 50
    engines = {tuple(row) for row in read.values()}
    assert len(engines) == 1
    names = [name.partition("-")[0] for name in engines.pop()]
    assert sorted(names) == ["docker"] * 3 + ["podman"] * 3
    marks = {mark for row in read.values() for mark in row.values()}
    assert all(re.fullmatch(r"✓|[≠–] \d+(, \d+)*", mark) for mark in marks), marks


def test_every_difference_is_explained_once_and_as_the_code_has_it() -> None:
    explained = page.read_notes(TEXT)
    used = {
        int(at) for row in page.read_tables(TEXT).values() for mark in row.values() for at in re.findall(r"\d+", mark)
    }
    assert sorted(explained) == sorted(used) == list(range(1, len(used) + 1))
    known = {f"{each.text} ({each.source})" for each in DIFFERENCES.values()}
    assert set(explained.values()) <= known
    assert len(set(explained.values())) == len(explained)


def test_the_page_counts_and_says_who_was_asked() -> None:
    said = page.between(TEXT, "run")
    assert said.startswith(f"{len(SCENARIOS)} scenarios × 6 engines × 3 adapters: {len(SCENARIOS) * 18:,} plays on 20")
    (columns,) = {tuple(row) for row in page.read_tables(TEXT).values()}
    assert re.findall(r"^- (\S+): ", said, re.MULTILINE) == list(columns)


def test_titles_are_cells_and_tell_scenarios_apart() -> None:
    titles = [scenario.title for scenario in SCENARIOS]
    assert len(set(titles)) == len(titles) == len({str(scenario) for scenario in SCENARIOS})
    assert not [title for title in titles if "|" in title]


async def _nothing(scene: Scene) -> None:
    pass


def test_the_writer() -> None:
    async def other(scene: Scene) -> None:
        pass

    rows = [Scenario("A", "one", _nothing), Scenario("B", "`two`", other)]
    cells = {
        ("_nothing", "x"): Cell(True),
        ("_nothing", "y"): Cell(True, frozenset({"any_version"})),
        ("other", "x"): Cell(True, frozenset({"podman_500", "any_version"})),
        ("other", "y"): Cell(False, frozenset({"podman_500"})),
    }
    assert page.tables(rows, ["x", "y"], cells) == (
        "### A\n\n|  | x | y |\n| --- | --- | --- |\n| one | ✓ | – 1 |\n\n"
        "### B\n\n|  | x | y |\n| --- | --- | --- |\n| `two` | ≠ 1, 2 | ✗ |"
    )
    number = page.numbers(rows, ["x", "y"], cells)
    text = "<!-- tables -->\n<!-- end of tables -->\n<!-- differences -->\nold\n<!-- end of differences -->\n"
    text = page.marked(
        page.marked(text, "tables", page.tables(rows, ["x", "y"], cells)), "differences", page.notes(number)
    )
    assert page.read_tables(text) == {"one": {"x": "✓", "y": "– 1"}, "`two`": {"x": "≠ 1, 2", "y": "✗"}}
    assert [said[:20] for said in page.read_notes(text).values()] == [
        DIFFERENCES[key].text[:20] for key in ("any_version", "podman_500")
    ]


def test_the_table_of_the_terminal() -> None:
    counts = [("terminal: a", "x", 1, 1), ("terminal: a", "y", 0, 1), ("terminal: b", "y", 1, 1)]
    assert page.terminal_table(counts) == "|  | x | y |\n| --- | --- | --- |\n| a | ✓ | ✗ |\n| b |  | ✓ |"
