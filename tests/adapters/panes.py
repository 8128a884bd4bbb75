"""A pane of tmux: a real terminal, with a shell in it, whose screen can be read. Nothing here sleeps blindly."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.adapters.scripted import BOUND

CONFIGURATION = "set -g status off\nset -g history-limit 0\n"
PROMPT = "here> "


class Pane:
    """The pane, and the shell in it.

    Args:
        tmux: the program.
        folder: for the server's socket and the files of a test.
        host: the engine's address, for `attachproto` and `docker`.
    """

    def __init__(self, tmux: str, folder: Path, host: str, size: tuple[int, int] = (24, 80)) -> None:
        self.folder = folder
        Path(folder, "tmux.conf").write_text(CONFIGURATION)
        ours = Path(folder, "attachproto")
        ours.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m attachproto_adapters "$@"\n')
        ours.chmod(0o755)
        self._command = [tmux, "-S", f"{folder}/tmux", "-f", f"{folder}/tmux.conf"]
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("DOCKER_", "TMUX"))}
        environ |= {"DOCKER_HOST": host, "LC_ALL": "C.UTF-8", "TERM": "xterm"}
        environ["PATH"] = f"{folder}:{environ['PATH']}"
        height, width = size
        Path(folder, "rc").write_text(f"PS1='{PROMPT}'\n")
        shell = f"bash --noprofile --rcfile {folder}/rc -i"
        subprocess.run(
            [*self._command, "new-session", "-d", "-x", str(width), "-y", str(height), shell],
            env=environ,
            cwd=folder,
            check=True,
            timeout=BOUND,
        )
        self.until(lambda screen: screen.startswith(PROMPT.strip()))

    def _tmux(self, *arguments: str) -> str:
        done = subprocess.run([*self._command, *arguments], capture_output=True, text=True, check=True, timeout=BOUND)
        return done.stdout

    def keys(self, *keys: str) -> None:
        """Presses keys, by tmux's names."""
        self._tmux("send-keys", *keys)

    def enter(self, line: str) -> None:
        """Types a line."""
        self._tmux("send-keys", "-l", line)
        self.keys("Enter")

    def resize(self, height: int, width: int) -> None:
        self._tmux("resize-window", "-x", str(width), "-y", str(height))

    def screen(self) -> str:
        """The lines of the screen, without blanks at their ends."""
        return "\n".join(line.rstrip() for line in self._tmux("capture-pane", "-p").splitlines()).rstrip()

    def until(self, holds: Callable[[str], bool], what: str = "") -> str:
        """Waits until this holds for the screen."""
        end = time.monotonic() + BOUND
        while not holds(screen := self.screen()):
            assert time.monotonic() < end, f"{what or 'it'} has not come; the screen is:\n{screen}"
            time.sleep(0.02)
        return screen

    def until_has(self, text: str) -> str:
        return self.until(lambda screen: text in screen, repr(text))

    def until_prompt(self) -> str:
        """Waits until the shell here waits for a line."""
        return self.until(has_prompt, "the prompt")

    def command(self, line: str) -> str:
        """Runs a line in the shell here, on a clear screen; what it has printed."""
        self.enter(f"clear; {line}; echo over=$?")
        screen = self.until(lambda screen: "over=" in screen.replace("over=$?", ""), line)
        self.until_prompt()
        return screen

    def press_until_prompt(self, *keys: str) -> None:
        """Presses these keys, each by itself, until the shell here waits for a line.

        Podman recognises detach keys only if it reads them one by one, and a shell may miss a signal. Nothing shows
        either.
        """
        end = time.monotonic() + BOUND
        while not has_prompt(screen := self.screen()):
            assert time.monotonic() < end, f"{keys} had no effect; the screen is:\n{screen}"
            for key in keys:
                self.keys(key)
            again = time.monotonic() + 1
            while not has_prompt(self.screen()) and time.monotonic() < again:
                time.sleep(0.02)

    def mode(self) -> str:
        """All settings of the terminal."""
        self.command(f"stty -a > {self.folder}/mode")
        # The size is no setting, and a resize changes it.
        lines = Path(self.folder, "mode").read_text().splitlines()
        return "\n".join(line for line in lines if not line.startswith("speed"))

    def child(self) -> int:
        """The process that the shell has started last, in the foreground."""
        shell = int(self._tmux("display-message", "-p", "#{pane_pid}"))
        end = time.monotonic() + BOUND
        while not (children := Path(f"/proc/{shell}/task/{shell}/children").read_text().split()):
            assert time.monotonic() < end, "the shell has no child"
            time.sleep(0.02)
        return int(children[-1])

    def close(self) -> None:
        self._tmux("kill-server")


def has_prompt(screen: str) -> bool:
    """Whether the shell here waits for a line. What a key was echoed as may stand before its prompt."""
    return any(line.endswith(PROMPT.strip()) for line in screen.splitlines())


@contextmanager
def open_pane(tmux: str, host: str, size: tuple[int, int] = (24, 80)) -> Iterator[Pane]:
    with tempfile.TemporaryDirectory(prefix="attachproto-") as folder:
        pane = Pane(tmux, Path(folder), host, size)
        try:
            yield pane
        finally:
            pane.close()
