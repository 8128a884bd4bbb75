"""What a container prints: sizes, streams, text, and who reads slowly."""

from __future__ import annotations

from attachproto import AttachOptions, Stderr, Stdout
from tests.live.matrix.scene import STDIN, Group, Scene, read_all

scenario = Group("Output")

NUMBERS = b"".join(b"%d\n" % number for number in range(1, 2001))


async def prints(scene: Scene, script: str, *, code: int = 0, **options: bool) -> tuple[bytes, bytes]:
    container = await scene.aside(scene.engine.shell, script, **options)
    async with await scene.start(container) as attachment:
        result = await attachment.communicate()
        assert await attachment.wait() == code
    return result


@scenario("stdout and stderr, line by line in turn: each in its order")
async def in_turn(scene: Scene) -> None:
    out, err = await prints(scene, "i=0; while [ $i -lt 200 ]; do echo out $i; echo err $i >&2; i=$((i+1)); done")
    assert out == b"".join(b"out %d\n" % number for number in range(200))
    assert err == b"".join(b"err %d\n" % number for number in range(200))


@scenario("stderr alone; and nothing on stdout")
async def stderr_alone(scene: Scene) -> None:
    assert await prints(scene, "seq 2000 >&2") == (b"", NUMBERS)


@scenario("10 MB at once")
async def megabytes_10(scene: Scene) -> None:
    out, err = await prints(scene, "yes 0123456789abcdef | head -c 10000000")
    assert (len(out), err) == (10_000_000, b"")
    assert out == (b"0123456789abcdef\n" * (10_000_000 // 17 + 1))[:10_000_000]


@scenario("2,000 writes of one line each")
async def many_writes(scene: Scene) -> None:
    assert await prints(scene, "i=1; while [ $i -le 2000 ]; do echo $i; i=$((i+1)); done") == (NUMBERS, b"")


@scenario("every byte value on both streams")
async def every_byte(scene: Scene) -> None:
    script = "".join(f"\\{value:03o}" for value in range(256))
    out, err = await prints(scene, f"printf '{script}'; printf '{script}' >&2")
    assert out == err == bytes(range(256))


@scenario("the last line has no newline")
async def no_newline(scene: Scene) -> None:
    assert await prints(scene, "printf out; printf err >&2") == (b"out", b"err")


@scenario("nothing is printed")
async def nothing(scene: Scene) -> None:
    assert await prints(scene, "exit 2", code=2) == (b"", b"")


@scenario("a line of 100,000 characters, and text beyond ASCII, by `lines()`")
async def lines(scene: Scene) -> None:
    container = await scene.aside(scene.engine.shell, "head -c 100000 /dev/zero; echo; echo 'grüße 世界 🦊'")
    async with await scene.start(container) as attachment:
        texts = [line.text async for line in attachment.lines(max_length=200_000)]
    assert texts == ["\0" * 100_000, "grüße 世界 🦊"]


@scenario("a slow reader: 4 MB that are read with pauses")
async def slow_reader(scene: Scene) -> None:
    container = await scene.aside(scene.engine.shell, "yes 0123456789abcdef | head -c 4000000; echo end >&2; exit 3")
    out, err = bytearray(), bytearray()
    async with await scene.start(container) as attachment:
        number = 0
        async for event in attachment:
            (err if isinstance(event, Stderr) else out).extend(event.data)
            if number < 20:  # a pause: the engine is asked something else, on another connection
                await scene.aside(scene.engine.status, container)
            number += 1
        assert await attachment.wait() == 3
    assert out == (b"0123456789abcdef\n" * (4_000_000 // 17 + 1))[:4_000_000]
    assert err == b"end\n"


@scenario("one stream is asked for: only that comes")
async def one_stream(scene: Scene) -> None:
    container = await scene.aside(scene.shared.finished)
    for stdout, wanted in ((True, (b"out1\nout2\ntail", b"")), (False, (b"", b"err1\n"))):
        options = AttachOptions(stdout=stdout, stderr=not stdout, logs=True)
        async with await scene.attach(container, options) as attachment:
            assert await attachment.communicate() == wanted


@scenario("output that has ended while the process goes on: its exit code is waited for")
async def output_ends_first(scene: Scene) -> None:
    container = await scene.aside(scene.engine.shell, "echo early; exec >&- 2>&-; sleep 0.5; exit 4")
    async with await scene.start(container) as attachment:
        assert await read_all(attachment) == (b"early\n", b"")
        assert await attachment.wait() == 4


@scenario("events of a container that prints now and then come when it prints")
async def as_it_prints(scene: Scene) -> None:
    script = "for i in 1 2 3; do read line; echo $line; done"
    container = await scene.aside(scene.engine.shell, script, open_stdin=True, stdin_once=True)
    async with await scene.start(container, STDIN) as attachment:
        for word in (b"a\n", b"b\n", b"c\n"):
            await attachment.send_stdin(word)
            assert await attachment.receive() == Stdout(word)
        assert await read_all(attachment) == (b"", b"")
