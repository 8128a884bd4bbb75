"""`run` in the three adapters: what it returns, and that nothing is left of it, whatever ends it and whenever.

Most of it is shown on the embedded engine, in both of its roles. `test_container_flows.py` shows the calls one by one.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import random
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import trio

from attachproto import AttachOptions, Stdout
from attachproto_adapters import (
    AttachError,
    AttachWarning,
    CommandTimeout,
    CompletedRun,
    EngineUnreachable,
    HalfCloseEndsAttach,
    ImageNotFound,
    KillUnsupported,
    OutputTooLarge,
    OutputUndecodable,
    RequestRejected,
    _async_run,
    _blocking_run,
    blocking,
)
from attachproto_adapters import asyncio as asyncio_adapter
from attachproto_adapters._blocking_runner import finish
from attachproto_adapters._flows import _run
from attachproto_adapters._transport._blocking_dialer import Dialer
from attachproto_engine import Cut, Delay, Engine, ProxyAnswer
from attachproto_engine._faults import Call
from tests.adapters import scripted
from tests.adapters.cancelling import CANCELLERS, Canceller
from tests.adapters.frameworks import ASYNCIO, BLOCKING, EACH_FRAMEWORK, TRIO, Client, Framework
from tests.adapters.interrupting import Interrupter, counts, is_interrupt
from tests.adapters.scenarios import pattern
from tests.adapters.scripted import BOUND, answers, container, holds, refuses, stays, until_closed
from tests.adapters.tls_engine import Certificates, ServerTls
from tests.engine.client import call, create
from tests.soak.front import Front
from tests.soak.jobs import FrontFault

SCRIPT = ["sh", "-c", "echo out; echo err >&2; exit 3"]


@pytest.fixture(params=["dockerd", "podman"])
def emulated(request: pytest.FixtureRequest) -> Iterator[Engine]:
    emulate: Literal["dockerd", "podman"] = request.param
    with Engine(emulate=emulate) as running:
        yield running


EngineBehindTls = tuple[Engine, Front, ssl.SSLContext]


@pytest.fixture
def engine_behind_tls(tmp_path: Path) -> Iterator[EngineBehindTls]:
    certificates = Certificates(tmp_path)
    context = ssl.create_default_context(cafile=certificates.client / "ca.pem")
    context.load_cert_chain(certificates.client / "cert.pem", certificates.client / "key.pem")
    with Engine() as running:
        front = Front(certificates.server_context(ssl.TLSVersion.TLSv1_3), running.host)
        yield running, front, context
        front.close()


def containers(engine: Engine) -> list[str]:
    """The names of the containers that there are."""
    return [each["Names"][0] for each in call(engine, "GET", "/containers/json?all=1").json]


# ---- what it returns ----


@EACH_FRAMEWORK
def test_the_exit_code_and_both_outputs(framework: Framework, emulated: Engine) -> None:
    async def body(client: Client) -> None:
        assert await client.run("any", SCRIPT) == CompletedRun(3, b"out\n", b"err\n")
        data = pattern(1_000_000)
        assert await client.run("any", ["cat"], input=data) == CompletedRun(0, data, b"")
        assert await client.run("any", ["cat"], input=b"") == CompletedRun(0, b"", b"")
        assert await client.run("any", SCRIPT, tty=True) == CompletedRun(3, b"out\r\nerr\r\n", b"")

    framework.run_with_client(emulated.host, body)
    assert containers(emulated) == []


def test_the_functions_are_calls_on_a_client_of_their_own(emulated: Engine) -> None:
    host = emulated.host
    assert blocking.run("any", SCRIPT, host=host, timeout=BOUND) == CompletedRun(3, b"out\n", b"err\n")
    created = blocking.create("any", ["sleep", "60"], host=host)
    with blocking.attach(created, host=host, start=True):
        with blocking.open_exec(created, ["echo", "x"], host=host) as attachment:
            assert attachment.communicate() == (b"x\n", b"")
        exec_id = blocking.create_exec(created, ["echo", "y"], host=host)
        with blocking.exec_start(exec_id, host=host) as attachment:
            assert attachment.communicate() == (b"y\n", b"")
    blocking.kill(created, "TERM", host=host)
    blocking.remove(created, force=True, host=host)
    assert containers(emulated) == []


@pytest.mark.parametrize("framework", [ASYNCIO, TRIO], ids=str)
def test_the_functions_of_the_others(framework: Framework, emulated: Engine) -> None:
    adapter, host = framework.adapter, emulated.host

    async def scenario() -> None:
        assert await adapter.run("any", SCRIPT, host=host, timeout=BOUND) == CompletedRun(3, b"out\n", b"err\n")
        created = await adapter.create("any", ["sleep", "60"], host=host)
        async with await adapter.attach(created, host=host, start=True):
            async with await adapter.open_exec(created, ["echo", "x"], host=host) as attachment:
                assert await attachment.communicate() == (b"x\n", b"")
            exec_id = await adapter.create_exec(created, ["echo", "y"], host=host)
            async with await adapter.exec_start(exec_id, host=host) as attachment:
                assert await attachment.communicate() == (b"y\n", b"")
        await adapter.kill(created, "TERM", host=host)
        await adapter.remove(created, force=True, host=host)

    framework.run(scenario)
    assert containers(emulated) == []


@EACH_FRAMEWORK
def test_a_container_of_ones_own(framework: Framework, emulated: Engine) -> None:
    async def body(client: Client) -> None:
        created = await client.create("any", ["cat"], stdin=True, name="web", env={"A": "b"})
        assert containers(emulated) == ["/web"]
        async with await client.attach(created, AttachOptions(stdin=True), start=True) as attachment:
            await attachment.send_stdin(b"x")
            assert await attachment.receive() == Stdout(b"x")
            with pytest.raises(RequestRejected):  # it runs
                await client.remove("web")
            await attachment.kill("TERM")
            assert await attachment.wait() == 143
        with pytest.raises(RequestRejected):
            await client.kill("web")
        await client.remove("web", volumes=True)
        with pytest.raises(RequestRejected) as caught:
            await client.remove("web")
        assert caught.value.not_found
        running = await client.create("any", ["sleep", "60"])
        async with await client.attach(running, start=True) as attachment:
            await client.remove(running, force=True)
            assert await attachment.communicate() == (b"", b"")

    framework.run_with_client(emulated.host, body)
    assert containers(emulated) == []


@EACH_FRAMEWORK
def test_an_exec_of_ones_own(framework: Framework, emulated: Engine) -> None:
    async def body(client: Client) -> None:
        created = await client.create("any", ["sleep", "60"])
        async with await client.attach(created, start=True):
            async with await client.open_exec(created, ["cat"], stdin=True) as attachment:
                assert await attachment.communicate(b"x" * 100_000) == (b"x" * 100_000, b"")
                assert await attachment.wait() == 0
            terminal = await client.open_exec(created, ["cat"], stdin=True, tty=True, console_size=(33, 77))
            async with terminal as attachment:
                await attachment.send_stdin(b"x\n")
                await attachment.receive()
                with pytest.raises(KillUnsupported):
                    await attachment.kill()
                await attachment.send_stdin(b"\x04")
            exec_id = await client.create_exec(created, ["cat"], stdin=True)
            async with await client.exec_start(exec_id) as attachment:
                assert await attachment.communicate(b"y") == (b"y", b"")
        await client.remove(created, force=True)

    framework.run_with_client(emulated.host, body)


@EACH_FRAMEWORK
def test_text(framework: Framework, emulated: Engine) -> None:
    async def body(client: Client) -> None:
        assert await client.run("any", ["cat"], input="größe", encoding="utf-8") == CompletedRun(0, "größe", "")
        with pytest.raises(OutputUndecodable):
            await client.run("any", ["cat"], input=b"\xff", encoding="utf-8")

    framework.run_with_client(emulated.host, body)
    assert containers(emulated) == []


@EACH_FRAMEWORK
def test_how_the_command_runs(framework: Framework, emulated: Engine) -> None:
    async def body(client: Client) -> None:
        result = await client.run("any", ["sh", "-c", 'echo "$WORD"; pwd'], env={"WORD": "a b=c"}, workdir="/")
        assert result == CompletedRun(0, b"a b=c\n/\n", b"")
        result = await client.run("any", ["sh", "-c", "stty size"], tty=True, console_size=(33, 77))
        assert result.stdout == b"33 77\r\n"
        result = await client.run("any", ["true"], config={"Cmd": ["echo", "of config"]})
        assert result.stdout == b"of config\n"

    framework.run_with_client(emulated.host, body)
    assert containers(emulated) == []


@EACH_FRAMEWORK
def test_a_container_that_is_kept(framework: Framework, emulated: Engine) -> None:
    async def body(client: Client) -> None:
        assert (await client.run("any", SCRIPT, name="kept", remove=False)).exit_code == 3
        with pytest.raises(CommandTimeout) as caught:
            await client.run("any", ["sleep", "60"], name="late", remove=False, timeout=0.3)
        assert caught.value.ended
        await client.remove("kept")

    framework.run_with_client(emulated.host, body)
    assert containers(emulated) == ["/late"]
    assert call(emulated, "GET", "/containers/late/json").json["State"]["Running"] is False


@EACH_FRAMEWORK
def test_auto_remove(framework: Framework, emulated: Engine) -> None:
    async def body(client: Client) -> None:
        config = {"HostConfig": {"AutoRemove": True}}
        assert await client.run("any", SCRIPT, config=config) == CompletedRun(3, b"out\n", b"err\n")

    framework.run_with_client(emulated.host, body)
    assert containers(emulated) == []


# ---- what it refuses, and what goes wrong ----


@EACH_FRAMEWORK
def test_a_name_that_is_taken_keeps_its_container(framework: Framework, emulated: Engine) -> None:
    create(emulated, "web", "true")

    async def body(client: Client) -> None:
        with pytest.raises(RequestRejected):
            await client.run("any", SCRIPT, name="web")

    framework.run_with_client(emulated.host, body)
    assert containers(emulated) == ["/web"]


@EACH_FRAMEWORK
def test_a_start_that_is_refused_leaves_nothing(framework: Framework, emulated: Engine) -> None:
    async def body(client: Client) -> None:
        with pytest.raises(RequestRejected, match="nosuchprogram"):
            await client.run("any", ["nosuchprogram"])

    framework.run_with_client(emulated.host, body)
    assert containers(emulated) == []


@EACH_FRAMEWORK
def test_too_much_output(framework: Framework, emulated: Engine) -> None:
    async def body(client: Client) -> None:
        with pytest.raises(OutputTooLarge) as caught:
            await client.run("any", ["yes"], max_output=10)
        assert caught.value.stdout == b"y\n" * 5
        assert caught.value.ended

    framework.run_with_client(emulated.host, body)
    assert containers(emulated) == []


@EACH_FRAMEWORK
def test_wrong_arguments_ask_nothing(framework: Framework, engine: scripted.Engine) -> None:
    async def body(client: Client) -> None:
        for wrong in ({"timeout": 0}, {"timeout": "1"}, {"max_output": -1}, {"input": "x"}, {"errors": "x"}):
            with pytest.raises((TypeError, ValueError, LookupError)):
                await client.run("any", SCRIPT, **wrong)
        with pytest.raises(HalfCloseEndsAttach):
            await client.run("any", ["cat"], tty=True, input=b"x")

    framework.run_with_client(engine.host, body)
    assert engine.calls == []


@EACH_FRAMEWORK
def test_a_missing_image(framework: Framework, engine: scripted.Engine) -> None:
    engine.on("create", refuses(404, "No such image: nosuch:1"))

    async def body(client: Client) -> None:
        for ask in (client.run, client.create):
            with pytest.raises(ImageNotFound, match="docker pull nosuch:1"):
                await ask("nosuch:1", SCRIPT)

    framework.run_with_client(engine.host, body)
    assert engine.calls == ["create", "create"]


@EACH_FRAMEWORK
def test_an_engine_that_is_not_there(framework: Framework, socket_path: Any) -> None:
    async def scenario() -> None:
        async with framework.client(f"unix://{socket_path}") as client:
            with pytest.raises(EngineUnreachable) as caught:
                await client.run("any", SCRIPT)
            assert not hasattr(caught.value, "__notes__")

    framework.run(scenario)


@EACH_FRAMEWORK
def test_a_removal_that_fails_is_told(framework: Framework, emulated: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_run.ContainerRun, "_remove_it", _refused)

    async def body(client: Client) -> None:
        with pytest.warns(AttachWarning, match="the container mine of this run could not be removed: .*busy"):
            assert (await client.run("any", SCRIPT, name="mine")).exit_code == 3
        with pytest.raises(OutputTooLarge) as caught:
            await client.run("any", SCRIPT, max_output=1)
        (note,) = caught.value.__notes__
        assert "could not be removed" in note
        assert not caught.value.ended

    framework.run_with_client(emulated.host, body)


def _refused(self: object, container: str) -> Any:
    raise RequestRejected(500, "busy", "DELETE /containers/c1")
    yield


@EACH_FRAMEWORK
def test_a_tls_handshake_that_breaks_leaves_nothing(framework: Framework, engine_behind_tls: EngineBehindTls) -> None:
    """Whichever of its connections it is; a container that was refused its start is removed on a new one."""
    embedded, front, tls = engine_behind_tls
    embedded.fault("mine", ProxyAnswer(403), on="start")

    async def scenario() -> None:
        number = 0
        for number in itertools.count():
            front.plan(FrontFault(number, at=100, reset=False))
            async with framework.client(front.host, tls=tls) as client:
                with pytest.raises((EngineUnreachable, RequestRejected)) as caught:
                    await client.run("any", ["true"], name="mine")
            assert not hasattr(caught.value, "__notes__")
            assert containers(embedded) == []
            if number >= front.accepted:
                break
        assert number > 3

    framework.run(scenario)


class Swallowing(Front):
    """Its first connection ends without ``close_notify`` when the engine has answered, and the answer is dropped."""

    swallowed = False

    def _relay(self, sock: socket.socket, wire: Any) -> None:
        if self.swallowed:
            super()._relay(sock, wire)
            return
        self.swallowed = True
        tls = ServerTls(self._context, wire)
        tls.handshake()
        with socket.socket(socket.AF_UNIX) as upstream:
            upstream.connect(self._engine)
            request = b""
            while b"\r\n\r\n{" not in request:  # the engine answers when it has the whole body
                request += tls.read()
            upstream.sendall(request)
            assert upstream.recv(100).startswith(b"HTTP/1.1 201 ")


@EACH_FRAMEWORK
def test_tls_that_ends_before_the_answer_to_the_creation_leaves_nothing(
    framework: Framework, engine_behind_tls: EngineBehindTls
) -> None:
    """TLS 1.3 could also end so if the server refused our certificate. But the engine has read the request."""
    embedded, other, tls = engine_behind_tls
    front = Swallowing(other._context, embedded.host)

    async def scenario() -> None:
        async with framework.client(front.host, tls=tls) as client:
            with pytest.raises(EngineUnreachable) as caught:
                await client.run("any", ["true"], name="mine")
        assert (caught.value.sent, hasattr(caught.value, "__notes__")) == (True, False)
        assert containers(embedded) == []

    with contextlib.closing(front):
        framework.run(scenario)
    assert front.swallowed


@EACH_FRAMEWORK
def test_a_broken_connection_leaves_nothing(framework: Framework, emulated: Engine) -> None:
    calls: tuple[Call, ...] = ("attach", "start", "wait", "inspect")
    for on in calls:
        emulated.fault("mine", Cut(30), on=on)

        async def body(client: Client) -> None:
            with contextlib.suppress(AttachError, *framework.broken):  # a wait that broke off is asked for again
                await client.run("any", SCRIPT, name="mine")

        framework.run_with_client(emulated.host, body)
        assert containers(emulated) == [], on


# ---- deadlines ----

LATE = [
    pytest.param(["sh", "-c", "echo so far; exec sleep 60"], None, b"so far\n", id="silent"),
    pytest.param(
        ["sh", "-c", "echo so far; trap '' TERM INT; while :; do sleep 1; done"], None, b"so far\n", id="deaf"
    ),
    pytest.param(["yes"], None, b"y\ny\n", id="talks"),
    pytest.param(["sh", "-c", "echo so far; exec sleep 60"], b"x" * 5_000_000, b"so far\n", id="never-reads"),
]


@EACH_FRAMEWORK
@pytest.mark.parametrize(("command", "input", "output"), LATE)
def test_a_deadline_kills_and_removes(
    framework: Framework, emulated: Engine, command: list[str], input: bytes | None, output: bytes
) -> None:
    async def body(client: Client) -> None:
        with pytest.raises(CommandTimeout, match=r"within 0\.5 s") as caught:
            await client.run("any", command, input=input, timeout=0.5)
        error = caught.value
        assert isinstance(error, TimeoutError)
        assert error.ended
        assert error.stdout.startswith(output)
        assert error.stderr == b""

    framework.run_with_client(emulated.host, body)
    assert containers(emulated) == []


CREATED: dict[str, Any] = container(status="created", open_stdin=False) | {"Id": "c1"}
NORMALLY = {
    "create": answers({"Id": "c1", "Warnings": []}, 201),
    "inspect": answers(CREATED),
    "attach": stays(Stdout(b"so far\n")),
    "wait": holds,
    "start": answers(None, 204),
    "kill": refuses(409, "it does not run"),
    "c1": answers(None, 204),
}


@EACH_FRAMEWORK
@pytest.mark.parametrize("silent", ["create", "inspect", "attach", "start"])
def test_a_deadline_holds_for_every_call(
    framework: Framework, engine: scripted.Engine, silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first answer never comes. Later ones do, because the container has to be removed."""
    for module in (_blocking_run, _async_run):
        monkeypatch.setattr(module, "CREATE_GRACE", 0.1)
    for name, act in NORMALLY.items():
        engine.on(name, *([until_closed] if name == silent else []), act)

    async def body(client: Client) -> None:
        with pytest.raises(CommandTimeout) as caught:
            await client.run("any", SCRIPT, timeout=0.2)
        assert caught.value.ended

    framework.run_with_client(engine.host, body)
    assert engine.calls[-1] == "c1"


