"""Shows the parameters of ``run`` and ``run_exec`` for every function that takes them.

They are written once, where they are read: ``ClientBase`` in ``_client.py``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Final, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

_BY_KEYWORD: Final = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD)


def takes_options_of(source: Callable[..., object]) -> Callable[[F], F]:
    """Let ``help()`` and ``inspect.signature()`` show the keyword parameters of ``source`` in place of ``**options``.

    Type checkers read the overloads of the function, and need no more.

    Args:
        source: what the function passes its options on to.
    """

    def with_signature(function: F) -> F:
        own = inspect.signature(function)
        theirs = [each for each in inspect.signature(source).parameters.values() if each.kind in _BY_KEYWORD]
        others = [each for each in own.parameters.values() if each.kind is not inspect.Parameter.VAR_KEYWORD]
        # A timeout is the last one that has a name, as everywhere.
        ordered = sorted((*theirs, *others), key=lambda each: (each.kind, each.name == "timeout"))
        function.__signature__ = own.replace(parameters=ordered)  # type: ignore[attr-defined]
        return function

    return with_signature
