"""Detach keys: found in what a client types, as pure code.

Strategy: the keys are matched over the byte stream, however it was cut. What may be the beginning of them is held
back until the next byte, without a time limit; a byte that does not go on puts it back in front. As in moby's
``term/proxy.go``, that byte is not tried as a first key again (``ctrl-p ctrl-p ctrl-q`` does not detach), and what is
held back at the end of input is lost. Its fault of sending a held-back byte twice is not repeated here.
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
            What is the container's, and whether the client detaches. The keys, and what follows them, are nobody's.
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
