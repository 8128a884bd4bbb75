"""The schemes of an engine's address, in one table.

``SCHEMES`` feeds parsing, errors and the command's help. A new scheme is a class here that is part of ``NonTcpHost``,
an entry in ``SCHEMES``, and a case in ``_open.py``: the type checker finds a missing case. Nothing here does I/O.
The file has more than 250 lines, so that all that is known of a scheme stands in one place.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Final, NamedTuple
from urllib.parse import quote, unquote

import attrs

from attachproto._headers import Headers
from attachproto._validators import check_segments
from attachproto_adapters._errors import HostInvalid

if TYPE_CHECKING:
    import ssl

# The docker CLI's default for a tcp:// address without a port, with TLS and without.
TCP_PORT: Final = 2375

_AUTHORITY: Final = (
    r"(?:(?P<user>[^\s:/]*)@)?"
    r"(?:\[(?P<ip>[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*(?:%[\w.~%-]+)?)\]|(?P<name>\w[\w.+~-]*)?)"
    r"(?::(?P<port>[0-9]{0,5}))?"
)

# OpenSSH refuses them too, since 9.6: a ProxyCommand puts the user into a shell's command.
_SHELL: Final = frozenset("'`\";&<>|(){}")


class TlsFiles(NamedTuple):
    """The files that TLS needs; none has been read yet.

    Attributes:
        ca: the certificates that are trusted; ``None`` for those that the system trusts.
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
    """An engine behind a Unix socket.

    Attributes:
        path: of the socket.
        origin: where the address came from, for errors.
        headers: more header fields of every request. They may be secret.
    """

    path: str
    origin: str
    headers: Headers = attrs.field(default=(), repr=False)
    base_path: ClassVar[tuple[str, ...]] = ()

    @property
    def header(self) -> str:
        """The value of the ``Host`` header; engines take any that is valid."""
        return "localhost"

    @property
    def hint(self) -> str:
        """What may be wrong with the address if the file does not exist; empty if nothing seems wrong."""
        if self.path.startswith(("/", "@", ".")):
            return ""
        return f"the path is relative to the current directory; did you mean unix:///{self.path}, with three slashes?"

    def __str__(self) -> str:
        return f"unix://{self.path} ({self.origin})"


@attrs.frozen
class TcpHost:
    """An engine behind TCP.

    Attributes:
        name: of the machine, or its IP address.
        port: the port there.
        origin, headers: as for ``UnixHost``.
        tls: for TLS, the files that it needs, or a context of the caller's.
        base_path: the segments of the path that stands before the version in every target, where a proxy serves the
            engine below one.
    """

    name: str
    port: int
    origin: str
    tls: TlsFiles | ssl.SSLContext | None = None
    base_path: tuple[str, ...] = ()
    headers: Headers = attrs.field(default=(), repr=False)

    @property
    def header(self) -> str:
        """The value of the ``Host`` header."""
        return f"{_bracketed(self.name)}:{self.port}"

    def __str__(self) -> str:
        path = "".join(f"/{quote(segment, safe='')}" for segment in self.base_path)
        return f"tcp://{_in_url(self.name)}:{self.port}{path} ({self.origin})"


@attrs.frozen
class SshHost:
    """An engine that the ``docker`` command on another machine connects to.

    Attributes:
        name, user, port: of the machine, as ssh takes them.
        path: of the engine's socket there; ``None`` for the one that ``docker`` finds.
        origin, headers: as for ``UnixHost``.
    """

    name: str
    origin: str
    user: str | None = None
    port: int | None = None
    path: str | None = None
    headers: Headers = attrs.field(default=(), repr=False)
    base_path: ClassVar[tuple[str, ...]] = ()

    @property
    def header(self) -> str:
        """The value of the ``Host`` header; engines take any that is valid."""
        return "localhost"

    def __str__(self) -> str:
        user = "" if self.user is None else f"{quote(self.user)}@"
        port = "" if self.port is None else f":{self.port}"
        return f"ssh://{user}{_in_url(self.name)}{port}{quote(self.path or '')} ({self.origin})"


NonTcpHost = UnixHost | SshHost
"""The hosts that every framework connects to in the same way. TCP is left to the framework, which looks names up."""

Host = TcpHost | NonTcpHost


class Scheme(NamedTuple):
    """How the addresses of one scheme are written and read.

    Attributes:
        form: how an address is written, for errors.
        short: the same for the command's help.
        parse: reads what follows ``://``. It is given the whole address, as errors quote it, and its origin.
    """

    form: str
    short: str
    parse: Callable[[str, str, str], Host]


def _parse_unix(rest: str, shown: str, origin: str) -> UnixHost:
    if not rest or "\0" in rest:
        raise HostInvalid(f"{shown} names no socket: {_write('unix')}")
    return UnixHost(rest, origin)


