"""JSON values of another type than dockerd has, and times that Go cannot read: what dockerd was seen to answer."""

from __future__ import annotations

from typing import Any

import pytest

from attachproto_engine import Engine
from tests.engine.client import call, create, start

# What dockerd 26.1 and 28.5 were seen to answer to each of these; 20.10 has the same text with status 500.
WRONG_TYPES: list[tuple[dict[str, Any], str]] = [
    ({"HostConfig": []}, "array into Go struct field .HostConfig of type container.HostConfig"),
    ({"HostConfig": "x"}, "string into Go struct field .HostConfig of type container.HostConfig"),
    ({"HostConfig": {"LogConfig": []}}, "array into Go struct field .HostConfig.LogConfig of type container.LogConfig"),
    (
        {"HostConfig": {"LogConfig": {"Type": 5}}},
        "number into Go struct field .HostConfig.LogConfig.Type of type string",
    ),
    ({"HostConfig": {"LogConfig": {"Config": {"a": 5}}}}, "number into Go struct field .HostConfig.LogConfig.Config"),
    ({"HostConfig": {"AutoRemove": 1}}, "number into Go struct field .HostConfig.AutoRemove of type bool"),
    ({"HostConfig": {"ConsoleSize": "x"}}, "string into Go struct field .HostConfig.ConsoleSize of type [2]uint"),
    ({"HostConfig": {"NetworkMode": 5}}, "number into Go struct field .HostConfig.NetworkMode"),
    ({"Env": "A=b"}, "string into Go struct field .Env of type []string"),
    ({"Env": {}}, "object into Go struct field .Env of type []string"),
    ({"Env": ["A=1", 5]}, "number into .Env.1 of type string"),
    ({"Cmd": 5}, "number into"),
    ({"Cmd": [5]}, ""),
    ({"Entrypoint": {}}, "object into"),
    ({"Tty": "yes"}, "string into Go struct field .Tty of type bool"),
    ({"Tty": 1}, "number into Go struct field .Tty of type bool"),
    ({"OpenStdin": []}, "array into Go struct field .OpenStdin of type bool"),
    ({"Image": 5}, "number into Go struct field .Image of type string"),
    ({"WorkingDir": True}, "bool into Go struct field .WorkingDir of type string"),
    ({"Labels": []}, "array into Go struct field .Labels of type map[string]string"),
    ({"Labels": {"a": 5}}, "number into Go struct field .Labels"),
    ({"StopSignal": 5}, "number into Go struct field .StopSignal of type string"),
    ({"StopTimeout": "5"}, "string into Go struct field .StopTimeout of type int"),
    ({"StopTimeout": 1.5}, "number 1.5 into Go struct field .StopTimeout of type int"),
    ({"User": 5}, "number into Go struct field .User of type string"),
    ({"Hostname": []}, "array into Go struct field .Hostname of type string"),
    ({"Volumes": []}, "array into Go struct field .Volumes of type map[string]"),
]


@pytest.mark.parametrize(("given", "text"), WRONG_TYPES)
def test_a_value_of_the_wrong_type_creates_no_container(engine: Engine, given: dict[str, Any], text: str) -> None:
    answer = call(engine, "POST", "/containers/create", {"Cmd": ["true"], **given})
    assert answer.status == 400
    assert answer.message.startswith(f"invalid JSON: json: cannot unmarshal {text}")
    assert call(engine, "GET", "/containers/json?all=1").json == []


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"HostConfig": None}, None),
        ({"HostConfig": {"ConsoleSize": [1]}}, ("HostConfig", "ConsoleSize", [1, 0])),
        ({"HostConfig": {"ConsoleSize": [1, 2, 3]}}, ("HostConfig", "ConsoleSize", [1, 2])),
        ({"Cmd": "true"}, None),
        ({"Labels": {"a": None}}, ("Config", "Labels", {"a": ""})),
        ({"Unknown": 5}, None),
        ({"Tty": None, "Env": None, "Labels": None}, ("Config", "Tty", False)),
    ],
)
def test_what_go_reads_all_the_same(engine: Engine, given: dict[str, Any], field: tuple[str, str, object]) -> None:
    """dockerd 20.10, 26.1 and 28.5 answer 201 to each of these."""
    answer = call(engine, "POST", "/containers/create", {"Cmd": ["true"], **given})
    assert answer.status == 201
    if field is not None:
        part, name, value = field
        assert call(engine, "GET", f"/containers/{answer.json['Id']}/json").json[part][name] == value


