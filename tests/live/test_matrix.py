"""The scenarios of the matrix on the embedded engine.

The real engines are played by `python -m tests.live.matrix`, which takes too long for each change.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator

import pytest

from tests.live.conftest import EMBEDDED
from tests.live.engine_api import Engine
from tests.live.matrix.play import FRAMEWORKS
from tests.live.matrix.scenarios import SCENARIOS
from tests.live.matrix.scene import Scenario, Scene, Shared


@pytest.fixture(scope="module")
def shared(find_engine: Callable[[str], Engine]) -> Iterator[dict[str, Shared]]:
    """By engine. Their containers are not of the engine that every test clears up."""
    made = {label: Shared(Engine(find_engine(label).running)) for label in EMBEDDED}
    yield made
    for each in made.values():
        each.engine.remove_all()


@pytest.mark.live
@pytest.mark.filterwarnings("ignore::attachproto_adapters.AttachWarning")
@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
def test_on_the_embedded_engine(
    scenario: Scenario, find_engine: Callable[[str], Engine], shared: dict[str, Shared], times: Callable[[int], int]
) -> None:
    """With all repetitions as dockerd and as Podman, by each adapter; otherwise one of the six, by the test's name."""
    plays = [(label, framework) for label in EMBEDDED for framework in FRAMEWORKS]
    chosen = plays if times(1) else [plays[zlib.crc32(str(scenario).encode()) % len(plays)]]
    for label, framework in chosen:
        scene = Scene(framework, find_engine(label), shared[label])
        framework.run(lambda: scenario.call(scene))  # noqa: B023  # it has run when the loop goes on
