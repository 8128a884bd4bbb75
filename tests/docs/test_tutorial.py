"""The session of docs/tutorial.md in a terminal: what is typed, and what the screen shows."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.docs.pages import is_shown

PAGE = Path(__file__).parents[2] / "docs" / "tutorial.md"
BOUND = 30.0


def until(terminal: int, pattern: str, seen: str = "") -> str:
    """What the screen shows, once it shows this."""
    deadline = time.monotonic() + BOUND
    while re.search(pattern, seen) is None:
        left = max(0.0, deadline - time.monotonic())
        assert select.select([terminal], [], [], left)[0], f"{pattern!r} is not in {seen!r}"
        seen += os.read(terminal, 65536).decode().replace("\r\n", "\n")
    return seen


def test_the_shell_in_a_container(tmp_path: Path) -> None:
    session = re.findall(
        r"^```text\n\$ (attachproto engine .*)\n(.*)\n\$ (.*)\n(.*)\n\$ (.*)\n```$", PAGE.read_text(), re.MULTILINE
    )
    ((command, notice, typed, shown, last),) = session
    program = tmp_path / "attachproto"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m attachproto_adapters "$@"\n')
    program.chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DOCKER_")}
    environ = kept | {"PATH": f"{tmp_path}:{kept['PATH']}"}
    ours, theirs = pty.openpty()
    try:
        with subprocess.Popen(
            ["sh", "-c", command], env=environ, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
        ) as child:
            try:
                seen = until(ours, r"\n.*[$#] $")  # the notice, and the prompt
                assert is_shown(f"{notice}\n", f"{seen.splitlines()[0]}\n")
                os.write(ours, f"{typed}\n".encode())
                # The line that was typed is echoed, and has no number.
                until(ours, re.sub(r"\d+", r"\\d+", shown) + r"\n.*[$#] $")
                os.write(ours, f"{last}\n".encode())
                assert child.wait(timeout=BOUND) == 0
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
    finally:
        os.close(theirs)
        os.close(ours)
