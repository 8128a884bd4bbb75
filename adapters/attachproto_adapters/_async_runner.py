"""Runs a flow in asyncio or trio."""

from __future__ import annotations

import contextlib
import functools
from typing import Any, TypeVar

from attachproto import Accepted, RemoteProtocolError, Response, ResponseHead
from attachproto_adapters._flows import _steps
from attachproto_adapters._flows._api_calls import is_refusal
from attachproto_adapters._flows._steps import Broken, FlowResult, Held, Steps
from attachproto_adapters._transport._async_base import AsyncSession
from attachproto_adapters._transport._async_dialer import AsyncDialer, open_stream, response_within, whole_response
from attachproto_adapters._transport._log import LoggedCall

T = TypeVar("T")
L = TypeVar("L", bound=AsyncSession)


async def drive(
    steps: Steps[T], dialer: AsyncDialer[L], held: Held[L] | None = None, stream_held: Held[L] | None = None
) -> FlowResult[T, L]:
    """Run a flow; whatever it opened is closed if it raises, or is cancelled. Arguments as in ``_blocking_runner``."""
    async with contextlib.AsyncExitStack() as undo:
        hold = dialer.hold()
        undo.push_async_callback(dialer.let_go, hold)
        if held is None:
            held = Held()
            undo.push_async_callback(close_held, held)
        stream: L | None = None
        accepted: Accepted | None = None
        result: Any = None
        while True:
            try:
                step = steps.send(result)
            except StopIteration as stop:
                await dialer.let_go(hold)
                undo.pop_all()
                return FlowResult(stop.value, stream, accepted, held)
            match step:
                case _steps.Call(request):
                    result = await dialer.call(request)
                case _steps.CallDeferred(request, seconds):
                    await _discard(held)
                    with LoggedCall(request) as logged:
                        session = await dialer.ask(request)
                        if not held.keep(session):
                            await session.aclose()
                        result = await session.within(seconds, session.next_event)
                        if isinstance(result, ResponseHead):
                            logged.answered(result.status_code)
                            if is_refusal(result):
                                result = await whole_response(session)
                case _steps.AwaitDeferred(seconds_or_none):
                    result = await _await_deferred(held, seconds_or_none, dialer)
                case _steps.Discard():
                    await _discard(held)
                case _steps.Stream(stream_request, quirks):
                    if stream is not None:
                        await stream.aclose()
                    stream = await dialer.dial(quirks)
                    if stream_held is None:
                        undo.push_async_callback(stream.aclose)
                    elif not stream_held.keep(stream):
                        await stream.aclose()
                    result = await open_stream(stream, stream_request, step.head_seconds)
                    accepted = result if isinstance(result, Accepted) else None
                case _steps.TryHalfClose():
                    result = await dialer.passes_half_close()
                case _steps.Pause(seconds):
                    await dialer.sleep(seconds)


async def clean_up(steps: Steps[T], dialer: AsyncDialer[L], seconds: float) -> T:
    """Run a flow that ends or removes something, also after a cancellation, in a bounded time.

    A cancellation does not reach the flow; it goes on when the flow has ended. Arguments as in ``_blocking_runner``.

    Raises:
        TimeoutError: it did not end in time. Everything that it has opened is closed.
    """
    return await dialer.shielded(seconds, functools.partial(_driven, steps, dialer))


async def finish(steps: Steps[T], dialer: AsyncDialer[L], grace: float) -> T:
    """Run a flow whose outcome has to be known, also after a cancellation. Arguments as in ``_blocking_runner``.

    The cancellation goes on when the flow has ended; if it needs more than ``grace`` seconds, it is cancelled.
    """
    return await dialer.finished(grace, functools.partial(_driven, steps, dialer))


async def _driven(steps: Steps[T], dialer: AsyncDialer[L]) -> T:
    result = await drive(steps, dialer)
    await close_held(result.held)
    return result.value


async def _await_deferred(held: Held[L], seconds: float | None, dialer: AsyncDialer[L]) -> Response | Broken | None:
    if (session := held.session) is None:
        await dialer.sleep(seconds or 0)
        return None
    broken: tuple[type[Exception], ...] = (RemoteProtocolError, *session.errors)
    try:
        if seconds is None:
            return await whole_response(session)
        return await response_within(session, seconds)
    except broken as exc:
        await _discard(held)
        return Broken(exc)


async def _discard(held: Held[L]) -> None:
    if (session := held.take()) is not None:
        await session.aclose()


async def close_held(held: Held[L]) -> None:
    """Close the held connection. A task that waits for its answer is woken."""
    if (session := held.close()) is not None:
        await session.aclose()
