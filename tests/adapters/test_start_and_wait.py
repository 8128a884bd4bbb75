"""`start` and `wait`: a container that is started without an attachment, and its exit code.

The flows are driven by hand first. Then all frameworks make the calls on the embedded engine, in both of its roles, and
on a scripted one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Literal

import anyio
import pytest
import trio

from attachproto import AttachOptions, Reason, RemoteProtocolError, Response
from attachproto_adapters import (
    ApiVersionRejected,
    ContainerNotRunning,
    ExitCodeUnknown,
    RequestRejected,
    blocking,
)
from attachproto_adapters._flows._containers import start_container
from attachproto_adapters._flows._steps import AwaitDeferred, Broken, Pause, Step
from attachproto_adapters._flows._waits import ANSWER_SECONDS, EARLIER_RUN_SECONDS, wait_for_exit
from attachproto_engine import Engine as EmbeddedEngine
from tests.adapters import engine_scenarios, scripted
from tests.adapters.frameworks import BLOCKING, EACH_FRAMEWORK, Client, Framework
from tests.adapters.frameworks import FRAMEWORKS as THREE
from tests.adapters.scripted import answers, close, container, refuses, then, waits
from tests.adapters.test_anyio import FRAMEWORKS as ANYIO
from tests.adapters.test_flows import (
    HEAD,
    INSPECT,
    NEXT_EXIT,
    NO_SUCH,
    NOT_RUNNING,
    START,
    STARTED,
    answer,
    drive,
    drive_into,
    inspected,
)

FOR_EVER = AwaitDeferred(None)
LOOKS = (AwaitDeferred(0.0), AwaitDeferred(0.5), AwaitDeferred(1.5))
EXITED_WITH_3 = answer({"StatusCode": 3})
BROKEN = Broken(ConnectionResetError())
RUNS, EXITED, CREATED = (inspected(status=each, exit_code=5) for each in ("running", "exited", "created"))
RUNS_AGAIN = inspected(status="running", started_at="2026-11-29T13:00:00Z")
PODMAN_RUNS, PODMAN_EXITED = (inspected(status=each, exit_code=5, podman="4.3.1") for each in ("running", "exited"))
PODMAN_RESET = inspected(status="created", podman="4.3.1")
PODMAN_LOST = inspected(status="exited", exit_code=-1, podman="4.3.1")


def but_pauses(steps: list[Step]) -> list[Step]:
    return [each for each in steps if not isinstance(each, Pause)]


# ---- which calls are made ----


@pytest.mark.parametrize("given", [STARTED, Response(304)], ids=["204", "304"])
def test_start_is_one_call_and_one_that_runs_already_is_no_error(given: Response) -> None:
    assert drive(start_container("web", None), given) == ([START], None)


@pytest.mark.parametrize("status_code", [400, 404, 409, 500])
def test_a_start_that_is_refused_has_the_engines_message(status_code: int) -> None:
    refusal = answer({"message": "exec: nosuch: not found"}, status_code)
    _, error = drive_into(RequestRejected, start_container("web", None), refusal, match="exec: nosuch: not found")
    assert isinstance(error, RequestRejected)
    assert error.status_code == status_code


def test_a_start_that_no_engine_has_answered() -> None:
    page = Response(200, (("content-type", "text/html"),), b"<html>hello</html>")
    drive_into(RemoteProtocolError, start_container("web", None), page, match="is there a proxy")


def test_a_start_with_a_version_that_the_engine_does_not_speak() -> None:
    versions = answer({"ApiVersion": "1.41", "MinAPIVersion": "1.24"})
    drive_into(ApiVersionRejected, start_container("web", "1.99"), answer({"message": "too new"}, 400), versions)


def test_a_name_that_is_not_valid_asks_nothing() -> None:
    for flow in (start_container("../x", None), wait_for_exit("../x", None)):
        with pytest.raises(ValueError, match="container"):
            next(flow)


@pytest.mark.parametrize("status", ["running", "paused", "restarting"])
def test_dockerds_wait_is_for_the_run_that_goes_on(status: str) -> None:
    seen, code = drive(wait_for_exit("web", None), inspected(status=status), HEAD, EXITED_WITH_3)
    assert (seen, code) == ([INSPECT, NOT_RUNNING, FOR_EVER], 3)


def test_a_head_that_is_held_back_until_the_exit() -> None:
    assert drive(wait_for_exit("web", None), RUNS, None, EXITED_WITH_3)[1] == 3


@pytest.mark.parametrize("status", ["exited", "stopped", "dead", "removing"])
@pytest.mark.parametrize("podman", [None, "5.8.0"])
def test_one_that_has_exited_is_only_inspected(status: str, podman: str | None) -> None:
    response = inspected(status=status, exit_code=5, podman=podman)
    assert drive(wait_for_exit("web", None), response) == ([INSPECT], 5)


def test_an_exit_code_that_podman_does_not_know() -> None:
    drive_into(ExitCodeUnknown, wait_for_exit("web", None), PODMAN_LOST)
    drive_into(ExitCodeUnknown, wait_for_exit("web", None), RUNS, HEAD, answer({"StatusCode": -1}))


@pytest.mark.parametrize("response", [CREATED, PODMAN_RESET], ids=["dockerd", "podman"])
def test_one_that_was_never_started_has_no_exit_code(response: Response) -> None:
    """dockerd answers its wait at once with 0, and Podman with -1. A start that failed leaves a code in inspect."""
    drive_into(ContainerNotRunning, wait_for_exit("web", None), response, match="never started: start it")


def test_one_that_is_not_there() -> None:
    _, error = drive_into(RequestRejected, wait_for_exit("web", None), NO_SUCH)
    assert isinstance(error, RequestRejected)
    assert error.not_found


# ---- a wait that breaks off ----

INTERRUPTIONS = [BROKEN, *(Response(code, (), b"<html>") for code in (408, 502, 503, 504))]


@pytest.mark.parametrize("interruption", INTERRUPTIONS, ids=lambda each: getattr(each, "status_code", "broken"))
def test_a_wait_that_breaks_off_is_made_again_as_often_as_it_takes(interruption: object) -> None:
    rounds = [RUNS, HEAD, interruption, None] * 3  # None is the result of the pause
    seen, code = drive(wait_for_exit("web", None), *rounds, RUNS, HEAD, EXITED_WITH_3)
    assert (but_pauses(seen), code) == ([INSPECT, NOT_RUNNING, FOR_EVER] * 4, 3)
    pauses = [each.seconds for each in seen if isinstance(each, Pause)]
    assert len(pauses) == 3
    assert pauses == sorted(set(pauses)), "they grow"
    assert drive(wait_for_exit("web", None), *rounds, EXITED)[1] == 5


def test_a_proxy_that_answers_before_the_head() -> None:
    seen, code = drive(wait_for_exit("web", None), RUNS, Response(504), None, RUNS, HEAD, EXITED_WITH_3)
    assert (but_pauses(seen), code) == ([INSPECT, NOT_RUNNING, INSPECT, NOT_RUNNING, FOR_EVER], 3)


@pytest.mark.parametrize("when", ["head", "end"])
def test_a_wait_that_is_refused(when: str) -> None:
    refusal = answer({"message": "not allowed here"}, 403)
    given = [refusal] if when == "head" else [HEAD, refusal]
    drive_into(RequestRejected, wait_for_exit("web", None), RUNS, *given, match="not allowed here")


def test_one_that_is_removed_while_it_is_waited_for() -> None:
    _, error = drive_into(ExitCodeUnknown, wait_for_exit("web", None), RUNS, HEAD, BROKEN, None, NO_SUCH)
    assert isinstance(error.__cause__, RequestRejected)
    drive_into(ExitCodeUnknown, wait_for_exit("web", None), RUNS, NO_SUCH, match="was removed")


def test_after_a_break_no_other_run_is_taken_for_the_one_that_was_waited_for() -> None:
    later = inspected(status="exited", exit_code=0, started_at="2026-11-29T13:00:00Z")
    for latest, match in ((RUNS_AGAIN, "has run again"), (later, "has run again"), (PODMAN_RESET, "reset")):
        drive_into(ExitCodeUnknown, wait_for_exit("web", None), RUNS, HEAD, BROKEN, None, latest, match=match)


def test_after_a_break_the_run_after_a_restart_is_waited_for() -> None:
    """While it is ``restarting``, the run that is waited for has not begun."""
    restarting = inspected(status="restarting")
    assert drive(wait_for_exit("web", None), restarting, HEAD, BROKEN, None, RUNS_AGAIN, HEAD, EXITED_WITH_3)[1] == 3


# ---- Podman: the wait may be too late for the exit ----


def test_podmans_wait_is_for_the_next_exit_and_it_is_inspected_until_that_is_certain() -> None:
    """With AutoRemove it answers ``not-running`` with 0 or -1."""
    looks = [None, PODMAN_RUNS] * 3
    seen, code = drive(wait_for_exit("web", None), PODMAN_RUNS, HEAD, *looks, EXITED_WITH_3)
    expected = [INSPECT, NEXT_EXIT, *(step for look in LOOKS for step in (look, INSPECT)), FOR_EVER]
    assert (seen, code) == (expected, 3)
    seen, code = drive(wait_for_exit("web", None), PODMAN_RUNS, HEAD, None, PODMAN_RUNS, EXITED_WITH_3)
    assert (seen, code) == ([INSPECT, NEXT_EXIT, LOOKS[0], INSPECT, LOOKS[1]], 3)


@pytest.mark.parametrize("looks", [0, 1, 2])
def test_an_exit_that_podmans_wait_has_missed(looks: int) -> None:
    missed = [None, PODMAN_RUNS] * looks + [None, PODMAN_EXITED]
    seen, code = drive(wait_for_exit("web", None), PODMAN_RUNS, HEAD, *missed)
    assert (seen[-2:], code) == ([LOOKS[looks], INSPECT], 5), "it is not asked again: AutoRemove may remove it now"


@pytest.mark.parametrize("latest", [NO_SUCH, PODMAN_RESET, PODMAN_LOST], ids=["removed", "reset", "forgotten"])
def test_a_code_that_only_podmans_wait_has(latest: Response) -> None:
    seen, code = drive(wait_for_exit("web", None), PODMAN_RUNS, HEAD, None, latest, EXITED_WITH_3)
    assert (seen[-1], code) == (AwaitDeferred(ANSWER_SECONDS), 3)
    drive_into(ExitCodeUnknown, wait_for_exit("web", None), PODMAN_RUNS, HEAD, None, latest, None, None, latest)


@pytest.mark.parametrize("status", ["running", "exited"])
def test_a_run_that_ended_before_podmans_wait_and_another_one(status: str) -> None:
    later = inspected(status=status, started_at="2026-11-29T13:00:00Z", podman="4.3.1")
    seen, code = drive(wait_for_exit("web", None), PODMAN_RUNS, HEAD, None, later, EXITED_WITH_3)
    assert (seen[-1], code) == (AwaitDeferred(EARLIER_RUN_SECONDS), 3)
    missed = [PODMAN_RUNS, HEAD, None, later, None, None, later]
    drive_into(ExitCodeUnknown, wait_for_exit("web", None), *missed, match="has run again")


# ---- in every framework, on the embedded engine ----

ALL = (*THREE, *ANYIO)
EACH = pytest.mark.parametrize("framework", ALL, ids=str)


@pytest.fixture(params=["dockerd", "podman"])
def emulated(request: pytest.FixtureRequest) -> Iterator[EmbeddedEngine]:
    emulate: Literal["dockerd", "podman"] = request.param
    with EmbeddedEngine(emulate=emulate) as running:
        yield running


@pytest.fixture
def wait_is_held(caplog: pytest.LogCaptureFixture) -> Iterator[threading.Event]:
    """Set once the head of a wait has come."""
    event = threading.Event()

    class Watch(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "/wait: 200" in record.getMessage():
                event.set()

    logger, watch = logging.getLogger("attachproto_adapters"), Watch()
    logger.addHandler(watch)
    with caplog.at_level(logging.DEBUG, logger.name):
        yield event
    logger.removeHandler(watch)


@EACH
def test_a_service_from_its_start_to_its_end(framework: Framework, emulated: EmbeddedEngine) -> None:
    async def body(client: Client) -> None:
        created = await client.create("any", ["sleep", "60"])
        await engine_scenarios.a_service(framework, client, created, "TERM", 143, kill=False)

    framework.run_with_client(emulated.host, body)


@EACH_FRAMEWORK
def test_one_that_has_exited_runs_again(framework: Framework, emulated: EmbeddedEngine) -> None:
    async def body(client: Client) -> None:
        created = await client.create("any", ["sh", "-c", "echo run; exit 3"])
        for _ in range(2):
            await client.start(created)
            assert await client.wait(created) == 3
        async with await client.logs(created) as attachment:
            assert await attachment.communicate() == (b"run\nrun\n", b"")
        await client.remove(created)

    framework.run_with_client(emulated.host, body)


@EACH_FRAMEWORK
def test_a_start_that_fails(framework: Framework, emulated: EmbeddedEngine) -> None:
    async def body(client: Client) -> None:
        created = await client.create("any", ["/nosuch"])
        with pytest.raises(RequestRejected, match="nosuch"):
            await client.start(created)
        with pytest.raises(ContainerNotRunning):
            await client.wait(created)
        await client.remove(created)

    framework.run_with_client(emulated.host, body)


@EACH_FRAMEWORK
def test_one_that_is_removed_at_its_exit(
    framework: Framework, emulated: EmbeddedEngine, wait_is_held: threading.Event
) -> None:
    async def body(client: Client) -> None:
        config = {"HostConfig": {"AutoRemove": True}}
        created = await client.create("any", ["sh", "-c", "read line; exit 4"], stdin=True, config=config)
        async with await client.attach(created, AttachOptions(stdin=True), start=True) as attachment:
            wait_is_held.clear()  # the attachment holds one of its own
            codes: list[int] = []

            async def wait() -> None:
                codes.append(await client.wait(created))

            async def end() -> None:
                await framework.until(wait_is_held)
                await attachment.communicate(b"\n")

            await framework.together(wait(), end())
        assert codes == [4]

    framework.run_with_client(emulated.host, body)


def test_the_functions_are_calls_on_a_client_of_their_own(emulated: EmbeddedEngine) -> None:
    host = emulated.host
    created = blocking.create("any", ["sh", "-c", "exit 3"], host=host)
    blocking.start(created, host=host)
    assert blocking.wait(created, host=host, timeout=BLOCKING.bound) == 3
    blocking.remove(created, host=host)


@pytest.mark.parametrize("framework", [each for each in ALL if each is not BLOCKING], ids=str)
def test_the_functions_of_the_others(framework: Framework, emulated: EmbeddedEngine) -> None:
    adapter, host = framework.adapter, emulated.host

    async def scenario() -> None:
        created = await adapter.create("any", ["sh", "-c", "exit 3"], host=host)
        await adapter.start(created, host=host)
        assert await adapter.wait(created, host=host) == 3
        await adapter.remove(created, host=host)

    framework.run(scenario)


# ---- connections, on the scripted engine ----


@pytest.mark.parametrize("framework", ALL, ids=str)
def test_a_start_is_never_made_again(framework: Framework, socket_path: Any) -> None:
    """Its kept connection ends at the moment at which it is made. Nobody knows whether the engine has got it."""
    engine = scripted.Engine(str(socket_path), keep_alive=True)
    engine.on("inspect", answers(container(status="exited", exit_code=3)))
    engine.on("start", close, answers(None, 204))

    async def body(client: Client) -> None:
        assert await client.wait("web") == 3
        with pytest.raises(RemoteProtocolError) as caught:
            await client.start("web")
        assert caught.value.reason is Reason.NOTHING_CAME

    with contextlib.closing(engine):
        framework.run_with_client(engine.host, body)
        assert engine.connections == [["inspect", "start"]]


def test_the_clients_timeout_bounds_a_wait_and_its_connection_is_closed(engine: scripted.Engine) -> None:
    engine.on("wait", scripted.holds)  # it fails if the connection stays open
    with blocking.Client(engine.host, timeout=0.2) as client:
        with pytest.raises(TimeoutError, match="the container web has not exited within"):
            client.wait("web")
        engine.on("wait", waits(3))
        assert client.wait("web") == 3
    engine.close()
    assert engine.connections[1] == ["wait"]


def test_the_clients_timeout_bounds_all_waits_together(engine: scripted.Engine) -> None:
    """A proxy with a limit answers each of them in time."""
    engine.on("wait", refuses(504, "gateway time-out"))
    with blocking.Client(engine.host, timeout=0.3) as client, pytest.raises(TimeoutError, match="timed out"):
        client.wait("web")
    assert engine.calls.count("wait not-running") > 1


@pytest.mark.parametrize("podman", [False, True], ids=["dockerd", "podman"])
@pytest.mark.parametrize("framework", [each for each in ALL if each is not BLOCKING], ids=str)
def test_a_cancelled_wait_closes_its_connection(framework: Framework, engine: scripted.Engine, podman: bool) -> None:
    held = threading.Event()

    def note(_: scripted.Peer) -> None:
        held.set()

    engine.on("inspect", answers(container(), podman=podman))
    engine.on("wait", then(note, scripted.holds))  # it fails if the connection stays open

    async def body(client: Client) -> None:
        async def wait() -> None:
            await client.wait("web")

        await cancelled_once(framework, wait, held)
        engine.on("wait", waits(3))
        assert await client.wait("web") == 3

    framework.run_with_client(engine.host, body)
    engine.close()


async def cancelled_once(framework: Framework, call: Callable[[], Coroutine[Any, Any, None]], event: Any) -> None:
    """Make a call, and cancel it once the engine's side has set this event."""
    if framework.name == "asyncio":
        task = asyncio.get_running_loop().create_task(call())
        await framework.until(event)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    elif framework.name == "trio":
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            await framework.until(event)
            nursery.cancel_scope.cancel()
    else:
        async with anyio.create_task_group() as group:
            group.start_soon(call)
            await framework.until(event)
            group.cancel_scope.cancel()
