"""Runs the Python blocks of one page, in a process that nothing else uses.

    python page_process.py COMMANDS ANSWERS     two descriptors

Each command is a line of JSON: the code, its page, its first line there, and the files for what it prints. The answer
is the text of the exception, or an empty one. Little is imported before a block, because some blocks patch modules.
"""

import json
import os
import sys
import types
from typing import TextIO

page = types.ModuleType("page")
# Some classes look up the module in which they were made.
sys.modules["page"] = page
sys.path.insert(0, os.getcwd())


def run(code: str, name: str, line: int, out: str, err: str) -> str:
    """The text of the exception that the block raised."""
    for descriptor, path in ((1, out), (2, err)):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, descriptor)
        os.close(file)
    try:
        exec(compile("\n" * (line - 1) + code, name, "exec"), vars(page))
        return ""
    except BaseException:
        import traceback

        return traceback.format_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def main(commands: TextIO, answers: TextIO) -> None:
    while line := commands.readline():
        answers.write(json.dumps(run(**json.loads(line))) + "\n")
        answers.flush()


if __name__ == "__main__":
    main(os.fdopen(int(sys.argv[1])), os.fdopen(int(sys.argv[2]), "w"))
