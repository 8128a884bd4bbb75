"""How long ``import`` takes, in a fresh interpreter each time."""

from __future__ import annotations

import importlib.util
import statistics
import subprocess
import sys
import time
from typing import Final

MODULES: Final = (
    "",
    "h11",
    "attrs",
    "attachproto",
    "attachproto_adapters.blocking",
    "attachproto_adapters.asyncio",
    "attachproto_adapters.trio",
    "docker",
    "aiodocker",
)


def measure(rounds: int) -> dict[str, float]:
    """The median milliseconds of a process that imports each module; those that are not installed are left out."""
    there = [name for name in MODULES if not name or importlib.util.find_spec(name.partition(".")[0]) is not None]
    times: dict[str, list[float]] = {name: [] for name in there}
    for _ in range(rounds):
        for name in there:
            began = time.perf_counter()
            subprocess.run([sys.executable, "-c", f"import {name}" if name else ""], check=True)
            times[name].append((time.perf_counter() - began) * 1000)
    return {name: statistics.median(each) for name, each in times.items()}
