"""From a request to its answer: versions, streams, and what is left to the routes.

Strategy: the core has recognised attach, exec start and logs, if they are valid. What comes as a plain ``Request`` in
spite of its path is one that dockerd refuses, each in its own way.
"""

from __future__ import annotations

import asyncio
import contextlib
import posixpath
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import quote, urlsplit

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
from attachproto_adapters._flows._api_calls import numbers
from attachproto_engine._answers import (
    Answers,
    PodmanAnswers,
    as_rejected,
)
from attachproto_engine._containers import ApiError, Containers
from attachproto_engine._routes import MINIMUM, Call, DeferredResponse, check_json, find_route, match
from attachproto_engine._server_connection import ServerConnection, is_loopback
from attachproto_engine._streams import attach, cancel, exec_start, first, logs

# The first version whose media type tells frames from a terminal's bytes.
_TELLS_FRAMES: Final = (1, 42)

# Before it errors were text.
_JSON_SINCE: Final = "1.24"


class Api:
    """Answers requests, each on a wire of its own."""

    def __init__(
        self, containers: Containers, api_version: str, prepare: Callable[[ServerConnection, str, str], bytes | None]
    ) -> None:
        """Make it.

        Args:
            containers: what is asked about.
            api_version: the highest that is taken.
            prepare: called before each call about a container is answered, with the container's name and the call's.
                What it returns is the answer, and the call is not made; ``None`` lets the engine answer.
        """
        self._containers = containers
        self._maximum = api_version
        self._rules = containers.rules
        self._answers = PodmanAnswers(api_version) if self._rules.podman else Answers(api_version)
        self._prepare = prepare

    async def answer(self, wire: ServerConnection) -> None:
        """Read the request that comes on a wire, and serve it to its end.

        Raises:
            OSError: the client has gone.
        """
        try:
            request = await wire.next_event()
        except RemoteProtocolError as exc:
            # Nobody is told that a connection was made and not used.
            if exc.reason is not Reason.NOTHING_CAME:
                await self._unreadable(wire, exc.reason)
            return
        assert isinstance(request, Request | StreamRequest)  # a server is told nothing else first
        try:
            await self._serve(wire, request)
        except (OSError, LocalProtocolError):
            raise
        except Exception as exc:
            # One bad request must not be answered with silence; and it is a bug of ours, so it is not hidden.
            if wire.untouched:
                refused = ApiError(500, f"the embedded engine failed: {type(exc).__name__}: {exc}")
                await _respond(wire, request, self._answers.refusal(refused))
            else:
                raise

    async def _serve(self, wire: ServerConnection, request: Request | StreamRequest) -> None:
        if not wire.local and (text := _from_a_page(request.headers)):
            await _respond(wire, request, self._answers.refusal(ApiError(403, text)))
            return
        if (answer := self._prepared(wire, request)) is not None:
            await wire.writer.write(answer)
            await wire.writer.finish()
            return
        if text := self._version_problem(request.api_version):
            plain = _padded(request.api_version) < _padded(_JSON_SINCE)
            await _respond(wire, request, self._answers.version_refusal(text, plain=plain))
            return
        try:
            match request:
                case Attach():
                    await self._attach(wire, request)
                case ExecStart():
                    await self._exec_start(wire, request)
                case Logs():
                    await self._logs(wire, request)
                case Request():
                    await self._call(wire, request)
                case _:  # there is no fourth kind
                    raise AssertionError(request)
        except ApiError as exc:
            await _respond(wire, request, self._answers.refusal(exc))

    def _prepared(self, wire: ServerConnection, request: Request | StreamRequest) -> bytes | None:
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
            case _:  # there is no fourth kind of stream
                raise AssertionError(request)
        # A client may use an ID, or the beginning of one. What is not there yet has only the name that it is given.
        with contextlib.suppress(ApiError):
            of_exec = call in ("exec", "exec_inspect", "exec_resize")
            name = (self._containers.find_exec(name).container if of_exec else self._containers.find(name)).name
        return self._prepare(wire, name, call)

    async def _unreadable(self, wire: ServerConnection, reason: Reason) -> None:
        too_large = reason in (Reason.HEAD_TOO_LARGE, Reason.BODY_TOO_LARGE)
        answer = (431, "Request Header Fields Too Large") if too_large else (400, "Bad Request")
        await wire.send(self._answers.unreadable(*answer))

    def _version_problem(self, version: str | None) -> str:
        if version is None or not self._rules.checks_versions:
            return ""
        # dockerd compares number by number, and takes what is missing for 0.
        if _padded(version) > _padded(self._maximum):
            return f"client version {version} is too new. Maximum supported API version is {self._maximum}"
        if _padded(version) < _padded(MINIMUM):
            return (
                f"client version {version} is too old. Minimum supported API version is {MINIMUM}, "
                "please upgrade your client to a newer version"
            )
        return ""

    # ---- streams ----

    def _media_type(self, version: str | None, *, tty: bool) -> str:
        told = not tty and numbers(version or self._maximum) >= _TELLS_FRAMES
        return MULTIPLEXED_STREAM if told else RAW_STREAM

    def _accepted(self, request: StreamRequest, *, tty: bool, headers: Headers = ()) -> Accepted:
        fields = dict(request.headers)
        # To dockerd the value of Upgrade means nothing, and Connection neither. Without it the stream comes too.
        upgrade = "upgrade" in fields and (
            self._rules.upgrades_any or fields.get("connection", "").lower() == "upgrade"
        )
        tells = upgrade or self._rules.labels_200
        kind = self._media_type(request.api_version, tty=tty) if tells else RAW_STREAM
        framing = Framing.RAW if tty else Framing.MULTIPLEXED
        return Accepted(framing, 101 if upgrade else 200, (("content-type", kind), *headers))

    async def _attach(self, wire: ServerConnection, request: Attach) -> None:
        try:
            container = self._containers.find(request.container)
            container.begin_attach(request.container)
        except ApiError as exc:
            await wire.send(self._answers.attach_refused(exc))
            return
        await attach(wire, container, request.options, self._accepted(request, tty=container.config.tty))

    async def _exec_start(self, wire: ServerConnection, request: ExecStart) -> None:
        fields = dict(request.headers)
        # Without a body it needs no type; the core has read the body, and kept what it says.
        if fields.get("content-length", "0") != "0" or "transfer-encoding" in fields:
            check_json(request.headers)
        exec_ = self._containers.find_exec(request.exec_id)
        tty = bool(request.tty)
        if numbers(request.api_version or self._maximum) < _TELLS_FRAMES:
            request = attrs.evolve(request, console_size=None)
        accepted = self._accepted(request, tty=tty, headers=self._answers.exec_headers())
        await exec_start(wire, exec_, request, accepted)

    async def _logs(self, wire: ServerConnection, request: Logs) -> None:
        container = self._containers.find(request.container)
        if container.config.log_driver == "none":
            if self._rules.podman:
                none = "this container is using the 'none' log driver, cannot read logs: "
                failed = f"failed to obtain logs for Container '{container.id}': {none}"
                raise ApiError(500, failed + "this container is not logging output")
            raise ApiError(501, "configured logging driver does not support reading")
        tty = container.config.tty
        headers = (
            ("content-type", self._media_type(request.api_version, tty=tty)),
            *self._answers.headers(json=False),
        )
        await logs(wire, container, request, Accepted(Framing.RAW if tty else Framing.MULTIPLEXED, 200, headers))

    # ---- plain calls ----

    async def _call(self, wire: ServerConnection, request: Request) -> None:
        if location := _cleaned(request):
            await wire.send(self._answers.moved(location))
            return
        if refused := self._bad_attach(request):
            await wire.send(self._answers.attach_refused(refused))
            return
        route = find_route(request.method, request.path)
        if route is None:
            await wire.send(self._answers.page_not_found())
            return
        found, name = route
        answer = await found.handler(Call(request, name, self._containers, self._answers))
        if isinstance(answer, DeferredResponse):
            await self._answer_later(wire, answer)
        else:
            await wire.send(answer)

    def _bad_attach(self, request: Request) -> ApiError | None:
        """Why this attach was none; ``None`` if it is another call."""
        if request.method != "POST" or (name := match(("containers", "*", "attach"), request.path)) is None:
            return None
        keys = next((value for key, value in request.query if key == "detachKeys"), "")
        try:
            if keys:
                parse_detach_keys(keys)
        except ValueError:
            if self._rules.podman:
                unknown = next(key for key in keys.split(",") if not _is_key(key))
                return ApiError(500, f"invalid detach keys: Unknown character: '{unknown}'")
            return ApiError(400, f"Invalid detach keys ({keys}) provided")
        return ApiError(404, self._rules.no_such_container.format(name=name))

    async def _answer_later(self, wire: ServerConnection, answer: DeferredResponse) -> None:
        head = self._answers.document({})
        await wire.send(ResponseHead(head.status_code, head.headers))
        document: list[Any] = []

        async def known() -> None:
            document.append(await answer.document())

        task = asyncio.get_running_loop().create_task(known())
        try:
            await first(wire.ended(), task)
        finally:
            await cancel(task)
        if document:
            await wire.send(attrs.evolve(self._answers.document(document[0]), headers=head.headers))


