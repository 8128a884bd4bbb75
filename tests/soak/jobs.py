"""The jobs of the soak: what each one does, what goes wrong with it, and when it is interrupted, drawn from a seed."""

from __future__ import annotations

import enum
import random
from typing import Final, Literal

import attrs

from attachproto_engine import (
    Chunked,
    Cut,
    Delay,
    EndEarly,
    Fault,
    Garbage,
    HeldHead,
    LongFrame,
    NoAnswer,
    NoUpgrade,
    ProxyAnswer,
    Reset,
    Split,
    UnknownStream,
)
from attachproto_engine._faults import Call

Kind = Literal["run", "run_exec", "attach", "conversation", "lines", "logs", "terminal", "refused", "lives_on"]
Interruption = Literal["none", "deadline", "cancel", "close"]

# The kinds that hold an attachment, which can be closed from elsewhere and read again after a deadline.
ATTACHMENTS: Final = ("attach", "conversation", "lines", "logs", "lives_on")

_KINDS: Final[dict[Kind, int]] = {
    "run": 5,
    "run_exec": 6,
    "attach": 4,
    "conversation": 3,
    "lines": 2,
    "logs": 3,
    "terminal": 1,
    "refused": 1,
    "lives_on": 1,
}

# The calls of each kind. The one that opens the stream stands first, and is faulted most often.
CALLS: Final[dict[Kind, tuple[Call, ...]]] = {
    "run": ("attach", "create", "start", "wait", "inspect"),
    "run_exec": ("exec", "exec_create", "exec_inspect", "inspect"),
    "attach": ("attach", "inspect", "start", "wait"),
    "conversation": ("attach", "inspect", "start", "wait"),
    "lines": ("attach", "inspect", "start", "wait"),
    "logs": ("logs", "inspect"),
    "terminal": ("exec", "exec_create", "exec_inspect"),
    "refused": ("inspect",),
    "lives_on": ("attach",),
}

_STREAMS: Final[tuple[Call, ...]] = ("attach", "exec", "logs")

_PAUSE_SECONDS: Final = 0.02


class Effect(enum.Enum):
    """What the faults of a job allow it to end with."""

    NONE = "none"
    HARMLESS = "harmless"
    """The bytes are those of a faultless engine, in other pieces or later: the job succeeds."""

    CUTS = "cuts"
    """The connection ends, or the answer is a proxy's: a whole result or a typed error."""

    SPOILS = "spoils"
    """The stream itself is wrong: a typed error."""

    SILENT = "silent"
    """Nothing comes: the deadline passes."""


@attrs.frozen
class FrontFault:
    """A TLS connection of the job is ended by the TLS server, in the middle of what is encrypted.

    Attributes:
        connection: which of the job's new connections, counted from 0.
        at: after how many bytes of the server's.
        reset: by a reset in place of an end of file without ``close_notify``.
    """

    connection: int
    at: int
    reset: bool


@attrs.frozen
class Job:
    """One job.

    Attributes:
        marker: the name that only this job's process has.
        size: how many lines of eight bytes it prints.
        errors: what it prints to stderr.
        exit_code: of its process.
        input: what it reads, and prints first.
        on: the call that has the faults.
        seconds: when it is interrupted.
    """

    marker: str
    kind: Kind
    size: int
    errors: bytes
    exit_code: int
    input: bytes | None
    on: Call
    faults: tuple[Fault, ...]
    effect: Effect
    front: FrontFault | None
    interruption: Interruption
    seconds: float

    @property
    def stdout(self) -> bytes:
        """All that a faultless engine sends of stdout."""
        return (self.input or b"") + numbered(self.size)

    @property
    def command(self) -> tuple[str, ...]:
        """The command of its process; the marker is the shell's ``$0``."""
        steps = ["cat"] * (self.input is not None)
        if self.size:
            steps.append(f"seq -f %07.0f 0 {self.size - 1}")
        if self.errors:
            steps.append(f"printf %s {self.errors.decode()} >&2")
        steps.append("exec sleep 60" if self.kind == "lives_on" else f"exit {self.exit_code}")
        script = "; ".join(steps)
        # Without the terminal's own line ends the output is the same on a TTY.
        return ("sh", "-c", f"stty -onlcr; {script}" if self.kind == "terminal" else script, self.marker)


def numbered(lines: int) -> bytes:
    """Lines that say where they stand, so that a lost or repeated one is seen."""
    return b"".join(b"%07d\n" % number for number in range(lines))


