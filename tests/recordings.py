"""Recorded connections of real engines: how they are read, and how the core is judged by them.

Plan of the file, from data to verdict; everything is a pure function of its arguments:

1. *Recordings.* One `Recording` is one connection to one engine: the request, the events on the wire and what the
   recorder's own parser made of them (`expect`). It comes from a line of `tests/vectors/*.jsonl`, or from a file of the
   raw format, which becomes such a line first, so that both go the same way.
2. *Second opinion.* A small parser of heads, chunks and frames that shares no code with the core. It cuts a connection
   into its answers and says which bytes belong to which stream; `audit` compares it with the recorder's parse, so that
   two independent readings agree before the core is asked.
3. *Exchanges.* The core does one exchange per `Connection`. `exchanges` turns a recording into exchanges: the event to
   send, the bytes that came, and how they ended. What our client could never have sent (an odd head, a name it
   refuses, an exec start with another body) is replayed with a stand-in that can get the same answer, and a reason.
   Nothing disappears: a recording without any exchange would be counted as skipped, and there is none.
4. *Verdict.* `expected` says what must come out, `replay` what does come out for some segmentation of the bytes,
   `judge` compares.
5. *Server role.* What a recorded request must become when `Connection(SERVER)` reads it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qsl, unquote

import attrs

from attachproto import (
    CLIENT,
    SEND_EOF,
    SERVER,
    Accepted,
    Attach,
    AttachOptions,
    Connection,
    ExecStart,
    Framing,
    LocalProtocolError,
    Logs,
    OutputClosed,
    Quirk,
    RawOutput,
    Rejected,
    RemoteProtocolError,
    Request,
    Response,
    ResponseHead,
    Stderr,
    Stdin,
    StdinClosed,
    Stdout,
    StreamRequest,
    Systemerr,
)

Json = dict[str, Any]
Wire = tuple[str, bytes | int | str | None]

VECTORS = Path(__file__).parent / "vectors"

# ---------------------------------------------------------------------------------------------------------------------
# 1. Recordings


@dataclass(frozen=True)
class Recording:
    """One connection to one engine.

    `request` is the first thing that was sent, whole unless `request_cut` bytes of it were left out. `tty` is what the
    bytes obey: the container's Tty, for exec the one of its start (dockerd) or of its creation (Podman); None where
    there is no container. `events` are `(kind, payload)`: bytes for `send` and `recv`, a number for `send-cut` and
    `recv-cut`, text or None for the others.
    """

    engine: str
    version: str
    scenario: str
    label: str
    tty: bool | None
    request: bytes
    request_cut: int
    events: tuple[Wire, ...]
    expect: Json = field(hash=False)

    @classmethod
    def from_line(cls, line: Json) -> Recording:
        """Read one line of a vectors file (tests/vectors/README.md has the format)."""
        request = line["request"].encode("latin-1")
        events: list[Wire] = []
        for kind, *rest in line["events"]:
            if kind == "request":
                events.append(("send", request))
            elif kind in ("send", "recv"):
                events.append((kind, decode_payload(rest[0])))
            else:
                events.append((kind, rest[0] if rest else None))
        return cls(
            engine=line["engine"],
            version=line["version"],
            scenario=line["scenario"],
            label=line["label"],
            tty=line["tty"],
            request=request,
            request_cut=line.get("request_cut", 0),
            events=tuple(events),
            expect=line["expect"],
        )

    @property
    def name(self) -> str:
        """A short name for messages and test ids."""
        return f"{self.engine}-{self.version}/{self.scenario}[{self.label}]"

    @property
    def family(self) -> str:
        """The leading number of the scenario, `01` to `41`."""
        return self.scenario[:2]

    @property
    def end(self) -> str:
        """How the connection ended: `eof`, `rst` or `open`."""
        end: str = self.expect["end"]
        return end

    @cached_property
    def cut(self) -> bool:
        """Whether the recorder left out received bytes."""
        return any(kind == "recv-cut" for kind, _ in self.events)

    @cached_property
    def segments(self) -> tuple[bytes, ...]:
        """What each recv() returned, up to the first place where bytes were left out."""
        found = []
        for kind, payload in self.events:
            if kind == "recv-cut":
                break
            if kind == "recv" and isinstance(payload, bytes):
                found.append(payload)
        return tuple(found)

    @cached_property
    def received(self) -> bytes:
        """All `segments` in one."""
        return b"".join(self.segments)

    @cached_property
    def sent(self) -> bytes:
        """What the client sent, up to the first place where bytes were left out."""
        found = []
        for kind, payload in self.events:
            if kind == "send-cut":
                break
            if kind == "send" and isinstance(payload, bytes):
                found.append(payload)
        return b"".join(found)


_REQUEST_KEPT = 256
_ENDS = {"EOF": "eof", "RST": "rst", "OPE": "open"}  # "RST(ECONNRESET)", "OPEN (closed by the client)"


_PLAIN = re.compile(rb"[\t\r\n -~]*")


def encode_payload(data: bytes) -> str | Json:
    """Bytes as a vectors line has them: text where it can be read, else base64."""
    if _PLAIN.fullmatch(data):
        return data.decode("ascii")
    return {"base64": base64.b64encode(data).decode("ascii")}


def decode_payload(payload: str | Json) -> bytes:
    """The bytes of a payload."""
    if isinstance(payload, str):
        return payload.encode("ascii")
    return base64.b64decode(payload["base64"], validate=True)


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


def read_vectors(directory: Path = VECTORS, engine: str = "*") -> Iterator[Recording]:
    """Read every connection of the vectors folder, or those of one engine such as `docker-28.5.2`."""
    for path in sorted(directory.glob(f"{engine}.jsonl")):
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                yield Recording.from_line(json.loads(line))


# ---------------------------------------------------------------------------------------------------------------------
# 2. Second opinion


@dataclass(frozen=True)
class Answer:
    """One answer on a connection, as our own small parser reads it.

    `start`, `body_start` and `stop` are places in the received bytes. `body` is without chunks. `whole` says that
    nothing is missing: by its length, its last chunk, or because the peer closed.
    """

    start: int
    body_start: int
    stop: int
    status_line: str
    headers: tuple[tuple[str, str], ...]
    mode: str
    body: bytes
    whole: bool

    @property
    def status(self) -> int:
        """The status code."""
        return int(self.status_line.split(" ")[1])

    def header(self, name: str) -> str | None:
        """The value of a header field, if there is one."""
        for key, value in self.headers:
            if key.lower() == name:
                return value
        return None

    @property
    def media_type(self) -> str:
        """The media type, without parameters; empty if there is none."""
        return (self.header("content-type") or "").partition(";")[0].strip().lower()


def read_answers(received: bytes, methods: list[str], ended: bool) -> list[Answer]:
    """Cut the received bytes into answers.

    Args:
        received: all bytes of the connection.
        methods: the methods of the requests, in order; what comes after the last is taken for GET.
        ended: whether the peer closed after these bytes.

    Returns:
        The answers whose heads are whole.
    """
    answers: list[Answer] = []
    at = 0
    while (end := received.find(b"\r\n\r\n", at)) >= 0:
        status_line, *lines = received[at:end].decode("latin-1").split("\r\n")
        pairs = [line.split(":", 1) for line in lines]
        headers = tuple((name, value.strip()) for name, value in pairs)
        lowered = {name.lower(): value for name, value in headers}
        method = methods[len(answers)] if len(answers) < len(methods) else "GET"
        start, rest = end + 4, received[end + 4 :]
        if method == "HEAD" or status_line.split(" ")[1] in ("204", "304"):
            mode, body, used, whole = "none", b"", 0, True
        elif status_line.split(" ")[1] == "101":
            mode = "websocket" if lowered.get("upgrade") == "websocket" and "sec-websocket-accept" in lowered else ""
            mode, body, used, whole = mode or "hijacked stream", rest, len(rest), ended
        elif lowered.get("transfer-encoding") == "chunked":
            mode = "chunked"
            body, used, whole = read_chunks(rest)
        elif "content-length" in lowered:
            length = int(lowered["content-length"])
            mode, body, used, whole = "content-length", rest[:length], min(length, len(rest)), length <= len(rest)
        else:
            mode, body, used, whole = "until EOF", rest, len(rest), ended
        answers.append(Answer(at, start, start + used, status_line, headers, mode, body, whole))
        at = start + used
        if not whole or at == len(received):
            break
    return answers


def read_chunks(data: bytes) -> tuple[bytes, int, bool]:
    """Take a chunked body apart.

    Returns:
        The content, how many bytes of `data` it took, and whether the last chunk was there.
    """
    body = bytearray()
    at = 0
    while (end := data.find(b"\r\n", at)) >= 0:
        size = int(data[at:end].split(b";")[0], 16)
        if size == 0:
            whole = data.startswith(b"\r\n", end + 2)
            return bytes(body), min(end + 4, len(data)), whole
        body += data[end + 2 : end + 2 + size]
        at = end + 2 + size + 2
    return bytes(body), len(data), False


STREAMS = {0: "Stdout", 1: "Stdout", 2: "Stderr", 3: "Systemerr"}

Run = tuple[str, bytes]


@dataclass(frozen=True)
class Frames:
    """A multiplexed body: its output in order, neighbours of one stream joined, and what is wrong with it.

    `problem` is empty, `header` (the bytes stop inside a header), `payload` (inside a payload) or `type` (an unknown
    stream). The first two are wrong only if the peer closed there.
    """

    runs: tuple[Run, ...]
    problem: str


def read_frames(data: bytes, quirks: Collection[Quirk] = ()) -> Frames:
    """Take a multiplexed body apart."""
    runs: list[Run] = []
    at = 0
    problem = before = ""
    while at < len(data):
        if data[at] == 10 and before and Quirk.NEWLINE_OUTSIDE_FRAME in quirks:
            runs.append((before, b"\n"))
            before = ""
            at += 1
            continue
        if data[at] not in STREAMS:
            problem = "type"
            break
        if at + 8 > len(data):
            problem = "header"
            break
        name = before = STREAMS[data[at]]
        length = int.from_bytes(data[at + 4 : at + 8], "big")
        payload = data[at + 8 : at + 8 + length]
        if payload:
            runs.append((name, payload))
        if len(payload) < length:
            problem = "payload"
            break
        at += 8 + length
    return Frames(join_runs(runs), problem)


DETACHED = b"Error: detached from container\n"


def last_words(body: bytes, framing: Framing, quirks: Collection[Quirk]) -> tuple[int, bool]:
    """How many of the last bytes may be the beginning of the engine's last words, and whether they are all of them."""
    words = DETACHED if framing is Framing.RAW else b"\2\0\0\0\0\0\0\x1f" + DETACHED
    if Quirk.DETACHED_TEXT in quirks:
        for size in range(min(len(words), len(body)), 0, -1):
            rest = body[: len(body) - size]
            if body.endswith(words[:size]) and (framing is Framing.RAW or not read_frames(rest, quirks).problem):
                return size, size == len(words)
    return 0, False


