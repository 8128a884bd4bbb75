"""Faults in an engine's answers, scripted in advance: the same script writes the same bytes each time.

The classes here are descriptions. ``_script`` turns them into bytes, and ``_faulty`` writes these to a socket.
Offsets count the bytes that the client receives, from the first byte of the answer's head on.
The file has more than 250 lines, because every fault has its class and its checks here.
"""

from __future__ import annotations

import math
import sys
from typing import Any, Final, Literal, get_args

import attrs
from attrs.validators import optional

from attachproto import Headers
from attachproto._headers import as_pairs
from attachproto._validators import Validator, is_int, of_type

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

# The checks run when a fault is built: a script that fails while it is played would leave the client without an answer.


def _number(least: int, most: int | None = None) -> Validator:
    def validate(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if not is_int(value):
            raise TypeError(f"{attribute.name} is of type int, not {value!r}")
        if value < least or (most is not None and value > most):
            bounds = f"at least {least}" if most is None else f"from {least} to {most}"
            raise ValueError(f"{attribute.name} is {bounds}, not {value}")

    return validate


def _numbers(instance: object, attribute: attrs.Attribute[Any], value: tuple[object, ...]) -> None:
    for offset in value:
        _number(0)(instance, attribute, offset)


def _seconds(*, zero: bool) -> Validator:
    def validate(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if not is_int(value) and not isinstance(value, float):
            raise TypeError(f"{attribute.name} is a number of seconds, not {value!r}")
        # The comparison is false for NaN. asyncio adds seconds to a float, so a larger int would fail there.
        if not (0 <= value <= sys.float_info.max or value == math.inf) or not (value or zero):
            least = "at least 0" if zero else "more than 0"
            raise ValueError(f"{attribute.name} is a number of seconds, {least}, not {str(value)[:40]}")

    return validate


def _latin_1(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{name} is of type str, not {value!r}")
    try:
        value.encode("latin-1")
    except UnicodeEncodeError:
        raise ValueError(f"{name} is latin-1 text, as all of a head is, not {value!r}") from None


def _is_latin_1(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    _latin_1(attribute.name, value)


def _are_latin_1(instance: object, attribute: attrs.Attribute[Any], value: Headers) -> None:
    for pair in value:
        for part in pair:
            _latin_1(attribute.name, part)


_DATA: Final = of_type(bytes)

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
        headers: the header fields, any iterable of pairs; ``Content-Length`` is added.
    """

    status_code: int = attrs.field(default=502, validator=_number(200, 599))
    body: bytes = attrs.field(default=_BAD_GATEWAY, validator=_DATA)
    headers: Headers = attrs.field(
        default=(("Server", "proxy"), ("Content-Type", "text/html")), converter=as_pairs, validator=_are_latin_1
    )


# ---- the head is changed ----


@attrs.frozen
class SetHeader(Fault):
    """The answer has this header field, once. ``None`` removes it."""

    name: str = attrs.field(validator=_is_latin_1)
    value: str | None = attrs.field(validator=optional(_is_latin_1))


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

    data: bytes = attrs.field(default=b"\x00garbage\r\n", validator=_DATA)


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

    kind: int = attrs.field(default=9, validator=_number(0, 255))
    data: bytes = attrs.field(default=b"?", validator=_DATA)


@attrs.frozen
class LongFrame(Fault):
    """The first frame announces more bytes than come: the answer ends behind its ``data``."""

    announced: int = attrs.field(default=100, validator=_number(0, 2**32 - 1))
    data: bytes = attrs.field(default=b"cut", validator=_DATA)


@attrs.frozen
class EndEarly(Fault):
    """The output ends cleanly after so many frames while the process goes on.

    The connection is half-closed as at the end of the process; a chunked answer gets its last chunk. On a TTY, which
    has no frames, each read of the process counts as one.
    """

    frames: int = attrs.field(default=1, validator=_number(0))


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

    at: tuple[int, ...] = attrs.field(default=(), converter=tuple[int, ...], validator=_numbers)
    every: int = attrs.field(default=0, validator=_number(0))


@attrs.frozen
class Delay(Fault):
    """A pause of so many seconds before the byte at this offset."""

    at: int = attrs.field(validator=_number(0))
    seconds: float = attrs.field(validator=_seconds(zero=True))


@attrs.frozen
class Cut(Fault):
    """The connection is closed before the byte at this offset."""

    at: int = attrs.field(validator=_number(0))


@attrs.frozen
class Reset(Fault):
    """The connection is reset before the byte at this offset: the client reads what came before it, and ECONNRESET."""

    at: int = attrs.field(validator=_number(0))


# ---- how the connection is cut by something in between ----


@attrs.frozen
class IdleCut(Fault):
    """The connection is closed when no output has come for so many seconds, always between two frames.

    haproxy does so after ``timeout tunnel``, nginx after ``proxy_read_timeout``.
    """

    seconds: float = attrs.field(validator=_seconds(zero=False))


@attrs.frozen
class NoHalfClose(Fault):
    """The client's half-close closes the whole connection, as nginx, Caddy and Squid do. Linux only.

    Stdin that came before the half-close still reaches the process; output that came after it is lost.
    """
