"""Runs a flow in asyncio or trio."""

from __future__ import annotations

import contextlib
from typing import Any, TypeVar

from attachproto import Accepted, RemoteProtocolError, ResponseHead
from attachproto_adapters._flows._steps import (
    AwaitDeferred,
    Call,
    CallDeferred,
    Discard,
    FlowResult,
    Pause,
    Steps,
    Stream,
)
from attachproto_adapters._transport._async_base import (
    AsyncDialer,
    AsyncSession,
    open_stream,
    response_within,
    whole_response,
)

T = TypeVar("T")
L = TypeVar("L", bound=AsyncSession)

# What has come is read in a turn or two of the loop.
_AT_ONCE = 0.01


async def drive(steps: Steps[T], dialer: AsyncDialer[L], awaited: L | None = None) -> FlowResult[T, L]:
    """Run a flow; whatever it opened is closed if it raises, or is cancelled. Arguments as in ``_blocking_runner``."""
    async with contextlib.AsyncExitStack() as undo:
        stream: L | None = None
        held: L | None = None
        accepted: Accepted | None = None
        result: Any = None
        while True:
            try:
                step = steps.send(result)
            except StopIteration as stop:
                undo.pop_all()
                return FlowResult(stop.value, stream, accepted, held)
            match step:
                case Call(request):
                    result = await dialer.call(request)
                case CallDeferred(request, seconds):
                    held = await dialer.ask(request)
                    undo.push_async_callback(held.aclose)
                    result = await held.within(seconds, held.next_event)
                    if isinstance(result, ResponseHead) and result.status_code >= 300:
                        result = await whole_response(held)
                case Discard():
                    if held is not None:
                        await held.aclose()
                        held = None
                case Stream(stream_request, quirks):
                    if stream is not None:
                        await stream.aclose()
                    stream = await dialer.dial(quirks)
                    undo.push_async_callback(stream.aclose)
                    result = await open_stream(stream, stream_request)
                    accepted = result if isinstance(result, Accepted) else None
                case AwaitDeferred(seconds):
                    result = None
                    if awaited is not None:
                        broken: tuple[type[Exception], ...] = (RemoteProtocolError, *awaited.errors)
                        try:
                            result = await response_within(awaited, max(seconds, _AT_ONCE))
                        except broken:
                            awaited = None
                    if awaited is None:
                        await dialer.sleep(seconds)
                case Pause(seconds):
                    await dialer.sleep(seconds)
