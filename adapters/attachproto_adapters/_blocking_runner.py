"""Runs a flow on blocking sockets."""

from __future__ import annotations

import contextlib
import time
from typing import Any, TypeVar

from attachproto import Accepted, RemoteProtocolError, Request, Response, ResponseHead
from attachproto_adapters._flows import _steps
from attachproto_adapters._flows._api_calls import is_refusal, named
from attachproto_adapters._flows._steps import Broken, FlowResult, Held, Steps
from attachproto_adapters._transport._blocking import BlockingSession, is_own_timeout
from attachproto_adapters._transport._blocking_dialer import Dialer, open_stream, response_within, whole_response
from attachproto_adapters._transport._log import LoggedCall

T = TypeVar("T")


def drive(steps: Steps[T], dialer: Dialer, held: Held[BlockingSession] | None = None) -> FlowResult[T, BlockingSession]:
    """Run a flow; whatever it opened is closed if it raises, or is interrupted.

    Args:
        steps: the flow.
        dialer: makes its connections.
        held: the connection that an earlier flow has left open. It stays open, also if this flow raises.
    """
    with contextlib.ExitStack() as undo:
        if held is None:
            held = Held()
            undo.callback(close_held, held)
        stream: BlockingSession | None = None
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
                case _steps.Call(request):
                    asked = request
                    result = dialer.call(request)
                case _steps.CallDeferred(request, seconds):
                    _discard(held)
                    with LoggedCall(request) as logged:
                        session = dialer.ask(request)
                        # If another thread has closed the attachment before, it has found no session to close.
                        if not held.keep(session):
                            session.close()
                        result = session.next_event_within(dialer.at_most(seconds))
                        if isinstance(result, ResponseHead):
                            logged.answered(result.status_code)
                            if is_refusal(result):
                                result = whole_response(session)
                case _steps.AwaitDeferred(seconds_or_none):
                    result = _await_deferred(held, seconds_or_none)
                case _steps.Discard():
                    _discard(held)
                case _steps.Stream(stream_request, quirks):
                    if stream is not None:
                        stream.close()
                    stream = dialer.dial(quirks)
                    undo.callback(stream.close)
                    result = open_stream(stream, stream_request, dialer.unless_sooner(step.head_seconds))
                    accepted = result if isinstance(result, Accepted) else None
                case _steps.TryHalfClose():
                    result = dialer.passes_half_close()
                case _steps.Pause(seconds, bounded):
                    paused += 0 if bounded else seconds
                    if dialer.timeout is not None and paused > dialer.timeout:
                        what = "a flow" if asked is None else named(asked)
                        raise TimeoutError(
                            f"timed out: no final answer within {dialer.timeout:g} s: {what} at {dialer.host}"
                        )
                    time.sleep(dialer.until_deadline(seconds) or 0)


def clean_up(steps: Steps[T], dialer: Dialer, seconds: float) -> T:
    """Run a flow that ends or removes something, after an error or ``KeyboardInterrupt``, in a bounded time.

    ``drive`` would stop at a deadline that has passed; this gives the flow one of its own. A second
    ``KeyboardInterrupt`` ends it.

    Args:
        steps: the flow.
        dialer: makes its connections; one that was closed still does.
        seconds: how long all of it may take.

    Raises:
        TimeoutError: it did not end in time. Everything that it has opened is closed.
    """
    before = dialer.deadline
    dialer.deadline = time.monotonic() + seconds
    try:
        driven = drive(steps, dialer)
        close_held(driven.held)
        return driven.value
    finally:
        dialer.deadline = before


def _await_deferred(held: Held[BlockingSession], seconds: float | None) -> Response | Broken | None:
    if held.session is None:
        time.sleep(seconds or 0)
        return None
    try:
        return whole_response(held.session) if seconds is None else response_within(held.session, seconds)
    except (RemoteProtocolError, OSError) as exc:
        if is_own_timeout(exc):
            raise
        _discard(held)
        return Broken(exc)


def _discard(held: Held[BlockingSession]) -> None:
    if (session := held.take()) is not None:
        session.close()


def close_held(held: Held[BlockingSession]) -> None:
    """Close the held connection, from any thread. A thread that waits for its answer is woken."""
    if (session := held.close()) is not None:
        session.close()
