"""Where dockerd and Podman differ in what they do. How their answers look is in ``_answers``."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final, Literal, get_args

import attrs

from attachproto import parse_detach_keys
from attachproto_engine._errors import ApiError

Emulated = Literal["dockerd", "podman"]
"""An engine whose behaviour the embedded one can have."""

EMULATED: Final[tuple[Emulated, ...]] = get_args(Emulated)

MINIMUM: Final = "1.41"
"""The lowest API version that the embedded engine speaks."""

HIGHEST: Final = "1.51"
"""The highest one."""

# dockerd's, whose output ``/logs`` can give back: where a driver cannot, dockerd keeps a copy (20.10 and later).
_DOCKER_DRIVERS: Final = frozenset(
    ("local", "syslog", "journald", "gelf", "fluentd", "awslogs", "splunk", "etwlogs", "gcplogs")
)

_PODMAN_DRIVERS: Final = frozenset(("k8s-file", "journald"))

_INVALID_DRIVER: Final = "container create: running container create option: invalid log driver: invalid argument"

_JSON_FILE_OPTIONS: Final = frozenset(
    ("compress", "env", "env-regex", "labels", "labels-regex", "max-buffer-size", "max-file", "max-size", "mode", "tag")
)

REMOVING: Final = "container is marked for removal and cannot be started"
"""The error of a start beside a removal (409 of dockerd 20.10, 26.1 and 28.5)."""


@attrs.frozen(kw_only=True)
class Rules:
    """What an engine does, as seen on dockerd 20.10 to 28.5 and Podman 4.3 to 5.8.

    Attributes:
        podman: which of the two it is.
        maximum: the highest API version that it names.
        no_such_container: the text of a 404, with a gap for the name.
        checks_versions: it refuses a version in the path that it does not speak. Podman takes any.
        upgrades_any: any ``Upgrade`` field gets a ``101``. Podman wants ``Connection`` to be exactly ``Upgrade``.
        labels_200: the media type tells frames from raw bytes in a ``200`` too, not only in a ``101``.
        sends_all_streams: all output comes, whatever was asked for.
        half_close_ends_stdin: a half-close always ends the stdin of a container without a TTY, and never the output.
            On dockerd it ends stdin if ``StdinOnce`` is set, and the output if not.
        attach_resets: an attach makes an exited container ``created`` again, and its exit code is forgotten.
        unknown_exit_code: the ``StatusCode`` of ``/wait`` where there was no run, or its exit code is forgotten.
        forgets_removed: ``/wait`` for an ``AutoRemove`` container answers 0, except for ``next-exit``. Podman 4.3
            does so for ``removed`` always and for ``not-running`` often; the embedded engine does it always.
        detach_ends_exec: after the detach keys an exec is reported as ended, and the output says that it has failed.
            Podman 5 does neither.
        unreadable_log: what comes with ``logs=1`` in place of output where the log driver keeps nothing.
        unreadable_log_stream: the stream that it comes on, 1 or 2.
        unreadable_log_seconds: after how long.
    """

    podman: bool
    maximum: str
    no_such_container: str
    checks_versions: bool
    upgrades_any: bool
    labels_200: bool
    sends_all_streams: bool
    half_close_ends_stdin: bool
    attach_resets: bool
    unknown_exit_code: int
    forgets_removed: bool
    detach_ends_exec: bool
    unreadable_log: bytes
    unreadable_log_stream: int
    unreadable_log_seconds: float

    def paused_refusal(self, container: str) -> ApiError:
        """The refusal of an attach to a paused container, whose name or ID is as the client wrote it."""
        if not self.podman:
            return ApiError(409, f"container {container} is paused, unpause the container before attach")
        state = "currently in state paused: container state improper"
        return ApiError(500, f"can only attach to created or running containers - {state}")

    def logs_refusal(self, container_id: str) -> ApiError:
        """The refusal of ``/logs`` where the log driver keeps nothing."""
        if not self.podman:
            return ApiError(501, "configured logging driver does not support reading")
        driver = "this container is using the 'none' log driver, cannot read logs: this container is not logging output"
        return ApiError(500, f"failed to obtain logs for Container '{container_id}': {driver}")

    def detach_keys_refusal(self, keys: str) -> ApiError:
        """The refusal of detach keys that are invalid."""
        if not self.podman:
            return ApiError(400, f"Invalid detach keys ({keys}) provided")
        unknown = next(key for key in keys.split(",") if not _is_key(key))
        return ApiError(500, f"invalid detach keys: Unknown character: '{unknown}'")

    def no_such_image(self, name: str) -> ApiError:
        """The refusal of a create whose image is not there; the name is as the engine writes it."""
        return ApiError(404, f"no such image: {name}: image not known" if self.podman else f"No such image: {name}")

    def image_name_refusal(self, name: str) -> ApiError:
        """The refusal of a create with an image of an impossible name."""
        if self.podman:
            return ApiError(500, "normalizing image: normalizing name for compat API: invalid reference format")
        upper = f": repository name (library/{name}) must be lowercase" if name.lower() != name else ""
        return ApiError(400, f"invalid reference format{upper}")

    def log_driver_refusal(self, driver: str) -> ApiError | None:
        """The refusal of a log driver; ``None`` for one that the engine has."""
        if driver in ("json-file", "none") or driver in (_PODMAN_DRIVERS if self.podman else _DOCKER_DRIVERS):
            return None
        if self.podman:
            return ApiError(500, _INVALID_DRIVER)
        return ApiError(400, f'error looking up logging plugin {driver}: plugin "{driver}" not found')

    def log_option_refusal(self, driver: str, options: Collection[str]) -> ApiError | None:
        """The refusal of a log driver's options; ``None`` if they are allowed. Podman ignores what it does not know."""
        unknown = sorted(set(options) - _JSON_FILE_OPTIONS)
        if self.podman or driver != "json-file" or not unknown:
            return None
        return ApiError(400, f"unknown log opt '{unknown[0]}' for json-file log driver")

    def remove_refusal(self, container_id: str, name: str, status: str) -> ApiError:
        """The refusal to remove a running container without ``force``."""
        if self.podman:
            improper = "running or paused containers cannot be removed without force: container state improper"
            return ApiError(500, f"cannot remove container {container_id} as it is {status} - {improper}")
        advice = "stop the container before removing or force remove"
        return ApiError(409, f'cannot remove container "/{name}": container is {status}: {advice}')

    def removing_refusal(self, asked: str) -> ApiError:
        """The refusal to remove a container while another request removes it. Podman waits, and finds it gone."""
        if self.podman:
            return ApiError(404, self.no_such_container.format(name=asked))
        return ApiError(409, f"removal of container {asked} is already in progress")

    def restart_refusal(self, asked: str) -> ApiError:
        """The refusal to restart a container that was removed meanwhile, or is about to be."""
        if self.podman:
            return ApiError(404, self.no_such_container.format(name=asked))
        return ApiError(500, f"Cannot restart container {asked}: {REMOVING}")

    def kill_refusal(self, asked: str, container_id: str, status: str) -> ApiError:
        """The refusal to signal a container that does not run, whose name or ID is as the client wrote it."""
        if self.podman:
            state = f"{container_id} is in state {status}: container state improper"
            return ApiError(409, f"can only kill running containers. {state}")
        return ApiError(409, f"cannot kill container: {asked}: container {container_id} is not running")

    def signal_refusal(self, asked: str, refused: ApiError) -> ApiError:
        """The refusal of a kill with a signal that does not exist."""
        return (
            ApiError(500, refused.text)
            if self.podman
            else ApiError(refused.status_code, f"cannot kill container: {asked}: {refused.text}")
        )

    def rename_refusal(self, container_id: str, name: str, refused: ApiError) -> ApiError:
        """The refusal of a new name that is invalid (400) or taken (409)."""
        if not self.podman:
            return ApiError(refused.status_code, f"Error when allocating new name: {refused.text}")
        if refused.status_code == 400:
            return ApiError(500, "names must match [a-zA-Z0-9][a-zA-Z0-9_.-]*: invalid argument")
        table = f"updating container config table with new configuration for container {container_id}"
        unique = "UNIQUE constraint failed: ContainerConfig.Name"
        return ApiError(500, f"renaming container {container_id}: {table}: {unique}")

    def exec_failure(self, text: str) -> tuple[int, bytes]:
        """What comes in the stream of a command that cannot be started: which stream, 1 or 2, and the bytes."""
        return (2, f"Error: {text}\n".encode()) if self.podman else (1, f"{text}\r\n".encode())

    def top_refusal(self, container_id: str) -> ApiError:
        """The refusal to list the processes of a container that has none."""
        if self.podman:
            return ApiError(500, "top can only be used on running containers")
        return ApiError(409, f"container {container_id} is not running")


