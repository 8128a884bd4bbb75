"""The order of the calls, and what their answers mean: driven by hand, without a socket."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import attrs
import pytest

from attachproto import (
    Accepted,
    Attach,
    AttachOptions,
    ExecStart,
    Framing,
    LocalProtocolError,
    Logs,
    Quirk,
    Reason,
    Rejected,
    RemoteProtocolError,
    Request,
    Response,
    ResponseHead,
    StreamRequest,
)
from attachproto_adapters import (
    ApiVersionRejected,
    AttachWarning,
    ContainerNotRunning,
    ExecAlreadyStarted,
    ExitCodeUnknown,
    HalfCloseEndsAttach,
    InspectedContainer,
    InspectedExec,
    LogsUnavailable,
    RequestRejected,
)
from attachproto_adapters._flows._api_calls import created_id, exit_code, version_range
from attachproto_adapters._flows._attach import open_attach
from attachproto_adapters._flows._ending import Ending
from attachproto_adapters._flows._flows import create_and_open_exec, open_exec
from attachproto_adapters._flows._intermediaries import UNNAMED, closing_intermediary
from attachproto_adapters._flows._life import Life
from attachproto_adapters._flows._logs import open_logs
from attachproto_adapters._flows._steps import (
    STREAM_HEAD_SECONDS,
    Call,
    CallDeferred,
    Discard,
    Opened,
    Pause,
    Step,
    Steps,
    Stream,
    TryHalfClose,
)
from tests.adapters.scripted import container, docker_exec, podman_exec

T = TypeVar("T")

ACCEPTED = Accepted(Framing.MULTIPLEXED)
HEAD = ResponseHead(200)
STARTED = Response(204)
PASSES = True  # what came of TryHalfClose

INSPECT = Call(Request("GET", ("containers", "web", "json")))
START = Call(Request("POST", ("containers", "web", "start")))
NEXT_EXIT = CallDeferred(Request("POST", ("containers", "web", "wait"), (("condition", "next-exit"),)))
NOT_RUNNING = CallDeferred(Request("POST", ("containers", "web", "wait"), (("condition", "not-running"),)))

FOLLOW = AttachOptions()
WITH_LOGS = AttachOptions(logs=True)
WITH_STDIN = AttachOptions(stdin=True)


def stream(options: AttachOptions = FOLLOW, *, tty: bool = False, quirks: frozenset[Quirk] = frozenset()) -> Stream:
    return Stream(Attach("web", options, tty=tty), quirks)


LOGS = Stream(Logs("web", tty=False))
REFUSED = Rejected(500, (), b"can only attach to created or running containers")


def answer(value: object, status_code: int = 200, *, podman: str | None = None) -> Response:
    headers = () if podman is None else (("libpod-api-version", podman),)
    return Response(status_code, headers, json.dumps(value).encode())


def inspected(*, podman: str | None = None, **inspected: Any) -> Response:
    return answer(container(**inspected), podman=podman)


def steps(
    options: AttachOptions = FOLLOW,
    *,
    tty: bool | None = None,
    start: bool = False,
    wait: bool = False,
    api_version: str | None = None,
) -> Steps[Opened]:
    return open_attach("web", options, tty=tty, start=start, wait=wait, api_version=api_version)


def drive(flow: Steps[T], *answers: object) -> tuple[list[Step], T]:
    """Answers each step in turn; the flow must end with the last answer."""
    seen: list[Step] = []
    pending = iter(answers)
    try:
        step = next(flow)
        while True:
            seen.append(step)
            assert len(seen) <= len(answers), f"no answer for {step}"
            step = flow.send(next(pending))
    except StopIteration as stop:
        assert next(pending, None) is None, f"it ended after {seen}"
        value: T = stop.value
        return seen, value


def drive_into(
    error: type[Exception], flow: Steps[Any], *answers: object, match: str | None = None
) -> tuple[list[Step], Exception]:
    """The same, for a flow that must raise on the last answer, and not before."""
    seen: list[Step] = [next(flow)]
    for answer in answers[:-1]:
        seen.append(flow.send(answer))
    with pytest.raises(error, match=match) as caught:
        flow.send(answers[-1])
    return seen, caught.value


# ---- the order ----


def test_a_start_needs_a_stream() -> None:
    """With ``stream=False`` dockerd 20.10 does not read a container's output, which then blocks for ever."""
    with pytest.raises(ValueError, match="stream=True"):
        next(open_attach("web", AttachOptions(stream=False), tty=None, start=True, wait=False, api_version=None))


def test_start_attaches_holds_the_wait_and_then_starts() -> None:
    seen, opened = drive(steps(start=True), inspected(status="created"), ACCEPTED, HEAD, STARTED)
    assert seen == [INSPECT, stream(), NEXT_EXIT, START]
    assert isinstance(opened.inspected, InspectedContainer)
    assert opened.inspected.status == "created"
    assert opened.exit_code is None


def test_a_head_that_is_held_back_does_not_hold_up_the_start() -> None:
    """Some intermediaries (nginx, unless its buffering is off) give a wait's head with its body."""
    seen, opened = drive(steps(start=True), inspected(status="created"), ACCEPTED, None, STARTED)
    assert seen == [INSPECT, stream(), NEXT_EXIT, START]
    assert opened.wait_held


def test_start_of_a_container_that_has_exited_runs_it_again() -> None:
    seen, opened = drive(steps(start=True), inspected(status="exited", exit_code=3), ACCEPTED, HEAD, STARTED)
    assert seen == [INSPECT, stream(), NEXT_EXIT, START]
    assert opened.exit_code is None, "the code of the run before"


