"""Runs a flow on blocking sockets."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

from attachproto import Accepted, RemoteProtocolError, Request, Response, ResponseHead
from attachproto_adapters._flows import _steps
from attachproto_adapters._flows._api_calls import is_refusal, named
from attachproto_adapters._flows._steps import Broken, FlowResult, Held, Steps
from attachproto_adapters._transport._blocking import BlockingSession, is_own_timeout
from attachproto_adapters._transport._blocking_dialer import (
    Dialer,
    open_stream,
    response_within,
    whole_response,
)
from attachproto_adapters._transport._log import LoggedCall

T = TypeVar("T")


def drive(
    steps: Steps[T],
    dialer: Dialer,
    held: Held[BlockingSession] | None = None,
    stream_held: Held[BlockingSession] | None = None,
) -> FlowResult[T, BlockingSession]:
    """Run a flow; whatever it opened is closed if it raises, or is interrupted.

    Args:
        steps: the flow.
        dialer: makes its connections.
        held: the connection that an earlier flow has left open. It stays open, also if this flow raises.
        stream_held: keeps the connection of the flow's stream. It stays open, also if this flow raises.
    """
    with contextlib.ExitStack() as undo:
        hold = dialer.hold()
        undo.callback(dialer.let_go, hold)
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
                dialer.let_go(hold)
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
                        # If another thread has closed the attachment meanwhile, it has not seen this session.
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
                    if stream_held is None:
                        undo.callback(stream.close)
                    elif not stream_held.keep(stream):
                        stream.close()
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
        dialer: makes its connections. It may be one that was closed.
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


def finish(steps: Steps[T], dialer: Dialer, grace: float, seconds: float | None = None) -> T:
    """Run a flow whose outcome has to be known, also after ``KeyboardInterrupt`` or at the dialer's deadline.

    It runs in a thread of its own, because Python runs the handlers of signals in the main thread only. The interpreter
    waits for that thread at its exit. A second ``KeyboardInterrupt`` does not end it either, and is raised at once.

    Args:
        steps: the flow.
        dialer: makes its connections. Its deadline is not applied to the flow.
        grace: how many seconds the flow may go on after an interruption or the deadline. Then its connections are
            closed.
        seconds: how long all of it may take.

    Raises:
        TimeoutError: the deadline has passed, or it did not end within ``seconds``.
    """
    deadline, dialer.deadline = dialer.deadline, None if seconds is None else time.monotonic() + seconds
    job = _Job(lambda: _closing_held(drive(steps, dialer)))
    try:
        job.start()
        if not job.done.wait(None if deadline is None else max(0.0, deadline - time.monotonic())):
            raise TimeoutError(f"timed out: the deadline has passed: {dialer.host}")
    except BaseException:
        if job.has_begun() and not job.done.wait(grace):
            dialer.close()
        raise
    finally:
        dialer.deadline = deadline
    return job.result()


def _closing_held(driven: FlowResult[T, BlockingSession]) -> T:
    close_held(driven.held)
    return driven.value


class _Job(Generic[T]):
    """A call in a thread of its own.

    Attributes:
        done: the call has ended.
    """

    def __init__(self, call: Callable[[], T]) -> None:
        self.done = threading.Event()
        self._call = call
        self._lock = threading.Lock()
        self._begun = False
        self._abandoned = False
        self._value: T | None = None
        self._error: BaseException | None = None

    def start(self) -> None:
        threading.Thread(target=self._run, name="attachproto").start()

    def has_begun(self) -> bool:
        """Whether the call has begun. If not, it never will: ``start`` may have been interrupted."""
        with self._lock:
            self._abandoned = True
            return self._begun

    def result(self) -> T:
        error, self._error = self._error, None  # its traceback refers to this object
        if error is not None:
            raise error
        return cast("T", self._value)

    def _run(self) -> None:
        with self._lock:
            if self._abandoned:
                return
            self._begun = True
        try:
            self._value = self._call()
        except BaseException as exc:
            self._error = exc
        self.done.set()


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
