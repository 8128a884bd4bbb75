"""``attachproto engine``: the embedded engine until Ctrl-C, or for as long as one command runs."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence

from attachproto_adapters.cli._statuses import OURS, complain

# They would name another engine, or speak another way to this one.
_NOT_PASSED_ON = ("DOCKER_CONTEXT", "DOCKER_TLS", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH", "CONTAINER_HOST")


def engine(arguments: argparse.Namespace) -> int:
    """Run the engine; returns the exit status."""
    # Imported late: loading asyncio takes longer than opening an attach.
    from attachproto_engine import Engine, serve
    from attachproto_engine._system_json import NOT_A_SANDBOX

    if arguments.command:
        with Engine(arguments.host, emulate=arguments.emulate) as running:
            print(f"attachproto: {NOT_A_SANDBOX}", file=sys.stderr, flush=True)
            return _run(arguments.command, running.host)
    if arguments.host is None:
        complain("engine needs --host, or a command to run with an engine of its own")
        return OURS
    return serve(arguments.host, arguments.emulate)


def _run(command: Sequence[str], host: str) -> int:
    """Run a command that finds this engine; returns its exit status as a shell does."""
    environ = {name: value for name, value in os.environ.items() if name not in _NOT_PASSED_ON} | {"DOCKER_HOST": host}
    # A terminal sends Ctrl-C to both. The command decides what it does; here it only must not end the wait. The command
    # does not inherit a handler, as it would inherit that a signal is ignored.
    before = signal.signal(signal.SIGINT, lambda number, frame: None)
    try:
        try:
            child, noted = _started(command, environ)
        except (FileNotFoundError, PermissionError) as exc:
            complain(f"{command[0]}: {(exc.strerror or str(exc)).lower()}")
            return 127 if isinstance(exc, FileNotFoundError) else 126
        try:
            for number in noted:
                signal.raise_signal(number)
            status = child.wait()
        except BaseException:
            child.terminate()
            child.wait()
            raise
        return 128 - status if status < 0 else status
    finally:
        signal.signal(signal.SIGINT, before)


def _started(command: Sequence[str], environ: Mapping[str, str]) -> tuple[subprocess.Popen[bytes], list[int]]:
    """The command, and the signals that came while it was started.

    The command line's handlers raise an exception. Out of ``Popen`` it would leave the program behind. So they are
    replaced until the program is known.
    """
    noted: list[int] = []
    ours = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    ours = {number: handler for number, handler in ours.items() if callable(handler)}
    for number in ours:
        signal.signal(number, lambda number, frame: noted.append(number))
    try:
        return subprocess.Popen(command, env=environ), noted
    finally:
        for number, handler in ours.items():
            signal.signal(number, handler)
