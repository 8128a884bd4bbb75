"""A grader: runs a submission in a fresh container, shows its lines as they come, and compares them with a file.

    python examples/grader.py IMAGE SUBMISSION --input INPUT --expect OUTPUT --timeout 10 --memory 256

The container has no network, little memory and few processes. It is removed at the end, also on Ctrl-C. The exit code
is 0 if the submission has passed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import time
from pathlib import Path
from typing import Any

from attachproto import AttachOptions, Stdout
from attachproto_adapters import AttachError, AttachmentClosed
from attachproto_adapters.asyncio import Attachment, Client

MAX_OUTPUT = 1024 * 1024


class Failed(Exception):
    """The submission has not passed."""


async def feed(attachment: Attachment, data: bytes) -> None:
    # A submission may end without reading its input.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError, AttachmentClosed):
        await attachment.send_stdin(data)
        await attachment.close_stdin()


async def show(attachment: Attachment) -> list[str]:
    """Prints lines as they come. Returns those of stdout."""
    begin, size = time.monotonic(), 0
    lines: list[str] = []
    async for line in attachment.lines():
        print(f"{time.monotonic() - begin:6.2f} s {'|' if line.kind is Stdout else '!'} {line.text}", flush=True)
        if (size := size + len(line.text) + 1) > MAX_OUTPUT:
            raise Failed("it printed too much")
        if line.kind is Stdout:
            lines.append(line.text)
    return lines


async def grade(given: argparse.Namespace) -> None:
    limits: dict[str, Any] = {"NetworkMode": "none", "Memory": given.memory * 2**20, "PidsLimit": 64}
    config = {"HostConfig": limits | given.host_config}
    command = [*given.interpreter.split(), given.submission.read_text()]
    data = given.input.read_bytes() if given.input else b""
    async with Client(given.host) as client:
        container = await client.create(given.image, command, stdin=True, config=config)
        try:
            async with (
                asyncio.timeout(given.timeout),
                await client.attach(container, AttachOptions(stdin=True), start=True) as attachment,
            ):
                _, lines = await asyncio.gather(feed(attachment, data), show(attachment))
                exit_code = await attachment.wait()
        except TimeoutError:
            raise Failed(f"it had not ended after {given.timeout:g} s") from None
        finally:
            await client.remove(container, force=True)
    if exit_code:
        hint = " (perhaps it had too little memory)" if exit_code == 137 else ""
        raise Failed(f"its exit code is {exit_code}{hint}")
    if given.expect and lines != given.expect.read_text().splitlines():
        raise Failed("it printed something else than expected")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image")
    parser.add_argument("submission", type=Path, help="the program; at most 128 KiB")
    parser.add_argument("--interpreter", default="python3 -c", help="takes it as its last argument: %(default)s")
    parser.add_argument("--input", type=Path, help="a file for its stdin")
    parser.add_argument("--expect", type=Path, help="a file with what it has to print")
    parser.add_argument("--timeout", type=float, default=10.0, help="in seconds: %(default)s")
    parser.add_argument("--memory", type=int, default=256, help="in MiB: %(default)s")
    parser.add_argument("--host", help="the engine; by default the one that the docker command would use")
    parser.add_argument("--host-config", type=json.loads, default={}, help="more of the API's HostConfig, as JSON")
    try:
        asyncio.run(grade(parser.parse_args()))
        print("passed")
    except Failed as reason:
        print(f"failed: {reason}")
        sys.exit(1)
    except AttachError as failure:
        sys.exit(f"not graded: {failure}")
    except KeyboardInterrupt:
        sys.exit(130)
