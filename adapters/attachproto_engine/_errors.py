"""The errors of the engine's own code: a call is refused, or its client has gone."""

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


class ClientGone(Exception):
    """The client has closed or reset the connection, so it cannot be sent anything.

    It is no ``OSError``: one of the engine's own, such as EMFILE, must not be taken for it.
    """


class ContainerRemoved(Exception):
    """The container was removed, and so nothing comes any more to a client that is attached."""


class EndedByFault(ClientGone):
    """A scripted fault ends the connection here."""
