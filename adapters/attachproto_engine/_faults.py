"""Faults in an engine's answers, scripted in advance: the same script writes the same bytes each time.

The classes here are descriptions. ``_script`` turns them into bytes, and ``_faulty`` writes these to a socket.
Offsets count the bytes that the client receives, from the first byte of the answer's head on.
The file has more than 250 lines, because every fault has its class and its checks here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal, get_args

import attrs
from attrs.validators import ge, gt, instance_of, lt

Call = Literal[
    "attach",
    "exec",
    "logs",
    "create",
    "inspect",
    "start",
    "stop",
    "restart",
    "rename",
    "kill",
    "pause",
    "unpause",
    "remove",
    "wait",
    "resize",
    "top",
    "exec_create",
    "exec_inspect",
    "exec_resize",
]
"""A call about a container. ``exec`` is the start of an exec that attaches."""

CALLS: Final[tuple[Call, ...]] = get_args(Call)

_OFFSET: Final = (instance_of(int), ge(0))

_BAD_GATEWAY: Final = (
    b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n"
    b"<body>\r\n<h1>502 Bad Gateway</h1>\r\n</body>\r\n</html>\r\n"
)


@attrs.frozen
class Fault:
    """The base class of all faults. Not to be built by itself."""


# ---- the engine's answer is replaced, or does not come ----


@attrs.frozen
class NoAnswer(Fault):
    """The engine acts on the request and sends nothing. The connection stays open."""


@attrs.frozen
class ProxyAnswer(Fault):
    """A proxy answers by itself, and the engine never sees the request: a ``403``, a ``502`` page, a redirect.

    Attributes:
        status_code: the HTTP status.
        body: by default the HTML page of a proxy that cannot reach the engine.
        headers: the header fields; ``Content-Length`` is added.
    """

    status_code: int = attrs.field(default=502, validator=[ge(200), lt(600)])
    body: bytes = _BAD_GATEWAY
    headers: tuple[tuple[str, str], ...] = (("Server", "proxy"), ("Content-Type", "text/html"))


# ---- the head is changed ----


@attrs.frozen
class SetHeader(Fault):
    """The answer has this header field, once. ``None`` removes it."""

    name: str
    value: str | None


@attrs.frozen
class NoUpgrade(Fault):
    """The answer is dockerd's ``200`` in place of ``101``."""


@attrs.frozen
class Chunked(Fault):
    """The answer is a ``200`` with a chunked body, as Apache without ``upgrade=`` sends it."""


@attrs.frozen
class Counted(Fault):
    """The answer is a ``200`` with a ``Content-Length``, and comes when all output is there.

    An intermediary that buffers whole answers sends this.
    """


@attrs.frozen
class Garbage(Fault):
    """These bytes come before the head."""

    data: bytes = b"\x00garbage\r\n"


@attrs.frozen
class HeldHead(Fault):
    """The head comes only with the first byte of the body, as from nginx with its default ``proxy_buffering on``.

    The head of a ``/wait`` then comes when the container has exited.
    """


# ---- the output is changed ----


@attrs.frozen
class UnknownStream(Fault):
    """The first frame has a stream type that no engine sends.

    Attributes:
        kind: the stream type, 0 to 255.
        data: the payload of the frame.
    """

    kind: int = attrs.field(default=9, validator=[ge(0), lt(256)])
    data: bytes = b"?"


@attrs.frozen
class LongFrame(Fault):
    """The first frame announces more bytes than come: the answer ends behind its ``data``."""

    announced: int = attrs.field(default=100, validator=[ge(0), lt(2**32)])
    data: bytes = b"cut"


@attrs.frozen
class EndEarly(Fault):
    """The output ends cleanly after so many frames while the process goes on.

    The connection is half-closed as at the end of the process; a chunked answer gets its last chunk. On a TTY, which
    has no frames, each read of the process counts as one.
    """

    frames: int = attrs.field(default=1, validator=_OFFSET)


# ---- when the bytes go out, and how far ----


@attrs.frozen
class Split(Fault):
    """The answer goes out in pieces, each with a write of its own.

    On a Unix socket the next piece follows when the client has read the one before. On TCP the kernel does not tell
    when the client has read, so there the next piece follows 20 ms after the client's kernel has acknowledged.

    Attributes:
        at: the offsets to cut at.
        every: also cut after each so many bytes; 0 for none.
    """

    at: tuple[int, ...] = attrs.field(default=(), converter=tuple[int, ...])
    every: int = attrs.field(default=0, validator=ge(0))


@attrs.frozen
class Delay(Fault):
    """A pause of so many seconds before the byte at this offset."""

    at: int = attrs.field(validator=_OFFSET)
    seconds: float = attrs.field(validator=ge(0))


@attrs.frozen
class Cut(Fault):
    """The connection is closed before the byte at this offset."""

    at: int = attrs.field(validator=_OFFSET)


@attrs.frozen
class Reset(Fault):
    """The connection is reset before the byte at this offset: the client reads what came before it, and ECONNRESET."""

    at: int = attrs.field(validator=_OFFSET)


# ---- how the connection is cut by something in between ----


@attrs.frozen
class IdleCut(Fault):
    """The connection is closed when no output has come for so many seconds, always between two frames.

    haproxy does so after ``timeout tunnel``, nginx after ``proxy_read_timeout``.
    """

    seconds: float = attrs.field(validator=gt(0))


@attrs.frozen
class NoHalfClose(Fault):
    """The client's half-close closes the whole connection, as nginx, Caddy and Squid do. Linux only.

    Stdin that came before the half-close still reaches the process; output that came after it is lost.
    """


class FaultBook:
    """Which faults an answer has: looked up by the container's name, the call, and how often that call was made."""

    def __init__(self) -> None:
        self._always: dict[tuple[str, str], tuple[Fault, ...]] = {}
        self._nth: dict[tuple[str, str, int], tuple[Fault, ...]] = {}
        self._counts: dict[tuple[str, str], int] = {}

    def add(self, container: str, faults: Iterable[Fault], on: str, nth: int | None) -> None:
        """Note faults; they replace those that were noted for the same call.

        Raises:
            TypeError: one of them is no fault.
            ValueError: there is no such call.
        """
        given = tuple(faults)
        for fault in given:
            if not isinstance(fault, Fault):
                raise TypeError(f"a fault is needed, not {fault!r}")
        if on not in CALLS:
            raise ValueError(f"on={on!r} is no call of the engine's; it has {', '.join(CALLS)}")
        if nth is None:
            self._always[container, on] = given
        else:
            self._nth[container, on, nth] = given

    def next(self, container: str, on: str) -> tuple[Fault, ...]:
        """Count one more call; returns the faults of its answer."""
        key = container, on
        self._counts[key] = count = self._counts.get(key, 0) + 1
        return self._nth.get((*key, count), self._always.get(key, ()))

    @property
    def resets(self) -> bool:
        """Whether any answer may be reset."""
        noted = [*self._always.values(), *self._nth.values()]
        return any(isinstance(fault, Reset) for faults in noted for fault in faults)
