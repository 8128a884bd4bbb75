"""Opens the connections that every framework opens in the same way: all but TCP."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Generator
from typing import TYPE_CHECKING, assert_never

from attachproto_adapters._errors import unreachable
from attachproto_adapters._transport._schemes import NonTcpHost, SshHost, UnixHost
from attachproto_adapters._transport._sockets import connect_unix

if TYPE_CHECKING:
    from attachproto_adapters._transport._ssh import SshChild


def open_non_tcp(host: NonTcpHost) -> Generator[float, None, tuple[socket.socket, SshChild | None]]:
    """Open a connection without blocking. Each value is how many seconds to sleep before the next.

    If the generator is closed early, it closes the socket.

    Returns:
        The connected socket, and the program at its other end, if there is one.
    """
    match host:
        case UnixHost():
            if not hasattr(socket, "AF_UNIX"):
                raise unreachable(host, "this Python has no Unix sockets: give a tcp:// address")
            with contextlib.ExitStack() as undo:
                sock = undo.enter_context(socket.socket(socket.AF_UNIX))
                yield from connect_unix(sock, host.path)
                undo.pop_all()
                return sock, None
        case SshHost():
            from attachproto_adapters._transport._ssh import SshChild  # late: it imports shlex and signal

            child = SshChild.start(host)
            return child.sock, child
        case _:
            assert_never(host)
