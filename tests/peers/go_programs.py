"""Programs in Go that read the same bytes as we do, and are asked what they have read."""

from __future__ import annotations

import contextlib
import json
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from tests.peers import programs
from tests.peers.conftest import SESSION, lacking


class GoProgram:
    """A program that is asked as ``answer.go`` says."""

    def __init__(self, stdin: IO[bytes], stdout: IO[bytes]) -> None:
        self._stdin = stdin
        self._stdout = stdout

    def ask(self, data: bytes) -> Any:
        """Its answer to these bytes."""
        self._stdin.write(struct.pack(">L", len(data)) + data)
        self._stdin.flush()
        return json.loads(self._stdout.readline())


@contextlib.contextmanager
def running(
    config: pytest.Config, name: str, build: Callable[[Path], tuple[str, str]], directory: Path
) -> Iterator[GoProgram]:
    """Builds a program and runs it. What cannot be built is missing from the session.

    Args:
        name: what the session calls it.
        build: makes the program in a directory, and gives its path and its version.
    """
    try:
        program, version = build(directory)
    except programs.Unavailable as why:
        lacking(config, name, why)
    config.stash[SESSION].present[name] = version
    with subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield GoProgram(process.stdin, process.stdout)
    assert process.returncode == 0
