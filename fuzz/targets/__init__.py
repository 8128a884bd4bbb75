"""One module for each target, with ``check(data)`` and ``seeds()``. A target needs no atheris to be called."""

from __future__ import annotations

from typing import Final

TARGETS: Final = ("client", "server", "decoder", "flows", "requests", "hosts", "config")
"""The names of all targets, which are modules here."""
