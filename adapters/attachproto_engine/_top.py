"""The processes of a container, as ``ps`` lists them: read from ``/proc``, for ``GET /containers/{name}/top``.

dockerd runs ``ps`` with the client's ``ps_args`` on its own machine, and keeps the lines whose PID belongs to the
container (moby ``daemon/top_unix.go``). Podman knows a list of its own fields, and takes everything else for arguments
of ``ps`` too. There is no ``ps`` here: of its arguments, ``-e``, ``-f``, ``-o`` and ``aux`` are understood.
"""

from __future__ import annotations

import os
import pwd
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from attachproto_engine._errors import ApiError

_TICKS: Final = os.sysconf("SC_CLK_TCK")


@attrs.frozen
class _Entry:
    """A process; the fields of ``/proc/PID/stat`` behind the name, from the state on, are ``stat``."""

    pid: int
    comm: str
    stat: tuple[str, ...]
    arguments: str
    uid: int

    @property
    def command(self) -> str:
        text = self.arguments or f"[{self.comm}]"
        return f"{text} <defunct>" if self.stat[0] == "Z" else text

    @property
    def user(self) -> str:
        try:
            return pwd.getpwuid(self.uid).pw_name
        except KeyError:
            return str(self.uid)

    @property
    def state(self) -> str:
        leads = "s" if self.stat[3] == str(self.pid) else ""
        return self.stat[0] + leads + ("+" if self.stat[2] == self.stat[5] else "")

    @property
    def tty(self) -> str:
        number = int(self.stat[4])
        return f"pts/{os.minor(number) + (os.major(number) - 136) * 256}" if number else "?"

    @property
    def seconds(self) -> int:
        """The time that it has used."""
        return (int(self.stat[11]) + int(self.stat[12])) // _TICKS

    @property
    def age(self) -> float:
        """For how many seconds it has been there."""
        return time.clock_gettime(time.CLOCK_BOOTTIME) - int(self.stat[19]) / _TICKS

    @property
    def started(self) -> str:
        return time.strftime("%H:%M", time.localtime(time.time() - self.age))

    @property
    def share(self) -> float:
        """The percentage of one processor that it has used."""
        return 100 * self.seconds / max(self.age, 1)


def _clock(seconds: int) -> str:
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"


_Field = tuple[str, Callable[[_Entry], object]]

