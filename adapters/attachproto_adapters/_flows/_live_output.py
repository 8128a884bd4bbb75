"""What is shown of a command's output while it runs: to the caller's ``on_output``, and by the command ``attachproto``.

Strategy: a command may be started again without the shell (``_marker``). So this is held back: all output before the
shell's first line; what the shell says if it cannot run the command, on stderr and in its last line on stdout; and what
may be the beginning of these. It has at most 8 KiB of each stream, because the shell prints nothing after it.

What ``on_output`` raises leaves the adapter inside an ``OnOutputFailed``. Otherwise a ``ConnectionResetError`` of the
caller's own connection would pass for a reset of the engine's.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Final

from attachproto import DataEvent, RawOutput, Stderr, Stdout, Systemerr
from attachproto_adapters._flows._marker import BEFORE_MAX, Marker, MarkerState, find_beginning, name_of_shell

OutputPiece = Stdout | Stderr | RawOutput
"""What is shown: output of the command. An engine's own errors (``Systemerr``) are not."""

OnOutput = Callable[[OutputPiece], object]
"""What ``run`` and ``run_exec`` call with each piece of output."""


class ShownOutput:
    """Which part of a command's output may be shown.

    Args:
        marker: has taken the shell's first line out of what is added; ``None`` if no shell starts the command.

    Attributes:
        held: what was held back of stdout and of stderr.
    """

    def __init__(self, marker: Marker | None) -> None:
        self.held = (b"", b"")
        self._marker = marker
        self._token = b"" if marker is None else name_of_shell(marker.token).encode()
        self._kind: type[Stdout | RawOutput] = Stdout

    def add(self, event: OutputPiece) -> list[OutputPiece]:
        """Add a piece of output. Returns what may be shown now."""
        if self._marker is None:
            return [event]
        stdout, stderr = self.held
        if isinstance(event, Stderr):
            stderr += event.data
        else:
            self._kind = type(event)
            stdout += event.data
        of_stdout, of_stderr = self._size_shown(stdout), self._size_shown(stderr)
        self.held = stdout[of_stdout:], stderr[of_stderr:]
        return self._pieces(stdout[:of_stdout], stderr[:of_stderr])

    def _size_shown(self, data: bytes) -> int:
        """How much of this may be shown, from its beginning on."""
        assert self._marker is not None
        awaits_line = self._marker.state is MarkerState.AWAITED
        size = 0 if awaits_line else find_beginning(data, self._token)
        return len(data) if len(data) - size > BEFORE_MAX else size

    def end(self) -> list[OutputPiece]:
        """Return what was held back. The command will not be started again, so it is the command's output."""
        held, self.held = self.held, (b"", b"")
        return self._pieces(*held)

    def _pieces(self, stdout: bytes, stderr: bytes) -> list[OutputPiece]:
        return [event for event in (Stderr(stderr), self._kind(stdout)) if event.data]


class OnOutputFailed(Exception):
    """The caller's ``on_output`` has raised. It never reaches the caller.

    Attributes:
        error: what it has raised.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(f"on_output has raised {type(error).__name__}")
        self.error: Final = error


class LiveOutput:
    """Calls ``on_output`` of one run.

    Args:
        on_output: the caller's function.
        marker: as for ``ShownOutput``.
    """

    def __init__(self, on_output: OnOutput, marker: Marker | None) -> None:
        self._on_output = on_output
        self._output = ShownOutput(marker)
        self._ready: list[OutputPiece] = []

    def add_all(self, events: list[DataEvent], room: int | None = None) -> None:
        """Add events, the first of which stands last. The shell's first line was taken out of them.

        Args:
            events: stay as they are.
            room: how many bytes of them are within ``max_output``. The others are left out, as in ``OutputTooLarge``.
        """
        for event in reversed(events):
            if room is not None:
                event, room = type(event)(event.data[:room]), max(0, room - len(event.data))
            if event.data and not isinstance(event, Systemerr):  # that one is raised at the end
                self._ready += self._output.add(event)

    def end(self) -> None:
        """Add what was held back."""
        self._ready += self._output.end()

    def calls(self) -> Iterator[object]:
        """Call the function for each event that was added, and give out what it returns.

        Raises:
            OnOutputFailed: it has raised. The other events are dropped.
        """
        ready, self._ready = self._ready, []
        for event in ready:
            with callers_errors_wrapped():
                result = self._on_output(event)
            yield result


@contextlib.contextmanager
def callers_errors_wrapped() -> Iterator[None]:
    """Raise what the caller's code raises as ``OnOutputFailed``."""
    try:
        yield
    except Exception as exc:
        raise OnOutputFailed(exc) from exc


class CallersErrorsUnwrapped:
    """A context that raises it as it was, with the notes that were added to it meanwhile.

    It is no generator, because Python makes a ``RuntimeError`` of a ``StopIteration`` that leaves one.
    """

    def __enter__(self) -> None:
        pass

    def __exit__(self, exc_type: object, exc: object, traceback: object) -> None:
        if not isinstance(exc, OnOutputFailed):
            return
        error = exc.error
        for note in getattr(exc, "__notes__", ()):
            error.add_note(note)
        context = error.__context__
        try:
            raise error
        finally:
            error.__context__ = context
