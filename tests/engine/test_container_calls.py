"""Restart, rename, top, kill and remove, log drivers and images, as dockerd and Podman were seen to answer them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from attachproto_engine import Engine
from tests.engine.client import attached, call, create, read_all, read_until, shell, start, status, wait
from tests.helpers import frame


@pytest.fixture(params=["dockerd", "podman"])
def either(request: pytest.FixtureRequest) -> Iterator[Engine]:
    with Engine(emulate=request.param) as engine:
        yield engine


@pytest.fixture
def podman() -> Iterator[Engine]:
    with Engine(emulate="podman") as engine:
        yield engine


def refusal(engine: Engine, method: str, target: str, body: object = None) -> tuple[int, str]:
    answer = call(engine, method, target, body)
    return answer.status, answer.message


def inspect(engine: Engine, name: str) -> Any:
    return call(engine, "GET", f"/containers/{name}/json").json


# ---- restart ----


def test_a_restart_ends_the_attach_and_starts_again(either: Engine) -> None:
    shell(either, "web", "trap 'echo end; exit 7' TERM; echo begin; while :; do sleep 0.01; done")
    start(either, "web")
    before = inspect(either, "web")["State"]["Pid"]
    with attached(either, "web", "logs=1&stream=1&stdout=1") as sock:
        begun = read_until(sock, b"begin\n")
        assert call(either, "POST", "/containers/web/restart?t=20").status == 204
        assert begun + read_all(sock) == frame(1, b"begin\n") + frame(1, b"end\n")
    state = inspect(either, "web")
    assert (state["State"]["Status"], state["RestartCount"]) == ("running", 0)
    assert state["State"]["Pid"] != before


def test_a_restart_of_a_container_that_does_not_run_starts_it(either: Engine) -> None:
    create(either, "web", "sleep", "100")
    assert call(either, "POST", "/containers/web/restart").status == 204
    assert status(either, "web") == "running"


def test_a_restart_kills_after_the_timeout_and_keeps_what_is_removed_at_its_end(either: Engine) -> None:
    shell(either, "web", "trap '' TERM; echo ready; while :; do sleep 0.01; done", HostConfig={"AutoRemove": True})
    start(either, "web")
    with attached(either, "web", "logs=1&stream=1&stdout=1") as sock:
        read_until(sock, b"ready\n")
    assert call(either, "POST", "/containers/web/restart?t=0").status == 204
    assert status(either, "web") == "running"
    assert call(either, "POST", "/containers/web/kill").status == 204
    assert call(either, "POST", "/containers/web/wait?condition=removed").status in (200, 404)
    assert call(either, "GET", "/containers/web/json").status == 404


def test_the_signal_of_a_stop_and_of_a_restart(engine: Engine) -> None:
    shell(engine, "web", "trap 'exit 9' INT; echo ready; while :; do sleep 0.01; done")
    start(engine, "web")
    with attached(engine, "web", "logs=1&stream=1&stdout=1") as sock:
        read_until(sock, b"ready\n")
    assert call(engine, "POST", "/containers/web/stop?t=20&signal=SIGINT").status == 204
    assert wait(engine, "web") == 9
    for call_ in ("stop", "restart"):
        assert refusal(engine, "POST", f"/containers/web/{call_}?signal=NOSUCH") == (400, "invalid signal: NOSUCH")


def test_a_restart_that_is_refused(either: Engine, engine: Engine) -> None:
    assert call(either, "POST", "/containers/nosuch/restart").status == 404
    create(either, "web", "sleep", "100")
    for number in ("x", "9" * 30, "9" * 5000):
        assert call(either, "POST", f"/containers/web/restart?t={number}").status == 400
    assert status(either, "web") == "created"


def test_a_restart_of_a_paused_container(engine: Engine, podman: Engine) -> None:
    for which in (engine, podman):
        create(which, "web", "sleep", "100")
        start(which, "web")
        call(which, "POST", "/containers/web/pause")
    assert call(engine, "POST", "/containers/web/restart?t=0").status == 204
    assert status(engine, "web") == "running"
    improper = "unable to restart a container in a paused or unknown state: container state improper"
    assert refusal(podman, "POST", "/containers/web/restart?t=0") == (500, improper)


# ---- rename ----


def test_a_container_gets_another_name(either: Engine) -> None:
    made = create(either, "web", "sleep", "100")
    start(either, "web")
    assert call(either, "POST", "/containers/web/rename?name=other").status == 204
    assert inspect(either, "other")["Id"] == made
    assert inspect(either, made)["Name"] == "/other"
    assert call(either, "GET", "/containers/web/json").status == 404
    create(either, "web", "true")
    assert call(either, "POST", "/containers/other/rename?name=/third").status == 204
    assert inspect(either, "third")["Id"] == made


def test_a_name_that_is_refused(engine: Engine, podman: Engine) -> None:
    allocating = "Error when allocating new name: "
    for which in (engine, podman):
        other = create(which, "other", "true")
        made = create(which, "web", "true")
        refused = {
            name: refusal(which, "POST", f"/containers/web/rename?name={name}") for name in ("a%20b", "", "other")
        }
        if which is engine:
            assert refusal(which, "POST", "/containers/web/rename?name=web") == (
                400,
                "Renaming a container with the same name as its current name",
            )
            assert refused[""] == (400, "Neither old nor new names may be empty")
            code, text = refused["a%20b"]
            assert (code, text.startswith(f"{allocating}Invalid container name (a b), only ")) == (400, True)
            code, text = refused["other"]
            conflict = f'Conflict. The container name "/other" is already in use by container "{other}". '
            assert (code, text.startswith(allocating + conflict)) == (409, True)
        else:
            assert call(which, "POST", "/containers/web/rename?name=web").status == 204
            match = (500, "names must match [a-zA-Z0-9][a-zA-Z0-9_.-]*: invalid argument")
            assert (refused[""], refused["a%20b"]) == (match, match)
            code, text = refused["other"]
            assert (code, text.startswith(f"renaming container {made}: updating container config table")) == (500, True)
        assert call(which, "POST", "/containers/nosuch/rename?name=x1").status == 404


# ---- top ----


def rows(engine: Engine, ps_args: str | None = None) -> list[dict[str, str]]:
    query = "" if ps_args is None else f"?ps_args={ps_args.replace(' ', '%20')}"
    document = call(engine, "GET", f"/containers/web/top{query}").json
    return [dict(zip(document["Titles"], row, strict=True)) for row in document["Processes"]]


def test_the_processes_of_a_container_and_of_its_execs(either: Engine) -> None:
    # A child is a second shell until it has executed its own program.
    script = "sleep 100 & until grep -q sleep /proc/$!/comm; do :; done; echo ready; read line"
    shell(either, "web", script, OpenStdin=True)
    create(either, "other", "sleep", "300")
    start(either, "other")
    start(either, "web")
    with attached(either, "web", "logs=1&stream=1&stdout=1") as sock:
        read_until(sock, b"ready\n")
    exec_id = call(either, "POST", "/containers/web/exec", {"Cmd": ["sleep", "400"]}).json["Id"]
    assert call(either, "POST", f"/exec/{exec_id}/start", {"Detach": True}).status == 200
    leader = str(inspect(either, "web")["State"]["Pid"])
    of_exec = str(call(either, "GET", f"/exec/{exec_id}/json").json["Pid"])
    found = rows(either, "-eo pid,ppid,sid,args")
    assert {row["SID"] for row in found} == {leader, of_exec}
    assert [row["COMMAND"] for row in found if row["SID"] == of_exec] == ["sleep 400"]
    commands = {row["COMMAND"]: row for row in found}
    assert commands["sleep 100"]["PPID"] == leader
    assert commands[f"sh -c {script}"]["PID"] == leader
    full = rows(either)
    assert list(full[0]) == ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
    assert {row["PID"] for row in full} == {row["PID"] for row in found}
    assert (full[0]["TTY"], full[0]["TIME"]) == ("?", "00:00:00")
    assert list(rows(either, "aux")[0])[:2] == ["USER", "PID"]
    assert list(rows(either, "-o pid,stat -o comm")[0].items()) == [("PID", leader), ("STAT", "Ss"), ("COMMAND", "sh")]


def test_the_terminal_of_a_process(engine: Engine) -> None:
    create(engine, "web", "sleep", "100", Tty=True)
    start(engine, "web")
    assert rows(engine, "-o pid,tty")[0]["TT"].startswith("pts/")


def test_podmans_own_fields(podman: Engine) -> None:
    create(podman, "web", "sleep", "100")
    start(podman, "web")
    leader = str(inspect(podman, "web")["State"]["Pid"])
    assert rows(podman, "pid,hpid,args")[0] == {
        "PID": leader,
        "HPID": leader,
        "COMMAND": "sleep 100",
    }


@pytest.mark.parametrize(
    ("ps_args", "text"),
    [
        ("hpid,state", "ps: error: the embedded engine does not understand"),
        ("--nosuch", "ps: error: the embedded engine does not understand"),
        ("-o nosuch", "ps: error: unknown user-defined format specifier"),
        ("-o", "ps: error: unknown user-defined format specifier"),
        ("-o args", "Couldn't find PID field in ps output"),
    ],
)
def test_arguments_of_ps_that_are_refused(engine: Engine, ps_args: str, text: str) -> None:
    create(engine, "web", "sleep", "100")
    start(engine, "web")
    code, message = refusal(engine, "GET", f"/containers/web/top?ps_args={ps_args.replace(' ', '%20')}")
    assert (code, message.startswith(text)) == (500, True)


def test_a_container_without_processes(engine: Engine, podman: Engine) -> None:
    for which in (engine, podman):
        made = create(which, "web", "sleep", "100")
        text = f"container {made} is not running" if which is engine else "top can only be used on running containers"
        refused = (409 if which is engine else 500, text)
        assert refusal(which, "GET", "/containers/web/top") == refused
        start(which, "web")
        call(which, "POST", "/containers/web/pause")
        if which is engine:
            assert len(rows(which, "-o pid,s")) == 1
        else:
            assert refusal(which, "GET", "/containers/web/top") == refused
        call(which, "POST", "/containers/web/kill")
        wait(which, "web")
        assert refusal(which, "GET", "/containers/web/top") == refused
        assert call(which, "GET", "/containers/nosuch/top").status == 404


# ---- kill and remove ----


def test_refusals_of_kill(engine: Engine, podman: Engine) -> None:
    made = [create(which, "web", "sleep", "100") for which in (engine, podman)]
    target = "/containers/web/kill"
    assert refusal(engine, "POST", target) == (409, f"cannot kill container: web: container {made[0]} is not running")
    state = f"{made[1]} is in state created: container state improper"
    assert refusal(podman, "POST", target) == (409, f"can only kill running containers. {state}")
    for signal in ("NOSUCH", "0"):
        text = f"invalid signal: {signal}"
        assert refusal(engine, "POST", f"{target}?signal={signal}") == (400, f"cannot kill container: web: {text}")
        assert refusal(podman, "POST", f"{target}?signal={signal}") == (500, text)


@pytest.mark.parametrize("signal", ["SIGUSR1", "usr1", "10"])
def test_a_signal_is_delivered(engine: Engine, signal: str) -> None:
    shell(engine, "web", "trap 'exit 42' USR1; echo ready; while :; do sleep 0.01; done")
    start(engine, "web")
    with attached(engine, "web", "logs=1&stream=1&stdout=1") as sock:
        read_until(sock, b"ready\n")
    assert call(engine, "POST", f"/containers/web/kill?signal={signal}").status == 204
    assert wait(engine, "web") == 42


def test_removing_a_running_container_needs_force(engine: Engine, podman: Engine) -> None:
    made = []
    for which in (engine, podman):
        made.append(create(which, "web", "sleep", "100"))
        start(which, "web")
    running = 'cannot remove container "/web": container is running: stop the container before removing or force remove'
    assert refusal(engine, "DELETE", "/containers/web") == (409, running)
    improper = "running or paused containers cannot be removed without force: container state improper"
    assert refusal(podman, "DELETE", "/containers/web") == (
        500,
        f"cannot remove container {made[1]} as it is running - {improper}",
    )
    for which in (engine, podman):
        pid = inspect(which, "web")["State"]["Pid"]
        assert call(which, "DELETE", "/containers/web?force=1").status == 204
        assert call(which, "GET", "/containers/web/json").status == 404
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


# ---- what a create refuses ----


@pytest.mark.parametrize("driver", ["json-file", "local", "journald", "none"])
def test_log_drivers(engine: Engine, driver: str) -> None:
    create(engine, "web", "echo", "text", HostConfig={"LogConfig": {"Type": driver, "Config": {}}})
    assert inspect(engine, "web")["HostConfig"]["LogConfig"] == {"Type": driver, "Config": {}}
    start(engine, "web")
    wait(engine, "web")
    answer = call(engine, "GET", "/containers/web/logs?stdout=1")
    if driver == "none":
        assert (answer.status, answer.message) == (501, "configured logging driver does not support reading")
    else:
        assert answer.body == frame(1, b"text\n")


def test_log_drivers_that_are_refused(engine: Engine, podman: Engine) -> None:
    def creating(driver: str, **options: str) -> dict[str, Any]:
        return {"Image": "any", "Cmd": ["true"], "HostConfig": {"LogConfig": {"Type": driver, "Config": options}}}

    target = "/containers/create?name=web"
    assert refusal(engine, "POST", target, creating("k8s-file")) == (
        400,
        'error looking up logging plugin k8s-file: plugin "k8s-file" not found',
    )
    invalid = "container create: running container create option: invalid log driver: invalid argument"
    assert refusal(podman, "POST", target, creating("syslog")) == (500, invalid)
    unknown = "unknown log opt 'nosuch' for json-file log driver"
    assert refusal(engine, "POST", target, creating("json-file", nosuch="1")) == (400, unknown)
    for which, driver, options in (
        (engine, "json-file", {"max-size": "1m"}),
        (podman, "k8s-file", {"nosuch": "1"}),
    ):
        assert call(which, "POST", target, creating(driver, **options)).status == 201


PRESENT = ["alpine", "registry.example:5000/team/tool:2", f"pinned@sha256:{'a' * 64}"]


@pytest.mark.parametrize("emulate", ["dockerd", "podman"])
@pytest.mark.parametrize(
    "name",
    ["alpine", "alpine:latest", "library/alpine", "docker.io/library/alpine:latest", *PRESENT[1:]],
)
def test_images_that_are_there(emulate: Any, name: str) -> None:
    with Engine(emulate=emulate, images=PRESENT) as engine:
        assert call(engine, "POST", "/containers/create", {"Image": name, "Cmd": ["true"]}).status == 201


@pytest.mark.parametrize(
    ("name", "dockerd", "podman"),
    [
        ("nosuch", (404, "nosuch:latest"), (404, "docker.io/library/nosuch")),
        ("nosuch:9", (404, "nosuch:9"), (404, "docker.io/library/nosuch:9")),
        ("alpine:3", (404, "alpine:3"), (404, "docker.io/library/alpine:3")),
        ("a.example:5000/a/b:1", (404, "a.example:5000/a/b:1"), (404, "a.example:5000/a/b:1")),
        (f"sha256:{'0' * 64}", (404, f"sha256:{'0' * 64}"), (404, f"docker.io/library/sha256:{'0' * 64}")),
        (
            f"pinned@sha256:{'b' * 64}",
            (404, f"pinned@sha256:{'b' * 64}"),
            (404, f"docker.io/library/pinned@sha256:{'b' * 64}"),
        ),
        ("a b", (400, ""), (500, "")),
        ("Upper", (400, ": repository name (library/Upper) must be lowercase"), (500, "")),
        ("alpine:", (400, ""), (500, "")),
    ],
)
def test_images_that_are_not_there(name: str, dockerd: tuple[int, str], podman: tuple[int, str]) -> None:
    body = {"Image": name, "Cmd": ["true"]}
    with Engine(images=PRESENT) as engine:
        code, text = dockerd
        text = f"No such image: {text}" if code == 404 else f"invalid reference format{text}"
        assert refusal(engine, "POST", "/containers/create?name=web", body) == (code, text)
        assert call(engine, "GET", "/containers/web/json").status == 404
    with Engine(emulate="podman", images=PRESENT) as engine:
        code, text = podman
        refused = "normalizing image: normalizing name for compat API: invalid reference format"
        text = f"no such image: {text}: image not known" if code == 404 else refused
        assert refusal(engine, "POST", "/containers/create?name=web", body) == (code, text)


def test_a_container_without_an_image() -> None:
    with Engine(images=[]) as engine:
        assert call(engine, "POST", "/containers/create", {"Cmd": ["true"]}).status == 201
    with Engine(emulate="podman", images=[]) as engine:
        assert call(engine, "POST", "/containers/create", {"Cmd": ["true"]}).status == 500


def test_a_name_that_no_image_has() -> None:
    with pytest.raises(ValueError, match="'a b' is no name of an image"):
        Engine(images=["a b"])


# ---- the size of a terminal ----


def test_the_size_at_the_creation_of_a_container_and_of_an_exec(either: Engine) -> None:
    create(either, "web", "sh", "-c", "stty size", Tty=True, HostConfig={"ConsoleSize": [31, 97]})
    with attached(either, "web") as sock:
        start(either, "web")
        assert read_all(sock) == b"31 97\r\n"


# ---- filters of the list ----


@pytest.fixture
def three(engine: Engine) -> Engine:
    create(engine, "web", "sleep", "100", Labels={"job": "a", "team": "x"})
    create(engine, "web-2", "sh", "-c", "exit 3", Labels={"job": "b"}, Image="tool:latest")
    create(engine, "other", "true", Image="tool:2")
    start(engine, "web")
    start(engine, "web-2")
    wait(engine, "web-2")
    return engine


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ({"name": ["web"]}, {"web", "web-2"}),
        ({"name": ["^web$"]}, {"web"}),
        ({"name": ["^/web$"]}, {"web"}),
        ({"name": ["e..2$"]}, {"web-2"}),
        ({"name": {"other": True, "web": False}}, {"other"}),
        ({"name": ["nosuch"]}, set()),
        ({"name": []}, {"web", "web-2", "other"}),
        ({"status": ["exited"]}, {"web-2"}),
        ({"status": ["created", "running"]}, {"web", "other"}),
        ({"exited": ["3"]}, {"web-2"}),
        ({"exited": ["0"]}, set()),
        ({"label": ["job"]}, {"web", "web-2"}),
        ({"label": ["job=b"]}, {"web-2"}),
        ({"label": ["team="]}, set()),
        ({"ancestor": ["tool"]}, {"web-2"}),
        ({"ancestor": ["any"], "name": ["w"]}, {"web"}),
        ({}, {"web", "web-2", "other"}),
    ],
)
def test_filters(three: Engine, filters: dict[str, Any], names: set[str]) -> None:
    found = call(three, "GET", f"/containers/json?all=1&filters={quote(json.dumps(filters))}").json
    assert {container["Names"][0].removeprefix("/") for container in found} == names


def test_filters_by_id_and_of_what_runs(three: Engine) -> None:
    made = inspect(three, "web")["Id"]
    for text in (made, made[:12]):
        found = call(three, "GET", f"/containers/json?filters={quote(json.dumps({'id': [f'^{text}']}))}").json
        assert [container["Id"] for container in found] == [made]
    found = call(three, "GET", f"/containers/json?filters={quote(json.dumps({'name': ['e']}))}").json
    assert [container["Id"] for container in found] == [made]
    found = call(three, "GET", f"/containers/json?filters={quote(json.dumps({'status': ['exited']}))}").json
    assert [container["Names"] for container in found] == [["/web-2"]]


@pytest.mark.parametrize(
    ("filters", "text"),
    [
        ('{"name": ["(a+)+$"]}', "the embedded engine looks for plain text"),
        (json.dumps({"name": ["a" * 1000]}), "the embedded engine looks for plain text"),
        ('{"nosuch": ["a"]}', "invalid filter 'nosuch'"),
        ('{"status": ["banana"]}', "invalid filter 'status=banana'"),
        ('{"exited": ["x"]}', 'strconv.Atoi: parsing "x"'),
        ('{"name": "a"}', "invalid filter 'name'"),
        ('{"name": [1]}', "invalid filter 'name'"),
        ("[]", "invalid filter"),
        ("{", "invalid filter"),
    ],
)
def test_filters_that_are_refused(three: Engine, filters: str, text: str) -> None:
    code, message = refusal(three, "GET", f"/containers/json?filters={quote(filters)}")
    assert (code, message.startswith(text)) == (400, True)
