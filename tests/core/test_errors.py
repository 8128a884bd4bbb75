"""The errors: one root, a reason, and every one of them survives pickle, copy and another process."""

from __future__ import annotations

import concurrent.futures
import copy
import inspect
import multiprocessing
import pickle
from typing import Any, NoReturn

import pytest

import attachproto
import attachproto_adapters
from attachproto import (
    AttachError,
    FrameDecoder,
    LocalProtocolError,
    ProtocolError,
    Reason,
    RemoteProtocolError,
)

EXPORTED = {
    name: value
    for module in (attachproto, attachproto_adapters)
    for name, value in vars(module).items()
    if isinstance(value, type) and issubclass(value, BaseException) and value is not ProtocolError
}

# An argument of an __init__, by its annotation.
SAMPLES = {"str": "text", "bytes": b"bytes", "int": 404, "float": 1.5, "bool": True, "Reason": Reason.CUT_IN_FRAME}


def sample(kind: type[BaseException]) -> BaseException:
    """An error of this class, with every argument that its ``__init__`` has."""
    if kind.__init__ is Exception.__init__ or not inspect.isfunction(kind.__init__):
        return kind("text")
    arguments, keywords = [], {}
    for parameter in list(inspect.signature(kind.__init__).parameters.values())[1:]:
        value = SAMPLES[str(parameter.annotation).split(" | ")[0]]
        if parameter.kind is parameter.KEYWORD_ONLY:
            keywords[parameter.name] = value
        else:
            arguments.append(value)
    return kind(*arguments, **keywords)


def raise_in_this_process(kind: type[BaseException]) -> NoReturn:
    raise sample(kind)


def seen(error: BaseException) -> tuple[Any, ...]:
    attributes = {name: value for name, value in vars(error).items() if name != "__notes__"}
    return type(error), str(error), error.args, attributes


def test_the_samples_hold_something() -> None:
    assert {"RemoteProtocolError", "LocalProtocolError", "AttachError", "RequestRejected", "OutputTooLarge"} <= set(
        EXPORTED
    )
    assert vars(sample(RemoteProtocolError)) == {"reason": Reason.CUT_IN_FRAME}


@pytest.mark.parametrize("name", EXPORTED)
@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))])
def test_every_exported_error_can_be_copied(name: str, again: Any) -> None:
    error = sample(EXPORTED[name])
    assert seen(again(error)) == seen(error)


def test_every_exported_error_can_be_raised_in_another_process() -> None:
    """An error that cannot be pickled breaks a ProcessPoolExecutor, and hangs a multiprocessing.Pool."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        futures = {kind: pool.submit(raise_in_this_process, kind) for kind in EXPORTED.values()}
        for kind, future in futures.items():
            error = future.exception(60)
            assert error is not None
            error.__dict__.pop("__notes__", None)
            assert seen(error) == seen(sample(kind))


def test_a_text_of_15_mb_is_not_an_exception_text_of_15_mb() -> None:
    text = "x" * 15_000_000
    rejected = attachproto_adapters.RequestRejected(500, text, "GET /containers/web/json")
    assert len(str(rejected)) < 1000
    assert rejected.message == text
    page = "\n<html>\n<body>" + text
    assert str(attachproto_adapters.RequestRejected(502, page, "GET /_ping")) == "<html> ... (502 to GET /_ping)"


def test_one_root() -> None:
    assert attachproto_adapters.AttachError is AttachError
    assert all(issubclass(kind, AttachError | Warning) for kind in EXPORTED.values())


def test_the_base_is_abstract() -> None:
    with pytest.raises(TypeError, match="abstract"):
        ProtocolError("x")
    assert issubclass(LocalProtocolError, ProtocolError)
    assert issubclass(RemoteProtocolError, ProtocolError)


def test_a_reason_shows_its_name_and_stays_when_the_error_is_repeated() -> None:
    assert repr(Reason.NOT_HTTP) == "Reason.NOT_HTTP"
    decoder = FrameDecoder()
    decoder.receive_data(b"\x01\0\0")
    decoder.receive_data(b"")
    for _ in range(2):
        with pytest.raises(RemoteProtocolError) as caught:
            decoder.next_event()
        assert caught.value.reason is Reason.CUT_IN_FRAME
