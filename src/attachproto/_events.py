"""The events: what ``Connection.send`` takes and ``Connection.next_event`` returns, the same classes for both.

Strategy: an event that is made for each read (``Stdin``, ``Stdout``, ``Stderr``, ``RawOutput``, ``Systemerr``) has no
validator and no converter, because either costs more than decoding the frame. What a user puts into an answer is
checked when it is encoded, by ``Connection.send``.

Events that differ only in their class inherit from one class that attrs has made: comparison, hash, pickling and
``repr`` go by the class of the object. attrs takes a third of a millisecond for a class, and each import pays it.
"""

from __future__ import annotations

import enum
import json

import attrs

from attachproto._headers import Headers, lower_names
from attachproto._requests import Request
from attachproto._stream_base import StreamRequest

# Enough of a payload to recognise it in the output of a failing test.
_SHOWN = 64


def _shortened(data: bytes) -> str:
    return repr(data) if len(data) <= _SHOWN else f"{data[:_SHOWN]!r}... ({len(data)} bytes)"


class Framing(enum.Enum):
    """How a container's output travels."""

    MULTIPLEXED = "multiplexed"
    """Frames of stdout and stderr: a container or exec without a TTY."""

    RAW = "raw"
    """The bytes of the terminal, unframed: a container or exec with a TTY."""

    def __repr__(self) -> str:
        return f"Framing.{self.name}"


@attrs.frozen
class _Bare:
    """An event that says all by its class."""


class Continue(_Bare):
    """A server's ``100 Continue``: the client that asked for it now sends its body."""

    __slots__ = ()


@attrs.frozen
class Accepted:
    """The stream is open.

    Attributes:
        framing: how output travels. ``None`` if neither the answer nor the request says so: call ``use_framing()``.
        status_code: 101, or 200 from an engine or a proxy that does not upgrade.
        headers: the header fields of the answer. On a server, a ``content-type`` here replaces the one that follows
            from the framing (below API 1.42 engines send frames as ``raw-stream``).
    """

    framing: Framing | None
    status_code: int = 101
    headers: Headers = attrs.field(default=(), converter=lower_names)


@attrs.frozen
class _Whole:
    """An answer with its whole body.

    Attributes:
        status_code: the HTTP status.
        headers: the answer's header fields.
        body: the answer's body.
    """

    status_code: int
    headers: Headers = attrs.field(default=(), converter=lower_names)
    body: bytes = attrs.field(default=b"", repr=_shortened)

    @property
    def message(self) -> str:
        """The engine's own text, from JSON or plain. It may contain control characters and be 1 MiB long."""
        # The media type says nothing: dockerd sends the plain text of attach errors as raw-stream, and old engines and
        # proxies send JSON as text.
        text = self.body.decode("utf-8", "replace").strip()
        if text.startswith("{"):
            try:
                value = json.loads(text, strict=False)
            except (ValueError, RecursionError):
                return text
            if isinstance(value, dict) and isinstance(value.get("message"), str):
                return str(value["message"])
        return text


class Rejected(_Whole):
    """The engine refused, with a status of 400 or above; ``message`` is its text.

    A server may answer a plain request with it too. The client reads that as a ``Response``. Its header fields are
    written as they are. ``Connection: close`` is added if they have a ``content-length`` and the connection carries no
    more exchanges.

    Attributes:
        status_code: the HTTP status.
        headers: the answer's header fields.
        body: the answer's body.
    """

    __slots__ = ()


@attrs.frozen
class ResponseHead:
    """The head of the answer to a plain request. An engine may send it long before the body (``/wait``).

    Attributes:
        status_code: the HTTP status.
        headers: the answer's header fields.
    """

    status_code: int
    headers: Headers = attrs.field(default=(), converter=lower_names)


class Response(_Whole):
    """The whole answer to a plain request. ``message`` is the engine's text, if it is a refusal.

    Attributes:
        status_code: the HTTP status.
        headers: the answer's header fields.
        body: the answer's body.
    """

    __slots__ = ()


@attrs.frozen(init=False)
class _Payload:
    data: bytes = attrs.field(repr=_shortened)

    def __init__(self, data: bytes) -> None:
        set_data(self, data)


# The setter of the slot. The __init__ that attrs writes for a frozen class looks the setter up for each object, which
# costs a tenth of what it takes to decode a small frame.
set_data = _Payload.data.__set__  # type: ignore[attr-defined]


class Stdin(_Payload):
    """Bytes for the container's stdin. They are never framed.

    Attributes:
        data: the bytes.
    """

    __slots__ = ()


class StdinClosed(_Bare):
    """The end of stdin: a half-close."""

    __slots__ = ()


class Stdout(_Payload):
    """Bytes of the container's stdout. The boundary between two events carries no meaning.

    Attributes:
        data: the bytes, at most 64 KiB in one event that was received.
    """

    __slots__ = ()


class Stderr(_Payload):
    """Bytes of the container's stderr.

    Attributes:
        data: as for ``Stdout``.
    """

    __slots__ = ()


class RawOutput(_Payload):
    """Bytes of the container's terminal: stdout, stderr and the echo of stdin, as one stream.

    Attributes:
        data: the bytes, as one ``receive_data`` has given them.
    """

    __slots__ = ()


class Systemerr(_Payload):
    """The engine's own error text in the stream (type 3). The stream goes on until the engine ends it.

    Attributes:
        data: the bytes of the text.
    """

    __slots__ = ()


class OutputClosed(_Bare):
    """The clean end of output. The container has exited or restarts, or the client was detached."""

    __slots__ = ()


FrameEvent = Stdout | Stderr | Systemerr
"""What a frame can hold."""

DataEvent = FrameEvent | RawOutput
"""What a container writes, framed or not: each has ``data``."""

OutputEvent = DataEvent | OutputClosed
"""What a container writes, and the end of it."""

EventInBytes = Request | StreamRequest | Continue | Accepted | Rejected | ResponseHead | Response | Stdin | DataEvent
"""What ``Connection.send`` always turns into bytes."""

Event = EventInBytes | StdinClosed | OutputClosed
"""Every event there is."""
