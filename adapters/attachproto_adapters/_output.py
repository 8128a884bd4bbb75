"""What ``communicate`` gathers, and what it refuses before it sends: the same in every adapter."""

from __future__ import annotations

from typing import Final

from attachproto import LocalProtocolError, OutputClosed, RawOutput, State, Stderr, Stdout, Systemerr
from attachproto_adapters._container import ContainerFacts
from attachproto_adapters._errors import EngineReportedError, HalfCloseEndsAttach, HalfCloseUnsupported, OutputTooLarge

READ_SIZE: Final = 64 * 1024
"""How much is read at once: what a Unix socket on Linux holds by default is some 200 KiB, and the decoder joins as
much as this into one event."""

WRITE_SIZE: Final = 64 * 1024
"""How much of the input is given to the transport at once, so that a cancelled write has a known, small extent."""

OutputEvent = Stdout | Stderr | RawOutput | Systemerr | OutputClosed


class Gathered:
    """The output of one attachment, as it comes. It is kept when a ``communicate`` is interrupted."""

    def __init__(self) -> None:
        self._stdout = bytearray()
        self._stderr = bytearray()
        self._systemerr = bytearray()

    def add(self, event: OutputEvent, max_output: int | None) -> None:
        """Take one event.

        Raises:
            OutputTooLarge: it is more than ``max_output`` bytes by now; what was read is in the error.
        """
        match event:
            case Stdout(data=data) | RawOutput(data=data):
                self._stdout += data
            case Stderr(data=data):
                self._stderr += data
            case Systemerr(data=data):
                self._systemerr += data
            case OutputClosed():
                return
        if max_output is not None and len(self._stdout) + len(self._stderr) + len(self._systemerr) > max_output:
            raise OutputTooLarge(
                f"the container printed more than {max_output} bytes (max_output)",
                bytes(self._stdout),
                bytes(self._stderr),
            )

    def result(self) -> tuple[bytes, bytes]:
        """Stdout and stderr.

        Raises:
            EngineReportedError: the engine reported an error in the stream.
        """
        stdout, stderr = bytes(self._stdout), bytes(self._stderr)
        if self._systemerr:
            raise EngineReportedError(self._systemerr.decode("utf-8", "replace").strip(), stdout, stderr)
        return stdout, stderr


def check_input(our_state: State, facts: ContainerFacts | None, *, can_half_close: bool) -> None:
    """Refuse input that would have to be ended by a half-close which does not work here.

    Raises:
        HalfCloseUnsupported: by the transport.
        HalfCloseEndsAttach: by the engine, for this container.
        LocalProtocolError: stdin is not attached, or has ended.
    """
    if our_state is not State.STREAMING:
        raise LocalProtocolError("there is no stdin to send to: attach with stdin=True, and end it once only")
    check_half_close(can_half_close=can_half_close)
    if facts is not None and facts.half_close_ends_attach:
        raise HalfCloseEndsAttach(half_close_ends_attach(facts))


def check_half_close(*, can_half_close: bool) -> None:
    """Raise ``HalfCloseUnsupported`` if the transport cannot do it."""
    if not can_half_close:
        raise HalfCloseUnsupported(
            "this transport cannot end stdin and go on reading (ssl.SSLSocket drops its TLS layer)"
        )


def half_close_ends_attach(facts: ContainerFacts) -> str:
    """Why a half-close does not do what it is meant to do here."""
    if facts.tty:
        return (
            "the container has a TTY: a half-close does not end its stdin, and dockerd takes it for the end of the "
            "attach; send b'\\x04' (ctrl-d) on a line of its own instead"
        )
    return (
        "the container was created without StdinOnce: dockerd takes a half-close for the end of the attach, and "
        "output after it is lost; create it with StdinOnce, or send without closing"
    )