def _from_a_page(headers: Headers) -> str:
    """Why this comes from a web page; empty if it does not. On TCP any page in a browser of this machine could ask."""
    fields = dict(headers)
    if "origin" in fields:
        return "this engine answers no web pages"
    # A page may also have given its own name to loopback.
    name = urlsplit(f"//{fields.get('host', '')}").hostname or "localhost"
    return "" if is_loopback(name) else f"this engine is not {name!r}"


def _is_key(key: str) -> bool:
    try:
        parse_detach_keys(key)
    except ValueError:
        return False
    return True


def _padded(version: str | None) -> tuple[int, ...]:
    parts = numbers(version or "0")
    return parts + (0,) * (4 - len(parts))


async def _respond(wire: ServerConnection, request: object, response: Response) -> None:
    """Refuse a request of either kind."""
    await wire.send(as_rejected(response) if isinstance(request, StreamRequest) else response)


def _cleaned(request: Request) -> str:
    """Where Go's router sends a path that is not clean; empty if it is."""
    path, mark, query = request.target.partition("?")
    if not path.startswith("/") or not request.path:
        return ""
    decoded = "/".join(("", *request.path))
    clean = posixpath.normpath(f"/{decoded.lstrip('/')}") + ("/" if decoded.endswith("/") and decoded != "/" else "")
    version = f"/v{request.api_version}" if request.api_version else ""
    if clean == decoded and "//" not in path:
        return ""
    return quote(version + clean) + mark + query
