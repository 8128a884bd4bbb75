"""Whether the end of an output is its end: the flows that ask the engine, driven by hand."""

from __future__ import annotations

import contextlib
import itertools
import json
from typing import Any

import pytest

from attachproto import Reason, RemoteProtocolError, Request, Response, ResponseHead
from attachproto_adapters import (
    AttachmentClosed,
    ExitCodeUnknown,
    InspectedContainer,
    InspectedExec,
    OutputCut,
    RequestRejected,
)
from attachproto_adapters._flows._ending import (
    CONTAINER_GRACE,
    EXEC_GRACE,
    Ending,
)
from attachproto_adapters._flows._exec_events import EVENT_SECONDS
from attachproto_adapters._flows._life import Life, LifeEvent
from attachproto_adapters._flows._output import exit_code_wanted
from attachproto_adapters._flows._steps import (
    AwaitDeferred,
    Broken,
    Call,
    CallDeferred,
    Discard,
    Opened,
    Pause,
    Step,
    Steps,
)
from attachproto_adapters._flows._waits import ANSWER_SECONDS, EARLIER_RUN_SECONDS
from tests.adapters.scripted import container, docker_exec, podman_exec
from tests.adapters.test_flows import NO_SUCH, REMOVING, answer, drive, drive_into, inspected

LOOK_AT_EXEC = Call(Request("GET", ("exec", "e1", "json")))
LOOK = Call(Request("GET", ("containers", "web", "json")))
TOP_OF_EXEC = Call(Request("GET", ("containers", "c0ffee", "top"), (("ps_args", "hpid,state"),)))
TOP = Call(Request("GET", ("containers", "web", "top"), (("ps_args", "hpid,state"),)))
OUTPUTS = (b"out", b"err")

EXEC_RUNS = answer(docker_exec(running=True))
EXEC_ENDED = answer(docker_exec(exit_code=7))
EXITED = inspected(status="exited", exit_code=3)

# Podman may report as running what has ended. Process 42 is the exec or the container, process 1 another one.
PODMAN_EXEC_RUNS = answer({**podman_exec(running=True), "Pid": 42, "ContainerID": "c0ffee"}, podman="5.4.2")
PODMAN_EXEC_ENDED = answer(podman_exec(exit_code=7), podman="5.4.2")
PODMAN_RUNS = inspected(pid=42, podman="5.4.2")
PODMAN_EXITED = inspected(status="exited", exit_code=3, podman="5.4.2")
LISTED = answer({"Processes": [["1", "S"], ["42", "R"]], "Titles": ["HPID", "STATE"]}, podman="5.4.2")
NOT_LISTED = {
    "4.3": Response(200),
    "5.4": answer({"message": "top can only be used on running containers"}, 500),
    "another": answer({"Processes": [["1", "S"], ["420", "S"]]}),
    "a zombie": answer({"Processes": [["42", "Z"]]}),
    "gone": answer({"Processes": [["42", "X (dead)"]]}),
    "a proxy": Response(403, (), b"<html>"),
    "not found": NO_SUCH,
    "none": answer({"Processes": None}),
    "no strings": answer({"Processes": [["42", 7]]}),
    "no rows": answer({"Processes": [[], ["42"]]}),
    "no document": answer([]),
    "too deep": Response(200, (), b"[" * 100_000),
}
EACH_NOT_LISTED = pytest.mark.parametrize("top", NOT_LISTED.values(), ids=NOT_LISTED)


def life(*, over: bool) -> Life:
    found = Life(contextlib.nullcontext())
    if over:
        found.move(LifeEvent.OUTPUT_CLOSED)
    return found


def exec_ending(*, podman: str | None = None, over: bool = True) -> Ending:
    facts = InspectedExec(tty=False, open_stdin=True, podman=podman)
    return Ending(Opened("exec", "e1", None, facts, follows=True), lambda: OUTPUTS, life(over=over))


def container_ending(
    before: Response | None = None,
    *,
    follows: bool = True,
    wait_held: bool = True,
    over: bool = True,
) -> Ending:
    facts = InspectedContainer.from_response(inspected() if before is None else before)
    opened = Opened("containers", "web", None, facts, follows=follows, wait_held=wait_held)
    return Ending(opened, lambda: OUTPUTS, life(over=over))


