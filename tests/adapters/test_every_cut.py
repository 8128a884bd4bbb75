"""Every answer of a session, cut, reset or silent at every byte: the right error, all output before it, nothing left.

Which error is right is said by the table in ``cut_outcomes.py``.

With ``ATTACHPROTO_COUNTS=full`` every adapter tries every offset; otherwise each of them a third of the boundaries, so
that together they try all, and a twentieth of the others. Of the calls that end a command, whose every case waits for a
deadline, only the boundaries are tried.
"""

from __future__ import annotations

import collections
import os
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme

from attachproto_adapters import ExitCodeUnknown, _async_command, _async_run, _blocking_command, _blocking_run
from attachproto_adapters._flows import _ending
from attachproto_adapters._flows._commands import END_SECONDS
from tests.adapters.cut_outcomes import Outcome, expected, hides_exit_code, outcome, seen_to_end
from tests.adapters.every_cut import (
    CODE,
    KILLED,
    SESSIONS,
    STDERR,
    STDOUT,
    STREAMS,
    Answer,
    CuttingServer,
    Fault,
    Result,
)
from tests.adapters.interrupting import counts
from tests.soak.hooks import FRAMEWORKS, Hooks

DEADLINE = 0.03
# The times of a command that is to be ended: one by one, until one was enough for the calls before.
DEADLINES = (DEADLINE, 0.1, 0.5, 3.0)
NEVER = 20.0
SHOWN = 20
SETTLES = 5.0

# The last call that ends a command.
LAST_CALLS = {"killed": "exec 1", "killed_unseen": "exec_inspect 0"}

