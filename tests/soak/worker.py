"""A worker of the soak: one client in one framework, on one engine, and one job after the other."""

from __future__ import annotations

import collections
import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs

from attachproto_adapters import CommandTimeout
from attachproto_engine import Engine
from tests.adapters.frameworks import Client
from tests.engine.client import call, create, dial, read_until, start, wait
from tests.helpers import children
from tests.soak.front import Front
from tests.soak.hooks import Hooks
from tests.soak.jobs import ATTACHMENTS, Effect, Job, draw
from tests.soak.perform import Outcome, Performer
from tests.soak.verdict import judge

# A container keeps its execs, as dockerd's does, so it is replaced after so many.
_EXECS = 25


@attrs.define
class Tally:
    """What all workers have done. Each count has one writer at a time, because the workers share the GIL.

    Attributes:
        ends: how many jobs have ended how, by their kind.
        errors: by class.
        faults: by class.
        findings: what was wrong, in words.
        running: the job of each worker, and when it has begun.
    """

    ends: collections.Counter[tuple[str, str]] = attrs.field(factory=collections.Counter)
    errors: collections.Counter[str] = attrs.field(factory=collections.Counter)
    faults: collections.Counter[str] = attrs.field(factory=collections.Counter)
    findings: list[str] = attrs.field(factory=list)
    running: dict[str, tuple[Job, float]] = attrs.field(factory=dict)

    @property
    def jobs(self) -> int:
        return self.ends.total()


@attrs.define
class Control:
    """What the main thread tells the workers."""

    pause: bool = False
    stop: bool = False


class Worker:
    """One worker.

    Args:
        named: of the client, besides its address.
        keeps: whether the client lives as long as the worker. Otherwise each pause closes it.
    """

    def __init__(
        self,
        name: str,
        hooks: Hooks,
        engine: Engine,
        front: Front | None,
        named: dict[str, Any],
        control: Control,
        tally: Tally,
        seed: int,
        *,
        keeps: bool,
    ) -> None:
        self.name = name
        self.idle = False
        self._hooks = hooks
        self._engine = engine
        self._front = front
        self._named = named
        self._control = control
        self._tally = tally
        self._seed = seed
        self._keeps = keeps
        self._perform = Performer(hooks)
        self._heads = heads(engine, name)
        self._execs = 0

    async def __call__(self) -> None:
        """Work until the main thread says otherwise."""
        await self._hooks.aside(self._new_exec_container)
        number = 0
        while not self._control.stop:
            async with self._client() as client:
                while not self._control.stop and (self._keeps or not self._control.pause):
                    await self._paused()
                    number += 1
                    await self._one(draw(f"{self._seed}/{self.name}/{number}", **self._draws), client)
            await self._paused()

    @property
    def _draws(self) -> dict[str, bool]:
        return {"blocking": self._hooks.name == "blocking", "tls": self._front is not None}

    def _client(self, **named: Any) -> Client:
        return self._hooks.client(
            self._engine.host if self._front is None else self._front.host, **self._named, **named
        )

    async def _paused(self) -> None:
        while self._control.pause and not self._control.stop:
            self.idle = True
            await self._hooks.idle(0.02)
        self.idle = False

    # ---- one job ----

    async def _one(self, job: Job, client: Client) -> None:
        aside = self._hooks.aside
        self._tally.running[self.name] = job, time.monotonic()
        container = await aside(lambda: self._prepare(job))
        self._engine.fault(container, *job.faults, on=job.on)
        if self._front is not None:
            self._front.plan(job.front)
        try:
            if job.effect is Effect.SILENT and job.kind in ATTACHMENTS and self._hooks.name == "blocking":
                async with self._client(timeout=job.seconds) as hasty:
                    outcome = await self._perform(job, hasty, container)
            else:
                outcome = await self._perform(job, client, container)
        finally:
            self._engine.fault(container, on=job.on)
            if self._front is not None:
                self._front.plan(None)
        found = judge(job, outcome, self._hooks.broken, self._heads)
        found += await aside(lambda: self._left(job, outcome, container))
        self._note(job, outcome, found)
        del self._tally.running[self.name]

    def _prepare(self, job: Job) -> str:
        """The container of a job; of ``run`` and of a refused call only its name."""
        if job.kind in ("run_exec", "terminal"):
            self._execs += 1
            if self._execs % _EXECS == 0:
                self._new_exec_container()
            return f"{self.name}-exec"
        container = f"{self.name}-job"
        if job.kind not in ("run", "refused"):
            stdin = job.input is not None
            create(self._engine, container, *job.command, OpenStdin=stdin, StdinOnce=stdin)
        if job.kind == "logs":
            start(self._engine, container)
            wait(self._engine, container)
        return container

    def _new_exec_container(self) -> None:
        name = f"{self.name}-exec"
        self._remove(name)
        create(self._engine, name, "sleep", "100000")
        start(self._engine, name)

    def _remove(self, container: str) -> bool:
        """Remove a container; returns whether it was there."""
        return call(self._engine, "DELETE", f"/containers/{container}?force=1").status == 204

    def _left(self, job: Job, outcome: Outcome, container: str) -> list[str]:
        """What a job has left behind and should not have."""
        if job.kind in ("run_exec", "terminal"):
            ended = outcome.error.ended if isinstance(outcome.error, CommandTimeout) else job.effect is Effect.NONE
            return ["its process goes on"] if ended and runs(job.marker) else []
        # The removal inspects the container; if that fails each time, the error has a note that it may be left.
        may_be_left = job.kind != "run" or (job.on == "inspect" and job.effect is Effect.CUTS)
        return ["its container was not removed"] if self._remove(container) and not may_be_left else []

    def _note(self, job: Job, outcome: Outcome, found: list[str]) -> None:
        tally = self._tally
        tally.ends[job.kind, "whole, read again" if outcome.resumed and outcome.end == "whole" else outcome.end] += 1
        if outcome.error is not None:
            tally.errors[type(outcome.error).__name__] += 1
        for fault in job.faults:
            tally.faults[f"{type(fault).__name__} on {job.on}"] += 1
        if job.front is not None:
            tally.faults["reset within TLS" if job.front.reset else "cut within TLS"] += 1
        if job.interruption != "none":
            tally.faults[f"interruption: {job.interruption}"] += 1
        for each in found:
            finding = f"{each}\n    {shortened(job)}\n    {shortened(outcome)}"
            tally.findings.append(finding)
            print(f"FINDING {finding}", flush=True)


