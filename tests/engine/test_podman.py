"""``Engine(emulate="podman")``, compared with recordings of Podman."""

from __future__ import annotations

import json
import pathlib
import socket
from collections.abc import Iterator

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
    read_until,
    shell,
    start,
    status,
    wait,
)
from tests.helpers import frame

RAW = "application/vnd.docker.raw-stream"
MULTIPLEXED = "application/vnd.docker.multiplexed-stream"
H101 = f"HTTP/1.1 101 UPGRADED\r\nContent-Type: {RAW}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n".encode()
VECTORS = pathlib.Path(__file__).parents[1] / "vectors" / "podman-5.4.2.jsonl"


@pytest.fixture
def podman() -> Iterator[Engine]:
    with Engine(emulate="podman") as engine:
        yield engine


def recorded(scenario: str) -> tuple[int, dict[str, str], bytes]:
    for line in VECTORS.read_text().splitlines():
        vector = json.loads(line)
        if vector["scenario"] == scenario:
            return parsed("".join(each[1] for each in vector["events"] if each[0] == "recv").encode("latin-1"))
    raise LookupError(scenario)


def parsed(answer: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, header fields and body, without the fields that may differ."""
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    fields = dict(line.split(": ", 1) for line in lines)
    for name in ("Date", "Server", "Connection", "X-Reference-Id"):
        fields.pop(name, None)
    return int(first.split()[1]), fields, body


def test_no_such_container(podman: Engine) -> None:
    answer = parsed(exchange(podman, attach_request("nosuch", version="/v1.41")))
    assert answer == recorded("12-no-such-container")


def test_paused(podman: Engine) -> None:
    shell(podman, "web", "sleep 100")
    start(podman, "web")
    call(podman, "POST", "/containers/web/pause")
    assert parsed(exchange(podman, attach_request("web"))) == recorded("11-paused")


def test_invalid_detach_keys(podman: Engine) -> None:
    answer = parsed(exchange(podman, attach_request("web", "stream=1&stdin=1&detachKeys=ctrl-zz")))
    assert (answer[0], json.loads(answer[2])["message"]) == (
        500,
        "invalid detach keys: Unknown character: 'ctrl-zz'",
    )


def test_it_says_that_it_is_podman(podman: Engine) -> None:
    for target in ("/_ping", "/version", "/containers/json"):
        headers = call(podman, "GET", target).headers
        assert (headers["Libpod-Api-Version"], headers["Api-Version"]) == ("5.4.2", "1.41")
    assert call(podman, "GET", "/v1.99/_ping").status == 200
    (component,) = call(podman, "GET", "/version").json["Components"]
    assert (component["Name"], component["Version"]) == ("Podman Engine", "5.4.2")


@pytest.mark.parametrize(
    ("version", "upgrade", "expected"),
    [
        ("", UPGRADE, (101, RAW)),
        ("/v1.41", UPGRADE, (101, RAW)),
        ("/v1.42", UPGRADE, (101, MULTIPLEXED)),
        ("/v1.42", "", (200, MULTIPLEXED)),
        ("", "Connection: keep-alive, Upgrade\r\nUpgrade: tcp\r\n", (200, RAW)),
        ("", "Upgrade: tcp\r\n", (200, RAW)),
    ],
)
def test_heads(podman: Engine, version: str, upgrade: str, expected: tuple[int, str]) -> None:
    shell(podman, "web", "sleep 100")
    start(podman, "web")
    with dial(podman) as sock:
        sock.sendall(f"POST {version}/containers/web/attach HTTP/1.1\r\nHost: localhost\r\n{upgrade}\r\n".encode())
        code, headers, _ = parsed(read_until(sock, b"\r\n\r\n"))
        assert (code, headers["Content-Type"]) == expected


def test_the_head_of_an_exec(podman: Engine) -> None:
    shell(podman, "web", "sleep 100")
    start(podman, "web")
    exec_id = call(podman, "POST", "/containers/web/exec", {"Cmd": ["echo", "a"], "AttachStdout": True}).json["Id"]
    body = '{"Tty": false}'
    head = f"POST /exec/{exec_id}/start HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{UPGRADE}"
    answer = exchange(podman, f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
    assert answer == H101 + frame(1, b"a\n")


def exited(podman: Engine) -> None:
    shell(podman, "web", "echo a; exit 3")
    start(podman, "web")
    assert wait(podman, "web") == 3


def started_exec(podman: Engine, *command: str, tty: bool = False) -> tuple[str, socket.socket]:
    """An exec with stdin, and the connection that has started it, behind the answer's head."""
    wanted = {"Cmd": list(command), "Tty": tty, "AttachStdin": True, "AttachStdout": True, "AttachStderr": True}
    exec_id = call(podman, "POST", "/containers/web/exec", wanted).json["Id"]
    body = json.dumps({"Tty": tty})
    head = f"POST /exec/{exec_id}/start HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{UPGRADE}"
    sock = dial(podman)
    sock.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        answer += sock.recv(1)  # not more: output may come with the head
    return exec_id, sock


def test_a_command_that_cannot_be_started_says_so_on_stderr(podman: Engine) -> None:
    """Podman 4.3 to 5.8 do, dockerd uses stdout."""
    shell(podman, "web", "sleep 600")
    start(podman, "web")
    for tty in (False, True):
        exec_id, sock = started_exec(podman, "/no/such", tty=tty)
        with sock:
            told = read_all(sock)
        said = told if tty else told[8:]
        assert told == (said if tty else frame(2, said))
        assert said.startswith(b"Error: ")
        assert said.endswith(b"/no/such: no such file or directory\n")
        assert call(podman, "GET", f"/exec/{exec_id}/json").json["ExitCode"] == 127


def test_detach_keys_of_an_exec_say_nothing_and_end_nothing(podman: Engine) -> None:
    """As Podman 5.4 and 5.8; for dockerd they are a failure."""
    shell(podman, "web", "sleep 600")
    start(podman, "web")
    exec_id, sock = started_exec(podman, "cat", tty=True)
    with sock:
        sock.sendall(b"\x10\x11")
        assert read_all(sock) == b""
    assert call(podman, "GET", f"/exec/{exec_id}/json").json["Running"] is True


def test_an_exec_that_has_ended_can_be_removed(podman: Engine) -> None:
    """Before that its exit code is 0, so that the exit code alone does not tell."""
    shell(podman, "web", "sleep 100")
    start(podman, "web")
    command = {"Cmd": ["sh", "-c", "exit 4"], "AttachStdout": True}
    exec_id = call(podman, "POST", "/containers/web/exec", command).json["Id"]

    def seen() -> tuple[bool, int, bool]:
        inspected = call(podman, "GET", f"/exec/{exec_id}/json").json
        return inspected["Running"], inspected["ExitCode"], inspected["CanRemove"]

    assert seen() == (False, 0, False)
    call(podman, "POST", f"/exec/{exec_id}/start", {"Detach": False, "Tty": False})
    assert seen() == (False, 4, True)


def test_the_processes_of_a_container(podman: Engine) -> None:
    target = "/containers/web/top?ps_args=hpid,state"
    create(podman, "web", "sleep", "100")
    refused = call(podman, "GET", target)
    assert (refused.status, refused.message) == (500, "top can only be used on running containers")
    start(podman, "web")
    pid = call(podman, "GET", "/containers/web/json").json["State"]["Pid"]
    document = call(podman, "GET", target).json
    assert document["Titles"] == ["HPID", "STATE"]
    assert [process for process, _ in document["Processes"]] == [str(pid)]


def test_an_attach_resets_an_exited_container(podman: Engine) -> None:
    exited(podman)
    assert exchange(podman, attach_request("web", "logs=1&stream=0&stdout=1")) == H101 + frame(1, b"a\n")
    state = call(podman, "GET", "/containers/web/json").json["State"]
    assert (state["Status"], state["Running"], state["ExitCode"]) == ("created", False, 0)
    assert call(podman, "POST", "/containers/web/wait").body == b'{"StatusCode":-1,"Error":null}\n'
    assert b"a\n" in call(podman, "GET", "/containers/web/logs?stdout=1").body


def test_an_attach_to_an_exited_container_waits_for_its_next_run(podman: Engine) -> None:
    exited(podman)
    with attached(podman, "web") as sock:
        assert status(podman, "web") == "created"
        start(podman, "web")
        assert read_all(sock) == frame(1, b"a\n")
    assert wait(podman, "web") == 3


def test_reading_the_logs_resets_nothing(podman: Engine) -> None:
    exited(podman)
    assert b"a\n" in call(podman, "GET", "/containers/web/logs?stdout=1").body
    assert (status(podman, "web"), wait(podman, "web")) == ("exited", 3)


def test_wait_for_a_container_that_has_not_run(podman: Engine) -> None:
    create(podman, "web", "true")
    assert wait(podman, "web") == -1


@pytest.mark.parametrize(
    ("condition", "code", "error"),
    [("next-exit", 3, "None"), ("not-running", 0, "does not exist in database"), ("removed", 0, "None")],
)
def test_wait_for_a_container_that_is_removed_at_its_end(podman: Engine, condition: str, code: int, error: str) -> None:
    shell(podman, "web", "read line; exit 3", OpenStdin=True, StdinOnce=True, HostConfig={"AutoRemove": True})
    start(podman, "web")
    with dial(podman) as sock, attached(podman, "web", "stream=1&stdin=1&stdout=1") as stdin:
        sock.sendall(f"POST /containers/web/wait?condition={condition} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        read_until(sock, b"\r\n\r\n")
        stdin.sendall(b"\n")
        answer = read_until(sock, b"0\r\n\r\n").split(b"\r\n")[1]
    assert json.loads(answer)["StatusCode"] == code
    assert error in str(json.loads(answer)["Error"])
    assert call(podman, "GET", "/containers/web/json").status == 404


def test_a_half_close_ends_stdin_for_good(podman: Engine) -> None:
    shell(podman, "web", "cat; echo done", OpenStdin=True, StdinOnce=False)
    start(podman, "web")
    with attached(podman, "web", "stream=1&stdin=1&stdout=1") as sock:
        sock.sendall(b"input\n")
        sock.shutdown(socket.SHUT_WR)
        assert read_until(sock, b"done\n")
        assert read_all(sock) == b""
    assert wait(podman, "web") == 0


def test_a_half_close_on_a_terminal_ends_nothing(podman: Engine) -> None:
    shell(podman, "web", "read line; echo done", Tty=True, OpenStdin=True)
    start(podman, "web")
    with attached(podman, "web", "stream=1&stdin=1&stdout=1") as sock:
        sock.shutdown(socket.SHUT_WR)
        with attached(podman, "web", "stream=1&stdin=1&stdout=1") as other:
            other.sendall(b"\n")
            assert read_all(sock).endswith(b"done\r\n")


def test_all_streams_come(podman: Engine) -> None:
    create(podman, "web", "sh", "-c", "echo out; echo err >&2")
    with attached(podman, "web", "stream=1&stdout=0&stderr=0") as sock:
        start(podman, "web")
        answer = read_all(sock)
    assert frame(1, b"out\n") in answer
    assert frame(2, b"err\n") in answer


def test_a_log_driver_that_keeps_nothing(podman: Engine) -> None:
    shell(podman, "web", "sleep 100", HostConfig={"LogConfig": {"Type": "none"}})
    start(podman, "web")
    text = b"Error: this container is using the 'none' log driver, cannot read logs: "
    text += b"this container is not logging output\n"
    assert exchange(podman, attach_request("web", "stream=1&logs=1&stdout=1")) == H101 + frame(2, text)
    logs = call(podman, "GET", "/containers/web/logs?stdout=1")
    assert (logs.status, logs.json["cause"]) == (500, "this container is not logging output")
    assert status(podman, "web") == "running"
