"""Shows a real container's output, read by read: the bytes that came, and their events.

    python examples/first_output.py                            a dockerd of its own (root on Debian; ended afterwards)
    python examples/first_output.py unix:///PATH CONTAINER     a created container on an engine that runs

It uses the core with I/O of its own: a socket and ten lines around a Connection, without the adapters. It attaches
before it starts the container: no other order keeps the first output.
"""

from __future__ import annotations

import pathlib
import socket
import sys

from attachproto import CLIENT, NEED_DATA, Attach, AttachOptions, Connection, OutputClosed, Rejected, Request, Response

SCRIPT = "echo to stdout; echo to stderr >&2; echo and out again; exit 3"


def call(path: str, request: Request) -> Response:
    """One plain call on a connection of its own."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(path)
        conn = Connection(CLIENT)
        sock.sendall(conn.send(request))
        while not isinstance(event := conn.next_event(), Response):
            if event is NEED_DATA:
                conn.receive_data(sock.recv(65536))
        return event


def show(path: str, container: str) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(path)
        conn = Connection(CLIENT)
        request = conn.send(Attach(container, AttachOptions(), tty=False))
        print(f"sent      {request!r}")
        sock.sendall(request)
        started = False
        while True:
            event = conn.next_event()
            if event is NEED_DATA:
                data = sock.recv(65536)
                print(f"received  {data!r}")
                conn.receive_data(data)
                continue
            print(f"          -> {event}")
            if isinstance(event, OutputClosed | Rejected):
                return
            if not started:
                started = True
                answer = call(path, Request("POST", ("containers", container, "start")))
                print(f"started   {answer.status_code} {answer.message}")


def main() -> None:
    if len(sys.argv) == 3:
        show(sys.argv[1].removeprefix("unix://"), sys.argv[2])
        return
    # The live tests' own engines: not part of the library.
    sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
    from tests.live import engines
    from tests.live.engine_api import Engine

    try:
        running = engines.up("docker")
    except engines.EngineUnavailable as why:
        sys.exit(f"no engine: {why}")
    try:
        engine = Engine(running)
        print(f"dockerd   {running.version}, API {running.api_version}")
        show(str(running.socket), engine.shell(SCRIPT))
        engine.remove_all()
    finally:
        if running.started_here:
            engines.down("docker")


if __name__ == "__main__":
    main()
