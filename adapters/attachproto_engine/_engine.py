"""The public class: an engine that is started and closed from blocking code, asyncio or trio.

Strategy: the engine always runs in a thread with an event loop of its own. So it behaves the same under every
framework, a test that blocks its own event loop does not stop it, and a cancellation in the test does not reach it.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from types import TracebackType
from typing import Self

from attachproto._validators import VERSION, version_numbers
from attachproto_engine._fault_book import FaultBook
from attachproto_engine._faults import Call, Fault
from attachproto_engine._guard import Guard
from attachproto_engine._images import Images
from attachproto_engine._rules import EMULATED, HIGHEST, MINIMUM, RULES, Emulated
from attachproto_engine._server import Server, listening
from attachproto_engine._system_json import NOT_A_SANDBOX


class Engine:
    """An engine that runs local processes as containers, to test clients of Docker against.

    **It is not a sandbox.** A container is an ordinary process of this machine, with the rights of the user who runs
    the engine; its image is only a name. The engine listens on a Unix socket that only this user can open, or on
    loopback.

    It is a context manager, and an asynchronous one under asyncio and trio::

        with Engine() as engine:
            client = docker.DockerClient(base_url=engine.host)

    Leaving it kills every container with its whole session, and so does the end of the process that uses it, SIGKILL
    included. A process that has left the session by ``setsid`` runs on.

    Args:
        host: ``unix:///PATH`` or ``tcp://127.0.0.1:PORT`` (0 for any port); by default a socket in a new temporary
            directory.
        emulate: the engine whose behaviour it has. As ``podman`` it differs where clients have to treat Podman
            differently: header fields, errors, half-closes, an attach to an exited container, and ``/wait``.
        api_version: the highest that it takes, and that of requests without one; by default 1.51, as ``podman`` 1.41.
        faults: the faults of every attach, by the container's name; see ``fault`` for the other calls.
        images: the names of the images that are there, such as ``alpine`` or ``registry:5000/tool:2``: to create a
            container of any other is a 404. By default every image is there.

    Raises:
        TypeError: an argument is of another type.
        ValueError: the engine, the version or the name of an image is invalid. An invalid host is one at the start.
    """

    def __init__(
        self,
        host: str | None = None,
        *,
        emulate: Emulated = "dockerd",
        api_version: str | None = None,
        faults: Mapping[str, Iterable[Fault]] | None = None,
        images: Iterable[str] | None = None,
    ) -> None:
        if emulate not in EMULATED:
            raise ValueError(f"an engine emulates {' or '.join(EMULATED)}, not {emulate!r}")
        self._rules = RULES[emulate]
        if api_version is None:
            api_version = self._rules.maximum
        for name, value in (("host", host), ("api_version", api_version)):
            if value is not None and not isinstance(value, str):
                raise TypeError(f"{name} is of type str, not {value!r}")
        lowest, highest = version_numbers(MINIMUM), version_numbers(HIGHEST)
        if not VERSION.fullmatch(api_version) or not lowest <= version_numbers(api_version) <= highest:
            raise ValueError(f"an engine speaks API {MINIMUM} to {HIGHEST}, not {api_version!r}")
        self._images = Images(images)
        self._wanted = host
        self._api_version = api_version
        self._faults = FaultBook()
        if faults is not None and not isinstance(faults, Mapping):
            raise TypeError(f"faults are lists by the names of containers, not {faults!r}")
        for container, listed in (faults or {}).items():
            self.fault(container, *listed)
        self._host: str | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop
        self._stop: asyncio.Event

    @property
    def host(self) -> str:
        """The address that it listens on, in the form of ``DOCKER_HOST``.

        Raises:
            RuntimeError: the engine is not running.
        """
        if self._host is None:
            raise RuntimeError("the engine does not run: enter it, or call start()")
        return self._host

    def fault(self, container: str, *faults: Fault, on: Call = "attach", nth: int | None = None) -> None:
        """Script what goes wrong with the answers to a call about a container.

        Args:
            container: its name, also where the client uses the ID; it need not exist yet.
            *faults: all of them together; none removes those that were there. They replace what was scripted before.
            on: the call, by default an attach. ``exec`` is the start of an exec that attaches.
            nth: only the answer to this call of its kind, counted from 1 over the engine's life; by default every
                answer that has no faults of its own. Beside the calls that a fault waits for, the engine remembers the
                counts of the last 10,000 names and calls.

        Raises:
            TypeError: one of the faults is no fault, or another argument has the wrong type.
            ValueError: there is no such call, or ``nth`` is less than 1.
        """
        self._faults.add(container, faults, on, nth)

    # ---- blocking ----

    def start(self) -> None:
        """Start it; returns when it listens.

        Raises:
            OSError: it cannot listen on the address.
            RuntimeError: it is running already.
        """
        if self._thread is not None:
            raise RuntimeError("the engine runs already")
        ready: Future[str] = Future()
        self._thread = threading.Thread(target=self._work, args=(ready,), name="attachproto engine", daemon=True)
        self._thread.start()
        try:
            self._host = ready.result()
        except Exception:  # it could not start, and its thread has ended
            self._thread.join()
            self._thread = None
            raise
        except BaseException:  # Ctrl-C here; the engine may be about to run
            ready.add_done_callback(lambda _: self._end())
            self._thread.join()
            self._thread = None
            raise
        atexit.register(self.close)

    def close(self) -> None:
        """Close it, and kill everything that it started. Can be called more than once, and from any thread."""
        thread = self._thread
        if thread is not None:
            self._end()
            thread.join()
            atexit.unregister(self.close)
        self._thread = self._host = None

    def _end(self) -> None:
        with contextlib.suppress(RuntimeError, AttributeError):  # its event loop is closed, or was not created
            self._loop.call_soon_threadsafe(self._stop.set)

    def _work(self, ready: Future[str]) -> None:
        try:
            asyncio.run(self._run(ready))
        except BaseException as exc:
            if ready.done():
                raise
            ready.set_exception(exc)

    async def _run(self, ready: Future[str]) -> None:
        with contextlib.ExitStack() as opened:
            guard = Guard()
            opened.callback(guard.close)
            host, directory = self._wanted, None
            if host is None:
                directory = tempfile.mkdtemp(prefix="attachproto-")
                opened.callback(shutil.rmtree, directory, ignore_errors=True)
                host = f"unix://{directory}/engine.sock"
            listener, host = opened.enter_context(listening(host, guard))
            if directory is not None:
                guard.path(directory)
            self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
            ready.set_result(host)
            server = Server(self._rules, self._api_version, self._faults, self._images, guard)
            await server.run(listener, self._stop)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # ---- asyncio and trio ----

    async def __aenter__(self) -> Self:
        try:
            await _in_thread(self.start)
        except asyncio.CancelledError:  # then __aexit__ is not called
            await _in_thread(self.close)
            raise
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await _in_thread(self.close)


async def _in_thread(work: Callable[[], None]) -> None:
    """Run a blocking function in a thread of the running framework. A cancellation waits until it has returned."""
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_run():
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(work)
        return
    task = asyncio.ensure_future(asyncio.to_thread(work))
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as exc:
            cancelled = exc
    if cancelled is not None:
        raise cancelled
    task.result()


def serve(host: str, emulate: Emulated = "dockerd") -> int:
    """Run an engine until SIGINT, SIGTERM, SIGHUP or SIGQUIT, as ``attachproto engine`` does; returns 0.

    When the engine listens, it prints one line: its address, in the form of ``DOCKER_HOST``.
    """
    return asyncio.run(_serve(host, emulate))


async def _serve(host: str, emulate: Emulated) -> int:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number_ in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        loop.add_signal_handler(number_, stop.set)
    guard = Guard()
    with contextlib.closing(guard), listening(host, guard) as (listener, address):
        print(f"attachproto: {NOT_A_SANDBOX}", file=sys.stderr, flush=True)
        print(address, flush=True)
        await Server(RULES[emulate], HIGHEST, FaultBook(), Images(None), guard).run(listener, stop)
    return 0
