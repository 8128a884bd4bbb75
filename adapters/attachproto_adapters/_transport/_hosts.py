"""Finds the engine's address, as the docker CLI does.

Strategy: the environment is an argument. Files are read only for what the address leaves open: which context is
chosen, which TLS files there are, and, if nothing names an engine, which engine's socket exists.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

import attrs

from attachproto._request_writer import common_headers
from attachproto_adapters._errors import EngineUnreachable, HostInvalid
from attachproto_adapters._flows._arguments import check_text
from attachproto_adapters._transport._contexts import Context, config_dir, config_headers, find_context
from attachproto_adapters._transport._schemes import Host, TcpHost, TlsFiles, UnixHost, parse_host

if TYPE_CHECKING:
    import ssl

_DOCKER_SOCKET = "/var/run/docker.sock"
_PODMAN_SOCKET = "/run/podman/podman.sock"

# The docker CLI's port for an engine with TLS.
_TLS_PORT: Final = 2376


def resolve_host(
    host: str | None,
    environ: Mapping[str, str],
    tls: ssl.SSLContext | None = None,
    headers: Iterable[tuple[str, str]] = (),
) -> Host:
    """Read the given address, or find the engine that the environment names.

    The order is the docker CLI's: ``DOCKER_HOST``, ``DOCKER_CONTEXT``, the current context of docker's configuration,
    Docker's own socket. If we cannot connect to that socket, these follow, which the docker CLI does not try: rootless
    Docker's socket, ``CONTAINER_HOST`` of Podman, and, without that variable, the sockets of rootless Podman and of
    Podman.

    A TLS context wins over what the environment or a docker context says of TLS, and no TLS file is looked for. The
    header fields win over the ``HttpHeaders`` of docker's configuration, which go to every engine, whoever names it
    (docker/cli cli/command/cli.go, ``newAPIClientFromEndpoint``).

    Raises:
        TypeError: the address is not a string; the TLS context is not one; a header field is not a pair of str.
        ValueError: the TLS context is for servers; a header field is not valid.
        HostInvalid: the address is not valid, or its scheme, its context or a TLS file that it needs does not exist; or
            a TLS context was given for an address without TCP; or ``HttpHeaders`` are not valid.
        EngineUnreachable: nothing names an engine, and no engine's socket is in one of the usual places.
    """
    given = common_headers(headers)
    if tls is not None:
        _check_client_context(tls)
    found = _find(host, environ, tls)
    names = {name for name, _ in given}
    configured = [each for each in config_headers(environ) if each[0] not in names]
    return attrs.evolve(found, headers=(*configured, *given))


def _find(host: str | None, environ: Mapping[str, str], tls: ssl.SSLContext | None) -> Host:
    if host is not None:
        check_text("host", host, "unix:///var/run/docker.sock")
        return _with_environment_tls(parse_host(host, "as given"), environ, tls)
    if host := environ.get("DOCKER_HOST", "").strip():
        return _with_environment_tls(parse_host(host, "from DOCKER_HOST"), environ, tls)
    if (context := find_context(environ)) is not None:
        return _with_context_tls(parse_host(context.address, context.origin), context, tls)
    if _asks_for_tls(environ):
        local = TcpHost("localhost", _TLS_PORT, "the default with TLS, as DOCKER_HOST is not set")
        return _with_environment_tls(local, environ, tls)
    return _with_given_tls(_default(environ), tls)


def resolve_api_version(api_version: str | None, environ: Mapping[str, str]) -> str | None:
    """The API version for the path: the argument, else ``DOCKER_API_VERSION`` (with or without ``v``), else none."""
    if api_version is None:
        return environ.get("DOCKER_API_VERSION", "").removeprefix("v") or None
    return api_version


def _check_client_context(tls: object) -> None:
    # Imported here, because it takes a tenth of the time of all our imports; the caller has imported it.
    import ssl

    if not isinstance(tls, ssl.SSLContext):
        raise TypeError(f"tls is an ssl.SSLContext, not {tls!r}")
    if tls.protocol == ssl.PROTOCOL_TLS_SERVER:
        raise ValueError("tls is for servers: make it with ssl.create_default_context() or ssl.PROTOCOL_TLS_CLIENT")


def _asks_for_tls(environ: Mapping[str, str]) -> bool:
    # The docker CLI takes any value for true, even 0.
    return bool(environ.get("DOCKER_TLS_VERIFY") or environ.get("DOCKER_TLS"))


def _with_given_tls(host: Host, tls: ssl.SSLContext | None) -> Host:
    if tls is None:
        return host
    if not isinstance(host, TcpHost):
        raise HostInvalid(f"{host} takes no tls=, which is for tcp:// addresses")
    return attrs.evolve(host, tls=tls)


def _with_environment_tls(host: Host, environ: Mapping[str, str], tls: ssl.SSLContext | None) -> Host:
    if tls is not None:
        return _with_given_tls(host, tls)
    if not isinstance(host, TcpHost) or not _asks_for_tls(environ):
        return host
    verify = bool(environ.get("DOCKER_TLS_VERIFY"))
    directory = environ.get("DOCKER_CERT_PATH") or config_dir(environ)
    files = _tls_files(directory, host, verify=verify)
    if verify and files.ca is None:
        missing = os.path.join(directory, "ca.pem")
        raise HostInvalid(
            f"{host} must be verified, as DOCKER_TLS_VERIFY is set, and there is no {missing}: "
            "set DOCKER_CERT_PATH to the directory that has it"
        )
    return attrs.evolve(host, tls=files)


def _with_context_tls(host: Host, context: Context, tls: ssl.SSLContext | None) -> Host:
    if tls is not None:
        return _with_given_tls(host, tls)
    if not isinstance(host, TcpHost):
        return host
    files = _tls_files(context.tls_directory, host, verify=context.verify)
    # A context asks for TLS by having TLS files, or by SkipTLSVerify.
    return host if files == TlsFiles(None, None, None, verify=True) else attrs.evolve(host, tls=files)


def _tls_files(directory: str, host: TcpHost, *, verify: bool) -> TlsFiles:
    def path_of(name: str) -> str | None:
        path = os.path.join(directory, name)
        try:
            os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as exc:
            # An unreadable file is not treated as absent: without the file we might connect without TLS.
            raise HostInvalid(
                f"{host}: {path} cannot be read: {exc.strerror}; TLS may need it: make it readable"
            ) from exc
        return path

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
        # The user named it, so it is not checked here: connecting shows whether it can be reached.
        return parse_host(podman, "from CONTAINER_HOST, as DOCKER_HOST is not set")
    raise EngineUnreachable(
        f"no engine was found; tried {', '.join(tried)}", "say where it is with DOCKER_HOST or host="
    )


def _obstacle(path: str) -> str | None:
    """Why we could not connect to this socket, as far as the file system shows; ``None`` if we could."""
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return "absent"
    except OSError as exc:
        return "no permission" if isinstance(exc, PermissionError) else exc.strerror
    if not stat.S_ISSOCK(mode):
        return "not a socket"
    return None if os.access(path, os.W_OK) else "no permission"
