"""The docker CLI against the engine: what it prints on each stream, and the codes with which it exits."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import pty
import random
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.peers.conftest import SIZED, TICKS, Engine

pytestmark = pytest.mark.peers

TIMEOUT = 30.0
MEGABYTES_5 = 5_000_000
DETACH = b"\x10\x11"  # ctrl-p ctrl-q
Names = Callable[[], str]


class Done(NamedTuple):
    status: int
    out: bytes
    err: bytes


class Cli:
    """The docker CLI with this engine for its host, and with no settings of the user's."""

    def __init__(self, program: str, engine: Engine, settings: Path) -> None:
        self.program = program
        self.engine = engine
        self.variables = {key: value for key, value in os.environ.items() if not key.startswith("DOCKER_")}
        self.variables |= {"DOCKER_HOST": engine.host, "DOCKER_CONFIG": str(settings), "TERM": "xterm"}

    def __call__(self, *arguments: str, stdin: bytes | None = None) -> Done:
        """Runs the CLI to its end; without stdin it gets an empty one."""
        done = subprocess.run(
            [self.program, *arguments], env=self.variables, input=stdin or b"", capture_output=True, timeout=TIMEOUT
        )
        return Done(done.returncode, done.stdout, done.stderr)

    @contextlib.contextmanager
    def begin(self, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        """The CLI while it runs, with a pipe on each stream."""
        pipe = subprocess.PIPE
        with subprocess.Popen(
            [self.program, *arguments], env=self.variables, stdin=pipe, stdout=pipe, stderr=pipe
        ) as child:
            try:
                yield child
            finally:
                child.kill()

    def container(self, name: str, *options: str) -> list[str]:
        """The arguments of `run` and `create` up to the image."""
        network = [] if self.engine.network is None else ["--network", self.engine.network]
        return ["--name", name, *network, *options, self.engine.image]

    def run(self, name: str, script: str, *options: str, stdin: bytes | None = None) -> Done:
        return self("run", *self.container(name, *options), "sh", "-c", script, stdin=stdin)

    def detached(self, name: str, script: str, *options: str) -> str:
        """Starts a container in the background."""
        done = self.run(name, script, "-d", *options)
        assert (done.status, done.err) == (0, b"")
        return done.out.decode().strip()


@pytest.fixture
def cli(docker_cli: str, engine: Engine, tmp_path: Path) -> Cli:
    return Cli(docker_cli, engine, tmp_path)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# -- run --------------------------------------------------------------------------------------------------------------


def test_run_keeps_streams_apart_and_gives_the_exit_code(cli: Cli, name: Names) -> None:
    assert cli.run(name(), "echo out; echo err >&2; exit 3") == (3, b"out\n", b"err\n")


def test_run_i_sends_stdin_and_its_end(cli: Cli, name: Names) -> None:
    script = "cat; echo after; echo apart >&2; exit 4"
    assert cli.run(name(), script, "-i", stdin=b"one\ntwo\n") == (4, b"one\ntwo\nafter\n", b"apart\n")


def test_run_i_with_an_empty_stdin(cli: Cli, name: Names) -> None:
    assert cli.run(name(), "cat; echo end", "-i", stdin=b"") == (0, b"end\n", b"")


def test_run_without_i_sends_nothing(cli: Cli, name: Names) -> None:
    assert cli.run(name(), "cat; echo end", stdin=b"not sent\n") == (0, b"end\n", b"")


def test_run_i_brings_5_mb_back(cli: Cli, name: Names) -> None:
    data = random.Random(1).randbytes(MEGABYTES_5)
    done = cli.run(name(), "cat; exit 9", "-i", stdin=data)
    assert (done.status, len(done.out), sha256(done.out), done.err) == (9, len(data), sha256(data), b"")


def test_run_i_delivers_5_mb_unchanged(cli: Cli, name: Names) -> None:
    data = random.Random(2).randbytes(MEGABYTES_5)
    done = cli.run(name(), "sha256sum", "-i", stdin=data)
    assert (done.status, done.out.split()[0].decode(), done.err) == (0, sha256(data), b"")


def test_run_brings_both_streams_whole(cli: Cli, name: Names) -> None:
    done = cli.run(name(), "seq 1 200000; seq 200001 400000 >&2; exit 1")
    numbers = [b"%d\n" % number for number in range(1, 400_001)]
    assert done.status == 1
    assert sha256(done.out) == sha256(b"".join(numbers[:200_000]))
    assert sha256(done.err) == sha256(b"".join(numbers[200_000:]))


def test_run_ends_though_nobody_reads_its_stdin(cli: Cli, name: Names) -> None:
    # As in `yes | head`, with a container in the place of head.
    done = cli.run(name(), "head -c 10; exit 3", "-i", stdin=b"0123456789" * 100_000)
    assert (done.status, done.out) == (3, b"0123456789")


def test_run_with_one_stream_attached(cli: Cli, name: Names) -> None:
    assert cli.run(name(), "echo out; echo err >&2; exit 2", "-a", "stderr") == (2, b"", b"err\n")


def test_run_with_variables_and_a_folder(cli: Cli, name: Names) -> None:
    done = cli.run(name(), 'echo "$WHO in $PWD"', "-e", "WHO=a b=c", "-w", "/tmp")
    assert done == (0, b"a b=c in /tmp\n", b"")


def test_run_with_an_entrypoint(cli: Cli, name: Names) -> None:
    arguments = cli.container(name(), "--entrypoint", "echo")
    assert cli("run", *arguments, "one", "two  three") == (0, b"one two  three\n", b"")


def test_run_rm_leaves_nothing(cli: Cli, name: Names, engine: Engine) -> None:
    container = name()
    assert cli.run(container, "echo out; exit 5", "--rm") == (5, b"out\n", b"")
    assert engine.inspect(container) == {}


def test_run_without_rm_leaves_the_container(cli: Cli, name: Names, engine: Engine) -> None:
    container = name()
    assert cli.run(container, "exit 5").status == 5
    assert engine.state(container) == ("exited", 5)


def test_run_d_prints_the_id(cli: Cli, name: Names, engine: Engine) -> None:
    container = name()
    identity = cli.detached(container, "sleep 600")
    assert re.fullmatch("[0-9a-f]{64}", identity)
    assert engine.inspect(container)["Id"] == identity
    assert engine.state(identity) == ("running", 0)
    assert engine.state(identity[:12]) == ("running", 0)


def test_stdin_ends_when_the_cli_is_killed(cli: Cli, name: Names, engine: Engine) -> None:
    container = name()
    script = "echo ready; cat; exit 9"
    with cli.begin("run", *cli.container(container, "-i"), "sh", "-c", script) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        child.kill()
    assert cli("wait", container) == (0, b"9\n", b"")
    assert engine.state(container) == ("exited", 9)


def test_run_forwards_a_signal(cli: Cli, name: Names) -> None:
    with cli.begin("run", *cli.container(name()), "sh", "-c", TICKS) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"tick\n"
        child.send_signal(signal.SIGTERM)
        out, err = child.communicate(timeout=TIMEOUT)
    assert (child.returncode, out.splitlines()[-1], err) == (7, b"asked", b"")


@pytest.mark.parametrize("version", ["1.41", "1.42", "1.44", "1.47", "1.51"])
def test_every_version_of_the_api(cli: Cli, name: Names, version: str) -> None:
    if [int(part) for part in version.split(".")] > [int(part) for part in cli.engine.api_version.split(".")]:
        pytest.skip(f"this engine speaks no {version}")
    cli.variables["DOCKER_API_VERSION"] = version
    container = name()
    assert cli.run(container, "cat; echo err >&2; exit 3", "-i", stdin=b"in\n") == (3, b"in\n", b"err\n")
    assert cli("logs", container) == (0, b"in\n", b"err\n")
    running = name()
    cli.detached(running, "sleep 600")
    assert cli("exec", "-i", running, "sh", "-c", "cat; exit 4", stdin=b"in\n") == (4, b"in\n", b"")
    assert cli("version", "--format", "{{.Client.APIVersion}}").out == f"{version}\n".encode()


# -- the exit codes that dockerd and the CLI define -------------------------------------------------------------------


def test_125_when_the_engine_refuses(cli: Cli, name: Names) -> None:
    done = cli("run", "--name", "not a name", cli.engine.image, "true")
    assert (done.status, done.out) == (125, b"")
    assert b"Invalid container name (not a name), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed" in done.err


def test_125_when_the_name_is_taken(cli: Cli, name: Names) -> None:
    container = name()
    identity = cli.detached(container, "sleep 600")
    done = cli.run(container, "true")
    assert (done.status, done.out) == (125, b"")
    assert f'The container name "/{container}" is already in use by container "{identity}"'.encode() in done.err


def test_126_when_the_command_cannot_be_run(cli: Cli, name: Names) -> None:
    container = name()
    done = cli("run", *cli.container(container), "/proc/version")
    assert (done.status, done.out) == (126, b"")
    assert b"permission denied" in done.err


def test_127_when_there_is_no_such_command(cli: Cli, name: Names, engine: Engine) -> None:
    container = name()
    done = cli("run", *cli.container(container), "no-such-program")
    assert (done.status, done.out) == (127, b"")
    assert b'exec: "no-such-program": executable file not found in $PATH' in done.err
    assert engine.state(container) == ("created", 127)


def test_a_command_of_the_shell_that_is_missing(cli: Cli, name: Names) -> None:
    done = cli.run(name(), "no-such-program")
    assert (done.status, done.out) == (127, b"")
    assert b"not found" in done.err


@pytest.mark.parametrize("arguments", [("start", "-a"), ("attach",), ("exec", "{}", "true"), ("logs",), ("wait",)])
def test_1_when_there_is_no_such_container(cli: Cli, arguments: tuple[str, ...]) -> None:
    if "{}" in arguments:
        done = cli(*(argument.format("peers-missing") for argument in arguments))
    else:
        done = cli(*arguments, "peers-missing")
    assert (done.status, done.out) == (1, b"")
    assert b"No such container: peers-missing" in done.err


# -- create, start, attach --------------------------------------------------------------------------------------------


def test_create_then_start_attached(cli: Cli, name: Names) -> None:
    container = name()
    created = cli("create", *cli.container(container, "-i"), "sh", "-c", "cat; echo err >&2; exit 8")
    assert (created.status, len(created.out), created.err) == (0, 65, b"")
    assert cli("start", "-a", "-i", container, stdin=b"in\n") == (8, b"in\n", b"err\n")


def test_a_container_starts_again(cli: Cli, name: Names) -> None:
    container = name()
    assert cli.run(container, "cat; exit 2", "-i", stdin=b"first\n") == (2, b"first\n", b"")
    assert cli("start", "-a", "-i", container, stdin=b"second\n") == (2, b"second\n", b"")
    assert cli("logs", container) == (0, b"first\nsecond\n", b"")


def test_attach_to_a_running_container(cli: Cli, name: Names) -> None:
    container = name()
    cli("create", *cli.container(container, "-i"), "sh", "-c", 'read line; echo "<$line>"; cat; echo err >&2; exit 5')
    assert cli("start", container) == (0, f"{container}\n".encode(), b"")
    assert cli("attach", container, stdin=b"a line\nthe rest\n") == (5, b"<a line>\nthe rest\n", b"err\n")


def test_attach_without_stdin_sees_the_end(cli: Cli, name: Names) -> None:
    container = name()
    cli.detached(container, TICKS)
    with cli.begin("attach", "--no-stdin", container) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"tick\n"
        assert cli("kill", "-s", "USR1", container) == (0, f"{container}\n".encode(), b"")
        out, err = child.communicate(timeout=TIMEOUT)
    assert (child.returncode, out.splitlines()[-1], err) == (6, b"told", b"apart\n")


def test_two_attached_clients_see_the_same(cli: Cli, name: Names) -> None:
    container = name()
    cli.detached(container, TICKS)
    with (
        cli.begin("attach", "--no-stdin", container) as one,
        cli.begin("attach", "--no-stdin", "--sig-proxy=false", container) as two,
    ):
        for child in (one, two):
            assert child.stdout is not None
            assert child.stdout.readline() == b"tick\n"
        one.send_signal(signal.SIGTERM)  # which it forwards to the container
        ends = [child.communicate(timeout=TIMEOUT)[0].splitlines()[-1] for child in (one, two)]
    assert (ends, one.returncode, two.returncode) == ([b"asked", b"asked"], 7, 7)


def test_attach_is_refused_when_the_container_has_ended(cli: Cli, name: Names) -> None:
    container = name()
    cli.run(container, "true")
    done = cli("attach", container)
    assert (done.status, done.out) == (1, b"")
    assert b"cannot attach to a stopped container" in done.err


# -- exec -------------------------------------------------------------------------------------------------------------


def test_exec_i_sends_stdin_and_its_end(cli: Cli, name: Names) -> None:
    container = name()
    cli.detached(container, "sleep 600")
    script = "cat; echo after; echo apart >&2; exit 4"
    done = cli("exec", "-i", container, "sh", "-c", script, stdin=b"one\ntwo\n")
    assert done == (4, b"one\ntwo\nafter\n", b"apart\n")


def test_exec_i_brings_5_mb_back(cli: Cli, name: Names) -> None:
    container = name()
    cli.detached(container, "sleep 600")
    data = random.Random(3).randbytes(MEGABYTES_5)
    done = cli("exec", "-i", container, "sh", "-c", "cat; exit 9", stdin=data)
    assert (done.status, len(done.out), sha256(done.out), done.err) == (9, len(data), sha256(data), b"")


def test_exec_without_i(cli: Cli, name: Names) -> None:
    container = name()
    cli.detached(container, "sleep 600")
    options = ["-e", "WHO=me", "-w", "/tmp"]
    done = cli("exec", *options, container, "sh", "-c", 'cat; echo "$WHO in $PWD"; exit 2', stdin=b"not sent\n")
    assert done == (2, b"me in /tmp\n", b"")


def test_exec_d_returns_at_once(cli: Cli, name: Names) -> None:
    container = name()
    cli.detached(container, TICKS)
    assert cli("exec", "-d", container, "sh", "-c", "sleep 600") == (0, b"", b"")


def test_exec_of_a_missing_command(cli: Cli, name: Names) -> None:
    container = name()
    cli.detached(container, "sleep 600")
    done = cli("exec", container, "no-such-program")
    assert done.status in (126, 127)  # 127 since API 1.46
    assert b'exec: "no-such-program": executable file not found in $PATH' in done.out + done.err


def test_exec_is_refused_when_the_container_has_ended(cli: Cli, name: Names) -> None:
    container = name()
    cli.run(container, "true")
    done = cli("exec", container, "true")
    assert (done.status, done.out) == (1, b"")
    assert b"is not running" in done.err


# -- logs, wait, kill, stop, rm, ps, inspect, version -----------------------------------------------------------------


def test_pause_and_unpause(cli: Cli, name: Names, engine: Engine) -> None:
    container = name()
    cli.detached(container, TICKS)
    assert cli("pause", container) == (0, f"{container}\n".encode(), b"")
    assert engine.state(container)[0] == "paused"
    refused = {cli("attach", container), cli("exec", container, "true")}
    assert {(done.status, done.out) for done in refused} == {(1, b"")}
    assert all(b"is paused" in done.err or b"cannot attach to a paused" in done.err for done in refused)
    assert cli("unpause", container) == (0, f"{container}\n".encode(), b"")
    with cli.begin("attach", "--no-stdin", container) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"tick\n"
    assert engine.state(container)[0] == "running"


def test_logs_of_both_streams(cli: Cli, name: Names) -> None:
    container = name()
    cli.run(container, "echo out; echo err >&2; printf 'no end of line'")
    assert cli("logs", container) == (0, b"out\nno end of line", b"err\n")


def test_logs_of_the_last_lines(cli: Cli, name: Names) -> None:
    container = name()
    cli.run(container, "seq 1 20")
    assert cli("logs", "--tail", "3", container) == (0, b"18\n19\n20\n", b"")


def test_logs_with_timestamps(cli: Cli, name: Names) -> None:
    container = name()
    cli.run(container, "echo out; echo err >&2")
    done = cli("logs", "--timestamps", container)
    assert done.status == 0
    assert re.fullmatch(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z out\n", done.out)
    assert re.fullmatch(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z err\n", done.err)


def test_logs_f_follows_to_the_end(cli: Cli, name: Names) -> None:
    container = name()
    cli.detached(container, f"echo first; echo err >&2; {TICKS}")
    with cli.begin("logs", "-f", container) as child:
        assert child.stdout is not None
        assert [child.stdout.readline() for _ in range(3)] == [b"first\n", b"tick\n", b"tick\n"]
        cli("kill", "-s", "USR1", container)
        out, err = child.communicate(timeout=TIMEOUT)
    assert (child.returncode, out.splitlines()[-1], err) == (0, b"told", b"err\napart\n")
    assert cli("logs", container).out == b"first\ntick\ntick\n" + out


def test_logs_f_of_a_container_that_has_ended(cli: Cli, name: Names) -> None:
    container = name()
    cli.run(container, "seq 1 50000; exit 1")
    done = cli("logs", "-f", container)
    assert done.status == 0
    assert done.out == b"".join(b"%d\n" % number for number in range(1, 50_001))


def test_logs_of_a_container_that_keeps_none(cli: Cli, name: Names) -> None:
    container = name()
    assert cli.run(container, "echo out", "--log-driver", "none") == (0, b"out\n", b"")
    done = cli("logs", container)
    assert (done.status, done.out) == (1, b"")
    assert done.err == b"Error response from daemon: configured logging driver does not support reading\n"


def test_wait_for_a_running_container(cli: Cli, name: Names) -> None:
    container = name()
    cli.detached(container, TICKS)
    with cli.begin("wait", container) as child:
        cli("kill", "-s", "TERM", container)
        assert child.communicate(timeout=TIMEOUT) == (b"7\n", b"")
    assert child.returncode == 0
    assert cli("wait", container) == (0, b"7\n", b"")


def test_kill(cli: Cli, name: Names, engine: Engine) -> None:
    container = name()
    cli.detached(container, "sleep 600")
    assert cli("kill", container) == (0, f"{container}\n".encode(), b"")
    assert cli("wait", container) == (0, b"137\n", b"")
    assert engine.state(container) == ("exited", 137)
    done = cli("kill", container)
    assert (done.status, done.out) == (1, b"")
    assert b"is not running" in done.err


def test_stop_asks_first(cli: Cli, name: Names, engine: Engine) -> None:
    container = name()
    cli.detached(container, TICKS)
    with cli.begin("logs", "-f", container) as child:  # which says when the shell has set its trap
        assert child.stdout is not None
        assert child.stdout.readline() == b"tick\n"
        assert cli("stop", container) == (0, f"{container}\n".encode(), b"")
    assert engine.state(container) == ("exited", 7)


def test_stop_kills_what_does_not_listen(cli: Cli, name: Names, engine: Engine) -> None:
    container = name()
    cli.detached(container, "trap '' TERM; while :; do echo tick; sleep 0.1; done")
    with cli.begin("logs", "-f", container) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"tick\n"
        assert cli("stop", "-t", "1", container).status == 0
    assert engine.state(container) == ("exited", 137)


def test_rm_wants_a_container_that_has_ended(cli: Cli, name: Names, engine: Engine) -> None:
    container = name()
    cli.detached(container, "sleep 600")
    done = cli("rm", container)
    assert (done.status, done.out) == (1, b"")
    assert engine.state(container) == ("running", 0)
    assert cli("rm", "-f", container) == (0, f"{container}\n".encode(), b"")
    assert engine.inspect(container) == {}


def test_rm_f_ends_the_attached_client(cli: Cli, name: Names) -> None:
    container = name()
    with cli.begin("run", *cli.container(container), "sh", "-c", TICKS) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"tick\n"
        assert cli("rm", "-f", container).status == 0
        out, err = child.communicate(timeout=TIMEOUT)
    assert (child.returncode, set(out.splitlines()) - {b"tick"}, err) == (137, set(), b"")


def test_ps(cli: Cli, name: Names) -> None:
    running, ended = name(), name()
    identity = cli.detached(running, "sleep 600")
    cli.run(ended, "exit 3")
    line = "{{.Names}} {{.State}} {{.ID}} {{.Image}} {{.Command}}"

    def rows(*options: str) -> dict[str, list[str]]:
        done = cli("ps", "--no-trunc", "--format", line, *options)
        assert (done.status, done.err) == (0, b"")
        return {row.split(" ", 1)[0]: row.split(" ", 4)[1:] for row in done.out.decode().splitlines()}

    assert rows()[running] == ["running", identity, cli.engine.image, "\"sh -c 'sleep 600'\""]
    assert ended not in rows()
    assert rows("-a")[ended][0] == "exited"
    assert rows("-a")[running][0] == "running"
    statuses = cli("ps", "-a", "--format", "{{.Names}} {{.Status}}").out.decode()
    assert re.search(rf"^{running} Up \w", statuses, re.MULTILINE)
    assert re.search(rf"^{ended} Exited \(3\) \w", statuses, re.MULTILINE)


def test_ps_with_filters(cli: Cli, name: Names) -> None:
    running, ended = name(), name()
    cli.detached(running, "sleep 600", "--label", f"of={running}")
    cli.run(ended, "exit 3")

    def names(*options: str) -> set[str]:
        done = cli("ps", "--format", "{{.Names}}", *options)
        assert (done.status, done.err) == (0, b"")
        return set(done.out.decode().split())

    assert names("--filter", f"name=^{running}$") == {running}
    assert names("--filter", f"name={ended}") == set()
    assert names("-a", "--filter", f"name={ended}", "--filter", f"name={running}") == {running, ended}
    assert ended in names("--filter", "status=exited", "--filter", "exited=3")
    assert names("--filter", f"label=of={running}") == {running}


def test_rename(cli: Cli, name: Names) -> None:
    before, after = name(), name()
    cli.detached(before, "sleep 600")
    assert cli("rename", before, after) == (0, b"", b"")
    assert cli("inspect", "--format", "{{.Name}}", after) == (0, f"/{after}\n".encode(), b"")
    done = cli("rename", after, after)
    assert (done.status, done.out) == (1, b"")
    assert b"Renaming a container with the same name as its current name" in done.err


def test_restart(cli: Cli, name: Names, engine: Engine) -> None:
    container = name()
    cli.detached(container, TICKS)
    with cli.begin("attach", "--no-stdin", container) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"tick\n"
        assert cli("restart", "-t", "20", container) == (0, f"{container}\n".encode(), b"")
        child.communicate(timeout=TIMEOUT)
    assert engine.state(container) == ("running", 0)


def test_top(cli: Cli, name: Names) -> None:
    container = name()
    cli.detached(container, "sleep 600; true")
    done = cli("top", container, "-o", "pid,args")
    assert (done.status, done.err) == (0, b"")
    head, *rows = done.out.decode().splitlines()
    assert head.split() == ["PID", "COMMAND"]
    assert rows[0].split(None, 1)[1] == "sh -c sleep 600; true"


def test_inspect(cli: Cli, name: Names) -> None:
    container = name()
    identity = cli.detached(container, "exit 3", "-i", "-e", "WHO=me")
    cli("wait", container)
    done = cli("inspect", container)
    assert (done.status, done.err) == (0, b"")
    (found,) = json.loads(done.out)
    assert (found["Id"], found["Name"]) == (identity, f"/{container}")
    assert (found["State"]["Status"], found["State"]["ExitCode"], found["State"]["Running"]) == ("exited", 3, False)
    assert (found["Path"], found["Args"]) == ("sh", ["-c", "exit 3"])
    assert (found["Config"]["Tty"], found["Config"]["OpenStdin"]) == (False, True)
    assert found["Config"]["Cmd"] == ["sh", "-c", "exit 3"]
    assert "WHO=me" in found["Config"]["Env"]
    assert found["Config"]["Image"] == cli.engine.image
    assert cli("inspect", "--format", "{{.State.ExitCode}} {{.RestartCount}}", container) == (0, b"3 0\n", b"")


def test_inspect_of_a_missing_container(cli: Cli) -> None:
    # It asks for a container, an image, a network, a volume and more: each must be a clean 404.
    done = cli("inspect", "peers-missing")
    assert (done.status, done.out) == (1, b"[]\n")
    assert b"no such object: peers-missing" in done.err.lower()


def test_version(cli: Cli, engine: Engine) -> None:
    done = cli("version", "--format", "{{.Server.Version}} {{.Server.APIVersion}} {{.Server.Os}}")
    assert done == (0, f"{engine.version} {engine.api_version} linux\n".encode(), b"")
    assert cli("version").status == 0


# -- terminals --------------------------------------------------------------------------------------------------------


class Terminal:
    """A program on a pseudo-terminal, as a person would have it before them."""

    def __init__(self, command: list[str], variables: dict[str, str], size: tuple[int, int]) -> None:
        self.master, slave = pty.openpty()
        try:
            self._set_size(size)
            self.child = subprocess.Popen(
                command, env=variables, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
            )
        except BaseException:
            os.close(self.master)
            raise
        finally:
            os.close(slave)
        self.seen = b""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.child.kill()
        self.child.wait()
        os.close(self.master)

    def _set_size(self, size: tuple[int, int]) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))

    def resize(self, height: int, width: int, mark: bytes) -> None:
        """Gives the window another size, and tells so until a mark comes: the CLI may not listen yet."""
        self._set_size((height, width))
        deadline = time.monotonic() + TIMEOUT
        while mark not in self.seen:
            self.child.send_signal(signal.SIGWINCH)
            if self._readable(0.2) and not self._read(deadline):
                raise EOFError(f"no {mark!r} in {self.seen!r}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"seen so far: {self.seen!r}")

    def type(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def _readable(self, seconds: float) -> bool:
        return bool(select.select([self.master], [], [], max(0.0, seconds))[0])

    def _read(self, deadline: float) -> bool:
        """Reads a piece; false at the end."""
        if not self._readable(deadline - time.monotonic()):
            raise TimeoutError(f"seen so far: {self.seen!r}")
        try:
            data = os.read(self.master, 65536)
        except OSError:  # EIO: the program has closed its side
            return False
        self.seen += data
        return bool(data)

    def until(self, mark: bytes) -> bytes:
        """What came up to and with a mark, which is then behind us."""
        deadline = time.monotonic() + TIMEOUT
        while mark not in self.seen:
            if not self._read(deadline):
                raise EOFError(f"no {mark!r} in {self.seen!r}")
        before, _, self.seen = self.seen.partition(mark)
        return before + mark

    def end(self) -> tuple[int, bytes]:
        """The exit code, and what came before the end."""
        deadline = time.monotonic() + TIMEOUT
        while self._read(deadline):
            pass
        return self.child.wait(TIMEOUT), self.seen


def terminal(cli: Cli, *arguments: str, size: tuple[int, int] = (24, 80)) -> Terminal:
    return Terminal([cli.program, *arguments], cli.variables, size)


SIZES = f"{SIZED} echo first-size; {SIZED.replace('33 111', '44 122')} echo second-size; exit 5"


def test_run_it_is_a_terminal(cli: Cli, name: Names, engine: Engine) -> None:
    container = name()
    script = 'test -t 0 && test -t 1 && test -t 2 && echo terminal; read line; echo "<$line>"; echo err >&2; exit 3'
    with terminal(cli, "run", *cli.container(container, "-it"), "sh", "-c", script) as screen:
        assert screen.until(b"terminal\r\n") == b"terminal\r\n"
        screen.type(b"a line\r")
        assert screen.end() == (3, b"a line\r\n<a line>\r\nerr\r\n")
    assert engine.state(container) == ("exited", 3)


def test_run_it_has_the_size_of_the_window(cli: Cli, name: Names) -> None:
    container = name()
    with terminal(cli, "run", *cli.container(container, "-it"), "sh", "-c", SIZES, size=(33, 111)) as screen:
        screen.until(b"first-size\r\n")
        screen.resize(44, 122, b"second-size\r\n")
        assert screen.end() == (5, b"second-size\r\n")


def test_run_it_takes_keys_that_mean_something(cli: Cli, name: Names) -> None:
    container = name()
    script = "trap 'echo interrupted; exit 4' INT; echo ready; while :; do sleep 0.05; done"
    with terminal(cli, "run", *cli.container(container, "-it"), "sh", "-c", script) as screen:
        screen.until(b"ready\r\n")
        screen.type(b"\x03")  # ctrl-c
        assert screen.end() == (4, b"^Cinterrupted\r\n")


def test_run_it_is_detached_by_keys(cli: Cli, name: Names, engine: Engine) -> None:
    container = name()
    script = 'echo ready; read line; echo "<$line>"; read line; echo "<$line>"; exit 5'
    with terminal(cli, "run", *cli.container(container, "-it"), "sh", "-c", script) as screen:
        screen.until(b"ready\r\n")
        screen.type(b"one\r")
        screen.until(b"<one>\r\n")
        screen.type(DETACH)
        status, seen = screen.end()
    assert (status, b"<" in seen) == (0, False)
    assert engine.state(container) == ("running", 0)
    with terminal(cli, "attach", container) as screen:
        screen.type(b"two\r")
        screen.until(b"<two>\r\n")
        assert screen.end()[0] == 5
    assert cli("logs", container) == (0, b"ready\r\none\r\n<one>\r\ntwo\r\n<two>\r\n", b"")


def test_attach_is_detached_by_keys_of_ones_own(cli: Cli, name: Names, engine: Engine) -> None:
    container = name()
    cli.detached(container, 'read line; echo "<$line>"; read line', "-it")
    with terminal(cli, "attach", "--detach-keys", "ctrl-a,x", container) as screen:
        screen.type(b"\x10\r")  # ctrl-p is now a key like any other
        screen.until(b"<\x10>\r\n")
        screen.type(b"\x01x")
        assert b"read escape sequence" in screen.end()[1]
    assert engine.state(container) == ("running", 0)


def test_exec_it_is_a_terminal(cli: Cli, name: Names, engine: Engine) -> None:
    container = name()
    cli.detached(container, "sleep 600")
    script = 'test -t 0 && test -t 1 && test -t 2 && echo terminal; read line; echo "<$line>"; echo err >&2; exit 3'
    with terminal(cli, "exec", "-it", container, "sh", "-c", script) as screen:
        assert screen.until(b"terminal\r\n") == b"terminal\r\n"
        screen.type(b"a line\r")
        assert screen.end() == (3, b"a line\r\n<a line>\r\nerr\r\n")
    assert engine.state(container) == ("running", 0)


def test_exec_it_has_the_size_of_the_window(cli: Cli, name: Names) -> None:
    container = name()
    cli.detached(container, "sleep 600")
    with terminal(cli, "exec", "-it", container, "sh", "-c", SIZES, size=(33, 111)) as screen:
        screen.until(b"first-size\r\n")
        screen.resize(44, 122, b"second-size\r\n")
        assert screen.end() == (5, b"second-size\r\n")


def test_exec_it_is_detached_by_keys(cli: Cli, name: Names, engine: Engine) -> None:
    container = name()
    cli.detached(container, "sleep 600")
    with terminal(cli, "exec", "-it", container, "sh", "-c", "echo ready; cat") as screen:
        screen.until(b"ready\r\n")
        screen.type(DETACH)
        assert b"read escape sequence" in screen.end()[1]
    assert engine.state(container) == ("running", 0)


# -- the engine as a command ------------------------------------------------------------------------------------------


def test_the_command_is_the_same_engine(docker_cli: str, engine: Engine, tmp_path: Path) -> None:
    if not engine.embedded:
        pytest.skip("this is about our own command")
    host = f"unix://{tmp_path}/engine.sock"
    command = [sys.executable, "-m", "attachproto_adapters", "engine", "--host", host]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as child:
        try:
            assert child.stdout is not None
            while host.encode() not in child.stdout.readline():  # it says where it listens once it does
                assert child.poll() is None
            cli = Cli(docker_cli, Engine(host, engine.image, True, engine.version, engine.api_version), tmp_path)
            done = cli.run("job", "cat; echo err >&2; exit 3", "-i", "--rm", stdin=b"in\n")
            child.send_signal(signal.SIGINT)
            child.wait(TIMEOUT)
        finally:
            child.kill()
    assert done == (3, b"in\n", b"err\n")
    assert not Path(tmp_path, "engine.sock").exists()
