"""What a client can ask, and how it looks as an HTTP request: value to target and back.

Strategy: ``Request`` knows HTTP and nothing of Docker: segments and pairs are encoded one by one, so that no value
of the user's can leave its place. A stream request is a small class that turns itself into a ``Request`` and can be
read from one; the rest of the package only asks it what ``StreamRequest`` lists. A new one is a class here and its
name in ``STREAM_REQUESTS``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import ClassVar, Final, Self
from urllib.parse import parse_qsl, quote, unquote

import attrs
from attrs.validators import deep_iterable, instance_of, matches_re, optional

from attachproto._detach_keys import parse_detach_keys
from attachproto._headers import Headers, check_headers, lower_names

# moby daemon/names and Podman agree on this, and IDs are a subset. Stricter than HTTP asks for, on purpose: Go's
# own client joins "../x" into another endpoint.
_CONTAINER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_VERSION: Final = r"[0-9]+(\.[0-9]+)*"
_METHOD: Final = r"[A-Z]+"

# What an absolute target has before its path. Go's servers take such a target, and so do we.
_AUTHORITY: Final = re.compile(r"\A[A-Za-z][A-Za-z0-9+.-]*://[^/?]*")

# Moby's BoolValue (daemon/server/httputils/form.go): these are false, anything else is true.
_FALSE: Final = frozenset({"", "0", "no", "false", "none"})


def _headers_valid(instance: object, attribute: attrs.Attribute[Headers], value: Headers) -> None:
    check_headers(value)


def _container_valid(instance: object, attribute: attrs.Attribute[str], value: str) -> None:
    if not _CONTAINER.fullmatch(value):
        raise ValueError(
            f"{value!r} is no container's name or ID: engines allow a letter or digit, "
            "then letters, digits, '_', '.' and '-'"
        )


def _detach_keys_valid(instance: object, attribute: attrs.Attribute[str], value: str) -> None:
    parse_detach_keys(value)


def _segments(value: Iterable[str]) -> tuple[str, ...]:
    if isinstance(value, str):
        raise TypeError(f"a path is its segments, such as ('containers', 'web', 'json'), not the string {value!r}")
    return tuple(value)


def _pairs(value: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    return tuple(value)


def _segments_valid(instance: object, attribute: attrs.Attribute[tuple[str, ...]], value: tuple[str, ...]) -> None:
    for segment in value:
        # Encoding does not help here: engines clean "%2E%2E" out of a path as they do "..".
        if segment in ("", ".", ".."):
            raise ValueError(f"{segment!r} cannot be a segment of a path: {value!r}")


@attrs.frozen
class Request:
    """A plain call of the Engine API: inspect, wait, start, resize, ping, create and the like.

    Attributes:
        method: ``GET``, ``POST``, …
        path: the path as segments without the version, such as ``("containers", "web", "json")``.
        query: pairs of names and values, sent in this order.
        body: sent with its ``Content-Length``; its ``content-type`` is yours to give.
        headers: more header fields. Those that shape the connection are the connection's to write.
        api_version: such as ``"1.41"``; ``None`` leaves it out of the path, and the engine takes its own.
        target: what goes, or came, on the wire.

    Raises:
        ValueError: a segment is empty, ``.`` or ``..``; the version is none; a header cannot be written.
    """

    method: str = attrs.field(validator=matches_re(_METHOD))
    path: tuple[str, ...] = attrs.field(
        converter=_segments, validator=[deep_iterable(instance_of(str)), _segments_valid]
    )
    query: tuple[tuple[str, str], ...] = attrs.field(default=(), converter=_pairs)
    body: bytes = attrs.field(default=b"", validator=instance_of(bytes))
    headers: Headers = attrs.field(default=(), converter=lower_names, validator=_headers_valid)
    api_version: str | None = attrs.field(default=None, validator=optional(matches_re(_VERSION)))
    target: str = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        version = () if self.api_version is None else (f"v{self.api_version}",)
        target = "/" + "/".join(quote(segment, safe="") for segment in version + self.path)
        if self.query:
            target += "?" + "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in self.query)
        object.__setattr__(self, "target", target)

    @classmethod
    def received(cls, method: str, target: str, headers: Headers, body: bytes) -> Self:
        """A request as it came: whatever its target is, it is kept, and its path is not judged."""
        path, _, query = _AUTHORITY.sub("", target).partition("?")
        segments = [unquote(segment) for segment in path.removeprefix("/").split("/")]
        version = re.fullmatch(f"v({_VERSION})", segments[0])
        pairs = tuple(parse_qsl(query, keep_blank_values=True))
        request = cls("GET", (), pairs, body, (), version[1] if version else None)
        # The validators are for what users write; a server must be able to look at anything and answer 404.
        object.__setattr__(request, "method", method)
        object.__setattr__(request, "path", tuple(segments[1:] if version else segments))
        object.__setattr__(request, "headers", headers)
        object.__setattr__(request, "target", target)
        return request


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

    stream: bool = attrs.field(default=True, validator=instance_of(bool))
    stdin: bool = attrs.field(default=False, validator=instance_of(bool))
    stdout: bool = attrs.field(default=True, validator=instance_of(bool))
    stderr: bool = attrs.field(default=True, validator=instance_of(bool))
    logs: bool = attrs.field(default=False, validator=instance_of(bool))
    detach_keys: str | None = attrs.field(default=None, validator=optional([instance_of(str), _detach_keys_valid]))

    def to_query(self) -> tuple[tuple[str, str], ...]:
        """Every flag is said: Podman takes what is absent for true. Sorted, as Go's client sorts."""
        flags = ("logs", "stderr", "stdin", "stdout", "stream")
        keys = () if self.detach_keys is None else (("detachKeys", self.detach_keys),)
        return keys + tuple((flag, "1" if getattr(self, flag) else "0") for flag in flags)

    @classmethod
    def from_query(cls, query: Mapping[str, str]) -> Self:
        """Read as dockerd reads: what is absent is false, and empty detach keys are no detach keys."""
        flags = {
            flag: query.get(flag, "").strip().lower() not in _FALSE
            for flag in ("stream", "stdin", "stdout", "stderr", "logs")
        }
        return cls(**flags, detach_keys=query.get("detachKeys") or None)


