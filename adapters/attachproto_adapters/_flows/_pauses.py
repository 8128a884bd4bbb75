"""The pauses between two inspects."""

from __future__ import annotations

from attachproto_adapters._flows._steps import AwaitDeferred, Pause, Steps

# dockerd's wait answers 5 to 20 ms after the end of the output.
_FIRST_ANSWER = 0.05

# Most processes have ended at the first inspect. For the others, the pause grows up to the second number.
_PAUSE_MIN, _PAUSE_MAX = 0.005, 0.2


class Pauses:
    """Pauses that grow.

    Attributes:
        bounded_sum: the sum of the pauses that the flow limits, in seconds.
    """

    def __init__(self) -> None:
        self.bounded_sum = 0.0
        self._next = _PAUSE_MIN

    def bounded(self) -> Steps[None]:
        """A pause that the flow limits itself: the caller's timeout does not count it."""
        self.bounded_sum += self._next
        yield from self._pause(bounded=True)

    def awaiting(self) -> Steps[object]:
        """A pause that ends early with the answer to the held wait. The first pause is long enough for most answers."""
        seconds, self._next = max(self._next, _FIRST_ANSWER), min(self._next * 2, _PAUSE_MAX)
        self.bounded_sum += seconds
        return (yield AwaitDeferred(seconds))

    def unbounded(self) -> Steps[None]:
        """A pause that only the caller's timeout limits."""
        yield from self._pause(bounded=False)

    def _pause(self, *, bounded: bool) -> Steps[None]:
        yield Pause(self._next, bounded)
        self._next = min(self._next * 2, _PAUSE_MAX)
