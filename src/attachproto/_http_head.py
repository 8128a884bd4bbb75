"""The head of a request or an answer, and what it says about the body and the connection."""

from __future__ import annotations

from typing import NamedTuple

from attachproto._headers import Headers, field


class Head(NamedTuple):
    """A head. The status code is 0 for a request; the method and the target are empty for an answer."""

    status_code: int
    method: str
    target: str
    headers: Headers
    http_version: str

    @property
    def chunked(self) -> bool:
        """Whether the body comes in chunks."""
        return field(self.headers, "transfer-encoding") is not None

    @property
    def length(self) -> int | None:
        """The announced length of the body; ``None`` without one, and for chunks."""
        length = field(self.headers, "content-length")
        return None if length is None or self.chunked else int(length)

    @property
    def delimited(self) -> bool:
        """Whether the body says where it ends. A 101 has no body (RFC 9110), whatever its header fields say."""
        return self.status_code != 101 and (self.chunked or self.length is not None)

    @property
    def keeps_connection(self) -> bool:
        """Whether the sender may use the connection again: HTTP/1.1, no ``close``, and one length at most.

        With both framings of a body, another reader on the way may have seen another end of it (RFC 9112, 6.1).
        """
        framings = sum(field(self.headers, name) is not None for name in ("transfer-encoding", "content-length"))
        return self.http_version == "1.1" and framings < 2 and "close" not in self._options

    @property
    def _options(self) -> list[str]:
        """The values of ``Connection``, in lower case."""
        values = ",".join(value for name, value in self.headers if name == "connection").lower()
        return [option.strip() for option in values.split(",")]

    @property
    def ends_request(self) -> bool:
        """Whether the sender of this answer reads no more of the request. No engine sends such a head with a stream."""
        return self.delimited or (self.status_code != 101 and "close" in self._options)
