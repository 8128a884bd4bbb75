"""Every fault of the embedded engine on every call around a stream: the result is right, or a typed error in time.

test_output_cut.py has the faults that end the output while the process goes on. The steps are those of all three
adapters, so the blocking one is enough here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from attachproto import AttachOptions
from attachproto_adapters import AttachError, ExecResult, blocking
from attachproto_engine import (
    Chunked,
    Counted,
    Cut,
    Engine,
    Fault,
    Garbage,
    HeldHead,
    LongFrame,
    NoAnswer,
    NoUpgrade,
    ProxyAnswer,
    Reset,
    SetHeader,
    Split,
    UnknownStream,
)
from attachproto_engine._faults import Call
from tests.engine.client import call, shell, start, wait

# Only NoAnswer, and a head that is held back until stdin is sent, wait for it.
TIMEOUT = 1.5

JSON = (("Content-Type", "application/json"),)
FAULTS: list[list[Fault]] = [
    [Cut(0)],
    [Cut(30)],
    [Cut(150)],
    [Cut(260)],
    [Reset(0)],
    [Reset(30)],
    [Reset(150)],
    [Reset(260)],
    [ProxyAnswer(403)],
    [ProxyAnswer(502)],
    [ProxyAnswer(302, b"", (("Location", "http://elsewhere/"),))],
    [ProxyAnswer(500, b'{"message":"boom"}', JSON)],
    [ProxyAnswer(200, b"<html>hello</html>")],
    [ProxyAnswer(200, b"{}", JSON)],
    [Chunked()],
    [Counted()],
    [NoUpgrade()],
    [NoUpgrade(), SetHeader("Connection", "close")],
    [HeldHead()],
    [LongFrame()],
    [UnknownStream()],
    [Garbage()],
    [Split(at=(1, 50, 130, 200, 260))],
    [SetHeader("Server", "nginx/1.22.1")],
    [SetHeader("Content-Type", "text/html")],
    [SetHeader("Content-Type", None)],
    [NoAnswer()],
]

Operation = Callable[[Engine, bytes | None], ExecResult]


def run_exec(engine: Engine, stdin: bytes | None) -> ExecResult:
    script = "cat; echo out; echo err >&2; exit 3" if stdin else "echo out; echo err >&2; exit 3"
    return blocking.run_exec("web", ["sh", "-c", script], input=stdin, host=engine.host, timeout=TIMEOUT)


def run_container(engine: Engine, stdin: bytes | None) -> ExecResult:
    script = "cat; echo out; echo err >&2; exit 3" if stdin else "echo out; echo err >&2; exit 3"
    shell(engine, "job", script, OpenStdin=bool(stdin), StdinOnce=bool(stdin))
    options = AttachOptions(stdin=bool(stdin))
    with blocking.attach("job", options, host=engine.host, start=True, timeout=TIMEOUT) as attachment:
        output = attachment.communicate(stdin)
        return ExecResult(attachment.wait(), *output)


def read_logs(engine: Engine, stdin: bytes | None) -> ExecResult:
    with blocking.logs("done", host=engine.host, timeout=TIMEOUT) as attachment:
        return ExecResult(3, *attachment.communicate())


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    with Engine(emulate=request.param) as running:
        shell(running, "web", "sleep 100")
        start(running, "web")
        shell(running, "done", "echo out; echo err >&2; exit 3")
        start(running, "done")
        assert wait(running, "done") == 3
        yield running


EXEC: list[Call] = ["exec_create", "exec", "exec_inspect"]
CONTAINER: list[Call] = ["inspect", "attach", "start", "wait"]
ROWS: list[tuple[str, Operation, str, bytes | None, Call]] = [
    *(("dockerd", run_exec, "web", stdin, on) for stdin in (None, b"in\n") for on in EXEC),
    *(("dockerd", run_container, "job", stdin, on) for stdin in (None, b"in\n") for on in CONTAINER),
    ("dockerd", read_logs, "done", None, "inspect"),
    ("dockerd", read_logs, "done", None, "logs"),
    ("podman", run_container, "job", b"in\n", "wait"),
]


@pytest.mark.parametrize(("engine", "operation", "name", "stdin", "on"), ROWS, indirect=["engine"])
def test_right_or_a_typed_error(engine: Engine, operation: Operation, name: str, stdin: bytes | None, on: Call) -> None:
    expected = ExecResult(3, (stdin or b"") + b"out\n", b"err\n")
    right = 0
    for faults in FAULTS:
        engine.fault(name, *faults, on=on)
        try:
            result = operation(engine, stdin)
        except TimeoutError:
            assert faults in ([NoAnswer()], [HeldHead()], [Counted()])
        except (AttachError, OSError):
            pass
        else:
            assert result == expected, faults
            right += 1
        if operation is run_container:
            call(engine, "DELETE", "/containers/job?force=1")
    assert right >= 3  # not everything is refused
