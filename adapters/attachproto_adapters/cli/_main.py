"""The start and the end of the command: descriptors, signals, and what an error becomes."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from types import FrameType

from attachproto_adapters._errors import AttachError, ExitCodeUnknown
from attachproto_adapters.cli import _commands
from attachproto_adapters.cli._exec import exec_
from attachproto_adapters.cli._parser import make_parser
from attachproto_adapters.cli._signals import handled
from attachproto_adapters.cli._statuses import (
    OURS,
    PIPE_CLOSED,
    TIMED_OUT,
    ReaderGone,
    Signalled,
    complain,
    in_options,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status.

    Raises:
        KeyboardInterrupt: Ctrl-C. All connections are closed.
    """
    parser = make_parser(
        attach=_commands.attach,
        exec_=exec_,
        logs=_commands.logs,
        run=_commands.run,
        replay=_replay,
        demo=_demo,
        engine=_engine,
    )
    options = parser.parse_args(arguments)
    for number in range(3):
        # If stdin, stdout or stderr was closed when we started, the next socket would get its number, and a message
        # for stderr would go to the container.
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    try:
        with _ended_by_signals(options):
            status: int = options.run(options)
        return status
    except Signalled as exc:
        return 128 + exc.number
    except ReaderGone:
        return _reader_gone()
    except (AttachError, OSError, ValueError) as exc:
        if isinstance(exc, BrokenPipeError) and options.run in (_demo, _replay, _engine):
            return _reader_gone()
        if isinstance(exc, TimeoutError) and options.timeout is not None:
            complain(f"no answer within {options.timeout:g} s")
            return TIMED_OUT
        complain(in_options(exc))
        return OURS if isinstance(exc, ExitCodeUnknown) else options.failure_status


def _reader_gone() -> int:
    # Without this Python would report the broken pipe again when it flushes at exit.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in filter(None, (sys.stdout, sys.stderr)):
        os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
    return PIPE_CLOSED


@contextlib.contextmanager
def _ended_by_signals(options: argparse.Namespace) -> Iterator[None]:
    """Raise ``Signalled`` on SIGTERM and SIGHUP, so that clean-up runs. An engine by itself has handlers of its own."""

    def end(number: int, frame: FrameType | None) -> None:
        raise Signalled(number)

    serves = options.run is _engine and not options.command
    if serves or threading.current_thread() is not threading.main_thread():
        yield
        return
    with handled((signal.SIGTERM, signal.SIGHUP), end):
        yield


# The next three import late: loading asyncio takes longer than opening an attach.


def _demo(arguments: argparse.Namespace) -> int:
    from attachproto_engine._demo import demo

    if sys.stdout is None:  # closed at our start
        raise ReaderGone
    return demo(arguments.host, arguments.image, sys.stdout)


def _replay(arguments: argparse.Namespace) -> int:
    from attachproto_adapters.cli._replay import replay

    return replay(arguments)


def _engine(arguments: argparse.Namespace) -> int:
    from attachproto_adapters.cli._engine import engine

    return engine(arguments)
