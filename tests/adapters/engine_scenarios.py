"""The other half of the table: what the adapters ask an engine for, in which order, and what they make of its answers.

Scenarios as in scenarios.py, for an engine that each adapter dials by itself.
"""

from __future__ import annotations

import gc
import json
import os
import socket
import threading
from collections.abc import Collection
from typing import Any

import pytest

from attachproto import (
    Attach,
    AttachOptions,
    ExecStart,
    Framing,
    LocalProtocolError,
    Logs,
    OutputClosed,
    OutputEvent,
    Quirk,
    RawOutput,
    RemoteProtocolError,
    Request,
    Stderr,
    Stdout,
    Systemerr,
)
from attachproto_adapters import (
    ApiVersionRejected,
    AttachmentClosed,
    AttachWarning,
    ContainerNotRunning,
    EngineReportedError,
    EngineUnreachable,
    ExecAlreadyStarted,
    ExecResult,
    ExitCodeUnknown,
    HalfCloseEndsAttach,
    HostInvalid,
    InspectedContainer,
    InspectedExec,
    Line,
    LogsUnavailable,
    OutputTooLarge,
    RequestRejected,
)
from attachproto_adapters._flows._marker import SCRIPT
from tests.adapters.frameworks import WITH_STDIN, Client, Framework
from tests.adapters.scenarios import MUCH, Table, everything, pattern
from tests.adapters.scripted import (
    BOUND,
    Act,
    Engine,
    Peer,
    accepts,
    answers,
    close,
    container,
    docker_exec,
    echo,
    holds,
    podman_exec,
    refuses,
    rejects,
    stays,
    then,
    waits,
    write,
)
from tests.helpers import H101M, frame

TABLE = Table()
scenario = TABLE.scenario

WITH_LOGS = AttachOptions(logs=True)


def targets(engine: Engine) -> list[str]:
    """What was asked, as it went over the wire."""
    plain = (each if isinstance(each, Request) else each.to_request() for each in engine.requests)
    return [f"{each.method} {each.target}" for each in plain]


# ---- attach ----


@scenario(half_closes=1)
async def attach_and_communicate(framework: Framework, engine: Engine) -> None:
    engine.on("attach", echo)
    async with await framework.attach("web", WITH_STDIN, host=engine.host) as attachment:
        assert attachment.can_half_close
        assert await attachment.communicate(b"input") == (b"input", b"")
    assert engine.calls == ["inspect", "attach", "inspect"]
    name = engine.host.removeprefix("tcp://") if engine.host.startswith("tcp://") else "localhost"
    assert {dict(request.headers)["host"] for request in engine.requests} == {name}


@scenario()
async def the_request_is_what_was_asked_for(framework: Framework, engine: Engine) -> None:
    options = AttachOptions(stdin=True, logs=True, stderr=False, detach_keys="ctrl-x,x")
    async with await framework.attach("web", options, host=engine.host) as attachment:
        await attachment.communicate()
    assert engine.attach_requests() == [Attach("web", options)]
    assert targets(engine)[0] == targets(engine)[2] == "GET /containers/web/json"


@scenario()
async def the_engine_of_the_environment(framework: Framework, engine: Engine) -> None:
    engine.on("exec", answers({"Id": "e1"}, 201))
    engine.on("logs", accepts(status_code=200))
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("DOCKER_HOST", engine.host)
        environment.setenv("DOCKER_API_VERSION", "v1.43")
        for version, expected in ({}, "1.43"), ({"api_version": "1.42"}, "1.42"):
            engine.requests.clear()
            engine.on("inspect", answers(container()))
            await (await framework.attach("web", **version)).aclose()
            await (await framework.logs("web", **version)).aclose()
            engine.on("inspect", answers(docker_exec()), answers(docker_exec(exit_code=0)))
            engine.on("start", accepts())
            await (await framework.exec_start("e1", **version)).aclose()
            engine.on("start", accepts(Stdout(b"done\n")))
            await framework.run_exec("web", ["echo", "done"], **version)
            assert {request.api_version for request in engine.requests} == {expected}
            assert len(engine.requests) == 11


@scenario()
async def a_terminal_is_read_as_inspect_says(framework: Framework, engine: Engine) -> None:
    engine.on("inspect", answers(container(tty=True)))
    engine.on("attach", accepts(RawOutput(b"$ "), framing=Framing.RAW))
    async with await framework.attach("web", host=engine.host) as attachment:
        assert isinstance(attachment.inspected, InspectedContainer)
        assert attachment.inspected.tty
        assert await attachment.communicate() == (b"$ ", b"")


@scenario()
async def start_comes_last_and_no_first_output_is_lost(framework: Framework, engine: Engine) -> None:
    started, exited = threading.Event(), threading.Event()

    def attached(peer: Peer) -> None:
        peer.accept()
        assert started.wait(BOUND)
        peer.send(Stdout(b"the first line\n"), OutputClosed())
        peer.until_closed()
        exited.set()

    def start(peer: Peer) -> None:
        started.set()
        answers(None, 204)(peer)

    engine.on("inspect", answers(container(status="created")), answers(container(status="exited", exit_code=3)))
    engine.on("attach", attached)
    engine.on("start", start)
    engine.on("wait", waits(3, exited))
    async with await framework.attach("web", host=engine.host, start=True) as attachment:
        assert engine.calls == ["inspect", "attach", "wait next-exit", "start"]
        assert await attachment.communicate() == (b"the first line\n", b"")
        assert await attachment.wait() == 3
        assert await attachment.wait() == 3
    assert engine.calls[4:] == ["inspect"]


@scenario()
async def start_of_a_container_that_runs_already(framework: Framework, engine: Engine) -> None:
    engine.on("start", answers(None, 304))
    engine.on("wait", waits(1))
    async with await framework.attach("web", host=engine.host, start=True) as attachment:
        assert await attachment.wait() == 1


@scenario()
async def exited_between_the_two_looks(framework: Framework, engine: Engine) -> None:
    """The first stream would never end; it is closed, and what was logged is read."""
    engine.on("inspect", answers(container()), answers(container(status="exited", exit_code=9)))
    engine.on("attach", stays())
    engine.on("logs", accepts(Stdout(b"logged"), status_code=200))
    async with await framework.attach("web", WITH_LOGS, host=engine.host) as attachment:
        assert await attachment.communicate() == (b"logged", b"")
        assert await attachment.wait() == 9
    assert engine.calls == ["inspect", "attach", "inspect", "logs"]


