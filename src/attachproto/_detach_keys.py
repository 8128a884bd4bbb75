r"""Detach keys, parsed as engines parse them.

The syntax is that of ``ToBytes`` in moby's ``term/ascii.go`` (Podman carries the same code): items between commas,
each one byte as it stands, ``DEL``, or ``ctrl-`` and one of ``@ a-z [ \ ] ^ _``. Nothing is trimmed, case counts, a
comma has no name. (The documentation of the Engine API lists ``ctrl-,`` and leaves out three of these. It is wrong.)
"""

from __future__ import annotations

from typing import Final

# The index of a key is the code of its control character: ctrl-@ is 0, ctrl-_ is 31.
_CONTROL: Final = "@abcdefghijklmnopqrstuvwxyz[\\]^_"
_NAMED: Final = {f"ctrl-{key}": code for code, key in enumerate(_CONTROL)} | {"DEL": 127}


def parse_detach_keys(keys: str) -> bytes:
    """Turn a list of detach keys such as ``"ctrl-p,ctrl-q"`` into the bytes that a terminal sends for them.

    Args:
        keys: the keys, separated by commas.

    Returns:
        One byte for each key.

    Raises:
        ValueError: engines do not know one of the keys; the text names it. An empty list is refused too, because
            dockerd takes it for the default and Podman for no keys at all.
    """
    if not keys:
        raise ValueError(
            "detach keys are empty: engines disagree on what that means; leave them out (None) for the engine's default"
        )
    return bytes(_code(key) for key in keys.split(","))


def _code(key: str) -> int:
    if len(key) == 1 and key.isascii():
        return ord(key)
    try:
        return _NAMED[key]
    except KeyError:
        raise ValueError(
            f"unknown detach key {key!r}: a key is one ASCII character, DEL, or ctrl- and one of @ a-z [ \\ ] ^ _"
        ) from None
