"""The core and the adapters over ``tcp://`` work without what Windows' Python does not have."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Each in all three adapters. `ATTACHPROTO_COUNTS=full` runs every scenario of an adapter that connects over TCP.
SCENARIOS = "dialled-tcp and (communicate_half or output_apart or a_reset)"


def hidden(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


@pytest.mark.parametrize(
    ("file", "which"),
    [
        ("tests/portable/test_tcp.py", "test"),
        (
            "tests/adapters/test_scenarios.py",
            "dialled-tcp" if os.environ.get("ATTACHPROTO_COUNTS") == "full" else SCENARIOS,
        ),
    ],
)
def test_tests_pass_without_them(file: str, which: str) -> None:
    ended = hidden("-m", "pytest", "-q", "-p", "tests.portable.hide", "-p", "no:cacheprovider", file, "-k", which)
    assert ended.returncode == 0, ended.stdout
    assert re.search(r"^\d+ passed(, \d+ deselected)? in ", ended.stdout, re.MULTILINE), ended.stdout


def test_they_are_hidden() -> None:
    # What needs them cannot be imported; so the tests above would fail if they were used.
    ended = hidden("-c", "import tests.portable.hide, attachproto_adapters.terminal")
    assert "No module named 'termios'" in ended.stdout
    ended = hidden("-c", "import tests.portable.hide, attachproto_adapters._forwarding as f; f.select.poll")
    assert "has no attribute 'poll'" in ended.stdout


def test_the_command_says_what_it_needs() -> None:
    script = "import sys, tests.portable.hide; from attachproto_adapters.__main__ import main; sys.exit(main())"
    ended = hidden("-c", script, "--version")
    assert ended.returncode == 125
    assert ended.stdout == "attachproto: the command needs a POSIX system; the library also works elsewhere\n"
