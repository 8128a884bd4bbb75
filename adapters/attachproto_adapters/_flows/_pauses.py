"""The pauses between one question to the engine and the next."""

from __future__ import annotations

from attachproto_adapters._flows._steps import AwaitDeferred, Pause, Steps

# dockerd's wait answers 5 to 20 ms after the end of the output.
_FIRST_ANSWER = 0.05

# Most processes have ended when they are looked at first. The others are asked after a time that grows up to this.
_PAUSE_MIN, _PAUSE_MAX = 0.005, 0.2


class Pauses:
    """Pauses that grow.

    Attributes:
        bounded_sum: how long those were that the flow bounds.
    """

    def __init__(self) -> None:
        self.bounded_sum = 0.0
        self._next = _PAUSE_MIN

    def bounded(self) -> Steps[None]:
        """A pause that the flow bounds: the caller's timeout does not count it."""
        self.bounded_sum += self._next
        yield from self._pause(bounded=True)

    def awaiting(self) -> Steps[object]:
        """A pause that ends with the answer of the wait that is held. The first is long enough for most of them."""
        seconds, self._next = max(self._next, _FIRST_ANSWER), min(self._next * 2, _PAUSE_MAX)
        self.bounded_sum += seconds
        return (yield AwaitDeferred(seconds))

    def unbounded(self) -> Steps[None]:
        """A pause that only the caller's timeout bounds."""
        yield from self._pause(bounded=False)

    def _pause(self, *, bounded: bool) -> Steps[None]:
        yield Pause(self._next, bounded)
        self._next = min(self._next * 2, _PAUSE_MAX)
