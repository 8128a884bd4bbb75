"""Ends that something between the client and the engine has made: scenarios as in engine_scenarios.py."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from attachproto import Accepted, AttachOptions, Framing, OutputClosed, Response, Stderr, Stdout
from attachproto_adapters import (
    AttachmentClosed,
    AttachWarning,
    ExecResult,
    ExitCodeUnknown,
    HalfCloseEndsAttach,
    OutputCut,
)
from attachproto_adapters._flows import _ending, _steps
from attachproto_adapters._transport import _async_dialer, _blocking_dialer
from tests.adapters.frameworks import WITH_STDIN, Framework
from tests.adapters.scenarios import Table
from tests.adapters.scripted import (
    BOUND,
    Act,
    Engine,
    Peer,
    accept,
    accepts,
    answers,
    close,
    container,
    docker_exec,
    echo,
    holds,
    podman_exec,
    refuses,
    reset,
    stays,
    then,
    until_closed,
    waits,
    write,
)

TABLE = Table()
scenario = TABLE.scenario

RUNS = answers(container())
EXITED = answers(container(status="exited", exit_code=3))
NOT_STARTED = answers(container(status="created"))
EXEC_RUNS = answers(docker_exec(running=True))
PODMAN_EXEC_RUNS = answers({**podman_exec(running=True), "Pid": 42, "ContainerID": "web"}, podman=True)
PODMAN_RUNS = answers(container(pid=42), podman=True)
LISTED = answers({"Processes": [["42", "S"]], "Titles": ["HPID", "STATE"]}, podman=True)
NOT_LISTED = [answers(None, podman=True), refuses(403, "only some calls")]
HALF = (Stdout(b"half"), Stderr(b"of it"))
WAIT_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"


@contextlib.contextmanager
def short_grace() -> Iterator[None]:
    """How long it is on real engines is no matter here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_ending, "EXEC_GRACE", 0.05)
        patch.setattr(_ending, "CONTAINER_GRACE", 0.05)
        yield


# ---- the output ends, and the process goes on ----


@scenario(half_closes=None, input=[None, b"x"])
async def run_exec_gives_no_result_where_the_command_goes_on(
    framework: Framework, engine: Engine, input: bytes | None
) -> None:
    engine.on("start", accepts(*HALF))
    engine.on("inspect", EXEC_RUNS)
    with short_grace(), pytest.raises(OutputCut, match="the command goes on") as caught:
        await framework.run_exec("web", ["true"], input=input, host=engine.host)
    assert (caught.value.stdout, caught.value.stderr) == (b"half", b"of it")
    await framework.aside(engine.close)


@scenario(top=NOT_LISTED)
async def run_exec_waits_for_podman_that_needs_a_moment(framework: Framework, engine: Engine, top: Act) -> None:
    engine.on("start", accepts(*HALF))
    first = answers(container(), podman=True)
    engine.on("inspect", first, PODMAN_EXEC_RUNS, PODMAN_EXEC_RUNS, answers(podman_exec(exit_code=3), podman=True))
    engine.on("top", top)
    assert await framework.run_exec("web", ["true"], host=engine.host) == ExecResult(3, b"half", b"of it")


@scenario(inspected=[EXEC_RUNS, PODMAN_EXEC_RUNS])
async def a_command_that_ends_soon_after_the_cut_gives_no_result(
    framework: Framework, engine: Engine, inspected: Act
) -> None:
    engine.on("start", accepts(*HALF))
    engine.on("inspect", answers(container()), inspected, answers(docker_exec(exit_code=3)))
    engine.on("top", LISTED)
    with pytest.raises(OutputCut, match="the command goes on") as caught:
        await framework.run_exec("web", ["true"], host=engine.host)
    assert (caught.value.stdout, caught.value.stderr) == (b"half", b"of it")


