"""The errors and warnings of the adapters.

The file has more than 250 lines, because errors that share a base or a wording are read side by side.
"""

from __future__ import annotations

import errno
import sys
import warnings
from typing import Final

from attachproto import AttachError as AttachError
from attachproto import Reason, RemoteProtocolError

# A refusal may be 1 MiB long. Its text in an exception must stay readable; the attribute keeps it whole.
_SHOWN: Final = 500


def shown(text: str) -> str:
    """The beginning of a text that the peer sent, for an exception. Of an HTML page it is the first line."""
    start = text.lstrip().splitlines()[0] if text.lstrip().startswith("<") else text
    return start if len(start) == len(text) and len(text) <= _SHOWN else f"{start[:_SHOWN]} ..."


class ErrorWithRemedy(AttachError):
    """The base of errors whose text ends with what to do.

    Attributes:
        problem: the text without the remedy.
        remedy: what to do, in terms of this API; empty if that is not known. A program with options of its own shows
            its own words in place of it.
    """

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(f"{problem}: {remedy}" if remedy else problem)
        self.problem = problem
        self.remedy = remedy


class EngineUnreachable(ErrorWithRemedy, ConnectionError):
    """There is no connection to the engine. The text names the address, where it came from, and what went wrong.

    Attributes:
        sent: a request was sent, and then TLS ended without a reason, so the engine may have acted on the request. With
            TLS 1.3 that looks the same as a server that closes because it refuses the client's certificate.
    """

    sent = False


def unreachable(host: object, why: str, remedy: str = "", *, sent: bool = False) -> EngineUnreachable:
    """The error for an engine that does not answer at this address."""
    error = EngineUnreachable(f"no engine answers at {host}: {why}", remedy)
    error.sent = sent
    return error


def printable(text: str) -> str:
    """A text as one line that is safe to print on a terminal: escape sequences and line ends are shown as escapes."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


class HostInvalid(ErrorWithRemedy, ValueError):
    """The engine's address is not valid, or needs something that does not exist: a context, a TLS file."""


# What Go's and nginx's servers answer on a TLS port to a request without TLS.
_PLAIN_TO_TLS: Final = (
    "Client sent an HTTP request to an HTTPS server",
    "The plain HTTP request was sent to HTTPS port",
)


class RequestRejected(AttachError):
    """The engine refused a call.

    Attributes:
        status_code: the HTTP status.
        message: the engine's own text.
    """

    def __init__(self, status_code: int, message: str, asked: str, location: str = "") -> None:
        text = f"{shown(message) or 'no reason given'} ({status_code} to {asked})"
        if location:
            text += f": it redirects to {shown(location)}, and engines redirect no valid path"
        elif any(each in message for each in _PLAIN_TO_TLS):
            text += ": the port speaks TLS, so set DOCKER_TLS_VERIFY, and DOCKER_CERT_PATH to the certificates"
        super().__init__(text)
        self.status_code = status_code
        self.message = message

    @property
    def not_found(self) -> bool:
        """Whether the engine does not have what the call names. It never did, or has removed it."""
        # Podman 5.8 answers so while it removes a container. "no such container" is the text of its ErrNoSuchCtr.
        removing = self.status_code == 500 and self.message.endswith("no such container")
        return self.status_code == 404 or removing


class ApiVersionRejected(RequestRejected, ErrorWithRemedy):
    """The engine does not speak the API version that was asked for.

    Attributes:
        oldest: the oldest version that it speaks, such as ``"1.24"``.
        newest: the newest.
    """

    def __init__(self, status_code: int, message: str, asked: str, api_version: str, oldest: str, newest: str) -> None:
        super().__init__(status_code, message, asked)
        self.oldest = oldest
        self.newest = newest
        self.problem = (
            f"{self}: API {api_version} was asked for, and the engine speaks {shown(oldest)} to {shown(newest)}"
        )
        self.remedy = "ask for one of these (api_version=, DOCKER_API_VERSION) or for none"
        self.args = (f"{self.problem}: {self.remedy}",)


class ImageNotFound(RequestRejected, ErrorWithRemedy):
    """The engine does not have the image of a container that was to be created. Engines do not pull it by themselves.

    Attributes:
        image: its name, as it was given.
    """

    def __init__(self, status_code: int, message: str, asked: str, image: str) -> None:
        super().__init__(status_code, message, asked)
        self.image = image
        self.problem = str(self)
        self.remedy = f"docker pull {shown(image)}"
        self.args = (f"{self.problem}: {self.remedy}",)


class ContainerNotRunning(ErrorWithRemedy):
    """The container has exited, is paused, or was never started, and what was asked for needs one that runs.

    An attach to one that has exited would hang (dockerd) or reset it (Podman).
    """


class LogsUnavailable(ErrorWithRemedy):
    """The container's log driver cannot be read back, so that there are no logs to give.

    Attributes:
        driver: the log driver, as ``HostConfig.LogConfig.Type`` names it; empty if the engine did not name it.
    """

    def __init__(self, problem: str, remedy: str = "", driver: str = "") -> None:
        super().__init__(problem, remedy)
        self.driver = driver


