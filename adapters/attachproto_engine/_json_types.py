"""Which type each JSON value of a create, an exec and its start has, as dockerd's structs in Go have them.

Go refuses a value of another type, and takes ``null`` for each. What a field holds that is not named here is not looked
at. The types are those of moby's ``api/types/container``: ``Config``, ``HostConfig``, ``ExecOptions`` and
``ExecStartOptions``. dockerd 20.10 answers 500 for a container and 400 for an exec; 26.1 and 28.5 answer 400 for both,
as this engine does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import attrs

from attachproto._validators import is_int
from attachproto_engine._errors import ApiError

_INT_MAX: Final = 2**63 - 1
_UINT_MAX: Final = 2**64 - 1


@attrs.frozen
class Struct:
    """An object. ``fields`` has the types of those values that are looked at: Go's names, or another ``Struct``."""

    name: str
    fields: Mapping[str, str | Struct]


_LOG_CONFIG: Final = Struct("container.LogConfig", {"Type": "string", "Config": "map[string]string"})

_HOST_CONFIG: Final = Struct(
    "container.HostConfig",
    {
        "AutoRemove": "bool",
        "Binds": "[]string",
        "CapAdd": "strslice.StrSlice",
        "CapDrop": "strslice.StrSlice",
        "ConsoleSize": "[2]uint",
        "CpuShares": "int64",
        "Dns": "[]string",
        "ExtraHosts": "[]string",
        "Init": "bool",
        "IpcMode": "string",
        "LogConfig": _LOG_CONFIG,
        "Memory": "int64",
        "NanoCpus": "int64",
        "NetworkMode": "string",
        "PidMode": "string",
        "PidsLimit": "int64",
        "PortBindings": "map[string]any",
        "Privileged": "bool",
        "ReadonlyRootfs": "bool",
        "RestartPolicy": "map[string]any",
        "SecurityOpt": "[]string",
        "ShmSize": "int64",
        "Sysctls": "map[string]string",
        "Tmpfs": "map[string]string",
        "VolumesFrom": "[]string",
    },
)

CREATE: Final = Struct(
    "",
    {
        "AttachStderr": "bool",
        "AttachStdin": "bool",
        "AttachStdout": "bool",
        "Cmd": "strslice.StrSlice",
        "Domainname": "string",
        "Entrypoint": "strslice.StrSlice",
        "Env": "[]string",
        "ExposedPorts": "map[string]any",
        "HostConfig": _HOST_CONFIG,
        "Hostname": "string",
        "Image": "string",
        "Labels": "map[string]string",
        "OpenStdin": "bool",
        "StdinOnce": "bool",
        "StopSignal": "string",
        "StopTimeout": "int",
        "Tty": "bool",
        "User": "string",
        "Volumes": "map[string]any",
        "WorkingDir": "string",
    },
)
"""The body that creates a container."""

EXEC: Final = Struct(
    "ExecOptions",
    {
        "AttachStderr": "bool",
        "AttachStdin": "bool",
        "AttachStdout": "bool",
        "Cmd": "[]string",
        "ConsoleSize": "[2]uint",
        "DetachKeys": "string",
        "Env": "[]string",
        "Privileged": "bool",
        "Tty": "bool",
        "User": "string",
        "WorkingDir": "string",
    },
)
"""The body that creates an exec."""

EXEC_START: Final = Struct("ExecStartOptions", {"ConsoleSize": "[2]uint", "Detach": "bool", "Tty": "bool"})
"""The body that starts an exec."""


def check_types(given: Mapping[str, Any], struct: Struct) -> None:
    """Check the values of a body.

    Raises:
        ApiError: one has another type.
    """
    _check(given, struct, struct.name)


def _check(value: object, kind: str | Struct, place: str) -> None:
    if value is None:
        return
    if isinstance(kind, Struct):
        if not isinstance(value, Mapping):
            raise _refusal(value, kind.name, place)
        for name, of in kind.fields.items():
            _check(value.get(name), of, f"{place}.{name}")
    elif kind == "strslice.StrSlice":
        # One string stands for a list of one.
        _check([value] if isinstance(value, str) else value, "[]string", place)
    elif kind == "[2]uint":
        # As in Go: what is missing is 0, and what is too much is ignored.
        _check_each(_list(value, kind, place)[:2], "uint", place)
    elif kind.startswith("[]"):
        _check_each(_list(value, kind, place), kind.removeprefix("[]"), place)
    elif kind.startswith("map[string]"):
        if not isinstance(value, dict):
            raise _refusal(value, kind, place)
        for each in value.values():
            _check(each, kind.removeprefix("map[string]"), place)
    elif not _is_scalar(value, kind):
        raise _refusal(value, kind, place)


def _check_each(values: list[object], kind: str, place: str) -> None:
    """The elements of a list, which dockerd 28.5 names by their numbers."""
    for number, value in enumerate(values):
        if value is not None and not _is_scalar(value, kind):
            raise _refusal(value, kind, f"{place}.{number}", listed=True)


def _list(value: object, kind: str, place: str) -> list[object]:
    if not isinstance(value, list):
        raise _refusal(value, kind, place)
    return value


def _is_scalar(value: object, kind: str) -> bool:
    match kind:
        case "any":
            return True
        case "bool":
            return isinstance(value, bool)
        case "string":
            return isinstance(value, str)
        case _:
            lowest, highest = (0, _UINT_MAX) if kind == "uint" else (-_INT_MAX - 1, _INT_MAX)
            return is_int(value) and lowest <= value <= highest


def _refusal(value: object, kind: str, place: str, *, listed: bool = False) -> ApiError:
    match value:
        case bool():
            found = "bool"
        case str():
            found = "string"
        case list():
            found = "array"
        case dict():
            found = "object"
        case _:
            found = f"number {value}"[:40] if kind in ("int", "int64", "uint") else "number"
    into = place if listed else f"Go struct field {place}"
    return ApiError(400, f"invalid JSON: json: cannot unmarshal {found} into {into} of type {kind}")