def draw(seed: str, *, blocking: bool, tls: bool) -> Job:
    """Draw a job. The same seed gives the same job."""
    rng = random.Random(seed)
    kind = rng.choices(list(_KINDS), list(_KINDS.values()))[0]
    size = 0 if rng.random() < 0.1 else rng.choice((1, 5, 40, 600, 8000))
    with_input = kind == "conversation" or (kind in ("run", "run_exec", "attach") and rng.random() < 0.5)
    data = numbered(rng.choice((1, 30, 2000, 40_000)))[: -rng.randrange(1, 8)] if with_input else None
    errors = b"" if kind == "terminal" else b"e" * rng.choice((0, 3, 500))
    job = Job(
        marker=f"soak-{seed}",
        kind=kind,
        size=max(size, 1) if kind == "lives_on" else size,
        errors=errors,
        exit_code=rng.choice((0, 1, 3, 77)),
        input=data,
        on="attach",
        faults=(),
        effect=Effect.NONE,
        front=None,
        interruption="none",
        seconds=0.0,
    )
    if kind == "lives_on":
        # Its first bytes come for certain, so the cut does too.
        at = rng.randrange(_LEAST_HEAD)
        fault = rng.choice((Cut(at), Reset(at), EndEarly(0), EndEarly(1)))
        return attrs.evolve(job, faults=(fault,), effect=Effect.SPOILS)
    if kind == "refused":
        return job
    if rng.random() < 0.6:
        job = _faulted(job, rng)
    if tls and rng.random() < 0.3:
        front = FrontFault(rng.randrange(3), rng.randrange(5000), rng.random() < 0.5)
        worse = Effect.CUTS if job.effect in (Effect.NONE, Effect.HARMLESS) else job.effect
        job = attrs.evolve(job, front=front, effect=worse)
    return _interrupted(job, rng, blocking)


# No head of a stream is shorter.
_LEAST_HEAD: Final = 80


def _faulted(job: Job, rng: random.Random) -> Job:
    calls = CALLS[job.kind]
    on = calls[0] if rng.random() < 0.6 else rng.choice(calls)
    whole = 400 + len(job.stdout)
    at = rng.choice((rng.randrange(300), rng.randrange(whole)))
    pieces = tuple(sorted(rng.randrange(whole) for _ in range(rng.randrange(1, 8))))
    harmless: list[Fault] = [Split(pieces), Split(pieces), Delay(at, _PAUSE_SECONDS)]
    if len(job.stdout) < 400:
        harmless.append(Split(every=rng.choice((16, 50, 97))))
    cutting: list[Fault] = [Cut(at), Cut(at), Reset(at), Reset(at), ProxyAnswer(502), ProxyAnswer(403), Garbage()]
    choices = [(harmless, Effect.HARMLESS), (cutting, Effect.CUTS)]
    if on in _STREAMS and job.input is None and job.kind != "logs":
        harmless += [NoUpgrade(), Chunked()]
        if on == "exec":  # an attach is answered before the start, which a held head would wait for
            harmless.append(HeldHead())
    if on in ("attach", "exec") and job.kind != "terminal":
        spoiling = [LongFrame(), UnknownStream(rng.randrange(4, 256))]
        choices.append((spoiling, Effect.SPOILS))
        cutting.append(EndEarly(rng.randrange(3)))
    # The end of a `run`, and of a command, waits for its other calls.
    if on in ("attach", "logs", "start") or (on == "inspect" and job.kind in ATTACHMENTS):
        choices.append(([NoAnswer(), Delay(at, 2.0)], Effect.SILENT))
    faults, effect = rng.choices(choices, [4, 5, 1, 1][: len(choices)])[0]
    return attrs.evolve(job, on=on, faults=(rng.choice(faults),), effect=effect)


def _interrupted(job: Job, rng: random.Random, blocking: bool) -> Job:
    ways: list[Interruption] = ["deadline", "close"] if job.kind in ATTACHMENTS else ["deadline"]
    if not blocking:
        ways.append("cancel")
    seconds = rng.choice((0.001, 0.01, 0.05, 0.2)) * rng.random()
    if job.effect is Effect.SILENT:
        return attrs.evolve(job, interruption=rng.choice([way for way in ways if way != "close"]), seconds=0.3)
    if rng.random() < 0.3:
        return attrs.evolve(job, interruption=rng.choice(ways), seconds=max(seconds, 0.0001))
    return job
