"""Connections: kept, two at once, over TCP, cut, and an engine that goes away."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from attachproto import RemoteProtocolError
from attachproto_adapters import AttachError, EngineUnreachable, ExecResult, OutputCut
from tests.live.cutting import CuttingBridge
from tests.live.matrix.scene import PRINTS, STDIN, Group, Scene, read_until

scenario = Group("Connections")


@scenario("five plain calls of a client: one connection")
async def one_connection(scene: Scene) -> None:
    container = await scene.aside(scene.shared.sleeper)
    with scene.bridge() as bridge:
        async with scene.client(f"unix://{bridge.path}") as client:
            for _ in range(5):
                await client.create_exec(container, ["true"])
        assert bridge.connections == 1


@scenario("two clients at once, each with a container of its own")
async def two_clients(scene: Scene) -> None:
    async def one(number: int) -> None:
        result = await scene.run(f"echo {number}; exit {number}")
        assert (result.exit_code, result.stdout) == (number, b"%d\n" % number)

    await scene.framework.together(one(1), one(2))


@scenario("over TCP: 128 KB through `cat` with a half-close, and an exec")
async def over_tcp(scene: Scene) -> None:
    data = b"0123456789abcdef" * 8192
    container = await scene.aside(scene.engine.shell, "cat; echo end >&2; exit 4", open_stdin=True, stdin_once=True)
    with scene.bridge() as bridge:
        host = f"tcp://127.0.0.1:{bridge.port}"
        async with await scene.start(container, STDIN, host=host) as attachment:
            assert await attachment.communicate(data) == (data, b"end\n")
            assert await attachment.wait() == 4
        sleeper = await scene.aside(scene.shared.sleeper)
        assert await scene.run_exec(sleeper, ["cat"], input=b"x", host=host) == ExecResult(0, b"x", b"")


@scenario("a connection that is cut between two frames: `OutputCut`, and what came before")
async def cut(scene: Scene) -> None:
    container = await scene.aside(
        scene.engine.shell, "echo one; read line; echo cut-here; exec sleep 600", open_stdin=True
    )
    with TemporaryDirectory(prefix="attachproto-") as folder:
        bridge = CuttingBridge(scene.engine.socket, Path(folder, "s"), cut_behind=b"cut-here\n")
        try:
            async with await scene.start(container, STDIN, host=bridge.host) as attachment:
                await attachment.send_stdin(b"go\n")
                with pytest.raises(OutputCut) as caught:
                    await attachment.communicate()
        finally:
            bridge.close()
    assert caught.value.stdout == b"one\ncut-here\n"


@scenario("an exec whose half-close closes the connection: `OutputCut`")
async def half_close_closes(scene: Scene) -> None:
    container = await scene.aside(scene.shared.sleeper)
    with TemporaryDirectory(prefix="attachproto-") as folder:
        bridge = CuttingBridge(scene.engine.socket, Path(folder, "s"), half_close_closes=True)
        try:
            with pytest.raises(OutputCut):
                await scene.run_exec(container, "cat; sleep 30; echo done", input=b"x", host=bridge.host)
        finally:
            bridge.close()


@scenario("the engine goes away: the stream ends with an error, and the next call says `EngineUnreachable`")
async def engine_goes_away(scene: Scene) -> None:
    container = await scene.aside(scene.engine.shell, "echo ready; exec sleep 600")
    with scene.bridge() as bridge:
        host = f"unix://{bridge.path}"
        async with await scene.start(container, host=host) as attachment:
            await read_until(attachment, b"ready\n")
            await scene.aside(bridge.close)
            with pytest.raises((AttachError, RemoteProtocolError, *scene.framework.broken)):
                await attachment.communicate()
            with pytest.raises(EngineUnreachable):
                await scene.run_exec(container, PRINTS, host=host)
