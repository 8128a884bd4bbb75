"""The error that the engine's own code raises to refuse a call."""

from __future__ import annotations


class ApiError(Exception):
    """The engine refuses a call.

    Attributes:
        status_code: the HTTP status that the emulated engine answers with.
        text: its error message.
    """

    def __init__(self, status_code: int, text: str) -> None:
        super().__init__(text)
        self.status_code = status_code
        self.text = text
