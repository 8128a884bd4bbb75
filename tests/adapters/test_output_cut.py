"""Output that something in between has cut, against the embedded engine with its faults."""

from __future__ import annotations

import asyncio
import copy
import errno
import pickle
import threading
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import trio

from attachproto import Reason, RemoteProtocolError, Stdout
from attachproto_adapters import (
    CommandTimeout,
    ErrorWithOutput,
    ExecResult,
    ExitCodeUnknown,
    OutputCut,
    OutputTooLarge,
    StreamBroken,
)
from attachproto_engine import (
    Cut,
    EndEarly,
    Engine,
    Fault,
    HeldHead,
    IdleCut,
    LongFrame,
    NoHalfClose,
    ProxyAnswer,
    Reset,
)
from tests.adapters import scripted
from tests.adapters.frameworks import ASYNCIO, EACH_FRAMEWORK, TRIO, WITH_STDIN, Framework
from tests.engine.client import call, dial, read_until, shell, start, wait

# It outlives every grace.
GOES_ON = "cat; sleep 30; echo done"


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine() as running:
        yield running


@EACH_FRAMEWORK
def test_a_half_close_that_ends_an_exec(framework: Framework, engine: Engine) -> None:
    """Through nginx, Caddy or Squid, where nothing names them."""
    shell(engine, "web", "sleep 100")
    start(engine, "web")
    engine.fault("web", NoHalfClose(), on="exec")

    async def scenario() -> None:
        with pytest.raises(OutputCut, match="the command goes on") as caught:
            await framework.run_exec("web", ["sh", "-c", GOES_ON], input=b"x", host=engine.host)
        assert caught.value.stdout in (b"", b"x")
        engine.fault("web", on="exec")
        run = await framework.run_exec("web", ["sh", "-c", "cat; exit 3"], input=b"x", host=engine.host)
        assert run == ExecResult(3, b"x", b"")

    framework.run(scenario)


@EACH_FRAMEWORK
def test_a_half_close_that_ends_an_attach(framework: Framework, engine: Engine) -> None:
    shell(engine, "web", GOES_ON, OpenStdin=True, StdinOnce=True)
    engine.fault("web", NoHalfClose())

    async def scenario() -> None:
        async with await framework.attach("web", WITH_STDIN, host=engine.host, start=True) as attachment:
            with pytest.raises(OutputCut, match="the container goes on") as caught:
                await attachment.communicate(b"x")
            assert caught.value.stdout in (b"", b"x")
            with pytest.raises(OutputCut):
                await attachment.wait()

    framework.run(scenario)


@EACH_FRAMEWORK
@pytest.mark.parametrize("wait_is_cut", [False, True])
def test_an_idle_limit_between_two_frames(framework: Framework, engine: Engine, wait_is_cut: bool) -> None:
    shell(engine, "web", "echo half; sleep 30; echo done", OpenStdin=True)
    engine.fault("web", IdleCut(0.3))
    if wait_is_cut:
        engine.fault("web", IdleCut(0.3), on="wait")

    async def scenario() -> None:
        async with await framework.attach("web", host=engine.host, start=True) as attachment:
            with pytest.raises(OutputCut) as caught:
                await attachment.communicate()
            assert caught.value.stdout == b"half\n"
            with pytest.raises(OutputCut):
                await attachment.wait()

    framework.run(scenario)


@EACH_FRAMEWORK
def test_an_idle_limit_of_an_exec(framework: Framework, engine: Engine) -> None:
    shell(engine, "web", "sleep 100")
    start(engine, "web")
    engine.fault("web", IdleCut(0.3), on="exec")

    async def scenario() -> None:
        with pytest.raises(OutputCut) as caught:
            await framework.run_exec("web", ["sh", "-c", "echo half; sleep 30"], host=engine.host)
        assert caught.value.stdout == b"half\n"

    framework.run(scenario)


