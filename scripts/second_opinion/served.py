"""What a server must make of a recorded request."""

from __future__ import annotations

import re
from urllib.parse import unquote

from attachproto import Attach, ExecStart, Logs, StreamRequest
from scripts.second_opinion.outcomes import takes_stdin
from scripts.second_opinion.parser import Answer, AskedRequest, methods_of, read_answers, read_request
from scripts.second_opinion.requests import NAME, STREAM, VERSION, stream_of
from tests.replay.recordings import Json, Recording, encode_payload
from tests.replay.requests import encode_request


def served_document(recording: Recording) -> Json | None:
    """The expectation of the server role, as it is stored; None if the request was not kept whole."""
    if recording.request_cut:
        return None
    kind, difference, body = served(recording)
    document: Json = {"request": None}
    if difference:
        document["difference"] = difference
    if kind == "error":
        return document
    asked = read_request(recording.request)
    assert asked
    headers = [[name.lower(), value] for name, value in asked.headers]
    if body:
        document["body"] = encode_payload(body)
    if kind == "Request":
        kept = {"method": asked.method, "target": asked.target, "headers": headers, "body": encode_payload(asked.body)}
        return document | {"request": {"Request": kept}}
    stream = stream_of(recording, asked)
    assert stream
    ((name, fields),) = encode_request(stream[0]).items()
    document["request"] = {name: fields | {"headers": headers}}
    if takes_stdin(stream[0]) and asked.rest:
        document |= {"status": 101 if asked.values("upgrade") else 200, "stdin": encode_payload(asked.rest)}
    return document


def served(recording: Recording) -> tuple[str, str, bytes]:
    """What must become of the first request of a recording, by what it says and by what the engine answered.

    Returns:
        The class of the event, or `error`; a key of `SERVER_DIFFERENCES`, or nothing; and the body that is sent last.
    """
    asked = read_request(recording.request)
    answers = read_answers(recording.received, methods_of(recording), recording.end == "eof")
    # Go's server writes these itself, before any handler: "400 Bad Request: missing required Host header".
    refused = bool(answers) and answers[0].status >= 400 and answers[0].body.startswith(b"%d " % answers[0].status)
    if asked is None:
        return ("error" if refused else "Request"), "", b""
    kind, difference = stream_kind(recording, asked, answers)
    if not asked.target.isascii():
        return "error", "bytes above 127 in the target", b""
    if re.search("%(?![0-9A-Fa-f]{2})", asked.target):
        return "Request", "a bad percent-escape", b""
    if any("/" in value for value in asked.values("host")):
        return kind, "a Host with a slash", b""
    if refused and answers[0].status != 417:  # an unknown Expect is the application's to refuse
        return "error", "", b""
    if asked.values("transfer-encoding"):
        return kind, "a body that is announced and not there", b"0\r\n\r\n"
    missing = int((asked.values("content-length") or ["0"])[0]) - len(asked.body)
    if missing:
        return kind, "a body that is announced and not there", b"x" * missing
    return kind, difference, b""


_INVALID: dict[type[StreamRequest], bytes] = {
    Attach: rb"etach keys",
    ExecStart: rb"EOF",
    Logs: rb"at least one stream|unable to interpret time|invalid syntax",
}
"""What engines say to a request that is for the right endpoint, and not a valid one."""


def stream_kind(recording: Recording, asked: AskedRequest, answers: list[Answer]) -> tuple[str, str]:
    """What class a request is of, and where we differ; whether its options and body are valid is the engine's word."""
    stream = stream_of(recording, asked)
    match = STREAM.fullmatch(asked.target.partition("?")[0])
    if not stream or not match or asked.method != asked.method.upper() or match["libpod"]:
        return "Request", ""
    if not NAME.fullmatch(unquote(match["name"])) or (match["version"] and not VERSION.fullmatch(match["version"])):
        return "Request", ""
    kind = type(stream[0])
    if answers and answers[0].status in (400, 500) and re.search(_INVALID[kind], answers[0].body):
        if kind is ExecStart and not asked.body:
            return kind.__name__, "an exec start without a body"
        if kind is Logs and b"'tail'" in answers[0].body:
            return kind.__name__, "a tail that is no number"
        return "Request", ""
    return kind.__name__, ""