def spend(flow: Steps[Any], response: Response) -> tuple[list[Step], Exception]:
    """Answer each look in the same way until the flow raises, or returns, which is a ``StopIteration``."""
    seen: list[Step] = []
    result: object = None
    try:
        while len(seen) < 1000:
            step = flow.send(result)
            seen.append(step)
            result = response if isinstance(step, Call) else None
    except Exception as exc:
        return seen, exc
    raise AssertionError("it goes on for ever")


def paused(seen: list[Step]) -> float:
    assert all(step.bounded for step in seen if isinstance(step, Pause)), "a caller's timeout would end it before"
    return sum(step.seconds or 0 for step in seen if isinstance(step, Pause | AwaitDeferred))


# ---- an exec ----


@pytest.mark.parametrize("name", ["confirm", "wait"])
def test_an_exec_that_has_ended_ends_its_output(name: str) -> None:
    ending = exec_ending()
    assert drive(getattr(ending, name)(), EXEC_ENDED)[0] == [LOOK_AT_EXEC]
    assert (ending.confirmed, ending.final_exit_code) == (True, 7)


@pytest.mark.parametrize("name", ["confirm", "wait"])
def test_an_exec_that_dockerd_reports_as_running_was_cut(name: str) -> None:
    """dockerd reports the end before it ends the output. So the command may end by itself right after the inspect."""
    seen, error = drive_into(OutputCut, getattr(exec_ending(), name)(), EXEC_RUNS)
    assert seen == [LOOK_AT_EXEC]
    assert isinstance(error, OutputCut)
    assert (error.stdout, error.stderr) == OUTPUTS


@pytest.mark.parametrize("name", ["confirm", "wait"])
def test_an_exec_whose_process_podman_lists_was_cut(name: str) -> None:
    seen, error = drive_into(OutputCut, getattr(exec_ending(podman="5.4.2"), name)(), PODMAN_EXEC_RUNS, LISTED)
    assert seen == [LOOK_AT_EXEC, TOP_OF_EXEC]
    assert isinstance(error, OutputCut)
    assert (error.stdout, error.stderr) == OUTPUTS


@EACH_NOT_LISTED
@pytest.mark.parametrize("name", ["confirm", "wait"])
def test_podman_may_need_a_moment_to_report_the_end_of_an_exec(name: str, top: Response) -> None:
    ending = exec_ending(podman="5.4.2")
    flow = getattr(ending, name)()
    seen, _ = drive(flow, PODMAN_EXEC_RUNS, top, None, PODMAN_EXEC_RUNS, None, PODMAN_EXEC_ENDED)
    assert (ending.confirmed, ending.exit_code) == (True, 7)
    assert [step for step in seen if not isinstance(step, Pause)] == [LOOK_AT_EXEC, TOP_OF_EXEC] + [LOOK_AT_EXEC] * 2


@pytest.mark.parametrize("known", [{"Pid": 42}, {"ContainerID": "c0ffee"}])
def test_podman_is_not_asked_for_a_process_that_its_inspect_does_not_name(known: dict[str, object]) -> None:
    runs = answer({**podman_exec(running=True), **known}, podman="5.4.2")
    seen, error = spend(exec_ending(podman="5.4.2").confirm(), runs)
    assert isinstance(error, OutputCut)
    assert {type(step) for step in seen} == {Call, Pause}
    assert TOP_OF_EXEC not in seen


@pytest.mark.parametrize("name", ["confirm", "wait"])
def test_an_exec_that_goes_on_was_cut_even_if_podman_lists_no_processes(name: str) -> None:
    seen, error = spend(getattr(exec_ending(podman="5.4.2"), name)(), PODMAN_EXEC_RUNS)
    assert isinstance(error, OutputCut)
    assert (error.stdout, error.stderr) == OUTPUTS
    assert seen[-1] == LOOK_AT_EXEC, "the last thing is a look"
    assert seen.count(TOP_OF_EXEC) == 1
    assert EXEC_GRACE <= paused(seen) < EXEC_GRACE + 0.25


@pytest.mark.parametrize("response", [answer(docker_exec()), answer(podman_exec(), podman="5.4.2")])
def test_an_exec_that_neither_runs_nor_has_a_code(response: Response) -> None:
    _, error = spend(exec_ending().wait(), response)
    assert isinstance(error, ExitCodeUnknown)
    assert (error.stdout, error.stderr) == OUTPUTS
    ending = exec_ending()
    _, end = spend(ending.confirm(), response)
    assert isinstance(end, StopIteration)
    assert end.value is None
    assert ending.confirmed, "nothing says that its output is not whole"


