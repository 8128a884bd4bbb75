"""Frames: ``FrameDecoder`` with each set of quirks, and ``demux``."""

# Invariant. Whatever bytes come, each call of ``next_event`` gives an event, ``NEED_DATA`` or a
# ``RemoteProtocolError``, and nothing else. Whole and cut anywhere the events are the same, and so is the error with
# its text. When all that came is parsed, however much it was, the decoder holds at most a frame's header and, with
# quirks, the detach text. The number of calls is linear in the input. Without quirks, the events are what a second
# reader of a few lines makes of the same bytes.

from __future__ import annotations

from collections.abc import Iterator

from attachproto import (
    FrameDecoder,
    OutputClosed,
    Quirk,
    Reason,
    RemoteProtocolError,
    Stderr,
    Stdout,
    Systemerr,
    demux,
    encode_frame,
)
from fuzz._invariants import (
    EVENT_MAX,
    check_held,
    check_linear,
    counted,
    drain,
    flood_of,
    frames_of,
    held_bytes,
    is_counted,
    payload_size,
    pieces_of,
    read,
)
from tests.helpers import joined
from tests.replay.recordings import read_vectors

QUIRKS = ((), (Quirk.NEWLINE_OUTSIDE_FRAME,), (Quirk.DETACHED_TEXT,), tuple(Quirk))

# A header is 8 bytes; the detach text with its header is 39.
HELD_MAX = 64

# After an error its text is held.
ERROR_MAX = 400

_HEAD = 3


def check(data: bytes) -> None:
    """One input: a byte of choices, two that say how to cut, then the stream."""
    if len(data) < _HEAD:
        return
    quirks, eof, seed, stream = QUIRKS[data[0] % 4], not data[0] & 4, int.from_bytes(data[1:3], "big"), data[_HEAD:]
    pieces = [stream] if stream else []
    with counted(data) as steps:
        whole = read(FrameDecoder(quirks=quirks), pieces, eof=eof, after=_check_event)
    check_linear(steps, len(stream), len(pieces))
    pieces = pieces_of(stream, seed)
    with counted(data) as steps:
        cut = read(FrameDecoder(quirks=quirks), pieces, eof=eof, after=_check_event)
    check_linear(steps, len(stream), len(pieces))
    if is_counted(data):
        _check_held(quirks, pieces, stream)
    events = joined(whole.events)
    assert events == joined(cut.events)
    assert str(whole.error) == str(cut.error)
    if eof:
        assert (whole.error is None) == (events[-1:] == [OutputClosed()])
    if not quirks:
        expected, fault = _second_reader(stream)
        if eof and fault is None:
            expected.append(OutputClosed())
        assert events == joined(expected)
        assert (None if whole.error is None else whole.error.reason) == (fault if eof or fault is _UNKNOWN else None)
        assert payload_size(events) <= len(stream)
        if eof and whole.error is None:
            again = read(FrameDecoder(), [*map(encode_frame, events[:-1])], eof=True, after=_check_event)
            assert joined(again.events) == events
    _check_demux(stream, quirks)


_UNKNOWN = Reason.UNKNOWN_STREAM_TYPE


def _check_held(quirks: tuple[Quirk, ...], pieces: list[bytes], stream: bytes) -> None:
    """Look at what is held after each piece, after much more of it, and after many valid frames."""
    decoder = FrameDecoder(quirks=quirks)
    empty = held_bytes(decoder)
    read(
        decoder,
        pieces,
        eof=False,
        after=_check_event,
        parsed=lambda decoder: check_held(decoder, empty, HELD_MAX, "after a piece"),
    )
    drain(decoder, flood_of(stream), _check_event)
    check_held(decoder, empty, ERROR_MAX, "after a flood")
    decoder = FrameDecoder(quirks=quirks)
    drain(decoder, frames_of(stream), _check_event)
    check_held(decoder, empty, HELD_MAX, "after frames")


def _check_event(event: object) -> None:
    assert isinstance(event, Stdout | Stderr | Systemerr | OutputClosed), event
    if not isinstance(event, OutputClosed):
        assert 0 < len(event.data) <= EVENT_MAX


def _second_reader(stream: bytes) -> tuple[list[object], Reason | None]:
    """The events before the end of this stream, and the reason of the error at its end."""
    events: list[object] = []
    at = 0
    while at < len(stream):
        if stream[at] > 3:
            return events, _UNKNOWN
        if len(stream) - at < 8:
            return events, Reason.CUT_IN_FRAME
        length = int.from_bytes(stream[at + 4 : at + 8], "big")
        payload = stream[at + 8 : at + 8 + length]
        if payload:
            events.append((Stdout, Stdout, Stderr, Systemerr)[stream[at]](payload))
        if len(payload) < length:
            return events, Reason.CUT_IN_FRAME
        at += 8 + length
    return events, None


def _check_demux(stream: bytes, quirks: tuple[Quirk, ...]) -> None:
    decoder = FrameDecoder(quirks=quirks)
    decoder.receive_data(stream)
    decoder.receive_data(b"")
    try:
        both = demux(stream, quirks=quirks)
    except RemoteProtocolError:
        return
    events = list(decoder.events())
    assert both == tuple(b"".join(e.data for e in events if isinstance(e, kind)) for kind in (Stdout, Stderr))


def seeds() -> Iterator[bytes]:
    """Recorded streams, with each set of quirks, whole and cut inside a header and inside a payload."""
    for recording in read_vectors():
        if recording.family in ("02", "04", "06", "14", "17", "22") and len(recording.received) < 2000:
            _, _, stream = recording.received.partition(b"\r\n\r\n")
            for choice in range(4):
                for end in (len(stream), 5, len(stream) - 1):
                    yield bytes([choice, 1, 7]) + stream[:end]
