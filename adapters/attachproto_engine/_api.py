"""From a request to its answer.

Strategy: the core recognises attach, exec start and logs if they are valid. A request with such a path that comes as
a plain ``Request`` is one that dockerd refuses, each in its own way.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Final

import attrs

from attachproto import (
    MULTIPLEXED_STREAM,
    RAW_STREAM,
    Accepted,
    Attach,
    ExecStart,
    Framing,
    Headers,
    LocalProtocolError,
    Logs,
    Reason,
    RemoteProtocolError,
    Request,
    Response,
    ResponseHead,
    StreamRequest,
    parse_detach_keys,
)
from attachproto._validators import version_numbers
from attachproto_engine._answers import Answers, PodmanAnswers, as_rejected
from attachproto_engine._attach import attach
from attachproto_engine._call import Call, DeferredResponse, check_json
from attachproto_engine._checks import clean_location, long_version_problem, padded, version_problem, web_page_refusal
from attachproto_engine._containers import Containers
from attachproto_engine._duplex import cancel, run_until
from attachproto_engine._errors import ApiError, ClientGone
from attachproto_engine._exec_stream import exec_start
from attachproto_engine._logs import logs
from attachproto_engine._routes import find_route, name_in_gap
from attachproto_engine._server_connection import ServerConnection

# The first version whose media type tells frames from a terminal's bytes, and whose exec start has a ConsoleSize.
_TELLS_FRAMES: Final = (1, 42)

_TOO_LARGE: Final = (Reason.HEAD_TOO_LARGE, Reason.BODY_TOO_LARGE)

# Before this version errors were plain text.
_JSON_SINCE: Final = "1.24"


class Api:
    """Answers requests, one at a time on each connection."""

    def __init__(
        self, containers: Containers, api_version: str, prepare: Callable[[ServerConnection, str, str], bytes | None]
    ) -> None:
        """Make it.

        Args:
            containers: what the calls are about.
            api_version: the highest version that is accepted.
            prepare: called before each call about a container is answered, with the container's name and the call's.
                What it returns is the answer, and the call is not made; ``None`` lets the engine answer.
        """
        self._containers = containers
        self._rules = containers.rules
        self._maximum = api_version
        self._answers = PodmanAnswers(api_version) if self._rules.podman else Answers(api_version)
        self._prepare = prepare

    async def answer(self, connection: ServerConnection) -> None:
        """Read the next request of a connection, and serve it to its end.

        Raises:
            ClientGone: the client has closed or reset the connection.
        """
        try:
            request = await connection.next_event()
        except RemoteProtocolError as exc:
            # A connection that was opened and not used gets no answer.
            if exc.reason is not Reason.NOTHING_CAME:
                await connection.send(self._answers.unreadable(too_large=exc.reason in _TOO_LARGE))
            return
        assert isinstance(request, Request | StreamRequest)  # the first event of a server's connection
        try:
            await self._serve(connection, request)
        except (ClientGone, LocalProtocolError):
            raise
        except Exception as exc:
            # A bug in the engine, or an error of the system, such as EMFILE. The client gets a 500 if nothing was sent
            # yet; else the event loop reports it.
            if connection.untouched:
                refused = ApiError(500, f"the embedded engine failed: {type(exc).__name__}: {exc}")
                await self._refuse(connection, request, self._answers.refusal(refused))
            else:
                raise

    async def _serve(self, connection: ServerConnection, request: Request | StreamRequest) -> None:
        try:
            if not connection.local and (refused := web_page_refusal(request.headers)):
                raise refused
            if (answer := self._prepared(connection, request)) is not None:
                await connection.write(answer)
                await connection.finish()
                return
            if self._rules.checks_versions and (text := version_problem(request.api_version, self._maximum)):
                plain = padded(request.api_version) < padded(_JSON_SINCE)
                await self._refuse(connection, request, self._answers.version_refusal(text, plain=plain))
                return
            match request:
                case Attach():
                    await self._attach(connection, request)
                case ExecStart():
                    await self._exec_start(connection, request)
                case Logs():
                    await self._logs(connection, request)
                case Request():
                    await self._call(connection, request)
                case _:
                    raise AssertionError(request)
        except ApiError as exc:
            await self._refuse(connection, request, self._answers.refusal(exc))

    def _prepared(self, connection: ServerConnection, request: Request | StreamRequest) -> bytes | None:
        """The answer from ``prepare``, if the request is a call about a container."""
        match request:
            case Attach():
                name, call = request.container, "attach"
            case Logs():
                name, call = request.container, "logs"
            case ExecStart():
                name, call = request.exec_id, "exec"
            case Request():
                found = find_route(request.method, request.path)
                if found is None or not found[0].call:
                    return None
                name, call = found[1], found[0].call
                if call == "create":
                    name = next((value for key, value in request.query if key == "name"), "")
            case _:
                raise AssertionError(request)
        # A client may use an ID or the beginning of one. A container that does not exist is known by that text alone.
        with contextlib.suppress(ApiError):
            is_exec = call in ("exec", "exec_inspect", "exec_resize")
            name = (self._containers.find_exec(name)[0] if is_exec else self._containers.find(name)).name
        return self._prepare(connection, name, call)

    async def _refuse(self, connection: ServerConnection, request: object, response: Response) -> None:
        await connection.send(as_rejected(response) if isinstance(request, StreamRequest) else response)

    # ---- streams ----

    def _media_type(self, version: str | None, *, tty: bool) -> str:
        framed = not tty and version_numbers(version or self._maximum) >= _TELLS_FRAMES
        return MULTIPLEXED_STREAM if framed else RAW_STREAM

    def _accepted(self, request: StreamRequest, *, tty: bool, headers: Headers = ()) -> Accepted:
        fields = dict(request.headers)
        # dockerd ignores the value of Upgrade, and all of Connection. Without Upgrade it sends the stream as well.
        upgrade = "upgrade" in fields and (
            self._rules.upgrades_any or fields.get("connection", "").lower() == "upgrade"
        )
        labelled = upgrade or self._rules.labels_200
        kind = self._media_type(request.api_version, tty=tty) if labelled else RAW_STREAM
        framing = Framing.RAW if tty else Framing.MULTIPLEXED
        return Accepted(framing, 101 if upgrade else 200, (("content-type", kind), *headers))

    async def _attach(self, connection: ServerConnection, request: Attach) -> None:
        try:
            container = self._containers.find(request.container)
            container.begin_attach(request.container)
        except ApiError as exc:
            await connection.send(self._answers.attach_refused(exc))
            return
        await attach(connection, container, request.options, self._accepted(request, tty=container.config.tty))

    async def _exec_start(self, connection: ServerConnection, request: ExecStart) -> None:
        fields = dict(request.headers)
        # An empty body needs no Content-Type. The core has read the body already.
        if fields.get("content-length", "0") != "0" or "transfer-encoding" in fields:
            check_json(request.headers)
        container, exec_ = self._containers.find_exec(request.exec_id)
        if version_numbers(request.api_version or self._maximum) < _TELLS_FRAMES:
            request = attrs.evolve(request, console_size=None)
        accepted = self._accepted(request, tty=bool(request.tty), headers=self._answers.exec_headers())
        await exec_start(connection, container, exec_, request, accepted)

    async def _logs(self, connection: ServerConnection, request: Logs) -> None:
        container = self._containers.find(request.container)
        if container.config.log_driver == "none":
            raise self._rules.logs_refusal(container.id)
        tty = container.config.tty
        kind = ("content-type", self._media_type(request.api_version, tty=tty))
        headers = (kind, *self._answers.headers(json=False))
        framing = Framing.RAW if tty else Framing.MULTIPLEXED
        await logs(connection, container, request, Accepted(framing, 200, headers))

    # ---- plain calls ----

    async def _call(self, connection: ServerConnection, request: Request) -> None:
        if location := clean_location(request):
            await connection.send(self._answers.moved(location))
            return
        if refused := self._bad_attach(request):
            await connection.send(self._answers.attach_refused(refused))
            return
        found = find_route(request.method, request.path)
        if found is None:
            text, make = long_version_problem(request.path, self._maximum), self._answers
            await connection.send(make.version_refusal(text, plain=False) if text else make.page_not_found())
            return
        route, name = found
        answer = await route.handler(Call(request, name, self._containers, self._answers))
        if isinstance(answer, DeferredResponse):
            try:
                await self._answer_later(connection, answer)
            finally:
                answer.discard()
        else:
            await connection.send(answer)

    def _bad_attach(self, request: Request) -> ApiError | None:
        """Why a request to attach is not valid; ``None`` if it is another call."""
        if request.method != "POST" or (name := name_in_gap(("containers", "*", "attach"), request.path)) is None:
            return None
        keys = next((value for key, value in request.query if key == "detachKeys"), "")
        try:
            if keys:
                parse_detach_keys(keys)
        except ValueError:
            return self._rules.detach_keys_refusal(keys)
        return ApiError(404, self._rules.no_such_container.format(name=name))

    async def _answer_later(self, connection: ServerConnection, answer: DeferredResponse) -> None:
        head = self._answers.document({})
        await connection.send(ResponseHead(head.status_code, head.headers))
        document: list[Any] = []

        async def known() -> None:
            document.append(await answer.document())

        task = asyncio.get_running_loop().create_task(known())
        try:
            await run_until(connection.left(), task)
        finally:
            await cancel(task)
        if document:
            await connection.send(attrs.evolve(self._answers.document(document[0]), headers=head.headers))
