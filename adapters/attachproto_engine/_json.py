"""What the engine tells of itself and of its containers, as the documents that dockerd's API gives."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from attachproto import __version__
from attachproto_engine._containers import Config, Container, Containers, Exec

NOT_A_SANDBOX: Final = (
    "this is attachproto's embedded engine, which is not a sandbox: "
    "containers are ordinary processes of this machine, with the rights of whoever runs the engine"
)

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
    """A time as Go writes it; ``None`` is Go's zero."""
    if nanoseconds is None:
        return _NEVER
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09}Z"


def version(maximum: str, minimum: str) -> dict[str, Any]:
    """``GET /version``."""
    system = platform.uname()
    arch = _arch(system.machine)
    return {
        "Platform": {"Name": "attachproto's embedded engine (not a sandbox)"},
        "Components": [
            {
                "Name": "Engine",
                "Version": __version__,
                "Details": {"ApiVersion": maximum, "Arch": arch, "MinAPIVersion": minimum, "Os": "linux"},
            }
        ],
        "Version": f"attachproto-{__version__}",
        "ApiVersion": maximum,
        "MinAPIVersion": minimum,
        "GitCommit": "",
        "GoVersion": "",
        "Os": "linux",
        "Arch": arch,
        "KernelVersion": system.release,
        "BuildTime": "",
    }


def info(containers: Containers) -> dict[str, Any]:
    """``GET /info``."""
    system = platform.uname()
    states = [container.status for container in containers]
    return {
        "ID": "attachproto",
        "Containers": len(states),
        "ContainersRunning": states.count("running"),
        "ContainersPaused": states.count("paused"),
        "ContainersStopped": len(states) - states.count("running") - states.count("paused"),
        "Images": 0,
        "Driver": "none",
        "DriverStatus": [],
        "Plugins": {"Volume": [], "Network": [], "Authorization": None, "Log": ["json-file", "none"]},
        "SystemTime": rfc3339(time.time_ns()),
        "LoggingDriver": "json-file",
        "CgroupDriver": "none",
        "KernelVersion": system.release,
        "OperatingSystem": f"{system.system} (not a sandbox)",
        "OSType": "linux",
        "Architecture": system.machine,
        "NCPU": os.cpu_count() or 1,
        "MemTotal": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "Name": system.node,
        "Labels": [],
        "ExperimentalBuild": False,
        "ServerVersion": f"attachproto-{__version__}",
        "Runtimes": {},
        "DefaultRuntime": "none",
        "Swarm": {"LocalNodeState": "inactive", "ControlAvailable": False, "Error": "", "RemoteManagers": None},
        "LiveRestoreEnabled": False,
        "Isolation": "",
        "InitBinary": "",
        "SecurityOptions": [],
        "Warnings": [f"WARNING: {NOT_A_SANDBOX}"],
    }


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
        "Image": image_id(_image(config)),
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
        "Image": _image(config),
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
        "ConsoleSize": list(config.console_size),
        **given,
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
        "Image": _image(container.config),
        "ImageID": image_id(_image(container.config)),
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
    """How long ago that was, in the words of the docker CLI's library (go-units ``HumanDuration``)."""
    seconds = (time.time_ns() - (since or 0)) // 1_000_000_000
    if seconds < 1:
        return "Less than a second"
    for limit, unit, one in ((60, 1, "1 second"), (3600, 60, "About a minute"), (48 * 3600, 3600, "About an hour")):
        if seconds < limit:
            count = seconds // unit
            return one if count == 1 else f"{count} {one.split()[-1]}s"
    return f"{seconds // 86400} days"


def listed(container: Container, filters: dict[str, list[str]]) -> bool:
    """Whether a container passes the filters of a list that this engine knows; others are no filters."""
    tests: dict[str, Callable[[str], bool]] = {
        "id": lambda value: container.id.startswith(value),
        "name": lambda value: re.search(value.removeprefix("/"), container.name) is not None,
        "status": lambda value: container.status == value,
        "exited": lambda value: container.status == "exited" and str(container.exit_code) == value,
    }
    for kind, values in filters.items():
        if kind == "label":
            if not all(_labelled(container, value) for value in values):
                return False
        elif kind in tests and values and not any(tests[kind](value) for value in values):
            return False
    return True


def _labelled(container: Container, wanted: str) -> bool:
    name, said, value = wanted.partition("=")
    labels = container.config.labels
    return name in labels and (not said or labels[name] == value)


def exec_inspect(exec_: Exec) -> dict[str, Any]:
    """``GET /exec/{id}/json``."""
    process = exec_.process
    return {
        "ID": exec_.id,
        "Running": exec_.running,
        "ExitCode": exec_.exit_code,
        "ProcessConfig": {
            "tty": exec_.tty,
            "entrypoint": exec_.arguments[0],
            "arguments": list(exec_.arguments[1:]),
            "privileged": False,
        },
        "OpenStdin": exec_.stdin,
        "OpenStderr": bool(exec_.given.get("AttachStderr")),
        "OpenStdout": bool(exec_.given.get("AttachStdout")),
        "CanRemove": False,
        "ContainerID": exec_.container.id,
        "DetachKeys": exec_.detach_keys,
        "Pid": 0 if process is None else process.pid,
    }


def image(name: str) -> dict[str, Any]:
    """``GET /images/{name}/json``; there is nothing in any."""
    return {
        "Id": image_id(name),
        "RepoTags": [name],
        "RepoDigests": [],
        "Parent": "",
        "Comment": "",
        "Created": _NEVER,
        "DockerVersion": "",
        "Author": "",
        "Config": {"Env": None, "Cmd": None, "Entrypoint": None, "WorkingDir": "", "Labels": None},
        "Architecture": _arch(platform.machine()),
        "Os": "linux",
        "Size": 0,
        "GraphDriver": {"Name": "none", "Data": None},
        "RootFS": {"Type": "layers", "Layers": []},
        "Metadata": {"LastTagTime": _NEVER},
    }


def image_id(name: str) -> str:
    """An image's ID; the same for the same name."""
    return name if name.startswith("sha256:") else f"sha256:{hashlib.sha256(name.encode()).hexdigest()}"


def _image(config: Config) -> str:
    return str(config.given.get("Image") or "")


def _arch(machine: str) -> str:
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)
