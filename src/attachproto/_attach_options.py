"""The options of attach, and flags in a query.

Strategy: flags are written so that every engine reads the same, and are read as dockerd reads them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Self

import attrs
from attrs.validators import optional

from attachproto._requests import Request
from attachproto._validators import are_detach_keys, of_type

# moby's BoolValue (daemon/server/httputils/form.go): these are false, every other value is true.
_FALSE: Final = frozenset({"", "0", "no", "false", "none"})


def flag(query: Mapping[str, str], name: str) -> bool:
    """A flag of a query, read as dockerd reads it: an absent flag is false."""
    return query.get(name, "").strip().lower() not in _FALSE


def encode_flags(instance: object, names: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """Every flag is written, also those that are false: for Podman an absent flag is true."""
    return tuple((name, "1" if getattr(instance, name) else "0") for name in names)


def first_values(request: Request) -> dict[str, str]:
    """The query. Of a repeated key the first value counts, as for dockerd (Podman takes the last)."""
    return dict(reversed(request.query))


@attrs.frozen(kw_only=True)
class AttachOptions:
    """The six options of attach, as the Engine API has them.

    Attributes:
        stream: follow the output, and take stdin, from now on.
        stdin: attach to the container's stdin. It needs a container created with ``OpenStdin``.
        stdout: attach to its stdout.
        stderr: attach to its stderr. (Podman delivers stdout and stderr, whatever the request says.)
        logs: first replay what was logged so far.
        detach_keys: the keys that detach from a TTY, such as ``"ctrl-p,ctrl-q"`` (which is the default).

    Raises:
        ValueError: a detach key is unknown.
        TypeError: a flag is not a ``bool``.
    """

    stream: bool = attrs.field(default=True, validator=of_type(bool))
    stdin: bool = attrs.field(default=False, validator=of_type(bool))
    stdout: bool = attrs.field(default=True, validator=of_type(bool))
    stderr: bool = attrs.field(default=True, validator=of_type(bool))
    logs: bool = attrs.field(default=False, validator=of_type(bool))
    detach_keys: str | None = attrs.field(default=None, validator=optional([of_type(str), are_detach_keys]))

    def to_query(self) -> tuple[tuple[str, str], ...]:
        """All options as a query, sorted as Go's client sorts them."""
        keys = () if self.detach_keys is None else (("detachKeys", self.detach_keys),)
        return keys + encode_flags(self, ("logs", "stderr", "stdin", "stdout", "stream"))

    @classmethod
    def from_query(cls, query: Mapping[str, str]) -> Self:
        """Read a query as dockerd reads it: an absent flag is false, and empty detach keys are the default ones."""
        flags = {name: flag(query, name) for name in ("stream", "stdin", "stdout", "stderr", "logs")}
        return cls(**flags, detach_keys=query.get("detachKeys") or None)
