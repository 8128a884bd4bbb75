"""What all tests stand on."""

from __future__ import annotations

import collections
import signal

import pytest
from hypothesis import settings

# A test that measures time fails on a busy machine. What is to be fast is measured by the benchmarks.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


def pytest_configure() -> None:
    # A shell lets what it runs in the background ignore Ctrl-C, and all programs that tests start would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests have counted: how often something was tried, and how it ended.

    A test says ``record_property("counted", (what, {how it ended: how often}))``. Tests of the same thing are added up.
    """
    counted: dict[str, collections.Counter[str]] = {}
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            if name == "counted":
                what, ends = value
                counted.setdefault(what, collections.Counter()).update(ends)
    for what, ends in counted.items():
        of_them = ", ".join(f"{end} {count:,}" for end, count in ends.most_common())
        terminalreporter.write_line(f"{what}: {ends.total():,} cases: {of_them}")
