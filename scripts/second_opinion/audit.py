"""Compares the recorder's parse of a connection with the second parser's."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from scripts.second_opinion.parser import STREAMS, Answer, Run, methods_of, read_answers, read_frames
from tests.replay.recordings import Json, Recording


def streams_of(runs: Iterable[Run]) -> dict[str, bytes]:
    """All bytes of each stream."""
    found: dict[str, bytearray] = {}
    for name, data in runs:
        found.setdefault(name, bytearray()).extend(data)
    return {name: bytes(data) for name, data in found.items()}


def audit(recording: Recording) -> list[str]:
    """Compare the recorder's parse with ours.

    Returns:
        The differences in words; none if the data is sound.
    """
    wanted = recording.expect["responses"]
    answers = read_answers(recording.received, methods_of(recording), recording.end == "eof" and not recording.cut)
    if len(answers) != len(wanted):
        return [f"{len(answers)} answers, recorded {len(wanted)}"]
    problems = []
    for answer, response in zip(answers, wanted, strict=True):
        if answer.status_line != response["status_line"]:
            problems.append(f"status line {answer.status_line!r}, recorded {response['status_line']!r}")
        if answer.headers != tuple((name, value) for name, value in response["headers"]):
            problems.append(f"headers {answer.headers!r}, recorded {response['headers']!r}")
        if answer.mode != response["body_mode"]:
            problems.append(f"body mode {answer.mode!r}, recorded {response['body_mode']!r}")
        problems += _audit_body(answer, response.get("body", {}), recording.cut)
    if not recording.cut and answers and answers[-1].stop != len(recording.received):
        problems.append(f"{len(recording.received) - answers[-1].stop} bytes behind the last answer")
    return problems


def _audit_body(answer: Answer, body: Json, cut: bool) -> list[str]:
    data = answer.body
    if not body:
        return [f"{len(data)} bytes of a body, recorded none"] if data else []
    problems = []
    if cut:
        if len(data) > body["bytes"]:
            problems.append(f"{len(data)} bytes, recorded {body['bytes']}")
    elif len(data) != body["bytes"]:
        problems.append(f"{len(data)} bytes, recorded {body['bytes']}")
    if body["framing"] == "multiplexed":
        frames = read_frames(data)
        found = streams_of(frames.runs)
        problems += [f"frames: {frames.problem}"] if frames.problem == "type" or (frames.problem and not cut) else []
        for number, stream in body["streams"].items():
            problems += _audit_bytes(f"stream {number}", found.pop(STREAMS[int(number)], b""), stream, cut)
        if found:
            problems.append(f"streams {sorted(found)}, not recorded")
    elif body["framing"] == "empty" and data:
        problems.append(f"{len(data)} bytes, recorded none")
    elif body["framing"] == "raw":
        problems += _audit_bytes("body", data, body, cut)
    return problems


def _audit_bytes(what: str, data: bytes, proof: Json, cut: bool) -> list[str]:
    if cut:  # only a beginning of the bytes is left
        text = proof.get("text", "").encode("latin-1")
        shorter = min(len(data), len(text))
        good = data[:shorter] == text[:shorter] and len(data) <= proof["bytes"]
    elif "sha256" in proof:
        good = hashlib.sha256(data).hexdigest() == proof["sha256"] and len(data) == proof["bytes"]
    else:
        good = data == proof["text"].encode("latin-1")
    return [] if good else [f"{what}: {data[:80]!r}... ({len(data)} bytes), recorded {proof!r}"]