def test_a_cut_stays_one_whatever_becomes_of_the_process() -> None:
    ending = exec_ending()
    spend(ending.confirm(), EXEC_RUNS)
    with pytest.raises(OutputCut):
        next(ending.confirm())
    drive(ending.wait(), EXEC_ENDED)
    assert ending.exit_code == 7, "which is to be had all the same"
    with pytest.raises(OutputCut):
        next(ending.confirm())


def test_an_exec_that_the_engine_has_forgotten_has_ended_with_its_container() -> None:
    ending = exec_ending()
    assert drive(ending.confirm(), NO_SUCH) == ([LOOK_AT_EXEC], None)
    assert drive(ending.confirm()) == ([], None)
    _, error = drive_into(ExitCodeUnknown, ending.wait(), NO_SUCH)
    assert isinstance(error, ExitCodeUnknown)
    assert (error.stdout, error.stderr) == OUTPUTS


def test_an_end_that_was_confirmed_is_not_asked_for_again() -> None:
    ending = exec_ending()
    drive(ending.confirm(), EXEC_ENDED)
    assert drive(ending.confirm()) == ([], None)


def test_a_refusal_confirms_nothing() -> None:
    ending = exec_ending()
    drive_into(RequestRejected, ending.confirm(), Response(502))
    assert not ending.confirmed
    assert drive(ending.confirm(), EXEC_ENDED)[0] == [LOOK_AT_EXEC]
    assert ending.confirmed


def test_an_exec_whose_output_goes_on_is_asked_ever_more_seldom_and_without_a_bound() -> None:
    ending = exec_ending(over=False)
    seen, _ = drive(ending.wait(), *[EXEC_RUNS, None] * 99, EXEC_ENDED)
    assert ending.exit_code == 7
    pauses = [step for step in seen if isinstance(step, Pause)]
    assert not any(pause.bounded for pause in pauses)
    seconds = [pause.seconds for pause in pauses]
    assert seconds[0] <= 0.01 < seconds[-1]
    assert all(one <= two for one, two in itertools.pairwise(seconds))
    assert seconds[-2] == seconds[-1] <= 1


def test_an_inspect_from_before_the_end_of_the_output_does_not_contradict_it() -> None:
    """Another task reads the end while the answer is on its way."""
    ending = exec_ending(over=False)
    flow = ending.wait()
    assert next(flow) == LOOK_AT_EXEC
    ending.life.move(LifeEvent.OUTPUT_CLOSED)
    assert isinstance(flow.send(EXEC_RUNS), Pause)
    drive(flow, EXEC_ENDED)
    assert ending.exit_code == 7


def test_an_output_that_ends_while_an_exec_is_waited_for_bounds_it() -> None:
    ending = exec_ending(over=False, podman="5.4.2")
    flow = ending.wait()
    for _ in range(50):
        assert next(flow) == LOOK_AT_EXEC
        assert isinstance(flow.send(PODMAN_EXEC_RUNS), Pause)
    ending.life.move(LifeEvent.OUTPUT_CLOSED)
    seen, error = spend(flow, PODMAN_EXEC_RUNS)
    assert isinstance(error, OutputCut)
    assert seen[1] == TOP_OF_EXEC, "at the first look behind the end"
    assert paused(seen) <= EXEC_GRACE + 0.25


def test_podmans_exec_has_ended_when_it_may_be_removed() -> None:
    answers = answer(podman_exec(running=True), podman="5.4.2"), None, answer(podman_exec(), podman="5.4.2"), None
    ended = answer(podman_exec(exit_code=3), podman="5.4.2")
    ending = exec_ending(podman="5.4.2", over=False)
    drive(ending.wait(), *answers, ended)
    assert ending.exit_code == 3


def test_an_exec_whose_exit_code_podman_does_not_know() -> None:
    unknown = answer(podman_exec(exit_code=-1), podman="5.4")
    drive_into(ExitCodeUnknown, exec_ending().wait(), unknown)
    ending = exec_ending()
    drive(ending.confirm(), unknown)
    assert ending.confirmed


def test_a_close_ends_the_asking() -> None:
    ending = exec_ending(over=False)
    flow = ending.wait()
    for _ in range(2):
        assert next(flow) == LOOK_AT_EXEC
        assert isinstance(flow.send(EXEC_RUNS), Pause)
    ending.life.move(LifeEvent.CLOSE)
    with pytest.raises(AttachmentClosed):
        next(flow)