@EACH_FRAMEWORK
@pytest.mark.parametrize("emulate", ["dockerd", "podman"])
@pytest.mark.parametrize(("of_the_line", "exit_code"), [(1, 7), (1, 127), (50, 7), (50, 127)])
def test_a_cut_before_the_commands_own_output(
    framework: Framework, emulate: str, of_the_line: int, exit_code: int, tmp_path: Path
) -> None:
    """The shell prints its line first. On a TTY nothing else shows the cut. The command is not started again."""
    times = tmp_path / "times"
    script = f"echo once >>{times}; echo out; exit {exit_code}"
    with Engine(emulate=emulate) as engine:  # type: ignore[arg-type]
        shell(engine, "web", "sleep 100")
        start(engine, "web")
        head = exec_head(engine, "web")
        engine.fault("web", Cut(head + of_the_line), on="exec", nth=2)

        async def scenario() -> None:
            with pytest.raises(OutputCut) as caught:
                await framework.run_exec("web", ["sh", "-c", script], host=engine.host, tty=True)
            assert (caught.value.stdout, caught.value.stderr) == (b"", b"")

        framework.run(scenario)
    assert not times.exists() or times.read_text() in ("", "once\n")  # it may have been ended before


@EACH_FRAMEWORK
@pytest.mark.parametrize("exit_code", [125, 127])
def test_a_command_whose_output_is_lost_is_not_started_again(
    framework: Framework, exit_code: int, tmp_path: Path
) -> None:
    """It has ended with a code that an engine also gives if there is no shell. Its output has nothing of the engine."""
    times = tmp_path / "times"
    with Engine(emulate="podman") as engine:
        shell(engine, "web", "sleep 100")
        start(engine, "web")
        engine.fault("web", EndEarly(0), on="exec")

        async def scenario() -> None:
            with pytest.raises(OutputCut):
                await framework.run_exec(
                    "web", ["sh", "-c", f"echo once >>{times}; exit {exit_code}"], host=engine.host
                )

        framework.run(scenario)
    assert not times.exists() or times.read_text() in ("", "once\n")  # it may have been ended before


def exec_head(engine: Engine, container: str) -> int:
    """The size of the head that opens the stream of an exec with a TTY."""
    body = {"Cmd": ["true"], "AttachStdout": True, "Tty": True}
    exec_id = call(engine, "POST", f"/containers/{container}/exec", body).json["Id"]
    data = b'{"Detach":false,"Tty":true}'
    with dial(engine) as sock:
        sock.sendall(
            b"POST /exec/%s/start HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (exec_id.encode(), len(data), data)
        )
        return read_until(sock, b"\r\n\r\n").index(b"\r\n\r\n") + 4


@EACH_FRAMEWORK
def test_a_deadline_in_the_trial_of_a_half_close(framework: Framework, tcp_engine: scripted.Engine) -> None:
    """The answer to the trial does not come in time, which says nothing of what is in between."""
    tcp_engine.on("inspect", scripted.answers({"Config": {"Env": []}}))
    over = threading.Event()
    tcp_engine.on("_ping", lambda peer: assert_set(over))

    async def scenario() -> None:
        with pytest.raises(CommandTimeout):
            await framework.run_exec("web", ["cat"], input=b"x", host=tcp_engine.host, timeout=0.1)

    try:
        framework.run(scenario)
    finally:
        over.set()
    assert "start" not in tcp_engine.calls


def assert_set(event: threading.Event) -> None:
    assert event.wait(scripted.BOUND)


# The first cuts the output, and the process ends by itself soon after.
LIMIT, ENDS_SOON = 0.3, "echo half; sleep 0.6; echo done; exit 3"


@EACH_FRAMEWORK
@pytest.mark.parametrize("emulate", ["dockerd", "podman"])
def test_a_command_that_ends_soon_after_the_cut(framework: Framework, emulate: str) -> None:
    with Engine(emulate=emulate) as engine:  # type: ignore[arg-type]
        shell(engine, "web", "sleep 100")
        start(engine, "web")
        engine.fault("web", IdleCut(LIMIT), on="exec")

        async def scenario() -> None:
            with pytest.raises(OutputCut) as caught:
                await framework.run_exec("web", ["sh", "-c", ENDS_SOON], host=engine.host)
            assert caught.value.stdout == b"half\n"

        framework.run(scenario)


@EACH_FRAMEWORK
@pytest.mark.parametrize("emulate", ["dockerd", "podman"])
def test_a_container_that_ends_soon_after_the_cut(framework: Framework, emulate: str) -> None:
    with Engine(emulate=emulate) as engine:  # type: ignore[arg-type]
        shell(engine, "web", ENDS_SOON)
        engine.fault("web", IdleCut(LIMIT))

        async def scenario() -> None:
            async with await framework.attach("web", host=engine.host, start=True) as attachment:
                with pytest.raises(OutputCut) as caught:
                    await attachment.communicate()
                assert caught.value.stdout == b"half\n"
                await framework.aside(lambda: wait(engine, "web"))
                assert await attachment.wait() == 3, "the exit code is to be had once it has ended"
                with pytest.raises(OutputCut):
                    await attachment.communicate()

        framework.run(scenario)


