"""The command line: every option of every command, and the help.

Options have docker's names and short forms where they mean the same. As in docker, what follows the container or the
image is the command, whatever it looks like. The file has more than 250 lines, because every option stands here.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import NoReturn

from attachproto import __version__
from attachproto_adapters._transport._schemes import HELP as HOST_HELP
from attachproto_adapters.cli import _values
from attachproto_adapters.cli._help import EXAMPLES, PrintCompletion
from attachproto_adapters.cli._statuses import FAILED, OURS, statuses

Run = Callable[[argparse.Namespace], int]


class Parser(argparse.ArgumentParser):
    """A parser that exits with docker's status if the command line is wrong."""

    def error(self, message: str) -> NoReturn:
        self.print_usage()
        self.exit(OURS, f"{self.prog}: {message}\n")

    def print_usage(self, file: object = None) -> None:
        super().print_usage(sys.stderr)


def make_parser(
    attach: Run, exec_: Run, logs: Run, run: Run, replay: Run, demo: Run, engine: Run
) -> argparse.ArgumentParser:
    """The parser; the arguments are what its commands call."""
    parser = Parser(
        prog="attachproto",
        description="Attach to containers of Docker or Podman, and run commands in them.",
        epilog="attachproto COMMAND --help has examples and the exit statuses.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"attachproto {__version__}")
    parser.add_argument(
        "--print-completion",
        action=PrintCompletion,
        choices=("bash", "zsh"),
        help="print a script that completes this command in a shell (needs attachproto[completion])",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)

    def command(name: str, run: Run, help: str, description: str, *, own_status: bool = False) -> Parser:
        made: Parser = commands.add_parser(
            name,
            help=help,
            description=description,
            epilog=EXAMPLES[name] + ("\n" + statuses(own=own_status) if name != "logs" else ""),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        made.set_defaults(run=run, failure_status=OURS if own_status else FAILED, command_name=name)
        return made

    attach_ = command(
        "attach",
        attach,
        "attach to a container",
        "Attach to a running container, and forward stdin if the container has one. Its stdout goes to stdout, its\n"
        "stderr to stderr, and its exit code becomes the command's.",
    )
    attach_.add_argument("--no-stdin", action="store_true", help="do not forward stdin")
    attach_.add_argument("--logs", action="store_true", help="first print what was logged so far")
    attach_.add_argument("--start", action="store_true", help="start the container after attaching to it")
    _detach_keys(attach_)
    _flag(attach_, "--sig-proxy", default=True, help="signals go to the container, unless it has a TTY (default: true)")
    _timeout(attach_, "kill the container")
    _output(attach_)
    attach_.add_argument("container", metavar="CONTAINER", help="name or ID")

    exec_parser = command(
        "exec",
        exec_,
        "run a command in a running container",
        "Run a command in a running container. Its exit code becomes the command's.",
    )
    _process(exec_parser)
    _timeout(exec_parser, "end the command")
    _output(exec_parser)
    exec_parser.add_argument("container", metavar="CONTAINER", help="name or ID")
    exec_parser.add_argument("command", metavar="COMMAND", help="the program")
    exec_parser.add_argument("arguments", metavar="ARG", nargs=argparse.REMAINDER, help="its arguments")

    logs_ = command(
        "logs",
        logs,
        "print what a container has logged",
        "Print what a container has logged. The exit status is 0 if it could be read, else 1; 124 after --timeout.",
    )
    _flag(logs_, "--follow", "-f", help="go on with what is logged from now on")
    logs_.add_argument("--tail", "-n", metavar="N", type=_values.tail, help="only the last N lines (default: all)")
    since = "only what was logged after this time (such as 10m, 2026-01-31T12:00:00Z)"
    logs_.add_argument("--since", metavar="TIME", type=_values.point_in_time, help=since)
    logs_.add_argument("--until", metavar="TIME", type=_values.point_in_time, help="only what was logged before")
    _flag(logs_, "--timestamps", "-t", help="begin each line with its time")
    _flag(logs_, "--details", help="begin each line with the attributes of the log driver")
    _timeout(logs_, "stop reading")
    _output(logs_)
    logs_.add_argument("container", metavar="CONTAINER", help="name or ID")

    run_ = command(
        "run",
        run,
        "run a command in a new container",
        "Create a container, attach to it, and start it. The image has to be there: nothing is pulled.",
        own_status=True,
    )
    _process(run_)
    _flag(run_, "--rm", help="remove the container when it has exited")
    run_.add_argument("--network", help="the network it is in, such as none (default: the engine's)")
    run_.add_argument(
        "--ulimit", metavar="NAME=SOFT[:HARD]", type=_values.ulimit, action="append", default=[], help="a limit of it"
    )
    run_.add_argument("--name", help="the container's name (default: the engine makes one up)")
    _flag(run_, "--sig-proxy", default=True, help="signals go to the container, unless it has a TTY (default: true)")
    _timeout(run_, "kill the container")
    _output(run_)
    run_.add_argument("image", metavar="IMAGE", help="name or ID")
    run_.add_argument("arguments", metavar="COMMAND", nargs=argparse.REMAINDER, help="replaces the image's command")

    replay_ = commands.add_parser(
        "replay",
        help="show what --record has written",
        description="Show recorded streams, the bytes beside the events that they are; or play one to clients.",
        epilog=EXAMPLES["replay"],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    replay_.add_argument(
        "--as-server", metavar="ADDRESS", help="play the stream to clients, until Ctrl-C: unix://PATH, tcp://NAME:PORT"
    )
    replay_.add_argument("--line", metavar="N", type=int, help="only this line of the file (default: all)")
    replay_.add_argument("file", metavar="FILE", help="JSON lines, as --record and tests/vectors have them")
    replay_.set_defaults(run=replay, failure_status=FAILED, timeout=None)

    demo_ = commands.add_parser(
        "demo",
        help="show one attach, byte by byte",
        description="Attach to a small container, and show the bytes on the wire beside the events that they became. "
        "It uses docker's engine, else the embedded one, which runs local processes and is not a sandbox.",
        allow_abbrev=False,
    )
    demo_.add_argument("--image", default="busybox", help="the container's image (default: busybox; it needs a shell)")
    demo_.add_argument("--host", "-H", help=HOST_HELP)
    demo_.set_defaults(run=demo, failure_status=FAILED, timeout=None)

    engine_ = commands.add_parser(
        "engine",
        help="run the embedded engine",
        description="Run the embedded engine, to use or test Docker clients without Docker. With COMMAND it runs as "
        "long as that does, and DOCKER_HOST names it there. Without COMMAND it runs until Ctrl-C, and prints its "
        "address when it is ready. It is not a sandbox: containers are local processes with your rights.",
        epilog=EXAMPLES["engine"],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    engine_.add_argument(
        "--host",
        "-H",
        help="where to listen: unix://PATH or tcp://127.0.0.1:PORT (default with a command: a new socket)",
    )
    engine_.add_argument(
        "--emulate", choices=("dockerd", "podman"), default="dockerd", help="whose behaviour it has (default: dockerd)"
    )
    engine_.add_argument("command", metavar="COMMAND", nargs=argparse.REMAINDER, help="a program and its arguments")
    engine_.set_defaults(run=engine, failure_status=FAILED, timeout=None)
    return parser


def _flag(parser: argparse.ArgumentParser, *names: str, help: str, default: bool = False) -> None:
    """A flag, which docker's users also write as ``--flag=true`` and ``--flag=false``."""
    dest = names[0].removeprefix("--").replace("-", "_")
    parser.add_argument(*names, dest=dest, action="store_true", default=default, help=help)
    for value in ("true", "false"):
        # argparse looks a whole argument up before it looks for a "=" in it.
        action = "store_true" if value == "true" else "store_false"
        spelled = [f"{name}={value}" for name in names]
        parser.add_argument(*spelled, dest=dest, action=action, default=default, help=argparse.SUPPRESS)


def _process(parser: argparse.ArgumentParser) -> None:
    """The options that ``exec`` and ``run`` have in common."""
    _flag(parser, "--interactive", "-i", help="forward stdin")
    _flag(parser, "--tty", "-t", help="run it on a terminal")
    parser.add_argument(
        "--env",
        "-e",
        metavar="NAME=VALUE",
        type=_values.variable,
        action="append",
        default=[],
        help="a variable of its environment; without =VALUE, that of this environment",
    )
    parser.add_argument("--user", "-u", help="the user it runs as: NAME, UID or USER:GROUP")
    parser.add_argument("--workdir", "-w", metavar="PATH", help="the directory it runs in")
    _detach_keys(parser)


def _detach_keys(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--detach-keys",
        metavar="KEYS",
        type=_values.detach_keys,
        help="keys that detach from a TTY (default: ctrl-p,ctrl-q)",
    )


def _timeout(parser: argparse.ArgumentParser, then: str) -> None:
    parser.add_argument(
        "--timeout",
        metavar="TIME",
        type=_values.duration,
        help=f"after this time (30, 1m30s) {then}, and exit with 124",
    )


def _output(parser: argparse.ArgumentParser) -> None:
    """How the output is shown, and where the engine is."""
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON object for each event")
    form.add_argument("--prefix", action="store_true", help="begin each line with its stream, in colour on a terminal")
    parser.add_argument("--record", metavar="FILE", help="add the bytes of the stream to a file, for replay")
    parser.add_argument("--host", "-H", help=f"{HOST_HELP} (default: as docker finds it)")