# ---- a container ----


def test_a_container_that_has_exited_ends_its_output() -> None:
    ending = container_ending()
    assert drive(ending.confirm(), EXITED) == ([LOOK], None)
    assert drive(ending.confirm()) == ([], None)


@pytest.mark.parametrize("status", ["exited", "stopped", "dead", "removing", "restarting"])
def test_other_states_are_an_end(status: str) -> None:
    assert drive(container_ending().confirm(), inspected(status=status))[0] == [LOOK]


@pytest.mark.parametrize("status", ["running", "paused", "stopping"])
@pytest.mark.parametrize("name", ["confirm", "wait"])
def test_a_container_that_dockerd_reports_as_running_was_cut(status: str, name: str) -> None:
    """Its inspect waits until the end of a container is written down. So it may end by itself right after that."""
    first = [None] if name == "wait" else []
    flow = getattr(container_ending(), name)()
    seen, error = drive_into(OutputCut, flow, *first, inspected(status=status), None)
    assert isinstance(error, OutputCut)
    assert (error.stdout, error.stderr) == OUTPUTS
    assert "the container goes on" in str(error)
    assert seen == [AwaitDeferred(0)] * len(first) + [LOOK, AwaitDeferred(EARLIER_RUN_SECONDS)]


@pytest.mark.parametrize("name", ["confirm", "wait"])
def test_a_container_whose_process_podman_lists_was_cut(name: str) -> None:
    first = [None] if name == "wait" else []
    flow = getattr(container_ending(PODMAN_RUNS), name)()
    seen, _ = drive_into(OutputCut, flow, *first, PODMAN_RUNS, LISTED, None)
    assert seen[-3:] == [LOOK, TOP, AwaitDeferred(EARLIER_RUN_SECONDS)]


@EACH_NOT_LISTED
def test_podman_may_need_a_moment_to_report_the_end_of_a_container(top: Response) -> None:
    ending = container_ending(PODMAN_RUNS)
    seen, _ = drive(ending.confirm(), PODMAN_RUNS, top, None, PODMAN_RUNS, None, PODMAN_EXITED)
    assert ending.confirmed
    assert [step for step in seen if not isinstance(step, Pause)] == [LOOK, TOP, LOOK, LOOK]


@pytest.mark.parametrize("status", ["running", "paused", "stopping"])
@pytest.mark.parametrize("name", ["confirm", "wait"])
def test_a_container_that_goes_on_was_cut_even_if_podman_lists_no_processes(status: str, name: str) -> None:
    runs = inspected(status=status, pid=42, podman="5.4.2")
    seen, error = spend(getattr(container_ending(runs), name)(), runs)
    assert isinstance(error, OutputCut)
    assert seen[-2:] == [LOOK, AwaitDeferred(0)]
    assert seen.count(TOP) == 1
    assert CONTAINER_GRACE <= paused(seen) < CONTAINER_GRACE + 0.25


@pytest.mark.parametrize("gone", [NO_SUCH, REMOVING], ids=["404", "500"])
def test_a_container_that_was_removed_has_ended(gone: Response) -> None:
    assert drive(container_ending().confirm(), gone) == ([LOOK], None)


def test_the_run_before_is_over_if_it_runs_again() -> None:
    """By a restart policy or by somebody: engines end the attach with the run."""
    again = inspected(started_at="2026-11-29T18:00:01Z")
    before = inspected(started_at="2026-11-29T18:00:00Z")
    assert drive(container_ending(before).confirm(), again)[0] == [LOOK]
    _, error = spend(container_ending(before).confirm(), before)
    assert isinstance(error, OutputCut)


@pytest.mark.parametrize("status", ["created", "exited"])
def test_the_run_that_we_started_is_over_if_its_restarts_are_counted(status: str) -> None:
    before = inspected(status=status, started_at="2026-11-29T18:00:00Z")
    again = inspected(started_at="2026-11-29T18:00:05Z", restart_count=1)
    assert drive(container_ending(before).confirm(), again)[0] == [LOOK]
    first = inspected(started_at="2026-11-29T18:00:05Z")
    _, error = spend(container_ending(before).confirm(), first)
    assert isinstance(error, OutputCut)


