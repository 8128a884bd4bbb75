"""Diagrams written as mermaid: shown as their source until they are drawn."""

from __future__ import annotations

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx


class Mermaid(Directive):  # type: ignore[misc]  # docutils has no types
    """A fence of a page whose language is mermaid."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """The nodes that stand for it."""
        source = "\n".join(self.content)
        return [nodes.literal_block(source, source, language="text")]


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the directive."""
    app.add_directive("mermaid", Mermaid)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