def join_runs(runs: Iterable[Run]) -> tuple[Run, ...]:
    """Join neighbours of the same stream: where one event ends and the next begins means nothing."""
    joined: list[tuple[str, list[bytes]]] = []
    for name, data in runs:
        if joined and joined[-1][0] == name:
            joined[-1][1].append(data)
        else:
            joined.append((name, [data]))
    return tuple((name, b"".join(parts)) for name, parts in joined)


def streams_of(runs: Iterable[Run]) -> dict[str, bytes]:
    """All bytes of each stream."""
    found: dict[str, bytearray] = {}
    for name, data in runs:
        found.setdefault(name, bytearray()).extend(data)
    return {name: bytes(data) for name, data in found.items()}


def methods_of(recording: Recording) -> list[str]:
    """The methods of the requests on this connection, as far as they can be told apart."""
    return [request.method for request in read_requests(recording)]


@dataclass(frozen=True)
class AskedRequest:
    """A request as it was sent: what can be told of it without judging it."""

    method: str
    target: str
    version: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    rest: bytes

    def values(self, name: str) -> list[str]:
        """The values of a header field."""
        return [value for key, value in self.headers if key.lower() == name]


def read_requests(recording: Recording) -> list[AskedRequest]:
    """Read the requests of a connection, one for each answer at most; the first one may be unreadable."""
    wanted = max(1, len(recording.expect["responses"]))
    data = recording.sent if len(recording.sent) >= len(recording.request) else recording.request
    found: list[AskedRequest] = []
    while len(found) < wanted and (request := read_request(data)):
        found.append(request)
        data = request.rest
    return found


