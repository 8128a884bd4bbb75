"""The steps that a flow asks its adapter to perform.

Strategy: a flow is a plain generator. It yields a step and receives its result:

- ``Call(request)``: the whole answer, a ``Response``. The connection is then closed.
- ``CallDeferred(request)``: the head of the answer as soon as it arrives, a ``ResponseHead``; ``None`` if it does not
  arrive in time. The connection stays open for the rest. A refusal gives the whole ``Response``.
- ``AwaitDeferred(seconds)``: the whole answer to the deferred call; ``None`` if there is none after this time, or there
  is no such call; ``Broken`` if its connection broke.
- ``Discard()``: ``None``. The connection of ``CallDeferred`` is closed.
- ``Stream(request)``: ``Accepted`` or ``Rejected``. The connection becomes the attachment; an earlier one is closed.
- ``Pause(seconds)``: ``None``, after this time.
- ``TryHalfClose()``: whether a half-close reaches the engine as one, as far as can be tried.

Each adapter performs the steps with one loop, which closes what is open when the generator raises. So a flow can be
tested without a socket, and an adapter decides nothing about Docker.

Values are named tuples, which take a fifth of the time that attrs needs to build a class when it is imported. The steps
without a field are not: two empty tuples are equal.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Generic, NamedTuple, TypeVar

import attrs

from attachproto import Accepted, ExecStart, Logs, Quirk, Request, StreamRequest
from attachproto_adapters._flows._inspect import Facts
from attachproto_adapters._flows._marker import Marker

T = TypeVar("T")
AnySession = TypeVar("AnySession")

# Engines send the head of a wait at once: the slowest of 900 took 0.11 s, on a machine under a high load. nginx, unless
# its buffering is off, sends it only when the container has exited. The engine has the request long before that.
HEAD_SECONDS = 2.0

# How long the head of a stream may take. dockerd and Podman send it at once, also when nothing is printed. The longest
# that a busy dockerd kept an attach waiting, for the lock of its container, was ten seconds. An intermediary that
# buffers sends the head with the first output. That may never come, because the container is started after the head.
STREAM_HEAD_SECONDS = 30.0


class Call(NamedTuple):
    """Make a plain call and wait for the whole answer."""

    request: Request


class CallDeferred(NamedTuple):
    """Make a plain call, wait for the head of its answer, and keep the rest for later.

    Attributes:
        request: the call.
        seconds: how long to wait for the head after the request was sent.
    """

    request: Request
    seconds: float = HEAD_SECONDS


class AwaitDeferred(NamedTuple):
    """Wait for the answer to the deferred call, for a limited time.

    Attributes:
        seconds: how long; 0 to see whether it has come, ``None`` for no limit but the caller's.
    """

    seconds: float | None


class Broken(NamedTuple):
    """The connection of a deferred call broke before the answer was whole.

    Attributes:
        error: what the framework or the state machine has raised.
    """

    error: Exception


@attrs.frozen
class Discard:
    """Close the connection of the deferred call. The rest of its answer is not needed."""


class Stream(NamedTuple):
    """Open the stream, on an engine that has these quirks."""

    request: StreamRequest
    quirks: frozenset[Quirk] = frozenset()

    @property
    def head_seconds(self) -> float | None:
        """How long to wait for the head of the answer; ``None`` if it may come with the first output.

        Logs, and a command without stdin, end by themselves. If the head is held back until then, nothing is lost.
        """
        ends_alone = isinstance(self.request, Logs) or (isinstance(self.request, ExecStart) and not self.request.stdin)
        return None if ends_alone else STREAM_HEAD_SECONDS


class Pause(NamedTuple):
    """Sleep.

    Attributes:
        seconds: how long.
        bounded: the flow limits the sum of these pauses itself, so the caller's timeout does not count this one.
    """

    seconds: float
    bounded: bool = False


@attrs.frozen
class TryHalfClose:
    """Make a harmless call and half-close right behind the request: ``False`` if the connection then ends unanswered.

    A TCP proxy that closes both directions when one has ended (nginx ``stream`` without ``proxy_half_close``) names
    itself nowhere, and the output that it drops may be the whole output of a short command. Only plain TCP is tried:
    TLS and ssh carry a half-close inside, and a Unix socket leads to the engine itself. Anything else is ``True``.
    """


Step = Call | CallDeferred | AwaitDeferred | Discard | Stream | Pause | TryHalfClose
Steps = Generator[Step, Any, T]


class Opened(NamedTuple):
    """What is known of an attachment that was opened.

    Attributes:
        kind: ``containers`` or ``exec``, the first segment of paths.
        name: the container's name as given, or the exec's ID.
        api_version: the version for later calls.
        inspected: the inspect from before the attach.
        exit_code: the container's, if it had exited before the attach; Podman forgets it later.
        exit_code_lost: the container had exited, and the engine does not know its exit code any more.
        follows: the output ends when the process does, and not before.
        wait_held: the exit code was asked for when the attachment was opened, on a connection that is held.
        marker: takes the line out of the output that the command's process is known by.
    """

    kind: str
    name: str
    api_version: str | None
    inspected: Facts
    exit_code: int | None = None
    exit_code_lost: bool = False
    follows: bool = False
    wait_held: bool = False
    marker: Marker | None = None

    @property
    def ended(self) -> bool:
        """Whether the container had exited when it was opened, so that its logs are read."""
        return self.exit_code is not None or self.exit_code_lost


class Held(Generic[AnySession]):
    """The connection of a deferred call, which may be kept from one flow to the next.

    Attributes:
        session: the connection, if there is one.
    """

    def __init__(self) -> None:
        self.session: AnySession | None = None
        self._closed = False

    def keep(self, session: AnySession) -> bool:
        """Store a connection; ``False`` if ``close`` was called before, so that the caller has to close it."""
        self.session = session
        return not self._closed

    def take(self) -> AnySession | None:
        """Remove and return the connection."""
        session, self.session = self.session, None
        return session

    def close(self) -> AnySession | None:
        """The connection, for the caller to close. One that is stored later is not kept open."""
        self._closed = True
        return self.session


class FlowResult(NamedTuple, Generic[T, AnySession]):
    """The result of a flow, and the connections that it has left open.

    Attributes:
        value: what the flow returned.
        stream: the connection of its stream.
        accepted: the answer that opened the stream.
        held: the connection of its deferred call.
    """

    value: T
    stream: AnySession | None
    accepted: Accepted | None
    held: Held[AnySession]

    def streamed(self) -> tuple[AnySession, Accepted]:
        """The stream and its answer, of a flow that always opens one."""
        assert self.stream is not None
        assert self.accepted is not None
        return self.stream, self.accepted
