"""What a container has written and how it has ended is read as often as one likes, and reading changes nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from attachproto import AttachOptions
from attachproto_adapters import ContainerNotRunning, ExitCodeUnknown, LogsUnavailable, RequestRejected
from attachproto_adapters.blocking import attach, logs
from tests.adapters.frameworks import Framework
from tests.live.engine_api import Engine, wait_until

pytestmark = pytest.mark.live

TIMEOUT = 30.0
WITH_LOGS = AttachOptions(logs=True)
REMOVED = {"AutoRemove": True}
WITHOUT_LOG = {"LogConfig": {"Type": "none"}}

Count = Callable[..., None]
Times = Callable[[int], int]


# -- a container that has exited --------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [WITH_LOGS, AttachOptions(logs=True, stream=False)], ids=["attach", "logs-only"])
def test_a_finished_container_reads_the_same_five_times(
    framework: Framework, engine: Engine, options: AttachOptions
) -> None:
    container = engine.finish(engine.shell("echo out1; echo err1 >&2; echo out2; printf tail; exit 9"))

    async def scenario() -> None:
        for _ in range(5):
            async with await framework.attach(container, options, host=engine.host, wait=True) as attachment:
                assert await attachment.communicate() == (b"out1\nout2\ntail", b"err1\n")
                assert await attachment.wait() == 9
            state = engine.inspect(container)["State"]
            assert (state["Status"], state["ExitCode"]) == ("exited", 9)

    framework.run(scenario)


def test_a_finished_container_with_a_tty(framework: Framework, engine: Engine) -> None:
    container = engine.finish(engine.shell("echo out; exit 4", tty=True))

    async def scenario() -> None:
        async with await framework.attach(container, WITH_LOGS, host=engine.host) as attachment:
            assert await attachment.communicate() == (b"out\r\n", b"")
            assert await attachment.wait() == 4

    framework.run(scenario)


def test_started_again_right_after_its_end(engine: Engine, times: Times, count: Count) -> None:
    """Podman 4.3 lost the second run's output in 10 of 24, where it was attached to before it was cleaned up."""
    total = times(100)
    for _ in range(total):
        container = engine.shell("echo out; exit 3")
        for _ in range(2):
            with attach(container, host=engine.host, start=True, timeout=TIMEOUT) as attachment:
                assert attachment.communicate() == (b"out\n", b"")
                assert attachment.wait() == 3
        engine.remove(container)
    count("started again right after its end", engine, total, total)


# -- around the end ---------------------------------------------------------------------------------------------------


def test_attached_with_logs_around_the_end(engine: Engine, times: Times, count: Count) -> None:
    """At moments from before the exit to after it: all of the output, and the exit code, which is held before.

    Where the attach meets the exit, Podman may add a text of its own to stderr, or answer the wait with -1.
    """
    good, texts, unknown, total = 0, 0, 0, times(200)
    for turn in range(total):
        container = engine.shell("echo out; sleep 0.3; exit 9")
        engine.start(container)
        time.sleep(0.05 + 0.4 * turn / total)
        with attach(container, WITH_LOGS, host=engine.host, wait=True, timeout=TIMEOUT) as attachment:
            out, err = attachment.communicate()
            assert out == b"out\n"
            try:
                assert attachment.wait() == 9
            except ExitCodeUnknown:
                assert engine.name == "podman"
                unknown += 1
        assert err == b"" or (engine.name == "podman" and err.startswith(b"Error: ")), err
        texts += bool(err)
        good += 1
        engine.remove(container)
    seen = f"{texts} with a text of Podman's, {unknown} codes unknown"
    count("logs=True, wait=True around the exit", engine, good, total, seen)


def test_attached_around_the_end_without_logs(engine: Engine, times: Times, count: Count) -> None:
    """Attached, or told that it has exited; and where an exit code is given it is the right one."""
    attached, unknown, total = 0, 0, times(200)
    for turn in range(total):
        container = engine.shell("sleep 0.3; exit 9")
        engine.start(container)
        time.sleep(0.05 + 0.4 * turn / total)
        try:
            attachment = attach(container, host=engine.host, timeout=TIMEOUT)
        except ContainerNotRunning:
            continue
        with attachment:
            attachment.communicate()
            attached += 1
            try:
                assert attachment.wait() == 9
            except ExitCodeUnknown:
                assert engine.name == "podman"
                unknown += 1
    count("around the exit, attached", engine, attached, total, f"the others had exited; {unknown} codes unknown")


