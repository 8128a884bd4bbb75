"""The start of the command ``attachproto``, also as ``python -m attachproto_adapters``."""

from __future__ import annotations

import sys

# What a shell reports for a command that SIGINT has ended: 128 and the signal's number.
_INTERRUPTED = 130

# What the terminal and the embedded engine are made with. Windows' Python does not have them.
_POSIX_MODULES = {"fcntl", "pty", "pwd", "resource", "termios"}


def main() -> int:
    """Run the command; returns its exit status. Ctrl-C ends it without a traceback, also while it is being loaded."""
    try:
        from attachproto_adapters.cli._main import main as command

        return command()
    except KeyboardInterrupt:
        return _INTERRUPTED
    except ModuleNotFoundError as exc:
        if exc.name not in _POSIX_MODULES:
            raise
        from attachproto_adapters.cli._statuses import OURS, complain

        complain("the command needs a POSIX system; the library also works elsewhere")
        return OURS


if __name__ == "__main__":
    sys.exit(main())
