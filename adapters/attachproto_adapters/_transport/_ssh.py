"""The ``ssh`` program as a transport: it runs ``docker system dial-stdio`` on the other machine."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import socket
import subprocess
import tempfile
from collections.abc import Generator
from typing import IO

from attachproto_adapters._errors import printable, unreachable
from attachproto_adapters._transport._schemes import SshHost

# As long as the docker CLI waits for it.
_END_SECONDS = 3.0

# How often it is looked whether the program has ended: soon, and then less so.
_FIRST_LOOK = 0.001
_LATER_LOOK = 0.05

_COMPLAINT_BYTES = 4096
_COMPLAINT_LINES = 5


def ssh_command(host: SshHost) -> list[str]:
    """The command line that the docker CLI builds for this address."""
    command = ["ssh"]
    if host.user is not None:
        command += ["-l", host.user]
    if host.port is not None:
        command += ["-p", str(host.port)]
    remote = ["docker", "system", "dial-stdio"]
    if host.path is not None and host.path.strip("/"):
        remote.insert(1, f"--host=unix://{host.path}")
    # One argument: ssh joins them with spaces anyway, and a shell takes them apart again.
    return [*command, "-o ConnectTimeout=30", "-T", "--", host.name, shlex.join(remote)]


class SshChild:
    """A running ``ssh``.

    Attributes:
        sock: our end of its stdin and stdout, for the caller to close. Shut down for writing it is the end of stdin.
            The program's exit is its end, or a reset, if something was left unread.
    """

    def __init__(self, sock: socket.socket, process: subprocess.Popen[bytes], stderr: IO[bytes]) -> None:
        self.sock = sock
        self._process = process
        self._stderr = stderr
        self._complaint = ""
        self._ending = False

    @classmethod
    def start(cls, host: SshHost) -> SshChild:
        """Start the program; it connects in its own time.

        Raises:
            EngineUnreachable: it could not be started.
        """
        with contextlib.ExitStack() as undo:
            sock, theirs = socket.socketpair()
            undo.enter_context(sock)
            with theirs:
                # A file, because a pipe that nobody reads would block it.
                stderr = undo.enter_context(tempfile.TemporaryFile())
                try:
                    # A session of its own, as with the docker CLI: Ctrl-C in our terminal is ours to handle. It cannot
                    # ask for a passphrase there then, but it would ask once for each connection, and with a
                    # ProxyCommand two of them at once, on a terminal that may be in use: keys are the agent's.
                    end = theirs.fileno()
                    process = subprocess.Popen(
                        ssh_command(host), stdin=end, stdout=end, stderr=stderr, start_new_session=True
                    )
                except OSError as exc:
                    missing = isinstance(exc, FileNotFoundError)
                    why = "there is no program ssh on PATH" if missing else f"ssh does not start: {exc.strerror}"
                    raise unreachable(host, why) from exc
            undo.pop_all()
        return cls(sock, process, stderr)

    def complaint(self) -> str:
        """What it has written to stderr, the last lines, as one line for any terminal; of its end nothing more."""
        if self._ending:
            return self._complaint
        # pread, because the position in the file is the program's, too.
        descriptor = self._stderr.fileno()
        start = max(0, os.fstat(descriptor).st_size - _COMPLAINT_BYTES)
        text = os.pread(descriptor, _COMPLAINT_BYTES, start).decode(errors="replace")
        lines = list(filter(None, (line.strip() for line in text.splitlines())))
        return printable("; ".join(lines[-_COMPLAINT_LINES:]))

    def ended(self) -> Generator[float, None, int | None]:
        """Wait for the program, whose output has ended: its exit status, or ``None`` if it goes on for too long.

        Each value is how long to sleep before the next.
        """
        waited, delay = 0.0, _FIRST_LOOK
        while (status := self._process.poll()) is None and waited < _END_SECONDS:
            yield delay
            waited += delay
            delay = min(2 * delay, _LATER_LOOK)
        return status

    def end(self) -> Generator[float, None, None]:
        """End the program: SIGTERM, and after three seconds SIGKILL. Each value is how long to sleep before the next.

        It must be run to its end or closed, and then has waited for the program; closed early, it kills at once.
        Called again it does nothing.
        """
        if self._ending:
            return
        self._complaint = self.complaint()
        self._ending = True
        try:
            self._signal(signal.SIGTERM)
            yield from self.ended()
        finally:
            self._signal(signal.SIGKILL)
            self._process.wait()
            self._stderr.close()

    def _signal(self, number: signal.Signals) -> None:
        # All of its session: a ProxyCommand, or the ssh below a script of that name. But once it has been waited for,
        # its number may be another's.
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):  # it ends just now
                os.killpg(self._process.pid, number)
