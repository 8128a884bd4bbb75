"""Drives a real browser: Debian's Chromium, by the DevTools protocol over two pipes.

ATTACHPROTO_BROWSER   `required`: a browser that cannot be had is a failure, not a skip
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.examples.programs import BOUND
from tests.live import engines
from tests.peers import programs

REQUIRED = os.environ.get("ATTACHPROTO_BROWSER") == "required"
XTERM, ADDON_FIT = "6.0.0", "0.11.0"

# Without --no-sandbox it does not run as root; the only page that it opens is ours.
OPTIONS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]


class Tab:
    """One tab of a browser.

    Args:
        commands: the descriptor on which the browser takes commands.
        answers: the descriptor on which it answers.
    """

    def __init__(self, commands: int, answers: int) -> None:
        self._commands, self._answers = commands, answers
        self._buffer = b""
        self._number = 0
        self._session: str | None = None
        self._target: str = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=self._target, flatten=True)["sessionId"]

    def call(self, method: str, **parameters: Any) -> Any:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while (answer := self._receive()).get("id") != self._number:
            pass  # an event
        assert "error" not in answer, answer
        return answer["result"]

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            assert select.select([self._answers], [], [], BOUND)[0], f"the browser said nothing for {BOUND:.0f} s"
            data = os.read(self._answers, 65536)
            assert data, "the browser has ended"
            self._buffer += data
        message, _, self._buffer = self._buffer.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found

    def go(self, url: str) -> None:
        assert "errorText" not in self.call("Page.navigate", url=url)

    def resize(self, width: int, height: int) -> None:
        """Sets the size of the window."""
        window = self.call("Browser.getWindowForTarget")["windowId"]
        self.call("Browser.setWindowBounds", windowId=window, bounds={"width": width, "height": height})

    def type(self, text: str) -> None:
        """Types on the keyboard; a newline is the Enter key."""
        for character in text:
            key = {"key": "Enter", "windowsVirtualKeyCode": 13} if character == "\n" else {"key": character}
            self.call("Input.dispatchKeyEvent", type="keyDown", text=character.replace("\n", "\r"), **key)
            self.call("Input.dispatchKeyEvent", type="keyUp", **key)

    def value(self, expression: str) -> Any:
        """What an expression of JavaScript gives in the page."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def until(self, expression: str) -> Any:
        """Waits until an expression of JavaScript gives something true, and returns it."""
        deadline = time.monotonic() + BOUND
        while not (found := self.value(expression)):
            text = self.value("document.body && document.body.innerText")
            assert time.monotonic() < deadline, f"not within {BOUND:.0f} s: {expression}; the page shows: {text}"
            time.sleep(0.02)
        return found

    def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            self.call("Target.closeTarget", targetId=self._target)


@dataclass(frozen=True)
class Browser:
    """A browser that can be started, and what the web terminal's page needs.

    Attributes:
        program: the path of Chromium.
        xterm: the folder in which npm has installed xterm.js.
        profiles: an empty directory for what the browser stores.
    """

    program: str
    xterm: Path
    profiles: Path

    @contextlib.contextmanager
    def tab(self, url: str) -> Iterator[Tab]:
        """A tab that shows a page, in a browser of its own. It is closed as a person does it."""
        (theirs_in, commands), (answers, theirs_out) = os.pipe(), os.pipe()
        profile = tempfile.mkdtemp(dir=self.profiles)
        command = [self.program, *OPTIONS, "--remote-debugging-pipe", f"--user-data-dir={profile}"]
        try:
            # The browser reads commands on descriptor 3, and writes answers on 4. Debian's sh takes one digit after <&.
            process = subprocess.Popen(
                ["sh", "-c", f'exec "$@" 3</proc/self/fd/{theirs_in} 4>/proc/self/fd/{theirs_out}', "sh", *command],
                pass_fds=(theirs_in, theirs_out),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=os.environ | {"HOME": profile},
            )
        finally:
            os.close(theirs_in)
            os.close(theirs_out)
        try:
            tab = Tab(commands, answers)
            tab.go(url)
            yield tab
            tab.close()
        finally:
            process.terminate()
            try:
                process.wait(BOUND)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            os.close(commands)
            os.close(answers)


def find(folder: Path, profiles: Path) -> Browser:
    """Finds Chromium and xterm.js, or installs them: Chromium by apt-get, xterm.js by npm into the folder."""
    program = engines.program("chromium", "chromium")
    modules = programs.npm_install(folder, f"xterm-{XTERM}", f"@xterm/xterm@{XTERM}", f"@xterm/addon-fit@{ADDON_FIT}")
    return Browser(program, modules, profiles)


@pytest.fixture(scope="session")
def browser(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Browser:
    """Chromium, with xterm.js for the page that it shows."""
    try:
        return find(Path(pytestconfig.rootpath, ".pytest_cache", "peers"), tmp_path_factory.mktemp("browser"))
    except (engines.EngineUnavailable, programs.Unavailable, OSError) as why:
        if REQUIRED:
            pytest.fail(f"no browser: {why}", pytrace=False)
        pytest.skip(f"no browser: {why}")
