"""Recordings in the recorder's own format, and how they become lines of a vectors file."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.replay.recordings import Json, Recording, decode_payload, encode_payload

_REQUEST_KEPT = 256
_ENDS = {"EOF": "eof", "RST": "rst", "OPE": "open"}  # "RST(ECONNRESET)", "OPEN (closed by the client)"


def line_from_raw(document: Json, connection: Json) -> Json:
    """Make a vectors line from one connection of a file in the recorder's own format."""
    request = connection["request_latin1"].encode("latin-1")
    events: list[list[Any]] = []
    for kind, _, payload, *shortened in connection["events"]:
        if kind == "close":
            continue  # always the last one, and always ours
        if kind in ("send", "recv"):
            events.append([kind, encode_payload(base64.b64decode(payload))])
        elif kind in ("send-cut", "recv-cut"):
            events.append([kind, payload["bytes_left_out"]])
        else:
            events.append([kind, payload] if payload else [kind])
        if shortened:  # the recorder kept only the first part of a payload
            left_out = connection["bytes"][kind] - len(base64.b64decode(payload))
            events.append([f"{kind}-cut", left_out])
    # The first send is the request, unless it was sent in pieces. Where it was too long for the recorder, a short
    # beginning is enough: nothing can be done with half a head.
    first = decode_payload(events[0][1]) if events and events[0][0] == "send" else b""
    cut_at_once = len(events) > 1 and events[1][0] == "send-cut"
    request_cut = 0
    if first and (first.startswith(request) or (request.startswith(first[:_REQUEST_KEPT]) and cut_at_once)):
        if cut_at_once and b"\r\n\r\n" not in first:
            request_cut = connection["bytes"]["send"] - _REQUEST_KEPT
            first = first[:_REQUEST_KEPT]
        request = first
        events[0] = ["request"]
    line = {
        "engine": document["engine"],
        "version": document["version"],
        "scenario": document["scenario"],
        "label": connection["label"],
        "tty": _tty(document, connection),
        "request": request.decode("latin-1"),
        "events": events,
        "expect": {
            "end": _ENDS[connection["end"][:3]],
            "responses": [
                _expected_response(response, any(event[0] == "recv-cut" for event in events))
                for response in connection["responses"]
            ],
        },
    }
    if request_cut:
        line["request_cut"] = request_cut
    return line


def _tty(document: Json, connection: Json) -> bool | None:
    request = connection["request_latin1"]
    target = request.split(" ")[1] if request.count(" ") > 1 else ""
    if "/exec/" in target:
        body = request.partition("\r\n\r\n")[2]
        try:
            start = json.loads(body)
        except ValueError:
            start = {}
        if document["engine"] == "podman" and "non-TTY exec" in connection["label"]:
            return False  # Podman obeys the creation of an exec, dockerd its start
        return bool(start.get("Tty", False))
    containers = document["containers"]
    for container in containers:
        if container["Id"] in target:
            return bool(container["Tty"])
    known = {bool(container["Tty"]) for container in containers}
    return known.pop() if len(known) == 1 else None


def _expected_response(response: Json, cut: bool) -> Json:
    found: Json = {
        "status_line": response["status_line"],
        "headers": response["headers"],
        "body_mode": response["body_mode"],
    }
    if "terminated" in response:
        found["terminated"] = response["terminated"]
    if "body" not in response:
        return found
    body = response["body"]
    found["body"] = kept = {"bytes": body["bytes"], "framing": body["framing"]}
    if "streams" in body:
        kept["streams"] = {
            number: {"frames": stream["frames"], "bytes": stream["bytes"]} | _proof(stream, cut)
            for number, stream in body["streams"].items()
        }
    elif "frames" in body:  # websocket
        kept["frames"] = body["frames"]
    elif body["framing"] == "raw":
        kept.update(_proof(body, cut))
    if "odd" in body:
        kept["odd"] = body["odd"]
    return found


def _proof(part: Json, cut: bool) -> Json:
    # One proof per byte: a digest is of no use without all bytes, and a shortened text of none beside a digest.
    return {"sha256": part["sha256"]} if "sha256" in part and not cut else {"text": part["text"]}


def read_raw(directory: Path) -> Iterator[Recording]:
    """Read every connection of a folder in the recorder's own format (one folder per engine)."""
    for path in sorted(directory.glob("*/*.json")):
        document = json.loads(path.read_text("utf-8"))
        for connection in document["connections"]:
            yield Recording.from_line(line_from_raw(document, connection))
