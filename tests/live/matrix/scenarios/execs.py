"""Commands in a running container."""

from __future__ import annotations

import contextlib
import secrets
import threading

import pytest

from attachproto import RawOutput, Stderr, Stdout
from attachproto_adapters import (
    ContainerNotRunning,
    ExecAlreadyStarted,
    ExecResult,
    HalfCloseEndsAttach,
    RequestRejected,
    blocking,
)
from tests.live.matrix.scenarios.terminals import DETACHED_TEXT, press, resized
from tests.live.matrix.scene import PRINTS, Group, Scene, read_all, read_until

scenario = Group("Exec")


async def sleeper(scene: Scene) -> str:
    return await scene.aside(scene.shared.sleeper)


@scenario("both streams and the exit code")
async def exec_result(scene: Scene) -> None:
    assert await scene.run_exec(await sleeper(scene), PRINTS) == ExecResult(3, b"out\n", b"err\n")


@scenario("1 MiB of every byte value through `cat`, and output after its end")
async def exec_input(scene: Scene) -> None:
    data = bytes(range(256)) * 4096
    result = await scene.run_exec(await sleeper(scene), "cat; echo end >&2", input=data)
    assert (result.exit_code, result.stdout == data, result.stderr) == (0, True, b"end\n")
    assert await scene.run_exec(await sleeper(scene), ["cat"], input=b"") == ExecResult(0, b"", b"")


@scenario("environment (beyond ASCII), user and directory")
async def exec_environment(scene: Scene) -> None:
    script = 'echo "$WORD"; pwd; while read -r name id rest; do [ "$name" = Uid: ] && echo $id; done </proc/self/status'
    user = None if scene.embedded else "1000"
    result = await scene.run_exec(
        await sleeper(scene), f"{script}; exit 0", env={"WORD": "a b=ü 世界"}, workdir="/tmp", user=user
    )
    *lines, uid = result.stdout.decode().splitlines()
    assert (lines, result.stderr, result.exit_code) == (["a b=ü 世界", "/tmp"], b"", 0)
    assert scene.embedded or uid == "1000"


@scenario("`on_output`: the output while the command runs, and of one that is not found the engine's text alone")
async def exec_live(scene: Scene) -> None:
    container, pieces = await sleeper(scene), list[Stdout | Stderr | RawOutput]()

    def go_on(piece: Stdout | Stderr | RawOutput) -> None:
        pieces.append(piece)
        if piece.data == b"ready\n":
            removing = ["rm", waits_for]
            threading.Thread(target=blocking.run_exec, args=(container, removing), kwargs={"host": scene.host}).start()

    waits_for = f"/tmp/on-output-{secrets.token_hex(4)}"
    script = f"touch {waits_for}; echo ready; while [ -e {waits_for} ]; do sleep 0.05; done; echo gone >&2"
    result = await scene.run_exec(container, script, on_output=go_on)
    assert (result, pieces) == (ExecResult(0, b"ready\n", b"gone\n"), [Stdout(b"ready\n"), Stderr(b"gone\n")])
    pieces.clear()
    result = await scene.run_exec(container, ["/no/such/program"], on_output=go_on)
    for kind, output in ((Stdout, result.stdout), (Stderr, result.stderr)):
        assert b"".join(piece.data for piece in pieces if type(piece) is kind) == output


@scenario("with a TTY: raw output; input is refused (`HalfCloseEndsAttach`)")
async def exec_tty(scene: Scene) -> None:
    container = await sleeper(scene)
    assert await scene.run_exec(container, PRINTS, tty=True) == ExecResult(3, b"out\r\nerr\r\n", b"")
    with pytest.raises(HalfCloseEndsAttach):
        await scene.run_exec(container, ["cat"], tty=True, input=b"lost")


@scenario("TTY: its size, a resize, and a line of input")
async def exec_size(scene: Scene) -> None:
    async with (
        scene.client() as client,
        await client.open_exec(
            await sleeper(scene), ["sh", "-c", "while read line; do stty size; done"], tty=True, stdin=True
        ) as attachment,
    ):
        for height, width in ((40, 100), (24, 80)):
            await resized(scene, attachment, height, width)
        await attachment.send_stdin(b"\x04")
        await read_all(attachment)
        assert await attachment.wait() == 0


@scenario("a conversation, the end of stdin by hand, and `wait()`")
async def exec_by_hand(scene: Scene) -> None:
    async with (
        scene.client() as client,
        await client.open_exec(await sleeper(scene), ["sh", "-c", "cat; echo end; exit 6"], stdin=True) as attachment,
    ):
        for word in (b"one\n", b"two\n"):
            await attachment.send_stdin(word)
            assert await read_until(attachment, b"\n") == word
        await attachment.close_stdin()
        assert await attachment.communicate() == (b"end\n", b"")
        assert await attachment.wait() == 6