def test_a_wait_that_answers_behind_a_running_one_tells_of_the_run_before() -> None:
    """Somebody has started the container again."""
    ending = container_ending(inspected(status="created"))
    again = inspected(started_at="2026-11-29T18:00:05Z")
    seen, _ = drive(ending.confirm(), again, answer({"StatusCode": 137}), None, again)
    assert seen == [LOOK, AwaitDeferred(EARLIER_RUN_SECONDS), Discard(), LOOK]
    assert (ending.confirmed, ending.exit_code) == (True, 137)


@pytest.mark.parametrize(
    "later",
    [inspected(status="exited"), inspected(started_at="2026-11-29T18:00:06Z"), NO_SUCH],
    ids=["", "again", "404"],
)
def test_a_wait_that_answers_because_the_running_one_has_ended_shows_no_end(later: Response) -> None:
    """The output had ended before."""
    ending = container_ending(inspected(status="created"))
    first = inspected(started_at="2026-11-29T18:00:05Z")
    drive_into(OutputCut, ending.confirm(), first, answer({"StatusCode": 137}), None, later)
    with pytest.raises(OutputCut):
        next(ending.confirm())
    drive(ending.wait())
    assert ending.exit_code == 137


def test_a_wait_that_has_its_answer_already_needs_no_look() -> None:
    ending = container_ending()
    assert drive(ending.wait(), WAITED, None)[0] == [AwaitDeferred(0), Discard()]
    assert (ending.confirmed, ending.exit_code) == (True, 3)


def test_a_wait_that_is_held_is_waited_for_between_the_looks() -> None:
    """By whoever waits: nobody else may read it."""
    ending = container_ending(PODMAN_RUNS)
    flow = ending.wait()
    assert next(flow) == AwaitDeferred(0)
    assert flow.send(None) == LOOK
    assert flow.send(PODMAN_RUNS) == TOP
    between = flow.send(Response(403))
    assert isinstance(between, AwaitDeferred)
    assert 0 < (between.seconds or 0) <= 0.1
    assert flow.send(None) == LOOK
    assert isinstance(flow.send(PODMAN_RUNS), AwaitDeferred)
    assert flow.send(answer({"StatusCode": 3})) == Discard()
    assert (ending.confirmed, ending.exit_code) == (True, 3)


def test_the_output_of_a_container_that_has_not_run_yet_has_no_end() -> None:
    before = inspected(status="created")
    _, error = spend(container_ending(before).confirm(), before)
    assert isinstance(error, OutputCut)
    assert "has not run yet" in str(error)


def test_a_start_that_failed_is_an_end() -> None:
    """dockerd then ends the attach, and the container is a created one with an exit code (live.md, 10c)."""
    failed = inspected(status="created", exit_code=127)
    assert drive(container_ending(inspected(status="created")).confirm(), failed)[0] == [LOOK]


def test_what_podman_has_reset_has_ended() -> None:
    reset = inspected(status="created", podman="5.4.2")
    assert drive(container_ending(inspected(podman="5.4.2")).confirm(), reset)[0] == [LOOK]


@pytest.mark.parametrize("given", [{"follows": False}, {"wait_held": False}])
def test_who_is_not_asked_after_communicate(given: dict[str, Any]) -> None:
    assert drive(container_ending(**given).confirm()) == ([], None)


def test_a_reset_is_looked_behind_in_any_case() -> None:
    assert drive(container_ending(wait_held=False).confirm(always=True), EXITED)[0] == [LOOK]


FOR_EVER = AwaitDeferred(None)
WAITED = answer({"StatusCode": 3})


def ask_wait(condition: str = "not-running", *, seconds: float | None = None) -> CallDeferred:
    request = Request("POST", ("containers", "web", "wait"), (("condition", condition),))
    return CallDeferred(request) if seconds is None else CallDeferred(request, seconds)


@pytest.mark.parametrize("given", [{"follows": False}, {"over": False}])
def test_who_is_not_asked_before_a_wait(given: dict[str, Any]) -> None:
    """A container that runs on for long while nobody has read its output is waited for without a bound."""
    ending = container_ending(**given)
    assert drive(ending.wait(), WAITED, None)[0] == [FOR_EVER, Discard()]
    assert ending.exit_code == 3


def test_a_wait_that_is_not_held_is_asked_at_the_call() -> None:
    ending = container_ending(wait_held=False, over=False)
    assert drive(ending.wait(), ResponseHead(200), WAITED, None)[0] == [ask_wait(seconds=0), FOR_EVER, Discard()]
    assert ending.exit_code == 3


