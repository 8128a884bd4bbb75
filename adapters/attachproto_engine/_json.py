"""The JSON documents about containers and execs, as dockerd's API has them."""

from __future__ import annotations

import hashlib
import time
from datetime import UTC, datetime
from typing import Any, Final

from attachproto_engine._config import Config
from attachproto_engine._container import Container
from attachproto_engine._exec import Exec

_NEVER: Final = "0001-01-01T00:00:00Z"

_NETWORK: Final = {
    "IPAMConfig": None,
    "Links": None,
    "Aliases": None,
    "MacAddress": "",
    "DriverOpts": None,
    "NetworkID": "",
    "EndpointID": "",
    "Gateway": "",
    "IPAddress": "",
    "IPPrefixLen": 0,
    "IPv6Gateway": "",
    "GlobalIPv6Address": "",
    "GlobalIPv6PrefixLen": 0,
}


def rfc3339(nanoseconds: int | None) -> str:
    """A time in nanoseconds as Go writes it; ``None`` is Go's zero time."""
    if nanoseconds is None:
        return _NEVER
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09}Z"


def inspect(container: Container) -> dict[str, Any]:
    """``GET /containers/{name}/json``."""
    config = container.config
    host = _host_config(config)
    return {
        "Id": container.id,
        "Created": rfc3339(container.created),
        "Path": config.arguments[0],
        "Args": list(config.arguments[1:]),
        "State": _state(container),
        "Image": image_id(config.image),
        "ResolvConfPath": "",
        "HostnamePath": "",
        "HostsPath": "",
        "LogPath": "",
        "Name": f"/{container.name}",
        "RestartCount": 0,
        "Driver": "none",
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": list(container.execs) or None,
        "HostConfig": host,
        "GraphDriver": {"Name": "none", "Data": None},
        "Mounts": [],
        "Config": _config(container),
        "NetworkSettings": {
            "Bridge": "",
            "SandboxID": "",
            "SandboxKey": "",
            "Ports": {},
            "Gateway": "",
            "IPAddress": "",
            "IPPrefixLen": 0,
            "MacAddress": "",
            "Networks": {_network(host): dict(_NETWORK)},
        },
    }


def _state(container: Container) -> dict[str, Any]:
    process = container.process
    return {
        "Status": container.status,
        "Running": container.running,
        "Paused": container.status == "paused",
        "Restarting": False,
        "OOMKilled": False,
        "Dead": False,
        "Pid": 0 if process is None else process.pid,
        "ExitCode": container.exit_code,
        "Error": container.error,
        "StartedAt": rfc3339(container.started),
        "FinishedAt": rfc3339(container.finished),
    }


def _config(container: Container) -> dict[str, Any]:
    config, given = container.config, container.config.given
    return {
        "Hostname": given.get("Hostname") or container.id[:12],
        "Domainname": given.get("Domainname") or "",
        "User": given.get("User") or "",
        "AttachStdin": bool(given.get("AttachStdin")),
        "AttachStdout": bool(given.get("AttachStdout")),
        "AttachStderr": bool(given.get("AttachStderr")),
        "Tty": config.tty,
        "OpenStdin": config.open_stdin,
        "StdinOnce": config.stdin_once,
        "Env": list(config.environment),
        "Cmd": given.get("Cmd"),
        "Image": config.image,
        "Volumes": given.get("Volumes"),
        "WorkingDir": config.directory,
        "Entrypoint": given.get("Entrypoint"),
        "OnBuild": None,
        "Labels": dict(config.labels),
        "StopSignal": config.stop_signal,
        "StopTimeout": config.stop_seconds,
    }


def _host_config(config: Config) -> dict[str, Any]:
    given = config.given.get("HostConfig") or {}
    return {
        "Binds": None,
        "ContainerIDFile": "",
        "PortBindings": {},
        "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
        "VolumesFrom": None,
        "Privileged": False,
        **given,
        "ConsoleSize": list(config.console_size),
        "LogConfig": {"Type": config.log_driver, "Config": (given.get("LogConfig") or {}).get("Config") or {}},
        "NetworkMode": given.get("NetworkMode") or "default",
        "AutoRemove": config.auto_remove,
    }


def _network(host: dict[str, Any]) -> str:
    return "bridge" if host["NetworkMode"] == "default" else str(host["NetworkMode"])


def summary(container: Container) -> dict[str, Any]:
    """One item of ``GET /containers/json``."""
    host = _host_config(container.config)
    return {
        "Id": container.id,
        "Names": [f"/{container.name}"],
        "Image": container.config.image,
        "ImageID": image_id(container.config.image),
        "Command": " ".join(f"'{part}'" if " " in part else part for part in container.config.arguments),
        "Created": container.created // 1_000_000_000,
        "Ports": [],
        "Labels": dict(container.config.labels),
        "State": container.status,
        "Status": _status(container),
        "HostConfig": {"NetworkMode": host["NetworkMode"]},
        "NetworkSettings": {"Networks": {_network(host): dict(_NETWORK)}},
        "Mounts": [],
    }


def _status(container: Container) -> str:
    if container.running:
        return f"Up {_ago(container.started)}{' (Paused)' if container.status == 'paused' else ''}"
    if container.status == "exited":
        return f"Exited ({container.exit_code}) {_ago(container.finished)} ago"
    return "Created"


def _ago(since: int | None) -> str:
    """How long ago, worded as by go-units' ``HumanDuration``, which dockerd uses."""
    seconds = (time.time_ns() - (since or 0)) // 1_000_000_000
    if seconds < 1:
        return "Less than a second"
    for limit, unit, one in ((60, 1, "1 second"), (3600, 60, "About a minute"), (48 * 3600, 3600, "About an hour")):
        if seconds < limit:
            count = seconds // unit
            return one if count == 1 else f"{count} {one.split()[-1]}s"
    return f"{seconds // 86400} days"


def exec_inspect(container: Container, exec_: Exec) -> dict[str, Any]:
    """``GET /exec/{id}/json``.

    Before its end an exec has no exit code on dockerd, and 0 on Podman, where ``CanRemove`` says that it has ended.
    """
    process, podman = exec_.process, container.rules.podman
    return {
        "ID": exec_.id,
        "Running": exec_.running,
        "ExitCode": 0 if podman and exec_.exit_code is None else exec_.exit_code,
        "ProcessConfig": {
            "tty": exec_.config.tty,
            "entrypoint": exec_.config.arguments[0],
            "arguments": list(exec_.config.arguments[1:]),
            "privileged": False,
        },
        "OpenStdin": exec_.config.stdin,
        "OpenStderr": exec_.config.stderr,
        "OpenStdout": exec_.config.stdout,
        "CanRemove": podman and exec_.exit_code is not None,
        "ContainerID": container.id,
        "DetachKeys": exec_.config.detach_keys,
        "Pid": 0 if process is None else process.pid,
    }


def image_id(name: str) -> str:
    """An image's ID; the same for the same name."""
    return name if name.startswith("sha256:") else f"sha256:{hashlib.sha256(name.encode(errors='replace')).hexdigest()}"