def shortened(what: Job | Outcome) -> str:
    """Its attributes, of which long bytes are shown by their size."""
    values = attrs.asdict(what, recurse=False)
    shown = (
        f"{name}={f'{len(value)} bytes' if isinstance(value, bytes) and len(value) > 100 else repr(value)[:500]}"
        for name, value in values.items()
    )
    return f"{type(what).__name__}({', '.join(shown)})"


def runs(marker: str) -> bool:
    """Whether a process with this argument runs among the children of this process."""
    for number in children():
        with contextlib.suppress(OSError):
            if marker.encode() in Path(f"/proc/{number}/cmdline").read_bytes().split(b"\0"):
                return True
    return False


def heads(engine: Engine, name: str) -> dict[str, int]:
    """The size of the head that opens each kind of stream of this engine."""
    container = f"{name}-heads"
    create(engine, container, "sleep", "100")
    start(engine, container)
    body = {"Cmd": ["true"], "AttachStdout": True, "AttachStderr": True}
    exec_id = call(engine, "POST", f"/containers/{container}/exec", body).json["Id"]
    targets: dict[str, Callable[[], str]] = {
        "attach": lambda: f"POST /containers/{container}/attach?stream=1&stdout=1&stderr=1",
        "exec": lambda: f"POST /exec/{exec_id}/start",
        "logs": lambda: f"GET /containers/{container}/logs?stdout=1&stderr=1",
    }
    found: dict[str, int] = {}
    for call_, target in targets.items():
        fields = "Host: localhost\r\n"
        if call_ != "logs":
            fields += "Connection: Upgrade\r\nUpgrade: tcp\r\n"
        data = b'{"Detach":false,"Tty":false}' if call_ == "exec" else b""
        if data:
            fields += f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n"
        with dial(engine) as sock:
            sock.sendall(f"{target()} HTTP/1.1\r\n{fields}\r\n".encode() + data)
            found[call_] = read_until(sock, b"\r\n\r\n").index(b"\r\n\r\n") + 4
    call(engine, "DELETE", f"/containers/{container}?force=1")
    return found
