"""Runs a flow in asyncio or trio."""

from __future__ import annotations

import contextlib
from typing import Any, TypeVar

from attachproto import Accepted, ResponseHead
from attachproto_adapters._flows._steps import Call, CallDeferred, Discard, FlowResult, Pause, Steps, Stream
from attachproto_adapters._transport._async_base import AsyncDialer, AsyncSession, open_stream, whole_response

T = TypeVar("T")
L = TypeVar("L", bound=AsyncSession)


async def drive(steps: Steps[T], dialer: AsyncDialer[L]) -> FlowResult[T, L]:
    """Run a flow; whatever it opened is closed if it raises, or is cancelled."""
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
                case CallDeferred(request):
                    held = await dialer.ask(request)
                    undo.push_async_callback(held.aclose)
                    result = await held.next_event()
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
                case Pause(seconds):
                    await dialer.sleep(seconds)
