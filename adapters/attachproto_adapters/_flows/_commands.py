"""One command of ``run_exec``: how it is started, and what is known of it, so that it can be ended at any moment.

Strategy: a ``Command`` stores that a step may have happened before it asks for the step. So after an error, a
cancellation or ``KeyboardInterrupt`` at any moment, ``end`` can tell what there is to end. ``_marker`` finds out which
process it is, and ``_exec_end`` ends it.

It is started behind a shell whether there is a timeout or not, because a cancellation or Ctrl-C is to end it, too. That
costs less than can be measured beside the 60 to 300 ms that engines take for an exec, and one inspect of the container
for its environment (1 ms on dockerd, 3 to 9 ms on Podman).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Unpack

from attachproto import Attach, RemoteProtocolError
from attachproto._validators import check_flag
from attachproto_adapters._errors import ApiVersionRejected, CommandTimeout, OutputCut, RequestRejected
from attachproto_adapters._flows._api_calls import create_exec_request, inspect_request, may_succeed_again
from attachproto_adapters._flows._arguments import command_arguments
from attachproto_adapters._flows._exec_end import end_exec
from attachproto_adapters._flows._flows import create_and_open_exec, first_call
from attachproto_adapters._flows._inspect import read_json
from attachproto_adapters._flows._marker import Marker, MarkerState, marked_command
from attachproto_adapters._flows._options import ExecOptions
from attachproto_adapters._flows._steps import Opened, Steps

END_SECONDS: Final = 10.0
"""How many seconds the flow ``Command.end`` may take. It took 0.1 to 2 s."""

START_SECONDS: Final = 5.0
"""How many seconds to wait, before that, for the process of a command that is still being started."""

REST_SECONDS: Final = 1.0
"""How many seconds, after that, the rest of the output is read."""


class Command:
    """One command in a container.

    Attributes:
        opened: what is known of its exec, from before its start on.
        over: the command has ended, and its exit code is known.
    """

    def __init__(
        self,
        container: str,
        command: Sequence[str],
        *,
        token: str,
        kill: bool,
        stdin: bool,
        api_version: str | None,
        stdin_must_end: bool = True,
        console_size: tuple[int, int] | None = None,
        **options: Unpack[ExecOptions],
    ) -> None:
        """Check the arguments, which are those of ``create_and_open_exec``. Nothing is asked yet.

        Args:
            container: its name or ID.
            command: the program and its arguments.
            token: a random text that nobody can guess.
            kill: whether the command is to be ended if the caller stops waiting.
            stdin: whether it has a stdin.
            api_version: the version for the calls.
            stdin_must_end: as for ``create_and_open_exec``.
            console_size: likewise.
            options: how the exec is created.

        Raises:
            TypeError, ValueError: an argument is not valid.
        """
        check_flag("kill", kill)
        Attach(container)  # checks the name
        create_exec_request(container, command, stdin=stdin, api_version=api_version, **options)
        self.opened: Opened | None = None
        self.over = False
        self._container = container
        self._command = command
        self._token = token
        self._kill = kill
        self._marked = kill
        self._stdin = stdin
        self._api_version = api_version
        self._stdin_must_end = stdin_must_end
        self._console_size = console_size
        self._options = options
        self._tried_again = False

    def start(self) -> Steps[Opened]:
        """Create its exec, and start it.

        Raises:
            What ``create_and_open_exec`` raises.
        """
        command, marker = self._command, None
        # Input for a terminal that has to end is refused before all calls.
        if self._marked and not (self._stdin and self._stdin_must_end and self._options.get("tty", False)):
            marked = marked_command(command_arguments(command), self._token, (yield from self._environment()))
            if marked is not None:
                command, marker = marked, Marker(self._token, tty=self._options.get("tty", False))
        self.opened = None

        def created(opened: Opened) -> Opened:
            self.opened = opened._replace(marker=marker)
            return self.opened

        return (
            yield from create_and_open_exec(
                self._container,
                command,
                stdin=self._stdin,
                stdin_must_end=self._stdin_must_end,
                console_size=self._console_size,
                api_version=self._api_version,
                created=created,
                **self._options,
            )
        )

    def _environment(self) -> Steps[dict[str, str]]:
        """The environment that the command will have, without what the engine adds (``HOME``, ``TERM``, …)."""
        entries: list[str] = []
        try:
            response = yield from first_call(inspect_request("containers", self._container, self._api_version))
            reported = read_json(response)["Config"].get("Env") or ()
            entries = [entry for entry in reported if isinstance(entry, str)]
        except ApiVersionRejected:
            raise
        except (RequestRejected, RemoteProtocolError, LookupError, TypeError, AttributeError):
            pass  # some proxies refuse it; any other fault is reported by the creation that follows
        pairs = [entry.partition("=") for entry in entries]
        return {name: value for name, _, value in pairs} | dict(self._options.get("env") or {})

    def has_ended(self, exit_code: int, outputs: tuple[bytes, bytes]) -> bool:
        """Store that its exec has ended. ``False`` if it has to be started again, without the shell.

        Args:
            exit_code: of its exec.
            outputs: the whole of stdout and stderr.

        Raises:
            OutputCut: the output has ended before the line that the shell prints first.
        """
        marker, again = self._marker, False
        if marker is not None:
            marker.end()
            again = marker.not_started(exit_code, *outputs)
        self._marked = False
        self.over = not again
        if marker is not None and marker.lost(exit_code, *outputs):
            raise OutputCut(
                "the output ended before the first line that the command's shell prints: something between here and "
                f"the engine has closed the connection; the command has ended with exit code {exit_code}",
                *outputs,
            )
        return self.over

    @property
    def _marker(self) -> Marker | None:
        return None if self.opened is None else self.opened.marker

    @property
    def awaits_process(self) -> bool:
        """Whether its process is not known yet, and will be read in its output."""
        return not self.over and self._marker is not None and self._marker.state is MarkerState.AWAITED

    @property
    def must_end(self) -> bool:
        """Whether it may run, and can be ended. It can become true while ``awaits_process`` is."""
        return not self.over and self._marker is not None and self._marker.process is not None

    def may_try_again(self, exc: Exception) -> bool:
        """Whether another ``end`` may succeed where this error has ended the first."""
        again = not self._tried_again and may_succeed_again(exc)
        self._tried_again = True
        return again

    def end(self) -> Steps[bool]:
        """End it. Returns whether it was seen to have ended. May be called again.

        Raises:
            What ``end_exec`` raises.
        """
        opened = self.opened
        if opened is None or self.over:
            return True
        process = None if self._marker is None else self._marker.process
        return (
            yield from end_exec(self._container, opened.name, process, self._options.get("user"), self._api_version)
        )

    def timed_out(self, seconds: float, outputs: tuple[bytes, bytes], *, ended: bool) -> CommandTimeout:
        """The error for a command that has not ended within this time."""
        text = f"the command did not end within {seconds:g} s"
        if ended:
            text += ", and was ended" if self.opened is not None else ": it was not started"
        elif not self._kill:
            text += ", and goes on (kill=False)"
        else:
            text += f", and may go on: {self.why_not_ended}"
        return CommandTimeout(text, *outputs, ended)

    @property
    def why_not_ended(self) -> str:
        """Why ``end`` has not ended it."""
        if self._marker is None or self._marker.process is None:
            return "the container has no shell, or no /proc, by which it could be ended"
        return "it could not be ended"
