"""Diagrams written as mermaid: on the site each is a picture, which `scripts/draw_diagrams.py` has drawn."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx

DIAGRAMS = Path(__file__).parents[1] / "_static" / "diagrams"
FENCE = re.compile(r"^```mermaid\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def file_name(source: str, theme: str) -> str:
    """The name of a diagram's picture. It is made of the text, so another text has another picture."""
    return f"{hashlib.sha256(source.strip().encode()).hexdigest()[:12]}-{theme}.svg"


class Mermaid(Directive):  # type: ignore[misc]  # docutils has no types
    """A fence of a page whose language is mermaid."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """The pictures of both themes, or the text if they were not drawn yet."""
        source = "\n".join(self.content)
        files = {theme: file_name(source, theme) for theme in ("light", "dark")}
        if not all((DIAGRAMS / file).exists() for file in files.values()):
            return [nodes.literal_block(source, source, language="text")]
        return [
            nodes.image(
                uri=f"/_static/diagrams/{file}",
                alt="A diagram; the text around it says what it shows",
                classes=[f"only-{theme}"],
            )
            for theme, file in files.items()
        ]


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the directive."""
    app.add_directive("mermaid", Mermaid)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
