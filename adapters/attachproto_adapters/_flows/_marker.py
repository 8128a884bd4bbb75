"""The line that tells a command's process: how a shell is made to print it, and how it is taken out of the output.

Strategy: engines do not tell which process of the container an exec is. So a command is started as ``/bin/sh -c SCRIPT
TOKEN COMMAND...``. The shell prints a line with the random token and its own ``/proc/self/stat``, and then becomes the
command by ``exec``, with the same process ID. If the output does not begin with this line, there is no shell, and the
command was not started.

What a command can see of it:

- The environment is as it would be. ``PWD``, ``OLDPWD`` and ``SHLVL``, which dash, busybox or bash set, are unset. What
  a shell would change or drop, such as a name with a dot, is set again by ``env`` (``env_command``).
- Signals are handled by default, and no descriptor is added.
- The shell finds the command in ``PATH`` as engines do, except that it runs a text file without ``#!`` as a script, and
  that a busybox built to prefer its applets runs its own. If it cannot run the command, the last line of the output
  says so, and the command is started again without the shell, so that the engine's own error is returned.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from attachproto_adapters._flows._arguments import is_whole

# read, echo, unset, trap and exec are built into every shell. The trap prints the last line if exec has failed.
# bash would set SHLVL again before exec, but does not export an array; without execfail it would run no trap.
SCRIPT: Final = (
    "read -r ATTACHPROTO_STAT 2>/dev/null </proc/self/stat;"
    ' echo "$0 $ATTACHPROTO_STAT";'
    " unset PWD OLDPWD SHLVL;"
    ' [ -z "$BASH_VERSION" ] || { declare -a SHLVL; shopt -s execfail; } 2>/dev/null;'
    """ trap 'echo "$0 failed"' EXIT;"""
    ' exec "$@"; exit'
)

# What dash, busybox and bash import and change.
_CHANGED: Final = frozenset(
    {"_", "IFS", "LINENO", "OLDPWD", "OPTIND", "PPID", "PS1", "PS2", "PS4", "PWD", "RANDOM", "SECONDS", "SHELLOPTS"}
    | {"SHLVL", "UID", "EUID", "GROUPS"}
)
_IDENTIFIER: Final = r"[A-Za-z_][A-Za-z0-9_]*"

# A line of /proc/PID/stat has up to 52 numbers of up to 20 digits.
_LINE_MAX: Final = 2048

# What a shell returns, and an engine, if a command cannot be started.
_NOT_STARTED: Final = (125, 126, 127, 128)


def marked_command(command: Sequence[str], token: str, env: Mapping[str, str]) -> list[str] | None:
    """The command behind a shell that prints the line; ``None`` if its environment could not be kept.

    Args:
        command: the command.
        token: random, so that no output looks like the line.
        env: the whole environment that the command is to have, as far as it is known.
    """
    changed = (f"{name}={value}" for name, value in env.items() if not _is_kept(name))
    # An engine may report a variable that no process can have. The caller's command stays valid without it.
    again = list(filter(is_whole, changed))
    if again:
        if "=" in command[0] or command[0].startswith("-"):  # env would take it for a variable or an option
            return None
        again = ["env", *again]
    return ["/bin/sh", "-c", SCRIPT, token, *again, *command]


def _is_kept(name: str) -> bool:
    return re.fullmatch(_IDENTIFIER, name) is not None and name not in _CHANGED and not name.startswith("BASH")


class Process(NamedTuple):
    """A process in the container's own numbers.

    Attributes:
        pid: its process ID.
        started: when it was started, in ticks since boot. With the process ID this names it for ever.
    """

    pid: int
    started: int


class MarkerState(enum.Enum):
    """What is known of the line."""

    AWAITED = enum.auto()
    FOUND = enum.auto()
    ABSENT = enum.auto()
    """The output begins with something else, or has ended."""

    CUT = enum.auto()
    """The output has ended within the line."""


class Marker:
    """Takes the line out of the first output.

    Attributes:
        token: what the line begins with.
        state: whether the line has come.
        process: the process of the command, if the line has come and the container has a ``/proc``.
    """

    def __init__(self, token: str) -> None:
        self.token = token
        self.state = MarkerState.AWAITED
        self.process: Process | None = None
        self._begin = token.encode() + b" "
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """Return the part of this that belongs to the command's output."""
        if self.state is not MarkerState.AWAITED:
            return data
        held = self._held = self._held + data
        if not held.startswith(self._begin[: len(held)]) or (len(held) > _LINE_MAX and b"\n" not in held):
            self.state, self._held = MarkerState.ABSENT, b""
            return held
        line, end, rest = held.partition(b"\n")
        if not end:
            return b""
        self.state = MarkerState.FOUND
        self.process = _process(line[len(self._begin) :])
        self._held = b""
        return rest

    def end(self) -> None:
        """Store that no output comes any more. What there is of the line is dropped: it is not the command's output."""
        if self.state is MarkerState.AWAITED:
            self.state = MarkerState.CUT if self._held else MarkerState.ABSENT
        self._held = b""

    def lost(self, exit_code: int, stdout: bytes) -> bool:
        """Whether the line, and so all output of the command, was lost: only a cut connection does that.

        The shell prints the line before anything else. It may have no time for that only if a signal ends it.

        Args:
            exit_code: of its exec.
            stdout: the whole of stdout.
        """
        absent = self.state is MarkerState.ABSENT and not stdout and 0 <= exit_code < min(_NOT_STARTED)
        return absent or self.state is MarkerState.CUT or bool(self._held)

    def not_started(self, exit_code: int, stdout: bytes) -> bool:
        """Whether the command was not started, although its exec has ended with this code and this output.

        There is no shell, or the shell could not run the command.
        """
        failed = stdout.rstrip(b"\r\n").endswith(self._begin + b"failed")
        return exit_code in _NOT_STARTED and (self.state is MarkerState.ABSENT or failed)