def read_request(data: bytes) -> AskedRequest | None:
    """Read a request head with its body, leniently; None if this is no request."""
    match = re.match(rb"\s*([!-~]+) ([!-~\x80-\xff]+) (HTTP/[0-9.]+)(\r?\n)", data)
    if not match:
        return None
    newline = match[4]
    end = data.find(newline * 2, match.end() - len(newline))
    if end < 0:
        return None
    text = re.sub(r"\r?\n[ \t]+", " ", data[match.end() : max(end, match.end())].decode("latin-1"))  # folded
    lines = text.split(newline.decode()) if text else []
    headers = tuple((name, value.strip()) for name, _, value in (line.partition(":") for line in lines))
    rest = data[end + 2 * len(newline) :]
    lengths = [value for name, value in headers if name.lower() == "content-length"]
    length = int(lengths[0]) if len(lengths) == 1 else 0
    return AskedRequest(
        match[1].decode(), match[2].decode("latin-1"), match[3].decode(), headers, rest[:length], rest[length:]
    )


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


# ---------------------------------------------------------------------------------------------------------------------
# 3. Exchanges

STREAM_TYPES = ("application/vnd.docker.multiplexed-stream", "application/vnd.docker.raw-stream")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_VERSION = re.compile(r"[0-9]+(\.[0-9]+)*")
_STREAM = re.compile(
    r"(?:[a-z]+://[^/]*)?(?:/v(?P<version>[^/]+))?(?P<libpod>/libpod)?"
    r"/(?P<place>containers|exec)/(?P<name>.*)/(?P<what>[a-z]+)"
)
_STREAMS: dict[tuple[str, str, str], type[StreamRequest]] = {
    ("POST", "containers", "attach"): Attach,
    ("POST", "exec", "start"): ExecStart,
    ("GET", "containers", "logs"): Logs,
}

