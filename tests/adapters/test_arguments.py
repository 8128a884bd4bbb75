"""What a caller gives is checked before anything is asked, by each adapter."""

from __future__ import annotations

import asyncio
import pathlib
import socket
from datetime import datetime
from types import ModuleType
from typing import Any

import pytest

from attachproto import Attach, DataEvent, RawOutput, Request, Stderr, Stdout, Systemerr
from attachproto_adapters import OutputTooLarge, anyio, blocking, trio
from attachproto_adapters import asyncio as asyncio_adapter
from attachproto_adapters._flows._output import Gathered
from tests.adapters.frameworks import FRAMEWORKS, WAYS, Framework, Way, connected
from tests.adapters.scripted import BOUND, Engine, Peer, Task, accepts

OPENS = Attach("web", tty=False)

COMMAND: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"user": 0}, TypeError, "user is a str such as '0', not 0"),
    ({"workdir": pathlib.PurePosixPath("/srv")}, TypeError, "workdir is a str such as '/srv', not PurePosixPath"),
    ({"env": {"A": None}}, TypeError, "env maps str to str, and has 'A': None"),
    ({"env": {1: "A"}}, TypeError, "env maps str to str, and has 1: 'A'"),
    ({"env": ["A=1"]}, TypeError, "env is a mapping"),
    ({"env": {"A=B": "1"}}, ValueError, "has no '=' in it, not 'A=B'"),
    ({"env": {"": "1"}}, ValueError, "a name in env is not empty"),
    ({"env": {"A": "\0"}}, ValueError, "env has a NUL in it"),
    ({"env": {"A": "\udcff"}}, ValueError, "env has a lone surrogate in it"),
    ({"user": "\udcff"}, ValueError, "user has a lone surrogate in it"),
    ({"workdir": "/\0"}, ValueError, "workdir has a NUL in it"),
    ({"command": ["echo", "\0"]}, ValueError, "command has a NUL in it"),
    ({"command": ["echo", "\udcff"]}, ValueError, "command has a lone surrogate in it"),
    ({"command": ["echo", 5]}, TypeError, "the arguments of a command are str"),
    ({"tty": 1}, TypeError, "tty is True or False, not 1"),
    ({"max_output": "7"}, TypeError, "max_output is an int, not '7'"),
    ({"max_output": True}, TypeError, "max_output is an int, not True"),
    ({"max_output": -1}, ValueError, "max_output is 0 or more, not -1"),
    ({"input": "text"}, TypeError, r"not str: encode the text first, such as with text\.encode\(\)"),
    ({"host": 5}, TypeError, "host is a str such as 'unix:///var/run/docker.sock', not 5"),
    ({"command": {"true", "false"}}, TypeError, "a command is a sequence of arguments"),
    ({"command": None}, TypeError, "a command is a sequence of arguments"),
]

MODULES = [blocking, asyncio_adapter, trio, anyio]

ATTACH: list[tuple[dict[str, Any], str]] = [
    ({"start": "no"}, "start is True or False, not 'no'"),
    ({"start": 1}, "start is True or False, not 1"),
    ({"wait": None}, "wait is True or False, not None"),
    ({"quirks": 5}, "quirks are members of Quirk, not 5"),
    ({"quirks": ["newline-outside-frame"]}, "quirks are members of Quirk, not 'newline-outside-frame'"),
]

LOGS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"since": datetime(2026, 1, 31)}, ValueError, "since is a datetime without a time zone.*astimezone"),
    ({"until": "yesterday"}, ValueError, "until is seconds since the epoch, an aware datetime, or RFC 3339"),
    ({"tail": "5"}, TypeError, "tail is of type int"),
]


@pytest.mark.parametrize("framework", FRAMEWORKS, ids=str)
@pytest.mark.parametrize(("given", "error", "match"), COMMAND)
def test_of_a_command(
    framework: Framework, engine: Engine, given: dict[str, Any], error: type[Exception], match: str
) -> None:
    async def scenario() -> None:
        with pytest.raises(error, match=match):
            await framework.run_exec("web", **{"command": ["true"], "host": engine.host, **given})

    framework.run(scenario)
    assert engine.calls == []


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
@pytest.mark.parametrize("name", ["create", "create_exec", "logs", "open_exec", "run", "run_exec"])
def test_of_a_keyword_that_the_function_does_not_have(engine: Engine, module: ModuleType, name: str) -> None:
    """The error names the function that was called."""
    arguments = ["web"] if name == "logs" else ["web", ["true"]]

    async def scenario() -> None:
        await getattr(module, name)(*arguments, host=engine.host, colour="red")

    with pytest.raises(TypeError, match=rf"^{name}\(\) got an unexpected keyword argument 'colour'$"):
        asyncio.run(scenario())
    assert engine.calls == []


@pytest.mark.parametrize("framework", FRAMEWORKS, ids=str)
@pytest.mark.parametrize(("given", "match"), ATTACH)
def test_of_attach(framework: Framework, engine: Engine, given: dict[str, Any], match: str) -> None:
    async def scenario() -> None:
        with pytest.raises(TypeError, match=match):
            await framework.attach("web", host=engine.host, **given)

    framework.run(scenario)
    assert engine.calls == []


