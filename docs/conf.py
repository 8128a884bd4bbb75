"""The documentation site: Sphinx, MyST and furo.

    python -m sphinx -W --keep-going -b html docs docs/_build/html

Nothing is read from the network. `docs/_ext` has the project's own extensions.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "docs/_ext"), str(ROOT / "src"), str(ROOT / "adapters")]

import anyio.abc  # noqa: E402

import attachproto_adapters.anyio  # noqa: E402
from attachproto import __version__  # noqa: E402

# It imports this for type checkers only. autodoc needs all types of a signature to find one of them.
vars(attachproto_adapters.anyio)["ByteStream"] = anyio.abc.ByteStream

project = "attachproto"
author = "the attachproto authors"
copyright = "the attachproto authors, MIT licence"
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "repository_pages",
    "public_names",
    "mermaid_fences",
]
exclude_patterns = ["_build", "_ext"]

# The pages are read on a code host, too. There a heading's anchor is made of its text, and so it is here.
myst_heading_anchors = 4
myst_enable_extensions = ["attrs_block", "attrs_inline", "colon_fence", "deflist", "smartquotes"]
myst_fence_as_directive = ["mermaid"]

# Docstrings have Google's sections. A class is described by its docstring; __init__ has none.
napoleon_numpy_docstring = False
napoleon_use_admonition_for_notes = True
autoclass_content = "class"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
add_module_names = False
toc_object_entries_show_parents = "hide"

copybutton_prompt_text = r"\$ "
copybutton_prompt_is_regexp = True
copybutton_line_continuation_character = "\\"

html_theme = "furo"
html_title = f"attachproto {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_theme_options = {"navigation_with_keys": True}
pygments_style = "a11y-high-contrast-light"
pygments_dark_style = "a11y-high-contrast-dark"

# Pages join the lists of docs/index.md by their folder. A list may be empty. `suppress_warnings` has no name for that.
logging.getLogger("sphinx.sphinx.directives.other").addFilter(lambda record: "toctree glob" not in str(record.msg))
