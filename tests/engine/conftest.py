from __future__ import annotations

import gc
import tempfile
import threading
import time
from collections.abc import Iterator

import pytest

from attachproto_engine import Engine
from tests.helpers import children, open_descriptors


def threads() -> int:
    """The number of threads without those of trio's pool, which wait for more work for some seconds."""
    return sum(1 for thread in threading.enumerate() if not thread.name.startswith("Trio"))


@pytest.fixture(autouse=True)
def _nothing_left(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A closed engine leaves no descriptor, process, thread or file."""
    directory = tmp_path_factory.mktemp("e")
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    before = open_descriptors(), children(), threads()
    yield
    gc.collect()
    deadline = time.monotonic() + 5
    while threads() > before[2] and time.monotonic() < deadline:
        time.sleep(0.01)  # a pool's thread that has done its work
    left = {number: what for number, what in open_descriptors().items() if before[0].get(number) != what}
    assert not left
    assert children() == before[1]
    assert threads() <= before[2]
    assert not list(directory.iterdir())


@pytest.fixture(autouse=True)
def _no_settings_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DOCKER_HOST", "DOCKER_API_VERSION", "DOCKER_TLS_VERIFY", "DOCKER_TLS", "DOCKER_CONTEXT"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine() as running:
        yield running