class ExecAlreadyStarted(AttachError):
    """The exec was started before. Engines start an exec, and attach to it, only once."""


class KillUnsupported(AttachError):
    """The engine's API has no call that sends a signal to this: it can signal a container, and not an exec."""


class HalfCloseEndsAttach(AttachError):
    """A half-close would end the attach, and output would be lost. It depends on the container or an intermediary."""


class HalfCloseUnsupported(AttachError):
    """This transport cannot half-close: end one direction and leave the other open."""


class AttachmentClosed(AttachError):
    """The attachment was closed on this side."""


class ClientClosed(AttachError):
    """The client was closed, and makes no more calls."""


class ErrorWithOutput(AttachError):
    """The base of the errors that have what was read before them: ``except ErrorWithOutput`` catches all of them.

    Attributes:
        stdout: what ``communicate``, ``run`` or ``run_exec`` had read of stdout; with a TTY, of all output.
        stderr: what it had read of stderr.
    """

    def __init__(self, message: str, stdout: bytes = b"", stderr: bytes = b"") -> None:
        super().__init__(message)
        self.stdout = stdout
        self.stderr = stderr


class StreamBroken(RemoteProtocolError, ErrorWithOutput):
    """The stream was cut inside a frame or a body, or is malformed. A ``RemoteProtocolError`` with what came before.

    ``communicate``, ``run`` and ``run_exec`` raise it.
    """

    def __init__(self, message: str, reason: Reason, stdout: bytes = b"", stderr: bytes = b"") -> None:
        super().__init__(message, reason)
        self.stdout = stdout
        self.stderr = stderr


class StreamReset(ErrorWithOutput, ConnectionResetError):
    """The connection was reset. A ``ConnectionResetError`` with what came before.

    ``communicate``, ``run`` and ``run_exec`` raise it. In trio it is
    ``attachproto_adapters.trio.BrokenResourceWithOutput``, which is a ``trio.BrokenResourceError``.
    """

    errno = errno.ECONNRESET  # of the class, because a copy of an OSError does not get it


class OutputTooLarge(ErrorWithOutput):
    """The container printed more than ``max_output`` bytes.

    Attributes:
        ended: as for ``CommandTimeout``, where ``run`` or ``run_exec`` raises it; else false.
    """

    def __init__(self, message: str, stdout: bytes, stderr: bytes, ended: bool = False) -> None:
        super().__init__(message, stdout, stderr)
        self.ended = ended


class OutputCut(ErrorWithOutput):
    """The output ended while the process goes on: something between us and the engine has closed the connection.

    Sending the keys that detach has the same effect, and so has ``close_stdin`` where it warns.
    """


class CommandTimeout(ErrorWithOutput, TimeoutError):
    """A command did not end within its ``timeout``, and was ended, unless that was not wanted or not possible.

    Attributes:
        ended: whether the command was seen to have ended. If it is false, the command may go on.
    """

    def __init__(self, message: str, stdout: bytes = b"", stderr: bytes = b"", ended: bool = False) -> None:
        super().__init__(message, stdout, stderr)
        self.ended = ended


class ExitCodeUnknown(ErrorWithOutput):
    """How a process has ended is not known. Its container was removed, for instance, or the engine cannot be asked.

    ``__cause__`` is the error of the question, if it failed: a ``RequestRejected`` or an ``EngineUnreachable``. Where
    ``communicate``, ``run`` or ``run_exec`` raises it, the output is whole.
    """


class OutputUndecodable(ErrorWithOutput, UnicodeError):
    """A command has ended, and its output is not text in the ``encoding`` that was asked for. The output is whole.

    Attributes:
        exit_code: of the command.
    """

    def __init__(self, message: str, exit_code: int, stdout: bytes, stderr: bytes) -> None:
        super().__init__(message, stdout, stderr)
        self.exit_code = exit_code


class IncompleteRead(AttachError, EOFError):
    """The output has ended before all that was asked for had come.

    Attributes:
        partial: what has come. The reader does not give it out again.
        expected: how many bytes were asked for; ``None`` with a separator.
    """

    def __init__(self, message: str, partial: bytes, expected: int | None) -> None:
        super().__init__(message)
        self.partial = partial
        self.expected = expected


class SeparatorNotFound(AttachError):
    """The separator did not come within the reader's ``limit``. Nothing was taken: ``read`` gives the bytes out."""


class EngineReportedError(ErrorWithOutput):
    """The engine put an error of its own into the stream (a frame of type 3). The stream was read to its end.

    Attributes:
        message: the engine's text.
    """

    def __init__(self, message: str, stdout: bytes, stderr: bytes) -> None:
        super().__init__(f"the engine reports: {shown(message)}", stdout, stderr)
        self.message = message


class AttachWarning(UserWarning):
    """Something is allowed, but is probably a mistake."""


def warn(message: str) -> None:
    """Issue an ``AttachWarning`` at the line of the caller outside this package."""
    # Between that line and this one are a flow, its runner, and in two frameworks one or two awaits.
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("attachproto_adapters"):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, AttachWarning, stacklevel=level)
