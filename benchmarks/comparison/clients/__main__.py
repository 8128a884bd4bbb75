"""Runs one client once, against ``DOCKER_HOST``, and prints what it has read as a line of JSON.

    python -m benchmarks.comparison.clients NAME KIND SIZE [--digest] [--tty]

A client is imported only if it is run, so that none pays for another's modules.
"""

from __future__ import annotations

import argparse
import importlib
from typing import Any, Final

from benchmarks.comparison.clients._outcome import Outcome

CLIENTS: Final = {
    "drain": ("bare", "Drain"),
    "drain-asyncio": ("bare", "DrainAsyncio"),
    "drain-trio": ("bare", "DrainTrio"),
    "core": ("bare", "Core"),
    "blocking": ("ours", "Blocking"),
    "asyncio": ("ours", "with_asyncio"),
    "uvloop": ("ours", "with_uvloop"),
    "trio": ("ours", "with_trio"),
    "docker-py": ("docker_py", "DockerPy"),
    "aiodocker": ("with_aiodocker", "Aiodocker"),
}

PATTERN: Final = bytes(range(256)) * 256
"""What ``cat`` is given, again and again."""


def run(name: str, kind: str, size: int, *, digest: bool, tty: bool) -> Outcome:
    """Run one client once."""
    module, maker = CLIENTS[name]
    client: Any = getattr(importlib.import_module(f"benchmarks.comparison.clients.{module}"), maker)()
    outcome = Outcome(digest=digest)
    match kind:
        case "output":
            client.output(outcome, tty=tty)
        case "beside":
            client.beside(outcome)
        case "cat":
            client.cat(outcome, PATTERN * (size // len(PATTERN)))
        case _:
            getattr(client, kind)(outcome, size)
    return outcome


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=sorted(CLIENTS))
    parser.add_argument("kind", choices=["output", "beside", "keystrokes", "cat", "attach", "exec"])
    parser.add_argument("size", type=int)
    parser.add_argument("--digest", action="store_true")
    parser.add_argument("--tty", action="store_true")
    given = parser.parse_args()
    print(run(given.name, given.kind, given.size, digest=given.digest, tty=given.tty).as_json())


if __name__ == "__main__":
    main()