# Each with its title, as ps of procps 4 writes them.
_PS: Final[Mapping[str, _Field]] = {
    "pid": ("PID", lambda entry: entry.pid),
    "ppid": ("PPID", lambda entry: entry.stat[1]),
    "pgid": ("PGID", lambda entry: entry.stat[2]),
    "pgrp": ("PGRP", lambda entry: entry.stat[2]),
    "sid": ("SID", lambda entry: entry.stat[3]),
    "sess": ("SESS", lambda entry: entry.stat[3]),
    "uid": ("UID", lambda entry: entry.uid),
    "user": ("USER", lambda entry: entry.user),
    "c": ("C", lambda entry: int(entry.share)),
    "pcpu": ("%CPU", lambda entry: f"{entry.share:.1f}"),
    "pmem": ("%MEM", lambda entry: "0.0"),
    "vsz": ("VSZ", lambda entry: int(entry.stat[20]) // 1024),
    "rss": ("RSS", lambda entry: int(entry.stat[21]) * os.sysconf("SC_PAGE_SIZE") // 1024),
    "stime": ("STIME", lambda entry: entry.started),
    "start": ("STARTED", lambda entry: entry.started),
    "etimes": ("ELAPSED", lambda entry: int(entry.age)),
    "tty": ("TT", lambda entry: entry.tty),
    "tt": ("TT", lambda entry: entry.tty),
    "tname": ("TTY", lambda entry: entry.tty),
    "time": ("TIME", lambda entry: _clock(entry.seconds)),
    "stat": ("STAT", lambda entry: entry.state),
    "state": ("S", lambda entry: entry.stat[0]),
    "s": ("S", lambda entry: entry.stat[0]),
    "args": ("COMMAND", lambda entry: entry.command),
    "command": ("COMMAND", lambda entry: entry.command),
    "cmd": ("CMD", lambda entry: entry.command),
    "comm": ("COMMAND", lambda entry: entry.comm),
}

# Podman's own fields (containers/psgo). A container here has no PIDs of its own, so "pid" is that of this machine.
_PODMAN: Final[Mapping[str, _Field]] = {
    **{name: _PS[name] for name in ("pid", "ppid", "pgid", "user", "args", "comm", "pcpu", "time")},
    "hpid": ("HPID", _PS["pid"][1]),
    "state": ("STATE", _PS["s"][1]),
    "tty": ("TTY", _PS["tty"][1]),
}

_FULL: Final[list[_Field]] = [
    ("UID", _PS["user"][1]),
    *(_PS[name] for name in ["pid", "ppid", "c", "stime", "tname", "time", "cmd"]),
]
_SHORT: Final[list[_Field]] = [_PS[name] for name in ["pid", "tname", "time", "comm"]]
_LONG: Final[list[_Field]] = [
    *(_PS[name] for name in ["user", "pid", "pcpu", "pmem", "vsz", "rss", "tname", "stat"]),
    ("START", _PS["stime"][1]),
    _PS["time"],
    _PS["args"],
]


def top(sessions: Collection[int], ps_args: str, *, podman: bool) -> dict[str, Any]:
    """The titles, and a row for each process of these sessions.

    Args:
        sessions: the PIDs of their leaders.
        ps_args: the client's.
        podman: understand Podman's own fields too.

    Raises:
        ApiError: the arguments are not understood, or there is no ``/proc``.
    """
    fields = (_podman_fields(ps_args) if podman else None) or _ps_fields(ps_args)
    if not os.path.exists("/proc/self/stat"):
        raise ApiError(501, "the embedded engine lists processes from /proc, which this machine does not have")
    rows = [[str(value(entry)) for _, value in fields] for entry in _entries(sessions)]
    return {"Titles": [title for title, _ in fields], "Processes": rows}


def _podman_fields(ps_args: str) -> list[_Field] | None:
    names = ps_args.split(",")
    return [_PODMAN[name] for name in names] if all(name in _PODMAN for name in names) else None


def _ps_fields(ps_args: str) -> list[_Field]:
    words = iter(ps_args.split())
    chosen: list[_Field] = []
    form = _SHORT
    for word in words:
        if word in ("aux", "axu", "-aux"):
            form = _LONG
            continue
        flags, separator, names = word.partition("o")
        if not flags.startswith("-") or not set(flags[1:]) <= set("eAf") or (flags == "-" and not separator):
            raise ApiError(500, f'ps: error: the embedded engine does not understand "{word[:100]}"')
        form = _FULL if "f" in flags else form
        if separator:
            chosen += [_field(name) for name in (names or next(words, "")).split(",")]
    fields = chosen or form
    if all(title != "PID" for title, _ in fields):
        raise ApiError(500, "Couldn't find PID field in ps output")
    return fields


def _field(name: str) -> _Field:
    if name not in _PS:
        raise ApiError(500, f'ps: error: unknown user-defined format specifier "{name[:100]}"')
    return _PS[name]


def _entries(sessions: Collection[int]) -> list[_Entry]:
    found = []
    for number in sorted(int(name) for name in os.listdir("/proc") if name.isdigit()):
        try:
            if os.getsid(number) in sessions:
                found.append(_entry(number))
        except (OSError, ValueError):
            continue  # it has ended meanwhile
    return found


def _entry(pid: int) -> _Entry:
    place = Path("/proc", str(pid))
    # The name may hold blanks and parentheses (proc_pid_stat(5)).
    name, _, rest = (place / "stat").read_text(errors="replace").partition("(")[2].rpartition(")")
    arguments = (place / "cmdline").read_bytes().rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace")
    return _Entry(pid, name, tuple(rest.split()), arguments, place.stat().st_uid)