def test_start_of_a_container_that_podman_is_still_cleaning_up() -> None:
    """Attached to earlier, 4.3 refuses, or sends none of the next run's output."""
    stopped, exited = inspected(status="stopped", podman="4.3.1"), inspected(status="exited", podman="4.3.1")
    seen, _ = drive(steps(start=True), stopped, None, stopped, None, exited, ACCEPTED, HEAD, STARTED)
    pause = seen[1]
    assert isinstance(pause, Pause)
    assert seen == [INSPECT, pause, INSPECT, pause, INSPECT, stream(), NEXT_EXIT, START]
    answers = itertools.islice(itertools.cycle([stopped, None]), 1 + 2 * round(10 / pause.seconds))
    drive_into(ContainerNotRunning, steps(start=True), *answers, match="has not cleaned up")


def test_start_of_a_container_that_runs_already_is_no_error() -> None:
    seen, _ = drive(steps(start=True), inspected(), ACCEPTED, HEAD, Response(304))
    assert seen == [INSPECT, stream(), NEXT_EXIT, START]


@pytest.mark.parametrize("answer", [Response(200, (), b"<html>\nhello"), Response(200, (), b"{}"), Response(200)])
def test_a_start_that_no_engine_has_answered(answer: Response) -> None:
    """A proxy's page, or another service at the address: the container would never run, and its wait never end."""
    created = inspected(status="created")
    _, error = drive_into(RemoteProtocolError, steps(start=True), created, ACCEPTED, HEAD, answer)
    assert isinstance(error, RemoteProtocolError)
    assert error.reason is Reason.BAD_DOCUMENT
    assert "the answer to POST /containers/web/start is 200" in str(error)
    assert "hello" not in str(error)


def test_running_is_looked_at_again_after_the_attach() -> None:
    seen, opened = drive(steps(), inspected(), ACCEPTED, inspected())
    assert seen == [INSPECT, stream(), INSPECT]
    assert opened == Opened("containers", "web", None, InspectedContainer.from_response(inspected()), follows=True)


def test_running_with_wait_holds_it_before_the_attach() -> None:
    seen, _ = drive(steps(wait=True), inspected(), HEAD, ACCEPTED, inspected())
    assert seen == [INSPECT, NOT_RUNNING, stream(), INSPECT]


def test_created_may_be_attached_to() -> None:
    """Its exit is waited for from then on: asked later, an engine may answer at once that it has not run."""
    seen, opened = drive(steps(), inspected(status="created"), HEAD, ACCEPTED, inspected(status="created"))
    assert seen == [INSPECT, NEXT_EXIT, stream(), INSPECT]
    assert opened.exit_code is None


def test_created_with_wait_asks_for_the_next_exit() -> None:
    seen, _ = drive(steps(wait=True), inspected(status="created"), HEAD, ACCEPTED, inspected(status="created"))
    assert seen == [INSPECT, NEXT_EXIT, stream(), INSPECT]


@pytest.mark.parametrize("status", ["exited", "stopped", "dead", "removing"])
@pytest.mark.parametrize("wait", [False, True])
@pytest.mark.parametrize("podman", [None, "4.3.1", "5.8.6"])
def test_exited_with_logs_is_read_by_logs_and_never_attached_to(status: str, wait: bool, podman: str | None) -> None:
    answers = inspected(status=status, exit_code=7, podman=podman), ACCEPTED
    seen, opened = drive(steps(WITH_LOGS, wait=wait), *answers)
    assert seen == [INSPECT, LOGS]
    assert opened.exit_code == 7


@pytest.mark.parametrize(("stdout", "stderr"), [(True, False), (False, True)])
@pytest.mark.parametrize("has_tty", [False, True])
def test_what_is_read_by_logs_is_what_was_asked_for(stdout: bool, stderr: bool, has_tty: bool) -> None:
    options = AttachOptions(stdin=True, stdout=stdout, stderr=stderr, logs=True)
    flow = steps(options, api_version="1.41")
    seen, _ = drive(flow, inspected(status="exited", tty=has_tty), ACCEPTED)
    assert seen[1] == Stream(Logs("web", stdout=stdout, stderr=stderr, tty=has_tty, api_version="1.41"))


def test_exited_has_no_logs_of_stdin() -> None:
    options = AttachOptions(stdin=True, stdout=False, stderr=False, logs=True)
    seen, _ = drive_into(ContainerNotRunning, steps(options), inspected(status="exited"))
    assert seen == [INSPECT]


@pytest.mark.parametrize("status", ["exited", "stopped", "dead", "removing"])
def test_exited_without_logs_is_never_attached_to(status: str) -> None:
    seen, error = drive_into(ContainerNotRunning, steps(wait=True), inspected(status=status, exit_code=7))
    assert seen == [INSPECT]
    assert "web" in str(error)
    assert "exit code 7" in str(error)


@pytest.mark.parametrize("status", ["restarting", "stopping", "running"])
def test_other_states_are_no_end(status: str) -> None:
    seen, _ = drive(steps(), inspected(status=status), ACCEPTED, inspected(status=status))
    assert seen == [INSPECT, stream(), INSPECT]


@pytest.mark.parametrize("kwargs", [{}, {"start": True}, {"wait": True}, {"options": WITH_LOGS}])
def test_paused_is_never_attached_to(kwargs: dict[str, Any]) -> None:
    seen, _ = drive_into(ContainerNotRunning, steps(**kwargs), inspected(status="paused"), match="web is paused")
    assert seen == [INSPECT]


def test_exited_between_the_two_looks_with_logs() -> None:
    answers = ACCEPTED, inspected(status="exited", exit_code=5), ACCEPTED
    seen, opened = drive(steps(WITH_LOGS), inspected(), *answers)
    assert seen == [INSPECT, stream(WITH_LOGS), INSPECT, LOGS]
    assert opened.exit_code == 5
    seen, opened = drive(steps(WITH_LOGS, wait=True), inspected(), HEAD, *answers[:2], None, ACCEPTED)
    assert seen == [INSPECT, NOT_RUNNING, stream(WITH_LOGS), INSPECT, Discard(), LOGS]
    assert opened.exit_code == 5