def test_a_wait_that_was_interrupted_goes_on() -> None:
    ending = container_ending(wait_held=False, over=False)
    flow = ending.wait()
    assert next(flow) == ask_wait(seconds=0)
    assert flow.send(None) == FOR_EVER
    flow.close()
    assert drive(ending.wait(), WAITED, None)[0] == [FOR_EVER, Discard()]


def test_a_wait_that_was_interrupted_before_its_request_had_left_asks() -> None:
    ending = container_ending(wait_held=False, over=False)
    assert next(ending.wait()) == ask_wait(seconds=0)
    seen, _ = drive(ending.wait(), None, ResponseHead(200), WAITED, None)
    assert seen == [FOR_EVER, ask_wait(seconds=0), FOR_EVER, Discard()]


def test_a_wait_that_is_not_held_looks_behind_the_end_too() -> None:
    seen, _ = drive(container_ending(wait_held=False).wait(), EXITED, None, WAITED, None)
    assert seen == [LOOK, ask_wait(seconds=0), FOR_EVER, Discard()]


def test_a_wait_behind_an_end_that_was_confirmed_is_bounded() -> None:
    """Its connection may be gone, and nobody has said so."""
    ending = container_ending()
    drive(ending.confirm(), EXITED)
    seen, _ = drive(ending.wait(), None, EXITED, ResponseHead(200), WAITED, None)
    assert seen == [AwaitDeferred(ANSWER_SECONDS), LOOK, ask_wait(), FOR_EVER, Discard()]
    assert ending.exit_code == 3


def test_a_wait_that_broke_before_the_end_is_asked_again_at_once() -> None:
    """There is nothing to wait for on its connection."""
    ending = container_ending()
    seen, _ = drive(ending.wait(), BROKEN, EXITED, None, EXITED, ResponseHead(200), WAITED, None)
    assert seen == [AwaitDeferred(0), LOOK, AwaitDeferred(0), LOOK, ask_wait(), FOR_EVER, Discard()]
    assert ending.exit_code == 3


def test_a_wait_that_is_refused_late_is_told_and_spent() -> None:
    ending = container_ending(over=False)
    drive_into(RequestRejected, ending.wait(), answer({"message": "no"}, 500), None)
    assert drive(ending.wait(), ResponseHead(200), WAITED, None)[0] == [ask_wait(seconds=0), FOR_EVER, Discard()]


@pytest.mark.parametrize("status_code", [404, 500, 504])
@pytest.mark.parametrize("name", ["confirm", "wait"])
def test_a_held_wait_that_is_refused_does_not_confirm_an_end(name: str, status_code: int) -> None:
    """nginx holds back the head of the wait, and answers 504 at the limit that ends a quiet stream too."""
    ending = container_ending()
    flow = getattr(ending, name)()
    refusals = [answer({"message": "late"}, status_code)]
    seen: list[Step] = []

    def run() -> None:
        result: object = None
        while len(seen) < 1000:
            seen.append(step := flow.send(result))
            result = inspected() if isinstance(step, Call) else None
            if isinstance(step, AwaitDeferred):
                result = refusals.pop()  # a connection has one answer

    with pytest.raises(OutputCut):
        run()
    assert not refusals
    assert seen.count(Discard()) == 1
    with pytest.raises(OutputCut):
        next(ending.confirm())
    assert next(ending.wait()) == LOOK, "there is no wait any more"


@pytest.mark.parametrize(("status_code", "error_type"), [(404, ExitCodeUnknown), (500, RequestRejected)])
def test_a_wait_that_is_refused_before_the_end_confirms_no_end(status_code: int, error_type: type[Exception]) -> None:
    ending = container_ending(over=False)
    drive_into(error_type, ending.wait(), answer({"message": "no"}, status_code), None)
    ending.life.move(LifeEvent.OUTPUT_CLOSED)
    _, error = spend(ending.confirm(), inspected())
    assert isinstance(error, OutputCut)


@pytest.mark.parametrize("document", [{"StatusCode": -1}, {"Error": {"Message": "gone"}, "StatusCode": 1}])
def test_an_exit_code_that_the_engine_has_lost_is_asked_for_once(document: dict[str, object]) -> None:
    """Podman 4.3 has forgotten it. A second wait may be answered with the code of another run."""
    ending = container_ending()
    drive(ending.confirm(), EXITED)
    _, error = drive_into(ExitCodeUnknown, ending.wait(), answer(document), None)
    for _ in range(2):
        assert isinstance(error, ExitCodeUnknown)
        assert (error.stdout, error.stderr) == OUTPUTS
        with pytest.raises(ExitCodeUnknown) as caught:
            next(ending.wait())
        error = caught.value


