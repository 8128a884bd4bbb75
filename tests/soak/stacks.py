"""Where the tasks of an event loop stand, read from another thread, for the report of a job that hangs."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Iterator
from types import FrameType
from typing import Any

import trio


def of_asyncio(loop: asyncio.AbstractEventLoop) -> Iterator[str]:
    """The awaits of each task of a loop, and what the last of them waits for."""
    for task in asyncio.all_tasks(loop):
        awaited: Any = task.get_coro()
        frames = []
        while awaited is not None:
            frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "gi_frame", None)
            if frame is None:
                break
            frames.append((frame, frame.f_lineno))
            awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None)
        yield _shown(f"{task!r}, {task.cancelling()} cancellations", frames, f"waits for {awaited!r}")


def of_trio(root: trio.lowlevel.Task) -> Iterator[str]:
    """The awaits of a task and of all tasks below it."""
    yield _shown(repr(root), root.iter_await_frames(), "")
    for nursery in root.child_nurseries:
        for task in nursery.child_tasks:
            yield from of_trio(task)


def _shown(title: str, frames: Any, end: str) -> str:
    walked: list[tuple[FrameType, int]] = list(frames)
    return f"{title}\n{''.join(traceback.StackSummary.extract(iter(walked)).format())}{end}"