def _parse_tcp(rest: str, shown: str, origin: str) -> TcpHost:
    name, user, port, path = _parse_authority(rest, shown, "tcp")
    if user is not None or {"?", "#"}.intersection(rest):
        raise HostInvalid(f"{shown} has a user, a query or a fragment, which tcp:// does not take: {_write('tcp')}")
    if (segments := _segments(path.strip("/"))) is None:
        # Without the segments: ``shown`` leaves out what may be a password, which may stand in the path by mistake.
        raise HostInvalid(
            f"{shown} has no valid path: a segment is empty, '.', '..' or not valid UTF-8: {_write('tcp')}"
        )
    return TcpHost(name, port or TCP_PORT, origin, base_path=segments)


def _segments(path: str) -> tuple[str, ...] | None:
    try:
        segments = tuple(unquote(segment, errors="strict") for segment in path.split("/") if path)
        check_segments(segments)
    except ValueError:  # UnicodeDecodeError is one
        return None
    return segments


def _parse_ssh(rest: str, shown: str, origin: str) -> SshHost:
    name, quoted_user, port, path = _parse_authority(rest, shown, "ssh")
    user, path = unquote(quoted_user or "", errors="surrogateescape"), unquote(path, errors="surrogateescape")
    if user.startswith("-") or " " in user or not user.isprintable() or _SHELL.intersection(user):
        raise HostInvalid(f"{shown} has a user name that ssh does not take: {_write('ssh')}")
    if {"?", "#"}.intersection(rest) or not path.isprintable():
        raise HostInvalid(f"{shown} has a query, a fragment or an unprintable character in it: {_write('ssh')}")
    return SshHost(name, origin, user or None, port, path or None)


SCHEMES: Final = {
    "unix": Scheme("unix:///PATH", "unix:///PATH", _parse_unix),
    "tcp": Scheme("tcp://NAME[:PORT][/PATH]", "tcp://NAME:PORT", _parse_tcp),
    "ssh": Scheme("ssh://[USER@]NAME[:PORT][/PATH OF THE SOCKET THERE]", "ssh://USER@NAME", _parse_ssh),
}


def listed(items: list[str], word: str) -> str:
    """A list for a text: ``a, b or c``."""
    *first, last = items
    return f"{', '.join(first)} {word} {last}" if first else last


HELP: Final = f"the engine: {listed([scheme.short for scheme in SCHEMES.values()], 'or')}"
"""What the command's help says of ``--host``."""


def parse_host(address: str, origin: str) -> Host:
    """Read an address.

    Raises:
        HostInvalid: it is not valid, or its scheme is not in ``SCHEMES``.
    """
    shown = f"{_without_password(address)!r} ({origin})"
    name, separator, rest = address.partition("://")
    if not separator and re.fullmatch(r".*:[0-9]+", address):
        # The docker CLI takes a word alone for tcp, too; that is more likely a mistake.
        name, separator, rest = "tcp", "://", address
    known = [f"{each}://" for each in SCHEMES]
    if not separator:
        raise HostInvalid(f"{shown} is not an engine's address: it must begin with {listed(known, 'or')}")
    if (scheme := SCHEMES.get(name)) is None:
        raise HostInvalid(
            f"{shown}: {name}:// is not supported, only {listed(known, 'and')}",
            "use one of these, or connect a socket yourself and use open_attachment()",
        )
    return scheme.parse(rest, shown, origin)


def _write(scheme: str) -> str:
    return f"write {SCHEMES[scheme].form}"


def _parse_authority(rest: str, shown: str, scheme: str) -> tuple[str, str | None, int | None, str]:
    """Name, user, port and path, with the slash that begins it."""
    authority, slash, path = rest.partition("/")
    if ":" in authority.rpartition("@")[0]:
        raise HostInvalid(f"{shown} has a password in it, which no scheme takes: {_write(scheme)}")
    if not (match := re.fullmatch(_AUTHORITY, authority, re.ASCII)):
        raise HostInvalid(f"{shown} is not an engine's address: {_write(scheme)}")
    # In a URL the % of an IPv6 zone is %25; alone it is taken as it is.
    name = match["name"] or re.sub("%25(?=.)", "%", match["ip"] or "", count=1)
    if not name:
        raise HostInvalid(f"{shown} names no host: {_write(scheme)}")
    port = int(match["port"]) if match["port"] else None
    if port is not None and not 0 < port < 65536:
        raise HostInvalid(f"{shown} is not an engine's address: a port is a number from 1 to 65535")
    return name, match["user"], port, slash + path


def _bracketed(name: str) -> str:
    return f"[{name}]" if ":" in name else name


def _in_url(name: str) -> str:
    # The name of an interface may have a % itself. So the % that begins a zone is always written as %25. Only an IPv6
    # address has a zone.
    return _bracketed(name.replace("%", "%25", 1))


def _without_password(address: str) -> str:
    # A password may itself have any of these signs, so that what is hidden ends at the last @.
    return re.sub(r"(?s)^((?>(?:\w+://)?)[^:@]*):.*@", r"\1:***@", address)