@scenario("killed by a signal: 137 and 143")
async def exec_signals(scene: Scene) -> None:
    for number, code in ((9, 137), (15, 143)):
        result = await scene.run_exec(await sleeper(scene), f"echo x; kill -{number} $$; sleep 600")
        assert result == ExecResult(code, b"x\n", b"")


@scenario("a program that does not exist: 127, and the engine's words on stderr")
async def exec_not_found(scene: Scene) -> None:
    result = await scene.run_exec(await sleeper(scene), ["nosuchprogram"])
    scene.either(result.exit_code, 127, exec_not_found_126=126)
    if b"nosuchprogram" in result.stdout:
        scene.differs("reason_on_stdout")
    assert b"nosuchprogram" in result.stdout + result.stderr


@scenario("a file that cannot be executed: 126")
async def exec_not_executable(scene: Scene) -> None:
    result = await scene.run_exec(await sleeper(scene), ["/proc/version"])
    assert result.exit_code == 126
    if b"/proc/version" in result.stdout:
        scene.differs("reason_on_stdout")


@scenario("no such container (404); exited or paused: `ContainerNotRunning`")
async def exec_refused(scene: Scene) -> None:
    with pytest.raises(RequestRejected) as caught:
        await scene.run_exec("nosuchcontainer", PRINTS)
    assert caught.value.status_code == 404
    with pytest.raises(ContainerNotRunning):
        await scene.run_exec(await scene.aside(scene.shared.finished), PRINTS)


@scenario("started a second time: `ExecAlreadyStarted`")
async def exec_twice(scene: Scene) -> None:
    created = await scene.aside(scene.engine.exec_create, await sleeper(scene), "true")
    async with await scene.framework.exec_start(created, host=scene.host) as attachment:
        assert await attachment.communicate() == (b"", b"")
        assert await attachment.wait() == 0
    with pytest.raises(ExecAlreadyStarted):
        await scene.framework.exec_start(created, host=scene.host)


@scenario("left by `detach()`: the command goes on")
async def exec_left_running(scene: Scene) -> None:
    container = await sleeper(scene)
    async with scene.client() as client:
        exec_id = await client.create_exec(container, ["sh", "-c", "echo $$; exec sleep 3600"])
        attachment = await client.exec_start(exec_id)
        pid = (await read_until(attachment, b"\n")).decode().strip()
        await attachment.detach()
        assert (await scene.aside(scene.engine.exec_inspect, exec_id))["Running"]
        assert (await client.run_exec(container, ["kill", "-9", pid])).exit_code == 0
        await scene.aside(over, scene, exec_id)


def over(scene: Scene, exec_id: str) -> None:
    """Waits for the end of an exec. Podman forgets some of those that nobody is attached to."""
    with contextlib.suppress(Exception):
        scene.engine.exec_finish(exec_id, 10.0)


@scenario("TTY, detach by keys of one's own: the output ends, and the command goes on")
async def exec_detach_keys(scene: Scene) -> None:
    container = await sleeper(scene)
    async with scene.client() as client:
        exec_id = await client.create_exec(
            container, ["sh", "-c", "echo $$; exec cat"], tty=True, stdin=True, detach_keys="ctrl-x,x"
        )
        async with await client.exec_start(exec_id) as attachment:
            pid = (await read_until(attachment, b"\n")).decode().strip()
            out = await press(scene, attachment, b"\x18", b"x")
            if b"exec attach failed" in out:
                scene.differs("exec_detach_text")
            if DETACHED_TEXT in out:
                scene.differs("detached_text")
        if not (await scene.aside(scene.engine.exec_inspect, exec_id))["Running"]:
            scene.differs("detached_exec_is_over")
        if (await client.run_exec(container, ["kill", "-9", pid])).exit_code != 0:
            scene.differs("detached_exec_ends")


@scenario("output that has ended while the command goes on: its exit code is waited for")
async def exec_outlives_output(scene: Scene) -> None:
    result = await scene.run_exec(await sleeper(scene), "echo early; exec >&- 2>&-; sleep 0.5; exit 4")
    assert result == ExecResult(4, b"early\n", b"")


@scenario("10 MB of output, and 2,000 lines on stderr beside it")
async def exec_output(scene: Scene) -> None:
    result = await scene.run_exec(await sleeper(scene), "seq 2000 >&2 & yes 0123456789abcdef | head -c 10000000; wait")
    assert result.exit_code == 0
    assert result.stdout == (b"0123456789abcdef\n" * (10_000_000 // 17 + 1))[:10_000_000]
    assert result.stderr == b"".join(b"%d\n" % number for number in range(1, 2001))


@scenario("four commands at once by one client: each has its own output")
async def execs_at_once(scene: Scene) -> None:
    container = await sleeper(scene)
    async with scene.client() as client:

        async def one(number: int) -> None:
            result = await client.run_exec(container, ["sh", "-c", f"echo {number}; exit {number}"])
            assert result == ExecResult(number, b"%d\n" % number, b"")

        await scene.framework.together(*(one(number) for number in range(4)))
