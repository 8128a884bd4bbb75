"""The blocks of docs/command.md, run in a shell on the embedded engine."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from attachproto_engine import Engine
from tests.adapters.cli_engine import create, embedded, running, started
from tests.adapters.scripted import BOUND

__all__ = ["embedded", "running"]  # the fixtures

PAGE = Path(__file__).parents[2] / "docs" / "command.md"
BLOCKS = re.findall(r"^```console\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
STEPS = [step for block in BLOCKS for step in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE)]


def test_the_page(embedded: Engine, tmp_path: Path) -> None:
    program = tmp_path / "attachproto"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m attachproto_adapters "$@"\n')
    program.chmod(0o755)
    started(embedded, "web")
    create(embedded, "job", "echo working; exit 4")
    environ = os.environ | {"DOCKER_HOST": embedded.host, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    assert len(STEPS) > 10
    for command, expected in STEPS:
        done = subprocess.run(
            ["sh", "-c", command],
            env=environ,
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=BOUND,
        )
        assert done.stdout.decode() == expected, command


def test_every_option_of_the_page_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    from attachproto_adapters.cli._main import main

    known = ""
    for arguments in ([], ["attach"], ["exec"], ["logs"], ["run"], ["replay"], ["engine"]):
        with pytest.raises(SystemExit):
            main([*arguments, "--help"])
        known += capsys.readouterr().out
    for option in set(re.findall(r"--[a-z][a-z-]+", PAGE.read_text())):
        assert option in known, option
