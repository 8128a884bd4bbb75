"""Where the engine is: addresses as the docker CLI writes and finds them. The environment is an argument.

Strategy: an address is understood without a look at anything. Files are looked at only for what the address leaves
open: which context is chosen, which TLS files there are, and, where nothing is named, which engine's socket is there.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote

import attrs

from attachproto_adapters._errors import EngineUnreachable, HostInvalid
from attachproto_adapters._transport._contexts import Context, config_dir, find_context

_DOCKER_SOCKET = "/var/run/docker.sock"
_PODMAN_SOCKET = "/run/podman/podman.sock"

# What the docker CLI takes when a tcp:// address has no port, with TLS or without, and when it has only TLS to go by.
_TCP_PORT: Final = 2375
_TLS_PORT: Final = 2376

_FORMS: Final = {"tcp": "tcp://NAME[:PORT]", "ssh": "ssh://[USER@]NAME[:PORT][/PATH OF THE SOCKET THERE]"}
_AUTHORITY: Final = re.compile(
    r"(?:(?P<user>[^\s:/]*)@)?(?:\[(?P<ip>[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*(?:%[\w.~%-]+)?)\]|(?P<name>\w[\w.+~-]*)?)(?::(?P<port>[0-9]{0,5}))?",
    re.ASCII,
)

# OpenSSH refuses them as well, since 9.6: a ProxyCommand puts the user into a shell's command.
_SHELL: Final = frozenset("'`\";&<>|(){}")


@attrs.frozen
class TlsFiles:
    """Where TLS finds what it needs; nothing here has been read.

    Attributes:
        ca: whose certificates are trusted; ``None`` for those that the system trusts.
        cert: our certificate, if we have one; then there is a ``key``, too.
        key: the key to it.
        verify: whether the engine's certificate is checked, and its name.
    """

    ca: str | None
    cert: str | None
    key: str | None
    verify: bool


@attrs.frozen
class UnixHost:
    """An engine behind a Unix socket. ``origin`` says for an error where the address came from."""

    path: str
    origin: str

    @property
    def header(self) -> str:
        """The value of the ``Host`` header; engines take any that is valid."""
        return "localhost"

    def __str__(self) -> str:
        return f"unix://{self.path} ({self.origin})"


@attrs.frozen
class TcpHost:
    """An engine behind TCP, with TLS if there is ``tls``."""

    name: str
    port: int
    origin: str
    tls: TlsFiles | None = None

    @property
    def header(self) -> str:
        """The value of the ``Host`` header."""
        return f"{_bracketed(self.name)}:{self.port}"

    def __str__(self) -> str:
        return f"tcp://{self.header} ({self.origin})"


@attrs.frozen
class SshHost:
    """An engine that the ``docker`` command on another machine connects to; ``path`` is its socket there."""

    name: str
    origin: str
    user: str | None = None
    port: int | None = None
    path: str | None = None

    @property
    def header(self) -> str:
        """The value of the ``Host`` header; engines take any that is valid."""
        return "localhost"

    def __str__(self) -> str:
        user = "" if self.user is None else f"{quote(self.user)}@"
        port = "" if self.port is None else f":{self.port}"
        return f"ssh://{user}{_bracketed(self.name)}{port}{quote(self.path or '')} ({self.origin})"


Host = UnixHost | TcpHost | SshHost


def resolve_host(host: str | None, environ: Mapping[str, str]) -> Host:
    """Understand an address, or find the engine that the environment names.

    As the docker CLI does: ``DOCKER_HOST``, ``DOCKER_CONTEXT``, the context that docker's configuration has chosen,
    Docker's own socket. Further than it, where nobody may be called there: rootless Docker's socket, ``CONTAINER_HOST``
    of Podman, and without that the sockets of rootless Podman and of Podman.

    Raises:
        HostInvalid: the address is none, or needs what is not there: a transport, a context, a TLS file.
        EngineUnreachable: nothing names an engine, and none has its socket in the usual places.
    """
    if host is not None:
        return _with_environment_tls(_parsed(host, "as given"), environ)
    if host := environ.get("DOCKER_HOST", "").strip():
        return _with_environment_tls(_parsed(host, "from DOCKER_HOST"), environ)
    if (context := find_context(environ)) is not None:
        return _with_context_tls(_parsed(context.address, context.origin), context)
    if _asks_for_tls(environ):
        local = TcpHost("localhost", _TLS_PORT, "the default with TLS, as DOCKER_HOST is not set")
        return _with_environment_tls(local, environ)
    return _default(environ)


def resolve_api_version(api_version: str | None, environ: Mapping[str, str]) -> str | None:
    """The version for the path: the argument, or ``DOCKER_API_VERSION`` (whose ``v`` is optional), or none."""
    if api_version is None:
        return environ.get("DOCKER_API_VERSION", "").removeprefix("v") or None
    return api_version


def _parsed(address: str, origin: str) -> Host:
    shown = f"{_without_password(address)!r} ({origin})"
    scheme, separator, rest = address.partition("://")
    if not separator and re.fullmatch(r".*:[0-9]+", address):
        # The docker CLI takes a word alone for tcp, too; it is sooner a slip.
        scheme, separator, rest = "tcp", "://", address
    if not separator:
        raise HostInvalid(f"{shown} is no address of an engine: it begins with unix:// or tcp:// or ssh://")
    if scheme == "unix":
        if not rest or "\0" in rest:
            raise HostInvalid(f"{shown} names no socket: write unix:///PATH")
        return UnixHost(rest, origin)
    if scheme not in _FORMS:
        raise HostInvalid(
            f"{shown}: {scheme}:// is no transport that this version speaks, which are unix://, tcp:// and ssh://; "
            "or connect a socket yourself and use open_attachment()"
        )
    form = f"write {_FORMS[scheme]}"
    authority, slash, path = rest.partition("/")
    if ":" in authority.rpartition("@")[0]:
        raise HostInvalid(f"{shown} has a password in it, which is not the place for one: {form}")
    if not (match := _AUTHORITY.fullmatch(authority)):
        raise HostInvalid(f"{shown} is no address of an engine: {form}")
    # In a URL the % of an IPv6 zone is %25; alone it is taken as it is.
    name = match["name"] or re.sub("%25(?=.)", "%", match["ip"] or "", count=1)
    if not name:
        raise HostInvalid(f"{shown} names no host: {form}")
    port = int(match["port"]) if match["port"] else None
    if port is not None and not 0 < port < 65536:
        raise HostInvalid(f"{shown} is no address of an engine: a port is a number from 1 to 65535")
    if scheme == "tcp":
        if match["user"] is not None or path.strip("/"):
            raise HostInvalid(f"{shown}: an engine's address is a name and a port, and nothing more: {form}")
        return TcpHost(name, port or _TCP_PORT, origin)
    user, path = unquote(match["user"] or "", errors="surrogateescape"), unquote(path, errors="surrogateescape")
    if user.startswith("-") or " " in user or not user.isprintable() or _SHELL.intersection(user):
        raise HostInvalid(f"{shown} has no user that ssh takes: {form}")
    if {"?", "#"}.intersection(rest) or not path.isprintable():
        raise HostInvalid(f"{shown} is no address of an engine: no query, no fragment, nothing unprintable: {form}")
    return SshHost(name, origin, user or None, port, slash + path or None)


def _bracketed(name: str) -> str:
    return f"[{name}]" if ":" in name else name


def _without_password(address: str) -> str:
    # A password may itself have any of these signs, so that what is hidden ends at the last @.
    return re.sub(r"(?s)^((?>(?:\w+://)?)[^:@]*):.*@", r"\1:***@", address)


def _asks_for_tls(environ: Mapping[str, str]) -> bool:
    # Any value, even 0, is a yes to the docker CLI.
    return bool(environ.get("DOCKER_TLS_VERIFY") or environ.get("DOCKER_TLS"))


def _with_environment_tls(host: Host, environ: Mapping[str, str]) -> Host:
    if not isinstance(host, TcpHost) or not _asks_for_tls(environ):
        return host
    verify = bool(environ.get("DOCKER_TLS_VERIFY"))
    directory = Path(environ.get("DOCKER_CERT_PATH") or config_dir(environ))
    files = _tls_files(directory, host, verify=verify)
    if verify and files.ca is None:
        raise HostInvalid(
            f"{host} is to be verified, as DOCKER_TLS_VERIFY is set, and there is no {directory / 'ca.pem'}: "
            "set DOCKER_CERT_PATH to the directory that has it"
        )
    return attrs.evolve(host, tls=files)


def _with_context_tls(host: Host, context: Context) -> Host:
    if not isinstance(host, TcpHost):
        return host
    files = _tls_files(context.tls_directory, host, verify=context.verify)
    # What a context says of TLS is its files, or that nothing is to be verified.
    return host if files == TlsFiles(None, None, None, verify=True) else attrs.evolve(host, tls=files)


def _tls_files(directory: Path, host: TcpHost, *, verify: bool) -> TlsFiles:
    def path_of(name: str) -> str | None:
        try:
            os.stat(directory / name)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as exc:
            # Not the same as absent: that might mean to go on without TLS.
            raise HostInvalid(
                f"{host}: {directory / name} cannot be read: {exc.strerror}; TLS may need it: make it readable"
            ) from exc
        return str(directory / name)

    files = TlsFiles(path_of("ca.pem"), path_of("cert.pem"), path_of("key.pem"), verify)
    if (files.cert is None) != (files.key is None):
        there, missing = ("cert.pem", "key.pem") if files.cert else ("key.pem", "cert.pem")
        raise HostInvalid(f"{host}: {directory} has {there} and no {missing}; TLS takes both, or neither")
    return files


def _default(environ: Mapping[str, str]) -> Host:
    sockets = {"Docker": _DOCKER_SOCKET}
    runtime = environ.get("XDG_RUNTIME_DIR")
    if runtime:
        sockets["rootless Docker"] = f"{runtime}/docker.sock"
    podman = environ.get("CONTAINER_HOST", "").strip()
    if not podman:
        if runtime:
            sockets["rootless Podman"] = f"{runtime}/podman/podman.sock"
        sockets["Podman"] = _PODMAN_SOCKET
    tried = []
    for engine, path in sockets.items():
        if not (obstacle := _obstacle(path)):
            return UnixHost(path, f"{engine}'s own socket, as DOCKER_HOST is not set")
        tried.append(f"unix://{path} ({engine}: {obstacle})")
    if podman:
        # Somebody's word, not a guess: whether it can be reached, the connection will tell.
        return _parsed(podman, "from CONTAINER_HOST, as DOCKER_HOST is not set")
    raise EngineUnreachable(f"no engine was found; tried {', '.join(tried)}: say where it is by DOCKER_HOST or host=")


def _obstacle(path: str) -> str | None:
    """Why nobody can be called at this socket, as far as the file system tells."""
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return "absent"
    except OSError as exc:
        return "no permission" if isinstance(exc, PermissionError) else exc.strerror
    if not stat.S_ISSOCK(mode):
        return "not a socket"
    return None if os.access(path, os.W_OK) else "no permission"
