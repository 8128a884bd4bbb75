"""What all tests stand on."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    # A shell lets what it runs in the background ignore Ctrl-C, and all programs that tests start would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
