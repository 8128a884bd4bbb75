"""``attachproto demo``: shows one attach, the bytes on the wire beside their events.

It runs on a real engine if there is one, else on the embedded one. A subclass of ``Connection`` records the bytes that
go in and out, so the attachment is the ordinary one, over any transport.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import textwrap
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, TextIO

from attachproto import (
    CLIENT,
    SEND_EOF,
    Attach,
    AttachOptions,
    Connection,
    Event,
    OutputClosed,
    Request,
    Response,
    Stderr,
    Stdout,
)
from attachproto_adapters._errors import AttachError, EngineUnreachable, RequestRejected, printable
from attachproto_adapters._flows._api_calls import exit_code, succeeded, wait_request
from attachproto_adapters._flows._flows import judge_stream
from attachproto_adapters._flows._inspect import read_json
from attachproto_adapters._transport._address import Address
from attachproto_adapters._transport._blocking_dialer import Dialer, open_stream
from attachproto_adapters._transport._hosts import resolve_host
from attachproto_adapters.blocking import Attachment

if TYPE_CHECKING:
    from typing_extensions import Buffer

_SCRIPT: Final = 'echo "to stdout"; echo "to stderr" >&2; while read line; do echo "you said: $line"; done; exit 3'
_INPUT: Final = b"hello\n"

# A demo has to end by itself, even if the engine does not answer.
_TIMEOUT: Final = 30.0

_GREEN, _RED, _BLUE, _DIM, _PLAIN = "\x1b[32m", "\x1b[31m", "\x1b[36m", "\x1b[2m", "\x1b[0m"


class _Tapped(Connection):
    """A client's state machine that calls ``tell`` with the bytes that go in and out; ``None`` is a half-close."""

    def __init__(self, host: str, tell: Callable[[str, bytes | None], None]) -> None:
        super().__init__(CLIENT, host=host)
        self._tell = tell

    def receive_data(self, data: Buffer) -> None:
        self._tell("<", bytes(data))
        super().receive_data(data)

    def send(self, event: Event) -> Any:
        data = super().send(event)
        self._tell(">", None if data is SEND_EOF else data)
        return data


