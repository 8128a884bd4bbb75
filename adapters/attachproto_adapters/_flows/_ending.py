"""Checks at end of file whether the process has ended too.

Strategy: an end of file says only that the connection was closed. On dockerd and on Podman the output ends when the
process ends and never before, even if the process has closed its own stdout and stderr. So the process is inspected.
While it runs it is inspected again, for as long as engines were seen to need. If it still runs then, something between
us and the engine has closed the connection, and the output is not complete.

Inspect is used and not the held wait. dockerd reports an exit only after it has written the container's log, which took
up to ten seconds. During that time inspect does not answer, while that of a running container answers at once. A wait
is silent in both cases.

The file is longer than 250 lines because confirming an end and waiting for an exit change the same attributes.
"""

from __future__ import annotations

from collections.abc import Callable

from attachproto import Request, Response
from attachproto_adapters._errors import AttachmentClosed, ExitCodeUnknown, OutputCut, RequestRejected
from attachproto_adapters._flows._api_calls import (
    exit_code,
    inspect_request,
    is_refusal,
    known_exit_code,
    succeeded,
    wait_request,
)
from attachproto_adapters._flows._exec_events import EVENT_SECONDS, STREAM_FAILED, events_request, exec_died
from attachproto_adapters._flows._flows import first_call
from attachproto_adapters._flows._inspect import InspectedContainer, InspectedExec
from attachproto_adapters._flows._life import Life
from attachproto_adapters._flows._pauses import Pauses
from attachproto_adapters._flows._steps import AwaitDeferred, Broken, CallDeferred, Discard, Opened, Steps

# How many seconds an engine may report "running" after the end of the output. Each is several times the longest that
# scripts/measure_ends.py saw on a machine of two cores with a load of 15: dockerd 0.06 s for an exec (0.11 s once) and
# 0.29 s for a container, Podman 0.23 s and 1.39 s. Not longer, because a process that ends within this time counts as
# ended at the end of its output.
EXEC_GRACE, PODMAN_EXEC_GRACE = 0.5, 1.0
CONTAINER_GRACE, PODMAN_CONTAINER_GRACE = 1.0, 4.0

# How many seconds a wait may be silent after inspect has reported the exit. Podman looks every 250 ms.
ANSWER_SECONDS = PODMAN_CONTAINER_GRACE

