"""Every answer of a session, cut, reset or silent at every byte: the right error, all output before it, nothing left.

With ``ATTACHPROTO_COUNTS=full`` every adapter tries every offset; otherwise each of them a third of the boundaries, so
that together they try all, and a twentieth of the others.
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

from attachproto import AttachError, LocalProtocolError
from attachproto_adapters import AttachmentClosed, ClientClosed, _async_run, _blocking_run
from attachproto_adapters._flows import _ending
from tests.adapters.every_cut import CODE, SESSIONS, STDERR, STDOUT, STREAMS, Answer, CuttingServer, Fault, Result
from tests.adapters.interrupting import counts
from tests.soak.hooks import FRAMEWORKS, Hooks, WasCancelled

DEADLINE = 0.03
NEVER = 20.0
SETTLES = 5.0

HOWS = {"unix": ("cut", "reset", "stall"), "tcp": ("cut", "reset", "stall"), "tls": ("cut", "torn", "reset", "stall")}

# These calls are made again; the answer to the trial of a half-close may be anything that is an answer, and an attach
# goes on without it.
HARMLESS = ("wait", "remove", "ping")

# These are made again if a connection that was kept ends without an answer.
REPEATED_UNANSWERED = ("inspect", "exec_inspect")


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
@pytest.mark.filterwarnings("ignore:.*could not be removed:attachproto_adapters.AttachWarning")
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
    trier = Trier(hooks, session, server, tls)

    async def main() -> None:
        await trier.one(None)  # imports, and what the event loop opens
        await trier.one(None)
        answers = [*server.answers]
        trier.settled()
        for fault, answer in cases(answers, HOWS[network], turn=FRAMEWORKS.index(hooks)):
            await trier.one(fault, answer)

    hooks.run([main])
    assert not trier.problems, f"{len(trier.problems)} of {trier.count}:\n" + "\n".join(trier.problems[:20])
    record_property("counted", (f"every cut of {session}", trier.ends))


def cases(answers: list[Answer], hows: tuple[str, ...], turn: int) -> Iterator[tuple[Fault, Answer]]:
    of_boundaries, of_others = counts(3, 1), counts(20, 1)
    for answer in answers:
        for how in hows:
            for at in range(len(answer.data) + 1):
                if (at + turn) % (of_boundaries if at in answer.boundaries else of_others) == 0:
                    yield Fault(answer.call, at, how), answer


class Trier:
    """Tries cases in one event loop, or thread, and collects what is wrong."""

    def __init__(self, hooks: Hooks, session: str, server: CuttingServer, tls: ssl.SSLContext | None) -> None:
        self.problems: list[str] = []
        self.count = 0
        self.ends: collections.Counter[str] = collections.Counter()
        self._hooks = hooks
        self._session = session
        self._server = server
        self._tls = tls
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
        self._server.begin(fault)
        result = Result()
        stalls = fault is not None and fault.how == "stall"
        error = await self._perform(result, DEADLINE if stalls else None)
        self._server.until_idle()
        self.count += 1
        self.ends["success" if error is None else type(error).__name__] += 1
        problem = self._judge(fault, answer, result, error)
        # The thread that creates a container in the blocking adapter ends a moment after the call.
        until = time.monotonic() + SETTLES
        while self._held is not None and self._holds() != self._held and time.monotonic() < until:
            await self._hooks.idle(0.005)
        if not problem and self._held is not None and self._holds() != self._held:
            problem = f"descriptors, threads, tasks: {self._holds()} and not {self._held}"
        if problem:
            self.problems.append(f"{fault}: {problem}; {result} {error!r}"[:500])

    async def _perform(self, result: Result, deadline: float | None) -> Exception | None:
        named = {} if self._tls is None else {"tls": self._tls}
        by_argument = self._session in ("run", "run_exec")
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

    def _judge(self, fault: Fault | None, answer: Answer | None, result: Result, error: Exception | None) -> str:
        if error is None:
            if (result.stdout, result.stderr, result.exit_code) != (STDOUT, STDERR, CODE):
                return "a success without all of it"
            return "" if fault is None or answer is None or is_harmless(fault, answer) else "a success"
        if fault is None or answer is None:
            return "an error without a fault"
        if isinstance(error, (LocalProtocolError, AttachmentClosed, ClientClosed, WasCancelled)):
            return "a wrong error"
        if not isinstance(error, (AttachError, OSError, *self._hooks.broken)):
            return "an error of no type"
        # On a busy machine the deadline may pass while the blocking adapter still connects.
        late = isinstance(error, TimeoutError) or "no connection within" in str(error)
        if late != (fault.how == "stall"):
            return "a deadline that has not passed, or one that was not noticed"
        if must_succeed(fault, answer):
            return "an error of what is harmless"
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


def must_succeed(fault: Fault, answer: Answer) -> bool:
    """Whether nothing was lost, and nothing is waited for: the answer says itself that it is whole."""
    return fault.at == len(answer.data) and b"101 UPGRADED" not in answer.data and fault.how != "stall"


def is_harmless(fault: Fault, answer: Answer) -> bool:
    """Whether a success is right."""
    name = fault.call.split()[0]
    if fault.at == len(answer.data):
        # The end of an upgraded stream is the end of the connection, so one that stays open has not ended.
        return name not in ("attach", "exec") or fault.how in ("cut", "reset")
    return name in HARMLESS or (fault.at == 0 and name in REPEATED_UNANSWERED)
