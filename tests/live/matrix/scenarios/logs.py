"""Logs: of running and exited containers, parts of them, and where there are none."""

from __future__ import annotations

import pytest

from attachproto import Stderr, Stdout
from attachproto_adapters import LogsUnavailable
from tests.live.matrix.scene import LOGS, STDIN, Group, Scene, read_all

scenario = Group("Logs")


@scenario("exited: both streams, the last line without a newline, and the exit code")
async def whole(scene: Scene) -> None:
    container = await scene.aside(scene.shared.finished)
    async with await scene.logs(container) as attachment:
        assert await attachment.communicate() == (b"out1\nout2\ntail", b"err1\n")
        assert await attachment.wait() == 3


@scenario("`tail=`: 0, 1, and more than there are")
async def tail(scene: Scene) -> None:
    container = await scene.aside(scene.shared.timed)
    for number, wanted in ((0, b""), (1, b"three\n"), (2, b"two\nthree\n"), (99, b"one\ntwo\nthree\n")):
        async with await scene.logs(container, tail=number) as attachment:
            assert await read_all(attachment) == (wanted, b"")


async def times(scene: Scene, container: str) -> list[str]:
    async with await scene.logs(container, timestamps=True) as attachment:
        lines = [line async for line in attachment.lines(timestamps=True)]
    assert [line.text for line in lines] == ["one", "two", "three"]
    moments = [line.time for line in lines if line.time is not None]
    assert len(moments) == 3
    assert moments[0].nanoseconds < moments[1].nanoseconds < moments[2].nanoseconds
    return [moment.text for moment in moments]


@scenario("`timestamps=`: a time before each line, in order, taken off by `lines()`")
async def timestamps(scene: Scene) -> None:
    await times(scene, await scene.aside(scene.shared.timed))


@scenario("`since=` the second line's own time: that line and the third")
async def since(scene: Scene) -> None:
    container = await scene.aside(scene.shared.timed)
    moments = await times(scene, container)
    async with await scene.logs(container, since=moments[1]) as attachment:
        out, _ = await read_all(attachment)
    scene.either(out, b"two\nthree\n", bound_is_left_out=b"three\n")


@scenario("`until=` the second line's own time: the first two")
async def until(scene: Scene) -> None:
    container = await scene.aside(scene.shared.timed)
    moments = await times(scene, container)
    async with await scene.logs(container, until=moments[1]) as attachment:
        out, _ = await read_all(attachment)
    scene.either(out, b"one\ntwo\n", bound_is_left_out=b"one\n")


@scenario("`follow=`: what was logged, what comes, the end of the container, and its exit code")
async def followed(scene: Scene) -> None:
    script = "echo first; read line; echo last; echo err >&2; exit 2"
    container = await scene.aside(scene.engine.shell, script, open_stdin=True, stdin_once=True)
    async with await scene.start(container, STDIN) as attachment:
        await scene.aside(scene.logged, container, b"first")
        async with await scene.logs(container, follow=True) as log:
            assert await log.receive() == Stdout(b"first\n")
            await attachment.send_stdin(b"go\n")
            seen = {type(event): event.data async for event in log}
            assert seen == {Stdout: b"last\n", Stderr: b"err\n"}
            assert await log.wait() == 2


@scenario("running, without `follow=`: what is there so far, and the end")
async def so_far(scene: Scene) -> None:
    container = await scene.aside(scene.engine.shell, "echo out; echo err >&2; exec sleep 600")
    await scene.aside(scene.engine.start, container)
    await scene.aside(scene.logged, container, b"out")
    await scene.aside(scene.logged, container, b"err")
    async with await scene.logs(container) as attachment:
        assert await attachment.communicate() == (b"out\n", b"err\n")


@scenario("of a TTY: raw output")
async def of_a_tty(scene: Scene) -> None:
    async with await scene.logs(await scene.aside(scene.shared.terminal)) as attachment:
        assert await attachment.communicate() == (b"out\r\nerr\r\n", b"")


@scenario("a line of 50,000 characters is whole")
async def long_line(scene: Scene) -> None:
    container = await scene.aside(
        scene.engine.shell, "yes | head -c 100000 | while read c; do printf $c; done; echo; echo end"
    )
    await scene.aside(scene.engine.finish, container)
    async with await scene.logs(container) as attachment:
        assert await attachment.communicate() == (b"y" * 50_000 + b"\nend\n", b"")


@scenario("of a container that was never started: nothing")
async def never_started(scene: Scene) -> None:
    container = await scene.aside(scene.engine.create, "true")
    async with await scene.logs(container) as attachment:
        assert await read_all(attachment) == (b"", b"")


@scenario("log driver `none`: output comes, and logs are `LogsUnavailable`")
async def without_a_log(scene: Scene) -> None:
    container = await scene.aside(scene.engine.shell, "echo out; exit 5", host_config={"LogConfig": {"Type": "none"}})
    async with await scene.start(container) as attachment:
        assert await attachment.communicate() == (b"out\n", b"")
        assert await attachment.wait() == 5
    for opening in (scene.logs(container), scene.attach(container, LOGS)):
        with pytest.raises(LogsUnavailable, match="'none'") as caught:
            await opening
        assert caught.value.driver == "none"
