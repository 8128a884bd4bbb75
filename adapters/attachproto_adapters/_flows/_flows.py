"""Which calls to make in which order, and what their answers mean: the same for every framework.

Strategy: a flow is a generator of steps (``_steps``). Refusals, races and the habits of engines are judged here; an
adapter only moves bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar, Unpack

import attrs

from attachproto import (
    Accepted,
    Attach,
    AttachOptions,
    ExecStart,
    LocalProtocolError,
    Logs,
    Quirk,
    Rejected,
    Request,
    Response,
    ResponseHead,
    StreamRequest,
)
from attachproto_adapters._errors import (
    ContainerNotRunning,
    ExecAlreadyStarted,
    HalfCloseEndsAttach,
    RequestRejected,
    shown,
    warn,
)
from attachproto_adapters._flows._api_calls import (
    create_exec_request,
    exec_id,
    inspect_request,
    judge_version,
    named,
    start_request,
    succeeded,
    version_range,
    wait_request,
)
from attachproto_adapters._flows._inspect import (
    InspectedContainer,
    InspectedExec,
    half_close_ends_attach,
    known_quirks,
    podman_version,
)
from attachproto_adapters._flows._options import CommandOptions
from attachproto_adapters._flows._steps import Call, CallDeferred, Opened, Pause, Steps, Stream

# Nothing tells of an exec's end but asking. Its output has ended by then, so most have an exit code at once; the
# others are asked after a time that grows up to this.
_PAUSE_MIN, _PAUSE_MAX = 0.005, 0.2


def open_attach(
    container: str,
    options: AttachOptions,
    *,
    tty: bool | None,
    start: bool,
    wait: bool,
    api_version: str | None,
    quirks: Iterable[Quirk] | None = None,
) -> Steps[Opened]:
    """Inspect, hold the wait, attach, start, and look again.

    Raises:
        ValueError: the container's name is none.
        RequestRejected: the engine refused one of the calls.
        ContainerNotRunning: it has exited, and neither its logs nor a start were asked for; or it is paused.
    """
    # Built before anything is asked, because it is what judges the name.
    request = Attach(container, options, tty=tty, api_version=api_version)
    inspected = yield from _inspect_container(container, api_version)
    if inspected.paused:
        raise ContainerNotRunning(f"the container {container} is paused: engines attach once it is unpaused")
    request = _with_tty(request, inspected)
    if options.stdin and not inspected.open_stdin:
        warn("the container was created without OpenStdin: nothing reads what is sent to its stdin")
    known = known_quirks(inspected.podman, request) if quirks is None else frozenset(quirks)
    opened = Opened("containers", container, api_version, inspected)
    if start:
        yield from _stream(request, known)
        # Held before the start, and with the condition: without it dockerd answers 0 at once for a container that
        # has not run, and Podman -1; and once it has run, AutoRemove may have taken it away.
        yield from _hold_wait(container, "next-exit", api_version)
        yield from _start(container, api_version)
        return opened
    if inspected.exited:
        yield from _stream(_replay(request, inspected), known)
        return attrs.evolve(opened, exit_code=inspected.exit_code)
    if wait or (options.stream and inspected.created):
        # A created container, which somebody else will start: asked later, an engine may say 0, or that it is too late.
        yield from _hold_wait(container, "next-exit" if inspected.created else "not-running", api_version)
    yield from _stream(request, known)
    if options.stream:
        # It may have exited since we looked. If it did before the engine joined us to its output, dockerd sends
        # neither output nor an end, ever; and Podman has made it a created one by our attach, and forgotten its code.
        inspect = inspect_request("containers", container, api_version)
        response: Response = yield Call(inspect)
        if response.status_code == 404:
            # Removed at its end (AutoRemove): then the stream ends too, and may hold all of its output.
            return opened
        again = InspectedContainer.from_response(succeeded(inspect, response))
        if again.exited or (again.created and not inspected.created):
            yield from _stream(_replay(request, again), known)
            return attrs.evolve(opened, exit_code=again.exit_code if again.exited else None)
    return opened


def open_logs(request: Logs) -> Steps[Opened]:
    """Inspect, unless the request tells all, and read the logs.

    Raises:
        RequestRejected: the engine refused one of the calls.
    """
    inspected = yield from _inspect_container(request.container, request.api_version)
    if inspected.created:
        yield from _hold_wait(request.container, "next-exit", request.api_version)
    yield from _stream(_with_tty(request, inspected))
    # A container that has not run yet has no exit code, and its status says so.
    code = inspected.exit_code if inspected.exited else None
    return Opened("containers", request.container, request.api_version, inspected, code)


def open_exec(
    exec_id: str, *, tty: bool | None, console_size: tuple[int, int] | None, api_version: str | None
) -> Steps[Opened]:
    """Inspect an exec that was created, and start it.

    Raises:
        ValueError: the ID is none; a console size without a TTY, or for an API that has none.
        RequestRejected: the engine refused one of the calls.
        ExecAlreadyStarted: it was started before.
    """
    if tty is not None:  # else after the inspect
        ExecStart(exec_id, tty=tty, console_size=console_size, api_version=api_version)
    response = yield from _call(inspect_request("exec", exec_id, api_version))
    inspected = InspectedExec.from_response(response)
    if inspected.running or inspected.exit_code is not None:
        # dockerd would accept, and put its refusal into the output.
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
    yield from _stream(request)
    return Opened("exec", exec_id, api_version, inspected)


def create_and_open_exec(
    container: str,
    command: Sequence[str],
    *,
    stdin: bool,
    api_version: str | None,
    **options: Unpack[CommandOptions],
) -> Steps[Opened]:
    """Create an exec, and start it.

    Raises:
        ValueError: the container's name is none; the command is empty; a field needs a later API.
        TypeError: the command is a string.
        RequestRejected: the engine refused one of the calls.
        ContainerNotRunning: it has exited, is paused, or was never started.
        HalfCloseEndsAttach: there is input for a TTY, whose end could not be told.
    """
    Attach(container)  # which judges the name
    request = create_exec_request(container, command, stdin=stdin, api_version=api_version, **options)
    tty = options.get("tty", False)
    inspected = InspectedExec(tty=tty, open_stdin=stdin, podman=None)
    if inspected.half_close_ends_attach:
        raise HalfCloseEndsAttach(half_close_ends_attach(inspected))
    response: Response = yield Call(request)
    if response.status_code in (409, 500):  # dockerd's and Podman's answers for a container that does not run
        look: Response = yield Call(inspect_request("containers", container, api_version))
        if look.status_code == 200 and not (of := InspectedContainer.from_response(look)).running:
            raise ContainerNotRunning(
                f"the container {container} is {of.status}: commands need a running one ({shown(response.message)})"
            )
    response = yield from _judged(request, response)
    created = exec_id(response)
    inspected = attrs.evolve(inspected, podman=podman_version(response))
    yield from _stream(ExecStart(created, tty=tty, stdin=stdin, api_version=api_version))
    return Opened("exec", created, api_version, inspected)


def exec_exit_code(exec_id: str, api_version: str | None, check: Callable[[], None]) -> Steps[int]:
    """Ask until the exec has ended, or ``check``, which is called before each question, raises.

    Raises:
        RequestRejected: the engine refused: it forgets an exec when its container ends.
    """
    pause = _PAUSE_MIN
    while True:
        check()
        inspected = InspectedExec.from_response((yield from _call(inspect_request("exec", exec_id, api_version))))
        if inspected.exit_code is not None:
            return inspected.exit_code
        yield Pause(pause)
        pause = min(pause * 2, _PAUSE_MAX)


def _inspect_container(container: str, api_version: str | None) -> Steps[InspectedContainer]:
    response = yield from _call(inspect_request("containers", container, api_version))
    return InspectedContainer.from_response(response)


R = TypeVar("R", Attach, Logs)


def _with_tty(request: R, inspected: InspectedContainer) -> R:
    return attrs.evolve(request, tty=inspected.tty) if request.tty is None else request


def _replay(request: Attach, inspected: InspectedContainer) -> Attach:
    if not request.options.logs:
        raise ContainerNotRunning(
            f"the container {request.container} is not running ({inspected.status}, exit code {inspected.exit_code}): "
            "ask for its output so far with logs=True, or start it with start=True"
        )
    return attrs.evolve(request, options=attrs.evolve(request.options, stream=False))


def _start(container: str, api_version: str | None) -> Steps[None]:
    request = start_request(container, api_version)
    response: Response = yield Call(request)
    if response.status_code != 304:  # it runs already
        succeeded(request, response)


def _hold_wait(container: str, condition: str, api_version: str | None) -> Steps[None]:
    request = wait_request(container, condition, api_version)
    answer: Response | ResponseHead = yield CallDeferred(request)
    if isinstance(answer, Response):
        succeeded(request, answer)


def _call(request: Request) -> Steps[Response]:
    """The answer to the first call of a flow: it is where an engine would refuse the API's version."""
    return (yield from _judged(request, (yield Call(request))))


def _judged(request: Request, response: Response) -> Steps[Response]:
    if response.status_code == 400 and request.api_version is not None:
        known = version_range((yield Call(Request("GET", ("version",)))))
        if known is not None:
            judge_version(request, response, known)
    return succeeded(request, response)


def _stream(request: StreamRequest, quirks: frozenset[Quirk] = frozenset()) -> Steps[None]:
    judge_stream(request, (yield Stream(request, quirks)))


def judge_stream(request: StreamRequest, answer: Accepted | Rejected) -> Accepted:
    """The answer, if it opens a stream that can be read.

    Raises:
        RequestRejected: the engine refused.
        LocalProtocolError: nothing tells how the output is framed.
    """
    if isinstance(answer, Rejected):
        raise RequestRejected(answer.status_code, answer.message, named(request.to_request()))
    if answer.framing is None:
        raise LocalProtocolError(
            "the engine's answer does not tell whether the output is framed: give tty= with the request"
        )
    return answer
