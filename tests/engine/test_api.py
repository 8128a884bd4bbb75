"""The plain calls and the heads of answers, compared with recordings of dockerd, and the table of media types."""

from __future__ import annotations

import json
import pathlib
import re
from typing import Any

import pytest

from attachproto_engine import Engine
from tests.engine.client import (
    UPGRADE,
    attach_request,
    attached,
    call,
    create,
    dial,
    exchange,
    read_all,
    read_answer,
    read_until,
    shell,
    start,
    status,
    wait,
)
from tests.helpers import H101M

RAW = "application/vnd.docker.raw-stream"
MULTIPLEXED = "application/vnd.docker.multiplexed-stream"
VECTORS = pathlib.Path(__file__).parents[1] / "vectors" / "docker-28.5.2.jsonl"

# Which recordings need no container. The engine takes no API below 1.41, where dockerd 28 takes 1.24.
STATELESS = {
    f"{vector['scenario']}: {vector['label']}": vector
    for line in VECTORS.read_text().splitlines()
    for vector in [json.loads(line)]
    if vector["scenario"].startswith(("12-no-such", "13-bad-detach", "27-ping"))
    and "400 Bad" in str(vector["events"][1]) + "400 Bad" * vector["scenario"].startswith(("12", "27"))
    and "/v1.24/" not in vector["request"]
    and "OPTIONS" not in vector["request"]
}


def comparable(answer: bytes) -> tuple[bytes, dict[str, str], bytes]:
    """Status line, header fields and body, without the fields that may differ."""
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *fields = head.decode("latin-1").split("\r\n")
    headers = dict(field.split(": ", 1) for field in fields)
    for name in ("Date", "Server", "Connection", "Content-Length"):
        headers.pop(name, None)
    return first.encode(), headers, body.replace(b"version is 1.24,", b"version is 1.41,")


@pytest.mark.parametrize("name", STATELESS)
def test_as_dockerd_was_recorded(engine: Engine, name: str) -> None:
    vector = STATELESS[name]
    recorded = "".join(event[1] for event in vector["events"] if event[0] == "recv").encode("latin-1")
    answer = exchange(engine, vector["request"].encode("latin-1"))
    if name.startswith(("12-no-such-container:", "13-")):
        assert answer == recorded
    assert comparable(answer) == comparable(recorded)


def test_the_recordings_are_there() -> None:
    assert len(STATELESS) > 25


@pytest.mark.parametrize("version", ["1.41", "1.42", "1.43", "1.47", "1.51", ""])
@pytest.mark.parametrize("tty", [False, True])
def test_media_types(engine: Engine, version: str, tty: bool) -> None:
    shell(engine, "web", "sleep 100", Tty=tty)
    start(engine, "web")
    prefix = f"/v{version}" if version else ""
    framed = RAW if tty or version == "1.41" else MULTIPLEXED
    with dial(engine) as sock:
        sock.sendall(attach_request("web", version=prefix))
        head = read_until(sock, b"\r\n\r\n")
        assert head == H101M.replace(MULTIPLEXED.encode(), framed.encode())
    with dial(engine) as sock:
        sock.sendall(attach_request("web", version=prefix, upgrade=False))
        assert read_until(sock, b"\r\n\r\n") == f"HTTP/1.1 200 OK\r\nContent-Type: {RAW}\r\n\r\n".encode()
    logs = call(engine, "GET", f"{prefix}/containers/web/logs?stdout=1")
    assert (logs.headers["Content-Type"], logs.headers["Transfer-Encoding"]) == (framed, "chunked")
    exec_id = call(engine, "POST", "/containers/web/exec", {"Cmd": ["true"], "AttachStdout": True}).json["Id"]
    body = json.dumps({"Detach": False, "Tty": tty})
    started = exchange_head(
        engine, f"POST {prefix}/exec/{exec_id}/start HTTP/1.1\r\nHost: localhost\r\n{UPGRADE}", body
    )
    assert started.startswith(
        f"HTTP/1.1 101 UPGRADED\r\nContent-Type: {framed}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
    )
    assert re.findall(r"\r\n([A-Z][\w-]+):", started)[3:] == ["Api-Version", "Docker-Experimental", "Ostype", "Server"]


