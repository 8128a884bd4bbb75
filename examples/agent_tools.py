"""The tool runner of an agent: runs shell commands in one sandbox container, each with a deadline and bounded output.

    echo '{"command": "ls /; sleep 60", "timeout": 2}' | python examples/agent_tools.py IMAGE

It reads a call from each line of its stdin, and answers with a line: exit code, stdout and stderr, and whether the
deadline or the bound has ended the command. What a command leaves in the sandbox, the next one finds. The sandbox has
no network, and it ends with this program, however that ends.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from types import TracebackType
from typing import Any, Self

from attachproto import AttachOptions
from attachproto_adapters import AttachError, CommandTimeout, OutputTooLarge, RequestRejected
from attachproto_adapters.blocking import Client

MAX_OUTPUT = 32 * 1024


class Sandbox:
    """A container in which commands are run."""

    def __init__(self, client: Client, image: str, host_config: dict[str, Any]) -> None:
        self.client = client
        # If this program is killed, its connection ends, so stdin and cat end. Then the engine removes the container.
        host_config = {"NetworkMode": "none", "AutoRemove": True} | host_config
        self.container = client.create(image, ["cat"], stdin=True, config={"HostConfig": host_config})
        self.life = client.attach(self.container, AttachOptions(stdin=True), start=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.life.close()
        with contextlib.suppress(RequestRejected):  # the engine is removing it already
            self.client.remove(self.container, force=True)

    def run(self, command: str, timeout: float = 30.0) -> dict[str, Any]:
        exit_code, timed_out, truncated = None, False, False
        try:
            done = self.client.run_exec(self.container, ["sh", "-c", command], timeout=timeout, max_output=MAX_OUTPUT)
            exit_code, stdout, stderr = done.exit_code, done.stdout, done.stderr
        except CommandTimeout as late:
            timed_out, stdout, stderr = True, late.stdout, late.stderr
        except OutputTooLarge as large:
            truncated, stdout, stderr = True, large.stdout, large.stderr
        return {
            "exit_code": exit_code,
            "stdout": stdout.decode(errors="replace"),
            "stderr": stderr.decode(errors="replace"),
            "timed_out": timed_out,
            "truncated": truncated,
        }


def main(given: argparse.Namespace) -> None:
    with Client(given.host) as client, Sandbox(client, given.image, given.host_config) as sandbox:
        for line in sys.stdin:
            try:
                answer = sandbox.run(**json.loads(line))
            except (TypeError, ValueError, AttachError) as failure:
                answer = {"error": str(failure)}
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", help="an image with sh and cat")
    parser.add_argument("--host", help="the engine; by default the one that the docker command would use")
    parser.add_argument("--host-config", type=json.loads, default={}, help="more of the API's HostConfig, as JSON")
    try:
        main(parser.parse_args())
    except KeyboardInterrupt:
        sys.exit(130)
    except AttachError as failure:  # there is no sandbox, because there is no engine, or no such image
        sys.exit(str(failure))