STAND_IN = "stand-in"
"""The container, or path, of a request that stands for one which our client cannot send."""


@dataclass(frozen=True)
class Exchange:
    """One request and its answer, ready to be replayed.

    `reason` says why the event only stands for what was recorded; empty if it is what was recorded. `end` is how the
    bytes end: `eof`, `rst`, `open`, or `cut` where the recorder left out what follows.
    """

    recording: Recording
    number: int
    reason: str
    event: Request | StreamRequest
    segments: tuple[bytes, ...]
    end: str
    answer: Answer
    response: Json

    @property
    def name(self) -> str:
        """A short name for messages."""
        return f"{self.recording.name}#{self.number}"

    @property
    def way(self) -> str:
        """The event's class, with `*` if it is a stand-in."""
        return type(self.event).__name__ + "*" * bool(self.reason)

    @cached_property
    def received(self) -> bytes:
        """The bytes of the answer."""
        return b"".join(self.segments)

    @property
    def head_size(self) -> int:
        """The length of the answer's head."""
        return self.answer.body_start - self.answer.start


def exchanges(recording: Recording) -> list[Exchange]:
    """Turn a recording into the exchanges that the core is asked to do, one for each answer whose head is whole."""
    requests = read_requests(recording)
    ended = recording.end == "eof" and not recording.cut
    answers = read_answers(recording.received, [request.method for request in requests], ended)
    found = []
    for number, answer in enumerate(answers):
        asked = requests[number] if number < len(requests) else None
        event, reason = plan(recording, asked)
        last = number == len(answers) - 1
        found.append(
            Exchange(
                recording=recording,
                number=number,
                reason=reason,
                event=event,
                segments=tuple(slices(recording.segments, answer.start, answer.stop)),
                end=("cut" if recording.cut else recording.end) if last else "open",
                answer=answer,
                response=recording.expect["responses"][number],
            )
        )
    return found


def slices(segments: Iterable[bytes], start: int, stop: int) -> Iterator[bytes]:
    """The segments between two places of what they hold together."""
    at = 0
    for segment in segments:
        if piece := segment[max(0, start - at) : max(0, stop - at)]:
            yield piece
        at += len(segment)


def shortened(exchange: Exchange, size: int, end: str) -> Exchange:
    """The exchange of a stream request, as if its answer had ended so after `size` bytes, its head among them."""
    data = exchange.received[:size]
    return replace(exchange, segments=(data,), end=end, answer=read_answers(data, [], end == "eof")[0])


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
    match = _STREAM.fullmatch(path)
    kind = _STREAMS.get((asked.method.upper(), match["place"], match["what"])) if match else None
    if not match or not kind:
        return None
    reasons = []
    name, version = unquote(match["name"]), match["version"]
    if match["libpod"]:
        reasons.append("another path")
    if not _NAME.fullmatch(name):
        reasons.append("a name that the client refuses")
        name = STAND_IN
    if path.startswith("http:"):
        reasons.append("an absolute target")
    if version and not _VERSION.fullmatch(version):
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
    if segments[0][:1] == "v" and _VERSION.fullmatch(segments[0][1:]):
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


# ---------------------------------------------------------------------------------------------------------------------
# 4. Verdict

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Outcome:
    """What came out of an exchange, in a shape that does not depend on how the bytes were cut.

    `heads` are the events that carry a status: their class, status and header fields. `end` is `over` (the last event
    came), `more` (more bytes are needed) or `error` (a `RemoteProtocolError`).
    """

    heads: tuple[tuple[str, int, Headers], ...] = ()
    framing: Framing | None = None
    body: bytes = b""
    message: str | None = None
    runs: tuple[Run, ...] = ()
    end: str = "more"


