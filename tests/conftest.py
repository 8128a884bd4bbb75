"""What all tests stand on."""

from __future__ import annotations

import signal

from hypothesis import settings

# A test that measures time fails on a busy machine. What is to be fast is measured by the benchmarks.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


def pytest_configure() -> None:
    # A shell lets what it runs in the background ignore Ctrl-C, and all programs that tests start would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
