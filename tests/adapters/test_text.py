"""Text in place of bytes."""

from __future__ import annotations

import copy
import pickle

import pytest

from attachproto_adapters import ExecResult, OutputUndecodable
from attachproto_adapters._flows._text import TextCodec

OUTPUTS = ("grüße\r\n".encode(), "größe\n".encode())


def test_without_an_encoding_all_stays_bytes() -> None:
    codec = TextCodec(None, "strict")
    assert codec.decode(0, (b"\xff", b"\xfe")) == (b"\xff", b"\xfe")
    assert codec.encode(b"\xff") == b"\xff"
    assert codec.encode(None) is None
    with pytest.raises(TypeError, match="bytes"):
        codec.encode("text")


def test_with_an_encoding_the_line_ends_stay() -> None:
    assert TextCodec("utf-8", "strict").decode(0, OUTPUTS) == ("grüße\r\n", "größe\n")
    assert TextCodec("latin-1", "strict").decode(0, (b"gr\xfc\xdfe", b"")) == ("grüße", "")
    assert TextCodec("utf-8", "replace").decode(0, (b"a\xff", b"")) == ("a\ufffd", "")


def test_input_may_be_text_or_bytes() -> None:
    codec = TextCodec("latin-1", "strict")
    assert codec.encode("grüße") == b"gr\xfc\xdfe"
    assert codec.encode(b"\x00\xff") == b"\x00\xff"
    assert codec.encode(None) is None
    with pytest.raises(UnicodeEncodeError):
        codec.encode("\u20ac")
    assert TextCodec("latin-1", "replace").encode("\u20ac") == b"?"


@pytest.mark.parametrize(("outputs", "name"), [((b"a\xff", b"b"), "stdout"), ((b"a", b"b\xff"), "stderr")])
def test_output_that_is_no_text_is_in_the_error(outputs: tuple[bytes, bytes], name: str) -> None:
    with pytest.raises(UnicodeError, match=f"^{name} is not utf-8: ") as info:
        TextCodec("utf-8", "strict").decode(3, outputs)
    for error in (info.value, pickle.loads(pickle.dumps(info.value)), copy.copy(info.value)):
        assert isinstance(error, OutputUndecodable)
        assert (error.exit_code, error.stdout, error.stderr) == (3, *outputs)
        assert str(error) == str(info.value)


@pytest.mark.parametrize(
    ("encoding", "errors"), [("utf-9", "strict"), ("hex", "strict"), ("rot13", "strict"), ("utf-8", "lenient")]
)
def test_what_is_no_encoding_is_told_at_once(encoding: str, errors: str) -> None:
    with pytest.raises(LookupError):
        TextCodec(encoding, errors)


@pytest.mark.parametrize("errors", ["xmlcharrefreplace", "namereplace"])
def test_a_handler_that_only_encodes_is_refused_before_the_command_runs(errors: str) -> None:
    with pytest.raises(ValueError, match="for encoding"):
        TextCodec("ascii", errors)


@pytest.mark.parametrize(("encoding", "errors"), [(True, "strict"), (b"utf-8", "strict"), ("utf-8", None)])
def test_an_encoding_is_a_str(encoding: object, errors: object) -> None:
    with pytest.raises(TypeError):
        TextCodec(encoding, errors)  # type: ignore[arg-type]


def test_a_result_is_pickled_and_printed_as_before() -> None:
    result = ExecResult(0, b"out", b"")
    assert repr(result) == "ExecResult(exit_code=0, stdout=b'out', stderr=b'')"
    assert pickle.loads(pickle.dumps(result)) == result == ExecResult[bytes](0, b"out", b"")