@pytest.mark.parametrize("item", [None, "", "=b"])
def test_a_variable_without_a_name_is_refused(engine: Engine, item: str | None) -> None:
    answer = call(engine, "POST", "/containers/create", {"Cmd": ["true"], "Env": [item]})
    assert (answer.status, answer.message) == (400, f"invalid environment variable: {item or ''}")


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"Env": "A"}, "string into Go struct field ExecOptions.Env of type []string"),
        ({"Env": ["A=1", 5]}, "number into ExecOptions.Env.1 of type string"),
        ({"Cmd": "true"}, "string into Go struct field ExecOptions.Cmd of type []string"),
        ({"Cmd": 5}, "number into Go struct field ExecOptions.Cmd of type []string"),
        ({"Tty": 1}, "number into Go struct field ExecOptions.Tty of type bool"),
        ({"AttachStdin": "x"}, "string into Go struct field ExecOptions.AttachStdin of type bool"),
        ({"DetachKeys": 5}, "number into Go struct field ExecOptions.DetachKeys of type string"),
        ({"WorkingDir": []}, "array into Go struct field ExecOptions.WorkingDir of type string"),
        ({"ConsoleSize": "x"}, "string into Go struct field ExecOptions.ConsoleSize of type [2]uint"),
        ({"Privileged": 0}, "number into Go struct field ExecOptions.Privileged of type bool"),
    ],
)
def test_a_value_of_the_wrong_type_creates_no_exec(engine: Engine, given: dict[str, Any], text: str) -> None:
    """As dockerd 28.5. 26.1 has the same with ExecConfig for ExecOptions, and 20.10 without "invalid JSON"."""
    create(engine, "web", "sleep", "100")
    start(engine, "web")
    answer = call(engine, "POST", "/containers/web/exec", {"Cmd": ["true"], **given})
    assert answer.status == 400
    assert answer.message.startswith(f"invalid JSON: json: cannot unmarshal {text}")


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"Detach": 1}, "number into Go struct field ExecStartOptions.Detach of type bool"),
        ({"Tty": "x"}, "string into Go struct field ExecStartOptions.Tty of type bool"),
        ({"Detach": True, "Tty": 5}, "number into Go struct field ExecStartOptions.Tty of type bool"),
        ({"Tty": True, "ConsoleSize": 5}, "number into Go struct field ExecStartOptions.ConsoleSize of type [2]uint"),
        ({"ConsoleSize": "x"}, "string into Go struct field ExecStartOptions.ConsoleSize of type [2]uint"),
        ({"ConsoleSize": [-1, 80]}, "number -1 into ExecStartOptions.ConsoleSize.0 of type uint"),
        ({"ConsoleSize": [1, True]}, "bool into ExecStartOptions.ConsoleSize.1 of type uint"),
        ({"ConsoleSize": [2**64]}, "number 18446744073709551616 into ExecStartOptions.ConsoleSize.0 of type uint"),
    ],
)
def test_a_value_of_the_wrong_type_starts_no_exec(engine: Engine, given: dict[str, Any], text: str) -> None:
    create(engine, "web", "sleep", "100")
    start(engine, "web")
    exec_id = call(engine, "POST", "/containers/web/exec", {"Cmd": ["true"]}).json["Id"]
    answer = call(engine, "POST", f"/exec/{exec_id}/start", given)
    assert (answer.status, answer.message) == (400, f"invalid JSON: json: cannot unmarshal {text}")
    assert call(engine, "POST", f"/exec/{exec_id}/start", {"Detach": True}).status == 200, "it was not started before"


@pytest.mark.parametrize("given", [[24, 80], [24], [24, 80, 1], [], [None, 1], [2**64 - 1, 1], None])
@pytest.mark.parametrize("tty", [False, True])
def test_a_size_at_the_start_of_an_exec(engine: Engine, given: object, tty: bool) -> None:
    """dockerd 20.10, 26.1 and 28.5 start it, and ignore the size without a terminal."""
    create(engine, "web", "sleep", "100")
    start(engine, "web")
    exec_id = call(engine, "POST", "/containers/web/exec", {"Cmd": ["true"], "Tty": tty}).json["Id"]
    answer = call(engine, "POST", f"/exec/{exec_id}/start", {"Tty": tty, "ConsoleSize": given})
    assert (answer.status, answer.body) == (200, b"")
    assert call(engine, "GET", f"/exec/{exec_id}/json").json["ExitCode"] == 0


@pytest.mark.parametrize("key", ["since", "until"])
@pytest.mark.parametrize(
    ("value", "part"),
    [
        ("1e400", "1e400"),
        ("abc", "abc"),
        ("1.2.3", "2.3"),
        ("1.1e5", "1e5"),
        ("%C2%B2", "\xb2"),
        (".5", ""),
        ("5.", ""),
        ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
    ],
)
def test_a_time_that_go_could_not_read(engine: Engine, key: str, value: str, part: str) -> None:
    """Status and text are those of dockerd 20.10, 26.1 and 28.5: it is no 400 there."""
    create(engine, "web", "true")
    answer = call(engine, "GET", f"/containers/web/logs?stdout=1&{key}={value}")
    assert (answer.status, answer.message) == (500, f'strconv.ParseInt: parsing "{part}": invalid syntax')
