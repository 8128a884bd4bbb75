"""The requests that create, end and remove a container."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from attachproto import Attach, Request
from attachproto._validators import check_console_size, check_flag
from attachproto_adapters._flows._api_calls import JSON, process_fields
from attachproto_adapters._flows._arguments import check_text, check_whole, command_arguments

RUN_LABEL: Final = "attachproto.run"
"""The label of a container that ``run`` has created under a name of the caller's. Its value is random."""


def create_request(
    image: str,
    command: Sequence[str],
    *,
    api_version: str | None,
    stdin: bool = False,
    tty: bool = False,
    console_size: tuple[int, int] | None = None,
    env: Mapping[str, str] | None = None,
    user: str | None = None,
    workdir: str | None = None,
    name: str | None = None,
    label: str | None = None,
    config: Mapping[str, Any] | None = None,
) -> Request:
    """The call that creates a container (moby ``postContainersCreate``, Podman ``compat.CreateContainer``).

    Args:
        image: its name or ID.
        command: replaces the image's command, unless it is empty.
        api_version: the version in the path.
        stdin: whether it has a stdin. The first half-close ends it (``StdinOnce``).
        tty: whether it has a TTY.
        console_size: of the TTY. dockerd before 23.0 and Podman ignore it.
        env: as for ``CommandOptions``.
        user: likewise.
        workdir: likewise.
        name: of the container; the engine makes one up if it is ``None``.
        label: the value of ``RUN_LABEL``.
        config: what is merged into the body.

    Raises:
        TypeError: an argument is of another type, or JSON has nothing for a value in ``config``.
        ValueError: an argument is not valid; ``config`` is part of itself, for instance.
    """
    check_text("image", image, "busybox")
    check_whole("image", image)
    if not image:
        raise ValueError("the image's name is empty")
    check_flag("tty", tty)
    check_flag("stdin", stdin)
    check_console_size(console_size)
    if console_size is not None and not tty:
        raise ValueError("console_size is the size of a terminal, and needs tty=True")
    if name is not None:
        Attach(name)  # checks the name
    if config is not None and not isinstance(config, Mapping):
        raise TypeError(f"config is a mapping such as {{'HostConfig': {{'Memory': 2**29}}}}, not {config!r}")
    body: dict[str, Any] = {
        "Image": image,
        "Tty": tty,
        "OpenStdin": stdin,
        "StdinOnce": stdin,
        "AttachStdin": stdin,
        "AttachStdout": True,
        "AttachStderr": True,
        **process_fields(env, user, workdir),
    }
    if arguments := command_arguments(command):
        body["Cmd"] = arguments
    if label is not None:
        body["Labels"] = {RUN_LABEL: label}
    if console_size is not None:
        body["HostConfig"] = {"ConsoleSize": list(console_size)}
    query = () if name is None else (("name", name),)
    try:
        data = json.dumps(merged(body, config or {}), allow_nan=False).encode()
    except RecursionError:
        raise ValueError("config is nested too deeply for JSON, or is part of itself") from None
    return Request("POST", ("containers", "create"), query, body=data, headers=JSON, api_version=api_version)


def merged(own: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    """Both documents in one. Mappings are merged; of two other values, that of ``others`` is taken."""
    result = dict(own)
    for key, value in others.items():
        if not isinstance(key, str):
            raise TypeError(f"config maps str to values, and has the key {key!r}")
        before = result.get(key)
        if isinstance(value, Mapping):
            value = merged(before if isinstance(before, Mapping) else {}, value)
        result[key] = value
    return result


def remove_request(container: str, *, force: bool, volumes: bool, api_version: str | None) -> Request:
    """The call that removes a container, and with ``volumes`` those of its volumes that have no name."""
    Attach(container)  # checks the name
    check_flag("force", force)
    check_flag("volumes", volumes)
    query = (("force", str(int(force))), ("v", str(int(volumes))))
    return Request("DELETE", ("containers", container), query, api_version=api_version)


def kill_request(container: str, signal: str, api_version: str | None) -> Request:
    """The call that sends a signal to the container's main process."""
    Attach(container)  # checks the name
    check_text("signal", signal, "TERM")
    check_whole("signal", signal)
    if not signal:
        raise ValueError("the signal's name is empty")
    return Request("POST", ("containers", container, "kill"), (("signal", signal),), api_version=api_version)
