"""The command ``attachproto``."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import threading
from collections.abc import Sequence

from attachproto import AttachOptions, RawOutput, Stdout, __version__
from attachproto_adapters._errors import (
    ApiVersionRejected,
    AttachError,
    ContainerNotRunning,
    EngineUnreachable,
    ErrorWithRemedy,
    ExitCodeUnknown,
    HostInvalid,
    LogsUnavailable,
    OutputCut,
    printable,
    shown,
)
from attachproto_adapters._transport._schemes import HELP
from attachproto_adapters._transport._sockets import READ_SIZE
from attachproto_adapters.blocking import Attachment, attach

# What a shell reports for a command that SIGPIPE has ended: 128 and the signal's number.
_PIPE_CLOSED = 141

# The docker CLI's exit status for a failure of its own, as opposed to the container's.
_OURS = 125

_STDIN_STAYS_OPEN = (
    b"attachproto: stdin has ended; the container's stays open, as closing it would end the attach and lose output\n"
)


class _ReaderGone(Exception):
    """The reader of our stdout or stderr has closed its end."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status.

    Raises:
        KeyboardInterrupt: Ctrl-C. All connections are closed, and the container keeps running.
    """
    options = _parser().parse_args(arguments)
    for number in range(3):
        # If stdin, stdout or stderr was closed when we started, the next socket would get its number, and a message
        # for stderr would go to the container.
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    try:
        status: int = options.run(options)
        return status
    except (_ReaderGone, BrokenPipeError) as exc:
        if options.run is _attach and isinstance(exc, BrokenPipeError):
            _complain(str(exc))
            return 1
        # Without this Python would report the broken pipe again when it flushes at exit.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in filter(None, (sys.stdout, sys.stderr)):
            os.dup2(nowhere, stream.fileno())
        return _PIPE_CLOSED
    except (AttachError, OSError, ValueError) as exc:
        _complain(in_options(exc))
        return _OURS if isinstance(exc, ExitCodeUnknown) else 1


# What the command says in place of an error's own remedy, which names arguments of the library.
_REMEDIES: dict[type[Exception], str] = {
    ApiVersionRejected: "set DOCKER_API_VERSION to one of these, or do not set it",
    ContainerNotRunning: "--logs shows its output so far, and --start runs it again",
    EngineUnreachable: "say where it is with --host or DOCKER_HOST",
    HostInvalid: "use one of these",
    LogsUnavailable: "attach without --logs, before the container is started",
}


def in_options(exc: Exception) -> str:
    """An error's text, with what to do in the command's own options."""
    if isinstance(exc, ErrorWithRemedy) and exc.remedy:
        return f"{exc.problem}: {_REMEDIES[type(exc)]}"
    return str(exc)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="attachproto", description="The Docker Engine's attach protocol.")
    parser.add_argument("--version", action="version", version=f"attachproto {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    attach_ = commands.add_parser(
        "attach",
        help="attach to a container",
        description="Attach to a container. Its stdout goes to stdout, its stderr to stderr, and its exit code becomes "
        "the command's. Ctrl-C detaches; the container keeps running.",
    )
    attach_.add_argument("container", metavar="CONTAINER", help="name or ID")
    attach_.add_argument("--stdin", action="store_true", help="forward stdin, and half-close when it ends")
    attach_.add_argument("--logs", action="store_true", help="first print what was logged so far")
    attach_.add_argument("--start", action="store_true", help="start the container after attaching to it")
    attach_.add_argument("--detach-keys", metavar="KEYS", help="keys that detach from a TTY, such as ctrl-p,ctrl-q")
    attach_.add_argument("--host", help=f"{HELP} (default: as docker finds it)")
    attach_.set_defaults(run=_attach)

    demo_ = commands.add_parser(
        "demo",
        help="show one attach, byte by byte",
        description="Attach to a small container, and show the bytes on the wire beside the events that they became. "
        "It uses docker's engine, else the embedded one, which runs local processes and is not a sandbox.",
    )
    demo_.add_argument("--image", default="busybox", help="the container's image (default: busybox; it needs a shell)")
    demo_.add_argument("--host", help=HELP)
    demo_.set_defaults(run=_demo)

    engine_ = commands.add_parser(
        "engine",
        help="run the embedded engine",
        description="Run the embedded engine until Ctrl-C, to test Docker clients without Docker. It prints its "
        "address when it is ready. It is not a sandbox: containers are local processes with your rights.",
    )
    engine_.add_argument("--host", required=True, help="where to listen: unix://PATH or tcp://127.0.0.1:PORT")
    engine_.add_argument(
        "--emulate", choices=("dockerd", "podman"), default="dockerd", help="whose behaviour it has (default: dockerd)"
    )
    engine_.set_defaults(run=_engine)
    return parser


def _attach(arguments: argparse.Namespace) -> int:
    try:
        options = AttachOptions(stdin=arguments.stdin, logs=arguments.logs, detach_keys=arguments.detach_keys)
    except ValueError as exc:
        raise ValueError(f"--detach-keys: {exc}") from None
    with attach(arguments.container, options, host=arguments.host, start=arguments.start, wait=True) as attachment:
        if arguments.stdin:
            # A daemon thread, because nothing can interrupt a thread that reads a terminal.
            threading.Thread(target=_forward_stdin, args=(attachment,), daemon=True).start()
        for event in attachment:
            stream = sys.stdout if isinstance(event, Stdout | RawOutput) else sys.stderr
            if stream is None:  # closed at our start
                raise _ReaderGone
            try:
                stream.buffer.write(event.data)
                stream.buffer.flush()
            except BrokenPipeError:
                raise _ReaderGone from None
        if arguments.stdin:
            try:
                return _exit_status(attachment.wait())
            except OutputCut:
                # Detach keys end the output too. dockerd looks for them only with a TTY.
                inspected = attachment.inspected
                if inspected is None or not (inspected.tty or inspected.podman):
                    raise
                _complain(f"detached from {arguments.container}, which keeps running")
                return 0
        return _exit_status(attachment.wait())


def _exit_status(code: int) -> int:
    """The container's exit code as exit status. The kernel keeps the lowest eight bits, so 256 would mean success."""
    if 0 <= code <= 255:
        return code
    _complain(f"the engine reports the exit code {shown(str(code))}, which no process can have (0 to 255)")
    return _OURS


# The next two import late: loading asyncio takes longer than opening an attach.


def _demo(arguments: argparse.Namespace) -> int:
    from attachproto_engine._demo import demo

    if sys.stdout is None:  # closed at our start
        raise _ReaderGone
    return demo(arguments.host, arguments.image, sys.stdout)


def _engine(arguments: argparse.Namespace) -> int:
    from attachproto_engine import serve

    return serve(arguments.host, arguments.emulate)


def _forward_stdin(attachment: Attachment) -> None:
    # The container may stop reading, or the attachment end, at any time. The main thread reports that.
    with contextlib.suppress(OSError, AttachError):
        # sys.stdin is None if it was closed when we started.
        while sys.stdin is not None and (data := os.read(sys.stdin.fileno(), READ_SIZE)):
            attachment.send_stdin(data)
        if attachment.half_close_ends_attach:
            # Not with sys.stderr: if this thread held its lock at the interpreter's exit, Python would abort.
            os.write(2, _STDIN_STAYS_OPEN)
        else:
            attachment.close_stdin()


def _complain(text: str) -> None:
    if sys.stderr is not None:  # else print() would take stdout
        print(f"attachproto: {printable(text)}", file=sys.stderr)
