"""Gathers the output for ``communicate``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Generic, Protocol

import attrs

from attachproto import OutputClosed, ProtocolError, RawOutput, Stderr, Stdout, Systemerr
from attachproto_adapters._errors import (
    AttachError,
    AttachmentClosed,
    EngineReportedError,
    ExitCodeUnknown,
    OutputCut,
    OutputTooLarge,
)
from attachproto_adapters._flows._text import Output

DataEvent = Stdout | Stderr | RawOutput | Systemerr
OutputEvent = DataEvent | OutputClosed


class ReadAhead(Protocol):
    """What has taken events, and gives back the bytes that it has not given out."""

    @property
    def holds_bytes(self) -> bool:
        """Whether ``take_back`` may return something."""
        ...

    def take_back(self) -> list[DataEvent]:
        """Remove and return the bytes, in the order in which they came."""
        ...


@attrs.frozen
class ExecResult(Generic[Output]):
    """The result of ``run_exec``. ``ExecResult`` alone, as a type, is ``ExecResult[bytes]``.

    Attributes:
        exit_code: of the command. If it could not be started, it is 125 to 128, and the reason is in the output.
        stdout: what the command wrote to stdout; with a TTY, all that it wrote. A ``str`` with ``encoding=``.
        stderr: what it wrote to stderr, likewise.
    """

    exit_code: int
    stdout: Output
    stderr: Output


class Gathered:
    """The output of one attachment so far. It is kept if ``communicate`` is interrupted."""

    def __init__(self) -> None:
        self._stdout = bytearray()
        self._stderr = bytearray()
        self._systemerr = bytearray()

    def add(self, event: OutputEvent, max_output: int | None) -> None:
        """Add one event.

        Raises:
            OutputTooLarge: there are more than ``max_output`` bytes. The first ``max_output`` are in the error, and all
                are kept for a later call.
        """
        match event:
            case Stdout(data=data) | RawOutput(data=data):
                self._stdout += data
            case Stderr(data=data):
                self._stderr += data
            case Systemerr(data=data):
                self._systemerr += data
            case OutputClosed():  # an earlier call may have exceeded its limit
                pass
        if max_output is not None and len(self._stdout) + len(self._stderr) + len(self._systemerr) > max_output:
            raise OutputTooLarge(
                f"the container printed more than {max_output} bytes (max_output)",
                *self._first(max_output, isinstance(event, Stderr)),
            )

    def _first(self, size: int, stderr_is_last: bool) -> tuple[bytes, bytes]:
        """The first ``size`` bytes of both outputs together. The excess is cut from the one that came last."""
        excess = max(0, len(self._stdout) + len(self._stderr) - size)
        # After a call with a larger limit, the excess may be larger than that output: then the other is cut as well.
        off_stderr = min(excess, len(self._stderr)) if stderr_is_last else max(0, excess - len(self._stdout))
        stdout_end = len(self._stdout) - (excess - off_stderr)
        return bytes(self._stdout[:stdout_end]), bytes(self._stderr[: len(self._stderr) - off_stderr])

    def so_far(self) -> tuple[bytes, bytes]:
        """Stdout and stderr as far as they were read."""
        return bytes(self._stdout), bytes(self._stderr)

    def result(self) -> tuple[bytes, bytes]:
        """Stdout and stderr.

        Raises:
            EngineReportedError: the engine reported an error in the stream.
        """
        stdout, stderr = self.so_far()
        if self._systemerr:
            raise EngineReportedError(self._systemerr.decode("utf-8", "replace").strip(), stdout, stderr)
        return stdout, stderr


@contextlib.contextmanager
def exit_code_wanted(outputs: tuple[bytes, bytes], errors: tuple[type[Exception], ...]) -> Iterator[None]:
    """A context for finding the exit code of a command whose output has been read: its errors carry the output.

    Args:
        outputs: stdout and stderr.
        errors: what the framework raises for a broken connection.

    Raises:
        ExitCodeUnknown: the engine does not tell, or cannot be asked.
    """
    unknown: tuple[type[Exception], ...] = (AttachError, ProtocolError, *errors)
    try:
        yield
    except (OutputCut, AttachmentClosed):
        raise
    except unknown as exc:
        raise ExitCodeUnknown(f"the command's exit code is not known: {exc}", *outputs) from exc