def exchange_head(engine: Engine, head: str, body: str) -> str:
    request = f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    return exchange(engine, request.encode()).split(b"\r\n\r\n")[0].decode("latin-1")


def test_an_older_engine() -> None:
    with Engine(api_version="1.41") as engine:
        shell(engine, "web", "sleep 100")
        assert call(engine, "GET", "/_ping").headers["Api-Version"] == "1.41"
        assert call(engine, "GET", "/v1.42/_ping").status == 400
        with dial(engine) as sock:
            sock.sendall(attach_request("web"))
            assert RAW.encode() in read_until(sock, b"\r\n\r\n")


@pytest.mark.parametrize(
    "given", [{"api_version": "1.40"}, {"emulate": "containerd"}, {"host": "tcp://0.0.0.0:0"}, {"host": "ftp://x"}]
)
def test_invalid_arguments(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="engine"):
        Engine(**given).start()


def test_it_says_that_it_is_not_a_sandbox(engine: Engine) -> None:
    assert "not a sandbox" in call(engine, "GET", "/info").json["Warnings"][0]
    assert "not a sandbox" in call(engine, "GET", "/version").json["Platform"]["Name"]
    assert (Engine.__doc__ or "").count("not a sandbox") == 1


def test_inspect(engine: Engine) -> None:
    container = create(
        engine,
        "web",
        "sh",
        "-c",
        "exit 3",
        OpenStdin=True,
        Labels={"a": "b"},
        Env=["X=1"],
        HostConfig={"NetworkMode": "none"},
    )
    seen = call(engine, "GET", "/containers/web/json").json
    assert (seen["Id"], seen["Name"], seen["Path"], seen["Args"]) == (container, "/web", "sh", ["-c", "exit 3"])
    assert seen["State"]["Status"] == "created"
    assert seen["State"]["StartedAt"] == seen["State"]["FinishedAt"] == "0001-01-01T00:00:00Z"
    assert seen["HostConfig"]["LogConfig"] == {"Type": "json-file", "Config": {}}
    assert (seen["HostConfig"]["NetworkMode"], seen["HostConfig"]["AutoRemove"]) == ("none", False)
    assert (seen["Config"]["OpenStdin"], seen["Config"]["Tty"], seen["Config"]["Env"]) == (True, False, ["X=1"])
    start(engine, container[:12])
    assert wait(engine, "web") == 3
    state = call(engine, "GET", f"/containers/{container}/json").json["State"]
    assert (state["Status"], state["Running"], state["ExitCode"], state["Pid"]) == ("exited", False, 3, 0)
    assert state["FinishedAt"] > state["StartedAt"] > seen["Created"]


def test_create_refuses(engine: Engine) -> None:
    container = shell(engine, "web", "true")
    for target, body, code, text in [
        (
            "name=web",
            {"Cmd": ["true"]},
            409,
            f'Conflict. The container name "/web" is already in use by container "{container}".',
        ),
        (
            "name=-web",
            {"Cmd": ["true"]},
            400,
            "Invalid container name (-web), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed",
        ),
        ("name=w", {"Cmd": ["true"]}, 400, "Invalid container name (w), only"),
        ("", {"Image": "any"}, 400, "no command specified"),
        ("", None, 400, "invalid JSON: got EOF while reading request body"),
        ("", [1], 400, "invalid JSON"),
    ]:
        answer = call(engine, "POST", f"/containers/create?{target}", body)
        assert answer.status == code
        assert answer.message.startswith(text)


def test_a_list(engine: Engine) -> None:
    shell(engine, "one", "sleep 100", Labels={"x": "1"})
    shell(engine, "two", "true")
    start(engine, "one")

    def names(query: str) -> list[str]:
        return [name for item in call(engine, "GET", f"/containers/json?{query}").json for name in item["Names"]]

    assert names("") == ["/one"]
    assert names("all=1") == ["/two", "/one"]
    assert names("all=1&limit=1") == ["/two"]