@EACH_FRAMEWORK
def test_podman_that_may_not_be_asked_for_its_processes(framework: Framework) -> None:
    """Then what outlives the grace is noticed."""
    with Engine(emulate="podman") as engine:
        shell(engine, "web", "sleep 100")
        start(engine, "web")
        engine.fault("web", IdleCut(0.3), on="exec")
        engine.fault("web", ProxyAnswer(403), on="top")

        async def scenario() -> None:
            with pytest.raises(OutputCut) as caught:
                await framework.run_exec("web", ["sh", "-c", "echo half; sleep 30"], host=engine.host)
            assert caught.value.stdout == b"half\n"

        framework.run(scenario)


@EACH_FRAMEWORK
def test_a_wait_that_is_cut_while_the_output_goes_on(framework: Framework, engine: Engine) -> None:
    shell(engine, "web", "cat; sleep 0.5; exit 3", OpenStdin=True, StdinOnce=True)
    engine.fault("web", IdleCut(0.1), on="wait", nth=1)

    async def scenario() -> None:
        async with await framework.attach("web", WITH_STDIN, host=engine.host, start=True) as attachment:
            assert await attachment.communicate(b"x") == (b"x", b"")
            assert await attachment.wait() == 3

    framework.run(scenario)


@EACH_FRAMEWORK
def test_a_head_that_is_held_back(framework: Framework, engine: Engine) -> None:
    shell(engine, "web", "cat; exit 3", OpenStdin=True, StdinOnce=True)
    engine.fault("web", HeldHead(), on="wait")

    async def scenario() -> None:
        async with await framework.attach("web", WITH_STDIN, host=engine.host, start=True) as attachment:
            assert await attachment.communicate(b"x") == (b"x", b"")
            assert await attachment.wait() == 3

    framework.run(scenario)


@EACH_FRAMEWORK
@pytest.mark.parametrize("emulate", ["dockerd", "podman"])
def test_a_container_that_is_restarted_has_ended(framework: Framework, emulate: str) -> None:
    """Engines end the attach with the run; that it runs again is no cut."""
    with Engine(emulate=emulate) as engine:  # type: ignore[arg-type]
        shell(engine, "web", "echo out; cat; exit 3", OpenStdin=True, StdinOnce=True)

        async def scenario() -> None:
            async with await framework.attach("web", WITH_STDIN, host=engine.host, start=True) as attachment:
                await attachment.close_stdin()
                assert [event async for event in attachment]
                start(engine, "web")
                assert await attachment.communicate() == (b"", b"")
                assert await attachment.wait() == 3

        framework.run(scenario)


@EACH_FRAMEWORK
@pytest.mark.parametrize("fault", [ProxyAnswer(403), Reset(at=0)], ids=lambda fault: type(fault).__name__)
@pytest.mark.parametrize("kind", ["exec", "container"])
def test_an_end_that_cannot_be_asked_for(framework: Framework, engine: Engine, kind: str, fault: Fault) -> None:
    """A filtering proxy refuses each time. The output was read, and is not lost."""
    inspect: Literal["inspect", "exec_inspect"] = "exec_inspect" if kind == "exec" else "inspect"
    script = ["sh", "-c", "echo out; echo err >&2"]
    shell(engine, "web", "sleep 100" if kind == "exec" else script[-1])
    if kind == "exec":
        start(engine, "web")

    async def scenario() -> None:
        async with framework.client(engine.host) as client:
            opening = client.open_exec("web", script) if kind == "exec" else client.attach("web", start=True)
            async with await opening as attachment:
                engine.fault("web", fault, on=inspect)
                for _ in range(2):
                    with pytest.raises(ExitCodeUnknown, match="whether the process has ended") as caught:
                        await attachment.communicate()
                    assert (caught.value.stdout, caught.value.stderr) == (b"out\n", b"err\n")
                    assert caught.value.__cause__ is not None
                engine.fault("web", on=inspect)
                assert await attachment.communicate() == (b"out\n", b"err\n")

    framework.run(scenario)


# ---- what was read before a broken stream ----

MANY = ["sh", "-c", "yes one | head -n 20000; sleep 30"]


