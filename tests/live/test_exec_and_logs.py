"""Exec and logs by the three adapters, on every engine that is up and on the embedded one: the same scripts for all."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from attachproto import RawOutput, Stderr, Stdout
from attachproto_adapters import ExecAlreadyStarted, ExecResult, HalfCloseEndsAttach, RequestRejected
from tests.adapters.frameworks import BLOCKING, FRAMEWORKS, WITH_STDIN, Framework
from tests.live.engine_api import Engine, wait_until

pytestmark = pytest.mark.live

SCRIPT = ["sh", "-c", "echo out; echo err >&2; exit 3"]
LINE = "x" * 99


Count = Callable[..., None]
Times = Callable[[int], int]


def sleeper(engine: Engine) -> str:
    container = engine.create("sleep", "600")
    engine.start(container)
    return container


# -- exec -------------------------------------------------------------------------------------------------------------


def test_run_exec_often(engine: Engine, times: Times, count: Count) -> None:
    """1,000 on dockerd, 300 on Podman, where each leaves two processes behind; a third by each adapter, together."""
    total = times(300 if engine.name == "podman" else 1000)
    container = sleeper(engine)
    wrong: list[object] = []

    def run(framework: Framework, share: int) -> int:
        results: list[ExecResult] = []

        async def scenario() -> None:
            results.append(await framework.run_exec(container, SCRIPT, host=engine.host))

        for _ in range(share):
            framework.run(scenario)
        wrong.extend((str(framework), result) for result in results if result != ExecResult(3, b"out\n", b"err\n"))
        return len(results)

    shares = [total // 3 + (index < total % 3) for index in range(3)]
    with ThreadPoolExecutor(len(FRAMEWORKS)) as pool:
        done = sum(pool.map(run, FRAMEWORKS, shares))
    count("run_exec, both streams and 3", engine, done - len(wrong), total)
    assert wrong == []
    assert done == total


def test_run_exec_with_input(framework: Framework, engine: Engine) -> None:
    container = sleeper(engine)
    data = bytes(range(256)) * 8000

    async def scenario() -> None:
        result = await framework.run_exec(container, ["sh", "-c", "cat; echo end >&2"], input=data, host=engine.host)
        assert (result.exit_code, result.stdout == data, result.stderr) == (0, True, b"end\n")
        assert await framework.run_exec(container, ["cat"], input=b"", host=engine.host) == ExecResult(0, b"", b"")

    framework.run(scenario)


def test_run_exec_with_its_environment(framework: Framework, engine: Engine) -> None:
    container = sleeper(engine)

    async def scenario() -> None:
        result = await framework.run_exec(
            container, ["sh", "-c", 'echo "$WORD"; pwd'], env={"WORD": "a b=c"}, workdir="/tmp", host=engine.host
        )
        assert result == ExecResult(0, b"a b=c\n/tmp\n", b"")

    framework.run(scenario)


def test_run_exec_with_a_tty(framework: Framework, engine: Engine) -> None:
    container = sleeper(engine)

    async def scenario() -> None:
        result = await framework.run_exec(container, SCRIPT, tty=True, host=engine.host)
        assert result == ExecResult(3, b"out\r\nerr\r\n", b"")
        with pytest.raises(HalfCloseEndsAttach):
            await framework.run_exec(container, ["cat"], tty=True, input=b"lost", host=engine.host)

    framework.run(scenario)


def test_run_exec_that_outlives_its_output(framework: Framework, engine: Engine) -> None:
    """The output has ended, and the exec has not: its exit code is waited for."""
    container = sleeper(engine)
    command = ["sh", "-c", "echo early; exec >&- 2>&-; sleep 0.5; exit 4"]

    async def scenario() -> None:
        assert await framework.run_exec(container, command, host=engine.host) == ExecResult(4, b"early\n", b"")

    framework.run(scenario)


def test_run_exec_of_what_is_not_there(framework: Framework, engine: Engine) -> None:
    container = sleeper(engine)

    async def scenario() -> None:
        # Some engines refuse the start, the others put the reason into the output.
        with contextlib.suppress(RequestRejected):
            result = await framework.run_exec(container, ["nosuchprogram"], host=engine.host)
            assert result.exit_code in (126, 127)
            assert b"nosuchprogram" in result.stdout + result.stderr
        with pytest.raises(RequestRejected) as caught:
            await framework.run_exec("nosuchcontainer", SCRIPT, host=engine.host)
        assert caught.value.status_code == 404

    framework.run(scenario)


def test_exec_start(framework: Framework, engine: Engine) -> None:
    container = sleeper(engine)
    created = engine.exec_create(container, "sh", "-c", "cat; echo end; exit 6", stdin=True)

    async def scenario() -> None:
        async with await framework.exec_start(created, host=engine.host) as attachment:
            await attachment.send_stdin(b"one\n")
            assert await attachment.receive() == Stdout(b"one\n")
            await attachment.close_stdin()
            assert await attachment.communicate() == (b"end\n", b"")
            assert await attachment.wait() == 6
        if engine.name == "docker":  # Podman forgets at once that it was started
            with pytest.raises(ExecAlreadyStarted):
                await framework.exec_start(created, host=engine.host)

    framework.run(scenario)


def test_exec_start_with_a_tty_and_its_size(framework: Framework, engine: Engine) -> None:
    container = sleeper(engine)
    created = engine.exec_create(container, "sh", "-c", "read line; stty size", tty=True, stdin=True)

    async def scenario() -> None:
        async with await framework.exec_start(created, host=engine.host) as attachment:
            await attachment.resize(40, 100)
            await attachment.send_stdin(b"go\n")
            out, err = await attachment.communicate()
            assert (out, err) == (b"go\r\n40 100\r\n", b"")
            assert await attachment.wait() == 0

    framework.run(scenario)


# -- attach: what only a TTY has --------------------------------------------------------------------------------------


def test_resize_and_detach(framework: Framework, engine: Engine) -> None:
    container = engine.shell("while read line; do stty size; done", tty=True, open_stdin=True)

    async def scenario() -> None:
        async with await framework.attach(container, WITH_STDIN, host=engine.host, start=True) as attachment:
            await attachment.resize(33, 77)
            await attachment.send_stdin(b"go\n")
            seen = b""
            while b"33 77\r\n" not in seen:
                event = await attachment.receive()
                assert isinstance(event, RawOutput)
                seen += event.data
            await attachment.detach()
        assert engine.status(container) == "running"

    framework.run(scenario)


# -- logs -------------------------------------------------------------------------------------------------------------


def test_logs(framework: Framework, engine: Engine) -> None:
    container = engine.finish(engine.shell("for i in 1 2 3; do echo out $i; echo err $i >&2; done; exit 9"))

    async def scenario() -> None:
        async with await framework.logs(container, host=engine.host) as attachment:
            out, err = await attachment.communicate()
            assert (out, err) == (b"out 1\nout 2\nout 3\n", b"err 1\nerr 2\nerr 3\n")
            assert await attachment.wait() == 9
        async with await framework.logs(container, host=engine.host, stdout=False, tail=1) as attachment:
            assert await attachment.communicate() in [(b"", b"err 3\n"), (b"", b"")]
        async with await framework.logs(container, host=engine.host, timestamps=True, stderr=False) as attachment:
            lines = [line.text async for line in attachment.lines()]
            assert [line.partition("Z ")[2] or line.partition(" ")[2] for line in lines] == ["out 1", "out 2", "out 3"]

    framework.run(scenario)


def test_logs_of_a_tty(framework: Framework, engine: Engine) -> None:
    container = engine.finish(engine.shell("echo out; echo err >&2", tty=True))

    async def scenario() -> None:
        async with await framework.logs(container, host=engine.host) as attachment:
            out, err = await attachment.communicate()
            assert (out, err) == (b"out\r\nerr\r\n", b"")

    framework.run(scenario)


def test_logs_are_followed_to_the_containers_end(framework: Framework, engine: Engine) -> None:
    container = engine.shell("echo first; read line; echo last; echo err >&2; exit 2", open_stdin=True, stdin_once=True)
    engine.start(container)

    async def scenario() -> None:
        async with await framework.attach(container, WITH_STDIN, host=engine.host) as attachment:
            await framework.aside(lambda: wait_until(lambda: b"first" in engine.logs(container), "it has logged"))
            async with await framework.logs(container, follow=True, host=engine.host) as followed:
                assert await followed.receive() == Stdout(b"first\n")
                await attachment.send_stdin(b"go\n")
                seen = {type(event): event.data async for event in followed}
                assert seen == {Stdout: b"last\n", Stderr: b"err\n"}
                assert await followed.wait() == 2

    framework.run(scenario)


def test_100_megabytes_of_logs(engine: Engine, count: Count, times: Times) -> None:
    """dockerd while they are written, Podman once they are: 4.3 ends a followed log early, and cleanly.

    dockerd 20.10 does so too, now and then, when the machine is busy: also for a bare ``http.client``. Then what came
    before is whole, and another container is tried.
    """
    lines = times(1_000_000)
    written = f"{LINE}\n".encode() * lines
    follow = engine.name == "docker"

    def read() -> tuple[int, str]:
        container = engine.shell(f"yes {LINE} | head -n {lines}")
        if follow:
            engine.start(container)
        else:
            engine.finish(container)
        seen = hashlib.sha256()
        length = 0

        async def scenario() -> None:
            nonlocal length
            async with await BLOCKING.logs(container, follow=follow, host=engine.host) as attachment:
                async for event in attachment:
                    assert isinstance(event, Stdout)
                    seen.update(event.data)
                    length += len(event.data)

        BLOCKING.run(scenario)  # the others would bound the whole of it
        return length, seen.hexdigest()

    for _ in range(5 if engine.version.startswith("20.") else 1):
        length, digest = read()
        assert digest == hashlib.sha256(memoryview(written)[:length]).hexdigest()
        if length == len(written):
            break
    what = f"{len(written) // 1_000_000} MB of logs, {'followed' if follow else 'after the end'}"
    count(what, engine, length == len(written), 1)
    assert length == len(written)


def test_podman_ends_followed_logs_early(podman: Engine, count: Count, times: Times) -> None:
    """Nothing in it tells that it is not all: the body ends as a whole one does."""
    lines = times(1_000_000)
    container = podman.shell(f"yes {LINE} | head -n {lines}")
    podman.start(container)
    length = 0

    async def scenario() -> None:
        nonlocal length
        async with await BLOCKING.logs(container, follow=True, host=podman.host) as attachment:
            out, err = await attachment.communicate()
            assert set(out) <= set(b"x\n")
            assert err == b""
            length = len(out)

    BLOCKING.run(scenario)
    count("bytes of a followed log that come", podman, length, lines * (len(LINE) + 1))
