"""What a client does in every framework: it finds its engine, and prepares ``run`` and ``run_exec``."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final, Unpack

import attrs

from attachproto import AttachOptions
from attachproto_adapters._errors import ClientClosed
from attachproto_adapters._flows._api_calls import PING
from attachproto_adapters._flows._arguments import check_options
from attachproto_adapters._flows._commands import Command
from attachproto_adapters._flows._exchange import Exchange
from attachproto_adapters._flows._live_output import OnOutput
from attachproto_adapters._flows._options import CommandOptions
from attachproto_adapters._flows._run import ContainerRun
from attachproto_adapters._transport._address import Address
from attachproto_adapters._transport._hosts import resolve_api_version, resolve_host

if TYPE_CHECKING:
    import ssl

DEFAULT_OPTIONS: Final = AttachOptions()
"""Of ``attach`` in every framework: stdout and stderr."""


class ClientBase:
    """The part of a client that is the same in every framework. It finds the engine, and loads the files for TLS."""

    _awaits: ClassVar[bool] = True
    """Whether it awaits what ``on_output`` returns."""

    def __init__(
        self,
        host: str | None,
        tls: ssl.SSLContext | None,
        headers: Iterable[tuple[str, str]],
        api_version: str | None,
    ) -> None:
        self._api_version = resolve_api_version(api_version, os.environ)
        attrs.evolve(PING, api_version=self._api_version)  # it raises for a version that is not valid
        self._address = Address(resolve_host(host, os.environ, tls, headers))
        self._closed = False
        self._hold = self._address.idle.hold()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._address.host}{', closed' if self._closed else ''}>"

    def _check_open(self) -> None:
        if self._closed:
            raise ClientClosed(f"the client of {self._address.host} is closed")

    def _check_on_output(self, on_output: object) -> None:
        if on_output is not None and not callable(on_output):
            raise TypeError(f"on_output is a function that takes an event, not {on_output!r}")
        if inspect.iscoroutinefunction(on_output) and not self._awaits:
            raise TypeError("on_output is an async function, which blocking code cannot await: give an ordinary one")

    # ---- the parameters of run and run_exec, documented in _blocking_client ----

    def _prepare_run_exec(
        self,
        container: str,
        command: Sequence[str],
        *,
        input: bytes | str | None = None,
        encoding: str | None = None,
        errors: str = "strict",
        max_output: int | None = None,
        on_output: OnOutput | None = None,
        kill: bool = True,
        timeout: float | None = None,
        **options: Unpack[CommandOptions],
    ) -> tuple[Command, Exchange]:
        """Check the arguments of ``run_exec``. Nothing is asked yet."""
        check_options("run_exec", options, CommandOptions)
        self._check_on_output(on_output)
        exchange = Exchange(input, encoding, errors, max_output, timeout, on_output)
        prepared = Command(
            container,
            command,
            token=os.urandom(16).hex(),
            kill=kill,
            stdin=exchange.input is not None,
            api_version=self._api_version,
            **options,
        )
        return prepared, exchange

    def _prepare_run(
        self,
        image: str,
        command: Sequence[str] = (),
        *,
        input: bytes | str | None = None,
        encoding: str | None = None,
        errors: str = "strict",
        max_output: int | None = None,
        on_output: OnOutput | None = None,
        console_size: tuple[int, int] | None = None,
        config: Mapping[str, Any] | None = None,
        name: str | None = None,
        remove: bool = True,
        timeout: float | None = None,
        **options: Unpack[CommandOptions],
    ) -> tuple[ContainerRun, Exchange]:
        """Check the arguments of ``run``. Nothing is asked yet."""
        check_options("run", options, CommandOptions)
        self._check_on_output(on_output)
        exchange = Exchange(input, encoding, errors, max_output, timeout, on_output)
        prepared = ContainerRun(
            image,
            command,
            token=os.urandom(8).hex(),
            stdin=exchange.input is not None,
            name=name,
            remove=remove,
            console_size=console_size,
            config=config,
            api_version=self._api_version,
            **options,
        )
        return prepared, exchange
