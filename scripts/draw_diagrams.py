"""Draw the mermaid diagrams of the pages for the site, which shows them without JavaScript.

    python -m scripts.draw_diagrams         needs Chromium and npm, and writes docs/_static/diagrams

A code host draws the diagrams by itself. For the site each is drawn here, for a light and for a dark background, into a
file whose name is made of the diagram's text. So a test sees without a browser whether a diagram was changed.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Final

from tests.examples.browser import Browser
from tests.live import engines
from tests.peers import programs

ROOT: Final = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs/_ext"))

from mermaid_fences import DIAGRAMS as DIAGRAMS  # noqa: E402
from mermaid_fences import FENCE  # noqa: E402
from mermaid_fences import file_name as file_name  # noqa: E402

MERMAID: Final = "11.12.2"
THEMES: Final = {"light": "default", "dark": "dark"}
DRAW: Final = """
mermaid.initialize({{startOnLoad: false, theme: {theme}, htmlLabels: false,
                     flowchart: {{htmlLabels: false, wrappingWidth: 400}},
                     fontFamily: "sans-serif", deterministicIds: true}});
window.drawn = "";
mermaid.render("diagram", {source}).then(result => {{ window.drawn = result.svg; }},
                                          error => {{ window.drawn = "error: " + error; }});
true
"""


def diagrams() -> list[str]:
    """The text of each diagram of the pages."""
    pages = sorted((ROOT / "docs").rglob("*.md"))
    return [match[1] for page in pages if "_build" not in page.parts for match in FENCE.finditer(page.read_text())]


def main() -> None:
    modules = programs.npm_install(ROOT / ".pytest_cache" / "peers", f"mermaid-{MERMAID}", f"mermaid@{MERMAID}")
    wanted = {file_name(source, theme): (source, name) for source in diagrams() for theme, name in THEMES.items()}
    DIAGRAMS.mkdir(exist_ok=True)
    for old in DIAGRAMS.glob("*.svg"):
        if old.name not in wanted:
            old.unlink()
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder, "page.html")
        page.write_text(f'<body><script src="{(modules / "mermaid/dist/mermaid.min.js").as_uri()}"></script></body>')
        browser = Browser(engines.program("chromium", "chromium"), modules, Path(folder))
        with browser.tab(page.as_uri()) as tab:
            tab.until("window.mermaid !== undefined")
            for file, (source, theme) in wanted.items():
                if not (DIAGRAMS / file).exists():
                    tab.value(DRAW.format(theme=json.dumps(theme), source=json.dumps(source)))
                    drawn = tab.until("window.drawn")
                    assert drawn.startswith("<svg"), drawn
                    (DIAGRAMS / file).write_text(drawn + "\n")


if __name__ == "__main__":
    main()
