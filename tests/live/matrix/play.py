"""Plays scenarios: each in a thread of its own, with a bound, and every engine beside the others."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import attrs

from tests.adapters.frameworks import Asyncio, Blocking, Framework, Trio
from tests.adapters.scripted import Task
from tests.live import engines
from tests.live.engine_api import Engine, EngineError
from tests.live.matrix.page import Cell
from tests.live.matrix.scene import Scenario, Scene, Shared

# Seconds. Most plays take one; the machine may be busy with six engines.
BOUND = 90.0
FRAMEWORKS: tuple[Framework, ...] = (Blocking(BOUND), Asyncio(BOUND), Trio(BOUND))
AT_ONCE = 2


@attrs.frozen
class Played:
    """What came of one play.

    Attributes:
        differences: keys of what was different, and is explained.
        failure: the traceback of what failed; empty if nothing did.
    """

    engine: str
    scenario: str
    adapter: str
    seconds: float
    differences: tuple[str, ...] = ()
    failure: str = ""


def within(seconds: float, call: Callable[[], None]) -> BaseException | None:
    """Makes a call in a thread, because a blocking call that hangs cannot be ended from outside. Gives its error."""
    task = Task(call)
    if not task.finished(seconds):
        return TimeoutError(f"it hangs: no end within {seconds:.0f} s")
    try:
        task.result()
    except BaseException as exc:
        return exc
    return None


def play(scenario: Scenario, framework: Framework, running: engines.Running, shared: Shared) -> Played:
    """One play, on an `Engine` of its own, so that its containers alone are removed after it."""
    engine = Engine(running)
    scene = Scene(framework, engine, shared)
    began = time.monotonic()
    error = within(BOUND + 10, lambda: framework.run(lambda: scenario.call(scene)))
    seconds = time.monotonic() - began
    with suppress(EngineError, OSError):
        engine.remove_all()
    failure = ""
    if error is not None:  # with the values of the scenario's variables, because its assertions do not show them
        failure = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    return Played(running.label, str(scenario), framework.name, seconds, tuple(sorted(scene.seen)), failure)


def play_all(
    scenarios: Sequence[Scenario],
    up: Iterable[engines.Running],
    report: Callable[[Played], None],
    frameworks: Sequence[Framework] = FRAMEWORKS,
) -> list[Played]:
    """Plays every scenario on every engine with every adapter.

    Args:
        report: called in the thread that has played, after each play.

    Returns:
        The last play of each. One that has failed is played again, once, when the others of its engine are over: on a
        busy machine a call may take longer than any bound. Both are reported.
    """

    def on(running: engines.Running) -> list[Played]:
        shared = Shared(Engine(running))

        def one(each: tuple[Scenario, Framework]) -> Played:
            played = play(*each, running, shared)
            report(played)
            return played

        plays = [(each, adapter) for each in scenarios for adapter in frameworks]
        try:
            with ThreadPoolExecutor(AT_ONCE) as pool:
                first = list(pool.map(one, plays))
            return [one(each) if played.failure else played for each, played in zip(plays, first, strict=True)]
        finally:
            shared.engine.remove_all()

    found = list(up)
    with ThreadPoolExecutor(len(found)) as pool:
        return [played for each in pool.map(on, found) for played in each]


def cells(played: Iterable[Played]) -> dict[tuple[str, str], Cell]:
    """By scenario and engine: whether all adapters have passed, and the differences that any of them has met."""
    result: dict[tuple[str, str], Cell] = {}
    for each in played:
        before = result.get((each.scenario, each.engine), Cell(True))
        seen = before.differences | set(each.differences)
        result[each.scenario, each.engine] = Cell(before.passed and not each.failure, seen)
    return result
