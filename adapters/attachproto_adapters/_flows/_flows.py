"""The flows of an exec, and what the flows of all streams share: the inspect, the held wait, the answer of a stream.

Strategy: a flow is a generator of steps (``_steps``). It decides what refusals, races and differences between engines
mean; an adapter only moves bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar, Unpack

import attrs

from attachproto import (
    Accepted,
    Attach,
    ExecStart,
    LocalProtocolError,
    Quirk,
    Rejected,
    Request,
    Response,
    ResponseHead,
    StreamRequest,
)
from attachproto._validators import check_flag
from attachproto_adapters._errors import (
    ContainerNotRunning,
    ExecAlreadyStarted,
    HalfCloseEndsAttach,
    shown,
)
from attachproto_adapters._flows._api_calls import (
    create_exec_request,
    created_id,
    inspect_request,
    judge_version,
    refused,
    succeeded,
    version_range,
    wait_request,
)
from attachproto_adapters._flows._inspect import (
    InspectedContainer,
    InspectedExec,
    half_close_ends_attach,
    podman_version,
)
from attachproto_adapters._flows._intermediaries import UNNAMED, closing_intermediary, half_close_ends_at
from attachproto_adapters._flows._options import ExecOptions
from attachproto_adapters._flows._steps import Call, CallDeferred, Opened, Steps, Stream, TryHalfClose


def open_exec(
    exec_id: str, *, tty: bool | None, console_size: tuple[int, int] | None, api_version: str | None
) -> Steps[Opened]:
    """Inspect an exec that was created, and start it.

    Raises:
        ValueError: the ID is not valid; the console size needs a TTY and API 1.42.
        RequestRejected: the engine refused one of the calls.
        ExecAlreadyStarted: it was started before.
    """
    if tty is not None:  # else after the inspect
        ExecStart(exec_id, tty=tty, console_size=console_size, api_version=api_version)
    response = yield from first_call(inspect_request("exec", exec_id, api_version))
    inspected = InspectedExec.from_response(response)
    if inspected.running or inspected.exit_code is not None:
        # dockerd would accept the attach, and write its refusal into the output.
        raise ExecAlreadyStarted(
            f"the exec {exec_id} was started before: an exec can be started and attached to only once"
        )
    request = ExecStart(
        exec_id,
        tty=inspected.tty if tty is None else tty,
        stdin=inspected.open_stdin,
        console_size=console_size,
        api_version=api_version,
    )
    inspected = yield from with_unnamed_intermediary(inspected, wanted=inspected.open_stdin)
    yield from require_stream(request)
    return Opened("exec", exec_id, api_version, inspected, follows=True)


def create_exec(
    container: str, command: Sequence[str], *, stdin: bool, api_version: str | None, **options: Unpack[ExecOptions]
) -> Steps[Response]:
    """Create an exec, and return the answer, which has its ID (``created_id``).

    Raises:
        ValueError: the container's name is not valid; the command is empty; a field needs a later API.
        TypeError: the command is a string; a field is of another type.
        RequestRejected: the engine refused.
        ContainerNotRunning: it has exited, is paused, or was never started.
    """
    Attach(container)  # checks the name
    check_flag("stdin", stdin)
    request = create_exec_request(container, command, stdin=stdin, api_version=api_version, **options)
    response: Response = yield Call(request)
    if response.status_code in (409, 500):  # dockerd's and Podman's answers for a container that does not run
        look: Response = yield Call(inspect_request("containers", container, api_version))
        if look.status_code == 200 and not (of := InspectedContainer.from_response(look)).running:
            raise ContainerNotRunning(
                f"the container {container} is {shown(of.status)}, and commands need a running one"
            )
    return (yield from _judged(request, response))


def create_and_open_exec(
    container: str,
    command: Sequence[str],
    *,
    stdin: bool,
    api_version: str | None,
    stdin_must_end: bool = True,
    console_size: tuple[int, int] | None = None,
    created: Callable[[Opened], Opened] = lambda opened: opened,
    **options: Unpack[ExecOptions],
) -> Steps[Opened]:
    """Create an exec, and start it.

    ``stdin_must_end``: what is sent has an end, and output is read after it. ``created`` is called before the start
    with what will be returned, and may return it with more in it.

    Raises:
        RequestRejected, ContainerNotRunning, TypeError, ValueError: as for ``create_exec``.
        HalfCloseEndsAttach: stdin must end, and the command has a TTY, or an intermediary is known to close the whole
            stream at a half-close. The command was not started.
    """
    tty = options.get("tty", False)
    check_flag("tty", tty)
    request = ExecStart("any", tty=tty, stdin=stdin, console_size=console_size, api_version=api_version)
    inspected = InspectedExec(tty=tty, open_stdin=stdin, podman=None)
    if stdin_must_end and inspected.half_close_ends_attach:
        raise HalfCloseEndsAttach(half_close_ends_attach(inspected))
    response = yield from create_exec(container, command, stdin=stdin, api_version=api_version, **options)
    request = attrs.evolve(request, exec_id=created_id("exec", response))
    inspected = attrs.evolve(
        inspected, podman=podman_version(response), intermediary=closing_intermediary(response.headers)
    )
    inspected = yield from with_unnamed_intermediary(inspected, wanted=stdin)
    if stdin and stdin_must_end and inspected.intermediary is not None:
        raise HalfCloseEndsAttach(half_close_ends_at(inspected.intermediary))
    opened = created(Opened("exec", request.exec_id, api_version, inspected, follows=True))
    yield from require_stream(request)
    return opened


def inspect_container(container: str, api_version: str | None) -> Steps[InspectedContainer]:
    """Inspect a container, as the first call of a flow."""
    response = yield from first_call(inspect_request("containers", container, api_version))
    return InspectedContainer.from_response(response)


def hold_wait(container: str, condition: str, api_version: str | None) -> Steps[None]:
    """Make the call that answers with the exit code, and go on at its head: the engine waits from then on."""
    request = wait_request(container, condition, api_version)
    answer: Response | ResponseHead | None = yield CallDeferred(request)
    if isinstance(answer, Response):
        succeeded(request, answer)


def first_call(request: Request) -> Steps[Response]:
    """The answer to the first call of a flow, which an engine refuses if it does not speak the API version."""
    return (yield from _judged(request, (yield Call(request))))


def _judged(request: Request, response: Response) -> Steps[Response]:
    if response.status_code == 400 and request.api_version is not None:
        known = version_range((yield Call(Request("GET", ("version",)))))
        if known is not None:
            judge_version(request, response, known)
    return succeeded(request, response)


F = TypeVar("F", InspectedContainer, InspectedExec)


def with_unnamed_intermediary(inspected: F, *, wanted: bool) -> Steps[F]:
    """Try whether a half-close reaches the engine, if one may be wanted and no intermediary is known to stop it."""
    if not wanted or inspected.intermediary is not None or inspected.half_close_ends_attach:
        return inspected
    passes: bool = yield TryHalfClose()
    return inspected if passes else attrs.evolve(inspected, intermediary=UNNAMED)


def require_stream(request: StreamRequest, quirks: frozenset[Quirk] = frozenset()) -> Steps[None]:
    """Open a stream that has to be accepted; raises as ``judge_stream`` does."""
    judge_stream(request, (yield Stream(request, quirks)))


def judge_stream(request: StreamRequest, answer: Accepted | Rejected) -> Accepted:
    """Return the answer if it opens a stream that can be read.

    Raises:
        RequestRejected: the engine refused.
        LocalProtocolError: neither the answer nor the request's ``tty`` says how the output is framed.
    """
    if isinstance(answer, Rejected):
        raise refused(request, answer)
    if answer.framing is None:
        raise LocalProtocolError(
            "the engine's answer does not say whether the output is framed: build the request with tty="
        )
    return answer
