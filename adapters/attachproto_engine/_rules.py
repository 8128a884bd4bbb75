"""Where dockerd and Podman differ in what they do. How their answers look is in ``_answers``."""

from __future__ import annotations

from collections.abc import Mapping
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
