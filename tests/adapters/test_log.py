"""The logger ``attachproto_adapters``: the same lines in every framework, and nothing that may be secret."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from collections.abc import Callable

import pytest

from attachproto import AttachOptions, RemoteProtocolError, Stdout
from attachproto_adapters import EngineUnreachable, RequestRejected
from attachproto_adapters._transport import _log
from tests.adapters.frameworks import EACH_FRAMEWORK, WITH_STDIN, Framework
from tests.adapters.scripted import (
    BOUND,
    Engine,
    accept,
    accepts,
    answers,
    close,
    container,
    docker_exec,
    echo,
    peek,
    rejects,
    reset,
    stays,
    then,
    write,
)

SECRET = "hunter2"


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """What was logged, without the times."""
    caplog.set_level(logging.DEBUG, logger=_log.NAME)

    def logged() -> list[str]:
        assert all(each.name == _log.NAME and each.levelno == logging.DEBUG for each in caplog.records)
        return [re.sub(r"after \d+\.\d ms$", "after # ms", each.getMessage()) for each in caplog.records]

    return logged


@EACH_FRAMEWORK
def test_each_call_the_attach_and_the_end(framework: Framework, engine: Engine, lines: Callable[[], list[str]]) -> None:
    engine.on("inspect", answers(container(status="created")), engine.runs(before=0))
    engine.on("attach", accepts(Stdout(SECRET.encode())))

    async def scenario() -> None:
        async with await framework.attach("web", start=True, host=engine.host) as attachment:
            await attachment.communicate()
            await attachment.wait()

    framework.run(scenario)
    expected = [
        "GET /containers/web/json: 200 after # ms",
        "POST /containers/web/attach: 101 after # ms",
        "POST /containers/web/wait: 200 after # ms",
        "POST /containers/web/start: 204 after # ms",
        "POST /containers/web/attach: open, multiplexed",
        "POST /containers/web/attach: ended",
        "GET /containers/web/json: 200 after # ms",  # whether the container has ended too
    ]
    assert lines() == expected


@EACH_FRAMEWORK
def test_no_secret_is_logged(framework: Framework, engine: Engine, lines: Callable[[], list[str]]) -> None:
    """Neither the command's environment, arguments, input or output, nor a header, nor what a refusal says."""
    engine.on("exec", answers({"Id": "e1"}, 201))
    engine.on("inspect", answers(container()), answers(docker_exec(exit_code=0)), answers(container()))
    engine.on("start", echo)
    engine.on("attach", rejects(404, SECRET))

    async def scenario() -> None:
        await framework.run_exec(
            "web", ["login", SECRET], env={"TOKEN": SECRET}, user=SECRET, input=SECRET.encode(), host=engine.host
        )
        async with framework.client(engine.host, headers=[("Authorization", SECRET)]) as client:
            with pytest.raises(RequestRejected, match=SECRET):
                await client.attach("web", AttachOptions(stdin=True, detach_keys="ctrl-h"), tty=False)

    framework.run(scenario)
    assert lines() == [
        "GET /containers/web/json: 200 after # ms",
        "POST /containers/web/exec: 201 after # ms",
        "POST /exec/e1/start: 101 after # ms",
        "POST /exec/e1/start: open, multiplexed",
        "POST /exec/e1/start: ended",
        "GET /exec/e1/json: 200 after # ms",
        "GET /containers/web/json: 200 after # ms",
        "POST /containers/web/attach: 404 after # ms",
        "GET /containers/web/json: 200 after # ms",  # why it was refused
    ]


@EACH_FRAMEWORK
def test_how_an_attachment_has_ended(framework: Framework, engine: Engine, lines: Callable[[], list[str]]) -> None:
    engine.on("attach", stays(), then(accept, write(b"\x07nonsense"), close), then(accept, peek, reset))

    async def scenario() -> None:
        async with await framework.attach("web", tty=False, host=engine.host):
            pass
        async with await framework.attach("web", tty=False, host=engine.host) as attachment:
            with pytest.raises(RemoteProtocolError):
                await attachment.receive()
        async with await framework.attach("web", WITH_STDIN, tty=False, host=engine.host) as attachment:
            await attachment.send_stdin(SECRET.encode())
            with pytest.raises(framework.broken):
                await attachment.receive()

    framework.run(scenario)
    assert [each for each in lines() if "/attach: " in each and " ms" not in each and ": open" not in each] == [
        "POST /containers/web/attach: closed by the caller",
        "POST /containers/web/attach: closed after RemoteProtocolError",
        "POST /containers/web/attach: closed after ConnectionResetError",
    ]


@EACH_FRAMEWORK
def test_a_call_that_fails(framework: Framework, engine: Engine, lines: Callable[[], list[str]]) -> None:
    """Only the class of the error: its text may quote what the peer has sent."""
    engine.on("inspect", write(b"HTTP/1.1 nonsense\r\n\r\n"))

    async def scenario() -> None:
        with pytest.raises(RemoteProtocolError):
            await framework.attach("web", host=engine.host)
        with pytest.raises(EngineUnreachable):
            await framework.attach("web", host=f"{engine.host}{SECRET}")

    framework.run(scenario)
    assert lines() == [
        "GET /containers/web/json: RemoteProtocolError after # ms",
        "GET /containers/web/json: EngineUnreachable after # ms",
    ]


@EACH_FRAMEWORK
def test_nothing_is_logged_unless_it_is_switched_on(
    framework: Framework, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger=_log.NAME)

    async def scenario() -> None:
        async with await framework.attach("web", tty=False, host=engine.host):
            pass

    framework.run(scenario)
    assert not caplog.records


def test_logging_is_not_imported() -> None:
    code = "import sys, attachproto_adapters.blocking; sys.exit('logging' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=BOUND)
