"""The three adapters over every transport to real engines: nothing is lost, and half-close works, also over TLS."""

from __future__ import annotations

import gc
import hashlib
import random
import ssl
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from attachproto import AttachOptions
from attachproto_adapters import EngineUnreachable, HostInvalid, RequestRejected
from attachproto_adapters._transport import _async_dialer, _blocking_dialer, _tls
from attachproto_adapters._transport._tls import TlsLayer, client_context
from tests.adapters.frameworks import FRAMEWORKS, Framework
from tests.helpers import children, open_descriptors
from tests.live.engine_api import Engine, Route

pytestmark = pytest.mark.live

STDIN = AttachOptions(stdin=True)
MEGABYTES_10 = 10_000_000
INPUT = random.Random(1).randbytes(MEGABYTES_10)
VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)

Count = Callable[..., None]
Times = Callable[[int], int]


def what_is_held() -> tuple[set[str], set[int]]:
    """Our sockets and the temporary files that have no name, and the programs ssh that are our children."""
    held = {what for what in open_descriptors().values() if what.startswith("socket:") or what.endswith("(deleted)")}
    return held, {child for child in children() if Path(f"/proc/{child}/comm").read_text() == "ssh\n"}


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    """No descriptor and no child is left, and nothing is closed by the garbage collector only."""
    before, _ = what_is_held()
    yield
    held, programs = what_is_held()
    gc.collect()  # what was not closed warns here, and warnings are errors
    assert held <= before
    assert not programs


def set_environment(monkeypatch: pytest.MonkeyPatch, route: Route) -> None:
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "DOCKER_TLS", "DOCKER_CERT_PATH"):
        monkeypatch.delenv(name, raising=False)
    for name, value in route.environment.items():
        monkeypatch.setenv(name, value)


def there_and_back(framework: Framework, engine: Engine, host: str) -> None:
    """10 MB in, half-close, the same 10 MB out, and what is printed after the end of stdin."""
    script = "cat; sleep 0.1; echo after the end; echo err >&2; exit 7"
    container = engine.shell(script, open_stdin=True, stdin_once=True)

    async def scenario() -> None:
        async with await framework.attach(container, STDIN, host=host, start=True) as attachment:
            out, err = await attachment.communicate(INPUT)
            code = await attachment.wait()
        tail = b"after the end\n"
        assert out[-len(tail) :] == tail
        assert hashlib.sha256(out[: -len(tail)]).digest() == hashlib.sha256(INPUT).digest()
        assert (err, code) == (b"err\n", 7)

    framework.run(scenario)
    engine.remove(container)


def test_there_and_back(framework: Framework, route: Route, monkeypatch: pytest.MonkeyPatch, count: Count) -> None:
    set_environment(monkeypatch, route)
    there_and_back(framework, route.engine, route.host)
    count(f"10 MB there and back, {framework} over {route.transport}", route.engine, 1, 1)


@pytest.mark.parametrize("version", VERSIONS, ids=["1.2", "1.3"])
def test_each_version_of_tls(
    framework: Framework, docker_tls: Engine, version: ssl.TLSVersion, monkeypatch: pytest.MonkeyPatch, count: Count
) -> None:
    """With client certificates, as the engine demands."""
    assert docker_tls.tls_host is not None
    route = Route(
        docker_tls,
        "tls",
        docker_tls.tls_host,
        {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(docker_tls.cert_path)},
    )
    set_environment(monkeypatch, route)
    seen = pin_version(monkeypatch, version)
    there_and_back(framework, docker_tls, route.host)
    assert set(seen) == {version.name.replace("_", ".")}
    count(f"10 MB there and back, {framework} over {version.name}", docker_tls, 1, 1)


def pin_version(monkeypatch: pytest.MonkeyPatch, version: ssl.TLSVersion) -> list[str | None]:
    """Offers this version only; gives the list of those that were agreed on."""
    seen: list[str | None] = []

    def context(*args: Any) -> ssl.SSLContext:
        made = client_context(*args)
        made.minimum_version = made.maximum_version = version
        return made

    class Noting(TlsLayer):
        def encrypt(self, data: Any) -> bytes:
            seen.append(self._object.version())
            return super().encrypt(data)

    monkeypatch.setattr(_tls, "client_context", context)
    monkeypatch.setattr(_tls, "TlsLayer", Noting)
    return seen


def test_output_only_over_every_transport(framework: Framework, route: Route, monkeypatch: pytest.MonkeyPatch) -> None:
    set_environment(monkeypatch, route)
    script = "i=0; while [ $i -lt 200 ]; do echo out $i; echo err $i >&2; i=$((i+1)); done; exit 3"
    container = route.engine.shell(script)

    async def scenario() -> None:
        async with await framework.attach(container, host=route.host, start=True) as attachment:
            lines: dict[str, list[str]] = {}
            async for line in attachment.lines():
                assert line.ended
                lines.setdefault(line.kind.__name__, []).append(line.text)
            assert lines == {
                "Stdout": [f"out {number}" for number in range(200)],
                "Stderr": [f"err {number}" for number in range(200)],
            }
            assert await attachment.wait() == 3

    framework.run(scenario)


def test_exec_over_every_transport(framework: Framework, route: Route, monkeypatch: pytest.MonkeyPatch) -> None:
    set_environment(monkeypatch, route)
    container = route.engine.create("sleep", "600")
    route.engine.start(container)
    data = INPUT[:1_000_000]

    async def scenario() -> None:
        result = await framework.run_exec(
            container, ["sh", "-c", "cat; echo err >&2; exit 5"], input=data, host=route.host
        )
        assert (result.exit_code, result.stdout == data, result.stderr) == (5, True, b"err\n")

    framework.run(scenario)