def test_reset_by_podman_between_the_two_looks() -> None:
    """It has become a created one by our attach, and its exit code is lost."""
    answers = inspected(podman="5.4.2"), ACCEPTED, inspected(status="created", podman="5.4.2")
    seen, opened = drive(steps(WITH_LOGS), *answers, ACCEPTED)
    assert seen == [INSPECT, stream(WITH_LOGS), INSPECT, LOGS]
    assert opened.exit_code is None
    assert opened.exit_code_lost
    seen, _ = drive_into(ContainerNotRunning, steps(), *answers, match="created")
    assert seen == [INSPECT, stream(), INSPECT]


def test_exited_between_the_two_looks_without_logs() -> None:
    answers = inspected(), ACCEPTED, inspected(status="exited", exit_code=5)
    seen, error = drive_into(ContainerNotRunning, steps(), *answers)
    assert seen == [INSPECT, stream(), INSPECT]
    assert "exit code 5" in str(error)


PODMAN_STATES = {
    state: inspected(status=state, exit_code=5, podman="4.3.1") for state in ("running", "exited", "created")
}


def test_a_wait_that_is_held_on_podman_is_the_next_exit_of_a_container_that_still_runs() -> None:
    """``not-running`` answers 0 or -1 there, if the container is removed or reset."""
    running = PODMAN_STATES["running"]
    seen, opened = drive(steps(wait=True), running, HEAD, running, ACCEPTED, running)
    assert seen == [INSPECT, NEXT_EXIT, INSPECT, stream(), INSPECT]
    assert not opened.ended


def test_a_wait_that_was_held_too_late_on_podman_is_not_waited_for() -> None:
    """``next-exit`` never answers then, and inspect has the exit code."""
    answers = PODMAN_STATES["running"], HEAD, PODMAN_STATES["exited"], None
    seen, opened = drive(steps(WITH_LOGS, wait=True), *answers, ACCEPTED)
    assert seen == [INSPECT, NEXT_EXIT, INSPECT, Discard(), LOGS]
    assert opened.exit_code == 5
    seen, _ = drive_into(ContainerNotRunning, steps(wait=True), *answers)
    assert seen == [INSPECT, NEXT_EXIT, INSPECT, Discard()]


def test_a_wait_that_was_held_in_time_outlives_a_reset_by_podman() -> None:
    running = PODMAN_STATES["running"]
    answers = running, HEAD, running, ACCEPTED, PODMAN_STATES["created"], ACCEPTED
    seen, opened = drive(steps(WITH_LOGS, wait=True), *answers)
    assert seen == [INSPECT, NEXT_EXIT, INSPECT, stream(WITH_LOGS, quirks=OUTSIDE), INSPECT, LOGS]
    assert not opened.exit_code_lost


def test_somebody_else_has_reset_it_before_the_wait() -> None:
    answers = PODMAN_STATES["running"], HEAD, PODMAN_STATES["created"], None, ACCEPTED
    seen, opened = drive(steps(WITH_LOGS, wait=True), *answers)
    assert seen == [INSPECT, NEXT_EXIT, INSPECT, Discard(), LOGS]
    assert opened.exit_code_lost


def test_an_exit_code_that_podman_does_not_know_is_none() -> None:
    seen, opened = drive(steps(WITH_LOGS), inspected(status="exited", exit_code=-1, podman="5.4.2"), ACCEPTED)
    assert seen == [INSPECT, LOGS]
    assert opened.exit_code is None
    assert opened.exit_code_lost


@pytest.mark.parametrize("again", ["exited", "stopped", "created"])
def test_an_attach_that_podman_refuses_because_it_has_ended(again: str) -> None:
    running, ended = PODMAN_STATES["running"], inspected(status=again, exit_code=5, podman="5.4.2")
    seen, opened = drive(steps(WITH_LOGS), running, REFUSED, ended, ACCEPTED)
    assert seen == [INSPECT, stream(WITH_LOGS, quirks=OUTSIDE), INSPECT, LOGS]
    assert (opened.exit_code, opened.exit_code_lost) == ((None, True) if again == "created" else (5, False))
    drive_into(ContainerNotRunning, steps(), running, REFUSED, ended, match="logs=True")


@pytest.mark.parametrize("again", ["stopping", "paused", "restarting"])
def test_an_attach_that_is_refused_because_it_does_not_run(again: str) -> None:
    """Podman attaches to nothing that it is stopping; its logs are complete when it has stopped."""
    answers = inspected(status="stopping"), REFUSED, inspected(status=again)
    drive_into(ContainerNotRunning, steps(WITH_LOGS), *answers, match=f"web is {again}: can only attach")


# Podman 5.8's answer while it removes a container.
REMOVING = answer({"cause": "no such container", "message": "no container with ID 9 found: no such container"}, 500)


@pytest.mark.parametrize("again", [answer({"message": "No such container: web"}, 404), REMOVING], ids=["404", "500"])
@pytest.mark.parametrize("wait", [False, True])
def test_a_container_that_is_removed_when_it_ends_has_its_output_in_the_stream(again: Response, wait: bool) -> None:
    held = [HEAD] if wait else []
    seen, opened = drive(steps(wait=wait), inspected(), *held, ACCEPTED, again)
    assert seen[-2:] == [stream(), INSPECT]
    assert not opened.ended


def test_a_second_inspect_that_fails_says_so() -> None:
    drive_into(RequestRejected, steps(), inspected(), ACCEPTED, answer({"message": "it is ill"}, 500), match="is ill")


@pytest.mark.parametrize("again", [inspected(), answer({}, 404), answer({}, 500)], ids=["runs", "gone", "ill"])
def test_an_attach_that_is_refused_for_another_reason(again: Response) -> None:
    drive_into(RequestRejected, steps(WITH_LOGS), inspected(), REFUSED, again, match="can only attach")


@pytest.mark.parametrize("status", ["running", "exited", "created"])
@pytest.mark.parametrize("podman", [None, "5.4.2"])
def test_logs_alone_are_read_by_logs(status: str, podman: str | None) -> None:
    options = AttachOptions(logs=True, stream=False)
    seen, _ = drive(steps(options), inspected(status=status, podman=podman), ACCEPTED)
    assert seen == [INSPECT, LOGS]