@scenario(inspected=[RUNS, PODMAN_RUNS], first=["communicate", "wait"])
async def a_container_that_ends_soon_after_the_cut_gives_no_result(
    framework: Framework, engine: Engine, inspected: Act, first: str
) -> None:
    exited = threading.Event()
    engine.on("inspect", inspected)
    engine.on("attach", accepts(*HALF))
    engine.on("wait", waits(3, exited))
    engine.on("top", LISTED)
    async with await framework.attach("web", host=engine.host, wait=True) as attachment:
        engine.on("inspect", inspected, EXITED)
        if first == "wait":
            assert [event async for event in attachment] == list(HALF)
        with pytest.raises(OutputCut, match="the container goes on"):
            await (attachment.wait() if first == "wait" else attachment.communicate())
        exited.set()
        assert await attachment.wait() == 3
        with pytest.raises(OutputCut):
            await attachment.communicate()


@scenario()
async def communicate_with_an_exec_gives_no_result_either(framework: Framework, engine: Engine) -> None:
    engine.on("start", accepts(*HALF))
    engine.on("inspect", answers(docker_exec()), EXEC_RUNS)
    async with await framework.exec_start("e1", host=engine.host) as attachment:
        with short_grace():
            for _ in range(2):
                with pytest.raises(OutputCut) as caught:
                    await attachment.communicate()
                assert (caught.value.stdout, caught.value.stderr) == (b"half", b"of it")
            with pytest.raises(OutputCut):
                await attachment.wait()
            engine.on("inspect", answers(docker_exec(exit_code=3)))
            assert await attachment.wait() == 3, "the exit code is still to be had"
            with pytest.raises(OutputCut):
                await attachment.communicate()


@scenario(kwargs=[{"start": True}, {"wait": True}])
async def communicate_gives_no_result_where_the_container_goes_on(
    framework: Framework, engine: Engine, kwargs: dict[str, bool]
) -> None:
    exited = threading.Event()
    engine.on("attach", accepts(*HALF))
    engine.on("wait", waits(3, exited))
    async with await framework.attach("web", host=engine.host, **kwargs) as attachment:
        with short_grace():
            for _ in range(2):
                with pytest.raises(OutputCut, match="the container goes on") as caught:
                    await attachment.communicate()
                assert (caught.value.stdout, caught.value.stderr) == (b"half", b"of it")
            with pytest.raises(OutputCut):
                await attachment.wait()
        engine.on("inspect", EXITED)
        exited.set()
        assert await attachment.wait() == 3, "the wait is held all the same"
    assert sum(call.startswith("wait") for call in engine.calls) == 1


@scenario()
async def the_end_of_what_nobody_has_started_is_none(framework: Framework, engine: Engine) -> None:
    engine.on("inspect", NOT_STARTED)
    engine.on("wait", holds)
    async with await framework.attach("web", host=engine.host) as attachment:
        with short_grace(), pytest.raises(OutputCut, match="has not run yet"):
            await attachment.communicate()


@scenario()
async def wait_tells_who_reads_event_by_event(framework: Framework, engine: Engine) -> None:
    engine.on("attach", accepts(*HALF))
    async with await framework.attach("web", host=engine.host) as attachment:
        assert [event async for event in attachment] == list(HALF)
        with short_grace(), pytest.raises(OutputCut):
            await attachment.wait()
        assert not any(call.startswith("wait") for call in engine.calls)
        engine.on("inspect", EXITED)
        engine.on("wait", waits(3))
        assert await attachment.wait() == 3


@scenario()
async def wait_while_nobody_has_read_the_end_only_waits(framework: Framework, engine: Engine) -> None:
    exited = threading.Event()
    engine.on("attach", stays())
    engine.on("wait", waits(4, exited))

    async with await framework.attach("web", host=engine.host, wait=True) as attachment:

        async def wait() -> None:
            assert await attachment.wait() == 4

        async def end() -> None:
            exited.set()

        await framework.together(wait(), end())
    assert engine.calls == ["inspect", "wait not-running", "attach", "inspect"]


