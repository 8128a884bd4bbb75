"""The command ``attachproto``."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import threading
from collections.abc import Sequence

from attachproto import AttachOptions, ProtocolError, RawOutput, Stdout, __version__
from attachproto_adapters._errors import AttachError
from attachproto_adapters._output import READ_SIZE
from attachproto_adapters.blocking import Attachment, attach

# What a shell gives for a command that a signal has ended: 128 and the signal's number.
_INTERRUPTED = 130
_PIPE_CLOSED = 141


class _ReaderGone(Exception):
    """Nobody reads our stdout or stderr any more."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    options = _parser().parse_args(arguments)
    try:
        return _attach(options)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except _ReaderGone:
        # Who read our output has gone. Python would complain once more when it flushes at exit.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _PIPE_CLOSED
    except (AttachError, ProtocolError, OSError, ValueError) as exc:
        _complain(str(exc))
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="attachproto", description="The Docker Engine's attach protocol.")
    parser.add_argument("--version", action="version", version=f"attachproto {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    attach_ = commands.add_parser(
        "attach",
        help="attach to a container",
        description="Attach to a container: its stdout to stdout, its stderr to stderr, and its exit code as ours. "
        "Ctrl-C detaches; the container goes on.",
    )
    attach_.add_argument("container", metavar="CONTAINER", help="name or ID")
    attach_.add_argument("--stdin", action="store_true", help="forward stdin, and half-close where it ends")
    attach_.add_argument("--logs", action="store_true", help="replay what was logged so far, first")
    attach_.add_argument("--start", action="store_true", help="start the container, once it is attached to")
    attach_.add_argument("--detach-keys", metavar="KEYS", help="keys that detach from a TTY, such as ctrl-p,ctrl-q")
    attach_.add_argument(
        "--host", help="the engine: unix://PATH or tcp://NAME:PORT (default: DOCKER_HOST, then Docker's own socket)"
    )
    return parser


def _attach(arguments: argparse.Namespace) -> int:
    options = AttachOptions(stdin=arguments.stdin, logs=arguments.logs, detach_keys=arguments.detach_keys)
    with attach(arguments.container, options, host=arguments.host, start=arguments.start, wait=True) as attachment:
        if arguments.stdin:
            # A daemon, because nothing can wake a thread that reads a terminal.
            threading.Thread(target=_forward_stdin, args=(attachment,), daemon=True).start()
        for event in attachment:
            stream = sys.stdout if isinstance(event, Stdout | RawOutput) else sys.stderr
            try:
                stream.buffer.write(event.data)
                stream.buffer.flush()
            except BrokenPipeError:
                raise _ReaderGone from None
        return attachment.wait()


def _forward_stdin(attachment: Attachment) -> None:
    # The container may stop reading, and the attachment end, at any time; the main thread tells of it.
    with contextlib.suppress(OSError, AttachError, ProtocolError):
        while data := os.read(sys.stdin.fileno(), READ_SIZE):
            attachment.send_stdin(data)
        if attachment.half_close_ends_attach:
            _complain(
                "stdin has ended, and the container's stays open: to close it would end the attach and lose output"
            )
        else:
            attachment.close_stdin()


def _complain(text: str) -> None:
    print(f"attachproto: {_printable(text)}", file=sys.stderr)


def _printable(text: str) -> str:
    """A text of the engine's for a terminal: it may echo any name, escape sequences and all."""
    return "".join(char if char.isprintable() or char in "\n\t" else repr(char)[1:-1] for char in text)