def expected(exchange: Exchange, tty: bool | None, quirks: Collection[Quirk] = ()) -> Outcome:
    """What must come out, by the recorder's head and our second opinion on the body.

    Args:
        exchange: what is replayed.
        tty: what the request says about the TTY.
        quirks: what is read otherwise.
    """
    answer, response = exchange.answer, exchange.response
    event, status = exchange.event, int(response["status_line"].split(" ")[1])
    headers = tuple((name.lower(), value) for name, value in response["headers"])
    closed = exchange.end == "eof"
    unfinished = "error" if closed else "more"
    if isinstance(event, Request):
        if status == 101:  # nobody asked for it
            return Outcome(end="error")
        head = ("ResponseHead", status, headers)
        if not answer.whole:
            return Outcome(heads=(head,), end=unfinished)
        whole = ("Response", status, headers)
        return Outcome((head, whole), body=answer.body, message=message_of(answer.body), end="over")
    if status >= 400:
        if not answer.whole:
            return Outcome(end=unfinished)
        refusal = ("Rejected", status, headers)
        return Outcome((refusal,), body=answer.body, message=message_of(answer.body), end="over")
    delimited = answer.mode in ("chunked", "content-length")
    if not opens_stream(event, answer):
        # A page with a length is read first, to say in the error what it is.
        reading = answer.mode == "content-length" and not answer.whole and not closed
        return Outcome(end="more" if reading else "error")
    if delimited and takes_stdin(event):
        return Outcome(end="error")
    multiplexed = answer.media_type == STREAM_TYPES[0]
    if multiplexed and tty:
        return Outcome(end="error")
    framing = Framing.MULTIPLEXED
    if not multiplexed:
        # Only the TTY tells. Where the request does not say it, it is said after the answer.
        known = tty if tty is not None else exchange.recording.tty
        framing = Framing.RAW if known else Framing.MULTIPLEXED
    accepted = ("Accepted", status, headers)
    over = answer.whole if delimited else closed
    body = answer.body
    said: tuple[Run, ...] = ()
    if isinstance(event, Logs):
        quirks = ()
    held, are_last = last_words(body, framing, quirks)
    if over and are_last:
        said = (("Systemerr", DETACHED),)
    if (over and are_last) or not (over or closed):
        body = body[: len(body) - held]
    if framing is Framing.RAW:
        runs: tuple[Run, ...] = (("RawOutput", body),) if body else ()
        return Outcome((accepted,), framing, runs=runs + said, end="over" if over else unfinished)
    frames = read_frames(body, quirks)
    end = "error" if frames.problem == "type" or (frames.problem and (over or closed)) else "over"
    if end == "over" and not over:
        end = unfinished
    return Outcome((accepted,), framing, runs=frames.runs + said, end=end)


def opens_stream(event: StreamRequest, answer: Answer) -> bool:
    """Whether an answer is a stream: for logs any but a page, for the others what engines label as one."""
    if isinstance(event, Logs):
        return answer.status == 200 and answer.media_type != "text/html"
    return answer.mode == "hijacked stream" or (answer.status == 200 and answer.media_type in STREAM_TYPES)


def takes_stdin(event: object) -> bool:
    """Whether stdin may follow this request once it is answered."""
    return isinstance(event, ExecStart) or (isinstance(event, Attach) and event.options.stdin)


def message_of(body: bytes) -> str:
    """The engine's own text, from its JSON or plain."""
    text = body.decode("utf-8", "replace").strip()
    try:
        found = json.loads(text)["message"]
    except (ValueError, KeyError, TypeError):
        return text
    return found if isinstance(found, str) else text


