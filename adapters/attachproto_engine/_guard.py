"""A guard: a process that ends what an engine leaves behind when it is killed.

Strategy: the guard is a shell that reads a pipe whose other end only the engine has. The engine writes the PID of each
session that it starts, and takes it back before the leader is reaped. When the engine dies in whatever way, SIGKILL
included, the kernel closes the pipe: the guard kills what is left of these sessions, and removes the engine's socket.
The engine may be killed after a process has begun and before its PID is told. So it names the pipe of the process's
stdout beforehand, and the guard looks for who has it. The kernel closes the guard's pipe in the new process at exec,
when its stdout is in place. A process on a terminal gets SIGHUP from the kernel instead, as the terminal is closed.
The guard has a session of its own, so that no signal to the engine's terminal or process group reaches it.

The kernel's own way, PR_SET_PDEATHSIG, is not used: it would have to be set in the child after fork and before exec,
which posix_spawn cannot, and it counts the death of the thread that has started the child.
"""

from __future__ import annotations

import contextlib
import os
import signal
from typing import Final

from attachproto_engine._forks import close_in_forked_child
from attachproto_engine._inherited import closed_in_child

_SHELL: Final = "/bin/sh"

# Fields behind the name in /proc/PID/stat: state, parent, group, session. The rounds are bounded: a process of another
# user cannot be killed.
_SCRIPT: Final = """
trap '' HUP INT TERM QUIT
cd /
live=' ' inode= path= stdout=
while read -r what one two; do
  case $what in
    stdout) stdout=$one ;;
    +) live="$live$one " stdout= ;;
    -) case $live in *" $one "*) live="${live%%" $one "*} ${live#*" $one "}" ;; esac ;;
    path) inode=$one path=$two ;;
  esac
done
if [ -n "$path" ]; then
  set -- $(ls -di -- "$path")
  [ "$1" != "$inode" ] || rm -rf -- "$path"
fi
if [ -n "$stdout" ]; then
  IFS='
'
  for line in $(ls -l /proc/[0-9]*/fd/1); do
    case $line in
      *" -> $stdout")
        process=${line##*/proc/}
        live="$live${process%%/*} "
        ;;
    esac
  done
  unset IFS
fi
for leader in $live; do kill -KILL -- "-$leader"; done
round=0 left=1
while [ $left = 1 ] && [ $round -lt 50 ]; do
  left=0 round=$((round + 1))
  for stat in /proc/[0-9]*/stat; do
    read -r line <"$stat" || continue
    set -- ${line##*") "}
    case "$live" in
      *" $4 "*)
        [ "$1" = Z ] || {
          left=1 process=${stat#/proc/}
          kill -KILL "${process%/stat}"
        } ;;
    esac
  done
  [ $round -lt 3 ] || sleep 0.1
done
"""


class Guard:
    """The guard of one engine. Where there is no shell, or the guard was killed, there is no guard."""

    def __init__(self) -> None:
        """Start it."""
        inner, outer = os.pipe()
        self._pipe: int | None = outer
        self._pid = 0
        try:
            self._pid = os.posix_spawn(
                _SHELL,
                ["attachproto-guard", "-c", _SCRIPT],
                {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
                file_actions=[
                    *closed_in_child(),
                    (os.POSIX_SPAWN_DUP2, inner, 0),
                    (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0),
                    (os.POSIX_SPAWN_OPEN, 2, "/dev/null", os.O_WRONLY, 0),
                ],
                setsid=True,
                setsigmask=(),
                setsigdef=(signal.SIGPIPE, signal.SIGCHLD),
            )
        except OSError:
            os.close(outer)
            self._pipe = None
        finally:
            os.close(inner)
        # A guard that was stopped must not stop the engine.
        if self._pipe is not None:
            os.set_blocking(self._pipe, False)
            # Left open in a child, the pipe would hide the engine's death.
            close_in_forked_child(self, Guard.let_go)

    def path(self, path: str) -> None:
        """Name what is removed: a file or a directory that the engine has made."""
        if "\n" not in path:
            self._say(f"path {os.lstat(path).st_ino} {os.path.abspath(path)}")

    def starting(self, stdout: int | None) -> None:
        """A session is about to be started, with this end of a pipe as its stdout; ``None`` if it was not started."""
        self._say("stdout" if stdout is None else f"stdout pipe:[{os.fstat(stdout).st_ino}]")

    def add(self, leader: int) -> None:
        """A session was started."""
        self._say(f"+ {leader}")

    def remove(self, leader: int) -> None:
        """A session has ended. From here on the kernel may give its number to another one."""
        self._say(f"- {leader}")

    def close(self) -> None:
        """End the guard: the engine has left nothing behind."""
        if self._pid:
            # A forked child has no such child. In the engine's process, other code may have waited for all children.
            with contextlib.suppress(ChildProcessError):
                if os.waitpid(self._pid, os.WNOHANG) == (0, 0):
                    os.kill(self._pid, signal.SIGKILL)
                    os.waitpid(self._pid, 0)
            self._pid = 0
        self.let_go()

    def let_go(self) -> None:
        """Close the pipe."""
        if self._pipe is not None:
            os.close(self._pipe)
            self._pipe = None

    def _say(self, line: str) -> None:
        if self._pipe is None:
            return
        try:
            os.write(self._pipe, os.fsencode(f"{line}\n"))
        except OSError:
            # It was killed, or it was stopped and its pipe is full. One that does not know all must not act.
            self.close()
