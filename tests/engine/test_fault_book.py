"""What is noted of faults and of counted calls: which answer gets which, how much is kept, and what is refused."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from attachproto_engine import (
    Cut,
    Delay,
    EndEarly,
    Engine,
    Fault,
    Garbage,
    IdleCut,
    LongFrame,
    ProxyAnswer,
    Reset,
    SetHeader,
    Split,
    UnknownStream,
    _fault_book,
)
from attachproto_engine._fault_book import FaultBook
from tests.engine.client import call


def kept(book: FaultBook) -> int:
    """The number of things that a book remembers."""
    found: dict[str, Any] = vars(book)
    return sum(len(value) for value in found.values() if isinstance(value, dict))


def test_counts_of_many_names_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_fault_book, "_COUNTED", 50)
    book = FaultBook()
    book.add("awaited", [Cut(0)], "attach", 3)
    book.add("always", [Cut(1)], "wait", None)
    for at in range(500):
        assert not book.next(f"box-{at}", "attach")
    assert kept(book) <= 50 + 3
    assert [book.next("awaited", "attach") for _ in range(4)] == [(), (), (Cut(0),), ()]
    assert book.next("always", "wait") == (Cut(1),)


def test_a_name_of_a_megabyte_is_not_kept() -> None:
    book = FaultBook()
    assert not book.next("x" * 1_000_000, "inspect")
    assert kept(book) == 0
    book.add("x" * 1_000_000, [Cut(0)], "inspect", 1)
    assert book.next("x" * 1_000_000, "inspect") == (Cut(0),)
    assert kept(book) == 0


def test_what_was_played_or_cannot_be_any_more_is_dropped() -> None:
    book = FaultBook()
    for nth in range(1, 100):
        book.add("web", [Reset(0)], "attach", nth)
        assert book.resets
        assert book.next("web", "attach") == (Reset(0),)
        assert not book.resets
    book.add("web", [Reset(0)], "attach", 99)
    assert not book.resets
    assert kept(book) == 1  # the count
    book.add("web", [Cut(0)], "attach", None)
    book.add("web", [], "attach", None)
    assert kept(book) == 1


def test_calls_are_counted_over_the_engines_life() -> None:
    book = FaultBook()
    for _ in range(2):
        book.next("web", "attach")
    book.add("web", [Cut(0)], "attach", 4)
    book.add("web", [Cut(1)], "attach", None)
    book.add("web", [], "attach", 5)
    assert [book.next("web", "attach") for _ in range(4)] == [(Cut(1),), (Cut(0),), (), (Cut(1),)]
    book.add("web", [Cut(7)], "attach", 7)
    assert book.next("web", "attach") == (Cut(7),)


def test_clients_make_an_engine_remember_no_more_than_that(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_fault_book, "_COUNTED", 20)
    for at in range(100):
        assert call(engine, "GET", f"/containers/nobody-{at}/json").status == 404
    assert kept(engine._faults) <= 20


@pytest.mark.parametrize(
    "arguments",
    [
        {"faults": [Cut]},
        {"faults": [Fault()]},
        {"container": None},
        {"container": b"web"},
        {"nth": True},
        {"nth": 1.0},
        {"nth": "1"},
    ],
)
def test_wrong_types_of_what_is_scripted(arguments: dict[str, Any]) -> None:
    given: dict[str, Any] = {"container": "web", "faults": [Cut(0)], "on": "attach", "nth": None, **arguments}
    with pytest.raises(TypeError):
        FaultBook().add(**given)


@pytest.mark.parametrize("arguments", [{"nth": 0}, {"nth": -1}, {"on": "pull"}])
def test_wrong_values_of_what_is_scripted(arguments: dict[str, Any]) -> None:
    given: dict[str, Any] = {"container": "web", "faults": [Cut(0)], "on": "attach", "nth": None, **arguments}
    with pytest.raises(ValueError, match=r"nth|pull"):
        FaultBook().add(**given)


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (ProxyAnswer, {"status_code": "502"}),
        (ProxyAnswer, {"status_code": True}),
        (ProxyAnswer, {"status_code": 502.0}),
        (ProxyAnswer, {"body": "text"}),
        (ProxyAnswer, {"headers": "text"}),
        (ProxyAnswer, {"headers": {"Server": "proxy"}}),
        (ProxyAnswer, {"headers": [("Server",)]}),
        (ProxyAnswer, {"headers": [("Server", b"proxy")]}),
        (SetHeader, {"name": b"Server", "value": "x"}),
        (SetHeader, {"name": "Server", "value": b"x"}),
        (SetHeader, {"name": "Server", "value": 1}),
        (Garbage, {"data": "text"}),
        (UnknownStream, {"kind": "9"}),
        (UnknownStream, {"kind": True}),
        (UnknownStream, {"data": "text"}),
        (LongFrame, {"announced": 1.5}),
        (LongFrame, {"data": None}),
        (EndEarly, {"frames": None}),
        (EndEarly, {"frames": True}),
        (Split, {"at": 1}),
        (Split, {"at": ["1"]}),
        (Split, {"at": "1"}),
        (Split, {"every": 1.0}),
        (Delay, {"at": "0", "seconds": 1}),
        (Delay, {"at": 0, "seconds": "1"}),
        (Delay, {"at": 0, "seconds": None}),
        (Delay, {"at": 0, "seconds": True}),
        (Cut, {"at": None}),
        (Cut, {"at": 1.0}),
        (Reset, {"at": "0"}),
        (Reset, {"at": False}),
        (IdleCut, {"seconds": "1"}),
        (IdleCut, {"seconds": True}),
    ],
)
def test_a_fault_of_the_wrong_type_is_refused_when_it_is_built(kind: type[Fault], arguments: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        kind(**arguments)


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (ProxyAnswer, {"status_code": 199}),
        (ProxyAnswer, {"status_code": 600}),
        (ProxyAnswer, {"headers": [("Server", "\u20ac")]}),
        (SetHeader, {"name": "Server", "value": "\u20ac"}),
        (SetHeader, {"name": "\u20ac", "value": None}),
        (UnknownStream, {"kind": 256}),
        (UnknownStream, {"kind": -1}),
        (LongFrame, {"announced": 2**32}),
        (EndEarly, {"frames": -1}),
        (Split, {"at": [3, -1]}),
        (Split, {"every": -1}),
        (Delay, {"at": -1, "seconds": 1}),
        (Delay, {"at": 0, "seconds": -1}),
        (Delay, {"at": 0, "seconds": float("nan")}),
        (Delay, {"at": 0, "seconds": 10**400}),
        (Cut, {"at": -1}),
        (Reset, {"at": -1}),
        (IdleCut, {"seconds": 0}),
        (IdleCut, {"seconds": float("nan")}),
    ],
)
def test_a_fault_of_an_impossible_value_is_refused_when_it_is_built(
    kind: type[Fault], arguments: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=" is "):
        kind(**arguments)


def test_what_a_fault_takes() -> None:
    pairs = [("Server", "proxy"), ("X-\xe9", "\xe9")]
    ways: list[Any] = [pairs, tuple(pairs), iter(pairs), map(list, pairs)]
    assert {ProxyAnswer(headers=given).headers for given in ways} == {tuple(pairs)}
    assert Split(at=[1, 2]) == Split(at=(number for number in (1, 2)))
    assert Delay(0, 0).seconds == 0
    assert Delay(0, float("inf")).seconds == float("inf")
    assert IdleCut(sys.float_info.min).seconds > 0
    assert SetHeader("Server", None).value is None
