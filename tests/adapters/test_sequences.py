"""The order of the calls, and what their answers mean: driven by hand, without a socket."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from attachproto import (
    Accepted,
    Attach,
    AttachOptions,
    Framing,
    LocalProtocolError,
    Rejected,
    RemoteProtocolError,
    Request,
    Response,
    ResponseHead,
)
from attachproto_adapters import AttachError, ContainerNotRunning, RequestRejected
from attachproto_adapters._container import ContainerFacts
from attachproto_adapters._sequences import Call, Hold, Opened, Step, Steps, Stream, exit_code, open_attach
from tests.adapters.scripted import container

ACCEPTED = Accepted(Framing.MULTIPLEXED)
HEAD = ResponseHead(200)
STARTED = Response(204)

INSPECT = Call(Request("GET", ("containers", "web", "json")))
START = Call(Request("POST", ("containers", "web", "start")))
NEXT_EXIT = Hold(Request("POST", ("containers", "web", "wait"), (("condition", "next-exit"),)))
NOT_RUNNING = Hold(Request("POST", ("containers", "web", "wait"), (("condition", "not-running"),)))

FOLLOW = AttachOptions()
WITH_LOGS = AttachOptions(logs=True)


def stream(options: AttachOptions = FOLLOW, *, tty: bool = False) -> Stream:
    return Stream(Attach("web", options, tty=tty))


REPLAY = stream(AttachOptions(logs=True, stream=False))


def inspected(status_code: int = 200, *, podman: bool = False, **facts: Any) -> Response:
    headers = (("libpod-api-version", "5.4.2"),) if podman else ()
    return Response(status_code, headers, json.dumps(container(**facts)).encode())


def steps(
    options: AttachOptions = FOLLOW,
    *,
    tty: bool | None = None,
    start: bool = False,
    wait: bool = False,
    api_version: str | None = None,
) -> Steps:
    return open_attach("web", options, tty=tty, start=start, wait=wait, api_version=api_version)


def drive(sequence: Steps, *answers: object) -> tuple[list[Step], Opened]:
    """Answers each step in turn; the sequence must end with the last answer."""
    seen: list[Step] = []
    pending = iter(answers)
    try:
        step = next(sequence)
        while True:
            seen.append(step)
            step = sequence.send(next(pending))
    except StopIteration as stop:
        assert next(pending, None) is None, f"it ended after {seen}"
        opened = stop.value
    assert isinstance(opened, Opened), f"no answer for {seen[-1]}"
    return seen, opened


def drive_into(
    error: type[Exception], sequence: Steps, *answers: object, match: str | None = None
) -> tuple[list[Step], Exception]:
    """The same, for a sequence that must raise on the last answer, and not before."""
    seen: list[Step] = [next(sequence)]
    for answer in answers[:-1]:
        seen.append(sequence.send(answer))
    with pytest.raises(error, match=match) as caught:
        sequence.send(answers[-1])
    return seen, caught.value


# ---- the order ----


def test_start_attaches_holds_the_wait_and_then_starts() -> None:
    seen, opened = drive(steps(start=True), inspected(status="created"), ACCEPTED, HEAD, STARTED)
    assert seen == [INSPECT, stream(), NEXT_EXIT, START]
    assert opened.facts.status == "created"
    assert opened.exit_code is None


def test_start_of_a_container_that_has_exited_runs_it_again() -> None:
    seen, opened = drive(steps(start=True), inspected(status="exited", exit_code=3), ACCEPTED, HEAD, STARTED)
    assert seen == [INSPECT, stream(), NEXT_EXIT, START]
    assert opened.exit_code is None, "the code of the run before"


def test_start_of_a_container_that_runs_already_is_no_error() -> None:
    seen, _ = drive(steps(start=True), inspected(), ACCEPTED, HEAD, Response(304))
    assert seen == [INSPECT, stream(), NEXT_EXIT, START]


def test_running_is_looked_at_again_after_the_attach() -> None:
    seen, opened = drive(steps(), inspected(), ACCEPTED, inspected())
    assert seen == [INSPECT, stream(), INSPECT]
    assert opened == Opened("web", None, ContainerFacts.from_response(inspected()), None)


def test_running_with_wait_holds_it_before_the_attach() -> None:
    seen, _ = drive(steps(wait=True), inspected(), HEAD, ACCEPTED, inspected())
    assert seen == [INSPECT, NOT_RUNNING, stream(), INSPECT]


def test_created_may_be_attached_to() -> None:
    seen, opened = drive(steps(), inspected(status="created"), ACCEPTED, inspected(status="created"))
    assert seen == [INSPECT, stream(), INSPECT]
    assert opened.exit_code is None


def test_created_with_wait_asks_for_the_next_exit() -> None:
    seen, _ = drive(steps(wait=True), inspected(status="created"), HEAD, ACCEPTED, inspected(status="created"))
    assert seen == [INSPECT, NEXT_EXIT, stream(), INSPECT]


@pytest.mark.parametrize("status", ["exited", "stopped", "dead"])
@pytest.mark.parametrize("wait", [False, True])
def test_exited_with_logs_is_replayed_and_not_followed(status: str, wait: bool) -> None:
    seen, opened = drive(steps(WITH_LOGS, wait=wait), inspected(status=status, exit_code=7), ACCEPTED)
    assert seen == [INSPECT, REPLAY]
    assert opened.exit_code == 7


@pytest.mark.parametrize("status", ["exited", "stopped", "dead"])
def test_exited_without_logs_is_never_attached_to(status: str) -> None:
    answer = inspected(status=status, exit_code=7)
    seen, error = drive_into(ContainerNotRunning, steps(wait=True), answer)
    assert seen == [INSPECT]
    assert "web" in str(error)
    assert "exit code 7" in str(error)


@pytest.mark.parametrize("status", ["paused", "restarting", "removing", "created", "running"])
def test_other_states_are_no_end(status: str) -> None:
    seen, _ = drive(steps(), inspected(status=status), ACCEPTED, inspected(status=status))
    assert seen == [INSPECT, stream(), INSPECT]


def test_exited_between_the_two_looks_with_logs() -> None:
    seen, opened = drive(steps(WITH_LOGS), inspected(), ACCEPTED, inspected(status="exited", exit_code=5), ACCEPTED)
    assert seen == [INSPECT, stream(WITH_LOGS), INSPECT, REPLAY]
    assert opened.exit_code == 5


def test_exited_between_the_two_looks_without_logs() -> None:
    answers = inspected(), ACCEPTED, inspected(status="exited", exit_code=5)
    seen, error = drive_into(ContainerNotRunning, steps(), *answers)
    assert seen == [INSPECT, stream(), INSPECT]
    assert "exit code 5" in str(error)


def test_logs_alone_need_no_second_look() -> None:
    options = AttachOptions(logs=True, stream=False)
    seen, _ = drive(steps(options), inspected(), ACCEPTED)
    assert seen == [INSPECT, stream(options)]


def test_all_options_reach_the_request() -> None:
    options = AttachOptions(stdin=True, stdout=False, stderr=False, logs=True, detach_keys="ctrl-x")
    seen, _ = drive(steps(options), inspected(), ACCEPTED, inspected())
    assert seen[1] == stream(options)


@pytest.mark.parametrize("has_tty", [False, True])
def test_tty_is_asked_for(has_tty: bool) -> None:
    seen, opened = drive(steps(), inspected(tty=has_tty), ACCEPTED, inspected(tty=has_tty))
    assert seen[1] == stream(tty=has_tty)
    assert opened.facts.tty is has_tty


@pytest.mark.parametrize("given", [False, True])
def test_tty_that_is_given_overrides_what_inspect_says(given: bool) -> None:
    seen, _ = drive(steps(tty=given), inspected(tty=not given), ACCEPTED, inspected())
    assert seen[1] == stream(tty=given)


def test_api_version_goes_into_every_call() -> None:
    for sequence, answers in (
        (steps(start=True, api_version="1.41"), (inspected(), ACCEPTED, HEAD, STARTED)),
        (steps(wait=True, api_version="1.41"), (inspected(), HEAD, ACCEPTED, inspected())),
    ):
        seen, opened = drive(sequence, *answers)
        assert [step.request.api_version for step in seen] == ["1.41"] * 4
        assert opened.api_version == "1.41"


# ---- refusals ----

NO_SUCH = Response(404, (("content-type", "application/json"),), b'{"message":"No such container: web"}')
GONE = Rejected(404, (("content-type", "application/vnd.docker.raw-stream"),), b"No such container: web\r\n")


@pytest.mark.parametrize(
    ("kwargs", "answers", "asked"),
    [
        ({}, (NO_SUCH,), "GET /containers/web/json"),
        ({}, (inspected(), GONE), "POST /containers/web/attach"),
        ({"wait": True}, (inspected(), NO_SUCH), "POST /containers/web/wait"),
        ({"start": True}, (inspected(), GONE), "POST /containers/web/attach"),
        ({"start": True}, (inspected(), ACCEPTED, NO_SUCH), "POST /containers/web/wait"),
        ({"start": True}, (inspected(), ACCEPTED, HEAD, NO_SUCH), "POST /containers/web/start"),
        ({"options": WITH_LOGS}, (inspected(status="exited"), GONE), "POST /containers/web/attach"),
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
    answer = inspected(tty=tty, open_stdin=open_stdin, stdin_once=stdin_once, podman=podman)
    assert ContainerFacts.from_response(answer).half_close_ends_attach is ends


def test_facts() -> None:
    answer = inspected(tty=True, open_stdin=True, stdin_once=False, status="exited", exit_code=137, podman=True)
    assert ContainerFacts.from_response(answer) == ContainerFacts(
        tty=True, open_stdin=True, stdin_once=False, status="exited", exit_code=137, podman=True
    )


def test_facts_that_an_engine_leaves_out() -> None:
    facts = ContainerFacts.from_response(
        Response(200, (), b'{"Config": {"Tty": false, "OpenStdin": null}, "State": {"Status": "created"}}')
    )
    assert facts == ContainerFacts(
        tty=False, open_stdin=False, stdin_once=False, status="created", exit_code=0, podman=False
    )


# ---- what a wait says ----


def waited(body: str) -> int:
    return exit_code(Response(200, (), body.encode()))


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ('{"StatusCode":7}\n', 7),  # dockerd 26 and 28
        ('{"Error":null,"StatusCode":3}\n', 3),  # dockerd 20
        ('{"StatusCode":-1,"Error":null}\n', -1),  # Podman
        ('{"StatusCode":137,"Error":{"Message":""}}', 137),
        ('{"StatusCode":0,"Error":{}}', 0),
    ],
)
def test_exit_code(body: str, code: int) -> None:
    assert waited(body) == code


def test_exit_code_that_the_engine_cannot_tell() -> None:
    with pytest.raises(AttachError, match=r"could not wait.*container is gone"):
        waited('{"StatusCode":0,"Error":{"Message":"container is gone"}}')


# ---- answers that are none ----

NO_JSON = ["", "<html>404</html>", "{", "\xff", "[" * 100_000]
NOT_AN_OBJECT = ["null", "[]", "7", '"text"', "{}"]


@pytest.mark.parametrize("body", NO_JSON, ids=lambda body: repr(body[:10]))
@pytest.mark.parametrize("read", [ContainerFacts.from_response, exit_code])
def test_no_json(read: Callable[[Response], object], body: str) -> None:
    with pytest.raises(RemoteProtocolError, match="no JSON"):
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
    ],
)
def test_inspect_without_the_fields(body: str) -> None:
    with pytest.raises(RemoteProtocolError, match="inspect's answer"):
        ContainerFacts.from_response(Response(200, (), body.encode()))


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
    with pytest.raises(RemoteProtocolError, match="wait's answer"):
        waited(body)


def test_a_bad_inspect_ends_the_sequence() -> None:
    seen, _ = drive_into(RemoteProtocolError, steps(), Response(200, (), b"<html>a proxy's page</html>"))
    assert seen == [INSPECT]