# ---- log drivers that cannot be read ----

PROBE = Call(Logs("web", tail=0).to_request())
UNREADABLE = Response(501, (), b'{"message":"configured logging driver does not support reading"}')


@pytest.mark.parametrize("driver", ["none", "passthrough", "passthrough-tty"])
@pytest.mark.parametrize("status", ["running", "exited"])
@pytest.mark.parametrize("start", [False, True])
def test_logs_that_no_engine_can_read_are_refused_before_anything_is_opened(
    driver: str, status: str, start: bool
) -> None:
    response = inspected(status=status, log_driver=driver)
    seen, error = drive_into(LogsUnavailable, steps(WITH_LOGS, start=start), response, match=f"'{driver}'")
    assert seen == [INSPECT]
    assert isinstance(error, LogsUnavailable)
    assert error.driver == driver
    seen, _ = drive_into(LogsUnavailable, open_logs(Logs("web")), response, match=f"'{driver}'")
    assert seen == [INSPECT]


@pytest.mark.parametrize("driver", ["none", "fluentd"])
def test_what_has_not_run_is_attached_to_without_logs(driver: str) -> None:
    """With ``logs=1`` dockerd would send nothing at all, also of what is printed from now on."""
    created = inspected(status="created", log_driver=driver)
    seen, _ = drive(steps(WITH_LOGS), created, HEAD, ACCEPTED, created)
    assert seen == [INSPECT, NEXT_EXIT, stream(FOLLOW), INSPECT]
    seen, _ = drive(steps(WITH_LOGS, start=True), created, ACCEPTED, HEAD, STARTED)
    assert seen == [INSPECT, stream(FOLLOW), NEXT_EXIT, START]


def test_what_has_not_run_has_no_logs_to_read() -> None:
    options = AttachOptions(logs=True, stream=False)
    drive_into(LogsUnavailable, steps(options), inspected(status="created", log_driver="none"))


@pytest.mark.parametrize("again", ["running", "exited"])
def test_what_was_started_while_we_attached_without_logs_may_have_lost_its_first_output(again: str) -> None:
    created = inspected(status="created", log_driver="none")
    answers = created, HEAD, ACCEPTED, inspected(status=again, log_driver="none")
    drive_into(LogsUnavailable, steps(WITH_LOGS), *answers, match="was started before")
    drive_into(LogsUnavailable, steps(WITH_LOGS, start=True), created, ACCEPTED, HEAD, Response(304))
    drive(steps(FOLLOW, start=True), created, ACCEPTED, HEAD, Response(304))


def test_dockerd_is_asked_whether_it_can_read_a_driver() -> None:
    """It can if it keeps a copy, which the driver's name does not tell."""
    running = inspected(log_driver="fluentd")
    seen, error = drive_into(LogsUnavailable, steps(WITH_LOGS), running, UNREADABLE, match="does not support reading")
    assert seen == [INSPECT, PROBE]
    assert isinstance(error, LogsUnavailable)
    assert error.driver == "fluentd"
    seen, _ = drive(steps(WITH_LOGS), running, Response(200), ACCEPTED, running)
    assert seen == [INSPECT, PROBE, stream(WITH_LOGS), INSPECT]
    drive_into(RequestRejected, steps(WITH_LOGS), running, answer({"message": "no journal"}, 500), match="no journal")


@pytest.mark.parametrize("driver", ["json-file", "local", "journald", "k8s-file", ""])
def test_drivers_that_every_engine_can_read_are_not_asked_about(driver: str) -> None:
    running = inspected(log_driver=driver)
    seen, _ = drive(steps(WITH_LOGS), running, ACCEPTED, running)
    assert seen == [INSPECT, stream(WITH_LOGS), INSPECT]


@pytest.mark.parametrize("driver", ["none", "fluentd"])
def test_without_logs_the_driver_does_not_matter(driver: str) -> None:
    running = inspected(log_driver=driver)
    seen, _ = drive(steps(), running, ACCEPTED, running)
    assert seen == [INSPECT, stream(), INSPECT]


def test_logs_that_dockerd_cannot_read() -> None:
    answers = inspected(log_driver="fluentd"), Rejected(501, (), UNREADABLE.body)
    _, error = drive_into(LogsUnavailable, open_logs(Logs("web")), *answers, match="does not support reading")
    assert isinstance(error, LogsUnavailable)
    assert error.driver == "fluentd"


# ---- what reaches the requests ----


def test_all_options_reach_the_request() -> None:
    options = AttachOptions(stdin=True, stdout=False, stderr=False, logs=True, detach_keys="ctrl-x")
    seen, _ = drive(steps(options), inspected(), PASSES, ACCEPTED, inspected())
    assert seen[2] == stream(options)


@pytest.mark.parametrize("has_tty", [False, True])
def test_tty_is_asked_for(has_tty: bool) -> None:
    seen, opened = drive(steps(), inspected(tty=has_tty), ACCEPTED, inspected(tty=has_tty))
    assert seen[1] == stream(tty=has_tty)
    assert opened.inspected.tty is has_tty


@pytest.mark.parametrize("given", [False, True])
def test_tty_that_is_given_overrides_what_inspect_says(given: bool) -> None:
    seen, _ = drive(steps(tty=given), inspected(tty=not given), ACCEPTED, inspected())
    assert seen[1] == stream(tty=given)


def test_api_version_goes_into_every_call() -> None:
    for flow, answers in (
        (steps(start=True, api_version="1.41"), (inspected(), ACCEPTED, HEAD, STARTED)),
        (steps(wait=True, api_version="1.41"), (inspected(), HEAD, ACCEPTED, inspected())),
    ):
        seen, opened = drive(flow, *answers)
        calls = [each for each in seen if isinstance(each, Call | CallDeferred | Stream)]
        assert [each.request.api_version for each in calls] == ["1.41"] * 4
        assert opened.api_version == "1.41"


