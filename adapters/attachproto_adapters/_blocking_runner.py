"""Runs a flow on blocking sockets."""

from __future__ import annotations

import contextlib
import time
from typing import Any, TypeVar

from attachproto import (
    Accepted,
    RemoteProtocolError,
    Request,
    ResponseHead,
)
from attachproto_adapters._flows._api_calls import named
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
from attachproto_adapters._transport._blocking import (
    BlockingSession,
    Dialer,
    open_stream,
    response_within,
    whole_response,
)

T = TypeVar("T")


def drive(steps: Steps[T], dialer: Dialer, awaited: BlockingSession | None = None) -> FlowResult[T, BlockingSession]:
    """Run a flow; whatever it opened is closed if it raises, or is interrupted.

    Args:
        steps: the flow.
        dialer: makes its connections.
        awaited: the connection of a call that was held before, for ``AwaitDeferred``.
    """
    with contextlib.ExitStack() as undo:
        stream: BlockingSession | None = None
        held: BlockingSession | None = None
        accepted: Accepted | None = None
        paused = 0.0
        asked: Request | None = None
        result: Any = None
        while True:
            try:
                step = steps.send(result)
            except StopIteration as stop:
                undo.pop_all()
                return FlowResult(stop.value, stream, accepted, held)
            match step:
                case Call(request):
                    asked = request
                    result = dialer.call(request)
                case CallDeferred(request, seconds):
                    held = dialer.ask(request)
                    undo.callback(held.close)
                    bound = seconds if dialer.timeout is None else min(seconds, dialer.timeout)
                    result = held.next_event_within(bound)
                    if isinstance(result, ResponseHead) and result.status_code >= 300:
                        result = whole_response(held)
                case Discard():
                    if held is not None:
                        held.close()
                        held = None
                case Stream(stream_request, quirks):
                    if stream is not None:
                        stream.close()
                    stream = dialer.dial(quirks)
                    undo.callback(stream.close)
                    result = open_stream(stream, stream_request)
                    accepted = result if isinstance(result, Accepted) else None
                case AwaitDeferred(seconds):
                    result = None
                    try:
                        if awaited is not None:
                            result = response_within(awaited, seconds)
                    except (RemoteProtocolError, OSError):
                        awaited = None  # it broke
                    if awaited is None:
                        time.sleep(seconds)
                case Pause(seconds, bounded):
                    paused += 0 if bounded else seconds
                    if dialer.timeout is not None and paused > dialer.timeout:
                        what = "a flow" if asked is None else named(asked)
                        raise TimeoutError(
                            f"timed out: no final answer within {dialer.timeout:g} s: {what} at {dialer.host}"
                        )
                    time.sleep(seconds)