class Replay:
    """One exchange through `Connection(CLIENT)`, step by step."""

    def __init__(self, exchange: Exchange, tty: bool | None, quirks: Collection[Quirk] = ()) -> None:
        self._exchange = exchange
        self.connection = Connection(CLIENT, quirks=quirks)
        event = exchange.event
        self.connection.send(event if isinstance(event, Request) else attrs.evolve(event, tty=tty))
        self._heads: list[tuple[str, int, Headers]] = []
        self._framing: Framing | None = None
        self._body = b""
        self._message: str | None = None
        self._runs: list[Run] = []
        self._end = "more"

    def receive(self, data: bytes) -> None:
        """Give bytes, or the end, and take every event that there is."""
        self.connection.receive_data(data)
        if self._end == "error":
            return
        try:
            for event in self.connection.events():
                self._take(event)
        except RemoteProtocolError as exc:
            self._end = "error"
            try:
                self.connection.next_event()
            except RemoteProtocolError as again:
                if str(again) != str(exc):
                    raise AssertionError(f"the error changed from {exc} to {again}") from None
            else:
                raise AssertionError(f"the error did not stay: {exc}") from None

    def _take(self, event: object) -> None:
        if self._end == "over":
            raise AssertionError(f"{event!r} came after the last event")
        match event:
            case Stdout(data=data) | Stderr(data=data) | RawOutput(data=data) | Systemerr(data=data):
                if not data:
                    raise AssertionError(f"an event without bytes: {event!r}")
                self._runs.append((type(event).__name__, data))
            case Accepted():
                self._heads.append(("Accepted", event.status_code, event.headers))
                self._framing = event.framing
                if event.framing is None:
                    self._framing = Framing.RAW if self._exchange.recording.tty else Framing.MULTIPLEXED
                    self.connection.use_framing(self._framing)
            case ResponseHead():
                self._heads.append(("ResponseHead", event.status_code, event.headers))
            case Rejected() | Response():
                self._heads.append((type(event).__name__, event.status_code, event.headers))
                self._body, self._message = event.body, event.message
                self._end = "over"
            case OutputClosed():
                self._end = "over"
            case _:
                raise AssertionError(f"an event that no server sends: {event!r}")

    @property
    def accepted(self) -> bool:
        """Whether the stream is open, or was."""
        return bool(self._heads) and self._heads[0][0] == "Accepted"

    @property
    def delivered(self) -> int:
        """How many bytes of output came out."""
        return sum(len(data) for _, data in self._runs)

    def outcome(self) -> Outcome:
        """What came out so far."""
        return Outcome(tuple(self._heads), self._framing, self._body, self._message, join_runs(self._runs), self._end)


def replay(exchange: Exchange, segments: Iterable[bytes], tty: bool | None, quirks: Collection[Quirk] = ()) -> Outcome:
    """Replay the answer in these segments, then its end."""
    run = Replay(exchange, tty, quirks)
    for segment in segments:
        run.receive(segment)
    if exchange.end == "eof":
        run.receive(b"")
    return run.outcome()


def judge(
    exchange: Exchange,
    segments: Iterable[bytes] | None = None,
    tty: bool | Literal["recorded"] | None = "recorded",
    quirks: Collection[Quirk] = (),
) -> str:
    """Replay an exchange and compare.

    Args:
        exchange: what to replay.
        segments: how the bytes are cut; as recorded if None.
        tty: what the request says; by default what is known of the recording.
        quirks: what is read otherwise.

    Returns:
        The difference in words; empty if there is none.
    """
    said = exchange.recording.tty if tty == "recorded" else tty
    name = exchange.name if tty == "recorded" else f"{exchange.name}, tty={tty}"
    wanted = expected(exchange, said, quirks)
    try:
        found = replay(exchange, exchange.segments if segments is None else segments, said, quirks)
    except (LocalProtocolError, AssertionError) as exc:
        return f"{name}: {type(exc).__name__}: {exc}"
    return difference(name, found, wanted)


def difference(name: str, found: Outcome, wanted: Outcome) -> str:
    """Where two outcomes differ, in words; empty if they do not."""
    for attribute in ("heads", "framing", "message", "body", "runs", "end"):
        ours, theirs = getattr(found, attribute), getattr(wanted, attribute)
        if ours != theirs:
            return f"{name}: {attribute} {repr(ours)[:300]}, expected {repr(theirs)[:300]}"
    return ""


def judge_both_ways(exchange: Exchange) -> str:
    """Replay a whole recorded connection, what was sent included, in the order of the recording.

    Stdin that was sent after the answer must be taken as it is, a half-close must be `SEND_EOF`; what was sent before
    the answer, or without `stdin`, must be refused and change nothing. After each read everything that came must be
    delivered: nothing is held back.

    Returns:
        The difference in words; empty if there is none, or if this is no stream.
    """
    if isinstance(exchange.event, Request) or exchange.number or len(exchange.recording.expect["responses"]) > 1:
        return ""
    said = exchange.recording.tty
    run = Replay(exchange, said)
    received = b""
    may_send = takes_stdin(exchange.event)
    sent_request = sent_all = False
    for kind, payload in exchange.recording.events:
        if kind == "send" and isinstance(payload, bytes):
            if not sent_request:
                sent_request = payload == exchange.recording.request
                sent_all = sent_all or not sent_request
                continue
            if sent_all:
                continue  # the head went out in pieces: it is not told from stdin here
            if problem := _send(run, Stdin(payload), payload, run.accepted and may_send):
                return f"{exchange.name}: {problem}"
        elif kind == "shut_wr" and sent_request and not sent_all:
            if problem := _send(run, StdinClosed(), SEND_EOF, run.accepted and may_send):
                return f"{exchange.name}: {problem}"
            may_send = False
        elif kind == "recv" and isinstance(payload, bytes):
            run.receive(payload)
            received += payload
            if run.accepted:
                body = received[exchange.head_size :]
                body = read_chunks(body)[0] if exchange.answer.mode == "chunked" else body
                framing = expected(exchange, said).framing
                there = len(body) if framing is Framing.RAW else sum(len(data) for _, data in read_frames(body).runs)
                if run.delivered != there:
                    return f"{exchange.name}: {run.delivered} bytes delivered after a read, {there} had come"
        elif kind == "recv-cut":
            break
        elif kind == "eof":
            run.receive(b"")
    return difference(f"{exchange.name}, both ways", run.outcome(), expected(exchange, said))


