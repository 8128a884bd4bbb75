from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.examples.programs import Program, Target, program, until

DONE = {"exit_code": 0, "stdout": "", "stderr": "", "timed_out": False, "truncated": False}


@contextmanager
def runner(target: Target) -> Iterator[Program]:
    with program("agent_tools.py", *target.options, target.image) as running:
        yield running


def call(running: Program, command: str, **more: float) -> dict[str, Any]:
    running.send(json.dumps({"command": command, **more}))
    answer: dict[str, Any] = json.loads(running.line())
    return answer


def runs(running: Program, *processes: str) -> str:
    """The command lines of those processes that run. One that has ended may wait for its parent, and then has none."""
    return str(call(running, f"cat {' '.join(f'/proc/{each}/cmdline' for each in processes)}")["stdout"])


def test_calls_share_a_sandbox(target: Target) -> None:
    with runner(target) as running:
        folder = f"/tmp/{target.image}"
        assert call(running, f"mkdir {folder}; echo kept >{folder}/a") == DONE
        assert call(running, f"cat {folder}/a; rm -r {folder}; echo err >&2; exit 3") == DONE | {
            "exit_code": 3,
            "stdout": "kept\n",
            "stderr": "err\n",
        }
        assert len(target.containers()) == 1
        assert running.end() == (0, [], "")
    until(lambda: not target.containers(), "the sandbox is removed")


def test_a_deadline_ends_the_command(target: Target) -> None:
    with runner(target) as running:
        late = call(running, "sleep 1000 & echo $$ $!; sleep 1000", timeout=1)
        assert late == DONE | {"exit_code": None, "stdout": late["stdout"], "timed_out": True}
        shell, child = late["stdout"].split()
        assert runs(running, "self") != ""
        assert runs(running, shell, child) == ""
        assert call(running, "echo and it goes on")["stdout"] == "and it goes on\n"


def test_output_is_bounded(target: Target) -> None:
    with runner(target) as running:
        large = call(running, "echo $$ >&2; sleep 0.2; exec yes")
        assert large == DONE | {
            "exit_code": None,
            "stdout": ("y\n" * 16 * 1024)[: -len(large["stderr"])],
            "stderr": large["stderr"],
            "truncated": True,
        }
        assert runs(running, large["stderr"].strip()) == ""
        assert call(running, "echo and it goes on")["stdout"] == "and it goes on\n"


def test_calls_that_make_no_sense(target: Target) -> None:
    with runner(target) as running:
        for line in ("no JSON", "[]", "{}", '{"command": "true", "else": 1}', '{"command": 5}'):
            running.send(line)
            assert set(json.loads(running.line())) == {"error"}, line
        assert call(running, "true") == DONE


def test_ctrl_c_removes_the_sandbox(target: Target) -> None:
    with runner(target) as running:
        running.send(json.dumps({"command": "sleep 1000"}))
        until(lambda: target.execs(), "the command runs")
        assert running.end(signal.SIGINT) == (130, [], "")
        until(lambda: not target.containers(), "the sandbox is removed")


def test_a_runner_that_is_killed_leaves_no_sandbox(target: Target) -> None:
    with runner(target) as running:
        assert call(running, "true") == DONE
        running.end(signal.SIGKILL)
        until(lambda: not target.containers(), "the sandbox is removed")
