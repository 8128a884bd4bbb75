"""The flows of ``run``: a container is created, attached to, started, and removed whatever happened in between.

Strategy: ``ContainerRun`` knows how far a run has come, so that ``remove`` can follow after an error, a cancellation or
``KeyboardInterrupt`` at any moment. Each fact is stored before the step that makes it true, or with the answer that
tells it. Nothing else depends on what the interrupted code has returned.

A container is removed only if it is ours. A name of the caller's may belong to a container of somebody else's. So it is
removed by the ID that the creation has answered. If that answer is lost, the container is searched for under the name,
and has to have the random label that it was created with. A random name needs no label.

``AutoRemove`` is not set. If the connection of the held wait breaks, the exit code of a removed container is lost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Unpack

import attrs

from attachproto import AttachOptions, Response
from attachproto_adapters._errors import HalfCloseEndsAttach, RequestRejected
from attachproto_adapters._flows._api_calls import inspect_request, is_refusal, refused, resize_request
from attachproto_adapters._flows._arguments import check_flag
from attachproto_adapters._flows._attach import open_attach
from attachproto_adapters._flows._container_calls import RUN_LABEL, create_request, kill_request, remove_request
from attachproto_adapters._flows._containers import create_container
from attachproto_adapters._flows._inspect import InspectedContainer, half_close_ends_attach, read_json
from attachproto_adapters._flows._options import CommandOptions
from attachproto_adapters._flows._pauses import Pauses
from attachproto_adapters._flows._steps import Call, Opened, Steps

CREATE_GRACE: Final = 10.0
"""How many seconds an interrupted creation may go on, so that its answer names the container that has to be removed."""

CLEANUP_SECONDS: Final = 30.0
"""How many seconds all calls of ``remove`` may take together."""

# How long a container is searched for whose creation was sent and not answered, and how long a removal is repeated.
_FIND_SECONDS, _REMOVE_SECONDS = 3.0, 10.0


@attrs.frozen
class CompletedRun:
    """The result of ``run``.

    Attributes:
        exit_code: of the container's main process; 128 and the signal's number if a signal has ended it.
        stdout: what the container wrote to stdout; with a TTY, all that it wrote.
        stderr: what it wrote to stderr.
    """

    exit_code: int
    stdout: bytes
    stderr: bytes


class ContainerRun:
    """One run, and how far it has come.

    Attributes:
        name: the container's name.
        ended: the container has ended, or was killed, or never ran.
        removed: nothing is left to remove.
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
        **options: Unpack[CommandOptions],
    ) -> None:
        """Check the arguments, which are those of ``create_request``. Nothing is asked yet.

        ``token`` is a random text: part of the name if the caller gives none, else the value of a label. ``remove``
        says whether ``clean_up`` removes the container, or only ends it.

        Raises:
            TypeError, ValueError: an argument is not valid.
            HalfCloseEndsAttach: there is input, and a TTY.
        """
        check_flag("remove", remove)
        self.name = f"attachproto-{token}" if name is None else name
        self.ended = True
        self.removed = True
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
        if stdin and tty:
            planned = InspectedContainer(
                tty=tty, open_stdin=stdin, stdin_once=stdin, status="created", exit_code=0, podman=None
            )
            raise HalfCloseEndsAttach(half_close_ends_attach(planned))
        self._label = None if name is None else token
        self._stdin = stdin
        self._remove = remove
        self._console_size = console_size
        self._api_version = api_version
        self._container: str | None = None

    def create(self) -> Steps[None]:
        """Create the container.

        Raises:
            ImageNotFound: the engine does not have the image.
            RequestRejected: the engine refused. Nothing was created: with the name taken, somebody else's is kept.
        """
        self.removed = False
        try:
            self._container = yield from create_container(self._create)
        except RequestRejected:
            self.removed = True
            raise

    def open(self) -> Steps[Opened]:
        """Attach, and start the container.

        Raises:
            RequestRejected: the engine refused: it does not find the command, for instance.
        """
        assert self._container is not None
        container, api_version = self._container, self._api_version
        self.ended = False
        opened = yield from open_attach(
            container, AttachOptions(stdin=self._stdin), tty=None, start=True, wait=True, api_version=api_version
        )
        if self._console_size is not None:
            # For dockerd 20.10 and Podman, which ignore the size at the creation. Refused if it has exited already.
            _: Response = yield Call(resize_request("containers", container, *self._console_size, api_version))
        return opened

    def clean_up(self) -> Steps[None]:
        """End the container if it may run, and remove it. May be called again if it was interrupted.

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
            yield from self._kill(self._container)
            self.ended = True
        if self._remove:
            yield from self._remove_it(self._container)
        self.removed = True

    def _find(self) -> Steps[str | None]:
        """The ID of the container whose creation was not answered; ``None`` if the engine has not created it.

        The engine may still be creating it. So it is asked again, for a limited time.
        """
        pauses = Pauses()
        while True:
            response: Response = yield Call(inspect_request("containers", self.name, self._api_version))
            if not is_refusal(response):
                break
            if pauses.bounded_sum >= _FIND_SECONDS:
                return None
            yield from pauses.bounded()
        found = read_json(response)
        labels = found["Config"].get("Labels") or {}
        is_ours = self._label is None or labels.get(RUN_LABEL) == self._label
        return str(found["Id"]) if is_ours else None

    def _kill(self, container: str) -> Steps[None]:
        """Kill the container if it runs.

        It is inspected first. An engine that is starting the container answers when the start is over, and would refuse
        to kill what does not run yet.
        """
        response: Response = yield Call(inspect_request("containers", container, self._api_version))
        if not is_refusal(response):
            now = InspectedContainer.from_response(response)
            if not (now.created or now.exited):
                _: Response = yield Call(kill_request(container, "KILL", self._api_version))

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
