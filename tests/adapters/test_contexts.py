"""Docker's contexts on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from attachproto_adapters import HostInvalid
from attachproto_adapters._transport._contexts import Context, config_dir, find_context

# sha256 of "rt", as the docker CLI was seen to name the directory
RT = "cdffd5dd8ca8126c0482ba994814b9014cc9e973435d399f1cf1f69479e6b907"

# What the docker CLI wrote.
META = '{"Name":"rt","Metadata":{},"Endpoints":{"docker":{"Host":"tcp://127.0.0.1:23751","SkipTLSVerify":false}}}'


def write(file: Path, content: str | bytes) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


def write_meta(directory: Path, content: str = META, name: str = "rt") -> Path:
    return write(directory / "contexts/meta" / hashlib.sha256(name.encode()).hexdigest() / "meta.json", content)


def found(directory: Path, name: str | None = None) -> Context | None:
    return find_context({"DOCKER_CONFIG": str(directory)} | ({} if name is None else {"DOCKER_CONTEXT": name}))


def test_a_context_that_the_variable_names(tmp_path: Path) -> None:
    write_meta(tmp_path)
    write(tmp_path / "config.json", "not looked at")
    assert found(tmp_path, "rt") == Context(
        "tcp://127.0.0.1:23751",
        "from the docker context 'rt' (DOCKER_CONTEXT)",
        True,
        str(tmp_path / "contexts/tls" / RT / "docker"),
    )


def test_a_context_that_the_configuration_names(tmp_path: Path) -> None:
    write_meta(tmp_path)
    config = write(tmp_path / "config.json", '\ufeff{"auths": {}, "currentContext": "rt"}')
    context = found(tmp_path, "")
    assert context is not None
    assert context.address == "tcp://127.0.0.1:23751"
    assert context.origin == f"from the docker context 'rt' (currentContext of {config})"


@pytest.mark.parametrize("name", ["rt", "a1", "0_.+-", "x" * 200])
def test_names(name: str, tmp_path: Path) -> None:
    write_meta(tmp_path, name=name)
    assert found(tmp_path, name) is not None


@pytest.mark.parametrize(("skip", "verify"), [("true", False), ("false", True), ("null", True), ('"true"', True)])
def test_whether_to_verify(skip: str, verify: bool, tmp_path: Path) -> None:
    write_meta(tmp_path, META.replace("false", skip))
    context = found(tmp_path, "rt")
    assert context is not None
    assert context.verify is verify


def test_what_may_be_left_out(tmp_path: Path) -> None:
    write_meta(tmp_path, '{"Endpoints": {"docker": {"Host": "unix:///run/e"}, "other": {}}}')
    context = found(tmp_path, "rt")
    assert context is not None
    assert (context.address, context.verify) == ("unix:///run/e", True)


@pytest.mark.parametrize(
    "config", [None, "", "{}", '{"currentContext": ""}', '{"currentContext": null}', '{"currentContext": "default"}']
)
def test_no_context(config: str | None, tmp_path: Path) -> None:
    if config is not None:
        write(tmp_path / "config.json", config)
    write_meta(tmp_path, name="default")
    assert found(tmp_path) is None


def test_the_context_that_is_none(tmp_path: Path) -> None:
    write_meta(tmp_path)
    write(tmp_path / "config.json", '{"currentContext": "rt"}')
    assert found(tmp_path, "default") is None


def test_no_home_of_docker(tmp_path: Path) -> None:
    assert found(tmp_path / "absent") is None
    assert find_context({"HOME": "/dev/null"}) is None


def as_directory(file: Path) -> None:
    file.mkdir(parents=True)


def containing(content: str | bytes) -> Callable[[Path], object]:
    return lambda file: write(file, content)


BROKEN: list[tuple[Callable[[Path], object], str]] = [
    (as_directory, "cannot be read: {file}: Is a directory"),
    (containing("{"), "is not JSON: {file}: "),
    (containing(b'{"a": "\xff"}'), "is not JSON: {file}: "),
    (containing("[" * 200_000), "is not JSON: {file}: "),
    (containing('{"a": ' + "9" * 5000 + "}"), "is not JSON: {file}: "),
    (containing("[]"), "is no JSON object: {file}; "),
]


@pytest.mark.parametrize(("make", "told"), BROKEN)
def test_a_configuration_that_cannot_be_understood(make: Callable[[Path], object], told: str, tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    make(file)
    with pytest.raises(HostInvalid) as caught:
        found(tmp_path)
    assert f"docker's configuration {told.format(file=file)}" in str(caught.value)
    assert "set DOCKER_HOST" in str(caught.value)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        *BROKEN,
        (lambda file: None, "does not exist: there is no {file}; "),
        *(
            (containing(content), "has no docker endpoint with a Host in {file}; ")
            for content in (
                "{}",
                '{"Endpoints": []}',
                '{"Endpoints": {"kubernetes": {"Host": "https://engine"}}}',
                '{"Endpoints": {"docker": null}}',
                '{"Endpoints": {"docker": {"Host": ""}}}',
                '{"Endpoints": {"docker": {"Host": 1}}}',
            )
        ),
    ],
)
def test_a_context_that_cannot_be_understood(make: Callable[[Path], object], told: str, tmp_path: Path) -> None:
    file = tmp_path / "contexts/meta" / RT / "meta.json"
    make(file)
    with pytest.raises(HostInvalid) as caught:
        found(tmp_path, "rt")
    assert f"the docker context 'rt' (DOCKER_CONTEXT) {told.format(file=file)}" in str(caught.value)
    assert "set DOCKER_HOST" in str(caught.value)


@pytest.mark.parametrize("name", ["x", "../rt", "a b", ".rt", "rt\n", "Ärger"])
def test_a_name_that_is_none(name: str, tmp_path: Path) -> None:
    write_meta(tmp_path, name=name)
    with pytest.raises(HostInvalid, match=r"\(DOCKER_CONTEXT\) has no valid name: .*set DOCKER_HOST"):
        found(tmp_path, name)


@pytest.mark.parametrize("name", ["1", '["rt"]', '{"a": 1}'])
def test_a_name_that_is_no_text(name: str, tmp_path: Path) -> None:
    config = write(tmp_path / "config.json", f'{{"currentContext": {name}}}')
    with pytest.raises(HostInvalid, match="has no valid name") as caught:
        found(tmp_path)
    assert str(config) in str(caught.value)


def test_a_name_of_any_length_is_quoted_in_part(tmp_path: Path) -> None:
    write(tmp_path / "config.json", '{"currentContext": ["' + "x" * 1_000_000 + '"]}')
    with pytest.raises(HostInvalid, match="has no valid name") as caught:
        found(tmp_path)
    assert len(str(caught.value)) < 2000


def test_where_docker_keeps_its_files(monkeypatch: pytest.MonkeyPatch) -> None:
    assert config_dir({"DOCKER_CONFIG": "/d", "HOME": "/h"}) == "/d"
    assert config_dir({"DOCKER_CONFIG": "", "HOME": "/h"}) == "/h/.docker"
    monkeypatch.setenv("HOME", "/users/own")
    assert config_dir({}) == "/users/own/.docker"