def test_stdin_that_nobody_reads_is_warned_of() -> None:
    answers = inspected(open_stdin=False), ACCEPTED, inspected(open_stdin=False)
    options = AttachOptions(stdin=True)
    with pytest.warns(AttachWarning, match="OpenStdin") as warned:
        seen, _ = drive(steps(options), *answers)
    assert [each.filename for each in warned] == [__file__]
    assert seen == [INSPECT, stream(options), INSPECT]
    drive(steps(FOLLOW), *answers)  # of which nothing is said


OUTSIDE = frozenset({Quirk.NEWLINE_OUTSIDE_FRAME})


@pytest.mark.parametrize("podman", ["4.3.1", "4.3.1-rhel", "3.4", "4.0.0-dev"])
def test_a_replay_of_podman_before_4_4_has_its_quirk(podman: str) -> None:
    seen, _ = drive(steps(WITH_LOGS), inspected(podman=podman), ACCEPTED, inspected(podman=podman))
    assert seen[1] == stream(WITH_LOGS, quirks=OUTSIDE)


@pytest.mark.parametrize(
    ("podman", "options"),
    [("4.4.0", WITH_LOGS), ("5.4.2", WITH_LOGS), ("10.0", WITH_LOGS), (None, WITH_LOGS), ("4.3.1", FOLLOW)],
)
def test_nobody_else_has_it(podman: str | None, options: AttachOptions) -> None:
    seen, _ = drive(steps(options), inspected(podman=podman), ACCEPTED, inspected(podman=podman))
    assert seen[1] == stream(options)


# ---- exec ----

LOOK = Call(Request("GET", ("exec", "e1", "json")))


def exec_steps(**given: Any) -> Steps[Opened]:
    return open_exec("e1", **{"tty": None, "console_size": None, "api_version": None, **given})


@pytest.mark.parametrize("given", [None, False, True])
@pytest.mark.parametrize("inspected_tty", [False, True])
def test_an_exec_is_looked_at_and_started(given: bool | None, inspected_tty: bool) -> None:
    response = answer(docker_exec(tty=inspected_tty))
    passes = () if inspected_tty else (PASSES,)
    seen, opened = drive(exec_steps(tty=given), response, *passes, ACCEPTED)
    assert [seen[0], seen[-1]] == [LOOK, Stream(ExecStart("e1", tty=inspected_tty if given is None else given))]
    assert opened == Opened("exec", "e1", None, InspectedExec.from_response(response), follows=True)


def test_a_console_size_reaches_the_start() -> None:
    steps = exec_steps(console_size=(24, 80), api_version="1.42")
    seen, _ = drive(steps, answer(docker_exec(tty=True)), ACCEPTED)
    assert seen[1] == Stream(ExecStart("e1", tty=True, console_size=(24, 80), api_version="1.42"))


@pytest.mark.parametrize("given", [{"tty": False}, {"tty": True, "api_version": "1.41"}])
def test_a_console_size_that_cannot_be_is_refused_before_anything_is_asked(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="console_size"):
        next(exec_steps(console_size=(24, 80), **given))


@pytest.mark.parametrize(
    "response",
    [
        answer(docker_exec(running=True)),
        answer(docker_exec(exit_code=0)),
        answer(podman_exec(running=True), podman="5.4.2"),
        answer(podman_exec(exit_code=0), podman="5.4.2"),
    ],
)
def test_an_exec_that_was_started_before_is_not_started(response: Response) -> None:
    seen, _ = drive_into(ExecAlreadyStarted, exec_steps(), response, match="e1 was started before")
    assert seen == [LOOK]


def test_an_exec_of_podmans_that_was_not_started_has_no_exit_code() -> None:
    seen, _ = drive(exec_steps(), answer(podman_exec(), podman="5.4.2"), PASSES, ACCEPTED)
    assert seen[1:] == [TryHalfClose(), Stream(ExecStart("e1", tty=False))]


@pytest.mark.parametrize(
    ("tty", "open_stdin", "ends"), [(False, True, False), (True, True, True), (True, False, False)]
)
def test_half_close_on_an_exec(tty: bool, open_stdin: bool, ends: bool) -> None:
    for shape in docker_exec, podman_exec:
        inspected = InspectedExec.from_response(answer(shape(tty=tty, open_stdin=open_stdin)))
        assert inspected.half_close_ends_attach is ends


# ---- an exec of our own ----


def create_steps(command: Sequence[str] = ("id",), *, name: str = "web", **given: Any) -> Steps[Opened]:
    nothing = {"stdin": False, "tty": False, "env": None, "user": None, "workdir": None, "api_version": None}
    return create_and_open_exec(name, command, **{**nothing, **given})


CREATED = answer({"Id": "e1", "Warnings": []}, 201)


def test_an_exec_is_created_and_started() -> None:
    seen, opened = drive(create_steps(stdin=True), CREATED, PASSES, ACCEPTED)
    assert isinstance(seen[0], Call)
    assert (seen[0].request.method, seen[0].request.target) == ("POST", "/containers/web/exec")
    assert seen[1:] == [TryHalfClose(), Stream(ExecStart("e1", tty=False))]
    assert opened == Opened("exec", "e1", None, InspectedExec(tty=False, open_stdin=True, podman=None), follows=True)


def test_which_engine_it_was_is_known_from_the_creation() -> None:
    _, opened = drive(create_steps(), answer({"Id": "e1"}, 201, podman="4.9.3"), ACCEPTED)
    assert opened.inspected == InspectedExec(tty=False, open_stdin=False, podman="4.9.3")


