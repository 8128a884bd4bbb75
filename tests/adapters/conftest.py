from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.adapters.scripted import Engine
from tests.helpers import open_descriptors

pytest.register_assert_rewrite(
    "tests.adapters.scenarios",
    "tests.adapters.engine_scenarios",
    "tests.adapters.ending_scenarios",
    "tests.adapters.text_scenarios",
)


@pytest.fixture(scope="session", autouse=True)
def _frozen_for_this_session_only() -> Iterator[None]:
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def _nothing_left_open() -> Iterator[None]:
    """A descriptor left open, or closed only by the garbage collector (then as a ResourceWarning), fails the test."""
    before = open_descriptors()
    yield
    left = {number: what for number, what in open_descriptors().items() if before.get(number) != what}
    gc.collect()
    # What is left lives on, and need not be looked through after each test, which would take most of the time.
    gc.freeze()
    assert not left


@pytest.fixture(autouse=True)
def _no_settings_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*os.environ]:
        if name.startswith("DOCKER_") or name == "CONTAINER_HOST":
            monkeypatch.delenv(name)


@pytest.fixture
def socket_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Not tmp_path: it carries the test's name, and a socket's path has 108 bytes.
    return tmp_path_factory.mktemp("e") / "s"


@pytest.fixture
def engine(socket_path: Path) -> Iterator[Engine]:
    running = Engine(str(socket_path))
    yield running
    running.close()


@pytest.fixture
def tcp_engine() -> Iterator[Engine]:
    running = Engine()
    yield running
    running.close()
