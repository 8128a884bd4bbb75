"""Flows that end, remove or create something: they run to their end, shielded from cancellation, in a bounded time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing

from attachproto import Request, Response
from attachproto_adapters import _async_runner, _blocking_runner
from attachproto_adapters._flows._steps import Call, Pause, Steps
from attachproto_adapters._transport import _asyncio, _blocking_dialer, _trio
from attachproto_adapters._transport._address import Address
from attachproto_adapters._transport._hosts import resolve_host
from tests.adapters.frameworks import ASYNCIO, BLOCKING, EACH_FRAMEWORK, TRIO, Framework
from tests.adapters.scripted import BOUND, Engine, Peer, answers

INSPECT = Request("GET", ("containers", "web", "json"))
START = Request("POST", ("containers", "web", "start"))

# Short, because the tests wait for its end.
SHORT = 0.1


def two_calls() -> Steps[int]:
    first: Response = yield Call(INSPECT)
    yield Pause(0.001)
    second: Response = yield Call(START)
    return first.status_code + second.status_code


def cleaning(framework: Framework, engine: Engine, seconds: float) -> Callable[[], Awaitable[int]]:
    """The framework's ``clean_up`` of ``two_calls``."""
    host = resolve_host(engine.host, {})

    async def clean() -> int:
        if framework is BLOCKING:
            return _blocking_runner.clean_up(two_calls(), _blocking_dialer.Dialer(Address(host), None), seconds)
        dialer: Any = (_asyncio if framework is ASYNCIO else _trio).Dialer(Address(host))
        return await _async_runner.clean_up(two_calls(), dialer, seconds)

    return clean


@EACH_FRAMEWORK
def test_it_returns_what_the_flow_returns(framework: Framework, engine: Engine) -> None:
    async def scenario() -> None:
        assert await cleaning(framework, engine, BOUND)() == 404

    framework.run(scenario)
    assert engine.calls == ["inspect", "start"]


@EACH_FRAMEWORK
def test_it_raises_what_the_flow_raises(framework: Framework, engine: Engine) -> None:
    engine.on("start", lambda peer: peer.write(b"no HTTP\r\n\r\n"))

    async def scenario() -> None:
        with pytest.raises(Exception, match="HTTP"):
            await cleaning(framework, engine, BOUND)()

    framework.run(scenario)


@pytest.mark.parametrize("framework", [ASYNCIO, TRIO], ids=str)
def test_a_cancellation_waits_for_its_end(framework: Framework, engine: Engine) -> None:
    asked, go_on = threading.Event(), threading.Event()
    results: list[object] = []

    def slow(peer: Peer) -> None:
        asked.set()
        assert go_on.wait(BOUND)
        answers({})(peer)

    engine.on("inspect", slow)
    clean = cleaning(framework, engine, BOUND)

    async def with_asyncio() -> None:
        async def waits() -> None:
            try:
                await asyncio.sleep(BOUND)
            finally:
                results.append(await clean())

        task = asyncio.create_task(waits())
        await asyncio.sleep(0)
        task.cancel()
        await framework.until(asked)
        task.cancel()  # in the middle of it
        await asyncio.sleep(0)
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def with_trio() -> None:
        async def waits() -> None:
            try:
                await trio.sleep(BOUND)
            finally:
                results.append(await clean())
                await trio.lowlevel.checkpoint()
                results.append("not cancelled")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(waits)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                await framework.until(asked)
            go_on.set()

    framework.run(with_asyncio if framework is ASYNCIO else with_trio)
    assert engine.calls == ["inspect", "start"]
    # asyncio raises the second cancellation where the first one has been caught.
    assert results == ([] if framework is ASYNCIO else [404])


@EACH_FRAMEWORK
@pytest.mark.parametrize("trickles", [False, True])
def test_it_is_bounded(framework: Framework, engine: Engine, trickles: bool) -> None:
    """Also where each wait is short, because a part of an answer comes now and then."""
    closed = threading.Event()

    def act(peer: Peer) -> None:
        peer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            while trickles:
                peer.write(b"x")
                time.sleep(SHORT / 10)
            peer.until_closed()
        closed.set()

    engine.on("inspect", act)

    async def scenario() -> None:
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            await cleaning(framework, engine, SHORT)()
        assert SHORT * 0.9 < time.monotonic() - began < BOUND / 2

    framework.run(scenario)
    assert closed.wait(BOUND)
    assert engine.calls == ["inspect"]


def test_trio_ends_it_however_often_ctrl_c_comes() -> None:
    ended: list[bool] = []

    async def call() -> None:
        for _ in range(3):
            signal.raise_signal(signal.SIGINT)
            await trio.testing.wait_all_tasks_blocked()
        ended.append(True)

    async def main() -> None:
        await _trio.Dialer.shielded(BOUND, call)

    with pytest.raises(KeyboardInterrupt):
        trio.run(main)
    assert ended


def test_a_deadline_that_has_passed_does_not_hold_for_it(engine: Engine) -> None:
    dialer = _blocking_dialer.Dialer(Address(resolve_host(engine.host, {})), None)
    dialer.deadline = passed = time.monotonic() - 1
    with pytest.raises(TimeoutError):
        _blocking_runner.drive(two_calls(), dialer)
    assert _blocking_runner.clean_up(two_calls(), dialer, BOUND) == 404
    assert dialer.deadline == passed


