"""The flows: which calls an adapter makes, driven by arbitrary answers of an engine, without a socket."""

# Invariant. Whatever an engine answers to a call, a flow asks for another step, returns, or raises an
# ``AttachError``, or the error of the connection that it was given; nothing else. The path of each request that it
# asks for has no segment that came from an answer and could leave its place. It ends after a number of steps that is
# linear in the number of answers: what it repeats is bounded. After an error or a cancellation at any step, the flow
# that cleans up obeys the same rules.

from __future__ import annotations

import contextlib
import copy
import itertools
import json
from collections.abc import Callable, Generator, Iterator
from typing import Any

from attachproto import (
    Accepted,
    AttachError,
    AttachOptions,
    Framing,
    Logs,
    Reason,
    Rejected,
    RemoteProtocolError,
    Request,
    Response,
    ResponseHead,
)
from attachproto_adapters import OutputCut
from attachproto_adapters._flows import _steps
from attachproto_adapters._flows._attach import open_attach
from attachproto_adapters._flows._commands import Command
from attachproto_adapters._flows._container_calls import create_request
from attachproto_adapters._flows._containers import create_container, kill_container, remove_container
from attachproto_adapters._flows._ending import Ending
from attachproto_adapters._flows._flows import create_and_open_exec, create_exec, open_exec
from attachproto_adapters._flows._life import Life, LifeEvent
from attachproto_adapters._flows._logs import open_logs
from attachproto_adapters._flows._run import ContainerRun
from fuzz._invariants import check_linear, counted
from tests.adapters.scripted import container, docker_exec, podman_exec

Steps = Generator[_steps.Step, Any, Any]

NO_LOCK = contextlib.nullcontext()

# More than any flow repeats by itself: it pauses 0.05 s, at most 10 s long, with an inspect after each pause.
STEPS_MAX = 1000

# How many calls an answer may cost: a document is made, and read as JSON, and the next request is made.
PER_ANSWER = 400


class Cancelled(BaseException):
    """Stands for a framework's cancellation, and for KeyboardInterrupt."""


def check(data: bytes) -> None:
    """One input: the flow, the options, then the answers."""
    if len(data) < 2:
        return
    answers = Answers(data[2:])
    with counted(data) as steps:
        FLOWS[data[0] % len(FLOWS)](data[1], answers)
    check_linear(steps, len(data), answers.asked, per_piece=PER_ANSWER)


