"""Checks at end of file whether the process has ended too.

Strategy: an end of file says only that the connection was closed. On dockerd and on Podman the output ends when the
process ends and never before, even if the process has closed its own stdout and stderr. So the process is inspected.
If it still runs, something between us and the engine has closed the connection, and the output is not complete. Podman
may report it as running for a moment (``_processes``); then it is inspected again, for as long as was measured.

Inspect is used and not the held wait. dockerd reports an exit only after it has written the container's log, which took
up to ten seconds. During that time inspect does not answer either, but for a running container it answers at once. A
wait is silent in both cases.
"""

from __future__ import annotations

from collections.abc import Callable

from attachproto import Response
from attachproto_adapters._errors import AttachmentClosed, ExitCodeUnknown, OutputCut, RequestRejected
from attachproto_adapters._flows._api_calls import exit_code, inspect_request, is_refusal, known_exit_code, succeeded
from attachproto_adapters._flows._exec_events import EVENT_SECONDS, STREAM_FAILED, exit_code_of
from attachproto_adapters._flows._flows import first_call
from attachproto_adapters._flows._inspect import InspectedContainer, InspectedExec
from attachproto_adapters._flows._life import Life
from attachproto_adapters._flows._pauses import Pauses
from attachproto_adapters._flows._processes import goes_on_from, runs_on
from attachproto_adapters._flows._steps import AwaitDeferred, Broken, CallDeferred, Discard, Opened, Steps
from attachproto_adapters._flows._waits import ANSWER_SECONDS, EARLIER_RUN_SECONDS, GATEWAY_ERRORS, ask_again, waited

# How many seconds Podman may report "running" after the end of the output. Up to 0.23 s were measured for an exec and
# 2.1 s for a container, on two cores with a load of 15 (scripts/measure_ends.py). A longer time would hide cuts: if
# Podman does not list its processes, a process that ends within this time counts as ended before its output.
EXEC_GRACE, CONTAINER_GRACE = 1.0, 4.0

Outputs = tuple[bytes, bytes]


