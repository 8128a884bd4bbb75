"""Reads the engine's inspect of a container or an exec.

The file has more than 250 lines, because a container and an exec are read with the same small functions.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final, Self, TypeVar

import attrs

from attachproto import Attach, Quirk, Reason, RemoteProtocolError, Response
from attachproto._headers import field
from attachproto_adapters._errors import shown
from attachproto_adapters._flows._intermediaries import closing_intermediary

T = TypeVar("T")

# Such as 4.3.1 or 5.0.0-rc1. int() refuses very long numbers.
_PODMAN_VERSION: Final = r"([0-9]{1,9})\.([0-9]{1,9})(?![0-9])"


@attrs.frozen(kw_only=True)
class InspectedContainer:
    """The fields of ``GET /containers/{name}/json`` that matter here.

    Attributes:
        tty: whether it has a TTY; then the output is raw.
        open_stdin: whether it was created with ``OpenStdin``; without that nothing reads what is sent.
        stdin_once: whether it was created with ``StdinOnce``; then the first half-close ends its stdin.
        status: ``created``, ``running``, ``paused``, ``exited``, …
        exit_code: of its last run; negative if the engine does not know it (Podman).
        log_driver: ``HostConfig.LogConfig.Type``; empty if inspect lacks it.
        podman: Podman's version, from the ``Libpod-API-Version`` header of every answer; ``None`` on dockerd.
        started_at: when its last run began, as the engine writes it.
        restart_count: how often the engine's restart policy has started it again.
        pid: of its process on the engine's machine; 0 if it does not run.
        intermediary: a proxy that is known to close the stream at a half-close; ``None`` if none was found.
    """

    tty: bool
    open_stdin: bool
    stdin_once: bool
    status: str
    exit_code: int
    log_driver: str = ""
    podman: str | None
    started_at: str | None = None
    restart_count: int = 0
    pid: int = 0
    intermediary: str | None = None

    @classmethod
    def from_response(cls, response: Response) -> Self:
        """Read an inspect's answer.

        Raises:
            RemoteProtocolError: a field is missing or of another type.
        """
        value = read_json(response)
        try:
            config, state = value["Config"], value["State"]
            log_config = _known(_known(value.get("HostConfig"), {}).get("LogConfig"), {})
            return cls(
                tty=of_type(bool, config["Tty"]),
                open_stdin=of_type(bool, _known(config.get("OpenStdin"), False)),
                stdin_once=of_type(bool, _known(config.get("StdinOnce"), False)),
                status=of_type(str, state["Status"]),
                exit_code=of_type(int, state.get("ExitCode", 0)),
                log_driver=of_type(str, _known(log_config.get("Type"), "")),
                podman=podman_version(response),
                started_at=of_type(str, _known(state.get("StartedAt"), "")) or None,
                restart_count=of_type(int, _known(value.get("RestartCount"), 0)),
                pid=of_type(int, _known(state.get("Pid"), 0)),
                intermediary=closing_intermediary(response.headers),
            )
        except (LookupError, TypeError, AttributeError) as exc:
            raise _not_an_engines("inspect", exc) from None

    @property
    def running(self) -> bool:
        """Whether it runs. A paused container does not."""
        return self.status == "running"

    @property
    def created(self) -> bool:
        """Whether it was never started (or, on Podman, was reset)."""
        return self.status == "created"

    @property
    def paused(self) -> bool:
        """Whether it is paused. Engines attach to it only once it is unpaused."""
        return self.status == "paused"

    @property
    def exited(self) -> bool:
        """Whether its run is over.

        Podman says ``stopped`` for a moment before it says ``exited``. With ``AutoRemove`` dockerd says ``removing``.
        """
        return self.status in ("exited", "stopped", "dead", "removing")

    def goes_on(self, before: Self) -> bool:
        """Whether the run of an attach goes on, or has not begun yet. The attach was made after the inspect ``before``.

        A later run does not count, because engines end an attach at the end of its run.
        """
        if self.created:
            # Podman resets an exited container to this. On dockerd a start that failed leaves a code.
            return before.created and self.exit_code == 0
        if self.status not in ("running", "paused", "stopping"):
            return False
        if before.running or before.paused:
            return self.started_at == before.started_at
        return self.restart_count == 0

    @property
    def half_close_ends_attach(self) -> bool:
        """Whether the engine would take the end of stdin for the end of the attach.

        With a TTY only a key ends stdin: at a half-close dockerd closes the attach, and Podman does nothing. Without
        ``StdinOnce`` dockerd closes the attach too (moby ``daemon/internal/stream/attach.go``), and Podman ends stdin.
        """
        if not self.open_stdin:
            return False
        return self.tty or not (self.stdin_once or self.podman)


@attrs.frozen(kw_only=True)
class InspectedExec:
    """The fields of ``GET /exec/{id}/json`` that matter here.

    Attributes:
        tty: whether it has a TTY; then the output is raw.
        open_stdin: whether it was created with ``AttachStdin``; without that nothing reads what is sent.
        running: whether it was started and has not ended.
        exit_code: its exit code if it has ended, else ``None``.
        podman: as for ``InspectedContainer``.
        intermediary: as for ``InspectedContainer``.
        container: the ID of its container.
        pid: of its process, once that was started; 0 if it could not be.
    """

    tty: bool
    open_stdin: bool
    running: bool = False
    exit_code: int | None = None
    podman: str | None
    intermediary: str | None = None
    container: str = ""
    pid: int = 0

    @classmethod
    def from_response(cls, response: Response) -> Self:
        """Read an inspect's answer.

        Raises:
            RemoteProtocolError: a field is missing or of another type.
        """
        value = read_json(response)
        try:
            running, code = of_type(bool, value["Running"]), value["ExitCode"]
            # Before its start dockerd has no exit code, and Podman 0: there an exec that has ended may be removed.
            podman = podman_version(response)
            if running or (podman and not of_type(bool, value["CanRemove"])):
                code = None
            return cls(
                tty=of_type(bool, value["ProcessConfig"]["tty"]),
                open_stdin=of_type(bool, _known(value.get("OpenStdin"), False)),
                running=running,
                exit_code=None if code is None else of_type(int, code),
                podman=podman,
                intermediary=closing_intermediary(response.headers),
                container=of_type(str, _known(value.get("ContainerID"), "")),
                pid=of_type(int, _known(value.get("Pid"), 0)),
            )
        except (LookupError, TypeError, AttributeError) as exc:
            raise _not_an_engines("exec inspect", exc) from None

    @property
    def half_close_ends_attach(self) -> bool:
        """Whether the engine would take the end of stdin for the end of the stream. dockerd does so with a TTY."""
        return self.open_stdin and self.tty


Facts = InspectedContainer | InspectedExec


def half_close_ends_attach(inspected: Facts) -> str:
    """Why a half-close would not only end stdin here, and what to do instead."""
    if inspected.tty:
        return (
            "there is a TTY: a half-close does not end its stdin, and dockerd takes it for the end of the attach; "
            "send b'\\x04' (ctrl-d) on a line of its own instead"
        )
    return (
        "the container was created without StdinOnce: dockerd takes a half-close for the end of the attach, and "
        "output after it is lost; create it with StdinOnce, or send without closing"
    )


def identity_and_labels(response: Response) -> tuple[str, dict[str, Any]]:
    """The ID of an inspected container, and its labels.

    Raises:
        RemoteProtocolError: a field is missing or of another type, or the ID is none.
    """
    value = read_json(response)
    try:
        labels = of_type(dict, _known(value["Config"].get("Labels"), {}))
        return Attach(of_type(str, value["Id"])).container, labels  # Attach raises ValueError for an invalid ID
    except (LookupError, TypeError, AttributeError, ValueError) as exc:
        raise _not_an_engines("inspect", exc) from None


def podman_version(response: Response) -> str | None:
    """Podman's version, if Podman has sent this answer."""
    return field(response.headers, "libpod-api-version")


