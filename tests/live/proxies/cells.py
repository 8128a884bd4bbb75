"""What is asked of each proxy: one coroutine per column of the table, and how its outcome is judged."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import attrs
import trio

from attachproto import AttachOptions, Reason, RemoteProtocolError
from attachproto_adapters import AttachError, EngineUnreachable, ExecResult, OutputCut, RequestRejected
from attachproto_adapters import asyncio as asyncio_adapter
from attachproto_adapters import blocking as blocking_adapter
from attachproto_adapters import trio as trio_adapter
from tests.adapters.frameworks import finish, lifted, opening
from tests.adapters.scripted import Task
from tests.live.engine_api import Engine, wait_until

RIGHT, NO_ANSWER, WRONG, HANG = "right", "no answer", "WRONG", "HANG"

# Seconds for one play, above the 30 after which the adapters give up on an answer. What needs longer hangs.
DEADLINE = 45.0
# Seconds: the idle limit of two, as many again because Squid looks at it only now and then, the adapters' grace, and
# some for a busy machine.
QUIET = 12

INPUT = b"0123456789abcdef" * 8192
NUMBERS = b"".join(b"%d\n" % number for number in range(1, 20_001))
WITH_STDIN = AttachOptions(stdin=True)


@attrs.frozen
class Adapter:
    """One of the three adapters; the blocking one's calls are lifted into coroutines that never wait."""

    name: str
    attach: Callable[..., Awaitable[Any]]
    run_exec: Callable[..., Awaitable[ExecResult]]
    logs: Callable[..., Awaitable[Any]]
    run: Callable[[Callable[[], Coroutine[Any, Any, None]]], object]


ADAPTERS = (
    Adapter(
        "blocking",
        opening(blocking_adapter.attach),
        lifted(blocking_adapter.run_exec),
        opening(blocking_adapter.logs),
        lambda scenario: finish(scenario()),
    ),
    Adapter(
        "asyncio",
        asyncio_adapter.attach,
        asyncio_adapter.run_exec,
        asyncio_adapter.logs,
        lambda scenario: asyncio.run(scenario()),
    ),
    Adapter("trio", trio_adapter.attach, trio_adapter.run_exec, trio_adapter.logs, trio.run),
)


class WrongResult(Exception):
    """The library returned something else than the process has printed."""


def _expect(got: object, wanted: object) -> None:
    if got != wanted:
        raise WrongResult(f"{len(str(got))} {str(got)[:60]}…{str(got)[-60:]} in place of {str(wanted)[:300]}")


@attrs.frozen
class Scene:
    """Where a cell is played.

    Attributes:
        engine: the real engine, asked without a proxy.
        host: the proxy.
        sleeper: a running container, for execs.
        finished: a container that has printed `out` and `err`.
    """

    adapter: Adapter
    engine: Engine
    host: str
    sleeper: str
    finished: str

    @contextmanager
    def container(self, script: str, **options: bool) -> Iterator[str]:
        container = self.engine.shell(script, **options)
        try:
            yield container
        finally:
            self.engine.remove(container)


# ---- the columns ----


async def output(scene: Scene) -> None:
    with scene.container("seq 20000; echo err >&2; exit 3") as container:
        async with await scene.adapter.attach(container, host=scene.host, start=True) as attachment:
            _expect(await attachment.communicate(), (NUMBERS, b"err\n"))
            _expect(await attachment.wait(), 3)


async def stdin(scene: Scene) -> None:
    with scene.container("cat; sleep 0.3; echo done; exit 4", open_stdin=True, stdin_once=True) as container:
        async with await scene.adapter.attach(container, WITH_STDIN, host=scene.host, start=True) as attachment:
            _expect(await attachment.communicate(INPUT), (INPUT + b"done\n", b""))
            _expect(await attachment.wait(), 4)


async def short_stdin(scene: Scene) -> None:
    """A process that its input's end ends: gone before anybody can ask for it."""
    with scene.container("cat", open_stdin=True, stdin_once=True) as container:
        async with await scene.adapter.attach(container, WITH_STDIN, host=scene.host, start=True) as attachment:
            _expect(await attachment.communicate(b"short\n"), (b"short\n", b""))
            _expect(await attachment.wait(), 0)


async def tty(scene: Scene) -> None:
    with scene.container("read line; stty size; exit 5", tty=True, open_stdin=True) as container:
        async with await scene.adapter.attach(container, WITH_STDIN, host=scene.host, start=True) as attachment:
            await attachment.resize(33, 77)
            await attachment.send_stdin(b"go\n")
            _expect(await attachment.communicate(), (b"go\r\n33 77\r\n", b""))
            _expect(await attachment.wait(), 5)


async def exec_output(scene: Scene) -> None:
    command = ["sh", "-c", "seq 20000; echo err >&2; exit 3"]
    result = await scene.adapter.run_exec(scene.sleeper, command, host=scene.host)
    _expect(result, ExecResult(3, NUMBERS, b"err\n"))


async def exec_input(scene: Scene) -> None:
    command = ["sh", "-c", "cat; sleep 0.3; echo done; exit 4"]
    result = await scene.adapter.run_exec(scene.sleeper, command, input=INPUT, host=scene.host)
    _expect(result, ExecResult(4, INPUT + b"done\n", b""))


async def short_exec_input(scene: Scene) -> None:
    result = await scene.adapter.run_exec(scene.sleeper, ["cat"], input=b"short\n", host=scene.host)
    _expect(result, ExecResult(0, b"short\n", b""))


