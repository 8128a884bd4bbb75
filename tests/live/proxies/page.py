"""The generated parts of docs/proxies.md: the versions, the table, and a configuration below each way's heading."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.live.proxies.cells import COLUMNS, RIGHT
from tests.live.proxies.configurations import WAYS, Site, Way

PAGE = Path(__file__).parents[3] / "docs" / "proxies.md"

VERSIONS = re.compile(r"(?<=<!-- versions -->\n).*?(?=\n<!-- end of versions -->)", re.DOTALL)
TABLE = re.compile(r"(?<=<!-- table -->\n).*?(?=\n<!-- end of table -->)", re.DOTALL)

# As a reader would write it: a day of silence is allowed.
EXAMPLE = Site("docker", 2375, "/var/run/docker.sock", 2376, 86_400)

Cells = Mapping[tuple[str, str], Sequence[str]]


def cell(kinds: Sequence[str]) -> str:
    """The text of a cell: each outcome once, `right` first."""
    return " or ".join(sorted(set(kinds), key=lambda kind: (kind != RIGHT, kind)))


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def table(seen: Cells) -> str:
    names = [column.name for column in COLUMNS]
    rows = [["", *names], ["---"] * (len(names) + 1)]
    rows += [[way.name, *(cell(seen[way.name, name]) for name in names)] for way in WAYS]
    return "\n".join(map(_row, rows))


def read_table(text: str) -> dict[tuple[str, str], set[str]]:
    """The outcomes that the page names, by way and column."""
    found = TABLE.search(text)
    assert found, f"{PAGE.name} has no table between its two marks"
    header, _, *rows = [[part.strip() for part in line.strip("|").split("|")] for line in found[0].splitlines()]
    return {
        (row[0], name): set(text.split(" or ")) for row in rows for name, text in zip(header[1:], row[1:], strict=True)
    }


def read_versions(text: str) -> list[str]:
    found = VERSIONS.search(text)
    assert found, f"{PAGE.name} has no versions between their two marks"
    return found[0].splitlines()


def _found(text: str, way: Way) -> re.Match[str]:
    """The first block of code below a way's heading, as the second group."""
    pattern = rf"^### {re.escape(way.name)}\n(.*?^```\n)(.*?)^```$"
    found = re.search(pattern, text, re.DOTALL | re.MULTILINE)
    assert found, f"{PAGE.name} has no block of code below '### {way.name}'"
    return found


def configuration(text: str, way: Way) -> str:
    """The configuration of a way that the page shows."""
    return _found(text, way)[2]


def rewritten(text: str, seen: Cells, versions: Sequence[str]) -> str:
    """The page with what a run has seen."""
    text = VERSIONS.sub(lambda _: "\n".join(versions), text)
    text = TABLE.sub(lambda _: table(seen), text)
    for way in WAYS:
        found = _found(text, way)
        text = text[: found.start(2)] + way.site(EXAMPLE) + text[found.end(2) :]
    return text
