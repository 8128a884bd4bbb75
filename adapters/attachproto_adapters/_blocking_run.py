"""``run`` on blocking sockets: performs the flows of one run, and removes its container whatever happened."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from attachproto_adapters._blocking_attachment import Attachment
from attachproto_adapters._blocking_runner import finish
from attachproto_adapters._errors import EngineUnreachable, ExitCodeUnknown, warn
from attachproto_adapters._flows._output import CompletedRun, exit_code_wanted
from attachproto_adapters._flows._run import CLEANUP_SECONDS, CREATE_GRACE, ContainerRun
from attachproto_adapters._flows._steps import Opened, Steps
from attachproto_adapters._transport._blocking_dialer import Dialer

Opening = Callable[[Steps[Opened], Dialer], Attachment]


def run_container(
    job: ContainerRun,
    dialer: Dialer,
    opening: Opening,
    *,
    input: bytes | None,
    max_output: int | None,
    timeout: float | None,
) -> CompletedRun:
    """Create, attach, start, feed, read, wait and remove.

    Args:
        job: the run, which was not created yet.
        dialer: makes its connections. All of them are closed in the end.
        opening: opens an attachment with this dialer.
        input: as for ``Client.run``.
        max_output: likewise.
        timeout: likewise.
    """
    end = None if timeout is None else time.monotonic() + timeout
    dialer.deadline = end
    try:
        return _completed_and_removed(job, dialer, opening, input, max_output, end)
    except (TimeoutError, ExitCodeUnknown) as exc:
        if timeout is None or not job.late:
            raise
        raise job.timed_out(timeout) from exc


def _completed_and_removed(
    job: ContainerRun,
    dialer: Dialer,
    opening: Opening,
    input: bytes | None,
    max_output: int | None,
    end: float | None,
) -> CompletedRun:
    try:
        return _completed(job, dialer, opening, input, max_output)
    finally:
        job.late = end is not None and time.monotonic() >= end
        failure = sys.exception()
        try:
            _clean_up(job, dialer, failure)
        except BaseException:  # KeyboardInterrupt, before the clean-up has begun
            _clean_up(job, dialer, failure)
            raise
        finally:
            del failure  # its traceback refers to this frame


def _completed(
    job: ContainerRun, dialer: Dialer, opening: Opening, input: bytes | None, max_output: int | None
) -> CompletedRun:
    try:
        finish(job.create(), dialer, CREATE_GRACE)
    except EngineUnreachable:
        job.removed = True  # nothing was asked
        raise
    with opening(job.open(), dialer) as attachment:
        job.so_far = attachment._gathered.so_far
        outputs = attachment._exchange(input, max_output)
        with exit_code_wanted(outputs, (OSError,)):
            result = CompletedRun(attachment.wait(), *outputs)
        job.ended = True
        return result


def _clean_up(job: ContainerRun, dialer: Dialer, failure: BaseException | None) -> None:
    """End and remove the container. If that fails, the caller gets a note in the error, or else a warning."""
    try:
        if not job.settled:
            dialer.deadline = None
            finish(job.clean_up(), dialer, CLEANUP_SECONDS, CLEANUP_SECONDS)
    except Exception as exc:
        if job.may_try_again(exc):
            _clean_up(job, dialer, failure)
        elif failure is None:
            warn(job.left_behind(exc))
        else:
            failure.add_note(job.left_behind(exc))
    finally:
        dialer.close()
