"""The stored expectations are what the second parser says of the vectors, and it agrees with the recorder's."""

from __future__ import annotations

import dataclasses
import json

import pytest

from scripts.second_opinion.audit import audit
from scripts.second_opinion.expectations import expectations_of
from tests.replay.expectations import EXPECTED
from tests.replay.recordings import VECTORS, read_vectors

ENGINES = sorted(path.stem for path in VECTORS.glob("*.jsonl"))


@pytest.mark.parametrize("engine", ENGINES)
def test_what_is_stored_is_what_is_written_today(engine: str) -> None:
    found = expectations_of(VECTORS / f"{engine}.jsonl").splitlines()
    for ours, stored in zip(found, (EXPECTED / f"{engine}.jsonl").read_text("ascii").splitlines(), strict=True):
        assert json.loads(ours) == json.loads(stored), (
            "if the change is right, run python scripts/make_vectors.py --again"
        )
        assert ours == stored


def test_each_engine_has_one_file_and_all_are_small() -> None:
    assert sorted(path.name for path in EXPECTED.iterdir()) == [f"{engine}.jsonl" for engine in ENGINES]
    assert sum(path.stat().st_size for path in EXPECTED.iterdir()) < 2_000_000


@pytest.mark.parametrize("engine", ENGINES)
def test_both_parsers_agree(engine: str) -> None:
    problems = [
        f"{recording.name}: {problem}" for recording in read_vectors(engine=engine) for problem in audit(recording)
    ]
    assert problems == []


def test_the_audit_sees_a_difference() -> None:
    recording = next(
        recording for recording in read_vectors(engine="docker-28.5.2") if recording.scenario == "17-binary"
    )
    assert audit(recording) == []
    last = max(number for number, event in enumerate(recording.events) if event[0] == "recv")
    changed = list(recording.events)
    data = changed[last][1]
    assert isinstance(data, bytes)
    changed[last] = ("recv", data[:-1] + b"?")
    assert audit(dataclasses.replace(recording, events=tuple(changed)))
