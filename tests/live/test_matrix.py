"""The scenarios of the matrix: all of them on the embedded engine, and some on the engines that every run has.

All of them on six real engines are played by `python -m tests.live.matrix`, which takes too long for each change.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator

import pytest

from tests.adapters.frameworks import Framework
from tests.live.conftest import EMBEDDED
from tests.live.engine_api import Engine
from tests.live.matrix import play
from tests.live.matrix.scenarios import SCENARIOS, execs, logs, output, terminals
from tests.live.matrix.scene import Call, Scenario, Scene, Shared

pytestmark = [pytest.mark.live, pytest.mark.filterwarnings("ignore::attachproto_adapters.AttachWarning")]

# Those that no other live test plays.
IN_EVERY_RUN: list[Call] = [
    *(execs.exec_input, execs.exec_environment, execs.exec_tty, execs.exec_size, execs.exec_by_hand),
    execs.exec_live,
    *(execs.exec_not_found, execs.exec_refused, execs.exec_twice, execs.exec_outlives_output),
    *(logs.whole, logs.tail, logs.timestamps, logs.of_a_tty, logs.followed),
    *(output.one_stream, terminals.resize, terminals.default_detach_keys),
]


@pytest.fixture(scope="module")
def shared(find_engine: Callable[[str], Engine]) -> Iterator[Callable[[Engine], Shared]]:
    """Gives those of an engine. Its containers are not of the engine that every test clears up."""
    made: dict[str, Shared] = {}

    def of(engine: Engine) -> Shared:
        return made.setdefault(engine.label, Shared(Engine(engine.running)))

    yield of
    for each in made.values():
        each.engine.remove_all()


@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
def test_on_the_embedded_engine(
    scenario: Scenario,
    find_engine: Callable[[str], Engine],
    shared: Callable[[Engine], Shared],
    times: Callable[[int], int],
) -> None:
    """With all repetitions as dockerd and as Podman, by each adapter; otherwise one of the six, by the test's name."""
    plays = [(label, framework) for label in EMBEDDED for framework in play.FRAMEWORKS]
    chosen = plays if times(1) else [plays[zlib.crc32(str(scenario).encode()) % len(plays)]]
    for label, framework in chosen:
        engine = find_engine(label)
        scene = Scene(framework, engine, shared(engine))
        framework.run(lambda: scenario.call(scene))  # noqa: B023  # it has run when the loop goes on


@pytest.mark.parametrize("call", IN_EVERY_RUN, ids=lambda call: call.__name__)
def test_on_the_engines_of_every_run(
    framework: Framework, engine: Engine, shared: Callable[[Engine], Shared], call: Call
) -> None:
    framework.run(lambda: call(Scene(framework, engine, shared(engine))))
