"""What is held, and how many steps are made, for input that is made to exceed every bound. All of it is counted."""

from __future__ import annotations

from attachproto import NEED_DATA, FrameDecoder, Stdout
from fuzz._invariants import held_bytes
from tests.helpers import frame


def test_an_idle_decoder_keeps_no_chunk() -> None:
    """Found by fuzzing: the last chunk was kept until the next one came, 64 KiB for each idle attachment."""
    decoder = FrameDecoder()
    empty = held_bytes(decoder)
    decoder.receive_data(frame(1, bytes(50_000)) + frame(2, b"", length=2**32 - 1)[:5])
    assert decoder.next_event() == Stdout(bytes(50_000))
    assert decoder.next_event() is NEED_DATA
    assert held_bytes(decoder) - empty == 5, "the header that was cut, and nothing else"
