"""What a scenario of the matrix is given: an adapter, an engine, containers, and a place to say what is different."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import attrs

from attachproto import AttachOptions, OutputClosed, RawOutput, Stderr, Stdout
from attachproto_adapters import CommandTimeout
from tests.adapters.frameworks import Attachment, Client, Framework
from tests.live import engines
from tests.live.conftest import EMBEDDED
from tests.live.engine_api import Engine, wait_until
from tests.live.matrix.differences import DIFFERENCES
from tests.live.proxies.bridge import Bridge

T = TypeVar("T")

STDIN = AttachOptions(stdin=True)
LOGS = AttachOptions(logs=True)
PRINTS = "echo out; echo err >&2; exit 3"


class Shared:
    """Containers that many scenarios read and none changes, so that an engine starts them once.

    Args:
        engine: where they are. Whoever makes this removes its containers.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._made: dict[str, str] = {}
        self._lock = threading.Lock()

    def _once(self, name: str, make: Callable[[], str]) -> str:
        with self._lock:
            if name not in self._made:
                self._made[name] = make()
            return self._made[name]

    def sleeper(self) -> str:
        """It runs as long as the matrix. Scenarios run commands in it."""

        def make() -> str:
            container = self.engine.create("sleep", "3600")
            self.engine.start(container)
            return container

        return self._once("sleeper", make)

    def finished(self) -> str:
        """It has printed on both streams, without a newline at the end, and has exited with 3."""
        script = "echo out1; echo err1 >&2; echo out2; printf tail; exit 3"
        return self._once("finished", lambda: self.engine.finish(self.engine.shell(script)))

    def timed(self) -> str:
        """It has printed three lines, more than a second apart: Podman 4.3 logs whole seconds."""
        script = "echo one; sleep 1.2; echo two; sleep 1.2; echo three"
        return self._once("timed", lambda: self.engine.finish(self.engine.shell(script)))

    def terminal(self) -> str:
        """It had a TTY, has printed on both streams, and has exited."""
        return self._once("terminal", lambda: self.engine.finish(self.engine.shell("echo out; echo err >&2", tty=True)))


@attrs.define
class Scene:
    """One play of one scenario.

    Attributes:
        engine: the real engine; its `create` and `shell` make containers that are removed after the play.
        seen: the differences that the scenario has met, as keys of `DIFFERENCES`.
    """

    framework: Framework
    engine: Engine
    shared: Shared
    seen: set[str] = attrs.field(factory=set)

    @property
    def host(self) -> str:
        return self.engine.host

    @property
    def embedded(self) -> bool:
        return self.engine.label in EMBEDDED

    def differs(self, key: str) -> None:
        """Notes a difference, or what is not offered. It must be explained, and for this engine."""
        assert DIFFERENCES[key].fits(self.engine), f"{key} is not explained for {self.engine}: {DIFFERENCES[key]}"
        self.seen.add(key)

    def either(self, got: object, wanted: object, **different: object) -> None:
        """Checks a result: what is wanted, or the value that one of the differences has."""
        if got == wanted:
            return
        for key, value in different.items():
            if got == value and DIFFERENCES[key].fits(self.engine):
                self.differs(key)
                return
        raise AssertionError(f"{str(got)[:300]} in place of {str(wanted)[:300]}")

    async def aside(self, call: Callable[..., T], *args: Any, **named: Any) -> T:
        """Makes a blocking call, such as one of the engine's, beside the event loop."""
        return await self.framework.aside(lambda: call(*args, **named))

    async def attach(self, container: str, options: AttachOptions | None = None, **named: Any) -> Attachment:
        return await self.framework.attach(container, options or AttachOptions(), **{"host": self.host, **named})

    async def start(self, container: str, options: AttachOptions | None = None, **named: Any) -> Attachment:
        return await self.attach(container, options, start=True, **named)

    async def logs(self, container: str, **named: Any) -> Attachment:
        return await self.framework.logs(container, **{"host": self.host, **named})

    async def run_exec(self, container: str, command: list[str] | str, **named: Any) -> Any:
        """A string is a script of the shell."""
        words = ["sh", "-c", command] if isinstance(command, str) else command
        return await self.framework.run_exec(container, words, **{"host": self.host, **named})

    async def run(self, command: list[str] | str, *, host_config: dict[str, Any] | None = None, **named: Any) -> Any:
        """`run` on a client of its own, with what every container of the live tests has."""
        words = ["sh", "-c", command] if isinstance(command, str) else command
        config = {"HostConfig": self.engine.host_config(host_config or {})}
        async with self.client() as client:
            return await client.run(engines.IMAGE, words, **{"config": config, **named})

    def logged(self, container: str, words: bytes) -> None:
        """Waits, and blocks, until the engine has logged this."""
        wait_until(lambda: words in self.engine.logs(container), f"{words!r} is logged", self.framework.bound)

    def client(self, host: str | None = None) -> Client:
        return self.framework.client(host or self.host)

    @contextmanager
    def bridge(self) -> Iterator[Bridge]:
        """Leads to the engine, on a Unix socket and a TCP port; at its end, all its connections end."""
        with (
            TemporaryDirectory(prefix="attachproto-") as folder,
            Bridge(self.engine.socket, Path(folder, "s")) as bridge,
        ):
            yield bridge


async def read_until(attachment: Attachment, mark: bytes) -> bytes:
    """Output up to and with a mark, whatever the stream."""
    seen = bytearray()
    while mark not in seen:
        event = await attachment.receive()
        assert isinstance(event, Stdout | Stderr | RawOutput), f"{event} before {mark!r}, after {bytes(seen)!r}"
        seen += event.data
    return bytes(seen)


async def read_all(attachment: Attachment) -> tuple[bytes, bytes]:
    """Stdout (or a terminal's output) and stderr up to the end, by `receive`, which judges nothing at the end."""
    out, err = bytearray(), bytearray()
    while not isinstance(event := await attachment.receive(), OutputClosed):
        (err if isinstance(event, Stderr) else out).extend(event.data)
    return bytes(out), bytes(err)


async def late(call: Callable[[float], Awaitable[object]], printed: bytes) -> CommandTimeout:
    """Makes a call that must not end within its time, and gives its error.

    On a busy machine the command may not have printed by then, or the library may give up on ending it, and say so:
    then the call is made again, with more time.
    """
    times = (1.5, 6.0, 20.0)
    for seconds in times:
        try:
            result = await call(seconds)
        except CommandTimeout as error:
            if (error.stdout.startswith(printed) and error.ended) or seconds == times[-1]:
                return error
        else:
            raise AssertionError(f"it has ended: {result}")
    raise AssertionError("not reached")


Call = Callable[[Scene], Coroutine[Any, Any, None]]


@attrs.frozen
class Scenario:
    """A row of the page.

    Attributes:
        group: the table that it is in.
        title: what it shows, as the page says it.
        call: plays it.
    """

    group: str
    title: str
    call: Call

    def __str__(self) -> str:
        return getattr(self.call, "__name__", "")


SCENARIOS: list[Scenario] = []


class Group:
    """The scenarios of one table."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, title: str) -> Callable[[Call], Call]:
        """Takes a scenario; `title` is its row's first cell."""

        def add(call: Call) -> Call:
            scenario = Scenario(self.name, title, call)
            assert str(scenario) not in {str(each) for each in SCENARIOS}, f"two scenarios are called {scenario}"
            SCENARIOS.append(scenario)
            return call

        return add
