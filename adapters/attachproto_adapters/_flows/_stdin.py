"""Feeds the input of ``communicate``, and checks whether stdin can be sent or closed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, Literal

from attachproto import SEND_EOF, LocalProtocolError, Signal, State, Stdin, StdinClosed
from attachproto_adapters._errors import HalfCloseEndsAttach, HalfCloseUnsupported
from attachproto_adapters._flows._inspect import Facts, InspectedExec, half_close_ends_attach
from attachproto_adapters._flows._intermediaries import half_close_ends_at
from attachproto_adapters._flows._life import INPUT, InputState

Sendable = bytes | Literal[Signal.SEND_EOF]
"""What goes to the transport: bytes, or ``SEND_EOF`` for a half-close."""

WRITE_SIZE: Final = 64 * 1024
"""How many bytes of the input are written at once, so that little is unknown after a cancelled write."""


class Feed:
    """The input of one ``communicate``, and how much of it was sent. An interrupted call goes on from there.

    Attributes:
        input: the whole input.
        state: see ``InputState``.
    """

    def __init__(self, input: bytes, outgoing: Callable[[Stdin | StdinClosed], Sendable]) -> None:
        self.input = input
        self.state = InputState.SENDING
        self._outgoing = outgoing
        self._unsent = memoryview(input)
        self._slice = memoryview(b"")
        self._half_closed = False

    def next(self) -> memoryview | Literal[Signal.SEND_EOF] | None:
        """What to write to the transport now; ``None`` if everything was sent."""
        if not self._slice and self.state is InputState.SENDING:
            try:
                data = self._encode()
            except BrokenPipeError:
                self.move(InputState.REFUSED)
                return None
            if data is SEND_EOF:
                return data
            self._slice = memoryview(data)
            self.sent(0)
        return self._slice or None

    def _encode(self) -> Sendable:
        if self._unsent:
            data = self._outgoing(Stdin(bytes(self._unsent[:WRITE_SIZE])))
            self._unsent = self._unsent[WRITE_SIZE:]
            return data
        self._half_closed = True
        return self._outgoing(StdinClosed())

    def sent(self, size: int) -> None:
        """Record that so many bytes of the result of ``next`` were sent; 0 for a half-close."""
        self._slice = self._slice[size:]
        if self._half_closed and not self._slice:
            self.move(InputState.SENT)

    def move(self, state: InputState) -> None:
        """Change the state, if the table allows it."""
        if state in INPUT[self.state]:
            self.state = state
            self._slice = memoryview(b"")


def as_bytes(input: bytes | str | None) -> bytes | None:
    """The input as immutable bytes; ``TypeError`` if it is not bytes, or is a str that was not encoded."""
    return input if input is None or type(input) is bytes else bytes(_as_memory(input))


def slices(data: bytes) -> Iterable[bytes]:
    """The data in slices of ``WRITE_SIZE``, none of them empty; ``TypeError`` if it is not bytes."""
    if type(data) is bytes and len(data) <= WRITE_SIZE:
        return (data,) if data else ()
    view = _as_memory(data).cast("B")
    return (bytes(view[at : at + WRITE_SIZE]) for at in range(0, len(view), WRITE_SIZE))


def _as_memory(data: object) -> memoryview:
    if isinstance(data, str):
        raise TypeError("stdin takes bytes, not str: encode the text first, such as with text.encode()")
    try:
        return memoryview(data)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"stdin takes bytes, not {type(data).__name__}") from None


def check_input(
    our_state: State,
    inspected: Facts | None,
    *,
    asked: bool,
    can_half_close: bool,
    intermediary: str | None,
) -> None:
    """Refuse input that would have to be ended by a half-close which does not work here.

    Raises:
        HalfCloseUnsupported: the transport has no half-close.
        HalfCloseEndsAttach: the engine takes it for the end of the attach, or an intermediary closes the connection.
        LocalProtocolError: stdin is not attached, or has ended.
    """
    check_stdin(our_state, inspected, asked=asked)
    check_half_close(can_half_close=can_half_close)
    if inspected is not None and inspected.half_close_ends_attach:
        raise HalfCloseEndsAttach(half_close_ends_attach(inspected))
    if intermediary is not None:
        raise HalfCloseEndsAttach(half_close_ends_at(intermediary))


def check_stdin(our_state: State, inspected: Facts | None, *, asked: bool) -> None:
    """Refuse to send where there is no stdin.

    Raises:
        LocalProtocolError: stdin was not asked for, has ended, or an earlier send has failed.
    """
    if not asked or not takes_stdin(inspected):
        raise LocalProtocolError(
            "stdin was not asked for: attach with AttachOptions(stdin=True); for a command, give run_exec() input=, or "
            "create the exec with AttachStdin"
        )
    if our_state is State.ERROR:
        raise stdin_lost()
    if our_state is not State.STREAMING:
        raise LocalProtocolError("stdin was ended before: nothing can be sent after its end, and it can end only once")


def takes_stdin(inspected: Facts | None) -> bool:
    """Whether it has a stdin, as far as is known."""
    return not isinstance(inspected, InspectedExec) or inspected.open_stdin


def stdin_lost() -> LocalProtocolError:
    """The error for sending after a send that failed or was interrupted."""
    return LocalProtocolError(
        "stdin cannot be used any more: an earlier send failed or was interrupted, and it is not known how much was "
        "sent; output can still be read"
    )


def check_half_close(*, can_half_close: bool) -> None:
    """Raise ``HalfCloseUnsupported`` if the transport cannot do it."""
    if not can_half_close:
        raise HalfCloseUnsupported(
            "this transport cannot end stdin and go on reading (TLS in Python's own sockets and streams cannot)"
        )
