"""A log service: streams the logs of containers to any number of viewers, as server-sent events.

    python examples/log_service.py --port 8000
    curl -N http://127.0.0.1:8000/CONTAINER

Each viewer has a follow of its own, which ends when the viewer leaves. The id of an event is the time of its line, so
a browser's EventSource that lost its connection goes on behind the last line that it got. The event `end` says that
the container has exited. There is no login: it listens on loopback only.
"""

from __future__ import annotations

import argparse
import functools
import re
import sys

import h11
import trio

from attachproto import Stderr
from attachproto_adapters import AttachError, RequestRejected
from attachproto_adapters.trio import Attachment, Client

Place = tuple[int, int]
"""Where a viewer is: the time of its last line in nanoseconds, and which line of that time it was, from 1 on.

Podman gives all lines that it reads at once the same time, and Podman 4.3 all lines of one second.
"""
START: Place = (0, 0)


def place_of(request: h11.Request) -> Place:
    for name, value in request.headers:
        if name == b"last-event-id":
            time, number = value.split(b"/")
            return int(time), int(number)
    return START


def event(name: str, text: str, place: Place = START) -> h11.Data:
    data = "".join(f"data: {part}\n" for part in re.split(r"\r\n|\r|\n", text))
    return h11.Data(data=f"id: {place[0]}/{place[1]}\nevent: {name}\n{data}\n".encode())


class Viewer:
    """One HTTP connection."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.http = h11.Connection(h11.SERVER)

    async def request(self) -> h11.Request | None:
        while not isinstance(received := self.http.next_event(), h11.Request):
            if received is not h11.NEED_DATA:
                return None
            self.http.receive_data(await self.stream.receive_some())
        return received

    async def send(self, *events: h11.Event) -> None:
        for each in events:
            if data := self.http.send(each):
                await self.stream.send_all(data)

    async def refuse(self, status: int, message: str) -> None:
        headers = [("Content-Type", "text/plain; charset=utf-8"), ("Connection", "close")]
        head = h11.Response(status_code=status, headers=headers)
        await self.send(head, h11.Data(data=f"{message}\n".encode()), h11.EndOfMessage())

    async def show(self, log: Attachment, seen: Place) -> None:
        headers = [("Content-Type", "text/event-stream"), ("Cache-Control", "no-store"), ("Connection", "close")]
        await self.send(h11.Response(status_code=200, headers=headers))
        place = START
        async for line in log.lines(timestamps=True):
            if line.time is not None:
                place = (line.time.nanoseconds, place[1] + 1 if line.time.nanoseconds == place[0] else 1)
            if place > seen:
                await self.send(event("stderr" if line.kind is Stderr else "stdout", line.text, place))
        await self.send(event("end", "", place), h11.EndOfMessage())

    async def cancel_when_gone(self, scope: trio.CancelScope) -> None:
        while await self.stream.receive_some():
            pass
        scope.cancel()


async def serve(client: Client, stream: trio.SocketStream) -> None:
    viewer = Viewer(stream)
    try:
        async with stream, trio.open_nursery() as nursery:
            if (request := await viewer.request()) is None:
                return
            nursery.start_soon(viewer.cancel_when_gone, nursery.cancel_scope)
            try:
                container, seen = request.target.decode().strip("/"), place_of(request)
                # A little earlier, because engines differ in whether `since` includes that very time.
                since = seen[0] / 1e9 - 0.001 if seen > START else None
                log = await client.logs(container, follow=True, timestamps=True, since=since)
            except RequestRejected as refused:
                await viewer.refuse(refused.status_code, refused.message)
            except (AttachError, ValueError) as failure:
                await viewer.refuse(400 if isinstance(failure, ValueError) else 502, str(failure))
            else:
                async with log:
                    await viewer.show(log, seen)
            nursery.cancel_scope.cancel()
    except* (trio.BrokenResourceError, h11.RemoteProtocolError):
        pass  # the viewer has gone, or speaks no HTTP


async def main(host: str | None, port: int) -> None:
    async with Client(host) as client:
        listeners = await trio.open_tcp_listeners(port, host="127.0.0.1")
        print("http://{}:{}/".format(*listeners[0].socket.getsockname()), flush=True)
        await trio.serve_listeners(functools.partial(serve, client), listeners)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", help="the engine; by default the one that the docker command would use")
    parser.add_argument("--port", type=int, default=8000, help="0 for any; the address is printed")
    given = parser.parse_args()
    interrupted = False
    try:
        trio.run(main, given.host, given.port)
    except* KeyboardInterrupt:
        interrupted = True
    sys.exit(130 if interrupted else 0)
