"""The fuzz targets without a fuzzer: each accepts its seeds, and each of its checks finds what it is for."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from attachproto import (
    NEED_DATA,
    Connection,
    FrameDecoder,
    OutputClosed,
    RawOutput,
    Reason,
    RemoteProtocolError,
    Stdin,
    Stdout,
)
from attachproto._frames import FrameReader
from fuzz import _invariants
from fuzz._invariants import Steps, check_linear, counted, held_bytes, pieces_of, read
from fuzz.targets import TARGETS
from tests.helpers import frame

# A target runs some thousand seeds in a second, and the fuzzer runs them all.
SEEDS_STEP = 7


def target(name: str) -> Any:
    return importlib.import_module(f"fuzz.targets.{name}")


@pytest.mark.filterwarnings("ignore::attachproto_adapters.AttachWarning")
@pytest.mark.parametrize("name", TARGETS)
def test_seeds(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_invariants, "COUNTED_OF", 1)
    seeds = list(itertools.islice(target(name).seeds(), 0, None, SEEDS_STEP))
    assert seeds
    for seed in (*seeds, b"", b"\0", b"\xff" * 50):
        target(name).check(seed)


@pytest.mark.parametrize("name", TARGETS)
def test_the_invariant_is_the_first_comment(name: str) -> None:
    with open(target(name).__file__, encoding="utf-8") as file:
        comments = [line for line in file if line.startswith("#")]
    assert comments[0].startswith("# Invariant. ")


@pytest.mark.parametrize("seed", [0, 1, 5000, 65535])
def test_cutting_loses_nothing(seed: int) -> None:
    data = bytes(range(256)) * 4
    pieces = pieces_of(data, seed)
    assert b"".join(pieces) == data
    assert len(pieces) > 10
    assert b"" not in pieces


def test_steps_that_grow_with_the_square_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_invariants, "COUNTED_OF", 1)

    def quadratic(data: bytes) -> int:
        return sum(data[at:].count(0) for at in range(len(data)) for _ in data[at:])

    with counted(b"") as steps:
        quadratic(bytes(500))
    with pytest.raises(AssertionError, match="calls for 500 bytes"):
        check_linear(steps, 500, 1)
    with counted(b"") as steps:
        FrameDecoder().receive_data(frame(1, b"x"))
    assert 0 < steps.count < 100


def test_what_is_held_is_found_wherever_it_is() -> None:
    class Keeper:
        def __init__(self) -> None:
            self.kept: list[Any] = [bytearray(100), {"a": memoryview(bytes(100))}]

    def generator(data: bytes) -> Iterator[int]:
        yield len(data)

    def closure(data: bytes) -> Callable[[], bytes]:
        return lambda: data

    empty = held_bytes(Keeper())
    assert empty >= 200
    running = generator(bytes(1000))
    next(running)
    assert held_bytes(running) >= 1000
    assert held_bytes(closure(bytes(1000))) >= 1000
    assert held_bytes([closure(bytes(1000))] * 5) < 2000


@pytest.mark.parametrize(("pairs", "per_piece"), [(4096, 400), (818, target("flows").PER_ANSWER)])
def test_a_call_for_each_pair_is_found(pairs: int, per_piece: int) -> None:
    """Of the single bytes of a 4 KiB input, and of the answers in one, each of which has five bytes at the least."""
    with pytest.raises(AssertionError, match="calls for 4096 bytes"):
        check_linear(Steps(pairs**2), 4096, pairs, per_piece=per_piece)


def keep_what_is_received(monkeypatch: pytest.MonkeyPatch, kind: type[Any]) -> None:
    receive_data = kind.receive_data

    def keeping(self: Any, data: bytes) -> None:
        self.__dict__.setdefault("kept", []).append(data)
        receive_data(self, data)

    monkeypatch.setattr(kind, "receive_data", keeping)


def keep_what_is_given_out(monkeypatch: pytest.MonkeyPatch, kind: type[Any]) -> None:
    next_event = kind.next_event

    def keeping(self: Any) -> Any:
        event = next_event(self)
        if isinstance(event, Stdout | RawOutput | Stdin):
            self.__dict__.setdefault("kept", []).append(event)
        return event

    monkeypatch.setattr(kind, "next_event", keeping)


def caught(name: str) -> tuple[int, int]:
    """How many seeds of a target fail, and how many are tried. Without the mutant none does: ``test_seeds``."""
    seeds = list(itertools.islice(target(name).seeds(), 0, None, SEEDS_STEP))
    return sum(fails(name, seed) for seed in seeds), len(seeds)


def fails(name: str, seed: bytes) -> bool:
    try:
        target(name).check(seed)
    except AssertionError:
        return True
    return False


@pytest.mark.parametrize(("name", "kind"), [("client", Connection), ("server", Connection), ("decoder", FrameDecoder)])
def test_a_reader_that_keeps_all_that_it_received_is_found(
    name: str, kind: type[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_invariants, "COUNTED_OF", 1)
    keep_what_is_received(monkeypatch, kind)
    found, tried = caught(name)
    assert found == tried > 10


@pytest.mark.parametrize(
    ("name", "kind", "least"), [("client", Connection, 10), ("server", Connection, 3), ("decoder", FrameDecoder, 30)]
)
def test_a_reader_that_keeps_all_that_it_gave_out_is_found(
    name: str, kind: type[Any], least: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_invariants, "COUNTED_OF", 1)
    keep_what_is_given_out(monkeypatch, kind)
    found, _ = caught(name)
    assert found >= least


def test_an_end_inside_a_frame_that_passes_for_a_clean_one_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FrameReader, "_missing", lambda self, prefix: "")
    assert any(fails("decoder", seed) for seed in target("decoder").seeds())


class Wrong:
    """A reader that breaks one rule."""

    def __init__(self, *events: Any) -> None:
        self._events = [*events]

    def receive_data(self, data: bytes) -> None:
        pass

    def next_event(self) -> Any:
        event = self._events.pop(0)
        if isinstance(event, Exception):
            raise event
        return event


@pytest.mark.parametrize(
    ("events", "error"),
    [
        ([NEED_DATA, NEED_DATA], AssertionError),  # after the end of file
        ([RemoteProtocolError("a", Reason.NOT_HTTP), Stdout(b"x")], AssertionError),  # after an error
        ([RemoteProtocolError("a", Reason.NOT_HTTP), RemoteProtocolError("b", Reason.NOT_HTTP)], AssertionError),
        ([ValueError("x")], ValueError),
    ],
)
def test_a_reader_that_breaks_a_rule_is_found(events: list[Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        read(Wrong(*events), [b"x"], eof=True, after=lambda event: None)


def test_a_decoder_that_loses_a_byte_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    class Losing(FrameDecoder):
        def next_event(self) -> Any:
            event = super().next_event()
            return Stdout(event.data[1:] or b"?") if isinstance(event, Stdout) else event

    decoder = target("decoder")
    good = b"\0\0\0" + frame(1, b"hello")
    decoder.check(good)
    monkeypatch.setattr(decoder, "FrameDecoder", Losing)
    with pytest.raises(AssertionError):
        decoder.check(good)
    assert OutputClosed() in read(Losing(), [good[3:]], eof=True, after=lambda event: None).events