_NO_QUIRKS: Final = frozenset[Quirk]()  # one for all: an empty one takes 216 bytes


def known_quirks(podman: str | None, request: Attach) -> frozenset[Quirk]:
    """The quirks that this engine is known to have in its answer to this request.

    ``DETACHED_TEXT`` is never among them: it holds bytes back, and helps only programs that forward detach keys.
    """
    if podman is None or not request.options.logs:
        return _NO_QUIRKS
    version = re.match(_PODMAN_VERSION, podman)
    if version is None or (int(version[1]), int(version[2])) >= (4, 4):
        return _NO_QUIRKS
    return frozenset({Quirk.NEWLINE_OUTSIDE_FRAME})


def _known(value: Any, default: Any) -> Any:
    return default if value is None else value


def of_type(kind: type[T], value: object) -> T:
    """Return the value if it is of exactly this type. To convert a string or a list to a flag would be a guess.

    Raises:
        TypeError: it is of another type.
    """
    if type(value) is not kind:
        raise TypeError(f"{value!r} is of type {type(value).__name__}, not {kind.__name__}")
    return value


def read_json(response: Response) -> Any:
    """The JSON of an answer.

    Raises:
        RemoteProtocolError: the body is not JSON.
    """
    try:
        return json.loads(response.body)
    except (ValueError, RecursionError):
        raise RemoteProtocolError(
            f"the engine's answer ({response.status_code}) is not JSON: {shown(response.message)!r}",
            Reason.BAD_DOCUMENT,
        ) from None


def _not_an_engines(what: str, exc: Exception) -> RemoteProtocolError:
    return RemoteProtocolError(
        f"the answer to {what} lacks a field that engines send: {shown(repr(exc))}", Reason.BAD_DOCUMENT
    )