@scenario(podman=[False, "4.3.1", "5.8.6"])
async def a_container_that_has_exited_is_read_as_often_as_one_likes(
    framework: Framework, engine: Engine, podman: bool | str
) -> None:
    """By ``GET /logs``: an attach would never end on dockerd, and reset the container on Podman."""
    engine.on("inspect", answers(container(status="exited", exit_code=6), podman=podman))
    engine.on("logs", accepts(Stdout(b"out\n"), Stderr(b"err\n"), status_code=200))
    for _ in range(5):
        async with await framework.attach("web", WITH_LOGS, host=engine.host, wait=True) as attachment:
            assert await attachment.communicate() == (b"out\n", b"err\n")
            assert await attachment.wait() == 6
    assert engine.calls == ["inspect", "logs"] * 5


@scenario()
async def nothing_reads_the_stdin_of_a_container_that_has_exited(framework: Framework, engine: Engine) -> None:
    engine.on("inspect", answers(container(status="exited")))
    engine.on("logs", accepts(Stdout(b"logged"), status_code=200))
    options = AttachOptions(stdin=True, logs=True)
    async with await framework.attach("web", options, host=engine.host) as attachment:
        for refused in (attachment.send_stdin(b"x"), attachment.close_stdin(), attachment.communicate(b"x")):
            with pytest.raises(ContainerNotRunning, match="nothing reads its stdin"):
                await refused
        assert await attachment.communicate() == (b"logged", b"")


@scenario(again=["exited", "created"])
async def an_attach_that_podman_refuses_because_the_container_has_ended(
    framework: Framework, engine: Engine, again: str
) -> None:
    """The attach has made ``created`` of it, and the exit code is gone: nobody is asked for it."""
    engine.on("inspect", answers(container(), podman=True), answers(container(status=again, exit_code=5), podman=True))
    engine.on("attach", rejects(500, "can only attach to created or running containers: container state improper"))
    engine.on("logs", accepts(Stdout(b"logged"), status_code=200))
    async with await framework.attach("web", WITH_LOGS, host=engine.host) as attachment:
        assert await attachment.communicate() == (b"logged", b"")
        for _ in range(2):
            if again == "exited":
                assert await attachment.wait() == 5
            else:
                with pytest.raises(ExitCodeUnknown, match="web had exited"):
                    await attachment.wait()
    assert engine.calls == ["inspect", "attach", "inspect", "logs"]


@scenario()
async def an_attach_that_podman_refuses_because_it_stops_the_container(framework: Framework, engine: Engine) -> None:
    engine.on("inspect", answers(container(status="stopping"), podman=True))
    engine.on("attach", rejects(500, "can only attach to created or running containers - currently in state stopping"))
    with pytest.raises(ContainerNotRunning, match="web is stopping: can only attach"):
        await framework.attach("web", WITH_LOGS, host=engine.host)


# ---- log drivers that cannot be read ----


@scenario(status=["running", "exited"])
async def logs_that_cannot_be_read_are_refused_before_anything_is_opened(
    framework: Framework, engine: Engine, status: str
) -> None:
    engine.on("inspect", answers(container(status=status, log_driver="none")))
    for opening in (framework.attach("web", WITH_LOGS, host=engine.host), framework.logs("web", host=engine.host)):
        with pytest.raises(LogsUnavailable, match="'none'") as caught:
            await opening
        assert caught.value.driver == "none"
    assert engine.calls == ["inspect", "inspect"]


@scenario()
async def what_has_no_logs_yet_is_attached_to_without_them(framework: Framework, engine: Engine) -> None:
    engine.on("inspect", answers(container(status="created", log_driver="none")))
    engine.on("attach", accepts(Stdout(b"all of it")))
    async with await framework.attach("web", WITH_LOGS, host=engine.host, start=True) as attachment:
        assert await attachment.communicate() == (b"all of it", b"")
    assert [request.options for request in engine.attach_requests()] == [AttachOptions()]


@scenario()
async def dockerd_is_asked_whether_it_can_read_a_log_driver(framework: Framework, engine: Engine) -> None:
    engine.on("inspect", answers(container(log_driver="gelf")))
    engine.on("logs", rejects(501, "configured logging driver does not support reading"))
    with pytest.raises(LogsUnavailable, match="does not support reading") as caught:
        await framework.attach("web", WITH_LOGS, host=engine.host)
    assert caught.value.driver == "gelf"
    assert engine.calls == ["inspect", "logs"]
    assert targets(engine)[-1].endswith("&tail=0")


@scenario(again=[container(status="exited"), container(status="created")])
async def over_before_we_came_and_no_logs_asked_for(framework: Framework, engine: Engine, again: object) -> None:
    """Podman has made it a created one by our attach, which nobody will start (live.md, 10)."""
    engine.on("inspect", answers(container()), answers(again))
    engine.on("attach", stays())
    with pytest.raises(ContainerNotRunning):
        await framework.attach("web", host=engine.host)
    await framework.aside(engine.close)


@scenario()
async def a_container_that_is_removed_at_its_end_gives_its_output(framework: Framework, engine: Engine) -> None:
    """AutoRemove: when we look again it is gone, and its output is in the stream that we have."""
    engine.on("inspect", answers(container()), refuses(404, "No such container: web"))
    engine.on("attach", accepts(Stdout(b"all of it")))
    async with await framework.attach("web", host=engine.host) as attachment:
        assert await attachment.communicate() == (b"all of it", b"")


@scenario(kwargs=[{}, {"start": True}, {"wait": True}])
async def a_paused_container_is_not_attached_to(framework: Framework, engine: Engine, kwargs: dict[str, bool]) -> None:
    engine.on("inspect", answers(container(status="paused")))
    with pytest.raises(ContainerNotRunning, match="paused"):
        await framework.attach("web", host=engine.host, **kwargs)
    assert engine.calls == ["inspect"]


# ---- an attach that fails leaves nothing ----

