"""Text on real engines: times of lines, progress on a terminal, readers of stdout, `encoding=`; and anyio."""

from __future__ import annotations

import anyio
import pytest

from attachproto import AttachOptions, RawOutput, Stdout
from attachproto_adapters import Line
from attachproto_adapters import anyio as anyio_adapter
from tests.adapters.frameworks import Framework
from tests.live.engine_api import Engine


def test_the_times_of_a_logs_lines(framework: Framework, engine: Engine) -> None:
    container = engine.finish(engine.shell("for i in 1 2 3; do echo line $i; done"))

    async def scenario() -> None:
        async with await framework.logs(container, host=engine.host, timestamps=True) as attachment:
            lines = [line async for line in attachment.lines(timestamps=True)]
        assert [(line.text, line.kind, line.ended) for line in lines] == [
            (f"line {number}", Stdout, True) for number in (1, 2, 3)
        ]
        times = [line.time for line in lines if line.time is not None]
        assert len(times) == 3
        assert sorted(times) == times
        async with await framework.logs(container, host=engine.host, since=times[0].text) as attachment:
            again = [line.text async for line in attachment.lines()]
        # Podman leaves out what has the time itself, and may give all lines the same one.
        assert {line.text for line, time in zip(lines, times, strict=True) if time > times[0]} <= set(again)

    framework.run(scenario)


def test_progress_on_a_terminal(framework: Framework, engine: Engine) -> None:
    container = engine.shell(r"printf '10%%\r20%%\r'; echo done", tty=True)

    async def scenario() -> None:
        async with await framework.attach(container, start=True, host=engine.host) as attachment:
            assert [line async for line in attachment.lines(progress=True)] == [
                Line("10%", RawOutput, progress=True),
                Line("20%", RawOutput, progress=True),
                Line("done", RawOutput),
            ]

    framework.run(scenario)


def test_messages_with_lengths(framework: Framework, engine: Engine) -> None:
    """The program answers each line of stdin with its length, an empty line, and the line."""
    program = r'while read -r line; do printf "Length: %d\r\n\r\n%s" ${#line} "$line"; echo seen >&2; done'
    container = engine.shell(program, open_stdin=True, stdin_once=True)

    async def scenario() -> None:
        options = AttachOptions(stdin=True)
        async with await framework.attach(container, options, start=True, host=engine.host) as attachment:
            reader = attachment.stdout_reader()
            for message in (b"one", b"another " * 5000, b"x"):
                await attachment.send_stdin(message.strip() + b"\n")
                head = await reader.readuntil(b"\r\n\r\n")
                assert head == b"Length: %d\r\n\r\n" % len(message.strip())
                assert await reader.readexactly(len(message.strip())) == message.strip()
            await attachment.close_stdin()
            assert await reader.read() == b""
            assert await attachment.wait() == 0
        assert reader.stderr == b"seen\n" * 3

    framework.run(scenario)


def test_a_command_with_text(framework: Framework, engine: Engine) -> None:
    container = engine.shell("read line", open_stdin=True)
    engine.start(container)

    async def scenario() -> None:
        result = await framework.run_exec(container, ["cat"], input="größer\n", encoding="utf-8", host=engine.host)
        assert (result.exit_code, result.stdout, result.stderr) == (0, "größer\n", "")

    framework.run(scenario)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_anyio(engine: Engine, backend: str) -> None:
    container = engine.shell("cat; exit 3", open_stdin=True, stdin_once=True)

    async def scenario() -> None:
        options = AttachOptions(stdin=True)
        with anyio.fail_after(60):
            async with await anyio_adapter.attach(container, options, start=True, host=engine.host) as attachment:
                assert await attachment.communicate(b"in\n") == (b"in\n", b"")
                assert await attachment.wait() == 3

    anyio.run(scenario, backend=backend)