class ShownOutput:
    """What of a command's output may be shown while it runs: all but the two lines that its shell prints.

    What may be the beginning of the last line is held back until more has come. If there was no shell, all of stdout is
    held back, because the command may be started again.

    Args:
        marker: takes the first line out.

    Attributes:
        held: what was held back of stdout.
    """

    def __init__(self, marker: Marker) -> None:
        self.held = b""
        self._marker = marker
        self._token = marker.token.encode()

    def stdout(self, data: bytes) -> bytes:
        """Add bytes of stdout. Returns what may be shown now."""
        data = self.held + self._marker.feed(data)
        shown = 0 if self._marker.state is MarkerState.ABSENT else self._before_token(data)
        self.held = data[shown:]
        return data[:shown]

    def stderr(self, data: bytes) -> bytes:
        """Bytes of stderr without the line in which the shell says that it could not start the command."""
        return data.partition(b"\n")[2] if data.startswith(self._token + b":") else data

    def end(self) -> bytes:
        """Return what was held back: it was the command's."""
        self._marker.end()
        data, self.held = self.held, b""
        return data

    def _before_token(self, data: bytes) -> int:
        """How many bytes stand before the token, or before what may be its beginning."""
        if (at := data.find(self._token)) != -1:
            return at
        for size in range(min(len(self._token) - 1, len(data)), 0, -1):
            if self._token.startswith(data[-size:]):
                return len(data) - size
        return len(data)


def _process(stat: bytes) -> Process | None:
    """The process that a line of ``/proc/PID/stat`` is about (proc(5)); ``None`` if it is none."""
    before, _, after = stat.rpartition(b")")
    try:
        # The fields after the name, which may itself hold spaces and parentheses, begin with the third.
        return Process(int(before.split(b" ", 1)[0]), int(after.split()[22 - 3]))
    except (ValueError, IndexError):
        return None