async def ends_of(framework: Framework, engine: Engine, call: str, fault: Fault) -> ErrorWithOutput:
    """The error of a call whose stream has this fault, and what it has read."""
    shell(engine, "web", MANY[-1] if call == "communicate" else "sleep 100")
    if call != "communicate":
        start(engine, "web")
    engine.fault("web" if call != "run" else "job", fault, on="attach" if call in ("run", "communicate") else "exec")
    async with framework.client(engine.host) as client:
        if call in ("communicate", "open_exec"):
            opening = client.open_exec("web", MANY) if call == "open_exec" else client.attach("web", start=True)
            async with await opening as attachment:
                return await repeated(attachment)
        running: Coroutine[Any, Any, object] = (
            client.run("any", MANY, name="job") if call == "run" else client.run_exec("web", MANY)
        )
        with pytest.raises(ErrorWithOutput) as caught:
            await running
        return caught.value


async def repeated(attachment: Any) -> ErrorWithOutput:
    """The error of ``communicate``, which is the same if it is called again."""
    first, second = [await error_of_communicate(attachment) for _ in range(2)]
    assert (type(first), str(first), vars(first)) == (type(second), str(second), vars(second))
    assert attachment.output_so_far == (first.stdout, first.stderr)
    return first


async def error_of_communicate(attachment: Any) -> ErrorWithOutput:
    with pytest.raises(ErrorWithOutput) as caught:
        await attachment.communicate()
    return caught.value


EACH_CALL = pytest.mark.parametrize("call", ["communicate", "open_exec", "run", "run_exec"])


@EACH_FRAMEWORK
@EACH_CALL
def test_what_was_read_before_a_frame_was_cut(framework: Framework, engine: Engine, call: str) -> None:
    async def scenario() -> None:
        error = await ends_of(framework, engine, call, LongFrame(announced=100, data=b"cut"))
        assert isinstance(error, StreamBroken)
        assert isinstance(error, RemoteProtocolError)
        assert (error.reason, error.stdout, error.stderr) == (Reason.CUT_IN_FRAME, b"cut", b"")

    framework.run(scenario)


@EACH_FRAMEWORK
@EACH_CALL
def test_what_was_read_before_a_reset(framework: Framework, engine: Engine, call: str) -> None:
    async def scenario() -> None:
        error = await ends_of(framework, engine, call, Reset(at=5000))
        assert isinstance(error, framework.broken)
        assert 4000 < len(error.stdout) < 5000
        assert (b"one\n" * 2000).startswith(error.stdout)
        assert error.stderr == b""
        for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
            assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))
            assert getattr(again, "errno", None) == (None if framework is TRIO else errno.ECONNRESET)

    framework.run(scenario)


@EACH_FRAMEWORK
def test_what_was_read_so_far(framework: Framework, engine: Engine) -> None:
    shell(engine, "web", "echo out; echo err >&2; cat", OpenStdin=True, StdinOnce=True)

    async def scenario() -> None:
        async with await framework.attach("web", WITH_STDIN, host=engine.host, start=True) as attachment:
            assert attachment.output_so_far == (b"", b"")
            with pytest.raises(OutputTooLarge):
                await attachment.communicate(max_output=7)
            assert attachment.output_so_far == (b"out\n", b"err\n")
            assert await attachment.communicate(b"more") == (b"out\nmore", b"err\n")
            assert attachment.output_so_far == (b"out\nmore", b"err\n")

    framework.run(scenario)


@EACH_FRAMEWORK
def test_what_was_read_before_an_interruption(framework: Framework, tcp_engine: scripted.Engine) -> None:
    """A timeout in the blocking adapter, and a cancellation in the others."""
    tcp_engine.on("attach", scripted.stays(Stdout(b"read")))

    async def scenario() -> None:
        async with await framework.attach("web", host=tcp_engine.host) as attachment:
            while attachment.output_so_far == (b"", b""):
                await interrupted_communicate(framework, attachment)
            assert attachment.output_so_far == (b"read", b"")

    framework.run(scenario)


async def interrupted_communicate(framework: Framework, attachment: Any) -> None:
    if framework is ASYNCIO:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await attachment.communicate()
    elif framework is TRIO:
        with pytest.raises(trio.TooSlowError), trio.fail_after(0.05):
            await attachment.communicate()
    else:
        await attachment.settimeout(0.05)
        with pytest.raises(TimeoutError):
            await attachment.communicate()
