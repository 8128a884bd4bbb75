"""What the adapters write to the logger ``attachproto_adapters``, at DEBUG.

Strategy: these functions get the method and the path of a call, its status and how an attachment ended. They never get
a header, a query, a body, a variable of the environment, the text of an error, or output. So no secret can be logged.

The blocking adapter does not import ``logging``. A program that has not imported it cannot have switched it on, so it
is looked up in ``sys.modules``.
"""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Final

from attachproto import Framing, Request, StreamRequest
from attachproto_adapters._flows._api_calls import named

if TYPE_CHECKING:
    import logging

NAME: Final = "attachproto_adapters"


_DEBUG: Final = 10
"""``logging.DEBUG``."""

_found: logging.Logger | None = None


def _logger() -> logging.Logger | None:
    """The logger; ``None`` if it is not switched on."""
    global _found
    logger = _found
    if logger is None:
        # Another thread may be in the middle of importing it.
        if (get_logger := getattr(sys.modules.get("logging"), "getLogger", None)) is None:
            return None
        logger = _found = get_logger(NAME)
    return logger if logger.isEnabledFor(_DEBUG) else None


class LoggedCall:
    """A context for one call: it logs the call with the status of the answer, or the class of the error.

    Args:
        request: the call.
    """

    __slots__ = ("_begun", "_logger", "_request", "_status_code")

    def __init__(self, request: Request | StreamRequest) -> None:
        self._logger = _logger()
        self._request = request
        self._status_code: int | None = None
        self._begun = 0.0 if self._logger is None else time.monotonic()

    def answered(self, status_code: int) -> None:
        """Keep the status for the line that is logged at the end."""
        self._status_code = status_code

    def __enter__(self) -> LoggedCall:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._logger is None:
            return
        how = "no answer" if self._status_code is None else str(self._status_code)
        if exc_type is not None:
            how = exc_type.__name__
        self._logger.debug("%s: %s after %.1f ms", named(self._request), how, (time.monotonic() - self._begun) * 1000)


def log_attached(call: str, framing: Framing | None) -> None:
    """Log that a stream is open. ``call`` is the call that has opened it, as errors name it."""
    if (logger := _logger()) is not None:
        logger.debug("%s: open, %s", call, "framing unknown" if framing is None else framing.name.lower())


def log_ended(call: str, how: str) -> None:
    """Log the end of a stream. ``how`` is a text of ours, or the class of an error."""
    if (logger := _logger()) is not None:
        logger.debug("%s: %s", call, how)