def test_a_client_keeps_one_connection_for_its_plain_calls(
    framework: Framework, route: Route, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With ssh each connection is a login, and with TLS a handshake."""
    set_environment(monkeypatch, route)
    container = route.engine.create("sleep", "600")
    route.engine.start(container)
    made = count_connections(monkeypatch)

    async def scenario() -> None:
        async with framework.client(route.host) as client:
            for number in range(5):
                result = await client.run_exec(container, ["sh", "-c", f"echo {number}; exit {number}"])
                assert (result.exit_code, result.stdout) == (number, b"%d\n" % number)
            async with await client.logs(container) as attachment:
                assert await attachment.communicate() == (b"", b"")

    framework.run(scenario)
    assert len(made) == 1 + 5 + 1, "one for the calls, and one for each stream"


def count_connections(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    made: list[object] = []
    for dialer in (_blocking_dialer.Dialer, _async_dialer.AsyncDialer):

        def dial(self: Any, *args: Any, dial: Callable[..., Any] = dialer.dial) -> Any:
            made.append(self)
            return dial(self, *args)

        monkeypatch.setattr(dialer, "dial", dial)
    return made


# -- what does not come together --------------------------------------------------------------------------------------


def unreachable(framework: Framework, host: str) -> str:
    async def scenario() -> None:
        with pytest.raises(EngineUnreachable) as caught:
            await framework.attach("web", host=host)
        texts.append(str(caught.value))

    texts: list[str] = []
    framework.run(scenario)
    assert host in texts[0]
    return texts[0]


@pytest.mark.parametrize("version", VERSIONS, ids=["1.2", "1.3"])
def test_a_client_that_the_engine_does_not_know(
    framework: Framework, docker_tls: Engine, version: ssl.TLSVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert docker_tls.tls_host is not None
    assert docker_tls.certificates is not None
    pin_version(monkeypatch, version)
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
    for folder in (docker_tls.certificates.foreign, docker_tls.certificates.nameless):
        monkeypatch.setenv("DOCKER_CERT_PATH", str(folder))
        assert "certificate" in unreachable(framework, docker_tls.tls_host)


def test_an_engine_that_we_do_not_know(
    framework: Framework, docker_tls: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert docker_tls.tls_host is not None
    assert docker_tls.certificates is not None
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
    monkeypatch.setenv("DOCKER_CERT_PATH", str(docker_tls.certificates.distrustful))
    assert "its certificate is not accepted" in unreachable(framework, docker_tls.tls_host)


def test_tls_where_there_is_none_and_none_where_there_is(
    framework: Framework,
    docker: Engine,
    docker_tls: Engine,
    plain_tcp: Callable[[Engine], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert docker_tls.tls_host is not None
    for name in ("DOCKER_TLS_VERIFY", "DOCKER_TLS", "DOCKER_CERT_PATH"):
        monkeypatch.delenv(name, raising=False)

    async def scenario() -> None:
        with pytest.raises(RequestRejected, match="HTTP request to an HTTPS server"):
            await framework.attach("web", host=docker_tls.tls_host)

    framework.run(scenario)
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
    monkeypatch.setenv("DOCKER_CERT_PATH", str(docker_tls.cert_path))
    assert "does not speak TLS" in unreachable(framework, plain_tcp(docker))


def test_ssh_that_is_refused_says_what_ssh_says(
    framework: Framework, sshd: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in sshd.environment.items():
        monkeypatch.setenv(name, value)
    assert "Permission denied" in unreachable(framework, f"ssh://nobody@127.0.0.1:{sshd.port}")


def test_ssh_to_an_engine_that_is_not_there(framework: Framework, sshd: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in sshd.environment.items():
        monkeypatch.setenv(name, value)
    text = unreachable(framework, sshd.url("/nowhere/engine.sock"))
    assert "/nowhere/engine.sock" in text.partition(": ")[2]


def test_no_such_file_of_certificates(framework: Framework, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
    monkeypatch.setenv("DOCKER_CERT_PATH", str(tmp_path))

    async def scenario() -> None:
        with pytest.raises(HostInvalid, match=r"ca\.pem"):
            await framework.attach("web", host="tcp://127.0.0.1:1")

    framework.run(scenario)


# -- often ------------------------------------------------------------------------------------------------------------


def test_short_lived_containers_by_all_three_together(engine: Engine, times: Times, count: Count) -> None:
    """200 by each, at the same time: nothing lost, nothing hung, no warning, nothing left open (see above)."""
    total = times(200)
    wrong: list[object] = []

    def run(framework: Framework) -> int:
        good = 0
        for number in range(total):
            container = engine.shell(f"echo out {number}; echo err {number} >&2; exit 3")
            seen: list[object] = []

            async def scenario(container: str = container, seen: list[object] = seen) -> None:
                async with await framework.attach(container, host=engine.host, start=True) as attachment:
                    seen.append((*(await attachment.communicate()), await attachment.wait()))

            framework.run(scenario)
            if seen == [(b"out %d\n" % number, b"err %d\n" % number, 3)]:
                good += 1
            else:
                wrong.append((str(framework), seen))
            engine.remove(container)
        return good

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with ThreadPoolExecutor(len(FRAMEWORKS)) as pool:
            good = list(pool.map(run, FRAMEWORKS))
    for each, framework in zip(good, FRAMEWORKS, strict=True):
        count(f"start=True, prints and ends, {framework}", engine, each, total)
    assert wrong == []
    assert good == [total] * len(FRAMEWORKS)