@scenario(options=[AttachOptions(stdin=True, stdout=False, stderr=False), AttachOptions(stream=False)])
async def an_attach_that_does_not_follow_the_output_ends_before_the_container(
    framework: Framework, engine: Engine, options: AttachOptions
) -> None:
    engine.on("wait", waits(5))
    async with await framework.attach("web", options, host=engine.host, wait=True) as attachment:
        assert await attachment.communicate() == (b"", b"")
        assert await attachment.wait() == 5
    assert engine.calls.count("inspect") == 1 + options.stream


@scenario(follow=[False, True])
async def logs_end_before_the_container(framework: Framework, engine: Engine, follow: bool) -> None:
    engine.on("logs", accepts(Stdout(b"so far"), status_code=200))
    engine.on("wait", waits(5))
    async with await framework.logs("web", host=engine.host, follow=follow) as attachment:
        assert await attachment.communicate() == (b"so far", b"")
        assert await attachment.wait() == 5
    assert engine.calls == ["inspect", "logs", "wait not-running"]


@scenario()
async def close_ends_the_asking_behind_an_end(framework: Framework, engine: Engine) -> None:
    asked = threading.Event()

    def running(peer: Peer) -> None:
        asked.set()
        PODMAN_EXEC_RUNS(peer)

    engine.on("start", accepts())
    engine.on("inspect", answers(podman_exec(), podman=True), running)
    engine.on("top", refuses(403, "only some calls"))
    attachment = await framework.exec_start("e1", host=engine.host)

    async def communicate() -> None:
        with pytest.raises(AttachmentClosed):
            await attachment.communicate()

    async def leave() -> None:
        await framework.until(asked)
        await attachment.aclose()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_ending, "EXEC_GRACE", BOUND)
        await framework.together(communicate(), leave())


# ---- an engine that cannot be asked ----


