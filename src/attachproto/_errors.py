"""Whose fault it was is the first thing that a caller needs to know, so that is what the two classes say."""

from __future__ import annotations


class ProtocolError(Exception):
    """The rules of the attach protocol were broken. Abstract: see the two subclasses."""

    def __init__(self, message: str) -> None:
        if type(self) is ProtocolError:
            raise TypeError("ProtocolError is abstract: raise LocalProtocolError or RemoteProtocolError")
        super().__init__(message)


class LocalProtocolError(ProtocolError):
    """Our side asked for what the protocol does not allow now. Nothing was changed by the call."""


class RemoteProtocolError(ProtocolError):
    """The peer sent what the protocol does not allow, or stopped in the middle.

    What it had sent before was delivered as events. The exchange is over; asking for more events repeats the error.
    """
