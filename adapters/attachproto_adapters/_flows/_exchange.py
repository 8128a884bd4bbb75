"""The input and the output of one ``run`` or ``run_exec``: their form, and their limits."""

from __future__ import annotations

from typing import Any, TypeVar

import attrs

from attachproto_adapters._flows._arguments import check_max_output, check_seconds
from attachproto_adapters._flows._live_output import LiveOutput, OnOutput
from attachproto_adapters._flows._marker import Marker
from attachproto_adapters._flows._output import CompletedRun, ExecResult
from attachproto_adapters._flows._text import TextCodec

Result = TypeVar("Result", ExecResult[Any], CompletedRun[Any])


class Exchange:
    """What a command is given to read, and what is made of what it prints.

    Attributes:
        input: what it reads; ``None`` if it has no stdin.
        max_output: how many bytes it may print.
        timeout: how many seconds all of it may take.

    Raises:
        TypeError, ValueError, LookupError: an argument is not valid.
    """

    def __init__(
        self,
        input: bytes | str | None,
        encoding: str | None,
        errors: str,
        max_output: int | None,
        timeout: float | None,
        on_output: OnOutput | None,
    ) -> None:
        self._text = TextCodec(encoding, errors)
        self.input = self._text.encode(input)
        check_max_output(max_output)
        self.max_output = max_output
        check_seconds("timeout", timeout)
        self.timeout = timeout
        self._on_output = on_output

    def live(self, marker: Marker | None) -> LiveOutput | None:
        """What shows the output of one start to the caller; ``None`` if the caller does not want that.

        Args:
            marker: of the command, if a shell starts it.
        """
        return None if self._on_output is None else LiveOutput(self._on_output, marker)

    def decoded(self, result: Result) -> Result:
        """The result as the caller wants it: with text in place of bytes, if there is an encoding.

        Raises:
            OutputUndecodable: one of the outputs is not text in this encoding.
        """
        stdout, stderr = self._text.decode(result.exit_code, (result.stdout, result.stderr))
        return attrs.evolve(result, stdout=stdout, stderr=stderr)
