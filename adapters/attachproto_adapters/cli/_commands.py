"""``attach``, ``logs`` and ``run``: from options to a stream; and the options that ``exec`` and ``run`` share."""

from __future__ import annotations

import argparse
import secrets
from typing import Any

import attrs

from attachproto import Attach, AttachOptions, Logs
from attachproto._validators import version_numbers
from attachproto_adapters._blocking_attachment import Attachment
from attachproto_adapters._blocking_run import clean_up, create
from attachproto_adapters._errors import RequestRejected
from attachproto_adapters._flows._attach import open_attach
from attachproto_adapters._flows._flows import inspect_container
from attachproto_adapters._flows._logs import open_logs
from attachproto_adapters._flows._run import ContainerRun
from attachproto_adapters._flows._steps import Opened, Steps
from attachproto_adapters.cli._client import CommandClient
from attachproto_adapters.cli._statuses import complain, in_options, of_start
from attachproto_adapters.cli._stream import run_stream
from attachproto_adapters.cli._writers import make_writer
from attachproto_adapters.terminal import get_size


def attach(arguments: argparse.Namespace) -> int:
    """``attachproto attach``."""
    container: str = arguments.container
    with CommandClient(arguments) as client:
        options = AttachOptions(stdin=not arguments.no_stdin, logs=arguments.logs, detach_keys=arguments.detach_keys)
        attachment = client.open(
            _open_attach(container, options, start=arguments.start, api_version=client._api_version)
        )
        stdin = not arguments.no_stdin and attachment.inspected is not None and attachment.inspected.open_stdin
        return _run_container(client, attachment, arguments, stdin=stdin, redraw=not arguments.start)


def _open_attach(container: str, options: AttachOptions, *, start: bool, api_version: str | None) -> Steps[Opened]:
    Attach(container)  # checks the name, before the engine is asked
    if options.stdin:
        inspected = yield from inspect_container(container, api_version)
        options = attrs.evolve(options, stdin=inspected.open_stdin and (start or not inspected.exited))
    return (yield from open_attach(container, options, tty=None, start=start, wait=True, api_version=api_version))


def _run_container(
    client: CommandClient,
    attachment: Attachment,
    arguments: argparse.Namespace,
    *,
    stdin: bool,
    redraw: bool = False,
) -> int:
    """Write a container's output up to its end."""
    return run_stream(
        client,
        attachment,
        make_writer(arguments),
        arguments.container,
        stdin=stdin,
        kill=attachment.kill,
        proxy=attachment.kill if arguments.sig_proxy else None,
        redraw=redraw,
    )


def console_size(arguments: argparse.Namespace, api_version: str | None) -> tuple[int, int] | None:
    """The size of the local terminal; ``None`` if the exec has no TTY, or the API takes no size at its start."""
    if not arguments.tty or (api_version is not None and version_numbers(api_version) < (1, 42)):
        return None
    return get_size(1)


def process_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """The options that ``exec`` and ``run`` have in common."""
    env = dict(each for each in arguments.env if each is not None)
    return {
        "tty": arguments.tty,
        "env": env or None,
        "user": arguments.user,
        "workdir": arguments.workdir,
    }


def logs(arguments: argparse.Namespace) -> int:
    """``attachproto logs``."""
    with CommandClient(arguments) as client:
        request = Logs(
            arguments.container,
            follow=arguments.follow,
            tail=arguments.tail,
            since=arguments.since,
            until=arguments.until,
            timestamps=arguments.timestamps,
            details=arguments.details,
            api_version=client._api_version,
        )
        attachment = client.open(open_logs(request))
        writer = make_writer(arguments)
        return run_stream(
            client, attachment, writer, arguments.container, stdin=False, kill=attachment.close, exit_code=False
        )


def run(arguments: argparse.Namespace) -> int:
    """``attachproto run``."""
    with CommandClient(arguments) as client:
        job = ContainerRun(
            arguments.image,
            arguments.arguments,
            token=secrets.token_hex(8),
            stdin=arguments.interactive,
            name=arguments.name,
            remove=arguments.rm,
            console_size=get_size(1) if arguments.tty else None,
            config={"HostConfig": _host_config(arguments)},
            api_version=client._api_version,
            stdin_must_end=False,
            detach_keys=arguments.detach_keys,
            **process_options(arguments),
        )
        arguments.container = job.name
        dialer = client._dialer()
        try:
            create(job, dialer)
            attachment = client.open(job.open(), dialer)
        except BaseException as exc:
            clean_up(job, dialer, client.deadline, exc)
            for note in getattr(exc, "__notes__", ()):
                complain(note)
            if isinstance(exc, RequestRejected):
                complain(in_options(exc))
                return of_start(exc)
            raise
        return _run_container(client, attachment, arguments, stdin=arguments.interactive)


def _host_config(arguments: argparse.Namespace) -> dict[str, Any]:
    config: dict[str, Any] = {}
    if arguments.rm:
        # The engine then removes it even if this process is killed before the container has ended.
        config["AutoRemove"] = True
    if arguments.network is not None:
        config["NetworkMode"] = arguments.network
    if arguments.ulimit:
        config["Ulimits"] = arguments.ulimit
    return config
