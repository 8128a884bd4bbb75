"""The reference: which members autodoc shows, and links from names in the text to their place in the reference.

Docstrings and pages name things in literal text (``Connection.send``), so that they can be read everywhere. On the site
each such name becomes a link, if it is a public name and it is clear which one.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

# Where a name of a page is looked for. The first wins: `Client` of a page is that of the blocking adapter.
PACKAGES = ("attachproto", "attachproto_adapters", "attachproto_adapters.blocking", "attachproto_engine")
# autodoc writes the private module of a type variable before its name.
PRIVATE = re.compile(r"\battachproto\w*(?:\.\w+)*\._\w+(?:\.\w+)*\.(\w+)")
NAME = re.compile(r"\.?([A-Za-z_][\w.]*?)(\(\))?")
# Users do not make these themselves, so their arguments are of no use to them.
MADE_BY_US = re.compile(r"attachproto_adapters\.(\w+\.(Attachment|Lines|StdoutReader)|CommandOptions|LogsOptions)")


def keep_members(app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Show the members of an enum also if nothing but their name and value describes them."""
    return False if isinstance(obj, enum.Enum) else None


def change_signature(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, signature: str | None, returns: str | None
) -> tuple[str, str | None] | None:
    """Hide the arguments of classes that only the library makes, and name the class that a function returns."""
    if returns == "A":  # the type variable of the functions that asyncio, trio and anyio share
        return signature or "", "Attachment"
    if (
        signature
        and what in ("class", "exception")
        and (MADE_BY_US.fullmatch(name) or issubclass(obj, enum.Enum | BaseException))
    ):
        return "", None
    return None


class LinkNames(SphinxPostTransform):
    """Makes links of the names in literal text."""

    default_priority = 400

    def run(self, **kwargs: Any) -> None:
        """Change all literal text of a page, and hide the private modules of types."""
        for field in self.document.findall(nodes.field_body):
            for text in list(field.findall(nodes.Text)):
                if PRIVATE.search(text) and not isinstance(text.parent, nodes.literal):
                    text.parent.replace(text, nodes.Text(PRIVATE.sub(r"\1", text)))
        for node in list(self.document.findall(nodes.literal)):
            match = NAME.fullmatch(node.astext())
            if match is None or any(isinstance(above, nodes.reference | nodes.title) for above in ancestors(node)):
                continue
            name, called = match[1], match[2] is not None
            scopes = list(self._scopes(node))
            target = self._find(name, scopes, called or "." in name or name[0].isupper())
            if target is not None and target not in scopes:
                self._link(node, target)

    def _scopes(self, node: nodes.Node) -> Iterator[str]:
        """The names in whose description the node stands, the innermost first, and the modules around them."""
        for above in ancestors(node):
            if isinstance(above, addnodes.desc) and isinstance(above[0], addnodes.desc_signature):
                signature = above[0]
                if not signature.get("ids"):
                    continue
                scope = signature["module"] + "." + signature["fullname"] if signature.get("module") else ""
                while "." in scope:
                    yield scope
                    scope = scope.rpartition(".")[0]

    def _find(self, name: str, scopes: list[str], clear: bool) -> str | None:
        """The full name of what a name means. A word in small letters is a name only in a docstring."""
        objects = self.env.domains.python_domain.objects
        places = [*scopes, *(PACKAGES if clear else ())]
        return next((full for place in places if (full := f"{place}.{name}") in objects), None)

    def _link(self, node: nodes.literal, target: str) -> None:
        found = self.env.domains.python_domain.objects[target]
        uri = self.app.builder.get_relative_uri(self.env.current_document.docname, found.docname)
        link = nodes.reference("", "", internal=True, refuri=f"{uri}#{found.node_id}", reftitle=target)
        node.replace_self(link)
        link.append(node)


def ancestors(node: nodes.Node) -> Iterator[nodes.Node]:
    """The parents of a node, up to the document."""
    while (node := node.parent) is not None:
        yield node


def setup(app: Sphinx) -> dict[str, bool]:
    """Add both."""
    app.connect("autodoc-skip-member", keep_members)
    app.connect("autodoc-process-signature", change_signature)
    app.add_post_transform(LinkNames)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
