"""Performs one job of the soak with a client of any framework, and notes how it ended."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import attrs

from attachproto import Accepted, AttachOptions, OutputClosed, Stderr, Stdout
from tests.adapters.frameworks import Attachment, Client
from tests.soak.hooks import Hooks, WasCancelled
from tests.soak.jobs import ATTACHMENTS, Effect, Job

T = TypeVar("T")

_PIECE = 3000


@attrs.define
class Outcome:
    """How a job has ended.

    Attributes:
        end: ``whole``: it has returned; ``error``; ``cancelled``.
        stdout: what it has delivered, also before an error.
        stderr: the same.
        exit_code: what it has returned.
        error: what it has raised.
        resumed: a deadline has passed, and the call was made again.
        accepted: the answer that opened its last stream, where an attachment shows it.
    """

    end: str = "whole"
    stdout: bytes = b""
    stderr: bytes = b""
    exit_code: int | None = None
    error: Exception | None = None
    resumed: bool = False
    accepted: Accepted | None = None


class Performer:
    """Performs jobs in one framework."""

    def __init__(self, hooks: Hooks) -> None:
        self._hooks = hooks

    async def __call__(self, job: Job, client: Client, container: str) -> Outcome:
        """Perform a job.

        Args:
            client: of the engine.
            container: that the job runs in, or is about; for ``run`` its name.
        """
        outcome = Outcome()
        perform: Callable[[Job, Client, str, Outcome], Awaitable[None]] = getattr(self, f"_{job.kind}")

        async def whole() -> None:
            await perform(job, client, container, outcome)

        try:
            if job.interruption == "cancel":
                await self._hooks.cancelled_after(job.seconds, whole)
            elif job.effect is Effect.SILENT and job.kind in ATTACHMENTS:
                await self._hooks.whole_within(job.seconds, whole)
            else:
                await whole()
        except WasCancelled:
            outcome.end = "cancelled"
        except Exception as exc:
            outcome.end, outcome.error = "error", exc
            for name in ("stdout", "stderr"):
                if isinstance(found := getattr(exc, name, None), bytes) and found:
                    setattr(outcome, name, found)
        return outcome

    # ---- the kinds ----

    async def _run(self, job: Job, client: Client, container: str, outcome: Outcome) -> None:
        timeout = job.seconds if job.interruption == "deadline" else None
        result = await client.run("any", job.command, input=job.input, name=container, timeout=timeout)
        outcome.stdout, outcome.stderr, outcome.exit_code = result.stdout, result.stderr, result.exit_code

    async def _run_exec(self, job: Job, client: Client, container: str, outcome: Outcome) -> None:
        timeout = job.seconds if job.interruption == "deadline" else None
        tty = job.kind == "terminal"
        result = await client.run_exec(container, job.command, input=job.input, timeout=timeout, tty=tty)
        outcome.stdout, outcome.stderr, outcome.exit_code = result.stdout, result.stderr, result.exit_code

    _terminal = _run_exec

    async def _refused(self, job: Job, client: Client, container: str, outcome: Outcome) -> None:
        await client.attach("no-such-container")

    async def _attach(self, job: Job, client: Client, container: str, outcome: Outcome) -> None:
        options = AttachOptions(stdin=job.input is not None)
        async with await client.attach(container, options, start=True) as attachment:
            outcome.accepted = attachment.accepted
            communicate = lambda: attachment.communicate(job.input)  # noqa: E731
            outcome.stdout, outcome.stderr = await self._interruptible(job, attachment, outcome, communicate)
            outcome.exit_code = await attachment.wait()

    _lives_on = _attach

    async def _lines(self, job: Job, client: Client, container: str, outcome: Outcome) -> None:
        async with await client.attach(container, start=True) as attachment:
            outcome.accepted = attachment.accepted

            async def read() -> None:
                async for line in attachment.lines():
                    text = line.text.encode() + b"\n" * line.ended
                    if line.kind is Stderr:
                        outcome.stderr += text
                    else:
                        outcome.stdout += text

            await self._interruptible(job, attachment, outcome, read)
            outcome.exit_code = await attachment.wait()

    async def _logs(self, job: Job, client: Client, container: str, outcome: Outcome) -> None:
        async with await client.logs(container) as attachment:
            outcome.accepted = attachment.accepted
            await self._interruptible(job, attachment, outcome, lambda: self._receive_all(attachment, outcome))
            outcome.exit_code = job.exit_code

    async def _conversation(self, job: Job, client: Client, container: str, outcome: Outcome) -> None:
        """Send a piece of stdin, read its echo, and so on; then the rest."""
        assert job.input is not None
        async with await client.attach(container, AttachOptions(stdin=True), start=True) as attachment:
            outcome.accepted = attachment.accepted
            for at in range(0, len(job.input), _PIECE):
                await attachment.send_stdin(job.input[at : at + _PIECE])
                wanted = min(at + _PIECE, len(job.input))

                async def read(wanted: int = wanted) -> None:
                    while len(outcome.stdout) < wanted and await self._receive(attachment, outcome):
                        pass

                await self._interruptible(job, attachment, outcome, read)
            await attachment.close_stdin()
            await self._receive_all(attachment, outcome)
            outcome.exit_code = await attachment.wait()

    # ---- parts ----

    async def _interruptible(
        self, job: Job, attachment: Attachment, outcome: Outcome, call: Callable[[], Awaitable[T]]
    ) -> T:
        """Make a call on an attachment with the job's interruption. After a deadline the call is made again."""
        if job.interruption == "deadline" and job.effect is not Effect.SILENT:
            try:
                return await self._hooks.within(job.seconds, attachment, call)
            except TimeoutError:
                outcome.resumed = True
                return await call()
        if job.interruption == "close":
            return await self._hooks.closing_after(job.seconds, attachment, call)
        return await call()

    @staticmethod
    async def _receive(attachment: Attachment, outcome: Outcome) -> bool:
        event: Any = await attachment.receive()
        if isinstance(event, OutputClosed):
            return False
        if isinstance(event, Stderr):
            outcome.stderr += event.data
        else:
            assert isinstance(event, Stdout)
            outcome.stdout += event.data
        return True

    async def _receive_all(self, attachment: Attachment, outcome: Outcome) -> None:
        while await self._receive(attachment, outcome):
            pass
