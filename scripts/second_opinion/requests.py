"""What a recorded request is: the event that a client sends to get its answer, and what a server must read in it.

What our client could never have sent (an odd head, a name it refuses, an exec start with another body) is replayed with
a stand-in that can get the same answer, and a reason.
"""

from __future__ import annotations

import json
import re
from urllib.parse import parse_qsl, unquote

import attrs

from attachproto import Attach, AttachOptions, ExecStart, Logs, Request, StreamRequest
from scripts.second_opinion.parser import AskedRequest, read_request
from tests.replay.recordings import Json, Recording
from tests.replay.requests import STAND_IN

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
VERSION = re.compile(r"[0-9]+(\.[0-9]+)*")
STREAM = re.compile(
    r"(?:[a-z]+://[^/]*)?(?:/v(?P<version>[^/]+))?(?P<libpod>/libpod)?"
    r"/(?P<place>containers|exec)/(?P<name>.*)/(?P<what>[a-z]+)"
)
_STREAMS: dict[tuple[str, str, str], type[StreamRequest]] = {
    ("POST", "containers", "attach"): Attach,
    ("POST", "exec", "start"): ExecStart,
    ("GET", "containers", "logs"): Logs,
}


def plan(recording: Recording, asked: AskedRequest | None) -> tuple[Request | StreamRequest, str]:
    """Choose the event that a client sends to get the answer to this, and the reason if it is a stand-in."""
    if recording.request_cut:  # the families 26 and 32 have such: attach with a long name, query or header
        return Attach(STAND_IN, tty=recording.tty), "the request was not kept whole"
    if asked is None:
        return Request("GET", (STAND_IN,)), "the answer is to bytes that are no request"
    if stream := stream_of(recording, asked):
        return attrs.evolve(stream[0], tty=recording.tty), stream[1]
    return _call(asked)


def stream_of(recording: Recording, asked: AskedRequest) -> tuple[StreamRequest, str] | None:
    """The stream request that a recorded request is, as a server sees it, and what our client would never write.

    What cannot be said with the core's requests is left out, or stands for it. None if it is another request, or
    starts an exec that is not attached to.
    """
    path, _, query = asked.target.partition("?")
    match = STREAM.fullmatch(path)
    kind = _STREAMS.get((asked.method.upper(), match["place"], match["what"])) if match else None
    if not match or not kind:
        return None
    reasons = []
    name, version = unquote(match["name"]), match["version"]
    if match["libpod"]:
        reasons.append("another path")
    if not NAME.fullmatch(name):
        reasons.append("a name that the client refuses")
        name = STAND_IN
    if path.startswith("http:"):
        reasons.append("an absolute target")
    if version and not VERSION.fullmatch(version):
        version = None
    if asked.method != asked.method.upper() or asked.version != "HTTP/1.1":
        reasons.append(f"{asked.method} {asked.version}")
    upgrade = (asked.values("connection"), asked.values("upgrade"))
    if upgrade != (([], []) if kind is Logs else (["Upgrade"], ["tcp"])):
        reasons.append("other upgrade headers")
    if len(asked.values("host")) != 1 or "\r\n" not in recording.request.decode("latin-1"):
        reasons.append("an odd head")
    if (asked.body and kind is not ExecStart) or asked.values("transfer-encoding") or asked.values("expect"):
        reasons.append("a body")
    elif (first := read_request(recording.request)) and first.rest and first.target == asked.target:
        reasons.append("bytes glued to the head")
    given = dict(reversed(parse_qsl(query, keep_blank_values=True)))
    event: StreamRequest | None
    if kind is Attach:
        event = _attach(name, given, reasons)
    elif kind is Logs:
        event = _logs(name, given, reasons)
    else:
        event = _exec_start(name, asked.body, recording.tty, reasons)
    return (attrs.evolve(event, api_version=version), ", ".join(reasons)) if event else None


def _attach(name: str, given: Json, reasons: list[str]) -> Attach:
    options = AttachOptions(
        stream=is_true(given.get("stream", "")),
        stdin=is_true(given.get("stdin", "")),
        stdout=is_true(given.get("stdout", "")),
        stderr=is_true(given.get("stderr", "")),
        logs=is_true(given.get("logs", "")),
    )
    if keys := given.get("detachKeys"):  # empty ones are no keys
        try:
            options = attrs.evolve(options, detach_keys=keys)
        except ValueError:
            reasons.append("detach keys that the client refuses")
    return Attach(name, options)


def _exec_start(name: str, body: bytes, tty: bool | None, reasons: list[str]) -> ExecStart | None:
    try:
        start = json.loads(body)
    except ValueError:
        start = {}
    if start.get("Detach"):
        return None
    if start != {"Detach": False, "Tty": tty}:  # or the Tty is the start's, where the creation's counts
        reasons.append("another body")
    return ExecStart(name, tty=start.get("Tty", False))


def _logs(name: str, given: Json, reasons: list[str]) -> Logs:
    tail = given.get("tail", "all")
    if tail != "all" and not re.fullmatch("[0-9]+", tail):
        reasons.append("a tail that the client refuses")
        tail = "all"
    try:
        return Logs(
            name,
            follow=is_true(given.get("follow", "")),
            stdout=is_true(given.get("stdout", "")),
            stderr=is_true(given.get("stderr", "")),
            since=given.get("since"),
            until=given.get("until"),
            timestamps=is_true(given.get("timestamps", "")),
            tail=None if tail == "all" else int(tail),
            details=is_true(given.get("details", "")),
        )
    except ValueError:
        reasons.append("options that the client refuses")
        return Logs(name)


def is_true(value: str) -> bool:
    """A boolean of a query as dockerd reads it."""
    return value.strip().lower() not in ("", "0", "no", "false", "none")


def _call(asked: AskedRequest) -> tuple[Request, str]:
    """The plain call that a recorded request is, and what our client would never write."""
    path, _, query = asked.target.partition("?")
    segments = [unquote(segment) for segment in path.removeprefix("/").split("/")]
    version = None
    if segments[0][:1] == "v" and VERSION.fullmatch(segments[0][1:]):
        version = segments.pop(0)[1:]
    types = tuple(("content-type", value) for value in asked.values("content-type"))
    method = asked.method if re.fullmatch("[A-Z]+", asked.method) else "GET"
    reason = "" if method == asked.method and asked.version == "HTTP/1.1" else f"{asked.method} {asked.version}"
    if asked.values("upgrade"):
        reason = reason or "upgrade headers on a plain call"
    pairs = tuple(parse_qsl(query, keep_blank_values=True))
    try:
        call = Request(method, tuple(segments), pairs, asked.body, types, version)
    except ValueError:
        return Request(method, (STAND_IN,)), reason or "a path that the client refuses"
    if unquote(call.target) != unquote(asked.target.replace("+", "%20")):
        reason = reason or "a target that the client writes otherwise"
    return call, reason
