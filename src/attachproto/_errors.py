"""The errors that this library raises itself.

Strategy: ``AttachError`` is the root of all of them, here and in the packages that build on this one. The two classes
of ``ProtocolError`` say which side broke the rules, because that is what a caller acts on. What went wrong in detail
is a ``Reason``, so that nobody has to search an English text for it.
"""

from __future__ import annotations

import enum
from typing import Any, Final


class Reason(enum.Enum):
    """Why a ``RemoteProtocolError`` was raised: what the peer did."""

    NOTHING_CAME = "the connection ended before a single byte of a request or an answer"
    NOT_HTTP = "what came is not HTTP"
    BAD_HEAD = "the head is not valid HTTP"
    HEAD_TOO_LARGE = "the head is larger than max_head"
    BODY_TOO_LARGE = "the body is larger than its limit"
    CUT_IN_HEAD = "the connection ended inside a head"
    CUT_IN_BODY = "the connection ended inside a body that says where it ends"
    CUT_IN_FRAME = "the stream ended inside a frame"
    BAD_CHUNKS = "the chunks of a body are malformed"
    UNKNOWN_STREAM_TYPE = "a frame has a stream type that engines do not send"
    NOT_A_STREAM = "the answer is not a stream of an engine, but a page of HTML for instance"
    REDIRECTED = "the answer is a redirect"
    UNASKED_UPGRADE = "the answer is 101, and no upgrade was asked for"
    STDIN_IMPOSSIBLE = "a proxy has ended the request, so stdin cannot be sent"
    FRAMING_CONTRADICTED = "the media type contradicts itself or the request's tty"
    UNEXPECTED_EVENT = "the peer sent an event that is not allowed in its state"
    ENGINE_ERROR = "the engine reports an error of its own in the stream"
    BAD_DOCUMENT = "the body of an answer is not what the Engine API documents"

    def __repr__(self) -> str:
        return f"Reason.{self.name}"


class AttachError(Exception):
    """The root of every error that this library raises itself.

    All of them can be pickled and copied, with their attributes. Errors of sockets and of the framework in use
    (``OSError``, cancellation) are not among them, and neither are ``TypeError`` and ``ValueError`` for a wrong
    argument.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        # Exception.__reduce__ calls the class with ``args``, the text alone. That fails if __init__ takes more.
        return _restored, (type(self), self.args), self.__dict__


def _restored(kind: Any, args: tuple[Any, ...]) -> Any:
    """An error of this class without a call of its ``__init__``; pickle and copy add the attributes."""
    error = kind.__new__(kind, *args)
    # An OSError whose class has an __init__ of its own ignores them in __new__.
    error.args = args
    return error


# Enough to recognise a page or a protocol. An error's text must stay readable, whatever the peer sends.
_EXCERPT: Final = 120


def excerpt(data: bytes | str) -> str:
    """The beginning of what a peer sent, quoted for an error's text; of an HTML page only the first line."""
    start = data[:_EXCERPT]
    trimmed = start.lstrip()
    if trimmed.startswith("<") if isinstance(trimmed, str) else trimmed.startswith(b"<"):
        start = trimmed.splitlines()[0]
    return repr(start) if len(start) == len(data) else f"{start!r}..."


class ProtocolError(AttachError):
    """The rules of the attach protocol were broken. Abstract: see the two subclasses."""

    def __init__(self, message: str) -> None:
        if type(self) is ProtocolError:
            raise TypeError("ProtocolError is abstract: raise LocalProtocolError or RemoteProtocolError")
        super().__init__(message)


class LocalProtocolError(ProtocolError):
    """Our side asked for what the protocol does not allow now. Nothing was changed by the call."""


class RemoteProtocolError(ProtocolError):
    """The peer sent what the protocol does not allow, or stopped in the middle.

    What it had sent before was delivered as events. The exchange is over; asking for more events repeats the error.

    Attributes:
        reason: what the peer did.
    """

    def __init__(self, message: str, reason: Reason) -> None:
        super().__init__(message)
        self.reason = reason
