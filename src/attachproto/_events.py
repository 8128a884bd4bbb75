"""What is said on the connection, as values; the same objects in both directions.

Strategy: an event that is made per read (``Stdin``, ``Stdout``, ``Stderr``, ``RawOutput``, ``Systemerr``) has no
validator and no converter, because each of them costs more than decoding the frame did. What users write into an
answer is checked where it is written, by ``Connection.send``.
"""

from __future__ import annotations

import enum
import json

import attrs

from attachproto._headers import Headers, lower_names

# Enough of a payload to recognise it in a failing test; a whole one would flood the terminal.
_SHOWN = 64


def _shortened(data: bytes) -> str:
    return repr(data) if len(data) <= _SHOWN else f"{data[:_SHOWN]!r}... ({len(data)} bytes)"


class Framing(enum.Enum):
    """How a container's output travels."""

    MULTIPLEXED = "multiplexed"
    """Frames of stdout and stderr: a container or exec without a TTY."""

    RAW = "raw"
    """The bytes of the terminal as they are: a container or exec with a TTY."""

    def __repr__(self) -> str:
        return f"Framing.{self.name}"


@attrs.frozen
class Continue:
    """The server's ``100 Continue``: the client waits for it before it sends the body that it announced."""


@attrs.frozen
class Accepted:
    """The stream is open.

    Attributes:
        framing: how output travels; ``None`` if neither the engine nor the request told (then ``use_framing()``).
        status_code: 101, or 200 from an engine or a proxy that does not upgrade.
        headers: the answer's header fields. A server's ``content-type`` overrides the one that follows from the
            framing (engines below API 1.42 call frames ``raw-stream``).
    """

    framing: Framing | None
    status_code: int = 101
    headers: Headers = attrs.field(default=(), converter=lower_names)


@attrs.frozen
class _Whole:
    """An answer with its body, whole.

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
        """The engine's own text, from its JSON or plain. Untrusted: it may echo any name, control bytes and all."""
        # By the body, not by the media type: dockerd labels its plain attach errors raw-stream, and old engines and
        # proxies label JSON as text.
        text = self.body.decode("utf-8", "replace").strip()
        if text.startswith("{"):
            try:
                value = json.loads(text, strict=False)
            except (ValueError, RecursionError):
                return text
            if isinstance(value, dict) and isinstance(value.get("message"), str):
                return str(value["message"])
        return text


@attrs.frozen
class Rejected(_Whole):
    """The engine refused to open the stream, with a status of 400 or above; ``message`` is its text."""


@attrs.frozen
class ResponseHead:
    """The head of a plain call's answer; an engine may send it long before the rest (``/wait``)."""

    status_code: int
    headers: Headers = attrs.field(default=(), converter=lower_names)


@attrs.frozen
class Response(_Whole):
    """A plain call's answer, whole; of a refusal ``message`` is the engine's text."""


@attrs.frozen
class Stdin:
    """Bytes for the container's stdin. They are never framed."""

    data: bytes = attrs.field(repr=_shortened)


@attrs.frozen
class StdinClosed:
    """The end of stdin: a half-close."""


@attrs.frozen
class Stdout:
    """Bytes of the container's stdout. Where one event ends and the next begins means nothing."""

    data: bytes = attrs.field(repr=_shortened)


@attrs.frozen
class Stderr:
    """Bytes of the container's stderr."""

    data: bytes = attrs.field(repr=_shortened)


@attrs.frozen
class RawOutput:
    """Bytes of the container's terminal: stdout, stderr and the echo of its input, all in one."""

    data: bytes = attrs.field(repr=_shortened)


@attrs.frozen
class Systemerr:
    """The engine's own error text in the stream (type 3). The stream goes on until the engine ends it."""

    data: bytes = attrs.field(repr=_shortened)


@attrs.frozen
class OutputClosed:
    """The clean end of output. It does not tell why: the container exited, was detached from, or restarts."""


Output = Stdout | Stderr | RawOutput | Systemerr
