"""What ``communicate`` gathers: the same in every adapter."""

from __future__ import annotations

import attrs

from attachproto import OutputClosed, RawOutput, Stderr, Stdout, Systemerr
from attachproto_adapters._errors import EngineReportedError, OutputTooLarge

DataEvent = Stdout | Stderr | RawOutput | Systemerr
OutputEvent = DataEvent | OutputClosed


@attrs.frozen
class ExecResult:
    """What ``run_exec`` gives.

    Attributes:
        exit_code: the command's; where it could not be started, 125 to 128, and the reason is in the output.
        stdout: what it wrote to stdout; with a TTY all that the terminal printed.
        stderr: what it wrote to stderr.
    """

    exit_code: int
    stdout: bytes
    stderr: bytes


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