@scenario(
    answer=[
        answers({"message": "bad gateway"}, 502),
        close,
        write(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{"),
    ]
)
async def a_command_whose_end_cannot_be_asked_for_gives_its_output(
    framework: Framework, engine: Engine, answer: Act
) -> None:
    engine.on("start", accepts(*HALF))
    engine.on("inspect", answers(container()), answer)
    with pytest.raises(ExitCodeUnknown) as caught:
        await framework.run_exec("web", ["true"], host=engine.host)
    assert (caught.value.stdout, caught.value.stderr) == (b"half", b"of it")


@scenario()
async def communicate_whose_end_cannot_be_asked_for_can_be_called_again(framework: Framework, engine: Engine) -> None:
    engine.on("attach", accepts(*HALF))
    engine.on("wait", waits(3))
    async with await framework.attach("web", host=engine.host, wait=True) as attachment:
        engine.on("inspect", refuses(502, "bad gateway"), EXITED)
        with pytest.raises(ExitCodeUnknown, match="bad gateway") as caught:
            await attachment.communicate()
        assert (caught.value.stdout, caught.value.stderr) == (b"half", b"of it")
        assert await attachment.communicate() == (b"half", b"of it")
        assert await attachment.wait() == 3


@scenario()
async def an_exec_that_is_forgotten_has_ended(framework: Framework, engine: Engine) -> None:
    engine.on("start", accepts(*HALF))
    engine.on("inspect", answers(docker_exec()), refuses(404, "No such exec instance"))
    async with await framework.exec_start("e1", host=engine.host) as attachment:
        assert await attachment.communicate() == (b"half", b"of it")
        with pytest.raises(ExitCodeUnknown, match="No such exec"):
            await attachment.wait()


# ---- a wait that is cut ----


@scenario()
async def a_wait_that_was_cut_is_asked_again(framework: Framework, engine: Engine) -> None:
    """It is the same idle limit that cuts both."""
    engine.on("wait", then(write(WAIT_HEAD), close), waits(6))
    engine.on("attach", stays())
    async with await framework.attach("web", host=engine.host, wait=True) as attachment:
        assert await attachment.wait() == 6
    assert engine.calls[-2:] == ["inspect", "wait not-running"]


@scenario(needs=("unix",))
async def a_gateway_that_gives_up_the_wait_and_the_stream_ends_nothing(framework: Framework, engine: Engine) -> None:
    """nginx has one limit for both, and has held back the head of the wait until then."""
    started, limit = threading.Event(), threading.Event()

    def wait(peer: Peer) -> None:
        assert limit.wait(BOUND)
        page = b"<html>504 Gateway Time-out</html>"
        peer.send(Response(504, (("content-type", "text/html"),), page))

    def stream(peer: Peer) -> None:
        peer.send(Accepted(Framing.MULTIPLEXED), *HALF)
        assert started.wait(BOUND)

    def start(peer: Peer) -> None:
        answers(None, 204)(peer)
        started.set()

    engine.on("attach", stream)
    engine.on("wait", wait, waits(3))
    engine.on("start", start)
    async with await framework.attach("web", host=engine.host, start=True) as attachment:
        limit.set()
        with short_grace():
            for _ in range(2):
                with pytest.raises(OutputCut) as caught:
                    await attachment.communicate()
                assert (caught.value.stdout, caught.value.stderr) == (b"half", b"of it")
                with pytest.raises(OutputCut):
                    await attachment.wait()
        engine.on("inspect", EXITED)
        assert await attachment.wait() == 3
        with pytest.raises(OutputCut):
            await attachment.communicate()


@scenario()
async def a_wait_for_what_has_not_been_started_asks_for_the_next_exit_again(
    framework: Framework, engine: Engine
) -> None:
    """Without the condition dockerd would answer 0 at once."""
    engine.on("inspect", NOT_STARTED)
    engine.on("wait", then(write(WAIT_HEAD), close), waits(6))
    engine.on("attach", stays())
    async with await framework.attach("web", host=engine.host) as attachment:
        assert await attachment.wait() == 6
    assert engine.calls[-2:] == ["inspect", "wait next-exit"]


@scenario()
async def the_exit_code_of_what_was_removed_behind_a_cut_wait_is_unknown(framework: Framework, engine: Engine) -> None:
    engine.on("attach", accepts(*HALF))
    engine.on("wait", then(write(WAIT_HEAD), close))
    async with await framework.attach("web", host=engine.host, wait=True) as attachment:
        engine.on("inspect", refuses(404, "No such container: web"))
        assert await attachment.communicate() == (b"half", b"of it")
        with pytest.raises(ExitCodeUnknown, match="No such container") as caught:
            await attachment.wait()
        assert (caught.value.stdout, caught.value.stderr) == (b"half", b"of it")


@scenario(needs=("unix",))
async def a_wait_that_stays_silent_though_the_container_has_exited_is_asked_again(
    framework: Framework, engine: Engine
) -> None:
    """Its connection is gone, and nobody has said so."""
    engine.on("wait", holds, waits(3))
    async with await framework.attach("web", host=engine.host, wait=True) as attachment:
        engine.on("inspect", EXITED)
        assert await attachment.communicate() == (b"", b"")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_ending, "ANSWER_SECONDS", 0.05)
            assert await attachment.wait() == 3


# ---- heads that are held back ----


@scenario(needs=("unix",))
async def a_head_that_is_held_back_does_not_hold_up_the_start(framework: Framework, engine: Engine) -> None:
    """nginx with its buffering on gives the head of a wait only with its body."""
    started = threading.Event()

    def wait(peer: Peer) -> None:
        assert started.wait(BOUND), "it is not started before the wait has a head"
        peer.send(Response(200, (("content-type", "application/json"),), b'{"StatusCode": 5}'))

    def start(peer: Peer) -> None:
        started.set()
        answers(None, 204)(peer)

    engine.on("inspect", NOT_STARTED, EXITED)
    engine.on("attach", accepts(Stdout(b"out")))
    engine.on("wait", wait)
    engine.on("start", start)
    async with await framework.attach("web", host=engine.host, start=True) as attachment:
        assert await attachment.communicate() == (b"out", b"")
        assert await attachment.wait() == 5
    assert engine.calls == ["inspect", "attach", "wait next-exit", "start", "inspect"]


# ---- who has answered ----

NGINX = (("server", "nginx/1.22.1"),)


def named_by_the_stream(peer: Peer) -> None:
    peer.send(Accepted(Framing.MULTIPLEXED, 101, NGINX))
    assert peer.until_closed() == b"", "something was sent"


@scenario(input=[b"", b"x"])
async def communicate_refuses_behind_what_closes_at_a_half_close(
    framework: Framework, engine: Engine, input: bytes
) -> None:
    engine.on("attach", named_by_the_stream)
    async with await framework.attach("web", WITH_STDIN, host=engine.host) as attachment:
        assert attachment.half_close_ends_attach
        for _ in range(2):
            with pytest.raises(HalfCloseEndsAttach, match=r"nginx is between here and the engine.*haproxy"):
                await attachment.communicate(input)
    await framework.aside(engine.close)


@scenario()
async def squid_names_itself_only_in_plain_answers(framework: Framework, engine: Engine) -> None:
    via = (("content-type", "application/json"), ("via", "1.1 vm (squid/5.7)"))

    def inspect(peer: Peer) -> None:
        peer.send(Response(200, via, b'{"Config": {"Tty": false, "OpenStdin": true, "StdinOnce": true}, "State": '
                                     b'{"Status": "running"}}'))  # fmt: skip

    engine.on("inspect", inspect)
    engine.on("attach", stays())
    async with await framework.attach("web", WITH_STDIN, host=engine.host) as attachment:
        with pytest.raises(HalfCloseEndsAttach, match="squid"):
            await attachment.communicate(b"x")


@scenario(half_closes=1)
async def close_stdin_warns_behind_it_and_does_it(framework: Framework, engine: Engine) -> None:
    def act(peer: Peer) -> None:
        peer.send(Accepted(Framing.MULTIPLEXED, 101, NGINX))
        assert peer.stdin_to_end() == b""
        peer.send(OutputClosed())
        peer.until_closed()

    engine.on("attach", act)
    async with await framework.attach("web", WITH_STDIN, host=engine.host) as attachment:
        with pytest.warns(AttachWarning, match="nginx") as warned:
            await attachment.close_stdin()
        assert [each.filename for each in warned] == [framework.caller(__file__)]
        assert await attachment.receive() == OutputClosed()


@scenario()
async def run_exec_with_input_is_refused_before_the_command_is_started(framework: Framework, engine: Engine) -> None:
    def created(peer: Peer) -> None:
        peer.send(Response(201, (*NGINX, ("content-type", "application/json")), b'{"Id": "e1"}'))

    engine.on("exec", created)
    with pytest.raises(HalfCloseEndsAttach, match="nginx"):
        await framework.run_exec("web", ["cat"], input=b"x", host=engine.host)
    assert engine.calls == ["inspect", "exec"]


@scenario()
async def run_exec_closes_what_only_the_streams_head_names(framework: Framework, engine: Engine) -> None:
    engine.on("start", named_by_the_stream)
    with pytest.raises(HalfCloseEndsAttach, match="nginx") as caught:
        await framework.run_exec("web", ["cat"], input=b"x", host=engine.host)
    await framework.aside(engine.close)
    assert caught.tb is not None


@scenario(half_closes=1)
async def output_alone_needs_no_half_close(framework: Framework, engine: Engine) -> None:
    def act(peer: Peer) -> None:
        peer.send(Accepted(Framing.MULTIPLEXED, 101, NGINX), Stdout(b"out"), OutputClosed())
        peer.until_closed()

    engine.on("attach", act, echo)
    async with await framework.attach("web", WITH_STDIN, host=engine.host) as attachment:
        assert await attachment.communicate() == (b"out", b"")
    async with await framework.attach("web", WITH_STDIN, host=engine.host) as attachment:
        assert not attachment.half_close_ends_attach, "another connection may not go through it"
        assert await attachment.communicate(b"x") == (b"x", b"")


# ---- something that names itself nowhere, and closes both directions when one has ended ----


def closes_at_half_close(peer: Peer) -> None:
    """As nginx ``stream`` does: the end comes with the request, so that it is seen before there is an answer."""
    assert peer.sock.recv(1, socket.MSG_DONTWAIT) == b"", "the half-close did not leave together with the request"
    peer.close()


@scenario(needs=("tcp",), trial=[closes_at_half_close, reset])
async def a_half_close_is_tried_before_a_stream_is_opened(framework: Framework, engine: Engine, trial: Act) -> None:
    received: list[bytes] = []

    def act(peer: Peer) -> None:
        peer.accept()
        received.append(peer.until_closed())

    engine.on("_ping", trial)
    engine.on("attach", act)
    async with await framework.attach("web", WITH_STDIN, host=engine.host) as attachment:
        assert attachment.half_close_ends_attach
        with pytest.raises(HalfCloseEndsAttach, match="does not name itself"):
            await attachment.communicate(b"lost")
    with pytest.raises(HalfCloseEndsAttach, match="does not name itself"):
        await framework.run_exec("web", ["cat"], input=b"lost", host=engine.host)
    await framework.aside(engine.close)
    assert received == [b""]
    assert "exec" in engine.calls
    assert "start" not in engine.calls


@scenario(half_closes=2, needs=("tcp",))
async def an_answer_of_whatever_kind_shows_that_a_half_close_passes(framework: Framework, engine: Engine) -> None:
    """So does something that does not answer in time: it does not close."""
    engine.on("attach", echo)
    tried = threading.Event()

    def keeps_open(peer: Peer) -> None:
        assert tried.wait(BOUND)

    engine.on("_ping", refuses(403, "no pings"), keeps_open)
    with pytest.MonkeyPatch.context() as patch:
        for module in (_blocking_dialer, _async_dialer):
            patch.setattr(module, "HEAD_SECONDS", 0.05)
        for _ in range(2):
            async with await framework.attach("web", WITH_STDIN, host=engine.host) as attachment:
                assert await attachment.communicate(b"x") == (b"x", b"")
    tried.set()


# ---- something that holds back the head of a stream ----


@scenario()
async def a_head_that_does_not_come_is_not_waited_for_without_end(framework: Framework, engine: Engine) -> None:
    engine.on("attach", until_closed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_steps, "STREAM_HEAD_SECONDS", 0.05)
        with pytest.raises(TimeoutError) as caught:
            await framework.attach("web", host=engine.host, start=True)
    text = str(caught.value)
    assert all(part in text for part in ("hold back", "0.05 s", "POST /containers/web/attach", engine.host)), text
    assert "start" not in engine.calls


# ---- a reset behind the head, before any input has left ----


@scenario(half_closes=None, needs=("tcp",), wait=[False, True])
async def a_reset_before_any_input_has_left(framework: Framework, engine: Engine, wait: bool) -> None:
    """It is an end like every other: the process is asked for, whether its wait is held or not."""
    gone = threading.Event()

    def act(peer: Peer) -> None:
        accept(peer)
        reset(peer)
        gone.set()

    engine.on("attach", act)
    engine.on("wait", waits(3))
    for inspected, error in (RUNS, OutputCut), (EXITED, None):
        gone.clear()
        engine.on("inspect", RUNS)
        engine.on("wait", until_closed if error else waits(3))
        attachment = await framework.attach("web", WITH_STDIN, host=engine.host, wait=wait)
        async with attachment:
            await framework.until(gone)
            engine.on("inspect", inspected)
            if error is None:
                assert await attachment.communicate(b"x") == (b"", b"")
            else:
                with short_grace(), pytest.raises(OutputCut):
                    await attachment.communicate(b"x")
