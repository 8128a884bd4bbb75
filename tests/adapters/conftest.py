from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.adapters.scripted import Engine
from tests.helpers import open_descriptors

pytest.register_assert_rewrite("tests.adapters.scenarios", "tests.adapters.engine_scenarios")


@pytest.fixture(scope="session", autouse=True)
def _quick_collections() -> Iterator[None]:
    """What lives as long as the session is not looked through after each test, which took most of the time."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def _nothing_left_open() -> Iterator[None]:
    """A descriptor left open, or closed only by the garbage collector (then as a ResourceWarning), fails the test."""
    before = open_descriptors()
    yield
    left = {number: what for number, what in open_descriptors().items() if before.get(number) != what}
    gc.collect()
    assert not left


@pytest.fixture(autouse=True)
def _no_settings_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DOCKER_HOST", "DOCKER_API_VERSION", "DOCKER_TLS_VERIFY", "DOCKER_TLS", "DOCKER_CONTEXT"):
        monkeypatch.delenv(name, raising=False)


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
