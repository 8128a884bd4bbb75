"""The programs of the four pages about embedding, against the embedded engine and its faults."""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from attachproto import CLIENT, Connection, ExecStart, Stdout
from attachproto_engine import (
    Chunked,
    Cut,
    EndEarly,
    Engine,
    Fault,
    HeldHead,
    IdleCut,
    LongFrame,
    NoAnswer,
    NoUpgrade,
    ProxyAnswer,
    Reset,
    Split,
    UnknownStream,
)
from tests.adapters import scripted
from tests.adapters.scripted import accept, answers, close, docker_exec, peek, say, then
from tests.docs.pages import blocks
from tests.engine.client import call, exchange

HOW_TO = Path(__file__).parents[2] / "docs" / "how-to"
PAGES = ["embed-selectors", "embed-asyncio-protocol", "embed-twisted", "embed-gevent"]
BOUND = 20.0

Process = subprocess.Popen[str]
Found = dict[str, Any]
Run = Callable[..., Found]


def program(page: str) -> str:
    """The blocks of a page, without those that run it."""
    found = [block.text for block in blocks((HOW_TO / f"{page}.md").read_text()) if block.language == "python"]
    whole = found.index(next(text for text in found if 'environ["DOCKER_HOST"]' in text))
    return "\n\n".join(found[:whole])


@pytest.fixture(scope="module")
def engines() -> Iterator[dict[str, Engine]]:
    with Engine() as unix, Engine("tcp://127.0.0.1:0") as tcp:
        yield {"unix": unix, "tcp": tcp}


