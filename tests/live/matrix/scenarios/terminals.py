"""Containers with a TTY."""

from __future__ import annotations

import pytest

from attachproto import AttachOptions, OutputClosed, RawOutput
from attachproto_adapters import HalfCloseEndsAttach
from tests.adapters.frameworks import Attachment
from tests.live.matrix.scene import STDIN, Group, Scene, read_all, read_until

scenario = Group("TTY")

DETACHED_TEXT = b"Error: detached from container\n"


async def shell(scene: Scene, script: str) -> str:
    return await scene.aside(scene.engine.shell, script, tty=True, open_stdin=True)


@scenario("raw output, both streams in one, and the exit code")
async def raw_output(scene: Scene) -> None:
    container = await shell(scene, "echo out; echo err >&2; exit 5")
    async with await scene.start(container) as attachment:
        events = [event async for event in attachment]
        assert {type(event) for event in events} == {RawOutput}
        assert b"".join(event.data for event in events) == b"out\r\nerr\r\n"
        assert await attachment.wait() == 5


async def resized(scene: Scene, attachment: Attachment, height: int, width: int) -> None:
    """Resizes the terminal of a program that prints its size for each line; checks that it has the new one."""
    wanted = b"%d %d\r\n" % (height, width)
    for number in range(40):
        if number in (0, 20):
            await attachment.resize(height, width)
        if number == 20:
            scene.differs("resize_is_lost")
        await attachment.send_stdin(b"go\n")
        if wanted in await read_lines(attachment, 2):
            if number in range(1, 20):
                scene.differs("resize_is_late")
            return
    raise AssertionError("the terminal has another size")


async def read_lines(attachment: Attachment, count: int) -> bytes:
    """So many lines: with echo, a program's answer to a line is the second."""
    seen = b""
    while seen.count(b"\n") < count:
        seen += await read_until(attachment, b"\n")
    return seen


@scenario("resize: the program sees the new size, twice")
async def resize(scene: Scene) -> None:
    container = await shell(scene, "while read line; do stty size; done")
    async with await scene.start(container, STDIN) as attachment:
        for height, width in ((33, 77), (50, 120)):
            await resized(scene, attachment, height, width)


@scenario("`run(console_size=)`: the size is there when the command starts")
async def size_at_the_start(scene: Scene) -> None:
    script = 'size() { stty size 2>&-; }; echo $(size); until [ "$(size)" = "33 77" ]; do sleep 0.05; done; echo 33 77'
    result = await scene.run(script, tty=True, console_size=(33, 77))
    first, *rest = result.stdout.split(b"\r\n")
    if first != b"33 77":
        scene.differs("size_after_the_start")
    assert rest == [b"33 77", b""]


async def press(scene: Scene, attachment: Attachment, *keys: bytes) -> bytes:
    """Sends keys that detach, one by one, until the output ends: what came since then.

    Podman wants each key in a read of its own. On a busy machine two may come together; then they are data, which
    the terminal or the program prints, and they are sent again.
    """
    seen = bytearray()
    for _ in range(5):
        for key in keys:
            await attachment.send_stdin(key)
            await scene.aside(scene.engine.call, "GET", "/version")  # until the engine has read the key
        before = len(seen)
        while b"".join(keys) not in seen[before:] and not seen[before:].endswith((b"^X" + keys[-1], b"^P^Q")):
            event = await attachment.receive()
            if isinstance(event, OutputClosed):
                return bytes(seen)
            seen += event.data
    raise AssertionError(f"they do not detach: {bytes(seen)!r}")


async def detaches(scene: Scene, attachment: Attachment, container: str, *keys: bytes) -> None:
    """Sends the keys; the output ends, and the process goes on."""
    out = await press(scene, attachment, *keys)
    if DETACHED_TEXT in out:
        scene.differs("detached_text")
    left = out.replace(DETACHED_TEXT, b"").replace(b"".join(keys), b"")
    assert left.replace(b"\r\n", b"") == b""
    assert await scene.aside(scene.engine.status, container) == "running"


READY = "stty raw -echo; printf ready; exec cat"


@scenario("detach by the engine's own keys, in two pieces, and attach again")
async def default_detach_keys(scene: Scene) -> None:
    container = await shell(scene, READY)
    async with await scene.start(container, STDIN) as attachment:
        await read_until(attachment, b"ready")
        await detaches(scene, attachment, container, b"\x10", b"\x11")
    async with await scene.attach(container, STDIN) as attachment:
        await attachment.send_stdin(b"again")
        assert await read_until(attachment, b"again") == b"again"


@scenario("detach by keys that are sent at once, behind other input")
async def detach_keys_at_once(scene: Scene) -> None:
    container = await shell(scene, READY)
    async with await scene.start(container, STDIN) as attachment:
        await read_until(attachment, b"ready")
        await attachment.send_stdin(b"ab\x10\x11")
        seen = b""
        while not seen.endswith(b"\x11") and not isinstance(event := await attachment.receive(), OutputClosed):
            seen += event.data
        if seen.endswith(b"\x11"):
            scene.differs("keys_one_by_one")
            assert seen == b"ab\x10\x11"
        else:
            assert seen in (b"", b"ab")  # the output ends while `cat` writes it
    assert await scene.aside(scene.engine.status, container) == "running"


@scenario("detach by keys of one's own; the engine's own are data then")
async def own_detach_keys(scene: Scene) -> None:
    container = await shell(scene, READY)
    options = AttachOptions(stdin=True, detach_keys="ctrl-x,x")
    async with await scene.start(container, options) as attachment:
        await read_until(attachment, b"ready")
        await attachment.send_stdin(b"\x10\x11")
        assert await read_until(attachment, b"\x10\x11") == b"\x10\x11"
        await detaches(scene, attachment, container, b"\x18", b"x")


@scenario("the end of stdin is refused (`HalfCloseEndsAttach`), and nothing is lost")
async def half_close_is_refused(scene: Scene) -> None:
    container = await scene.aside(scene.engine.create, "cat", tty=True, open_stdin=True, stdin_once=True)
    async with await scene.start(container, STDIN) as attachment:
        with pytest.raises(HalfCloseEndsAttach):
            await attachment.communicate(b"lost\n")
        await attachment.send_stdin(b"kept\n")  # echoed by the terminal, then printed by cat
        assert await read_until(attachment, b"kept\r\nkept\r\n") == b"kept\r\nkept\r\n"


@scenario("ctrl-c as a byte is SIGINT for the process, ctrl-d the end of its input")
async def control_bytes(scene: Scene) -> None:
    container = await shell(scene, "trap 'echo INT' INT; echo ready; while read line; do :; done; cat; exit 9")
    async with await scene.start(container, STDIN) as attachment:
        await read_until(attachment, b"ready\r\n")
        await attachment.send_stdin(b"\x03")
        await read_until(attachment, b"INT\r\n")
        await attachment.send_stdin(b"\x04\x04\x04")
        await read_all(attachment)
        assert await attachment.wait() == 9


@scenario("attached again after a close: the process goes on reading")
async def attached_again_to_a_tty(scene: Scene) -> None:
    container = await shell(scene, READY)
    for data in (b"one", b"two"):
        start = data == b"one"
        async with await scene.attach(container, STDIN, start=start) as attachment:
            if start:
                await read_until(attachment, b"ready")
            await attachment.send_stdin(data)
            assert await read_until(attachment, data) == data
    assert await scene.aside(scene.engine.status, container) == "running"
