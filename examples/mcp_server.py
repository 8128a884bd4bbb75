"""A client of MCP (Model Context Protocol) servers that run in containers, where they can read none of your files.

    python examples/mcp_server.py IMAGE COMMAND ...                                            shows the server's tools
    python examples/mcp_server.py --call TOOL --arguments '{"city": "Oslo"}' IMAGE COMMAND ...      uses one of them

The server's stdin and stdout carry one JSON-RPC message per line; stderr is its log. At the end the client closes the
server's stdin, which is how the protocol asks it to end.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import AsyncGenerator
from typing import Any

import anyio

from attachproto import AttachOptions
from attachproto_adapters import AttachError
from attachproto_adapters.anyio import Attachment, Client

MESSAGE_MAX = 64 * 1024 * 1024
END_SECONDS, REMOVE_SECONDS = 5, 10
METHOD_NOT_FOUND = {"code": -32601, "message": "this client offers nothing"}


class McpError(Exception):
    """The server has answered with an error, or not at all."""


def show_log(data: bytes) -> None:
    sys.stderr.buffer.write(data)
    sys.stderr.flush()


class McpServer:
    def __init__(self, attachment: Attachment) -> None:
        self.attachment = attachment
        self.stdout = attachment.stdout_reader(on_stderr=show_log, limit=MESSAGE_MAX)
        self.requests = 0

    async def send(self, **message: Any) -> None:
        await self.attachment.send_stdin(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")

    async def request(self, method: str, **params: Any) -> Any:
        self.requests += 1
        await self.send(id=self.requests, method=method, params=params)
        while line := await self.stdout.readline():
            message = json.loads(line)
            if "method" in message and "id" in message:  # the server asks something of us
                await self.send(id=message["id"], error=METHOD_NOT_FOUND)
            elif message.get("id") == self.requests:
                if "error" in message:
                    raise McpError(message["error"]["message"])
                return message["result"]
        raise McpError(f"the server has ended with exit code {await self.attachment.wait()}")

    async def initialize(self) -> str:
        client = {"name": "attachproto-example", "version": "1"}
        found = await self.request("initialize", protocolVersion="2025-06-18", capabilities={}, clientInfo=client)
        await self.send(method="notifications/initialized")
        return f"{found['serverInfo']['name']} {found['serverInfo']['version']}"

    async def end(self) -> None:
        await self.attachment.close_stdin()
        with anyio.move_on_after(END_SECONDS):
            await self.stdout.read()


@contextlib.asynccontextmanager
async def mcp_server(client: Client, given: argparse.Namespace) -> AsyncGenerator[McpServer]:
    config = {"HostConfig": {"NetworkMode": "none"} | given.host_config}
    container = await client.create(given.image, given.command, stdin=True, config=config)
    try:
        async with await client.attach(container, AttachOptions(stdin=True), start=True) as attachment:
            server = McpServer(attachment)
            yield server
            await server.end()
    finally:
        with anyio.move_on_after(REMOVE_SECONDS, shield=True):
            await client.remove(container, force=True)


async def main(given: argparse.Namespace) -> None:
    async with Client(given.host) as client, mcp_server(client, given) as server:
        print(f"server: {await server.initialize()}", flush=True)
        if given.call:
            answer = await server.request("tools/call", name=given.call, arguments=given.arguments)
            print("\n".join(part.get("text", f"({part['type']})") for part in answer["content"]))
        else:
            for tool in (await server.request("tools/list"))["tools"]:
                print(f"{tool['name']}: {tool.get('description', '')}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="the server's command in the image")
    parser.add_argument("--call", metavar="TOOL")
    parser.add_argument("--arguments", type=json.loads, default={}, help="the tool's arguments, as JSON")
    parser.add_argument("--backend", choices=["asyncio", "trio"], default="asyncio", help="of anyio: %(default)s")
    parser.add_argument("--host", help="the engine; by default the one that the docker command would use")
    parser.add_argument("--host-config", type=json.loads, default={}, help="more of the API's HostConfig, as JSON")
    given = parser.parse_args()
    try:
        anyio.run(main, given, backend=given.backend)
    except KeyboardInterrupt:
        sys.exit(130)
    except (McpError, AttachError) as failure:
        sys.exit(str(failure))