# ---- finish ----


def finishing(framework: Framework, engine: Engine, grace: float, dialer: Any = None) -> Callable[[], Awaitable[int]]:
    """The framework's ``finish`` of ``two_calls``."""
    address = Address(resolve_host(engine.host, {}))

    async def finish() -> int:
        if framework is BLOCKING:
            return _blocking_runner.finish(two_calls(), dialer or _blocking_dialer.Dialer(address, None), grace)
        dialer_: Any = (_asyncio if framework is ASYNCIO else _trio).Dialer(address)
        return await _async_runner.finish(two_calls(), dialer_, grace)

    return finish


@EACH_FRAMEWORK
def test_finish_returns_and_raises_as_the_flow_does(framework: Framework, engine: Engine) -> None:
    async def scenario() -> None:
        assert await finishing(framework, engine, BOUND)() == 404
        engine.on("start", lambda peer: peer.write(b"no HTTP\r\n\r\n"))
        with pytest.raises(Exception, match="HTTP"):
            await finishing(framework, engine, BOUND)()

    framework.run(scenario)


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("framework", [ASYNCIO, TRIO], ids=str)
def test_a_cancelled_finish_waits_for_its_end(framework: Framework, engine: Engine, again: bool) -> None:
    asked, go_on = threading.Event(), threading.Event()

    def slow(peer: Peer) -> None:
        asked.set()
        assert go_on.wait(BOUND)
        answers({})(peer)

    engine.on("inspect", slow)
    call = finishing(framework, engine, BOUND)

    async def with_asyncio() -> None:
        task: asyncio.Future[int] = asyncio.ensure_future(call())
        await framework.until(asked)
        for _ in range(1 + again):
            task.cancel()
            await asyncio.sleep(0)
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def with_trio() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            await framework.until(asked)
            nursery.cancel_scope.cancel()
            go_on.set()
        assert nursery.cancel_scope.cancelled_caught

    framework.run(with_asyncio if framework is ASYNCIO else with_trio)
    assert engine.calls == ["inspect", "start"]


@EACH_FRAMEWORK
def test_the_grace_of_finish_is_bounded(framework: Framework, engine: Engine) -> None:
    asked, closed = threading.Event(), threading.Event()

    def never(peer: Peer) -> None:
        asked.set()
        peer.until_closed()
        closed.set()

    engine.on("inspect", never)
    dialer = _blocking_dialer.Dialer(Address(resolve_host(engine.host, {})), None)
    call = finishing(framework, engine, SHORT, dialer)

    async def blocking() -> None:
        dialer.deadline = time.monotonic() + SHORT
        with pytest.raises(TimeoutError):
            await call()

    async def with_asyncio() -> None:
        task: asyncio.Future[int] = asyncio.ensure_future(call())
        await framework.until(asked)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def with_trio() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            await framework.until(asked)
            nursery.cancel_scope.cancel()

    framework.run({BLOCKING: blocking, ASYNCIO: with_asyncio, TRIO: with_trio}[framework])
    assert closed.wait(BOUND)
    assert engine.calls == ["inspect"]
    # The thread of the blocking ``finish`` closes its descriptor after the shutdown that the engine has seen.
    for thread in threading.enumerate():
        if thread.name == "attachproto":
            thread.join(BOUND)


@pytest.mark.parametrize("framework", [BLOCKING, TRIO], ids=str)
def test_ctrl_c_does_not_end_finish(framework: Framework, engine: Engine) -> None:
    """asyncio's own handler of SIGINT cancels the main task."""
    interrupted = threading.Event()

    def interrupting(peer: Peer) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupted.wait(BOUND)
        answers({})(peer)

    engine.on("inspect", interrupting)
    before = signal.getsignal(signal.SIGINT)

    def handler(*args: Any) -> None:
        interrupted.set()
        signal.default_int_handler(*args)

    async def scenario() -> None:
        if framework is TRIO:  # its handler is there, and answers once the loop runs
            trio.lowlevel.current_trio_token().run_sync_soon(lambda: None)
            interrupted.set()
        else:
            signal.signal(signal.SIGINT, handler)
        await finishing(framework, engine, BOUND)()

    try:
        with pytest.raises(KeyboardInterrupt):
            framework.run(scenario)
    finally:
        signal.signal(signal.SIGINT, before)
    assert engine.calls == ["inspect", "start"]


def test_what_has_not_begun_when_it_is_interrupted_never_begins(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(threading.Thread):
        def start(self) -> None:
            raise KeyboardInterrupt

    monkeypatch.setattr(threading, "Thread", Interrupted)
    began = time.monotonic()
    dialer = _blocking_dialer.Dialer(Address(resolve_host(engine.host, {})), None)
    with pytest.raises(KeyboardInterrupt):
        _blocking_runner.finish(two_calls(), dialer, BOUND)
    assert time.monotonic() - began < BOUND / 2
    assert engine.calls == []
