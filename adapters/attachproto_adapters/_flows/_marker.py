r"""The line that tells a command's process: how a shell is made to print it, and how it is taken out of the output.

Strategy: engines do not tell which process of the container an exec is. So a command is started as ``/bin/sh -c SCRIPT
TOKEN COMMAND...``. The shell prints a line with the random token and its own ``/proc/self/stat``, and then becomes the
command by ``exec``, with the same process ID.

The line is looked for in the first 8 KiB of stdout, because on a TTY other bytes can stand before it:

- Warnings on stderr: the dynamic loader's about ``LD_PRELOAD``, and bash's about an unknown ``LC_ALL``. They are passed
  on as output.
- The TTY's echo of stdin. It could also stand within the line, before its ``\r\n``. So nothing is sent to stdin until
  the line has come: the command ``attachproto`` holds it back (``StdinForwarder``), and ``run_exec`` takes no input
  for a TTY. Input that is held back is also not lost if the command has to be started again.

A command is started again only if it was not started. That is certain in two cases, and only if the exit code is one
of ``_NOT_STARTED``. Either the shell's last line says that it could not run the command. Or the output has ended, does
not have the line, and has the text of an engine that could not start the shell, or of a loader that did not find the
shell's libraries. An exit code alone tells nothing: a connection that is cut loses the line, too. After more than 8 KiB
without the line nothing is known, and the command is never started again.

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

# How many bytes may stand before the line. A warning about LD_PRELOAD or LC_ALL has 100 to 300, an engine's error too.
BEFORE_MAX: Final = 8192

# A line of /proc/PID/stat has up to 52 numbers of up to 20 digits.
_LINE_MAX: Final = 2048

# Stands before the token. Programs print letters and digits one by one, as the echo of keys for instance. These must be
# shown at once, so they must not look like the beginning of the token.
_FIRST: Final = "\x1f"

# What a shell returns, and an engine, if a command cannot be started.
_NOT_STARTED: Final = (125, 126, 127, 128)

# How the text begins that an engine sends as output if its runtime could not start a process: "OCI runtime exec failed"
# on stdout (dockerd), "Error: /usr/sbin/runc: exec failed: ...: OCI permission denied" on stderr (Podman). A TTY has
# either on its one stream.
_OF_ENGINE: Final = re.compile(rb"OCI runtime |Error: [^\n]*\bOCI ")

# What the dynamic loader of glibc or musl says on stderr, before any of the shell's code has run, if it does not find a
# library of the shell. Its warnings may stand before that.
_OF_LOADER: Final = re.compile(
    rb"^(/bin/sh: error while loading shared libraries: |Error (loading|relocating) [^\n]*/bin/sh\b)", re.MULTILINE
)


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
    return ["/bin/sh", "-c", SCRIPT, name_of_shell(token), *again, *command]


def name_of_shell(token: str) -> str:
    """The ``$0`` of the shell. It begins both lines that the script prints, and what the shell says of errors."""
    return _FIRST + token


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
    """The output has ended, and did not have it."""

    MISSED = enum.auto()
    """More output has come than may stand before it, or it is too long. It is not looked for any more."""

    CUT = enum.auto()
    """The output has ended within the line."""


class Marker:
    """Takes the line out of the first output. It holds at most the part of the line that has come.

    Args:
        token: what tells this line from all other output.
        tty: whether the output is a terminal's, so that other bytes can stand before the line.

    Attributes:
        token: as given.
        state: whether the line has come.
        process: the process of the command, if the line has come and the container has a ``/proc``.
    """

    def __init__(self, token: str, *, tty: bool = False) -> None:
        self.token = token
        self._tty = tty
        self.state = MarkerState.AWAITED
        self.process: Process | None = None
        self._begin = name_of_shell(token).encode() + b" "
        self._before_left = BEFORE_MAX
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """Return the part of this that belongs to the command's output."""
        if self.state is not MarkerState.AWAITED:
            return data
        data = self._held + data
        before = data[: find_beginning(data, self._begin)]
        line, end, rest = data[len(before) :].partition(b"\n")
        self._before_left -= len(before)
        if self._before_left < 0 or len(line) > _LINE_MAX:
            self.state, self._held = MarkerState.MISSED, b""
            return data
        if not end:
            self._held = line
            return before
        self.state, self._held = MarkerState.FOUND, b""
        self.process = _process(line[len(self._begin) :])
        return before + rest

    def end(self) -> None:
        """Store that no output comes any more. What there is of the line is dropped: it is not the command's output."""
        if self.state is MarkerState.AWAITED:
            self.state = MarkerState.CUT if self._held else MarkerState.ABSENT
        self._held = b""

    def lost(self, exit_code: int, stdout: bytes, stderr: bytes) -> bool:
        """Whether the line, and so all output of the command, was lost: only a cut connection does that.

        The shell prints the line before anything else. It may have no time for that only if a signal ends it.

        Args:
            exit_code: of its exec.
            stdout: the whole of stdout.
            stderr: the whole of stderr, at least its beginning.
        """
        absent = self.state is MarkerState.ABSENT and not stdout and 0 <= exit_code <= max(_NOT_STARTED)
        return self.state is MarkerState.CUT or (absent and not self.not_started(exit_code, stdout, stderr))

    def not_started(self, exit_code: int, stdout: bytes, stderr: bytes) -> bool:
        """Whether the command was certainly not started, although its exec has ended with this code and this output.

        There is no shell, or the shell could not run the command. Arguments as for ``lost``.
        """
        if exit_code not in _NOT_STARTED:
            return False
        if self.state is MarkerState.ABSENT:
            # Without a TTY only an engine writes to stdout before the line.
            if stdout and not self._tty:
                return True
            return any(_OF_ENGINE.match(output) or _OF_LOADER.search(output) for output in (stdout, stderr))
        return self._begin + b"failed" in stdout[-BEFORE_MAX:]


def find_beginning(data: bytes, wanted: bytes) -> int:
    """Where these bytes stand in the data, or what may be their beginning at its end; the data's length if nowhere."""
    if (at := data.find(wanted)) != -1:
        return at
    for size in range(min(len(wanted) - 1, len(data)), 0, -1):
        if wanted.startswith(data[-size:]):
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
