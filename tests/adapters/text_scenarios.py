"""Scenarios of text: lines with times and progress, and commands with an encoding. Written as those of scenarios.py.

What is decided about text is decided in `_flows`, and tested there in every split. These run in each adapter once.
"""

from __future__ import annotations

import pytest

from attachproto import Framing, OutputClosed, RawOutput, Stderr, Stdout
from attachproto_adapters import ExecResult, Line, LogTime, OutputUndecodable
from tests.adapters.frameworks import Framework, Opener
from tests.adapters.scenarios import Table
from tests.adapters.scripted import Engine, accepts, answers, docker_exec, echo

TABLE = Table()
scenario = TABLE.scenario

ENGINE_TABLE = Table()
"""Those for an engine that each adapter dials by itself."""
engine_scenario = ENGINE_TABLE.scenario

AT = "2026-11-23T14:35:51.021368037Z"


@scenario()
async def lines_with_their_times(opened: Opener) -> None:
    attachment = await opened(accepts(Stdout(f"{AT} one\n{AT} tw".encode()), Stderr(b"none\n"), Stdout(b"o\n")))
    time = LogTime(1795444551_021368037, AT)
    assert [line async for line in attachment.lines(timestamps=True)] == [
        Line("one", Stdout, time=time),
        Line("none", Stderr),
        Line("two", Stdout, time=time),
    ]


@scenario()
async def progress_of_a_terminal(opened: Opener) -> None:
    attachment = await opened(
        accepts(RawOutput(b"\r10%\r20%\r"), RawOutput(b"\ndone\r\n"), framing=Framing.RAW), tty=True
    )
    lines = attachment.lines(progress=True)
    assert await anext(lines) == Line("", RawOutput, progress=True)
    with pytest.raises(ValueError, match="other arguments"):
        attachment.lines()
    assert await attachment.receive() == RawOutput(b"10%\r20%\r\ndone\r\n")
    assert await attachment.receive() == OutputClosed()


# ---- run_exec ----


@engine_scenario(half_closes=1, input=["größer", "größer".encode("latin-1")])
async def a_command_with_text(framework: Framework, engine: Engine, input: bytes | str) -> None:
    engine.on("start", echo)
    engine.on("inspect", answers(docker_exec(exit_code=3)))
    result = await framework.run_exec("web", ["cat"], input=input, encoding="latin-1", host=engine.host)
    assert result == ExecResult(3, "größer", "")


@engine_scenario()
async def a_command_whose_output_is_no_text(framework: Framework, engine: Engine) -> None:
    engine.on("start", accepts(Stdout(b"a\r\n"), Stderr(b"\xff")))
    engine.on("inspect", answers(docker_exec(exit_code=3)))
    with pytest.raises(OutputUndecodable) as caught:
        await framework.run_exec("web", ["true"], encoding="utf-8", host=engine.host)
    assert (caught.value.exit_code, caught.value.stdout, caught.value.stderr) == (3, b"a\r\n", b"\xff")
    result = await framework.run_exec("web", ["true"], encoding="utf-8", errors="replace", host=engine.host)
    assert result == ExecResult(3, "a\r\n", "\ufffd")


@engine_scenario()
async def an_encoding_that_is_none_is_refused_before_anything_is_asked(framework: Framework, engine: Engine) -> None:
    with pytest.raises(LookupError):
        await framework.run_exec("web", ["true"], encoding="utf-9", host=engine.host)
    with pytest.raises(LookupError):
        await framework.run_exec("web", ["true"], errors="lenient", host=engine.host)
    assert engine.calls == []
