"""Every block of code in docs/testing-your-docker-code.md is run, as a reader would run it."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.peers.conftest import lacking

pytestmark = pytest.mark.peers

PAGE = Path(__file__).parents[2] / "docs" / "testing-your-docker-code.md"
TIMEOUT = 50.0
SCRIPT_TIMEOUT = 20.0
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[str]:
    return [code for found, code in BLOCK.findall(PAGE.read_text()) if found == language]


def test_no_block_is_of_another_kind() -> None:
    assert {language for language, _ in BLOCK.findall(PAGE.read_text())} == {"python", "sh"}


def test_python(docker_cli: str, pytestconfig: pytest.Config, tmp_path: Path) -> None:
    """All blocks together are one module of tests, in their order: later ones use the imports of earlier ones."""
    for module, distribution in (("docker", "docker"), ("aiodocker", "aiodocker"), ("trio", "trio")):
        if importlib.util.find_spec(module) is None:
            lacking(pytestconfig, module, f"`pip install {distribution}` brings it")
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    page = tmp_path / "test_page.py"
    page.write_text("\n\n".join(blocks("python")))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(page)]
    done = subprocess.run(
        command, cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT
    )
    assert done.returncode == 0, done.stdout + done.stderr
    wanted = sum(code.count("def test_") for code in blocks("python"))
    assert re.search(rf"^{wanted} passed", done.stdout, re.MULTILINE), done.stdout


def test_shell(docker_cli: str, tmp_path: Path) -> None:
    """A comment `# prints: …` behind a line of a block says what the block prints."""
    assert blocks("sh")
    for number, code in enumerate(blocks("sh")):
        folder = tmp_path / str(number)
        folder.mkdir()
        path = [str(Path(sys.executable).parent), str(Path(docker_cli).parent), os.environ.get("PATH", os.defpath)]
        variables = {key: value for key, value in os.environ.items() if not key.startswith("DOCKER_")}
        variables |= {"PATH": os.pathsep.join(path), "DOCKER_CONFIG": str(folder), "TMPDIR": str(folder)}
        status, out, err = run_script(code, folder, variables)
        assert status == 0, out + err
        for promised in re.findall(r"# prints: (.*)$", code, re.MULTILINE):
            assert promised in out.splitlines()


def run_script(code: str, folder: Path, variables: dict[str, str]) -> tuple[int, str, str]:
    """Runs a shell script, and ends what it leaves in the background."""
    with subprocess.Popen(
        ["sh", "-e", "-c", code],
        env=variables,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as child:
        try:
            out, err = child.communicate(timeout=SCRIPT_TIMEOUT)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
    return child.returncode, out, err