@pytest.fixture(scope="module", params=PAGES)
def process(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    file = tmp_path_factory.mktemp("embedding") / f"{request.param}.py"
    file.write_text(program(request.param))
    command = [sys.executable, "-X", "dev", "-W", "error", str(Path(__file__).with_name("embedding_process.py"))]
    with subprocess.Popen(
        [*command, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as child:
        yield child
        child.kill()


def ask(process: Process, host: str, **case: Any) -> Found:
    """Let a process work on a case. Nothing may be left open, and nothing may be printed: no warning, no traceback."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps({"host": host, "timeout": BOUND, **case}) + "\n")
    process.stdin.flush()
    line = process.stdout.readline()
    if not line.startswith("{"):
        process.stdin.close()  # this ends it
        pytest.fail(line + process.stdout.read())
    found: Found = json.loads(line)
    assert found["descriptors"] == 0
    return found


@pytest.fixture
def run(process: Process, engines: dict[str, Engine]) -> Run:
    """Runs one case in a container of its own."""

    def run(*faults: Fault, over: str = "unix", create: bool = True, **case: Any) -> Found:
        engine = engines[over]
        name = f"c{random.getrandbits(40)}"
        body = {"Image": "any", "Cmd": case.pop("main", ["sleep", "600"]), "OpenStdin": True, "StdinOnce": True}
        if create:
            assert call(engine, "POST", f"/containers/create?name={name}", body).status == 201
            if case.get("call") != "attach":
                assert call(engine, "POST", f"/containers/{name}/start").status == 204
        engine.fault(name, *faults, on="exec")
        found = ask(process, engine.host, container=name, **case)
        if create:
            assert call(engine, "DELETE", f"/containers/{name}?force=1").status == 204
        return found

    return run


both = pytest.mark.parametrize("over", ["unix", "tcp"])


@pytest.fixture(scope="module")
def head(engines: dict[str, Engine]) -> int:
    """The length of the head with which the engine accepts an exec."""
    engine = engines["unix"]
    assert call(engine, "POST", "/containers/create?name=head", {"Image": "any", "Cmd": ["sleep", "600"]}).status == 201
    assert call(engine, "POST", "/containers/head/start").status == 204
    exec_id = call(engine, "POST", "/containers/head/exec", {"Cmd": ["true"]}).json["Id"]
    answer = exchange(engine, Connection(CLIENT).send(ExecStart(exec_id, tty=False)))
    return answer.index(b"\r\n\r\n") + 4


def shell(script: str) -> list[str]:
    return ["sh", "-c", script]


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def sent(size: int) -> bytes:
    """What the process sends as stdin."""
    source, data = random.Random(size), bytearray()
    while len(data) < size:
        data += source.randbytes(min(65536, size - len(data)))
    return bytes(data)


SAY = shell("echo out; echo err >&2; exit 3")
SAID = {"Stdout": "out\n", "Stderr": "err\n"}


# ---- what goes well ----


@pytest.mark.parametrize(
    "faults",
    [(), (Split(every=1),), (Split(every=7),), (HeldHead(),), (NoUpgrade(),), (Chunked(),)],
    ids=["whole", "byte by byte", "in sevens", "output glued to the 101", "200 in place of 101", "chunked"],
)
def test_output_and_exit_code(run: Run, faults: tuple[Fault, ...]) -> None:
    found = run(*faults, command=SAY)
    assert (found["code"], found["start"]) == (3, SAID)
    assert found["events"][0] == "Accepted"


@pytest.mark.parametrize("faults", [(), (NoUpgrade(),), (Split(at=(500, 65521)),)], ids=["101", "200", "split"])
@both
def test_5_mb_there_and_back(run: Run, faults: tuple[Fault, ...], over: str) -> None:
    found = run(*faults, over=over, command=["cat"], stdin=5_000_000)
    assert (found["code"], found["taken"], found["sizes"]["Stdout"]) == (0, 5_000_000, 5_000_000)
    assert found["digests"]["Stdout"] == digest(sent(5_000_000))


@both
def test_the_end_of_stdin_is_passed_on(run: Run, over: str) -> None:
    found = run(over=over, command=shell("cat >/dev/null; echo out; echo err >&2; exit 3"), stdin=0)
    assert (found["code"], found["start"]) == (3, SAID)


def test_attach_then_start(run: Run) -> None:
    found = run(call="attach", main=shell("wc -c; echo err >&2"), stdin=300_000)
    assert (found["error"], found["start"]) == (None, {"Stdout": "300000\n", "Stderr": "err\n"})


def test_a_slow_consumer_slows_the_command_down(run: Run, tmp_path: Path) -> None:
    """While the consumer waits, the command must not come to its end: 2 MB do not fit into the kernel's buffers."""
    mark = str(tmp_path / "mark")
    found = run(command=shell(f"head -c 2000000 /dev/zero; touch {mark}"), hold=0.8, mark=mark)
    assert (found["code"], found["sizes"]["Stdout"]) == (0, 2_000_000)
    assert not found["held_until_mark"]


def test_a_command_that_does_not_read_slows_stdin_down(run: Run) -> None:
    found = run(command=shell("sleep 0.3; exit 3"), stdin=64_000_000)
    assert (found["error"], found["code"]) == (None, 3)
    assert found["taken"] < 2_000_000


@both
def test_a_command_that_exits_without_reading_its_stdin(run: Run, over: str) -> None:
    found = run(over=over, command=shell("head -c 1 >/dev/null; head -c 1000000 /dev/zero; exit 3"), stdin=8_000_000)
    assert (found["error"], found["code"], found["sizes"]["Stdout"]) == (None, 3, 1_000_000)


@both
def test_an_engine_that_closes_without_reading_stdin(process: Process, tmp_path: Path, over: str) -> None:
    """The program's write fails while output waits in the socket, because the consumer is busy. All of it must come."""
    outputs = [b"first", bytes(100_000)]
    engine = scripted.Engine(None if over == "tcp" else str(tmp_path / "socket"))
    engine.on("start", then(accept, peek, say(Stdout(outputs[0])), say(Stdout(outputs[1])), close))
    engine.on("inspect", answers(docker_exec(exit_code=3)))
    with contextlib.closing(engine):
        found = ask(process, engine.host, command=["cat"], stdin=8_000_000, hold=0.3)
    assert (found["error"], found["code"]) == (None, 3)
    assert found["digests"]["Stdout"] == digest(b"".join(outputs))


# ---- ends that are none ----


@pytest.mark.parametrize("stdin", [None, 0, 3_000_000], ids=["no stdin", "empty stdin", "3 MB of stdin"])
def test_a_cut_in_a_frame(run: Run, stdin: int | None) -> None:
    found = run(LongFrame(announced=100, data=b"cut"), command=SAY, stdin=stdin)
    assert (found["error"][0], found["reason"]) == ("RemoteProtocolError", "CUT_IN_FRAME")
    assert found["start"]["Stdout"] == "cut"


def test_a_cut_in_the_head(run: Run) -> None:
    found = run(Cut(20), command=SAY)
    assert (found["error"][0], found["reason"]) == ("RemoteProtocolError", "CUT_IN_HEAD")


def test_no_byte_of_an_answer(run: Run) -> None:
    found = run(Cut(0), command=SAY)
    assert (found["error"][0], found["reason"]) == ("RemoteProtocolError", "NOTHING_CAME")


def test_a_frame_of_an_unknown_type(run: Run) -> None:
    found = run(UnknownStream(), command=SAY)
    assert (found["error"][0], found["reason"]) == ("RemoteProtocolError", "UNKNOWN_STREAM_TYPE")


@pytest.mark.parametrize("fault", [EndEarly(1), IdleCut(0.2)], ids=["half-close", "idle timeout"])
def test_the_output_ends_and_the_process_goes_on(run: Run, fault: Fault) -> None:
    found = run(fault, command=shell("echo out; sleep 600"))
    assert found["error"][0] == "OutputCut"
    assert found["start"]["Stdout"] == "out\n"


@pytest.mark.parametrize(("offset", "came"), [(12, "out\n"), (10, "ou")], ids=["behind a frame", "in a frame"])
@pytest.mark.parametrize("stdin", [None, 0], ids=["no stdin", "empty stdin"])
@both
def test_a_reset(run: Run, head: int, stdin: int | None, offset: int, came: str, over: str) -> None:
    """What came before it is delivered. Then it is an error, also between two frames."""
    script = "cat >/dev/null; echo out; sleep 600"
    found = run(Reset(head + offset), over=over, command=shell(script), stdin=stdin)
    assert found["start"]["Stdout"] == came
    assert found["error"][0] in ("ConnectionResetError", "ConnectionLost"), found["text"]


@pytest.mark.parametrize(
    ("offset", "came", "error"),
    [(12, "out\n", "OutputCut"), (10, "ou", "RemoteProtocolError")],
    ids=["behind a frame", "in a frame"],
)
@both
def test_a_reset_while_stdin_is_sent(run: Run, head: int, offset: int, came: str, error: str, over: str) -> None:
    found = run(Reset(head + offset), over=over, command=shell("echo out; sleep 600"), stdin=10**8)
    assert found["start"]["Stdout"] == came
    assert found["error"][0] == error, found["text"]


# ---- refusals ----


def test_no_such_container(run: Run) -> None:
    found = run(create=False, command=SAY)
    assert found["error"][0] == "Refused"
    assert found["text"].startswith("(404, 'No such container: ")


def test_the_stream_is_refused(run: Run) -> None:
    answer = ProxyAnswer(403, b'{"message": "not for you"}', (("Content-Type", "application/json"),))
    found = run(answer, command=SAY, stdin=1_000_000)
    assert (found["error"][0], found["text"]) == ("Refused", "(403, 'not for you')")
    assert (found["taken"], found["events"]) == (0, [])


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (ProxyAnswer(200), "NOT_A_STREAM"),
        (ProxyAnswer(302, b"", (("Location", "https://elsewhere/"),)), "REDIRECTED"),
        (Chunked(), "STDIN_IMPOSSIBLE"),
    ],
    ids=["a page", "a redirect", "chunks and stdin"],
)
def test_an_answer_that_is_no_stream(run: Run, fault: Fault, reason: str) -> None:
    found = run(fault, command=SAY, stdin=10)
    assert (found["error"][0], found["reason"], found["taken"]) == ("RemoteProtocolError", reason, 0)


# ---- what the caller does ----


def test_a_time_limit(run: Run) -> None:
    found = run(NoAnswer(), command=SAY, timeout=0.3)
    assert found["error"][0] == "TimeoutError"


def test_a_time_limit_in_the_middle(run: Run) -> None:
    found = run(command=shell("echo out; sleep 600"), stdin=10**8, timeout=0.5)
    assert (found["error"][0], found["start"]["Stdout"]) == ("TimeoutError", "out\n")


@pytest.mark.parametrize("hold", [0, 0.1], ids=["fast consumer", "slow consumer"])
@both
def test_stdin_that_fails(run: Run, over: str, hold: float) -> None:
    """The command waits for its stdin, so nothing else would end this."""
    found = run(over=over, command=["cat"], stdin=200_000, stdin_fails=True, hold=hold)
    assert (found["error"][0], found["text"]) == ("LookupError", "the source has failed")