class _WriteFailed(Exception):
    """stdout cannot be written. It is no OSError, because one that is raised by ``send`` is taken for the socket's."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


class _Table:
    """A table of two columns: the bytes on the wire, and the events."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._colour = out.isatty() and "NO_COLOR" not in os.environ
        self._width = max(40, (shutil.get_terminal_size((110, 24)).columns - 3) // 2)

    def wire(self, direction: str, data: bytes | None) -> None:
        """Show bytes that went out (``>``) or came in (``<``)."""
        if data is None:
            self.row("> half-close", "")
        elif not data:
            self.row("< end of file", "")
        else:
            lines = [f"{len(data)} bytes"]
            head, _, rest = data.partition(b"\r\n\r\n") if b"HTTP/1.1" in data else (b"", b"", data)
            lines += [printable(line.decode("latin-1")) for line in head.split(b"\r\n") if head]
            while rest[:1] in (b"\x01", b"\x02") and rest[1:4] == b"\0\0\0":  # a frame: its header is not readable
                size = int.from_bytes(rest[4:8], "big")
                lines.append(f"{rest[:8].hex(' ')}  {rest[8 : 8 + size]!r}")
                rest = rest[8 + size :]
            lines += [repr(rest)] if rest else []
            self.row("\n".join([f"{direction} {lines[0]}", *(f"  {line}" for line in lines[1:])]), "")

    def event(self, event: object, colour: str = "") -> None:
        """Show an event."""
        self.row("", repr(event), colour)

    def row(self, left: str, right: str, colour: str = "") -> None:
        """Write one row. Long cells are wrapped."""
        cells = [
            [part for line in cell.split("\n") for part in textwrap.wrap(line, self._width, subsequent_indent="    ")]
            for cell in (left, right)
        ]
        for index in range(max(map(len, cells))):
            one, two = (cell[index] if index < len(cell) else "" for cell in cells)
            text = f"{self._paint(f'{one:<{self._width}}', _BLUE)} | {self._paint(two, colour)}"
            self._write(text.rstrip() + "\n")

    def _write(self, text: str) -> None:
        try:
            self._out.write(text)
            self._out.flush()
        except OSError as exc:
            raise _WriteFailed(exc) from exc

    def _paint(self, text: str, colour: str) -> str:
        return f"{colour}{text}{_PLAIN}" if self._colour and colour and text.strip() else text


def demo(host: str | None, image: str, out: TextIO) -> int:
    """Run the demo. Returns the exit status.

    Raises:
        AttachError: the engine at ``host`` cannot be reached, has no such image, or refuses a call.
        OSError: ``out`` cannot be written.
    """
    try:
        with _engine(host, image, out) as dialer:
            _run(dialer, image, _Table(out), out)
    except _WriteFailed as exc:
        raise exc.error from None
    return 0


@contextlib.contextmanager
def _engine(host: str | None, image: str, out: TextIO) -> Iterator[Dialer]:
    """The engine at ``host``; without it a real engine that has the image, else the embedded one."""
    why = "no engine answers here"
    try:
        dialer = Dialer(Address(resolve_host(host, os.environ)), _TIMEOUT)
        version = Request("GET", ("version",))
        value = read_json(succeeded(version, dialer.call(version)))
        if host is not None or dialer.call(Request("GET", ("images", image, "json"))).status_code == 200:
            name, api = (value.get(key) if isinstance(value, dict) else None for key in ("Version", "ApiVersion"))
            out.write(printable(f"engine: {name}, API {api}, at {dialer.host}") + "\n\n")
            yield dialer
            return
        why = f"the engine at {dialer.host} has no image {image}"
    except EngineUnreachable:
        if host is not None:
            raise
    # Imported late: it brings asyncio, which attaching does not need.
    from attachproto_engine import Engine

    with Engine() as engine:
        out.write(f"engine: the embedded one, as {why}; it runs local processes and is no sandbox\n\n")
        yield Dialer(Address(resolve_host(engine.host, {})), _TIMEOUT)


def _run(dialer: Dialer, image: str, table: _Table, out: TextIO) -> None:
    name = f"attachproto-demo-{secrets.token_hex(4)}"
    config = {
        "Image": image,
        "Cmd": ["sh", "-c", _SCRIPT],
        "OpenStdin": True,
        "StdinOnce": True,
        "HostConfig": {"NetworkMode": "none"},
    }

    def call(method: str, *path: str, query: tuple[tuple[str, str], ...] = (), body: object = None) -> Response:
        data = b"" if body is None else json.dumps(body).encode()
        headers = (("content-type", "application/json"),) if data else ()
        request = Request(method, path, query, data, headers)
        return succeeded(request, dialer.call(request))

    try:
        call("POST", "containers", "create", query=(("name", name),), body=config)
    except RequestRejected as exc:
        if exc.status_code != 404:
            raise
        raise AttachError(f"{exc}: pull the image, or name another one with --image") from None
    try:
        request = Attach(name, AttachOptions(stdin=True), tty=False)
        table.row("on the wire", "events", _DIM)
        table.event(request)
        session = dialer.dial()
        session.connection = _Tapped(dialer.host.header, table.wire)
        with contextlib.closing(session):
            attachment = Attachment(session, judge_stream(request, open_stream(session, request)))
            table.event(attachment.accepted)
            call("POST", "containers", name, "start")
            seen: set[type] = set()
            for event in attachment:
                table.event(event, _RED if isinstance(event, Stderr) else _GREEN)
                if seen != {Stdout, Stderr}:
                    seen.add(type(event))
                    if seen == {Stdout, Stderr}:
                        table.row("", f"send_stdin({_INPUT!r}), close_stdin()")
                        attachment.send_stdin(_INPUT)
                        attachment.close_stdin()
            table.event(OutputClosed())
        code = exit_code(dialer.call(wait_request(name, "not-running", None)))
        out.write(f"\nexit code: {code}\n")
    finally:
        with contextlib.suppress(AttachError, OSError):
            call("DELETE", "containers", name, query=(("force", "1"),))
