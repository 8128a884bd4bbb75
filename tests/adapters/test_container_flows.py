"""The flows around a container: which calls they make, and what is removed, driven by hand without a socket."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import attrs
import pytest

from attachproto import AttachOptions, ExecStart, Reason, RemoteProtocolError, Request, Response
from attachproto_adapters import (
    ContainerNotRunning,
    EngineUnreachable,
    HalfCloseEndsAttach,
    ImageNotFound,
    RequestRejected,
)
from attachproto_adapters._errors import unreachable
from attachproto_adapters._flows._container_calls import RUN_LABEL, create_request, kill_request, remove_request
from attachproto_adapters._flows._containers import create_container, kill_container, remove_container
from attachproto_adapters._flows._flows import create_and_open_exec
from attachproto_adapters._flows._run import ContainerRun
from attachproto_adapters._flows._steps import Call, Pause, Step, Steps, Stream, TryHalfClose
from tests.adapters.test_flows import ACCEPTED, HEAD, NO_SUCH, PASSES, STARTED, answer, drive, drive_into, inspected

GONE = Response(204)
CREATED = answer({"Id": "c1", "Warnings": []}, 201)
NO_IMAGE = answer({"message": "No such image: busybox:latest"}, 404)
TAKEN = answer({"message": 'Conflict. The container name "/web" is already in use by container "c9".'}, 409)
NOT_RUNNING = answer({"message": "container c1 is not running"}, 409)

INSPECT = Call(Request("GET", ("containers", "c1", "json")))
KILL = Call(Request("POST", ("containers", "c1", "kill"), (("signal", "KILL"),)))
REMOVE = Call(Request("DELETE", ("containers", "c1"), (("force", "1"), ("v", "1"))))


def body(request: Request) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(request.body)
    return found


def create(**options: Any) -> Request:
    return create_request("busybox", ["true"], api_version=None, **options)


# ---- create ----


def test_what_is_created() -> None:
    request = create()
    assert (request.method, request.target) == ("POST", "/containers/create")
    assert dict(request.headers)["content-type"] == "application/json"
    assert body(request) == {
        "Image": "busybox",
        "Cmd": ["true"],
        "Tty": False,
        "OpenStdin": False,
        "StdinOnce": False,
        "AttachStdin": False,
        "AttachStdout": True,
        "AttachStderr": True,
    }


def test_every_option_has_its_field() -> None:
    request = create(
        stdin=True, tty=True, console_size=(33, 77), env={"A": "b=c"}, user="1:2", workdir="/srv", name="web", label="t"
    )
    assert request.target == "/containers/create?name=web"
    found = body(request)
    assert (found["OpenStdin"], found["StdinOnce"], found["AttachStdin"]) == (True, True, True)
    assert (found["Tty"], found["HostConfig"]) == (True, {"ConsoleSize": [33, 77]})
    assert (found["Env"], found["User"], found["WorkingDir"]) == (["A=b=c"], "1:2", "/srv")
    assert found["Labels"] == {RUN_LABEL: "t"}


def test_an_empty_command_leaves_the_images_own() -> None:
    assert "Cmd" not in body(create_request("busybox", (), api_version="1.41"))


def test_config_is_merged_and_wins() -> None:
    config = {
        "Tty": True,
        "HostConfig": {"Memory": 2**29, "Mounts": [{"Type": "tmpfs"}]},
        "Labels": {"mine": "1"},
        "Healthcheck": {"Test": ["NONE"]},
    }
    found = body(create(tty=True, console_size=(1, 2), label="t", config=config))
    assert found["HostConfig"] == {"ConsoleSize": [1, 2], "Memory": 2**29, "Mounts": [{"Type": "tmpfs"}]}
    assert found["Labels"] == {RUN_LABEL: "t", "mine": "1"}
    assert found["Healthcheck"] == {"Test": ["NONE"]}
    assert body(create(env={"A": "1"}, config={"Env": ["B=2"]}))["Env"] == ["B=2"]
    assert config["Labels"] == {"mine": "1"}  # the caller's is left alone


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"command": "true"}, TypeError),
        ({"command": ["a\0b"]}, ValueError),
        ({"image": ""}, ValueError),
        ({"image": 7}, TypeError),
        ({"name": "../x"}, ValueError),
        ({"tty": 1}, TypeError),
        ({"stdin": "yes"}, TypeError),
        ({"console_size": (24, 80)}, ValueError),
        ({"console_size": [24, 80], "tty": True}, TypeError),
        ({"console_size": (24, -1), "tty": True}, ValueError),
        ({"env": {"A=": "b"}}, ValueError),
        ({"user": 0}, TypeError),
        ({"config": ["Image"]}, TypeError),
        ({"config": {1: 2}}, TypeError),
        ({"config": {"HostConfig": {1: 2}}}, TypeError),
        ({"config": {"HostConfig": object()}}, TypeError),
        ({"config": {"HostConfig": float("nan")}}, ValueError),
    ],
)
def test_what_cannot_be_created(options: dict[str, Any], error: type[Exception]) -> None:
    options = {"image": "busybox", "command": ["true"]} | options
    with pytest.raises(error):
        create_request(options.pop("image"), options.pop("command"), api_version=None, **options)


def test_a_config_that_is_part_of_itself() -> None:
    of_dicts: dict[str, Any] = {}
    of_dicts["HostConfig"] = of_dicts
    of_lists: list[Any] = []
    of_lists.append(of_lists)
    for config in (of_dicts, {"HostConfig": {"Binds": of_lists}}):
        with pytest.raises(ValueError, match=r"itself|[Cc]ircular"):
            create(config=config)


def test_creating_gives_the_id() -> None:
    request = create()
    assert drive(create_container(request), CREATED) == ([Call(request)], "c1")
    drive_into(RemoteProtocolError, create_container(request), answer({"Warnings": []}, 201))


@pytest.mark.parametrize(
    "message",
    [
        "No such image: busybox:latest",  # dockerd
        "no such image: docker.io/library/busybox: image not known",  # Podman
    ],
)
def test_a_missing_image_says_what_to_do(message: str) -> None:
    _, error = drive_into(ImageNotFound, create_container(create()), answer({"message": message}, 404))
    assert isinstance(error, ImageNotFound)
    assert (error.image, error.remedy, error.status_code) == ("busybox", "docker pull busybox", 404)
    assert str(error).endswith(": docker pull busybox")


def test_another_404_is_no_missing_image() -> None:
    answered = answer({"message": "No such container: other"}, 404)  # of VolumesFrom, for instance
    _, error = drive_into(RequestRejected, create_container(create()), answered)
    assert not isinstance(error, ImageNotFound)


# ---- kill and remove ----


def test_kill() -> None:
    assert drive(kill_container("c1", "KILL", None), Response(204)) == ([KILL], None)
    drive_into(RequestRejected, kill_container("c1", "TERM", None), NOT_RUNNING)


def test_remove_with_force_kills_first() -> None:
    """Podman 5 would give the process ten seconds, although ``force`` is set."""
    flow = remove_container("c1", force=True, volumes=True, api_version=None)
    assert drive(flow, NOT_RUNNING, GONE) == ([KILL, REMOVE], None)


def test_remove_without_force() -> None:
    request = Request("DELETE", ("containers", "c1"), (("force", "0"), ("v", "0")))
    flow = remove_container("c1", force=False, volumes=False, api_version=None)
    assert drive(flow, GONE) == ([Call(request)], None)
    flow = remove_container("c1", force=False, volumes=False, api_version=None)
    drive_into(RequestRejected, flow, answer({"message": "it runs"}, 409))


def test_removing_what_may_be_missing() -> None:
    def removing() -> Steps[None]:
        return remove_container("c1", force=False, volumes=False, api_version=None, missing_ok=True)

    drive(removing(), NO_SUCH)
    drive(removing(), GONE)
    drive_into(RequestRejected, removing(), answer({"message": "it runs"}, 409))
    with pytest.raises(TypeError, match="missing_ok is True or False, not 1"):
        next(remove_container("c1", force=False, volumes=False, api_version=None, missing_ok=1))  # type: ignore[arg-type]


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="name"):
        kill_request("a/b", "KILL", None)
    with pytest.raises(ValueError, match="empty"):
        kill_request("c1", "", None)
    with pytest.raises(TypeError):
        kill_request("c1", 9, None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="name"):
        remove_request("a/b", force=True, volumes=True, api_version=None)
    with pytest.raises(TypeError):
        remove_request("c1", force=1, volumes=True, api_version=None)  # type: ignore[arg-type]


# ---- an exec of one's own ----


def open_exec(**options: Any) -> Steps[Any]:
    return create_and_open_exec("web", ["sh"], api_version=None, stdin_must_end=False, **options)


def test_an_exec_with_a_terminal_and_stdin() -> None:
    flow = open_exec(stdin=True, tty=True, console_size=(24, 80))
    seen, opened = drive(flow, answer({"Id": "e1"}, 201), ACCEPTED)
    assert seen[1:] == [Stream(ExecStart("e1", tty=True, stdin=True, console_size=(24, 80)))]
    assert (opened.kind, opened.name, opened.follows) == ("exec", "e1", True)


def test_an_intermediary_is_noted_and_does_not_refuse() -> None:
    seen, opened = drive(open_exec(stdin=True), answer({"Id": "e1"}, 201), not PASSES, ACCEPTED)
    assert seen[1] == TryHalfClose()
    assert opened.inspected.intermediary is not None


def test_a_size_without_a_terminal() -> None:
    with pytest.raises(ValueError, match="console_size"):
        next(open_exec(stdin=False, console_size=(24, 80)))
    with pytest.raises(TypeError):
        next(open_exec(stdin=1))


# ---- run ----


def a_run(name: str | None = None, **options: Any) -> ContainerRun:
    given: dict[str, Any] = {"stdin": False, "remove": True, "console_size": None, "config": None, "api_version": None}
    return ContainerRun("busybox", ["true"], token="7f", name=name, **given | options)


def created_run(**options: Any) -> ContainerRun:
    run = a_run(**options)
    drive(run.create(), CREATED)
    return run


def started(run: ContainerRun) -> list[Step]:
    return drive(run.open(), inspected(status="created"), ACCEPTED, HEAD, STARTED)[0]


def test_a_run_that_was_not_created_has_nothing_to_remove() -> None:
    assert drive(a_run().clean_up()) == ([], None)


def test_a_run_is_created_started_and_removed() -> None:
    run = a_run()
    (created,), _ = drive(run.create(), CREATED)
    assert isinstance(created, Call)
    assert created.request.target == "/containers/create?name=attachproto-7f"
    assert "Labels" not in body(created.request)
    assert started(run)[0] == INSPECT
    run.ended = True  # its exit code is known
    assert drive(run.clean_up(), GONE) == ([REMOVE], None)
    assert drive(run.clean_up()) == ([], None)


def test_a_run_that_was_not_started_is_not_killed() -> None:
    assert drive(created_run().clean_up(), GONE) == ([REMOVE], None)


def test_a_run_that_goes_on_is_killed() -> None:
    run = created_run()
    started(run)
    assert drive(run.clean_up(), inspected(), Response(204), GONE) == ([INSPECT, KILL, REMOVE], None)
    assert run.ended


@pytest.mark.parametrize("status", ["created", "exited"])
def test_a_run_whose_start_was_refused_is_not_killed(status: str) -> None:
    run = created_run()
    missing = answer({"message": "executable file not found in $PATH"}, 400)
    drive_into(RequestRejected, run.open(), inspected(status="created"), ACCEPTED, HEAD, missing)
    assert drive(run.clean_up(), inspected(status=status), GONE) == ([INSPECT, REMOVE], None)


def test_a_run_that_is_kept_is_only_killed() -> None:
    run = created_run(remove=False)
    started(run)
    seen, _ = drive(run.clean_up(), inspected(), Response(204), None, inspected(), None, inspected(status="exited"))
    assert [each for each in seen if not isinstance(each, Pause)] == [INSPECT, KILL, INSPECT, INSPECT]
    assert run.ended
    kept = created_run(remove=False)
    started(kept)
    kept.ended = True
    assert drive(kept.clean_up()) == ([], None)


def test_a_run_that_does_not_end_when_it_is_killed() -> None:
    run = created_run(remove=False)
    started(run)
    seen = answered_alike(run.clean_up(), inspected())
    assert seen.count(KILL) == 1
    assert not run.ended
    assert not run.timed_out(1.0).ended


@pytest.mark.parametrize("remove", [True, False])
@pytest.mark.parametrize(
    ("answers", "fate"),
    [
        ([inspected(status="created")], "was not started"),
        ([inspected(status="exited")], "has ended"),
        ([inspected(), Response(204), None, inspected(status="exited")], "was killed"),
        ([NO_SUCH], "is gone"),
    ],
)
def test_a_timeout_says_what_became_of_the_container(remove: bool, answers: list[Any], fate: str) -> None:
    run = created_run(remove=remove)
    started(run)
    if remove:
        answers = [*(each for each in answers[:2]), GONE]
    drive(run.clean_up(), *answers)
    assert str(run.timed_out(1.0)).endswith(f"its container attachproto-7f {fate}")


def test_a_timeout_before_the_start_does_not_say_that_the_container_was_killed() -> None:
    run = created_run()
    drive(run.clean_up(), GONE)
    error = run.timed_out(1.0)
    assert "was not started" in str(error)
    assert error.ended


def test_a_run_that_can_be_neither_killed_nor_removed_may_go_on() -> None:
    """By a proxy that allows neither."""
    run = created_run()
    started(run)
    with pytest.raises(RequestRejected):
        answered_alike(run.clean_up(), Response(403))
    error = run.timed_out(1.0)
    assert not error.ended
    assert str(error).endswith("its container attachproto-7f may go on")


@pytest.mark.parametrize("status_code", [403, 502])
def test_a_run_whose_inspect_is_refused_is_killed_and_may_go_on(status_code: int) -> None:
    """By a proxy."""
    run = created_run(remove=False)
    started(run)
    seen = answered_alike(run.clean_up(), Response(status_code))
    assert seen.count(KILL) == 1
    assert not run.ended


@pytest.mark.parametrize(
    "refusal",
    [
        NO_IMAGE,
        TAKEN,
        answer({"message": "the container name is already in use", "cause": "in use"}, 500),  # Podman
    ],
)
def test_what_was_not_created_is_not_removed(refusal: Response) -> None:
    run = a_run("web")
    drive_into(RequestRejected, run.create(), refusal)
    assert drive(run.clean_up()) == ([], None)


@pytest.mark.parametrize("status_code", [502, 503, 504])
@pytest.mark.parametrize("labels", [{}, {RUN_LABEL: "7f"}])
def test_a_creation_that_a_proxy_gave_up_is_looked_for(status_code: int, labels: Mapping[str, str]) -> None:
    run = a_run("web")
    drive_into(RequestRejected, run.create(), Response(status_code))
    answers = [named(inspected(status="created"), **labels), *([GONE] if labels else [])]
    seen, _ = drive(run.clean_up(), *answers)
    assert seen == [looked_for("web"), *([REMOVE] if labels else [])]


def test_whether_there_is_one_may_stay_unknown() -> None:
    run = a_run()
    drive_into(RequestRejected, run.create(), Response(504))
    with pytest.raises(RequestRejected, match="504 to GET"):
        answered_alike(run.clean_up(), Response(504))
    assert not run.removed


def interrupted(name: str | None = None) -> ContainerRun:
    """A run whose creation was sent, and never answered."""
    run = a_run(name)
    next(run.create())
    return run


def named(of: Response, **labels: str) -> Response:
    document = json.loads(of.body)
    document["Id"] = "c1"
    document["Config"]["Labels"] = labels or None
    return attrs.evolve(of, body=json.dumps(document).encode())


def looked_for(name: str) -> Call:
    return Call(Request("GET", ("containers", name, "json")))


@pytest.mark.parametrize(
    "found",
    [
        {},
        [],
        None,
        {"Id": "c1"},
        {"Config": {}},
        {"Config": None, "Id": "c1"},
        {"Config": {"Labels": []}, "Id": "c1"},
        {"Config": {"Labels": {}}, "Id": ".."},
        {"Config": {"Labels": {}}, "Id": ["c1"]},
    ],
)
def test_what_is_found_may_be_no_container_at_all(found: object) -> None:
    """Found by fuzzing: a proxy's document raised KeyError, and the ID of a container went unchecked into a path."""
    _, error = drive_into(RemoteProtocolError, interrupted().clean_up(), answer(found))
    assert isinstance(error, RemoteProtocolError)
    assert error.reason is Reason.BAD_DOCUMENT


