"""What the process of the soak holds, sampled while no job runs, and the test that it stays flat."""

from __future__ import annotations

import ctypes
import gc
import os
import platform
import statistics
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import attrs

from tests.helpers import children, open_descriptors


@attrs.frozen
class Sample:
    """One sample.

    Attributes:
        seconds: since the start.
        jobs: that have ended.
        rss: resident memory, in bytes.
        blocks: of memory that Python has allocated.
        objects: that the garbage collector knows.
        descriptors, threads, processes: that are open, run, or were not waited for.
    """

    seconds: float
    jobs: int
    rss: int
    blocks: int
    objects: int
    descriptors: int
    threads: int
    processes: int

    def __str__(self) -> str:
        return (
            f"{self.seconds / 60:6.1f} min  {self.jobs:7} jobs  {self.rss / 2**20:6.1f} MiB  {self.blocks:8} blocks  "
            f"{self.objects:7} objects  {self.descriptors:3} descriptors  {self.threads:3} threads  "
            f"{self.processes:3} processes"
        )


# glibc's mallopt(3).
_M_ARENA_MAX = -8


_GLIBC = ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None


def use_one_arena() -> None:
    """Let all threads allocate from one arena. glibc's free memory in an arena for each would hide what is kept."""
    if _GLIBC is not None:
        _GLIBC.mallopt(_M_ARENA_MAX, 1)


def take(seconds: float, jobs: int) -> Sample:
    """Sample this process."""
    gc.collect()
    if _GLIBC is not None:
        _GLIBC.malloc_trim(0)  # free memory is no growth
    return Sample(
        seconds=seconds,
        jobs=jobs,
        rss=int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE"),
        blocks=sys.getallocatedblocks(),
        objects=len(gc.get_objects()),
        descriptors=len(open_descriptors()),
        threads=threading.active_count(),
        processes=len(children()),
    )


# By how much the median of the last third may exceed that of the first: a share of it, and an amount.
ALLOWED = {
    "rss": (0.10, 4 * 2**20),
    "blocks": (0.03, 5000),
    "objects": (0.03, 2000),
    "descriptors": (0.0, 6),
    "threads": (0.0, 6),
    "processes": (0.0, 2),
}


def growth(samples: Sequence[Sample]) -> list[str]:
    """What has grown: the median of the last third against that of the first third.

    The first tenth is not counted, because caches fill then. Fewer than six samples after it say nothing.
    """
    counted = samples[max(1, len(samples) // 10) :]
    third = len(counted) // 3
    if third < 2:
        return []
    found: list[str] = []
    for name, (share, amount) in ALLOWED.items():
        first, last = (
            statistics.median(getattr(sample, name) for sample in part) for part in (counted[:third], counted[-third:])
        )
        if last > first * (1 + share) + amount:
            found.append(f"{name} have grown from {first:.0f} to {last:.0f}")
    return found