def _send(run: Replay, event: Stdin | StdinClosed, wanted: object, allowed: bool) -> str:
    before = (run.connection.our_state, run.connection.their_state)
    try:
        found: object = run.connection.send(event)
    except LocalProtocolError as exc:
        if allowed:
            return f"{event!r} was refused: {exc}"
        return "" if (run.connection.our_state, run.connection.their_state) == before else f"{event!r} moved a state"
    if not allowed:
        return f"{event!r} was not refused"
    return "" if found == wanted else f"{event!r} became {found!r}"


# ---------------------------------------------------------------------------------------------------------------------
# 5. Server role

SERVER_DIFFERENCES = {
    "bytes above 127 in the target": "engines look for the container; we take ASCII only and say RemoteProtocolError",
    "a bad percent-escape": "engines say 400; we give a Request, whose target is as it came",
    "a Host with a slash": "engines say 400; the Host is the application's to judge, so the request is read",
    "a body that is announced and not there": "engines answer at once; we read a body before the event",
    "an exec start without a body": "dockerd from 23.0 on takes it for {}, and so do we; the others say 400",
    "a tail that is no number": "dockerd takes it for all, and so do we; Podman says 400",
}
"""Where `Connection(SERVER)` does something else than the engines did, on purpose."""


@dataclass(frozen=True)
class Served:
    """What `Connection(SERVER)` must make of a recorded request.

    `kind` is the event's class, `error` or `skipped`. Where there is a `body`, it is sent last, and nothing may come
    before it. `difference` is a key of `SERVER_DIFFERENCES`, or empty where the engine did the same.
    """

    kind: str
    difference: str = ""
    body: bytes = b""


def serve_expected(recording: Recording) -> Served:
    """What must become of the first request of a recording, by what it says and by what the engine answered."""
    if recording.request_cut:
        return Served("skipped")
    asked = read_request(recording.request)
    answers = read_answers(recording.received, methods_of(recording), recording.end == "eof")
    # Go's server writes these itself, before any handler: "400 Bad Request: missing required Host header".
    refused = bool(answers) and answers[0].status >= 400 and answers[0].body.startswith(b"%d " % answers[0].status)
    if asked is None:
        return Served("error" if refused else "Request")
    kind, difference = stream_kind(recording, asked, answers)
    if not asked.target.isascii():
        return Served("error", "bytes above 127 in the target")
    if re.search("%(?![0-9A-Fa-f]{2})", asked.target):
        return Served("Request", "a bad percent-escape")
    if any("/" in value for value in asked.values("host")):
        return Served(kind, "a Host with a slash")
    if refused and answers[0].status != 417:  # an unknown Expect is the application's to refuse
        return Served("error")
    if asked.values("transfer-encoding"):
        return Served(kind, "a body that is announced and not there", b"0\r\n\r\n")
    missing = int((asked.values("content-length") or ["0"])[0]) - len(asked.body)
    if missing:
        return Served(kind, "a body that is announced and not there", b"x" * missing)
    return Served(kind, difference)


_INVALID: dict[type[StreamRequest], bytes] = {
    Attach: rb"etach keys",
    ExecStart: rb"EOF",
    Logs: rb"at least one stream|unable to interpret time|invalid syntax",
}
"""What engines say to a request that is for the right endpoint, and not a valid one."""


