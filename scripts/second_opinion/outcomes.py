"""What must come out of an answer: the recorder's parse of its head, the second parser's of its body."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass, replace

from attachproto import Attach, ExecStart, Framing, Logs, Quirk, Request, StreamRequest
from scripts.second_opinion.parser import (
    DETACHED,
    Answer,
    Run,
    last_words,
    read_answers,
    read_frames,
    read_requests,
)
from scripts.second_opinion.requests import plan
from tests.replay.outcomes import Outcome, Row
from tests.replay.recordings import Json, Recording

STREAM_TYPES = ("application/vnd.docker.multiplexed-stream", "application/vnd.docker.raw-stream")
_END = {"over": (("OutputClosed",),), "error": (("RemoteProtocolError",),), "more": ()}


@dataclass(frozen=True)
class Planned:
    """One request and its answer, for which an expectation is written.

    `reason` says why the event only stands for what was recorded; empty if it is what was recorded. `end` is how the
    bytes of the answer end: `eof`, `rst`, `open`, or `cut` where the recorder left out what follows.
    """

    recording: Recording
    number: int
    event: Request | StreamRequest
    reason: str
    answer: Answer
    response: Json
    end: str

    @property
    def received(self) -> bytes:
        """The bytes of the answer."""
        return self.recording.received[self.answer.start : self.answer.stop]

    @property
    def head_size(self) -> int:
        """The length of the answer's head."""
        return self.answer.body_start - self.answer.start

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """The header fields of the answer, as the core gives them."""
        return tuple((name.lower(), value) for name, value in self.response["headers"])

    @property
    def status(self) -> int:
        """The status code of the answer."""
        return int(self.response["status_line"].split(" ")[1])

    def shortened(self, size: int, end: str) -> Planned:
        """The exchange of a stream request, as if its answer had ended so after `size` bytes, its head among them."""
        return replace(self, end=end, answer=read_answers(self.received[:size], [], end == "eof")[0])


def exchanges(recording: Recording) -> list[Planned]:
    """Turn a recording into the exchanges that the core is asked to do, one for each answer whose head is whole."""
    requests = read_requests(recording)
    ended = recording.end == "eof" and not recording.cut
    answers = read_answers(recording.received, [request.method for request in requests], ended)
    found = []
    for number, answer in enumerate(answers):
        event, reason = plan(recording, requests[number] if number < len(requests) else None)
        end = ("cut" if recording.cut else recording.end) if number == len(answers) - 1 else "open"
        response = recording.expect["responses"][number]
        found.append(Planned(recording, number, event, reason, answer, response, end))
    return found


def expected(exchange: Planned, tty: bool | None, quirks: Collection[Quirk] = ()) -> Outcome:
    """What must come out if the request says this about the TTY, with these quirks."""
    answer, event = exchange.answer, exchange.event
    head = (exchange.status, exchange.headers)
    closed = exchange.end == "eof"
    unfinished = "error" if closed else "more"
    if isinstance(event, Request):
        if exchange.status == 101:  # nobody asked for it
            return Outcome(_END["error"])
        begun: Row = ("ResponseHead", *head)
        if not answer.whole:
            return Outcome((begun, *_END[unfinished]))
        return Outcome((begun, ("Response", *head, message_of(answer.body), answer.body)))
    if exchange.status >= 400:
        if not answer.whole:
            return Outcome(_END[unfinished])
        return Outcome((("Rejected", *head, message_of(answer.body), answer.body),))
    delimited = answer.mode in ("chunked", "content-length")
    if not opens_stream(event, answer):
        # A page with a length is read first, to say in the error what it is.
        reading = answer.mode == "content-length" and not answer.whole and not closed
        return Outcome(_END["more" if reading else "error"])
    if delimited and takes_stdin(event):
        return Outcome(_END["error"])
    multiplexed = answer.media_type == STREAM_TYPES[0]
    if multiplexed and tty:
        return Outcome(_END["error"])
    # Without this label only the TTY tells. Where the request does not say it, it is said after the answer.
    known = tty if tty is not None else exchange.recording.tty
    framing = Framing.RAW if known and not multiplexed else Framing.MULTIPLEXED
    opening: tuple[Row, ...] = (("Accepted", *head, framing.name),)
    if not multiplexed and tty is None:
        opening = (("Accepted", *head, None), ("use_framing", framing.name))
    over = answer.whole if delimited else closed
    runs, end = _body(answer.body, framing, () if isinstance(event, Logs) else quirks, over, closed)
    return Outcome((*opening, *runs, *_END[end]))


def _body(
    body: bytes, framing: Framing, quirks: Collection[Quirk], over: bool, closed: bool
) -> tuple[tuple[Run, ...], str]:
    unfinished = "error" if closed else "more"
    said: tuple[Run, ...] = ()
    held, are_last = last_words(body, framing, quirks)
    if over and are_last:
        said = (("Systemerr", DETACHED),)
    if (over and are_last) or not (over or closed):
        body = body[: len(body) - held]
    if framing is Framing.RAW:
        runs: tuple[Run, ...] = (("RawOutput", body),) if body else ()
        return runs + said, "over" if over else unfinished
    frames = read_frames(body, quirks)
    end = "error" if frames.problem == "type" or (frames.problem and (over or closed)) else "over"
    if end == "over" and not over:
        end = unfinished
    return frames.runs + said, end


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
