"""Frames by themselves: one table of bytes and events, run in every cut."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attachproto import (
    NEED_DATA,
    FrameDecoder,
    LocalProtocolError,
    OutputClosed,
    RawOutput,
    Reason,
    RemoteProtocolError,
    Stderr,
    Stdin,
    Stdout,
    Systemerr,
    demux,
    encode_frame,
)
from tests.helpers import EOF, check_every_cut, cut_at, frame, joined, read_all

UNKNOWN = "unknown stream type"

# name: (bytes, events before the end, the error's text or reason)
CASES: dict[str, tuple[bytes, list[object], str | Reason | None]] = {
    "nothing": (b"", [OutputClosed()], None),
    "one frame": (frame(1, b"out\n"), [Stdout(b"out\n"), OutputClosed()], None),
    "both streams": (
        frame(1, b"abc") + frame(2, b"e") + frame(1, b"d"),
        [Stdout(b"abc"), Stderr(b"e"), Stdout(b"d"), OutputClosed()],
        None,
    ),
    "type 0 is stdout": (frame(0, b"hi"), [Stdout(b"hi"), OutputClosed()], None),
    "type 3, and on": (
        frame(1, b"a") + frame(3, b"boom") + frame(2, b"b"),
        [Stdout(b"a"), Systemerr(b"boom"), Stderr(b"b"), OutputClosed()],
        None,
    ),
    "neighbours are joined": (frame(1, b"a") + frame(1, b"b") + frame(1, b"c"), [Stdout(b"abc"), OutputClosed()], None),
    "empty frames": (
        frame(1, b"") + frame(2, b"") + frame(1, b"x") + frame(1, b"") + frame(3, b""),
        [Stdout(b"x"), OutputClosed()],
        None,
    ),
    "padding is not zero": (b"\x01\xff\xff\xff\0\0\0\x01x", [Stdout(b"x"), OutputClosed()], None),
    "type 4": (frame(1, b"ok") + b"\x04\0\0\0\0\0\0\0", [Stdout(b"ok")], Reason.UNKNOWN_STREAM_TYPE),
    "type 4 after an empty frame": (frame(1, b"") + b"\x04\0\0\0\0\0\0\0", [], Reason.UNKNOWN_STREAM_TYPE),
    "type 255, one byte of it": (frame(2, b"ok") + b"\xff", [Stderr(b"ok")], f"{UNKNOWN} 255 "),
    "a terminal read as frames": (b"$ ls\r\n", [], f"{UNKNOWN} 36 "),
    "podman 4.3 log replay": (
        b"\x01\0\0\0\0\0\0\x05line1\n\x02\0\0\0\0\0\0\x04err1\n",
        [Stdout(b"line1")],
        f"{UNKNOWN} 10 ",
    ),
    # Found by fuzzing: whole, the text did not name Podman's bug.
    "podman 4.3 log replay of an empty line": (
        frame(1, b"") + b"\n" + frame(1, b"x"),
        [],
        "a replay of logs by Podman before 4.4",
    ),
    "cut in a header": (
        frame(1, b"a") + b"\x02\0\0\0\0\0\0",
        [Stdout(b"a")],
        "inside a frame's header: 7 of its 8 bytes came, 1 are missing",
    ),
    "cut behind a header": (
        b"\x02\0\0\0\0\0\x01\0",
        [],
        "inside a Stderr frame of 256 bytes: 256 are missing",
    ),
    "cut in a payload": (
        frame(2, b"abcde", length=9),
        [Stderr(b"abcde")],
        "inside a Stderr frame of 9 bytes: 4 are missing",
    ),
    "4 GiB announced": (
        b"\x01\0\0\0\xff\xff\xff\xff0123456789",
        [Stdout(b"0123456789")],
        "4294967285 are missing",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_every_cut(name: str) -> None:
    data, events, error = CASES[name]
    check_every_cut(FrameDecoder, data, events, error)


frames = st.lists(st.tuples(st.integers(0, 3), st.binary(max_size=40)), max_size=12)
STREAMS = (Stdout, Stdout, Stderr, Systemerr)


@given(frames, st.data())
def test_any_frames_in_any_cuts(written: list[tuple[int, bytes]], data: st.DataObject) -> None:
    wire = b"".join(frame(kind, payload) for kind, payload in written)
    pieces = cut_at(wire, data.draw(st.lists(st.integers(0, len(wire)))))
    events, error = read_all(FrameDecoder(), [*pieces, EOF])
    assert error is None
    assert joined(events) == [*joined(STREAMS[kind](payload) for kind, payload in written if payload), OutputClosed()]


@given(st.binary(max_size=200), st.data())
def test_any_bytes_give_the_same_in_any_cuts(wire: bytes, data: st.DataObject) -> None:
    """Whatever comes is either decoded or a RemoteProtocolError, and cutting it changes neither events nor text."""
    pieces = cut_at(wire, data.draw(st.lists(st.integers(0, len(wire)))))
    whole, whole_error = read_all(FrameDecoder(), [wire, EOF] if wire else [EOF])
    cut, cut_error = read_all(FrameDecoder(), [*pieces, EOF])
    assert joined(whole) == joined(cut)
    assert str(whole_error) == str(cut_error)
    assert (whole_error is None) == (bool(whole) and whole[-1] == OutputClosed())


def test_joined_up_to_64_kib_and_not_beyond() -> None:
    decoder = FrameDecoder()
    decoder.receive_data(frame(1, bytes(1000)) * 200)
    sizes = [len(event.data) for event in decoder.events() if isinstance(event, Stdout)]
    assert sum(sizes) == 200_000
    assert max(sizes) <= 65536
    assert len(sizes) == 4


def test_a_large_frame_comes_in_events_of_64_kib() -> None:
    decoder = FrameDecoder()
    decoder.receive_data(frame(1, b"x") + frame(1, bytes(200_000)))
    sizes = [len(event.data) for event in decoder.events() if isinstance(event, Stdout)]
    assert sum(sizes) == 200_001
    assert max(sizes) == 65536
    assert len(sizes) == 4


def test_events_that_are_not_made_at_once_are_joined_alike() -> None:
    alternating = b"".join(frame(1 + at % 2, b"%d" % at) for at in range(2000))
    decoder = FrameDecoder()
    decoder.receive_data(alternating + frame(2, bytes(100_000)) + frame(2, bytes(70_000)))
    events = [event for event in decoder.events() if isinstance(event, Stdout | Stderr)]
    assert [event.data for event in events[:1999]] == [b"%d" % at for at in range(1999)]
    assert [type(event) for event in events[:3]] == [Stdout, Stderr, Stdout]
    assert b"".join(event.data for event in events[1999:]) == b"1999" + bytes(170_000)
    assert all(type(event) is Stderr and len(event.data) <= 65536 for event in events[1999:])


def test_a_chunk_is_let_go_with_its_last_event() -> None:
    chunk = frame(1, bytes(100_000)) + frame(2, b"x") + frame(1, bytes(100_000))[:1000]
    references = sys.getrefcount(chunk)
    decoder = FrameDecoder()
    decoder.receive_data(chunk)
    assert len(list(decoder.events())) == 4
    assert sys.getrefcount(chunk) == references


def test_large_and_small_pieces_are_joined_alike() -> None:
    decoder = FrameDecoder()
    decoder.receive_data(frame(2, b"a" * 5000) + frame(2, b"b" * 10) + frame(2, b"c" * 2000))
    assert list(decoder.events()) == [Stderr(b"a" * 5000 + b"b" * 10 + b"c" * 2000)]


def test_never_joined_across_two_reads() -> None:
    decoder = FrameDecoder()
    decoder.receive_data(frame(1, b"a") + frame(1, b"b"))
    decoder.receive_data(frame(1, b"c"))
    assert list(decoder.events()) == [Stdout(b"ab"), Stdout(b"c")]


def test_a_frame_that_came_in_part_is_handed_out_in_part() -> None:
    decoder = FrameDecoder()
    decoder.receive_data(frame(2, b"abc", length=10))
    assert list(decoder.events()) == [Stderr(b"abc")]
    decoder.receive_data(b"defg")
    assert list(decoder.events()) == [Stderr(b"defg")]


def test_payload_is_bytes_whatever_came() -> None:
    decoder = FrameDecoder()
    buffer = bytearray(frame(1, b"a" * 3000))
    decoder.receive_data(buffer)
    buffer[:] = b"z" * len(buffer)
    decoder.receive_data(memoryview(frame(2, b"b")))
    events = list(decoder.events())
    assert events == [Stdout(b"a" * 3000), Stderr(b"b")]
    assert all(type(event.data) is bytes for event in events if isinstance(event, Stdout | Stderr))


@pytest.mark.parametrize("wrong", [5, "text", None, [1]])
def test_what_is_no_buffer_is_a_type_error(wrong: object) -> None:
    with pytest.raises(TypeError):
        FrameDecoder().receive_data(wrong)  # type: ignore[arg-type]


def test_the_last_event_comes_once() -> None:
    decoder = FrameDecoder()
    assert decoder.next_event() is NEED_DATA
    decoder.receive_data(EOF)
    decoder.receive_data(EOF)
    assert decoder.next_event() == OutputClosed()
    with pytest.raises(LocalProtocolError, match="OutputClosed was the last event"):
        decoder.next_event()
    assert list(decoder.events()) == []


def test_data_after_the_end_is_refused() -> None:
    decoder = FrameDecoder()
    decoder.receive_data(EOF)
    with pytest.raises(LocalProtocolError, match=r"receive_data\(\) was given 3 bytes after b''"):
        decoder.receive_data(b"abc")


def test_an_error_stays() -> None:
    decoder = FrameDecoder()
    decoder.receive_data(frame(1, b"a") + frame(9, b"b"))
    assert decoder.next_event() == Stdout(b"a")
    for _ in range(2):
        with pytest.raises(RemoteProtocolError, match=f"{UNKNOWN} 9"):
            decoder.next_event()
    decoder.receive_data(frame(1, b"c"))
    with pytest.raises(RemoteProtocolError, match=f"{UNKNOWN} 9"):
        list(decoder.events())


def test_encode() -> None:
    assert encode_frame(Stdout(b"abc")) == b"\x01\0\0\0\0\0\0\x03abc"
    assert encode_frame(Stderr(b"")) == b"\x02\0\0\0\0\0\0\0"
    assert encode_frame(Systemerr(b"x" * 258)) == b"\x03\0\0\0\0\0\x01\x02" + b"x" * 258


def test_encode_refuses_what_does_not_travel_in_frames() -> None:
    with pytest.raises(LocalProtocolError, match="RawOutput has no frame"):
        encode_frame(RawOutput(b"x"))  # type: ignore[arg-type]
    with pytest.raises(LocalProtocolError, match="Stdin has no frame"):
        encode_frame(Stdin(b"x"))  # type: ignore[arg-type]


def test_encode_refuses_more_than_a_frame_holds() -> None:
    class FourGiB(bytes):
        def __len__(self) -> int:
            return 2**32

    with pytest.raises(LocalProtocolError, match="at most 4294967295 bytes, not 4294967296"):
        encode_frame(Stdout(FourGiB()))


def test_demux() -> None:
    body = frame(1, b"a\n") + frame(2, b"e\n") + frame(1, b"b\n")
    assert demux(body) == (b"a\nb\n", b"e\n")
    assert demux(memoryview(body)) == (b"a\nb\n", b"e\n")
    assert demux(b"") == (b"", b"")


def test_demux_is_honest() -> None:
    with pytest.raises(RemoteProtocolError, match="2 are missing"):
        demux(frame(1, b"a", length=3))
    with pytest.raises(RemoteProtocolError, match="the engine reports: 'no logs'") as caught:
        demux(frame(1, b"a") + frame(3, b"no logs\n"))
    assert caught.value.reason is Reason.ENGINE_ERROR
    with pytest.raises(RemoteProtocolError) as caught:
        demux(frame(3, b"\xff" * 100_000))
    assert len(str(caught.value)) < 1500
