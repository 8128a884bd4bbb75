"""Docker contexts: finds the chosen one and reads its files."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import attrs

from attachproto_adapters._errors import HostInvalid

_NAME: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.+-]+")

# The docker CLI's name for "no context": DOCKER_HOST and the defaults decide.
_DEFAULT: Final = "default"

_REMEDY: Final = "choose a context with `docker context use`, or set DOCKER_HOST"


@attrs.frozen
class Context:
    """The engine that a context names.

    Attributes:
        address: in the form of ``DOCKER_HOST``.
        origin: where the address came from, for an error.
        verify: whether the engine's certificate is to be checked, if it speaks TLS.
        tls_directory: the directory of the TLS files; it may not exist.
    """

    address: str
    origin: str
    verify: bool
    tls_directory: Path


def config_dir(environ: Mapping[str, str]) -> Path:
    """Where the docker CLI keeps its files."""
    if directory := environ.get("DOCKER_CONFIG"):
        return Path(directory)
    return Path(environ.get("HOME") or os.path.expanduser("~"), ".docker")


def find_context(environ: Mapping[str, str]) -> Context | None:
    """The context that ``DOCKER_CONTEXT`` or else docker's ``config.json`` chooses, if any.

    Raises:
        HostInvalid: a file cannot be read or is not JSON, the context does not exist, or it names no engine.
    """
    directory = config_dir(environ)
    name: object = environ.get("DOCKER_CONTEXT")
    source = "DOCKER_CONTEXT"
    if not name:
        config = directory / "config.json"
        name = (_read(config, "docker's configuration") or {}).get("currentContext")
        source = f"currentContext of {config}"
    if not name or name == _DEFAULT:
        return None
    what = f"the docker context {repr(name)[:200]} ({source})"
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise HostInvalid(f"{what} has no valid name: {_REMEDY}")
    import hashlib  # imported here, because it loads OpenSSL

    folder = hashlib.sha256(name.encode()).hexdigest()
    file = directory / "contexts" / "meta" / folder / "meta.json"
    match _read(file, what):
        case None:
            raise HostInvalid(f"{what} does not exist: there is no {file}; {_REMEDY}")
        case {"Endpoints": {"docker": {"Host": str(address)} as endpoint}} if address:
            return Context(
                address,
                f"from {what}",
                endpoint.get("SkipTLSVerify") is not True,
                directory / "contexts" / "tls" / folder / "docker",
            )
        case _:
            raise HostInvalid(f"{what} has no docker endpoint with a Host in {file}; {_REMEDY}")


def _read(file: Path, what: str) -> dict[str, object] | None:
    """The JSON object in a file, or ``None`` without such a file."""
    try:
        data = file.read_bytes()
    except (FileNotFoundError, NotADirectoryError):  # a service's HOME may be /dev/null
        return None
    except OSError as exc:
        raise HostInvalid(f"{what} cannot be read: {file}: {exc.strerror}; mend that, or set DOCKER_HOST") from exc
    try:
        found = json.loads(data or b"{}")  # the docker CLI also treats an empty file as absent
    except (ValueError, RecursionError) as exc:  # RecursionError for 200,000 nested brackets
        raise HostInvalid(f"{what} is not JSON: {file}: {exc}; mend it, or set DOCKER_HOST") from None
    if not isinstance(found, dict):
        raise HostInvalid(f"{what} is no JSON object: {file}; mend it, or set DOCKER_HOST")
    return found
