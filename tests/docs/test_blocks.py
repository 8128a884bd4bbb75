"""Every block of Python and every command of the tutorial, the how-to guides and the explanations is run."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import pytest

from attachproto_adapters.blocking import attach
from attachproto_engine import Engine
from tests.docs.pages import Block, blocks, is_run, is_shown, running, shown_output, steps
from tests.engine.client import call

ROOT = Path(__file__).parents[2]
FOLDERS = ("tutorial*.md", "how-to/*.md", "explanation/*.md")
PAGES = sorted(page for folder in FOLDERS for page in (ROOT / "docs").glob(folder))
LANGUAGES = {
    "python",
    "console",
    "text",
    "mermaid",
    "toctree",
    "json",
    "ini",
    "toml",
    "yaml",
    "sh",
    "dockerfile",
    "html",
}
# Pages whose blocks use another client, which is an extra of its own (`peers`).
CLIENTS = {"from-docker-py.md": "docker", "from-aiodocker.md": "aiodocker"}
WEB = "echo ready; echo warning >&2; read line"


def prepare(engine: Engine) -> None:
    """The containers that the pages speak of: `web` runs, `job` was created."""
    job = {"Image": "alpine", "Cmd": ["sort"], "OpenStdin": True, "StdinOnce": True}
    assert call(engine, "POST", "/containers/create?name=job", job).status == 201
    web = {"Image": "alpine", "Cmd": ["sh", "-c", WEB], "OpenStdin": True}
    assert call(engine, "POST", "/containers/create?name=web", web).status == 201
    with attach("web", host=engine.host, start=True) as attachment:
        # Both lines are in the log once they have come.
        assert {type(attachment.receive()).__name__ for _ in range(2)} == {"Stdout", "Stderr"}


def environment(host: str, folder: Path) -> dict[str, str]:
    programs = folder / ".bin"
    programs.mkdir()
    for name, arguments in (("attachproto", "-m attachproto_adapters"), ("python", ""), ("python3", "")):
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments} "$@"\n')
        program.chmod(0o755)
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("DOCKER_", "CONTAINER_"))}
    path = f"{programs}:{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}"
    return kept | {"DOCKER_HOST": host, "HOME": str(folder), "PATH": path, "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT / "docs")))
def test_page(page: Path, tmp_path: Path) -> None:
    client = CLIENTS.get(page.name)
    if client is not None and importlib.util.find_spec(client) is None:
        (pytest.fail if os.environ.get("ATTACHPROTO_PEERS") == "required" else pytest.skip)(f"no {client}")
    found = blocks(page.read_text())
    assert {block.language for block in found} <= LANGUAGES
    # A page may read the recordings, as from a clone. The folder is not a link: some blocks write tests.
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/vectors").symlink_to(ROOT / "tests/vectors")
    with Engine() as engine:
        prepare(engine)
        with running(str(page.relative_to(ROOT)), tmp_path, environment(engine.host, tmp_path)) as run:
            for block in found:
                if block.language == "python":
                    run.python(block)
                elif block.language == "console":
                    for step in filter(is_run, steps(block)):
                        run.console(step)


def test_a_page_that_shows_another_output_fails(tmp_path: Path) -> None:
    with running("page.md", tmp_path, dict(os.environ)) as run:
        run.python(Block("python", "# told.py\nvalue = 1\nprint(value)  # 1\n", 1))
        run.python(Block("python", "import told\nprint(told.value, value)\n# ... 1\n", 4))
        (step,) = steps(Block("console", "$ python told.py\n1\n", 8))
        run.console(step)
        for wrong in ("print(1)  # 2\n", "print(1)\n", "x = 1  # print\nassert x == 2\n"):
            with pytest.raises(AssertionError, match=r"page\.md:20"):
                run.python(Block("python", wrong, 20))
        for wrong in ("$ echo 1\n2\n", "$ false\n"):
            with pytest.raises(AssertionError, match=r"page\.md:30"):
                run.console(*steps(Block("console", wrong, 30)))


def test_a_shell_goes_on_from_command_to_command(tmp_path: Path) -> None:
    text = "$ export A=1\n$ sh -c 'exit 3'; echo $A $?\n1 3\n$ (exit 4)\nnone\n$ echo $?\n4\n"
    text += "$ { echo up; sleep 600; } &\nup\n"
    first, second, third, fourth, fifth = steps(Block("console", text, 1))
    with running("page.md", tmp_path, dict(os.environ)) as run:
        run.console(first)
        run.console(second)
        with pytest.raises(AssertionError):
            run.console(third)
        run.console(fourth)
        run.console(fifth)


def test_what_is_shown() -> None:
    assert (
        shown_output("print(1)  # 1\nif x:\n    print(\n        2)\n    # no\n    print(3)\n    # 3\n    # 4\n")
        == "1\n3\n4\n"
    )
    assert is_shown("a ... c\n", "a b b c\n")
    assert not is_shown("a ...\n", "b\n")
