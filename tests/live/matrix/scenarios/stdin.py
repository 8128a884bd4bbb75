"""Input of a container: sizes, its end, and who does not read it."""

from __future__ import annotations

import random

import pytest

from attachproto import OutputClosed, Reason, RemoteProtocolError, Stderr, Stdout
from attachproto_adapters import HalfCloseEndsAttach
from tests.adapters.frameworks import Attachment
from tests.live.matrix.scenarios.terminals import DETACHED_TEXT
from tests.live.matrix.scene import STDIN, Group, Scene, read_until

scenario = Group("Stdin")

ALL_BYTES = bytes(range(256)) * 256
CAT = "cat; echo after >&2; exit 4"


async def through_cat(scene: Scene, data: bytes) -> None:
    container = await scene.aside(scene.engine.shell, CAT, open_stdin=True, stdin_once=True)
    async with await scene.start(container, STDIN) as attachment:
        out, err = await attachment.communicate(data)
        assert (len(out), out == data, err) == (len(data), True, b"after\n")
        assert await attachment.wait() == 4


@scenario("64 KiB of every byte value through `cat`, half-close, and output after it")
async def kilobytes_64(scene: Scene) -> None:
    await through_cat(scene, ALL_BYTES)


@scenario("1 MiB of random bytes through `cat`")
async def megabyte(scene: Scene) -> None:
    await through_cat(scene, random.Random(1).randbytes(1 << 20))


@scenario('no input, but its end: `communicate(b"")`')
async def empty_input(scene: Scene) -> None:
    await through_cat(scene, b"")


@scenario("line by line, then the end by hand")
async def line_by_line(scene: Scene) -> None:
    script = "while read line; do echo got $line; done; echo end; exit 6"
    container = await scene.aside(scene.engine.shell, script, open_stdin=True, stdin_once=True)
    async with await scene.start(container, STDIN) as attachment:
        for number in range(20):
            await attachment.send_stdin(b"%d\n" % number)
            assert await read_until(attachment, b"\n") == b"got %d\n" % number
        await attachment.close_stdin()
        assert await attachment.communicate() == (b"end\n", b"")
        assert await attachment.wait() == 6


@scenario("half-close without `StdinOnce`: all of the output after it")
async def half_close_without_stdin_once(scene: Scene) -> None:
    container = await scene.aside(scene.engine.shell, CAT, open_stdin=True)
    async with await scene.start(container, STDIN) as attachment:
        if scene.engine.name == "docker":
            scene.differs("half_close_ends_attach")
            with pytest.raises(HalfCloseEndsAttach):
                await attachment.communicate(b"lost\n")
            await attachment.send_stdin(b"kept\n")
            assert await read_until(attachment, b"\n") == b"kept\n"
            return
        assert await attachment.communicate(b"data\n") == (b"data\n", b"after\n")
        assert await attachment.wait() == 4


async def unread(scene: Scene, attachment: Attachment, data: bytes, wanted: bytes) -> None:
    """Sends input to a process that does not read all of it, and judges its output."""
    try:
        out, err = await attachment.communicate(data)
    except RemoteProtocolError as error:
        scene.differs("error_inside_a_frame")
        if error.reason not in (Reason.UNKNOWN_STREAM_TYPE, Reason.CUT_IN_FRAME):
            raise
        return
    if err:
        scene.differs("tells_of_unread_stdin")
        assert err.startswith(b"Error: ")
    if out != wanted:
        scene.differs("unread_stdin_loses_output")
        assert wanted.startswith(out)


@scenario("2 MB for a process that reads none, and prints 2 MB: no deadlock")
async def nobody_reads(scene: Scene) -> None:
    script = "yes 0123456789abcdef | head -c 2000000; exit 5"
    container = await scene.aside(scene.engine.shell, script, open_stdin=True, stdin_once=True)
    async with await scene.start(container, STDIN) as attachment:
        await unread(scene, attachment, bytes(2_000_000), (b"0123456789abcdef\n" * (2_000_000 // 17 + 1))[:2_000_000])
        assert await attachment.wait() == 5


@scenario("the process reads ten bytes, and ends: what it prints, and its exit code")
async def ends_before_its_input(scene: Scene) -> None:
    container = await scene.aside(scene.engine.shell, "head -c 10; exit 7", open_stdin=True, stdin_once=True)
    async with await scene.start(container, STDIN) as attachment:
        await unread(scene, attachment, b"0123456789" * 20_000, b"0123456789")
        assert await attachment.wait() == 7


@scenario("a container whose stdin is not open: the input goes nowhere, and output and exit code come")
async def stdin_is_not_open(scene: Scene) -> None:
    container = await scene.aside(scene.engine.shell, "cat; echo out; exit 8")
    async with await scene.start(container, STDIN) as attachment:  # AttachWarning, which the runner ignores
        await unread(scene, attachment, b"input", b"out\n")
        assert await attachment.wait() == 8


@scenario("the bytes of the detach keys, without a TTY: data as any other")
async def detach_keys_are_data(scene: Scene) -> None:
    await through_cat(scene, b"A\x10B\x10\x11C\n")


@scenario("the same, each in a send of its own")
async def detach_keys_are_data_one_by_one(scene: Scene) -> None:
    container = await scene.aside(scene.engine.shell, "cat; echo end", open_stdin=True, stdin_once=True)
    async with await scene.start(container, STDIN) as attachment:
        await attachment.send_stdin(b"A")
        assert await read_until(attachment, b"A") == b"A"
        for key in (b"\x10", b"\x11"):
            await attachment.send_stdin(key)
            await scene.aside(scene.engine.call, "GET", "/version")
        event = await attachment.receive()
        if event in (OutputClosed(), Stderr(DETACHED_TEXT)):
            scene.differs("detaches_without_tty")
            await scene.aside(scene.engine.wait_for, container, "exited")
            return
        assert isinstance(event, Stdout)
        out = event.data
        if out != b"\x10\x11":
            out += await read_until(attachment, b"\x11")
        assert out == b"\x10\x11"
        await attachment.close_stdin()
        assert await attachment.communicate() == (b"end\n", b"")
