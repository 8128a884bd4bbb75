"""The adapters are one library: the same names with the same parameters, and each imports only what it is for."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Iterator
from types import FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple

import pytest

import attachproto_adapters.anyio
import attachproto_adapters.asyncio
import attachproto_adapters.blocking
import attachproto_adapters.trio
from tests.adapters.scripted import BOUND

BLOCKING = attachproto_adapters.blocking
ASYNC = [attachproto_adapters.asyncio, attachproto_adapters.trio, attachproto_adapters.anyio]

# What the blocking one calls otherwise, because a coroutine cannot have that name.
RENAMED = {
    "close": "aclose",
    "__enter__": "__aenter__",
    "__exit__": "__aexit__",
    "__iter__": "__aiter__",
    "__next__": "__anext__",
}

# Deadlines are the framework's own in the others.
BLOCKING_ONLY = {"settimeout"}

# They wait for nothing.
NEVER_ASYNC = {"__aiter__", "__init__", "__repr__", "lines", "stdout_reader"}

CLASSES = ("Attachment", "Client", "Lines", "StdoutReader")
FUNCTIONS = {
    "attach",
    "create",
    "create_exec",
    "exec_start",
    "kill",
    "logs",
    "open_attachment",
    "open_exec",
    "remove",
    "run",
    "run_exec",
    "start",
    "wait",
}

# Their timeout bounds all of the call, and ends what it has started.
WITH_A_DEADLINE = {"run", "run_exec"}


class Found(NamedTuple):
    """A function or a property, as it is compared."""

    parameters: list[tuple[str, Any, object, str]]
    returns: str
    is_property: bool
    is_async: bool


def found(value: FunctionType | MethodType | property) -> Found:
    function = value.fget if isinstance(value, property) else value
    assert isinstance(function, FunctionType | MethodType)
    signature = inspect.signature(function)
    parameters = [(each.name, each.kind, each.default, each.annotation) for each in signature.parameters.values()]
    # The class of attachments is a type variable where asyncio and trio share a function.
    returns = "Attachment" if signature.return_annotation == "A" else signature.return_annotation
    return Found(parameters, returns, isinstance(value, property), inspect.iscoroutinefunction(function))


def is_public(owner: str, name: str) -> bool:
    # The others are made by functions and methods, and by nobody else.
    made_by_users = owner == "Client" or name != "__init__"
    return not name.startswith("_") or (name.startswith("__") and name.endswith("__") and made_by_users)


def public(module: ModuleType) -> Iterator[tuple[str, Found]]:
    """What a module offers that is its own: functions, and all methods and properties of its classes."""
    for name, value in vars(module).items():
        if name in module.__all__ and isinstance(value, FunctionType | MethodType):
            yield name, found(value)
    for owner in CLASSES:
        for name in dir(getattr(module, owner)):
            value = inspect.getattr_static(getattr(module, owner), name)
            if isinstance(value, FunctionType | property) and is_public(owner, name):
                yield f"{owner}.{name}", found(value)


def expected() -> Iterator[tuple[str, Found]]:
    """What the others must have: the blocking one's, but for what may differ."""
    for name, each in public(BLOCKING):
        owner, _, method = name.rpartition(".")
        if method in BLOCKING_ONLY:
            continue
        method = RENAMED.get(method, method)
        renamed = f"{owner}.{method}" if owner else method
        parameters = [each for each in each.parameters if each[0] != "timeout" or method in WITH_A_DEADLINE]
        is_async = method not in NEVER_ASYNC and not each.is_property
        yield renamed, each._replace(parameters=[*parameters], is_async=is_async)


def but_for_the_streams_type(api: Iterator[tuple[str, Found]]) -> dict[str, Found]:
    what = dict(api)
    opening = what["open_attachment"]
    (name, kind, default, _), *others = opening.parameters
    return what | {"open_attachment": opening._replace(parameters=[(name, kind, default, ""), *others])}


def test_a_function_takes_what_the_method_of_the_client_takes_and_what_the_client_takes() -> None:
    what = dict(public(BLOCKING))
    for name in FUNCTIONS - {"open_attachment"}:
        of_client = {each[0] for each in what["Client.__init__"].parameters} - {"self", "tls", "headers"}
        of_method = {each[0]: each for each in what[f"Client.{name}"].parameters if each[0] != "self"}
        of_function = {each[0]: each for each in what[name].parameters}
        if name in WITH_A_DEADLINE:
            del of_method["timeout"]
        assert {each: of_function.pop(each)[0] for each in of_client} == {each: each for each in of_client}, name
        assert of_function == of_method, name


@pytest.mark.parametrize("module", [BLOCKING, *ASYNC], ids=lambda module: module.__name__)
def test_the_functions_are_these(module: ModuleType) -> None:
    assert {name for name, _ in public(module) if "." not in name} == FUNCTIONS


@pytest.mark.parametrize("module", ASYNC, ids=lambda module: module.__name__)
def test_names_and_parameters_are_the_blocking_ones(module: ModuleType) -> None:
    assert but_for_the_streams_type(public(module)) == but_for_the_streams_type(expected())


def test_nothing_of_the_blocking_one_is_async() -> None:
    assert not [name for name, each in public(BLOCKING) if each.is_async]


def test_a_timeout_is_the_last_parameter_of_what_dials() -> None:
    dialling = {}
    for name, each in public(BLOCKING):
        if any(parameter[0] == "host" for parameter in each.parameters):
            named = [each for each in each.parameters if each[1] is not inspect.Parameter.VAR_KEYWORD]
            dialling[name] = named[-1]
    assert set(dialling) == FUNCTIONS - {"open_attachment"} | {"Client.__init__"}
    assert set(dialling.values()) == {("timeout", inspect.Parameter.KEYWORD_ONLY, None, "float | None")}


@pytest.mark.parametrize("module", [BLOCKING, *ASYNC], ids=lambda module: module.__name__)
def test_everything_is_documented(module: ModuleType) -> None:
    for name in FUNCTIONS:
        assert getattr(module, name).__doc__
    for name, _ in public(module):
        owner, _, method = name.partition(".")
        if method and not method.startswith("_"):
            assert inspect.getattr_static(getattr(module, owner), method).__doc__, name


# ---- what is imported ----


def python(code: str) -> list[str]:
    """The words that a fresh interpreter prints."""
    run = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, timeout=BOUND)
    assert run.returncode == 0, run.stderr
    return run.stdout.split()


NAMES = ("blocking", "asyncio", "trio", "anyio")
FRAMEWORKS = ("asyncio", "trio", "anyio", *(f"attachproto_adapters.{name}" for name in NAMES))


@pytest.mark.parametrize(
    ("module", "loaded"),
    [
        ("attachproto_adapters", []),
        ("attachproto_adapters.blocking", ["attachproto_adapters.blocking"]),
        ("attachproto_adapters.anyio", ["attachproto_adapters.anyio"]),
        ("attachproto_adapters.asyncio", ["asyncio", "attachproto_adapters.asyncio"]),
    ],
)
def test_only_what_is_asked_for_is_imported(module: str, loaded: list[str]) -> None:
    assert python(f"import sys, {module}; print(*(name for name in {FRAMEWORKS} if name in sys.modules))") == loaded


def test_without_trio_the_error_says_what_to_install() -> None:
    code = """
import sys
sys.modules["trio"] = None
try:
    import attachproto_adapters.trio
except ImportError as error:
    print(error)
import attachproto_adapters.asyncio, attachproto_adapters.blocking
print("the others are there")
"""
    told = "this adapter needs trio: pip install 'attachproto[trio]' the others are there"
    assert " ".join(python(code)) == told