def test_a_creation_that_was_not_answered_is_found_by_its_name() -> None:
    found = named(inspected(status="created"))
    seen, _ = drive(interrupted().clean_up(), found, GONE)
    assert seen == [looked_for("attachproto-7f"), REMOVE]


def test_a_creation_that_was_not_answered_may_come_late() -> None:
    found = named(inspected(status="created"))
    seen, _ = drive(interrupted().clean_up(), NO_SUCH, None, found, GONE)
    assert [type(each) for each in seen] == [Call, Pause, Call, Call]
    assert seen[-1] == REMOVE


def answered_alike(flow: Steps[None], response: Response) -> list[Step]:
    """Drive a flow whose calls all get the same answer; its steps."""
    seen = [next(flow)]
    try:
        while True:
            seen.append(flow.send(None if isinstance(seen[-1], Pause) else response))
    except StopIteration:
        return seen


def test_a_creation_that_never_came() -> None:
    seen = answered_alike(interrupted().clean_up(), NO_SUCH)
    assert seen.count(looked_for("attachproto-7f")) > 3
    assert {type(each) for each in seen} == {Call, Pause}


@pytest.mark.parametrize(("labels", "removed"), [({}, False), ({RUN_LABEL: "99"}, False), ({RUN_LABEL: "7f"}, True)])
def test_a_name_of_the_callers_is_ours_only_with_our_label(labels: Mapping[str, str], removed: bool) -> None:
    run = interrupted("web")
    answers = [named(inspected(status="created"), **labels), *([GONE] if removed else [])]
    seen, _ = drive(run.clean_up(), *answers)
    assert seen == [looked_for("web"), *([REMOVE] if removed else [])]


