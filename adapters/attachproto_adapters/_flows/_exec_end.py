"""Ends the process of an exec, and whatever is still in its session.

Strategy: engines have no call that ends an exec. A second exec runs a shell that reads ``/proc``. It needs nothing but
the shell: ``read``, ``set`` and ``kill`` are built in, and a loop that counts replaces a missing ``sleep``. Engines
start every exec as the leader of a session of its own (runc calls ``setsid``), so its children are found by the fourth
field after the name in ``/proc/PID/stat`` (proc(5)), also after their parent has ended. It sends SIGTERM, waits, and
sends SIGKILL.
"""

from __future__ import annotations

from typing import Final

from attachproto import ProtocolError, Request, Response, ResponseHead
from attachproto_adapters._errors import AttachError
from attachproto_adapters._flows._api_calls import (
    JSON,
    create_exec_request,
    created_id,
    inspect_request,
    is_refusal,
    succeeded,
)
from attachproto_adapters._flows._inspect import InspectedExec
from attachproto_adapters._flows._marker import Process
from attachproto_adapters._flows._steps import AwaitDeferred, Broken, Call, CallDeferred, Discard, Steps

# Rounds of at least 0.05 s: the script sends SIGKILL after half a second, and gives up after about three seconds.
_ROUNDS_BEFORE_KILL: Final = 10
_ROUNDS: Final = _ROUNDS_BEFORE_KILL + 40

# How long one wait for the script's answer lasts. Between two waits the adapter reads the command's output, because
# dockerd handles the ends of execs one after the other, and for each it waits until the output has been read.
_ROUND_SECONDS: Final = 0.02

# What the script says last: no process of the session is left, or some are.
_ENDED, _LEFT = b"ended", b"left"

# $1 is the process, $2 its start, $3 and $4 the rounds. If /proc does not show even this shell, the script prints
# nothing. If a live process cannot be sent a signal, it says "left" at once, so that it is run again as another user.
# Reading all of /proc takes long where there are many processes. So until SIGKILL the script looks only at the
# processes that it has sent SIGTERM, and at all of /proc when these have ended.
SCRIPT: Final = """
p=$1 s=$2 grace=$3 most=$4 n=0
see() {
  l=
  while read -r r || [ "$r" ]; do l="$l $r"; done 2>/dev/null <"/proc/$1/stat"
  l=${l##*) }
}
look() {
  left=
  for d in "$@"; do
    i=${d#/proc/}
    see "$i"
    set -- $l
    [ "$i" = "$$" ] && me=1
    case $1 in Z|X|'') continue ;; esac
    if [ "$4" = "$p" ] || [ "$i" = "$p" ]; then left="$left $i"; fi
  done
}
all() {
  me=
  look /proc/[0-9]*
  [ "$me" ] || exit
  [ "$left" ] || { echo ended; exit; }
}
see "$p"
set -- $l
if [ "${20}" ] && [ "${20}" != "$s" ]; then echo ended; exit; fi
all
kill -TERM $left 2>/dev/null
kill -CONT $left 2>/dev/null
for i in $left; do
  kill -0 $i 2>/dev/null && continue
  see $i
  set -- $l
  case $1 in Z|X|'') ;; *) echo left; exit ;; esac
done
while [ $n -lt $most ]; do
  sleep 0.05 2>/dev/null || { k=0; while [ $k -lt 20000 ]; do k=$((k+1)); done; }
  n=$((n+1))
  if [ $n -lt $grace ]; then
    look $left
    [ "$left" ] || { all; kill -TERM $left 2>/dev/null; }
  else
    all
    kill -KILL $left 2>/dev/null
  fi
done
echo left
"""


def end_exec(
    container: str, exec_id: str, process: Process | None, user: str | None, api_version: str | None
) -> Steps[bool]:
    """End an exec's process and its session.

    Root may send signals to every process, unless the container lacks ``CAP_KILL``. Then the command's own user may.

    Args:
        container: the container of the exec.
        exec_id: the exec.
        process: its process, if it is known; else the engine is only asked whether the exec has ended.
        user: the user that it runs as; ``None`` for the container's.
        api_version: the version for the calls.

    Returns:
        Whether it was seen to have ended: ``/proc`` shows nothing of its session, or the engine reports it.

    Raises:
        Exception: the framework's, or of the state machine: a connection broke. The same again may end it.
    """
    said: bytes | Broken = b""
    if process is not None and process.pid > 1:
        said = yield from _kill(container, process, "0", api_version)
        if said == _LEFT and user not in ("0", "root"):
            said = yield from _kill(container, process, user, api_version)
    ended = said == _ENDED or (said != _LEFT and (yield from _has_ended(exec_id, api_version)))
    if not ended and isinstance(said, Broken):
        raise said.error
    return ended


def _kill(container: str, process: Process, user: str | None, api_version: str | None) -> Steps[bytes | Broken]:
    """Run the script as this user, and return what it says; nothing if it cannot be run, in a paused container say."""
    arguments = (process.pid, process.started, _ROUNDS_BEFORE_KILL, _ROUNDS)
    command = ["/bin/sh", "-c", SCRIPT, "sh", *map(str, arguments)]
    create = create_exec_request(container, command, stdin=False, stderr=False, user=user, api_version=api_version)
    try:
        killer = created_id("exec", succeeded(create, (yield Call(create))))
        # Without an upgrade in the request, engines send the output as a body up to the end of file. (Podman 4.3
        # never notices the end of an exec that was started with Detach.)
        start = Request("POST", ("exec", killer, "start"), body=b"{}", headers=JSON, api_version=api_version)
        answer: Response | ResponseHead | Broken | None = yield CallDeferred(start)
        while not isinstance(answer, Response | Broken):
            answer = yield AwaitDeferred(_ROUND_SECONDS)
        yield Discard()
        if isinstance(answer, Broken):
            return answer
        words = succeeded(start, answer).body.split()
    except (AttachError, ProtocolError):
        return b""
    # The header of the frame stands before the words.
    return next((word for word in (_ENDED, _LEFT) if words and words[-1].endswith(word)), b"")


def _has_ended(exec_id: str, api_version: str | None) -> Steps[bool]:
    response: Response = yield Call(inspect_request("exec", exec_id, api_version))
    if is_refusal(response):
        return response.status_code == 404  # engines forget an exec when its container has ended
    return not InspectedExec.from_response(response).running
