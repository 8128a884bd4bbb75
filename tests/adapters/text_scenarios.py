"""Scenarios of lines with times and progress, of readers of stdout, and of commands with an encoding.

They are written as those of scenarios.py. What is decided about text is decided in `_flows`, and tested there in every
split. These run in each adapter once.
"""

from __future__ import annotations

import pytest

from attachproto import Framing, OutputClosed, RawOutput, RemoteProtocolError, Stderr, Stdout, encode_frame
from attachproto_adapters import ExecResult, IncompleteRead, Line, LogTime, OutputUndecodable, SeparatorNotFound
from tests.adapters.frameworks import WITH_STDIN, Framework, Opener
from tests.adapters.scenarios import Table
from tests.adapters.scripted import Engine, Peer, accept, accepts, answers, docker_exec, echo, then, write
from tests.helpers import frame

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


# ---- the reader of stdout ----


def says_length(peer: Peer) -> None:
    """Answers each message as a language server does, and says on stderr what it does."""
    peer.accept()
    for number in range(3):
        message = peer.read_stdin(1)
        peer.send(Stderr(b"%d" % number), Stdout(b"Content-Length: %d\r\n" % len(message)))
        peer.send(Stdout(b"\r\n" + message[:1]), Stderr(b"."), Stdout(message[1:]))
    peer.send(OutputClosed())
    peer.until_closed()


@scenario()
async def messages_with_lengths(opened: Opener) -> None:
    attachment = await opened(says_length, WITH_STDIN)
    stderr: list[bytes] = []
    reader = attachment.stdout_reader(stderr.append)
    for message in (b"one", b"two, longer", b"3"):
        await attachment.send_stdin(message)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head == b"Content-Length: %d\r\n\r\n" % len(message)
        assert await reader.readexactly(len(message)) == message
    with pytest.raises(IncompleteRead):
        await reader.readexactly(1)
    assert await reader.readline() == await reader.read() == b""
    assert b"".join(stderr) == reader.stderr == b"0.1.2."


@scenario(by=["communicate", "receive", "iteration", "lines", "reader"])
async def what_a_reader_has_not_given_out_is_the_next_calls(opened: Opener, by: str) -> None:
    attachment = await opened(accepts(Stdout(b"one\ntwo\nthr"), Stderr(b"err"), Stdout(b"ee\n")))
    reader = attachment.stdout_reader()
    assert await reader.readline() == b"one\n"
    if by == "communicate":
        assert await attachment.communicate() == (b"two\nthree\n", b"err")
    elif by == "receive":
        assert await attachment.receive() == Stdout(b"two\nthr")
        assert await reader.readline() == b"ee\n"
        assert reader.stderr == b"err"
        assert await attachment.receive() == OutputClosed()
    elif by == "iteration":
        assert [event async for event in attachment] == [Stdout(b"two\nthr"), Stderr(b"err"), Stdout(b"ee\n")]
    elif by == "lines":
        assert await anext(attachment.lines()) == Line("two", Stdout)
        assert await reader.readline() == b"three\n"
        assert [line async for line in attachment.lines()] == []
    else:
        assert attachment.stdout_reader(limit=3) is not None
        assert await reader.readline() == b"two\n"
        with pytest.raises(SeparatorNotFound):
            await reader.readline()
        assert await reader.read() == b"three\n"


@scenario()
async def what_lines_has_not_given_out_is_the_readers(opened: Opener) -> None:
    attachment = await opened(accepts(Stdout(b"one\ntwo\n"), Stderr(b"err\n"), Stdout(b"three\n")))
    lines = attachment.lines()
    assert await anext(lines) == Line("one", Stdout)
    assert await attachment.stdout_reader().read() == b"two\nthree\n"
    assert [line async for line in lines] == []


@scenario()
async def a_reader_at_a_cut_and_at_a_callback_that_raises(opened: Opener) -> None:
    attachment = await opened(
        then(accept, write(encode_frame(Stdout(b"good\n")) + frame(2, b"err") + frame(1, b"", 9)))
    )

    def fail(data: bytes) -> None:
        raise ZeroDivisionError(data)

    reader = attachment.stdout_reader(fail)
    with pytest.raises(ValueError, match="limit"):
        attachment.stdout_reader(limit=0)
    assert await reader.readline() == b"good\n"
    with pytest.raises(ZeroDivisionError):
        await reader.readline()
    with pytest.raises(RemoteProtocolError, match="9 are missing"):
        await reader.readline()
    assert reader.stderr == b"err"


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
