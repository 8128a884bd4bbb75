"""The README's instructions, followed as a person would, and its picture."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.adapters.panes import PROMPT, open_pane
from tests.adapters.test_cli_terminal import tmux as tmux

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_the_picture_is_that_of_the_demo() -> None:
    command = [sys.executable, "scripts/draw_demo.py", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_its_line_gives_a_shell_in_a_container_and_the_terminal_back(tmux: str) -> None:
    """In a real terminal, without an engine of Docker."""
    (block,) = re.findall(r"^```sh\n(attachproto engine .*\n)```$", README, re.MULTILINE)
    with open_pane(tmux, "unix:///nowhere/engine.sock") as pane:
        before = pane.mode()
        pane.command("true")
        pane.enter(f"{block.strip()}; echo status=$?")
        # The shell of the container has a prompt of its own. Its name is the container's.
        pane.until(
            lambda screen: screen.splitlines()[-1].endswith(("$", "#")) and PROMPT not in screen.splitlines()[-1]
        )
        pane.enter("tty; stty size; exit 3")
        screen = pane.until(lambda screen: "status=3" in screen)
        assert "/dev/pts/" in screen
        assert "24 80" in screen
        pane.until_prompt()
        assert pane.mode() == before
