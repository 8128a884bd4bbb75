"""Requests as JSON: in the stored expectations, and what else is asked in place of a recorded request."""

from __future__ import annotations

from typing import Any

import attrs

from attachproto import Attach, AttachOptions, ExecStart, Logs, Request, StreamRequest
from tests.replay.recordings import Json, decode_payload, encode_payload

STAND_IN = "stand-in"
"""The container, or path, of a request that stands for one which our client cannot send."""

OTHERS: dict[str, Request | StreamRequest] = {
    "Attach with stdin": Attach(STAND_IN, AttachOptions(stdin=True)),
    "Attach": Attach(STAND_IN),
    "ExecStart": ExecStart(STAND_IN, tty=False),
    "Logs": Logs(STAND_IN),
    "Request": Request("GET", (STAND_IN,)),
}
"""What else is asked in place of the recorded request, to see what the core makes of an answer to something else."""


def encode_request(request: Request | StreamRequest) -> Json:
    """A request as JSON: its class, and the fields that do not have their defaults."""
    return {type(request).__name__: _fields(request)}


def encode_served(request: Request | StreamRequest) -> Json:
    """A request that a server has read, as JSON. A plain one is what was in its head and body."""
    if not isinstance(request, Request):
        return encode_request(request)
    kept = {"method": request.method, "target": request.target}
    return {"Request": kept | {"headers": as_lists(request.headers), "body": encode_payload(request.body)}}


def _fields(value: Any) -> Json:
    found: Json = {}
    for field in attrs.fields(type(value)):
        item = getattr(value, field.name)
        default = field.default.factory() if isinstance(field.default, attrs.Factory) else field.default  # type: ignore[arg-type]
        if field.init and item != default:
            found[field.name] = _fields(item) if isinstance(item, AttachOptions) else as_lists(item)
    return found


def as_lists(value: Any) -> Any:
    if isinstance(value, tuple):
        return [as_lists(item) for item in value]
    return encode_payload(value) if isinstance(value, bytes) else value


def decode_request(document: Json) -> Request | StreamRequest:
    """The request of `encode_request`."""
    ((name, fields),) = document.items()
    classes: dict[str, type[Request | StreamRequest]] = {
        "Attach": Attach,
        "ExecStart": ExecStart,
        "Logs": Logs,
        "Request": Request,
    }
    given = {key: _tuples(value) for key, value in fields.items()}
    if "options" in given:
        given["options"] = AttachOptions(**given["options"])
    if "body" in given:
        given["body"] = decode_payload(given["body"])
    return classes[name](**given)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