def test_an_exit_code_that_the_engine_has_lost_is_no_matter_of_communicate() -> None:
    ending = container_ending()
    flow = ending.confirm()
    step = next(flow)
    while not isinstance(step, AwaitDeferred):
        step = flow.send(inspected() if isinstance(step, Call) else None)
    assert flow.send(answer({"StatusCode": -1})) == Discard()
    drive(flow, None)
    assert ending.confirmed
    with pytest.raises(ExitCodeUnknown):
        next(ending.wait())


def test_an_exit_code_that_was_lost_is_not_asked_for() -> None:
    facts = InspectedContainer.from_response(inspected())
    opened = Opened("containers", "web", None, facts, exit_code_lost=True)
    with pytest.raises(ExitCodeUnknown):
        next(Ending(opened, lambda: OUTPUTS, life(over=False)).wait())


# ---- a wait whose connection broke ----

BROKEN = Broken(ConnectionResetError())


@pytest.mark.parametrize(
    ("status", "condition"), [("running", "not-running"), ("exited", "not-running"), ("created", "next-exit")]
)
@pytest.mark.parametrize("head", [ResponseHead(200), None])
def test_a_wait_that_broke_is_asked_again(status: str, condition: str, head: object) -> None:
    """Of a container that has not run, dockerd would answer ``not-running`` with 0 at once."""
    ending = container_ending(over=False)
    seen, _ = drive(ending.wait(), BROKEN, inspected(status=status), head, WAITED, None)
    assert seen == [FOR_EVER, LOOK, ask_wait(condition), FOR_EVER, Discard()]
    assert ending.exit_code == 3


@pytest.mark.parametrize("status_code", [408, 502, 503, 504])
def test_a_wait_that_a_gateway_has_given_up_is_asked_again(status_code: int) -> None:
    ending = container_ending(over=False)
    seen, _ = drive(ending.wait(), Response(status_code), inspected(), None, WAITED, None)
    assert seen == [FOR_EVER, LOOK, ask_wait(), FOR_EVER, Discard()]


def test_it_is_asked_again_once() -> None:
    ending = container_ending(over=False)
    flow = ending.wait()
    drive_into(ConnectionResetError, flow, BROKEN, inspected(), None, BROKEN)
    assert next(ending.wait()) == ask_wait(seconds=0)


@pytest.mark.parametrize("answers", [[NO_SUCH], [REMOVING], [inspected(), NO_SUCH, None]])
def test_the_exit_code_of_what_was_removed_meanwhile_is_unknown(answers: list[Response | None]) -> None:
    _, error = drive_into(ExitCodeUnknown, container_ending(over=False).wait(), BROKEN, *answers)
    assert isinstance(error, ExitCodeUnknown)
    assert (error.stdout, error.stderr) == OUTPUTS


def test_another_refusal_stays_what_it_is() -> None:
    drive_into(RequestRejected, container_ending(over=False).wait(), BROKEN, Response(502))


# ---- the outputs travel in the error ----


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (RequestRejected(404, "no", "GET /exec/e1/json"), ExitCodeUnknown),
        (RemoteProtocolError("cut", Reason.CUT_IN_BODY), ExitCodeUnknown),
        (ConnectionResetError(), ExitCodeUnknown),
        (TimeoutError(), ExitCodeUnknown),
        (OutputCut("cut", b"", b""), OutputCut),
        (AttachmentClosed(), AttachmentClosed),
        (KeyError(), KeyError),
    ],
)
def test_what_becomes_of_a_failure_behind_the_output(raised: Exception, expected: type[Exception]) -> None:
    with pytest.raises(expected) as caught, exit_code_wanted(OUTPUTS, (OSError,)):
        raise raised
    if expected is ExitCodeUnknown:
        assert isinstance(caught.value, ExitCodeUnknown)
        assert (caught.value.stdout, caught.value.stderr) == OUTPUTS


# ---- what inspect tells of a run ----


@pytest.mark.parametrize("field", [{"StartedAt": 7}, {"StartedAt": []}])
def test_a_time_that_is_none(field: dict[str, object]) -> None:
    value = container()
    value["State"].update(field)
    with pytest.raises(RemoteProtocolError):
        InspectedContainer.from_response(Response(200, (), json.dumps(value).encode()))