@pytest.mark.parametrize(
    ("given", "fields"),
    [
        ({}, {}),
        ({"stdin": True}, {"AttachStdin": True}),
        ({"tty": True}, {"Tty": True}),
        ({"env": {}}, {"Env": []}),
        ({"env": {"A": "1", "B": "="}}, {"Env": ["A=1", "B=="]}),
        ({"env": {"A": "1"}, "api_version": "1.25"}, {"Env": ["A=1"]}),
        ({"user": "root"}, {"User": "root"}),
        ({"workdir": "/srv", "api_version": "1.35"}, {"WorkingDir": "/srv"}),
    ],
)
def test_what_an_exec_is_created_of(given: dict[str, Any], fields: dict[str, Any]) -> None:
    step = next(create_steps(["sh", "-c", "exit"], **given))
    assert isinstance(step, Call)
    assert dict(step.request.headers) == {"content-type": "application/json"}
    plain = {"AttachStdin": False, "AttachStdout": True, "AttachStderr": True, "Tty": False}
    assert json.loads(step.request.body) == {**plain, "Cmd": ["sh", "-c", "exit"], **fields}


@pytest.mark.parametrize(
    ("flow", "error"),
    [
        (create_steps("id"), TypeError),
        (create_steps([]), ValueError),
        (create_steps(env={"": "1"}), ValueError),
        (create_steps(env={"A": "1"}, api_version="1.24"), ValueError),
        (create_steps(workdir="/", api_version="1.9"), ValueError),
        (create_steps(stdin=True, tty=True), HalfCloseEndsAttach),
        (create_steps(name="a/b"), ValueError),
    ],
)
def test_an_exec_that_cannot_be_is_refused_before_anything_is_asked(
    flow: Steps[Opened], error: type[Exception]
) -> None:
    with pytest.raises(error):
        next(flow)


BEHIND: list[tuple[tuple[tuple[str, str], ...], str | None]] = [
    ((("server", "nginx/1.22.1"),), "nginx"),
    ((("server", "nginx"),), "nginx"),
    ((("server", "Caddy"), ("server", "Docker/20.10.24 (linux)")), "Caddy"),
    ((("server", "Docker/29.0 (linux)"), ("via", "1.1 Caddy")), "Caddy"),
    ((("server", "Docker/20.10.24 (linux)"), ("via", "1.1 vm (squid/5.7)")), "squid"),
    ((("via", "1.1 nginx.example (Apache/2.4)"),), None),
    ((("server", "Docker/20.10.24+dfsg1 (linux)"),), None),
    ((("server", "Libpod/5.4.2 (linux)"),), None),
    ((("server", "Apache/2.4.71 (Debian)"),), None),
    ((("x-server", "nginx"),), None),
    ((), None),
]


@pytest.mark.parametrize(("headers", "name"), BEHIND)
def test_intermediaries_that_close_the_stream_at_a_half_close(
    headers: tuple[tuple[str, str], ...], name: str | None
) -> None:
    assert closing_intermediary(headers) == name
    seen: list[Step]
    created = Response(201, headers, b'{"Id": "e1"}')
    if name is None:
        drive(create_steps(stdin=True), created, PASSES, ACCEPTED)
    else:
        seen, _ = drive_into(HalfCloseEndsAttach, create_steps(stdin=True), created, match=name)
        assert len(seen) == 1, "the command was not started"
    _, opened = drive(create_steps(stdin=False), created, ACCEPTED)
    assert isinstance(opened.inspected, InspectedExec)
    assert opened.inspected.intermediary == name


DOES_NOT_PASS = False


def test_a_half_close_that_does_not_reach_the_engine_ends_no_command() -> None:
    seen, _ = drive_into(HalfCloseEndsAttach, create_steps(stdin=True), CREATED, DOES_NOT_PASS, match=UNNAMED)
    assert seen[1:] == [TryHalfClose()], "the command was not started"


def test_where_a_half_close_does_not_pass_a_stream_is_opened_all_the_same() -> None:
    """It can be read, and sent to."""
    running = inspected()
    _, attached = drive(steps(WITH_STDIN), running, DOES_NOT_PASS, ACCEPTED, running)
    _, started = drive(exec_steps(), answer(docker_exec()), DOES_NOT_PASS, ACCEPTED)
    assert (attached.inspected.intermediary, started.inspected.intermediary) == (UNNAMED, UNNAMED)


NGINX = (("server", "nginx/1.22.1"),)


@pytest.mark.parametrize(
    ("flow", "first"),
    [
        (steps(), inspected()),
        (steps(WITH_STDIN), inspected(tty=True)),
        (steps(WITH_STDIN), inspected(stdin_once=False)),
        (steps(WITH_STDIN), attrs.evolve(inspected(), headers=NGINX)),
        (exec_steps(), answer(docker_exec(open_stdin=False))),
        (exec_steps(), answer(docker_exec(tty=True))),
        (exec_steps(), attrs.evolve(answer(docker_exec()), headers=NGINX)),
        (create_steps(stdin=False), CREATED),
    ],
)
def test_a_half_close_that_nobody_wants_or_that_cannot_be_is_not_tried(flow: Steps[Opened], first: Response) -> None:
    next(flow)
    assert isinstance(flow.send(first), Stream)


def test_what_ends_without_us_may_wait_for_its_head() -> None:
    """An intermediary may send it with the first output, which the others may not live to see."""
    alone: list[StreamRequest] = [Logs("web", follow=True), ExecStart("e1", tty=False, stdin=False)]
    for request in alone:
        assert Stream(request).head_seconds is None
    others: list[StreamRequest] = [Attach("web"), Attach("web", WITH_STDIN), ExecStart("e1", tty=False, stdin=True)]
    for other in others:
        assert Stream(other).head_seconds == STREAM_HEAD_SECONDS


@pytest.mark.parametrize("body", ["", "[]", "{}", '{"Id": 7}', '{"Id": null}', '"e1"'])
def test_a_creation_without_an_id(body: str) -> None:
    with pytest.raises(RemoteProtocolError):
        created_id("exec", Response(201, (), body.encode()))


# ---- logs ----


