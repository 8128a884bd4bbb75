"""`follow_size`, where an engine loses a size: Podman's conmon sets the first of two sizes twice."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import termios
import threading
from collections.abc import Iterator
from typing import cast

import pytest

from attachproto_adapters import terminal
from attachproto_adapters.blocking import Attachment
from tests.adapters.scripted import BOUND

HERE = (24, 80)
OTHER = (25, 81)


class Conmon:
    """An attachment's `resize`, as conmon 2.1 takes it: of all sizes that it reads at once, it sets the first.

    It reads at once what comes before `caught_up` sizes are there.
    """

    def __init__(self, caught_up: int) -> None:
        self.asked: list[tuple[int, int]] = []
        self.size: tuple[int, int] | None = None
        self._caught_up = caught_up
        self.settled = threading.Event()

    def resize(self, height: int, width: int) -> None:
        self.asked.append((height, width))
        if len(self.asked) == self._caught_up:
            self.size = self.asked[0]
        elif len(self.asked) > self._caught_up:
            self.size = self.asked[-1]
        if len(self.asked) == 4:
            self.settled.set()


@pytest.fixture
def fd() -> Iterator[int]:
    """A terminal of 24 lines and 80 columns."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", *HERE, 0, 0))
    yield slave
    os.close(slave)
    os.close(master)


@pytest.mark.parametrize("caught_up", [1, 2, 3])
def test_the_size_is_sent_until_it_is_there(monkeypatch: pytest.MonkeyPatch, fd: int, caught_up: int) -> None:
    monkeypatch.setattr(terminal, "_AGAIN", (0.01, 0.02))
    conmon = Conmon(caught_up)
    with terminal.follow_size(cast("Attachment", conmon), fd, redraw=True):
        assert conmon.settled.wait(BOUND)
    assert conmon.asked == [OTHER, HERE, HERE, HERE]
    assert conmon.size == HERE
