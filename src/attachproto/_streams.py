"""The requests that open a stream: attach, exec start, logs.

Strategy: each is a small class that turns itself into a ``Request`` and can be read from one. The rest of the package
only asks it what ``StreamRequest`` lists; a new one is a class here, and its name in ``STREAM_REQUESTS``.
"""

from __future__ import annotations

import abc
import json
from collections.abc import Iterable, Mapping
from typing import ClassVar, Final, Self

import attrs
from attrs.validators import optional

from attachproto._headers import Headers, lower_names
from attachproto._requests import Request
from attachproto._times import Time, is_seconds, to_seconds
from attachproto._validators import are_detach_keys, are_headers, at_least_zero, is_name, is_version, of_type

# Moby's BoolValue (daemon/server/httputils/form.go): these are false, anything else is true.
_FALSE: Final = frozenset({"", "0", "no", "false", "none"})


def _flag(query: Mapping[str, str], name: str) -> bool:
    """Read as dockerd reads; what is absent is false."""
    return query.get(name, "").strip().lower() not in _FALSE


def _said(instance: object, names: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """Every flag is said, true or not: Podman takes what is absent for true."""
    return tuple((name, "1" if getattr(instance, name) else "0") for name in names)


def _first_values(request: Request) -> dict[str, str]:
    """The query; of a repeated key the first stands, as for dockerd (Podman takes the last)."""
    return dict(reversed(request.query))


@attrs.frozen(kw_only=True)
class AttachOptions:
    """The six options of attach, as the Engine API has them.

    Attributes:
        stream: follow the output, and take stdin, from now on.
        stdin: attach to the container's stdin. It needs a container created with ``OpenStdin``.
        stdout: attach to its stdout.
        stderr: attach to its stderr. (Podman delivers both, whatever was asked for.)
        logs: replay what was logged so far, first.
        detach_keys: the keys that detach from a TTY, such as ``"ctrl-p,ctrl-q"`` (which is the default).

    Raises:
        ValueError: a detach key is unknown.
        TypeError: a flag is no ``bool``.
    """

    stream: bool = attrs.field(default=True, validator=of_type(bool))
    stdin: bool = attrs.field(default=False, validator=of_type(bool))
    stdout: bool = attrs.field(default=True, validator=of_type(bool))
    stderr: bool = attrs.field(default=True, validator=of_type(bool))
    logs: bool = attrs.field(default=False, validator=of_type(bool))
    detach_keys: str | None = attrs.field(default=None, validator=optional([of_type(str), are_detach_keys]))

    def to_query(self) -> tuple[tuple[str, str], ...]:
        """All of them, sorted as Go's client sorts."""
        keys = () if self.detach_keys is None else (("detachKeys", self.detach_keys),)
        return keys + _said(self, ("logs", "stderr", "stdin", "stdout", "stream"))

    @classmethod
    def from_query(cls, query: Mapping[str, str]) -> Self:
        """Read as dockerd reads: what is absent is false, and empty detach keys are no detach keys."""
        flags = {name: _flag(query, name) for name in ("stream", "stdin", "stdout", "stderr", "logs")}
        return cls(**flags, detach_keys=query.get("detachKeys") or None)


@attrs.frozen
class StreamRequest(abc.ABC):
    """What the requests that open a stream have in common.

    Attributes:
        tty: whether the container has a TTY, if the caller knows. For attach and logs it does not travel: a server
            sees ``None``.
        api_version: as for ``Request``.
        headers: as for ``Request``; not part of what makes two requests equal, because a server sees more of them.
    """

    tty: bool | None = attrs.field(default=None, kw_only=True, validator=optional(of_type(bool)))
    api_version: str | None = attrs.field(default=None, kw_only=True, validator=optional(is_version))
    headers: Headers = attrs.field(default=(), kw_only=True, eq=False, converter=lower_names, validator=are_headers)

    upgrades: ClassVar[bool] = True
    """Whether the connection is asked to be upgraded; then a ``200`` must be a stream of the engine's."""

    stdin_is_in_request: ClassVar[bool] = True
    """Whether a server can tell from the request that the client wants stdin."""

    @property
    @abc.abstractmethod
    def wants_stdin(self) -> bool:
        """Whether anything may be sent to the container."""

    @abc.abstractmethod
    def to_request(self) -> Request:
        """The same as an HTTP request, without the header fields of the upgrade."""

    @classmethod
    @abc.abstractmethod
    def from_request(cls, request: Request) -> Self | None:
        """Read it from a request that is for this endpoint; ``None`` if it is for another.

        Raises:
            ValueError: it is for this endpoint, and not valid.
        """


@attrs.frozen
class Attach(StreamRequest):
    """Attach to a container: ``POST /containers/{name}/attach`` (moby ``postContainersAttach``; all API versions).

    Attributes:
        container: name or ID.
        options: which streams, and how.

    Raises:
        ValueError: the container's name is none that engines allow.
    """

    container: str = attrs.field(validator=is_name)
    options: AttachOptions = attrs.field(factory=AttachOptions, validator=of_type(AttachOptions))

    @property
    def wants_stdin(self) -> bool:
        """Whether anything may be sent to the container."""
        return self.options.stdin

    def to_request(self) -> Request:
        """The same as an HTTP request, without the header fields of the upgrade."""
        return Request(
            "POST",
            ("containers", self.container, "attach"),
            self.options.to_query(),
            headers=self.headers,
            api_version=self.api_version,
        )

    @classmethod
    def from_request(cls, request: Request) -> Self | None:
        """Read it from a request that is for this endpoint; ``None`` if it is for another."""
        match request.method, request.path:
            case "POST", ("containers", container, "attach"):
                return cls(
                    container,
                    AttachOptions.from_query(_first_values(request)),
                    api_version=request.api_version,
                )
        return None


@attrs.frozen
class ExecStart(StreamRequest):
    """Start an exec that was created, and attach to it: ``POST /exec/{id}/start`` (moby ``postContainerExecStart``).

    Attributes:
        exec_id: what the creation answered.
        tty: what the creation said. dockerd frames by this one, Podman by the creation's.
        stdin: what the creation said (``AttachStdin``). Without it nothing can be sent, and an answer is read also
            where a proxy has ended the request. It does not travel: a server sees ``True``, as it may be.
        console_size: height and width of the terminal in characters; API 1.42 and later, with a TTY.

    Raises:
        ValueError: the ID is none; a console size without a TTY, or for an API that has none.
    """

    exec_id: str = attrs.field(validator=is_name)
    tty: bool = attrs.field(kw_only=True, validator=of_type(bool))
    stdin: bool = attrs.field(default=True, kw_only=True, validator=of_type(bool))
    console_size: tuple[int, int] | None = attrs.field(default=None, kw_only=True)

    stdin_is_in_request: ClassVar[bool] = False

    def __attrs_post_init__(self) -> None:
        if self.console_size is None:
            return
        if len(self.console_size) != 2:
            raise ValueError(f"console_size is height and width in characters, not {self.console_size!r}")
        height, width = self.console_size
        if not (isinstance(height, int) and isinstance(width, int) and height >= 0 and width >= 0):
            raise ValueError(f"console_size is height and width in characters, not {self.console_size!r}")
        if not self.tty:
            raise ValueError("console_size needs tty=True: engines ignore it otherwise")
        if not _has_console_size(self.api_version):
            raise ValueError(f"console_size needs API 1.42 or later, not {self.api_version}")

    @property
    def wants_stdin(self) -> bool:
        """Whether anything may be sent to the container."""
        return self.stdin

    def to_request(self) -> Request:
        """The same as an HTTP request, without the header fields of the upgrade."""
        body: dict[str, object] = {"Detach": False, "Tty": self.tty}
        if self.console_size is not None:
            body["ConsoleSize"] = list(self.console_size)
        return Request(
            "POST",
            ("exec", self.exec_id, "start"),
            body=json.dumps(body).encode(),
            headers=(("content-type", "application/json"), *self.headers),
            api_version=self.api_version,
        )

    @classmethod
    def from_request(cls, request: Request) -> Self | None:
        """Read it from a request that is for this endpoint; ``None`` if it is for another, or not to be attached to."""
        match request.method, request.path:
            case "POST", ("exec", exec_id, "start"):
                # An empty body is an empty object for dockerd from 23.0 on; Go takes keys in any case.
                body = json.loads((request.body or b"{}").decode())
                if not isinstance(body, dict):
                    raise ValueError("the body is no JSON object")
                fields = {key.lower(): value for key, value in body.items()}
                if fields.get("detach"):
                    return None
                tty = fields.get("tty") or False
                # Without a TTY, and below 1.42, dockerd ignores the size.
                size = fields.get("consolesize") if tty and _has_console_size(request.api_version) else None
                return cls(
                    exec_id,
                    tty=tty,
                    console_size=None if size is None else tuple(size),
                    api_version=request.api_version,
                )
        return None


def _has_console_size(api_version: str | None) -> bool:
    return api_version is None or [int(part) for part in api_version.split(".")] >= [1, 42]


def _since(value: Time | None) -> str | None:
    return to_seconds("since", value)


def _until(value: Time | None) -> str | None:
    return to_seconds("until", value)


def _received_time(text: str | None) -> str | None:
    """A time in a query; engines read seconds there, and none of the other forms that ``Logs`` takes."""
    if text and not is_seconds(text):
        raise ValueError(f"a time in a query is seconds since the epoch, not {text!r}")
    return text or None


@attrs.frozen
class Logs(StreamRequest):
    """What a container has logged, and will: ``GET /containers/{name}/logs`` (moby ``getContainersLogs``).

    It is no upgrade: the answer is an ordinary body, and nothing can be sent.

    Attributes:
        container: name or ID.
        follow: go on with what comes, until the container has exited.
        stdout: what it wrote to stdout.
        stderr: what it wrote to stderr.
        since: from this time on. Seconds since the epoch as a number or a text with up to nine decimals, an aware
            ``datetime``, or RFC 3339 as ``timestamps`` prints it; kept as seconds. ``0`` is no bound.
        until: up to this time, in the same forms; API 1.35 and later.
        timestamps: put the time before each line.
        tail: at most this many of the last lines; ``None`` for all.
        details: put the attributes of the log driver before each line.

    Raises:
        ValueError: the container's name is none; a time is none; neither stream is asked for.
    """

    upgrades: ClassVar[bool] = False

    container: str = attrs.field(validator=is_name)
    follow: bool = attrs.field(default=False, kw_only=True, validator=of_type(bool))
    stdout: bool = attrs.field(default=True, kw_only=True, validator=of_type(bool))
    stderr: bool = attrs.field(default=True, kw_only=True, validator=of_type(bool))
    since: str | None = attrs.field(default=None, kw_only=True, converter=_since)
    until: str | None = attrs.field(default=None, kw_only=True, converter=_until)
    timestamps: bool = attrs.field(default=False, kw_only=True, validator=of_type(bool))
    tail: int | None = attrs.field(default=None, kw_only=True, validator=optional([of_type(int), at_least_zero]))
    details: bool = attrs.field(default=False, kw_only=True, validator=of_type(bool))

    def __attrs_post_init__(self) -> None:
        if not (self.stdout or self.stderr):
            raise ValueError("logs of neither stdout nor stderr: engines refuse that")

    @property
    def wants_stdin(self) -> bool:
        """Whether anything may be sent to the container: a half-close would end the stream."""
        return False

    def to_request(self) -> Request:
        """The same as an HTTP request."""
        times = tuple((name, value) for name in ("since", "until") if (value := getattr(self, name)) is not None)
        return Request(
            "GET",
            ("containers", self.container, "logs"),
            (
                *_said(self, ("details", "follow", "stderr", "stdout", "timestamps")),
                ("tail", "all" if self.tail is None else str(self.tail)),
                *times,
            ),
            headers=self.headers,
            api_version=self.api_version,
        )

    @classmethod
    def from_request(cls, request: Request) -> Self | None:
        """Read it from a request that is for this endpoint; ``None`` if it is for another."""
        match request.method, request.path:
            case "GET", ("containers", container, "logs"):
                query = _first_values(request)
                # dockerd takes a tail that is no number for all.
                tail = query.get("tail", "")
                return cls(
                    container,
                    follow=_flag(query, "follow"),
                    stdout=_flag(query, "stdout"),
                    stderr=_flag(query, "stderr"),
                    timestamps=_flag(query, "timestamps"),
                    details=_flag(query, "details"),
                    since=_received_time(query.get("since")),
                    until=_received_time(query.get("until")),
                    tail=int(tail) if tail.isascii() and tail.isdigit() else None,
                    api_version=request.api_version,
                )
        return None


STREAM_REQUESTS: Final[tuple[type[StreamRequest], ...]] = (Attach, ExecStart, Logs)


def recognise(request: Request) -> Request | StreamRequest:
    """The stream request that a received request is; itself, if it is none or not a valid one."""
    for kind in STREAM_REQUESTS:
        try:
            found = kind.from_request(request)
        except (ValueError, TypeError, RecursionError):
            return request
        if found is not None:
            # Past the validator: what h11 has let through may be looked at, also if we would not write it.
            object.__setattr__(found, "headers", request.headers)
            return found
    return request