class Answers:
    """The rest of the input, read as the answers to one step after the other.

    Attributes:
        asked: how many steps there were.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        self.asked = 0

    @property
    def over(self) -> bool:
        """Whether all of the input was used."""
        return self._at >= len(self._data)

    def number(self) -> int:
        """The next byte; 0 at the end."""
        self._at += 1
        return self._data[self._at - 1] if self._at <= len(self._data) else 0

    def response(self, lowest: int = 200) -> Any:
        """A whole answer: a document that engines send with some values replaced, or arbitrary bytes."""
        kind = self.number()
        status = STATUSES[self.number() % len(STATUSES)]
        body = json.dumps(self._document(kind)).encode() if kind < 0xC0 else self._bytes()
        headers = tuple(HEADERS[self.number() % len(HEADERS)] for _ in range(self.number() % 3))
        if lowest >= 400:
            return Rejected(max(status, 400), headers, body)
        return Response(status, headers, body)

    def _bytes(self) -> bytes:
        size = self.number()
        found = self._data[self._at : self._at + size]
        self._at += size
        return found

    def _document(self, kind: int) -> Any:
        document: Any = json.loads(DOCUMENTS[kind % len(DOCUMENTS)])
        for _ in range(self.number() % 4):
            place, value = self.number(), copy.deepcopy(VALUES[self.number() % len(VALUES)])
            parents = [parent for parent in _containers_of(document) if parent]
            if not parents:
                return value
            parent = parents[place % len(parents)]
            keys: list[Any] = list(parent) if isinstance(parent, dict) else list(range(len(parent)))
            parent[keys[place // 8 % len(keys)]] = value
        return document

    def to(self, step: _steps.Step) -> Any:
        """The result of a step, or an error of the connection, which is raised into the flow."""
        self.asked += 1
        choice = self.number()
        if choice == 0xFF:
            return ERRORS[self.number() % len(ERRORS)]()
        match step:
            case _steps.Call(request):
                _check_path(request)
                return self.response()
            case _steps.CallDeferred(request):
                _check_path(request)
                return (None, ResponseHead(200), ResponseHead(204), self.response())[choice % 4]
            case _steps.AwaitDeferred(seconds):
                if seconds is not None and choice % 3 == 0:
                    return None
                return _steps.Broken(ConnectionResetError()) if choice % 3 == 1 else self.response()
            case _steps.Stream(request):
                _check_path(request.to_request())
                framing = (Framing.MULTIPLEXED, Framing.RAW, None)[choice // 2 % 3]
                return self.response(400) if choice % 2 else Accepted(framing)
            case _steps.TryHalfClose():
                return bool(choice % 2)
            case _:
                return None


def _containers_of(value: Any) -> Iterator[Any]:
    if isinstance(value, dict | list):
        yield value
        for each in value.values() if isinstance(value, dict) else value:
            yield from _containers_of(each)


def _check_path(request: Request) -> None:
    target, _, _ = request.target.partition("?")
    assert target.count("/") == len(request.path) + (request.api_version is not None), target
    assert not {"", ".", ".."}.intersection(request.path), target
    assert target.isascii()
    assert target.isprintable()


def _drive(flow: Steps, answers: Answers) -> Any:
    """Run a flow to its end. Its result; ``None`` if it raised a typed error, or the answers are over."""
    given: Any = None
    try:
        for _ in itertools.repeat(None, STEPS_MAX):
            if isinstance(given, BaseException):
                error, given = given, None
                step = flow.throw(error)
            else:
                step = flow.send(given)
            if answers.over:
                flow.close()
                return None
            given = answers.to(step)
    except StopIteration as stop:
        return stop.value
    except (AttachError, OSError, Cancelled):
        return None
    raise AssertionError(f"the flow did not end within {STEPS_MAX} steps")


def _attach(options: int, answers: Answers) -> None:
    flow = open_attach(
        "web",
        AttachOptions(stream=not options & 1, stdin=bool(options & 2), logs=bool(options & 4), stdout=not options & 8),
        tty=(None, None, False, True)[options >> 4 & 3],
        start=options & 65 == 64,  # never without a stream, which is refused
        wait=bool(options & 128),
        api_version="1.41" if options & 8 else None,
        console_size=(24, 80) if options & 1 else None,
    )
    _end(_drive(flow, answers), options, answers)


def _end(opened: Any, options: int, answers: Answers) -> None:
    """The end of an attachment: the checks that follow the output, then its exit code."""
    if not isinstance(opened, _steps.Opened):
        return
    life = Life(NO_LOCK)
    ending = Ending(opened, lambda: (b"out", b"err"), life)
    if options & 1:
        life.move(LifeEvent.OUTPUT_CLOSED)
        _drive(ending.confirm(always=bool(options & 2)), answers)
    for _ in range(2):
        _drive(ending.wait(), answers)
    if ending.exit_code is not None:
        assert type(ending.final_exit_code) is int
        assert ending.final_exit_code >= 0


def _exec(options: int, answers: Answers) -> None:
    size = (24, 80) if options & 8 else None
    opened = _drive(open_exec("e1", tty=True if size else None, console_size=size, api_version=None), answers)
    _end(opened, options, answers)


def _create_exec(options: int, answers: Answers) -> None:
    version = "1.41" if options & 4 else None
    _drive(create_exec("web", ["true"], stdin=bool(options & 1), api_version=version), answers)
    flow = create_and_open_exec(
        "web", ["cat"], stdin=bool(options & 1), api_version=version, stdin_must_end=bool(options & 2)
    )
    _end(_drive(flow, answers), options, answers)


def _logs(options: int, answers: Answers) -> None:
    tty = (None, False, True)[options % 3]
    _end(_drive(open_logs(Logs("web", tty=tty, follow=bool(options & 8))), answers), options >> 4, answers)


def _container(options: int, answers: Answers) -> None:
    version = "1.41" if options & 4 else None
    _drive(create_container(create_request("busybox", ["true"], api_version=version)), answers)
    _drive(kill_container("web", "TERM", version), answers)
    _drive(remove_container("web", force=bool(options & 1), volumes=bool(options & 2), api_version=version), answers)


def _command(options: int, answers: Answers) -> None:
    command = Command(
        "web",
        ["cat"],
        token="ab12",
        kill=bool(options & 1),
        stdin=bool(options & 2),
        api_version="1.41" if options & 4 else None,
        tty=bool(options & 8),
        stdin_must_end=bool(options & 16),
        user="nobody" if options & 32 else None,
    )
    opened = _drive(command.start(), answers)
    if opened is not None:
        assert command.opened is not None
        if command.opened.marker is not None:
            command.opened.marker.feed(LINES[answers.number() % len(LINES)])
        _end(opened, options, answers)
    with contextlib.suppress(OutputCut):  # it has ended before the line of its shell
        command.has_ended(answers.number(), (b"ab12 failed\n" if options & 64 else b"", b""))
    _ = command.awaits_process, command.must_end
    ended = _drive(command.end(), answers)
    assert ended in (None, True, False)
    command.timed_out(1.0, (b"", b""), ended=bool(ended))


def _run(options: int, answers: Answers) -> None:
    tty = options & 9 == 8  # never with stdin, which is refused
    run = ContainerRun(
        "busybox",
        ["true"],
        token="ab12",
        stdin=bool(options & 1),
        name="web" if options & 2 else None,
        remove=not options & 4,
        console_size=(24, 80) if tty else None,
        config={"HostConfig": {"Memory": 2**29}} if options & 16 else None,
        api_version="1.41" if options & 32 else None,
        tty=tty,
    )
    _drive(run.create(), answers)
    if run._container is not None:
        _end(_drive(run.open(), answers), options >> 4, answers)
    for _ in range(2):
        _drive(run.clean_up(), answers)
        error = run.timed_out(1.0)
        assert run.name in str(error)
        again = run.may_try_again(ConnectionResetError())
        assert again in (True, False)
    assert run.settled in (True, False)
    assert run.name in run.left_behind(OSError("x"))


Flow = Callable[[int, Answers], None]
FLOWS: tuple[Flow, ...] = (_attach, _exec, _create_exec, _logs, _container, _command, _run)

STATUSES = (200, 201, 204, 304, 302, 400, 404, 409, 500, 501, 502, 504)
HEADERS = (
    ("libpod-api-version", "4.3.1"),
    ("libpod-api-version", "5.4.2"),
    ("libpod-api-version", "5" * 40),
    ("server", "nginx/1.22"),
    ("via", "1.1 proxy (squid/5.7)"),
    ("date", "Mon, 30 Nov 2026 12:00:00 GMT"),
    ("date", "Mon, 99 Nov 0000 99:99:99 GMT"),
    ("location", "/elsewhere"),
)
ERRORS: tuple[Callable[[], BaseException], ...] = (
    ConnectionResetError,
    lambda: RemoteProtocolError("cut", Reason.CUT_IN_HEAD),
    TimeoutError,
    Cancelled,
)
LINES = (
    b"ab12 7 (cat) S 0 7 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 1234 0\n",
    b"ab12 failed\n",
    b"ab12 \n",
    b"hello\n",
    b"ab12 7 (a) b) S",
)
_STATUSES = ("created", "running", "paused", "exited", "stopped", "dead", "removing", "restarting")
DOCUMENTS = tuple(
    json.dumps(document)
    for document in (
        *(container(status=status, exit_code=3 * (status == "exited"), pid=7) | {"Id": "c1"} for status in _STATUSES),
        container(tty=True, stdin_once=False),
        container(log_driver="syslog"),
        container(log_driver="none", open_stdin=False),
        container(status="created") | {"Id": "c1", "Config": {"Tty": False, "Labels": {"attachproto.run": "ab12"}}},
        docker_exec(),
        docker_exec(running=True) | {"Pid": 7, "ContainerID": "web"},
        docker_exec(exit_code=126) | {"Pid": 7, "ContainerID": "web"},
        podman_exec(running=True) | {"Pid": 7, "ContainerID": "web"},
        podman_exec(exit_code=0),
        {"Id": "e1"},
        {"Id": "e1", "Warnings": []},
        {"StatusCode": 0},
        {"StatusCode": 3, "Error": {"Message": "gone"}},
        {"Processes": [["7", "S"]], "Titles": ["HPID", "STATE"]},
        {"Processes": [["7", "Z"]], "Titles": ["HPID", "STATE"]},
        {"ApiVersion": "1.51", "MinAPIVersion": "1.24"},
        {"message": "No such image: busybox"},
        {"Actor": {"Attributes": {"execID": "e1", "exitCode": "0"}}},
        {"Config": {"Env": ["PATH=/bin", "a.b=c", 5]}},
        "",
    )
)
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 7, 2**80, 1.5, float("inf"), "", "..", "a/b", "web", "\ud800", "\0", "x" * 600, [], {},
    [None], [[]], {"Message": 5}, {"": ""}, "running", "exited", "created", "stopped", "paused", "1.24",
    "99.99", "1..2",    ["7"], [["7"]], [[7, 7]], {"Config": None}, "9" * 5000,
)  # fmt: skip


def seeds() -> Iterator[bytes]:
    """For each flow and several options: the answers of an engine, and such with a value replaced."""
    index = {text: number for number, text in enumerate(DOCUMENTS)}
    good = [bytes([0, number, 0, 0, 0]) for number in index.values()]
    for flow in range(len(FLOWS)):
        for options in (0, 1, 2, 3, 5, 9, 64, 65, 66, 128, 193, 24, 33):
            yield bytes([flow, options]) + b"".join(good[flow + options % 5 :] + good)
            yield bytes([flow, options]) + b"".join(each[:-1] + b"\x02\x01\x05" for each in good)
    for number in range(len(good)):
        for status in range(len(STATUSES)):
            yield bytes([number % 7, 1 + 64 * (status % 4)]) + bytes([2, number, status, 0, 0]) * 12
