"""``on_output`` of ``run`` and ``run_exec``: the output while the command runs."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trio

from attachproto import AttachError, RawOutput, Stderr, Stdout
from attachproto_adapters import CommandTimeout, CompletedRun, ExecResult, OutputTooLarge
from attachproto_adapters import blocking as blocking_adapter
from attachproto_adapters._flows._live_output import LiveOutput, OutputPiece, ShownOutput
from attachproto_adapters._flows._marker import Marker, name_of_shell
from attachproto_engine import Cut, Engine, Split
from tests.adapters.frameworks import BLOCKING, EACH_FRAMEWORK, Framework
from tests.engine.client import call, create, start
from tests.helpers import cuts

BOX = "box"


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine() as engine:
        create(engine, BOX, "sleep", "1000")
        start(engine, BOX)
        yield engine


class Shown:
    """An ``on_output`` that keeps what it was given."""

    def __init__(self) -> None:
        self.events: list[OutputPiece] = []

    def __call__(self, event: OutputPiece) -> None:
        self.events.append(event)

    @property
    def outputs(self) -> tuple[bytes, bytes]:
        stdout = b"".join(event.data for event in self.events if not isinstance(event, Stderr))
        return stdout, b"".join(event.data for event in self.events if isinstance(event, Stderr))


def ran(
    framework: Framework, engine: Engine, kind: str, script: str, on_output: Callable[[Any], object], **options: Any
) -> CompletedRun[Any] | ExecResult[Any]:
    """Run a script by ``run`` or ``run_exec``, and return the result."""
    results: list[Any] = []

    async def scenario() -> None:
        async with framework.client(engine.host) as client:
            command = ["sh", "-c", script]
            if kind == "run":
                results.append(await client.run("any", command, on_output=on_output, **options))
            else:
                results.append(await client.run_exec(BOX, command, on_output=on_output, **options))

    framework.run(scenario)
    result: CompletedRun[Any] | ExecResult[Any] = results[0]
    return result


EACH_KIND = pytest.mark.parametrize("kind", ["run", "run_exec"])


@EACH_FRAMEWORK
@EACH_KIND
def test_it_gets_what_the_result_has(framework: Framework, engine: Engine, kind: str) -> None:
    shown = Shown()
    result = ran(framework, engine, kind, "seq 50000; echo err >&2; exit 3", shown)
    assert (result.exit_code, shown.outputs) == (3, (result.stdout, result.stderr))
    assert result.stdout.endswith(b"\n50000\n")


@EACH_FRAMEWORK
@EACH_KIND
@pytest.mark.parametrize("tty", [False, True])
def test_it_gets_the_output_while_the_command_runs(framework: Framework, engine: Engine, kind: str, tty: bool) -> None:
    """The command goes on when it has seen a file that the first piece of its output lets the caller make."""
    shown: list[OutputPiece] = []
    said = threading.Event()

    def on_output(event: OutputPiece) -> None:
        shown.append(event)
        if b"pid" in event.data and not said.is_set():
            said.set()
            threading.Thread(target=call, args=(engine, "POST", f"/containers/{other}/kill")).start()

    other = call(engine, "POST", "/containers/create", {"Image": "x", "Cmd": ["sleep", "1000"]}).json["Id"]
    start(engine, other)
    pid = call(engine, "GET", f"/containers/{other}/json").json["State"]["Pid"]
    script = f"echo pid; while kill -0 {pid} 2>/dev/null; do sleep 0.01; done; echo done"
    result = ran(framework, engine, kind, script, on_output, tty=tty)
    assert said.is_set()
    assert b"".join(event.data for event in shown) == result.stdout
    assert {type(event) for event in shown} == {RawOutput if tty else Stdout}


@EACH_FRAMEWORK
@EACH_KIND
def test_what_it_raises_ends_the_command_and_is_raised(framework: Framework, engine: Engine, kind: str) -> None:
    """As it was: an error of the caller's own connection is no error of the engine's."""
    error = ConnectionResetError("the caller's own connection")
    pids: list[int] = []

    def on_output(event: OutputPiece) -> None:
        pids.extend(map(int, event.data.split()))
        raise error

    with pytest.raises(ConnectionResetError) as info:
        ran(framework, engine, kind, "echo $$; exec sleep 1000", on_output, input=b"x" * 1000, timeout=60)
    assert info.value is error
    assert (error.__cause__, error.__context__) == (None, None)
    assert not runs(pids[0])
    assert [each["Names"] for each in call(engine, "GET", "/containers/json?all=1").json] == [[f"/{BOX}"]]


class OddError(BaseException):
    pass


@EACH_FRAMEWORK
@pytest.mark.parametrize("input", [None, b"x" * 300_000], ids=["no input", "input"])
@pytest.mark.parametrize(
    "error", [OddError(), SystemExit(3), ExceptionGroup("two", [ValueError(), OSError()])], ids=repr
)
def test_odd_errors_are_raised_as_they_are(
    framework: Framework, engine: Engine, input: bytes | None, error: BaseException
) -> None:
    """No group is made of them, although asyncio and trio send the input in a task of its own."""
    raised: list[BaseException] = []

    def on_output(event: object) -> None:
        raise error

    async def scenario() -> None:
        async with framework.client(engine.host) as client:
            command = ["sh", "-c", "echo out; exec sleep 1000"]
            try:
                await client.run("any", command, on_output=on_output, input=input)
            except BaseException as exc:  # SystemExit would end the event loop
                raised.append(exc)

    framework.run(scenario)
    assert raised == [error]


@EACH_KIND
def test_stop_iteration_is_raised_as_it_is(engine: Engine, kind: str) -> None:
    """In blocking code only: Python itself makes a RuntimeError of it when it leaves a coroutine."""
    expected: Iterator[bytes] = iter([])
    command = ["sh", "-c", "echo out; exec sleep 1000"]
    with blocking_adapter.Client(engine.host) as client:
        call = functools.partial(client.run, "any") if kind == "run" else functools.partial(client.run_exec, BOX)
        with pytest.raises(StopIteration):
            call(command, on_output=lambda event: next(expected))


def runs(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@EACH_FRAMEWORK
@EACH_KIND
def test_after_the_deadline_it_is_not_called(framework: Framework, engine: Engine, kind: str) -> None:
    shown = Shown()
    script = "echo begun; trap 'echo last words; exit' TERM; sleep 1000 & wait"
    with pytest.raises(CommandTimeout) as info:
        ran(framework, engine, kind, script, shown, timeout=1.0)
    assert info.value.ended
    assert shown.outputs == (b"begun\n", b"")
    assert info.value.stdout == (b"begun\nlast words\n" if kind == "run_exec" else b"begun\n")


@EACH_FRAMEWORK
@EACH_KIND
@pytest.mark.parametrize("script", ["seq 100000", "echo out; seq 100000 >&2"])
def test_too_much_output_is_shown_as_far_as_the_error_has_it(
    framework: Framework, engine: Engine, kind: str, script: str
) -> None:
    shown = Shown()
    with pytest.raises(OutputTooLarge) as info:
        ran(framework, engine, kind, f"{script}; sleep 1000", shown, max_output=1000)
    assert shown.outputs == (info.value.stdout, info.value.stderr)
    assert sum(map(len, shown.outputs)) == 1000


@pytest.mark.parametrize("framework", ["asyncio", "trio"])
@EACH_KIND
def test_an_async_function_is_awaited(framework: str, kind: str, engine: Engine) -> None:
    """One after the other: the next piece is read when it has returned."""
    chosen: Framework = {str(each): each for each in EACH_FRAMEWORK.args[1]}[framework]
    sleep: Any = {"asyncio": asyncio.sleep, "trio": trio.sleep}[framework]
    shown = Shown()
    running = 0

    async def on_output(event: OutputPiece) -> None:
        nonlocal running
        running += 1
        assert running == 1
        await sleep(0)
        shown(event)
        running -= 1

    result = ran(chosen, engine, kind, "cat; echo err >&2", on_output, input=b"x" * 300_000)
    assert shown.outputs == (result.stdout, result.stderr) == (b"x" * 300_000, b"err\n")

    async def failing(event: OutputPiece) -> None:
        await sleep(0)
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        ran(chosen, engine, kind, "echo out; sleep 1000", failing)


def test_arguments_that_are_not_valid(engine: Engine) -> None:
    async def on_output(event: object) -> None:
        raise AssertionError

    with pytest.raises(TypeError, match="on_output is an async function"):
        blocking_adapter.run_exec(BOX, ["true"], on_output=on_output, host=engine.host)
    # Only the call shows that this one is async.
    with pytest.raises(TypeError, match="has returned an awaitable"):
        blocking_adapter.run_exec(
            BOX, ["sh", "-c", "echo out; sleep 1000"], on_output=lambda event: on_output(event), host=engine.host
        )
    with pytest.raises(TypeError, match="on_output is a function"):
        ran(BLOCKING, engine, "run", "true", "print")  # type: ignore[arg-type]


@EACH_FRAMEWORK
@pytest.mark.parametrize("command", [["/no/such/program"], ["/etc"]])
def test_a_command_that_cannot_be_started_shows_the_engines_text_once(
    framework: Framework, engine: Engine, command: list[str]
) -> None:
    """The shell has failed to run it, so it was started again without the shell."""
    shown = Shown()
    results: list[ExecResult[Any]] = []

    async def scenario() -> None:
        async with framework.client(engine.host) as client:
            results.append(await client.run_exec(BOX, command, on_output=shown))

    framework.run(scenario)
    assert shown.outputs == (results[0].stdout, results[0].stderr)
    assert results[0].exit_code in (126, 127)


@EACH_FRAMEWORK
@pytest.mark.parametrize("size", [1, 7, 64])
def test_however_the_answer_is_cut(framework: Framework, engine: Engine, size: int) -> None:
    shown = Shown()
    engine.fault(BOX, Split(every=size), on="exec")
    result = ran(framework, engine, "run_exec", "echo out; echo err >&2", shown)
    assert shown.outputs == (result.stdout, result.stderr) == (b"out\n", b"err\n")


@EACH_FRAMEWORK
def test_a_cut_within_the_shells_line_shows_nothing(framework: Framework, engine: Engine) -> None:
    shown = Shown()
    engine.fault(BOX, Cut(200), on="exec")
    with pytest.raises(AttachError):
        ran(framework, engine, "run_exec", "echo out", shown)
    assert shown.events == []


# ---- byte by byte ----

TOKEN = "0123456789abcdef0123456789abcdef"
ZERO = name_of_shell(TOKEN).encode()
LINE = ZERO + b" 42 (sh) R 0 42 42 0 -1 4194560 856 0 0 0 1 0 0 0 20 0 1 0 1354639 2322432\n"


@pytest.mark.parametrize(
    ("stdout", "shown", "held"),
    [
        (b"before" + LINE + b"after", b"beforeafter", b""),
        (LINE + ZERO[:5], b"", ZERO[:5]),
        (LINE + b"out" + ZERO + b" failed\n", b"out", ZERO + b" failed\n"),
        (b"OCI runtime exec failed", b"", b"OCI runtime exec failed"),
    ],
)
def test_what_is_shown_in_every_cut(stdout: bytes, shown: bytes, held: bytes) -> None:
    for pieces in cuts(stdout):
        marker = Marker(TOKEN)
        output, events = ShownOutput(marker), []
        for piece in pieces:
            events += output.add(Stdout(marker.feed(piece)))
        assert b"".join(event.data for event in events) == shown
        assert output.held == (held, b"")
        assert output.end() == ([Stdout(held)] if held else [])


@pytest.mark.parametrize(
    ("stderr", "shown", "held"),
    [
        (b"warning\n" + ZERO + b": exec: line 0: /no/such: not found\n", b"warning\n", True),
        (b"a key \x1f and more", b"a key \x1f and more", False),
    ],
)
def test_what_the_shell_says_on_stderr_is_held_back_in_every_cut(stderr: bytes, shown: bytes, held: bool) -> None:
    """busybox writes it in four pieces."""
    for pieces in cuts(stderr):
        marker = Marker(TOKEN)
        marker.feed(LINE)
        output = ShownOutput(marker)
        events = [event for piece in pieces for event in output.add(Stderr(piece))]
        assert b"".join(event.data for event in events) == shown
        assert output.held == (b"", stderr.removeprefix(shown))
        assert bool(output.end()) == held


def test_one_that_raises_is_not_called_again() -> None:
    calls = 0

    def on_output(event: object) -> None:
        nonlocal calls
        calls += 1
        raise ValueError

    live = LiveOutput(on_output, None)
    live.add_all([Stdout(b"second"), Stdout(b"first")])
    with pytest.raises(Exception, match="on_output has raised ValueError"):
        list(live.calls())
    assert (calls, list(live.calls())) == (1, [])
