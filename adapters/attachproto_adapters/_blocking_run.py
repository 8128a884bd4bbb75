"""``run`` on blocking sockets: performs the flows of one run, and removes its container whatever happened."""

from __future__ import annotations

import time
from collections.abc import Callable

from attachproto_adapters._blocking_attachment import Attachment
from attachproto_adapters._blocking_runner import finish
from attachproto_adapters._errors import EngineUnreachable, ExitCodeUnknown, OutputTooLarge, warn
from attachproto_adapters._flows._exchange import Exchange
from attachproto_adapters._flows._output import CompletedRun, exit_code_wanted
from attachproto_adapters._flows._run import CLEANUP_SECONDS, CREATE_GRACE, ContainerRun
from attachproto_adapters._flows._steps import Opened, Steps
from attachproto_adapters._transport._blocking_dialer import Dialer

Opening = Callable[[Steps[Opened], Dialer], Attachment]


def run_container(job: ContainerRun, exchange: Exchange, dialer: Dialer, opening: Opening) -> CompletedRun:
    """Create, attach, start, feed, read, wait and remove.

    Args:
        job: the run, which was not created yet.
        exchange: what it reads, and its limits.
        dialer: makes its connections. All of them are closed in the end.
        opening: opens an attachment with this dialer.
    """
    timeout = exchange.timeout
    end = None if timeout is None else time.monotonic() + timeout
    dialer.deadline = end
    try:
        return _completed_and_removed(job, exchange, dialer, opening, end)
    except (OSError, ExitCodeUnknown) as exc:  # the deadline of a connect is EngineUnreachable
        if timeout is None or not job.late:
            raise
        raise job.timed_out(timeout) from exc


def _completed_and_removed(
    job: ContainerRun, exchange: Exchange, dialer: Dialer, opening: Opening, end: float | None
) -> CompletedRun:
    # A signal's handler may run wherever a function is called. So no call stands between a try and what it guards.
    try:
        result = _completed(job, exchange, dialer, opening)
        clean_up(job, dialer, None, None)
        return result
    except BaseException as exc:
        try:
            clean_up(job, dialer, end, exc)
        except BaseException:
            clean_up(job, dialer, end, exc)
            raise
        raise


def _completed(job: ContainerRun, exchange: Exchange, dialer: Dialer, opening: Opening) -> CompletedRun:
    create(job, dialer)
    with opening(job.open(), dialer) as attachment:
        job.so_far = attachment._gathered.so_far
        outputs = attachment._exchange(exchange.input, exchange.max_output, exchange.live(None))
        with exit_code_wanted(outputs, (OSError,)):
            result = CompletedRun(attachment.wait(), *outputs)
        job.ended = True
        return result


def create(job: ContainerRun, dialer: Dialer) -> None:
    """Create the container. An interruption waits for the answer, for a limited time."""
    try:
        finish(job.create(), dialer, CREATE_GRACE)
    except EngineUnreachable as exc:
        job.removed = not exc.sent
        raise


def clean_up(job: ContainerRun, dialer: Dialer, end: float | None, failure: BaseException | None) -> None:
    """End and remove the container. If that fails, the caller gets a note in the error, or else a warning.

    Args:
        job: the run. If nothing is left of it, this only closes the connections.
        dialer: makes the connections.
        end: the deadline of the run.
        failure: the error that the caller will get.
    """
    # A second KeyboardInterrupt leaves finish() at once, and its thread goes on with the connections.
    alone = False
    try:
        # Also if nothing is left to do, because the creation was refused after the deadline for instance.
        job.late = job.late or (end is not None and time.monotonic() >= end)
        if not job.settled:
            dialer.deadline = None
            finish(job.clean_up(), dialer, CLEANUP_SECONDS, CLEANUP_SECONDS)
        if isinstance(failure, OutputTooLarge):
            failure.ended = job.ended
        alone = True
    except Exception as exc:
        alone = True
        if job.may_try_again(exc):
            clean_up(job, dialer, end, failure)
        elif failure is None:
            warn(job.left_behind(exc))
        else:
            failure.add_note(job.left_behind(exc))
    finally:
        if alone:
            dialer.close()
