"""The requests that open a stream: attach, exec start, logs.

Strategy: each is a small class that turns itself into a ``Request`` and can be read from one. A new one is a class
here, and its name in ``STREAM_REQUESTS``.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, ClassVar, Final, Self

import attrs
from attrs.validators import optional

from attachproto._attach_options import AttachOptions, encode_flags, first_values, flag
from attachproto._requests import Request
from attachproto._stream_base import StreamRequest
from attachproto._validators import at_least_zero, check_console_size, is_int, is_name, of_type, version_numbers

if TYPE_CHECKING:
    from attachproto._times import Time


@attrs.frozen
class Attach(StreamRequest):
    """Attach to a container: ``POST /containers/{name}/attach`` (moby ``postContainersAttach``; all API versions).

    Attributes:
        container: name or ID.
        options: which streams, and how.

    Raises:
        ValueError: the container's name is one that engines do not allow.
    """

    container: str = attrs.field(validator=is_name)
    options: AttachOptions = attrs.field(factory=AttachOptions, validator=of_type(AttachOptions))

    @property
    def wants_stdin(self) -> bool:
        """Whether anything may be sent to the container."""
        return self.options.stdin

    def to_request(self) -> Request:
        """This request as HTTP, without the header fields of the upgrade."""
        return Request(
            "POST",
            ("containers", self.container, "attach"),
            self.options.to_query(),
            headers=self.headers,
            api_version=self.api_version,
        )

    @classmethod
    def from_request(cls, request: Request) -> Self | None:
        """Read a request for this endpoint; ``None`` if it is for another one."""
        match request.method, request.path:
            case "POST", ("containers", container, "attach"):
                return cls(
                    container,
                    AttachOptions.from_query(first_values(request)),
                    api_version=request.api_version,
                )
        return None


@attrs.frozen
class ExecStart(StreamRequest):
    """Start an exec that was created, and attach to it: ``POST /exec/{id}/start`` (moby ``postContainerExecStart``).

    Attributes:
        exec_id: what the creation answered.
        tty: what the creation said. dockerd frames by this value, Podman by that of the creation.
        stdin: what the creation said (``AttachStdin``). If it is false, nothing can be sent, and an answer
            is accepted even if its head ends the request. It is not sent, so a server always sees ``True``.
        console_size: height and width of the terminal in characters; API 1.42 and later, with a TTY.

    Raises:
        ValueError: the ID is malformed; a console size is negative, without a TTY, or for an API without console sizes.
        TypeError: an attribute is of another type.
    """

    exec_id: str = attrs.field(validator=is_name)
    tty: bool = attrs.field(kw_only=True, validator=of_type(bool))
    stdin: bool = attrs.field(default=True, kw_only=True, validator=of_type(bool))
    console_size: tuple[int, int] | None = attrs.field(default=None, kw_only=True)

    stdin_is_in_request: ClassVar[bool] = False

    def __attrs_post_init__(self) -> None:
        check_console_size(self.console_size)
        if self.console_size is None:
            return
        if not self.tty:
            raise ValueError("console_size needs tty=True: engines ignore it otherwise")
        if not _has_console_size(self.api_version):
            raise ValueError(f"console_size needs API 1.42 or later, not {self.api_version}")

    @property
    def wants_stdin(self) -> bool:
        """Whether anything may be sent to the container."""
        return self.stdin

    def to_request(self) -> Request:
        """This request as HTTP, without the header fields of the upgrade."""
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
        """Read a request for this endpoint; ``None`` if it is for another one, or detaches."""
        match request.method, request.path:
            case "POST", ("exec", exec_id, "start"):
                # An empty body is an empty object for dockerd from 23.0 on; Go takes keys in any case.
                body = json.loads((request.body or b"{}").decode())
                if not isinstance(body, dict):
                    raise ValueError("the body is not a JSON object")
                fields = {key.lower(): value for key, value in body.items()}
                if fields.get("detach"):
                    return None
                tty = fields.get("tty") or False
                # dockerd reads the size before it ignores it: without a TTY a malformed one is refused all the same
                # (400 from 26.1 and 28.5). Below 1.42 it is ignored, whatever it is, as by 20.10.
                known = _has_console_size(request.api_version)
                size = _as_go_reads_it(fields.get("consolesize")) if known else None
                return cls(exec_id, tty=tty, console_size=size if tty else None, api_version=request.api_version)
        return None


def _as_go_reads_it(size: object) -> tuple[int, int] | None:
    """The value of a JSON ``ConsoleSize``, for Go a ``*[2]uint``: what is missing is 0, what is too much is ignored.

    Raises:
        ValueError: it is no list, or its first two elements are no sizes.
    """
    if size is None:
        return None
    if not isinstance(size, list):
        raise ValueError("ConsoleSize is a list of height and width")
    height, width = (0 if each is None else each for each in (*size, 0, 0)[:2])
    if not (is_int(height) and is_int(width) and 0 <= height < 2**64 and 0 <= width < 2**64):
        raise ValueError("ConsoleSize is two numbers of 64 bits")
    return height, width


def _has_console_size(api_version: str | None) -> bool:
    return api_version is None or version_numbers(api_version) >= (1, 42)


def _since(value: Time | None) -> str | None:
    return _seconds("since", value)


def _until(value: Time | None) -> str | None:
    return _seconds("until", value)


def _seconds(name: str, value: Time | None) -> str | None:
    if value is None:
        return None
    from attachproto._times import to_seconds  # late: it loads datetime

    return to_seconds(name, value)


def _received_time(text: str | None) -> str | None:
    """A time in a query; engines read seconds there, and none of the other forms that ``Logs`` takes."""
    if not text:
        return None
    from attachproto._times import is_seconds  # late: it loads datetime

    if not is_seconds(text):
        raise ValueError(f"a time in a query is seconds since the epoch, not {text!r}")
    return text


@attrs.frozen
class Logs(StreamRequest):
    """Read the logs of a container: ``GET /containers/{name}/logs`` (moby ``getContainersLogs``).

    This is not an upgrade: the answer is an ordinary body, and nothing can be sent.

    Attributes:
        container: name or ID.
        follow: also read what comes later, until the container has exited.
        stdout: read what it wrote to stdout.
        stderr: read what it wrote to stderr.
        since: from this time on. Seconds since the epoch as a number or a text with up to nine decimals, an aware
            ``datetime``, or RFC 3339 as ``timestamps`` prints it; kept as seconds. ``0`` is no bound.
        until: up to this time, in the same forms; API 1.35 and later.
        timestamps: put the time before each line.
        tail: at most this many of the last lines; ``None`` for all.
        details: put the attributes of the log driver before each line.

    Raises:
        ValueError: the container's name or a time is malformed; neither stream is asked for.
    """

    upgrade: ClassVar[str | None] = None

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
            raise ValueError("logs of neither stdout nor stderr: engines refuse that, ask for at least one")

    @property
    def wants_stdin(self) -> bool:
        """Whether anything may be sent to the container. It is false, because a half-close would end the stream."""
        return False

    def to_request(self) -> Request:
        """This request as HTTP."""
        times = tuple((name, value) for name in ("since", "until") if (value := getattr(self, name)) is not None)
        return Request(
            "GET",
            ("containers", self.container, "logs"),
            (
                *encode_flags(self, ("details", "follow", "stderr", "stdout", "timestamps")),
                ("tail", "all" if self.tail is None else str(self.tail)),
                *times,
            ),
            headers=self.headers,
            api_version=self.api_version,
        )

    @classmethod
    def from_request(cls, request: Request) -> Self | None:
        """Read a request for this endpoint; ``None`` if it is for another one."""
        match request.method, request.path:
            case "GET", ("containers", container, "logs"):
                query = first_values(request)
                # For dockerd a tail that is not a number means all lines.
                tail = query.get("tail", "")
                return cls(
                    container,
                    follow=flag(query, "follow"),
                    stdout=flag(query, "stdout"),
                    stderr=flag(query, "stderr"),
                    timestamps=flag(query, "timestamps"),
                    details=flag(query, "details"),
                    since=_received_time(query.get("since")),
                    until=_received_time(query.get("until")),
                    tail=int(tail) if tail.isascii() and tail.isdigit() else None,
                    api_version=request.api_version,
                )
        return None


STREAM_REQUESTS: Final[tuple[type[StreamRequest], ...]] = (Attach, ExecStart, Logs)


def recognise(request: Request) -> Request | StreamRequest:
    """The received request as a stream request; unchanged if it is not a valid one."""
    for kind in STREAM_REQUESTS:
        try:
            found = kind.from_request(request)
        except (ValueError, TypeError, RecursionError):
            return request
        if found is not None:
            # Without the validator: a server may look at header fields that we would not write.
            object.__setattr__(found, "headers", request.headers)
            return found
    return request
