"""The soak's own tests: what its verdicts find, and a short soak that finds nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import attrs
import pytest

from attachproto import AttachError, LocalProtocolError
from attachproto_adapters import OutputCut, RequestRejected
from attachproto_engine import Cut, NoAnswer, UnknownStream
from tests.soak.jobs import Effect, Job, draw, numbered
from tests.soak.perform import Outcome
from tests.soak.samples import Sample, growth
from tests.soak.verdict import judge

HEADS = {"attach": 100, "exec": 100, "logs": 100}

JOB = Job(
    marker="soak",
    kind="attach",
    size=2,
    errors=b"",
    exit_code=3,
    input=b"in",
    on="attach",
    faults=(),
    effect=Effect.NONE,
    front=None,
    interruption="none",
    seconds=0.0,
)
CUT = attrs.evolve(JOB, faults=(Cut(100 + 8 + 10),), effect=Effect.CUTS)
WHOLE = Outcome(stdout=b"in" + numbered(2), exit_code=3)
HALF = Outcome(stdout=WHOLE.stdout[:10], exit_code=3)


@pytest.mark.parametrize(
    ("job", "outcome", "found"),
    [
        (JOB, WHOLE, ""),
        (JOB, attrs.evolve(WHOLE, exit_code=0), "the exit code is 0"),
        (JOB, HALF, "a success with 10 + 0 bytes"),
        (JOB, attrs.evolve(WHOLE, stdout=b"in" + numbered(3)), "is not the beginning"),
        (JOB, attrs.evolve(WHOLE, stdout=numbered(2)), "is not the beginning"),
        (JOB, attrs.evolve(WHOLE, end="cancelled"), "nobody has cancelled"),
        (JOB, Outcome(end="error", error=ConnectionResetError()), "without a reason"),
        (JOB, Outcome(end="error", error=TimeoutError()), "not the job's"),
        (CUT, HALF, ""),
        (CUT, attrs.evolve(HALF, stdout=WHOLE.stdout[:9]), "a success with 9 + 0 bytes"),
        (CUT, Outcome(end="error", error=ConnectionResetError()), ""),
        (CUT, Outcome(end="error", error=ValueError()), "no error of a connection"),
        (CUT, Outcome(end="error", error=LocalProtocolError("")), "no error of a connection"),
        (attrs.evolve(CUT, on="wait"), HALF, "a success with 10"),
        (attrs.evolve(CUT, on="wait"), Outcome(end="error", error=OutputCut("", b"", b"")), "was not cut"),
        (attrs.evolve(JOB, effect=Effect.SPOILS), WHOLE, "that was spoilt"),
        (attrs.evolve(JOB, faults=(NoAnswer(),), effect=Effect.SILENT), WHOLE, "without an answer"),
        (
            attrs.evolve(JOB, faults=(UnknownStream(),), effect=Effect.SPOILS),
            Outcome(end="error", error=AttachError("")),
            "not an error of the protocol",
        ),
        (
            attrs.evolve(JOB, faults=(UnknownStream(),), effect=Effect.SPOILS),
            Outcome(end="error", error=ConnectionResetError()),
            "",
        ),
        (
            attrs.evolve(JOB, faults=(UnknownStream(),), effect=Effect.SPOILS, input=None),
            Outcome(end="error", error=ConnectionResetError()),
            "not an error of the protocol",
        ),
        (attrs.evolve(JOB, kind="refused"), Outcome(), "has succeeded"),
        (attrs.evolve(JOB, kind="refused"), Outcome(end="error", error=RequestRejected(500, "", "")), "not a 404"),
        (attrs.evolve(JOB, kind="refused"), Outcome(end="error", error=RequestRejected(404, "", "")), ""),
    ],
)
def test_verdicts(job: Job, outcome: Outcome, found: str) -> None:
    said = judge(job, outcome, (), HEADS)
    assert found in "\n".join(said) if found else not said


def test_a_seed_gives_a_job() -> None:
    jobs = [draw(f"1/worker/{number}", blocking=False, tls=True) for number in range(300)]
    assert jobs == [draw(f"1/worker/{number}", blocking=False, tls=True) for number in range(300)]
    assert {job.effect for job in jobs} == set(Effect)
    assert {job.interruption for job in jobs} == {"none", "deadline", "cancel", "close"}


def sample(**grown: int) -> Sample:
    quiet = {"rss": 10**8, "blocks": 10**5, "objects": 10**5, "descriptors": 50, "threads": 9, "processes": 3}
    return Sample(seconds=0.0, jobs=0, **{**quiet, **grown})


@pytest.mark.parametrize("name", ["rss", "blocks", "objects", "descriptors", "threads", "processes"])
def test_growth(name: str) -> None:
    quiet = sample()
    assert growth([quiet] * 60) == []
    grown = [sample(**{name: int(getattr(quiet, name) * (1 + number / 10)) + number}) for number in range(60)]
    assert [each.split()[0] for each in growth(grown)] == [name]


def test_a_short_soak() -> None:
    command = [sys.executable, "-m", "tests.soak", "--minutes", "0.07", "--sample-seconds", "2", "--seed", "14"]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "findings: 0" in done.stdout