def test_a_container_that_is_being_stopped(engine: Engine) -> None:
    """Podman attaches to it no more, and says so. dockerd does, and the output goes on to its end."""
    container = engine.shell("trap '' TERM; echo ready; sleep 600")
    engine.start(container)
    wait_until(lambda: b"ready" in engine.logs(container), "it has trapped the signal")
    refusals: list[str] = []

    def refused() -> bool:
        try:
            attach(container, WITH_LOGS, host=engine.host, timeout=TIMEOUT).close()
        except (ContainerNotRunning, RequestRejected) as exc:
            refusals.append(str(exc))
        return bool(refusals)

    with ThreadPoolExecutor(1) as pool:
        stopped = pool.submit(engine.call, "POST", f"/containers/{container}/stop?t=3")
        if engine.name == "podman" and not engine.label.startswith("embedded"):
            wait_until(refused, "the attach is refused")
            assert "currently in state stopping" in refusals[0]
        else:
            with attach(container, WITH_LOGS, host=engine.host, wait=True, timeout=TIMEOUT) as attachment:
                assert attachment.communicate() == (b"ready\n", b"")
                assert attachment.wait() == 137
        stopped.result(TIMEOUT)


@pytest.mark.parametrize("wait_first", [False, True])
def test_the_exit_code_of_what_is_removed_at_its_end(
    engine: Engine, times: Times, count: Count, wait_first: bool
) -> None:
    """The wait is held before the end, and read before or after the output."""
    total = times(60)
    for _ in range(total):
        container = engine.shell("echo out; sleep 0.3; echo last; exit 3", host_config=REMOVED)
        engine.start(container)
        with attach(container, host=engine.host, wait=True, timeout=TIMEOUT) as attachment:
            if wait_first:
                assert attachment.wait() == 3
            assert attachment.communicate()[0].endswith(b"last\n")
            assert attachment.wait() == 3
    count("AutoRemove, wait=True", engine, total, total, "wait first" if wait_first else "output first")


# -- log drivers that cannot be read ----------------------------------------------------------------------------------


def test_without_a_log_output_comes_and_logs_are_refused(framework: Framework, engine: Engine) -> None:
    container = engine.shell("echo out; read line; exit 5", host_config=WITHOUT_LOG, open_stdin=True, stdin_once=True)

    async def refused(**options: Any) -> None:
        for opening in (framework.attach(container, WITH_LOGS, **options), framework.logs(container, **options)):
            with pytest.raises(LogsUnavailable, match="'none'") as caught:
                await opening
            assert caught.value.driver == "none"

    async def scenario() -> None:
        options = AttachOptions(stdin=True, logs=True)
        async with await framework.attach(container, options, host=engine.host, start=True) as attachment:
            await refused(host=engine.host)
            assert await attachment.communicate(b"go\n") == (b"out\n", b"")
            assert await attachment.wait() == 5
        await refused(host=engine.host)
        engine.wait_for(container, "exited")
        assert engine.inspect(container)["State"]["ExitCode"] == 5

    framework.run(scenario)


@pytest.mark.parametrize("cached", [True, False])
def test_dockerd_reads_other_drivers_from_its_cache_if_it_has_one(docker: Engine, cached: bool) -> None:
    config = {"gelf-address": "udp://127.0.0.1:9", "cache-disabled": "false" if cached else "true"}
    host_config = {"LogConfig": {"Type": "gelf", "Config": config}}
    container = docker.finish(docker.shell("echo out; exit 6", host_config=host_config))
    if cached:
        with attach(container, WITH_LOGS, host=docker.host, timeout=TIMEOUT) as attachment:
            assert attachment.communicate() == (b"out\n", b"")
            assert attachment.wait() == 6
        return
    with pytest.raises(LogsUnavailable, match=r"'gelf'.*does not support reading"):
        attach(container, WITH_LOGS, host=docker.host, timeout=TIMEOUT)
    with pytest.raises(LogsUnavailable, match=r"'gelf'.*does not support reading"):
        logs(container, host=docker.host, timeout=TIMEOUT)
