"""The detach keys. The filter does no I/O, so every way to cut its input is tried."""

from __future__ import annotations

import pytest

from attachproto import parse_detach_keys
from attachproto_engine._detach import DEFAULT_KEYS, DetachFilter


def passed(keys: bytes, *reads: bytes) -> tuple[bytes, bool]:
    keys_filter = DetachFilter(keys)
    container = b""
    for read in reads:
        data, detached = keys_filter.feed(read)
        container += data
        if detached:
            return container, True
    return container, False


@pytest.mark.parametrize(
    ("keys", "reads", "container", "detached"),
    [
        ("ctrl-p,ctrl-q", [b"\x10\x11"], b"", True),
        ("ctrl-p,ctrl-q", [b"\x10", b"\x11"], b"", True),
        ("ctrl-p,ctrl-q", [b"ab", b"\x10", b"\x11"], b"ab", True),
        ("ctrl-p,ctrl-q", [b"ab\x10\x11cd"], b"ab", True),
        ("ctrl-p,ctrl-q", [b"\x10", b"x"], b"\x10x", False),
        ("ctrl-p,ctrl-q", [b"\x10", b"\x10", b"\x11"], b"\x10\x10\x11", False),
        ("ctrl-p,ctrl-q", [b"\x10\x10\x11"], b"\x10\x10\x11", False),
        ("ctrl-p,ctrl-q", [b"abc\x10"], b"abc", False),
        ("a,b,c", [b"ab", b"c"], b"", True),
        ("a,b,c", [b"a", b"b", b"x"], b"abx", False),
        ("a,b,c", [b"xa", b"bx"], b"xabx", False),
        ("a,a,b", [b"aaab"], b"aaab", False),
        ("a", [b"xyzabc"], b"xyz", True),
    ],
)
def test_what_reaches_the_container(keys: str, reads: list[bytes], container: bytes, detached: bool) -> None:
    assert passed(parse_detach_keys(keys), *reads) == (container, detached)
    assert passed(parse_detach_keys(keys), *(bytes([byte]) for read in reads for byte in read)) == (container, detached)


def test_the_default() -> None:
    assert parse_detach_keys("ctrl-p,ctrl-q") == DEFAULT_KEYS
