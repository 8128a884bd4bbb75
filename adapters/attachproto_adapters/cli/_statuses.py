"""Exit statuses and messages: what the command says in its own words, and with which number it ends."""

from __future__ import annotations

import sys

from attachproto_adapters._errors import (
    ApiVersionRejected,
    ContainerNotRunning,
    EngineUnreachable,
    ErrorWithRemedy,
    HostInvalid,
    ImageNotFound,
    LogsUnavailable,
    RequestRejected,
    printable,
    shown,
)

FAILED = 1
"""``attach``, ``exec`` or ``logs`` itself failed, and not the command in the container. Docker uses the same number."""

OURS = 125
"""``run`` failed, the command line is wrong, or the exit code is not known. Docker uses the same number."""

CANNOT_BE_INVOKED = 126
NOT_FOUND = 127
TIMED_OUT = 124
"""Of ``timeout(1)``."""

PIPE_CLOSED = 141
"""What a shell reports for a command that SIGPIPE has ended: 128 and the signal's number."""

HELP = """\
exit status:
  that of the command in the container (128+N if signal N has ended it), or
  0    detached; for logs: the log was read
  {failed}
  124  --timeout has ended it
  125  {ours}wrong options, or the exit code is not known
  126  the command cannot be invoked
  127  the command is not found
  128+N  ended here by signal N: 130 by Ctrl-C, 141 if nobody reads the output
"""


def statuses(*, own: bool) -> str:
    """The exit statuses for the help; ``own``: 125 is for failures of the command's own, as in ``docker run``."""
    if own:
        return HELP.replace("  {failed}\n", "").format(ours="the engine refused, or cannot be reached; ")
    return HELP.format(failed="1    the engine refused, or cannot be reached", ours="")


class Signalled(BaseException):
    """A signal ends the command."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class ReaderGone(Exception):
    """The reader of our stdout or stderr has closed its end."""


# What the command says in place of an error's own remedy, which names arguments of the library.
_REMEDIES: dict[type[Exception], str] = {
    ApiVersionRejected: "set DOCKER_API_VERSION to one of these, or do not set it",
    ContainerNotRunning: "--logs shows its output so far, and --start runs it again",
    EngineUnreachable: "say where it is with --host or DOCKER_HOST",
    HostInvalid: "use one of these",
    LogsUnavailable: "attach without --logs, before the container is started",
}


def in_options(exc: Exception) -> str:
    """An error's text, with what to do in the command's own options."""
    if isinstance(exc, ImageNotFound):
        return f"{exc.problem}: docker pull {shown(exc.image)}"
    if isinstance(exc, ErrorWithRemedy) and exc.remedy:
        return f"{exc.problem}: {_REMEDIES[type(exc)]}"
    return str(exc)


def of_start(exc: RequestRejected) -> int:
    """The status for a container that the engine did not start, by the same words as the docker CLI's.

    See ``toStatusError`` of docker/cli, ``cli/command/container/run.go``.
    """
    message = exc.message.lower()
    if any(each in message for each in ("executable file not found", "no such file or directory")):
        return NOT_FOUND
    if any(each in message for each in ("permission denied", "is a directory")):
        return CANNOT_BE_INVOKED
    return OURS


def of_exit_code(code: int) -> int:
    """The container's exit code as exit status. The kernel keeps the lowest eight bits, so 256 would mean success."""
    if 0 <= code <= 255:
        return code
    complain(f"the engine reports the exit code {shown(str(code))}, which no process can have (0 to 255)")
    return OURS


def complain(text: str) -> None:
    """Write one line to stderr."""
    if sys.stderr is not None:  # else print() would take stdout
        print(f"attachproto: {printable(text)}", file=sys.stderr)
