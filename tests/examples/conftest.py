"""The embedded engine for the examples. `tests/live/test_examples.py` has the real ones."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator

import pytest

from attachproto_engine import Engine
from tests.examples.browser import browser as browser
from tests.examples.programs import Target


@pytest.fixture(autouse=True)
def _no_settings_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*os.environ]:
        if name.startswith("DOCKER_") or name == "CONTAINER_HOST":
            monkeypatch.delenv(name)


@pytest.fixture
def target() -> Iterator[Target]:
    with Engine() as engine:
        yield Target(engine.host, f"example-{secrets.token_hex(8)}")
