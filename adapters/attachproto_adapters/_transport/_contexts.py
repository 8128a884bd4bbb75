"""Docker's configuration: the chosen context with its files, and the header fields of every request."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from attachproto._headers import CONNECTION_HEADERS, Headers
from attachproto._request_writer import common_headers
from attachproto_adapters._errors import HostInvalid, warn

_NAME: Final = r"[a-zA-Z0-9][a-zA-Z0-9_.+-]+"

# The docker CLI's name for "no context": DOCKER_HOST and the defaults decide.
_DEFAULT: Final = "default"

_REMEDY: Final = "choose a context with `docker context use`, or set DOCKER_HOST"


class Context(NamedTuple):
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
    tls_directory: str


def config_dir(environ: Mapping[str, str]) -> str:
    """Where the docker CLI keeps its files."""
    if directory := environ.get("DOCKER_CONFIG"):
        return directory
    return os.path.join(environ.get("HOME") or os.path.expanduser("~"), ".docker")


def find_context(environ: Mapping[str, str]) -> Context | None:
    """The context that ``DOCKER_CONTEXT`` or else docker's ``config.json`` chooses, if any.

    Raises:
        HostInvalid: a file cannot be read or is not JSON, the context does not exist, or it names no engine.
    """
    directory = config_dir(environ)
    name: object = environ.get("DOCKER_CONTEXT")
    source = "DOCKER_CONTEXT"
    if not name:
        config = os.path.join(directory, "config.json")
        name = (_read(config, "docker's configuration") or {}).get("currentContext")
        source = f"currentContext of {config}"
    if not name or name == _DEFAULT:
        return None
    what = f"the docker context {repr(name)[:200]} ({source})"
    if not isinstance(name, str) or not re.fullmatch(_NAME, name):
        raise HostInvalid(f"{what} has no valid name: {_REMEDY}")
    import hashlib  # imported here, because it loads OpenSSL

    folder = hashlib.sha256(name.encode()).hexdigest()
    file = os.path.join(directory, "contexts", "meta", folder, "meta.json")
    match _read(file, what):
        case None:
            raise HostInvalid(f"{what} does not exist: there is no {file}; {_REMEDY}")
        case {"Endpoints": {"docker": {"Host": str(address)} as endpoint}} if address:
            return Context(
                address,
                f"from {what}",
                endpoint.get("SkipTLSVerify") is not True,
                os.path.join(directory, "contexts", "tls", folder, "docker"),
            )
        case _:
            raise HostInvalid(f"{what} has no docker endpoint with a Host in {file}; {_REMEDY}")


def config_headers(environ: Mapping[str, str]) -> Headers:
    """The ``HttpHeaders`` of docker's ``config.json``, which go with every request. They may be secret.

    ``User-Agent`` is left out, because the docker CLI sends its own, too. As with the docker CLI, a file that cannot be
    read is a warning and nothing more, unless a context has to be looked up in it.

    Raises:
        HostInvalid: they are not valid.
    """
    config = os.path.join(config_dir(environ), "config.json")
    try:
        found = (_read(config, "docker's configuration") or {}).get("HttpHeaders")
    except HostInvalid as exc:
        warn(f"no HttpHeaders are sent, because {exc}")
        return ()
    match found:
        case None:
            return ()
        case dict():
            try:
                headers = common_headers(found.items())
            except (TypeError, ValueError):  # its text may quote a secret
                headers = None
        case _:
            headers = None
    if headers is None:
        raise HostInvalid(
            f"the HttpHeaders of {config} are not valid: mend them; they are an object of header names and values, and "
            f"none of them is one that decides what the connection is used for ({', '.join(CONNECTION_HEADERS)})"
        )
    return tuple(each for each in headers if each[0] != "user-agent")


def _read(file: str, what: str) -> dict[str, object] | None:
    """The JSON object in a file, or ``None`` without such a file."""
    try:
        with open(file, "rb") as opened:
            data = opened.read()
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
