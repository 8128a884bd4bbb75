"""What a client asks for when it creates a container or an exec, read from JSON and checked."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Mapping, Sequence
from typing import Any, Final, Self

import attrs

from attachproto import parse_detach_keys
from attachproto_engine._command import Command
from attachproto_engine._errors import ApiError
from attachproto_engine._json_types import CREATE, EXEC, check_types

# The default of ``docker stop``.
_STOP_SECONDS: Final = 10

_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,15}")

# No timeout and no size of a terminal is larger; asyncio takes this many seconds.
_INTEGER_MAX: Final = 2**31 - 1


@attrs.frozen(kw_only=True)
class Config:
    """What a container was created with. ``given`` is the whole body of the request."""

    given: Mapping[str, Any]
    image: str
    arguments: tuple[str, ...]
    environment: tuple[str, ...]
    directory: str
    tty: bool
    open_stdin: bool
    stdin_once: bool
    auto_remove: bool
    log_driver: str
    log_options: Mapping[str, str]
    labels: Mapping[str, str]
    console_size: tuple[int, int]
    stop_signal: str
    stop_seconds: int

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> Self:
        """Read the body of a create.

        Raises:
            ApiError: a value has another type than dockerd's, there is no command, or no process can be started with a
                value.
        """
        check_types(given, CREATE)
        host = given.get("HostConfig") or {}
        logging = host.get("LogConfig") or {}
        arguments = _strings(given.get("Entrypoint")) + _strings(given.get("Cmd"))
        # An Entrypoint of [""] overrides the image's with none.
        arguments = arguments[1:] if arguments and not arguments[0] else arguments
        if not arguments:
            raise ApiError(400, "no command specified")
        seconds = given.get("StopTimeout")
        stop_signal = str(given.get("StopSignal") or "SIGTERM")
        try:
            signal_number(stop_signal)
        except ApiError:
            raise ApiError(400, f"Invalid signal: {stop_signal}") from None
        _check_strings(arguments, given.get("Env"), given.get("WorkingDir"))
        for item in _strings(given.get("Env")):
            if not item.partition("=")[0]:
                raise ApiError(400, f"invalid environment variable: {item}")
        return cls(
            given=given,
            image=str(given.get("Image") or ""),
            arguments=tuple(arguments),
            environment=tuple(_strings(given.get("Env"))),
            directory=str(given.get("WorkingDir") or ""),
            tty=bool(given.get("Tty")),
            open_stdin=bool(given.get("OpenStdin")),
            stdin_once=bool(given.get("StdinOnce")),
            auto_remove=bool(host.get("AutoRemove")),
            log_driver=str(logging.get("Type") or "json-file"),
            log_options=_texts(logging.get("Config")),
            labels=_texts(given.get("Labels")),
            console_size=_size(host.get("ConsoleSize")),
            stop_signal=stop_signal,
            stop_seconds=_STOP_SECONDS if seconds is None else integer(seconds),
        )

    def command(self) -> Command:
        """The process to start."""
        return Command(
            self.arguments,
            _environment(self.environment, tty=self.tty),
            _existing(self.directory),
            tty=self.tty,
            stdin=self.open_stdin,
            size=self.console_size,
        )


@attrs.frozen(kw_only=True)
class ExecConfig:
    """What an exec was created with, and the container's settings that it inherits."""

    arguments: tuple[str, ...]
    environment: tuple[str, ...]
    directory: str
    inherited_directory: str
    tty: bool
    stdin: bool
    stdout: bool
    stderr: bool
    detach_keys: str
    console_size: tuple[int, int]

    @classmethod
    def from_json(cls, given: Mapping[str, Any], container: Config) -> Self:
        """Read the body of the creation of an exec.

        Raises:
            ApiError: a value has another type than dockerd's, there is no command, the detach keys are invalid, or no
                process can be started with a value.
        """
        check_types(given, EXEC)
        if not (arguments := _strings(given.get("Cmd"))):
            raise ApiError(400, "No exec command specified")
        _check_strings(arguments, given.get("Env"), given.get("WorkingDir"))
        if keys := str(given.get("DetachKeys") or ""):
            try:
                parse_detach_keys(keys)
            except ValueError:
                raise ApiError(500, f"Invalid escape keys ({keys}) provided") from None
        return cls(
            arguments=tuple(arguments),
            environment=container.environment + tuple(_strings(given.get("Env"))),
            directory=str(given.get("WorkingDir") or ""),
            inherited_directory=container.directory,
            tty=bool(given.get("Tty")),
            stdin=bool(given.get("AttachStdin")),
            stdout=bool(given.get("AttachStdout")),
            stderr=bool(given.get("AttachStderr")),
            detach_keys=keys,
            console_size=_size(given.get("ConsoleSize")),
        )

    def command(self, *, attached: bool, size: tuple[int, int] | None) -> Command:
        """The process to start; detached it has no stdin. ``size`` is that of the start, if it names one."""
        return Command(
            self.arguments,
            _environment(self.environment, tty=self.tty),
            self.directory or _existing(self.inherited_directory),
            tty=self.tty,
            stdin=self.stdin and attached,
            size=size or self.console_size,
        )


