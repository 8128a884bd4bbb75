"""The base of the requests that open a stream.

Strategy: the rest of the package only uses what ``StreamRequest`` has, so a new request is one new class.
"""

from __future__ import annotations

import abc
from typing import ClassVar, Self

import attrs
from attrs.validators import optional

from attachproto._headers import Headers, lower_names
from attachproto._requests import Request
from attachproto._validators import are_headers, is_version, of_type


@attrs.frozen
class StreamRequest(abc.ABC):
    """What the requests that open a stream have in common.

    Attributes:
        tty: whether the container has a TTY; ``None`` if the caller does not know. For attach and logs it is not sent:
            a server sees ``None``.
        api_version: as for ``Request``.
        headers: as for ``Request``. They do not count when two requests are compared, because a server also
            sees those that the connection has added.
    """

    tty: bool | None = attrs.field(default=None, kw_only=True, validator=optional(of_type(bool)))
    api_version: str | None = attrs.field(default=None, kw_only=True, validator=optional(is_version))
    headers: Headers = attrs.field(default=(), kw_only=True, eq=False, converter=lower_names, validator=are_headers)

    upgrade: ClassVar[str | None] = "tcp"
    """The protocol that the request asks to upgrade to; ``None`` if it asks for no upgrade.

    If it asks for one, a ``200`` must have the media type of a stream.
    """

    stdin_is_in_request: ClassVar[bool] = True
    """Whether a server can see in the request that the client wants stdin."""

    @property
    @abc.abstractmethod
    def wants_stdin(self) -> bool:
        """Whether anything may be sent to the container."""

    @abc.abstractmethod
    def to_request(self) -> Request:
        """This request as HTTP, without the header fields of the upgrade."""

    @classmethod
    @abc.abstractmethod
    def from_request(cls, request: Request) -> Self | None:
        """Read a request for this endpoint; ``None`` if it is for another one.

        Raises:
            ValueError: the request is for this endpoint, and not valid.
        """