def test_life(engine: Engine) -> None:
    container = shell(engine, "web", "sleep 100 & sleep 100")
    for action in ("kill", "pause", "resize?h=1&w=1"):
        answer = call(engine, "POST", f"/containers/web/{action}")
        assert (answer.status, answer.message.endswith(f"container {container} is not running")) == (409, True)
    assert call(engine, "POST", "/containers/web/stop").status == 304
    assert call(engine, "POST", "/containers/web/start").status == 204
    assert call(engine, "POST", "/containers/web/start").status == 304
    assert call(engine, "POST", "/containers/web/pause").status == 204
    assert status(engine, "web") == "paused"
    assert call(engine, "POST", "/containers/web/start").status == 409
    assert call(engine, "POST", "/containers/web/exec", {"Cmd": ["true"]}).status == 409
    refused = exchange(engine, attach_request("web"))
    assert refused.endswith(b"\r\n\r\ncontainer web is paused, unpause the container before attach\r\n")
    assert refused.startswith(b"HTTP/1.1 409 Conflict\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n")
    assert call(engine, "POST", "/containers/web/unpause").status == 204
    assert call(engine, "DELETE", "/containers/web").status == 409
    assert call(engine, "POST", "/containers/web/kill?signal=FOO").status == 400
    assert call(engine, "POST", "/containers/web/kill?signal=TERM").status == 204
    assert wait(engine, "web") == 143
    start(engine, "web")
    assert call(engine, "POST", "/containers/web/kill").status == 204
    assert wait(engine, "web") == 137
    start(engine, "web")
    assert call(engine, "DELETE", "/containers/web?force=1").status == 204
    assert call(engine, "GET", "/containers/web/json").message == "No such container: web"


def test_stop_waits_and_then_kills(engine: Engine) -> None:
    shell(engine, "web", "trap '' TERM; echo on; while :; do sleep 0.01; done")
    with attached(engine, "web") as sock:
        start(engine, "web")
        read_until(sock, b"on\n")
        assert call(engine, "POST", "/containers/web/stop?t=0").status == 204
        assert status(engine, "web") == "exited"
    assert wait(engine, "web") == 137


def test_waiting(engine: Engine) -> None:
    shell(engine, "web", "read x; exit 5", OpenStdin=True, HostConfig={"AutoRemove": True})
    assert wait(engine, "web") == 0  # dockerd's answer for a container that has not run
    assert call(engine, "POST", "/containers/web/wait?condition=bad").status == 400
    socks = []
    for condition in ("next-exit", "removed", "not-running"):
        if condition == "not-running":
            start(engine, "web")
        sock = dial(engine)
        target = f"/containers/web/wait?condition={condition}"
        sock.sendall(f"POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n".encode())
        assert b"200 OK" in read_until(sock, b"\r\n\r\n")
        socks.append(sock)
    with attached(engine, "web", "stream=1&stdin=1") as stdin:
        stdin.sendall(b"\n")
        for sock in socks:
            with sock:
                assert read_until(sock, b"0\r\n\r\n") == b'11\r\n{"StatusCode":5}\n\r\n0\r\n\r\n'
    assert call(engine, "GET", "/containers/web/json").status == 404


def test_a_command_that_is_not_there(engine: Engine) -> None:
    create(engine, "web", "no-such-command-at-all")
    with attached(engine, "web") as sock:
        answer = call(engine, "POST", "/containers/web/start")
        assert answer.status == 400
        assert answer.message.endswith('exec: "no-such-command-at-all": executable file not found in $PATH')
        assert read_all(sock) == b""
    state = call(engine, "GET", "/containers/web/json").json["State"]
    assert (state["Status"], state["ExitCode"], state["Error"]) == ("created", 127, answer.message)
    create(engine, "path", "/no/such/command")
    assert call(engine, "POST", "/containers/path/start").message.endswith(
        'exec: "/no/such/command": stat /no/such/command: no such file or directory'
    )
    create(engine, "text", __file__)
    assert call(engine, "POST", "/containers/text/start").message.endswith("permission denied")