# What a proxy answers if the engine was silent for longer than its limit. nginx sends no head of a wait before that.
_GATEWAY_ERRORS = (502, 503, 504)

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
        """Find the exit code. If the output has ended, wait for the process no longer than ``confirm`` does.

        Raises:
            OutputCut: the output has ended, and the process goes on.
            ExitCodeUnknown: the engine does not know the exit code.
            RequestRejected: the engine refused: it forgets an exec when its container ends.
        """
        try:
            if self._lost is not None:
                raise ExitCodeUnknown(self._lost)
            yield from self._exec_end() if self._opened.kind == "exec" else self._container_exit()
        except ExitCodeUnknown as exc:
            exc.stdout, exc.stderr = self._outputs()
            raise

    def _container_exit(self) -> Steps[None]:
        if self.life.ended and self._opened.follows and not self.confirmed:
            yield from self._container_end(by_wait=self._wait_held)
        if self.exit_code is None:
            yield from self._answer()

    def _exec_end(self) -> Steps[None]:
        """Inspect until it has ended. If its output has ended, there is a limit of time."""
        opened, pauses = self._opened, Pauses()
        request = inspect_request("exec", opened.name, opened.api_version)
        grace = EXEC_GRACE if opened.inspected.podman is None else PODMAN_EXEC_GRACE
        while True:
            self._check_not_closed()
            response = yield from first_call(request)
            inspected = InspectedExec.from_response(response)
            if inspected.exit_code is not None:
                code: int | None = known_exit_code(inspected.exit_code)
                if code == STREAM_FAILED and inspected.pid and inspected.podman is None:
                    code = yield from self._exec_died(response, inspected.container)
                    if code is None and pauses.bounded_sum < EVENT_SECONDS:
                        yield from pauses.bounded()
                        continue
                self.exit_code = inspected.exit_code if code is None else code
                if self.life.ended and self.exit_code != inspected.exit_code:
                    raise self._output_cut("the engine could not send the rest of it")
                self.confirmed = True
                return
            if not self.life.ended:
                yield from pauses.unbounded()
            elif pauses.bounded_sum < grace:
                yield from pauses.bounded()
            elif inspected.running:
                raise self._output_cut("the command goes on")
            else:
                raise ExitCodeUnknown("the engine says that it does not run, and has no exit code")

    def _exec_died(self, inspected: Response, container: str) -> Steps[int | None]:
        """The exit code of an exec whose stream may have failed; ``None`` if the engine's events do not have it yet."""
        request = events_request(inspected, container, self._opened.api_version)
        if request is None:
            return STREAM_FAILED
        answer: object = yield CallDeferred(request, 0)
        if not isinstance(answer, Response):
            answer = yield AwaitDeferred(ANSWER_SECONDS)
        yield Discard()
        if not isinstance(answer, Response) or answer.status_code != 200:
            return STREAM_FAILED
        return exec_died(answer, self._opened.name)

    def _container_end(self, *, by_wait: bool) -> Steps[None]:
        """Inspect until the run has ended.

        Args:
            by_wait: wait for the answer to the held wait, and inspect only in between.
        """
        opened, pauses = self._opened, Pauses()
        before = opened.inspected
        assert isinstance(before, InspectedContainer)
        request = inspect_request("containers", opened.name, opened.api_version)
        grace = CONTAINER_GRACE if before.podman is None else PODMAN_CONTAINER_GRACE
        while True:
            if by_wait and (yield from self._has_answer((yield from pauses.awaiting()))):
                return
            self._check_not_closed()
            try:
                now = InspectedContainer.from_response((yield from first_call(request)))
            except RequestRejected as exc:
                if not exc.not_found:
                    raise
                break  # a container is removed only after its process has ended
            if not now.goes_on(before):
                break
            if pauses.bounded_sum >= grace:
                # It may have been restarted. Then a wait that was held before has its answer.
                if self._wait_held and (yield from self._has_answer((yield AwaitDeferred(0)))):
                    return
                raise self._output_cut("the container has not run yet" if now.created else "the container goes on")
            by_wait = by_wait and self._wait_held
            if not by_wait:
                yield from pauses.bounded()
        self.confirmed = True

    def _has_answer(self, answer: object) -> Steps[bool]:
        """Whether the held wait has reported the exit. If it was refused it has not, and is not held any more."""
        if not isinstance(answer, Response):
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
            bound = ANSWER_SECONDS if self.confirmed else None
            answer = yield AwaitDeferred(bound)
            gave_up = isinstance(answer, Response) and answer.status_code in _GATEWAY_ERRORS
            if gave_up or isinstance(answer, Broken) or (answer is None and bound is not None):
                yield from self._ask_again()
                answer = yield AwaitDeferred(None)
        if answer is None:
            # Set before the call, because an interrupted call may have sent the request. If it has not, the next call
            # of AwaitDeferred gives None, and the request is made again.
            self._wait_held = True
            answer = yield CallDeferred(self._wait_request("not-running"), 0)
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
            succeeded(self._wait_request("not-running"), answer)
            self.confirmed = True
            self.exit_code = exit_code(answer)
        except ExitCodeUnknown as exc:
            self._lost = str(exc)  # another wait may be answered with the code of another run
            raise
        finally:
            yield Discard()

    def _wait_request(self, condition: str) -> Request:
        return wait_request(self._opened.name, condition, self._opened.api_version)

    def _ask_again(self) -> Steps[None]:
        """Open a new wait in place of one that broke.

        Raises:
            ExitCodeUnknown: the container was removed meanwhile.
            RequestRejected: the engine refused.
        """
        opened = self._opened
        try:
            response = yield from first_call(inspect_request("containers", opened.name, opened.api_version))
            # Of a container that has not run, dockerd would answer 0 at once.
            created = InspectedContainer.from_response(response).created
            request = self._wait_request("next-exit" if created else "not-running")
            answer: object = yield CallDeferred(request)
            if isinstance(answer, Response):
                yield Discard()
                succeeded(request, answer)
        except RequestRejected as exc:
            if not exc.not_found:
                raise
            raise ExitCodeUnknown(f"the wait for it broke off, and then the container was gone: {exc}") from exc

    def _output_cut(self, how: str) -> OutputCut:
        self._cut = (
            f"the output ended, and {how}: something between here and the engine has closed the connection (an idle "
            "limit, or an intermediary that closes it when stdin ends), or keys that detach were sent"
        )
        return OutputCut(self._cut, *self._outputs())
