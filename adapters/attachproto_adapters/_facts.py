"""What inspect tells of a container that decides how an attach to it behaves."""

from __future__ import annotations

import json
from typing import Any, Self, TypeVar

import attrs

from attachproto import RemoteProtocolError, Response

T = TypeVar("T")


@attrs.frozen(kw_only=True)
class ContainerFacts:
    """The fields of ``GET /containers/{name}/json`` that matter here.

    Attributes:
        tty: output is raw.
        open_stdin: the container was created with ``OpenStdin``; without it nothing reads what is sent.
        stdin_once: the first half-close ends the container's stdin.
        status: ``created``, ``running``, ``exited``, …
        exit_code: of its last run.
        podman: the engine is Podman, which says so in a header of every answer.
    """

    tty: bool
    open_stdin: bool
    stdin_once: bool
    status: str
    exit_code: int
    podman: bool

    @classmethod
    def from_response(cls, response: Response) -> Self:
        """Read an inspect's answer.

        Raises:
            RemoteProtocolError: it is none.
        """
        value = read_json(response)
        try:
            config, state = value["Config"], value["State"]
            return cls(
                tty=of_type(bool, config["Tty"]),
                open_stdin=of_type(bool, _known(config.get("OpenStdin"), False)),
                stdin_once=of_type(bool, _known(config.get("StdinOnce"), False)),
                status=of_type(str, state["Status"]),
                exit_code=of_type(int, state.get("ExitCode", 0)),
                podman=any(name == "libpod-api-version" for name, _ in response.headers),
            )
        except (LookupError, TypeError, AttributeError) as exc:
            raise RemoteProtocolError(f"inspect's answer has not the fields of an engine's: {exc!r}") from None

    @property
    def exited(self) -> bool:
        """Whether its run is over. Podman says ``stopped`` for a moment before it says ``exited``."""
        return self.status in ("exited", "stopped", "dead")

    @property
    def half_close_ends_attach(self) -> bool:
        """Whether the engine would take the end of stdin for the end of the attach.

        A TTY has no end of stdin but a key; dockerd then closes the attach, Podman does nothing. Without ``StdinOnce``
        dockerd closes the attach too (moby ``daemon/internal/stream/attach.go``), and Podman ends stdin as asked.
        """
        if not self.open_stdin:
            return False
        return self.tty or not (self.stdin_once or self.podman)


def _known(value: object, default: object) -> object:
    return default if value is None else value


def of_type(kind: type[T], value: object) -> T:
    """The value, if it is of exactly this type: what a text or a list means as a flag would be a guess.

    Raises:
        TypeError: it is not.
    """
    if type(value) is not kind:
        raise TypeError(f"{value!r} is of type {type(value).__name__}, not {kind.__name__}")
    return value


def read_json(response: Response) -> Any:
    """The JSON of an answer.

    Raises:
        RemoteProtocolError: it holds none.
    """
    try:
        return json.loads(response.body)
    except (ValueError, RecursionError):
        raise RemoteProtocolError(f"the engine's answer is no JSON: {response.body[:120]!r}") from None