@pytest.mark.parametrize("timeout", [float("inf"), float("nan"), 1e300])
def test_of_a_timeout_that_no_clock_has(engine: Engine, timeout: float) -> None:
    with pytest.raises(ValueError, match="above 0 seconds and at most"):
        blocking.attach("web", host=engine.host, timeout=timeout)
    assert engine.calls == []


@pytest.mark.parametrize("way", [way for way in WAYS if way.own is not None and way.unix], ids=str)
@pytest.mark.parametrize(
    ("request_", "quirks", "match"),
    [
        (None, (), "the request is an Attach, an ExecStart or a Logs, not None"),
        (Request("GET", ("version",)), (), "the request is an Attach, an ExecStart or a Logs, not"),
        (OPENS, ["nonsense"], "quirks are members of Quirk, not 'nonsense'"),
        (OPENS, None, "quirks are members of Quirk, not None"),
    ],
)
def test_of_open_attachment(way: Way, request_: Any, quirks: Any, match: str) -> None:
    """The stream is left alone: a second call opens an attachment on it."""
    client, server = connected("unix")
    serving = Task(lambda: serve_one(server))

    async def scenario() -> None:
        assert way.own is not None
        stream = await way.own(client)
        with pytest.raises(TypeError, match=match):
            await way.framework.open_attachment(stream, request_, quirks=quirks)
        async with await way.framework.open_attachment(stream, OPENS) as attachment:
            assert await attachment.communicate() == (b"out", b"")

    with server:
        server.settimeout(BOUND)
        way.framework.run(scenario)
        serving.result()


def serve_one(sock: socket.socket) -> None:
    peer = Peer(sock)
    assert peer.read_request() == Attach("web")
    accepts(Stdout(b"out"))(peer)


@pytest.mark.parametrize("framework", FRAMEWORKS, ids=str)
@pytest.mark.parametrize(("given", "error", "match"), LOGS)
def test_of_logs(
    framework: Framework, engine: Engine, given: dict[str, Any], error: type[Exception], match: str
) -> None:
    async def scenario() -> None:
        with pytest.raises(error, match=match):
            await framework.logs("web", host=engine.host, **given)

    framework.run(scenario)
    assert engine.calls == []


@pytest.mark.parametrize("size", [("80", 24), (24, None), (True, 80)])
@pytest.mark.parametrize("framework", FRAMEWORKS, ids=str)
def test_of_a_resize(framework: Framework, engine: Engine, size: tuple[Any, Any]) -> None:
    async def scenario() -> None:
        async with await framework.attach("web", host=engine.host) as attachment:
            with pytest.raises(TypeError, match=r"(height|width) is an int"):
                await attachment.resize(*size)

    framework.run(scenario)
    assert "resize" not in engine.calls


# ---- what max_output keeps ----


@pytest.mark.parametrize(
    ("events", "stdout", "stderr"),
    [
        ([Stdout(b"12345678")], b"1234567", b""),
        ([RawOutput(b"12345678")], b"1234567", b""),
        ([Stderr(b"12345678")], b"", b"1234567"),
        ([Stdout(b"123"), Stderr(b"45678")], b"123", b"4567"),
        ([Stderr(b"123"), Stdout(b"45678")], b"4567", b"123"),
        ([Stdout(b"123"), Stderr(b"4567"), Stdout(b"x" * 9)], b"123", b"4567"),
        ([Stdout(b"123"), Systemerr(b"x" * 9)], b"123", b""),
        ([Systemerr(b"x" * 7), Stdout(b"123")], b"123", b""),
    ],
)
def test_the_error_has_no_more_than_max_output(events: list[DataEvent], stdout: bytes, stderr: bytes) -> None:
    gathered = Gathered()
    for event in events[:-1]:
        gathered.add(event, 7)
    with pytest.raises(OutputTooLarge) as caught:
        gathered.add(events[-1], 7)
    assert (caught.value.stdout, caught.value.stderr) == (stdout, stderr)


@pytest.mark.parametrize("last", [Stdout(b"x"), Stderr(b"x"), Systemerr(b"x")])
def test_nor_has_it_behind_a_call_with_a_larger_bound(last: DataEvent) -> None:
    for first in (Stdout(b"123456"), Stderr(b"123456")):
        gathered = Gathered()
        gathered.add(first, None)
        with pytest.raises(OutputTooLarge) as caught:
            gathered.add(last, 3)
        kept = caught.value.stdout, caught.value.stderr
        assert sum(map(len, kept)) == 3
        assert b"123" in kept or isinstance(last, Systemerr)


@pytest.mark.parametrize("framework", FRAMEWORKS, ids=str)
def test_a_second_call_has_the_same_bound(framework: Framework, engine: Engine) -> None:
    engine.on("attach", accepts(Stdout(b"12345678")))

    async def scenario() -> None:
        async with await framework.attach("web", host=engine.host) as attachment:
            for _ in range(2):
                with pytest.raises(OutputTooLarge) as caught:
                    await attachment.communicate(max_output=7)
                assert caught.value.stdout == b"1234567"
            assert await attachment.communicate(max_output=8) == (b"12345678", b"")

    framework.run(scenario)
