"""A command to execute, and why it cannot be."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence

import attrs


class StartFailed(Exception):
    """The command cannot be executed.

    Attributes:
        exit_code: 127 if there is no such file, 126 if it cannot be executed.
    """

    def __init__(self, text: str, exit_code: int) -> None:
        super().__init__(text)
        self.exit_code = exit_code


@attrs.frozen
class Command:
    """A command to execute.

    Attributes:
        arguments: the program and its arguments.
        environment: all variables; nothing is inherited.
        directory: the working directory; ``None`` for the engine's.
        tty: run it on a terminal of its own.
        stdin: give it an open stdin; otherwise stdin is ``/dev/null``. On a terminal stdin is always open.
        size: height and width of the terminal.
    """

    arguments: Sequence[str]
    environment: Mapping[str, str]
    directory: str | None = None
    tty: bool = False
    stdin: bool = False
    size: tuple[int, int] = (0, 0)


def find(command: Command) -> str:
    """The path of its program.

    Raises:
        StartFailed: there is none, or it cannot be executed.
    """
    name = command.arguments[0]
    if "/" not in name:
        found = shutil.which(name, path=command.environment.get("PATH", os.defpath))
        if found is None:
            raise StartFailed(f'exec: "{name}": executable file not found in $PATH', 127)
        return os.path.abspath(found)
    # Relative to the process's directory.
    path = os.path.join(command.directory or os.getcwd(), name)
    if not os.path.exists(path):
        raise failure(name, FileNotFoundError())
    if os.path.isdir(path):
        raise StartFailed(f'exec: "{name}": is a directory', 126)
    if not os.access(path, os.X_OK):
        raise failure(name, PermissionError())
    return path


def failure(name: str, exc: OSError) -> StartFailed:
    """Why a program cannot be executed, worded as runc does."""
    if isinstance(exc, FileNotFoundError):
        return StartFailed(f'exec: "{name}": stat {name}: no such file or directory', 127)
    if isinstance(exc, PermissionError):
        return StartFailed(f'exec: "{name}": permission denied', 126)
    return StartFailed(f'exec: "{name}": {(exc.strerror or str(exc)).lower()}', 126)
