"""A small parser of heads, chunks and frames that shares no code with the core: the second opinion on the recordings.

It cuts a connection into its requests and answers, and says which bytes belong to which stream. The audit compares it
with the recorder's own parse, so that two independent readings agree before the core is judged by them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from attachproto import Framing, Quirk
from tests.replay.recordings import Recording


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


def methods_of(recording: Recording) -> list[str]:
    """The methods of the requests on this connection, as far as they can be told apart."""
    return [request.method for request in read_requests(recording)]


def read_requests(recording: Recording) -> list[AskedRequest]:
    """Read the requests of a connection, one for each answer at most; the first one may be unreadable."""
    wanted = max(1, len(recording.expect["responses"]))
    data = recording.sent if len(recording.sent) >= len(recording.request) else recording.request
    found: list[AskedRequest] = []
    while len(found) < wanted and (request := read_request(data)):
        found.append(request)
        data = request.rest
    return found
