"""Gathers the output for ``communicate``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from io import BytesIO
from typing import Generic, Protocol

import attrs

from attachproto import DataEvent, RawOutput, Stderr, Stdout, Systemerr
from attachproto_adapters._errors import (
    AttachError,
    AttachmentClosed,
    EngineReportedError,
    ExitCodeUnknown,
    OutputCut,
    OutputTooLarge,
)
from attachproto_adapters._flows._live_output import LiveOutput
from attachproto_adapters._flows._marker import Marker, MarkerState
from attachproto_adapters._flows._text import Output


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


@attrs.frozen
class CompletedRun(Generic[Output]):
    """The result of ``run``. ``CompletedRun`` alone, as a type, is ``CompletedRun[bytes]``.

    Attributes:
        exit_code: of the container's main process. If a signal has ended it, it is 128 and the signal's number.
        stdout: what the container wrote to stdout; with a TTY, all that it wrote.
        stderr: what it wrote to stderr.
    """

    exit_code: int
    stdout: Output
    stderr: Output


class Gathered:
    """The output of one attachment so far. It is kept if ``communicate`` is interrupted.

    Args:
        marker: takes a line out of stdout that is not the command's.

    Attributes:
        live: also gets each event that is added, as far as it is within ``max_output``.
    """

    __slots__ = ("_marker", "_streams", "live")

    def __init__(self, marker: Marker | None = None) -> None:
        self.live: LiveOutput | None = None
        self._marker = marker
        # Made when they are needed: most attachments are read event by event. The value of a BytesIO is not copied,
        # while bytes(bytearray) takes as long as it takes to read the output.
        self._streams: dict[type[DataEvent], BytesIO] = {}

    def add_all(self, events: list[DataEvent], max_output: int | None) -> None:
        """Move events here from the end of this list, where the first of them stands. Raises as ``add`` does."""
        if self._marker is not None and self._marker.state is MarkerState.AWAITED:
            for at, event in reversed(list(enumerate(events))):
                if isinstance(event, Stdout | RawOutput):
                    events[at] = type(event)(self._marker.feed(event.data))
        if self.live is not None:
            self.live.add_all(events, None if max_output is None else max(0, max_output - self._size))
        if max_output is not None or len(events) == 1:
            while events:
                self.add(events.pop(), max_output)
            return
        events.reverse()
        for kind in {type(event) for event in events}:
            self._stream(kind).write(b"".join([event.data for event in events if type(event) is kind]))
        events.clear()

    def add(self, event: DataEvent, max_output: int | None) -> None:
        """Add one event.

        Raises:
            OutputTooLarge: there are more than ``max_output`` bytes. The first ``max_output`` are in the error, and all
                are kept for a later call.
        """
        self._stream(type(event)).write(event.data)
        self.check(max_output, isinstance(event, Stderr))

    def check(self, max_output: int | None, stderr_is_last: bool = False) -> None:
        """Raise as ``add`` does. An earlier call may have had a larger limit."""
        if max_output is not None and self._size > max_output:
            raise OutputTooLarge(
                f"the container printed more than {max_output} bytes (max_output)",
                *self._first(max_output, stderr_is_last),
            )

    @property
    def _size(self) -> int:
        return sum(stream.tell() for stream in self._streams.values())

    def _stream(self, kind: type[DataEvent]) -> BytesIO:
        stream = self._streams.get(kind)
        if stream is None:
            stream = self._streams[kind] = BytesIO()
        return stream

    def _value(self, *kinds: type[DataEvent]) -> bytes:
        return next((self._streams[kind].getvalue() for kind in kinds if kind in self._streams), b"")

    def _first(self, size: int, stderr_is_last: bool) -> tuple[bytes, bytes]:
        """The first ``size`` bytes of both outputs together. The excess is cut from the one that came last."""
        stdout, stderr = self.so_far()
        excess = max(0, len(stdout) + len(stderr) - size)
        # After a call with a larger limit, the excess may be larger than that output: then the other is cut as well.
        off_stderr = min(excess, len(stderr)) if stderr_is_last else max(0, excess - len(stdout))
        return stdout[: len(stdout) - (excess - off_stderr)], stderr[: len(stderr) - off_stderr]

    def so_far(self) -> tuple[bytes, bytes]:
        """Stdout (with a TTY, all output) and stderr as far as they were read."""
        return self._value(Stdout, RawOutput), self._value(Stderr)

    def result(self) -> tuple[bytes, bytes]:
        """Stdout and stderr.

        Raises:
            EngineReportedError: the engine reported an error in the stream.
        """
        if self._marker is not None:
            self._marker.end()
        stdout, stderr = self.so_far()
        if reported := self._value(Systemerr):
            raise EngineReportedError(reported.decode("utf-8", "replace").strip(), stdout, stderr)
        return stdout, stderr


@contextlib.contextmanager
def exit_code_wanted(
    outputs: tuple[bytes, bytes],
    errors: tuple[type[Exception], ...],
    wanted: str = "the command's exit code",
    stays: tuple[type[Exception], ...] = (),
) -> Iterator[None]:
    """A context for a question about a process whose output has been read: its errors carry the output.

    Args:
        outputs: stdout and stderr.
        errors: what the framework raises for a broken connection.
        wanted: what is asked for, for the error's text.
        stays: errors that are raised as they are.

    Raises:
        ExitCodeUnknown: the engine does not tell, or cannot be asked.
    """
    unknown: tuple[type[Exception], ...] = (AttachError, *errors)
    kept: tuple[type[Exception], ...] = (OutputCut, AttachmentClosed, *stays)
    try:
        yield
    except kept:
        raise
    except unknown as exc:
        raise ExitCodeUnknown(f"{wanted} is not known: {exc}", *outputs) from exc


def end_wanted(outputs: tuple[bytes, bytes], errors: tuple[type[Exception], ...]) -> AbstractContextManager[None]:
    """The same for the question of ``communicate``. After a timeout the caller makes the call again."""
    return exit_code_wanted(outputs, errors, "whether the process has ended", (TimeoutError,))