@attrs.frozen
class StreamRequest:
    """What the requests that open a stream have in common. Not to be built by itself.

    Attributes:
        tty: whether the container has a TTY, if the caller knows. It does not travel: a server sees ``None``.
        api_version: as for ``Request``.
        headers: as for ``Request``; not part of what makes two requests equal, because a server sees more of them.
    """

    tty: bool | None = attrs.field(default=None, kw_only=True, validator=optional(instance_of(bool)))
    api_version: str | None = attrs.field(default=None, kw_only=True, validator=optional(matches_re(_VERSION)))
    headers: Headers = attrs.field(default=(), kw_only=True, eq=False, converter=lower_names, validator=_headers_valid)

    upgrades: ClassVar[bool] = True
    """Whether the connection is asked to be upgraded; then a ``200`` must be a stream of the engine's."""

    @property
    def wants_stdin(self) -> bool:
        """Whether anything may be sent to the container."""
        raise NotImplementedError

    def to_request(self) -> Request:
        """The same as an HTTP request, without the header fields of the upgrade."""
        raise NotImplementedError

    @classmethod
    def from_request(cls, request: Request) -> Self | None:
        """Read it from a request that is for this endpoint; ``None`` if it is for another.

        Raises:
            ValueError: it is for this endpoint, and not valid.
        """
        raise NotImplementedError


@attrs.frozen
class Attach(StreamRequest):
    """Attach to a container: ``POST /containers/{name}/attach`` (moby ``postContainersAttach``; all API versions).

    Attributes:
        container: name or ID.
        options: which streams, and how.

    Raises:
        ValueError: the container's name is none that engines allow.
    """

    container: str = attrs.field(validator=[instance_of(str), _container_valid])
    options: AttachOptions = attrs.field(factory=AttachOptions, validator=instance_of(AttachOptions))

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
                # Reversed, so that the first of a repeated key stands: so does dockerd (Podman takes the last).
                query = dict(reversed(request.query))
                return cls(
                    container,
                    AttachOptions.from_query(query),
                    api_version=request.api_version,
                    headers=request.headers,
                )
        return None


STREAM_REQUESTS: Final[tuple[type[StreamRequest], ...]] = (Attach,)


def recognise(request: Request) -> Request | StreamRequest:
    """The stream request that a received request is; itself, if it is none or not a valid one."""
    for kind in STREAM_REQUESTS:
        try:
            found = kind.from_request(request)
        except ValueError:
            return request
        if found is not None:
            return found
    return request
