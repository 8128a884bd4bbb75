"""A pytest plugin that hides from the library what Windows' Python does not have: ``-p tests.portable.hide``.

Strategy: ``import`` is replaced. The modules of the library get copies of ``socket``, ``os``, ``select`` and ``signal``
without the names below, and cannot import the modules below at all. The tests and the frameworks keep the real ones.
"""

from __future__ import annotations

import builtins
import sys
from collections.abc import Mapping, Sequence
from types import ModuleType

MODULES = {"fcntl", "termios", "tty", "pty", "pwd", "grp", "resource", "syslog"}

NAMES = {
    "socket": {"AF_UNIX", "CMSG_LEN", "CMSG_SPACE", "MSG_DONTWAIT", "MSG_NOSIGNAL", "SCM_RIGHTS"},
    "select": {"epoll", "kqueue", "poll"},
    "signal": {
        "SIGALRM", "SIGCHLD", "SIGCONT", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGQUIT", "SIGTSTP", "SIGTTIN", "SIGTTOU",
        "SIGUSR1", "SIGUSR2", "SIGWINCH", "pthread_kill", "pthread_sigmask", "setitimer", "siginterrupt", "sigwait",
    },
    "os": {
        "WIFEXITED", "WNOHANG", "chown", "fork", "forkpty", "getegid", "geteuid", "getgid", "getpgid", "getuid",
        "killpg", "mkfifo", "openpty", "pidfd_open", "posix_spawn", "pread", "pwrite", "register_at_fork", "setpgid",
        "setsid", "wait3", "wait4",
    },
}  # fmt: skip

LIBRARY = ("attachproto", "attachproto_adapters")

_real_import = builtins.__import__
_copies: dict[str, ModuleType] = {}


def _without(name: str) -> ModuleType:
    if name not in _copies:
        real = _real_import(name)
        _copies[name] = ModuleType(name, real.__doc__)
        _copies[name].__dict__.update({key: value for key, value in vars(real).items() if key not in NAMES[name]})
    return _copies[name]


def _import(
    name: str,
    globals: Mapping[str, object] | None = None,
    locals: Mapping[str, object] | None = None,
    fromlist: Sequence[str] | None = (),
    level: int = 0,
) -> ModuleType:
    if str((globals or {}).get("__name__")).split(".")[0] in LIBRARY and level == 0:
        if name in MODULES:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        if name in NAMES:
            return _without(name)
    return _real_import(name, globals, locals, fromlist or (), level)


assert not any(name.split(".")[0] in LIBRARY for name in sys.modules), "the library was imported before"
builtins.__import__ = _import
