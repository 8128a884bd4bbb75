"""Whether a job of the soak has ended as its faults make right."""

from __future__ import annotations

from attachproto import AttachError, LocalProtocolError, RemoteProtocolError
from attachproto_adapters import AttachmentClosed, CommandTimeout, OutputCut, RequestRejected
from attachproto_engine import Cut, EndEarly, LongFrame, NoAnswer, Reset, UnknownStream
from tests.soak.jobs import ATTACHMENTS, CALLS, Effect, Job
from tests.soak.perform import Outcome

_FRAME_HEADER = 8

# The line with which the shell of a command begins has a token and numbers.
_LEAST_LINE = 60


def judge(job: Job, outcome: Outcome, broken: tuple[type[Exception], ...], heads: dict[str, int]) -> list[str]:
    """What is wrong; nothing if all is right.

    Args:
        broken: what the framework raises for a broken connection, in addition to ``OSError``.
        heads: the size of the head that opens a stream, for each call.
    """
    found = [
        f"{name} is not the beginning of what was printed: {len(got)} bytes, {got[:100]!r}"
        for name, got, wanted in (
            ("stdout", outcome.stdout, _stdout(job)),
            ("stderr", outcome.stderr, job.errors),
        )
        if not wanted.startswith(got)
    ]
    match outcome.end:
        case "whole":
            found += _judge_success(job, outcome, heads)
        case "cancelled":
            if job.interruption != "cancel":
                found.append("cancelled, and nobody has cancelled it")
        case _:
            assert outcome.error is not None
            found += _judge_error(job, outcome.error, broken)
    return found


def _stdout(job: Job) -> bytes:
    for fault in job.faults:
        if isinstance(fault, LongFrame):
            return fault.data
    return job.stdout


def _judge_success(job: Job, outcome: Outcome, heads: dict[str, int]) -> list[str]:
    if job.kind == "refused":
        return ["an attach to no container has succeeded"]
    if job.effect is Effect.SPOILS:
        return ["a success of a stream that was spoilt"]
    if any(isinstance(fault, NoAnswer) for fault in job.faults) and job.on == CALLS[job.kind][0]:
        return ["a success of a call without an answer"]
    whole = (outcome.stdout, outcome.stderr) == (job.stdout, job.errors)
    if whole and outcome.exit_code == job.exit_code:
        return []
    if whole:
        return [f"the exit code is {outcome.exit_code}, and should be {job.exit_code}"]
    if _is_cut_between_frames(job, outcome, heads):
        return []
    return [f"a success with {len(outcome.stdout)} + {len(outcome.stderr)} bytes of output"]


def _is_cut_between_frames(job: Job, outcome: Outcome, heads: dict[str, int]) -> bool:
    """Whether the connection was closed just between two frames.

    That is what the engine itself does at the end of the output. If the process has ended too, nothing tells the two
    apart (docs/adapters.md, "When the output has ended").
    """
    if job.on not in ("attach", "exec", "logs"):
        return False
    for fault in job.faults:
        if isinstance(fault, EndEarly):
            return True
        if isinstance(fault, Cut | Reset):
            framed = fault.at - heads[job.on] - len(outcome.stdout) - len(outcome.stderr)
            if job.kind in ("run_exec", "terminal"):
                # The line of the shell comes first, and a cut before its end is noticed.
                return framed >= _LEAST_LINE
            return framed >= 0 and framed % _FRAME_HEADER == 0
    return False


def _judge_error(job: Job, error: Exception, broken: tuple[type[Exception], ...]) -> list[str]:
    said = f"{type(error).__name__}: {str(error)[:300]}"
    if isinstance(error, LocalProtocolError) or not isinstance(error, (AttachError, OSError, *broken)):
        return [f"no error of a connection: {said}"]
    if job.kind == "refused":
        right = isinstance(error, RequestRejected) and error.status_code == 404
        return [] if right or job.effect is Effect.CUTS else [f"not a 404: {said}"]
    if isinstance(error, CommandTimeout) and job.interruption == "deadline" and job.kind not in ATTACHMENTS:
        return []
    if isinstance(error, AttachmentClosed) and job.interruption == "close":
        return []
    if isinstance(error, TimeoutError) and not isinstance(error, CommandTimeout) and job.effect is Effect.SILENT:
        return []
    if isinstance(error, TimeoutError):
        return [f"a deadline has passed that was not the job's: {said}"]
    if job.effect in (Effect.NONE, Effect.HARMLESS):
        return [f"an error without a reason: {said}"]
    if job.effect is Effect.SPOILS and job.kind != "lives_on":
        kinds = (LongFrame, UnknownStream)
        # The engine closes the connection behind them. If input is still unread then, the close is a reset.
        allowed = (RemoteProtocolError, ConnectionResetError, *broken) if job.input else (RemoteProtocolError,)
        if isinstance(job.faults[0], kinds) and job.front is None and not isinstance(error, allowed):
            return [f"not an error of the protocol: {said}"]
    if isinstance(error, OutputCut) and job.on not in ("attach", "exec", "logs") and job.front is None:
        return [f"the output was not cut: {said}"]
    return []
