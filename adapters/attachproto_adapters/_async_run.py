"""``run`` in asyncio and trio: performs the flows of one run, and removes its container whatever happened."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any

from attachproto_adapters._async_attachment import AsyncAttachment
from attachproto_adapters._async_runner import clean_up, finish
from attachproto_adapters._errors import EngineUnreachable, OutputTooLarge, warn
from attachproto_adapters._flows._exchange import Exchange
from attachproto_adapters._flows._output import CompletedRun, exit_code_wanted
from attachproto_adapters._flows._run import CLEANUP_SECONDS, CREATE_GRACE, ContainerRun
from attachproto_adapters._flows._steps import Opened, Steps
from attachproto_adapters._transport._async_dialer import AsyncDialer

Opening = Callable[[Steps[Opened], Any], Awaitable[AsyncAttachment[Any]]]


async def run_container(
    job: ContainerRun, exchange: Exchange, dialer: AsyncDialer[Any], opening: Opening
) -> CompletedRun:
    """Create, attach, start, feed, read, wait and remove. Arguments as in ``_blocking_run``."""
    timeout = exchange.timeout
    completed = functools.partial(_completed, job, exchange, dialer, opening)
    try:
        result = await (completed() if timeout is None else dialer.within(timeout, completed))
        await _clean_up(job, dialer, None)
    except BaseException as exc:
        try:
            await _clean_up(job, dialer, exc)
        except BaseException:  # the loop has cancelled the task of the clean-up too, or KeyboardInterrupt came in trio
            await _clean_up(job, dialer, exc)
            raise
        raise
    if result is None:
        assert timeout is not None
        raise job.timed_out(timeout)
    return result


async def _completed(job: ContainerRun, exchange: Exchange, dialer: AsyncDialer[Any], opening: Opening) -> CompletedRun:
    try:
        await finish(job.create(), dialer, CREATE_GRACE)
    except EngineUnreachable as exc:
        job.removed = not exc.sent
        raise
    async with await opening(job.open(), dialer) as attachment:
        job.so_far = attachment._gathered.so_far
        outputs = await attachment._exchange(exchange.input, exchange.max_output, exchange.live(None))
        with exit_code_wanted(outputs, attachment._session.errors):
            result = CompletedRun(await attachment.wait(), *outputs)
        job.ended = True
        return result


async def _clean_up(job: ContainerRun, dialer: AsyncDialer[Any], failure: BaseException | None) -> None:
    """End and remove the container. If that fails, the caller gets a note in the error, or else a warning."""
    try:
        if not job.settled:
            await clean_up(job.clean_up(), dialer, CLEANUP_SECONDS)
        if isinstance(failure, OutputTooLarge):
            failure.ended = job.ended
    except Exception as exc:
        if job.may_try_again(exc):
            await _clean_up(job, dialer, failure)
        elif failure is None:
            warn(job.left_behind(exc))
        else:
            failure.add_note(job.left_behind(exc))
    finally:
        await dialer.aclose()
