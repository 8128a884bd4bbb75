"""What type checkers must see. Never run: ``mypy`` reads it with the rest of the tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, assert_type

from attachproto import (
    CLIENT,
    NEED_DATA,
    Attach,
    AttachOptions,
    Connection,
    Event,
    FrameDecoder,
    OutputClosed,
    Rejected,
    Signal,
    Stderr,
    Stdin,
    StdinClosed,
    Stdout,
    Systemerr,
)


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
