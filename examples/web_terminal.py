"""A web terminal: each browser tab gets a shell in a container of its own, which is removed when the tab closes.

    npm install @xterm/xterm @xterm/addon-fit && pip install aiohttp
    python examples/web_terminal.py IMAGE --port 8000

The page (web_terminal.html) sends keys as binary WebSocket messages and its size as text, [rows, columns]. A WebSocket
is open to every page that a browser shows, so only the server's own page is let in. There is no login: it listens on
loopback only.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

from aiohttp import WSMsgType, web

from attachproto import AttachOptions
from attachproto_adapters import AttachError
from attachproto_adapters.asyncio import Attachment, Client


class WebTerminal:
    def __init__(self, client: Client, image: str, command: list[str], config: dict[str, Any]) -> None:
        self.client = client
        self.image = image
        self.command = command
        self.config = config
        self.origin = ""
        self.open: set[web.WebSocketResponse] = set()

    async def page(self, request: web.Request) -> web.FileResponse:
        return web.FileResponse(Path(__file__).with_suffix(".html"))

    async def terminal(self, request: web.Request) -> web.WebSocketResponse:
        if request.headers.get("Origin") != self.origin:
            raise web.HTTPForbidden(text="this is for the server's own page only")
        socket = web.WebSocketResponse(heartbeat=30, compress=False)
        await socket.prepare(request)
        self.open.add(socket)
        try:
            async with self.shell() as attachment, asyncio.TaskGroup() as tasks:
                # The shell may read no input. So a queue is between, or nobody would see that the browser leaves.
                keys: asyncio.Queue[bytes] = asyncio.Queue(1000)
                beside = (
                    tasks.create_task(self.show(attachment, socket)),
                    tasks.create_task(self.feed(keys, attachment)),
                )
                async for message in socket:
                    if message.type is WSMsgType.TEXT:
                        rows, columns = json.loads(message.data)
                        await attachment.resize(rows, columns)
                    elif message.type is WSMsgType.BINARY:
                        keys.put_nowait(message.data)
                for task in beside:
                    task.cancel()
        except* (AttachError, OSError, asyncio.QueueFull) as failed:
            await socket.close(message=str(failed.exceptions[0]).encode("ascii", "replace")[:120])
        finally:
            self.open.discard(socket)
        return socket

    @contextlib.asynccontextmanager
    async def shell(self) -> AsyncGenerator[Attachment]:
        container = await self.client.create(self.image, self.command, stdin=True, tty=True, config=self.config)
        try:
            options = AttachOptions(stdin=True)
            async with await self.client.attach(container, options, tty=True, start=True) as attachment:
                yield attachment
        finally:
            await self.client.remove(container, force=True)

    async def show(self, attachment: Attachment, socket: web.WebSocketResponse) -> None:
        async for event in attachment:
            await socket.send_bytes(event.data)
        await socket.close(message=b"the shell has ended")

    async def feed(self, keys: asyncio.Queue[bytes], attachment: Attachment) -> None:
        while True:
            await attachment.send_stdin(await keys.get())

    async def serve(self, port: int, modules: Path) -> None:
        app = web.Application()
        app.router.add_get("/", self.page)
        app.router.add_get("/terminal", self.terminal)
        app.router.add_static("/xterm", modules / "@xterm")
        runner = web.AppRunner(app)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", port)
            await site.start()
            self.origin = "http://{}:{}".format(*runner.addresses[0])
            print(self.origin, flush=True)
            await asyncio.Event().wait()
        finally:
            await asyncio.gather(*(socket.close(message=b"the server ends") for socket in self.open))
            await runner.cleanup()


async def main(given: argparse.Namespace) -> None:
    async with Client(given.host) as client:
        terminal = WebTerminal(client, given.image, given.command or ["sh"], {"HostConfig": given.host_config})
        await terminal.serve(given.port, given.modules)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image")
    parser.add_argument("command", nargs="*", help="the shell; by default sh")
    parser.add_argument("--host", help="the engine; by default the one that the docker command would use")
    parser.add_argument("--port", type=int, default=8000, help="0 for any; the address is printed")
    parser.add_argument("--modules", type=Path, default=Path("node_modules"), help="where npm has installed xterm.js")
    parser.add_argument("--host-config", type=json.loads, default={}, help="more of the API's HostConfig, as JSON")
    given = parser.parse_args()
    if not (given.modules / "@xterm").is_dir():
        parser.error(f"no xterm.js in {given.modules}: npm install @xterm/xterm @xterm/addon-fit")
    try:
        asyncio.run(main(given))
    except KeyboardInterrupt:
        sys.exit(130)
