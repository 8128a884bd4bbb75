"""When the bytes of an answer with faults go out, and how far, as pure code."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator

import attrs

from attachproto_engine._faults import Cut, Delay, Fault, Reset, Split


class End(enum.Enum):
    """How a script ends the answer."""

    EOF = "EOF"
    """As without faults: a half-close."""

    CUT = "CUT"
    RESET = "RESET"
    SILENCE = "SILENCE"


@attrs.frozen
class Pause:
    """Wait before the next bytes: so many seconds, or (``None``) until the client has read what came before."""

    seconds: float | None


Action = bytes | Pause | End


class Timing:
    """Splits, pauses and ends, at offsets in the bytes that really go out."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        faults = tuple(faults)
        self._over = False
        self._sent = 0
        self._every = min((fault.every for fault in faults if isinstance(fault, Split) and fault.every), default=0)
        self._marks = _marks(faults)

    def write(self, piece: bytes | End) -> Iterator[Action]:
        if self._over:
            return
        if isinstance(piece, End):
            self._over = True
            yield piece
            return
        at = 0
        while not self._over:
            while self._marks and self._marks[0][0] <= self._sent:
                action = self._marks.pop(0)[1]
                yield action
                if isinstance(action, End):
                    self._over = True
                    return
            if at == len(piece):
                return
            stop = len(piece)
            if self._marks:
                stop = min(stop, at + self._marks[0][0] - self._sent)
            if self._every:
                stop = min(stop, at + self._every - self._sent % self._every)
            yield piece[at:stop]
            self._sent += stop - at
            at = stop
            if self._every and self._sent % self._every == 0:
                yield Pause(None)


def _marks(faults: Iterable[Fault]) -> list[tuple[int, Pause | End]]:
    """What happens at which offset, in its order; at one offset pauses come before an end."""
    found: list[tuple[int, Pause | End]] = []
    for fault in faults:
        match fault:
            case Split(at=offsets):
                found += [(offset, Pause(None)) for offset in offsets]
            case Delay(at=offset, seconds=seconds):
                found.append((offset, Pause(seconds)))
            case Cut(at=offset):
                found.append((offset, End.CUT))
            case Reset(at=offset):
                found.append((offset, End.RESET))
            case _:
                pass
    return sorted(found, key=lambda mark: (mark[0], isinstance(mark[1], End)))