@pytest.mark.parametrize("has_tty", [False, True])
def test_logs_are_looked_at_and_read(has_tty: bool) -> None:
    seen, opened = drive(open_logs(Logs("web", tail=3)), inspected(tty=has_tty), ACCEPTED)
    assert seen == [INSPECT, Stream(Logs("web", tail=3, tty=has_tty))]
    assert opened == Opened("containers", "web", None, InspectedContainer.from_response(inspected(tty=has_tty)))


@pytest.mark.parametrize(("status", "code"), [("exited", 7), ("dead", 7), ("running", None)])
def test_the_exit_code_of_what_logs(status: str, code: int | None) -> None:
    _, opened = drive(open_logs(Logs("web")), inspected(status=status, exit_code=7), ACCEPTED)
    assert opened.exit_code == code


def test_logs_of_what_was_never_started_wait_for_its_first_exit() -> None:
    seen, opened = drive(open_logs(Logs("web")), inspected(status="created"), HEAD, ACCEPTED)
    assert seen == [INSPECT, NEXT_EXIT, Stream(Logs("web", tty=False))]
    assert opened.exit_code is None


def test_logs_of_what_podman_has_reset_have_no_exit_code() -> None:
    _, opened = drive(open_logs(Logs("web")), inspected(status="exited", exit_code=-1), ACCEPTED)
    assert opened.exit_code is None
    assert opened.exit_code_lost


def test_logs_of_old_podman_have_no_quirk() -> None:
    seen, _ = drive(open_logs(Logs("web")), inspected(podman="4.3.1"), ACCEPTED)
    assert seen[1] == Stream(Logs("web", tty=False))


# ---- the API's version ----

LIFE = Life(contextlib.nullcontext())
EXEC = InspectedExec(tty=False, open_stdin=True, podman=None)
VERSION = Call(Request("GET", ("version",)))
BAD = answer({"message": "client version 1.99 is too new"}, 400)


@pytest.mark.parametrize(
    "flow",
    [
        steps(api_version="1.99"),
        exec_steps(api_version="1.99"),
        create_steps(api_version="1.99"),
        Ending(Opened("exec", "e1", "1.99", EXEC, follows=True), lambda: (b"", b""), LIFE).wait(),
        open_logs(Logs("web", api_version="1.99")),
    ],
)
def test_a_version_outside_of_the_engines_range(flow: Steps[Any]) -> None:
    known = answer({"ApiVersion": "1.51", "MinAPIVersion": "1.24"})
    seen, error = drive_into(ApiVersionRejected, flow, BAD, known, match=r"1\.99 .* 1\.24 to 1\.51")
    assert seen[1] == VERSION
    assert isinstance(error, ApiVersionRejected)
    assert (error.oldest, error.newest, error.message) == ("1.24", "1.51", "client version 1.99 is too new")


@pytest.mark.parametrize(
    ("asked", "is_told"), [("1.23", True), ("1.24", False), ("1.5", True), ("1.51", False), ("2.0", True)]
)
def test_versions_are_compared_by_their_parts(asked: str, is_told: bool) -> None:
    known = answer({"ApiVersion": "1.51", "MinAPIVersion": "1.24"})
    _, error = drive_into(RequestRejected, steps(api_version=asked), BAD, known)
    assert isinstance(error, ApiVersionRejected) is is_told


@pytest.mark.parametrize("status_code", [400, 404, 500])
def test_a_refusal_without_a_version_is_no_reason_to_ask(status_code: int) -> None:
    seen, _ = drive_into(RequestRejected, steps(), answer({"message": "no"}, status_code))
    assert seen == [INSPECT]


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        {"ApiVersion": "1.51"},
        {"ApiVersion": 1.51, "MinAPIVersion": 1.24},
        {"ApiVersion": "x", "MinAPIVersion": ""},
    ],
)
def test_a_range_that_is_none(value: object) -> None:
    assert version_range(answer(value)) is None
    drive_into(RequestRejected, steps(api_version="1.99"), BAD, answer(value), match="too new")


# ---- refusals ----

NO_SUCH = Response(404, (("content-type", "application/json"),), b'{"message":"No such container: web"}')
GONE = Rejected(404, (("content-type", "application/vnd.docker.raw-stream"),), b"No such container: web\r\n")


@pytest.mark.parametrize(
    ("kwargs", "answers", "asked"),
    [
        ({}, (NO_SUCH,), "GET /containers/web/json"),
        ({}, (inspected(), GONE, NO_SUCH), "POST /containers/web/attach"),
        ({"wait": True}, (inspected(), NO_SUCH), "POST /containers/web/wait"),
        ({"start": True}, (inspected(), GONE), "POST /containers/web/attach"),
        ({"start": True}, (inspected(), ACCEPTED, NO_SUCH), "POST /containers/web/wait"),
        ({"start": True}, (inspected(), ACCEPTED, HEAD, NO_SUCH), "POST /containers/web/start"),
        ({"options": WITH_LOGS}, (inspected(status="exited"), GONE), "GET /containers/web/logs"),
    ],
)
def test_refusal_at_any_step(kwargs: dict[str, Any], answers: Sequence[object], asked: str) -> None:
    _, error = drive_into(RequestRejected, steps(**kwargs), *answers)
    assert isinstance(error, RequestRejected)
    assert error.status_code == 404
    assert error.message == "No such container: web"
    assert str(error) == f"No such container: web (404 to {asked})"


@pytest.mark.parametrize("status_code", [301, 304, 400, 500])
def test_only_a_start_may_be_answered_with_304(status_code: int) -> None:
    drive_into(RequestRejected, steps(), Response(status_code), match=str(status_code))


@pytest.mark.parametrize("status_code", [400, 500])
def test_failed_start(status_code: int) -> None:
    refusal = Response(status_code, (), b'{"message":"OCI runtime create failed"}')
    _, error = drive_into(RequestRejected, steps(start=True), inspected(), ACCEPTED, HEAD, refusal)
    assert isinstance(error, RequestRejected)
    assert (error.status_code, error.message) == (status_code, "OCI runtime create failed")


