"""The connection that is kept between two plain calls. Nothing here waits, so that every framework can use it.

Strategy: one slot belongs to one engine's address, and has at most one connection. It keeps the connection as long as
somebody holds the slot: an open client, or a flow that runs. Whoever ends the last hold closes the connection. A
connection is taken out for a call, and put back only if the call has ended cleanly. So whatever happens to a call, such
as a cancellation or an interruption, never happens to a connection in the slot.
"""

from __future__ import annotations

import contextlib
import enum
import os
import socket
import threading
import time
import weakref
from collections.abc import Generator
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from attachproto import Reason, RemoteProtocolError, Request, Response
from attachproto_adapters._flows._api_calls import named
from attachproto_adapters._transport._sockets import wait_until_ready

if TYPE_CHECKING:
    from attachproto_adapters._transport._ssh import SshChild
    from attachproto_adapters._transport._tls import TlsLayer

# A call that changes something is made at once only on a connection that was used within this time. Servers close idle
# connections: Podman's after 10 s (with its default --time), those of Node.js after 5 s, and of gunicorn after 2 s.
_RECENT_SECONDS: Final = 1.0

# After this time a connection is not used any more: a router on the way may have dropped its entry for it, and a call
# on it would get no answer. docker's own client has the same limit (moby client/client.go, IdleConnTimeout).
_IDLE_SECONDS: Final = 30.0

_REPEATABLE: Final = ("GET", "HEAD")

_IDLE_TIMEOUT: Final = 408

T = TypeVar("T")


def is_repeatable(request: Request) -> bool:
    """Whether a call may be made again if its connection has ended without an answer."""
    return request.method in _REPEATABLE


def unless_idle_timeout(request: Request, response: Response) -> Response | None:
    """The answer to a call on a connection that was kept; ``None`` if the call is to be made again.

    A server that gives up an idle connection may answer 408 before it closes it (RFC 9110, 15.5.9), at the moment at
    which we send the next call. Then the call was not refused: that connection has ended.

    Raises:
        RemoteProtocolError: it was ended so, and this call must not be made twice.
    """
    if response.status_code != _IDLE_TIMEOUT:
        return response
    if is_repeatable(request):
        return None
    raise RemoteProtocolError(
        f"the connection was kept from an earlier call, and has ended with 408 in place of an answer to "
        f"{named(request)}: it is not known whether the engine has got it",
        Reason.NOTHING_CAME,
    )


class Use(enum.Enum):
    """Whether a call may be made on an idle connection.

    Attributes:
        AT_ONCE: yes.
        AFTER_PING: if the engine still answers a call that may be repeated.
        NOT: the connection has ended or may have, and has to be closed.
    """

    AT_ONCE = "at once"
    AFTER_PING = "after a ping"
    NOT = "not"


def discard(items: list[T], item: T) -> None:
    """Remove it, if it is there. It is a list because a list of one takes 88 bytes, and an empty set takes 216."""
    with contextlib.suppress(ValueError):
        items.remove(item)


class IdleConnection:
    """A connection on which no call is being made.

    Attributes:
        sock: the socket.
        tls: the layer on it.
        child: the program at its other end.
        since: when its last call has ended, in the time of ``time.monotonic``.
    """

    __slots__ = ("child", "since", "sock", "tls")

    def __init__(self, sock: socket.socket, tls: TlsLayer | None, child: SshChild | None, since: float) -> None:
        self.sock = sock
        self.tls = tls
        self.child = child
        self.since = since

    def use_for(self, request: Request, *, connects_slowly: bool) -> Use:
        """Whether this call may be made on it.

        Args:
            request: the call.
            connects_slowly: a new connection costs more than a ping on this one.
        """
        number, age = self.sock.fileno(), time.monotonic() - self.since
        # Something to read is the end of file, or an answer that nobody has asked for.
        if number == -1 or age > _IDLE_SECONDS or wait_until_ready(number, 0, read=True, write=False)[0]:
            return Use.NOT
        if is_repeatable(request) or age <= _RECENT_SECONDS:
            return Use.AT_ONCE
        return Use.AFTER_PING if connects_slowly else Use.NOT

    def end(self) -> Generator[float, None, None]:
        """Close it. Each value is how many seconds to sleep before the next; exhaust or close the generator."""
        with contextlib.suppress(OSError):  # the peer was faster
            self.sock.shutdown(socket.SHUT_RDWR)  # a forked child may have this socket, too
        self.sock.close()
        if self.child is not None:
            yield from self.child.end()

    def let_go(self) -> None:
        """In a forked child: close the descriptors, and leave the connection to the parent."""
        self.sock.close()
        if self.child is not None:
            self.child.let_go()


class Releasable(Protocol):
    """A session.

    Attributes:
        released: it must not close its connection any more.
    """

    released: bool


class IdleSlot:
    """The place of one idle connection. Threads may share it."""

    # Every attachment refers to one.
    __slots__ = ("_holds", "_idle", "_lock", "_process")

    def __init__(self) -> None:
        self._idle: IdleConnection | None = None
        # Weak references, so that a hold that an interruption has lost does not count any more.
        self._holds: list[weakref.ref[Hold]] = []
        self._lock = threading.RLock()  # a signal's handler may close a client
        self._process = os.getpid()

    def hold(self) -> Hold:
        """Let the slot keep a connection until ``Hold.release``."""
        self._look_for_fork()
        hold = Hold(self)
        with self._lock:
            self._holds.append(weakref.ref(hold))
        return hold

    def take(self, taken: list[IdleConnection]) -> IdleConnection | None:
        """Take the connection out, if there is one, and append it to ``taken``. The caller uses or closes it."""
        self._look_for_fork()
        with self._lock:
            # As in put(), no signal's handler runs before the append(), which is the first call here.
            idle = self._idle
            self._idle = None
            if idle is not None:
                taken.append(idle)
        return idle

    def put(self, session: Releasable, idle: IdleConnection) -> bool:
        """Keep this connection of a session, which must not close it from then on; ``False`` if it is not kept."""
        self._look_for_fork()
        with self._lock:
            if self._idle is not None or not self._is_held():
                return False
            # No signal's handler runs between these two lines: there is no call in them.
            session.released = True
            self._idle = idle
        return True

    def let_go(self, hold: Hold) -> IdleConnection | None:
        """End a hold. Returns the connection for the caller to close, if that was the last one."""
        self._look_for_fork()
        with self._lock:
            self._holds = [each for each in self._holds if each() not in (None, hold)]
            return None if self._holds else self.take([])

    def _is_held(self) -> bool:
        return any(each() is not None for each in self._holds)

    def _look_for_fork(self) -> None:
        if self._process != os.getpid():
            # A thread that does not exist in this process may hold the lock.
            self._lock = threading.RLock()
            self._process = os.getpid()
            idle, self._idle = self._idle, None
            if idle is not None:
                idle.let_go()


class Hold:
    """The right to have a connection kept; ``IdleSlot.hold`` gives it."""

    __slots__ = ("__weakref__", "_slot")

    def __init__(self, slot: IdleSlot) -> None:
        self._slot = slot

    def release(self) -> IdleConnection | None:
        """End it. May be called more than once.

        Returns:
            The connection, for the caller to close, if nobody else holds the slot.
        """
        return self._slot.let_go(self)
