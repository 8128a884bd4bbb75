"""How long ``import`` takes, in a fresh interpreter each time."""

from __future__ import annotations

import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
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
    """The median milliseconds of a process that imports each module; those that are not installed are left out.

    Each module has its bytecode, whatever ``PYTHONDONTWRITEBYTECODE`` says here: pip compiles what it installs, and
    compiling is not importing. A first round, which writes the bytecode, is not measured.
    """
    there = [name for name in MODULES if not name or importlib.util.find_spec(name.partition(".")[0]) is not None]
    times: dict[str, list[float]] = {name: [] for name in there}
    with tempfile.TemporaryDirectory() as bytecode:
        environ = os.environ | {"PYTHONPYCACHEPREFIX": bytecode}
        environ.pop("PYTHONDONTWRITEBYTECODE", None)
        for number in range(1 + rounds):
            for name in there:
                began = time.perf_counter()
                subprocess.run([sys.executable, "-c", f"import {name}" if name else ""], check=True, env=environ)
                if number:
                    times[name].append((time.perf_counter() - began) * 1000)
    return {name: statistics.median(each) for name, each in times.items()}
