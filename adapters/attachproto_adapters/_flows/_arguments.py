"""Checks the types of arguments at the call, before the engine is asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from attachproto import Quirk, StreamRequest
from attachproto._quirks import check_quirks as quirks_as_set
from attachproto._validators import is_int


def check_options(function: str, options: Mapping[str, object], known: type) -> None:
    """Raise ``TypeError`` for a keyword argument that a function does not have.

    Args:
        function: its name, for the error.
        options: its ``**options``.
        known: the typed dictionary that they are.
    """
    for name in options:
        if name not in known.__annotations__:
            raise TypeError(f"{function}() got an unexpected keyword argument {name!r}")


def check_text(name: str, value: object, example: str) -> None:
    """Raise ``TypeError`` unless this is a str."""
    if not isinstance(value, str):
        raise TypeError(f"{name} is a str such as {example!r}, not {value!r}")


def check_whole(name: str, text: str) -> None:
    """Raise ``ValueError`` for a text that cannot be passed to a process in a container unchanged."""
    if "\0" in text:
        raise ValueError(f"{name} has a NUL in it, which no process can be given: {text!r}")
    try:
        text.encode()
    except UnicodeEncodeError:
        # Python has these for bytes that are not UTF-8, such as in sys.argv. Go would replace each with U+FFFD.
        raise ValueError(f"{name} has a lone surrogate in it, which JSON cannot carry: {text!r}") from None


def is_whole(text: str) -> bool:
    """Whether ``check_whole`` lets this text pass."""
    try:
        check_whole("", text)
    except ValueError:
        return False
    return True


def command_arguments(command: object) -> list[str]:
    """A command's program and arguments as a list.

    Raises:
        TypeError: the command is one string, or one of its arguments is not a str.
        ValueError: an argument cannot be passed to a process unchanged.
    """
    if isinstance(command, str | bytes):
        raise TypeError(f"a command is a sequence of arguments such as ['sh', '-c', {command!r}], not one string")
    if not isinstance(command, Sequence):
        raise TypeError(f"a command is a sequence of arguments such as ['sh', '-c', 'true'], not {command!r}")
    arguments = list(command)
    if not all(isinstance(argument, str) for argument in arguments):
        raise TypeError(f"the arguments of a command are str, and not all of these are: {arguments!r}")
    for argument in arguments:
        check_whole("command", argument)
    return arguments


def check_quirks(quirks: Iterable[Quirk] | None) -> frozenset[Quirk] | None:
    """Return the quirks as a set, or ``None``; raise ``TypeError`` unless they are members of ``Quirk``."""
    return None if quirks is None else quirks_as_set(quirks)


def check_stream_request(request: object) -> None:
    """Raise ``TypeError`` unless this opens a stream."""
    if not isinstance(request, StreamRequest):
        raise TypeError(f"the request is an Attach, an ExecStart or a Logs, not {request!r}")


def check_opening(request: object, quirks: Iterable[Quirk]) -> frozenset[Quirk]:
    """Check the arguments of ``open_attachment`` before it takes the caller's stream, and return the quirks as a set.

    Raises:
        TypeError: the request opens no stream, or a quirk is none.
    """
    check_stream_request(request)
    return quirks_as_set(quirks)


def check_int(name: str, value: object) -> int:
    """Return the value if it is an ``int``; else raise ``TypeError``."""
    if not is_int(value):
        raise TypeError(f"{name} is an int, not {value!r}")
    return value


def check_count(name: str, value: object) -> None:
    """Raise ``TypeError`` unless this is an ``int``, and ``ValueError`` if it is negative."""
    if check_int(name, value) < 0:
        raise ValueError(f"{name} is 0 or more, not {value}")


def check_max_output(value: object) -> None:
    """Raise ``TypeError`` or ``ValueError`` unless this is a number of bytes, or ``None``."""
    if value is not None:
        check_count("max_output", value)


def check_env(env: object) -> None:
    """Raise ``TypeError`` or ``ValueError`` unless this names variables and gives each a text."""
    if not isinstance(env, Mapping):
        raise TypeError(f"env is a mapping of names to values such as {{'LANG': 'C'}}, not {env!r}")
    for name, value in env.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError(
                f"env maps str to str, and has {name!r}: {value!r}; leave out a variable that is to have no value"
            )
        if not name or "=" in name:
            raise ValueError(f"a name in env is not empty and has no '=' in it, not {name!r}")
        check_whole("env", f"{name}={value}")


# Far more than anybody waits, and less than what the clocks of all frameworks take.
_SECONDS_MAX = 1e9


def check_seconds(name: str, seconds: float | None) -> None:
    """Raise ``TypeError`` or ``ValueError`` if this is neither a time to wait, in seconds, nor ``None``."""
    if seconds is None:
        return
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise TypeError(f"{name} is a number of seconds or None, not {seconds!r}")
    if not 0 < seconds <= _SECONDS_MAX:
        raise ValueError(f"{name} is None or above 0 seconds and at most {_SECONDS_MAX:g}, not {seconds!r}")
