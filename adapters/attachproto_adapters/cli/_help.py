"""What the help shows beside the options: examples, and the script for completion."""

from __future__ import annotations

import argparse
import importlib
from typing import NoReturn

from attachproto_adapters.cli._statuses import OURS

EXAMPLES = {
    "attach": """\
examples:
  attachproto attach web                    see what it prints; Ctrl-C goes to the container
  attachproto attach --sig-proxy=false web  the same, and Ctrl-C detaches
  attachproto attach --start --json job     start it, and print one JSON object for each event
""",
    "exec": """\
examples:
  attachproto exec web ps                   run a command
  attachproto exec -it web sh               a shell; ctrl-p ctrl-q detaches
  attachproto exec -i web tar x < web.tar   give it input
  attachproto exec --timeout 30 web ./check end it after 30 seconds
""",
    "logs": """\
examples:
  attachproto logs --tail 20 -f web         the last 20 lines, and what comes
  attachproto logs --since 10m -t web       the last ten minutes, with times
""",
    "run": """\
examples:
  attachproto run --rm alpine echo hello    run a command in a new container
  attachproto run --rm -it alpine sh        a shell in one
  attachproto run --rm --timeout 60 alpine ./job
""",
    "engine": """\
examples:
  attachproto engine attachproto run --rm -it alpine sh
                                            a shell in a container, without Docker
  attachproto engine python -m pytest       tests that need an engine
  attachproto engine -H unix:///tmp/engine.sock
                                            for other programs, until Ctrl-C
""",
    "replay": """\
examples:
  attachproto exec --record web.jsonl web ps    record a stream
  attachproto replay web.jsonl                  show it
  attachproto replay --as-server unix:///tmp/replay.sock web.jsonl
                                                be an engine whose every stream is the recorded one
""",
}


class PrintCompletion(argparse.Action):
    """Prints the script, and exits."""

    def __call__(self, parser: argparse.ArgumentParser, *arguments: object, **options: object) -> NoReturn:
        try:
            shtab = importlib.import_module("shtab")
        except ImportError:
            parser.exit(OURS, f"{parser.prog}: it is made by shtab: pip install 'attachproto[completion]'\n")
        (_, shell, *_) = arguments
        print(shtab.complete(parser, str(shell)))
        parser.exit()
