"""The options of exec and of logs, as one typed dictionary each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Generic, TypedDict, TypeVar

from attachproto_adapters._flows._live_output import OnOutput

if TYPE_CHECKING:
    from datetime import datetime

Input = TypeVar("Input")


class CommandOptions(TypedDict, total=False):
    """How a command is created in a container.

    Attributes:
        tty: run it on a terminal. Then there is no input, because a half-close does not end a terminal's stdin.
        env: more variables of its environment.
        user: the user it runs as: ``NAME``, ``UID`` or ``USER:GROUP``; by default the container's user.
        workdir: the directory it runs in; by default the container's.
    """

    tty: bool
    env: Mapping[str, str] | None
    user: str | None
    workdir: str | None


class ExecOptions(CommandOptions, total=False):
    """How an exec is created.

    Attributes:
        detach_keys: the keys that detach from its TTY; by default the engine's.
    """

    detach_keys: str | None


class ClientRunExecOptions(CommandOptions, Generic[Input], total=False):
    """What the overloads of the clients' ``run_exec`` have in common. The method documents it.

    An overload says which type ``encoding`` and ``input`` have, and so whether the result has bytes or text.
    """

    input: Input | None
    errors: str
    max_output: int | None
    on_output: OnOutput | None
    timeout: float | None
    kill: bool


class RunExecOptions(ClientRunExecOptions[Input], Generic[Input], total=False):
    """The same for the functions ``run_exec``."""

    host: str | None
    api_version: str | None


class ClientRunOptions(CommandOptions, Generic[Input], total=False):
    """What the overloads of the clients' ``run`` have in common, as for ``run_exec``."""

    input: Input | None
    errors: str
    max_output: int | None
    on_output: OnOutput | None
    console_size: tuple[int, int] | None
    config: Mapping[str, Any] | None
    name: str | None
    remove: bool
    timeout: float | None


class RunOptions(ClientRunOptions[Input], Generic[Input], total=False):
    """The same for the functions ``run``."""

    host: str | None
    api_version: str | None


class LogsOptions(TypedDict, total=False):
    """Which part of a container's log is read.

    Attributes:
        follow: also read what is logged from now on, until the container has exited.
        stdout: what it wrote to stdout (the default is true).
        stderr: what it wrote to stderr (the default is true).
        since: from this time on: seconds since the epoch, an aware ``datetime``, or RFC 3339 as ``timestamps`` prints
            it.
        until: up to this time, in the same forms; API 1.35 and later.
        timestamps: begin each line with its time.
        tail: how many of the last lines to read; ``None`` for all.
        details: begin each line with the attributes of the log driver.
        tty: whether the container has a TTY; by default the container is inspected.
    """

    follow: bool
    stdout: bool
    stderr: bool
    since: str | float | datetime | None
    until: str | float | datetime | None
    timestamps: bool
    tail: int | None
    details: bool
    tty: bool | None
