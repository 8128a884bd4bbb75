"""The plain calls to the engine: their requests, how their answers are read, and the error that a refusal becomes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Final

from attachproto import Attach, Reason, Rejected, RemoteProtocolError, Request, Response, ResponseHead, StreamRequest
from attachproto._headers import field
from attachproto._validators import check_flag, version_numbers
from attachproto_adapters._errors import ApiVersionRejected, ExitCodeUnknown, RequestRejected, shown
from attachproto_adapters._flows._arguments import check_count, check_env, check_text, check_whole, command_arguments
from attachproto_adapters._flows._inspect import of_type, read_json

# Every engine answers this call, and at once.
PING: Final = Request("GET", ("_ping",))

JSON: Final = (("content-type", "application/json"),)


def inspect_request(kind: str, name: str, api_version: str | None) -> Request:
    """The call that inspects a container or an exec; ``kind`` is the first segment of the path."""
    return Request("GET", (kind, name, "json"), api_version=api_version)


def start_request(container: str, api_version: str | None) -> Request:
    """The call that starts a container."""
    return Request("POST", ("containers", container, "start"), api_version=api_version)


def wait_request(container: str, condition: str, api_version: str | None) -> Request:
    """The call that is answered when the container has exited.

    Before API 1.30 engines ignore the condition, and send no head before the end. Then the version is left out of the
    path, so that the engine uses its newest.
    """
    if api_version is not None and version_numbers(api_version) < (1, 30):
        api_version = None
    return Request("POST", ("containers", container, "wait"), (("condition", condition),), api_version=api_version)


def resize_request(kind: str, name: str, height: int, width: int, api_version: str | None) -> Request:
    """The call that sets the size of a container's or an exec's TTY, in characters."""
    check_count("height", height)
    check_count("width", width)
    query = (("h", str(height)), ("w", str(width)))
    return Request("POST", (kind, name, "resize"), query, api_version=api_version)


def create_exec_request(
    container: str,
    command: Sequence[str],
    *,
    stdin: bool,
    api_version: str | None,
    stderr: bool = True,
    tty: bool = False,
    env: Mapping[str, str] | None = None,
    user: str | None = None,
    workdir: str | None = None,
    detach_keys: str | None = None,
) -> Request:
    """The call that creates an exec (moby ``postContainerExecCreate``). Fields that are ``None`` are left out.

    Raises:
        TypeError: the command is a string, or one of its arguments is not; a field is of another type.
        ValueError: the command is empty; a field needs a later API than was asked for.
    """
    arguments = command_arguments(command)
    if not arguments:
        raise ValueError("the command is empty")
    check_flag("tty", tty)
    body: dict[str, object] = {
        "AttachStdin": stdin,
        "AttachStdout": True,
        "AttachStderr": stderr,
        "Tty": tty,
        "Cmd": arguments,
    }
    if env is not None:
        _needs("env", (1, 25), api_version)
    if workdir is not None:
        _needs("workdir", (1, 35), api_version)
    body |= process_fields(env, user, workdir)
    if detach_keys is not None:
        body["DetachKeys"] = detach_keys
    return Request(
        "POST",
        ("containers", container, "exec"),
        body=json.dumps(body).encode(),
        headers=JSON,
        api_version=api_version,
    )


def process_fields(env: Mapping[str, str] | None, user: str | None, workdir: str | None) -> dict[str, object]:
    """The fields that the creations of a container and of an exec share. Those that are ``None`` are left out.

    Raises:
        TypeError: one is of another type.
        ValueError: one cannot be passed to a process unchanged.
    """
    fields: dict[str, object] = {}
    if env is not None:
        check_env(env)
        fields["Env"] = [f"{name}={value}" for name, value in env.items()]
    if user is not None:
        check_text("user", user, "0")
        check_whole("user", user)
        fields["User"] = user
    if workdir is not None:
        check_text("workdir", workdir, "/srv")
        check_whole("workdir", workdir)
        fields["WorkingDir"] = workdir
    return fields


def _needs(name: str, since: tuple[int, int], api_version: str | None) -> None:
    if api_version is not None and version_numbers(api_version) < since:
        raise ValueError(f"{name} needs API {since[0]}.{since[1]} or later, not {api_version}")


def created_id(kind: str, response: Response) -> str:
    """The ID in the answer to the creation of an exec or a container; ``kind`` is the word for it.

    Raises:
        RemoteProtocolError: the answer has no ID.
    """
    try:
        found = of_type(str, read_json(response)["Id"])
        Attach(found)  # it raises for an invalid ID
        return found
    except (LookupError, TypeError, ValueError) as exc:
        raise RemoteProtocolError(
            f"the answer to the creation of the {kind} has no valid ID: {shown(repr(exc))}", Reason.BAD_DOCUMENT
        ) from None


def exit_code(response: Response) -> int:
    """The exit code in the answer to a wait.

    Raises:
        ExitCodeUnknown: the engine does not know it: the container is gone, or Podman has reset it (-1).
        RemoteProtocolError: the answer lacks a field that engines send.
    """
    value = read_json(response)
    try:
        error, code = value.get("Error"), value["StatusCode"]
        if error and error.get("Message"):
            raise ExitCodeUnknown(f"the engine could not wait for the container: {shown(str(error['Message']))}")
        return known_exit_code(of_type(int, code))
    except (LookupError, TypeError, AttributeError) as exc:
        raise RemoteProtocolError(
            f"the answer to wait lacks a field that engines send: {shown(repr(exc))}", Reason.BAD_DOCUMENT
        ) from None


def known_exit_code(code: int) -> int:
    """Return the exit code if it is one. Podman reports -1 if it has none.

    Raises:
        ExitCodeUnknown: it is negative.
    """
    if code < 0:
        raise ExitCodeUnknown(f"the engine reports the exit code {shown(str(code))}, which no process can have")
    return code


def may_succeed_again(exc: Exception) -> bool:
    """Whether calls may succeed if they are made again after this error: a connection broke.

    A handshake that was cut is ``EngineUnreachable``. After a timeout another try would take as long again.
    """
    too_late = isinstance(exc, TimeoutError) or isinstance(exc.__cause__, TimeoutError)
    return not (too_late or isinstance(exc, RequestRejected))


def is_refusal(answer: Response | ResponseHead) -> bool:
    """Whether the engine has refused a plain call. It never redirects a valid path, so a redirect is a refusal too."""
    return answer.status_code >= 300


def succeeded(request: Request, response: Response) -> Response:
    """Return the answer if the call has succeeded.

    Raises:
        RequestRejected: the status is 300 or above.
    """
    if is_refusal(response):
        raise refused(request, response)
    return response


def done(request: Request, response: Response, status_code: int | None = None) -> None:
    """Return if a call without a document in its answer has succeeded.

    Args:
        request: the call.
        response: its answer.
        status_code: what engines answer then, if all of them answer the same.

    Raises:
        RequestRejected: the status is 300 or above.
        RemoteProtocolError: no engine answers so. There may be a proxy's page, or another service.
    """
    succeeded(request, response)
    if response.body.strip() or status_code not in (None, response.status_code):
        wanted = "an empty one" if status_code is None else str(status_code)
        raise RemoteProtocolError(
            f"the answer to {named(request)} is {response.status_code} with {shown(response.message)!r}, and engines "
            f"answer with {wanted}: is there a proxy or another service at this address?",
            Reason.BAD_DOCUMENT,
        )


def refused(request: Request | StreamRequest, response: Response | Rejected) -> RequestRejected:
    """The error for a call that the engine has refused."""
    location = field(response.headers, "location") if response.status_code < 400 else None
    return RequestRejected(response.status_code, response.message, named(request), location or "")


def version_range(response: Response) -> tuple[str, str] | None:
    """The oldest and the newest API version in the answer to ``GET /version``; ``None`` if they are missing."""
    try:
        value = read_json(response)
        found = of_type(str, value["MinAPIVersion"]), of_type(str, value["ApiVersion"])
        if not all(map(version_numbers, found)):
            return None
    except (RemoteProtocolError, LookupError, TypeError, ValueError):
        return None
    return found


def judge_version(request: Request, response: Response, known: tuple[str, str]) -> None:
    """Raise ``ApiVersionRejected`` if the version in the refused request is outside the engine's range."""
    assert request.api_version is not None
    oldest, newest = known
    if not version_numbers(oldest) <= version_numbers(request.api_version) <= version_numbers(newest):
        raise ApiVersionRejected(
            response.status_code, response.message, named(request), request.api_version, oldest, newest
        )


def named(request: Request | StreamRequest) -> str:
    """A call as errors name it, such as ``GET /containers/web/json``."""
    call = request.to_request() if isinstance(request, StreamRequest) else request
    return f"{call.method} /{'/'.join(call.path)}"