RULES: Final[Mapping[Emulated, Rules]] = {
    "dockerd": Rules(
        podman=False,
        maximum=HIGHEST,
        no_such_container="No such container: {name}",
        checks_versions=True,
        upgrades_any=True,
        labels_200=False,
        sends_all_streams=False,
        half_close_ends_stdin=False,
        attach_resets=False,
        unknown_exit_code=0,
        forgets_removed=False,
        detach_ends_exec=True,
        unreadable_log=(
            b"Error attaching: failed to get logging factory: logger: no log driver named 'none' is registered: "
            b'error looking up logging plugin none: plugin "none" not found\n'
        ),
        unreadable_log_stream=1,
        # dockerd looks for a plugin of that name, and gives up after 15 s.
        unreadable_log_seconds=15.0,
    ),
    "podman": Rules(
        podman=True,
        maximum="1.41",
        no_such_container='no container with name or ID "{name}" found: no such container',
        checks_versions=False,
        upgrades_any=False,
        labels_200=True,
        sends_all_streams=True,
        half_close_ends_stdin=True,
        attach_resets=True,
        unknown_exit_code=-1,
        forgets_removed=True,
        detach_ends_exec=False,
        unreadable_log=(
            b"Error: this container is using the 'none' log driver, cannot read logs: "
            b"this container is not logging output\n"
        ),
        unreadable_log_stream=2,
        unreadable_log_seconds=0.0,
    ),
}


def _is_key(key: str) -> bool:
    try:
        parse_detach_keys(key)
    except ValueError:
        return False
    return True
