"""Pages of the site that stand elsewhere in the repository, and links that leave `docs/`.

The changelog, for instance, belongs to the root of a repository, and its links start there. Its page on the site,
`docs/changelog.md`, has one line, a comment that names the file. That file's text is read in its place, with its links
changed. A link from any page to such a file leads to its page on the site. A link to a page that the site does not have
becomes its text.

A code host shows the picture of a `<picture>` that fits the colours of the reader's system. On the site the reader can
choose the colours, so there each becomes two pictures, of which the theme shows one.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).parents[2]
NAMED = re.compile(r"<!-- the text of (\S+) -->\n")
PICTURE = re.compile(
    r"<picture>\s*<source media=\"\(prefers-color-scheme: dark\)\" srcset=\"([^\"]+)\">"
    r"\s*<img alt=\"([^\"]+)\" src=\"([^\"]+)\">\s*</picture>"
)
LINK = re.compile(r"\[([^\[\]]+)\]\(([^)\s#:]+)((?:#[^)\s]*)?)\)")


def pages(docs: Path) -> dict[Path, Path]:
    """For each file outside `docs/` that has a page on the site: the path of that page."""
    found = {}
    for page in docs.glob("*.md"):
        if (named := NAMED.match(page.read_text())) is not None:
            found[ROOT / named[1]] = page
    return found


def read(app: Sphinx, name: str, content: list[str]) -> None:
    """Replace the text of a page that names a file, and change the links that leave `docs/`."""
    docs = Path(app.srcdir)
    path = docs / f"{name}.md"
    if not path.exists():
        return
    origin = path
    if (named := NAMED.match(content[0])) is not None:
        origin = ROOT / named[1]
        content[0] = origin.read_text()
        app.env.note_dependency(str(origin))
    elsewhere = pages(docs)

    def change(found: re.Match[str]) -> str:
        target = Path(os.path.normpath(origin.parent / found[2]))
        target = elsewhere.get(target, target)
        if target.suffix == ".md" and not target.is_relative_to(docs):
            return found[1]  # a page that the site does not have
        return f"[{found[1]}]({os.path.relpath(target, path.parent)}{found[3]})"

    content[0] = PICTURE.sub(r"![\2](\3){.only-light} ![\2](\1){.only-dark}", LINK.sub(change, content[0]))
    assert "<picture" not in content[0], f"{name}: a picture of another form"


def setup(app: Sphinx) -> dict[str, bool]:
    """Change each page when it is read."""
    app.connect("source-read", read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
