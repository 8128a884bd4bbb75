"""The server of many attachments, on asyncio's streams, so that 10,000 connections need no threads.

    python -m benchmarks.comparison.scale_server PATH COUNT

It sends no output until a connection asks for ``/release``. Then every attachment gets one piece of output and its end.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import sys
from typing import Final

from attachproto import NEED_DATA, SERVER, Accepted, Connection, Framing, Response, Stdout, StreamRequest, encode_frame
from benchmarks.comparison.replay import ID

JSON: Final = (("content-type", "application/json"),)

# What every attachment gets in the end.
OUTPUT: Final = encode_frame(Stdout(bytes(32 * 1024)))

# A process has more open than attachments; each takes one descriptor.
SPARE_DESCRIPTORS: Final = 100

CONTAINER: Final = {
    "Id": ID,
    "State": {"Status": "running", "Running": True, "ExitCode": 0},
    "Config": {"Tty": False, "OpenStdin": False, "StdinOnce": False},
}


def raise_limit(count: int) -> None:
    """Let this process, and those that it starts, have as many descriptors.

    Raises:
        ValueError: the hard limit is lower.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (count + SPARE_DESCRIPTORS, hard))


async def serve(path: str) -> None:
    """The server: attachments are held open until somebody asks for ``/release``."""
    released = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError), contextlib.closing(writer):
            connection = Connection(SERVER)
            while (event := connection.next_event()) is NEED_DATA:
                connection.receive_data(await reader.read(4096))
            if isinstance(event, StreamRequest):
                writer.write(connection.send(Accepted(Framing.MULTIPLEXED)))
                await released.wait()
                writer.write(OUTPUT)
            else:
                if getattr(event, "path", ())[-1:] == ("release",):
                    released.set()
                writer.write(connection.send(Response(200, JSON, json.dumps(CONTAINER).encode())))
            await writer.drain()

    server = await asyncio.start_unix_server(answer, path, backlog=4096)
    print("ready", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    raise_limit(int(sys.argv[2]))
    asyncio.run(serve(sys.argv[1]))
