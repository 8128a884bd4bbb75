"""What type checkers must see. Never run: ``mypy`` reads it with the rest of the tests."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from typing import Literal, assert_type

import trio
from anyio.abc import ByteStream

import attachproto_adapters.anyio as anyio_adapter
import attachproto_adapters.asyncio as asyncio_adapter
import attachproto_adapters.trio as trio_adapter
from attachproto import (
    CLIENT,
    NEED_DATA,
    Attach,
    AttachOptions,
    Connection,
    Event,
    FrameDecoder,
    OutputClosed,
    Quirk,
    RawOutput,
    Rejected,
    Signal,
    Stderr,
    Stdin,
    StdinClosed,
    Stdout,
    Systemerr,
    demux,
    encode_frame,
)
from attachproto_adapters import CompletedRun, ExecResult, InspectedContainer, InspectedExec, Line, LogTime, blocking


def embed(
    read: Callable[[int], bytes], write: Callable[[bytes], object], handle: Callable[[Event], object]
) -> OutputClosed | Rejected:
    conn = Connection(CLIENT)
    write(conn.send(Attach("web", AttachOptions(stdout=True, stderr=True), tty=False)))
    while True:
        event = conn.next_event()
        if event is NEED_DATA:
            conn.receive_data(read(65536))
        elif isinstance(event, (OutputClosed, Rejected)):
            return event
        else:
            handle(event)


def sends(conn: Connection) -> None:
    assert_type(conn.send(Stdin(b"")), bytes)
    assert_type(conn.send(StdinClosed()), Literal[Signal.SEND_EOF])
    assert_type(conn.send(OutputClosed()), bytes | Literal[Signal.SEND_EOF])
    assert_type(encode_frame(Stdout(b"")), bytes)
    encode_frame(RawOutput(b""))  # type: ignore[arg-type]  # a terminal's bytes have no frame
    conn.receive_data(bytearray(b""))
    conn.receive_data(memoryview(b""))


def decodes(decoder: FrameDecoder) -> None:
    event = decoder.next_event()
    if event is NEED_DATA:
        return
    assert_type(event, Stdout | Stderr | Systemerr | OutputClosed)
    match event:
        case Stdout(data):
            assert_type(data, bytes)
        case _:
            pass


def quirks(known: frozenset[Quirk]) -> None:
    Connection(CLIENT, quirks=known)
    Connection(CLIENT, quirks=[Quirk.DETACHED_TEXT])
    FrameDecoder(quirks=(quirk for quirk in Quirk))
    FrameDecoder(quirks=["detached-text"])  # type: ignore[list-item]
    assert_type(demux(b"", quirks={Quirk.NEWLINE_OUTSIDE_FRAME}), tuple[bytes, bytes])


def adapters(sock: socket.socket) -> None:
    with blocking.attach("web", timeout=1.0) as attachment:
        assert_type(attachment, blocking.Attachment)
        for event in attachment:
            assert_type(event, Stdout | Stderr | RawOutput | Systemerr)
        for line in attachment.lines():
            assert_type(line, Line)
        assert_type(attachment.receive(), Stdout | Stderr | RawOutput | Systemerr | OutputClosed)
        assert_type(attachment.communicate(b""), tuple[bytes, bytes])
        assert_type(attachment.inspected, InspectedContainer | InspectedExec | None)
    assert_type(blocking.open_attachment(sock, Attach("web", tty=False)), blocking.Attachment)
    assert_type(blocking.run_exec("web", ["true"]), ExecResult[bytes])
    assert_type(
        blocking.run_exec("web", ["true"], input="x", encoding="utf-8", max_output=1, tty=False), ExecResult[str]
    )
    blocking.run_exec("web", ["true"], input="x")  # type: ignore[call-overload]
    blocking.run_exec("web", ["true"], max_output="1")  # type: ignore[call-overload]
    with blocking.Client() as client:
        result: ExecResult = client.run_exec("web", ["true"], user="0")
        assert_type(result.stdout, bytes)
        assert_type(client.run_exec("web", ["true"], encoding="utf-8").stdout, str)
    with blocking.Client("tcp://engine:2376", tls=ssl.create_default_context(), timeout=1.0) as client:
        assert_type(client, blocking.Client)
        assert_type(client.attach("web", start=True), blocking.Attachment)
        assert_type(client.run_exec("web", ["true"], user="0"), ExecResult)


def containers_of_ones_own() -> None:
    assert_type(blocking.run("alpine", ["true"], timeout=1.0), CompletedRun[bytes])
    assert_type(blocking.run("alpine", input="x", encoding="utf-8", remove=False).stdout, str)
    blocking.run("alpine", input="x")  # type: ignore[call-overload]
    with blocking.Client() as client:
        result: CompletedRun = client.run("alpine", config={"HostConfig": {"Memory": 2**29}})
        assert_type(result.exit_code, int)
        assert_type(client.create("alpine", ["true"], env={"A": "b"}), str)
        assert_type(client.open_exec("web", ["sh"], stdin=True, tty=True), blocking.Attachment)
        assert_type(client.create_exec("web", ["sh"]), str)


def text_of(attachment: blocking.Attachment) -> None:
    for line in attachment.lines(timestamps=True):
        assert_type(line.time, LogTime | None)
    assert_type(attachment.stdout_reader(print).readline(), bytes)


async def in_either_framework(stream: ByteStream) -> anyio_adapter.Attachment:
    async with await anyio_adapter.attach("web") as attachment:
        async for line in attachment.lines():
            assert_type(line, Line)
        assert_type(await attachment.stdout_reader().readexactly(1), bytes)
    assert_type(await anyio_adapter.run_exec("web", ["true"], encoding="utf-8"), ExecResult[str])
    return await anyio_adapter.open_attachment(stream, Attach("web", tty=False))


async def asynchronous_adapters(stream: trio.abc.Stream) -> None:
    async with await trio_adapter.attach("web") as attachment:
        assert_type(attachment, trio_adapter.Attachment)
        async for event in attachment:
            assert_type(event, Stdout | Stderr | RawOutput | Systemerr)
        assert_type(await attachment.communicate(), tuple[bytes, bytes])
    async with await asyncio_adapter.logs("web", follow=True) as read:
        assert_type(read, asyncio_adapter.Attachment)
        async for line in read.lines():
            assert_type(line, Line)
        assert_type(await read.wait(), int)
    await trio_adapter.open_attachment(stream, Attach("web", tty=False))
    assert_type(await asyncio_adapter.run("alpine", ["true"]), CompletedRun[bytes])
    assert_type(await trio_adapter.run("alpine", encoding="utf-8"), CompletedRun[str])
    assert_type(await asyncio_adapter.run_exec("web", ["true"]), ExecResult[bytes])
    assert_type(await trio_adapter.run_exec("web", ["true"], input=b"x", encoding="utf-8"), ExecResult[str])
    async with trio_adapter.Client() as client:
        assert_type(await client.run_exec("web", ["true"], encoding="utf-8", errors="replace"), ExecResult[str])
    async with trio_adapter.Client() as client:
        assert_type(client, trio_adapter.Client)
        assert_type(await client.logs("web", tail=1), trio_adapter.Attachment)
    async with asyncio_adapter.Client(api_version="1.41") as other:
        assert_type(await other.exec_start("e1"), asyncio_adapter.Attachment)
        assert_type(await other.run_exec("web", ["true"]), ExecResult)
