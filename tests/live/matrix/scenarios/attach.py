"""Attach to a container in each of its states."""

from __future__ import annotations

import pytest

from attachproto import AttachOptions, OutputClosed, Stdout
from attachproto_adapters import AttachmentClosed, ContainerNotRunning, OutputCut
from tests.adapters.frameworks import Attachment
from tests.live.matrix.scene import LOGS, PRINTS, STDIN, Group, Scene, read_all, read_until

scenario = Group("Attach")


@scenario("created, `start=True`: both streams and the exit code")
async def created_and_started(scene: Scene) -> None:
    container = await scene.aside(scene.engine.shell, PRINTS)
    async with await scene.start(container) as attachment:
        assert await attachment.communicate() == (b"out\n", b"err\n")
        assert await attachment.wait() == 3


@scenario("the first output of three containers that print and end at once")
async def first_output(scene: Scene) -> None:
    for number in range(3):
        container = await scene.aside(scene.engine.shell, f"echo out{number}; exit {number}")
        async with await scene.start(container) as attachment:
            assert await read_all(attachment) == (b"out%d\n" % number, b"")
            assert await attachment.wait() == number


@scenario("created, started by somebody else, `wait=True`")
async def started_by_somebody_else(scene: Scene) -> None:
    container = await scene.aside(scene.engine.shell, PRINTS)
    async with await scene.attach(container, wait=True) as attachment:
        await scene.aside(scene.engine.start, container)
        assert await attachment.communicate() == (b"out\n", b"err\n")
        assert await attachment.wait() == 3


@scenario("running, with what it has logged before")
async def running_with_logs(scene: Scene) -> None:
    script = "echo before; echo err >&2; read line; echo $line; exit 4"
    container = await scene.aside(scene.engine.shell, script, open_stdin=True, stdin_once=True)
    await scene.aside(scene.engine.start, container)
    await scene.aside(scene.logged, container, b"err")
    options = AttachOptions(stdin=True, logs=True)
    async with await scene.attach(container, options) as attachment:
        assert await read_until(attachment, b"err\n") in (b"before\nerr\n", b"err\n", b"err\nbefore\n")
        await attachment.send_stdin(b"after\n")
        out, err = await read_all(attachment)
        assert out in (b"after\n", b"before\nafter\n")
        assert err == b""
        assert await attachment.wait() == 4


@scenario("exited, with its logs, twice: output and exit code, and the container stays as it is")
async def exited_with_logs(scene: Scene) -> None:
    container = await scene.aside(scene.shared.finished)
    for _ in range(2):
        async with await scene.attach(container, LOGS) as attachment:
            assert await attachment.communicate() == (b"out1\nout2\ntail", b"err1\n")
            assert await attachment.wait() == 3
    assert await scene.aside(scene.engine.status, container) == "exited"


@scenario("exited, without logs: `ContainerNotRunning`, and the container stays as it is")
async def exited_without_logs(scene: Scene) -> None:
    container = await scene.aside(scene.shared.finished)
    with pytest.raises(ContainerNotRunning):
        await scene.attach(container)
    assert await scene.aside(scene.engine.status, container) == "exited"


@scenario("exited, and started again: the output of the second run alone")
async def started_again(scene: Scene) -> None:
    container = await scene.aside(scene.engine.shell, "echo once; exit 5")
    await scene.aside(scene.engine.finish, container)
    async with await scene.start(container) as attachment:
        assert await attachment.communicate() == (b"once\n", b"")
        assert await attachment.wait() == 5


@scenario("paused: `ContainerNotRunning`")
async def paused(scene: Scene) -> None:
    container = await scene.aside(scene.engine.create, "sleep", "600")
    await scene.aside(scene.engine.start, container)
    await scene.aside(scene.engine.pause, container)
    try:
        with pytest.raises(ContainerNotRunning, match="paused"):
            await scene.attach(container)
    finally:
        await scene.aside(scene.engine.unpause, container)


@scenario("restarted while attached: the output ends, and is not taken for the end of the process")
async def restarted(scene: Scene) -> None:
    container = await scene.aside(scene.engine.shell, "echo ready; exec sleep 600")
    async with await scene.start(container) as attachment:
        assert await read_until(attachment, b"ready\n") == b"ready\n"
        await scene.aside(scene.engine.call, "POST", f"/containers/{container}/restart?t=0")
        try:
            out, err = await attachment.communicate()
        except OutputCut as cut:
            out, err = cut.stdout, cut.stderr
        assert (out, err) == (b"", b"")
        assert await scene.aside(scene.engine.status, container) == "running"


@scenario("two attached at once: each has all of the output")
async def two_at_once(scene: Scene) -> None:
    script = "read line; for i in $(seq 200); do echo $i; done; exit 6"
    container = await scene.aside(scene.engine.shell, script, open_stdin=True)
    wanted = b"".join(b"%d\n" % number for number in range(1, 201))

    async def reads(attachment: Attachment) -> None:
        assert await attachment.communicate() == (wanted, b"")
        assert await attachment.wait() == 6

    async with await scene.start(container, STDIN) as first, await scene.attach(container) as second:
        await first.send_stdin(b"go\n")
        await scene.framework.together(reads(first), reads(second))


@scenario("reads after the end: `OutputClosed` again and again, and no event")
async def reads_after_the_end(scene: Scene) -> None:
    container = await scene.aside(scene.shared.finished)
    async with await scene.attach(container, LOGS) as attachment:
        assert await read_all(attachment) == (b"out1\nout2\ntail", b"err1\n")
        assert [await attachment.receive() for _ in range(2)] == [OutputClosed()] * 2
        assert [event async for event in attachment] == []
        assert await attachment.communicate() == (b"", b"")
        assert [await attachment.wait() for _ in range(2)] == [3, 3]


@scenario("closed while another task reads: the read ends, and the container goes on")
async def closed_while_reading(scene: Scene) -> None:
    container = await scene.aside(scene.engine.shell, "echo ready; exec sleep 600")
    async with await scene.start(container) as attachment:
        assert await attachment.receive() == Stdout(b"ready\n")

        async def reads() -> None:
            with pytest.raises(AttachmentClosed):
                await attachment.receive()

        async def closes() -> None:
            # Any call gives the reader time to be in its read; closed before it, the read raises the same.
            await scene.aside(scene.engine.status, container)
            await attachment.aclose()

        await scene.framework.together(reads(), closes())
    assert await scene.aside(scene.engine.status, container) == "running"


@scenario("attached again after a close, stdin open, no TTY: the process goes on reading")
async def attached_again(scene: Scene) -> None:
    script = "while read line; do echo got $line; done; echo end"
    container = await scene.aside(scene.engine.shell, script, open_stdin=True)
    async with await scene.start(container, STDIN) as attachment:
        await attachment.send_stdin(b"one\n")
        assert await read_until(attachment, b"got one\n") == b"got one\n"
    if scene.engine.name == "podman":
        scene.differs("close_ends_stdin")
        await scene.aside(scene.engine.wait_for, container, "exited")
        return
    async with await scene.attach(container, STDIN) as attachment:
        await attachment.send_stdin(b"two\n")
        assert await read_until(attachment, b"got two\n") == b"got two\n"
