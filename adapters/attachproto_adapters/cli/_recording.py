"""``--record FILE``: writes the stream of a command as one line of JSON, in the format of ``tests/vectors``.

Strategy: two methods of the stream's ``Connection`` are wrapped, so that what is recorded are the bytes above TLS and
ssh, as they were sent and read. The line is written at the end. Values of header fields that may be secret are replaced
by as many ``x``, in the bytes themselves, so that no length changes.
"""

from __future__ import annotations

import base64
import json
import re
import time
from typing import TYPE_CHECKING, Any, Final

from attachproto import SEND_EOF, Connection, Event
from attachproto._stream_base import StreamRequest

if TYPE_CHECKING:
    from attachproto_adapters._transport._blocking import BlockingSession

MAX_BYTES: Final = 64 << 20
"""How many bytes of each direction are kept. Later bytes are only counted."""

# What docker and Podman themselves put into a request, and what an answer to one has. Everything else may be secret.
_SHOWN: Final = frozenset(
    {
        "accept",
        "accept-encoding",
        "api-version",
        "connection",
        "content-length",
        "content-type",
        "date",
        "docker-experimental",
    }
    | {"host", "libpod-api-version", "ostype", "server", "te", "trailer", "transfer-encoding", "upgrade", "user-agent"}
)

_FIELD: Final = re.compile(rb"(?<=\r\n)([!-9;-~]+):[ \t]*([^\r\n]*)")
_PRINTABLE: Final = re.compile(rb"[\t\r\n -~]*")


class Recording:
    """What goes over one stream.

    Args:
        path: of the file. A line is added to it.
        scenario: what was done, in one or two words.

    Attributes:
        engine: ``docker`` or ``podman``, and its version.

    Raises:
        OSError: the file cannot be written.
    """

    def __init__(self, path: str, scenario: str) -> None:
        self._file = open(path, "a", encoding="ascii")  # noqa: SIM115  # close() closes it
        self._scenario = scenario
        self.engine: tuple[str, str] = ("", "")
        self._events: list[tuple[float, str, bytes]] = []
        self._kept = {"send": 0, "recv": 0}
        self._request: StreamRequest | None = None
        self._stream: Connection | None = None
        self._began = 0.0

    def watch(self, session: BlockingSession) -> None:
        """Record the stream that is opened on this connection. A connection for plain calls is not recorded."""
        connection = session.connection
        send, receive = connection.send, connection.receive_data

        def recorded_send(event: Event) -> Any:
            data = send(event)
            if isinstance(event, StreamRequest):
                self._begin(event, connection)
            if self._stream is connection:
                self._add("shut_wr" if data is SEND_EOF else "send", b"" if data is SEND_EOF else data)
            return data

        def recorded_receive(data: Any) -> None:
            if self._stream is connection:
                self._add("recv" if len(data) else "eof", bytes(data))
            receive(data)

        connection.send = recorded_send  # type: ignore[method-assign]
        connection.receive_data = recorded_receive  # type: ignore[method-assign]

    def _begin(self, request: StreamRequest, connection: Connection) -> None:
        # An attach that was refused may be followed by a call for the logs: the last stream is the one that is read.
        self._events.clear()
        self._kept = dict.fromkeys(self._kept, 0)
        self._request, self._stream, self._began = request, connection, time.monotonic()

    def _add(self, kind: str, data: bytes) -> None:
        if kind in self._kept:
            if not data:
                return
            self._kept[kind] += len(data)
            if self._kept[kind] > MAX_BYTES:
                return
        self._events.append((round(time.monotonic() - self._began, 6), kind, data))

    def close(self, failure: BaseException | None = None) -> None:
        """Write the line, if a stream was opened, and close the file.

        Args:
            failure: what has ended the command.
        """
        with self._file as file:
            if self._request is not None:
                file.write(json.dumps(self._line(failure)) + "\n")

    def _line(self, failure: BaseException | None) -> dict[str, Any]:
        assert self._request is not None
        sent = without_secrets(b"".join(data for _, kind, data in self._events if kind == "send"))
        received = without_secrets(b"".join(data for _, kind, data in self._events if kind == "recv"))
        places = {"send": 0, "recv": 0}
        events: list[list[Any]] = []
        request = ""
        for _, kind, data in self._events:
            payload = b""
            if kind in places:
                whole = sent if kind == "send" else received
                payload = whole[places[kind] : places[kind] + len(data)]
                places[kind] += len(data)
            if kind == "send" and not request:
                request = payload.decode("latin-1")
                events.append(["request"])
            else:
                events.append([kind, encode_payload(payload)] if kind in places else [kind])
        times = [at for at, _, _ in self._events]
        end = "eof" if any(kind == "eof" for _, kind, _ in self._events) else "open"
        if isinstance(failure, ConnectionResetError):
            end = "rst"
            events.append(["rst", "ECONNRESET"])
            times.append(times[-1])
        for kind, count in self._kept.items():
            if count > MAX_BYTES:
                events.append([f"{kind}-cut", count - places[kind]])
                times.append(times[-1])
        return {
            "engine": self.engine[0],
            "version": self.engine[1],
            "scenario": self._scenario,
            "label": "A",
            "tty": self._request.tty,
            "request": request,
            "events": events,
            "times": times,
            "expect": {"end": end, "responses": []},
        }


def encode_payload(data: bytes) -> str | dict[str, str]:
    """Bytes as text where all of them are printable, else as base64."""
    if _PRINTABLE.fullmatch(data):
        return data.decode("ascii")
    return {"base64": base64.b64encode(data).decode()}


def decode_payload(payload: str | dict[str, str]) -> bytes:
    """The bytes of an event.

    Raises:
        ValueError: they are written in another way.
    """
    if isinstance(payload, dict):
        return base64.b64decode(payload["base64"], validate=True)
    return payload.encode("ascii")


def without_secrets(data: bytes) -> bytes:
    """One direction of a stream, with ``x`` for the values of header fields that may be secret."""
    end = data.find(b"\r\n\r\n")
    if end == -1:
        return data
    head = _FIELD.sub(_masked, data[: end + 2])
    return head + data[end + 2 :]


def _masked(match: re.Match[bytes]) -> bytes:
    if match[1].decode("ascii").lower() in _SHOWN:
        return match[0]
    return match[0][: len(match[0]) - len(match[2])] + b"x" * len(match[2])