async def logs(scene: Scene) -> None:
    for follow in (False, True):
        async with await scene.adapter.logs(scene.finished, follow=follow, host=scene.host) as attachment:
            _expect(await attachment.communicate(), (b"out\n", b"err\n"))
            _expect(await attachment.wait(), 3)


@contextmanager
def _triggered(scene: Scene) -> Iterator[str]:
    """A running container that prints `before`, is quiet, and prints `after`, once `_trigger` is called."""
    work = f"echo before; sleep {QUIET}; echo after; exit 6"
    with scene.container(f"trap '{work}' USR1; echo ready; while :; do sleep 0.1; done") as container:
        scene.engine.start(container)
        wait_until(lambda: b"ready" in scene.engine.logs(container), "the trap is set")
        yield container


def _trigger(scene: Scene, container: str) -> None:
    scene.engine.call("POST", f"/containers/{container}/kill?signal=USR1")


async def quiet_attach(scene: Scene) -> None:
    with _triggered(scene) as container:
        async with await scene.adapter.attach(container, host=scene.host, wait=True) as attachment:
            _trigger(scene, container)
            _expect(await attachment.communicate(), (b"before\nafter\n", b""))
            _expect(await attachment.wait(), 6)


async def quiet_exec(scene: Scene) -> None:
    command = ["sh", "-c", f"echo before; sleep {QUIET}; echo after; exit 6"]
    result = await scene.adapter.run_exec(scene.sleeper, command, host=scene.host)
    _expect(result, ExecResult(6, b"before\nafter\n", b""))


async def quiet_logs(scene: Scene) -> None:
    with _triggered(scene) as container:
        async with await scene.adapter.logs(container, follow=True, host=scene.host) as attachment:
            _trigger(scene, container)
            _expect(await attachment.communicate(), (b"ready\nbefore\nafter\n", b""))
            _expect(await attachment.wait(), 6)


async def refused_attach(scene: Scene) -> None:
    async with await scene.adapter.attach(scene.sleeper, host=scene.host):
        raise WrongResult("the attach was accepted")


async def refused_exec(scene: Scene) -> None:
    result = await scene.adapter.run_exec(scene.sleeper, ["true"], host=scene.host)
    raise WrongResult(str(result))


async def refused_logs(scene: Scene) -> None:
    async with await scene.adapter.logs(scene.finished, host=scene.host):
        raise WrongResult("the logs were accepted")


@attrs.frozen
class Column:
    """A column of the table.

    Attributes:
        variant: which of a proxy's ports it is played on.
        scenarios: each is played; what they give goes into one cell.
        starts: each of its plays starts a container, which costs an engine most of a second.
    """

    name: str
    variant: str
    scenarios: tuple[Callable[[Scene], Coroutine[Any, Any, None]], ...]
    starts: bool = False


REFUSALS = (refused_attach, refused_exec, refused_logs)
COLUMNS = (
    Column("output", "open", (output,), starts=True),
    Column("stdin, half-close", "open", (stdin, short_stdin), starts=True),
    Column("TTY", "open", (tty,), starts=True),
    Column("exec", "open", (exec_output,)),
    Column("exec with input", "open", (exec_input, short_exec_input)),
    Column("logs", "open", (logs,)),
    Column("quiet attach", "idle", (quiet_attach,), starts=True),
    Column("quiet exec", "idle", (quiet_exec,)),
    Column("quiet logs", "idle", (quiet_logs,), starts=True),
    Column("refused", "forbidden", REFUSALS),
    Column("no engine", "dead", REFUSALS),
)


# ---- the outcome ----


@attrs.frozen
class Outcome:
    """What came of one play, as a cell of the table has it; and what tells more."""

    kind: str
    detail: str = ""


def _judge(error: BaseException) -> Outcome:
    detail = f"{type(error).__name__}: {error}"
    match error:
        case WrongResult():
            return Outcome(WRONG, str(error))
        # On a busy machine a start may take longer than the idle limit, and nothing is printed before the cut.
        case OutputCut() if (error.stdout, error.stderr) not in ((b"before\n", b""), (b"", b"")):
            return Outcome(WRONG, f"OutputCut with {error.stdout!r}")
        case RequestRejected():
            return Outcome(f"`RequestRejected` {error.status_code}", detail)
        case EngineUnreachable() | ConnectionError() | trio.BrokenResourceError():
            return Outcome(NO_ANSWER, detail)
        case RemoteProtocolError(reason=Reason.NOTHING_CAME):
            return Outcome(NO_ANSWER, detail)
        case RemoteProtocolError():
            return Outcome(f"`{error.reason.name}`", detail)
        case AttachError():
            return Outcome(f"`{type(error).__name__}`", detail)
        case TimeoutError() if str(error).startswith("timed out: "):
            return Outcome("`TimeoutError`", detail)
        case _:
            raise error


def play(scenario: Callable[[Scene], Coroutine[Any, Any, None]], scene: Scene) -> Outcome:
    """Plays it in a thread of its own, because a blocking call that hangs cannot be ended from outside."""
    task = Task(lambda: scene.adapter.run(lambda: scenario(scene)))
    if not task.finished(DEADLINE):
        return Outcome(HANG, f"no end within {DEADLINE:.0f} s")
    try:
        task.result()
    except BaseException as error:
        return _judge(error)
    return Outcome(RIGHT)
