"""Draw `docs/demo.svg`, the picture of `attachproto demo` in the README.

    python scripts/draw_demo.py             runs the demo on the embedded engine, and writes the picture
    python scripts/draw_demo.py --check     exits with 1 if the picture is not that of the demo

What varies is held still, so that only a change of the demo changes the picture: the container's random name, the
version, which of the first two frames comes first, and whether one read brings both.
"""

from __future__ import annotations

import io
import os
import re
import secrets
import sys
from pathlib import Path
from typing import Final
from unittest import mock
from xml.sax.saxutils import escape

from attachproto import __version__
from attachproto_adapters.cli._main import main as attachproto

PICTURE: Final = Path(__file__).parents[1] / "docs" / "demo.svg"
COLUMNS: Final = 113

# The metrics of a monospaced font of 13 pixels. textLength makes other fonts fit.
_CHARACTER, _LINE, _MARGIN = 7.8, 18, 16

# Of the orders in which stdout and stderr may come, the picture has this one.
_FIRST_READ: Final = re.compile(r"< 36 bytes.*\n.*  01 00")
_TRIES: Final = 100

_COLOURS: Final = {"32": "#7ee787", "31": "#ff7b72", "36": "#79c0ff", "2": "#8b949e"}
_PAINTED: Final = re.compile(r"\x1b\[(\d+)m(.*?)\x1b\[0m")


class _Terminal(io.StringIO):
    """A stdout that is a terminal with colours."""

    def isatty(self) -> bool:
        return True


def demo_output() -> list[str]:
    """The lines of the demo with their colours, on the embedded engine."""
    os.environ |= {"COLUMNS": str(COLUMNS), "DOCKER_HOST": "unix:///nowhere/engine.sock"}
    os.environ.pop("NO_COLOR", None)
    for _ in range(_TRIES):
        text = _run_demo()
        if _FIRST_READ.search(text):
            text = text.replace(f"attachproto/{__version__}", "attachproto/0.1.0")
            return ["$ attachproto demo", *text.splitlines()]
    raise SystemExit(f"in {_TRIES} runs stdout and stderr never came in one read, stdout first")


def _run_demo() -> str:
    before, sys.stdout = sys.stdout, _Terminal()
    try:
        with mock.patch.object(secrets, "token_hex", return_value="1a2b3c4d"):
            status = attachproto(["demo"])
        text = sys.stdout.getvalue()
    finally:
        sys.stdout = before
    assert status == 0, text
    return text


def picture(lines: list[str]) -> str:
    """An SVG of a terminal that shows these lines."""
    width = round(2 * _MARGIN + COLUMNS * _CHARACTER)
    height = 2 * _MARGIN + len(lines) * _LINE
    rows = []
    for number, line in enumerate(lines):
        x, y = 0, _MARGIN + (number + 1) * _LINE - 5
        for plain, painted in pieces(line):
            if painted.strip():
                rows.append(_text(_MARGIN + x * _CHARACTER, y, painted, plain))
            x += len(painted)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
            ' role="img" font-family="ui-monospace, \'DejaVu Sans Mono\', Menlo, Consolas, monospace" font-size="13">',
            "<title>The output of attachproto demo: the bytes on the wire beside their events</title>",
            f'<rect width="{width}" height="{height}" rx="8" fill="#0d1117"/>',
            *rows,
            "</svg>",
            "",
        ]
    )


def pieces(line: str) -> list[tuple[str | None, str]]:
    """The pieces of a line: the colour, if it has one, and the text."""
    found: list[tuple[str | None, str]] = []
    end = 0
    for match in _PAINTED.finditer(line):
        found += [(None, line[end : match.start()]), (_COLOURS[match[1]], match[2])]
        end = match.end()
    return [*found, (None, line[end:])]


def _text(x: float, y: int, text: str, colour: str | None) -> str:
    indent = len(text) - len(text.lstrip())
    shown = text.strip()
    return (
        f'<text x="{x + indent * _CHARACTER:.1f}" y="{y}" fill="{colour or "#e6edf3"}"'
        f' textLength="{len(shown) * _CHARACTER:.1f}" xml:space="preserve">{escape(shown)}</text>'
    )


def main() -> int:
    drawn = picture(demo_output())
    if "--check" in sys.argv[1:]:
        if PICTURE.read_text() != drawn:
            print(f"{PICTURE.name} is not that of the demo: python scripts/draw_demo.py", file=sys.stderr)
            return 1
        return 0
    PICTURE.write_text(drawn)
    return 0


if __name__ == "__main__":
    sys.exit(main())
