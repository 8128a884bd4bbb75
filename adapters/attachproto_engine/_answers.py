"""The answers of dockerd and Podman: header fields, JSON, errors."""

from __future__ import annotations

import json
import re
from email.utils import formatdate
from typing import Any, Final

from attachproto import RAW_STREAM, Headers, Rejected, Response, __version__
from attachproto_engine._errors import ApiError

_SERVER: Final = f"attachproto-engine/{__version__} (not a sandbox)"
_JSON: Final = (("content-type", "application/json"),)
# The version whose behaviour is emulated where versions differ.
_LIBPOD: Final = "5.4.2"

_SURROGATE: Final = re.compile("[\ud800-\udfff]")

_TEXT: Final = (("content-type", "text/plain; charset=utf-8"),)


def date() -> Headers:
    """The time, as a header field."""
    return (("date", formatdate(usegmt=True)),)


def engine_headers(api_version: str) -> Headers:
    """The header fields that dockerd's middleware adds to the answers of its routes."""
    return (("api-version", api_version), ("docker-experimental", "false"), *_named())


def _named() -> Headers:
    return (("ostype", "linux"), ("server", _SERVER))


def _encoded(document: Any) -> bytes:
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    try:
        return text.encode("utf-8", "surrogateescape") + b"\n"
    except UnicodeEncodeError:  # half of a pair, which JSON can hold and UTF-8 cannot; Go writes U+FFFD for it
        return _SURROGATE.sub("\ufffd", text).encode() + b"\n"


class Answers:
    """Makes the answers of dockerd with this highest API version.

    Attributes:
        component: how ``/version`` names the engine, and its version.
    """

    component: tuple[str, str] = ("Engine", __version__)

    def __init__(self, api_version: str) -> None:
        self.api_version = api_version

    def headers(self, *, json: bool = True) -> Headers:
        """The header fields of an ordinary answer."""
        common = engine_headers(self.api_version)
        return (common[0], *(_JSON if json else ()), *common[1:], *date())

    def exec_headers(self) -> Headers:
        """The header fields of the start of an exec, behind those of every stream."""
        return engine_headers(self.api_version)

    def document(self, value: Any, status_code: int = 200) -> Response:
        """JSON."""
        return Response(status_code, self.headers(), _encoded(value))

    def nothing(self, status_code: int = 204) -> Response:
        """A status without a body."""
        return Response(status_code, self.headers(json=False))

    def text(self, value: bytes, headers: Headers = ()) -> Response:
        """Plain text."""
        return Response(200, (*self.headers(json=False), *headers, *_TEXT), value)

    def refusal(self, refused: ApiError) -> Response:
        """An error, as JSON."""
        return self.document({"message": refused.text}, refused.status_code)

    def attach_refused(self, refused: ApiError) -> Rejected:
        """A refusal of an attach. dockerd's is no JSON but a bare text that ends with the connection."""
        body = f"{refused.text}\r\n".encode("utf-8", "surrogateescape")
        return Rejected(refused.status_code, (("content-type", RAW_STREAM),), body)

    def version_refusal(self, text: str, *, plain: bool) -> Response:
        """The error of dockerd's version check, which runs before its other middleware. Very old clients get text."""
        version = (("api-version", self.api_version),)
        if plain:
            headers = (*version, *_TEXT, *_named(), ("x-content-type-options", "nosniff"), *date())
            return Response(400, headers, f"{text}\n".encode())
        return Response(400, (*version, *_JSON, *_named(), *date()), _encoded({"message": text}))

    def page_not_found(self) -> Response:
        """The router's answer to an unknown path or method."""
        return Response(404, (*_JSON, *date()), _encoded({"message": "page not found"}))

    def moved(self, location: str) -> Response:
        """The router's redirect for a path with empty or dot segments."""
        return Response(301, (("location", location), *date()))

    def unreadable(self, *, too_large: bool) -> Response:
        """The answer of Go's server to an invalid request, or to one whose head or body is too large."""
        status_code, phrase = (431, "Request Header Fields Too Large") if too_large else (400, "Bad Request")
        return Response(status_code, _TEXT, f"{status_code} {phrase}".encode())


class PodmanAnswers(Answers):
    """Makes the answers of Podman."""

    component = ("Podman Engine", _LIBPOD)

    def headers(self, *, json: bool = True) -> Headers:
        """The header fields of an ordinary answer; ``Libpod-Api-Version`` is how clients know Podman."""
        version = (("api-version", self.api_version),)
        return (*version, *(_JSON if json else ()), ("libpod-api-version", _LIBPOD), ("server", _SERVER), *date())

    def exec_headers(self) -> Headers:
        """None: the head of an exec is that of an attach."""
        return ()

    def refusal(self, refused: ApiError) -> Response:
        """An error: its text ends with its cause, as Go's wrapped errors do."""
        cause = refused.text.rpartition(": ")[2]
        return self.document(
            {"cause": cause, "message": refused.text, "response": refused.status_code}, refused.status_code
        )

    def attach_refused(self, refused: ApiError) -> Rejected:
        """A refusal of an attach is JSON, as every other error."""
        return as_rejected(self.refusal(refused))


def as_rejected(response: Response) -> Rejected:
    """The error of a plain call, as the refusal of a stream."""
    length = (("content-length", str(len(response.body))), ("connection", "close"))
    return Rejected(response.status_code, response.headers + length, response.body)