def test_refusal_without_a_text_says_so() -> None:
    _, error = drive_into(RequestRejected, steps(), Response(500))
    assert str(error) == "no reason given (500 to GET /containers/web/json)"


def test_unknown_framing_says_what_to_do() -> None:
    drive_into(LocalProtocolError, steps(), inspected(), Accepted(None), match="tty=")


# ---- what inspect says ----


@pytest.mark.parametrize(
    ("tty", "open_stdin", "stdin_once", "podman", "ends"),
    [
        # dockerd: only StdinOnce without a TTY takes a half-close for the end of stdin and for no more.
        (False, True, True, False, False),
        (False, True, False, False, True),
        (True, True, True, False, True),
        (True, True, False, False, True),
        # Podman takes it for the end of stdin in any case; with a TTY there is no end of stdin.
        (False, True, True, True, False),
        (False, True, False, True, False),
        (True, True, True, True, True),
        (True, True, False, True, True),
        # Nobody reads stdin, and nobody looks for its end.
        (False, False, False, False, False),
        (False, False, True, False, False),
        (True, False, False, False, False),
        (False, False, False, True, False),
        (True, False, False, True, False),
    ],
)
def test_half_close_ends_attach(tty: bool, open_stdin: bool, stdin_once: bool, podman: bool, ends: bool) -> None:
    version = "5.4.2" if podman else None
    response = inspected(tty=tty, open_stdin=open_stdin, stdin_once=stdin_once, podman=version)
    assert InspectedContainer.from_response(response).half_close_ends_attach is ends


def test_facts() -> None:
    facts: dict[str, Any] = {"tty": True, "open_stdin": True, "stdin_once": False, "status": "exited", "exit_code": 137}
    facts |= {"log_driver": "none", "started_at": "2026-11-29T18:00:00.123456789Z", "restart_count": 2}
    response = inspected(**facts, podman="5.4.2")
    assert InspectedContainer.from_response(response) == InspectedContainer(**facts, podman="5.4.2")


@pytest.mark.parametrize("host", [None, {}, {"LogConfig": None}, {"LogConfig": {}}, {"LogConfig": {"Type": None}}])
def test_a_log_driver_that_inspect_does_not_name(host: object) -> None:
    response = answer({**container(), "HostConfig": host})
    assert InspectedContainer.from_response(response).log_driver == ""


def test_facts_that_an_engine_leaves_out() -> None:
    inspected = InspectedContainer.from_response(
        Response(200, (), b'{"Config": {"Tty": false, "OpenStdin": null}, "State": {"Status": "created"}}')
    )
    assert inspected == InspectedContainer(
        tty=False, open_stdin=False, stdin_once=False, status="created", exit_code=0, podman=None
    )


# ---- what a wait says ----


def waited(body: str) -> int:
    return exit_code(Response(200, (), body.encode()))


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ('{"StatusCode":7}\n', 7),  # dockerd 26 and 28
        ('{"Error":null,"StatusCode":3}\n', 3),  # dockerd 20
        ('{"StatusCode":137,"Error":{"Message":""}}', 137),
        ('{"StatusCode":0,"Error":{}}', 0),
    ],
)
def test_exit_code(body: str, code: int) -> None:
    assert waited(body) == code


def test_exit_code_that_the_engine_cannot_tell() -> None:
    with pytest.raises(ExitCodeUnknown, match=r"could not wait.*container is gone"):
        waited('{"StatusCode":0,"Error":{"Message":"container is gone"}}')  # Podman 4.3 of a container that was removed
    with pytest.raises(ExitCodeUnknown, match="-1"):
        waited('{"StatusCode":-1,"Error":null}\n')  # Podman of a container that has not run, or was reset


# ---- answers that are none ----

NO_JSON = ["", "<html>404</html>", "{", "\xff", "[" * 100_000]
NOT_AN_OBJECT = ["null", "[]", "7", '"text"', "{}"]


@pytest.mark.parametrize("body", NO_JSON, ids=lambda body: repr(body[:10]))
@pytest.mark.parametrize("read", [InspectedContainer.from_response, exit_code])
def test_no_json(read: Callable[[Response], object], body: str) -> None:
    with pytest.raises(RemoteProtocolError, match="is not JSON"):
        read(Response(200, (), body.encode("latin-1")))


def without(section: str, field: str) -> str:
    value = container()
    del value[section][field]
    return json.dumps(value)


def with_(section: str, field: str, what: object) -> str:
    value = container()
    value[section][field] = what
    return json.dumps(value)


@pytest.mark.parametrize(
    "body",
    [
        *NOT_AN_OBJECT,
        '{"Config": {"Tty": false}}',
        '{"Config": null, "State": {"Status": "running"}}',
        '{"Config": {"Tty": false}, "State": "running"}',
        without("Config", "Tty"),
        without("State", "Status"),
        with_("State", "ExitCode", None),
        with_("State", "ExitCode", "seven"),
        with_("State", "ExitCode", float("inf")),
        with_("HostConfig", "LogConfig", "none"),
        with_("HostConfig", "LogConfig", {"Type": 1}),
    ],
)
def test_inspect_without_the_fields(body: str) -> None:
    with pytest.raises(RemoteProtocolError, match="answer to inspect"):
        InspectedContainer.from_response(Response(200, (), body.encode()))


@pytest.mark.parametrize(
    "body",
    [
        *NOT_AN_OBJECT,
        '{"StatusCode": null}',
        '{"StatusCode": "seven"}',
        '{"StatusCode": Infinity}',
        '{"StatusCode": 0, "Error": "text"}',
    ],
)
def test_wait_without_the_fields(body: str) -> None:
    with pytest.raises(RemoteProtocolError, match="answer to wait"):
        waited(body)


def test_a_bad_inspect_ends_the_sequence() -> None:
    seen, _ = drive_into(RemoteProtocolError, steps(), Response(200, (), b"<html>a proxy's page</html>"))
    assert seen == [INSPECT]