def test_environment_and_directory(engine: Engine, tmp_path: pathlib.Path) -> None:
    for tty in (False, True):
        name = f"web{tty}"
        shell(engine, name, "pwd; echo $X", Env=["X=value"], WorkingDir=str(tmp_path), Tty=tty)
        start(engine, name)
        assert wait(engine, name) == 0
        logs = call(engine, "GET", f"/containers/{name}/logs?stdout=1").body
        assert str(tmp_path).encode() in logs
        assert b"value" in logs


def test_logs(engine: Engine) -> None:
    shell(engine, "web", "echo a; sleep 0.05; echo b >&2; sleep 0.05; printf c")
    assert call(engine, "GET", "/containers/web/logs?stdout=1&follow=1").body == b""
    start(engine, "web")
    followed = call(engine, "GET", "/containers/web/logs?stdout=1&stderr=1&follow=1").body
    a, b, c = b"\1\0\0\0\0\0\0\2a\n", b"\2\0\0\0\0\0\0\2b\n", b"\1\0\0\0\0\0\0\1c"
    assert followed == a + b + c

    def logs(query: str) -> bytes:
        return call(engine, "GET", f"/containers/web/logs?{query}").body

    assert logs("stdout=1&stderr=1") == a + b + c
    assert logs("stdout=1") == a + c
    assert logs("stderr=1") == b
    assert logs("stdout=1&stderr=1&tail=2") == b + c
    assert logs("stdout=1&stderr=1&tail=0") == b""
    assert logs("stdout=1&tail=bad") == a + c
    assert logs("stdout=1&since=9999999999") == b""
    assert logs("stdout=1&until=1") == b""
    assert re.fullmatch(
        rb"\x01\x00{6}\x21\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z a\n.*", logs("stdout=1&timestamps=1"), re.DOTALL
    )
    assert call(engine, "GET", "/containers/web/logs").message == "Bad parameters: you must choose at least one stream"
    assert call(engine, "GET", "/containers/web/logs?stdout=1&since=bad").status == 500
    assert call(engine, "GET", "/containers/none/logs?stdout=1").message == "No such container: none"


def test_a_half_close_ends_followed_logs(engine: Engine) -> None:
    shell(engine, "web", "echo a; sleep 100")
    start(engine, "web")
    with dial(engine) as sock:
        sock.sendall(b"GET /containers/web/logs?stdout=1&follow=1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        read_until(sock, b"a\n\r\n")
        sock.shutdown(1)
        assert read_all(sock) == b"0\r\n\r\n"


def test_a_body_that_waits_for_continue(engine: Engine) -> None:
    body = b'{"Cmd":["true"]}'
    with dial(engine) as sock:
        fields = f"Host: localhost\r\nExpect: 100-continue\r\nContent-Length: {len(body)}\r\n"
        fields += "Content-Type: application/json\r\n"
        sock.sendall(f"POST /containers/create HTTP/1.1\r\n{fields}\r\n".encode())
        assert sock.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(body)
        assert read_answer(sock).startswith(b"HTTP/1.1 201 Created\r\n")


@pytest.mark.parametrize(
    "request_", [b"\x16\x03\x01\x02", b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nA : b\r\n\r\n"]
)
def test_invalid_requests(engine: Engine, request_: bytes) -> None:
    answer = exchange(engine, request_)
    assert answer.startswith(
        b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n"
    )
    assert answer.endswith(b"\r\n\r\n400 Bad Request")


def test_a_prefix_that_is_not_enough(engine: Engine) -> None:
    for at in range(40):
        shell(engine, f"web{at}", "true")
    refused = {exchange(engine, attach_request(digit, "logs=0"))[-60:] for digit in "0123456789abcdef"}
    assert any(b"multiple IDs found with provided prefix: " in text for text in refused)
