"""The tables of scenarios, run by each adapter in each of its ways."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.adapters import ending_scenarios, engine_scenarios, scenarios, text_scenarios
from tests.adapters.frameworks import WAYS, Opener, Way
from tests.adapters.scenarios import Row
from tests.adapters.scripted import Engine


class HalfCloses:
    """How often a client has half-closed, apart from the trial that comes before a stream over TCP."""

    count = 0


@pytest.fixture
def half_closes(monkeypatch: pytest.MonkeyPatch) -> HalfCloses:
    counted = HalfCloses()
    real = socket.socket.shutdown

    def shutdown(sock: socket.socket, how: int) -> None:
        counts = how == socket.SHUT_WR and not is_trial(sock)  # afterwards another thread may close it
        real(sock, how)
        counted.count += counts

    monkeypatch.setattr(socket.socket, "shutdown", shutdown)
    return counted


def is_trial(sock: socket.socket) -> bool:
    """Whether what is sent was to wait for the half-close."""
    return sock.family == socket.AF_INET and bool(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CORK))


def combined(table: Iterable[Row], ways: Iterable[Way]) -> list[Any]:  # pytest does not name their type
    return [pytest.param(row, way, id=f"{row}-{way}") for row in table for way in ways if row.fits(way)]


DIALLED = [way for way in WAYS if way.own is None]
# To those of text it does not matter how the connection is made.
UNIX = [way for way in DIALLED if way.unix]
TEXT = combined(text_scenarios.TABLE, UNIX)


@pytest.mark.parametrize(("row", "way"), [*combined(scenarios.TABLE, WAYS), *TEXT])
def test_stream(row: Row, way: Way, socket_path: Path, half_closes: HalfCloses) -> None:
    opened = Opener(way, str(socket_path))

    async def scenario() -> None:
        try:
            await row.call(opened, **row.values)
        finally:
            await opened.aclose()

    try:
        way.framework.run(scenario)
    finally:
        opened.close()
    assert row.half_closes in (None, half_closes.count)


ENGINE_TABLE = [*engine_scenarios.TABLE, *ending_scenarios.TABLE]


@pytest.mark.parametrize(
    ("row", "way"), [*combined(ENGINE_TABLE, DIALLED), *combined(text_scenarios.ENGINE_TABLE, UNIX)]
)
def test_engine(row: Row, way: Way, socket_path: Path, half_closes: HalfCloses) -> None:
    engine = Engine(str(socket_path) if way.unix else None)
    try:
        way.framework.run(lambda: row.call(way.framework, engine, **row.values))
    finally:
        engine.close()
    assert row.half_closes in (None, half_closes.count)
