"""What a client has read, and how it says so."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hashlib import _Hash


class Outcome:
    """What a client has read.

    Attributes:
        sizes: bytes of stdout and of stderr. Without a state machine, ``sizes[0]`` counts the bytes on the wire.
        digests: if they are wanted, of stdout and of stderr. Hashing takes longer than most clients do, so it is only
            done in a run of its own.
        seconds: of the jobs, or of the keystrokes; or the longest that another task has waited for its turn.
    """

    def __init__(self, *, digest: bool) -> None:
        self.sizes = [0, 0]
        self.digests: list[_Hash] = [hashlib.sha256(), hashlib.sha256()] if digest else []
        self.seconds = 0.0

    def add(self, is_stderr: bool, data: bytes) -> None:
        """Count a piece of output."""
        self.sizes[is_stderr] += len(data)
        if self.digests:
            self.digests[is_stderr].update(data)

    async def take_turns(self, sleep: Callable[[float], Awaitable[None]]) -> None:
        """Another task: note the longest time between two of its turns, until it is cancelled."""
        last = time.perf_counter()
        while True:
            await sleep(0)
            now = time.perf_counter()
            self.seconds, last = max(self.seconds, now - last), now

    def as_json(self) -> str:
        """The line that ``compare.py`` reads."""
        return json.dumps(
            {
                "sizes": self.sizes,
                "digests": [digest.hexdigest() for digest in self.digests],
                "seconds": self.seconds,
                "peak": _peak(),
            }
        )


def _peak() -> int:
    """The largest resident memory of this process, in bytes; 0 where there is no ``/proc``.

    ``getrusage`` does not tell it: on Linux its ``ru_maxrss`` includes the parent's memory before ``execve``.
    """
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    return 0 if found is None else int(found[1]) * 1024
