"""Scenarios of text: lines with times and progress. Written as those of scenarios.py.

What is decided about text is decided in `_flows`, and tested there in every split. These run in each adapter once.
"""

from __future__ import annotations

import pytest

from attachproto import Framing, OutputClosed, RawOutput, Stderr, Stdout
from attachproto_adapters import Line, LogTime
from tests.adapters.frameworks import Opener
from tests.adapters.scenarios import Table
from tests.adapters.scripted import accepts

TABLE = Table()
scenario = TABLE.scenario

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
