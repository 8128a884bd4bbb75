"""The blocks of a page, and how they are run: Python in one process, commands in one shell, in the page's order."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
FENCE = re.compile(r"^( *)```(\w+)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
FILE_NAME = re.compile(r"# ([\w./-]+\.\w+)\n")
# What a block prints stands behind its print(), or in the comments below it.
SHOWN = re.compile(r"^\s*print\(.*\)  # (.*)\n|^(\s*)print\(.*\)\n((?:\2# .*\n)+)", re.MULTILINE)
# What changes something outside the test, or needs an engine of Docker or the network.
NOT_RUN = {
    "docker",
    "podman",
    "pip",
    "pipx",
    "uv",
    "git",
    "sudo",
    "apt-get",
    "apt",
    "ssh",
    "curl",
    "systemctl",
    "source",
}
NOT_RUN |= {"python3.11", "."}
BOUND = 60.0


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        line: of the page, at which its text begins.
    """

    language: str
    text: str
    line: int


@dataclass(frozen=True)
class Step:
    """A command of a console block, and what the page shows below it."""

    command: str
    shown: str
    line: int


def blocks(page: str) -> list[Block]:
    found = []
    for match in FENCE.finditer(page):
        indent = match[1]
        text = re.sub(rf"^{indent}", "", match[3], flags=re.MULTILINE)
        found.append(Block(match[2], text, page.count("\n", 0, match.start(3)) + 1))
    return found


def steps(block: Block) -> list[Step]:
    """The commands of a console block. A line with `> ` goes on with the command above it."""
    found = []
    for match in re.finditer(r"^\$ (.*\n(?:> .*\n)*)((?:(?!\$ ).*\n)*)", block.text, re.MULTILINE):
        command = match[1].replace("\n> ", "\n").strip()
        found.append(Step(command, match[2], block.line + block.text.count("\n", 0, match.start())))
    return found


def is_run(step: Step) -> bool:
    words = [word for word in shlex.split(step.command, comments=True) if "=" not in word]
    return bool(words) and words[0] not in NOT_RUN


def shown_output(code: str) -> str:
    """What a block of Python says that it prints."""
    found = ""
    for one, _, more in SHOWN.findall(code):
        found += f"{one}\n" if one else re.sub(r"^\s*# ", "", more, flags=re.MULTILINE)
    return found


def is_shown(shown: str, out: str) -> bool:
    """Whether an output is the one that a page shows, where `...` stands for any text."""
    pattern = r"[^\0]*?".join(re.escape(part) for part in shown.split("..."))
    return re.fullmatch(pattern, out) is not None


class PageRun:
    """Runs the blocks of one page.

    Args:
        name: the page's path, for tracebacks.
        folder: an empty directory, in which everything is run.
        environ: the environment of all that is run.
    """

    def __init__(self, name: str, folder: Path, environ: dict[str, str]) -> None:
        self._name, self._folder = name, folder
        self._output = folder / ".output"
        self._output.mkdir()
        self._programs = contextlib.ExitStack()
        # The shell and the commands that it leaves in the background are ended as a group.
        command_in, self._to_shell = os.pipe()
        self._from_shell, status_out = os.pipe()
        self._shell = self._start(["bash", "--norc", "-s", str(status_out)], environ, status_out, stdin=command_in)
        blocks_in, to_python = os.pipe()
        self._from_python, answers_out = os.pipe()
        process = [sys.executable, "-X", "dev", "-W", "error", str(HERE / "page_process.py")]
        self._start([*process, str(blocks_in), str(answers_out)], environ, blocks_in, answers_out)
        self._to_python = os.fdopen(to_python, "w")
        for descriptor in (command_in, status_out, blocks_in, answers_out):
            os.close(descriptor)

    def _start(self, command: list[str], environ: dict[str, str], *fds: int, **more: Any) -> subprocess.Popen[bytes]:
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **more}
        child = subprocess.Popen(
            command, cwd=self._folder, env=environ, pass_fds=fds, start_new_session=True, **streams
        )
        self._programs.callback(self._end, child)
        return child

    @staticmethod
    def _end(child: subprocess.Popen[bytes]) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()

    def close(self) -> None:
        self._programs.close()
        with contextlib.suppress(BrokenPipeError):
            self._to_python.close()
        for descriptor in (self._to_shell, self._from_shell, self._from_python):
            os.close(descriptor)

    def python(self, block: Block) -> None:
        """Runs a block of Python, and compares what it prints."""
        if (name := FILE_NAME.match(block.text)) is not None:
            self._write(name[1], block.text)
        out, err = self._output / f"{block.line}.out", self._output / f"{block.line}.err"
        command = {"code": block.text, "name": self._name, "line": block.line, "out": str(out), "err": str(err)}
        self._to_python.write(json.dumps(command) + "\n")
        self._to_python.flush()
        where = f"{self._name}:{block.line}"
        failure = json.loads(self._line(self._from_python, where))
        printed, warned = out.read_text(), err.read_text()
        assert not failure, f"{where}: {failure}{printed}{warned}"
        shown = shown_output(block.text)
        assert is_shown(shown, printed), f"{where} prints\n{printed}\nand shows\n{shown}\n{warned}"

    def _write(self, name: str, text: str) -> None:
        path = self._folder / name
        assert path.resolve().is_relative_to(self._folder.resolve()), name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def console(self, step: Step) -> None:
        """Runs a command in the page's shell, and compares what it prints, if the page shows that."""
        where = f"{self._name}:{step.line}"
        out = self._output / f"{step.line}.out"
        background = step.command.endswith("&")
        # $? is that of the command before. Each command has a file of its own: one in the background goes on printing.
        script = f"(exit ${{status:-0}})\n{{ {step.command}\n}} >{shlex.quote(str(out))} 2>&1 </dev/null\nstatus=$?\n"
        os.write(self._to_shell, f"{script}echo $status >&$1\n".encode())
        status = int(self._line(self._from_shell, where))
        if background:
            # What it shows is waited for: then it is ready.
            deadline = time.monotonic() + BOUND
            while len(out.read_text().splitlines()) < len(step.shown.splitlines()):
                assert time.monotonic() < deadline, f"{where}: {step.command} prints {out.read_text()!r}"
                time.sleep(0.01)
        printed = out.read_text()
        if step.shown:
            assert is_shown(step.shown, printed), f"{where}: {step.command} prints\n{printed}\nthe page\n{step.shown}"
        else:
            assert status == 0, f"{where}: {step.command} ended with {status} and printed\n{printed}"

    def _line(self, descriptor: int, where: str) -> str:
        deadline = time.monotonic() + BOUND
        line = b""
        while not line.endswith(b"\n"):
            left = max(0.0, deadline - time.monotonic())
            assert select.select([descriptor], [], [], left)[0], f"{where}: not done within {BOUND:.0f} s"
            data = os.read(descriptor, 65536)
            assert data, f"{where}: its process has ended"
            line += data
        return line.decode()


@contextlib.contextmanager
def running(name: str, folder: Path, environ: dict[str, str]) -> Iterator[PageRun]:
    run = PageRun(name, folder, environ)
    try:
        yield run
    finally:
        run.close()