# ---- an exec whose stream dockerd could not send ----

DATE = ("date", "Sun, 29 Nov 2026 18:00:00 GMT")
FAILED = Response(200, (DATE,), json.dumps({**docker_exec(exit_code=126), "Pid": 7, "ContainerID": "c0ffee"}).encode())
EVENTS = CallDeferred(
    Request(
        "GET",
        ("events",),
        (("filters", '{"event": ["exec_die"], "container": ["c0ffee"]}'), ("since", "0"), ("until", "1795975200")),
    ),
    0,
)


def died(exit_code: object, exec_id: str = "e1") -> bytes:
    return json.dumps({"Actor": {"Attributes": {"execID": exec_id, "exitCode": exit_code}}}).encode() + b"\n"


@pytest.mark.parametrize("name", ["confirm", "wait"])
def test_an_exit_code_of_dockerds_own_means_that_the_output_is_not_whole(name: str) -> None:
    ending = exec_ending()
    events = Response(200, (), died("0", "e0") + died("5"))
    seen, error = drive_into(OutputCut, getattr(ending, name)(), FAILED, ResponseHead(200), events, None)
    assert seen == [LOOK_AT_EXEC, EVENTS, AwaitDeferred(ANSWER_SECONDS), Discard()]
    assert isinstance(error, OutputCut)
    assert (error.stdout, error.stderr) == OUTPUTS
    assert ending.exit_code == 5, "which is the command's own"
    with pytest.raises(OutputCut):
        next(ending.confirm())


@pytest.mark.parametrize("answer", [Response(200, (), died("126")), Response(500, (), died("5")), BROKEN, None])
def test_126_is_the_commands_where_no_event_says_otherwise(answer: object) -> None:
    ending = exec_ending()
    drive(ending.wait(), FAILED, None, answer, None)
    assert (ending.confirmed, ending.exit_code) == (True, 126)


NO_EVENT = died(None) + died("") + died("x") + died("5", "e2") + b"{\n" + b"[" * 100_000 + b"\n[]\n7\n"


def test_an_event_that_is_not_there_yet_is_asked_for_again() -> None:
    """The engine's clock is read to a second."""
    ending = exec_ending()
    flow = ending.wait()
    once = (FAILED, None, Response(200, (), NO_EVENT), None)
    seen, _ = drive_into(OutputCut, flow, *once, None, *once, None, *once[:2], Response(200, (), died("5")), None)
    assert [isinstance(step, Pause) for step in seen] == [False] * 4 + [True] + [False] * 4 + [True] + [False] * 4


def test_an_event_that_never_comes() -> None:
    ending = exec_ending()
    flow = ending.wait()
    seen: list[Step] = []
    result: object = None
    with contextlib.suppress(StopIteration):
        while len(seen) < 1000:
            seen.append(flow.send(result))
            result = FAILED if isinstance(seen[-1], Call) else None
            if isinstance(seen[-1], AwaitDeferred):
                result = Response(200, (), NO_EVENT)
    assert EVENT_SECONDS <= sum(step.seconds for step in seen if isinstance(step, Pause)) < EVENT_SECONDS + 0.25
    assert ending.exit_code == 126


def test_an_engine_that_refuses_its_events() -> None:
    ending = exec_ending()
    drive(ending.wait(), FAILED, Response(404), None)
    assert (ending.confirmed, ending.exit_code) == (True, 126)


@pytest.mark.parametrize("date", ["", "yesterday", "Sun, 99 Nov 2026 18:00:00 GMT", "Sun, 29 Nie 2026 18:00:00 GMT"])
def test_events_are_not_asked_for_without_the_engines_clock(date: str) -> None:
    ending = exec_ending()
    assert drive(ending.wait(), Response(200, (("date", date),), FAILED.body))[0] == [LOOK_AT_EXEC]
    assert ending.exit_code == 126


def test_events_are_not_asked_for_of_what_could_not_be_started() -> None:
    assert drive(exec_ending().wait(), Response(200, (DATE,), json.dumps(docker_exec(exit_code=126)).encode()))


def test_before_the_end_was_read_they_give_the_commands_exit_code() -> None:
    ending = exec_ending(over=False)
    drive(ending.wait(), FAILED, None, Response(200, (), died("5")), None)
    assert ending.exit_code == 5
