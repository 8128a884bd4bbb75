"""Text in place of bytes: ``encoding=`` and ``errors=`` of a call that returns the whole output."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING, Any

from attachproto_adapters._errors import OutputUndecodable
from attachproto_adapters._flows._arguments import check_text
from attachproto_adapters._flows._stdin import as_bytes

if TYPE_CHECKING:
    from typing_extensions import TypeVar  # never imported at run time: only a type checker knows defaults in 3.11

    Output = TypeVar("Output", bytes, str, default=bytes)
    """What the outputs of a result are: ``bytes``, or with ``encoding=`` ``str``."""
else:
    from typing import TypeVar

    Output = TypeVar("Output", bytes, str)


class TextCodec:
    """Encodes the input and decodes the outputs of one call; with ``None`` for the encoding both stay bytes.

    Line ends are left as they are.

    Args:
        encoding: such as ``"utf-8"``.
        errors: what to do with what cannot be encoded or decoded, as for ``bytes.decode``.

    Raises:
        LookupError: there is no such encoding, or no such handler of errors.
        TypeError: one of them is not a str.
        ValueError: the handler of errors cannot decode, such as ``"xmlcharrefreplace"``.
    """

    def __init__(self, encoding: str | None, errors: str) -> None:
        if encoding is not None:
            check_text("encoding", encoding, "utf-8")
            b" ".decode(encoding, "ignore")  # raises for codecs that do not make text of bytes, such as hex
        check_text("errors", errors, "strict")
        codecs.lookup_error(errors)
        if encoding is not None:
            _check_decodes(errors)
        self._encoding = encoding
        self._errors = errors

    def encode(self, input: bytes | str | None) -> bytes | None:
        """The input as bytes. Bytes are passed on, also if there is an encoding.

        Raises:
            TypeError: it is a str, and there is no encoding; or it is neither.
            UnicodeEncodeError: a character cannot be encoded.
        """
        if isinstance(input, str) and self._encoding is not None:
            return input.encode(self._encoding, self._errors)
        return as_bytes(input)

    def decode(self, exit_code: int, outputs: tuple[bytes, bytes]) -> tuple[Any, Any]:
        """Both outputs, as ``str`` if there is an encoding, else as bytes.

        Args:
            exit_code: of the command, for the error.
            outputs: stdout and stderr.

        Raises:
            OutputUndecodable: one of them is not text in this encoding, and ``errors`` is ``"strict"``.
        """
        if self._encoding is None:
            return outputs
        stdout, stderr = outputs
        name = "stdout"
        try:
            out = stdout.decode(self._encoding, self._errors)
            name = "stderr"
            return out, stderr.decode(self._encoding, self._errors)
        except UnicodeError as exc:
            raise OutputUndecodable(f"{name} is not {self._encoding}: {exc}", exit_code, stdout, stderr) from exc


def _check_decodes(errors: str) -> None:
    try:
        b"\xff".decode("ascii", errors)
    except UnicodeError:
        return
    except TypeError:
        raise ValueError(f"errors={errors!r} is for encoding, and the output is decoded") from None
