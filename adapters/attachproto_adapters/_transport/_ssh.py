"""The ``ssh`` program as a transport: it runs ``docker system dial-stdio`` on the other machine."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import socket
from collections.abc import Generator
from typing import IO, TYPE_CHECKING

from attachproto_adapters._errors import printable, unreachable
from attachproto_adapters._transport._schemes import SshHost

if TYPE_CHECKING:
    import subprocess

# The docker CLI waits as long for ssh to end.
_END_SECONDS = 3.0

# How often we check whether the program has ended: first after 1 ms, later every 50 ms.
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
    # One quoted argument: ssh joins its arguments with spaces, and the remote shell splits them again.
    return [*command, "-o ConnectTimeout=30", "-T", "--", host.name, shlex.join(remote)]


class SshChild:
    """A running ``ssh``.

    Attributes:
        sock: our end of its stdin and stdout, for the caller to close. ``shutdown(SHUT_WR)`` ends the program's stdin.
            When the program exits, reading gives EOF, or ``ECONNRESET`` if it had not read all that we sent.
    """

    def __init__(self, sock: socket.socket, process: subprocess.Popen[bytes], stderr: IO[bytes]) -> None:
        self.sock = sock
        self._process = process
        self._stderr = stderr
        self._complaint = ""
        self._ending = False

    @classmethod
    def start(cls, host: SshHost) -> SshChild:
        """Start the program. It returns before ssh has connected.

        Raises:
            EngineUnreachable: the program could not be started.
        """
        if os.name != "posix":  # there a socket cannot be a program's stdin
            raise unreachable(host, "ssh:// needs a POSIX system: give a tcp:// address")
        # Imported here, because importing them takes a tenth of the time of all our imports.
        import subprocess
        import tempfile

        with contextlib.ExitStack() as undo:
            sock, theirs = socket.socketpair()
            undo.enter_context(sock)
            with theirs:
                # A file, because ssh would block on a full pipe that nobody reads.
                stderr = undo.enter_context(tempfile.TemporaryFile())
                try:
                    # A session of its own, as with the docker CLI, so that Ctrl-C in our terminal does not reach ssh.
                    # So ssh cannot ask for a passphrase in the terminal. It would ask for each connection, and with
                    # a ProxyCommand two programs would ask at once. An ssh agent has to provide the keys.
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
        """The last lines of its stderr, as one line that is safe to print. After ``end()`` it does not change."""
        if self._ending:
            return self._complaint
        # pread(), because the program writes at the same file position.
        descriptor = self._stderr.fileno()
        start = max(0, os.fstat(descriptor).st_size - _COMPLAINT_BYTES)
        text = os.pread(descriptor, _COMPLAINT_BYTES, start).decode(errors="replace")
        lines = list(filter(None, (line.strip() for line in text.splitlines())))
        return printable("; ".join(lines[-_COMPLAINT_LINES:]))

    def ended(self) -> Generator[float, None, int | None]:
        """Wait for the program after its output has ended. Each value is how many seconds to sleep before the next.

        Returns:
            Its exit status, or ``None`` if it has not ended after three seconds.
        """
        waited, delay = 0.0, _FIRST_LOOK
        while (status := self._process.poll()) is None and waited < _END_SECONDS:
            yield delay
            waited += delay
            delay = min(2 * delay, _LATER_LOOK)
        return status

    def end(self) -> Generator[float, None, None]:
        """End the program with SIGTERM, and after three seconds with SIGKILL.

        Each value is how many seconds to sleep before the next. The generator must be exhausted or closed; either way
        the program has ended then. Closed early, it sends SIGKILL at once. A second call does nothing.
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

    def let_go(self) -> None:
        """Close our descriptors, and leave the program to the process that started it."""
        self._ending = True
        self._stderr.close()

    def _signal(self, number: signal.Signals) -> None:
        # The whole process group, which includes a ProxyCommand, or the real ssh if a script of that name started it.
        # poll() first: after the process was waited for, its PID may belong to another one.
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):  # it ends at this moment
                os.killpg(self._process.pid, number)