def signal_number(text: str) -> int:
    """A signal by its name, with or without ``SIG``, or its number.

    Raises:
        ApiError: there is no such signal.
    """
    name = text.upper().removeprefix("SIG")
    # int() refuses very long numbers, and no signal has more than two digits.
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else getattr(signal, f"SIG{name}", 0)
    if not number or not isinstance(number, int) or name.startswith("_"):
        raise ApiError(400, f"invalid signal: {text}")
    if number not in signal.valid_signals():
        raise ApiError(500, f"The linux daemon does not support signal {number}")
    return int(number)


def _strings(value: str | Sequence[str | None] | None) -> list[str]:
    """The strings of a list whose types are checked. To Go, ``null`` in it is the empty string."""
    return [value] if isinstance(value, str) else [item or "" for item in value or ()]


def _check_strings(*values: str | Sequence[str | None] | None) -> None:
    """Raise ``ApiError`` for a string that no process can be given: one with a NUL, or a lone surrogate."""
    for value in values:
        for text in _strings(value):
            try:
                if b"\0" not in text.encode():
                    continue
            except UnicodeEncodeError:
                pass
            raise ApiError(400, f"a process cannot be given {text!r}")


def _size(value: list[int | None] | None) -> tuple[int, int]:
    """The height and width of a terminal, 0 for what is not said."""
    height, width = [*(value or []), 0, 0][:2]
    return integer(height or 0), integer(width or 0)


def _texts(value: Mapping[str, str | None] | None) -> dict[str, str]:
    return {name: text or "" for name, text in (value or {}).items()}


def number(text: str) -> int:
    """A number in a query, as Go reads it into an int.

    Raises:
        ApiError: it is none, or too large.
    """
    if not _NUMBER.fullmatch(text) or abs(value := int(text)) > _INTEGER_MAX:
        raise ApiError(400, f'strconv.Atoi: parsing "{text[:100]}": invalid syntax')
    return value


def integer(value: int) -> int:
    """A number of a body, if it is not too large."""
    if abs(value) > _INTEGER_MAX:
        raise ApiError(400, f"invalid JSON: {repr(value)[:40]} is too large")
    return value


def _environment(added: tuple[str, ...], *, tty: bool) -> dict[str, str]:
    # Nothing else of the engine's own environment, as in a container: it may hold secrets.
    environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": os.environ.get("HOME", "/")}
    if tty:
        environment["TERM"] = "xterm"
    for item in added:
        name, separator, value = item.partition("=")
        if separator:
            environment[name] = value
        else:
            environment.pop(name, None)
    return environment


def _existing(directory: str) -> str | None:
    return directory if directory and os.path.isdir(directory) else None