def test_a_removal_that_is_under_way_is_waited_for() -> None:
    run = created_run()
    busy = answer({"message": "removal of container c1 is already in progress"}, 409)
    seen, _ = drive(run.clean_up(), busy, None, busy, None, NO_SUCH)
    assert [type(each) for each in seen] == [Call, Pause, Call, Pause, Call]


def test_a_removal_that_is_refused_for_good() -> None:
    run, busy = created_run(), answer({"message": "device or resource busy"}, 500)
    with pytest.raises(RequestRejected, match="busy"):
        answered_alike(run.clean_up(), busy)
    assert not run.removed


def test_an_interrupted_clean_up_can_be_made_again() -> None:
    run = created_run()
    started(run)
    first = run.clean_up()
    next(first)
    first.send(inspected())
    first.close()
    assert drive(run.clean_up(), inspected(status="exited"), GONE) == ([INSPECT, REMOVE], None)


RESIZE = Call(Request("POST", ("containers", "c1", "resize"), (("h", "33"), ("w", "77"))))
START = Call(Request("POST", ("containers", "c1", "start")))


def late() -> EngineUnreachable:
    """A connect that took too long."""
    try:
        raise unreachable("tcp://engine", "timed out") from TimeoutError()
    except EngineUnreachable as exc:
        return exc


