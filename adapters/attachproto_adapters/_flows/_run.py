"""The flows of ``run``: a container is created, attached to, started, and removed whatever happened in between.

Strategy: ``ContainerRun`` stores how far a run has come, so that ``clean_up`` can follow an error, a cancellation or
``KeyboardInterrupt`` at any moment. It notes that a step may have happened before it asks for the step, and what an
answer says as soon as it has come. So ``clean_up`` needs nothing that the interrupted code would have returned.

A container is removed only if this run has created it. If the caller gives the name, a container of somebody else's may
have it. So it is removed by the ID in the answer to its creation. If that answer is lost, a container of this name is
looked for, and removed only if it has the random label that was sent. A random name needs no label.

``AutoRemove`` is not set. If the connection of the held wait breaks, the exit code of a removed container is lost.

The file has more than 250 lines, so that all that decides about one run stands together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Unpack

from attachproto import AttachOptions, Response
from attachproto._validators import check_flag
from attachproto_adapters._errors import CommandTimeout, HalfCloseEndsAttach, RequestRejected
from attachproto_adapters._flows._api_calls import inspect_request, is_refusal, may_succeed_again, refused
from attachproto_adapters._flows._attach import open_attach
from attachproto_adapters._flows._container_calls import RUN_LABEL, create_request, kill_request, remove_request
from attachproto_adapters._flows._containers import create_container
from attachproto_adapters._flows._inspect import InspectedContainer, half_close_ends_attach, identity_and_labels
from attachproto_adapters._flows._options import CommandOptions
from attachproto_adapters._flows._pauses import Pauses
from attachproto_adapters._flows._steps import Call, Opened, Steps
from attachproto_adapters._flows._waits import GATEWAY_ERRORS

CREATE_GRACE: Final = 10.0
"""How many seconds an interrupted creation may go on, so that its answer names the container that has to be removed."""

CLEANUP_SECONDS: Final = 30.0
"""How many seconds one ``clean_up`` may take, with all its calls to the engine."""

# In seconds: how long to look for a container whose creation was not answered, how long to wait for the end of a killed
# container, and how long to repeat a removal that was refused.
_FIND_SECONDS, _KILL_SECONDS, _REMOVE_SECONDS = 3.0, 5.0, 10.0


class ContainerRun:
    """One run, and how far it has come.

    Attributes:
        name: the container's name.
        ended: the container has ended, or was killed, or never ran.
        removed: nothing is left to remove.
        late: its deadline passed before it was over.
        so_far: stdout and stderr as far as they were read.
    """

    def __init__(
        self,
        image: str,
        command: Sequence[str],
        *,
        token: str,
        stdin: bool,
        name: str | None,
        remove: bool,
        console_size: tuple[int, int] | None,
        config: Mapping[str, Any] | None,
        api_version: str | None,
        stdin_must_end: bool = True,
        detach_keys: str | None = None,
        **options: Unpack[CommandOptions],
    ) -> None:
        """Check the arguments, which are those of ``create_request``. Nothing is asked yet.

        ``token`` is a random text: part of the name if the caller gives none, else the value of a label. ``remove``
        says whether ``clean_up`` removes the container, or only ends it. ``stdin_must_end``: what is sent has an end,
        and output is read after it. ``detach_keys`` are those of the attach.

        Raises:
            TypeError, ValueError: an argument is not valid.
            HalfCloseEndsAttach: there is input, and a TTY.
        """
        check_flag("remove", remove)
        self.name = f"attachproto-{token}" if name is None else name
        self.ended = True
        self.removed = True
        self.late = False
        self.so_far: Callable[[], tuple[bytes, bytes]] = lambda: (b"", b"")
        self._create = create_request(
            image,
            command,
            stdin=stdin,
            console_size=console_size,
            name=self.name,
            label=None if name is None else token,
            config=config,
            api_version=api_version,
            **options,
        )
        tty = bool(options.get("tty", False))
        if stdin and stdin_must_end and tty:
            planned = InspectedContainer(
                tty=tty, open_stdin=stdin, stdin_once=stdin, status="created", exit_code=0, podman=None
            )
            raise HalfCloseEndsAttach(half_close_ends_attach(planned))
        self._label = None if name is None else token
        self._streams = AttachOptions(stdin=stdin, detach_keys=detach_keys)
        self._remove = remove
        self._console_size = console_size
        self._api_version = api_version
        self._container: str | None = None
        self._tried_again = False
        self._fate = "was not started"

    @property
    def settled(self) -> bool:
        """Whether ``clean_up`` has nothing to do."""
        return self.removed or (self.ended and not self._remove and self._container is not None)

    def left_behind(self, exc: Exception) -> str:
        """What to tell the caller if ``clean_up`` has failed."""
        if self._container is None:
            return f"it is not known whether the container {self.name} of this run was created: {exc}"
        what = "removed" if self._remove else "killed"
        return f"the container {self.name} of this run could not be {what}: {exc}"

    def timed_out(self, timeout: float) -> CommandTimeout:
        """The error for a run that was not over in time, after ``clean_up``."""
        ended = self.ended and (self.removed or self._container is not None)
        fate = self._fate
        if self._container is None:
            fate = "was not created" if self.removed else "may have been created"
        return CommandTimeout(
            f"timed out: the run was not over within {timeout:g} s; its container {self.name} {fate}",
            *self.so_far(),
            ended,
        )

    def create(self) -> Steps[None]:
        """Create the container.

        Raises:
            ImageNotFound: the engine does not have the image.
            RequestRejected: the engine refused. If the name is taken, the container that has it is left alone.
        """
        self.removed = False
        try:
            self._container = yield from create_container(self._create)
        except RequestRejected as exc:
            self.removed = exc.status_code not in GATEWAY_ERRORS  # a proxy that gives up does not end the creation
            raise

    def open(self) -> Steps[Opened]:
        """Attach, and start the container.

        Raises:
            RequestRejected: the engine refused: it does not find the command, for instance.
        """
        assert self._container is not None
        container, api_version = self._container, self._api_version
        self.ended = False
        self._fate = "may go on"
        return (
            yield from open_attach(
                container,
                self._streams,
                tty=None,
                start=True,
                wait=True,
                api_version=api_version,
                console_size=self._console_size,
            )
        )

    def may_try_again(self, exc: Exception) -> bool:
        """Whether another ``clean_up`` may succeed where this error has ended the first."""
        again = not self._tried_again and may_succeed_again(exc)
        self._tried_again = True
        return again

    def clean_up(self) -> Steps[None]:
        """End the container if it may run, and remove it. May be called again if it was interrupted or has failed.

        Raises:
            RequestRejected: the engine refused the removal.
        """
        if self.removed:
            return
        if self._container is None:
            self._container = yield from self._find()
            if self._container is None:
                self.removed = True
                return
        if not self.ended:
            self.ended = yield from self._kill(self._container)
        if self._remove:
            yield from self._remove_it(self._container)
            if not self.ended:
                self._fate = "was killed"
            self.removed = self.ended = True

    def _find(self) -> Steps[str | None]:
        """The ID of the container whose creation was not answered; ``None`` if the engine has not created it.

        The engine may still be creating it. So it is asked again, for a limited time.

        Raises:
            RequestRejected: that is still unknown: a proxy answers 504, for instance.
            RemoteProtocolError: the answer is not what engines send.
        """
        request, pauses = inspect_request("containers", self.name, self._api_version), Pauses()
        while True:
            response: Response = yield Call(request)
            if not is_refusal(response):
                break
            if pauses.bounded_sum >= _FIND_SECONDS:
                if (refusal := refused(request, response)).not_found:
                    return None
                raise refusal
            yield from pauses.bounded()
        found, labels = identity_and_labels(response)
        return found if self._label is None or labels.get(RUN_LABEL) == self._label else None

    def _kill(self, container: str) -> Steps[bool]:
        """Kill the container if it runs. Returns whether it was seen to have ended.

        It is inspected first: an engine that is starting the container would refuse to kill it, and answers the inspect
        only when the start is over. After a clean-up that failed, it is first killed without an inspect.
        If it is removed next, its end is not waited for: the removal shows it.
        """
        pauses, killed = Pauses(), False
        if self._tried_again:
            yield Call(kill_request(container, "KILL", self._api_version))
            if self._remove:
                return False
        while True:
            response: Response = yield Call(inspect_request("containers", container, self._api_version))
            if response.status_code == 404:
                self._fate = "is gone"
                return True
            if not is_refusal(response):  # a proxy may refuse it
                now = InspectedContainer.from_response(response)
                if now.created or now.exited:
                    self._fate = "was not started" if now.created else "was killed" if killed else "has ended"
                    return True
            if not killed:
                yield Call(kill_request(container, "KILL", self._api_version))
                killed = True
                if self._remove:
                    return False
            elif pauses.bounded_sum >= _KILL_SECONDS:
                return False
            yield from pauses.bounded()  # Podman answers the kill before the process has ended

    def _remove_it(self, container: str) -> Steps[None]:
        """Remove it; again if the engine refuses, because it may be removing it already (``AutoRemove``)."""
        request = remove_request(container, force=True, volumes=True, api_version=self._api_version)
        pauses = Pauses()
        while True:
            response: Response = yield Call(request)
            if not is_refusal(response):
                return
            refusal = refused(request, response)
            if refusal.not_found:
                return
            if pauses.bounded_sum >= _REMOVE_SECONDS:
                raise refusal
            yield from pauses.bounded()
