"""Finds the detach keys in a client's stdin. It does no I/O.

Strategy: the keys are matched over the byte stream, however it is cut. Bytes that may be their beginning are held back
until the next byte, without a time limit. If that byte does not continue the keys, the held bytes are passed on before
it. As in moby's ``term/proxy.go``, that byte is not tried as the first key (``ctrl-p ctrl-p ctrl-q`` does not detach),
and bytes that are held back at the end of input are lost. moby's bug of sending a held byte twice is not repeated.
"""

from __future__ import annotations

from typing import Final

DEFAULT_KEYS: Final = b"\x10\x11"
"""``ctrl-p,ctrl-q``."""


class DetachFilter:
    """Passes a client's bytes on until it finds the keys."""

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._matched = 0

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """Filter the next bytes.

        Returns:
            The bytes for the container, and whether the client detaches. The keys and what follows them are dropped.
        """
        if not self._matched and self._keys[0] not in data:
            return data, False
        passed = bytearray()
        for byte in data:
            if byte == self._keys[self._matched]:
                self._matched += 1
                if self._matched == len(self._keys):
                    return bytes(passed), True
            else:
                passed += self._keys[: self._matched]
                passed.append(byte)
                self._matched = 0
        return bytes(passed), False
