"""The built site, and a browser to look at it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.examples.browser import REQUIRED, Browser, Tab
from tests.live import engines

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the built site."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "-d", str(folder / "state")]
    done = subprocess.run([*command, "docs", str(folder / "html")], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "html"


@pytest.fixture(scope="session")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    """A tab of Debian's Chromium."""
    profiles = tmp_path_factory.mktemp("browser")
    try:
        program = engines.program("chromium", "chromium")
    except (engines.EngineUnavailable, OSError) as why:
        if REQUIRED:
            pytest.fail(f"no browser: {why}", pytrace=False)
        pytest.skip(f"no browser: {why}")
    with Browser(program, profiles, profiles).tab("about:blank") as tab:
        yield tab
