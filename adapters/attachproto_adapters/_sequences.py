"""Which calls to make in which order, and what their answers mean: written once, without a colour.

Strategy: a sequence is a plain generator. It yields a step, and is sent what came of it:

- ``Call(request)``: the whole answer, a ``Response``; the connection is then closed.
- ``Hold(request)``: the head of the answer as soon as it is there, a ``ResponseHead``, and the connection stays open
  for the rest; of a refusal the whole ``Response``.
- ``Stream(request)``: ``Accepted`` or ``Rejected``; the connection becomes the attachment, and a former one is closed.

An adapter drives it with one loop, and closes what is open when the generator raises. So refusals, races and
engines' habits are judged here, and an adapter moves bytes.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import attrs

from attachproto import (
    Accepted,
    Attach,
    AttachOptions,
    LocalProtocolError,
    Rejected,
    RemoteProtocolError,
    Request,
    Response,
    ResponseHead,
    StreamRequest,
)
from attachproto_adapters._container import ContainerFacts, of_type, read_json
from attachproto_adapters._errors import AttachError, ContainerNotRunning, RequestRejected


@attrs.frozen
class Call:
    """Make a plain call and wait for the whole answer."""

    request: Request


@attrs.frozen
class Hold:
    """Make a plain call, wait for the head of its answer, and keep the rest for later."""

    request: Request


@attrs.frozen
class Stream:
    """Open the stream."""

    request: Attach


Step = Call | Hold | Stream
Steps = Generator[Step, Any, "Opened"]


@attrs.frozen
class Opened:
    """What is known of an attachment that was opened.

    Attributes:
        container: its name, as given.
        api_version: for later calls.
        facts: what inspect said before the attach.
        exit_code: if the container had exited by then; later Podman has forgotten it.
    """

    container: str
    api_version: str | None
    facts: ContainerFacts
    exit_code: int | None = None


def open_attach(
    container: str,
    options: AttachOptions,
    *,
    tty: bool | None,
    start: bool,
    wait: bool,
    api_version: str | None,
) -> Steps:
    """Inspect, hold the wait, attach, start, and look again.

    Raises:
        ValueError: the container's name is none.
        RequestRejected: the engine refused one of the calls.
        ContainerNotRunning: it has exited, and neither its logs nor a start were asked for.
    """
    # Built before anything is asked, because it is what judges the name.
    request = Attach(container, options, tty=tty, api_version=api_version)
    inspect = Request("GET", ("containers", container, "json"), api_version=api_version)
    facts = ContainerFacts.from_response(succeeded(inspect, (yield Call(inspect))))
    if tty is None:
        request = attrs.evolve(request, tty=facts.tty)
    if start:
        yield from _stream(request)
        # Held before the start, and with the condition: without it dockerd answers 0 at once for a container that
        # has not run, and Podman -1; and once it has run, AutoRemove may have taken it away.
        yield from _hold_wait(container, "next-exit", api_version)
        yield from _start(container, api_version)
        return Opened(container, api_version, facts)
    if facts.exited:
        yield from _stream(_replay(request, facts))
        return Opened(container, api_version, facts, facts.exit_code)
    if wait:
        condition = "next-exit" if facts.status == "created" else "not-running"
        yield from _hold_wait(container, condition, api_version)
    yield from _stream(request)
    if options.stream:
        # It may have exited since we looked. If it did before the engine joined us to its output, dockerd sends
        # neither output nor an end, ever; and Podman has made it a created one by our attach, and forgotten its code.
        response: Response = yield Call(inspect)
        if response.status_code == 404:
            # Removed at its end (AutoRemove): then the stream ends too, and may hold all of its output.
            return Opened(container, api_version, facts)
        again = ContainerFacts.from_response(succeeded(inspect, response))
        if again.exited or (again.status == "created" and facts.status != "created"):
            yield from _stream(_replay(request, again))
            return Opened(container, api_version, facts, again.exit_code if again.exited else None)
    return Opened(container, api_version, facts)


def _replay(request: Attach, facts: ContainerFacts) -> Attach:
    if not request.options.logs:
        raise ContainerNotRunning(
            f"the container {request.container} is not running ({facts.status}, exit code {facts.exit_code}): "
            "ask for its output so far with logs=True, or start it with start=True"
        )
    return attrs.evolve(request, options=attrs.evolve(request.options, stream=False))


def _start(container: str, api_version: str | None) -> Generator[Step, Any, None]:
    request = Request("POST", ("containers", container, "start"), api_version=api_version)
    response: Response = yield Call(request)
    if response.status_code != 304:  # it runs already
        succeeded(request, response)


def _hold_wait(container: str, condition: str, api_version: str | None) -> Generator[Step, Any, None]:
    request = wait_request(container, condition, api_version)
    answer: Response | ResponseHead = yield Hold(request)
    if isinstance(answer, Response):
        succeeded(request, answer)


def _stream(request: Attach) -> Generator[Step, Any, None]:
    judge_stream(request, (yield Stream(request)))


def judge_stream(request: StreamRequest, answer: Accepted | Rejected) -> Accepted:
    """The answer, if it opens a stream that can be read.

    Raises:
        RequestRejected: the engine refused.
        LocalProtocolError: nothing tells how the output is framed.
    """
    if isinstance(answer, Rejected):
        raise RequestRejected(answer.status_code, answer.message, _named(request.to_request()))
    if answer.framing is None:
        raise LocalProtocolError(
            "the engine's answer does not tell whether the output is framed: give tty= with the request"
        )
    return answer


def wait_request(container: str, condition: str, api_version: str | None) -> Request:
    """The call that answers when the container has exited."""
    return Request("POST", ("containers", container, "wait"), (("condition", condition),), api_version=api_version)


def resize_request(container: str, height: int, width: int, api_version: str | None) -> Request:
    """The call that tells a TTY its size (height first, as the API has it)."""
    query = (("h", str(height)), ("w", str(width)))
    return Request("POST", ("containers", container, "resize"), query, api_version=api_version)


def exit_code(response: Response) -> int:
    """The exit code in the answer to a wait.

    Raises:
        AttachError: the engine could not tell.
        RemoteProtocolError: it is no such answer.
    """
    value = read_json(response)
    try:
        error, code = value.get("Error"), value["StatusCode"]
        if error and error.get("Message"):
            raise AttachError(f"the engine could not wait for the container: {error['Message']}")
        return of_type(int, code)
    except (LookupError, TypeError, AttributeError) as exc:
        raise RemoteProtocolError(f"wait's answer has not the fields of an engine's: {exc!r}") from None


def succeeded(request: Request, response: Response) -> Response:
    """The answer, if it is no refusal.

    Raises:
        RequestRejected: it is one.
    """
    if response.status_code >= 300:
        raise RequestRejected(response.status_code, response.message, _named(request))
    return response


def _named(request: Request) -> str:
    return f"{request.method} /{'/'.join(request.path)}"