HOWS = {"unix": ("cut", "reset", "stall"), "tcp": ("cut", "reset", "stall"), "tls": ("cut", "torn", "reset", "stall")}


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(params=HOWS)
def network(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server(network: str, authority: trustme.CA, socket_path: Path) -> Iterator[CuttingServer]:
    context = None
    if network == "tls":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
    running = CuttingServer(str(socket_path) if network == "unix" else None, context)
    yield running
    running.close()


# A removal without an answer fails, which a cancelled or late `run` can only warn of.
@pytest.mark.filterwarnings("ignore:.*(could not be removed|was created):attachproto_adapters.AttachWarning")
@pytest.mark.filterwarnings("ignore:something that does not name itself:attachproto_adapters.AttachWarning")
@pytest.mark.parametrize("session", SESSIONS)
@pytest.mark.parametrize("hooks", FRAMEWORKS[:3], ids=lambda hooks: hooks.name)
def test_every_cut(
    hooks: Hooks,
    session: str,
    network: str,
    server: CuttingServer,
    authority: trustme.CA,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
) -> None:
    for module in (_blocking_run, _async_run):
        monkeypatch.setattr(module, "CREATE_GRACE", DEADLINE)
        monkeypatch.setattr(module, "CLEANUP_SECONDS", DEADLINE)
    monkeypatch.setattr(_ending, "ANSWER_SECONDS", DEADLINE)
    tls = None
    if network == "tls":
        tls = ssl.create_default_context()
        authority.configure_trust(tls)

    def limit_end(seconds: float) -> None:
        for module in (_blocking_command, _async_command):
            monkeypatch.setattr(module, "END_SECONDS", seconds)

    trier = Trier(hooks, session, server, tls, limit_end)

    async def main() -> None:
        await trier.one(None)  # imports, and what the event loop opens
        await trier.one(None)
        answers = [*server.answers]
        trier.settled()
        turn = FRAMEWORKS.index(hooks)
        tried = killing(answers, HOWS[network], turn) if session in KILLED else cases(answers, HOWS[network], turn)
        for fault, answer in tried:
            if len(trier.problems) < SHOWN:  # what is left open makes every further case wait
                await trier.one(fault, answer)

    hooks.run([main])
    assert not trier.problems, f"{len(trier.problems)} of {trier.count}:\n" + "\n".join(trier.problems)
    record_property("counted", (f"every cut of {session}", trier.ends))


def cases(answers: list[Answer], hows: tuple[str, ...], turn: int) -> Iterator[tuple[Fault, Answer]]:
    of_boundaries, of_others = counts(3, 1), counts(20, 1)
    for answer in answers:
        for how in hows:
            for at in range(len(answer.data) + 1):
                if (at + turn) % (of_boundaries if at in answer.boundaries else of_others) == 0:
                    yield Fault(answer.call, at, how), answer


def killing(answers: list[Answer], hows: tuple[str, ...], turn: int) -> Iterator[tuple[Fault, Answer]]:
    """The boundaries of the answers to the calls that end a command."""
    first = [answer.call for answer in answers].index("exec_create 1")
    for answer in answers[first:]:
        for how in hows:
            for at in sorted(answer.boundaries):
                if (at + turn) % counts(3, 1) == 0:
                    yield Fault(answer.call, at, how), answer


class Trier:
    """Tries cases in one event loop, or thread, and collects what is wrong."""

    def __init__(
        self,
        hooks: Hooks,
        session: str,
        server: CuttingServer,
        tls: ssl.SSLContext | None,
        limit_end: Callable[[float], None],
    ) -> None:
        self.problems: list[str] = []
        self.count = 0
        self.ends: collections.Counter[str] = collections.Counter()
        self._hooks = hooks
        self._session = session
        self._server = server
        self._tls = tls
        self._limit_end = limit_end
        self._held: tuple[int, ...] | None = None

    def settled(self) -> None:
        """What is held now is held after every case."""
        self._held = self._holds()

    def _holds(self) -> tuple[int, int, int]:
        """How many descriptors, threads and tasks there are, without the threads that a framework keeps.

        Over Unix, TCP and TLS no process is started.
        """
        threads = [each for each in threading.enumerate() if not each.name.startswith(("asyncio_", "Trio thread"))]
        return len(os.listdir("/proc/self/fd")), len(threads), self._hooks.tasks()

    async def one(self, fault: Fault | None, answer: Answer | None = None) -> None:
        """Try one case."""
        stalls = fault is not None and fault.how == "stall"
        self._limit_end(DEADLINE if stalls else END_SECONDS)
        deadlines = DEADLINES if self._session in KILLED else (DEADLINE if stalls else None,)
        result, error = Result(), None
        for deadline in deadlines:
            self._server.begin(self._session, fault)
            result = Result()
            error = await self._perform(result, deadline)
            self._server.until_idle()
            if self._session not in KILLED or self._was_reached(fault):
                break
        self.count += 1
        self.ends[self._name_of_end(result, error)] += 1
        problem = (self._judge_killed if self._session in KILLED else self._judge)(fault, answer, result, error)
        # The thread that creates a container in the blocking adapter ends a moment after the call.
        until = time.monotonic() + SETTLES
        while self._held is not None and self._holds() != self._held and time.monotonic() < until:
            await self._hooks.idle(0.005)
        if not problem and self._held is not None and self._holds() != self._held:
            problem = f"descriptors, threads, tasks: {self._holds()} and not {self._held}"
        if problem:
            self.problems.append(f"{fault}: {problem}; {result} {error!r}"[:500])

    def _was_reached(self, fault: Fault | None) -> bool:
        """Whether the deadline left time for the start of the command, so that it was ended and not only asked for."""
        calls = {answer.call for answer in self._server.answers}
        last = LAST_CALLS[self._session] if fault is None else fault.call
        return last in calls and (last == "exec_create 1" or "exec 1" in calls)

    async def _perform(self, result: Result, deadline: float | None) -> Exception | None:
        named = {} if self._tls is None else {"tls": self._tls}
        by_argument = self._session not in ("attach", "logs")
        blocking = self._hooks.name == "blocking"
        if blocking and deadline is not None and not by_argument:
            named["timeout"] = deadline  # type: ignore[assignment]

        async def whole() -> None:
            async with self._hooks.client(self._server.host, **named) as client:
                await SESSIONS[self._session](client, result, deadline if by_argument else None)

        try:
            await self._hooks.whole_within(NEVER if deadline is None or by_argument else deadline, whole)
        except Exception as exc:
            return exc
        return None

    def _name_of_end(self, result: Result, error: Exception | None) -> str:
        if result.ended is not None:
            return "LATE and ended" if result.ended else "LATE and not ended"
        return outcome(error, self._hooks.broken).name

    def _judge_killed(self, fault: Fault | None, answer: Answer | None, result: Result, error: Exception | None) -> str:
        if error is not None or result.ended is None:
            return "a deadline that was not noticed"
        right = {True} if fault is None or answer is None else seen_to_end(fault, answer)
        if result.ended not in right:
            return f"ended={result.ended} in place of {right}"
        outputs, wanted = (result.stdout, result.stderr), (STDOUT, STDERR)
        if outputs == wanted or (not result.ended and all(map(bytes.startswith, wanted, outputs))):
            return ""
        return f"delivered {outputs}, of {wanted}"

    def _judge(self, fault: Fault | None, answer: Answer | None, result: Result, error: Exception | None) -> str:
        is_whole = (result.stdout, result.stderr, result.exit_code) == (STDOUT, STDERR, CODE)
        if error is None and not is_whole:
            return "a success without all of it"
        if fault is None or answer is None:
            return "" if error is None else "an error without a fault"
        ended, right = outcome(error, self._hooks.broken), expected(self._session, fault, answer)
        if ended not in right:
            return f"{ended.name} in place of {' or '.join(sorted(each.name for each in right))}"
        if error is None or ended is Outcome.REFUSED:
            return ""
        if isinstance(error, ExitCodeUnknown) != (hides_exit_code(self._session, fault) and ended is not Outcome.LATE):
            return "the exit code is not what is missing"
        name = fault.call.split()[0]
        outputs = (result.stdout, result.stderr)
        if not result.exact:
            outputs = getattr(error, "stdout", b""), getattr(error, "stderr", b"")
        wanted = answer.output(fault.at) if name in STREAMS else (STDOUT, STDERR)
        exact = result.exact and name in STREAMS and fault.how != "stall"
        if exact and outputs != wanted:
            return f"delivered {outputs}, and not {wanted}"
        if not all(whole.startswith(part) for part, whole in zip(outputs, wanted, strict=True)):
            return f"delivered {outputs}, of {wanted}"
        return ""