def stream_kind(recording: Recording, asked: AskedRequest, answers: list[Answer]) -> tuple[str, str]:
    """What class a request is of, and where we differ; whether its options and body are valid is the engine's word."""
    stream = stream_of(recording, asked)
    match = _STREAM.fullmatch(asked.target.partition("?")[0])
    if not stream or not match or asked.method != asked.method.upper() or match["libpod"]:
        return "Request", ""
    if not _NAME.fullmatch(unquote(match["name"])) or (match["version"] and not _VERSION.fullmatch(match["version"])):
        return "Request", ""
    kind = type(stream[0])
    if answers and answers[0].status in (400, 500) and re.search(_INVALID[kind], answers[0].body):
        if kind is ExecStart and not asked.body:
            return kind.__name__, "an exec start without a body"
        if kind is Logs and b"'tail'" in answers[0].body:
            return kind.__name__, "a tail that is no number"
        return "Request", ""
    return kind.__name__, ""


def judge_server(recording: Recording, step: int | None = None) -> str:
    """Let `Connection(SERVER)` read the first request of a recording, `step` bytes at a time, and compare.

    Returns:
        The difference in words; empty if there is none.
    """
    wanted = serve_expected(recording)
    if wanted.kind == "skipped":
        return ""
    connection = Connection(SERVER)
    found: object = None
    data = recording.request
    size = step or len(data)
    chunks = [data[at : at + size] for at in range(0, len(data), size)]
    for chunk in [*chunks, *([wanted.body] if wanted.body else [])]:
        if wanted.body and chunk is wanted.body and found is not None:
            return f"{recording.name}: {found!r} came before its body"
        connection.receive_data(chunk)
        try:
            for event in connection.events():
                if found is not None:
                    return f"{recording.name}: {event!r} came behind {found!r}, before an answer"
                found = event
        except RemoteProtocolError as exc:
            found = exc
            break
    return _compare_request(recording, wanted, found) or _glued_stdin(recording, connection, found)


def _compare_request(recording: Recording, wanted: Served, found: object) -> str:
    if wanted.kind == "error":
        return "" if isinstance(found, RemoteProtocolError) else f"{recording.name}: {found!r}, expected an error"
    asked = read_request(recording.request)
    assert asked
    if type(found).__name__ != wanted.kind:
        return f"{recording.name}: {found!r}, expected {wanted.kind}"
    headers = tuple((name.lower(), value) for name, value in asked.headers)
    if isinstance(found, Request):
        ours = (found.method, found.target, found.body, found.headers)
        theirs = (asked.method, asked.target, asked.body, headers)
        return "" if ours == theirs else f"{recording.name}: {ours!r}, expected {theirs!r}"
    stream = stream_of(recording, asked)
    assert stream
    assert isinstance(found, StreamRequest)
    if found != stream[0] or found.headers != headers:
        return f"{recording.name}: {found!r}, expected {stream[0]!r} with {headers!r}"
    return ""


def _glued_stdin(recording: Recording, connection: Connection, found: object) -> str:
    """What was glued to the head is stdin after the answer, as it is for Podman, and nothing before it."""
    asked = read_request(recording.request)
    if not takes_stdin(found) or not asked or not asked.rest:
        return ""
    upgrade = bool(asked.values("upgrade"))
    connection.send(Accepted(Framing.MULTIPLEXED, 101 if upgrade else 200))
    got = b"".join(event.data for event in connection.events() if isinstance(event, Stdin))
    return "" if got == asked.rest else f"{recording.name}: stdin {got!r}, expected {asked.rest!r}"


def judge_written(exchange: Exchange) -> str | None:
    """Let `Connection(SERVER)` write the answer to a stream request with the recorded header fields, and compare.

    Returns:
        The difference in words; empty if there is none; None if there is nothing to write, or nothing to compare:
        logs, because we label them always, and reason phrases of the engine's own.
    """
    answer = exchange.answer
    wanted = expected(exchange, exchange.recording.tty)
    if isinstance(exchange.event, Request) or not wanted.heads or answer.status_line not in _STATUS_LINES:
        return None
    kind, status, headers = wanted.heads[0]
    if isinstance(exchange.event, Logs) and kind == "Accepted":
        return None
    client, server = Connection(CLIENT), Connection(SERVER)
    server.receive_data(client.send(exchange.event))
    server.next_event()
    if kind == "Accepted":
        data = server.send(Accepted(wanted.framing, status, headers))
    else:
        data = server.send(Rejected(status, headers, wanted.body))
    recorded = exchange.received[: len(data)] if kind == "Accepted" else exchange.received
    return "" if data == recorded else f"{exchange.name}: wrote {data!r}, recorded {recorded!r}"


_STATUS_LINES = (
    "HTTP/1.1 101 UPGRADED",
    "HTTP/1.1 200 OK",
    "HTTP/1.1 400 Bad Request",
    "HTTP/1.1 404 Not Found",
    "HTTP/1.1 409 Conflict",
    "HTTP/1.1 500 Internal Server Error",
)