@pytest.mark.parametrize(
    ("failure", "again"),
    [
        (ConnectionResetError(), True),
        (unreachable("tcp://engine", "TLS failed: unexpected eof while reading"), True),
        (RequestRejected(500, "busy", "DELETE"), False),
        (TimeoutError(), False),
        (late(), False),
    ],
)
def test_which_failures_of_a_clean_up_are_tried_again(failure: Exception, again: bool) -> None:
    run = created_run()
    started(run)
    next(run.clean_up())
    assert run.may_try_again(failure) is again
    assert not run.may_try_again(failure)


def test_after_a_broken_connection_it_is_killed_without_a_look() -> None:
    run = created_run()
    started(run)
    next(run.clean_up())
    assert run.may_try_again(ConnectionResetError())
    assert drive(run.clean_up(), NOT_RUNNING, GONE) == ([KILL, REMOVE], None)


@pytest.mark.parametrize(
    ("first", "after"),
    [
        (Response(200), []),  # Podman, where the attach has made the terminal
        (NOT_RUNNING, [RESIZE]),  # dockerd
    ],
)
def test_the_size_is_there_as_early_as_the_engine_takes_it(first: Response, after: list[Step]) -> None:
    flow = created_run(tty=True, console_size=(33, 77)).open()
    answers = [inspected(status="created", tty=True), ACCEPTED, HEAD, first, STARTED, *(Response(200) for _ in after)]
    assert drive(flow, *answers)[0][3:] == [RESIZE, START, *after]


def test_stdin_is_attached_if_there_is_input() -> None:
    run = created_run(stdin=True)
    flow = run.open()
    next(flow)
    stream = flow.send(inspected(status="created", open_stdin=True, stdin_once=True))
    stream = flow.send(PASSES) if isinstance(stream, TryHalfClose) else stream
    assert isinstance(stream, Stream)
    assert getattr(stream.request, "options", None) == AttachOptions(stdin=True)


def test_input_and_a_terminal() -> None:
    with pytest.raises(HalfCloseEndsAttach):
        a_run(stdin=True, tty=True)


def test_an_exec_in_a_container_that_does_not_run() -> None:
    flow = open_exec(stdin=False)
    drive_into(ContainerNotRunning, flow, NOT_RUNNING, inspected(status="exited"))
