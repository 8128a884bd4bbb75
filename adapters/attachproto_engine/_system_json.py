"""The JSON documents about the engine itself, as dockerd's API has them."""

from __future__ import annotations

import os
import platform
import time
from typing import Any, Final

from attachproto import __version__
from attachproto_engine._containers import Containers
from attachproto_engine._json import rfc3339
from attachproto_engine._rules import MINIMUM

NOT_A_SANDBOX: Final = (
    "this is attachproto's embedded engine, which is not a sandbox: "
    "containers are ordinary processes of this machine, with the rights of the user who runs the engine"
)


def version(maximum: str, component: str, component_version: str) -> dict[str, Any]:
    """``GET /version``. Clients know Podman by its component ``Podman Engine``."""
    system = platform.uname()
    arch = _arch(system.machine)
    return {
        "Platform": {"Name": "attachproto's embedded engine (not a sandbox)"},
        "Components": [
            {
                "Name": component,
                "Version": component_version,
                "Details": {"ApiVersion": maximum, "Arch": arch, "MinAPIVersion": MINIMUM, "Os": "linux"},
            }
        ],
        "Version": f"attachproto-{__version__}",
        "ApiVersion": maximum,
        "MinAPIVersion": MINIMUM,
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


def _arch(machine: str) -> str:
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)