FAILURES: list[tuple[dict[str, Act], dict[str, bool], type[Exception], str]] = [
    ({"inspect": refuses(404, "No such container: web")}, {}, RequestRejected, "No such container: web .404"),
    ({"inspect": answers([])}, {}, RemoteProtocolError, "answer to inspect"),
    ({"inspect": answers(container(status="exited"))}, {}, ContainerNotRunning, "not running"),
    ({"inspect": write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{")}, {}, RemoteProtocolError, "body was cut"),
    ({"attach": rejects(409, "it is paused")}, {}, RequestRejected, "it is paused .409"),
    ({"attach": rejects(409, "it is paused")}, {"wait": True}, RequestRejected, "it is paused .409"),
    ({"attach": write(b"HTTP/1.1 500")}, {"wait": True}, RemoteProtocolError, "ended inside"),
    ({"wait": refuses(500, "no")}, {"wait": True}, RequestRejected, "no .500"),
    ({"wait": refuses(500, "no")}, {"start": True}, RequestRejected, "no .500"),
    ({"start": refuses(500, "no runtime")}, {"start": True}, RequestRejected, "no runtime .500"),
    ({"start": close}, {"start": True}, RemoteProtocolError, "before any answer"),
]


@scenario(failure=FAILURES)
async def everything_is_closed_when_it_fails(framework: Framework, engine: Engine, failure: tuple[Any, ...]) -> None:
    script, kwargs, error, match = failure
    for call, act in {"attach": stays(), "wait": holds, **script}.items():
        engine.on(call, act)
    with pytest.raises(error, match=match) as caught:
        await framework.attach("web", host=engine.host, **kwargs)
    # Every act ends, so each connection is closed, and not by the garbage collector: the traceback is still held.
    await framework.aside(engine.close)
    assert caught.tb is not None


@scenario()
async def the_first_stream_is_closed_when_the_second_look_fails(framework: Framework, engine: Engine) -> None:
    engine.on("inspect", answers(container()), refuses(500, "the engine is ill"))
    engine.on("attach", stays())
    with pytest.raises(RequestRejected) as caught:
        await framework.attach("web", host=engine.host)
    await framework.aside(engine.close)
    assert caught.value.status_code == 500


@scenario(needs=("unix",))
async def an_engine_that_goes_away_before_the_second_look(framework: Framework, engine: Engine) -> None:
    def act(peer: Peer) -> None:
        os.unlink(engine.host.removeprefix("unix://"))
        stays()(peer)

    engine.on("attach", act)
    with pytest.raises(EngineUnreachable):
        await framework.attach("web", host=engine.host)
    await framework.aside(engine.close)


@scenario(needs=("unix",))
async def no_engine_behind_a_socket(framework: Framework, engine: Engine) -> None:
    engine.close()
    with pytest.raises(EngineUnreachable, match=r"at unix://.* \(as given\): Connection refused"):
        await framework.attach("web", host=engine.host)
    os.unlink(engine.host.removeprefix("unix://"))
    with pytest.raises(EngineUnreachable) as caught:
        await framework.attach("web", host=engine.host)
    assert str(caught.value) == f"no engine answers at {engine.host} (as given): No such file or directory"
    assert isinstance(caught.value, ConnectionError)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("DOCKER_HOST", engine.host)
        with pytest.raises(EngineUnreachable, match=r"\(from DOCKER_HOST\): No such file"):
            await framework.attach("web")
    with pytest.raises(EngineUnreachable, match="too long"):
        await framework.attach("web", host=f"unix:///{'x' * 200}")


@scenario(needs=("tcp",))
async def no_engine_at_a_port(framework: Framework, engine: Engine) -> None:
    engine.close()
    for host in engine.host, engine.host.replace("127.0.0.1", "localhost"):
        with pytest.raises(EngineUnreachable, match=rf"{host} \(as given\): Connection refused$"):
            await framework.attach("web", host=host)


@scenario(needs=("tcp",))
async def small_writes_are_not_held_back_and_silence_is_not_forgotten(framework: Framework, engine: Engine) -> None:
    engine.on("attach", stays())
    port = int(engine.host.rpartition(":")[2])
    async with await framework.attach("web", host=engine.host):
        sockets = [each for each in gc.get_objects() if isinstance(each, socket.socket) and each.fileno() != -1]
        (ours,) = [each for each in sockets if remote_port(each) == port]
        assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) <= 60


def remote_port(sock: socket.socket) -> int | None:
    try:
        return int(sock.getpeername()[1])
    except (OSError, IndexError):
        return None


@scenario()
async def what_is_wrong_before_anything_is_asked(framework: Framework, engine: Engine) -> None:
    with pytest.raises(ValueError, match=r"'\.\./web'"):
        await framework.attach("../web", host=engine.host)
    with pytest.raises(ValueError, match=r"'\.\./web'"):
        await framework.logs("../web", host=engine.host)
    with pytest.raises(ValueError, match=r"'\.\./web'"):
        await framework.run_exec("../web", ["true"], host=engine.host)
    with pytest.raises(ValueError, match="neither stdout nor stderr"):
        await framework.logs("web", stdout=False, stderr=False, host=engine.host)
    with pytest.raises(ValueError, match="console_size"):
        await framework.exec_start("e1", tty=False, console_size=(24, 80), host=engine.host)
    with pytest.raises(ValueError, match=r"1\.x"):
        await framework.attach("web", host=engine.host, api_version="1.x")
    with pytest.raises(HostInvalid):
        await framework.attach("web", host="nonsense")
    assert engine.calls == []


# ---- the API's version ----

TOO_NEW = "client version 1.99 is too new. Maximum supported API version is 1.51"


async def opens(framework: Framework, what: str, **kwargs: Any) -> None:
    """Each of the four, for where they do the same."""
    if what == "run_exec":
        await framework.run_exec("web", ["true"], **kwargs)
    else:
        await (await getattr(framework, what)("e1" if what == "exec_start" else "web", **kwargs)).aclose()


ALL_FOUR = ["attach", "exec_start", "logs", "run_exec"]


@scenario(what=ALL_FOUR)
async def a_refused_version_is_told_with_the_engines_range(framework: Framework, engine: Engine, what: str) -> None:
    engine.on("inspect", refuses(400, TOO_NEW))
    engine.on("exec", refuses(400, TOO_NEW))
    with pytest.raises(ApiVersionRejected, match=r"API 1\.99 .* speaks 1\.24 to 1\.51") as caught:
        await opens(framework, what, host=engine.host, api_version="1.99")
    assert (caught.value.oldest, caught.value.newest) == ("1.24", "1.51")
    assert (caught.value.status_code, caught.value.message) == (400, TOO_NEW)
    assert targets(engine)[1:] == ["GET /version"]


RANGE = {"ApiVersion": "1.51", "MinAPIVersion": "1.24"}


@scenario(
    case=[
        ("1.41", answers(RANGE)),  # which is in the range, so that it is refused for something else
        ("1.24", answers(RANGE)),
        ("1.51", answers(RANGE)),
        ("1.99", answers({"ApiVersion": "1.51"})),
        ("1.99", answers({"ApiVersion": "new", "MinAPIVersion": "old"})),
        ("1.99", answers([])),
        ("1.99", refuses(500, "no")),
    ]
)
async def a_400_for_another_reason_stays_what_it_is(
    framework: Framework, engine: Engine, case: tuple[str, Act]
) -> None:
    version, answer = case
    engine.on("inspect", refuses(400, "bad parameter"))
    engine.on("version", answer)
    with pytest.raises(RequestRejected, match=r"^bad parameter \(400 to GET /containers/web/json") as caught:
        await framework.attach("web", host=engine.host, api_version=version)
    assert type(caught.value) is RequestRejected


@scenario()
async def without_a_version_none_is_asked_about(framework: Framework, engine: Engine) -> None:
    engine.on("inspect", refuses(400, "bad parameter"))
    with pytest.raises(RequestRejected, match="bad parameter"):
        await framework.attach("web", host=engine.host)
    assert engine.calls == ["inspect"]


# ---- where a half-close does not do what it should ----

ENDS_ATTACH: list[dict[str, Any]] = [{"stdin_once": False}, {"tty": True}]


@scenario(inspected=ENDS_ATTACH, input=[b"", b"x"])
async def communicate_refuses_before_it_sends(
    framework: Framework, engine: Engine, inspected: dict[str, Any], input: bytes
) -> None:
    received: list[bytes] = []

    def act(peer: Peer) -> None:
        peer.accept(Framing.RAW if "tty" in inspected else Framing.MULTIPLEXED)
        received.append(peer.until_closed())

    engine.on("inspect", answers(container(**inspected)))
    engine.on("attach", act)
    async with await framework.attach("web", WITH_STDIN, host=engine.host) as attachment:
        assert attachment.half_close_ends_attach
        with pytest.raises(HalfCloseEndsAttach):
            await attachment.communicate(input)
        # It was no call at all: other input is not the wrong one.
        with pytest.raises(HalfCloseEndsAttach):
            await attachment.communicate(b"y")
    await framework.aside(engine.close)
    assert received == [b""]


@scenario(inspected=ENDS_ATTACH, half_closes=1)
async def close_stdin_warns_and_does_it(framework: Framework, engine: Engine, inspected: dict[str, Any]) -> None:
    def act(peer: Peer) -> None:
        peer.accept(Framing.RAW if "tty" in inspected else Framing.MULTIPLEXED)
        assert peer.stdin_to_end() == b""
        peer.send(OutputClosed())
        peer.until_closed()

    engine.on("inspect", answers(container(**inspected)))
    engine.on("attach", act)
    async with await framework.attach("web", WITH_STDIN, host=engine.host) as attachment:
        with pytest.warns(AttachWarning, match="end of the attach") as warned:
            await attachment.close_stdin()
        assert [each.filename for each in warned] == [framework.caller(__file__)]
        assert await attachment.receive() == OutputClosed()


@scenario(half_closes=2, case=[({}, False), ({"stdin_once": False}, True)])
async def a_half_close_that_works_warns_of_nothing(
    framework: Framework, engine: Engine, case: tuple[dict[str, Any], bool]
) -> None:
    inspected, podman = case
    engine.on("inspect", answers(container(**inspected), podman=podman))
    engine.on("attach", echo)
    async with await framework.attach("web", WITH_STDIN, host=engine.host) as attachment:
        assert not attachment.half_close_ends_attach
        assert await attachment.communicate(b"x") == (b"x", b"")
    async with await framework.attach("web", WITH_STDIN, host=engine.host) as attachment:
        await attachment.send_stdin(b"x")
        await attachment.close_stdin()
        assert await attachment.communicate() == (b"x", b"")


@scenario(half_closes=1)
async def stdin_that_nobody_reads_is_warned_of_when_it_is_attached(framework: Framework, engine: Engine) -> None:
    engine.on("inspect", answers(container(open_stdin=False)))
    engine.on("attach", echo)
    with pytest.warns(AttachWarning, match="OpenStdin") as warned:
        attachment = await framework.attach("web", WITH_STDIN, host=engine.host)
    assert [each.filename for each in warned] == [framework.caller(__file__)]
    async with attachment:
        assert await attachment.communicate(b"x") == (b"x", b"")


# ---- wait and resize ----


@scenario()
async def a_wait_that_was_asked_for_is_held(framework: Framework, engine: Engine) -> None:
    engine.on("wait", waits(4))
    async with await framework.attach("web", host=engine.host, wait=True) as attachment:
        assert engine.calls == ["inspect", "wait not-running", "attach", "inspect"]
        assert await attachment.wait() == 4
        assert await attachment.wait() == 4
    assert len(engine.calls) == 4


@scenario()
async def wait_is_asked_at_the_call_otherwise(framework: Framework, engine: Engine) -> None:
    engine.on("wait", waits(5))
    async with await framework.attach("web", host=engine.host) as attachment:
        assert "wait not-running" not in engine.calls
        assert await attachment.wait() == 5
        assert await attachment.wait() == 5
    assert engine.calls == ["inspect", "attach", "inspect", "wait not-running"]
    assert await attachment.wait() == 5, "a code that is known is known after the close"


@scenario()
async def wait_knows_what_inspect_said_before_the_attach(framework: Framework, engine: Engine) -> None:
    """Another client may have it reset or removed by Podman until then."""
    engine.on("inspect", answers(container(status="exited", exit_code=6)), answers(container(status="created")))
    engine.on("logs", accepts(Stdout(b"logged"), status_code=200))
    async with await framework.attach("web", WITH_LOGS, host=engine.host) as attachment:
        assert await attachment.communicate() == (b"logged", b"")
        assert await attachment.wait() == 6
    assert engine.calls == ["inspect", "logs"]


@scenario()
async def a_wait_that_is_held_on_podman_is_the_next_exit(framework: Framework, engine: Engine) -> None:
    """Also of a container that our attach has reset: what was held before has the exit code."""
    running, reset = answers(container(), podman=True), answers(container(status="created"), podman=True)
    engine.on("inspect", running, running, reset)
    engine.on("wait", waits(4))
    engine.on("attach", stays())
    engine.on("logs", accepts(Stdout(b"logged"), status_code=200))
    async with await framework.attach("web", WITH_LOGS, host=engine.host, wait=True) as attachment:
        assert engine.calls == ["inspect", "wait next-exit", "inspect", "attach", "inspect", "logs"]
        assert await attachment.communicate() == (b"logged", b"")
        assert await attachment.wait() == 4


@scenario()
async def a_wait_that_came_too_late_on_podman_is_closed(framework: Framework, engine: Engine) -> None:
    """It would never be answered."""
    closed = threading.Event()
    engine.on(
        "inspect", answers(container(), podman=True), answers(container(status="exited", exit_code=6), podman=True)
    )
    engine.on("wait", then(holds, lambda _: closed.set()))
    engine.on("logs", accepts(Stdout(b"logged"), status_code=200))
    async with await framework.attach("web", WITH_LOGS, host=engine.host, wait=True) as attachment:
        await framework.aside(lambda: closed.wait(BOUND))
        assert closed.is_set()
        assert await attachment.communicate() == (b"logged", b"")
        assert await attachment.wait() == 6
    assert engine.calls == ["inspect", "wait next-exit", "inspect", "logs"]


@scenario()
async def a_wait_that_is_refused(framework: Framework, engine: Engine) -> None:
    engine.on("wait", refuses(404, "No such container: web"))
    async with await framework.attach("web", host=engine.host) as attachment:
        for _ in range(2):
            with pytest.raises(ExitCodeUnknown, match="No such container"):
                await attachment.wait()


@scenario()
async def a_wait_whose_connection_broke_asks_anew(framework: Framework, engine: Engine) -> None:
    engine.on("wait", close, waits(3))
    async with await framework.attach("web", host=engine.host) as attachment:
        with pytest.raises(RemoteProtocolError, match="ended before any answer"):
            await attachment.wait()
        assert await attachment.wait() == 3


@scenario(held=[False, True], answer=[{"StatusCode": 0, "Error": {"Message": "it is gone"}}, {"StatusCode": -1}])
async def a_wait_that_the_engine_cannot_answer(
    framework: Framework, engine: Engine, held: bool, answer: dict[str, Any]
) -> None:
    """Podman's answers for what it has removed, and for what was reset. Asked again, it may tell of another run."""
    engine.on("attach", accepts(Stdout(b"out")))
    engine.on("inspect", answers(container()), answers(container()), answers(container(status="exited")))
    engine.on("wait", answers(answer), waits(0))
    async with await framework.attach("web", host=engine.host, wait=held) as attachment:
        assert await attachment.communicate() == (b"out", b"")
        for _ in range(2):
            with pytest.raises(ExitCodeUnknown, match=r"it is gone|-1") as caught:
                await attachment.wait()
            assert caught.value.stdout == b"out"
    assert sum(call.startswith("wait") for call in engine.calls) == 1


@scenario(held=[False, True])
async def close_wakes_who_waits(framework: Framework, engine: Engine, held: bool) -> None:
    asked = threading.Event()

    def note(peer: Peer) -> None:
        asked.set()

    engine.on("attach", stays())
    engine.on("wait", then(note, holds))
    attachment = await framework.attach("web", host=engine.host, wait=held)

    async def wait() -> None:
        with pytest.raises(AttachmentClosed):
            await attachment.wait()

    async def leave() -> None:
        await framework.until(asked)
        await attachment.aclose()

    await framework.together(wait(), leave())
    with pytest.raises(AttachmentClosed):
        await attachment.wait()


@scenario()
async def resize_and_detach(framework: Framework, engine: Engine) -> None:
    engine.on("attach", stays())
    engine.on("resize", answers(None), refuses(409, "container web is not running"))
    attachment = await framework.attach("web", host=engine.host)
    await attachment.resize(40, 100)
    assert targets(engine)[-1] == "POST /containers/web/resize?h=40&w=100"
    with pytest.raises(RequestRejected, match="not running"):
        await attachment.resize(1, 1)
    engine.on("resize", write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>"))
    with pytest.raises(RemoteProtocolError, match="POST /containers/web/resize is 200 with '<html>', and"):
        await attachment.resize(1, 1)
    await attachment.detach()
    with pytest.raises(AttachmentClosed):
        await attachment.receive()


# ---- exec ----


@scenario(half_closes=1)
async def an_exec_is_looked_at_and_started(framework: Framework, engine: Engine) -> None:
    engine.on("inspect", answers(docker_exec()), answers(docker_exec(exit_code=5)))
    engine.on("start", echo)
    async with await framework.exec_start("e1", host=engine.host) as attachment:
        assert attachment.inspected == InspectedExec(tty=False, open_stdin=True, podman=None)
        assert await attachment.communicate(b"input") == (b"input", b"")
        assert await attachment.wait() == 5
        assert await attachment.wait() == 5
    assert targets(engine) == ["GET /exec/e1/json", "POST /exec/e1/start", "GET /exec/e1/json"]
    assert engine.requests[1] == ExecStart("e1", tty=False)


@scenario(given=[None, True])
async def an_execs_terminal_is_what_inspect_says(framework: Framework, engine: Engine, given: bool | None) -> None:
    engine.on("inspect", answers(docker_exec(tty=True)), answers(docker_exec(tty=True, exit_code=0)))
    engine.on("start", accepts(RawOutput(b"$ "), framing=Framing.RAW))
    engine.on("resize", answers(None))
    async with await framework.exec_start("e1", host=engine.host, tty=given, console_size=(24, 80)) as attachment:
        await attachment.resize(40, 100)
        assert await attachment.communicate() == (b"$ ", b"")
    assert engine.requests[1] == ExecStart("e1", tty=True, console_size=(24, 80))
    assert targets(engine)[2] == "POST /exec/e1/resize?h=40&w=100"


@scenario()
async def a_console_size_needs_a_terminal(framework: Framework, engine: Engine) -> None:
    engine.on("inspect", answers(docker_exec()))
    with pytest.raises(ValueError, match="console_size"):
        await framework.exec_start("e1", host=engine.host, console_size=(24, 80))
    assert engine.calls == ["inspect"]


@scenario(
    inspected=[
        answers(docker_exec(running=True)),
        answers(docker_exec(exit_code=0)),
        answers(podman_exec(running=True), podman=True),
        answers(podman_exec(exit_code=0), podman=True),
    ]
)
async def an_exec_that_was_started_before(framework: Framework, engine: Engine, inspected: Act) -> None:
    engine.on("inspect", inspected)
    with pytest.raises(ExecAlreadyStarted, match="e1 was started before"):
        await framework.exec_start("e1", host=engine.host)
    assert engine.calls == ["inspect"]


@scenario()
async def an_exec_without_stdin_takes_none(framework: Framework, engine: Engine) -> None:
    """dockerd would take it, and nobody would read it."""

    def act(peer: Peer) -> None:
        peer.accept()
        peer.send(Stdout(b"x"), OutputClosed())
        assert peer.until_closed() == b""

    engine.on("inspect", answers(docker_exec(open_stdin=False)), answers(docker_exec(exit_code=0)))
    engine.on("start", act)
    async with await framework.exec_start("e1", host=engine.host) as attachment:
        with pytest.raises(LocalProtocolError, match="AttachStdin"):
            await attachment.send_stdin(b"x")
        with pytest.raises(LocalProtocolError, match="AttachStdin"):
            await attachment.close_stdin()
        with pytest.raises(LocalProtocolError, match="AttachStdin"):
            await attachment.communicate(b"x")
        assert await attachment.communicate() == (b"x", b"")


@scenario(half_closes=1)
async def a_half_close_on_an_execs_terminal(framework: Framework, engine: Engine) -> None:
    def act(peer: Peer) -> None:
        peer.accept(Framing.RAW)
        assert peer.stdin_to_end() == b"exit\n"
        peer.send(OutputClosed())
        peer.until_closed()

    engine.on("inspect", answers(docker_exec(tty=True)))
    engine.on("start", act)
    async with await framework.exec_start("e1", host=engine.host) as attachment:
        with pytest.raises(HalfCloseEndsAttach):
            await attachment.communicate(b"exit\n")
        await attachment.send_stdin(b"exit\n")
        with pytest.warns(AttachWarning, match="end of the attach") as warned:
            await attachment.close_stdin()
        assert [each.filename for each in warned] == [framework.caller(__file__)]
        assert await attachment.receive() == OutputClosed()


@scenario(podman=[False, True])
async def an_exec_is_asked_until_it_has_ended(framework: Framework, engine: Engine, podman: bool) -> None:
    shape = podman_exec if podman else docker_exec
    # dockerd does not report it as running any more. Podman has an exec that neither runs nor can be removed.
    between = answers(shape(), podman=podman)
    running = answers(shape(running=True), podman=podman) if podman else between
    ended = answers(shape(exit_code=7), podman=podman)
    engine.on("inspect", answers(shape(), podman=podman), running, between, ended)
    engine.on("start", accepts())
    async with await framework.exec_start("e1", host=engine.host) as attachment:
        assert await attachment.receive() == OutputClosed()
        assert await attachment.wait() == 7
    assert engine.calls == ["inspect", "start", "inspect", "inspect", "inspect"]
    assert await attachment.wait() == 7


@scenario()
async def an_exec_that_is_forgotten(framework: Framework, engine: Engine) -> None:
    engine.on("inspect", answers(docker_exec()), refuses(404, "No such exec instance: e1"))
    engine.on("start", accepts())
    async with await framework.exec_start("e1", host=engine.host) as attachment:
        with pytest.raises(ExitCodeUnknown, match="No such exec instance"):
            await attachment.wait()
    with pytest.raises(AttachmentClosed):
        await attachment.wait()


@scenario()
async def close_ends_the_asking_for_an_execs_end(framework: Framework, engine: Engine) -> None:
    asked = threading.Event()

    def running(peer: Peer) -> None:
        asked.set()
        answers(docker_exec(running=True))(peer)

    engine.on("inspect", answers(docker_exec()), running)
    engine.on("start", stays())
    attachment = await framework.exec_start("e1", host=engine.host)

    async def wait() -> None:
        with pytest.raises(AttachmentClosed):
            await attachment.wait()

    async def leave() -> None:
        await framework.until(asked)
        await attachment.aclose()

    await framework.together(wait(), leave())


@scenario(
    script=[
        {"inspect": refuses(404, "No such exec instance: e1")},
        {"start": rejects(409, "container is paused")},
        {"inspect": answers({"Running": False})},
        {"start": write(b"HTTP/1.1 101 UPGR")},
    ]
)
async def nothing_is_left_of_an_exec_that_cannot_be_started(
    framework: Framework, engine: Engine, script: dict[str, Act]
) -> None:
    engine.on("inspect", answers(docker_exec()))
    for call, act in script.items():
        engine.on(call, act)
    with pytest.raises((RequestRejected, RemoteProtocolError)) as caught:
        await framework.exec_start("e1", host=engine.host)
    await framework.aside(engine.close)
    assert caught.tb is not None


# ---- run_exec ----


@scenario(half_closes=None, input=[None, b"", b"SELECT 1;\n", pattern(MUCH)])
async def run_exec_creates_starts_feeds_reads_and_asks(
    framework: Framework, engine: Engine, input: bytes | None
) -> None:
    engine.on("exec", answers({"Id": "e7"}, 201))

    def act(peer: Peer) -> None:
        peer.accept()
        got = b"nothing" if input is None else peer.stdin_to_end()
        peer.send(Stdout(b"got " + got), Stderr(b"done"), OutputClosed())
        peer.until_closed()

    engine.on("start", act)
    engine.on("inspect", answers(docker_exec(exit_code=3)))
    result = await framework.run_exec("web", ["sh", "-c", "exit 3"], input=input, host=engine.host)
    assert result == ExecResult(3, b"got " + (b"nothing" if input is None else input), b"done")
    assert targets(engine) == [
        "GET /containers/web/json",
        "POST /containers/web/exec",
        "POST /exec/e7/start",
        "GET /exec/e7/json",
    ]
    assert created(engine) == {
        "AttachStdin": input is not None,
        "AttachStdout": True,
        "AttachStderr": True,
        "Tty": False,
        "Cmd": ["sh", "-c", "exit 3"],
    }


def created(engine: Engine) -> Any:
    """What an exec was created of; its command is without the shell that tells its process."""
    request = engine.requests[engine.calls.index("exec")]
    assert isinstance(request, Request)
    assert dict(request.headers)["content-type"] == "application/json"
    value = json.loads(request.body)
    assert value["Cmd"][:3] == ["/bin/sh", "-c", SCRIPT]
    return value | {"Cmd": value["Cmd"][4:]}


@scenario()
async def a_command_that_is_not_to_be_killed_is_started_as_it_is(framework: Framework, engine: Engine) -> None:
    engine.on("start", accepts(Stdout(b"done")))
    engine.on("inspect", answers(docker_exec(exit_code=0)))
    result = await framework.run_exec("web", ["make"], kill=False, host=engine.host)
    assert result == ExecResult(0, b"done", b"")
    assert engine.calls == ["exec", "start", "inspect"]
    request = engine.requests[0]
    assert isinstance(request, Request)
    assert json.loads(request.body)["Cmd"] == ["make"]


@scenario()
async def run_exec_with_all_that_can_be_said(framework: Framework, engine: Engine) -> None:
    engine.on("start", accepts(RawOutput(b"$ "), framing=Framing.RAW))
    engine.on("inspect", answers(podman_exec(tty=True, exit_code=0), podman=True))
    result = await framework.run_exec(
        "web",
        ("id", "ü"),
        tty=True,
        env={"A": "1", "B": "x=y", "C": ""},
        user="1000:100",
        workdir="/srv",
        host=engine.host,
        api_version="1.41",
    )
    assert result == ExecResult(0, b"$ ", b"")
    assert created(engine) == {
        "AttachStdin": False,
        "AttachStdout": True,
        "AttachStderr": True,
        "Tty": True,
        "Cmd": ["id", "ü"],
        "Env": ["A=1", "B=x=y", "C="],
        "User": "1000:100",
        "WorkingDir": "/srv",
    }
    assert engine.requests[2] == ExecStart("e1", tty=True, api_version="1.41")


MISTAKES: list[tuple[Any, dict[str, Any], type[Exception], str]] = [
    ("echo hi", {}, TypeError, "sequence of arguments"),
    (b"echo hi", {}, TypeError, "sequence of arguments"),
    (["echo", b"hi"], {}, TypeError, "are str, and not all"),
    ([], {}, ValueError, "empty"),
    (["true"], {"input": b"", "tty": True}, HalfCloseEndsAttach, "TTY"),
    (["true"], {"input": b"x", "tty": True}, HalfCloseEndsAttach, "TTY"),
    (["true"], {"env": {"A=B": "1"}}, ValueError, "A=B"),
    (["true"], {"env": {"": "1"}}, ValueError, "not empty"),
    (["true"], {"env": {"A": "1"}, "api_version": "1.24"}, ValueError, r"env needs API 1\.25"),
    (["true"], {"workdir": "/srv", "api_version": "1.34"}, ValueError, r"workdir needs API 1\.35"),
]


@scenario(mistake=MISTAKES)
async def run_exec_refuses_before_anything_is_asked(
    framework: Framework, engine: Engine, mistake: tuple[Any, ...]
) -> None:
    command, kwargs, error, match = mistake
    with pytest.raises(error, match=match):
        await framework.run_exec("web", command, host=engine.host, **kwargs)
    assert engine.calls == []


@scenario(
    case=[
        ({"exec": refuses(404, "No such container: web")}, RequestRejected, r"404 to POST /containers/web/exec"),
        (
            {"exec": refuses(409, "is paused"), "inspect": answers(container(status="paused"))},
            ContainerNotRunning,
            "paused",
        ),
        (
            {"exec": refuses(500, "improper"), "inspect": answers(container(status="exited"))},
            ContainerNotRunning,
            "exited",
        ),
        ({"exec": refuses(409, "why not"), "inspect": answers(container())}, RequestRejected, "why not"),
        ({"exec": refuses(409, "why not"), "inspect": refuses(404, "gone")}, RequestRejected, "why not"),
        ({"exec": answers({"ID": "e1"}, 201)}, RemoteProtocolError, "has no valid ID"),
        ({"exec": answers({"Id": 1}, 201)}, RemoteProtocolError, "has no valid ID"),
        ({"exec": answers({"Id": "../e1"}, 201)}, RemoteProtocolError, "has no valid ID"),
        ({"start": rejects(409, "web is paused")}, RequestRejected, r"409 to POST /exec/e1/start"),
        ({"start": accepts(Systemerr(b"disk is full"))}, EngineReportedError, "disk is full"),
        ({"inspect": refuses(404, "No such exec")}, ExitCodeUnknown, r"404 to GET /exec/e1/json"),
    ]
)
async def run_exec_closes_everything_when_it_fails(
    framework: Framework, engine: Engine, case: tuple[dict[str, Act], type[Exception], str]
) -> None:
    script, error, match = case
    for call, act in {"start": accepts(), "inspect": answers(docker_exec(exit_code=0)), **script}.items():
        engine.on(call, act)
    with pytest.raises(error, match=match) as caught:
        await framework.run_exec("web", ["true"], host=engine.host)
    await framework.aside(engine.close)
    assert caught.tb is not None


# ---- logs ----


@scenario()
async def logs_are_read_to_their_end(framework: Framework, engine: Engine) -> None:
    engine.on("logs", accepts(Stdout(b"out\n"), Stderr(b"err\n"), status_code=200))
    async with await framework.logs("web", host=engine.host) as attachment:
        assert await everything(attachment) == [Stdout(b"out\n"), Stderr(b"err\n")]
    assert engine.calls == ["inspect", "logs"]
    assert engine.requests[1] == Logs("web")


@scenario()
async def logs_are_asked_for_as_was_said(framework: Framework, engine: Engine) -> None:
    engine.on("logs", accepts(status_code=200))
    attachment = await framework.logs(
        "web",
        follow=True,
        stdout=False,
        since=1700000000,
        until=1700000000.5,
        timestamps=True,
        tail=10,
        details=True,
        host=engine.host,
        api_version="1.41",
    )
    await attachment.aclose()
    assert targets(engine) == [
        "GET /v1.41/containers/web/json",
        "GET /v1.41/containers/web/logs?details=1&follow=1&stderr=1&stdout=0&timestamps=1&tail=10"
        "&since=1700000000&until=1700000000.5",
    ]


@scenario(given=[None, True])
async def logs_of_a_terminal(framework: Framework, engine: Engine, given: bool | None) -> None:
    engine.on("inspect", answers(container(tty=True)))
    engine.on("logs", accepts(RawOutput(b"$ \r\n"), framing=Framing.RAW, status_code=200))
    async with await framework.logs("web", tty=given, host=engine.host) as attachment:
        assert await attachment.communicate() == (b"$ \r\n", b"")


@scenario()
async def logs_take_no_stdin(framework: Framework, engine: Engine) -> None:
    def act(peer: Peer) -> None:
        peer.accept(status_code=200)
        assert peer.until_closed() == b""

    engine.on("logs", act)
    async with await framework.logs("web", follow=True, host=engine.host) as attachment:
        with pytest.raises(LocalProtocolError):
            await attachment.send_stdin(b"x")
        with pytest.raises(LocalProtocolError):
            await attachment.close_stdin()
        with pytest.raises(LocalProtocolError):
            await attachment.communicate(b"")


CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunks(*pieces: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)


@scenario()
async def logs_in_chunks(framework: Framework, engine: Engine) -> None:
    """Chunks that know nothing of frames; the connection stays open behind the last one."""
    data = frame(1, b"out\n") + frame(2, b"err\n")

    def act(peer: Peer) -> None:
        peer.write(CHUNKED + chunks(data[:3], data[3:10], data[10:]) + b"0\r\n\r\n")
        assert peer.until_closed() == b""

    engine.on("logs", act)
    async with await framework.logs("web", host=engine.host) as attachment:
        assert await attachment.communicate() == (b"out\n", b"err\n")


@scenario(body=[chunks(frame(1, b"out\n")), chunks(frame(1, b"out\n"))[:-4], chunks(frame(1, b"out\n") + b"\x01\0")])
async def logs_that_are_cut(framework: Framework, engine: Engine, body: bytes) -> None:
    """Also between two frames: without the last chunk it is no end."""
    engine.on("logs", write(CHUNKED + body))
    async with await framework.logs("web", host=engine.host) as attachment:
        got = [await attachment.receive()]
        if got != [Stdout(b"out\n")]:
            assert got == [Stdout(b"ou")]
        with pytest.raises(RemoteProtocolError):
            await attachment.receive()


@scenario(case=[("running", "wait not-running", 4), ("exited", None, 6)])
async def wait_for_the_container_that_logs(
    framework: Framework, engine: Engine, case: tuple[str, str | None, int]
) -> None:
    status, asked, code = case
    engine.on("inspect", answers(container(status=status, exit_code=6)))
    engine.on("logs", accepts(status_code=200))
    engine.on("wait", waits(4))
    async with await framework.logs("web", host=engine.host) as attachment:
        assert await attachment.wait() == code
    assert engine.calls == ["inspect", "logs", *([] if asked is None else [asked])]


@scenario()
async def logs_that_are_refused(framework: Framework, engine: Engine) -> None:
    words = "configured logging driver does not support reading"
    engine.on("inspect", answers(container(log_driver="gelf")))
    engine.on("logs", rejects(501, words), rejects(500, "no journal"))
    with pytest.raises(LogsUnavailable, match=words) as caught:
        await framework.logs("web", host=engine.host)
    assert caught.value.driver == "gelf"
    with pytest.raises(RequestRejected, match=r"no journal \(500 to GET /containers/web/logs"):
        await framework.logs("web", host=engine.host)


# ---- what single engines do otherwise ----

# live.md, 06-logs-finished of Podman 4.3.1
NEWLINES_OUTSIDE = (
    b"\x01\0\0\0\0\0\0\x04out1\n\x02\0\0\0\0\0\0\x04err1\n\x01\0\0\0\0\0\0\x04out2\n\x02\0\0\0\0\0\0\x04err2\n"
)


@scenario(podman=["4.3.1", "4.0.0-dev"])
async def podmans_newlines_outside_of_frames(framework: Framework, engine: Engine, podman: str) -> None:
    engine.on("inspect", answers(container(), podman=podman))
    engine.on("attach", then(write(H101M + NEWLINES_OUTSIDE), close))
    async with await framework.attach("web", WITH_LOGS, host=engine.host) as attachment:
        assert await attachment.communicate() == (b"out1\nout2\n", b"err1\nerr2\n")


@scenario(case=[("4.4.0", {}), ("5.4.2", {}), (False, {}), ("4.3.1", {"quirks": []})])
async def where_no_such_newlines_are_known_they_are_an_error(
    framework: Framework, engine: Engine, case: tuple[bool | str, dict[str, Any]]
) -> None:
    podman, named = case
    engine.on("inspect", answers(container(), podman=podman))
    engine.on("attach", then(write(H101M + NEWLINES_OUTSIDE), close))
    async with await framework.attach("web", WITH_LOGS, host=engine.host, **named) as attachment:
        assert await attachment.receive() == Stdout(b"out1")
        with pytest.raises(RemoteProtocolError, match="unknown stream type 10"):
            await attachment.receive()


@scenario(case=[("5.4.2", [Quirk.NEWLINE_OUTSIDE_FRAME]), (False, {Quirk.NEWLINE_OUTSIDE_FRAME})])
async def quirks_that_are_named_stand_for_what_is_known(
    framework: Framework, engine: Engine, case: tuple[bool | str, Collection[Quirk]]
) -> None:
    podman, quirks = case
    engine.on("inspect", answers(container(), podman=podman))
    engine.on("attach", then(write(H101M + NEWLINES_OUTSIDE), close))
    async with await framework.attach("web", WITH_LOGS, host=engine.host, quirks=quirks) as attachment:
        assert await attachment.communicate() == (b"out1\nout2\n", b"err1\nerr2\n")


# ---- what a user meets ----


@scenario()
async def a_command_whose_container_was_removed_gives_its_output(framework: Framework, engine: Engine) -> None:
    engine.on("start", accepts(Stdout(b"out"), Stderr(b"err")))
    engine.on("inspect", refuses(404, "no exec session"))
    with pytest.raises(ExitCodeUnknown, match="no exec session") as caught:
        await framework.run_exec("web", ["true"], host=engine.host)
    assert (caught.value.stdout, caught.value.stderr) == (b"out", b"err")


@scenario()
async def a_command_that_prints_too_much(framework: Framework, engine: Engine) -> None:
    engine.on("start", accepts(Stdout(b"12345")))
    with pytest.raises(OutputTooLarge) as caught:
        await framework.run_exec("web", ["true"], host=engine.host, max_output=4)
    assert caught.value.stdout == b"1234"
    assert not caught.value.ended, "there is no shell, so that it could not be ended"


@scenario()
async def input_that_is_no_bytes_is_refused_before_anything_is_asked(framework: Framework, engine: Engine) -> None:
    with pytest.raises(TypeError):
        await framework.run_exec("web", ["true"], input="text", host=engine.host)
    assert engine.calls == []


@scenario()
async def lines_go_on_where_a_loop_was_left(framework: Framework, engine: Engine) -> None:
    engine.on("attach", accepts(Stdout(b"ready\none\ntw"), Stdout(b"o\n")))
    async with await framework.attach("web", host=engine.host) as attachment:
        async for line in attachment.lines():
            assert line.text == "ready"
            break
        assert [line.text async for line in attachment.lines()] == ["one", "two"]
        with pytest.raises(ValueError, match="other arguments"):
            attachment.lines("latin-1")


def joined_of(events: list[OutputEvent], kind: type[Stdout | Stderr]) -> bytes:
    return b"".join(event.data for event in events if isinstance(event, kind))


@scenario(then_by=["communicate", "receive", "iteration", "lines, then receive"])
async def what_lines_has_not_given_out_is_the_next_calls(framework: Framework, engine: Engine, then_by: str) -> None:
    output = (Stderr(b"w"), Stdout(b"ready\none\ntw\xf0\x9f"), Stdout(b"\x90\xb3o\n"), Stderr(b"arning\n"))
    engine.on("attach", accepts(*output))
    async with await framework.attach("web", host=engine.host) as attachment:
        async for line in attachment.lines():
            assert line.text == "ready"
            break
        events: list[OutputEvent] = []
        if then_by == "lines, then receive":
            assert await anext(attachment.lines()) == Line("one", Stdout)
            events.append(Stdout(b"one\n"))
        if then_by == "communicate":
            stdout, stderr = await attachment.communicate()
            events = [Stdout(stdout), Stderr(stderr)]
        elif then_by == "iteration":
            events += [event async for event in attachment]
        else:
            while not isinstance(event := await attachment.receive(), OutputClosed):
                events.append(event)
        stdout, stderr = (joined_of(events, kind) for kind in (Stdout, Stderr))
        assert (stdout, stderr) == (b"one\ntw\xf0\x9f\x90\xb3o\n", b"warning\n")
        assert [line async for line in attachment.lines()] == []
        assert await attachment.receive() == OutputClosed()


@scenario()
async def the_exit_of_what_somebody_else_starts_is_waited_for(framework: Framework, engine: Engine) -> None:
    engine.on("inspect", answers(container(status="created")))
    engine.on("wait", waits(9))
    async with await framework.attach("web", host=engine.host) as attachment:
        assert await attachment.wait() == 9
    assert engine.calls[:2] == ["inspect", "wait next-exit"]


async def a_service(
    framework: Framework, client: Client, container: str, signal: str, code: int, **options: Any
) -> None:
    """A created container is waited for, started, used by an exec, killed, and removed.

    Args:
        signal: ends it.
        code: its exit code then.
        options: of the exec.
    """
    with pytest.raises(ContainerNotRunning):
        await client.wait(container)
    await client.start(container)
    await client.start(container)
    assert (await client.run_exec(container, ["echo", "x"], **options)).stdout == b"x\n"
    codes: list[int] = []

    async def wait() -> None:
        codes.append(await client.wait(container))

    async def kill() -> None:
        await client.kill(container, signal)

    await framework.together(wait(), kill())
    assert [*codes, await client.wait(container)] == [code, code]
    await client.remove(container)
    for call in (client.start, client.wait):
        with pytest.raises(RequestRejected) as caught:
            await call(container)
        assert caught.value.not_found
