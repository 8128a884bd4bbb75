"""The site builds without a warning, offline: every link between pages, every anchor and every docstring is right."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path

import pytest
from sphinx.util.inventory import InventoryFile

from scripts.draw_diagrams import DIAGRAMS, diagrams, file_name

MODULES = ["attachproto", "attachproto_adapters", "attachproto_engine"]
MODULES += [f"attachproto_adapters.{name}" for name in ("blocking", "asyncio", "trio", "anyio", "terminal")]


def public_names(module: str) -> set[str]:
    found = importlib.import_module(module)
    names = getattr(found, "__all__", None) or [name for name in vars(found) if not name.startswith("_")]
    return {f"{module}.{name}" for name in names if not inspect.ismodule(getattr(found, name))}


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_is_in_the_reference(site: Path, module: str) -> None:
    inventory = InventoryFile.loads((site / "objects.inv").read_bytes(), uri="").data
    documented = {name for kind, names in inventory.items() if kind.startswith("py:") for name in names}
    # It is one class, which the page of results and errors names.
    assert public_names(module) - documented <= {"attachproto_adapters.AttachError"}


@pytest.mark.parametrize("module", MODULES)
def test_every_method_has_a_docstring(module: str) -> None:
    for full_name in public_names(module):
        name = full_name.rpartition(".")[2]
        found = getattr(importlib.import_module(module), name)
        if inspect.isclass(found):
            assert found.__doc__, full_name
            for member in dir(found):
                value = inspect.getattr_static(found, member)
                if not member.startswith("_") and (inspect.isroutine(value) or isinstance(value, property)):
                    assert inspect.getdoc(value), f"{full_name}.{member}"
        elif inspect.isroutine(found):
            assert inspect.getdoc(found), full_name


def test_every_diagram_was_drawn() -> None:
    sources = diagrams()
    assert sources
    for source in sources:
        for theme in ("light", "dark"):
            assert (DIAGRAMS / file_name(source, theme)).exists(), f"run python -m scripts.draw_diagrams for\n{source}"