@EACH_FRAMEWORK
def test_a_creation_that_is_refused_after_the_deadline(framework: Framework, emulated: Engine) -> None:
    emulated.fault("job", Delay(0, 0.2), ProxyAnswer(403), on="create")

    async def body(client: Client) -> None:
        with pytest.raises(CommandTimeout, match="was not created") as caught:
            await client.run("any", SCRIPT, name="job", timeout=0.05)
        assert caught.value.ended

    framework.run_with_client(emulated.host, body)


@EACH_FRAMEWORK
@pytest.mark.filterwarnings("ignore:.*(could not be removed|was created):attachproto_adapters.AttachWarning")
def test_a_deadline_while_it_connects(framework: Framework, monkeypatch: pytest.MonkeyPatch) -> None:
    """The deadline passes in a TLS handshake that the other end never answers."""
    for module in (_blocking_run, _async_run):
        monkeypatch.setattr(module, "CREATE_GRACE", 0.1)
        monkeypatch.setattr(module, "CLEANUP_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host = f"tcp://127.0.0.1:{listener.getsockname()[1]}"

        async def scenario() -> None:
            async with framework.client(host, tls=ssl.create_default_context()) as client:
                with pytest.raises(CommandTimeout, match=r"(was not|may have been) created"):
                    await client.run("any", SCRIPT, timeout=0.1)

        framework.run(scenario)


# ---- cancelled or interrupted at any moment ----


@pytest.mark.parametrize("command", [["sh", "-c", "echo hi; exit 3"], ["cat"]], ids=["exits", "reads"])
@pytest.mark.parametrize("canceller", CANCELLERS, ids=str)
def test_cancelled_at_any_of_its_waits(canceller: Canceller, emulated: Engine, command: list[str]) -> None:
    input = b"x" * 100_000 if command == ["cat"] else None
    cancelled = 0

    async def attempt(at: int) -> bool:
        nonlocal cancelled
        async with canceller.framework.client(emulated.host) as client:
            outcome = await canceller(lambda: client.run("any", command, input=input), at)
        cancelled += outcome.done is None
        return outcome.reached

    for at in itertools.count(1):
        reached: list[bool] = []

        async def scenario() -> None:
            reached.append(await attempt(at))  # noqa: B023  # it has run when the loop goes on

        canceller.framework.run(scenario)
        assert containers(emulated) == [], at
        if not reached[0]:
            break
    assert cancelled > 3


def test_the_end_of_an_event_loop_leaves_nothing(emulated: Engine) -> None:
    """``asyncio.run`` cancels every task that is left, so also the one in which the creation is shielded."""

    async def main(waits: int) -> None:
        tasks = [asyncio.create_task(asyncio_adapter.run("any", ["cat"], host=emulated.host)) for _ in range(3)]
        for _ in range(waits):
            await asyncio.sleep(0)
        assert not any(task.done() for task in tasks)

    for waits in range(0, 40, counts(3, 1)):
        asyncio.run(main(waits))
        assert containers(emulated) == [], waits


def raise_interrupt() -> None:
    """What a handler of SIGINT does, trio's included, but for the delivery later where trio protects the code."""
    if not (trio.lowlevel.in_trio_task() and trio.lowlevel.currently_ki_protected()):
        raise KeyboardInterrupt


@pytest.mark.parametrize("framework", [BLOCKING, TRIO], ids=str)
@pytest.mark.filterwarnings("ignore:coroutine:RuntimeWarning", "ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_interrupted_at_any_moment(framework: Framework, emulated: Engine) -> None:
    """``KeyboardInterrupt``. asyncio turns it into a cancellation of the main task."""

    def attempt(at: int) -> Interrupter:
        interrupter = Interrupter(at, raise_interrupt)

        async def scenario() -> None:
            async with framework.client(emulated.host) as client:
                with interrupter:
                    await client.run("any", ["sh", "-c", "echo hi; exit 3"])

        try:
            framework.run(scenario)
        except BaseException as exc:
            if not is_interrupt(exc):
                raise
        gc.collect()  # a socket is not closed if the interrupt comes between its creation and the next line
        assert containers(emulated) == [], at
        return interrupter

    moments = attempt(10**9).count
    assert moments > 500
    for at in random.Random(1).sample(range(1, moments), counts(40, min(600, moments - 1))):
        attempt(at)


def test_while_an_interrupted_removal_goes_on_its_connections_stay_open(
    emulated: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C again and again: each time the caller gets it at once, and a thread finishes the removal."""
    removals: list[threading.Thread] = []
    closed_under: list[bool] = []
    close = Dialer.close

    def interrupted(steps: Any, dialer: Dialer, *bounds: float) -> Any:
        if steps.__name__ != "clean_up":
            return finish(steps, dialer, *bounds)
        removals.append(threading.Thread(target=begun, args=(steps, dialer, *bounds)))
        removals[-1].start()
        raise KeyboardInterrupt

    interrupts_over = threading.Event()

    def begun(steps: Any, dialer: Dialer, *bounds: float) -> None:
        assert interrupts_over.wait(BOUND)
        finish(steps, dialer, *bounds)

    def watched(dialer: Dialer) -> None:
        closed_under.append(any(thread.is_alive() for thread in removals))
        close(dialer)

    monkeypatch.setattr(_blocking_run, "finish", interrupted)
    monkeypatch.setattr(Dialer, "close", watched)
    with pytest.raises(KeyboardInterrupt):
        blocking.run("alpine", ["true"], host=emulated.host)
    interrupts_over.set()
    for thread in removals:
        thread.join(BOUND)
    assert len(removals) == 3
    assert not any(closed_under)
    assert containers(emulated) == []
