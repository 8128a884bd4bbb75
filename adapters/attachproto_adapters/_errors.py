"""The errors and warnings of the adapters."""

from __future__ import annotations

import sys
import warnings
from typing import Final

from attachproto import AttachError as AttachError

# A refusal may be 1 MiB long. Its text in an exception must stay readable; the attribute keeps it whole.
_SHOWN: Final = 500


def shown(text: str) -> str:
    """The beginning of somebody else's text, for an exception's own. Of a page of HTML it is the first line."""
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
    """No connection to the engine; the text says which address was tried, where it came from, and what happened."""


def unreachable(host: object, why: str) -> EngineUnreachable:
    """The error for an engine that does not answer at this address."""
    return EngineUnreachable(f"no engine answers at {host}: {why}")


def printable(text: str) -> str:
    """Somebody else's text for a terminal, in one line: it may hold any character, escape sequences and all."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


class HostInvalid(ErrorWithRemedy, ValueError):
    """The engine's address cannot be understood, or needs a transport that is not there."""


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


class ApiVersionRejected(RequestRejected, ErrorWithRemedy):
    """The engine does not speak the API version that was asked for.

    Attributes:
        oldest: the first that it speaks, such as ``"1.24"``.
        newest: the last.
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


class ContainerNotRunning(ErrorWithRemedy):
    """The container has exited, so that an attach would wait for ever (dockerd) or reset it (Podman); or is paused."""


class LogsUnavailable(ErrorWithRemedy):
    """The container's log driver cannot be read back, so that there are no logs to give.

    Attributes:
        driver: the log driver, as ``HostConfig.LogConfig.Type`` names it; empty if the engine did not name it.
    """

    def __init__(self, problem: str, remedy: str = "", driver: str = "") -> None:
        super().__init__(problem, remedy)
        self.driver = driver


class ExecAlreadyStarted(AttachError):
    """The exec was started before, and engines start and attach to one only once."""


class HalfCloseEndsAttach(AttachError):
    """On this container the engine takes the end of stdin for the end of the attach; output would be lost."""


class HalfCloseUnsupported(AttachError):
    """This transport cannot end one direction and leave the other open."""


class AttachmentClosed(AttachError):
    """The attachment was closed on our side."""


class OutputTooLarge(AttachError):
    """The container printed more than ``max_output`` bytes.

    Attributes:
        stdout: what was read of stdout (or of the terminal).
        stderr: what was read of stderr.
    """

    def __init__(self, message: str, stdout: bytes, stderr: bytes) -> None:
        super().__init__(message)
        self.stdout = stdout
        self.stderr = stderr


class OutputCut(AttachError):
    """The output ended while the process goes on: something between us and the engine has closed the connection.

    Keys that detach, if they were sent, end the output so too; and ``close_stdin``, where it warns of that.

    Attributes:
        stdout: what was read of stdout (or of the terminal) by ``communicate``.
        stderr: what was read of stderr by it.
    """

    def __init__(self, message: str, stdout: bytes, stderr: bytes) -> None:
        super().__init__(message)
        self.stdout = stdout
        self.stderr = stderr


class ExitCodeUnknown(AttachError):
    """A container or a command has run, and the engine cannot tell its exit code: it was removed, for instance.

    Attributes:
        stdout: the whole of stdout, where ``run_exec`` raises it.
        stderr: the whole of stderr, likewise.
    """

    def __init__(self, message: str, stdout: bytes = b"", stderr: bytes = b"") -> None:
        super().__init__(message)
        self.stdout = stdout
        self.stderr = stderr


class EngineReportedError(AttachError):
    """The engine put an error of its own into the stream (a frame of type 3).

    Attributes:
        message: the engine's text.
        stdout: the whole of stdout.
        stderr: the whole of stderr.
    """

    def __init__(self, message: str, stdout: bytes, stderr: bytes) -> None:
        super().__init__(f"the engine reports: {shown(message)}")
        self.message = message
        self.stdout = stdout
        self.stderr = stderr


class AttachWarning(UserWarning):
    """Something that is allowed, and rarely what was meant."""


def warn(message: str) -> None:
    """Warn with ``AttachWarning`` whoever has called us."""
    # Between them and here lie a sequence, what drives it, and in two frameworks an await or two.
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("attachproto_adapters"):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, AttachWarning, stacklevel=level)