class Ending:
    """The end of one attachment's output, and what is known of the process behind it.

    Attributes:
        life: the attachment's state.
        confirmed: the process has ended too, as far as it can be known.
        exit_code: of the process, once it is known.
    """

    def __init__(self, opened: Opened, outputs: Callable[[], Outputs], life: Life) -> None:
        """Create it.

        Args:
            opened: the attachment.
            outputs: the stdout and stderr that were read so far.
            life: the attachment's state: whether its output has ended, and whether it was closed.
        """
        self.life = life
        self.confirmed = False
        self.exit_code = opened.exit_code
        self._opened = opened
        self._outputs = outputs
        self._wait_held = opened.wait_held
        self._wait_broke = False
        self._cut: str | None = None
        self._lost: str | None = None
        if opened.exit_code_lost:
            self._lost = (
                f"the container {opened.name} had exited before the attach, and the engine does not know its exit code "
                "any more (on Podman an attach resets a container): attach with wait=True while it runs"
            )

    def _check_not_closed(self) -> None:
        if self.life.closed:
            raise AttachmentClosed("the attachment is closed: ask for the exit code before that")

    @property
    def final_exit_code(self) -> int:
        """The exit code, once a flow has found it."""
        assert self.exit_code is not None
        return self.exit_code

    def confirm(self, *, always: bool = False) -> Steps[None]:
        """Confirm the end that ``communicate`` has read.

        An exec is always inspected. A container is inspected if its wait is held: a plain attach makes no more calls.

        Args:
            always: inspect every container whose output ends with it.

        Raises:
            OutputCut: the process goes on. Raised from then on, whatever becomes of the process.
            RequestRejected: the engine refused.
        """
        if self._cut is not None:
            raise OutputCut(self._cut, *self._outputs())
        opened = self._opened
        if self.confirmed or not opened.follows:
            return
        try:
            if opened.kind == "exec":
                yield from self._exec_end()
            elif always or opened.wait_held:
                yield from self._container_end(by_wait=False)
            else:
                return
        except RequestRejected as exc:
            # Engines forget an exec when its container has ended.
            if not exc.not_found or opened.kind != "exec":
                raise
        except ExitCodeUnknown:
            pass
        self.confirmed = True

    def wait(self) -> Steps[None]:
        """Find the exit code. If the output has ended, the process must have ended too, as for ``confirm``.

        Raises:
            OutputCut: the output has ended, and the process goes on.
            ExitCodeUnknown: the engine does not know the exit code: the container is gone, and its execs with it.
            RequestRejected: the engine refused.
        """
        try:
            if self._lost is not None:
                raise ExitCodeUnknown(self._lost)
            yield from self._exec_end() if self._opened.kind == "exec" else self._container_exit()
        except ExitCodeUnknown as exc:
            exc.stdout, exc.stderr = self._outputs()
            raise
        except RequestRejected as exc:
            if not exc.not_found:
                raise
            raise ExitCodeUnknown(f"the engine does not know it any more: {exc}", *self._outputs()) from exc

    def _container_exit(self) -> Steps[None]:
        if self.life.ended and self._opened.follows and not self.confirmed:
            yield from self._container_end(by_wait=self._wait_held)
        if self.exit_code is None:
            yield from self._answer()

    def _exec_end(self) -> Steps[None]:
        """Inspect until it has ended. If its output has ended, there is a limit of time."""
        opened, pauses = self._opened, Pauses()
        request = inspect_request("exec", opened.name, opened.api_version)
        while True:
            self._check_not_closed()
            over = self.life.ended  # as it was before the question: another task may read the end meanwhile
            response = yield from first_call(request)
            inspected = InspectedExec.from_response(response)
            if inspected.exit_code is not None:
                code: int | None = known_exit_code(inspected.exit_code)
                if code == STREAM_FAILED and inspected.pid and inspected.podman is None:
                    code = yield from exit_code_of(opened.name, inspected.container, response, opened.api_version)
                    if code is None and pauses.bounded_sum < EVENT_SECONDS:
                        yield from pauses.bounded()
                        continue
                self.exit_code = inspected.exit_code if code is None else code
                if self.life.ended and self.exit_code != inspected.exit_code:
                    raise self._output_cut("the engine could not send the rest of it")
                self.confirmed = True
                return
            if not over:
                yield from pauses.unbounded()
                continue
            last = pauses.bounded_sum >= EXEC_GRACE
            if inspected.running and (last or (yield from runs_on(opened, inspected, pauses))):
                raise self._output_cut("the command goes on")
            if last:
                raise ExitCodeUnknown("the engine says that it does not run, and has no exit code")
            yield from pauses.bounded()

    def _container_end(self, *, by_wait: bool) -> Steps[None]:
        """Inspect until the run has ended; if ``by_wait``, wait for the answer to the held wait in between."""
        opened, pauses = self._opened, Pauses()
        before = opened.inspected
        assert isinstance(before, InspectedContainer)
        request = inspect_request("containers", opened.name, opened.api_version)
        # A wait that is answered later does not confirm the end: the process may run until then.
        if by_wait and (yield from self._has_answer((yield AwaitDeferred(0)))):
            return
        while True:
            self._check_not_closed()
            try:
                now = InspectedContainer.from_response((yield from first_call(request)))
            except RequestRejected as exc:
                if not exc.not_found:
                    raise
                break  # a container is removed only after its process has ended
            if not now.goes_on(before):
                break
            last = pauses.bounded_sum >= CONTAINER_GRACE
            if last or (yield from runs_on(opened, now, pauses)):
                # Somebody may have restarted it. Then the wait reports the run before.
                patience = AwaitDeferred(0 if last else EARLIER_RUN_SECONDS)
                answered = self._wait_held and (yield from self._has_answer((yield patience)))
                if answered and (last or (yield from goes_on_from(now, request))):
                    return
                raise self._output_cut("the container has not run yet" if now.created else "the container goes on")
            if not (by_wait and self._wait_held):
                yield from pauses.bounded()
            elif (yield from self._has_answer((yield from pauses.awaiting()))):
                return
        self.confirmed = True

    def _has_answer(self, answer: object) -> Steps[bool]:
        """Whether the held wait has reported the exit. If it was refused it has not, and is not held any more."""
        if not isinstance(answer, Response):
            self._wait_broke = self._wait_broke or isinstance(answer, Broken)
            return False
        if is_refusal(answer):
            self._wait_held = False
            yield Discard()
            return False
        yield from self._take(answer)
        return True

    def _answer(self) -> Steps[None]:
        """Take the exit code from the wait that is held, or ask for it."""
        self._check_not_closed()
        answer: object = None
        if self._wait_held:
            # A wait never answers if its connection is broken, or if dockerd received it only after the exit.
            bound = 0.0 if self._wait_broke else ANSWER_SECONDS if self.confirmed else None
            self._wait_broke = False
            answer = yield AwaitDeferred(bound)
            gave_up = isinstance(answer, Response) and answer.status_code in GATEWAY_ERRORS
            if gave_up or isinstance(answer, Broken) or (answer is None and bound is not None):
                yield from ask_again(self._opened)
                answer = yield AwaitDeferred(None)
        if answer is None:
            # Set before the call, because an interrupted call may have sent the request. If it has not, the next call
            # of AwaitDeferred gives None, and the request is made again.
            self._wait_held = True
            answer = yield CallDeferred(waited(self._opened, "not-running"), 0)
            if not isinstance(answer, Response):
                answer = yield AwaitDeferred(None)
        if isinstance(answer, Broken):
            self._wait_held = False
            raise answer.error
        assert isinstance(answer, Response)
        yield from self._take(answer)

    def _take(self, answer: Response) -> Steps[None]:
        # Stored before anything waits again: a container that was removed when it exited cannot be asked again.
        self._wait_held = False
        try:
            succeeded(waited(self._opened, "not-running"), answer)
            self.confirmed = True
            self.exit_code = exit_code(answer)
        except ExitCodeUnknown as exc:
            self._lost = str(exc)  # another wait may be answered with the code of another run
            raise
        finally:
            yield Discard()

    def _output_cut(self, how: str) -> OutputCut:
        self._cut = (
            f"the output ended, and {how}: something between here and the engine has closed the connection (an idle "
            "limit, or an intermediary that closes it when stdin ends), or keys that detach were sent"
        )
        return OutputCut(self._cut, *self._outputs())
