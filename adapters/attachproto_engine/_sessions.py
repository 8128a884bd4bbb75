"""Signals for every process of a session, and the end of its leader."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading

from attachproto_engine._waiters import wake


def signal_session(leader: int, number: int) -> bool:
    """Signal every process of a session, in all of its process groups.

    Returns:
        ``False`` if only the leader's group was signalled, because ``/proc`` cannot be read now: most likely EMFILE.
    """
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, number)
    try:
        members = _members(leader)
    except FileNotFoundError:  # there is no /proc
        return True
    except OSError:
        return False
    for process in members:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(process, number)
    return True


def _members(leader: int) -> list[int]:
    found = []
    for name in os.listdir("/proc"):
        with contextlib.suppress(ValueError, ProcessLookupError, PermissionError):
            process = int(name)
            if process != leader and os.getsid(process) == leader:
                found.append(process)
    return found


def reap(pid: int) -> int:
    try:
        _, status = os.waitpid(pid, 0)
    except ChildProcessError:
        # Other code in this Python process waits for all children, and has taken the status.
        return 255
    code = os.waitstatus_to_exitcode(status)
    return 128 - code if code < 0 else code


async def until_zombie(pid: int) -> None:
    """Wait until the process has ended, without reaping it."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()
    try:
        handle = os.pidfd_open(pid)
    except (AttributeError, OSError):
        await _wait_in_thread(pid, ended)
        return
    loop.add_reader(handle, wake, ended, None)
    try:
        await ended
    finally:
        loop.remove_reader(handle)
        os.close(handle)


async def _wait_in_thread(pid: int, ended: asyncio.Future[None]) -> None:
    loop = asyncio.get_running_loop()

    def wait() -> None:
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(wake, ended, None)

    threading.Thread(target=wait, daemon=True).start()
    await ended
