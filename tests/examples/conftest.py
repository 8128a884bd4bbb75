"""The embedded engine for the examples, as dockerd and as Podman. `tests/live/test_examples.py` has the real ones."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Literal

import pytest

from tests.examples.browser import browser as browser
from tests.examples.programs import Target, embedded


@pytest.fixture(scope="session", autouse=True)
def _no_settings_of_the_machine() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in [*os.environ]:
            if name.startswith("DOCKER_") or name == "CONTAINER_HOST":
                patch.delenv(name)
        yield


@pytest.fixture(params=["dockerd", "podman"])
def target(request: pytest.FixtureRequest) -> Iterator[Target]:
    emulated: Literal["dockerd", "podman"] = request.param
    with embedded(emulated) as found:
        yield found
